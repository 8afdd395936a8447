//! Drafts of what a reply may say next, from what was said before; the model checks them in one step ("speculation").
//!
//! Guesses come from three places: the sequence's own text, the last replies of this server about images, and the bundle's table. They
//! decide how many tokens come in a step, never which: a drafted token counts only while it equals the one that the sequence samples from the
//! model's own logits with its own random numbers. Replies of others are kept in memory alone, as hashes of short contexts.

use crate::model::drafts::{self, CONTEXT, DraftTable};
use crate::vocabulary::TokenId;

/// Guesses kept of the last replies: those of a hundred reports or so, 1.5 MiB.
const RECENT_GUESSES: usize = 1 << 16;

/// Most rows of a step that still cost little more than one on a CPU: drafts and the tokens before them share them.
pub(super) const STEP_ROWS: usize = 16;

/// A draft ends where the whole of it is less likely right than this. What a row may cost follows: where steps wait for memory nearly nothing, in a
/// small model half of what a token takes. Between the best for the one (0.2) and for the other (0.4).
const LEAST_LIKELY: f32 = 0.3;

/// How many tokens of a sequence's own must have come before, in the same order, to guess that the next one comes again too.
const OWN_CONTEXT: usize = 3;

/// How likely such a guess is right.
const OWN_LIKELY: f32 = 0.6;

/// The engine's tables.
pub(super) struct Drafter {
    bundled: DraftTable,
    recent: DraftTable,
}

impl Drafter {
    /// With a bundle's table and nothing learned yet.
    pub(super) fn new(bundled: DraftTable) -> Self {
        Self {
            bundled,
            recent: DraftTable::with_room(RECENT_GUESSES),
        }
    }

    /// Learns from a reply, the tokens of `ids` from `from` on.
    pub(super) fn learn(&mut self, ids: &[TokenId], from: usize) {
        self.recent.learn(ids, from);
    }

    /// Appends up to `most` guesses to `ids`, all of them `usable`; gives their number.
    pub(super) fn extend(
        &self,
        ids: &mut Vec<TokenId>,
        most: usize,
        trust: f32,
        usable: impl Fn(TokenId) -> bool,
    ) -> usize {
        let before = ids.len();
        let mut likely = 1.0;
        while ids.len() < before + most {
            let Some((next, sure)) = self.guess(ids) else { break };
            likely *= sure;
            if likely * trust < LEAST_LIKELY || !usable(next) {
                break;
            }
            ids.push(next);
        }
        ids.len() - before
    }

    fn guess(&self, ids: &[TokenId]) -> Option<(TokenId, f32)> {
        let context = ids.get(ids.len().saturating_sub(CONTEXT)..)?;
        let tables = [&self.recent, &self.bundled];
        drafts::guess(tables.into_iter(), context).or_else(|| Some((again(ids)?, OWN_LIKELY)))
    }
}

/// What followed when the last tokens stood in `ids` before.
fn again(ids: &[TokenId]) -> Option<TokenId> {
    let last = ids.get(ids.len().checked_sub(OWN_CONTEXT)?..)?;
    let at = ids[..ids.len() - 1]
        .windows(OWN_CONTEXT)
        .rposition(|window| window == last)?;
    ids.get(at + OWN_CONTEXT).copied()
}

/// How far a sequence's drafts have been right of late.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Trust {
    /// Share of drafted tokens that were kept, the last steps counting most.
    kept: f32,
    /// Tokens to come before the next draft.
    rest: usize,
    /// How long the next rest is.
    next_rest: usize,
}

impl Default for Trust {
    fn default() -> Self {
        Self {
            kept: 1.0,
            rest: 0,
            next_rest: 8,
        }
    }
}

impl Trust {
    /// Below this drafts cost more than they bring, and the sequence rests.
    const LEAST: f32 = 0.4;

    /// What is thought of the next draft; `None` while the sequence rests.
    pub(super) fn now(&self) -> Option<f32> {
        (self.rest == 0).then_some(self.kept)
    }

    /// Takes note of a step that drafted so many tokens and of which so many were kept; one more came anyway.
    pub(super) fn note(&mut self, drafted: usize, kept: usize) {
        self.rest = self.rest.saturating_sub(1);
        if drafted == 0 {
            return;
        }
        let share = kept as f32 / drafted as f32;
        self.kept += (share - self.kept) * 0.25;
        if self.kept < Self::LEAST {
            *self = Self {
                kept: 0.7,
                rest: self.next_rest,
                next_rest: (self.next_rest * 2).min(128),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_repeats_what_was_said_before() {
        let mut drafter = Drafter::new(DraftTable::default());
        let mut ids = vec![1, 2, 3, 4, 5, 6, 9, 1, 2, 3];
        assert_eq!(drafter.extend(&mut ids, 8, 1.0, |_| true), 2);
        assert_eq!(ids[10..], [4, 5], "its own text; a third token would be too unlikely");
        for _ in 0..8 {
            drafter.learn(&[7, 7, 1, 2, 3, 4, 5, 6], 2);
        }
        let mut ids = vec![7, 7, 1, 2];
        assert_eq!(drafter.extend(&mut ids, 3, 1.0, |_| true), 3);
        assert_eq!(ids, [7, 7, 1, 2, 3, 4, 5]);
        assert_eq!(
            drafter.extend(&mut ids, 8, 1.0, |id| id != 6),
            0,
            "what may not come is not drafted"
        );
        assert_eq!(drafter.extend(&mut ids, 0, 1.0, |_| true), 0);
        assert_eq!(
            drafter.extend(&mut ids, 8, 0.1, |_| true),
            0,
            "nor is anything without trust"
        );
    }

    #[test]
    fn nothing_is_guessed_of_nothing() {
        let drafter = Drafter::new(DraftTable::default());
        for ids in [vec![], vec![1], vec![1, 2, 3], vec![1, 2, 3, 4]] {
            assert_eq!(drafter.extend(&mut ids.clone(), 8, 1.0, |_| true), 0);
        }
    }

    #[test]
    fn a_sequence_whose_drafts_fail_rests_longer_each_time() {
        let mut trust = Trust::default();
        let mut rests = Vec::new();
        for _ in 0..3 {
            while trust.now().is_some() {
                trust.note(4, 0);
            }
            let mut rest = 0;
            while trust.now().is_none() {
                trust.note(0, 0);
                rest += 1;
            }
            rests.push(rest);
        }
        assert_eq!(rests, [8, 16, 32]);
        (0..100).for_each(|_| trust.note(4, 4));
        assert!(trust.now() > Some(0.95));
    }
}
