//! What the header of a coded frame says of its picture, before any of it is decoded: of a frame that is smaller or larger than the file says,
//! the decoders would make a picture all the same, a skewed one.

use dicom_dictionary_std::tags;
use dicom_object::DefaultDicomObject as Object;

use super::read::DicomError;
use super::syntax::{FrameCoding, PixelForm, TransferSyntax};
use crate::radiograph::read_jpeg;

/// Bytes of a frame within which its header ends.
const HEAD: usize = 1 << 20;

/// What decodes a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decoder {
    /// The library that also knows what the file says of its pixels.
    Library,
    /// `jpeg_12`.
    Jpeg12,
    /// `jpeg_ls`.
    JpegLs,
}

/// The picture of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// Width and height.
    pub(super) size: (u32, u32),
    /// Samples of a pixel.
    pub(super) channels: u32,
    /// Bits of a sample.
    pub(super) bits: u32,
    /// Whether the decoder gives samples as bytes, whatever the file allocates for them.
    pub(super) bytes: bool,
    /// Whether colours come out of the decoder as the file says that they went in, and not as RGB.
    pub(super) colours_stay: bool,
    pub(super) decoder: Decoder,
}

impl Frame {
    /// Of the first frame of a file, where its coding has such headers.
    pub(super) fn of(object: &Object, syntax: &TransferSyntax) -> Result<Option<Self>, DicomError> {
        let frame = match syntax.frame_coding() {
            Some(FrameCoding::Jpeg) => jpeg(&head(object)?)?,
            Some(FrameCoding::JpegLs) => jpeg_ls(&head(object)?)?,
            Some(FrameCoding::Jpeg2000) => jpeg_2000(&head(object)?).ok_or(DicomError::Pixels)?,
            Some(FrameCoding::Headerless) | None => return Ok(None),
        };
        Ok(Some(frame))
    }
}

/// What the coded frames of a file begin with.
fn head(object: &Object) -> Result<Vec<u8>, DicomError> {
    let fragments = object.get(tags::PIXEL_DATA).and_then(|pixels| pixels.fragments());
    let fragments = fragments.ok_or(DicomError::Pixels)?;
    Ok(fragments.iter().flatten().copied().take(HEAD).collect())
}

/// T.81, B.2.2.
fn jpeg(head: &[u8]) -> Result<Frame, DicomError> {
    let header = read_jpeg::frame_header(head).ok_or(DicomError::Pixels)?;
    let decoder = match (header.process, header.precision, header.components) {
        (0xc0..=0xc2, 8, _) | (0xc3, ..) => Decoder::Library,
        (0xc1, 12, 1) => Decoder::Jpeg12,
        (0xc0..=0xc2, ..) => return Err(DicomError::Form(PixelForm::DeepLossyJpeg)),
        _ => return Err(DicomError::Form(PixelForm::JpegProcess)),
    };
    Ok(Frame {
        size: (header.width.into(), header.height.into()),
        channels: header.components.into(),
        bits: header.precision.into(),
        bytes: header.precision == 8,
        colours_stay: header.process == 0xc3,
        decoder,
    })
}

/// T.87, C.2.2.
fn jpeg_ls(head: &[u8]) -> Result<Frame, DicomError> {
    let header = read_jpeg::frame_header(head).ok_or(DicomError::Pixels)?;
    match (header.process, header.components) {
        (read_jpeg::JPEG_LS, 1) => {}
        (read_jpeg::JPEG_LS, _) => return Err(DicomError::Form(PixelForm::ColourJpegLs)),
        _ => return Err(DicomError::Form(PixelForm::JpegProcess)),
    }
    Ok(Frame {
        size: (header.width.into(), header.height.into()),
        channels: 1,
        bits: header.precision.into(),
        bytes: false,
        colours_stay: true,
        decoder: Decoder::JpegLs,
    })
}

/// T.800, A.4 to A.6; where the codestream is a file of the format JP2, it stands behind its boxes.
fn jpeg_2000(head: &[u8]) -> Option<Frame> {
    let start = head.windows(4).position(|four| four == [0xff, 0x4f, 0xff, 0x51])?;
    let body = head.get(start + 4..)?;
    let byte = |at: usize| -> Option<u8> { body.get(at).copied() };
    let short = |at: usize| -> Option<u16> { Some(u16::from_be_bytes([byte(at)?, byte(at + 1)?])) };
    let long = |at: usize| -> Option<u32> { Some((u32::from(short(at)?) << 16) | u32::from(short(at + 2)?)) };
    // The reference grid, less what lies before the picture.
    let size = (long(4)?.checked_sub(long(12)?)?, long(8)?.checked_sub(long(16)?)?);
    let channels = short(36)?;
    let mut bits = 0;
    for channel in 0..usize::from(channels) {
        let at = 38 + 3 * channel;
        bits = bits.max(u32::from(byte(at)? & 0x7f) + 1);
        // Fewer samples than pixels.
        if (byte(at + 1)?, byte(at + 2)?) != (1, 1) {
            return None;
        }
    }
    // COD tells whether the components were transformed, and are transformed back; SOT ends the main header.
    let mut at = usize::from(short(0)?);
    let mut transformed = false;
    while short(at)? != 0xff90 {
        if short(at)? == 0xff52 {
            transformed = byte(at + 8)? != 0;
            break;
        }
        at += 2 + usize::from(short(at + 2)?);
    }
    Some(Frame {
        size,
        channels: channels.into(),
        bits,
        bytes: false,
        colours_stay: !transformed,
        decoder: Decoder::Library,
    })
}

/// Pixels of YCbCr in full range, turned into RGB (PS3.3 C.7.6.3.1.2).
pub(super) fn turn_into_rgb(samples: &mut [u8]) {
    for pixel in samples.as_chunks_mut::<3>().0 {
        let [luma, blue, red] = pixel.map(f32::from);
        let (blue, red) = (blue - 128.0, red - 128.0);
        let rgb = [
            luma + 1.402 * red,
            luma - 0.344_136 * blue - 0.714_136 * red,
            luma + 1.772 * blue,
        ];
        // `as` keeps within 0 and 255.
        *pixel = rgb.map(|level| level.round() as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Header of a codestream of 8 bits: its size, where the picture begins on its grid, components, and whether they were transformed.
    fn codestream(size: (u32, u32), begins: (u32, u32), components: u16, transformed: u8) -> Vec<u8> {
        let mut head = vec![0xff, 0x4f, 0xff, 0x51];
        head.extend((38 + 3 * components).to_be_bytes());
        head.extend([0, 0]);
        for number in [size.0 + begins.0, size.1 + begins.1, begins.0, begins.1, 64, 64, 0, 0] {
            head.extend(number.to_be_bytes());
        }
        head.extend(components.to_be_bytes());
        head.extend([7u8, 1, 1].repeat(components.into()));
        // A comment stands before COD.
        head.extend([0xff, 0x64, 0, 4, 0, 1]);
        head.extend([0xff, 0x52, 0, 12, 0, 0, 0, 1, transformed, 0, 4, 4, 0, 1]);
        head.extend([0xff, 0x90]);
        head
    }

    #[test]
    fn the_header_of_a_codestream_is_read_wherever_it_begins_and_ends() {
        let grey = codestream((40, 32), (3, 5), 1, 0);
        let frame = Frame {
            size: (40, 32),
            channels: 1,
            bits: 8,
            bytes: false,
            colours_stay: true,
            decoder: Decoder::Library,
        };
        assert_eq!(jpeg_2000(&grey), Some(frame));
        let boxed = [&b"\0\0\0\x0cjP  \r\n\x87\n"[..], &codestream((40, 32), (0, 0), 3, 1)].concat();
        let colour = Frame {
            channels: 3,
            colours_stay: false,
            ..frame
        };
        assert_eq!(jpeg_2000(&boxed), Some(colour));
        for length in 0..grey.len() - 8 {
            let read = jpeg_2000(&grey[..length]);
            assert!(read.is_none_or(|read| read == frame), "{length} bytes");
        }
        // Components of half the picture's width.
        let mut halved = codestream((40, 32), (0, 0), 1, 0);
        halved[4 + 39] = 2;
        assert_eq!(jpeg_2000(&halved), None);
    }

    #[test]
    fn colours_of_ycbcr_become_those_of_rgb() {
        // Grey, and PS3.3's red, green and blue as BT.601 has them.
        let mut pixels = [90, 128, 128, 76, 85, 255, 150, 44, 21, 29, 255, 107];
        turn_into_rgb(&mut pixels);
        let right = [90, 90, 90, 254, 0, 0, 0, 255, 1, 0, 0, 254];
        let near = pixels.iter().zip(right).all(|(one, other)| one.abs_diff(other) <= 1);
        assert!(near, "{pixels:?}");
    }
}
