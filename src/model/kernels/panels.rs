//! Panels of quantised weights times rows of inputs in fixed point.
//!
//! A lane holds one row of weights. Codes and inputs are whole numbers whose sums over a group are exact; per group they become f32
//! and take the scale of the weights, per block of groups that of the inputs. Each weight comes from memory once whatever the number of inputs: up to eight share the codes in registers, more go
//! over the same panel again while it is in a near cache.

use super::cells::Fixed;
use super::grouped::PANEL;
use super::lanes::Lanes;
use super::pointwise::round_to_bf16;
use super::product::prefetch;

/// Whole numbers, 32 bits a lane, as many lanes as `Floats` has.
///
/// # Safety
/// As for [`Lanes`].
pub(super) trait Whole: Copy {
    /// f32 in the same lanes.
    type Floats: Lanes;
    /// Most rows of inputs whose sums fit into registers.
    const INPUTS: usize;
    /// All lanes `x`.
    unsafe fn splat(x: i32) -> Self;
    /// Four bytes a lane.
    unsafe fn load(from: *const u8) -> Self;
    /// Writes four bytes a lane.
    unsafe fn store(self, to: *mut u8);
    /// Bytes 0 and 2 of each lane as 16-bit numbers.
    unsafe fn even(self) -> Self;
    /// Bytes 1 and 3 of each lane as 16-bit numbers.
    unsafe fn odd(self) -> Self;
    /// What [`super::codes::TABLE`] says of the low half of each byte, and of the high half.
    unsafe fn levels(self) -> [Self; 2];
    /// Adds to each lane the products of its two 16-bit numbers in `words` with the two at `pair`.
    unsafe fn dot(self, words: Self, pair: *const i16) -> Self;
    /// `self + other`
    unsafe fn plus(self, other: Self) -> Self;
    /// As f32.
    unsafe fn floats(self) -> Self::Floats;
}

/// How codes lie in lines.
pub(super) trait Layout {
    /// Lines for [`Fixed::GROUP`] columns.
    const LINES: usize;
    /// So many times [`Fixed::GROUP`] columns share a scale.
    const GROUPS: usize;
    /// Columns that share a scale: a group of weights.
    const COLUMNS: usize = Self::GROUPS * Fixed::GROUP;
    /// Groups whose inputs share a scale.
    const BLOCK: usize = Fixed::BLOCK / Self::COLUMNS;
    /// Runs of four columns in a line, 16 columns apart.
    const PARTS: usize;
    /// The bytes of each part: 128 above what the codes stand for.
    unsafe fn parts<W: Whole>(line: W) -> [W; 2];
}

/// 8 bits.
pub(super) struct Int8;

impl Layout for Int8 {
    const LINES: usize = 8;
    const GROUPS: usize = 2;
    const PARTS: usize = 1;

    #[inline(always)]
    unsafe fn parts<W: Whole>(line: W) -> [W; 2] {
        [line; 2]
    }
}

/// 4 bits.
pub(super) struct Int4;

impl Layout for Int4 {
    const LINES: usize = 4;
    const GROUPS: usize = 1;
    const PARTS: usize = 2;

    #[inline(always)]
    unsafe fn parts<W: Whole>(line: W) -> [W; 2] {
        // SAFETY: the caller has the instruction set.
        unsafe { line.levels() }
    }
}

/// Bytes ahead of those in work that are asked from memory.
const AHEAD: usize = 4096;

const LINE: usize = 64;

/// What a product works on.
pub(super) struct Job {
    /// Codes of the first panel.
    pub cells: *const u8,
    /// Its scales.
    pub scales: *const u16,
    /// Groups of a row.
    pub groups: usize,
    /// Rows of weights; the last panel may be cut.
    pub rows: usize,
    /// The first row of inputs: values, scales, offsets ([`Fixed`]), good for all groups.
    pub inputs: (*const i16, *const f32, *const i32),
    /// From one row of inputs to the next, in values.
    pub stride: usize,
    /// Rows of inputs.
    pub count: usize,
    /// `[count, rows]`, row after row.
    pub out: *mut f32,
}

/// `out[i][r] = Σ_c weights[r][c] · inputs[i][c]`.
///
/// # Safety
/// The instruction set of `W` is there, the job's codes are those of `F`, and its pointers are good for what its fields say.
#[inline(always)]
pub(super) unsafe fn product<W: Whole, F: Layout>(job: &Job) {
    let passes = job.count.div_ceil(W::INPUTS).max(1);
    let each = job.count.div_ceil(passes).max(1);
    for panel in 0..job.rows.div_ceil(PANEL) {
        for i in (0..job.count).step_by(each) {
            for lane in (0..PANEL).step_by(W::Floats::WIDTH) {
                // SAFETY: inputs `i..i + N` are inside: N is at most what is left.
                unsafe {
                    match each.min(job.count - i) {
                        1 => block::<W, F, 1, 4>(job, panel, lane, i),
                        2 => block::<W, F, 2, 2>(job, panel, lane, i),
                        3 => block::<W, F, 3, 2>(job, panel, lane, i),
                        4 => block::<W, F, 4, 1>(job, panel, lane, i),
                        5 => block::<W, F, 5, 1>(job, panel, lane, i),
                        6 => block::<W, F, 6, 1>(job, panel, lane, i),
                        7 => block::<W, F, 7, 1>(job, panel, lane, i),
                        8 => block::<W, F, 8, 1>(job, panel, lane, i),
                        9 => block::<W, F, 9, 1>(job, panel, lane, i),
                        10 => block::<W, F, 10, 1>(job, panel, lane, i),
                        11 => block::<W, F, 11, 1>(job, panel, lane, i),
                        _ => block::<W, F, 12, 1>(job, panel, lane, i),
                    }
                }
            }
        }
    }
}

/// A vector's rows of one panel, from `lane`, times `N` rows of inputs from `first`. Each sum runs over the groups in order, so that its
/// bits do not depend on `N`. Within a group sums are of whole numbers, and exact: with few inputs they are kept in `C` chains, because one
/// chain of products takes longer than memory.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // Inputs index their sums and their memory alike.
unsafe fn block<W: Whole, F: Layout, const N: usize, const C: usize>(
    job: &Job,
    panel: usize,
    lane: usize,
    first: usize,
) {
    let start = panel * PANEL + lane;
    if start >= job.rows {
        return;
    }
    // SAFETY: panel, groups and inputs are inside the job by the caller's promise; only rows that there are are written.
    unsafe {
        let cells = job
            .cells
            .add(panel * job.groups * F::GROUPS * F::LINES * LINE + lane * 4);
        let scales = job.scales.add(panel * job.groups * PANEL + lane);
        let (offsets_apart, scales_apart) = (job.stride / Fixed::GROUP, job.stride.div_ceil(Fixed::BLOCK));
        let values = job.inputs.0.add(first * job.stride);
        let input_scales = job.inputs.1.add(first * scales_apart);
        let offsets = job.inputs.2.add(first * offsets_apart);
        let zero = W::Floats::splat(0.0);
        let mut sums = [zero; N];
        for (block, group) in (0..job.groups).step_by(F::BLOCK).enumerate() {
            let mut totals = [zero; N];
            for group in group..job.groups.min(group + F::BLOCK) {
                let mut whole = [[W::splat(0); C]; N];
                for i in 0..N {
                    whole[i][0] = W::splat(offset::<F>(offsets.add(i * offsets_apart), group));
                }
                for line in 0..F::GROUPS * F::LINES {
                    let at = cells.add((group * F::GROUPS * F::LINES + line) * LINE);
                    prefetch(at.wrapping_add(AHEAD));
                    let parts = F::parts(W::load(at));
                    for (p, bytes) in parts.iter().enumerate().take(F::PARTS) {
                        let (even, odd) = (bytes.even(), bytes.odd());
                        let column = group * F::COLUMNS + line * 4 + p * 16;
                        for i in 0..N {
                            let pair = values.add(i * job.stride + column);
                            let (first, second) = (2 * p % C, (2 * p + 1) % C);
                            whole[i][first] = whole[i][first].dot(even, pair);
                            whole[i][second] = whole[i][second].dot(odd, pair.add(2));
                        }
                    }
                }
                let scale = W::Floats::load_bf16(scales.add(group * PANEL));
                for i in 0..N {
                    let mut all = whole[i][0];
                    for chain in 1..C {
                        all = all.plus(whole[i][chain]);
                    }
                    totals[i] = all.floats().mul_add(scale, totals[i]);
                }
            }
            for i in 0..N {
                let input_scale = W::Floats::splat(*input_scales.add(i * scales_apart + block));
                sums[i] = totals[i].mul_add(input_scale, sums[i]);
            }
        }
        let len = W::Floats::WIDTH.min(job.rows - start);
        for (i, sum) in sums.into_iter().enumerate() {
            sum.store_some(job.out.add((first + i) * job.rows + start), len);
        }
    }
}

/// What a row of inputs begins the sum of a group with.
///
/// # Safety
/// `offsets` are those of a whole row.
#[inline(always)]
unsafe fn offset<F: Layout>(offsets: *const i32, group: usize) -> i32 {
    let mut sum = 0;
    for part in 0..F::GROUPS {
        // SAFETY: the caller's promise.
        sum += unsafe { *offsets.add(group * F::GROUPS + part) };
    }
    sum
}

/// Where widened weights go: rows of a panel, `columns` apart.
pub(super) enum Wide {
    /// f32.
    F32(*mut f32),
    /// The bits of bf16.
    Bf16(*mut u16),
}

/// What widening works on: one panel.
pub(super) struct WidenJob {
    /// Its codes.
    pub cells: *const u8,
    /// Its scales.
    pub scales: *const u16,
    /// Groups of a row.
    pub groups: usize,
    /// Rows wanted, at most [`PANEL`].
    pub rows: usize,
    /// Columns of the matrix.
    pub columns: usize,
    /// `[rows, columns]`.
    pub out: Wide,
}

/// Writes the weights of one panel row after row.
///
/// # Safety
/// As for [`product`].
#[inline(always)]
pub(super) unsafe fn widen<W: Whole, F: Layout>(job: &WidenJob) {
    // Four columns of sixteen rows, one after the other: the bytes of a group, as `Int8` has them.
    let mut bytes = [0u8; 2 * Fixed::GROUP * PANEL];
    // SAFETY: a group's lines are inside the panel; what is written ends before `columns`.
    unsafe {
        for group in 0..job.groups {
            for line in 0..F::GROUPS * F::LINES {
                let at = job.cells.add((group * F::GROUPS * F::LINES + line) * LINE);
                for lane in (0..PANEL).step_by(W::Floats::WIDTH) {
                    let parts = F::parts(W::load(at.add(lane * 4)));
                    for (p, part) in parts.iter().enumerate().take(F::PARTS) {
                        part.store(bytes.as_mut_ptr().add((line + p * 4) * LINE + lane * 4));
                    }
                }
            }
            let start = group * F::COLUMNS;
            let len = F::COLUMNS.min(job.columns - start);
            for row in 0..job.rows {
                let scale = f32::from_bits(u32::from(*job.scales.add(group * PANEL + row)) << 16);
                let mut fours = [0u32; Fixed::GROUP / 2];
                for (four, to) in fours[..F::COLUMNS / 4].iter_mut().enumerate() {
                    *to = u32::from_le(bytes.as_ptr().add(four * LINE + row * 4).cast::<u32>().read_unaligned());
                }
                let mut codes = [0u8; 2 * Fixed::GROUP];
                for (to, four) in codes.chunks_exact_mut(4).zip(fours) {
                    // The inner two bytes change places.
                    let ordered = four & 0xff00_00ff | (four & 0xff00) << 8 | (four >> 8) & 0xff00;
                    to.copy_from_slice(&ordered.to_le_bytes());
                }
                let values = codes.map(|code| (f32::from(code) - 128.0) * scale);
                let to = row * job.columns + start;
                match job.out {
                    Wide::F32(out) => out.add(to).copy_from_nonoverlapping(values.as_ptr(), len),
                    Wide::Bf16(out) => {
                        for (i, &value) in values[..len].iter().enumerate() {
                            *out.add(to + i) = round_to_bf16(value);
                        }
                    }
                }
            }
        }
    }
}
