//! Frames in JPEG-LS (T.87; PS3.5, A.4.3), which the library of the other codings reads with a decoder in C++ only.

use dicom_core::PrimitiveValue;
use dicom_dictionary_std::{tags, uids};
use dicom_object::DefaultDicomObject as Object;
use dicom_object::mem::InMemElement;

use super::read::DicomError;

/// The marker at the end of a frame.
const END: [u8; 2] = [0xff, 0xd9];

/// Puts the samples of the first frame, `size` of them (width and height) in one channel, in the place of their code. `allocated`: bits of a
/// sample, 8 or 16; the frame's header has no more.
pub(super) fn put_plain(object: &mut Object, size: (u32, u32), allocated: u32) -> Result<(), DicomError> {
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
    end_plainly(&mut frame);
    let (samples, ..) = jpegls::decode(&frame, size.0, size.1).map_err(|_| DicomError::Pixels)?;
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

/// Ends a frame as its decoder wants it. The marker of the end may have any number of 0xff before it (T.81, B.1.1.2), and encoders fill up frames of an
/// odd length so. They are no samples: in those a byte follows each 0xff that makes no marker with it.
fn end_plainly(frame: &mut Vec<u8>) {
    if let Some(end) = frame.windows(2).rposition(|two| two == END) {
        let filled = frame[..end].iter().rev().take_while(|byte| **byte == 0xff).count();
        frame.truncate(end - filled);
        frame.extend(END);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fills_a_frame_up_before_and_behind_its_end_is_taken_away() {
        for (frame, right) in [
            (&[1, 0xff, 0xd9][..], &[1, 0xff, 0xd9][..]),
            (&[1, 0xff, 0xff, 0xff, 0xd9, 0], &[1, 0xff, 0xd9]),
            (&[1, 0xff, 0x7f, 0xff, 0xd9], &[1, 0xff, 0x7f, 0xff, 0xd9]),
            (&[0xff, 0xff, 0xd9], &[0xff, 0xd9]),
            (&[1, 2], &[1, 2]),
            (&[], &[]),
        ] {
            let mut ended = frame.to_vec();
            end_plainly(&mut ended);
            assert_eq!(ended, right);
        }
    }
}
