//! Token steps: who is in the next one, and what becomes of its logits.

use std::sync::LazyLock;
use std::time::Instant;

use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::twins::{Shared, Turn};
use super::{Draw, Event, Observation, Phase, Role, Scheduler, Sequence, SequenceKey};
use crate::engine::drafts::STEP_ROWS;
use crate::engine::kv::SpanCopy;
use crate::engine::sampler::{SampleError, Scratch};
use crate::engine::{EngineError, RowDraw, Segment, StepOutput};

/// From so many logits on, draws are spread over threads: drawing from 50,000 takes a good part of a millisecond, waking threads a tenth.
const PARALLEL_LOGITS: usize = 200_000;

/// Threads for drawing alone: those of rayon's global pool may be busy with radiographs, and a step must not wait for them.
/// `None` where they cannot be had; drawing is done in the engine's thread then.
static DRAWERS: LazyLock<Option<ThreadPool>> = LazyLock::new(|| {
    let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(8));
    let builder = ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|n| format!("draw-{n}"));
    builder.build().ok()
});

/// One sequence's part of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    key: SequenceKey,
    /// How many pending tokens run.
    count: usize,
    /// Rows of logits that are wanted.
    logits: usize,
    /// Whether its next token is known after this step.
    completes: bool,
    /// Whether the tokens belong to the prompt.
    prompt: bool,
}

/// The next step: parts in order of arrival.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::engine) struct Plan {
    parts: Vec<Part>,
    /// Keys and values to be copied before the step, in order: of heads, and of prompts that twins share.
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

    /// Keys and values to be copied before the step, in order: of heads, and of prompts that twins share.
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
            .filter(|sequence| matches!(sequence.phase, Phase::Decoding(_)))
            .count();
        // Each has its token; what is left of the rows that cost little is shared among the drafts.
        let room = STEP_ROWS.saturating_sub(decoding).checked_div(decoding).unwrap_or(0);
        let mut budget = if decoding > 0 {
            self.prefill_chunk
        } else {
            self.idle_prefill_chunk
        };
        let chunk = (!self.facts.cuts_freely).then_some(self.prefill_chunk);
        let (mut parts, mut copies, mut prefilled) = (Vec::<Part>::new(), Vec::new(), false);
        // Whether the guide that was passed last has, or will have after this step, all its logits.
        let mut guide_ready = false;
        let mut shared = Shared::of(&self.sequences);
        for (&key, sequence) in &mut self.sequences {
            if sequence.role == Role::Guide {
                guide_ready = sequence.pending().is_empty();
            }
            if let (Phase::Decoding(_), Some(drafter)) = (sequence.phase, &self.drafter) {
                sequence.draft(drafter, room, &self.rules, self.facts.vocabulary);
            }
            let (mut pending, mut known) = (sequence.pending().len(), None);
            let (count, prompt) = match sequence.phase {
                Phase::Decoding(_) => (pending, false),
                Phase::Prefilling(span) => {
                    let (mut position, head) = (sequence.position(), self.heads.cut(sequence.head()));
                    let turn = shared.turn(sequence);
                    if turn == Turn::Wait {
                        continue;
                    }
                    if position == 0 {
                        known = match turn {
                            Turn::Copy(from) => Some((from, sequence.shared())),
                            _ => self.heads.find(sequence.head()).map(|from| (from, head)),
                        };
                        if let Some((_, len)) = known {
                            (position, pending) = (len, pending - len);
                        }
                    } else if position >= head
                        && let Some(slot) = self.heads.keep(sequence.head())
                    {
                        copies.push(SpanCopy {
                            from: span,
                            to: slot,
                            len: head,
                        });
                    }
                    let cuts = [head, sequence.shared()];
                    (pending.min(to_next_cut(chunk, budget, cuts, position)), true)
                }
                Phase::WaitingForCodes | Phase::WaitingForKv | Phase::Drawing => continue,
            };
            // A prompt with a guide is not run to its end before the guide's.
            if count == 0 || (sequence.role == Role::Guided && count == pending && !guide_ready) {
                continue;
            }
            if prompt {
                if prefilled && count > budget {
                    // In order of arrival: a shorter piece behind it does not overtake.
                    budget = 0;
                    continue;
                }
                budget = budget.saturating_sub(count);
                prefilled = true;
            }
            if let (Some((from, len)), Some(to)) = (known, sequence.span()) {
                copies.push(SpanCopy { from, to, len });
                sequence.skip(len);
            }
            let logits = sequence.wants_logits(count, &self.rules, self.facts.vocabulary);
            if sequence.role == Role::Guide {
                guide_ready = count == pending;
            }
            parts.push(Part {
                key,
                count,
                logits,
                completes: count == pending,
                prompt,
            });
        }
        Plan { parts, copies }
    }

    /// Reserves KV memory in order of arrival; the first that does not fit holds the line.
    fn place(&mut self, now: Instant) {
        let mut running = self.running_sequences();
        let mut guide: Option<&mut Sequence> = None;
        for sequence in self.sequences.values_mut() {
            if sequence.role == Role::Guide {
                guide = Some(sequence);
                continue;
            }
            let guide = guide.take();
            if sequence.phase != Phase::WaitingForKv {
                continue;
            }
            // Who is alone may always run, though a pair takes two places.
            let places = 1 + usize::from(guide.is_some());
            if running > 0 && running + places > self.max_batch {
                break;
            }
            let Some(span) = self.kv.reserve(sequence.kv_need(&self.rules)) else {
                break;
            };
            if let Some(guide) = guide {
                let Some(beside) = self.kv.reserve(guide.kv_need(&self.rules)) else {
                    self.kv.release(span);
                    break;
                };
                guide.phase = Phase::Prefilling(beside);
            }
            running += places;
            sequence.phase = Phase::Prefilling(span);
            self.told
                .observations
                .extend(sequence.begin(now).map(Observation::Queue));
        }
    }

    /// What the backend is asked to run.
    pub(in crate::engine) fn segments(&self, plan: &Plan) -> Vec<Segment<'_>> {
        let segment = |part: &Part| {
            let sequence = self.sequences.get(&part.key)?;
            let tokens = sequence.pending().get(..part.count)?;
            Some(Segment {
                span: sequence.span()?,
                position: sequence.position(),
                tokens,
                logits: part.logits,
            })
        };
        plan.parts.iter().filter_map(segment).collect()
    }

    /// How the backend is asked to draw tokens: for each segment of the plan, or nothing where it does not draw. To be asked once a plan.
    pub(in crate::engine) fn draws(&mut self, plan: &Plan) -> Vec<Option<RowDraw>> {
        if !self.facts.draws {
            return Vec::new();
        }
        let (rules, vocabulary) = (&self.rules, self.facts.vocabulary);
        let draw = |part: &Part| {
            let sequence = self.sequences.get_mut(&part.key)?;
            (part.completes && part.logits == 1).then(|| sequence.row_draw(rules, vocabulary))?
        };
        plan.parts.iter().map(draw).collect()
    }

    /// Takes the output of a step that began at `began`: draws the new tokens that are not drawn yet, and tells of all.
    ///
    /// # Errors
    /// When the output is not of the right size or not finite. Nothing has been told of the step then; the caller ends it with
    /// [`Scheduler::fail_step`].
    pub(in crate::engine) fn absorb(
        &mut self,
        plan: &Plan,
        output: &StepOutput,
        began: Instant,
        now: Instant,
    ) -> Result<(), String> {
        self.choose(plan, output)?;
        self.counters.steps += 1;
        let mut follow = Vec::new();
        for part in &plan.parts {
            let Some(sequence) = self.sequences.get_mut(&part.key) else {
                continue;
            };
            let (chosen, drafted, kept) = sequence.ran(part.count, began);
            if part.prompt {
                self.counters.prompt_tokens += part.count as u64;
            }
            self.counters.drafted_tokens += drafted as u64;
            self.counters.accepted_tokens += kept as u64;
            let (job, index) = (sequence.job, sequence.index);
            let (told, counters) = (&mut self.told, &mut self.counters);
            let mut complete = false;
            for id in chosen {
                let (last, pace) = sequence.take(id, &self.rules, now, |id| {
                    counters.tokens_generated += 1;
                    told.events.push((job, Event::Token { sequence: index, id }));
                });
                told.observations.push(pace.into());
                complete |= last;
                if sequence.role == Role::Guided {
                    follow.push((part.key - 1, id));
                }
            }
            for (key, id) in follow.drain(..) {
                if let Some(guide) = self.sequences.get_mut(&key) {
                    guide.take(id, &self.rules, now, |_| ());
                }
            }
            if complete {
                self.complete(part.key);
            }
        }
        Ok(())
    }

    /// Draws the next tokens of each part that is complete with this step.
    fn choose(&mut self, plan: &Plan, output: &StepOutput) -> Result<(), String> {
        let vocabulary = self.facts.vocabulary;
        let StepOutput { logits, drawn } = output;
        let drawn = |part: usize| drawn.get(part).copied().flatten();
        let rows = |(at, part): (usize, &Part)| if drawn(at).is_some() { 0 } else { part.logits };
        let wanted: usize = plan.parts.iter().enumerate().map(rows).sum();
        if logits.len() != wanted * vocabulary {
            return Err(format!(
                "{} logits came where {wanted} rows of {vocabulary} were wanted",
                logits.len()
            ));
        }
        if self.scratch.len() < plan.parts.len() {
            self.scratch.resize_with(plan.parts.len(), Scratch::default);
        }
        let mut rest = logits.as_slice();
        let mut parts = plan.parts.iter().enumerate().peekable();
        // Both the plan and the map are in order of keys, so one walk joins them.
        let mut draws: Vec<(&[f32], &mut Sequence)> = Vec::with_capacity(plan.parts.len());
        let mut guide: Option<&[f32]> = None;
        for (key, sequence) in &mut self.sequences {
            let part = parts.next_if(|(_, part)| part.key == *key);
            if let (Role::Guided, Some(row)) = (sequence.role, guide.take()) {
                sequence.guided_by(row);
            }
            let Some((at, part)) = part else { continue };
            if let Some(id) = drawn(at) {
                sequence.drawn(id);
                continue;
            }
            let (rows, others) = rest.split_at(part.logits * vocabulary);
            rest = others;
            match (part.completes, sequence.role) {
                (true, Role::Guide) => guide = Some(rows),
                (true, _) => draws.push((rows, sequence)),
                (false, _) => {}
            }
        }
        let rules = &self.rules;
        let draw = |((rows, sequence), scratch): ((&[f32], &mut Sequence), &mut Scratch)| {
            sequence.choose(rows, rules, vocabulary, scratch)
        };
        let scratch = &mut self.scratch;
        let work = draws.len() * vocabulary;
        let drawn: Result<(), SampleError> = match DRAWERS.as_ref().filter(|_| work >= PARALLEL_LOGITS) {
            Some(pool) => pool.install(|| draws.into_par_iter().zip(scratch.par_iter_mut()).try_for_each(draw)),
            None => draws.into_iter().zip(scratch).try_for_each(draw),
        };
        drawn.map_err(|error| error.to_string())
    }

    /// A reply has all its tokens: its memory is free, and its image, if it has one, is drawn.
    fn complete(&mut self, key: SequenceKey) {
        let role = self.sequences.get(&key).map(|sequence| sequence.role);
        if role == Some(Role::Guided)
            && let Some(guide) = self.sequences.remove(&(key - 1))
            && let Some(span) = guide.span()
        {
            self.kv.release(span);
        }
        let Some(sequence) = self.sequences.get_mut(&key) else {
            return;
        };
        if let Some(span) = sequence.span() {
            self.kv.release(span);
        }
        if let Some(drafter) = self.drafter.as_mut().filter(|_| sequence.is_of_an_image()) {
            let (ids, from) = sequence.ids();
            drafter.learn(ids, from);
        }
        let (job, index) = (sequence.job, sequence.index);
        if let Some(codes) = sequence.image(&self.rules) {
            sequence.phase = Phase::Drawing;
            self.lines.push_draw(Draw {
                job,
                reply: Some(key),
                name: index,
                codes,
            });
            return;
        }
        let summary = sequence.summary(std::time::Duration::ZERO);
        self.sequences.remove(&key);
        self.told.events.push((
            job,
            Event::Finished {
                sequence: index,
                summary,
            },
        ));
        self.close_part(job);
    }

    /// The step has failed: the jobs in it end with it, all others go on.
    pub(in crate::engine) fn fail_step(&mut self, plan: &Plan, error: &EngineError) {
        self.heads.clear();
        for part in &plan.parts {
            if let Some(job) = self.sequences.get(&part.key).map(|sequence| sequence.job) {
                self.fail(job, error.clone());
            }
        }
    }
}

/// Tokens from `position` of a prompt to its next cut. Prompts are cut at `cuts` (after their head, and before what twins run apart), and at
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
