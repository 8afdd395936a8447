//! The layout of a prompt: the exact text the checkpoints were trained on.

use super::Vocabulary;
use super::prompt::{Prompt, PromptPart};

/// The line every prompt begins with.
const INTRO: &str =
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n";

/// What an instruction is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input<'a> {
    /// Nothing: the prompt has no `Input:` block. An empty text is not the same.
    None,
    /// A text.
    Text(&'a str),
    /// The job's image with this index.
    Image(usize),
}

impl Vocabulary {
    /// Lays out a prompt:
    ///
    /// ```text
    /// {intro}\n\n### Instruction:\n{instruction}\n\nInput:\n{input}\n\n### Response:\n
    /// {intro}\n\n### Instruction:\n{instruction}\n\n### Response:\n                       (no input)
    /// ```
    ///
    /// For an image, `{input}` is `<`, the codes, `>`. Each stretch between two control tokens is tokenised in one piece, as
    /// tokenising the whole prompt would, so white space merges across the borders of the user's text. Control text inside
    /// `instruction` or a text input is tokenised as ordinary text.
    pub fn prompt(&self, instruction: &str, input: Input<'_>) -> Prompt {
        let control = self.control();
        let mut ids = self.encode_text(INTRO);
        ids.push(control.instruction);
        let shared_prefix = ids.len();
        let mut parts = Vec::new();
        match input {
            Input::None => ids.extend(self.encode_text(&format!("\n{instruction}\n\n"))),
            Input::Text(text) => ids.extend(self.encode_text(&format!("\n{instruction}\n\nInput:\n{text}\n\n"))),
            Input::Image(index) => {
                // No merge crosses `<image>`'s inner borders: checked when the tokenizer was read.
                ids.extend(self.encode_text(&format!("\n{instruction}\n\nInput:\n<")));
                parts.push(PromptPart::Tokens(std::mem::take(&mut ids)));
                parts.push(PromptPart::Image(index));
                ids.extend(self.encode_text(">\n\n"));
            }
        }
        ids.push(control.response);
        parts.push(PromptPart::Tokens(ids));
        Prompt { parts, shared_prefix }
    }
}
