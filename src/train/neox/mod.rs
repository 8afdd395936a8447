//! The trainable GPT-NeoX: the inference network's arithmetic over trainable parameters, whole sequences at a time.
//!
//! Weights are held in f32; activations and matrix products are f32 or bfloat16 ([`Compute`]). Only positions that carry a label
//! pass through the output matrix. On a CPU the same inputs give the same gradient, bit for bit, with the same number of threads.

mod batch;
mod grow;
mod lora;
mod model;
mod pass;

pub use batch::{IGNORED, TokenBatch};
pub use lora::{LoraSettings, LoraTarget};
pub use model::{Compute, TrainableNeox};

#[cfg(test)]
mod adapt_tests;
#[cfg(test)]
mod tests;
