//! Whole numbers side by side: codes of weights times inputs in fixed point.

use super::codes::TABLE;
use super::lanes::{Lanes, Portable};
use super::panels::Job;

/// Whole numbers, 32 bits a lane, as many lanes as `Floats` has.
///
/// # Safety
/// As for [`Lanes`].
pub(super) trait Whole: Copy {
    /// f32 in the same lanes.
    type Floats: Lanes;
    /// As inputs lie in memory.
    type Input: Copy;
    /// Four unsigned bytes a lane, as [`Self::dot`] takes them.
    type Codes: Copy;
    /// Most rows of inputs whose sums fit into registers.
    const INPUTS: usize;
    /// All lanes `x`.
    unsafe fn splat(x: i32) -> Self;
    /// Four bytes a lane.
    unsafe fn load(from: *const u8) -> Self;
    /// Writes four bytes a lane.
    unsafe fn store(self, to: *mut u8);
    /// The row of inputs of a job that is the first.
    fn inputs(job: &Job) -> *const Self::Input;
    /// The bytes of each lane.
    unsafe fn codes(self) -> Self::Codes;
    /// What [`super::codes::TABLE`] says of the low half of each byte, and of the high half.
    unsafe fn levels(self) -> [Self; 2];
    /// Adds to each lane the products of its four codes with the four inputs at `four`.
    unsafe fn dot(self, codes: Self::Codes, four: *const Self::Input) -> Self;
    /// `self + other`
    unsafe fn plus(self, other: Self) -> Self;
    /// As f32.
    unsafe fn floats(self) -> Self::Floats;
}

/// Eight lanes of whole numbers in plain Rust.
#[derive(Clone, Copy)]
pub(super) struct PortableWhole([i32; 8]);

// SAFETY (of every block below): pointers are good for what is read or written, by the trait's contract.
impl Whole for PortableWhole {
    type Floats = Portable;
    type Input = i16;
    /// Those at even places, and those at odd ones.
    type Codes = [Self; 2];
    const INPUTS: usize = 2;

    #[inline(always)]
    unsafe fn splat(x: i32) -> Self {
        Self([x; 8])
    }

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        Self(unsafe { from.cast::<[[u8; 4]; 8]>().read() }.map(i32::from_le_bytes))
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u8) {
        unsafe { to.cast::<[[u8; 4]; 8]>().write(self.0.map(i32::to_le_bytes)) }
    }

    #[inline(always)]
    fn inputs(job: &Job) -> *const i16 {
        job.words
    }

    #[inline(always)]
    unsafe fn codes(self) -> [Self; 2] {
        [0, 8].map(|shift| Self(self.0.map(|x| (x >> shift) & 0x00ff_00ff)))
    }

    #[inline(always)]
    unsafe fn levels(self) -> [Self; 2] {
        let half = |shift: u32| {
            let level = |byte: u8| TABLE[usize::from((byte >> shift) & 15)];
            Self(self.0.map(|x| i32::from_le_bytes(x.to_le_bytes().map(level))))
        };
        [half(0), half(4)]
    }

    #[inline(always)]
    unsafe fn dot(self, codes: [Self; 2], four: *const i16) -> Self {
        let mut out = self.0;
        for (codes, pair) in codes.iter().zip(unsafe { four.cast::<[[i16; 2]; 2]>().read() }) {
            for (sum, code) in out.iter_mut().zip(codes.0) {
                *sum += (code & 0xffff) * i32::from(pair[0]) + (code >> 16) * i32::from(pair[1]);
            }
        }
        Self(out)
    }

    #[inline(always)]
    unsafe fn plus(self, other: Self) -> Self {
        Self(std::array::from_fn(|lane| self.0[lane].wrapping_add(other.0[lane])))
    }

    #[inline(always)]
    unsafe fn floats(self) -> Portable {
        Portable(self.0.map(|x| x as f32))
    }
}
