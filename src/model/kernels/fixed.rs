//! Inputs in 16-bit fixed point: what quantised weights are multiplied with.

use super::cells::Fixed;

/// Below this a group counts as zero: its inverse scale would not be finite.
pub(super) const TINY: f32 = 1e-30;

/// 1.5·2²³: adding it rounds what is smaller than 2²² to a whole number, ties to even, in the low bits.
const MAGIC: f32 = 12_582_912.0;

/// The nearest whole number to `x`, if that is smaller than 2²².
#[inline(always)]
pub(super) fn nearest(x: f32) -> i32 {
    ((x + MAGIC).to_bits() as i32).wrapping_sub(MAGIC.to_bits() as i32)
}

/// The largest magnitude; above every finite number, and not finite, if any is not finite.
#[inline(always)]
pub(super) fn largest(values: &[f32]) -> f32 {
    // Without their sign bit, floats are ordered as whole numbers, NaN above infinity.
    let bits = values
        .iter()
        .fold(0, |most, x| most.max((x.to_bits() & 0x7fff_ffff) as i32));
    f32::from_bits(bits as u32)
}

/// One row of inputs. Each [`Fixed::BLOCK`] of values: `scale` = largest magnitude / 32767, `to` = value / scale rounded; each [`Fixed::GROUP`] of
/// them: `offset` = −128 · Σ `to`. A block that holds a number that is not finite has a scale of NaN.
#[inline(always)]
pub(super) fn fix(from: &[f32], to: &mut [i16], scales: &mut [f32], offsets: &mut [i32]) {
    let blocks = from.chunks(Fixed::BLOCK).zip(to.chunks_mut(Fixed::BLOCK));
    let offsets = offsets.chunks_mut(Fixed::BLOCK / Fixed::GROUP);
    for ((from, to), (scale, offsets)) in blocks.zip(scales.iter_mut().zip(offsets)) {
        let largest = largest(from);
        let inverse;
        (*scale, inverse) = match largest {
            x if !x.is_finite() => (f32::NAN, 0.0),
            x if x < TINY => (0.0, 0.0),
            x => (x / 32767.0, 32767.0 / x),
        };
        let groups = from.chunks_exact(Fixed::GROUP).zip(to.chunks_exact_mut(Fixed::GROUP));
        for ((from, to), offset) in groups.zip(offsets) {
            let mut sum = 0i32;
            for (to, x) in to.iter_mut().zip(from) {
                let whole = nearest(x * inverse) as i16;
                *to = whole;
                sum = sum.wrapping_add(i32::from(whole));
            }
            *offset = sum * -128;
        }
    }
}
