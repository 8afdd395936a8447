//! What a set of kernels does with quantised weights.

use super::cells::{Cells, Fixed, FixedMut, Inputs};
use super::grouped::{Format, Grouped, PANEL};
use super::panels;
use super::sets::Kernels;

/// Where widened weights go: whole rows of a matrix.
pub enum WideMut<'a> {
    /// f32.
    F32(&'a mut [f32]),
    /// The bits of bf16.
    Bf16(&'a mut [u16]),
}

/// What quantised weights of one format need.
#[derive(Clone, Copy)]
pub(super) struct Quantised {
    pub product: unsafe fn(&panels::Job),
    pub widen: unsafe fn(&panels::WidenJob),
    pub codes: unsafe fn(&[f32], &mut [u8]) -> u16,
}

/// Compiles the kernels of one format.
macro_rules! quantised {
    ($module:ident, $whole:ty, $layout:ty, $codes:expr $(, $feature:literal)?) => {
        pub(super) mod $module {
            use super::*;

            // SAFETY (of every block below): the caller has the feature, and the same promises hold.
            $(#[target_feature(enable = $feature)])?
            unsafe fn product(job: &panels::Job) {
                unsafe { panels::product::<$whole, $layout>(job) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn widen(job: &panels::WidenJob) {
                unsafe { panels::widen::<$whole, $layout>(job) }
            }
            $(#[target_feature(enable = $feature)])?
            #[allow(unused_unsafe)] // In 8 bits it is plain code.
            unsafe fn codes(weights: &[f32], to: &mut [u8]) -> u16 {
                unsafe { $codes(weights, to) }
            }

            pub const QUANTISED: Quantised = Quantised { product, widen, codes };
        }
    };
}

pub(super) use quantised;

impl Kernels {
    fn of(&self, format: Format) -> &Quantised {
        match format {
            Format::Int8 => &self.int8,
            Format::Int4 => &self.int4,
        }
    }

    /// [`Self::product`] with the rows of `weights` from `start`, which begins a panel: `out` is `[inputs.count, rows]`, and its length
    /// says how many rows. Reads [`Inputs::fixed`].
    ///
    /// # Panics
    /// If the lengths do not agree.
    pub fn grouped_product(&self, weights: &Grouped, start: usize, inputs: Inputs<'_>, out: &mut [f32]) {
        let (count, stride, fixed) = (inputs.count, inputs.stride, inputs.fixed);
        let rows = out.len() / count.max(1);
        assert!(out.len() == rows * count && start.is_multiple_of(PANEL) && start + rows <= weights.rows());
        assert!(weights.columns() <= stride && stride.is_multiple_of(Self::PADDING));
        let values = if self.bytes {
            fixed.bytes.len()
        } else {
            fixed.words.len()
        };
        assert!(
            values >= count * stride && fixed.scales.len().min(fixed.offsets.len()) >= count * stride / Fixed::GROUP
        );
        if rows == 0 {
            return;
        }
        let (cells, scales) = weights.panel(start / PANEL);
        let job = panels::Job {
            cells,
            scales,
            groups: weights.groups(),
            rows,
            bytes: fixed.bytes.as_ptr(),
            words: fixed.words.as_ptr(),
            input_scales: fixed.scales.as_ptr(),
            offsets: fixed.offsets.as_ptr(),
            stride,
            count,
            out: out.as_mut_ptr(),
        };
        // SAFETY: lengths are checked here, and the instruction set when `self` was given away.
        unsafe { (self.of(weights.format()).product)(&job) }
    }

    /// The rows of one panel as numbers: `out` is `[rows, columns]`, where `rows` is [`PANEL`] or, in the last panel, what is left.
    ///
    /// # Panics
    /// If there is no such panel or the length does not agree.
    pub fn widen(&self, weights: &Grouped, panel: usize, out: WideMut<'_>) {
        let columns = weights.columns();
        let rows = PANEL.min(weights.rows().saturating_sub(panel * PANEL));
        let (len, out) = match out {
            WideMut::F32(out) => (out.len(), panels::Wide::F32(out.as_mut_ptr())),
            WideMut::Bf16(out) => (out.len(), panels::Wide::Bf16(out.as_mut_ptr())),
        };
        assert!(rows > 0 && len == rows * columns);
        let (cells, scales) = weights.panel(panel);
        let job = panels::WidenJob {
            cells,
            scales,
            groups: weights.groups(),
            rows,
            columns,
            out,
        };
        // SAFETY: lengths are checked here, and the instruction set when `self` was given away.
        unsafe { (self.of(weights.format()).widen)(&job) }
    }

    /// Codes and scale (the bits of a bf16) of one group of a row of `weights`, rows of `columns`: `codes` is as long as a group of the format, beyond the
    /// last column it is as for zeros.
    ///
    /// # Panics
    /// If there is no such group, or `codes` is not as long.
    pub(super) fn group(
        &self,
        format: Format,
        weights: Cells<'_>,
        columns: usize,
        row: usize,
        group: usize,
        codes: &mut [u8],
    ) -> u16 {
        let mut padded = [0.0; 64];
        let (padded, column) = (&mut padded[..format.columns()], group * format.columns());
        let part = weights.part(row * columns + column, format.columns().min(columns - column));
        part.widen(&mut padded[..part.len()]);
        assert!(codes.len() == padded.len());
        codes.fill(0);
        // SAFETY: the instruction set was checked when `self` was given away.
        unsafe { (self.of(format).codes)(padded, codes) }
    }

    /// Whether products with quantised weights read [`Fixed::bytes`], else [`Fixed::words`].
    pub fn multiplies_bytes(&self) -> bool {
        self.bytes
    }

    /// Whole groups of a row of inputs in fixed point, in the form that products read.
    ///
    /// # Panics
    /// If the lengths do not agree.
    pub fn fix(&self, from: &[f32], to: FixedMut<'_>) {
        let values = if self.bytes { to.bytes.len() } else { to.words.len() };
        assert!(from.len().is_multiple_of(Fixed::GROUP) && values == from.len());
        assert!(to.scales.len() == from.len() / Fixed::GROUP && to.offsets.len() == to.scales.len());
        // SAFETY: the instruction set was checked when `self` was given away.
        unsafe { (self.fix)(from, to) }
    }
}
