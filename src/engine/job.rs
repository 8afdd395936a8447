//! What is asked of the engine and what it answers: plain data, no tensors, no text.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::radiograph::Pixels;
use crate::vocabulary::{Prompt, TokenId};

/// What may come next in a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Text only: image codes never come.
    Text,
    /// Exactly `<`, `codes_per_image` codes, `>`, then the end.
    Image,
    /// Anything, as the original generates: the model decides.
    Free,
}

/// How the next token is sampled. The order is that of transformers: temperature, then top-k, then top-p.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// 0 is greedy; otherwise logits are divided by it. 0 ≤ t ≤ 2.
    pub temperature: f32,
    /// Nucleus: the smallest set of tokens whose probability reaches this. 0 < p ≤ 1; 1 is off.
    pub top_p: f32,
    /// Only the k most probable tokens; 0 is off.
    pub top_k: usize,
    /// Seed of the request's own generator.
    pub seed: u64,
    /// Classifier-free guidance (Ho & Salimans 2022, arXiv 2207.12598, on logits): with `c` the logits after the prompt and `u` those after
    /// [`SequenceSpec::guide`], what is sampled from is u + guidance · (c − u). 1 is none.
    pub guidance: f32,
}

/// One reply to be generated.
#[derive(Clone, Debug)]
pub struct SequenceSpec {
    /// The prompt; `PromptPart::Image(i)` names `Job::images[i]`.
    pub prompt: Prompt,
    /// What may come.
    pub rule: Rule,
    /// How it is sampled.
    pub sampling: Sampling,
    /// Most new tokens, the end token included; prompt and these must fit the context. For [`Rule::Image`] it is at least [`image_len`](super::image_len).
    pub max_new_tokens: usize,
    /// Token sets (for example the ids that begin "yes", and those that begin "no") whose probability at the first new token
    /// is reported in [`SequenceSummary::first_token_probabilities`] (softmax of the unmodified logits over the whole vocabulary).
    pub watch: Vec<Vec<TokenId>>,
    /// With guidance: the prompt without what guides, for an image the instruction alone. It is run beside the prompt, takes the same reply, and
    /// counts as a sequence of its own in batch and KV memory. Without images, and with [`Rule::Image`] only.
    pub guide: Option<Prompt>,
    /// Whether an image in the reply is to be drawn by the VQ-GAN ([`Event::Drawn`]): if the reply holds exactly `codes_per_image`
    /// codes. As in the original every code id counts, contiguous or not.
    pub draw: bool,
}

/// Work that is admitted, or refused, as a whole.
#[derive(Clone, Debug)]
pub struct Job {
    /// Images to encode; each is encoded once, however many sequences name it. `image_side × image_side` each.
    pub images: Vec<Arc<Pixels>>,
    /// Replies to generate, batched together as far as KV memory allows.
    pub sequences: Vec<SequenceSpec>,
    /// Code lists to decode into images (offline `decode`); answered by [`Event::Drawn`] with `sequence` counting on after the sequences.
    pub codes: Vec<Vec<u16>>,
    /// When the job is given up with [`EngineError::DeadlineExceeded`].
    pub deadline: Option<Instant>,
}

impl SequenceSpec {
    /// Places that it takes in a step's batch.
    pub fn seats(&self) -> usize {
        1 + usize::from(self.guide.is_some())
    }
}

impl Job {
    /// Places that its replies take in a step's batch.
    pub fn seats(&self) -> usize {
        self.sequences.iter().map(SequenceSpec::seats).sum()
    }

    /// Bytes the job holds while it waits.
    pub fn bytes(&self) -> usize {
        let images: usize = self.images.iter().map(|i| i.bytes()).sum();
        let prompts: usize = self
            .sequences
            .iter()
            .flat_map(|s| std::iter::once(&s.prompt).chain(&s.guide))
            .map(|prompt| prompt.len(1) * size_of::<TokenId>())
            .sum();
        let codes: usize = self.codes.iter().map(|c| c.len() * size_of::<u16>()).sum();
        images + prompts + codes + size_of::<Self>()
    }
}

/// Why a reply ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended its reply.
    Stop,
    /// `max_new_tokens` was reached.
    Length,
}

/// Where the time of a reply went.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Timing {
    /// From submission until its first work began.
    pub queue: Duration,
    /// VQ-GAN encoder, from the start of the pass to its codes.
    pub encode: Duration,
    /// From the first prompt token run to the first new token.
    pub prefill: Duration,
    /// From the first new token to the last.
    pub decode: Duration,
    /// VQ-GAN decoder.
    pub draw: Duration,
}

/// The account of one finished reply.
#[derive(Clone, Debug, PartialEq)]
pub struct SequenceSummary {
    /// Why it ended.
    pub reason: FinishReason,
    /// Tokens of the prompt, image codes included.
    pub prompt_tokens: usize,
    /// Tokens of the prompt that were image codes.
    pub image_tokens: usize,
    /// Tokens generated, the end token (if one came) included.
    pub completion_tokens: usize,
    /// For each set in [`SequenceSpec::watch`], its probability at the first new token.
    pub first_token_probabilities: Vec<f64>,
    /// Where the time went.
    pub timing: Timing,
}

/// What the engine says of a job, in order. After `Done` or `Failed` nothing more comes.
#[derive(Clone, Debug)]
pub enum Event {
    /// An image of the job has its codes.
    Encoded {
        /// Index in [`Job::images`].
        image: usize,
        /// Codes, row-major.
        codes: Arc<Vec<u16>>,
    },
    /// A new token of a reply; the end token is sent too.
    Token {
        /// Index in [`Job::sequences`].
        sequence: usize,
        /// The token.
        id: TokenId,
    },
    /// The image in a reply (or in [`Job::codes`]) has been drawn. Comes before the reply's `Finished`.
    Drawn {
        /// Index in [`Job::sequences`], or `sequences.len() + i` for `Job::codes[i]`.
        sequence: usize,
        /// The codes it was drawn from.
        codes: Vec<u16>,
        /// The image.
        pixels: Arc<Pixels>,
    },
    /// A reply is complete.
    Finished {
        /// Index in [`Job::sequences`].
        sequence: usize,
        /// The account of it.
        summary: SequenceSummary,
    },
    /// The whole job is complete.
    Done,
    /// The job ended without an answer.
    Failed(EngineError),
}

/// A time to wait as it is told to whoever must: in whole seconds, rounded up, and one at least. Who comes back earlier would be refused again.
pub fn whole_seconds(wait: Duration) -> u64 {
    let begun = u64::from(wait.subsec_nanos() > 0);
    wait.as_secs().saturating_add(begun).max(1)
}

/// Why the engine did not answer. Mapped to HTTP in `http::error`, there alone.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EngineError {
    /// The queue is full, in jobs or in bytes. Try again after the given time.
    #[error("the queue is full; try again in {} s", whole_seconds(*retry_after))]
    QueueFull {
        /// An estimate of when there will be room.
        retry_after: Duration,
    },
    /// Its caller holds its share of the queue, in jobs or in bytes; what is left is for others ([`Caller`](super::Caller)).
    #[error(
        "the caller holds its share of the queue ({jobs} jobs), and what is left is kept for others; try again in {} s",
        whole_seconds(*retry_after)
    )]
    ShareHeld {
        /// Its jobs that wait or are being prepared.
        jobs: usize,
        /// An estimate of when one of them will have gone.
        retry_after: Duration,
    },
    /// The model is still being loaded.
    #[error("the model is still loading")]
    Loading,
    /// The engine is draining and takes no new work.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// Prompt and reply do not fit the model's context.
    #[error("prompt ({prompt} tokens) and reply (up to {reply} tokens) do not fit the context of {context} tokens")]
    ContextExceeded {
        /// Tokens of the prompt.
        prompt: usize,
        /// `max_new_tokens`.
        reply: usize,
        /// What fits.
        context: usize,
    },
    /// The job can never run: it breaks a contract of [`Job`] (a bug of the caller), or would never fit KV memory.
    #[error("the job cannot run: {0}")]
    Unacceptable(String),
    /// The deadline passed.
    #[error("the deadline passed before the answer was complete")]
    DeadlineExceeded,
    /// A step failed; this batch ended with it, the engine goes on. The text holds no user data.
    #[error("the model failed on this batch: {0}")]
    Step(String),
    /// The model could not be loaded. The text says why and holds no user data.
    #[error("the model could not be loaded: {0}")]
    Load(String),
    /// A step has been under way for longer than any step should take; the device may hang.
    #[error("the model has not answered for too long; the device may hang")]
    Stalled,
    /// The engine's thread has ended; the process is about to exit.
    #[error("the engine has stopped")]
    Stopped,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_to_wait_is_told_in_whole_seconds_that_are_not_too_few() {
        let told = |ms| whole_seconds(Duration::from_millis(ms));
        assert_eq!([0, 1, 1000, 1001, 1999, 2000].map(told), [1, 1, 1, 2, 2, 2]);
        assert_eq!(whole_seconds(Duration::MAX), u64::MAX);
        let retry_after = Duration::from_millis(2300);
        for error in [
            EngineError::QueueFull { retry_after },
            EngineError::ShareHeld { jobs: 6, retry_after },
        ] {
            assert!(error.to_string().ends_with("try again in 3 s"), "{error}");
        }
    }
}
