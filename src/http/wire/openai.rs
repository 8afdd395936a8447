//! The OpenAI-compatible part, as its official clients send and parse it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ReadingsUsed;

/// A conversation. Other fields of the OpenAI API are ignored where they change nothing and refused where they would.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct ChatRequest {
    /// The model's name, from `/v1/models`.
    #[schema(required)]
    pub model: String,
    /// Messages with `role` (system, developer, user, assistant) and `content`: a text, or parts of type `text` and `image_url` (a data: URL; one
    /// a message). `name` changes nothing, and other fields are refused.
    #[schema(required, value_type = Vec<Object>)]
    pub messages: Vec<serde_json::Value>,
    /// 0 to 2; default 0 with an image, else the bundle's own (1 in the original).
    #[schema(minimum = 0, maximum = 2)]
    pub temperature: Option<f32>,
    /// Nucleus; when sampling, the bundle's own by default (0.92 in the original).
    #[schema(exclusive_minimum = 0, maximum = 1)]
    pub top_p: Option<f32>,
    /// Most new tokens.
    #[schema(minimum = 1)]
    pub max_tokens: Option<u64>,
    /// The newer name of `max_tokens`.
    #[schema(minimum = 1)]
    pub max_completion_tokens: Option<u64>,
    /// Any whole number of 64 bits; what is not from 0 to 2⁵³ − 1 is folded into that range. Choice `i` has `seed + i`.
    pub seed: Option<i64>,
    /// How many choices; default 1.
    #[schema(minimum = 1, maximum = 8)]
    pub n: Option<u64>,
    /// A text or a list of up to four texts, of at most 256 bytes each, that end the reply.
    pub stop: Option<Stop>,
    /// Answer in chunks, by server-sent events that end with `[DONE]`.
    pub stream: Option<bool>,
    /// `{"include_usage": true}` adds a last chunk with the usage.
    pub stream_options: Option<StreamOptions>,
}

/// Texts that end a reply.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Stop {
    /// One.
    One(String),
    /// Up to four.
    Several(Vec<String>),
}

/// What a stream tells beside the reply.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StreamOptions {
    /// Whether a last chunk tells the usage; default false.
    pub include_usage: Option<bool>,
    /// Changes nothing: chunks are never padded.
    pub include_obfuscation: Option<bool>,
}

/// Tokens, as the OpenAI API counts them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChatUsage {
    /// Prompt tokens, image codes included; counted once, whatever `n` is and however often an image was read.
    pub prompt_tokens: usize,
    /// Generated tokens of the choices.
    pub completion_tokens: usize,
    /// Both.
    pub total_tokens: usize,
}

/// A whole message of the assistant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChatMessageOut {
    /// `assistant`.
    pub role: String,
    /// The text.
    pub content: String,
    /// Always null.
    #[schema(required)]
    pub refusal: Option<String>,
}

/// One reply.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChatChoice {
    /// Its place.
    pub index: usize,
    /// The message.
    pub message: ChatMessageOut,
    /// Always null.
    #[schema(required, value_type = Option<Object>)]
    pub logprobs: Option<serde_json::Value>,
    /// `stop` or `length`.
    pub finish_reason: String,
}

/// A whole chat completion.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChatCompletion {
    /// Id of the answer.
    pub id: String,
    /// `chat.completion`.
    pub object: String,
    /// Seconds since 1970.
    pub created: u64,
    /// The model's name.
    pub model: String,
    /// Model and revision: with the same seed the same answer comes.
    pub system_fingerprint: String,
    /// The replies.
    pub choices: Vec<ChatChoice>,
    /// Tokens.
    pub usage: ChatUsage,
    /// What several readings of an image without a word say together; there when there were several (an extension).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub readings: Option<ReadingsUsed>,
    /// What the answer is for, and what it is not (not part of the OpenAI API; its clients keep it as an extra field).
    pub disclaimer: String,
    /// What the bundle warns of, where it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    /// What is unusual about the image that was sent, in plain sentences, where anything is (an extension).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_notes: Option<Vec<String>>,
}

/// What is new in a chunk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChatDelta {
    /// `assistant`, in the first chunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// New text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
}

/// One reply's part of a chunk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChatChunkChoice {
    /// Which reply.
    pub index: usize,
    /// What is new.
    pub delta: ChatDelta,
    /// Always null.
    #[schema(required, value_type = Option<Object>)]
    pub logprobs: Option<serde_json::Value>,
    /// `stop` or `length` in the reply's last chunk.
    #[schema(required)]
    pub finish_reason: Option<String>,
}

/// A chunk of a streamed chat completion.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChatChunk {
    /// Id of the answer.
    pub id: String,
    /// `chat.completion.chunk`.
    pub object: String,
    /// Seconds since 1970.
    pub created: u64,
    /// The model's name.
    pub model: String,
    /// Model and revision.
    pub system_fingerprint: String,
    /// What is new.
    pub choices: Vec<ChatChunkChoice>,
    /// There when `stream_options.include_usage` was set: null but in the last chunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Option<ChatUsage>>,
    /// In the last chunk of a reply: what several readings of an image without a word say together, where there were several (an extension).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub readings: Option<ReadingsUsed>,
    /// In the first chunk: what the answer is for, and what it is not (not part of the OpenAI API; its clients keep it as an extra field).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disclaimer: Option<String>,
    /// In the first chunk: what the bundle warns of, where it does (an extension).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    /// In the last chunk of a reply: what is unusual about the image that was sent, in plain sentences, where anything is (an extension).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_notes: Option<Vec<String>>,
}

/// A text to draw from, in the OpenAI way.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct ImagesRequest {
    /// The report to draw.
    #[schema(required)]
    pub prompt: String,
    /// The model's name, from `/v1/models`.
    pub model: Option<String>,
    /// How many images; default 1.
    #[schema(minimum = 1, maximum = 8)]
    pub n: Option<u64>,
    /// `auto` or the model's own size, for example `256x256`.
    pub size: Option<String>,
    /// `b64_json`; `url` is refused, nothing is stored.
    pub response_format: Option<String>,
    /// `png` (the default) or `jpeg`.
    pub output_format: Option<String>,
    /// Seed, any whole number as in chats (an extension; in the Python client by `extra_body`).
    pub seed: Option<i64>,
}

/// One drawn image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageDatum {
    /// The file, in base64.
    pub b64_json: String,
    /// Its seed (an extension).
    pub seed: u64,
    /// Always true (an extension).
    pub synthetic: bool,
}

/// Drawn images, in the OpenAI way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImagesResponse {
    /// Seconds since 1970.
    pub created: u64,
    /// The images.
    pub data: Vec<ImageDatum>,
    /// `png` or `jpeg`.
    pub output_format: String,
    /// For example `256x256`.
    pub size: String,
    /// What the images are for, and what they are not (an extension).
    pub disclaimer: String,
    /// What the bundle warns of, where it does (an extension).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// A model that is served.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelObject {
    /// Its name.
    pub id: String,
    /// `model`.
    pub object: String,
    /// 0: bundles do not tell when they were made.
    pub created: u64,
    /// `llm-cxr`.
    pub owned_by: String,
    /// Its version (an extension).
    pub revision: String,
    /// Whether it was trained (an extension).
    pub trained: bool,
}

/// The models that are served: one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelList {
    /// `list`.
    pub object: String,
    /// The models.
    pub data: Vec<ModelObject>,
}
