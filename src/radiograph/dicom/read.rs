//! DICOM → raster, the first frame, as a viewer first shows it.
//!
//! Stored values take the file's modality LUT and VOI window (or LUT), and MONOCHROME1 is turned over, so that bone is white (DICOM PS3.3
//! C.7.6.3, C.11.1, C.11.2). The server does not call this in its own process: the decoders are too large a surface for what strangers
//! post (see `service::dicom`).

use std::panic::{AssertUnwindSafe, catch_unwind};

use dicom_dictionary_std::tags;
use dicom_object::mem::InMemElement;
use dicom_object::{DefaultDicomObject as Object, OpenFileOptions, ReadError, Tag};
use dicom_pixeldata::{PhotometricInterpretation, PixelDecoder};

use super::elements::elements;
use super::facts::DicomFacts;
use super::frame::{Decoder, turn_into_rgb};
use super::header::Header;
use super::plain::put_plain;
use super::shown::display;
use super::syntax::{PixelForm, TransferSyntax};
use super::{jpeg_12, jpeg_ls};
use crate::radiograph::{Channels, DecodeLimits, RadiographError, Raster};

/// Why a DICOM file is not read. Messages hold nothing of the file but sizes and its transfer syntax.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DicomError {
    /// Too many bytes or pixels.
    #[error(transparent)]
    Limits(#[from] RadiographError),
    /// Not a DICOM file, or cut off before its pixels.
    #[error("the DICOM file's attributes cannot be read; export or transfer it again")]
    Attributes,
    /// No picture within, or one of no rows or columns.
    #[error("the DICOM file holds no picture: only objects with pixel data can be used")]
    NoPixels,
    /// What its pixels cannot be read without is missing, or has no value.
    #[error("the DICOM file has no value for `{0:?}`, without which its pixels cannot be read; export it again")]
    Lacks(PixelAttribute),
    /// Samples that take so many bits are not read.
    #[error(
        "the DICOM file has `BitsAllocated` {0}, and only grey of 8 or 16 bits and colour of 8 are read; export it so, or as PNG or JPEG"
    )]
    Depth(u32),
    /// A transfer syntax without a decoder here.
    #[error("{}", TransferSyntax::refusal(.0))]
    Syntax(TransferSyntax),
    /// Pixels in a form without a decoder here, in a transfer syntax that has one.
    #[error("{}", PixelForm::refusal(.0))]
    Form(PixelForm),
    /// Pixels that do not decode, or not to what the header says.
    #[error(
        "the DICOM file's pixels cannot be decoded: they are damaged, cut off, or do not fit what its header says of them; export or \
         transfer it again"
    )]
    Pixels,
    /// Whoever decoded it broke, or took too long or too much memory.
    #[error(
        "the DICOM file cannot be decoded within the time and memory that a file may take; export the image as PNG or JPEG"
    )]
    Exhausted,
}

/// An attribute that every picture of a DICOM file must have (PS3.3 C.7.6.3), by its keyword.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub enum PixelAttribute {
    /// Height.
    Rows,
    /// Width.
    Columns,
    /// One for grey, three for colour.
    SamplesPerPixel,
    /// What samples mean.
    PhotometricInterpretation,
    /// Bits of a sample as it lies in the file.
    BitsAllocated,
    /// Bits of it that count.
    BitsStored,
    /// Whether they have a sign.
    PixelRepresentation,
}

/// Whether `bytes` are a DICOM file by its prefix (DICOM PS3.10, 7.1).
pub fn is_dicom(bytes: &[u8]) -> bool {
    bytes.get(128..132) == Some(b"DICM")
}

/// Whether `bytes`, which are no DICOM file, begin as what stands in one after the 128 bytes of its prefix: `DICM`, or an element of the file's
/// meta information (group 2) or of the first group of nearly every data set (8), with its type or a short length (PS3.5, 7.1).
pub(in crate::radiograph) fn lacks_its_header(bytes: &[u8]) -> bool {
    let Some(&[group_low, group_high, _, _, rest @ ..]) = bytes.first_chunk::<8>() else {
        return bytes.starts_with(b"DICM");
    };
    let typed = rest[..2].iter().all(u8::is_ascii_uppercase);
    let untyped = u32::from_le_bytes(rest) <= 256 && rest[0] & 1 == 0;
    match [group_low, group_high] {
        [2 | 8, 0] => typed || untyped,
        // Big endian.
        [0, 8] => typed,
        _ => bytes.starts_with(b"DICM"),
    }
}

/// Reads the first frame of a DICOM file as 8-bit grey or RGB.
///
/// # Errors
/// See [`DicomError`]; size and number of pixels are checked before any pixel is decoded.
pub fn read_dicom(bytes: &[u8], limits: &DecodeLimits) -> Result<Raster, DicomError> {
    read_dicom_with_facts(bytes, limits).map(|(raster, _)| raster)
}

/// As [`read_dicom`], with what the file says of its picture that speaks against a frontal radiograph of a chest.
///
/// # Errors
/// As [`read_dicom`].
pub fn read_dicom_with_facts(bytes: &[u8], limits: &DecodeLimits) -> Result<(Raster, DicomFacts), DicomError> {
    limits.check_bytes(bytes.len())?;
    // The decoders are other people's: what they panic on is a damaged file to us.
    catch_unwind(AssertUnwindSafe(|| decode(bytes, limits))).unwrap_or(Err(DicomError::Pixels))
}

fn decode(bytes: &[u8], limits: &DecodeLimits) -> Result<(Raster, DicomFacts), DicomError> {
    let mut object = OpenFileOptions::new()
        .from_reader(elements(bytes))
        .map_err(|error| unread(&error))?;
    let header = Header::of(&object, limits)?;
    prepare(&mut object, &header)?;
    let raster = raster(&object, &header)?;
    Ok((raster, DicomFacts::of(&object)))
}

/// Makes of a file what the library decodes: attributes as it wants them, and plain samples in the place of frames that it does not decode.
fn prepare(object: &mut Object, header: &Header) -> Result<(), DicomError> {
    let &Header {
        size,
        allocated,
        stored,
        high_bit,
        signed,
        frame,
        ..
    } = header;
    // Some write it in small letters.
    let vr = object.get(tags::PHOTOMETRIC_INTERPRETATION).map(|element| element.vr());
    if let Some(vr) = vr {
        object.put_str(tags::PHOTOMETRIC_INTERPRETATION, vr, header.photometric.as_str());
    }
    if high_bit.is_none() {
        set(object, tags::HIGH_BIT, stored.saturating_sub(1) as u16);
    }
    if frame.is_some_and(|frame| frame.bytes) {
        set(object, tags::BITS_ALLOCATED, 8);
    }
    match frame.map(|frame| frame.decoder) {
        Some(Decoder::Jpeg12) => {
            let high_bit = high_bit.unwrap_or(stored.saturating_sub(1));
            let greatest = if signed {
                u16::MAX
            } else {
                u16::MAX >> 15u32.saturating_sub(high_bit)
            };
            put_plain(object, allocated, |frame| jpeg_12::decode(frame, size, greatest))
        }
        Some(Decoder::JpegLs) => put_plain(object, allocated, |frame| jpeg_ls::decode(frame, size)),
        Some(Decoder::Library) | None => Ok(()),
    }
}

/// The first frame of a file that is prepared, as it is shown: grey, or RGB.
fn raster(object: &Object, header: &Header) -> Result<Raster, DicomError> {
    let decoded = object.decode_pixel_data_frame(0).map_err(|_| DicomError::Pixels)?;
    let (width, height) = (decoded.columns() as usize, decoded.rows() as usize);
    let raster = if decoded.photometric_interpretation().is_monochrome() {
        let display = display(object, &decoded)?;
        let samples: Vec<u16> = match decoded.bits_allocated() {
            8 => {
                let bytes = decoded.frame_data(0).map_err(|_| DicomError::Pixels)?;
                bytes.iter().map(|&byte| u16::from(byte)).collect()
            }
            _ => decoded.frame_data_ow(0).map_err(|_| DicomError::Pixels)?,
        };
        Raster::new(width, height, Channels::Grey, display.grey(&samples))
    } else {
        // Pictures of screens. Colours of more than 8 bits are not radiographs, and are not read.
        if decoded.samples_per_pixel() != 3 || decoded.bits_allocated() != 8 {
            return Err(DicomError::Pixels);
        }
        let image = decoded.to_dynamic_image(0).map_err(|_| DicomError::Pixels)?;
        let mut samples = image.into_rgb8().into_raw();
        // Whatever was coded the decoder takes for RGB.
        let taken_for_rgb = *decoded.photometric_interpretation() == PhotometricInterpretation::Rgb;
        let stays = header.frame.is_none_or(|frame| frame.colours_stay);
        if taken_for_rgb && stays && matches!(header.photometric.as_str(), "YBR_FULL" | "YBR_FULL_422") {
            turn_into_rgb(&mut samples);
        }
        Raster::new(width, height, Channels::Rgb, samples)
    };
    raster.ok_or(DicomError::NoPixels)
}

/// What a file that the parser does not read is refused for.
fn unread(error: &ReadError) -> DicomError {
    match error {
        ReadError::ReadUnrecognizedTransferSyntax { uid, .. } => DicomError::Syntax(TransferSyntax::of(uid)),
        _ => DicomError::Attributes,
    }
}

/// Gives an attribute a number of 16 bits, which is how decoders want those that tell the form of the pixels.
fn set(object: &mut Object, tag: Tag, number: u16) {
    // As `BitsStored`, which is of the same type.
    let Some(element) = object.get(tags::BITS_STORED).cloned() else {
        return;
    };
    let vr = element.vr();
    let mut value = element.into_value();
    if let Some(primitive) = value.primitive_mut() {
        *primitive = number.into();
        object.put(InMemElement::new(tag, vr, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::radiograph::Preprocess;
    use crate::radiograph::dicom::sample::file;

    fn samples(file: &[u8]) -> Vec<u8> {
        read_dicom(file, &DecodeLimits::default()).unwrap().samples().to_vec()
    }

    #[test]
    fn the_window_of_the_file_is_applied_as_the_standard_has_it() {
        // PS3.3 C.11.2.1.2.1 with centre 1000 and width 400: black to 799.5, white from 1199.5, straight between.
        let pixels = [0, 799, 900, 1000, 1100, 1200, 4095, 999];
        let seen = samples(&file("MONOCHROME2 ", Some(("1000", "400 ")), (4, 2), &pixels));
        for (&pixel, &grey) in pixels.iter().zip(&seen) {
            let place = (f64::from(pixel) - 999.5) / 399.0 + 0.5;
            let right = (place * 255.0).clamp(0.0, 255.0);
            assert!((f64::from(grey) - right).abs() <= 1.0, "{pixel}: {grey}, not {right}");
        }
    }

    #[test]
    fn monochrome1_is_turned_over_so_that_bone_is_white() {
        let pixels = [0, 799, 1000, 4095];
        let two = samples(&file("MONOCHROME2 ", Some(("1000", "400 ")), (2, 2), &pixels));
        let one = samples(&file("MONOCHROME1 ", Some(("1000", "400 ")), (2, 2), &pixels));
        assert!(
            one.iter().zip(&two).all(|(one, two)| one.abs_diff(255 - two) <= 1),
            "{one:?} {two:?}"
        );
    }

    #[test]
    fn eight_bits_in_sixteen_signed_values_and_padding_are_shown_in_full() {
        let change = |mut file: Vec<u8>, tag: [u8; 4], value: u16| {
            let at = file.windows(4).position(|four| four == tag).unwrap();
            file[at + 8..at + 10].copy_from_slice(&value.to_le_bytes());
            file
        };
        let (stored, high, signed) = ([0x28, 0, 1, 1], [0x28, 0, 2, 1], [0x28, 0, 3, 1]);
        let eight = change(file("MONOCHROME2 ", None, (2, 2), &[0, 85, 170, 255]), stored, 8);
        assert_eq!(samples(&change(eight, high, 7)), [0, 85, 170, 255]);
        let values = [-2048i16, 0, 2047, -1].map(|value| value as u16);
        let minus = change(file("MONOCHROME2 ", None, (2, 2), &values), signed, 1);
        assert_eq!(samples(&minus), [0, 128, 255, 127]);
        // A high bit that does not fit the stored ones.
        let odd = change(file("MONOCHROME2 ", None, (2, 2), &[0; 4]), high, 3);
        assert_eq!(
            read_dicom(&odd, &DecodeLimits::default()).err(),
            Some(DicomError::Pixels)
        );
    }

    #[test]
    fn a_file_without_its_prefix_is_told_from_what_is_no_dicom() {
        let whole = file("MONOCHROME2 ", None, (2, 2), &[1, 2, 3, 4]);
        let data_set = whole.windows(4).position(|four| four == [0x28, 0, 2, 0]).unwrap();
        let explicit = [&[8, 0, 0x16, 0, b'U', b'I', 2, 0, b'1', 0][..], &whole[data_set..]].concat();
        let implicit = [8, 0, 0x16, 0, 2, 0, 0, 0, b'1', 0];
        let big_endian = [0, 8, 0, 0x16, b'U', b'I', 0, 2, b'1', 0];
        for headless in [&whole[128..], &whole[132..], &explicit, &implicit, &big_endian] {
            assert!(
                !is_dicom(headless) && lacks_its_header(headless),
                "{:?}",
                &headless[..8]
            );
            let refused = crate::radiograph::read(headless, &DecodeLimits::default(), Preprocess::Default);
            assert_eq!(refused, Err(RadiographError::NoDicomHeader));
        }
        for other in [
            &b"DIC"[..],
            b"GIF89a..",
            &[0; 200],
            &[8, 0, 0x16, 0, 0xff, 0xff, 0xff, 0xff],
        ] {
            assert!(!lacks_its_header(other), "{other:?}");
        }
    }

    #[test]
    fn a_file_cut_anywhere_and_a_header_that_asks_for_too_much_are_errors() {
        let whole = file("MONOCHROME2 ", None, (4, 2), &[7; 8]);
        assert!(is_dicom(&whole));
        for length in 0..whole.len() {
            assert!(
                read_dicom(&whole[..length], &DecodeLimits::default()).is_err(),
                "{length} bytes"
            );
        }
        let huge = file("MONOCHROME2 ", None, (60_000, 60_000), &[7; 8]);
        let error = read_dicom(&huge, &DecodeLimits::default()).err().unwrap();
        assert!(
            matches!(error, DicomError::Limits(RadiographError::TooManyPixels { .. })),
            "{error}"
        );
    }

    #[test]
    fn the_real_files_beside_the_repository_decode_or_say_why_not() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/dicom");
        let Ok(files) = std::fs::read_dir(folder) else {
            return;
        };
        let (mut read, mut refused) = (0, Vec::new());
        for path in files.map(|entry| entry.unwrap().path()) {
            if path.extension().is_none_or(|extension| extension != "dcm") {
                continue;
            }
            match read_dicom(&std::fs::read(&path).unwrap(), &DecodeLimits::default()) {
                Ok(raster) => {
                    let grey = raster.samples();
                    let span = grey.iter().max().unwrap() - grey.iter().min().unwrap();
                    assert!(span > 200, "{:?} is read with {span} levels", path.file_name());
                    read += 1;
                }
                Err(error) => refused.push(format!("{:?}: {error}", path.file_name())),
            }
        }
        assert!(read >= 18 && refused.len() <= 1, "{read} read, {refused:#?}");
    }
}
