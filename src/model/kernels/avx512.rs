//! Sixteen lanes of AVX-512.

use std::arch::x86_64::*;

use super::codes::{LANES, LEVELS, Levels, STEP, STEPS, WAYS};
use super::lanes::{Lanes, WIDEST};

/// Sixteen f32. To be used only where AVX-512 F, BW, DQ and VL are.
#[derive(Clone, Copy)]
pub(super) struct Avx512(pub(super) __m512);

/// A mask of the first `count` lanes.
#[inline(always)]
pub(super) fn first(count: usize) -> u32 {
    debug_assert!(count <= 32);
    ((1u64 << count) - 1) as u32
}

/// Halves are added to halves. `_mm512_reduce_add_ps` leaves the order to the compiler.
#[inline(always)]
pub(super) unsafe fn sum(v: __m512) -> f32 {
    // SAFETY: the caller has AVX-512 F and DQ.
    unsafe {
        let eight = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps::<1>(v));
        let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
    }
}

#[inline(always)]
unsafe fn widen(bits: __m256i) -> Avx512 {
    // SAFETY: the caller has AVX-512 F.
    unsafe {
        Avx512(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(
            bits,
        ))))
    }
}

/// As [`super::pointwise::round_to_bf16`].
#[inline(always)]
unsafe fn round(x: __m512) -> __m256i {
    // SAFETY: the caller has AVX-512 F, as all that it calls needs.
    unsafe {
        let bits = _mm512_castps_si512(x);
        let high = _mm512_srli_epi32::<16>(bits);
        let odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
        let more = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
        let rounded = _mm512_srli_epi32::<16>(_mm512_add_epi32(bits, more));
        let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
        _mm512_cvtepi32_epi16(_mm512_mask_or_epi32(rounded, nan, high, _mm512_set1_epi32(0x40)))
    }
}

// SAFETY (of every block below): the instruction set is there and pointers are good for the elements read or written, by the
// trait's contract; lanes that are masked off touch no memory.
impl Lanes for Avx512 {
    const WIDTH: usize = 16;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Self(unsafe { _mm512_set1_ps(x) })
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(unsafe { _mm512_loadu_ps(from) })
    }

    #[inline(always)]
    unsafe fn load_some(from: *const f32, count: usize) -> Self {
        Self(unsafe { _mm512_maskz_loadu_ps(first(count) as u16, from) })
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self {
        unsafe { widen(_mm256_loadu_si256(from.cast())) }
    }

    #[inline(always)]
    unsafe fn load_bf16_some(from: *const u16, count: usize) -> Self {
        unsafe { widen(_mm256_maskz_loadu_epi16(first(count) as u16, from.cast())) }
    }

    #[inline(always)]
    unsafe fn load_bf16_two(from: *const u16) -> [Self; 2] {
        unsafe {
            let bits = _mm512_loadu_si512(from.cast());
            let odd = _mm512_and_si512(bits, _mm512_set1_epi32(0xffff_0000_u32 as i32));
            let even = _mm512_slli_epi32::<16>(bits);
            [Self(_mm512_castsi512_ps(even)), Self(_mm512_castsi512_ps(odd))]
        }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm512_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn store_some(self, to: *mut f32, count: usize) {
        unsafe { _mm512_mask_storeu_ps(to, first(count) as u16, self.0) }
    }

    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16) {
        unsafe { _mm256_storeu_si256(to.cast(), round(self.0)) }
    }

    #[inline(always)]
    unsafe fn store_bf16_some(self, to: *mut u16, count: usize) {
        unsafe { _mm256_mask_storeu_epi16(to.cast(), first(count) as u16, round(self.0)) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(unsafe { _mm512_add_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Self(unsafe { _mm512_sub_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        Self(unsafe { _mm512_mul_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        Self(unsafe { _mm512_div_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        Self(unsafe { _mm512_max_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        Self(unsafe { _mm512_min_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
        Self(unsafe { _mm512_fmadd_ps(self.0, factor.0, term.0) })
    }

    #[inline(always)]
    unsafe fn round(self) -> Self {
        Self(unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0) })
    }

    #[inline(always)]
    unsafe fn power_of_two(self) -> Self {
        unsafe {
            let exponent = _mm512_add_epi32(_mm512_cvtps_epi32(self.0), _mm512_set1_epi32(127));
            Self(_mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent)))
        }
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        unsafe { sum(self.0) }
    }

    #[inline(always)]
    unsafe fn sums(parts: &[Self; WIDEST], to: *mut f32) {
        // Each level adds the halves of twice as many vectors as it gives: eights, fours, twos, ones.
        unsafe {
            let mut eights = [_mm512_setzero_ps(); 8];
            for (i, to) in eights.iter_mut().enumerate() {
                let (a, b) = (parts[2 * i].0, parts[2 * i + 1].0);
                *to = _mm512_add_ps(_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0xee>(a, b));
            }
            let mut fours = [_mm512_setzero_ps(); 4];
            for (i, to) in fours.iter_mut().enumerate() {
                let (a, b) = (eights[2 * i], eights[2 * i + 1]);
                *to = _mm512_add_ps(_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xdd>(a, b));
            }
            // From here on each quarter of a vector goes on by itself: it holds one of every four parts.
            let mut twos = [_mm512_setzero_ps(); 2];
            for (i, to) in twos.iter_mut().enumerate() {
                let (a, b) = (fours[2 * i], fours[2 * i + 1]);
                *to = _mm512_add_ps(_mm512_shuffle_ps::<0x44>(a, b), _mm512_shuffle_ps::<0xee>(a, b));
            }
            let [a, b] = twos;
            let ones = _mm512_add_ps(_mm512_shuffle_ps::<0x88>(a, b), _mm512_shuffle_ps::<0xdd>(a, b));
            let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
            _mm512_storeu_ps(to, _mm512_permutexvar_ps(order, ones));
        }
    }

    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        unsafe { _mm512_reduce_max_ps(self.0) }
    }
}

/// Levels by looking up the step in which a number lies.
pub(super) struct LookedUp;

/// How many levels are below each of sixteen numbers, and the nearest levels.
#[inline(always)]
unsafe fn look_up(x: __m512) -> (__m512i, __m512) {
    const NEAR: [f32; LANES] = {
        let mut near = [0.0; LANES];
        let mut i = 0;
        while i < LANES {
            near[i] = LEVELS[i] as f32;
            i += 1;
        }
        near
    };
    // SAFETY: the caller has AVX-512 F; the tables hold sixteen numbers or twice as many.
    unsafe {
        let place = _mm512_mul_ps(_mm512_add_ps(x, _mm512_set1_ps(128.0)), _mm512_set1_ps(1.0 / STEP));
        let place = _mm512_max_ps(_mm512_min_ps(place, _mm512_set1_ps(31.0)), _mm512_setzero_ps());
        let step = _mm512_cvttps_epi32(place);
        let half = |of: *const i32, number: usize| _mm512_loadu_si512(of.add(number).cast());
        let (below, next) = (STEPS.0.as_ptr(), STEPS.1.as_ptr().cast());
        let below = _mm512_permutex2var_epi32(half(below, 0), step, half(below, LANES));
        let next = _mm512_permutex2var_epi32(half(next, 0), step, half(next, LANES));
        let more = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(x, _mm512_castsi512_ps(next));
        let code = _mm512_mask_add_epi32(below, more, below, _mm512_set1_epi32(1));
        (code, _mm512_permutexvar_ps(code, _mm512_loadu_ps(NEAR.as_ptr())))
    }
}

impl Levels for LookedUp {
    #[inline(always)]
    unsafe fn levels(x: &[f32; LANES]) -> ([f32; LANES], [u8; LANES]) {
        let (mut levels, mut codes) = ([0.0; LANES], [0; LANES]);
        // SAFETY: the caller has AVX-512 F; sixteen numbers are read and written each time.
        unsafe {
            let (code, level) = look_up(_mm512_loadu_ps(x.as_ptr()));
            _mm512_storeu_ps(levels.as_mut_ptr(), level);
            _mm_storeu_si128(codes.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(code));
        }
        (levels, codes)
    }

    #[inline(always)]
    unsafe fn fits(weights: &[f32], inverses: [f32; WAYS]) -> [(f32, f32); WAYS] {
        // SAFETY: the caller has AVX-512 F and DQ; whole vectors are read.
        unsafe {
            let zero = _mm512_setzero_ps();
            let mut parts = [Avx512(zero); WIDEST];
            for (pair, inverse) in parts.chunks_exact_mut(2).zip(inverses) {
                let (mut products, mut squares) = (zero, zero);
                for some in weights.as_chunks::<LANES>().0 {
                    let weights = _mm512_loadu_ps(some.as_ptr());
                    let (_, level) = look_up(_mm512_mul_ps(weights, _mm512_set1_ps(inverse)));
                    products = _mm512_add_ps(products, _mm512_mul_ps(weights, level));
                    squares = _mm512_add_ps(squares, _mm512_mul_ps(level, level));
                }
                (pair[0], pair[1]) = (Avx512(products), Avx512(squares));
            }
            let mut sums = [0.0; WIDEST];
            Avx512::sums(&parts, sums.as_mut_ptr());
            std::array::from_fn(|way| (sums[2 * way], sums[2 * way + 1]))
        }
    }
}
