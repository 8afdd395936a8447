//! Inputs in 8-bit fixed point: what quantised weights are multiplied with.

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

/// A number in −127..=127 as products read it.
pub(super) trait Small: Copy {
    /// Which of four consecutive values lies in which place.
    const ORDER: [usize; 4];
    /// The number.
    fn of(whole: i8) -> Self;
}

impl Small for i8 {
    const ORDER: [usize; 4] = [0, 1, 2, 3];

    #[inline(always)]
    fn of(whole: i8) -> Self {
        whole
    }
}

/// Pairs meet the even bytes of codes, then the odd ones.
impl Small for i16 {
    const ORDER: [usize; 4] = [0, 2, 1, 3];

    #[inline(always)]
    fn of(whole: i8) -> Self {
        whole.into()
    }
}

/// One row of inputs. Each [`Fixed::GROUP`] of values: `scale` = largest magnitude / 127, `to` = value / scale rounded, `offset` = −128 · Σ `to`. A group
/// that holds a number that is not finite has a scale of NaN.
#[inline(always)]
pub(super) fn fix<X: Small>(from: &[f32], to: &mut [X], scales: &mut [f32], offsets: &mut [i32]) {
    const GROUP: usize = Fixed::GROUP;
    let groups = from.as_chunks::<GROUP>().0.iter().zip(to.as_chunks_mut::<GROUP>().0);
    for ((from, to), (scale, offset)) in groups.zip(scales.iter_mut().zip(offsets)) {
        let inverse;
        (*scale, inverse) = match largest(from) {
            x if !x.is_finite() => (f32::NAN, 0.0),
            x if x < TINY => (0.0, 0.0),
            x => (x / 127.0, 127.0 / x),
        };
        let wholes = from.map(|x| nearest(x * inverse));
        // In a group that is not finite these are any numbers.
        *offset = wholes
            .iter()
            .fold(0, |sum: i32, &whole| sum.wrapping_add(whole))
            .wrapping_mul(-128);
        for (to, four) in to.as_chunks_mut::<4>().0.iter_mut().zip(wholes.as_chunks::<4>().0) {
            *to = X::ORDER.map(|place| X::of(four[place] as i8));
        }
    }
}
