//! Requests as the contract describes them. They are read by [`crate::http::intake::fields`], which says what is wrong by name;
//! a test holds the two to the same fields.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A radiograph to report on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReportRequest {
    /// A PNG, JPEG or DICOM file in base64, or a data: URL of it; of DICOM the first frame counts, in the file's own window. URLs are refused.
    /// In a multipart body: the file itself.
    #[schema(required)]
    pub image: String,
    /// Instead of the bundle's instruction.
    pub instruction: Option<String>,
    /// 0 (greedy, the default) to 2.
    #[schema(minimum = 0, maximum = 2)]
    pub temperature: Option<f32>,
    /// Nucleus, above 0 to 1. Default 1 when greedy, else 0.92.
    #[schema(exclusive_minimum = 0, maximum = 1)]
    pub top_p: Option<f32>,
    /// Only the k most probable tokens; 0 (the default) is off.
    pub top_k: Option<u64>,
    /// How often the image is read, 1 to 16, each time moved by a few pixels. The report is the reading that the others agree with most, and
    /// `readings` of the answer tells how far they do. Default: the bundle's, but 1 with an instruction, a temperature above 0 or a constraint of the request's own.
    #[schema(minimum = 1, maximum = 16)]
    pub readings: Option<u64>,
    /// Most new tokens. Default: the bundle's, shortened to what fits; one that does not fit is refused.
    #[schema(minimum = 1)]
    pub max_tokens: Option<u64>,
    /// 0 to 2⁵³ − 1; random when not given, always returned. Reading `i` has the seed `seed + i`.
    #[schema(minimum = 0, maximum = 9007199254740991i64)]
    pub seed: Option<u64>,
    /// Answer by server-sent events.
    pub stream: Option<bool>,
    /// `token_ids`, `codes`: adds the fields of these names.
    pub include: Option<Vec<String>>,
    /// `auto` (the default): text only. `none`: whatever the model gives, as the original generates.
    pub constraint: Option<String>,
}

/// A radiograph and one question or more.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VqaRequest {
    /// A PNG, JPEG or DICOM file in base64, or a data: URL of it; of DICOM the first frame counts, in the file's own window. URLs are refused.
    /// In a multipart body: the file itself.
    #[schema(required)]
    pub image: String,
    /// One question. Either this or `questions`.
    pub question: Option<String>,
    /// Questions that are answered together, in order. Either this or `question`. In a form or a query the name is repeated, or its one value is a
    /// list of strings in JSON.
    #[schema(min_items = 1, max_items = 16)]
    pub questions: Option<Vec<String>>,
    /// How often the image is read, 1 (the default) to 16, each time moved by a few pixels. The answer is that of the reading that the others agree
    /// with most, `agreement` the share that says the same, and `p_yes` the mean: answer and mean may lie on different sides of one half.
    #[schema(minimum = 1, maximum = 16)]
    pub readings: Option<u64>,
    /// 0 (greedy, the default) to 2.
    #[schema(minimum = 0, maximum = 2)]
    pub temperature: Option<f32>,
    /// Nucleus, above 0 to 1. Default 1 when greedy, else 0.92.
    #[schema(exclusive_minimum = 0, maximum = 1)]
    pub top_p: Option<f32>,
    /// Only the k most probable tokens; 0 (the default) is off.
    pub top_k: Option<u64>,
    /// Most new tokens of each answer.
    #[schema(minimum = 1)]
    pub max_tokens: Option<u64>,
    /// 0 to 2⁵³ − 1; random when not given, always returned. Reading `r` of question `q` has the seed `seed + q · readings + r`.
    #[schema(minimum = 0, maximum = 9007199254740991i64)]
    pub seed: Option<u64>,
    /// Answer by server-sent events.
    pub stream: Option<bool>,
    /// `token_ids`, `codes`, `probabilities`: adds `token_ids`, `codes`, `p_yes`.
    pub include: Option<Vec<String>>,
    /// `auto` (the default): text only. `none`: whatever the model gives, as the original generates.
    pub constraint: Option<String>,
}

/// A text to draw radiographs from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GenerateImageRequest {
    /// The report to draw.
    #[schema(required)]
    pub text: String,
    /// How many images; default 1.
    #[schema(minimum = 1, maximum = 8)]
    pub n: Option<u64>,
    /// 0 to 2⁵³ − 1; random when not given, always returned. Image `i` has the seed `seed + i`.
    #[schema(minimum = 0, maximum = 9007199254740991i64)]
    pub seed: Option<u64>,
    /// `png` (the default) or `jpeg`.
    pub format: Option<String>,
    /// 0 (greedy) to 2; the bundle's own by default (1 in the original).
    #[schema(minimum = 0, maximum = 2)]
    pub temperature: Option<f32>,
    /// Nucleus, above 0 to 1; the bundle's own by default (0.92 in the original).
    #[schema(exclusive_minimum = 0, maximum = 1)]
    pub top_p: Option<f32>,
    /// Only the k most probable tokens; 0 (the default) is off.
    pub top_k: Option<u64>,
    /// Classifier-free guidance scale, 1 (none) to 10; the bundle's own by default. Higher values follow the text more closely, with less
    /// variety and twice the work.
    #[schema(minimum = 1, maximum = 10)]
    pub guidance: Option<f32>,
    /// Most new tokens; an image needs its codes and three more.
    #[schema(minimum = 1)]
    pub max_tokens: Option<u64>,
    /// Tell progress and answer by server-sent events.
    pub stream: Option<bool>,
    /// `token_ids`, `codes`: adds the fields of these names.
    pub include: Option<Vec<String>>,
    /// `auto` (the default): always one whole image. `none`: as the original generates; the answer may be the error `no_image`.
    pub constraint: Option<String>,
}

/// An instruction, with a text or a radiograph to work on or with nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct InstructRequest {
    /// What to do.
    #[schema(required)]
    pub instruction: String,
    /// A text to work on. An empty one is not the same as none. Either this or `image`.
    pub input: Option<String>,
    /// A PNG, JPEG or DICOM file in base64, or a data: URL of it. Either this or `input`.
    pub image: Option<String>,
    /// How an image is written if one comes: `png` (the default) or `jpeg`.
    pub format: Option<String>,
    /// 0 (greedy) to 2; the bundle's own by default (1 in the original).
    #[schema(minimum = 0, maximum = 2)]
    pub temperature: Option<f32>,
    /// Nucleus, above 0 to 1; the bundle's own by default (0.92 in the original).
    #[schema(exclusive_minimum = 0, maximum = 1)]
    pub top_p: Option<f32>,
    /// Only the k most probable tokens; 0 (the default) is off.
    pub top_k: Option<u64>,
    /// Most new tokens; the bundle's own by default (512 in the original), shortened to what fits.
    #[schema(minimum = 1)]
    pub max_tokens: Option<u64>,
    /// 0 to 2⁵³ − 1; random when not given, always returned.
    #[schema(minimum = 0, maximum = 9007199254740991i64)]
    pub seed: Option<u64>,
    /// Answer by server-sent events.
    pub stream: Option<bool>,
    /// `token_ids`, `codes`: adds the fields of these names.
    pub include: Option<Vec<String>>,
}
