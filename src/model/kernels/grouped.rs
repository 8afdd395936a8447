//! Weights in 8 or 4 bits: groups of columns share a scale.
//!
//! Sixteen rows make a panel. Its codes lie in the order in which they are read: group after group, and within a group line after line,
//! a line being 64 bytes, four for each row. The kernels hold one row per lane, so that neither scales nor sums cross lanes.

use rayon::prelude::*;

use super::pages::roomy;
use super::select::Kernels;

/// How weights are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// 8 bits: whole numbers in −127..=127; 64 columns share a scale.
    Int8,
    /// 4 bits: sixteen levels, closer together near zero; 32 columns share a scale.
    Int4,
}

/// Rows of a panel.
pub const PANEL: usize = 16;

/// 64 bytes as a cache holds them.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// In which of a row's four bytes of a line a column lies: bytes 0 and 2 are the first pair, bytes 1 and 3 the second.
const SLOT: [usize; 4] = [0, 2, 1, 3];

impl Format {
    /// Columns that share a scale.
    pub const fn columns(self) -> usize {
        match self {
            Format::Int8 => 64,
            Format::Int4 => 32,
        }
    }

    /// Lines of one group of a panel.
    const fn lines(self) -> usize {
        match self {
            Format::Int8 => 16,
            Format::Int4 => 4,
        }
    }

    /// Puts one row's codes of one group into its lines.
    fn place(self, codes: &[u8], row: usize, lines: &mut [Line]) {
        for (column, &code) in codes.iter().enumerate() {
            let byte = row * 4 + SLOT[column % 4];
            match self {
                Format::Int8 => lines[column / 4].0[byte] = code,
                // Columns 0..16 in the low halves, 16..32 in the high ones.
                Format::Int4 => lines[column % 16 / 4].0[byte] |= code << (column / 16 * 4),
            }
        }
    }
}

/// So many zeros, in large pages.
fn zeros<T: Clone>(count: usize, zero: T) -> Vec<T> {
    let mut room = roomy(count);
    room.resize(count, zero);
    room
}

/// A quantised matrix `[rows, columns]`.
pub struct Grouped {
    format: Format,
    rows: usize,
    columns: usize,
    /// Groups of a row.
    groups: usize,
    /// `[panels, groups, lines]`.
    cells: Vec<Line>,
    /// `[panels, groups, PANEL]`, bits of bf16.
    scales: Vec<u16>,
}

impl Grouped {
    /// Room for a matrix; [`Self::fill`] gives it values.
    pub fn new(format: Format, rows: usize, columns: usize) -> Self {
        let groups = columns.div_ceil(format.columns());
        let blocks = rows.div_ceil(PANEL) * groups;
        Self {
            format,
            rows,
            columns,
            groups,
            cells: zeros(blocks * format.lines(), Line([0; 64])),
            scales: zeros(blocks * PANEL, 0),
        }
    }

    /// Quantises `values` (whole rows) into the rows from `start`, which begins a panel; each row is given once. Rows that hold a
    /// number that is not finite give NaN.
    ///
    /// # Panics
    /// If they do not fit.
    pub fn fill(&mut self, kernels: &Kernels, start: usize, values: &[f32]) {
        let (columns, groups, format) = (self.columns, self.groups, self.format);
        let rows = values.len() / columns.max(1);
        assert!(start.is_multiple_of(PANEL) && values.len() == rows * columns && start + rows <= self.rows);
        let first = start / PANEL * groups;
        let cells = self.cells[first * format.lines()..].par_chunks_mut(groups * format.lines());
        let scales = self.scales[first * PANEL..].par_chunks_mut(groups * PANEL);
        let panels = values.par_chunks(PANEL * columns).zip(cells.zip(scales));
        panels.for_each(|(values, (cells, scales))| {
            let mut codes = [0; 64];
            let mut padded = [0.0; 64];
            let (padded, codes) = (&mut padded[..format.columns()], &mut codes[..format.columns()]);
            for (row, values) in values.chunks_exact(columns).enumerate() {
                for (group, part) in values.chunks(format.columns()).enumerate() {
                    padded[..part.len()].copy_from_slice(part);
                    padded[part.len()..].fill(0.0);
                    codes.fill(0);
                    scales[group * PANEL + row] = kernels.codes(format, padded, codes);
                    let lines = &mut cells[group * format.lines()..(group + 1) * format.lines()];
                    format.place(codes, row, lines);
                }
            }
        });
    }

    /// How its weights are held.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Groups of a row.
    pub(super) fn groups(&self) -> usize {
        self.groups
    }

    /// Bytes of codes and scales.
    pub fn bytes(&self) -> usize {
        size_of_val(self.cells.as_slice()) + size_of_val(self.scales.as_slice())
    }

    /// Codes and scales from the panel of number `panel`; what follows them are those of the next panels.
    ///
    /// # Panics
    /// If there is no such panel.
    pub(super) fn panel(&self, panel: usize) -> (*const u8, *const u16) {
        let first = panel * self.groups;
        let (cells, scales) = (
            &self.cells[first * self.format.lines()..],
            &self.scales[first * PANEL..],
        );
        (cells.as_ptr().cast(), scales.as_ptr())
    }
}
