//! Rows of weights times rows of inputs.
//!
//! Four rows of weights meet up to six rows of inputs at a time, with all their sums in registers. More inputs go over the same
//! four rows again while these are still in the nearest cache, so each weight comes from memory once whatever the number of inputs.

use std::marker::PhantomData;

use super::lanes::{Element, Lanes};

/// How weights and inputs are multiplied and summed by one instruction set.
///
/// # Safety
/// As for [`Lanes`].
pub(super) trait Dot {
    /// As weights lie in memory.
    type Weight: Copy;
    /// As inputs lie in memory.
    type Input: Copy;
    /// `STEP` of either, in a register.
    type Part: Copy;
    /// Partial sums of one output, in a register.
    type Sum: Copy;
    /// Columns taken at a time.
    const STEP: usize;
    /// Most rows of inputs whose sums fit into registers beside four rows of weights.
    const INPUTS: usize;

    unsafe fn zero() -> Self::Sum;
    unsafe fn weights(from: *const Self::Weight) -> Self::Part;
    /// The first `count < STEP`, then zeros.
    unsafe fn weights_some(from: *const Self::Weight, count: usize) -> Self::Part;
    unsafe fn inputs(from: *const Self::Input) -> Self::Part;
    unsafe fn add(to: Self::Sum, weights: Self::Part, inputs: Self::Part) -> Self::Sum;
    unsafe fn total(of: Self::Sum) -> f32;
}

/// Weights of any element, widened to f32, times inputs in f32.
pub(super) struct Widened<L, E>(PhantomData<(L, E)>);

// SAFETY (of every block below): the caller's promise is the same.
impl<L: Lanes, E: Element> Dot for Widened<L, E> {
    type Weight = E;
    type Input = f32;
    type Part = L;
    type Sum = L;
    const STEP: usize = L::WIDTH;
    // AVX-512 has 32 registers, the others 16.
    const INPUTS: usize = if L::WIDTH == 16 { 6 } else { 2 };

    #[inline(always)]
    unsafe fn zero() -> L {
        unsafe { L::splat(0.0) }
    }

    #[inline(always)]
    unsafe fn weights(from: *const E) -> L {
        unsafe { E::load(from) }
    }

    #[inline(always)]
    unsafe fn weights_some(from: *const E, count: usize) -> L {
        unsafe { E::load_some(from, count) }
    }

    #[inline(always)]
    unsafe fn inputs(from: *const f32) -> L {
        unsafe { L::load(from) }
    }

    #[inline(always)]
    unsafe fn add(to: L, weights: L, inputs: L) -> L {
        unsafe { weights.mul_add(inputs, to) }
    }

    #[inline(always)]
    unsafe fn total(of: L) -> f32 {
        unsafe { of.sum() }
    }
}

/// Weights to ask memory for during a pass: `lines` times a register's worth at each of its steps.
#[derive(Clone, Copy)]
struct Fetch<W> {
    from: *const W,
    step: usize,
    lines: usize,
}

/// Asks for a line of memory; any address will do.
#[inline(always)]
pub(super) fn prefetch<W>(at: *const W) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which never faults.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Rows of weights taken at a time.
const ROWS: usize = 4;

/// What a product works on.
pub(super) struct Job<W, X> {
    /// The first row of weights.
    pub weights: *const W,
    /// Columns of the weights, which lie row after row.
    pub columns: usize,
    /// Rows of weights.
    pub rows: usize,
    /// The first row of inputs. Each is good for `columns` rounded up to 32, the excess zero.
    pub inputs: *const X,
    /// From one row of inputs to the next, in elements.
    pub stride: usize,
    /// Rows of inputs.
    pub count: usize,
    /// `[count, rows]`, row after row.
    pub out: *mut f32,
}

/// `out[i][r] = Σ_c weights[r][c] · inputs[i][c]`.
///
/// # Safety
/// The instruction set of `D` is there, and the job's pointers are good for what its fields say.
#[inline(always)]
pub(super) unsafe fn product<D: Dot>(job: &Job<D::Weight, D::Input>) {
    let whole = job.rows / ROWS * ROWS;
    // SAFETY: rows `r..r + ROWS` are inside, by the bounds of the loops.
    unsafe {
        for r in (0..whole).step_by(ROWS) {
            all_inputs::<D, ROWS>(job, r);
        }
        for r in whole..job.rows {
            all_inputs::<D, 1>(job, r);
        }
    }
}

/// `R` rows from `row` for all inputs, in passes of about the same size.
#[inline(always)]
unsafe fn all_inputs<D: Dot, const R: usize>(job: &Job<D::Weight, D::Input>, row: usize) {
    let passes = job.count.div_ceil(D::INPUTS).max(1);
    let each = job.count.div_ceil(passes).max(1);
    // The next rows are fetched while these are computed with, in equal parts by all passes: else memory idles in all but the first.
    let lines = R.div_ceil(passes);
    let step = lines * D::STEP;
    let mut ahead = job.weights.wrapping_add((row + R) * job.columns);
    for i in (0..job.count).step_by(each) {
        let fetch = Fetch {
            from: ahead,
            step,
            lines,
        };
        // SAFETY: inputs `i..i + N` are inside: N is at most what is left.
        unsafe {
            match each.min(job.count - i) {
                1 => block::<D, R, 1>(job, row, i, fetch),
                2 => block::<D, R, 2>(job, row, i, fetch),
                3 => block::<D, R, 3>(job, row, i, fetch),
                4 => block::<D, R, 4>(job, row, i, fetch),
                5 => block::<D, R, 5>(job, row, i, fetch),
                _ => block::<D, R, 6>(job, row, i, fetch),
            }
        }
        ahead = ahead.wrapping_add(job.columns / D::STEP * step);
    }
}

/// `R` rows of weights from `row` times `N` rows of inputs from `first`. Each sum runs over the columns in order, so that its
/// bits depend on neither `R` nor `N`.
#[inline(always)]
unsafe fn block<D: Dot, const R: usize, const N: usize>(
    job: &Job<D::Weight, D::Input>,
    row: usize,
    first: usize,
    fetch: Fetch<D::Weight>,
) {
    let columns = job.columns;
    // SAFETY: rows and inputs are inside the job by the caller's promise; whole steps end before `columns`, the last step reads only
    // what is left of the weights, and inputs are good for a whole step.
    #[allow(clippy::needless_range_loop)] // Rows and inputs index both sides alike.
    unsafe {
        let weights = job.weights.add(row * columns);
        let inputs = job.inputs.add(first * job.stride);
        let mut sums = [[D::zero(); N]; R];
        let whole = columns / D::STEP * D::STEP;
        let mut c = 0;
        let mut ahead = fetch.from;
        while c < whole {
            for line in 0..R {
                if line < fetch.lines {
                    prefetch(ahead.wrapping_add(line * D::STEP));
                }
            }
            ahead = ahead.wrapping_add(fetch.step);
            let mut parts = [D::weights(weights.add(c)); R];
            for (r, part) in parts.iter_mut().enumerate().skip(1) {
                *part = D::weights(weights.add(r * columns + c));
            }
            for i in 0..N {
                let input = D::inputs(inputs.add(i * job.stride + c));
                for r in 0..R {
                    sums[r][i] = D::add(sums[r][i], parts[r], input);
                }
            }
            c += D::STEP;
        }
        if c < columns {
            for i in 0..N {
                let input = D::inputs(inputs.add(i * job.stride + c));
                for (r, sums) in sums.iter_mut().enumerate() {
                    let part = D::weights_some(weights.add(r * columns + c), columns - c);
                    sums[i] = D::add(sums[i], part, input);
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (i, &sum) in sums.iter().enumerate() {
                *job.out.add((first + i) * job.rows + row + r) = D::total(sum);
            }
        }
    }
}
