//! How jobs share the device: who gets the next place, whose prompt runs next, and who may join.
//!
//! A job may bring hundreds of sequences, so places do not go by arrival alone: jobs take turns. Whoever has waited longest since its last turn
//! has the next one, with the first of its sequences that waits. If that does not fit, it holds the line until it does: nobody overtakes it,
//! however small, and once what runs has left it fits (admission saw to that). Prompts take turns in the same way, one whole prompt at a time.
//! A job that is alone has every turn, and so all places. One that has them all keeps them until its sequences end; what waits then is not only
//! the next large job: small ones may join before those that stand in front of them in the queue, and wait for their turn here.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Instant;

use super::{JobId, Observation, Role, Scheduler, SequenceKey, Stage};
use crate::engine::queue::Standing;
use crate::engine::{Job, Rule};

/// Most jobs that wait for more places than they have while others still join, small ones aside. More of them would only slow each other down.
const MOST_CROWDED: usize = 4;

/// A job is small if it takes at most one part in so many of the batch. Those that pass a larger one may take no more than that together.
const SMALL: usize = 3;

/// Since when a job waits for its turns. Turns and arrivals are counted together, so no two of these are the same.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turns {
    /// It has joined, or was last given a place.
    place: u64,
    /// It has joined, or a prompt of it was last run to its end.
    prompt: u64,
}

impl Turns {
    /// Those of a job that joins now.
    pub(super) fn since(now: u64) -> Self {
        Self {
            place: now,
            prompt: now,
        }
    }
}

/// Room for jobs to join.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct Room {
    pub(super) seats: usize,
    pub(super) vision: usize,
    /// Seats for jobs that pass a larger one.
    pub(super) passing: usize,
    /// Most seats of a small job.
    pub(super) small: usize,
    /// Whether as many large jobs take turns as may.
    crowded: bool,
    /// Whether the first in the queue is large and has to wait.
    passable: bool,
}

impl Room {
    /// Whether a job that stands there in the queue may join; if so its part of the room is taken. Small jobs pass a large one that stands
    /// first and has to wait, and do not wait for the end of large ones that take turns.
    pub(in crate::engine) fn admit(&mut self, job: &Job, place: Standing) -> bool {
        match place {
            Standing::First => {
                let small = job.seats() <= self.small;
                let joins = self.take(job) || (small && self.crowded && self.pass(job));
                self.passable = !joins && !small;
                joins
            }
            Standing::Behind => self.passable && self.pass(job),
        }
    }

    /// Whether the job may join; if so its part of the room is taken. The last to join may take more than is left.
    pub(super) fn take(&mut self, job: &Job) -> bool {
        let (sequences, images) = (job.seats(), job.images.len() + job.codes.len());
        if (sequences > 0 && self.seats == 0) || !self.sees(job) {
            return false;
        }
        self.seats = self.seats.saturating_sub(sequences);
        self.vision = self.vision.saturating_sub(images);
        true
    }

    /// Whether the job may join before larger ones that came first, if only small ones wait for their first place.
    fn pass(&mut self, job: &Job) -> bool {
        let (sequences, images) = (job.seats(), job.images.len() + job.codes.len());
        if sequences > self.passing || images > self.vision || !self.sees(job) {
            return false;
        }
        self.passing -= sequences;
        self.seats = self.seats.saturating_sub(sequences);
        self.vision -= images;
        true
    }

    /// Whether there is room for what the VQ-GAN has to do for it. What will be drawn takes no room yet, but joins none while as many images
    /// wait as may: they would only wait longer.
    fn sees(&self, job: &Job) -> bool {
        let draws = job.sequences.iter().any(|spec| spec.draw && spec.rule != Rule::Text);
        self.vision > 0 || (job.images.is_empty() && job.codes.is_empty() && !draws)
    }
}

impl Scheduler {
    /// The room for further jobs: so many sequences as fill the batch, and two VQ-GAN batches. More than that waits better in the queue,
    /// where it is bounded and counted; so nobody joins while a job waits for its first place. Jobs that wait for more places than they have
    /// count for no more than their share of the batch, so others join beside them, and take turns with them.
    pub(in crate::engine) fn room(&self) -> Room {
        let (mut seated, mut blocked, mut crowded, mut outside) = (0, false, Vec::new(), 0);
        for job in self.jobs.values() {
            let (mut seats, mut placed, mut waits) = (0, false, false);
            for (_, sequence) in self.sequences.range(job.keys.clone()) {
                seats += usize::from(sequence.stage != Stage::Drawing);
                placed |= sequence.span().is_some();
                waits |= sequence.stage == Stage::WaitingForKv && sequence.role != Role::Guide;
            }
            if !placed {
                outside += seats;
            }
            match (waits, placed) {
                (false, _) => seated += seats,
                (true, false) => blocked = true,
                (true, true) => crowded.push(seats),
            }
        }
        let small = (self.max_batch / SMALL).max(1);
        // One share more than there are such jobs: it is for whoever joins.
        let share = self.max_batch / (crowded.len() + 1);
        seated += crowded.iter().map(|seats| share.min(*seats)).sum::<usize>();
        let many = crowded.len() >= MOST_CROWDED;
        let closed = blocked || many;
        Room {
            seats: if closed {
                0
            } else {
                self.max_batch.saturating_sub(seated)
            },
            vision: (2 * self.facts.vision_batch).saturating_sub(self.lines.waiting()),
            passing: small.saturating_sub(outside),
            small,
            crowded: many,
            passable: false,
        }
    }

    /// The number of the next arrival or turn.
    pub(super) fn next_turn(&mut self) -> u64 {
        self.turn += 1;
        self.turn
    }

    /// Reserves KV memory, by turns; the first that does not fit holds the line.
    pub(super) fn place(&mut self, now: Instant) {
        let mut taken = self.running_sequences();
        // Jobs in order of their turns, with the sequences that have not been looked at.
        let mut line: BTreeMap<u64, (JobId, Range<SequenceKey>)> = self
            .jobs
            .iter()
            .map(|(&id, job)| (job.turns.place, (id, job.keys.clone())))
            .collect();
        while let Some((_, (id, keys))) = line.pop_first() {
            let Some(key) = self.first_waiting(keys.clone()) else {
                continue;
            };
            let Some(places) = self.seat(key, taken, now) else {
                break;
            };
            taken += places;
            let turn = self.next_turn();
            if let Some(job) = self.jobs.get_mut(&id) {
                job.turns.place = turn;
            }
            line.insert(turn, (id, key + 1..keys.end));
        }
    }

    /// The first of these that waits for memory. A guide gets it with the reply that it guides.
    fn first_waiting(&self, keys: Range<SequenceKey>) -> Option<SequenceKey> {
        let mut sequences = self.sequences.range(keys);
        let waits =
            sequences.find(|(_, sequence)| sequence.stage == Stage::WaitingForKv && sequence.role != Role::Guide);
        waits.map(|(&key, _)| key)
    }

    /// Gives a sequence, and its guide if it has one, memory beside the `taken` places; gives the places that they take, or `None` where they
    /// do not fit.
    fn seat(&mut self, key: SequenceKey, taken: usize, now: Instant) -> Option<usize> {
        let sequence = self.sequences.get(&key)?;
        let need = sequence.kv_need(&self.rules);
        let guide = match sequence.role {
            Role::Guided => Some(key.checked_sub(1)?),
            Role::Alone | Role::Guide => None,
        };
        let guide_need = match guide {
            Some(guide) => Some(self.sequences.get(&guide)?.kv_need(&self.rules)),
            None => None,
        };
        // Who is alone may always run, though a pair takes two places.
        let places = 1 + usize::from(guide.is_some());
        if taken > 0 && taken + places > self.max_batch {
            return None;
        }
        let span = self.kv.reserve(need)?;
        if let (Some(guide), Some(need)) = (guide, guide_need) {
            let Some(beside) = self.kv.reserve(need) else {
                self.kv.release(span);
                return None;
            };
            if let Some(guide) = self.sequences.get_mut(&guide) {
                guide.stage = Stage::Prefilling(beside);
            }
        }
        if let Some(sequence) = self.sequences.get_mut(&key) {
            sequence.stage = Stage::Prefilling(span);
            let waited = sequence.begin(now).map(Observation::Queue);
            self.told.observations.extend(waited);
        }
        Some(places)
    }

    /// Those whose prompt is being run, in the order in which prompts share a step: the first of each job, the jobs by turns, then the second
    /// of each, and so on. Those of one job stay in order of arrival, as their twins and guides need it.
    pub(super) fn prompts_by_turns(&self) -> Vec<SequenceKey> {
        let mut before: BTreeMap<JobId, usize> = BTreeMap::new();
        let mut order = Vec::new();
        for (&key, sequence) in &self.sequences {
            if !matches!(sequence.stage, Stage::Prefilling(_)) {
                continue;
            }
            let rank = before.entry(sequence.job).or_default();
            let turn = self.jobs.get(&sequence.job).map_or(0, |job| job.turns.prompt);
            order.push((*rank, turn, key));
            // A guide and the reply that it guides are one.
            *rank += usize::from(sequence.role != Role::Guide);
        }
        order.sort_unstable();
        order.into_iter().map(|(_, _, key)| key).collect()
    }

    /// A prompt of the job has been run to its end: those of others come first now.
    pub(super) fn prompt_has_run(&mut self, job: JobId) {
        let turn = self.next_turn();
        if let Some(job) = self.jobs.get_mut(&job) {
            job.turns.prompt = turn;
        }
    }
}
