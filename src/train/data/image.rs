//! Image files of a data set.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::radiograph::{
    DecodeLimits, DicomError, MAX_PIXELS, Pixels, Preprocess, RadiographError, for_model, is_dicom, prepare, read_dicom,
};

/// Why an image of a data set is left out.
#[derive(Debug, thiserror::Error)]
pub enum ImageFault {
    /// The operating system refused.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A DICOM file that is damaged or of a kind that is not read.
    #[error("{}", own_dicom(.0))]
    Dicom(#[from] DicomError),
    /// Not a PNG, JPEG or DICOM file, or a damaged one.
    #[error("{}", own(.0))]
    Decode(#[from] RadiographError),
    /// Nothing can be seen in it: the server refuses it, and codes of it would teach a report of nothing.
    #[error("as the model would see it, the image has one grey level only; export it again, or leave it out")]
    OneLevel,
}

impl ImageFault {
    /// The same for all files of this fault, to count by.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Io(_) => "image file cannot be read",
            Self::Dicom(_) => "DICOM file is damaged or of a kind that is not read; export it as PNG or JPEG",
            Self::Decode(_) => "image does not decode",
            Self::OneLevel => "image has one grey level only",
        }
    }
}

/// What is wrong with a file of one's own. Nothing was sent, so what is to be done is not what a server tells its client.
fn own(error: &RadiographError) -> String {
    match error {
        RadiographError::Empty => "the image file is empty; copy it again".to_owned(),
        RadiographError::UnknownFormat => {
            "the image is neither PNG nor JPEG nor a DICOM file; convert it to one of these".to_owned()
        }
        RadiographError::NoDicomHeader => {
            "the file is DICOM without the Part 10 header (128 bytes and `DICM`); export it again with file meta information, or as PNG or JPEG"
                .to_owned()
        }
        RadiographError::TooManyPixels {
            width,
            height,
            max_side,
            max_pixels,
        } => format!(
            "the image is {width} × {height} pixels; at most {max_side} on a side and {max_pixels} in all are read; make it smaller"
        ),
        other => other.to_string(),
    }
}

/// [`own`] of a DICOM file.
fn own_dicom(error: &DicomError) -> String {
    match error {
        DicomError::Limits(error) => own(error),
        other => other.to_string(),
    }
}

/// How the operator's own files are read: they are no strangers' requests, so only their pixels are limited, not their bytes.
pub const OWN_FILES: DecodeLimits = DecodeLimits {
    max_bytes: usize::MAX,
    max_pixels: MAX_PIXELS,
    max_side: 16_384,
};

/// Reads an image file as `side × side` pixels, prepared for the VQ-GAN as the server prepares what it is sent.
pub fn read_image(path: &Path, side: usize) -> Result<Pixels, ImageFault> {
    decode_image(&read_file(path)?, side)
}

/// A file's bytes. What is no file is not read: of a named pipe to which nobody writes the end would be waited for.
///
/// # Errors
/// When there is none, which [`super::is_no_file`] tells, or the system refuses.
pub fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let found = fs::metadata(path)?;
    match found.is_file() || found.is_dir() {
        // The system says what it thinks of reading a folder.
        true => fs::read(path),
        false => Err(io::Error::new(
            ErrorKind::InvalidInput,
            "it is no file, but a pipe, a device or the like",
        )),
    }
}

/// [`read_image`] of a file's bytes.
pub fn decode_image(bytes: &[u8], side: usize) -> Result<Pixels, ImageFault> {
    if is_dicom(bytes) {
        return Ok(for_model(&read_dicom(bytes, &OWN_FILES)?, side));
    }
    Ok(prepare(bytes, &OWN_FILES, Preprocess::Default, side)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_more_bytes_than_a_request_may_have_is_read() {
        let png = crate::radiograph::write(
            &Pixels::new(8, 8, vec![90; 8 * 8 * 3]).unwrap(),
            crate::radiograph::ImageFormat::Png,
            &[],
        );
        let mut bytes = png.unwrap();
        // What stands behind the end of a PNG file is not looked at.
        bytes.resize(DecodeLimits::default().max_bytes + 1, 0);
        assert_eq!(decode_image(&bytes, 8).unwrap().rgb()[0], 90);
    }

    #[test]
    fn a_dicom_file_without_its_header_is_to_be_exported_again_and_not_to_be_sent() {
        let file = crate::radiograph::dicom::sample::file("MONOCHROME2 ", None, (4, 4), &[7; 16]);
        // Behind the 128 bytes and `DICM`.
        let told = decode_image(&file[132..], 8).err().unwrap().to_string();
        assert!(
            told.contains("Part 10 header") && told.contains("export it again") && !told.contains("send"),
            "{told}"
        );
    }

    #[cfg(unix)]
    #[test]
    fn nobody_waits_for_a_pipe_or_a_device_as_for_an_image() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("a.png");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        for path in [pipe.as_path(), Path::new("/dev/zero")] {
            let fault = read_image(path, 8).err().unwrap();
            assert!(
                fault.reason().contains("cannot be read") && fault.to_string().contains("is no file"),
                "{fault}"
            );
            assert!(crate::train::data::is_no_file(&read_file(path).unwrap_err()));
        }
        let folder = read_file(dir.path()).unwrap_err();
        assert!(crate::train::data::is_no_file(&folder), "{folder}");
    }

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
        // Nobody is asked to send a file of his own.
        for text in ["text", ""] {
            fs::write(&path, text).unwrap();
            let told = read_image(&path, 8).err().unwrap().to_string();
            assert!(
                !told.to_lowercase().contains("send") && told.contains("the image"),
                "{told}"
            );
        }
    }
}
