//! A quantised matrix as a file holds it: row after row, in no kernel's order.

use rayon::prelude::*;

use super::cells::Cells;
use super::codes::LEVELS;
use super::grouped::Format;
use super::select::Kernels;

/// Codes and scales of a matrix `[rows, columns]`, as they lie in a file.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    /// How weights are held.
    pub format: Format,
    /// 8 bits: `[rows, columns]`, i8, weight / scale. 4 bits: `[rows, columns / 2, rounded up]`, the earlier column in the low half, which of sixteen
    /// levels of the scale.
    pub codes: &'a [u8],
    /// `[rows, groups]`: bf16, little-endian.
    pub scales: &'a [u8],
}

impl Format {
    /// Bytes of the codes of a row in a file.
    pub const fn row_bytes(self, columns: usize) -> usize {
        match self {
            Format::Int8 => columns,
            Format::Int4 => columns.div_ceil(2),
        }
    }

    /// The code that stands for zero, or what is nearest to it.
    const fn zero(self) -> u8 {
        match self {
            Format::Int8 => 128,
            Format::Int4 => 8,
        }
    }

    /// What a code stands for, times its group's scale.
    fn level(self, code: u8) -> f32 {
        match self {
            Format::Int8 => f32::from(code) - 128.0,
            Format::Int4 => f32::from(LEVELS[usize::from(code & 15)]),
        }
    }

    /// Codes of a row's columns as a file has them.
    fn pack(self, codes: &[u8], to: &mut [u8]) {
        match self {
            Format::Int8 => to.iter_mut().zip(codes).for_each(|(to, code)| *to = code ^ 0x80),
            Format::Int4 => {
                for (to, pair) in to.iter_mut().zip(codes.chunks(2)) {
                    *to = pair[0] | pair.get(1).map_or(0, |high| high << 4);
                }
            }
        }
    }

    /// The way back: `codes` may end before the last half.
    fn unpack(self, from: &[u8], codes: &mut [u8]) {
        match self {
            Format::Int8 => codes.iter_mut().zip(from).for_each(|(code, from)| *code = from ^ 0x80),
            Format::Int4 => {
                for (pair, from) in codes.chunks_mut(2).zip(from) {
                    let halves = [from & 15, from >> 4];
                    pair.copy_from_slice(&halves[..pair.len()]);
                }
            }
        }
    }
}

/// `weights`, rows of `columns`, as a file holds them in `format`: the bytes of [`Stored::codes`] and [`Stored::scales`].
///
/// # Panics
/// If they are not whole rows.
pub fn to_store(kernels: &Kernels, format: Format, weights: Cells<'_>, columns: usize) -> (Vec<u8>, Vec<u8>) {
    let rows = weights.len() / columns.max(1);
    assert!(weights.len() == rows * columns);
    let (width, groups) = (format.row_bytes(columns), format.groups(columns));
    let (mut codes, mut scales) = (vec![0; rows * width], vec![0; rows * groups * 2]);
    let each = codes
        .par_chunks_mut(width.max(1))
        .zip(scales.par_chunks_mut((groups * 2).max(1)));
    each.enumerate().for_each(|(row, (codes, scales))| {
        let mut group_codes = [0; 64];
        let group_codes = &mut group_codes[..format.columns()];
        let bytes = format.row_bytes(format.columns());
        for (group, (codes, scale)) in codes.chunks_mut(bytes).zip(scales.chunks_exact_mut(2)).enumerate() {
            let bits = kernels.group(format, weights, columns, row, group, group_codes);
            scale.copy_from_slice(&bits.to_le_bytes());
            let there = format.columns().min(columns - group * format.columns());
            format.pack(&group_codes[..there], codes);
        }
    });
    (codes, scales)
}

impl Stored<'_> {
    /// Whether it has as many codes and scales as such a matrix.
    pub fn is_of(&self, [rows, columns]: [usize; 2]) -> bool {
        self.codes.len() == rows * self.format.row_bytes(columns)
            && self.scales.len() == rows * self.format.groups(columns) * 2
    }

    /// Codes, as kernels have them, and scale of one group of a row of `columns`; beyond the last column as for zeros.
    #[inline]
    pub(super) fn group(&self, columns: usize, row: usize, group: usize, codes: &mut [u8]) -> u16 {
        let (format, width) = (self.format, self.format.row_bytes(columns));
        let first = group * format.columns();
        let there = format.columns().min(columns - first);
        let start = row * width + format.row_bytes(first);
        codes[there..].fill(format.zero());
        format.unpack(&self.codes[start..start + format.row_bytes(there)], &mut codes[..there]);
        let at = (row * format.groups(columns) + group) * 2;
        u16::from_le_bytes([self.scales[at], self.scales[at + 1]])
    }

    /// The weights that it stands for, `[rows, columns]`.
    ///
    /// # Panics
    /// If it is not of rows of `columns`, or `out` is not as long.
    pub fn widen(&self, columns: usize, out: &mut [f32]) {
        assert!(self.is_of([out.len() / columns.max(1), columns]));
        let rows = out.par_chunks_mut(columns.max(1)).enumerate();
        rows.for_each(|(row, out)| {
            let mut codes = [0; 64];
            let codes = &mut codes[..self.format.columns()];
            for (group, out) in out.chunks_mut(self.format.columns()).enumerate() {
                let scale = f32::from_bits(u32::from(self.group(columns, row, group, codes)) << 16);
                for (out, code) in out.iter_mut().zip(&*codes) {
                    *out = self.format.level(*code) * scale;
                }
            }
        });
    }
}
