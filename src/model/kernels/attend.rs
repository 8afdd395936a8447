//! Queries of one head over the keys and values of their sequence, where they lie.
//!
//! Neighbouring queries of a sequence go over the same keys: up to four share each key in registers. Each gets the bits that it would get alone.

use super::lanes::{Element, Lanes, WIDEST, exp};

/// Vectors of a head held in registers at a time; longer heads take several rounds.
const ROUND: usize = 8;

/// Vectors of a head of which several queries fit into registers.
const SHARED: usize = 5;

/// Calls `$function` for a round of `$width` dimensions with as many pairs of vectors as they fill, as many single vectors as are left, and the number of
/// queries: one in up to [`ROUND`] vectors, or several in up to [`SHARED`].
macro_rules! in_vectors {
    ($lanes:ty, $element:ty, 1, $width:expr, $function:ident $arguments:tt) => {
        in_vectors!(@ $lanes, $element, 1, $width, $function $arguments,
            (0, 1) (0, 2) (1, 0) (1, 1) (1, 2) (2, 0) (2, 1) (2, 2) (3, 0) (3, 1) (3, 2), 4, 0)
    };
    ($lanes:ty, $element:ty, $queries:ident, $width:expr, $function:ident $arguments:tt) => {
        in_vectors!(@ $lanes, $element, $queries, $width, $function $arguments,
            (0, 1) (0, 2) (1, 0) (1, 1) (1, 2) (2, 0), 2, 1)
    };
    (@ $lanes:ty, $element:ty, $queries:tt, $width:expr, $function:ident $arguments:tt,
        $(($pairs:literal, $singles:literal))*, $most_pairs:literal, $most_singles:literal) => {
        match ($width / (2 * <$lanes>::WIDTH), ($width % (2 * <$lanes>::WIDTH)).div_ceil(<$lanes>::WIDTH)) {
            $(($pairs, $singles) => in_vectors!(# $lanes, $element, $queries, $pairs, $singles, $function $arguments),)*
            _ => in_vectors!(# $lanes, $element, $queries, $most_pairs, $most_singles, $function $arguments),
        }
    };
    (# $lanes:ty, $element:ty, $queries:tt, $pairs:literal, $singles:literal, $function:ident $arguments:tt) => {
        $function::<$lanes, $element, $pairs, $singles, $queries> $arguments
    };
}

/// What queries work on.
pub(super) struct Job<E> {
    /// The queries, scaled: `[count, dim]`.
    pub queries: *const f32,
    /// Positions that each attends to, at least one.
    pub lens: *const usize,
    /// Queries.
    pub count: usize,
    /// Keys: `[longest, dim]`.
    pub keys: *const E,
    /// Values: `[longest, dim]`.
    pub values: *const E,
    /// Dimensions of the head.
    pub dim: usize,
    /// Scratch, `[count, longest]`.
    pub scores: *mut f32,
    /// The most positions.
    pub longest: usize,
    /// `[count, dim]`.
    pub out: *mut f32,
}

/// `out = softmax(query · keysᵀ) · values` for each query, all in f32.
///
/// # Safety
/// The instruction set of `L` is there, and the job's pointers are good for what its fields say.
#[inline(always)]
pub(super) unsafe fn attend<L: Lanes, E: Element>(job: &Job<E>) {
    let share = job.dim <= SHARED * L::WIDTH;
    let mut first = 0;
    while first < job.count {
        // SAFETY: so many queries are left.
        unsafe {
            first += match job.count - first {
                4.. if share => together::<L, E, 4>(job, first),
                2.. if share => together::<L, E, 2>(job, first),
                _ => alone::<L, E>(job, first),
            };
        }
    }
}

/// The means of the values under the scores, which are exponentials already: each is multiplied by its one of `scales`.
///
/// # Safety
/// As for [`attend`].
#[inline(always)]
pub(super) unsafe fn mix_all<L: Lanes, E: Element>(job: &Job<E>, scales: *const f32) {
    let share = job.dim <= SHARED * L::WIDTH;
    let mut first = 0;
    while first < job.count {
        // SAFETY: so many queries are left.
        unsafe {
            let scales = scales.add(first);
            first += match job.count - first {
                4.. if share => mix_together::<L, E, 4>(job, first, scales.cast::<[f32; 4]>().read()),
                2.. if share => mix_together::<L, E, 2>(job, first, scales.cast::<[f32; 2]>().read()),
                _ => mix_alone::<L, E>(job, first, *scales),
            };
        }
    }
}

/// One query, in as many rounds as its dimensions take.
#[inline(always)]
unsafe fn alone<L: Lanes, E: Element>(job: &Job<E>, first: usize) -> usize {
    let step = ROUND * L::WIDTH;
    // SAFETY: each round stays inside the head; the rest is the caller's promise.
    unsafe {
        for from in (0..job.dim).step_by(step) {
            let width = step.min(job.dim - from);
            in_vectors!(L, E, 1, width, score(job, first, from, width));
        }
        let scale = 1.0 / exponentials::<L>(job.scores.add(first * job.longest), *job.lens.add(first));
        mix_alone::<L, E>(job, first, scale)
    }
}

/// The second half of [`alone`].
#[inline(always)]
unsafe fn mix_alone<L: Lanes, E: Element>(job: &Job<E>, first: usize, scale: f32) -> usize {
    let step = ROUND * L::WIDTH;
    // SAFETY: as there.
    unsafe {
        for from in (0..job.dim).step_by(step) {
            let width = step.min(job.dim - from);
            in_vectors!(L, E, 1, width, mix(job, first, from, width, [scale]));
        }
    }
    1
}

/// `Q` queries, each of at most [`SHARED`] vectors.
#[inline(always)]
unsafe fn together<L: Lanes, E: Element, const Q: usize>(job: &Job<E>, first: usize) -> usize {
    // SAFETY: the caller's promise.
    unsafe {
        in_vectors!(L, E, Q, job.dim, score(job, first, 0, job.dim));
        let mut scales = [0.0; Q];
        for (q, scale) in scales.iter_mut().enumerate() {
            *scale = 1.0 / exponentials::<L>(job.scores.add((first + q) * job.longest), *job.lens.add(first + q));
        }
        mix_together::<L, E, Q>(job, first, scales)
    }
}

/// The second half of [`together`].
#[inline(always)]
unsafe fn mix_together<L: Lanes, E: Element, const Q: usize>(job: &Job<E>, first: usize, scales: [f32; Q]) -> usize {
    // SAFETY: the caller's promise.
    unsafe {
        in_vectors!(L, E, Q, job.dim, mix(job, first, 0, job.dim, scales));
    }
    Q
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
#[allow(clippy::needless_range_loop)] // Queries index what they hold and what they have gathered alike.
unsafe fn score<L: Lanes, E: Element, const PAIRS: usize, const SINGLES: usize, const Q: usize>(
    job: &Job<E>,
    first: usize,
    from: usize,
    width: usize,
) {
    let paired = PAIRS * 2 * L::WIDTH;
    let count = |v: usize| L::WIDTH.min(width - paired - v * L::WIDTH);
    // SAFETY: pairs and singles together are `width` dimensions.
    unsafe {
        let mut pairs = [[[L::splat(0.0); 2]; PAIRS]; Q];
        let mut singles = [[L::splat(0.0); SINGLES]; Q];
        let mut lens = [0; Q];
        let mut most = 0;
        for q in 0..Q {
            let query = job.queries.add((first + q) * job.dim + from);
            for (p, pair) in pairs[q].iter_mut().enumerate() {
                let mut ordered = [0f32; 2 * WIDEST];
                for (i, to) in ordered.iter_mut().enumerate().take(2 * L::WIDTH) {
                    *to = *query.add(p * 2 * L::WIDTH + place::<L, E>(i));
                }
                *pair = [L::load(ordered.as_ptr()), L::load(ordered.as_ptr().add(L::WIDTH))];
            }
            for (v, part) in singles[q].iter_mut().enumerate() {
                *part = L::load_some(query.add(paired + v * L::WIDTH), count(v));
            }
            lens[q] = *job.lens.add(first + q);
            most = lens[q].max(most);
        }
        let keys = job.keys.add(from);
        let mut parts = [[L::splat(0.0); WIDEST]; Q];
        for start in (0..most).step_by(L::WIDTH) {
            let some = L::WIDTH.min(most - start);
            for i in 0..some {
                let key = keys.add((start + i) * job.dim);
                let mut sums = [L::splat(0.0); Q];
                for p in 0..PAIRS {
                    let [a, b] = E::load_two::<L>(key.add(p * 2 * L::WIDTH));
                    for q in 0..Q {
                        let [first, second] = pairs[q][p];
                        sums[q] = b.mul_add(second, a.mul_add(first, sums[q]));
                    }
                }
                for v in 0..SINGLES {
                    let key = single::<L, E>(key.add(paired + v * L::WIDTH), count(v));
                    for q in 0..Q {
                        sums[q] = key.mul_add(singles[q][v], sums[q]);
                    }
                }
                for q in 0..Q {
                    parts[q][i] = sums[q];
                }
            }
            for q in 0..Q {
                // What is left of an earlier block in the last `parts` is not written.
                let mut scores = [0f32; WIDEST];
                L::sums(&parts[q], scores.as_mut_ptr());
                let to = job.scores.add((first + q) * job.longest + start);
                let some = L::WIDTH.min(lens[q].saturating_sub(start));
                let mut added = L::load(scores.as_ptr());
                if from > 0 {
                    added = L::load_some(to, some).add(added);
                }
                added.store_some(to, some);
            }
        }
    }
}

/// Replaces the scores by `e^(score − largest)` and gives their sum.
#[inline(always)]
pub(super) unsafe fn exponentials<L: Lanes>(scores: *mut f32, len: usize) -> f32 {
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
#[allow(clippy::needless_range_loop)] // As in `score`.
unsafe fn mix<L: Lanes, E: Element, const PAIRS: usize, const SINGLES: usize, const Q: usize>(
    job: &Job<E>,
    first: usize,
    from: usize,
    width: usize,
    scales: [f32; Q],
) {
    let paired = PAIRS * 2 * L::WIDTH;
    let count = |v: usize| L::WIDTH.min(width - paired - v * L::WIDTH);
    // SAFETY: as in `score`.
    unsafe {
        let mut pairs = [[[L::splat(0.0); 2]; PAIRS]; Q];
        let mut singles = [[L::splat(0.0); SINGLES]; Q];
        let mut all = usize::MAX;
        for q in 0..Q {
            all = all.min(*job.lens.add(first + q));
        }
        for t in 0..all {
            let value = job.values.add(t * job.dim + from);
            let mut weights = [L::splat(0.0); Q];
            for q in 0..Q {
                weights[q] = L::splat(*job.scores.add((first + q) * job.longest + t));
            }
            for p in 0..PAIRS {
                let [a, b] = E::load_two::<L>(value.add(p * 2 * L::WIDTH));
                for q in 0..Q {
                    let [first, second] = pairs[q][p];
                    pairs[q][p] = [a.mul_add(weights[q], first), b.mul_add(weights[q], second)];
                }
            }
            for v in 0..SINGLES {
                let value = single::<L, E>(value.add(paired + v * L::WIDTH), count(v));
                for q in 0..Q {
                    singles[q][v] = value.mul_add(weights[q], singles[q][v]);
                }
            }
        }
        // The positions that not all of them see.
        for q in 0..Q {
            for t in all..*job.lens.add(first + q) {
                let value = job.values.add(t * job.dim + from);
                let weight = L::splat(*job.scores.add((first + q) * job.longest + t));
                for p in 0..PAIRS {
                    let [a, b] = E::load_two::<L>(value.add(p * 2 * L::WIDTH));
                    let [first, second] = pairs[q][p];
                    pairs[q][p] = [a.mul_add(weight, first), b.mul_add(weight, second)];
                }
                for v in 0..SINGLES {
                    let value = single::<L, E>(value.add(paired + v * L::WIDTH), count(v));
                    singles[q][v] = value.mul_add(weight, singles[q][v]);
                }
            }
        }
        for q in 0..Q {
            let (scale, out) = (L::splat(scales[q]), job.out.add((first + q) * job.dim + from));
            for (p, [first, second]) in pairs[q].into_iter().enumerate() {
                let mut ordered = [0f32; 2 * WIDEST];
                first.mul(scale).store(ordered.as_mut_ptr());
                second.mul(scale).store(ordered.as_mut_ptr().add(L::WIDTH));
                for (i, value) in ordered.into_iter().enumerate().take(2 * L::WIDTH) {
                    *out.add(p * 2 * L::WIDTH + place::<L, E>(i)) = value;
                }
            }
            for (v, sum) in singles[q].into_iter().enumerate() {
                sum.mul(scale).store_some(out.add(paired + v * L::WIDTH), count(v));
            }
        }
    }
}
