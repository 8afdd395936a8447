//! A prompt before its images have been encoded: token ids with places for images in between.

use super::TokenId;

/// A stretch of a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PromptPart {
    /// Token ids as they stand.
    Tokens(Vec<TokenId>),
    /// The codes of the job's image with this index (without the `<` and `>` around them, which are tokens).
    Image(usize),
}

/// A prompt: parts in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prompt {
    /// The parts in order.
    pub parts: Vec<PromptPart>,
}

impl Prompt {
    /// The length in tokens once each image has become `codes_per_image` tokens.
    pub fn len(&self, codes_per_image: usize) -> usize {
        let part = |p: &PromptPart| match p {
            PromptPart::Tokens(ids) => ids.len(),
            PromptPart::Image(_) => codes_per_image,
        };
        self.parts.iter().map(part).sum()
    }
}
