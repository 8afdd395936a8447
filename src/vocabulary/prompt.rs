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
    /// How many of the first tokens other prompts are likely to share. They lie in the first part.
    pub shared_prefix: usize,
}

impl Prompt {
    /// The same prompt about the image with this index, whichever it named.
    pub fn about(&self, image: usize) -> Self {
        let mut prompt = self.clone();
        for part in &mut prompt.parts {
            if let PromptPart::Image(named) = part {
                *named = image;
            }
        }
        prompt
    }

    /// The same prompt, whose instruction is one that is used again and again: all that comes before its image is likely to be shared.
    pub fn with_usual_instruction(mut self) -> Self {
        if let [PromptPart::Tokens(ids), PromptPart::Image(_), ..] = &self.parts[..] {
            self.shared_prefix = ids.len();
        }
        self
    }

    /// The length in tokens once each image has become `codes_per_image` tokens.
    pub fn len(&self, codes_per_image: usize) -> usize {
        let part = |p: &PromptPart| match p {
            PromptPart::Tokens(ids) => ids.len(),
            PromptPart::Image(_) => codes_per_image,
        };
        self.parts.iter().map(part).sum()
    }
}
