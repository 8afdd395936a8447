//! The one token space: text ids, control ids and image codes, and the layout of prompts.

mod prompt;

pub use prompt::{Prompt, PromptPart};

/// A row of the model's vocabulary: text, control token or image code.
pub type TokenId = u32;
