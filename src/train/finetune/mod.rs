//! Instruction tuning in two stages: images to reports, reports to images, questions about images, and plain instructions
//! (Lee et al. 2023, arXiv 2305.11490).
//!
//! Prompts are laid out by [`crate::vocabulary`], the server's own code. The loss is taken on the response alone. Which examples make
//! up a step is a function of seed and step, so a run that was interrupted goes on as if it had not been.

mod base;
#[cfg(test)]
mod base_tests;
#[cfg(test)]
mod basis_tests;
mod batch;
mod corpus;
#[cfg(test)]
mod corpus_tests;
mod examples;
mod generate;
mod image_set;
mod instructions;
#[cfg(test)]
mod restate_tests;
mod samples;
mod settings;
mod shape;
mod task;
#[cfg(test)]
mod test_world;
#[cfg(test)]
mod tests;
mod texts;
mod tokens;
mod turns;

pub use settings::{FinetuneSettings, InitCodes, Pairing};
pub(in crate::train) use task::EXPORTED;
pub use task::train;
