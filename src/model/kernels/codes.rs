//! A group of weights as codes and one scale.

use super::fixed::{TINY, largest, nearest};
use super::pointwise::round_to_bf16;

/// What 4-bit codes stand for, times the group's scale: closer together near zero, where most weights of a group are. These are
/// the levels of llama.cpp's IQ4_NL.
pub(super) const LEVELS: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// The levels above zero by 128, as 8-bit codes are.
pub(super) const TABLE: [u8; 16] = {
    let mut table = [0; 16];
    let mut i = 0;
    while i < 16 {
        table[i] = (LEVELS[i] as i16 + 128) as u8;
        i += 1;
    }
    table
};

/// A group's scale and codes for 8 bits: code − 128 = weight / scale, rounded, in −127..=127. Returns the scale as the bits of a bf16.
#[inline(always)]
pub(super) fn int8(weights: &[f32], codes: &mut [u8]) -> u16 {
    let largest = largest(weights);
    // Rounded up, so that no weight needs more than 127 of it.
    let bits = ((largest / 127.0).to_bits().saturating_add(0xffff) >> 16) as u16;
    let (scale, inverse) = match largest {
        x if !x.is_finite() => (round_to_bf16(f32::NAN), 0.0),
        x if x < TINY => (0, 0.0),
        _ => (bits, 1.0 / f32::from_bits(u32::from(bits) << 16)),
    };
    for (code, weight) in codes.iter_mut().zip(weights) {
        *code = (nearest(weight * inverse) + 128) as u8;
    }
    scale
}

/// Ways to lay a group over the levels that are tried.
pub(super) const WAYS: usize = 6;

/// Where the largest weight of a group may come to lie among the levels. The best of these is within 1 % of the best of many.
const ENDS: [f32; WAYS] = [-151.0, -139.0, -127.0, -115.0, 113.0, 101.0];

/// Lanes of the sums of a search: a fixed order of additions that compilers turn into vectors.
pub(super) const LANES: usize = 16;

/// Finds the levels of sixteen numbers at a time.
pub(super) trait Levels {
    /// The nearest level to each, and how many levels are below it.
    ///
    /// # Safety
    /// The instruction set of the implementation is there.
    unsafe fn levels(x: &[f32; LANES]) -> ([f32; LANES], [u8; LANES]);

    /// Σ weight · level and Σ level² over whole vectors of weights for each of `inverses`, where the level is that of weight · inverse. In lanes,
    /// which are then added in halves: the same bits from every implementation.
    ///
    /// # Safety
    /// As for [`Self::levels`].
    #[inline(always)]
    unsafe fn fits(weights: &[f32], inverses: [f32; WAYS]) -> [(f32, f32); WAYS] {
        inverses.map(|inverse| {
            let (mut products, mut squares) = ([0f32; LANES], [0f32; LANES]);
            for some in weights.as_chunks::<LANES>().0 {
                // SAFETY: the caller's promise.
                let (levels, _) = unsafe { Self::levels(&some.map(|w| w * inverse)) };
                for lane in 0..LANES {
                    products[lane] += some[lane] * levels[lane];
                    squares[lane] += levels[lane] * levels[lane];
                }
            }
            (sum(products), sum(squares))
        })
    }
}

/// Halves are added to halves.
#[inline(always)]
fn sum(mut lanes: [f32; LANES]) -> f32 {
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
    }
    lanes[0]
}

/// By comparing with what lies half-way between each level and the next.
pub(super) struct Compared;

impl Levels for Compared {
    #[inline(always)]
    unsafe fn levels(x: &[f32; LANES]) -> ([f32; LANES], [u8; LANES]) {
        let (mut levels, mut codes) = ([0.0; LANES], [0; LANES]);
        for ((x, near), code) in x.iter().zip(&mut levels).zip(&mut codes) {
            (*near, *code) = level(*x);
        }
        (levels, codes)
    }
}

/// What [`STEPS`] are wide: no two of what lies half-way between levels are as close as this.
pub(super) const STEP: f32 = 8.0;

/// Of each step from −128 on: how many levels are below all of it but for one at most, and from where on there is one more (no number is, where there is none).
pub(super) const STEPS: ([i32; 32], [f32; 32]) = {
    let (mut below, mut next) = ([0; 32], [f32::INFINITY; 32]);
    let mut step = 0;
    while step < 32 {
        let (start, end) = (step as f32 * STEP - 128.0, (step + 1) as f32 * STEP - 128.0);
        let mut i = 0;
        while i < 15 {
            let half_way = (LEVELS[i] as f32 + LEVELS[i + 1] as f32) * 0.5;
            if half_way < start {
                below[step] += 1;
            } else if half_way < end {
                next[step] = half_way;
            }
            i += 1;
        }
        step += 1;
    }
    (below, next)
};

/// The nearest level to `x`, and how many levels are below it.
#[inline(always)]
fn level(x: f32) -> (f32, u8) {
    let (mut level, mut code) = (f32::from(LEVELS[0]), 0);
    for pair in LEVELS.windows(2) {
        let (below, above) = (f32::from(pair[0]), f32::from(pair[1]));
        let past = x > (below + above) * 0.5;
        level += if past { above - below } else { 0.0 };
        code += u8::from(past);
    }
    (level, code)
}

/// A group's scale and codes for 4 bits: `LEVELS[code] · scale` is near the weight. The scale is that of least squares for the best of
/// a few ways to lay the group over the levels. Returns it as the bits of a bf16.
///
/// # Safety
/// As for [`Levels::levels`].
#[inline(always)]
pub(super) unsafe fn int4<L: Levels>(weights: &[f32], codes: &mut [u8]) -> u16 {
    let largest = largest(weights);
    if !largest.is_finite() {
        return round_to_bf16(f32::NAN);
    }
    if largest < TINY {
        return 0;
    }
    let negative = weights.contains(&-largest);
    let end = if negative { -largest } else { largest };
    // SAFETY: the caller's promise.
    let fits = unsafe { L::fits(weights, ENDS.map(|place| place / end)) };
    // The squared error is Σw² − product² / square; that of the best is compared without dividing.
    let gain = |(product, _): (f32, f32), (_, square): (f32, f32)| product * product * square;
    let better = |best, fit| if gain(fit, best) > gain(best, fit) { fit } else { best };
    let (product, square) = fits[1..].iter().copied().fold(fits[0], better);
    let scale = product / square;
    let bits = round_to_bf16(scale);
    let inverse = 1.0 / f32::from_bits(u32::from(bits) << 16);
    for (codes, some) in codes
        .as_chunks_mut::<LANES>()
        .0
        .iter_mut()
        .zip(weights.as_chunks::<LANES>().0)
    {
        // SAFETY: the caller's promise.
        (_, *codes) = unsafe { L::levels(&some.map(|w| w * inverse)) };
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_tells_the_level_that_comparing_tells() {
        for tenth in -1600..1400i32 {
            let x = tenth as f32 / 10.0;
            let step = ((x + 128.0) / STEP).floor().clamp(0.0, 31.0) as usize;
            let code = STEPS.0[step] + i32::from(x > STEPS.1[step]);
            assert_eq!(code, i32::from(level(x).1), "{x}");
        }
    }
}
