//! GPT-NeoX: the language model (Black et al. 2022, arXiv 2204.06745; Pythia, dolly-v2).
//!
//! Key traits: rotary embedding on the first `rotary_pct` of each head, in halves; attention and MLP in parallel on the same
//! residual (or one after the other); fused QKV interleaved per head, `[heads, 3, head_dim]`; biases everywhere; exact GELU.

mod attention;
mod buffer;
mod config;
mod fused;
mod kv;
mod matrix;
mod mixed;
mod network;
mod projection;
mod prompts;
mod replay;
mod rotary;
mod rows;
mod step;
mod views;
mod zeroed;

#[cfg(test)]
mod quantised_tests;

pub use config::{Activation, EMBED_IN, EMBED_OUT, NeoxConfig, NeoxSizes};
pub use kv::KvMemory;
pub use network::Neox;
pub(in crate::model) use network::OUTPUT_FORMAT;
pub use replay::Recorded;
pub use rotary::RotaryTable;
pub use step::{Segment, Span};
