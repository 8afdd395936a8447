//! Answers of the product's own endpoints.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ModelRef;

/// How replies were drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SamplingUsed {
    /// 0 is greedy.
    pub temperature: f64,
    /// Nucleus; 1 is off.
    pub top_p: f64,
    /// Most probable tokens; 0 is off.
    pub top_k: usize,
    /// The seed; the same request with it gives the same answer.
    pub seed: u64,
    /// Guidance, where a drawing had any.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub guidance: Option<f64>,
}

/// Tokens of the request, summed over its replies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenUsage {
    /// Prompt tokens, image codes included.
    pub prompt_tokens: usize,
    /// Prompt tokens that were image codes.
    pub image_tokens: usize,
    /// Generated tokens.
    pub completion_tokens: usize,
}

/// Where the time went, in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TimingMs {
    /// Reading the image and laying out the prompt.
    pub preprocess: f64,
    /// Waiting for the model.
    pub queue: f64,
    /// Image to codes.
    pub encode: f64,
    /// Running the prompt.
    pub prefill: f64,
    /// Writing the reply.
    pub decode: f64,
    /// Codes to image.
    pub draw: f64,
    /// From the whole request to the whole answer.
    pub total: f64,
}

/// A report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportResponse {
    /// Id of the answer; the same as the request id.
    pub id: String,
    /// `report`.
    pub object: String,
    /// Seconds since 1970.
    pub created: u64,
    /// Which model answered.
    pub model: ModelRef,
    /// The report.
    pub report: String,
    /// `stop`: the model ended it; `length`: `max_tokens` did.
    #[schema(example = "stop")]
    pub finish_reason: String,
    /// How it was drawn.
    pub sampling: SamplingUsed,
    /// What several readings say together; there when there were several.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub readings: Option<ReadingsUsed>,
    /// Tokens.
    pub usage: TokenUsage,
    /// Time.
    pub timing_ms: TimingMs,
    /// What the report is for, and what it is not.
    pub disclaimer: String,
    /// What the bundle warns of, where it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    /// What is unusual about the image that was sent, in plain sentences, where anything is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_notes: Option<Vec<String>>,
    /// Generated ids, the end token included; with `include: ["token_ids"]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_ids: Option<Vec<u32>>,
    /// Codes of the image, row by row; with `include: ["codes"]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub codes: Option<Vec<u16>>,
}

/// What several readings of an image say together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadingsUsed {
    /// How many there were.
    pub count: usize,
    /// Which of them is the report, from 0, the image as it was sent.
    pub chosen: usize,
    /// Findings that at least one reading states or leaves open, the most frequent first. A rule-based labeler reads them.
    pub findings: Vec<FindingAgreement>,
}

/// How far readings agree on a finding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FindingAgreement {
    /// One of the 14 CheXpert observations.
    #[schema(example = "Pleural Effusion")]
    pub finding: String,
    /// Share of the readings that affirm it or leave it open, above 0 to 1.
    pub share: f64,
    /// Whether the report does.
    pub reported: bool,
}

/// The answer to one question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VqaAnswer {
    /// The question.
    pub question: String,
    /// The answer.
    pub answer: String,
    /// `stop` or `length`.
    pub finish_reason: String,
    /// Probability of yes against no at the first token of the answer; with `include: ["probabilities"]`. Null when neither has any.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 1)]
    pub p_yes: Option<Option<f64>>,
    /// Share of the readings that say the same, where there were several.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(minimum = 0, maximum = 1)]
    pub agreement: Option<f64>,
    /// Generated ids; with `include: ["token_ids"]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_ids: Option<Vec<u32>>,
}

/// Answers to questions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VqaResponse {
    /// Id of the answer; the same as the request id.
    pub id: String,
    /// `vqa`.
    pub object: String,
    /// Seconds since 1970.
    pub created: u64,
    /// Which model answered.
    pub model: ModelRef,
    /// The answer, when `question` was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// Why it ended, when `question` was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<String>,
    /// One answer for each question, in order.
    pub answers: Vec<VqaAnswer>,
    /// How they were sampled. Reading `r` of question `q` has the seed `seed + q · readings + r`.
    pub sampling: SamplingUsed,
    /// Tokens, over all questions.
    pub usage: TokenUsage,
    /// Time.
    pub timing_ms: TimingMs,
    /// What the answers are for, and what they are not.
    pub disclaimer: String,
    /// What the bundle warns of, where it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    /// What is unusual about the image that was sent, in plain sentences, where anything is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_notes: Option<Vec<String>>,
    /// Generated ids of the answer, or for `questions` a list of them; with `include: ["token_ids"]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_ids: Option<serde_json::Value>,
    /// Codes of the image, row by row; with `include: ["codes"]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub codes: Option<Vec<u16>>,
    /// Probability of yes against no, or for `questions` a list of them; with `include: ["probabilities"]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p_yes: Option<serde_json::Value>,
}

/// A drawn image. It shows no patient.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DrawnImage {
    /// Its place among the images.
    pub index: usize,
    /// Its seed; with `n` left out, this seed draws it again.
    pub seed: u64,
    /// `png` or `jpeg`.
    #[schema(example = "png")]
    pub format: String,
    /// The media type of the file.
    #[schema(example = "image/png")]
    pub mime_type: String,
    /// The file, in base64.
    pub data: String,
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Always true.
    pub synthetic: bool,
    /// `stop` or `length`.
    pub finish_reason: String,
}

/// Drawn images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GenerateImageResponse {
    /// Id of the answer; the same as the request id.
    pub id: String,
    /// `image_generation`.
    pub object: String,
    /// Seconds since 1970.
    pub created: u64,
    /// Which model drew.
    pub model: ModelRef,
    /// The images, in order.
    pub images: Vec<DrawnImage>,
    /// How they were drawn; image `i` has the seed `seed + i`.
    pub sampling: SamplingUsed,
    /// Tokens, over all images.
    pub usage: TokenUsage,
    /// Time.
    pub timing_ms: TimingMs,
    /// What the images are for, and what they are not.
    pub disclaimer: String,
    /// What the bundle warns of, where it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    /// Generated ids of each image; with `include: ["token_ids"]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_ids: Option<Vec<Vec<u32>>>,
    /// Codes of each image, row by row; with `include: ["codes"]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub codes: Option<Vec<Vec<u16>>>,
}

/// What came of an instruction: text, an image, or both.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InstructResponse {
    /// Id of the answer; the same as the request id.
    pub id: String,
    /// `instruct`.
    pub object: String,
    /// Seconds since 1970.
    pub created: u64,
    /// Which model answered.
    pub model: ModelRef,
    /// The text, perhaps empty.
    pub text: String,
    /// The image, if the model drew one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<DrawnImage>,
    /// Why there is no image although the model wrote codes of one, in a plain sentence: they are fewer or more than one takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drawing_note: Option<String>,
    /// `stop` or `length`.
    pub finish_reason: String,
    /// How it was drawn.
    pub sampling: SamplingUsed,
    /// Tokens.
    pub usage: TokenUsage,
    /// Time.
    pub timing_ms: TimingMs,
    /// What the answer is for, and what it is not.
    pub disclaimer: String,
    /// What the bundle warns of, where it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    /// What is unusual about the image that was sent, in plain sentences, where anything is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_notes: Option<Vec<String>>,
    /// Generated ids; with `include: ["token_ids"]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_ids: Option<Vec<u32>>,
    /// Codes of the image that was sent, or else of the image that was drawn; with `include: ["codes"]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub codes: Option<Vec<u16>>,
}
