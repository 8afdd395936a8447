//! Replies of a job that share their prompt: it is run once, all but its last token, and its keys and values are copied to the others.
//!
//! All of them run that last token apart, the first one too and also where nothing could be copied, so the bits of a reply do not depend
//! on who had memory when.

use std::collections::BTreeMap;

use super::{JobId, Sequence, SequenceKey};
use crate::engine::Span;
use crate::vocabulary::Prompt;

/// The replies of a job with one prompt, or the guides of such replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Twins {
    pub(super) job: JobId,
    pub(super) guides: bool,
    /// Index of the first of them in the job's sequences.
    pub(super) first: usize,
}

/// For each prompt the index of the first that is the same, where there is another.
pub(super) fn alike(prompts: &[Option<&Prompt>]) -> Vec<Option<usize>> {
    let first: Vec<Option<usize>> = prompts
        .iter()
        .map(|prompt| prompt.and_then(|prompt| prompts.iter().position(|other| *other == Some(prompt))))
        .collect();
    let shared = |at: &usize| first.iter().filter(|other| **other == Some(*at)).count() > 1;
    first.iter().map(|at| at.filter(shared)).collect()
}

/// What a sequence whose prompt has not begun may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TwinTurn {
    /// Run its prompt.
    Run,
    /// Wait for a twin that does.
    Wait,
    /// Take all but the last token's keys and values from there.
    Copy(Span),
}

/// How far shared prompts are, while a step is planned.
pub(super) struct SharedPrompts(BTreeMap<Twins, TwinTurn>);

impl SharedPrompts {
    /// Prompts that have been run, and still lie somewhere.
    pub(super) fn of(sequences: &BTreeMap<SequenceKey, Sequence>) -> Self {
        let ready = sequences.values().filter_map(|sequence| {
            let (twins, span) = (sequence.twins?, sequence.span()?);
            let run = sequence.shared() > 0 && sequence.position() >= sequence.shared();
            run.then_some((twins, TwinTurn::Copy(span)))
        });
        Self(ready.collect())
    }

    /// What this one may do; to be asked in order of arrival of all whose prompt is being run.
    pub(super) fn turn(&mut self, sequence: &Sequence) -> TwinTurn {
        let Some(twins) = sequence.twins.filter(|_| sequence.shared() > 0) else {
            return TwinTurn::Run;
        };
        let turn = *self.0.entry(twins).or_insert(TwinTurn::Run);
        if turn == TwinTurn::Run {
            self.0.insert(twins, TwinTurn::Wait);
        }
        match sequence.position() {
            0 => turn,
            _ => TwinTurn::Run,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocabulary::PromptPart;

    #[test]
    fn prompts_are_alike_only_where_another_is_the_same() {
        let prompt = |id| Prompt {
            parts: vec![PromptPart::Tokens(vec![id]), PromptPart::Image(0)],
            shared_prefix: 0,
        };
        let (a, b, c) = (prompt(1), prompt(2), prompt(3));
        assert_eq!(
            alike(&[Some(&a), Some(&b), None, Some(&a), Some(&c), Some(&b), Some(&a), None]),
            [Some(0), Some(1), None, Some(0), None, Some(1), Some(0), None]
        );
    }
}
