//! Prefixes that many prompts share (the intro line, the default instruction): run once, their keys and values copied from then on.
//!
//! A few slots behind the KV memory that sequences live in hold them, so they take nothing from the sequences' budget and never grow. A
//! prompt is cut after its prefix whether the prefix is known or not, so the bits of a reply do not depend on who came before.

use super::{Facts, Span};
use crate::vocabulary::TokenId;

/// Prefixes that are kept.
const SLOTS: usize = 4;

/// Tokens of the longest prefix that is kept.
const LONGEST: usize = 96;

/// KV positions that a backend sets aside for prefixes, behind those of the sequences.
pub const PREFIX_TOKENS: usize = SLOTS * LONGEST;

/// What is kept.
#[derive(Debug, Default)]
pub(super) struct PrefixCache {
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

impl PrefixCache {
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
            slots: (0..facts.prefix_tokens / LONGEST).map(slot).collect(),
            clock: 0,
        }
    }

    /// How many tokens of a prompt with this prefix are run apart, to be kept: all of the prefix, or none where it has no room.
    pub(super) fn cut(&self, prefix: &[TokenId]) -> usize {
        match prefix.len() <= LONGEST && !self.slots.is_empty() {
            true => prefix.len(),
            false => 0,
        }
    }

    /// Where the keys and values of this prefix are kept.
    pub(super) fn find(&mut self, prefix: &[TokenId]) -> Option<Span> {
        self.clock += 1;
        let slot = self
            .slots
            .iter_mut()
            .find(|slot| !prefix.is_empty() && slot.ids == prefix)?;
        slot.used = self.clock;
        Some(slot.span)
    }

    /// A place for a prefix that is not kept yet, whose keys and values the caller copies there; the prefix that was used least recently
    /// makes room. `None` if it is kept already, too long, or there is no memory for prefixes.
    pub(super) fn keep(&mut self, prefix: &[TokenId]) -> Option<Span> {
        if prefix.is_empty() || prefix.len() > LONGEST || self.slots.iter().any(|slot| slot.ids == prefix) {
            return None;
        }
        self.clock += 1;
        let slot = self.slots.iter_mut().min_by_key(|slot| slot.used)?;
        slot.used = self.clock;
        slot.ids = prefix.to_vec();
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

    fn cache() -> PrefixCache {
        PrefixCache::new(&Facts {
            prefix_tokens: PREFIX_TOKENS,
            ..facts()
        })
    }

    #[test]
    fn a_prefix_is_kept_once_behind_the_sequences_memory_and_found_again() {
        let mut cache = cache();
        assert_eq!(cache.find(&[1, 2]), None);
        let span = cache.keep(&[1, 2]).unwrap();
        assert!(span.start >= facts().kv_tokens && span.start + span.len <= facts().kv_tokens + PREFIX_TOKENS);
        assert_eq!((cache.keep(&[1, 2]), cache.find(&[1, 2])), (None, Some(span)));
        assert_eq!((cache.find(&[1]), cache.find(&[])), (None, None));
        assert_eq!((cache.keep(&[]), cache.keep(&[1; LONGEST + 1])), (None, None));
        assert_eq!((cache.cut(&[1, 2]), cache.cut(&[1; LONGEST + 1])), (2, 0));
        cache.clear();
        assert_eq!(cache.find(&[1, 2]), None);
    }

    #[test]
    fn the_prefix_used_least_recently_makes_room() {
        let mut cache = cache();
        for prefix in 0..SLOTS as u32 {
            cache.keep(&[prefix]).unwrap();
        }
        cache.find(&[0]);
        let span = cache.keep(&[99]).unwrap();
        assert_eq!((cache.find(&[1]), cache.find(&[99])), (None, Some(span)));
        assert!(cache.find(&[0]).is_some());
    }

    #[test]
    fn without_memory_nothing_is_kept() {
        let mut cache = PrefixCache::new(&facts());
        assert_eq!((cache.keep(&[1]), cache.find(&[1]), cache.cut(&[1])), (None, None, 0));
    }
}
