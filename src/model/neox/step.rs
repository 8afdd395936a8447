//! What one pass of the language model is given: plain data, shared with the engine.

use crate::vocabulary::TokenId;

/// A contiguous stretch of KV memory that belongs to one sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First token position in the KV memory.
    pub start: usize,
    /// Length in token positions.
    pub len: usize,
}

/// A part of a step: consecutive tokens of one sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct Segment<'a> {
    /// Where the sequence's keys and values live.
    pub span: Span,
    /// Position of `tokens[0]` in the sequence (0 for its first token); keys and values of all positions before it are in the span.
    pub position: usize,
    /// The tokens to run, at least one.
    pub tokens: &'a [TokenId],
    /// After how many of the last tokens the logits are wanted: 0 for none, 1 after the last, more where a draft is checked.
    pub logits: usize,
}

/// The rows, of all tokens of a step, after which logits are wanted.
pub(super) fn wanted(segments: &[Segment<'_>]) -> Vec<i64> {
    let mut rows = Vec::new();
    let mut end = 0;
    for segment in segments {
        end += segment.tokens.len() as i64;
        rows.extend(end - segment.logits as i64..end);
    }
    rows
}
