//! Frames in JPEG-LS (T.87; PS3.5, A.4.3), which the library of the other codings reads with a decoder in C++ only.

use std::borrow::Cow;

use dicom_core::PrimitiveValue;
use dicom_dictionary_std::tags;
use dicom_object::DefaultDicomObject as Object;
use dicom_object::mem::InMemElement;

use super::read::DicomError;

/// Explicit VR Little Endian, in which pixels stand as they are.
const PLAIN: &str = "1.2.840.10008.1.2.1";

/// Puts the samples of the first frame, `size` of them (width and height) in one channel, in the place of their code. `allocated`: bits of a
/// sample, 8 or 16; the frame's header has no more.
pub(super) fn put_plain(object: &mut Object, size: (u32, u32), allocated: u32) -> Result<(), DicomError> {
    let pixels = object
        .take_element(tags::PIXEL_DATA)
        .map_err(|_| DicomError::NoPixels)?;
    let vr = pixels.vr();
    // What stands behind the end of the first frame, other frames too, is not looked at.
    let frame: Cow<'_, [u8]> = match pixels.fragments().ok_or(DicomError::Pixels)? {
        [one] => one.as_slice().into(),
        several => several.concat().into(),
    };
    let (samples, ..) = jpegls::decode(&frame, size.0, size.1).map_err(|_| DicomError::Pixels)?;
    let plain = match allocated {
        8 => PrimitiveValue::U8(samples.iter().map(|&sample| sample as u8).collect()),
        _ => PrimitiveValue::U16(samples.into()),
    };
    object.put(InMemElement::new(tags::PIXEL_DATA, vr, plain));
    object.remove_element(tags::NUMBER_OF_FRAMES);
    object.meta_mut().transfer_syntax = PLAIN.to_owned();
    Ok(())
}
