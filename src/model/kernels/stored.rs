//! A quantised matrix as a file holds it: row after row, whatever panels kernels make of it.

use rayon::prelude::*;

use super::cells::Cells;
use super::codes::LEVELS;
use super::grouped::Format;
use super::sets::Kernels;

/// Codes and scales of a matrix `[rows, columns]`, as they lie in a file.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    /// How weights are held.
    pub format: Format,
    /// 8 bits: `[rows, columns]`, i8, weight / scale. 4 bits: `[rows, 16 · groups]`, of each group the first sixteen columns in the low halves, the others in the
    /// high ones, which of sixteen levels of the scale.
    pub codes: &'a [u8],
    /// `[rows, groups]`: bf16, little-endian.
    pub scales: &'a [u8],
}

impl Format {
    /// Bytes of a whole group.
    pub(super) const fn bytes(self) -> usize {
        match self {
            Format::Int8 => 64,
            Format::Int4 => 16,
        }
    }

    /// Bytes of the codes of a row in a file.
    pub const fn row_bytes(self, columns: usize) -> usize {
        match self {
            Format::Int8 => columns,
            Format::Int4 => self.groups(columns) * self.bytes(),
        }
    }

    /// What a byte in a file differs by from one that kernels read: theirs have no sign.
    pub(super) const fn flip(self) -> u8 {
        match self {
            Format::Int8 => 0x80,
            Format::Int4 => 0,
        }
    }

    /// The codes of a whole group as a file has them.
    #[inline]
    pub(super) fn pack(self, codes: &[u8], to: &mut [u8]) {
        match self {
            Format::Int8 => to.iter_mut().zip(codes).for_each(|(to, code)| *to = code ^ self.flip()),
            Format::Int4 => {
                let (low, high) = codes.split_at(to.len());
                for (to, (low, high)) in to.iter_mut().zip(low.iter().zip(high)) {
                    *to = low | high << 4;
                }
            }
        }
    }

    /// What is stored for a column of a group, times the group's scale.
    fn level(self, bytes: &[u8], column: usize) -> f32 {
        match self {
            Format::Int8 => f32::from(bytes[column].cast_signed()),
            Format::Int4 => f32::from(LEVELS[usize::from(bytes[column % 16] >> (column / 16 * 4) & 15)]),
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
        let (mut own, mut bytes) = ([0; 64], [0; 64]);
        let (own, bytes) = (&mut own[..format.columns()], &mut bytes[..format.bytes()]);
        let groups = codes.chunks_mut(format.bytes()).zip(scales.chunks_exact_mut(2));
        for (group, (codes, scale)) in groups.enumerate() {
            let bits = kernels.group(format, weights, columns, row, group, own);
            scale.copy_from_slice(&bits.to_le_bytes());
            format.pack(own, bytes);
            codes.copy_from_slice(&bytes[..codes.len()]);
        }
    });
    (codes, scales)
}

impl<'a> Stored<'a> {
    /// Whether it has as many codes and scales as such a matrix.
    pub fn is_of(&self, [rows, columns]: [usize; 2]) -> bool {
        self.codes.len() == rows * self.format.row_bytes(columns)
            && self.scales.len() == rows * self.format.groups(columns) * 2
    }

    /// Bytes of one group of a row of `columns`, fewer than of a whole one at the end of a row in 8 bits, and its scale (the bits of a bf16).
    #[inline]
    pub(super) fn group(&self, columns: usize, row: usize, group: usize) -> (&'a [u8], u16) {
        let (width, bytes) = (self.format.row_bytes(columns), self.format.bytes());
        let start = row * width + group * bytes;
        let end = (start + bytes).min((row + 1) * width);
        let at = (row * self.format.groups(columns) + group) * 2;
        (
            &self.codes[start..end],
            u16::from_le_bytes([self.scales[at], self.scales[at + 1]]),
        )
    }

    /// The weights that it stands for, `[rows, columns]`.
    ///
    /// # Panics
    /// If it is not of rows of `columns`, or `out` is not as long.
    pub fn widen(&self, columns: usize, out: &mut [f32]) {
        assert!(self.is_of([out.len() / columns.max(1), columns]));
        let rows = out.par_chunks_mut(columns.max(1)).enumerate();
        rows.for_each(|(row, out)| {
            for (group, out) in out.chunks_mut(self.format.columns()).enumerate() {
                let (bytes, scale) = self.group(columns, row, group);
                let scale = f32::from_bits(u32::from(scale) << 16);
                for (column, out) in out.iter_mut().enumerate() {
                    *out = self.format.level(bytes, column) * scale;
                }
            }
        });
    }
}
