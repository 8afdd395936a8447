//! The VQ-GAN's waiting lines: encodes and drawings, batched, taking turns; and in each line jobs take turns.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use super::{JobId, SequenceKey};
use crate::engine::{Facts, VisionOutput, VisionWork};
use crate::radiograph::Pixels;

/// An image that waits for its codes.
#[derive(Debug)]
pub(super) struct Encode {
    pub(super) job: JobId,
    /// Index in the job's images.
    pub(super) image: usize,
    pub(super) pixels: Arc<Pixels>,
}

/// Codes that wait to be drawn.
#[derive(Debug)]
pub(super) struct Draw {
    pub(super) job: JobId,
    /// The reply they come from; `None` for the job's own codes.
    pub(super) reply: Option<SequenceKey>,
    /// What the event calls it.
    pub(super) name: usize,
    pub(super) codes: Vec<u16>,
}

/// Whose an item is.
trait Owned {
    fn job(&self) -> JobId;
}

impl Owned for Encode {
    fn job(&self) -> JobId {
        self.job
    }
}

impl Owned for Draw {
    fn job(&self) -> JobId {
        self.job
    }
}

/// Items that wait. The next is the first one of the job that has waited longest since its last turn, so that an image of one job does not wait
/// for all of another's, and none waits for ever.
#[derive(Debug)]
struct Line<T> {
    items: VecDeque<T>,
    /// When each job in it came or had its last turn, in turns.
    turns: BTreeMap<JobId, u64>,
    turn: u64,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self {
            items: VecDeque::new(),
            turns: BTreeMap::new(),
            turn: 0,
        }
    }
}

impl<T: Owned> Line<T> {
    fn push(&mut self, item: T) {
        self.turn += 1;
        self.turns.entry(item.job()).or_insert(self.turn);
        self.items.push_back(item);
    }

    fn next(&mut self) -> Option<T> {
        let since = |item: &T| self.turns.get(&item.job()).copied().unwrap_or(0);
        // The first of several of one job, as `min_by_key` has it.
        let (at, _) = self.items.iter().enumerate().min_by_key(|(_, item)| since(item))?;
        let item = self.items.remove(at)?;
        self.turn += 1;
        match self.items.iter().any(|other| other.job() == item.job()) {
            true => self.turns.insert(item.job(), self.turn),
            false => self.turns.remove(&item.job()),
        };
        Some(item)
    }

    /// The next `count`, or as many as there are.
    fn take(&mut self, count: usize) -> Vec<T> {
        std::iter::from_fn(|| self.next()).take(count).collect()
    }

    fn forget(&mut self, job: JobId) {
        self.items.retain(|item| item.job() != job);
        self.turns.remove(&job);
    }

    fn len(&self) -> usize {
        self.items.len()
    }
}

/// The items of the pass under way.
#[derive(Debug)]
pub(super) enum Items {
    Encodes(Vec<Encode>),
    Draws(Vec<Draw>),
}

/// The pass under way.
#[derive(Debug)]
pub(super) struct Pass {
    pub(super) items: Items,
    pub(super) began: Instant,
}

impl Pass {
    /// The jobs in it.
    pub(super) fn jobs(&self) -> Vec<JobId> {
        match &self.items {
            Items::Encodes(items) => items.iter().map(|item| item.job).collect(),
            Items::Draws(items) => items.iter().map(|item| item.job).collect(),
        }
    }
}

/// The lines and the pass under way.
#[derive(Debug, Default)]
pub(super) struct VisionLines {
    encodes: Line<Encode>,
    draws: Line<Draw>,
    under_way: Option<Pass>,
    /// Whose turn it is when both wait.
    draws_next: bool,
}

impl VisionLines {
    pub(super) fn push_encode(&mut self, item: Encode) {
        self.encodes.push(item);
    }

    pub(super) fn push_draw(&mut self, item: Draw) {
        self.draws.push(item);
    }

    /// Images that wait (those in the pass under way not counted).
    pub(super) fn waiting(&self) -> usize {
        self.encodes.len() + self.draws.len()
    }

    /// The pass under way.
    pub(super) fn under_way(&self) -> Option<&Pass> {
        self.under_way.as_ref()
    }

    /// Forms the next pass, if none is under way and something waits: of 1, 2, 4, … images, at most `batch`. Libraries choose their kernels anew for every number
    /// of images, which takes longer than a pass.
    pub(super) fn begin(&mut self, batch: usize, now: Instant) -> Option<VisionWork> {
        if self.under_way.is_some() || self.waiting() == 0 {
            return None;
        }
        let draw = if self.encodes.len() == 0 {
            true
        } else {
            self.draws.len() > 0 && self.draws_next
        };
        self.draws_next = !draw;
        let number = |waiting: usize| 1 << batch.min(waiting).max(1).ilog2();
        let (items, work) = if draw {
            let items = self.draws.take(number(self.draws.len()));
            let work = VisionWork::Decode(items.iter().map(|item| item.codes.clone()).collect());
            (Items::Draws(items), work)
        } else {
            let items = self.encodes.take(number(self.encodes.len()));
            let work = VisionWork::Encode(items.iter().map(|item| Arc::clone(&item.pixels)).collect());
            (Items::Encodes(items), work)
        };
        self.under_way = Some(Pass { items, began: now });
        Some(work)
    }

    /// Ends the pass under way.
    pub(super) fn end(&mut self) -> Option<Pass> {
        self.under_way.take()
    }

    /// Forgets what of the job waits. What is in the pass under way stays there, without an owner.
    pub(super) fn forget(&mut self, job: JobId) {
        self.encodes.forget(job);
        self.draws.forget(job);
    }
}

/// Whether the output is what the items asked for.
pub(super) fn fits(items: &Items, output: &VisionOutput, facts: &Facts) -> bool {
    match (items, output) {
        (Items::Encodes(items), VisionOutput::Codes(codes)) => {
            let good = |codes: &Vec<u16>| {
                codes.len() == facts.codes_per_image && codes.iter().all(|&code| usize::from(code) < facts.code_count)
            };
            items.len() == codes.len() && codes.iter().all(good)
        }
        (Items::Draws(items), VisionOutput::Images(images)) => {
            let good = |image: &Pixels| image.width() == facts.image_side && image.height() == facts.image_side;
            items.len() == images.len() && images.iter().all(good)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(job: JobId) -> Encode {
        Encode {
            job,
            image: 0,
            pixels: Arc::new(Pixels::new(1, 1, vec![0; 3]).unwrap()),
        }
    }

    fn draw(job: JobId) -> Draw {
        Draw {
            job,
            reply: None,
            name: 0,
            codes: vec![1],
        }
    }

    #[test]
    fn encodes_and_drawings_take_turns_in_full_batches() {
        let mut lines = VisionLines::default();
        let now = Instant::now();
        (0..5).for_each(|job| lines.push_encode(encode(job)));
        (5..8).for_each(|job| lines.push_draw(draw(job)));
        let mut order = Vec::new();
        while lines.begin(2, now).is_some() {
            assert!(lines.begin(2, now).is_none(), "one pass at a time");
            order.push(lines.end().unwrap().jobs());
        }
        assert_eq!(order, vec![vec![0, 1], vec![5, 6], vec![2, 3], vec![7], vec![4]]);
    }

    #[test]
    fn a_pass_has_a_power_of_two_of_images() {
        let mut lines = VisionLines::default();
        (0..29).for_each(|job| lines.push_encode(encode(job)));
        let mut sizes = Vec::new();
        while lines.begin(16, Instant::now()).is_some() {
            sizes.push(lines.end().unwrap().jobs().len());
        }
        assert_eq!(sizes, vec![16, 8, 4, 1]);
    }

    #[test]
    fn an_image_does_not_wait_for_all_of_another_job_and_no_job_waits_for_ever() {
        let mut lines = VisionLines::default();
        (0..6).for_each(|_| lines.push_encode(encode(0)));
        let mut order = Vec::new();
        for small in 1..5 {
            lines.push_encode(encode(small));
            for _ in 0..2 {
                assert!(lines.begin(1, Instant::now()).is_some());
                order.extend(lines.end().unwrap().jobs());
            }
        }
        assert_eq!(order, vec![0, 1, 0, 2, 0, 3, 0, 4]);
        assert_eq!(lines.waiting(), 2);
    }

    #[test]
    fn who_left_is_not_in_the_next_pass() {
        let mut lines = VisionLines::default();
        (0..3).for_each(|job| lines.push_encode(encode(job)));
        lines.forget(1);
        assert!(lines.begin(8, Instant::now()).is_some());
        assert_eq!(lines.end().unwrap().jobs(), vec![0, 2]);
    }
}
