//! The one token space: text ids, control ids and image codes, and the layout of prompts.
//!
//! Text ids come from the bundle's `tokenizer.json` (byte-level BPE), image codes follow them. Control tokens stand in a
//! prompt only where the layout puts them: what a user writes is tokenised as ordinary text, always.

mod bytes;
mod error;
mod layout;
mod prompt;
mod space;
mod spaces;
mod stream;
#[cfg(test)]
mod tests;

pub use error::VocabularyError;
pub use layout::Input;
pub use prompt::{Prompt, PromptPart};
pub use space::Vocabulary;
pub(crate) use space::check_tokenizer;
pub use stream::TextStream;

/// A row of the model's vocabulary: text, control token or image code.
pub type TokenId = u32;
