//! What every answer says besides the answer: which model, how it was drawn, what it took, and what must be said of any.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::respond::image_notes;
use super::wire::{ModelRef, SamplingUsed, TimingMs, TokenUsage};
use crate::engine::Sampling;
use crate::service::{ModelCard, Outcome, Phases, Usage};

/// What must be said with any answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What answers are for, and what they are not.
    pub disclaimer: String,
    /// What the bundle warns of, where it does.
    pub warning: Option<String>,
}

impl Notice {
    /// Of the answers of this model.
    pub fn of(card: &ModelCard) -> Self {
        Self {
            disclaimer: crate::RESEARCH_NOTICE.to_owned(),
            warning: card.warning().map(str::to_owned),
        }
    }
}

/// What the answers of the product's own routes share. Each takes it apart into its own fields, so that the contract stays flat.
pub struct Envelope {
    /// Id of the answer; the same as the request id.
    pub id: String,
    /// Seconds since 1970.
    pub created: u64,
    /// Which model answered.
    pub model: ModelRef,
    /// How it was drawn.
    pub sampling: SamplingUsed,
    /// Tokens.
    pub usage: TokenUsage,
    /// Time.
    pub timing_ms: TimingMs,
    /// What must be said.
    pub notice: Notice,
    /// What is unusual about the image that was sent, where anything is.
    pub image_notes: Option<Vec<String>>,
}

impl Envelope {
    /// Of an answer that is complete now.
    pub fn of(request_id: &str, card: &ModelCard, outcome: &Outcome) -> Self {
        Self {
            id: request_id.to_owned(),
            created: now(),
            model: card.into(),
            sampling: (&outcome.sampling).into(),
            usage: outcome.usage.into(),
            timing_ms: outcome.phases.into(),
            notice: Notice::of(card),
            image_notes: image_notes(outcome),
        }
    }
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs())
}

/// A decimal number as a person would write it: 0.92, not the 0.9200000166893005 that a widened f32 prints.
pub fn plain(number: f32) -> f64 {
    number.to_string().parse().unwrap_or_else(|_| f64::from(number))
}

impl From<&Sampling> for SamplingUsed {
    fn from(used: &Sampling) -> Self {
        Self {
            temperature: plain(used.temperature),
            top_p: plain(used.top_p),
            top_k: used.top_k,
            seed: used.seed,
            guidance: (used.guidance != 1.0).then(|| plain(used.guidance)),
        }
    }
}

impl From<Usage> for TokenUsage {
    fn from(usage: Usage) -> Self {
        let Usage {
            prompt_tokens,
            image_tokens,
            completion_tokens,
            sequences: _,
        } = usage;
        Self {
            prompt_tokens,
            image_tokens,
            completion_tokens,
        }
    }
}

impl From<Phases> for TimingMs {
    fn from(phases: Phases) -> Self {
        // Microseconds are enough.
        let ms = |time: Duration| time.as_micros() as f64 / 1000.0;
        Self {
            preprocess: ms(phases.preprocess),
            queue: ms(phases.queue),
            encode: ms(phases.encode),
            prefill: ms(phases.prefill),
            decode: ms(phases.decode),
            draw: ms(phases.draw),
            total: ms(phases.total),
        }
    }
}

impl From<&ModelCard> for ModelRef {
    fn from(card: &ModelCard) -> Self {
        Self {
            name: card.name.clone(),
            revision: card.revision.clone(),
            trained: card.trained,
        }
    }
}
