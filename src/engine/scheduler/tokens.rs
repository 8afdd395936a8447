//! Token steps: what the backend is asked to run of a plan, and what becomes of its logits.

use std::sync::LazyLock;
use std::time::Instant;

use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::plan::{Part, Plan};
use super::{Draw, Event, JobId, Role, Scheduler, Sequence, SequenceKey, Stage};
use crate::engine::sampler::{SampleError, Scratch};
use crate::engine::{EngineError, RowSample, Segment, StepOutput};

/// From so many logits on, sampling is spread over threads: sampling from 50,000 takes a good part of a millisecond, waking threads a tenth.
const PARALLEL_LOGITS: usize = 200_000;

/// Threads for sampling alone: those of rayon's global pool may be busy with radiographs, and a step must not wait for them.
/// `None` where they cannot be had; sampling is done in the engine's thread then.
static SAMPLERS: LazyLock<Option<ThreadPool>> = LazyLock::new(|| {
    let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(8));
    let builder = ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|n| format!("sample-{n}"));
    builder.build().ok()
});

/// What came of sampling a step's tokens.
#[derive(Default)]
struct Verdict {
    /// Sequences with rows of logits that could be sampled from.
    usable: usize,
    /// The others.
    failed: Vec<(JobId, SampleError)>,
}

impl Verdict {
    fn note(&mut self, job: JobId, has_rows: bool, result: Result<(), SampleError>) {
        match result {
            Ok(()) => self.usable += usize::from(has_rows),
            Err(error) => self.failed.push((job, error)),
        }
    }
}

impl Scheduler {
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

    /// How the backend is asked to sample tokens: for each segment of the plan, or nothing where it does not sample.
    pub(in crate::engine) fn samples(&self, plan: &Plan) -> Vec<Vec<RowSample>> {
        if !self.facts.samples_on_device {
            return Vec::new();
        }
        let (rules, vocabulary) = (&self.rules, self.facts.vocabulary);
        let samples = |part: &Part| {
            let sequence = self
                .sequences
                .get(&part.key)
                .filter(|_| part.completes && part.logits > 0);
            sequence.map_or_else(Vec::new, |sequence| sequence.row_samples(rules, vocabulary))
        };
        plan.parts.iter().map(samples).collect()
    }

    /// Takes the output of a step that began at `began`: samples the new tokens that are not sampled yet, and tells of all. A job with logits
    /// that cannot be sampled from ends with that, the others of the step go on; gives how many ended so.
    ///
    /// # Errors
    /// When the output is not of the right size, or none of it is finite. Nothing has been told of the step then; the caller ends it with
    /// [`Scheduler::fail_step`].
    pub(in crate::engine) fn absorb(
        &mut self,
        plan: &Plan,
        output: &StepOutput,
        began: Instant,
        now: Instant,
    ) -> Result<usize, String> {
        let failed = self.fail_unusable(plan, output)?;
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
            let has_run = part.prompt && part.completes && sequence.role != Role::Guide;
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
            if has_run {
                self.prompt_has_run(job);
            }
            if complete {
                self.complete(part.key);
            }
        }
        Ok(failed)
    }

    /// Samples the next tokens, and ends the jobs whose logits are of no use; gives how many.
    ///
    /// # Errors
    /// As [`Scheduler::absorb`]: where all are of no use, it is the step that failed.
    fn fail_unusable(&mut self, plan: &Plan, output: &StepOutput) -> Result<usize, String> {
        let Verdict { usable, failed } = self.choose(plan, output)?;
        let Some((_, first)) = failed.first() else { return Ok(0) };
        if usable == 0 {
            return Err(first.to_string());
        }
        // What they may have left there is not known.
        self.prefixes.clear();
        let before = self.jobs.len();
        for (job, error) in failed {
            self.fail(job, EngineError::Step(error.to_string()));
        }
        Ok(before - self.jobs.len())
    }

    /// Samples the next tokens of each part that is complete with this step.
    fn choose(&mut self, plan: &Plan, output: &StepOutput) -> Result<Verdict, String> {
        let (rules, vocabulary) = (&self.rules, self.facts.vocabulary);
        let StepOutput { logits, sampled } = output;
        let sampled = |part: usize| sampled.get(part).filter(|ids| !ids.is_empty());
        let rows = |(at, part): (usize, &Part)| if sampled(at).is_some() { 0 } else { part.logits };
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
        let mut open: Vec<(&[f32], &mut Sequence)> = Vec::with_capacity(plan.parts.len());
        let mut guide: Option<&[f32]> = None;
        let mut verdict = Verdict::default();
        for (key, sequence) in &mut self.sequences {
            let part = parts.next_if(|(_, part)| part.key == *key);
            if let (Role::Guided, Some(row)) = (sequence.role, guide.take()) {
                sequence.guided_by(row);
            }
            let Some((at, part)) = part else { continue };
            if let Some(ids) = sampled(at) {
                let result = sequence.sampled(ids);
                verdict.note(sequence.job, true, result);
                continue;
            }
            let (rows, others) = rest.split_at(part.logits * vocabulary);
            rest = others;
            match (part.completes, sequence.role) {
                (true, Role::Guide) => guide = Some(rows),
                (true, _) => open.push((rows, sequence)),
                (false, _) => {}
            }
        }
        let choose = |((rows, sequence), scratch): ((&[f32], &mut Sequence), &mut Scratch)| {
            let result = sequence.choose(rows, rules, vocabulary, scratch);
            (sequence.job, !rows.is_empty(), result)
        };
        let scratch = &mut self.scratch;
        let work = open.len() * vocabulary;
        let chosen: Vec<(JobId, bool, Result<(), SampleError>)> =
            match SAMPLERS.as_ref().filter(|_| work >= PARALLEL_LOGITS) {
                Some(pool) => pool.install(|| {
                    let pairs = open.into_par_iter().zip(scratch.par_iter_mut());
                    pairs.map(choose).collect()
                }),
                None => open.into_iter().zip(scratch).map(choose).collect(),
            };
        for (job, has_rows, result) in chosen {
            verdict.note(job, has_rows, result);
        }
        Ok(verdict)
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
            sequence.stage = Stage::Drawing;
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
        self.prefixes.clear();
        for part in &plan.parts {
            if let Some(job) = self.sequences.get(&part.key).map(|sequence| sequence.job) {
                self.fail(job, error.clone());
            }
        }
    }
}
