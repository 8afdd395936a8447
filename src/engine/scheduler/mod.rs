//! The scheduler: who takes part in the next step. Pure: no tensors, no threads, no clock (time is passed in).
//!
//! Each turn the worker asks for a [`Plan`] (one token of every decoding sequence and a bounded chunk of waiting prompts), runs
//! it, and hands the logits back; in between it runs slices of VQ-GAN passes. What is to be told comes out of [`Scheduler::take`].
//!
//! A reply with guidance is two sequences with neighbouring keys: first the guide, then the reply. They get their memory together, the
//! reply's prompt ends no sooner than the guide's, and from then on they are in every step together.
//!
//! Replies of a job with the same prompt (several drawings of a text, choices of a chat) share the work on it (`twins`).
//!
//! Order and fairness: jobs take turns at KV memory and at running prompts (`fair`), sequences of one job go in order of arrival. One that
//! does not fit yet blocks all others, so nothing is overtaken for ever; once what runs has left, the head of the line fits (admission
//! saw to that). A sequence whose image is still being encoded blocks nobody.

mod fair;
mod plan;
mod sequence;
mod tokens;
mod twins;
mod vision;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fair::Turns;
use sequence::{Pace, Role, Sequence, Stage};
use twins::Twins;
use vision::{Draw, Encode, Items, VisionLines};

pub(super) use plan::Plan;

use super::drafts::Drafter;
use super::kv::KvLedger;
use super::prefix_cache::PrefixCache;
use super::sampler::Scratch;
use super::{EngineConfig, EngineError, Event, Facts, Job, SequenceSpec, TokenRules, VisionOutput, VisionWork};
use crate::model::drafts::DraftTable;

/// Names a job within the engine.
pub(super) type JobId = u64;
/// Names a sequence within the engine, in order of arrival.
type SequenceKey = u64;

/// What a running job still waits for.
struct Running {
    /// Its sequences' keys.
    keys: std::ops::Range<SequenceKey>,
    /// Codes of its images, as they come.
    codes: Vec<Option<Arc<Vec<u16>>>>,
    /// Images, replies and drawings still to come.
    open: usize,
    turns: Turns,
}

/// A measured duration for the meters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Observation {
    /// From submission to the first work.
    Queue(Duration),
    /// From submission to the first token.
    FirstToken(Duration),
    /// From one token to the next.
    NextToken(Duration),
}

impl From<Pace> for Observation {
    fn from(pace: Pace) -> Self {
        match pace {
            Pace::First(after) => Self::FirstToken(after),
            Pace::Next(after) => Self::NextToken(after),
        }
    }
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) steps: u64,
    pub(super) prompt_tokens: u64,
    pub(super) tokens_generated: u64,
    /// Tokens that drafts proposed, and those of them that came; the others' KV positions were rolled back.
    pub(super) drafted_tokens: u64,
    pub(super) accepted_tokens: u64,
    pub(super) images_encoded: u64,
    pub(super) images_drawn: u64,
}

/// What is to be told.
#[derive(Default)]
pub(super) struct Told {
    pub(super) events: Vec<(JobId, Event)>,
    pub(super) observations: Vec<Observation>,
}

/// The running set.
pub(super) struct Scheduler {
    max_batch: usize,
    prefill_chunk: usize,
    idle_prefill_chunk: usize,
    facts: Arc<Facts>,
    rules: TokenRules,
    kv: KvLedger,
    jobs: BTreeMap<JobId, Running>,
    sequences: BTreeMap<SequenceKey, Sequence>,
    lines: VisionLines,
    next_key: SequenceKey,
    /// Arrivals of jobs and their turns, counted together.
    turn: u64,
    scratch: Vec<Scratch>,
    /// `None` where nothing is drafted.
    drafter: Option<Drafter>,
    prefixes: PrefixCache,
    told: Told,
    counters: Counters,
}

impl Scheduler {
    /// An empty running set for a model with these facts.
    pub(super) fn new(config: &EngineConfig, facts: Arc<Facts>, rules: TokenRules) -> Self {
        Self {
            max_batch: config.max_batch.unwrap_or(facts.sequences).max(1),
            prefill_chunk: config.prefill_chunk.unwrap_or(facts.prompt_rows).max(1),
            idle_prefill_chunk: config.idle_prefill_chunk.max(1),
            kv: KvLedger::new(facts.kv_tokens),
            prefixes: PrefixCache::new(&facts),
            facts,
            rules,
            jobs: BTreeMap::new(),
            sequences: BTreeMap::new(),
            lines: VisionLines::default(),
            next_key: 0,
            turn: 0,
            scratch: Vec::new(),
            drafter: config.speculation.then(|| Drafter::new(DraftTable::default())),
            told: Told::default(),
            counters: Counters::default(),
        }
    }

    /// Takes a bundle's table to draft from.
    pub(super) fn use_drafts(&mut self, table: DraftTable) {
        if let Some(drafter) = &mut self.drafter {
            *drafter = Drafter::new(table);
        }
    }

    /// Whether nothing is left to do. (A pass without owners may still be under way.)
    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Jobs in the running set.
    pub(super) fn job_count(&self) -> usize {
        self.jobs.len()
    }

    /// Sequences with KV memory.
    pub(super) fn running_sequences(&self) -> usize {
        self.sequences
            .values()
            .filter(|sequence| sequence.span().is_some())
            .count()
    }

    /// KV positions given out and there are.
    pub(super) fn kv(&self) -> &KvLedger {
        &self.kv
    }

    pub(super) fn counters(&self) -> Counters {
        self.counters
    }

    /// What has happened since the last call.
    pub(super) fn take(&mut self) -> Told {
        std::mem::take(&mut self.told)
    }

    /// Takes a job into the running set. It has passed admission.
    pub(super) fn join(&mut self, id: JobId, job: Job, submitted: Instant) {
        let open = job.images.len() + job.sequences.len() + job.codes.len();
        let first = self.next_key;
        self.next_key += job.seats() as SequenceKey;
        let running = Running {
            keys: first..self.next_key,
            codes: vec![None; job.images.len()],
            open,
            turns: Turns::since(self.next_turn()),
        };
        for (image, pixels) in job.images.into_iter().enumerate() {
            self.lines.push_encode(Encode { job: id, image, pixels });
        }
        let replies = job.sequences.len();
        for (i, codes) in job.codes.into_iter().enumerate() {
            self.lines.push_draw(Draw {
                job: id,
                reply: None,
                name: replies + i,
                codes,
            });
        }
        let prompts: Vec<_> = job.sequences.iter().map(|spec| Some(&spec.prompt)).collect();
        let guides: Vec<_> = job.sequences.iter().map(|spec| spec.guide.as_ref()).collect();
        let (prompts, guides) = (twins::alike(&prompts), twins::alike(&guides));
        let mut keys = first..;
        for (index, mut spec) in job.sequences.into_iter().enumerate() {
            let guide = spec.guide.take().map(|prompt| {
                let spec = SequenceSpec { prompt, ..spec.clone() };
                Sequence::new(id, index, Role::Guide, spec, submitted)
            });
            let role = match guide {
                Some(_) => Role::Guided,
                None => Role::Alone,
            };
            let reply = Sequence::new(id, index, role, spec, submitted);
            // A guide comes just before the reply that it guides.
            for (mut sequence, key) in guide.into_iter().chain([reply]).zip(&mut keys) {
                let guides_one = sequence.role == Role::Guide;
                let alike = if guides_one { &guides } else { &prompts };
                sequence.twins = alike[index].map(|first| Twins {
                    job: id,
                    guides: guides_one,
                    first,
                });
                sequence.try_fill(&running.codes, &self.rules);
                self.sequences.insert(key, sequence);
            }
        }
        self.jobs.insert(id, running);
    }

    /// Takes a job out, whatever it is doing, without a word. Its memory is free at once.
    pub(super) fn remove(&mut self, id: JobId) {
        let Some(running) = self.jobs.remove(&id) else { return };
        for key in running.keys {
            if let Some(sequence) = self.sequences.remove(&key)
                && let Some(span) = sequence.span()
            {
                self.kv.release(span);
            }
        }
        self.lines.forget(id);
    }

    /// Ends a job with an error.
    pub(super) fn fail(&mut self, id: JobId, error: EngineError) {
        if self.jobs.contains_key(&id) {
            self.remove(id);
            self.told.events.push((id, Event::Failed(error)));
        }
    }

    /// One part of a job is complete; with the last the job is.
    fn close_part(&mut self, id: JobId) {
        let Some(running) = self.jobs.get_mut(&id) else { return };
        running.open -= 1;
        if running.open == 0 {
            self.jobs.remove(&id);
            self.told.events.push((id, Event::Done));
        }
    }

    // ---- VQ-GAN ----

    /// Whether images wait or a pass is under way.
    pub(super) fn has_vision_work(&self) -> bool {
        self.lines.waiting() > 0 || self.lines.under_way().is_some()
    }

    /// Whether a pass is under way.
    pub(super) fn vision_under_way(&self) -> bool {
        self.lines.under_way().is_some()
    }

    /// Whether everybody in the pass under way has left; then it is forgotten, and the backend must be told.
    pub(super) fn drop_orphaned_pass(&mut self) -> bool {
        let orphaned = self
            .lines
            .under_way()
            .is_some_and(|pass| pass.jobs().iter().all(|job| !self.jobs.contains_key(job)));
        if orphaned {
            self.lines.end();
        }
        orphaned
    }

    /// The next pass, if none is under way and something waits.
    pub(super) fn begin_vision(&mut self, now: Instant) -> Option<VisionWork> {
        let work = self.lines.begin(self.facts.vision_batch, now)?;
        if let Some(Items::Encodes(items)) = self.lines.under_way().map(|pass| &pass.items) {
            for item in items {
                let Some(running) = self.jobs.get(&item.job) else {
                    continue;
                };
                for (_, sequence) in self.sequences.range_mut(running.keys.clone()) {
                    let waited = sequence.names(item.image).then(|| sequence.begin(now)).flatten();
                    self.told.observations.extend(waited.map(Observation::Queue));
                }
            }
        }
        Some(work)
    }

    /// The pass under way has ended with this.
    ///
    /// # Errors
    /// When the output is not what was asked for; the pass has ended then too, and its jobs with it.
    pub(super) fn finish_vision(&mut self, output: VisionOutput, now: Instant) -> Result<(), String> {
        if self
            .lines
            .under_way()
            .is_some_and(|pass| !vision::fits(&pass.items, &output, &self.facts))
        {
            let why = "the VQ-GAN gave something else than it was asked for".to_owned();
            self.fail_vision(&EngineError::Step(why.clone()));
            return Err(why);
        }
        let Some(pass) = self.lines.end() else { return Ok(()) };
        let took = now.saturating_duration_since(pass.began);
        match (pass.items, output) {
            (Items::Encodes(items), VisionOutput::Codes(codes)) => {
                self.counters.images_encoded += items.len() as u64;
                for (item, codes) in items.into_iter().zip(codes) {
                    self.encoded(&item, Arc::new(codes), took);
                }
            }
            (Items::Draws(items), VisionOutput::Images(images)) => {
                self.counters.images_drawn += items.len() as u64;
                for (item, image) in items.into_iter().zip(images) {
                    self.drawn(item, Arc::new(image), took);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The pass under way has failed: its jobs end with it.
    pub(super) fn fail_vision(&mut self, error: &EngineError) {
        for job in self.lines.end().map(|pass| pass.jobs()).unwrap_or_default() {
            self.fail(job, error.clone());
        }
    }

    fn encoded(&mut self, item: &Encode, codes: Arc<Vec<u16>>, took: Duration) {
        let Some(running) = self.jobs.get_mut(&item.job) else {
            return;
        };
        if let Some(place) = running.codes.get_mut(item.image) {
            *place = Some(Arc::clone(&codes));
        }
        for (_, sequence) in self.sequences.range_mut(running.keys.clone()) {
            if sequence.names(item.image) {
                sequence.encoded(took);
                sequence.try_fill(&running.codes, &self.rules);
            }
        }
        self.told.events.push((
            item.job,
            Event::Encoded {
                image: item.image,
                codes,
            },
        ));
        self.close_part(item.job);
    }

    fn drawn(&mut self, item: Draw, pixels: Arc<crate::radiograph::Pixels>, took: Duration) {
        if !self.jobs.contains_key(&item.job) {
            return;
        }
        self.told.events.push((
            item.job,
            Event::Drawn {
                sequence: item.name,
                codes: item.codes,
                pixels,
            },
        ));
        if let Some(sequence) = item.reply.and_then(|key| self.sequences.remove(&key)) {
            let summary = sequence.summary(took);
            self.told.events.push((
                item.job,
                Event::Finished {
                    sequence: sequence.index,
                    summary,
                },
            ));
        }
        self.close_part(item.job);
    }
}

#[cfg(test)]
mod draft_tests;
#[cfg(test)]
mod fair_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod twin_tests;
