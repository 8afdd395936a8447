//! What may come next in a reply: a small state machine per sequence, run as part of sampling.

use super::Rule;
use crate::vocabulary::TokenId;

/// The token ids the rules speak of. Nothing is hard-wired: they come from the bundle's vocabulary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRules {
    /// First image-code id. Text and control ids lie below it.
    pub code_base: TokenId,
    /// Size of the code book: code ids are `code_base .. code_base + code_count`.
    pub code_count: usize,
    /// Codes of one image.
    pub codes_per_image: usize,
    /// `<`, which opens an image.
    pub open_image: TokenId,
    /// `>`, which closes an image.
    pub close_image: TokenId,
    /// `### End`: what follows `>` in a reply that is an image.
    pub end: TokenId,
    /// Ids that end a reply (`end` among them).
    pub stops: Vec<TokenId>,
    /// Control ids that never come in text: `### Instruction:`, `### Response:` and their like. Stops are exempt.
    pub forbidden: Vec<TokenId>,
}

impl TokenRules {
    /// Whether the id ends a reply.
    pub fn is_stop(&self, id: TokenId) -> bool {
        id == self.end || self.stops.contains(&id)
    }

    /// The code an id stands for, if it is an image code.
    pub fn code(&self, id: TokenId) -> Option<u16> {
        let code = id.checked_sub(self.code_base)?;
        ((code as usize) < self.code_count)
            .then(|| u16::try_from(code).ok())
            .flatten()
    }

    /// The id of a code.
    pub fn code_id(&self, code: u16) -> TokenId {
        self.code_base + TokenId::from(code)
    }

    /// Most tokens a reply takes: an image is `<`, its codes, `>` and the end; anything else may use all it was granted.
    pub fn reply_len(&self, rule: Rule, max_new_tokens: usize) -> usize {
        match rule {
            Rule::Image => max_new_tokens.min(self.codes_per_image + 3),
            Rule::Text | Rule::Free => max_new_tokens,
        }
    }
}
