//! Errors, facts and the events of streams.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Every error, whatever went wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ErrorBody {
    /// The error.
    pub error: ErrorDetail,
}

/// What went wrong and what to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ErrorDetail {
    /// What went wrong, for programs; `/docs` lists all codes.
    #[schema(example = "invalid_parameter")]
    pub code: String,
    /// What went wrong and what to do, for people.
    pub message: String,
    /// The field it is about.
    #[schema(required)]
    pub param: Option<String>,
    /// The family of the error.
    #[serde(rename = "type")]
    #[schema(example = "invalid_request_error")]
    pub kind: String,
    /// The id of the request, also in the header `x-request-id` and in the server's log.
    pub request_id: String,
}

/// Which model answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelRef {
    /// Name of the bundle.
    pub name: String,
    /// Its version.
    pub revision: String,
    /// Whether it was trained. The answers of an untrained model are noise.
    pub trained: bool,
}

/// How the server stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// `alive` or `ready`.
    #[schema(example = "ready")]
    pub status: String,
}

/// Facts of the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Info {
    /// Version of the server.
    pub version: String,
    /// Commit that the server was built from, where the build was told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// `loading`, `ready`, `draining`, `stalled`, `failed` or `stopped`.
    pub state: String,
    /// The model.
    pub model: InfoModel,
    /// What one request may ask for.
    pub limits: InfoLimits,
    /// What the results are for, and what they are not.
    pub disclaimer: String,
    /// What the bundle warns of, where it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// Facts of the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InfoModel {
    /// Name of the bundle.
    pub name: String,
    /// Its version, which follows from the files but `bundle.json`.
    pub revision: String,
    /// SHA-256 of its `bundle.json`, which lists the checksums of all other files: the same digits, the same bundle.
    pub manifest_sha256: String,
    /// Whether it was trained.
    pub trained: bool,
    /// Licence of the weights.
    pub licence: String,
    /// What it is meant for.
    pub intended_use: String,
    /// Instruction of a report request that brings none.
    pub report_instruction: String,
    /// How often an image is read for a report request that does not say.
    pub report_readings: usize,
    /// What a request gets that does not say otherwise.
    pub defaults: InfoDefaults,
    /// Instruction of drawing requests.
    pub draw_instruction: String,
    /// Side of its images in pixels.
    pub image_side: usize,
    /// Codes of one image.
    pub codes_per_image: usize,
    /// Rows of the vocabulary.
    pub vocabulary: usize,
    /// Longest prompt and reply together, in tokens; once loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<usize>,
    /// Where it runs; once loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// What it computes in; once loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dtype: Option<String>,
    /// How the language model's matrices are held: `native`, `int8` or `int4`; once loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<String>,
}

/// What a request gets that does not say otherwise. Reports and answers are greedy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InfoDefaults {
    /// Temperature of drawings and free instructions.
    pub temperature: f64,
    /// Nucleus of the same.
    pub top_p: f64,
    /// Classifier-free guidance of drawings; 1 is none.
    pub guidance: f64,
    /// Most new tokens of a report.
    pub report_max_tokens: usize,
    /// Most new tokens of an answer to a question.
    pub vqa_max_tokens: usize,
    /// Most new tokens of an instruction's answer.
    pub instruct_max_tokens: usize,
}

/// What one request may ask for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InfoLimits {
    /// Largest body in bytes.
    pub body_bytes: u64,
    /// Most pixels of an image.
    pub image_pixels: u64,
    /// Most pixels on a side of an image.
    pub image_side: u32,
    /// Longest text in bytes.
    pub text_bytes: usize,
    /// Most questions.
    pub questions: usize,
    /// Most readings of an image.
    pub readings: usize,
    /// Most images or choices.
    pub images: usize,
    /// Most messages of a chat.
    pub messages: usize,
    /// Most stop texts of a chat.
    pub stops: usize,
    /// Longest stop text in bytes.
    pub stop_bytes: usize,
    /// Time a request may take, in seconds.
    pub request_seconds: f64,
}

/// More text of a streamed reply: the data of an SSE event `delta`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeltaEvent {
    /// Which reply, where there are several (questions in their order).
    pub index: usize,
    /// The new text. All deltas of a reply together are its text.
    pub text: String,
}

/// Progress of an image: the data of an SSE event `progress`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProgressEvent {
    /// Which image.
    pub index: usize,
    /// Codes so far.
    pub codes_done: usize,
    /// Codes of a whole image.
    pub codes_total: usize,
}
