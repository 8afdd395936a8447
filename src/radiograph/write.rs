//! Pixels → PNG and JPEG, with notes that say where the image comes from.

use std::panic::{AssertUnwindSafe, catch_unwind};

use mozjpeg::{ColorSpace, Compress, Marker};

use super::{ImageFormat, Pixels, RadiographError};

/// JPEG quality: no visible loss, a fifth of the bytes of PNG.
const JPEG_QUALITY: f32 = 95.0;
/// The longest COM segment of JPEG, without its length field.
const MAX_COMMENT: usize = 0xffff - 2;

/// Encodes `pixels`. PNG is lossless; JPEG has quality 95 and full colour resolution. Images without colour are written as
/// greyscale, which reads back as the same RGB.
///
/// `notes` are keyword and text: PNG tEXt chunks (iTXt where the text is not Latin-1), JPEG comments `keyword: text`. They mark
/// generated images as synthetic.
///
/// # Errors
/// [`RadiographError::Unwritable`]: no pixels, sides beyond the format, a keyword that is not 1 … 79 Latin-1 characters,
/// a text too long for a JPEG comment.
pub fn write(pixels: &Pixels, format: ImageFormat, notes: &[(&str, &str)]) -> Result<Vec<u8>, RadiographError> {
    if pixels.rgb().is_empty() {
        return Err(unwritable(format, "it has no pixels"));
    }
    let grey = pixels.rgb().as_chunks::<3>().0.iter().all(|[r, g, b]| r == g && g == b);
    let samples = match grey {
        true => &pixels.rgb().iter().step_by(3).copied().collect::<Vec<_>>(),
        false => pixels.rgb(),
    };
    match format {
        ImageFormat::Png => write_png(pixels, grey, samples, notes),
        ImageFormat::Jpeg => {
            let comments: Vec<_> = notes
                .iter()
                .map(|(keyword, text)| format!("{keyword}: {text}"))
                .collect();
            if comments.iter().any(|comment| comment.len() > MAX_COMMENT) {
                return Err(unwritable(format, "a note is longer than 65,533 bytes"));
            }
            if pixels.width().max(pixels.height()) > 65_500 {
                return Err(unwritable(format, "a side is longer than 65,500 pixels"));
            }
            // The C library unwinds on errors, of which the checks above leave none but exhausted memory.
            catch_unwind(AssertUnwindSafe(|| write_jpeg(pixels, grey, samples, &comments)))
                .ok()
                .and_then(Result::ok)
                .ok_or_else(|| unwritable(format, "the encoder failed"))
        }
    }
}

fn write_png(pixels: &Pixels, grey: bool, samples: &[u8], notes: &[(&str, &str)]) -> Result<Vec<u8>, RadiographError> {
    let failed = |reason| move |_: png::EncodingError| unwritable(ImageFormat::Png, reason);
    let side = |length| u32::try_from(length).map_err(|_| unwritable(ImageFormat::Png, "a side is too long"));
    let mut file = Vec::with_capacity(samples.len() / 2);
    let mut encoder = png::Encoder::new(&mut file, side(pixels.width())?, side(pixels.height())?);
    encoder.set_color(if grey {
        png::ColorType::Grayscale
    } else {
        png::ColorType::Rgb
    });
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_filter(png::Filter::Adaptive);
    for &(keyword, text) in notes {
        let latin = text
            .chars()
            .all(|c| matches!(c, '\n' | ' '..='~' | '\u{a1}'..='\u{ff}'));
        let (keyword, text) = (keyword.to_owned(), text.to_owned());
        if latin {
            encoder.add_text_chunk(keyword, text)
        } else {
            encoder.add_itxt_chunk(keyword, text)
        }
        .map_err(failed("a note has an invalid keyword"))?;
    }
    let mut writer = encoder
        .write_header()
        .map_err(failed("a note has an invalid keyword or text"))?;
    writer.write_image_data(samples).map_err(failed("the encoder failed"))?;
    writer.finish().map_err(failed("the encoder failed"))?;
    Ok(file)
}

fn write_jpeg(pixels: &Pixels, grey: bool, samples: &[u8], comments: &[String]) -> std::io::Result<Vec<u8>> {
    let mut encoder = Compress::new(if grey {
        ColorSpace::JCS_GRAYSCALE
    } else {
        ColorSpace::JCS_RGB
    });
    encoder.set_size(pixels.width(), pixels.height());
    encoder.set_fastest_defaults();
    encoder.set_quality(JPEG_QUALITY);
    encoder.set_optimize_coding(true);
    if !grey {
        encoder.set_chroma_sampling_pixel_sizes((1, 1), (1, 1));
    }
    let mut started = encoder.start_compress(Vec::with_capacity(samples.len() / 4))?;
    for comment in comments {
        started.write_marker(Marker::COM, comment.as_bytes());
    }
    started.write_scanlines(samples)?;
    started.finish()
}

fn unwritable(format: ImageFormat, reason: &'static str) -> RadiographError {
    RadiographError::Unwritable { format, reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::radiograph::{DecodeLimits, Preprocess, for_model, read};

    fn gradient(side: usize, coloured: bool) -> Pixels {
        let tint = |i: usize| if coloured { i % 3 * 40 } else { 0 };
        let rgb = (0..side * side * 3)
            .map(|i| ((i / 3 % side + i / 3 / side) * 2 + tint(i)) as u8)
            .collect();
        Pixels::new(side, side, rgb).unwrap()
    }

    #[test]
    fn png_gives_back_the_same_pixels_in_grey_and_in_colour() {
        for coloured in [false, true] {
            let pixels = gradient(40, coloured);
            let file = write(
                &pixels,
                ImageFormat::Png,
                &[("Comment", "synthetic"), ("Title", "Röntgen – 胸")],
            )
            .unwrap();
            for preprocess in [Preprocess::Default, Preprocess::Compat] {
                let raster = read(&file, &DecodeLimits::default(), preprocess).unwrap();
                assert_eq!(for_model(&raster, 40), pixels);
            }
        }
    }

    #[test]
    fn jpeg_gives_back_nearly_the_same_pixels() {
        for coloured in [false, true] {
            let pixels = gradient(40, coloured);
            let file = write(&pixels, ImageFormat::Jpeg, &[("Comment", "synthetic")]).unwrap();
            let back = for_model(&read(&file, &DecodeLimits::default(), Preprocess::Compat).unwrap(), 40);
            let worst = back.rgb().iter().zip(pixels.rgb()).map(|(a, b)| a.abs_diff(*b)).max();
            assert!(worst <= Some(16), "{worst:?}");
        }
    }

    #[test]
    fn notes_are_in_the_file() {
        let pixels = gradient(8, false);
        let note = [("Source", "synthetic; not a patient")];
        for format in [ImageFormat::Png, ImageFormat::Jpeg] {
            let file = write(&pixels, format, &note).unwrap();
            assert!(
                file.windows(24).any(|bytes| bytes == b"synthetic; not a patient"),
                "{format}"
            );
        }
    }

    #[test]
    fn what_a_format_cannot_hold_is_refused() {
        let pixels = gradient(8, false);
        let long = "x".repeat(70_000);
        for (format, notes) in [
            (ImageFormat::Png, ("", "text")),
            (ImageFormat::Jpeg, ("Comment", &*long)),
        ] {
            let refused = write(&pixels, format, &[notes]);
            assert!(
                matches!(refused, Err(RadiographError::Unwritable { .. })),
                "{refused:?}"
            );
        }
        let nothing = Pixels::new(0, 0, Vec::new()).unwrap();
        assert!(write(&nothing, ImageFormat::Png, &[]).is_err());
    }
}
