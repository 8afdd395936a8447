//! DICOM → raster, the first frame, as a viewer first shows it.
//!
//! Stored values take the file's modality LUT and VOI window (or LUT), and MONOCHROME1 is turned over, so that bone is white (DICOM PS3.3
//! C.7.6.3, C.11.1, C.11.2). The server does not call this in its own process: the decoders are too large a surface for what strangers
//! post (see `service::dicom`).

use std::panic::{AssertUnwindSafe, catch_unwind};

use dicom_dictionary_std::tags;
use dicom_object::OpenFileOptions;
use dicom_pixeldata::image::DynamicImage;
use dicom_pixeldata::{ConvertOptions, PixelDecoder, VoiLutOption};

use super::{Channels, DecodeLimits, RadiographError, Raster};

/// Why a DICOM file is not read. Messages hold nothing of the file but sizes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DicomError {
    /// Too many bytes or pixels.
    #[error(transparent)]
    Limits(#[from] RadiographError),
    /// Not a DICOM file, or cut off before its pixels.
    #[error("the DICOM file's attributes cannot be read; export or transfer it again")]
    Attributes,
    /// No picture within, or one without rows and columns.
    #[error("the DICOM file holds no picture: only objects with pixel data can be used")]
    NoPixels,
    /// Pixels in a transfer syntax without a decoder here, or damaged ones.
    #[error(
        "the DICOM file's pixels cannot be decoded: they are damaged, or in a transfer syntax that is not read here (JPEG-LS, JPEG XL, \
         12-bit lossy JPEG); convert it to Explicit VR Little Endian"
    )]
    Pixels,
    /// Whoever decoded it broke, or took too long or too much memory.
    #[error(
        "the DICOM file cannot be decoded within the time and memory that a file may take; export the image as PNG or JPEG"
    )]
    Exhausted,
}

/// Whether `bytes` are a DICOM file by its prefix (DICOM PS3.10, 7.1).
pub fn is_dicom(bytes: &[u8]) -> bool {
    bytes.get(128..132) == Some(b"DICM")
}

/// Reads the first frame of a DICOM file as 8-bit grey or RGB.
///
/// # Errors
/// See [`DicomError`]; size and number of pixels are checked before any pixel is decoded.
pub fn read_dicom(bytes: &[u8], limits: &DecodeLimits) -> Result<Raster, DicomError> {
    limits.check_bytes(bytes.len())?;
    // The decoders are other people's: what they panic on is a damaged file to us.
    catch_unwind(AssertUnwindSafe(|| decode(bytes, limits))).unwrap_or(Err(DicomError::Pixels))
}

fn decode(bytes: &[u8], limits: &DecodeLimits) -> Result<Raster, DicomError> {
    let object = OpenFileOptions::new()
        .from_reader(bytes)
        .map_err(|_| DicomError::Attributes)?;
    let number = |tag| object.get(tag).and_then(|element| element.to_int::<u32>().ok());
    let (width, height) = number(tags::COLUMNS)
        .zip(number(tags::ROWS))
        .filter(|&(width, height)| width > 0 && height > 0)
        .ok_or(DicomError::NoPixels)?;
    limits.check_size(width, height)?;
    if object.get(tags::PIXEL_DATA).is_none() {
        return Err(DicomError::NoPixels);
    }
    let decoded = object.decode_pixel_data_frame(0).map_err(|_| DicomError::Pixels)?;
    let options = ConvertOptions::new().with_voi_lut(VoiLutOption::Default).force_8bit();
    let image = decoded
        .to_dynamic_image_with_options(0, &options)
        .map_err(|_| DicomError::Pixels)?;
    let (width, height) = (image.width() as usize, image.height() as usize);
    let raster = match image {
        DynamicImage::ImageLuma8(grey) => Raster::new(width, height, Channels::Grey, grey.into_raw()),
        other => Raster::new(width, height, Channels::Rgb, other.into_rgb8().into_raw()),
    };
    raster.ok_or(DicomError::NoPixels)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An element in explicit VR little endian, of a VR with a length of 16 bits.
    fn element(tag: (u16, u16), vr: &str, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len()).unwrap();
        [
            &tag.0.to_le_bytes()[..],
            &tag.1.to_le_bytes(),
            vr.as_bytes(),
            &length.to_le_bytes(),
            value,
        ]
        .concat()
    }

    /// A 16-bit picture of 12 bits stored, written by hand from DICOM PS3.5 and PS3.10.
    fn file(photometric: &str, window: Option<(&str, &str)>, (width, height): (u16, u16), pixels: &[u16]) -> Vec<u8> {
        let meta = [
            element((2, 2), "UI", b"1.2.840.10008.5.1.4.1.1.1\0"),
            element((2, 3), "UI", b"1.2.3.4\0"),
            element((2, 0x10), "UI", b"1.2.840.10008.1.2.1\0"),
            element((2, 0x12), "UI", b"1.2.3\0"),
        ]
        .concat();
        let length = u32::try_from(meta.len()).unwrap();
        let mut file = [
            &[0; 128][..],
            b"DICM",
            &element((2, 0), "UL", &length.to_le_bytes()),
            &meta,
            &element((0x28, 2), "US", &1u16.to_le_bytes()),
            &element((0x28, 4), "CS", photometric.as_bytes()),
            &element((0x28, 0x10), "US", &height.to_le_bytes()),
            &element((0x28, 0x11), "US", &width.to_le_bytes()),
            &element((0x28, 0x100), "US", &16u16.to_le_bytes()),
            &element((0x28, 0x101), "US", &12u16.to_le_bytes()),
            &element((0x28, 0x102), "US", &11u16.to_le_bytes()),
            &element((0x28, 0x103), "US", &0u16.to_le_bytes()),
        ]
        .concat();
        if let Some((centre, width)) = window {
            file.extend(element((0x28, 0x1050), "DS", centre.as_bytes()));
            file.extend(element((0x28, 0x1051), "DS", width.as_bytes()));
        }
        file.extend([0xe0, 0x7f, 0x10, 0x00, b'O', b'W', 0, 0]);
        file.extend((pixels.len() as u32 * 2).to_le_bytes());
        file.extend(pixels.iter().flat_map(|pixel| pixel.to_le_bytes()));
        file
    }

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
                Ok(_) => read += 1,
                Err(error) => refused.push(format!("{:?}: {error}", path.file_name())),
            }
        }
        assert!(read >= 15 && refused.len() <= 4, "{read} read, {refused:#?}");
    }
}
