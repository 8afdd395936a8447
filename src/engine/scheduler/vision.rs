//! The VQ-GAN's waiting lines: encodes and drawings, each in order of arrival, batched, taking turns.

use std::collections::VecDeque;
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
    encodes: VecDeque<Encode>,
    draws: VecDeque<Draw>,
    under_way: Option<Pass>,
    /// Whose turn it is when both wait.
    draws_next: bool,
}

impl VisionLines {
    pub(super) fn push_encode(&mut self, item: Encode) {
        self.encodes.push_back(item);
    }

    pub(super) fn push_draw(&mut self, item: Draw) {
        self.draws.push_back(item);
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
        let draw = if self.encodes.is_empty() {
            true
        } else {
            !self.draws.is_empty() && self.draws_next
        };
        self.draws_next = !draw;
        let number = |waiting: usize| 1 << batch.min(waiting).max(1).ilog2();
        let (items, work) = if draw {
            let items: Vec<Draw> = self.draws.drain(..number(self.draws.len())).collect();
            let work = VisionWork::Decode(items.iter().map(|item| item.codes.clone()).collect());
            (Items::Draws(items), work)
        } else {
            let items: Vec<Encode> = self.encodes.drain(..number(self.encodes.len())).collect();
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
        self.encodes.retain(|item| item.job != job);
        self.draws.retain(|item| item.job != job);
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
    fn who_left_is_not_in_the_next_pass() {
        let mut lines = VisionLines::default();
        (0..3).for_each(|job| lines.push_encode(encode(job)));
        lines.forget(1);
        assert!(lines.begin(8, Instant::now()).is_some());
        assert_eq!(lines.end().unwrap().jobs(), vec![0, 2]);
    }
}
