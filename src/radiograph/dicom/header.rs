//! What a file says of the form of its pixels, read and checked before any of them is decoded.

use dicom_dictionary_std::tags;
use dicom_object::DefaultDicomObject as Object;

use super::facts::code;
use super::frame::Frame;
use super::read::{DicomError, PixelAttribute};
use super::syntax::{self, PixelForm, TransferSyntax};
use crate::radiograph::DecodeLimits;

/// What samples may mean (PS3.3 C.7.6.3.1.2). Palettes are not radiographs, and are not read.
const PHOTOMETRICS: [&str; 8] = [
    "MONOCHROME1",
    "MONOCHROME2",
    "RGB",
    "YBR_FULL",
    "YBR_FULL_422",
    "YBR_PARTIAL_420",
    "YBR_ICT",
    "YBR_RCT",
];

/// The form of a file's pixels, one that is read.
#[derive(Clone, Debug)]
pub(super) struct Header {
    /// Width and height.
    pub(super) size: (u32, u32),
    /// What samples mean, in capitals.
    pub(super) photometric: String,
    /// Bits of a sample as it lies in the file.
    pub(super) allocated: u32,
    /// Bits of it that count.
    pub(super) stored: u32,
    /// The highest of them, if the file says it.
    pub(super) high_bit: Option<u32>,
    pub(super) signed: bool,
    /// What the first frame says of itself, where its coding has it do so.
    pub(super) frame: Option<Frame>,
}

impl Header {
    /// Of a file as it was parsed.
    ///
    /// # Errors
    /// Of a file without a picture, in a form that is not read, above the limits, or whose first frame is not what the file says.
    pub(super) fn of(object: &Object, limits: &DecodeLimits) -> Result<Self, DicomError> {
        if object.get(tags::PIXEL_DATA).is_none() {
            return Err(DicomError::NoPixels);
        }
        let syntax = TransferSyntax::of(object.meta().transfer_syntax());
        syntax::check(&syntax)?;
        let number = |tag, attribute| {
            let number = object.get(tag).and_then(|element| element.to_int::<u32>().ok());
            number.ok_or(DicomError::Lacks(attribute))
        };
        let height = number(tags::ROWS, PixelAttribute::Rows)?;
        let width = number(tags::COLUMNS, PixelAttribute::Columns)?;
        if width == 0 || height == 0 {
            return Err(DicomError::NoPixels);
        }
        limits.check_size(width, height)?;
        // The decoder wants all of them, and would only say that it does not decode.
        let channels = number(tags::SAMPLES_PER_PIXEL, PixelAttribute::SamplesPerPixel)?;
        let photometric = code(object, tags::PHOTOMETRIC_INTERPRETATION);
        let photometric = photometric.ok_or(DicomError::Lacks(PixelAttribute::PhotometricInterpretation))?;
        let allocated = number(tags::BITS_ALLOCATED, PixelAttribute::BitsAllocated)?;
        let stored = number(tags::BITS_STORED, PixelAttribute::BitsStored)?;
        let signed = number(tags::PIXEL_REPRESENTATION, PixelAttribute::PixelRepresentation)? != 0;
        let high_bit = object
            .get(tags::HIGH_BIT)
            .and_then(|element| element.to_int::<u32>().ok());
        if !matches!((allocated, channels), (8, _) | (16, 1)) {
            return Err(DicomError::Depth(allocated));
        }
        if !PHOTOMETRICS.contains(&photometric.as_str()) {
            return Err(DicomError::Form(PixelForm::Colours));
        }
        let frame = Frame::of(object, &syntax)?;
        let fits =
            |frame: Frame| frame.size == (width, height) && frame.channels == channels && frame.bits <= allocated;
        if frame.is_some_and(|frame| !fits(frame)) {
            return Err(DicomError::Pixels);
        }
        Ok(Self {
            size: (width, height),
            photometric,
            allocated,
            stored,
            high_bit,
            signed,
            frame,
        })
    }
}
