//! Samples of a first frame in the place of its code, for the codings that the library of the others does not read.

use dicom_core::PrimitiveValue;
use dicom_dictionary_std::{tags, uids};
use dicom_object::DefaultDicomObject as Object;
use dicom_object::mem::InMemElement;

use super::read::DicomError;

/// Puts what `decode` makes of the first frame, samples of one channel, in the place of all frames. `allocated`: bits of a sample, 8 or 16; none
/// has more.
pub(super) fn put_plain(
    object: &mut Object,
    allocated: u32,
    decode: impl FnOnce(Vec<u8>) -> Result<Vec<u16>, DicomError>,
) -> Result<(), DicomError> {
    let frames = object
        .get(tags::NUMBER_OF_FRAMES)
        .and_then(|element| element.to_int::<u32>().ok());
    let pixels = object
        .take_element(tags::PIXEL_DATA)
        .map_err(|_| DicomError::NoPixels)?;
    let vr = pixels.vr();
    let fragments = pixels.into_value().into_fragments().ok_or(DicomError::Pixels)?;
    // Of several frames each is one fragment, as good as always.
    let count = if frames.is_some_and(|frames| frames > 1) {
        1
    } else {
        fragments.len()
    };
    let mut fragments = fragments.into_iter().take(count);
    let mut frame = fragments.next().unwrap_or_default();
    fragments.for_each(|fragment| frame.extend(fragment));
    let samples = decode(frame)?;
    let plain = match allocated {
        8 => PrimitiveValue::U8(samples.iter().map(|&sample| sample as u8).collect()),
        _ => PrimitiveValue::U16(samples.into()),
    };
    object.put(InMemElement::new(tags::PIXEL_DATA, vr, plain));
    object.remove_element(tags::NUMBER_OF_FRAMES);
    // In which pixels stand as they are.
    object.meta_mut().transfer_syntax = uids::EXPLICIT_VR_LITTLE_ENDIAN.to_owned();
    Ok(())
}
