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

/// Where the largest weight of a group may come to lie among the levels. The best of these is within 1 % of the best of many.
const ENDS: [f32; 6] = [-151.0, -139.0, -127.0, -115.0, 113.0, 101.0];

/// Lanes of the sums of a search: a fixed order of additions that compilers turn into vectors.
const LANES: usize = 16;

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
#[inline(always)]
pub(super) fn int4(weights: &[f32], codes: &mut [u8]) -> u16 {
    let largest = largest(weights);
    if !largest.is_finite() {
        return round_to_bf16(f32::NAN);
    }
    if largest < TINY {
        return 0;
    }
    let negative = weights.contains(&-largest);
    let end = if negative { -largest } else { largest };
    let (mut best, mut scale) = (-1.0, 0.0);
    for place in ENDS {
        let inverse = place / end;
        let (mut products, mut squares) = ([0f32; LANES], [0f32; LANES]);
        for some in weights.chunks_exact(LANES) {
            for ((w, product), square) in some.iter().zip(&mut products).zip(&mut squares) {
                let level = level(w * inverse).0;
                *product += w * level;
                *square += level * level;
            }
        }
        let product: f32 = products.iter().sum();
        let square: f32 = squares.iter().sum();
        // The squared error is Σw² − product² / square.
        let gain = product * product / square;
        if gain > best {
            (best, scale) = (gain, product / square);
        }
    }
    let bits = round_to_bf16(scale);
    let inverse = 1.0 / f32::from_bits(u32::from(bits) << 16);
    for (code, weight) in codes.iter_mut().zip(weights) {
        *code = level(weight * inverse).1;
    }
    bits
}
