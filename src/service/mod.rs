//! What the product does, without HTTP: report, question, drawing, instruction.
//!
//! [`Assistant`] turns a [`Request`] into a job of the engine and the engine's events into a [`Reply`]: pieces of text, progress of
//! codes, drawn images, and at last an [`Outcome`] with the whole answer and its account. Every answer of the HTTP
//! room, whole or streamed, is made from a [`Reply`].
//!
//! Pixels are decoded and encoded by the [`ImageDesk`], which bounds how many are worked on at a time.

mod assistant;
mod blocking;
mod card;
mod consensus;
mod deadline;
mod desk;
pub mod dicom;
mod error;
mod frame;
mod ledger;
mod limits;
mod outcome;
mod plan;
mod polish;
mod reply;
mod request;
mod task_prompts;
#[cfg(test)]
mod task_prompts_tests;

pub use assistant::Assistant;
pub(crate) use blocking::blocking;
pub use card::ModelCard;
pub use consensus::{Consensus, FindingShare};
pub use desk::{ImageDesk, Seen};
pub use error::ServiceError;
pub use ledger::{Entries, Ledger};
pub use limits::{Limits, SEED_END};
pub use outcome::{Answer, Drawing, Outcome, Phases, Undrawn, Update, Usage};
pub use reply::Reply;
pub use request::{Constraint, Material, Options, Request, Task};
