//! One reply as a small state machine: waiting for codes → waiting for KV memory → prefilling → decoding → drawing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{JobId, Twins};
use crate::engine::constraint::{Constraint, Next};
use crate::engine::drafts::{Drafter, Trust};
use crate::engine::sampler::{self, SampleError, Sampler, Scratch};
use crate::engine::{FinishReason, RowSample, Rule, SequenceSpec, SequenceSummary, Span, Timing, TokenRules};
use crate::vocabulary::{PromptPart, TokenId};

/// Where a sequence stands. What is finished is no longer there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Some of its images have no codes yet.
    WaitingForCodes,
    /// Its prompt is whole; there is no memory or no place in the batch yet.
    WaitingForKv,
    /// Its prompt is being run.
    Prefilling(Span),
    /// It generates.
    Decoding(Span),
    /// Its reply is complete, its image is being drawn; it holds no KV memory.
    Drawing,
}

/// How a sequence gets its tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// From its own logits.
    Alone,
    /// From its own logits and those of the guide, whose key comes just before.
    Guided,
    /// Those that the reply it guides has sampled. Nothing is told of it.
    Guide,
}

/// When things happened.
#[derive(Clone, Copy, Debug)]
struct Clock {
    submitted: Instant,
    began: Option<Instant>,
    encode: Duration,
    prefill_began: Option<Instant>,
    first_token: Option<Instant>,
    last_token: Option<Instant>,
}

/// A reply in the making.
pub(super) struct Sequence {
    pub(super) job: JobId,
    /// Index in the job's sequences.
    pub(super) index: usize,
    pub(super) stage: Stage,
    pub(super) role: Role,
    /// Those with the same prompt, itself among them.
    pub(super) twins: Option<Twins>,
    spec: SequenceSpec,
    /// Prompt, then reply, then what is drafted for the step under way; empty until the prompt is whole.
    tokens: Vec<TokenId>,
    /// How many of `tokens` are a draft.
    drafted: usize,
    /// What the step under way has given.
    chosen: Vec<TokenId>,
    /// The guide's logits for the next token.
    guide_row: Vec<f32>,
    trust: Trust,
    prompt_len: usize,
    /// Tokens of the prompt's prefix that other prompts share, fewer than the prompt has.
    prefix: usize,
    image_tokens: usize,
    /// How many of `tokens` have their keys and values in memory.
    computed: usize,
    sampler: Sampler,
    constraint: Constraint,
    probabilities: Vec<f64>,
    reason: FinishReason,
    clock: Clock,
}

/// What a token tells the meters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Pace {
    /// The first token, so long after submission.
    First(Duration),
    /// A later token, so long after the one before.
    Next(Duration),
}

impl Sequence {
    pub(super) fn new(job: JobId, index: usize, role: Role, spec: SequenceSpec, submitted: Instant) -> Self {
        Self {
            job,
            index,
            stage: Stage::WaitingForCodes,
            role,
            twins: None,
            guide_row: Vec::new(),
            tokens: Vec::new(),
            drafted: 0,
            chosen: Vec::new(),
            trust: Trust::default(),
            prompt_len: 0,
            prefix: 0,
            image_tokens: 0,
            computed: 0,
            sampler: Sampler::new(spec.sampling),
            constraint: Constraint::new(spec.rule),
            probabilities: Vec::new(),
            reason: FinishReason::Length,
            clock: Clock {
                submitted,
                began: None,
                encode: Duration::ZERO,
                prefill_began: None,
                first_token: None,
                last_token: None,
            },
            spec,
        }
    }

    /// Whether the image is in the prompt.
    pub(super) fn names(&self, image: usize) -> bool {
        self.spec.prompt.parts.contains(&PromptPart::Image(image))
    }

    /// The encoder began with one of its images, or its prompt began to run; the first time counts.
    pub(super) fn begin(&mut self, now: Instant) -> Option<Duration> {
        if self.clock.began.is_some() {
            return None;
        }
        self.clock.began = Some(now);
        Some(now.saturating_duration_since(self.clock.submitted))
    }

    /// The encoder's pass over one of its images took so long.
    pub(super) fn encoded(&mut self, took: Duration) {
        self.clock.encode = self.clock.encode.max(took);
    }

    /// Makes the prompt whole if all its images have their codes.
    pub(super) fn try_fill(&mut self, codes: &[Option<Arc<Vec<u16>>>], rules: &TokenRules) {
        let known = |image: &usize| codes.get(*image).is_some_and(Option::is_some);
        let whole = self.spec.prompt.parts.iter().all(|part| match part {
            PromptPart::Tokens(_) => true,
            PromptPart::Image(image) => known(image),
        });
        if self.stage != Stage::WaitingForCodes || !whole {
            return;
        }
        for part in std::mem::take(&mut self.spec.prompt.parts) {
            match part {
                PromptPart::Tokens(ids) => self.tokens.extend(ids),
                PromptPart::Image(image) => {
                    let codes = codes.get(image).and_then(Option::as_ref);
                    let before = self.tokens.len();
                    self.tokens.extend(
                        codes
                            .iter()
                            .flat_map(|codes| codes.iter())
                            .map(|&code| rules.code_id(code)),
                    );
                    self.image_tokens += self.tokens.len() - before;
                }
            }
        }
        self.prompt_len = self.tokens.len();
        // After a prefix that was run for another prompt there must be something to run for this one.
        self.prefix = self.spec.prompt.shared_prefix.min(self.prompt_len.saturating_sub(1));
        self.stage = Stage::WaitingForKv;
    }

    /// KV positions it needs from its first token to its last.
    pub(super) fn kv_need(&self, rules: &TokenRules) -> usize {
        self.tokens.len() + rules.reply_len(self.spec.rule, self.spec.max_new_tokens)
    }

    /// Its KV memory, if it holds any.
    pub(super) fn span(&self) -> Option<Span> {
        match self.stage {
            Stage::Prefilling(span) | Stage::Decoding(span) => Some(span),
            Stage::WaitingForCodes | Stage::WaitingForKv | Stage::Drawing => None,
        }
    }

    /// Tokens whose keys and values are still to be computed, those of the draft among them.
    pub(super) fn pending(&self) -> &[TokenId] {
        self.tokens.get(self.computed..).unwrap_or_default()
    }

    /// The prompt's prefix that other prompts share.
    pub(super) fn prefix(&self) -> &[TokenId] {
        self.tokens.get(..self.prefix).unwrap_or_default()
    }

    /// Tokens of the prompt that its twins take over: all but the last, after which each has logits of its own to sample from.
    pub(super) fn shared(&self) -> usize {
        match self.twins {
            Some(_) => self.prompt_len.saturating_sub(1),
            None => 0,
        }
    }

    /// The keys and values of the prompt's first tokens have been copied from another's.
    pub(super) fn skip(&mut self, tokens: usize) {
        self.computed = tokens;
    }

    /// How many tokens are in memory: the position of the next one to run.
    pub(super) fn position(&self) -> usize {
        self.computed
    }

    /// Tokens generated so far.
    fn reply(&self) -> &[TokenId] {
        let end = self.tokens.len() - self.drafted;
        self.tokens.get(self.prompt_len..end).unwrap_or_default()
    }

    /// Drafts up to `most` tokens of a text for the next step, where that has paid of late. The draft of a step that was planned but not
    /// run is dropped.
    pub(super) fn draft(&mut self, drafter: &Drafter, most: usize, rules: &TokenRules, vocabulary: usize) {
        self.tokens.truncate(self.tokens.len() - self.drafted);
        self.drafted = 0;
        let Some(trust) = self.trust.now().filter(|_| self.spec.rule != Rule::Image) else {
            return;
        };
        let Next::Choice(allowed) = self.constraint.next(rules, vocabulary) else {
            return;
        };
        // The last token of a reply is sampled, not run.
        let left = self.spec.max_new_tokens.saturating_sub(self.reply().len() + 1);
        let usable = |id| allowed.contains(&id) && !rules.is_stop(id);
        self.drafted = drafter.extend(&mut self.tokens, most.min(left), trust, usable);
    }

    /// Whether others may draft from its reply: it is about an image, and so much like the next one.
    pub(super) fn is_of_an_image(&self) -> bool {
        self.spec.rule == Rule::Text && self.image_tokens > 0
    }

    /// Prompt and reply, and where the reply begins.
    pub(super) fn ids(&self) -> (&[TokenId], usize) {
        (&self.tokens, self.prompt_len)
    }

    fn watches(&self) -> bool {
        !self.spec.watch.is_empty() && self.reply().is_empty()
    }

    /// After how many of the last of `count` more tokens the logits are needed: the one to come, and those of the draft.
    pub(super) fn wants_logits(&self, count: usize, rules: &TokenRules, vocabulary: usize) -> usize {
        let sampled = matches!(self.constraint.next(rules, vocabulary), Next::Choice(_));
        match count == self.pending().len() && (sampled || self.watches()) {
            true => 1 + self.drafted,
            false => 0,
        }
    }

    /// Keeps the logits of its guide for the token to come; where none were wanted there are none.
    pub(super) fn guided_by(&mut self, row: &[f32]) {
        self.guide_row.clear();
        self.guide_row.extend_from_slice(row);
    }

    /// Samples the next tokens from `rows` (those that were wanted, one after the other): the one to come, and after each that is as it
    /// was drafted one more. Nothing else changes but the random stream, which gives each token the number that it would have had alone.
    pub(super) fn choose(
        &mut self,
        rows: &[f32],
        rules: &TokenRules,
        vocabulary: usize,
        scratch: &mut Scratch,
    ) -> Result<(), SampleError> {
        if !rows.is_empty() && self.watches() {
            let row = rows.get(..vocabulary).unwrap_or(rows);
            self.probabilities = sampler::probabilities(row, &self.spec.watch)?;
        }
        self.chosen.clear();
        let guidance = self.spec.sampling.guidance;
        // Where the row is carried on to: its buffer is the guide's, which has done its work then.
        let mut carried = std::mem::take(&mut self.guide_row);
        let guided = self.role == Role::Guided && carried.len() == rows.len();
        if guided {
            for (u, c) in carried.iter_mut().zip(rows) {
                *u += guidance * (c - *u);
            }
        }
        let mut constraint = self.constraint.clone();
        let rows = if guided { &carried } else { rows };
        let mut rows = rows.chunks_exact(vocabulary.max(1));
        let mut draft = self.tokens[self.tokens.len() - self.drafted..].iter();
        loop {
            let id = match constraint.next(rules, vocabulary) {
                Next::Forced(id) => id,
                Next::Choice(allowed) => self.sampler.sample(rows.next().unwrap_or_default(), allowed, scratch)?,
            };
            self.chosen.push(id);
            constraint.accept(id, rules);
            if draft.next() != Some(&id) || constraint.ended() {
                break;
            }
        }
        self.guide_row = carried;
        Ok(())
    }

    /// How the token to come, and one after each of the draft, are sampled where the logits are; none where the logits themselves are needed, or none are.
    pub(super) fn row_samples(&self, rules: &TokenRules, vocabulary: usize) -> Vec<RowSample> {
        if self.role != Role::Alone || self.watches() {
            return Vec::new();
        }
        let Next::Choice(allowed) = self.constraint.next(rules, vocabulary) else {
            return Vec::new();
        };
        let mut sampler = self.sampler.clone();
        // Only texts are drafted, and what a text may say does not change on its way.
        (0..=self.drafted).map(|_| sampler.next(allowed.clone())).collect()
    }

    /// Takes the tokens that were sampled as [`Self::row_samples`] asked, up to the first that is not as it was drafted.
    ///
    /// # Errors
    /// When one of these could not be sampled. What became of the rows behind them does not matter.
    pub(super) fn sampled(&mut self, ids: &[Option<TokenId>]) -> Result<(), SampleError> {
        let draft = &self.tokens[self.tokens.len() - self.drafted..];
        let as_drafted = |(id, drafted): &(&Option<TokenId>, &TokenId)| **id == Some(**drafted);
        let kept = ids.iter().zip(draft).take_while(as_drafted).count();
        let taken: Option<Vec<TokenId>> = ids.iter().take(kept + 1).copied().collect();
        self.chosen = taken.ok_or(SampleError::NotFinite)?;
        self.sampler.skip(self.chosen.len());
        Ok(())
    }

    /// Notes that `count` pending tokens have been run. Of a draft those positions stay whose tokens have come true; the others' keys and
    /// values are as if they had never been. Gives the new tokens, and how many were drafted and kept.
    pub(super) fn ran(&mut self, count: usize, began: Instant) -> (Vec<TokenId>, usize, usize) {
        let chosen = std::mem::take(&mut self.chosen);
        let (drafted, kept) = (self.drafted, chosen.len().saturating_sub(1));
        self.tokens.truncate(self.tokens.len() - drafted);
        self.drafted = 0;
        self.computed += count - drafted + kept;
        if !chosen.is_empty() {
            self.trust.note(drafted, kept);
        }
        self.clock.prefill_began.get_or_insert(began);
        (chosen, drafted, kept)
    }

    /// Takes a new token and whatever must follow it; gives all new tokens through `each` and whether the reply is complete.
    pub(super) fn take(
        &mut self,
        id: TokenId,
        rules: &TokenRules,
        now: Instant,
        mut each: impl FnMut(TokenId),
    ) -> (bool, Pace) {
        if let Stage::Prefilling(span) = self.stage {
            self.stage = Stage::Decoding(span);
        }
        let pace = match self.clock.last_token {
            None => Pace::First(now.saturating_duration_since(self.clock.submitted)),
            Some(last) => Pace::Next(now.saturating_duration_since(last)),
        };
        self.clock.first_token.get_or_insert(now);
        self.clock.last_token = Some(now);
        let mut next = id;
        loop {
            self.tokens.push(next);
            self.constraint.accept(next, rules);
            each(next);
            if !self.constraint.rest_is_forced(rules) {
                break;
            }
            let Next::Forced(forced) = self.constraint.next(rules, usize::MAX) else {
                break;
            };
            next = forced;
        }
        if self.constraint.ended() {
            self.reason = FinishReason::Stop;
        }
        (
            self.constraint.ended() || self.reply().len() >= self.spec.max_new_tokens,
            pace,
        )
    }

    /// The codes of the image in the reply, if it is to be drawn and is whole. As in the original, every code id of the reply
    /// counts, wherever it stands.
    pub(super) fn image(&self, rules: &TokenRules) -> Option<Vec<u16>> {
        if !self.spec.draw {
            return None;
        }
        let codes: Vec<u16> = self.reply().iter().filter_map(|&id| rules.code(id)).collect();
        (codes.len() == rules.codes_per_image).then_some(codes)
    }

    /// The account of it, `draw` being the time of the VQ-GAN decoder.
    pub(super) fn summary(&self, draw: Duration) -> SequenceSummary {
        let clock = &self.clock;
        let between = |from: Option<Instant>, to: Option<Instant>| match (from, to) {
            (Some(from), Some(to)) => to.saturating_duration_since(from),
            _ => Duration::ZERO,
        };
        SequenceSummary {
            reason: self.reason,
            prompt_tokens: self.prompt_len,
            image_tokens: self.image_tokens,
            completion_tokens: self.reply().len(),
            first_token_probabilities: self.probabilities.clone(),
            timing: Timing {
                queue: between(Some(clock.submitted), clock.began),
                encode: clock.encode,
                prefill: between(clock.prefill_began, clock.first_token),
                decode: between(clock.first_token, clock.last_token),
                draw,
            },
        }
    }
}
