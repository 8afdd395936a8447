//! LayerNorm, activations and rounding.

use super::finish::Put;
use super::lanes::{Lanes, exp};

/// `out = (x − mean) / √(variance + eps) · weight + bias`, the variance by a second pass.
///
/// # Safety
/// The instruction set of `L` is there; all pointers are good for `len` elements.
#[inline(always)]
pub(super) unsafe fn norm<L: Lanes, P: Put>(
    x: *const f32,
    weight: *const f32,
    bias: *const f32,
    len: usize,
    eps: f32,
    out: *mut P::Cell,
) {
    let (whole, tail) = (len / L::WIDTH * L::WIDTH, len % L::WIDTH);
    // SAFETY: whole vectors and the tail stay inside `len`.
    unsafe {
        let mut sums = L::load_some(x.add(whole), tail);
        for i in (0..whole).step_by(L::WIDTH) {
            sums = sums.add(L::load(x.add(i)));
        }
        let mean = sums.sum() / len as f32;
        let shift = L::splat(mean);
        let mut squares = L::splat(0.0);
        for i in (0..whole).step_by(L::WIDTH) {
            let d = L::load(x.add(i)).sub(shift);
            squares = d.mul_add(d, squares);
        }
        let mut square = squares.sum();
        for i in whole..len {
            let d = *x.add(i) - mean;
            square += d * d;
        }
        let scale = L::splat(1.0 / (square / len as f32 + eps).sqrt());
        for i in (0..whole).step_by(L::WIDTH) {
            let centred = L::load(x.add(i)).sub(shift).mul(scale);
            let normed = centred.mul_add(L::load(weight.add(i)), L::load(bias.add(i)));
            P::put(normed, out.add(i));
        }
        let centred = L::load_some(x.add(whole), tail).sub(shift).mul(scale);
        let normed = centred.mul_add(
            L::load_some(weight.add(whole), tail),
            L::load_some(bias.add(whole), tail),
        );
        P::put_some(normed, out.add(whole), tail);
    }
}

/// A function of one number, for each lane.
pub(super) trait Map {
    /// # Safety
    /// The instruction set of `L` is there.
    unsafe fn map<L: Lanes>(x: L) -> L;
}

/// `x`.
pub(super) struct Same;

impl Map for Same {
    #[inline(always)]
    unsafe fn map<L: Lanes>(x: L) -> L {
        x
    }
}

/// `x·Φ(x)`, absolute error below 2e-7·|x|.
///
/// With `t = 1 / (1 + 0.3275911·|z|)`, `z = x/√2`, the tail `1 − Φ(|x|)` is half of `(a₁t + … + a₅t⁵)·e^(−z²)` (Abramowitz and Stegun,
/// 7.1.26); then `x·Φ(x) = max(x, 0) − |x|·tail` for both signs.
pub(super) struct Gelu;

impl Map for Gelu {
    #[inline(always)]
    unsafe fn map<L: Lanes>(x: L) -> L {
        const A: [f32; 5] = [1.061_405_4, -1.453_152, 1.421_413_8, -0.284_496_72, 0.254_829_6];
        // SAFETY: only arithmetic; the caller has the instruction set.
        unsafe {
            let (zero, one) = (L::splat(0.0), L::splat(1.0));
            let magnitude = x.max(zero.sub(x));
            let z = magnitude.mul(L::splat(std::f32::consts::FRAC_1_SQRT_2));
            let t = one.div(z.mul_add(L::splat(0.327_591_1), one));
            let mut series = L::splat(A[0]);
            for a in &A[1..] {
                series = series.mul_add(t, L::splat(*a));
            }
            let tail = exp(zero.sub(z.mul(z))).mul(series.mul(t)).mul(L::splat(0.5));
            x.max(zero).sub(magnitude.mul(tail))
        }
    }
}

/// `x·(1 + tanh(u))/2` with `u = √(2/π)·(x + 0.044715·x³)`, which is `x / (1 + e^(−2u))`.
pub(super) struct GeluTanh;

impl Map for GeluTanh {
    #[inline(always)]
    unsafe fn map<L: Lanes>(x: L) -> L {
        const TWICE: f32 = -2.0 * 0.797_884_6;
        // SAFETY: only arithmetic; the caller has the instruction set.
        unsafe {
            let cubic = x.mul(x).mul(L::splat(0.044_715)).mul_add(x, x);
            let e = exp(cubic.mul(L::splat(TWICE)));
            x.div(e.add(L::splat(1.0)))
        }
    }
}

/// `max(x, 0)`.
pub(super) struct Relu;

impl Map for Relu {
    #[inline(always)]
    unsafe fn map<L: Lanes>(x: L) -> L {
        // SAFETY: only arithmetic; the caller has the instruction set.
        unsafe { L::splat(0.0).max(x) }
    }
}

/// The bits of the nearest bf16, ties to even; NaN stays NaN.
#[inline(always)]
pub fn round_to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = (bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16) as u16;
    let quiet = (bits >> 16) as u16 | 0x40;
    if x.is_nan() { quiet } else { rounded }
}
