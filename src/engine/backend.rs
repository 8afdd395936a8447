//! What the engine's worker asks of a model: a trait of plain data between the scheduler and the tensors.

use std::ops::Range;
use std::sync::Arc;

use crate::model::drafts::DraftTable;
pub use crate::model::neox::{Segment, Span};
use crate::radiograph::Pixels;
use crate::vocabulary::TokenId;

/// What the engine must know of the model it drives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Rows of the vocabulary: length of each logits row.
    pub vocabulary: usize,
    /// The longest sequence, prompt and reply together, in tokens.
    pub context: usize,
    /// Token positions in the KV memory, shared by all running sequences.
    pub kv_tokens: usize,
    /// Positions behind these for the prefixes that prompts share.
    pub prefix_tokens: usize,
    /// Codes of one image.
    pub codes_per_image: usize,
    /// First image-code id; code `c` is the token `code_base + c`.
    pub code_base: TokenId,
    /// Size of the code book.
    pub code_count: usize,
    /// Side of the square image in pixels.
    pub image_side: usize,
    /// Whether a token's logits are the same bits wherever its prompt is cut.
    pub cuts_freely: bool,
    /// Prompt tokens that may run in a step while other replies are being written, if nobody says otherwise: they hold these up by about
    /// one or two steps' time.
    pub prompt_rows: usize,
    /// Most sequences in one step, if nobody says otherwise.
    pub sequences: usize,
    /// Most images in one VQ-GAN pass.
    pub vision_batch: usize,
    /// Whether steps sample tokens where the logits are, for those rows that are asked for with a [`RowSample`].
    pub samples_on_device: bool,
    /// Where it runs, in words: `cpu`, `cuda:0`.
    pub device: String,
    /// Compute type of the language model: `f32` or `bf16`.
    pub dtype: String,
    /// How the language model's matrices are held: `native`, `int8` or `int4`.
    pub weights: String,
}

/// A batch for the VQ-GAN.
#[derive(Clone, Debug)]
pub enum VisionWork {
    /// Images (each `image_side × image_side`) to codes.
    Encode(Vec<Arc<Pixels>>),
    /// Codes (each `codes_per_image` of `0..code_count`) to images.
    Decode(Vec<Vec<u16>>),
}

/// What a VQ-GAN pass gives, in the order of its [`VisionWork`].
#[derive(Clone, Debug)]
pub enum VisionOutput {
    /// Codes of each image, row-major.
    Codes(Vec<Vec<u16>>),
    /// The drawn images.
    Images(Vec<Pixels>),
}

/// How one token is sampled from a row of logits: the order is mask, temperature, top-k, top-p.
#[derive(Clone, Debug, PartialEq)]
pub struct RowSample {
    /// The ids that may come; what of it lies beyond the row does not count.
    pub allowed: Range<TokenId>,
    /// 0 is greedy, the lowest id among equals; otherwise logits are divided by it.
    pub temperature: f32,
    /// Only the k most probable tokens, and what equals the last of them; 0 is off.
    pub top_k: usize,
    /// Only the smallest set of most probable tokens whose weight reaches this share; 1 is off.
    pub top_p: f32,
    /// In [0, 1): the token is the first, in order of ids, with which the sum of weights passes this share of the whole.
    pub uniform: f64,
}

/// Whether there are no samples at all, or for each segment none or one for each row of logits that it wants.
pub(super) fn samples_fit(samples: &[Vec<RowSample>], segments: &[Segment<'_>]) -> bool {
    let fits = |(rows, segment): (&Vec<RowSample>, &Segment<'_>)| rows.is_empty() || rows.len() == segment.logits;
    samples.is_empty() || (samples.len() == segments.len() && samples.iter().zip(segments).all(fits))
}

/// What a step gives.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepOutput {
    /// Rows of `vocabulary` logits, one after the other: of each segment that has no samples as many as it wants.
    pub logits: Vec<f32>,
    /// For each segment what was sampled, a token for each [`RowSample`]; `None` for one whose row of logits is not finite, or has none that is
    /// allowed. Empty if nothing was asked for.
    pub sampled: Vec<Vec<Option<TokenId>>>,
}

/// A failure inside the backend. The text is for operators: it must hold no user data.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct BackendError(pub String);

/// A model that runs steps. Made and used inside the engine's thread, by nobody else.
pub trait Backend {
    /// What the engine must know of this model.
    fn facts(&self) -> &Facts;

    /// Runs all segments in one pass of the language model and writes their keys and values into their spans.
    ///
    /// Positions that were run may be run again with other tokens, if their logits were wanted: drafts that were refused. `samples` is empty,
    /// or has an entry for each segment: none, or one for each row of logits that it wants; then it gets the tokens instead. Only where
    /// `facts().samples_on_device`.
    fn step(&mut self, segments: &[Segment<'_>], samples: &[Vec<RowSample>]) -> Result<StepOutput, BackendError>;

    /// Copies keys and values of the first `len` positions of a span to another, which begins with them then. The two do not
    /// overlap.
    fn copy(&mut self, from: Span, to: Span, len: usize) -> Result<(), BackendError>;

    /// Starts a VQ-GAN pass. At most one is under way; at most `facts().vision_batch` images are in it.
    fn vision_begin(&mut self, work: VisionWork) -> Result<(), BackendError>;

    /// Runs the next slice (a layer or so) of the pass under way, so that token steps can run in between.
    /// `None` while there is more to do. After an error no pass is under way.
    fn vision_advance(&mut self) -> Result<Option<VisionOutput>, BackendError>;

    /// Drops the pass under way, if any (its requests have left).
    fn vision_cancel(&mut self);

    /// The bundle's table of drafts, asked for once; an empty one makes no guesses.
    fn drafts(&mut self) -> DraftTable {
        DraftTable::default()
    }

    /// A small real computation on the device.
    fn health(&mut self) -> Result<(), BackendError>;
}
