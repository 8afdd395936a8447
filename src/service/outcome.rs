//! What an answer is, whole and while it comes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Consensus;
use crate::engine::{FinishReason, Sampling};
use crate::radiograph::{ImageFormat, ImageNote};
use crate::vocabulary::TokenId;

/// A drawn image.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawing {
    /// The codes it was drawn from, row-major.
    pub codes: Vec<u16>,
    /// The file, marked as synthetic in its metadata.
    pub file: Bytes,
    /// How it is written.
    pub format: ImageFormat,
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
}

/// Codes in a reply that are not exactly those of an image, so that none was drawn of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undrawn {
    /// How many there are.
    pub codes: usize,
    /// Those of a whole image.
    pub whole: usize,
}

impl fmt::Display for Undrawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { codes, whole } = self;
        write!(
            f,
            "No image was drawn: one takes exactly {whole} codes, and the reply has {codes}. Another seed may give one."
        )
    }
}

/// One finished reply of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The text, without white space at its ends; empty for a drawing.
    pub text: String,
    /// The image, if one came.
    pub image: Option<Drawing>,
    /// What was to be an image, and is none.
    pub undrawn: Option<Undrawn>,
    /// Why it ended.
    pub finish: FinishReason,
    /// The generated ids, the end token (if one came) included.
    pub token_ids: Vec<TokenId>,
    /// Probability of yes against no at the first token, 0 to 1; questions only.
    pub p_yes: Option<f64>,
    /// The seed of this reply.
    pub seed: u64,
}

/// Tokens of a request, summed over its replies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Prompt tokens, image codes included.
    pub prompt_tokens: usize,
    /// Prompt tokens that were image codes.
    pub image_tokens: usize,
    /// Generated tokens.
    pub completion_tokens: usize,
    /// Replies that were written: those that were asked for, each as often as the image was read.
    pub sequences: usize,
}

/// Where the time of a request went. Of several replies the longest counts in each phase.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Phases {
    /// Reading the image and laying out the prompt, the wait for an image worker included.
    pub preprocess: Duration,
    /// Waiting in the engine's queue.
    pub queue: Duration,
    /// VQ-GAN encoder.
    pub encode: Duration,
    /// From the first prompt token run to the first new token.
    pub prefill: Duration,
    /// From the first new token to the last.
    pub decode: Duration,
    /// VQ-GAN decoder.
    pub draw: Duration,
    /// From the call to the whole answer.
    pub total: Duration,
    /// From the call to the first new token of any reply.
    pub first_token: Option<Duration>,
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// One answer for each reply that was asked for, in order; of several readings the chosen one alone.
    pub answers: Vec<Answer>,
    /// What the several readings of each answer say together; empty where there was one.
    pub consensus: Vec<Consensus>,
    /// Codes of the image that was sent.
    pub input_codes: Option<Arc<Vec<u16>>>,
    /// What is unusual about the image that was sent.
    pub image_notes: Vec<ImageNote>,
    /// How replies were drawn; the seed is that of the first.
    pub sampling: Sampling,
    /// Tokens.
    pub usage: Usage,
    /// Time.
    pub phases: Phases,
}

/// What is told while an answer comes.
#[derive(Clone, Debug, PartialEq)]
pub enum Update {
    /// More text of a reply.
    Text {
        /// Index of the reply.
        index: usize,
        /// The new text, never empty.
        text: String,
    },
    /// More codes of a drawing.
    Codes {
        /// Index of the reply.
        index: usize,
        /// Codes so far.
        done: usize,
        /// Codes of a whole image.
        total: usize,
    },
    /// The whole answer; nothing comes after it.
    Done(Box<Outcome>),
}
