//! Sixteen whole numbers of AVX-512, and the product of bytes (AVX-512 VNNI).

use std::arch::x86_64::*;

use super::avx512::Avx512;
use super::codes::TABLE;
use super::panels::Job;
use super::whole::Whole;

/// Sixteen whole numbers, products by `vpmaddwd`. To be used only where [`Avx512`] is.
#[derive(Clone, Copy)]
pub(super) struct Whole512(__m512i);

/// Sixteen whole numbers, products by `vpdpbusd`. To be used only where [`Avx512`] and AVX-512 VNNI are.
#[derive(Clone, Copy)]
pub(super) struct Vnni512(__m512i);

/// What both have alike.
macro_rules! sixteen_whole_numbers {
    () => {
        type Floats = Avx512;
        const INPUTS: usize = 12;

        #[inline(always)]
        unsafe fn splat(x: i32) -> Self {
            Self(unsafe { _mm512_set1_epi32(x) })
        }

        #[inline(always)]
        unsafe fn load(from: *const u8) -> Self {
            Self(unsafe { _mm512_loadu_si512(from.cast()) })
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut u8) {
            unsafe { _mm512_storeu_si512(to.cast(), self.0) }
        }

        #[inline(always)]
        unsafe fn levels(self) -> [Self; 2] {
            unsafe {
                let table = _mm512_broadcast_i32x4(_mm_loadu_si128(TABLE.as_ptr().cast()));
                let low = _mm512_set1_epi8(15);
                let halves = [self.0, _mm512_srli_epi16::<4>(self.0)];
                halves.map(|half| Self(_mm512_shuffle_epi8(table, _mm512_and_si512(half, low))))
            }
        }

        #[inline(always)]
        unsafe fn plus(self, other: Self) -> Self {
            Self(unsafe { _mm512_add_epi32(self.0, other.0) })
        }

        #[inline(always)]
        unsafe fn floats(self) -> Avx512 {
            Avx512(unsafe { _mm512_cvtepi32_ps(self.0) })
        }
    };
}

// SAFETY (of every block below): the instruction set is there and pointers are good for what is read or written, by the trait's contract.
impl Whole for Whole512 {
    type Input = i16;
    /// Those at even places, and those at odd ones.
    type Codes = [Self; 2];
    sixteen_whole_numbers!();

    #[inline(always)]
    fn inputs(job: &Job) -> *const i16 {
        job.words
    }

    #[inline(always)]
    unsafe fn codes(self) -> [Self; 2] {
        unsafe {
            [
                Self(_mm512_and_si512(self.0, _mm512_set1_epi16(0xff))),
                Self(_mm512_srli_epi16::<8>(self.0)),
            ]
        }
    }

    #[inline(always)]
    unsafe fn dot(self, codes: [Self; 2], four: *const i16) -> Self {
        unsafe {
            let pair = |number| _mm512_set1_epi32(four.cast::<i32>().add(number).read_unaligned());
            let products = [0, 1].map(|number| _mm512_madd_epi16(codes[number].0, pair(number)));
            Self(_mm512_add_epi32(self.0, _mm512_add_epi32(products[0], products[1])))
        }
    }
}

/// `to` and the products of each lane's four unsigned bytes in `codes` with the four signed ones at `four`.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn add_fours(to: __m512i, codes: __m512i, four: *const i8) -> __m512i {
    // SAFETY: the caller's promise.
    let four = _mm512_set1_epi32(unsafe { four.cast::<i32>().read_unaligned() });
    _mm512_dpbusd_epi32(to, codes, four)
}

// SAFETY (of every block below): as above.
impl Whole for Vnni512 {
    type Input = i8;
    type Codes = Self;
    sixteen_whole_numbers!();

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
