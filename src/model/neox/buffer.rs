//! Inputs of the matrices of one visit: rows that a team of threads fills and reads in turns.

use crate::model::kernels::{Inputs, Kernels, Shared};

/// Inputs of a matrix: rows padded with zeros, and the same rounded where the kernels want it.
pub(super) struct Buffer {
    values: Vec<f32>,
    rounded: Vec<u16>,
    stride: usize,
}

impl Buffer {
    /// Room for `rows` rows of `columns` values; also rounded to bf16 if `rounds`.
    pub(super) fn new(rows: usize, columns: usize, rounds: bool) -> Self {
        let stride = columns.next_multiple_of(Kernels::PADDING);
        let len = stride * rows;
        Self {
            values: vec![0.0; len],
            rounded: vec![0; if rounds { len } else { 0 }],
            stride,
        }
    }

    /// Hands it to a team.
    pub(super) fn share(&mut self) -> SharedBuffer<'_> {
        SharedBuffer {
            stride: self.stride,
            rounds: !self.rounded.is_empty(),
            values: Shared::new(&mut self.values),
            rounded: Shared::new(&mut self.rounded),
        }
    }
}

/// A [`Buffer`] in the hands of a team.
pub(super) struct SharedBuffer<'a> {
    values: Shared<'a, f32>,
    rounded: Shared<'a, u16>,
    stride: usize,
    rounds: bool,
}

impl SharedBuffer<'_> {
    /// Lets `fill` write `len` values of `row` from `start`, and rounds them.
    ///
    /// # Safety
    /// No other thread reads or writes these before the next barrier.
    pub(super) unsafe fn write(
        &self,
        kernels: &Kernels,
        row: usize,
        start: usize,
        len: usize,
        fill: impl FnOnce(&mut [f32]),
    ) {
        let start = row * self.stride + start;
        // SAFETY: the caller's promise.
        let values = unsafe { self.values.part_mut(start, len) };
        fill(values);
        if self.rounds {
            // SAFETY: the caller's promise.
            kernels.round(values, unsafe { self.rounded.part_mut(start, len) });
        }
    }

    /// The first `count` rows.
    ///
    /// # Safety
    /// No thread writes to them before the next barrier.
    pub(super) unsafe fn inputs(&self, count: usize) -> Inputs<'_> {
        let len = count * self.stride;
        // SAFETY: the caller's promise.
        unsafe {
            Inputs {
                values: self.values.part(0, len),
                rounded: self.rounded.part(0, if self.rounds { len } else { 0 }),
                stride: self.stride,
                count,
            }
        }
    }
}
