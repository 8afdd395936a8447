//! One query of one head over the keys and values of its sequence, where they lie.

use super::lanes::{Element, Lanes, WIDEST, exp};

/// Vectors of a head held in registers at a time; longer heads take several rounds.
const ROUND: usize = 8;

/// Calls `$function` for a round of `$width` dimensions with as many pairs of vectors as they fill and as many single vectors as are left.
macro_rules! in_vectors {
    ($lanes:ty, $element:ty, $width:expr, $function:ident $arguments:tt) => {
        in_vectors!(@ $lanes, $element, $width, $function $arguments,
            (0, 1) (0, 2) (1, 0) (1, 1) (1, 2) (2, 0) (2, 1) (2, 2) (3, 0) (3, 1) (3, 2))
    };
    (@ $lanes:ty, $element:ty, $width:expr, $function:ident $arguments:tt, $(($pairs:literal, $singles:literal))*) => {
        match ($width / (2 * <$lanes>::WIDTH), ($width % (2 * <$lanes>::WIDTH)).div_ceil(<$lanes>::WIDTH)) {
            $(($pairs, $singles) => $function::<$lanes, $element, $pairs, $singles> $arguments,)*
            _ => $function::<$lanes, $element, 4, 0> $arguments,
        }
    };
}

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
            in_vectors!(L, E, width, score(job, from, width));
        }
        let scale = 1.0 / exponentials::<L>(job.scores, job.len);
        for from in (0..job.dim).step_by(step) {
            let width = step.min(job.dim - from);
            in_vectors!(L, E, width, mix(job, from, width, scale));
        }
    }
}

/// Where the place `i` of a pair of vectors lies in memory.
#[inline(always)]
fn place<L: Lanes, E: Element>(i: usize) -> usize {
    match E::APART {
        true => 2 * (i % L::WIDTH) + i / L::WIDTH,
        false => i,
    }
}

/// One vector of a key or value: the last of a head may be partial.
#[inline(always)]
unsafe fn single<L: Lanes, E: Element>(at: *const E, count: usize) -> L {
    // SAFETY: the caller's promise.
    unsafe {
        if count == L::WIDTH {
            E::load::<L>(at)
        } else {
            E::load_some::<L>(at, count)
        }
    }
}

/// Adds (in the first round: writes) to each score the product of `width` dimensions from `from`.
#[inline(always)]
unsafe fn score<L: Lanes, E: Element, const PAIRS: usize, const SINGLES: usize>(
    job: &Job<E>,
    from: usize,
    width: usize,
) {
    let paired = PAIRS * 2 * L::WIDTH;
    let count = |v: usize| L::WIDTH.min(width - paired - v * L::WIDTH);
    // SAFETY: pairs and singles together are `width` dimensions.
    unsafe {
        let query = job.query.add(from);
        let mut pairs = [[L::splat(0.0); 2]; PAIRS];
        for (p, pair) in pairs.iter_mut().enumerate() {
            let mut ordered = [0f32; 2 * WIDEST];
            for (i, to) in ordered.iter_mut().enumerate().take(2 * L::WIDTH) {
                *to = *query.add(p * 2 * L::WIDTH + place::<L, E>(i));
            }
            *pair = [L::load(ordered.as_ptr()), L::load(ordered.as_ptr().add(L::WIDTH))];
        }
        let mut singles = [L::splat(0.0); SINGLES];
        for (v, part) in singles.iter_mut().enumerate() {
            *part = L::load_some(query.add(paired + v * L::WIDTH), count(v));
        }
        let keys = job.keys.add(from);
        let mut parts = [L::splat(0.0); WIDEST];
        let mut scores = [0f32; WIDEST];
        for start in (0..job.len).step_by(L::WIDTH) {
            let some = L::WIDTH.min(job.len - start);
            for (t, part) in (start..start + some).zip(&mut parts) {
                let key = keys.add(t * job.dim);
                let mut sum = L::splat(0.0);
                for (p, [first, second]) in pairs.iter().enumerate() {
                    let [a, b] = E::load_two::<L>(key.add(p * 2 * L::WIDTH));
                    sum = b.mul_add(*second, a.mul_add(*first, sum));
                }
                for (v, query) in singles.iter().enumerate() {
                    let key = single::<L, E>(key.add(paired + v * L::WIDTH), count(v));
                    sum = key.mul_add(*query, sum);
                }
                *part = sum;
            }
            // What is left of an earlier block in the last `parts` is not written.
            L::sums(&parts, scores.as_mut_ptr());
            for (t, score) in (start..start + some).zip(scores) {
                let to = job.scores.add(t);
                *to = if from == 0 { score } else { *to + score };
            }
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

/// The mean of the values under the scores, for `width` dimensions from `from`.
#[inline(always)]
unsafe fn mix<L: Lanes, E: Element, const PAIRS: usize, const SINGLES: usize>(
    job: &Job<E>,
    from: usize,
    width: usize,
    scale: f32,
) {
    let paired = PAIRS * 2 * L::WIDTH;
    let count = |v: usize| L::WIDTH.min(width - paired - v * L::WIDTH);
    // SAFETY: as in `score`.
    unsafe {
        let mut pairs = [[L::splat(0.0); 2]; PAIRS];
        let mut singles = [L::splat(0.0); SINGLES];
        for t in 0..job.len {
            let value = job.values.add(t * job.dim + from);
            let weight = L::splat(*job.scores.add(t));
            for (p, [first, second]) in pairs.iter_mut().enumerate() {
                let [a, b] = E::load_two::<L>(value.add(p * 2 * L::WIDTH));
                *first = a.mul_add(weight, *first);
                *second = b.mul_add(weight, *second);
            }
            for (v, sum) in singles.iter_mut().enumerate() {
                let value = single::<L, E>(value.add(paired + v * L::WIDTH), count(v));
                *sum = value.mul_add(weight, *sum);
            }
        }
        let (scale, out) = (L::splat(scale), job.out.add(from));
        for (p, [first, second]) in pairs.into_iter().enumerate() {
            let mut ordered = [0f32; 2 * WIDEST];
            first.mul(scale).store(ordered.as_mut_ptr());
            second.mul(scale).store(ordered.as_mut_ptr().add(L::WIDTH));
            for (i, value) in ordered.into_iter().enumerate().take(2 * L::WIDTH) {
                *out.add(p * 2 * L::WIDTH + place::<L, E>(i)) = value;
            }
        }
        for (v, sum) in singles.into_iter().enumerate() {
            sum.mul(scale).store_some(out.add(paired + v * L::WIDTH), count(v));
        }
    }
}
