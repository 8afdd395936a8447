//! PNG → raster, through the `png` crate with its transformations off: what samples mean is decided in
//! [`samples`](super::samples).

use std::io::Cursor;

use png::{ColorType, Decoder, DecodingError};

use super::samples::{self, Layout};
use super::{Channels, DecodeLimits, ImageFormat, Preprocess, RadiographError, Raster, exif};

/// What the decoder may allocate beside the pixels: rows and single chunks.
const DECODER_BYTES: usize = 64 << 20;

/// The chunk that ends every PNG.
const END: &[u8] = b"\0\0\0\0IEND\xae\x42\x60\x82";

pub(super) fn read(bytes: &[u8], limits: &DecodeLimits, preprocess: Preprocess) -> Result<Raster, RadiographError> {
    if preprocess == Preprocess::Compat && !bytes.ends_with(END) {
        // Pillow is content when all pixels are there, whether or not the file has an end.
        return decode(&[bytes, END].concat(), limits, preprocess);
    }
    decode(bytes, limits, preprocess)
}

fn decode(bytes: &[u8], limits: &DecodeLimits, preprocess: Preprocess) -> Result<Raster, RadiographError> {
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), png::Limits { bytes: DECODER_BYTES });
    // Pillow does not look at the checksums of coded pixels.
    decoder.ignore_checksums(preprocess == Preprocess::Compat);
    // Neither changes a pixel, and both are compressed: nothing to unpack, no bomb.
    decoder.set_ignore_iccp_chunk(true);
    decoder.set_ignore_text_chunk(true);
    let header = decoder.read_header_info().map_err(refusal)?;
    let (width, height) = (header.width, header.height);
    limits.check_size(width, height)?;

    let mut reader = decoder.read_info().map_err(refusal)?;
    let (line, interlaced) = (reader.output_line_size(width), reader.info().interlaced);
    let line = line.ok_or_else(|| corrupt("its size is impossible"))?;
    let bytes = line
        .checked_mul(height as usize)
        .ok_or_else(|| corrupt("its size is impossible"))?;
    let mut stored = vec![0; bytes];
    let bits_per_pixel = reader.info().bits_per_pixel() as u8;
    // Row by row, because an animated PNG may announce a first frame of another size than the picture.
    let mut y = 0;
    while let Some(row) = reader.next_interlaced_row().map_err(refusal)? {
        match row.interlace() {
            png::InterlaceInfo::Adam7(pass) if interlaced => {
                png::expand_interlaced_row(&mut stored, line, row.data(), pass, bits_per_pixel);
            }
            _ => {
                let target = stored
                    .chunks_exact_mut(line)
                    .nth(y)
                    .filter(|target| target.len() == row.data().len());
                target
                    .ok_or_else(|| corrupt("its rows do not fit its size"))?
                    .copy_from_slice(row.data());
                y += 1;
            }
        }
    }
    if preprocess == Preprocess::Default {
        // Orientation may come after the pixels, and a file that ends early may have lost more than its end.
        reader.finish().map_err(refusal)?;
    }
    let info = reader.info();
    let bits = info.bit_depth as u8;
    if bits < 8 {
        stored = unpack(&stored, line, width as usize, bits);
    }
    let (channels, samples) = match info.color_type {
        ColorType::Indexed => {
            let palette = info.palette.as_deref().unwrap_or_default();
            samples::from_indices(stored, palette, info.trns.as_deref().unwrap_or_default(), preprocess)
        }
        colour => {
            let layout = Layout {
                channels: match colour {
                    ColorType::Grayscale | ColorType::GrayscaleAlpha => Channels::Grey,
                    _ => Channels::Rgb,
                },
                alpha: matches!(colour, ColorType::GrayscaleAlpha | ColorType::Rgba),
                bits,
                key: info.trns.as_deref().map(|trns| key(trns, bits)),
            };
            let samples = match bits {
                16 => samples::from_words(&stored, layout, preprocess),
                _ => samples::from_bytes(&stored, layout, preprocess),
            };
            (layout.channels, samples)
        }
    };
    let raster = Raster::new(width as usize, height as usize, channels, samples)
        .ok_or_else(|| corrupt("its rows do not fit its size"))?;
    Ok(match (&info.exif_metadata, preprocess) {
        (Some(block), Preprocess::Default) => raster.upright(exif::orientation(block)),
        _ => raster,
    })
}

/// Samples of less than 8 bits, packed from the high end with rows padded to bytes → one a byte.
fn unpack(packed: &[u8], line: usize, width: usize, bits: u8) -> Vec<u8> {
    let per_byte = usize::from(8 / bits);
    let mask = (1 << bits) - 1;
    let mut out = Vec::with_capacity(packed.len() * per_byte);
    for row in packed.chunks_exact(line) {
        out.extend((0..width).map(|x| {
            let shift = 8 - bits - (x % per_byte) as u8 * bits;
            (row[x / per_byte] >> shift) & mask
        }));
    }
    out
}

/// The transparent colour of an image without palette: one sample, or three. The decoder has cut samples of at most 8 bits
/// to one byte each.
fn key(trns: &[u8], bits: u8) -> [u16; 3] {
    let width = if bits == 16 { 2 } else { 1 };
    let mut samples = trns
        .chunks_exact(width)
        .map(|s| s.iter().fold(0, |sum, &byte| sum << 8 | u16::from(byte)));
    std::array::from_fn(|_| samples.next().unwrap_or(0))
}

fn corrupt(reason: &'static str) -> RadiographError {
    RadiographError::Corrupt {
        format: ImageFormat::Png,
        reason,
    }
}

/// The decoder's words are not passed on: they may hold parts of the file.
fn refusal(error: DecodingError) -> RadiographError {
    match error {
        DecodingError::IoError(_) => corrupt("it ends before the picture is complete"),
        DecodingError::LimitsExceeded => RadiographError::Unsupported {
            format: ImageFormat::Png,
            what: "one of its chunks is too large",
        },
        DecodingError::Format(_) | DecodingError::Parameter(_) => corrupt("its structure or coded data are invalid"),
    }
}
