//! The engine's promises, held with the scripted backend: no weights, no network, no timed assertions.

mod callers;
mod cancellation;
mod company;
mod drain;
mod faults;
mod guidance;
mod overload;
mod replies;

use std::sync::Arc;
use std::time::Duration;

use super::scripted::{self, Controls, Reply, ScriptedBackend};
use super::*;
use crate::radiograph::Pixels;
use crate::vocabulary::{Prompt, PromptPart, TokenId};

/// A tiny model: 64 text and control ids, 32 codes, 16 codes per image.
pub(super) fn facts() -> Facts {
    Facts {
        context: 256,
        kv_tokens: 512,
        prompt_rows: 8,
        ..scripted::facts(&rules(), 4)
    }
}

pub(super) const OPEN: TokenId = 29;
pub(super) const CLOSE: TokenId = 31;
pub(super) const END: TokenId = 60;

pub(super) fn rules() -> TokenRules {
    TokenRules {
        code_base: 64,
        code_count: 32,
        codes_per_image: 16,
        open_image: OPEN,
        close_image: CLOSE,
        end: END,
        stops: vec![END, 0],
    }
}

/// Small limits; one VQ-GAN slice per turn, so that a test can count turns.
pub(super) fn config() -> EngineConfig {
    EngineConfig {
        queue_jobs: 8,
        queue_bytes: 1 << 20,
        max_batch: Some(4),
        prefill_chunk: Some(8),
        idle_prefill_chunk: 32,
        vision_slice: Duration::ZERO,
        speculation: true,
        faults_before_exit: 3,
        stall_after: Duration::from_secs(600),
        give_up_after: Duration::from_secs(600),
    }
}

pub(super) const GREEDY: Sampling = Sampling {
    temperature: 0.0,
    top_p: 1.0,
    top_k: 0,
    seed: 0,
    guidance: 1.0,
};

pub(super) fn sampled(seed: u64) -> Sampling {
    Sampling {
        temperature: 1.0,
        top_p: 0.92,
        top_k: 0,
        seed,
        guidance: 1.0,
    }
}

pub(super) fn spec(prompt: &[TokenId], rule: Rule, max_new_tokens: usize) -> SequenceSpec {
    SequenceSpec {
        prompt: Prompt {
            parts: vec![PromptPart::Tokens(prompt.to_vec())],
            shared_prefix: 0,
        },
        rule,
        sampling: GREEDY,
        max_new_tokens,
        watch: Vec::new(),
        guide: None,
        draw: true,
    }
}

/// An image drawn with guidance.
pub(super) fn guided(prompt: &[TokenId], guide: &[TokenId], sampling: Sampling) -> SequenceSpec {
    SequenceSpec {
        guide: Some(Prompt {
            parts: vec![PromptPart::Tokens(guide.to_vec())],
            shared_prefix: 0,
        }),
        sampling: Sampling {
            guidance: 3.0,
            ..sampling
        },
        ..spec(prompt, Rule::Image, 19)
    }
}

/// A prompt around the job's image with this index.
pub(super) fn about(image: usize, max_new_tokens: usize) -> SequenceSpec {
    let parts = vec![
        PromptPart::Tokens(vec![5, OPEN]),
        PromptPart::Image(image),
        PromptPart::Tokens(vec![CLOSE, 6]),
    ];
    SequenceSpec {
        prompt: Prompt {
            parts,
            shared_prefix: 2,
        },
        ..spec(&[], Rule::Text, max_new_tokens)
    }
}

pub(super) fn picture(shade: u8) -> Arc<Pixels> {
    Arc::new(Pixels::new(4, 4, vec![shade; 48]).unwrap())
}

pub(super) fn job(sequences: Vec<SequenceSpec>) -> Job {
    Job {
        images: Vec::new(),
        sequences,
        codes: Vec::new(),
        deadline: None,
    }
}

/// An engine on a scripted backend.
pub(super) fn engine(config: EngineConfig, facts: Facts, reply: Reply) -> (Engine, Controls) {
    let (backend, controls) = ScriptedBackend::new(facts, reply);
    (Engine::start(config, rules(), move || Ok(Box::new(backend))), controls)
}

/// As [`engine`], with the small configuration and a model that says 1, 2, 3 and ends; ready.
pub(super) async fn ready(reply: Reply) -> (Engine, Controls) {
    let (engine, controls) = engine(config(), facts(), reply);
    engine.ready().await.unwrap();
    (engine, controls)
}

pub(super) fn says(tokens: &[TokenId]) -> Reply {
    Reply::Tokens(tokens.to_vec())
}

/// All events of a job.
pub(super) async fn all(mut events: Events) -> Vec<Event> {
    let mut list = Vec::new();
    while let Some(event) = events.next().await {
        list.push(event);
    }
    list
}

/// The tokens of one reply.
pub(super) fn tokens(events: &[Event], wanted: usize) -> Vec<TokenId> {
    let token = |event: &Event| match event {
        Event::Token { sequence, id } if *sequence == wanted => Some(*id),
        _ => None,
    };
    events.iter().filter_map(token).collect()
}

pub(super) fn summary(events: &[Event], wanted: usize) -> SequenceSummary {
    let find = |event: &Event| match event {
        Event::Finished { sequence, summary } if *sequence == wanted => Some(summary.clone()),
        _ => None,
    };
    events.iter().find_map(find).unwrap()
}

pub(super) fn is_done(events: &[Event]) -> bool {
    matches!(events.last(), Some(Event::Done))
}

pub(super) fn error(events: &[Event]) -> Option<EngineError> {
    match events.last() {
        Some(Event::Failed(error)) => Some(error.clone()),
        _ => None,
    }
}
