//! One query of one head over the keys and values of its sequence, where they lie.

use super::lanes::{Element, Lanes, exp};

/// Vectors of a head held in registers at a time; longer heads take several rounds.
const ROUND: usize = 8;

/// What one query works on.
pub(super) struct Job<E> {
    /// The query, scaled: `[dim]`.
    pub query: *const f32,
    /// Keys: `[len, dim]`.
    pub keys: *const E,
    /// Values: `[len, dim]`.
    pub values: *const E,
    /// Positions to attend to, at least one.
    pub len: usize,
    /// Dimensions of the head.
    pub dim: usize,
    /// Scratch, `[len]`.
    pub scores: *mut f32,
    /// `[dim]`.
    pub out: *mut f32,
}

/// `out = softmax(query · keysᵀ) · values`, all in f32.
///
/// # Safety
/// The instruction set of `L` is there, and the job's pointers are good for what its fields say.
#[inline(always)]
pub(super) unsafe fn attend<L: Lanes, E: Element>(job: &Job<E>) {
    let step = ROUND * L::WIDTH;
    // SAFETY: each round stays inside the head; the rest is the caller's promise.
    unsafe {
        for from in (0..job.dim).step_by(step) {
            let width = step.min(job.dim - from);
            match width.div_ceil(L::WIDTH) {
                1 => score::<L, E, 1>(job, from, width),
                2 => score::<L, E, 2>(job, from, width),
                3 => score::<L, E, 3>(job, from, width),
                4 => score::<L, E, 4>(job, from, width),
                5 => score::<L, E, 5>(job, from, width),
                6 => score::<L, E, 6>(job, from, width),
                7 => score::<L, E, 7>(job, from, width),
                _ => score::<L, E, 8>(job, from, width),
            }
        }
        let scale = 1.0 / exponentials::<L>(job.scores, job.len);
        for from in (0..job.dim).step_by(step) {
            let width = step.min(job.dim - from);
            match width.div_ceil(L::WIDTH) {
                1 => mix::<L, E, 1>(job, from, width, scale),
                2 => mix::<L, E, 2>(job, from, width, scale),
                3 => mix::<L, E, 3>(job, from, width, scale),
                4 => mix::<L, E, 4>(job, from, width, scale),
                5 => mix::<L, E, 5>(job, from, width, scale),
                6 => mix::<L, E, 6>(job, from, width, scale),
                7 => mix::<L, E, 7>(job, from, width, scale),
                _ => mix::<L, E, 8>(job, from, width, scale),
            }
        }
    }
}

/// Adds (in the first round: writes) to each score the product of `width` dimensions from `from`, in `V` vectors.
#[inline(always)]
unsafe fn score<L: Lanes, E: Element, const V: usize>(job: &Job<E>, from: usize, width: usize) {
    let tail = width - (V - 1) * L::WIDTH;
    // SAFETY: `V - 1` whole vectors and `tail` elements are what `width` dimensions hold.
    unsafe {
        let mut query = [L::splat(0.0); V];
        for (v, part) in query.iter_mut().enumerate() {
            let at = job.query.add(from + v * L::WIDTH);
            *part = if v + 1 < V { L::load(at) } else { L::load_some(at, tail) };
        }
        for t in 0..job.len {
            let key = job.keys.add(t * job.dim + from);
            let mut sum = L::splat(0.0);
            for (v, part) in query.iter().enumerate() {
                let at = key.add(v * L::WIDTH);
                let key = if v + 1 < V || tail == L::WIDTH {
                    E::load::<L>(at)
                } else {
                    E::load_some::<L>(at, tail)
                };
                sum = key.mul_add(*part, sum);
            }
            let score = job.scores.add(t);
            let before = if from == 0 { 0.0 } else { *score };
            *score = before + sum.sum();
        }
    }
}

/// Replaces the scores by `e^(score − largest)` and gives their sum.
#[inline(always)]
unsafe fn exponentials<L: Lanes>(scores: *mut f32, len: usize) -> f32 {
    let whole = len / L::WIDTH * L::WIDTH;
    // SAFETY: reads and writes stay inside `len`.
    unsafe {
        let mut largest = f32::NEG_INFINITY;
        let mut lanes = L::splat(f32::NEG_INFINITY);
        for t in (0..whole).step_by(L::WIDTH) {
            lanes = L::load(scores.add(t)).max(lanes);
        }
        if whole > 0 {
            largest = lanes.largest();
        }
        for t in whole..len {
            largest = largest.max(*scores.add(t));
        }
        let shift = L::splat(largest);
        let mut sums = L::splat(0.0);
        for t in (0..whole).step_by(L::WIDTH) {
            let e = exp(L::load(scores.add(t)).sub(shift));
            e.store(scores.add(t));
            sums = sums.add(e);
        }
        let mut sum = sums.sum();
        if whole < len {
            exp(L::load_some(scores.add(whole), len - whole).sub(shift)).store_some(scores.add(whole), len - whole);
        }
        for t in whole..len {
            sum += *scores.add(t);
        }
        sum
    }
}

/// The mean of the values under the scores, for `width` dimensions from `from`, in `V` vectors.
#[inline(always)]
unsafe fn mix<L: Lanes, E: Element, const V: usize>(job: &Job<E>, from: usize, width: usize, scale: f32) {
    let tail = width - (V - 1) * L::WIDTH;
    // SAFETY: as in `score`.
    unsafe {
        let mut sums = [L::splat(0.0); V];
        for t in 0..job.len {
            let value = job.values.add(t * job.dim + from);
            let weight = L::splat(*job.scores.add(t));
            for (v, sum) in sums.iter_mut().enumerate() {
                let at = value.add(v * L::WIDTH);
                let value = if v + 1 < V || tail == L::WIDTH {
                    E::load::<L>(at)
                } else {
                    E::load_some::<L>(at, tail)
                };
                *sum = value.mul_add(weight, *sum);
            }
        }
        let scale = L::splat(scale);
        for (v, sum) in sums.iter().enumerate() {
            let to = job.out.add(from + v * L::WIDTH);
            let count = if v + 1 < V { L::WIDTH } else { tail };
            sum.mul(scale).store_some(to, count);
        }
    }
}
