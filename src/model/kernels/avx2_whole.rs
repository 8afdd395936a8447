//! Eight whole numbers of AVX2, and the product of bytes (AVX-VNNI).

use std::arch::x86_64::*;

use super::avx2::Avx2;
use super::codes::TABLE;
use super::panels::Job;
use super::whole::Whole;

/// Eight whole numbers, products by `vpmaddwd`. To be used only where [`Avx2`] is.
#[derive(Clone, Copy)]
pub(super) struct Whole256(__m256i);

/// Eight whole numbers, products by `vpdpbusd`. To be used only where [`Avx2`] and AVX-VNNI are.
#[derive(Clone, Copy)]
pub(super) struct Vnni256(__m256i);

/// What both have alike.
macro_rules! eight_whole_numbers {
    () => {
        type Floats = Avx2;
        const INPUTS: usize = 6;

        #[inline(always)]
        unsafe fn splat(x: i32) -> Self {
            Self(unsafe { _mm256_set1_epi32(x) })
        }

        #[inline(always)]
        unsafe fn load(from: *const u8) -> Self {
            Self(unsafe { _mm256_loadu_si256(from.cast()) })
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut u8) {
            unsafe { _mm256_storeu_si256(to.cast(), self.0) }
        }

        #[inline(always)]
        unsafe fn levels(self) -> [Self; 2] {
            unsafe {
                let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(TABLE.as_ptr().cast()));
                let low = _mm256_set1_epi8(15);
                let halves = [self.0, _mm256_srli_epi16::<4>(self.0)];
                halves.map(|half| Self(_mm256_shuffle_epi8(table, _mm256_and_si256(half, low))))
            }
        }

        #[inline(always)]
        unsafe fn plus(self, other: Self) -> Self {
            Self(unsafe { _mm256_add_epi32(self.0, other.0) })
        }

        #[inline(always)]
        unsafe fn floats(self) -> Avx2 {
            Avx2(unsafe { _mm256_cvtepi32_ps(self.0) })
        }
    };
}

// SAFETY (of every block below): the instruction set is there and pointers are good for what is read or written, by the trait's contract.
impl Whole for Whole256 {
    type Input = i16;
    /// Those at even places, and those at odd ones.
    type Codes = [Self; 2];
    eight_whole_numbers!();

    #[inline(always)]
    fn inputs(job: &Job) -> *const i16 {
        job.words
    }

    #[inline(always)]
    unsafe fn codes(self) -> [Self; 2] {
        unsafe {
            [
                Self(_mm256_and_si256(self.0, _mm256_set1_epi16(0xff))),
                Self(_mm256_srli_epi16::<8>(self.0)),
            ]
        }
    }

    #[inline(always)]
    unsafe fn dot(self, codes: [Self; 2], four: *const i16) -> Self {
        unsafe {
            let pair = |number| _mm256_set1_epi32(four.cast::<i32>().add(number).read_unaligned());
            let products = [0, 1].map(|number| _mm256_madd_epi16(codes[number].0, pair(number)));
            Self(_mm256_add_epi32(self.0, _mm256_add_epi32(products[0], products[1])))
        }
    }
}

/// `to` and the products of each lane's four unsigned bytes in `codes` with the four signed ones at `four`.
#[inline]
#[target_feature(enable = "avx2,avxvnni")]
unsafe fn add_fours(to: __m256i, codes: __m256i, four: *const i8) -> __m256i {
    // SAFETY: the caller's promise.
    let four = _mm256_set1_epi32(unsafe { four.cast::<i32>().read_unaligned() });
    _mm256_dpbusd_avx_epi32(to, codes, four)
}

// SAFETY (of every block below): as above.
impl Whole for Vnni256 {
    type Input = i8;
    type Codes = Self;
    eight_whole_numbers!();

    #[inline(always)]
    fn inputs(job: &Job) -> *const i8 {
        job.bytes
    }

    #[inline(always)]
    unsafe fn codes(self) -> Self {
        self
    }

    #[inline(always)]
    unsafe fn dot(self, codes: Self, four: *const i8) -> Self {
        Self(unsafe { add_fours(self.0, codes.0, four) })
    }
}
