//! The vector that kernels are written in.

use super::pointwise::round_to_bf16;

/// Lanes of the widest vector.
pub(super) const WIDEST: usize = 16;

/// A few f32 side by side. Kernels are written once over this trait, and compiled per instruction set.
///
/// # Safety
/// Every method needs the instruction set of its type to be there, and pointers good for as many elements as it says.
/// Methods are inlined into functions that have the instruction set enabled.
pub(super) trait Lanes: Copy {
    /// Lanes.
    const WIDTH: usize;
    /// All lanes `x`.
    unsafe fn splat(x: f32) -> Self;
    /// `WIDTH` values.
    unsafe fn load(from: *const f32) -> Self;
    /// The first `count ≤ WIDTH` values, then zeros.
    unsafe fn load_some(from: *const f32, count: usize) -> Self;
    /// `WIDTH` bf16, widened.
    unsafe fn load_bf16(from: *const u16) -> Self;
    /// The first `count ≤ WIDTH` bf16, widened, then zeros.
    unsafe fn load_bf16_some(from: *const u16, count: usize) -> Self;
    /// `2·WIDTH` bf16, widened: those at even places, then those at odd places.
    unsafe fn load_bf16_two(from: *const u16) -> [Self; 2];
    /// Writes `WIDTH` values.
    unsafe fn store(self, to: *mut f32);
    /// Writes the first `count ≤ WIDTH` values.
    unsafe fn store_some(self, to: *mut f32, count: usize);
    /// Writes `WIDTH` values as the bits of the nearest bf16; NaN stays NaN.
    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16) {
        // SAFETY: the caller's promise.
        unsafe { self.store_bf16_some(to, Self::WIDTH) }
    }
    /// [`Self::store_bf16`] of the first `count ≤ WIDTH` values.
    #[inline(always)]
    unsafe fn store_bf16_some(self, to: *mut u16, count: usize) {
        let mut wide = [0f32; WIDEST];
        // SAFETY: a vector fits; the caller's promise is the same.
        unsafe {
            self.store(wide.as_mut_ptr());
            for (i, &value) in wide[..count].iter().enumerate() {
                *to.add(i) = round_to_bf16(value);
            }
        }
    }
    /// `self + other`
    unsafe fn add(self, other: Self) -> Self;
    /// `self - other`
    unsafe fn sub(self, other: Self) -> Self;
    /// `self · other`
    unsafe fn mul(self, other: Self) -> Self;
    /// `self / other`
    unsafe fn div(self, other: Self) -> Self;
    /// The larger of the two; `other` where either is NaN.
    unsafe fn max(self, other: Self) -> Self;
    /// The smaller of the two; `other` where either is NaN.
    unsafe fn min(self, other: Self) -> Self;
    /// `self · factor + term`, rounded once where the hardware does.
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self;
    /// The nearest integers.
    unsafe fn round(self) -> Self;
    /// `2^self` for whole numbers in −126..=127.
    unsafe fn power_of_two(self) -> Self;
    /// The sum of the lanes: halves are added to halves, always in the same order.
    unsafe fn sum(self) -> f32;
    /// Writes the [`Self::sum`] of each of the first `WIDTH` of `parts`, the same to the bit.
    #[inline(always)]
    unsafe fn sums(parts: &[Self; WIDEST], to: *mut f32) {
        for (i, part) in parts.iter().enumerate().take(Self::WIDTH) {
            // SAFETY: the caller's promise.
            unsafe { *to.add(i) = part.sum() };
        }
    }
    /// The largest lane.
    unsafe fn largest(self) -> f32;
}

/// An element of memory that kernels compute with as f32.
pub(super) trait Element: Copy {
    /// Whether [`Self::load_two`] takes even and odd places apart.
    const APART: bool;
    /// `2·L::WIDTH` elements: the first half and the second, or, if they are taken apart, those at even places and those at odd ones.
    ///
    /// # Safety
    /// As [`Lanes::load`].
    unsafe fn load_two<L: Lanes>(from: *const Self) -> [L; 2];
    /// `L::WIDTH` elements.
    ///
    /// # Safety
    /// As [`Lanes::load`].
    unsafe fn load<L: Lanes>(from: *const Self) -> L;
    /// The first `count` elements, then zeros.
    ///
    /// # Safety
    /// As [`Lanes::load_some`].
    unsafe fn load_some<L: Lanes>(from: *const Self, count: usize) -> L;
    /// Writes `L::WIDTH` elements, rounded to the nearest.
    ///
    /// # Safety
    /// As [`Lanes::store`].
    unsafe fn store<L: Lanes>(values: L, to: *mut Self);
    /// Writes the first `count` elements, rounded likewise.
    ///
    /// # Safety
    /// As [`Lanes::store_some`].
    unsafe fn store_some<L: Lanes>(values: L, to: *mut Self, count: usize);
}

impl Element for f32 {
    const APART: bool = false;

    #[inline(always)]
    unsafe fn load_two<L: Lanes>(from: *const Self) -> [L; 2] {
        // SAFETY: the caller's promise is the same.
        unsafe { [L::load(from), L::load(from.add(L::WIDTH))] }
    }

    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const Self) -> L {
        // SAFETY: the caller's promise is the same.
        unsafe { L::load(from) }
    }

    #[inline(always)]
    unsafe fn load_some<L: Lanes>(from: *const Self, count: usize) -> L {
        // SAFETY: the caller's promise is the same.
        unsafe { L::load_some(from, count) }
    }

    #[inline(always)]
    unsafe fn store<L: Lanes>(values: L, to: *mut Self) {
        // SAFETY: the caller's promise is the same.
        unsafe { values.store(to) }
    }

    #[inline(always)]
    unsafe fn store_some<L: Lanes>(values: L, to: *mut Self, count: usize) {
        // SAFETY: the caller's promise is the same.
        unsafe { values.store_some(to, count) }
    }
}

/// The bits of a bf16.
impl Element for u16 {
    const APART: bool = true;

    #[inline(always)]
    unsafe fn load_two<L: Lanes>(from: *const Self) -> [L; 2] {
        // SAFETY: the caller's promise is the same.
        unsafe { L::load_bf16_two(from) }
    }

    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const Self) -> L {
        // SAFETY: the caller's promise is the same.
        unsafe { L::load_bf16(from) }
    }

    #[inline(always)]
    unsafe fn load_some<L: Lanes>(from: *const Self, count: usize) -> L {
        // SAFETY: the caller's promise is the same.
        unsafe { L::load_bf16_some(from, count) }
    }

    #[inline(always)]
    unsafe fn store<L: Lanes>(values: L, to: *mut Self) {
        // SAFETY: the caller's promise is the same.
        unsafe { values.store_bf16(to) }
    }

    #[inline(always)]
    unsafe fn store_some<L: Lanes>(values: L, to: *mut Self, count: usize) {
        // SAFETY: the caller's promise is the same.
        unsafe { values.store_bf16_some(to, count) }
    }
}

/// `e^x`, relative error below 3e-7; below −87 it stays at `e^−87`, above 88 at `e^88`.
///
/// `x = n·ln 2 + r` with `|r| ≤ ln 2 / 2`; `e^r` by Taylor's series to the seventh power (remainder below 6e-9).
#[inline(always)]
pub(super) unsafe fn exp<L: Lanes>(x: L) -> L {
    // ln 2 in two parts, the first with few enough bits that n times it is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    const TAYLOR: [f32; 8] = [
        1.0 / 5040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    ];
    // SAFETY: only arithmetic; the caller has the instruction set.
    unsafe {
        // In this order NaN stays NaN.
        let x = L::splat(88.0).min(L::splat(-87.0).max(x));
        let n = x.mul(L::splat(std::f32::consts::LOG2_E)).round();
        let r = n.mul_add(L::splat(-LN2_HIGH), x);
        let r = n.mul_add(L::splat(-LN2_LOW), r);
        let mut series = L::splat(TAYLOR[0]);
        for term in &TAYLOR[1..] {
            series = series.mul_add(r, L::splat(*term));
        }
        series.mul(n.power_of_two())
    }
}

/// Eight lanes of plain Rust, which compilers turn into whatever vectors the target has.
#[derive(Clone, Copy)]
pub(super) struct Portable(pub(super) [f32; 8]);

impl Portable {
    #[inline(always)]
    fn map(self, f: impl Fn(f32) -> f32) -> Self {
        Self(self.0.map(f))
    }

    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        let mut out = self.0;
        for (a, b) in out.iter_mut().zip(other.0) {
            *a = f(*a, b);
        }
        Self(out)
    }

    #[inline(always)]
    fn fold(self, f: impl Fn(f32, f32) -> f32) -> f32 {
        let [a, b, c, d, e, g, h, i] = self.0;
        f(f(f(a, e), f(c, h)), f(f(b, g), f(d, i)))
    }
}

/// A bf16 in f32.
#[inline(always)]
pub(super) fn widen(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

// SAFETY (of every block below): pointers are good for the elements read or written, by the trait's contract.
impl Lanes for Portable {
    const WIDTH: usize = 8;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Self([x; 8])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(unsafe { from.cast::<[f32; 8]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn load_some(from: *const f32, count: usize) -> Self {
        let mut out = [0.0; 8];
        for (i, lane) in out.iter_mut().enumerate().take(count) {
            *lane = unsafe { *from.add(i) };
        }
        Self(out)
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self {
        Self(unsafe { from.cast::<[u16; 8]>().read_unaligned() }.map(widen))
    }

    #[inline(always)]
    unsafe fn load_bf16_some(from: *const u16, count: usize) -> Self {
        let mut out = [0.0; 8];
        for (i, lane) in out.iter_mut().enumerate().take(count) {
            *lane = widen(unsafe { *from.add(i) });
        }
        Self(out)
    }

    #[inline(always)]
    unsafe fn load_bf16_two(from: *const u16) -> [Self; 2] {
        let bits = unsafe { from.cast::<[[u16; 2]; 8]>().read_unaligned() };
        [
            Self(bits.map(|[even, _]| widen(even))),
            Self(bits.map(|[_, odd]| widen(odd))),
        ]
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { to.cast::<[f32; 8]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn store_some(self, to: *mut f32, count: usize) {
        for (i, lane) in self.0.iter().enumerate().take(count) {
            unsafe { *to.add(i) = *lane };
        }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }

    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
        // Not `f32::mul_add`: without the instruction that is a call.
        self.zip(factor, |a, b| a * b).zip(term, |a, b| a + b)
    }

    #[inline(always)]
    unsafe fn round(self) -> Self {
        // Adding and taking away 1.5·2²³ rounds what is smaller than 2²².
        const MAGIC: f32 = 12_582_912.0;
        self.map(|a| (a + MAGIC) - MAGIC)
    }

    #[inline(always)]
    unsafe fn power_of_two(self) -> Self {
        self.map(|a| f32::from_bits(((a as i32 + 127) << 23) as u32))
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        self.fold(|a, b| a + b)
    }

    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        self.fold(|a, b| if a > b { a } else { b })
    }
}
