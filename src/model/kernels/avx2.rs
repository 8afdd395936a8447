//! Eight lanes of AVX2 with FMA.

use std::arch::x86_64::*;

use super::lanes::{Lanes, WIDEST};

/// Eight f32. To be used only where AVX2 and FMA are.
#[derive(Clone, Copy)]
pub(super) struct Avx2(pub(super) __m256);

/// Ones, then zeros: from `8 - count` it is the mask of the first `count` lanes.
static MASK: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

#[inline(always)]
unsafe fn mask(count: usize) -> __m256i {
    debug_assert!(count <= 8);
    // SAFETY: count ≤ 8, so that eight entries follow.
    unsafe { _mm256_loadu_si256(MASK.as_ptr().add(8 - count).cast()) }
}

// SAFETY (of every block below): the instruction set is there and pointers are good for the elements read or written, by the
// trait's contract.
impl Lanes for Avx2 {
    const WIDTH: usize = 8;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Self(unsafe { _mm256_set1_ps(x) })
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(unsafe { _mm256_loadu_ps(from) })
    }

    #[inline(always)]
    unsafe fn load_some(from: *const f32, count: usize) -> Self {
        Self(unsafe { _mm256_maskload_ps(from, mask(count)) })
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self {
        unsafe {
            let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
            Self(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide)))
        }
    }

    #[inline(always)]
    unsafe fn load_bf16_some(from: *const u16, count: usize) -> Self {
        let mut whole = [0u16; 8];
        unsafe {
            std::ptr::copy_nonoverlapping(from, whole.as_mut_ptr(), count);
            Self::load_bf16(whole.as_ptr())
        }
    }

    #[inline(always)]
    unsafe fn load_bf16_two(from: *const u16) -> [Self; 2] {
        unsafe {
            let bits = _mm256_loadu_si256(from.cast());
            let odd = _mm256_and_si256(bits, _mm256_set1_epi32(0xffff_0000_u32 as i32));
            let even = _mm256_slli_epi32::<16>(bits);
            [Self(_mm256_castsi256_ps(even)), Self(_mm256_castsi256_ps(odd))]
        }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm256_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn store_some(self, to: *mut f32, count: usize) {
        unsafe { _mm256_maskstore_ps(to, mask(count), self.0) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(unsafe { _mm256_add_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Self(unsafe { _mm256_sub_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        Self(unsafe { _mm256_mul_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        Self(unsafe { _mm256_div_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        Self(unsafe { _mm256_max_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        Self(unsafe { _mm256_min_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
        Self(unsafe { _mm256_fmadd_ps(self.0, factor.0, term.0) })
    }

    #[inline(always)]
    unsafe fn round(self) -> Self {
        Self(unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0) })
    }

    #[inline(always)]
    unsafe fn power_of_two(self) -> Self {
        unsafe {
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(self.0), _mm256_set1_epi32(127));
            Self(_mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent)))
        }
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }

    #[inline(always)]
    unsafe fn sums(parts: &[Self; WIDEST], to: *mut f32) {
        // Each level adds the halves of twice as many vectors as it gives: fours, twos, ones.
        unsafe {
            let mut fours = [_mm256_setzero_ps(); 4];
            for (i, to) in fours.iter_mut().enumerate() {
                let (a, b) = (parts[2 * i].0, parts[2 * i + 1].0);
                let (low, high) = (
                    _mm256_permute2f128_ps::<0x20>(a, b),
                    _mm256_permute2f128_ps::<0x31>(a, b),
                );
                *to = _mm256_add_ps(low, high);
            }
            // From here on each half of a vector goes on by itself: it holds every other part.
            let mut twos = [_mm256_setzero_ps(); 2];
            for (i, to) in twos.iter_mut().enumerate() {
                let (a, b) = (fours[2 * i], fours[2 * i + 1]);
                *to = _mm256_add_ps(_mm256_shuffle_ps::<0x44>(a, b), _mm256_shuffle_ps::<0xee>(a, b));
            }
            let [a, b] = twos;
            let ones = _mm256_add_ps(_mm256_shuffle_ps::<0x88>(a, b), _mm256_shuffle_ps::<0xdd>(a, b));
            let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
            _mm256_storeu_ps(to, _mm256_permutevar8x32_ps(ones, order));
        }
    }

    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        unsafe {
            let four = _mm_max_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }
}
