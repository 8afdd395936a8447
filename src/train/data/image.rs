//! Image files of a data set.

use std::fs;
use std::io;
use std::path::Path;

use crate::radiograph::{
    DecodeLimits, DicomError, Pixels, Preprocess, RadiographError, for_model, is_dicom, prepare, read_dicom,
};

/// Why an image of a data set is left out.
#[derive(Debug, thiserror::Error)]
pub enum ImageFault {
    /// The operating system refused.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A DICOM file that is damaged or of a kind that is not read.
    #[error(transparent)]
    Dicom(#[from] DicomError),
    /// Not a PNG, JPEG or DICOM file, or a damaged one.
    #[error(transparent)]
    Decode(#[from] RadiographError),
}

impl ImageFault {
    /// The same for all files of this fault, to count by.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Io(_) => "image file cannot be read",
            Self::Dicom(_) => "DICOM file is damaged or of a kind that is not read; export it as PNG or JPEG",
            Self::Decode(_) => "image does not decode",
        }
    }
}

/// Reads an image file as `side × side` pixels, prepared for the VQ-GAN as the server prepares what it is sent.
pub fn read_image(path: &Path, side: usize) -> Result<Pixels, ImageFault> {
    let bytes = fs::read(path)?;
    let limits = DecodeLimits::default();
    if is_dicom(&bytes) {
        return Ok(for_model(&read_dicom(&bytes, &limits)?, side));
    }
    Ok(prepare(&bytes, &limits, Preprocess::Default, side)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_dicom_file_and_a_missing_one_are_told_from_one_that_does_not_decode() {
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
