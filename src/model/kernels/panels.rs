//! Panels of quantised weights times rows of inputs in fixed point.
//!
//! A lane holds one row of weights. Codes and inputs are whole numbers whose sums over a group of inputs are exact; per group they become f32 and take
//! the scales of the inputs and of the weights. Each weight comes from memory once whatever the number of inputs: up to twelve share the codes in
//! registers, more go over the same panel again while it is in a near cache.

use super::cells::Fixed;
use super::grouped::PANEL;
use super::lanes::Lanes;
use super::pointwise::round_to_bf16;
use super::product::prefetch;
use super::whole::Whole;

/// How codes lie in lines.
pub(super) trait Layout {
    /// Lines for [`Fixed::GROUP`] columns.
    const LINES: usize;
    /// So many times [`Fixed::GROUP`] columns share a scale.
    const GROUPS: usize;
    /// Columns that share a scale: a group of weights.
    const COLUMNS: usize = Self::GROUPS * Fixed::GROUP;
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
    /// The first row of inputs in bytes ([`Fixed`]), good for all groups.
    pub bytes: *const i8,
    /// The same in words. What the kernels do not read need not be good.
    pub words: *const i16,
    /// Its scales.
    pub input_scales: *const f32,
    /// Its offsets.
    pub offsets: *const i32,
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
        let apart = job.stride / Fixed::GROUP;
        let values = W::inputs(job).add(first * job.stride);
        let (input_scales, offsets) = (job.input_scales.add(first * apart), job.offsets.add(first * apart));
        let mut sums = [W::Floats::splat(0.0); N];
        for group in 0..job.groups {
            let scale = W::Floats::load_bf16(scales.add(group * PANEL));
            for group in group * F::GROUPS..(group + 1) * F::GROUPS {
                let mut whole = [[W::splat(0); C]; N];
                for i in 0..N {
                    whole[i][0] = W::splat(*offsets.add(i * apart + group));
                }
                for line in 0..F::LINES {
                    let at = cells.add((group * F::LINES + line) * LINE);
                    prefetch(at.wrapping_add(AHEAD));
                    let parts = F::parts(W::load(at));
                    for (p, part) in parts.iter().enumerate().take(F::PARTS) {
                        let codes = part.codes();
                        let column = group * Fixed::GROUP + line * 4 + p * 16;
                        let chain = (line * F::PARTS + p) % C;
                        for i in 0..N {
                            whole[i][chain] = whole[i][chain].dot(codes, values.add(i * job.stride + column));
                        }
                    }
                }
                for i in 0..N {
                    let mut all = whole[i][0];
                    for chain in 1..C {
                        all = all.plus(whole[i][chain]);
                    }
                    let input_scale = W::Floats::splat(*input_scales.add(i * apart + group));
                    sums[i] = all.floats().mul(input_scale).mul_add(scale, sums[i]);
                }
            }
        }
        let len = W::Floats::WIDTH.min(job.rows - start);
        for (i, sum) in sums.into_iter().enumerate() {
            sum.store_some(job.out.add((first + i) * job.rows + start), len);
        }
    }
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
                let mut codes = [0u8; 2 * Fixed::GROUP];
                for (four, to) in codes[..F::COLUMNS].as_chunks_mut::<4>().0.iter_mut().enumerate() {
                    to.copy_from_slice(&bytes[four * LINE + row * 4..][..4]);
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
