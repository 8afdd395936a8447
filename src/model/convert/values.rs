//! Element types: casting and looking for values that are not numbers.

use std::borrow::Cow;

use half::{bf16, f16};

use crate::model::checkpoint::Dtype;

/// Element type of the language model's weights in a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetDtype {
    /// As they are in the checkpoint (doubles become singles).
    Keep,
    /// bfloat16.
    Bf16,
    /// Single precision.
    F32,
}

impl TargetDtype {
    /// The type in the bundle for one in the checkpoint; `None` if those are no weights.
    pub(super) fn of(self, source: Dtype) -> Option<Dtype> {
        if !source.is_weight() && source != Dtype::F64 {
            return None;
        }
        Some(match self {
            Self::Bf16 => Dtype::BF16,
            Self::F32 => Dtype::F32,
            Self::Keep if source == Dtype::F64 => Dtype::F32,
            Self::Keep => source,
        })
    }
}

/// How many of the values are NaN or infinite.
pub(super) fn not_finite(bytes: &[u8], dtype: Dtype) -> usize {
    // All exponent bits set, in whichever width.
    fn count<const N: usize>(bytes: &[u8], exponent: u16) -> usize {
        let high = |value: &[u8; N]| u16::from_le_bytes([value[N - 2], value[N - 1]]);
        bytes
            .as_chunks::<N>()
            .0
            .iter()
            .filter(|value| high(value) & exponent == exponent)
            .count()
    }
    match dtype {
        Dtype::F64 => count::<8>(bytes, 0x7FF0),
        Dtype::F32 => count::<4>(bytes, 0x7F80),
        Dtype::BF16 => count::<2>(bytes, 0x7F80),
        Dtype::F16 => count::<2>(bytes, 0x7C00),
        _ => 0,
    }
}

/// Casts values piece by piece, rounding to nearest even. Both types are floating-point: the plan saw to it.
pub(super) fn cast(bytes: &[u8], from: Dtype, to: Dtype) -> impl Iterator<Item = Cow<'_, [u8]>> {
    const ELEMENTS: usize = 1 << 18;
    bytes
        .chunks(ELEMENTS * from.size())
        .map(move |chunk| cast_chunk(chunk, from, to))
}

fn cast_chunk(bytes: &[u8], from: Dtype, to: Dtype) -> Cow<'_, [u8]> {
    if from == to {
        return Cow::Borrowed(bytes);
    }
    let singles: Vec<f32> = match from {
        Dtype::F64 => bytes
            .as_chunks()
            .0
            .iter()
            .map(|value| f64::from_le_bytes(*value) as f32)
            .collect(),
        Dtype::F16 => bytes
            .as_chunks()
            .0
            .iter()
            .map(|value| f16::from_le_bytes(*value).to_f32())
            .collect(),
        Dtype::BF16 => bytes
            .as_chunks()
            .0
            .iter()
            .map(|value| bf16::from_le_bytes(*value).to_f32())
            .collect(),
        _ => bytes
            .as_chunks()
            .0
            .iter()
            .map(|value| f32::from_le_bytes(*value))
            .collect(),
    };
    Cow::Owned(match to {
        Dtype::BF16 => singles
            .iter()
            .flat_map(|value| bf16::from_f32(*value).to_le_bytes())
            .collect(),
        Dtype::F16 => singles
            .iter()
            .flat_map(|value| f16::from_f32(*value).to_le_bytes())
            .collect(),
        _ => singles.iter().flat_map(|value| value.to_le_bytes()).collect(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cast_one(value: f32, to: Dtype) -> Vec<u8> {
        cast_chunk(&value.to_le_bytes(), Dtype::F32, to).into_owned()
    }

    #[test]
    fn values_that_are_no_numbers_are_counted_in_every_type() {
        let values = [
            1.0f32,
            f32::NAN,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::MIN_POSITIVE,
            -0.0,
            60000.0,
        ];
        for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
            let bytes: Vec<u8> = values.iter().flat_map(|value| cast_one(*value, dtype)).collect();
            assert_eq!(not_finite(&bytes, dtype), 3, "{dtype}");
        }
        let doubles: Vec<u8> = values
            .iter()
            .flat_map(|value| f64::from(*value).to_le_bytes())
            .collect();
        assert_eq!(not_finite(&doubles, Dtype::F64), 3);
    }

    #[test]
    fn singles_are_rounded_to_the_nearest_bfloat16() {
        assert_eq!(cast_one(1.0, Dtype::BF16), [0x80, 0x3F]);
        assert_eq!(
            cast_one(f32::from_bits(0x3F80_8000), Dtype::BF16),
            [0x80, 0x3F],
            "ties go to even"
        );
        assert_eq!(cast_one(f32::from_bits(0x3F80_8001), Dtype::BF16), [0x81, 0x3F]);
    }

    #[test]
    fn pieces_join_to_the_whole() {
        let bytes: Vec<u8> = (0..600_000u32).flat_map(|n| (n as f32).to_le_bytes()).collect();
        let pieces: Vec<_> = cast(&bytes, Dtype::F32, Dtype::BF16).collect();
        assert_eq!(pieces.len(), 3);
        assert_eq!(pieces.concat(), &*cast_chunk(&bytes, Dtype::F32, Dtype::BF16));
    }

    proptest! {
        #[test]
        fn narrow_types_survive_the_way_through_singles(bits in any::<u16>()) {
            for dtype in [Dtype::BF16, Dtype::F16] {
                let bytes = bits.to_le_bytes().to_vec();
                if not_finite(&bytes, dtype) == 0 {
                    let wide = cast_chunk(&bytes, dtype, Dtype::F32);
                    prop_assert_eq!(&*cast_chunk(&wide, Dtype::F32, dtype), &bytes[..]);
                }
            }
        }
    }
}
