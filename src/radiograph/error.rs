//! Every way in which an image can be refused.

use super::ImageFormat;

/// Why an image was not read or written. Messages say what to do and never hold pixels or text of the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RadiographError {
    /// There are no bytes at all.
    #[error("The image is empty. Send the bytes of a PNG, JPEG or DICOM file.")]
    Empty,
    /// The signature is neither that of PNG nor that of JPEG.
    #[error("The image is neither PNG nor JPEG nor a DICOM file. Convert it to one of these and send it again.")]
    UnknownFormat,
    /// DICOM elements without what a DICOM file begins with.
    #[error(
        "The file lacks the DICOM Part 10 header (128 bytes and `DICM`). Write it with file meta information and send it again."
    )]
    NoDicomHeader,
    /// All pixels of the picture are alike, as the model would see them.
    #[error(
        "As the model would see it, the image has one grey level only; nothing can be read from it. Send a radiograph."
    )]
    OneLevel,
    /// The file has more bytes than the limit.
    #[error("The image file has {bytes} bytes; at most {max_bytes} are accepted. Send a smaller file.")]
    TooLarge {
        /// Length of the file.
        bytes: usize,
        /// [`super::DecodeLimits::max_bytes`].
        max_bytes: usize,
    },
    /// The header announces a larger picture than the limits allow.
    #[error(
        "The image is {width} × {height} pixels; at most {max_side} on a side and {max_pixels} in all are accepted. \
         Send a smaller image."
    )]
    TooManyPixels {
        /// Width in the header.
        width: u32,
        /// Height in the header.
        height: u32,
        /// [`super::DecodeLimits::max_side`].
        max_side: u32,
        /// [`super::DecodeLimits::max_pixels`].
        max_pixels: u64,
    },
    /// The file breaks the rules of its format, or ends too early.
    #[error("The {format} file is damaged: {reason}. Export or transfer it again.")]
    Corrupt {
        /// The format the file claims to be.
        format: ImageFormat,
        /// What is wrong.
        reason: &'static str,
    },
    /// A lawful file of a kind that is not read here.
    #[error("The {format} file cannot be read: {what}. Save it as an ordinary PNG or baseline JPEG.")]
    Unsupported {
        /// The format of the file.
        format: ImageFormat,
        /// What is not supported.
        what: &'static str,
    },
    /// The pixels or notes cannot be stored in the format asked for.
    #[error("The {format} file cannot be written: {reason}.")]
    Unwritable {
        /// The format asked for.
        format: ImageFormat,
        /// What does not fit.
        reason: &'static str,
    },
}
