//! bf16 weights packed in the order in which they are read: panels of sixteen rows, one row per lane.
//!
//! Row after row, as checkpoints hold them, a step of eight rows took the time of reading the weights plus that of the arithmetic: four rows
//! are four short streams, which memory serves badly, and a sum had to be gathered from sixteen lanes. In a panel a pair of columns of
//! sixteen rows is one line of memory; reading is one long stream, and arithmetic hides behind it up to about twelve rows of inputs. Where the
//! processor multiplies bf16, a line meets a pair of inputs in bf16; else its two columns are widened to f32, as inputs are.

use std::marker::PhantomData;

use rayon::prelude::*;

use super::attend_panels;
use super::cells::Inputs;
use super::grouped::PANEL;
use super::lanes::Lanes;
use super::pages::roomy;
use super::product::prefetch;
use super::sets::Kernels;

/// A pair of columns of the sixteen rows of a panel, as a cache holds it.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Line(pub(super) [u16; 2 * PANEL]);

/// A matrix `[rows, columns]` of bf16.
pub struct Packed {
    rows: usize,
    columns: usize,
    /// `[panels, columns / 2]`; zeros where there is no row or column.
    lines: Vec<Line>,
}

impl Packed {
    /// Packs the bits of `weights`, rows of `columns`; row `r` of the matrix is row `order(r)` of them.
    ///
    /// # Panics
    /// If `weights` are not whole rows, or `order` names none of them.
    pub fn new(weights: &[u16], columns: usize, order: impl Fn(usize) -> usize + Sync) -> Self {
        let rows = weights.len() / columns.max(1);
        assert!(weights.len() == rows * columns);
        let pairs = columns.div_ceil(2);
        // Collected, memory is written once, by all threads; set to zeros first, one of them would touch all of it alone.
        let numbers = (0..rows.div_ceil(PANEL) * pairs).into_par_iter().with_min_len(1 << 10);
        let mut lines = roomy(numbers.len());
        let packed = numbers.map(|number| {
            let (first, column) = (number / pairs * PANEL, number % pairs * 2);
            let mut line = [0; 2 * PANEL];
            for (pair, row) in line.as_chunks_mut::<2>().0.iter_mut().zip(first..rows) {
                let from = &weights[order(row) * columns + column..];
                pair[0] = from[0];
                if column + 1 < columns {
                    pair[1] = from[1];
                }
            }
            Line(line)
        });
        packed.collect_into_vec(&mut lines);
        Self { rows, columns, lines }
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Bytes.
    pub fn bytes(&self) -> usize {
        size_of_val(self.lines.as_slice())
    }

    /// The rows of one panel as they were given: `out` is `[rows, columns]`, where `rows` is [`PANEL`] or, in the last panel, what is left.
    ///
    /// # Panics
    /// If there is no such panel or the length does not agree.
    pub fn unpack(&self, panel: usize, out: &mut [u16]) {
        let rows = PANEL.min(self.rows.saturating_sub(panel * PANEL));
        assert!(rows > 0 && out.len() == rows * self.columns);
        let lines = self.panel(panel);
        for (row, out) in out.chunks_exact_mut(self.columns).enumerate() {
            for (pair, line) in out.chunks_mut(2).zip(lines) {
                pair.copy_from_slice(&line.0[2 * row..2 * row + pair.len()]);
            }
        }
    }

    /// The lines from the panel of number `panel`; what follows them are those of the next panels.
    ///
    /// # Panics
    /// If there is no such panel.
    pub(super) fn panel(&self, panel: usize) -> &[Line] {
        let pairs = self.columns.div_ceil(2);
        &self.lines[panel * pairs..]
    }
}

/// How panels are multiplied by one instruction set.
///
/// # Safety
/// As for [`super::lanes::Lanes`].
pub(super) trait Pair {
    /// As inputs lie in memory.
    type Input: Copy;
    /// A line of weights in registers.
    type Weights: Copy;
    /// Partial sums of the sixteen outputs of a panel.
    type Sums: Copy;
    /// Whether two panels are taken together, else one.
    const TWO: bool;
    /// Most rows of inputs, at most [`INPUTS`], whose sums fit into registers beside these panels' weights.
    const INPUTS: usize;

    unsafe fn zero() -> Self::Sums;
    unsafe fn load(from: *const f32) -> Self::Sums;
    unsafe fn store(sums: Self::Sums, to: *mut f32);
    unsafe fn weights(line: *const Line) -> Self::Weights;
    /// `to` and the products of each row's pair with the pair of inputs at `pair`.
    unsafe fn add(to: Self::Sums, weights: Self::Weights, pair: *const Self::Input) -> Self::Sums;
    /// Asks for a line of memory; any address will do.
    unsafe fn fetch(line: *const Line);
}

/// Lines widened to f32, times inputs in f32. A panel takes `K` vectors.
pub(super) struct WidenedLines<L, const K: usize>(PhantomData<L>);

// SAFETY (of every block below): the caller's promise is the same.
impl<L: Lanes, const K: usize> Pair for WidenedLines<L, K> {
    type Input = f32;
    /// The first column of the pair and the second.
    type Weights = [[L; 2]; K];
    type Sums = [L; K];
    // AVX-512 has 32 registers, the others 16.
    const TWO: bool = L::WIDTH == PANEL;
    const INPUTS: usize = if L::WIDTH == PANEL { 12 } else { 5 };

    #[inline(always)]
    unsafe fn zero() -> Self::Sums {
        unsafe { [L::splat(0.0); K] }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::Sums {
        let mut sums = unsafe { Self::zero() };
        for (k, sum) in sums.iter_mut().enumerate() {
            *sum = unsafe { L::load(from.add(k * L::WIDTH)) };
        }
        sums
    }

    #[inline(always)]
    unsafe fn store(sums: Self::Sums, to: *mut f32) {
        for (k, sum) in sums.into_iter().enumerate() {
            unsafe { sum.store(to.add(k * L::WIDTH)) };
        }
    }

    #[inline(always)]
    unsafe fn weights(line: *const Line) -> Self::Weights {
        let mut weights = [[unsafe { L::splat(0.0) }; 2]; K];
        for (k, weights) in weights.iter_mut().enumerate() {
            *weights = unsafe { L::load_bf16_two(line.cast::<u16>().add(2 * k * L::WIDTH)) };
        }
        weights
    }

    #[inline(always)]
    unsafe fn add(mut to: Self::Sums, weights: Self::Weights, pair: *const f32) -> Self::Sums {
        for column in 0..2 {
            let input = unsafe { L::splat(*pair.add(column)) };
            for (sum, weights) in to.iter_mut().zip(weights) {
                *sum = unsafe { weights[column].mul_add(input, *sum) };
            }
        }
        to
    }

    #[inline(always)]
    unsafe fn fetch(line: *const Line) {
        prefetch(line);
    }
}

/// What a product works on.
pub(super) struct Job<X> {
    /// The first panel.
    pub lines: *const Line,
    /// Lines of a panel.
    pub pairs: usize,
    /// Rows of weights from the first panel's.
    pub rows: usize,
    /// The first row of inputs. Each is good for twice `pairs`.
    pub inputs: *const X,
    /// From one row of inputs to the next, in elements.
    pub stride: usize,
    /// Rows of inputs.
    pub count: usize,
    /// `[count, rows]`, row after row.
    pub out: *mut f32,
}

/// What a set of kernels does with bf16 in panels, which meets inputs in bf16 or in f32.
#[derive(Clone, Copy)]
pub(super) enum Packing {
    /// In bf16.
    #[cfg(target_arch = "x86_64")]
    Pairs {
        product: unsafe fn(&Job<u16>),
        attend: unsafe fn(&attend_panels::Job<u16>),
    },
    /// In f32.
    #[cfg(target_arch = "x86_64")]
    Widened {
        product: unsafe fn(&Job<f32>),
        attend: unsafe fn(&attend_panels::Job<f32>),
    },
}

impl Kernels {
    /// Whether [`Self::packed_product`] is there.
    pub fn packs(&self) -> bool {
        self.packed.is_some()
    }

    /// [`Self::product`] with the rows of packed `weights` from `start`, which begins a panel: `out` is `[inputs.count, rows]`, and its
    /// length says how many rows.
    ///
    /// # Panics
    /// If the lengths do not agree, or the set does not pack.
    pub fn packed_product(&self, weights: &Packed, start: usize, inputs: Inputs<'_>, out: &mut [f32]) {
        let (count, stride) = (inputs.count, inputs.stride);
        let rows = out.len() / count.max(1);
        assert!(out.len() == rows * count && start.is_multiple_of(PANEL) && start + rows <= weights.rows());
        assert!(weights.columns() <= stride && stride.is_multiple_of(Self::PADDING));
        if rows == 0 {
            return;
        }
        /// What a product works on, with these inputs.
        fn job<X>(weights: &Packed, start: usize, inputs: &[X], sizes: &Inputs<'_>, out: &mut [f32]) -> Job<X> {
            assert!(inputs.len() >= sizes.count * sizes.stride);
            Job {
                lines: weights.panel(start / PANEL).as_ptr(),
                pairs: weights.columns().div_ceil(2),
                rows: out.len() / sizes.count,
                inputs: inputs.as_ptr(),
                stride: sizes.stride,
                count: sizes.count,
                out: out.as_mut_ptr(),
            }
        }
        // SAFETY: lengths are checked here, and the instruction set when `self` was given away.
        unsafe {
            match self.packed {
                #[cfg(target_arch = "x86_64")]
                Some(Packing::Pairs { product, .. }) => product(&job(weights, start, inputs.rounded, &inputs, out)),
                #[cfg(target_arch = "x86_64")]
                Some(Packing::Widened { product, .. }) => product(&job(weights, start, inputs.values, &inputs, out)),
                None => panic!("these kernels do not read packed weights"),
            }
        }
    }
}

/// Most rows of inputs of a pass, whatever the registers.
pub(super) const INPUTS: usize = 12;
/// Lines of a panel that many rows of inputs go over one after the other: two panels of them stay in the second cache.
const BLOCK: usize = 1280;
/// How far ahead memory is asked: a page.
const AHEAD: usize = 64;

/// `out[i][r] = Σ_c weights[r][c] · inputs[i][c]`, each sum over the pairs of columns in order: its bits depend on nothing else.
///
/// # Safety
/// The instruction set of `P` is there, and the job's pointers are good for what its fields say.
#[inline(always)]
pub(super) unsafe fn product<P: Pair>(job: &Job<P::Input>) {
    let panels = job.rows.div_ceil(PANEL);
    let twos = if P::TWO { panels / 2 * 2 } else { 0 };
    // SAFETY: panels are inside the job.
    unsafe {
        for panel in (0..twos).step_by(2) {
            all_inputs::<P, 2>(job, panel);
        }
        for panel in twos..panels {
            all_inputs::<P, 1>(job, panel);
        }
    }
}

/// `N` panels from `panel` for all inputs, in passes of about the same size over one block of columns after the other.
#[inline(always)]
unsafe fn all_inputs<P: Pair, const N: usize>(job: &Job<P::Input>, panel: usize) {
    let passes = job.count.div_ceil(P::INPUTS).max(1);
    let each = job.count.div_ceil(passes).max(1);
    // One pass needs no blocks: nothing is read twice.
    let block = if passes == 1 { job.pairs } else { BLOCK };
    let mut start = 0;
    while start < job.pairs {
        let end = job.pairs.min(start + block);
        for first in (0..job.count).step_by(each) {
            let piece = Piece {
                panel,
                first,
                start,
                end,
            };
            // SAFETY: inputs `first..first + M` are inside: M is at most what is left.
            unsafe {
                match each.min(job.count - first) {
                    1 => pass::<P, N, 1>(job, piece),
                    2 => pass::<P, N, 2>(job, piece),
                    3 => pass::<P, N, 3>(job, piece),
                    4 => pass::<P, N, 4>(job, piece),
                    5 => pass::<P, N, 5>(job, piece),
                    6 => pass::<P, N, 6>(job, piece),
                    7 => pass::<P, N, 7>(job, piece),
                    8 => pass::<P, N, 8>(job, piece),
                    9 => pass::<P, N, 9>(job, piece),
                    10 => pass::<P, N, 10>(job, piece),
                    11 => pass::<P, N, 11>(job, piece),
                    _ => pass::<P, N, 12>(job, piece),
                }
            }
        }
        start = end;
    }
}

/// Where a pass is: from which panel and row of inputs, and over which lines.
#[derive(Clone, Copy)]
struct Piece {
    panel: usize,
    first: usize,
    start: usize,
    end: usize,
}

/// `N` panels times `M` rows of inputs over some lines, added to what earlier lines gave.
#[inline(always)]
unsafe fn pass<P: Pair, const N: usize, const M: usize>(job: &Job<P::Input>, piece: Piece) {
    let row = piece.panel * PANEL;
    // Where all rows are there, sums go straight to them; loops over sums have to be plain, or these do not stay in registers.
    let whole = row + N * PANEL <= job.rows;
    // SAFETY: panels, rows of inputs and lines are inside the job by the caller's promise; `out` is touched for rows that are there.
    #[allow(clippy::needless_range_loop)] // Panels and inputs index both sides alike.
    unsafe {
        let out = job.out.add(piece.first * job.rows + row);
        let mut sums = [[P::zero(); M]; N];
        if piece.start > 0 && whole {
            for n in 0..N {
                for m in 0..M {
                    sums[n][m] = P::load(out.add(m * job.rows + n * PANEL));
                }
            }
        } else if piece.start > 0 {
            let mut space = [[[0f32; PANEL]; M]; N];
            take(job, row, out, &mut space, Way::In);
            for n in 0..N {
                for m in 0..M {
                    sums[n][m] = P::load(space[n][m].as_ptr());
                }
            }
        }
        let lines = job.lines.add(piece.panel * job.pairs);
        let inputs = job.inputs.add(piece.first * job.stride);
        for pair in piece.start..piece.end {
            let mut weights = [P::weights(lines.add(pair)); N];
            for n in 0..N {
                let line = lines.add(n * job.pairs + pair);
                P::fetch(line.wrapping_add(AHEAD));
                weights[n] = P::weights(line);
            }
            for m in 0..M {
                let input = inputs.add(m * job.stride + 2 * pair);
                for n in 0..N {
                    sums[n][m] = P::add(sums[n][m], weights[n], input);
                }
            }
        }
        if whole {
            for n in 0..N {
                for m in 0..M {
                    P::store(sums[n][m], out.add(m * job.rows + n * PANEL));
                }
            }
        } else {
            let mut space = [[[0f32; PANEL]; M]; N];
            for n in 0..N {
                for m in 0..M {
                    P::store(sums[n][m], space[n][m].as_mut_ptr());
                }
            }
            take(job, row, out, &mut space, Way::Out);
        }
    }
}

/// From `out` or to it.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    In,
    Out,
}

/// Copies sums between `space` and those rows from `row` on that are there.
unsafe fn take<X, const N: usize, const M: usize>(
    job: &Job<X>,
    row: usize,
    out: *mut f32,
    space: &mut [[[f32; PANEL]; M]; N],
    way: Way,
) {
    for (n, space) in space.iter_mut().enumerate() {
        let rows = PANEL.min(job.rows - row - n * PANEL);
        for (m, sums) in space.iter_mut().enumerate() {
            // SAFETY: rows of `out` that are there.
            unsafe {
                let out = out.add(m * job.rows + n * PANEL);
                match way {
                    Way::In => out.copy_to_nonoverlapping(sums.as_mut_ptr(), rows),
                    Way::Out => out.copy_from_nonoverlapping(sums.as_ptr(), rows),
                }
            }
        }
    }
}
