//! The engine: admission queue and scheduler (pure, no tensors), sampling and constraints, and the one thread that owns the model.
//!
//! The rest of the program sees [`Engine`], a handle that is cheap to clone: [`Engine::submit`] takes a [`Job`] and gives a stream
//! of [`Event`]s. Between the worker and the tensors stands [`Backend`], a trait of plain data, so that queue, scheduler
//! and everything above are tested with a scripted backend and no weights.
//!
//! | file | one idea |
//! | --- | --- |
//! | `job`, `backend` | the contracts: what is asked of the engine, what the engine asks of a model |
//! | `handle`, `shared` | the handle, and the mailbox it shares with the thread |
//! | `admission`, `queue` | what can never run is refused; what waits is bounded in jobs and bytes, and callers take turns |
//! | `caller` | who asks, and how much one may hold where others may come |
//! | `worker` | the thread: mail, departures, one token step, a slice of VQ-GAN; faults and panics |
//! | `scheduler` | who is in the next step: sequences as state machines, KV memory in order of arrival, chunked prompts |
//! | `kv`, `prefix_cache` | the ledger of KV memory; prefixes that prompts share |
//! | `sampler`, `constraint` | which token comes next, and which may |
//! | `drafts` | what may come next by what was said before, to be checked by the model |
//! | `metrics` | the meters by name |
//! | `torch`, `scripted` | two backends: libtorch, and one without tensors for tests |

mod admission;
mod backend;
mod caller;
mod constraint;
mod drafts;
mod farewell;
mod handle;
mod job;
mod kv;
mod metrics;
mod prefix_cache;
mod queue;
mod sampler;
mod scheduler;
pub mod scripted;
mod shared;
pub mod torch;
mod worker;

pub use backend::{Backend, BackendError, Facts, RowSample, Segment, Span, StepOutput, VisionOutput, VisionWork};
pub use caller::{Caller, Preparing};
pub use constraint::{TokenRules, image_len};
pub use handle::{Engine, EngineConfig, EngineState, Events, Promise, Stats};
pub use job::{
    EngineError, Event, FinishReason, Job, Rule, Sampling, SequenceSpec, SequenceSummary, Timing, whole_seconds,
};
pub use metrics::describe as describe_metrics;

#[cfg(test)]
mod tests;
