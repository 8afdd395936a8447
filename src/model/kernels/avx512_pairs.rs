//! Products of pairs of bf16 by AVX-512 BF16.

use std::arch::x86_64::*;

use super::attend_panels::{Mix, Mixing};
use super::avx512::{first, sum};
use super::packed::{Line, Pair};
use super::product::Dot;

/// bf16 weights times bf16 inputs, two at a time into each of 16 sums (`vdpbf16ps`). To be used only where AVX-512 BF16 is too.
pub(super) struct Pairs;

#[inline(always)]
unsafe fn pairs(bits: __m512i) -> __m512bh {
    // SAFETY: both are 512 bits of anything.
    unsafe { std::mem::transmute(bits) }
}

// SAFETY (of every block below): as above.
impl Dot for Pairs {
    type Weight = u16;
    type Input = u16;
    type Part = __m512bh;
    type Sum = __m512;
    const STEP: usize = 32;
    const INPUTS: usize = 6;

    #[inline(always)]
    unsafe fn zero() -> __m512 {
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn weights(from: *const u16) -> __m512bh {
        unsafe { pairs(_mm512_loadu_si512(from.cast())) }
    }

    #[inline(always)]
    unsafe fn weights_some(from: *const u16, count: usize) -> __m512bh {
        unsafe { pairs(_mm512_maskz_loadu_epi16(first(count), from.cast())) }
    }

    #[inline(always)]
    unsafe fn inputs(from: *const u16) -> __m512bh {
        unsafe { pairs(_mm512_loadu_si512(from.cast())) }
    }

    #[inline(always)]
    unsafe fn add(to: __m512, weights: __m512bh, inputs: __m512bh) -> __m512 {
        unsafe { _mm512_dpbf16_ps(to, weights, inputs) }
    }

    #[inline(always)]
    unsafe fn total(of: __m512) -> f32 {
        unsafe { sum(of) }
    }
}

// SAFETY (of every block below): as above.
impl Pair for Pairs {
    type Input = u16;
    type Weights = __m512bh;
    type Sums = __m512;
    const TWO: bool = true;
    const INPUTS: usize = 12;

    #[inline(always)]
    unsafe fn zero() -> __m512 {
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(sums: __m512, to: *mut f32) {
        unsafe { _mm512_storeu_ps(to, sums) }
    }

    #[inline(always)]
    unsafe fn weights(line: *const Line) -> __m512bh {
        unsafe { pairs(_mm512_load_si512(line.cast())) }
    }

    #[inline(always)]
    unsafe fn add(to: __m512, weights: __m512bh, pair: *const u16) -> __m512 {
        unsafe {
            _mm512_dpbf16_ps(
                to,
                weights,
                pairs(_mm512_set1_epi32(pair.cast::<i32>().read_unaligned())),
            )
        }
    }

    #[inline(always)]
    unsafe fn fetch(line: *const Line) {
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.cast()) }
    }
}

/// Dimensions of two vectors of sums, which a vector of bf16 holds.
const WIDE: usize = 32;

// SAFETY (of every block below): as above, and the caller's promises.
impl Mix for Pairs {
    #[inline(always)]
    unsafe fn mix(job: &Mixing) {
        unsafe {
            for query in 0..job.count {
                round(job.weights.add(query * job.stride), *job.lens.add(query));
            }
            let step = 4 * WIDE;
            for from in (0..job.dim).step_by(step) {
                let width = step.min(job.dim - from);
                // As many queries as fit into registers with their sums.
                match width.div_ceil(WIDE) {
                    1 => all_queries::<1, 8>(job, from, width),
                    2 => all_queries::<2, 6>(job, from, width),
                    3 => all_queries::<3, 4>(job, from, width),
                    _ => all_queries::<4, 3>(job, from, width),
                }
            }
        }
    }
}

/// Rounds so many weights to bf16 where they lie; one of nought follows an odd number.
#[inline(always)]
unsafe fn round(weights: *mut f32, len: usize) {
    let to = weights.cast::<u16>();
    // What is written lies before what is still to be read.
    for at in (0..len).step_by(16) {
        let some = first((len - at).min(16)) as __mmask16;
        let even = first((len - at).next_multiple_of(2).min(16)) as __mmask16;
        unsafe {
            let values = _mm512_maskz_loadu_ps(some, weights.add(at));
            let rounded: __m256i = std::mem::transmute(_mm512_cvtneps_pbh(values));
            _mm256_mask_storeu_epi16(to.add(at).cast(), even, rounded);
        }
    }
}

/// `width` dimensions from `from`, in `V` vectors, for `Q` queries at a time.
#[inline(always)]
unsafe fn all_queries<const V: usize, const Q: usize>(job: &Mixing, from: usize, width: usize) {
    let mut query = 0;
    while query < job.count {
        unsafe {
            query += match job.count - query {
                left if left >= Q => together::<V, Q>(job, query, from, width),
                3.. if Q > 3 => together::<V, 3>(job, query, from, width),
                2 => together::<V, 2>(job, query, from, width),
                _ => together::<V, 1>(job, query, from, width),
            };
        }
    }
}

/// `V` vectors of two neighbouring positions as pairs: of each quarter the first four dimensions, and the last.
#[inline(always)]
unsafe fn interleaved(a: __m512i, b: __m512i) -> [__m512bh; 2] {
    unsafe { [pairs(_mm512_unpacklo_epi16(a, b)), pairs(_mm512_unpackhi_epi16(a, b))] }
}

/// `Q` queries from `query` on. Each sum goes over the pairs of positions in order: its bits depend on nothing else.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // Queries and vectors index what they share and what is their own alike.
unsafe fn together<const V: usize, const Q: usize>(job: &Mixing, query: usize, from: usize, width: usize) -> usize {
    unsafe {
        let mut sums = [[[_mm512_setzero_ps(); 2]; V]; Q];
        let mut masks = [0; V];
        for v in 0..V {
            masks[v] = first((width - v * WIDE).min(WIDE));
        }
        let mut weights = [job.weights.cast::<i32>(); Q];
        let mut lens = [0; Q];
        let mut shared = usize::MAX;
        for q in 0..Q {
            weights[q] = job.weights.add((query + q) * job.stride).cast();
            lens[q] = *job.lens.add(query + q);
            shared = shared.min(lens[q] / 2);
        }
        let values = job.values.add(from);
        for pair in 0..shared {
            let a = values.add(2 * pair * job.dim);
            let b = a.add(job.dim);
            for v in 0..V {
                let load = |at: *const u16| _mm512_maskz_loadu_epi16(masks[v], at.add(v * WIDE).cast());
                let halves = interleaved(load(a), load(b));
                for q in 0..Q {
                    let weight = pairs(_mm512_set1_epi32(weights[q].add(pair).read_unaligned()));
                    for half in 0..2 {
                        sums[q][v][half] = _mm512_dpbf16_ps(sums[q][v][half], halves[half], weight);
                    }
                }
            }
        }
        // The positions that not all of them see, and the last of an odd number.
        for q in 0..Q {
            for pair in shared..lens[q].div_ceil(2) {
                let a = values.add(2 * pair * job.dim);
                let both = 2 * pair + 1 < lens[q];
                let b = if both { a.add(job.dim) } else { a };
                let weight = pairs(_mm512_set1_epi32(weights[q].add(pair).read_unaligned()));
                for v in 0..V {
                    let load = |mask, at: *const u16| _mm512_maskz_loadu_epi16(mask, at.add(v * WIDE).cast());
                    let second = load(if both { masks[v] } else { 0 }, b);
                    let halves = interleaved(load(masks[v], a), second);
                    for half in 0..2 {
                        sums[q][v][half] = _mm512_dpbf16_ps(sums[q][v][half], halves[half], weight);
                    }
                }
            }
        }
        let order = [
            _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23),
            _mm512_setr_epi32(8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31),
        ];
        for q in 0..Q {
            let scale = _mm512_set1_ps(*job.scales.add(query + q));
            let out = job.out.add((query + q) * job.dim + from);
            for v in 0..V {
                let [low, high] = sums[q][v];
                for half in 0..2 {
                    let at = v * WIDE + half * 16;
                    let values = _mm512_mul_ps(_mm512_permutex2var_ps(low, order[half], high), scale);
                    let some = first(width.saturating_sub(at).min(16)) as __mmask16;
                    _mm512_mask_storeu_ps(out.add(at), some, values);
                }
            }
        }
    }
    Q
}
