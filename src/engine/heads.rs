//! Heads that many prompts share (the intro line, the default instruction): run once, their keys and values copied from then on.
//!
//! A few slots behind the KV memory that sequences live in hold them, so they take nothing from the sequences' budget and never grow. A
//! prompt is cut after its head whether the head is known or not, so the bits of a reply do not depend on who came before.

use super::{Facts, Span};
use crate::vocabulary::TokenId;

/// Heads that are kept.
const SLOTS: usize = 4;

/// Tokens of the longest head that is kept.
const LONGEST: usize = 96;

/// KV positions that a backend sets aside for heads, behind those of the sequences.
pub const HEAD_TOKENS: usize = SLOTS * LONGEST;

/// What is kept.
#[derive(Debug, Default)]
pub(super) struct Heads {
    slots: Vec<Slot>,
    /// Counts up at each use.
    clock: u64,
}

#[derive(Debug)]
struct Slot {
    span: Span,
    ids: Vec<TokenId>,
    used: u64,
}

impl Heads {
    /// The slots that the model has memory for, all empty.
    pub(super) fn new(facts: &Facts) -> Self {
        let slot = |n: usize| Slot {
            span: Span {
                start: facts.kv_tokens + n * LONGEST,
                len: LONGEST,
            },
            ids: Vec::new(),
            used: 0,
        };
        Self {
            slots: (0..facts.head_tokens / LONGEST).map(slot).collect(),
            clock: 0,
        }
    }

    /// How many tokens of a prompt with this head are run apart, to be kept: all of the head, or none where it has no room.
    pub(super) fn cut(&self, head: &[TokenId]) -> usize {
        match head.len() <= LONGEST && !self.slots.is_empty() {
            true => head.len(),
            false => 0,
        }
    }

    /// Where the keys and values of this head are kept.
    pub(super) fn find(&mut self, head: &[TokenId]) -> Option<Span> {
        self.clock += 1;
        let slot = self
            .slots
            .iter_mut()
            .find(|slot| !head.is_empty() && slot.ids == head)?;
        slot.used = self.clock;
        Some(slot.span)
    }

    /// A place for a head that is not kept yet, whose keys and values the caller copies there; the head that was used least recently
    /// makes room. `None` if it is kept already, too long, or there is no memory for heads.
    pub(super) fn keep(&mut self, head: &[TokenId]) -> Option<Span> {
        if head.is_empty() || head.len() > LONGEST || self.slots.iter().any(|slot| slot.ids == head) {
            return None;
        }
        self.clock += 1;
        let slot = self.slots.iter_mut().min_by_key(|slot| slot.used)?;
        slot.used = self.clock;
        slot.ids = head.to_vec();
        Some(slot.span)
    }

    /// Forgets all: a step has failed, and what the slots hold is not known.
    pub(super) fn clear(&mut self) {
        self.slots.iter_mut().for_each(|slot| slot.ids.clear());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tests::facts;

    fn heads() -> Heads {
        Heads::new(&Facts {
            head_tokens: HEAD_TOKENS,
            ..facts()
        })
    }

    #[test]
    fn a_head_is_kept_once_behind_the_sequences_memory_and_found_again() {
        let mut heads = heads();
        assert_eq!(heads.find(&[1, 2]), None);
        let span = heads.keep(&[1, 2]).unwrap();
        assert!(span.start >= facts().kv_tokens && span.start + span.len <= facts().kv_tokens + HEAD_TOKENS);
        assert_eq!((heads.keep(&[1, 2]), heads.find(&[1, 2])), (None, Some(span)));
        assert_eq!((heads.find(&[1]), heads.find(&[])), (None, None));
        assert_eq!((heads.keep(&[]), heads.keep(&[1; LONGEST + 1])), (None, None));
        assert_eq!((heads.cut(&[1, 2]), heads.cut(&[1; LONGEST + 1])), (2, 0));
        heads.clear();
        assert_eq!(heads.find(&[1, 2]), None);
    }

    #[test]
    fn the_head_used_least_recently_makes_room() {
        let mut heads = heads();
        for head in 0..SLOTS as u32 {
            heads.keep(&[head]).unwrap();
        }
        heads.find(&[0]);
        let span = heads.keep(&[99]).unwrap();
        assert_eq!((heads.find(&[1]), heads.find(&[99])), (None, Some(span)));
        assert!(heads.find(&[0]).is_some());
    }

    #[test]
    fn without_memory_nothing_is_kept() {
        let mut heads = Heads::new(&facts());
        assert_eq!((heads.keep(&[1]), heads.find(&[1]), heads.cut(&[1])), (None, None, 0));
    }
}
