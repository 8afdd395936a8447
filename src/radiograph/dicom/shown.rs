//! How a file wants its first frame shown: what its attributes say of grey levels (PS3.3 C.7.6.3, C.11.1, C.11.2, C.11.6).

use std::ops::RangeInclusive;

use dicom_dictionary_std::tags;
use dicom_object::mem::InMemElement;
use dicom_object::{DefaultDicomObject as Object, Tag};
use dicom_pixeldata::{DecodedPixelData, PhotometricInterpretation, PixelRepresentation, VoiLutFunction};

use super::facts::code;
use super::grey::{Display, Interest, Modality, Ramp, Stored, Table};
use super::read::DicomError;

/// How the file wants its first frame shown.
pub(super) fn display(object: &Object, decoded: &DecodedPixelData<'_>) -> Result<Display, DicomError> {
    let (bits, allocated) = (u32::from(decoded.bits_stored()), u32::from(decoded.bits_allocated()));
    let below = (u32::from(decoded.high_bit()) + 1).checked_sub(bits);
    let stored = Stored {
        bits,
        below: below
            .filter(|below| below + bits <= allocated)
            .ok_or(DicomError::Pixels)?,
        signed: decoded.pixel_representation() == PixelRepresentation::Signed,
    };
    if decoded.samples_per_pixel() != 1 || !matches!(allocated, 8 | 16) || bits == 0 {
        return Err(DicomError::Pixels);
    }
    let modality = match table(object, tags::MODALITY_LUT_SEQUENCE, stored.signed)? {
        Some(table) => Modality::Table(table),
        None => {
            let typed = [tags::RESCALE_SLOPE, tags::RESCALE_INTERCEPT].map(|tag| !is_untyped(object, tag));
            let rescale = decoded.rescale().ok().and_then(|all| all.first());
            let sound = rescale.filter(|one| one.slope != 0.0 && one.slope.is_finite() && one.intercept.is_finite());
            let sound = sound.filter(|_| typed == [true; 2]);
            let (slope, intercept) = sound.map_or((1.0, 0.0), |one| (one.slope, one.intercept));
            Modality::Rescale { slope, intercept }
        }
    };
    let interest = match table(object, tags::VOILUT_SEQUENCE, modality.is_signed(stored))? {
        Some(table) => Some(Interest::Table(table)),
        None => window(object, decoded),
    };
    // What has been made for a screen is shown as it is, as the same picture is as PNG or JPEG. More bits are hardly ever all in use.
    let whole = stored.bits <= 8 && modality.is_identity();
    let otherwise = if whole { Interest::Stored } else { Interest::Used };
    Ok(Display {
        padding: padding(object, stored.signed),
        inverted: is_inverted(object, decoded),
        stored,
        modality,
        interest: interest.unwrap_or(otherwise),
    })
}

/// Whether the least value is white: by the shape of the presentation LUT (C.11.6), and without one by what samples mean.
fn is_inverted(object: &Object, decoded: &DecodedPixelData<'_>) -> bool {
    match code(object, tags::PRESENTATION_LUT_SHAPE).as_deref() {
        Some("INVERSE") => true,
        Some("IDENTITY") => false,
        _ => *decoded.photometric_interpretation() == PhotometricInterpretation::Monochrome1,
    }
}

/// Whether an attribute has bytes of no known type, each of which would be taken for a number.
fn is_untyped(object: &Object, tag: Tag) -> bool {
    object.get(tag).is_some_and(|element| element.value().uint8().is_ok())
}

/// The first window of the file, if it is one.
fn window(object: &Object, decoded: &DecodedPixelData<'_>) -> Option<Interest> {
    if is_untyped(object, tags::WINDOW_CENTER) || is_untyped(object, tags::WINDOW_WIDTH) {
        return None;
    }
    let window = decoded.window().ok()??.first()?;
    let function = decoded.voi_lut_function().ok().flatten().and_then(|all| all.first());
    let ramp = match function {
        Some(VoiLutFunction::LinearExact) => Ramp::LinearExact,
        Some(VoiLutFunction::Sigmoid) => Ramp::Sigmoid,
        Some(VoiLutFunction::Linear) | None => Ramp::Linear,
    };
    let sound = window.center.is_finite() && window.width.is_finite() && window.width > 0.0;
    sound.then_some(Interest::Window {
        centre: window.center,
        width: window.width,
        ramp,
    })
}

/// The first table of a sequence of them (PS3.3 C.11.1.1, C.11.2.1.1); `signed`: whether what goes in may lie below nought.
fn table(object: &Object, sequence: Tag, signed: bool) -> Result<Option<Table>, DicomError> {
    let Some(item) = object.get(sequence).and_then(|sequence| sequence.items()?.first()) else {
        return Ok(None);
    };
    // An item without the one or the other is no table.
    let part = |tag: Tag| item.get(tag).filter(|element| element.value().multiplicity() > 0);
    let (Some(descriptor), Some(data)) = (part(tags::LUT_DESCRIPTOR), part(tags::LUT_DATA)) else {
        return Ok(None);
    };
    let read = || {
        let descriptor = descriptor.to_multi_int::<i32>().ok()?;
        let &[count, first, bits] = descriptor.as_slice() else {
            return None;
        };
        // As 16 bits, 0 stands for 65,536; and what is first is of the type of what goes in, whichever the file calls it.
        let count = if count == 0 {
            1 << 16
        } else {
            usize::try_from(count & 0xffff).ok()?
        };
        let first = if signed {
            i32::from(first as u16 as i16)
        } else {
            i32::from(first as u16)
        };
        let bits = u32::try_from(bits).ok().filter(|bits| (1..=16).contains(bits))?;
        let mut entries = words(data)?;
        // Entries of a byte may lie two in a word, the first in its lower half (C.11.1.1.1).
        if bits <= 8 && entries.len() == count.div_ceil(2) {
            entries = entries.into_iter().flat_map(u16::to_le_bytes).map(u16::from).collect();
        }
        // Where there are fewer than were announced, the last one is that of all values above, as ever.
        entries.truncate(count);
        (!entries.is_empty()).then_some(Table { first, entries, bits })
    };
    read().map(Some).ok_or(DicomError::Pixels)
}

/// What a table holds, as words, also where the file calls it bytes.
fn words(data: &InMemElement) -> Option<Vec<u16>> {
    match data.value().uint8_slice() {
        Ok(bytes) => {
            let pairs = bytes.chunks(2);
            Some(
                pairs
                    .map(|pair| {
                        pair.iter()
                            .rev()
                            .fold(0u16, |word, &byte| (word << 8) | u16::from(byte))
                    })
                    .collect(),
            )
        }
        Err(_) => data.to_multi_int().ok(),
    }
}

/// Stored values that are no part of the picture (PS3.3 C.7.5.1.1.2).
fn padding(object: &Object, signed: bool) -> Option<RangeInclusive<i32>> {
    let number = |tag| {
        let number = object.get(tag)?.to_int::<i32>().ok()?;
        Some(if signed {
            i32::from(number as u16 as i16)
        } else {
            number
        })
    };
    let value = number(tags::PIXEL_PADDING_VALUE)?;
    let limit = number(tags::PIXEL_PADDING_RANGE_LIMIT).unwrap_or(value);
    Some(value.min(limit)..=value.max(limit))
}
