//! Image files of a data set.

use std::fs;
use std::io;
use std::path::Path;

use crate::radiograph::{DecodeLimits, Pixels, Preprocess, RadiographError, prepare};

/// Why an image of a data set is left out.
#[derive(Debug, thiserror::Error)]
pub enum ImageFault {
    /// The operating system refused.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A DICOM file.
    #[error("DICOM files are not read yet; export the image as PNG or JPEG")]
    Dicom,
    /// Not a PNG or JPEG file, or a damaged one.
    #[error(transparent)]
    Decode(#[from] RadiographError),
}

impl ImageFault {
    /// The same for all files of this fault, to count by.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Io(_) => "image file cannot be read",
            Self::Dicom => "image is a DICOM file, which is not read yet; export it as PNG or JPEG",
            Self::Decode(_) => "image does not decode",
        }
    }
}

/// Reads an image file as `side × side` pixels, prepared for the VQ-GAN as the server prepares what it is sent.
pub fn read_image(path: &Path, side: usize) -> Result<Pixels, ImageFault> {
    let bytes = fs::read(path)?;
    // PS3.10, 7.1: a preamble of 128 bytes, then the prefix.
    if bytes.get(128..132) == Some(b"DICM") {
        return Err(ImageFault::Dicom);
    }
    Ok(prepare(&bytes, &DecodeLimits::default(), Preprocess::Default, side)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dicom_file_and_a_missing_one_are_told_from_one_that_does_not_decode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let reason = |path: &Path| read_image(path, 8).err().unwrap().reason();
        assert!(reason(&path).contains("cannot be read"));
        fs::write(&path, [&[0; 128][..], b"DICM", &[2, 0, 0, 0]].concat()).unwrap();
        assert!(reason(&path).contains("export it as PNG or JPEG"));
        fs::write(&path, "text").unwrap();
        assert!(reason(&path).contains("does not decode"));
    }
}
