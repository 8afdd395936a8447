//! The next token step: who gets memory, who is in it, and with how many tokens.

use std::time::Instant;

use super::twins::{SharedPrompts, TwinTurn};
use super::{Role, Scheduler, Sequence, SequenceKey, Stage};
use crate::engine::drafts::{Drafter, STEP_ROWS};
use crate::engine::kv::SpanCopy;
use crate::engine::prefix_cache::PrefixCache;
use crate::engine::{Span, TokenRules};

/// One sequence's part of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) key: SequenceKey,
    /// How many pending tokens run.
    pub(super) count: usize,
    /// Rows of logits that are wanted.
    pub(super) logits: usize,
    /// Whether its next token is known after this step.
    pub(super) completes: bool,
    /// Whether the tokens belong to the prompt.
    pub(super) prompt: bool,
}

/// The next step: parts in order of arrival.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::engine) struct Plan {
    pub(super) parts: Vec<Part>,
    /// Keys and values to be copied before the step, in order: of prefixes, and of prompts that twins share.
    copies: Vec<SpanCopy>,
}

impl Plan {
    /// Whether there is nothing to run.
    pub(in crate::engine) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Sequences in the step.
    pub(in crate::engine) fn len(&self) -> usize {
        self.parts.len()
    }

    /// Keys and values to be copied before the step, in order: of prefixes, and of prompts that twins share.
    pub(in crate::engine) fn copies(&self) -> &[SpanCopy] {
        &self.copies
    }
}

impl Scheduler {
    /// Gives memory to who may start and forms the next step.
    pub(in crate::engine) fn plan(&mut self, now: Instant) -> Plan {
        self.place(now);
        let decoding = self
            .sequences
            .values()
            .filter(|sequence| matches!(sequence.stage, Stage::Decoding(_)))
            .count();
        let prompts = self.prompts_by_turns();
        let mut step = Planning {
            rules: &self.rules,
            vocabulary: self.facts.vocabulary,
            drafter: self.drafter.as_ref(),
            // Each has its token; what is left of the rows that cost little is shared among the drafts.
            draft: STEP_ROWS.saturating_sub(decoding).checked_div(decoding).unwrap_or(0),
            chunk: (!self.facts.cuts_freely).then_some(self.prefill_chunk),
            budget: Budget::of(match decoding {
                0 => self.idle_prefill_chunk,
                _ => self.prefill_chunk,
            }),
            prefixes: &mut self.prefixes,
            shared: SharedPrompts::of(&self.sequences),
            guide_ready: false,
            plan: Plan::default(),
        };
        for (&key, sequence) in &mut self.sequences {
            if matches!(sequence.stage, Stage::Decoding(_)) {
                step.consider(key, sequence);
            }
        }
        for key in prompts {
            if let Some(sequence) = self.sequences.get_mut(&key) {
                step.consider(key, sequence);
            }
        }
        let mut plan = step.plan;
        plan.parts.sort_unstable_by_key(|part| part.key);
        debug_assert!(
            !plan.parts.is_empty() || plan.copies.is_empty(),
            "copies that nobody makes"
        );
        plan
    }
}

/// What a sequence would do in a step.
struct Piece {
    /// Tokens that it would run.
    count: usize,
    /// Tokens that it has to run until its next one is known.
    pending: usize,
    /// Whether they belong to its prompt.
    prompt: bool,
    /// Keys and values of so many first tokens that are copied from there before, instead of being run.
    known: Option<(Span, usize)>,
    /// Where a prefix of so many tokens lies that has been run: others can have it.
    has_run: Option<(Span, usize)>,
}

impl Piece {
    fn completes(&self) -> bool {
        self.count == self.pending
    }
}

/// A step while it is planned.
struct Planning<'a> {
    rules: &'a TokenRules,
    vocabulary: usize,
    drafter: Option<&'a Drafter>,
    /// Most tokens that each reply may draft.
    draft: usize,
    /// Where prompts are cut regularly; `None` where they are cut freely.
    chunk: Option<usize>,
    budget: Budget,
    prefixes: &'a mut PrefixCache,
    shared: SharedPrompts,
    /// Whether the guide that was considered last has, or will have after this step, all its logits.
    guide_ready: bool,
    plan: Plan,
}

impl Planning<'_> {
    /// Takes the sequence into the step if it may be; to be asked of a guide just before the reply that it guides, of prompts by turns.
    fn consider(&mut self, key: SequenceKey, sequence: &mut Sequence) {
        if sequence.role == Role::Guide {
            self.guide_ready = sequence.pending().is_empty();
        }
        let piece = match sequence.stage {
            Stage::Decoding(_) => Some(self.next_token(sequence)),
            Stage::Prefilling(span) => self.piece_of_prompt(sequence, span),
            Stage::WaitingForCodes | Stage::WaitingForKv | Stage::Drawing => None,
        };
        let Some(piece) = piece.filter(|piece| piece.count > 0) else {
            return;
        };
        // A prompt with a guide is not run to its end before the guide's.
        let too_soon = sequence.role == Role::Guided && piece.completes() && !self.guide_ready;
        if too_soon || (piece.prompt && !self.budget.take(piece.count)) {
            return;
        }
        self.run(key, sequence, &piece);
    }

    /// The last token of a reply, and a draft of what follows it.
    fn next_token(&self, sequence: &mut Sequence) -> Piece {
        if let Some(drafter) = self.drafter {
            sequence.draft(drafter, self.draft, self.rules, self.vocabulary);
        }
        let pending = sequence.pending().len();
        Piece {
            count: pending,
            pending,
            prompt: false,
            known: None,
            has_run: None,
        }
    }

    /// The prompt's tokens up to its next cut; `None` while a twin runs them.
    fn piece_of_prompt(&mut self, sequence: &Sequence, span: Span) -> Option<Piece> {
        let (mut position, mut pending) = (sequence.position(), sequence.pending().len());
        let prefix = self.prefixes.cut(sequence.prefix());
        let turn = self.shared.turn(sequence);
        if turn == TwinTurn::Wait {
            return None;
        }
        let (mut known, mut has_run) = (None, None);
        if position == 0 {
            known = match turn {
                TwinTurn::Copy(from) => Some((from, sequence.shared())),
                _ => self.prefixes.find(sequence.prefix()).map(|from| (from, prefix)),
            };
            let len = known.map_or(0, |(_, len)| len);
            (position, pending) = (len, pending - len);
        } else if position >= prefix {
            has_run = Some((span, prefix));
        }
        let cuts = [prefix, sequence.shared()];
        Some(Piece {
            count: pending.min(to_next_cut(self.chunk, self.budget.left, cuts, position)),
            pending,
            prompt: true,
            known,
            has_run,
        })
    }

    /// The piece is in the step. A prefix that has been run is kept for others: not before, for what a plan without parts would copy nobody
    /// copies.
    fn run(&mut self, key: SequenceKey, sequence: &mut Sequence, piece: &Piece) {
        if let Some((from, len)) = piece.has_run
            && let Some(to) = self.prefixes.keep(sequence.prefix())
        {
            self.plan.copies.push(SpanCopy { from, to, len });
        }
        if let (Some((from, len)), Some(to)) = (piece.known, sequence.span()) {
            self.plan.copies.push(SpanCopy { from, to, len });
            sequence.skip(len);
        }
        if sequence.role == Role::Guide {
            self.guide_ready = piece.completes();
        }
        self.plan.parts.push(Part {
            key,
            count: piece.count,
            logits: sequence.wants_logits(piece.count, self.rules, self.vocabulary),
            completes: piece.completes(),
            prompt: piece.prompt,
        });
    }
}

/// Prompt tokens that may run in a step.
struct Budget {
    left: usize,
    /// Whether some of a prompt runs already.
    begun: bool,
}

impl Budget {
    fn of(tokens: usize) -> Self {
        Self {
            left: tokens,
            begun: false,
        }
    }

    /// Whether so many more may run. The first piece always may. Asked by turns: what is behind one that may not does not overtake it,
    /// however short it is.
    fn take(&mut self, count: usize) -> bool {
        let fits = !self.begun || count <= self.left;
        self.left = if fits { self.left.saturating_sub(count) } else { 0 };
        self.begun = true;
        fits
    }
}

/// Tokens from `position` of a prompt to its next cut. Prompts are cut at `cuts` (after their prefix, and before what twins run apart), and at
/// multiples of `chunk` whatever else runs and has run: the last bits of a matrix product can depend on its number of rows, and a reply must
/// not depend on its company. Where they do not (`None`), a prompt is cut where `budget`, what is left of the step, ends.
fn to_next_cut(chunk: Option<usize>, budget: usize, cuts: [usize; 2], position: usize) -> usize {
    let regular = chunk.map_or(budget.max(1), |chunk| chunk - position % chunk);
    let ahead = cuts
        .iter()
        .filter_map(|cut| cut.checked_sub(position))
        .filter(|left| *left > 0);
    ahead.fold(regular, usize::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_prompt_of_a_step_always_runs_and_none_overtakes_one_that_waits() {
        let mut budget = Budget::of(8);
        assert!(budget.take(10), "else a prompt that is cut late would never run");
        assert!(!budget.take(1), "nothing is left");
        let mut budget = Budget::of(8);
        assert!(budget.take(5) && budget.take(3));
        let mut budget = Budget::of(8);
        assert!(budget.take(5));
        assert!(!budget.take(4));
        assert!(!budget.take(1), "it would fit, but came later");
    }

    #[test]
    fn prompts_are_cut_at_regular_places_and_where_others_take_over() {
        let to = |cuts, position| to_next_cut(Some(8), 100, cuts, position);
        assert_eq!([0, 3, 8].map(|position| to([0, 0], position)), [8, 5, 8]);
        assert_eq!([0, 3, 5].map(|position| to([3, 6], position)), [3, 3, 1]);
        assert_eq!(to([3, 6], 6), 2, "a cut that is reached is none");
    }

    #[test]
    fn a_prompt_that_is_cut_freely_is_cut_where_the_step_is_full() {
        assert_eq!(to_next_cut(None, 100, [0, 0], 7), 100);
        assert_eq!(to_next_cut(None, 100, [20, 0], 7), 13);
        assert_eq!(to_next_cut(None, 0, [0, 0], 7), 1, "the budget decides then");
    }
}
