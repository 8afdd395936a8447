//! Radiographs: bytes of PNG, JPEG or DICOM → pixels for the model (PNG and JPEG exactly as Pillow makes them), and pixels → PNG or JPEG.
//!
//! ```text
//! bytes ─ read (read_png, read_jpeg) ─ Raster ─ for_model (Lanczos resize, centre crop) ─ Pixels ─ write ─ bytes
//! ```
//!
//! The VQ-GAN was trained on what Pillow 10.0.1 gives, and one grey level can flip a code, so parity is per pixel:
//! [`Preprocess::Compat`] is the original's behaviour in every respect. [`Preprocess::Default`] differs only where the
//! original loses the picture: it honours EXIF orientation, composites alpha on black, maps 16-bit samples by the window
//! they use (outliers aside, see `ends`), and refuses files whose coded data are damaged.
//!
//! Everything here may be hostile. The format is sniffed from the bytes, sizes are checked from the header before anything
//! is allocated for pixels, work is bounded by [`DecodeLimits`], and every refusal is a [`RadiographError`].

pub(crate) mod dicom;
mod ends;
mod error;
mod exif;
mod for_model;
mod limits;
mod marks;
mod notes;
mod pixels;
mod raster;
mod read_jpeg;
mod read_png;
mod resample;
mod samples;
mod write;

pub use dicom::facts::{DicomFacts, OtherModality, OtherPart, OtherView};
pub use dicom::read::{DicomError, PixelAttribute, is_dicom, read_dicom, read_dicom_with_facts};
pub use dicom::syntax::{PixelForm, TransferSyntax};
pub use error::RadiographError;
pub use for_model::for_model;
pub use limits::{DecodeLimits, MAX_PIXELS};
pub use marks::says_synthetic;
pub use notes::{ImageNote, image_notes};
pub use pixels::Pixels;
pub use raster::{Channels, Raster};
pub use write::write;

/// How a file becomes a raster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, clap::ValueEnum, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Preprocess {
    /// EXIF orientation honoured, alpha composited on black, 16-bit samples mapped by the window they use, damaged files
    /// refused. All else equals Pillow.
    #[default]
    Default,
    /// What the original gets from `PIL.Image.open(path).convert("RGB")`: orientation and alpha ignored, 16-bit grey
    /// clipped at 255, 16-bit colour cut to its high byte.
    Compat,
}

/// The file formats that are read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageFormat {
    /// Portable Network Graphics.
    Png,
    /// JPEG, baseline or progressive.
    Jpeg,
}

impl ImageFormat {
    /// The format that `bytes` begin with, by signature alone.
    pub fn sniff(bytes: &[u8]) -> Option<Self> {
        if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
            Some(Self::Png)
        } else if bytes.starts_with(b"\xff\xd8\xff") {
            Some(Self::Jpeg)
        } else {
            None
        }
    }

    /// The media type, as in an HTTP `Content-Type`.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
        }
    }
}

impl std::fmt::Display for ImageFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Png => "PNG",
            Self::Jpeg => "JPEG",
        })
    }
}

/// Decodes a PNG or JPEG file of any colour mode and bit depth.
///
/// # Errors
/// Every way in which `bytes` may not be an acceptable image; see [`RadiographError`].
pub fn read(bytes: &[u8], limits: &DecodeLimits, preprocess: Preprocess) -> Result<Raster, RadiographError> {
    if bytes.is_empty() {
        return Err(RadiographError::Empty);
    }
    limits.check_bytes(bytes.len())?;
    match ImageFormat::sniff(bytes) {
        Some(ImageFormat::Png) => read_png::read(bytes, limits, preprocess),
        Some(ImageFormat::Jpeg) => read_jpeg::read(bytes, limits, preprocess),
        None if dicom::read::lacks_its_header(bytes) => Err(RadiographError::NoDicomHeader),
        None => Err(RadiographError::UnknownFormat),
    }
}

/// [`read`], then [`for_model`]: a file becomes `side × side` pixels for the VQ-GAN.
///
/// # Errors
/// As [`read`].
pub fn prepare(
    bytes: &[u8],
    limits: &DecodeLimits,
    preprocess: Preprocess,
    side: usize,
) -> Result<Pixels, RadiographError> {
    Ok(for_model(&read(bytes, limits, preprocess)?, side))
}
