//! Weights in 8 or 4 bits: groups of columns share a scale.
//!
//! Sixteen rows make a panel. Its codes lie in the order in which they are read: group after group, and within a group line after line,
//! a line being 64 bytes, four for each row. The kernels hold one row per lane, so that neither scales nor sums cross lanes.

use rayon::prelude::*;

use super::cells::Cells;
use super::pages::roomy;
use super::sets::Kernels;
use super::stored::Stored;

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

impl Format {
    /// Columns that share a scale.
    pub const fn columns(self) -> usize {
        match self {
            Format::Int8 => 64,
            Format::Int4 => 32,
        }
    }

    /// Groups of a row of `columns`.
    pub const fn groups(self, columns: usize) -> usize {
        columns.div_ceil(self.columns())
    }

    /// Lines of one group of a panel.
    const fn lines(self) -> usize {
        match self {
            Format::Int8 => 16,
            Format::Int4 => 4,
        }
    }
}

/// Puts one row's bytes of one group, as [`Format::pack`] gives them, into its place in the group's lines, each changed by `flip`.
#[inline]
fn put(bytes: &[u8], flip: u8, lane: usize, lines: &mut [Line]) {
    for (line, four) in lines.iter_mut().zip(bytes.as_chunks::<4>().0) {
        line.0[lane * 4..lane * 4 + 4].copy_from_slice(&four.map(|byte| byte ^ flip));
    }
}

/// So many zeros, in large pages, which all threads touch first.
fn zeros<T: Copy + Send + Sync>(count: usize, zero: T) -> Vec<T> {
    let mut room = roomy(count);
    let numbers = (0..count).into_par_iter().with_min_len(1 << 12);
    numbers.map(|_| zero).collect_into_vec(&mut room);
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
    /// Quantises `weights`, rows of `columns`; row `r` of the matrix is row `order(r)` of them. Groups that hold a number that is not finite give NaN.
    ///
    /// # Panics
    /// If `weights` are not whole rows, or `order` names none of them.
    pub fn new(
        kernels: &Kernels,
        format: Format,
        weights: Cells<'_>,
        columns: usize,
        order: impl Fn(usize) -> usize + Sync,
    ) -> Self {
        let rows = weights.len() / columns.max(1);
        assert!(weights.len() == rows * columns);
        Self::made(format, [rows, columns], |row, group, lane, lines| {
            let (mut codes, mut bytes) = ([0; 64], [0; 64]);
            let (codes, bytes) = (&mut codes[..format.columns()], &mut bytes[..format.bytes()]);
            let scale = kernels.group(format, weights, columns, order(row), group, codes);
            format.pack(codes, bytes);
            put(bytes, format.flip(), lane, lines);
            scale
        })
    }

    /// What a file holds, `[rows, columns]`; row `r` of the matrix is row `order(r)` of it. The same bits as when its weights were quantised by [`Self::new`].
    ///
    /// # Panics
    /// If `stored` is not of this size, or `order` names none of its rows.
    pub fn stored(stored: Stored<'_>, [rows, columns]: [usize; 2], order: impl Fn(usize) -> usize + Sync) -> Self {
        assert!(stored.is_of([rows, columns]));
        let format = stored.format;
        Self::made(format, [rows, columns], |row, group, lane, lines| {
            let (bytes, scale) = stored.group(columns, order(row), group);
            let mut padded = [0; 64];
            let whole = match bytes.len() == format.bytes() {
                true => bytes,
                false => {
                    padded[..bytes.len()].copy_from_slice(bytes);
                    &padded[..format.bytes()]
                }
            };
            put(whole, format.flip(), lane, lines);
            scale
        })
    }

    /// The matrix of which `fill` writes one row's part of a group's lines, which is in each the four bytes of its lane, and gives the scale.
    fn made(
        format: Format,
        [rows, columns]: [usize; 2],
        fill: impl Fn(usize, usize, usize, &mut [Line]) -> u16 + Sync,
    ) -> Self {
        let groups = format.groups(columns);
        let blocks = rows.div_ceil(PANEL) * groups;
        let mut cells = zeros(blocks * format.lines(), Line([0; 64]));
        let mut scales = zeros(blocks * PANEL, 0);
        let panels = cells
            .par_chunks_mut((groups * format.lines()).max(1))
            .zip(scales.par_chunks_mut((groups * PANEL).max(1)));
        panels.enumerate().for_each(|(panel, (cells, scales))| {
            for lane in 0..PANEL.min(rows - panel * PANEL) {
                let lines = cells.chunks_exact_mut(format.lines()).enumerate();
                for (group, lines) in lines {
                    scales[group * PANEL + lane] = fill(panel * PANEL + lane, group, lane, lines);
                }
            }
        });
        Self {
            format,
            rows,
            columns,
            groups,
            cells,
            scales,
        }
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
