//! Inputs of the matrices of one visit: rows that a team of threads fills and reads in turns.

use tch::Kind;

use crate::model::kernels::{Fixed, Inputs, Kernels, Shared};

/// What the matrices of a network read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// f32.
    Floats,
    /// bf16.
    Rounded,
    /// Fixed point.
    Fixed,
}

impl Form {
    /// What matrices read in a network that computes in `kind`, quantised ones or those of this type.
    pub(super) fn of(kind: Kind, quantised: bool) -> Self {
        match kind {
            _ if quantised => Self::Fixed,
            Kind::BFloat16 if Kernels::best().rounds_inputs() => Self::Rounded,
            _ => Self::Floats,
        }
    }
}

/// Inputs of a matrix: rows padded with zeros, and the same in the form that the kernels want.
pub(super) struct Buffer {
    form: Form,
    values: Vec<f32>,
    rounded: Vec<u16>,
    fixed: Vec<i16>,
    scales: Vec<f32>,
    offsets: Vec<i32>,
    stride: usize,
}

impl Buffer {
    /// Room for `rows` rows of `columns` values.
    pub(super) fn new(rows: usize, columns: usize, form: Form) -> Self {
        let mut stride = columns.next_multiple_of(Kernels::PADDING);
        if stride.is_multiple_of(512) {
            // Rows that lie a multiple of a page apart would drive each other out of the nearest cache.
            stride += Kernels::PADDING;
        }
        let rows_of = |wanted| if form == wanted { rows } else { 0 };
        let fixed = rows_of(Form::Fixed);
        Self {
            form,
            values: vec![0.0; rows * stride],
            rounded: vec![0; rows_of(Form::Rounded) * stride],
            fixed: vec![0; fixed * stride],
            scales: vec![0.0; fixed * stride.div_ceil(Fixed::BLOCK)],
            offsets: vec![0; fixed * stride / Fixed::GROUP],
            stride,
        }
    }

    /// Hands it to a team.
    pub(super) fn share(&mut self) -> SharedBuffer<'_> {
        SharedBuffer {
            form: self.form,
            stride: self.stride,
            values: Shared::new(&mut self.values),
            rounded: Shared::new(&mut self.rounded),
            fixed: Shared::new(&mut self.fixed),
            scales: Shared::new(&mut self.scales),
            offsets: Shared::new(&mut self.offsets),
        }
    }
}

/// A [`Buffer`] in the hands of a team.
pub(super) struct SharedBuffer<'a> {
    form: Form,
    values: Shared<'a, f32>,
    rounded: Shared<'a, u16>,
    fixed: Shared<'a, i16>,
    scales: Shared<'a, f32>,
    offsets: Shared<'a, i32>,
    stride: usize,
}

impl SharedBuffer<'_> {
    /// Lets `fill` write `len` values of `row` from `start`, and rounds them if the form is that. In fixed point the row is not ready
    /// before [`Self::fix`].
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
        if self.form == Form::Rounded {
            // SAFETY: the caller's promise.
            kernels.round(values, unsafe { self.rounded.part_mut(start, len) });
        }
    }

    /// [`Self::write`] of `values` that lie elsewhere.
    ///
    /// # Safety
    /// As for [`Self::write`].
    pub(super) unsafe fn put(&self, kernels: &Kernels, row: usize, start: usize, values: &[f32]) {
        let start = row * self.stride + start;
        // SAFETY: the caller's promise.
        unsafe {
            match self.form {
                // Only these are read.
                Form::Rounded => kernels.round(values, self.rounded.part_mut(start, values.len())),
                Form::Floats | Form::Fixed => self.values.part_mut(start, values.len()).copy_from_slice(values),
            }
        }
    }

    /// Brings a whole row, which was written before, to fixed point if the form is that. Its blocks need all their values.
    ///
    /// # Safety
    /// No other thread reads or writes the row before the next barrier.
    pub(super) unsafe fn fix(&self, kernels: &Kernels, row: usize) {
        if self.form != Form::Fixed {
            return;
        }
        let (start, blocks, groups) = (
            row * self.stride,
            self.stride.div_ceil(Fixed::BLOCK),
            self.stride / Fixed::GROUP,
        );
        // SAFETY: the caller's promise.
        unsafe {
            kernels.fix(
                self.values.part(start, self.stride),
                self.fixed.part_mut(start, self.stride),
                self.scales.part_mut(row * blocks, blocks),
                self.offsets.part_mut(row * groups, groups),
            );
        }
    }

    /// The first `count` rows.
    ///
    /// # Safety
    /// No thread writes to them before the next barrier.
    pub(super) unsafe fn inputs(&self, count: usize) -> Inputs<'_> {
        let rows_of = |wanted| if self.form == wanted { count } else { 0 };
        let (fixed, stride) = (rows_of(Form::Fixed), self.stride);
        // SAFETY: the caller's promise.
        unsafe {
            Inputs {
                values: self.values.part(0, count * stride),
                rounded: self.rounded.part(0, rows_of(Form::Rounded) * stride),
                fixed: Fixed {
                    values: self.fixed.part(0, fixed * stride),
                    scales: self.scales.part(0, fixed * stride.div_ceil(Fixed::BLOCK)),
                    offsets: self.offsets.part(0, fixed * stride / Fixed::GROUP),
                },
                stride,
                count,
            }
        }
    }
}
