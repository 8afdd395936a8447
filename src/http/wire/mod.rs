//! What goes over the wire: plain structs, the source of the schemas in `openapi.yaml`.

mod answers;
mod common;
mod openai;
mod requests;

pub use answers::{
    DrawnImage, FindingAgreement, GenerateImageResponse, InstructResponse, ReadingsUsed, ReportResponse, SamplingUsed,
    TimingMs, TokenUsage, VqaAnswer, VqaResponse,
};
pub use common::{
    DeltaEvent, ErrorBody, ErrorDetail, Info, InfoDefaults, InfoLimits, InfoModel, ModelRef, ProgressEvent, Status,
};
pub use openai::{
    ChatChoice, ChatChunk, ChatChunkChoice, ChatCompletion, ChatDelta, ChatMessageOut, ChatRequest, ChatUsage,
    ImageDatum, ImagesRequest, ImagesResponse, ModelList, ModelObject, Stop, StreamOptions,
};
pub use requests::{GenerateImageRequest, InstructRequest, ReportRequest, VqaRequest};
