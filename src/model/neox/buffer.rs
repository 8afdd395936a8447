//! Inputs of the matrices of one visit: rows that a team of threads fills and reads in turns.

use std::ops::Range;

use tch::Kind;

use crate::model::kernels::{Fixed, FixedMut, Inputs, Kernels, Shared, Target};

/// What the matrices of a network read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// f32.
    Floats,
    /// bf16.
    Rounded,
    /// Fixed point, in bytes.
    Bytes,
    /// Fixed point, in 16-bit words.
    Words,
}

impl Form {
    /// What matrices read in a network that computes in `kind`, quantised ones or those of this type.
    pub(super) fn of(kind: Kind, quantised: bool) -> Self {
        match kind {
            _ if quantised && Kernels::best().multiplies_bytes() => Self::Bytes,
            _ if quantised => Self::Words,
            Kind::BFloat16 if Kernels::best().rounds_inputs() => Self::Rounded,
            _ => Self::Floats,
        }
    }

    /// Whether whole groups of a row have to be there before they are brought to this form ([`SharedBuffer::fix`]).
    pub(super) fn is_fixed(self) -> bool {
        matches!(self, Self::Bytes | Self::Words)
    }

    /// `count` if this is the `wanted` form, else none.
    fn rows(self, wanted: Self, count: usize) -> usize {
        if self == wanted { count } else { 0 }
    }
}

/// Inputs of a matrix: rows padded with zeros, and the same in the form that the kernels want.
pub(super) struct Buffer {
    form: Form,
    values: Vec<f32>,
    rounded: Vec<u16>,
    bytes: Vec<i8>,
    words: Vec<i16>,
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
        let groups = if form.is_fixed() {
            rows * stride / Fixed::GROUP
        } else {
            0
        };
        Self {
            form,
            values: vec![0.0; rows * stride],
            rounded: vec![0; form.rows(Form::Rounded, rows) * stride],
            bytes: vec![0; form.rows(Form::Bytes, rows) * stride],
            words: vec![0; form.rows(Form::Words, rows) * stride],
            scales: vec![0.0; groups],
            offsets: vec![0; groups],
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
            bytes: Shared::new(&mut self.bytes),
            words: Shared::new(&mut self.words),
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
    bytes: Shared<'a, i8>,
    words: Shared<'a, i16>,
    scales: Shared<'a, f32>,
    offsets: Shared<'a, i32>,
    stride: usize,
}

impl SharedBuffer<'_> {
    /// `len` columns from `start` of some rows, to be written in the form that matrices read. In fixed point a row is not ready before [`Self::fix`].
    ///
    /// # Safety
    /// No other thread reads or writes these before the next barrier.
    pub(super) unsafe fn columns_mut(&self, rows: Range<usize>, start: usize, len: usize) -> Target<'_> {
        let (start, shape) = (rows.start * self.stride + start, [rows.len(), len]);
        // SAFETY: the caller's promise.
        unsafe {
            match self.form {
                Form::Rounded => Target::Rounded(self.rounded.columns_mut(start, shape, self.stride)),
                Form::Floats | Form::Bytes | Form::Words => {
                    Target::Values(self.values.columns_mut(start, shape, self.stride))
                }
            }
        }
    }

    /// Brings a whole row, which was written before, to fixed point if the form is that.
    ///
    /// # Safety
    /// No other thread reads or writes the row before the next barrier.
    pub(super) unsafe fn fix(&self, kernels: &Kernels, row: usize) {
        if !self.form.is_fixed() {
            return;
        }
        let (stride, groups) = (self.stride, self.stride / Fixed::GROUP);
        let part = |wanted| (self.form.rows(wanted, row) * stride, self.form.rows(wanted, 1) * stride);
        let (bytes, words) = (part(Form::Bytes), part(Form::Words));
        // SAFETY: the caller's promise.
        unsafe {
            let to = FixedMut {
                bytes: self.bytes.part_mut(bytes.0, bytes.1),
                words: self.words.part_mut(words.0, words.1),
                scales: self.scales.part_mut(row * groups, groups),
                offsets: self.offsets.part_mut(row * groups, groups),
            };
            kernels.fix(self.values.part(row * stride, stride), to);
        }
    }

    /// The first `count` rows.
    ///
    /// # Safety
    /// No thread writes to them before the next barrier.
    pub(super) unsafe fn inputs(&self, count: usize) -> Inputs<'_> {
        let (form, stride) = (self.form, self.stride);
        let groups = if form.is_fixed() {
            count * stride / Fixed::GROUP
        } else {
            0
        };
        // SAFETY: the caller's promise.
        unsafe {
            Inputs {
                values: self.values.part(0, count * stride),
                rounded: self.rounded.part(0, form.rows(Form::Rounded, count) * stride),
                fixed: Fixed {
                    bytes: self.bytes.part(0, form.rows(Form::Bytes, count) * stride),
                    words: self.words.part(0, form.rows(Form::Words, count) * stride),
                    scales: self.scales.part(0, groups),
                    offsets: self.offsets.part(0, groups),
                },
                stride,
                count,
            }
        }
    }
}
