//! Transfer syntaxes by their UIDs (PS3.6, annex A), and what is told of pixels in a form that is not read here.

use std::fmt;

use dicom_dictionary_std::uids;

use super::read::DicomError;
use super::writing::Writing;

/// What is to be known of a transfer syntax, in one place. After its UID: how frames are coded, or nothing where they are not read; how elements are
/// written, or nothing where they are not looked at: in big endian, and where all is deflated as a whole.
#[allow(deprecated, reason = "big endian is retired, and is read all the same")]
const SYNTAXES: [(&str, Option<FrameCoding>, Option<Writing>); 22] = {
    use FrameCoding::{Headerless, Jpeg, Jpeg2000, JpegLs};
    use Writing::{Explicit, Implicit};
    [
        (uids::IMPLICIT_VR_LITTLE_ENDIAN, Some(Headerless), Some(Implicit)),
        (uids::EXPLICIT_VR_LITTLE_ENDIAN, Some(Headerless), Some(Explicit)),
        (
            uids::ENCAPSULATED_UNCOMPRESSED_EXPLICIT_VR_LITTLE_ENDIAN,
            Some(Headerless),
            Some(Explicit),
        ),
        (uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, Some(Headerless), None),
        (uids::EXPLICIT_VR_BIG_ENDIAN, Some(Headerless), None),
        (uids::JPEG_BASELINE8_BIT, Some(Jpeg), Some(Explicit)),
        (uids::JPEG_EXTENDED12_BIT, Some(Jpeg), Some(Explicit)),
        (uids::JPEG_LOSSLESS, Some(Jpeg), Some(Explicit)),
        (uids::JPEG_LOSSLESS_SV1, Some(Jpeg), Some(Explicit)),
        (uids::JPEGLS_LOSSLESS, Some(JpegLs), Some(Explicit)),
        (uids::JPEGLS_NEAR_LOSSLESS, Some(JpegLs), Some(Explicit)),
        (uids::JPEG2000_LOSSLESS, Some(Jpeg2000), Some(Explicit)),
        (uids::JPEG2000, Some(Jpeg2000), Some(Explicit)),
        (uids::JPEG2000MC_LOSSLESS, Some(Jpeg2000), Some(Explicit)),
        (uids::JPEG2000MC, Some(Jpeg2000), Some(Explicit)),
        (uids::JPIP_REFERENCED_DEFLATE, None, None),
        (uids::HTJ2K_LOSSLESS, Some(Jpeg2000), Some(Explicit)),
        (uids::HTJ2K_LOSSLESS_RPCL, Some(Jpeg2000), Some(Explicit)),
        (uids::HTJ2K, Some(Jpeg2000), Some(Explicit)),
        (uids::JPIPHTJ2K_REFERENCED_DEFLATE, None, None),
        (uids::RLE_LOSSLESS, Some(Headerless), Some(Explicit)),
        (uids::DEFLATED_IMAGE_FRAME_COMPRESSION, Some(Headerless), Some(Explicit)),
    ]
};

/// Where the UIDs of all kinds of JPEG, JPEG 2000 and film are.
const CODED: &str = "1.2.840.10008.1.2.4.";

/// A transfer syntax, by its UID.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(from = "String", into = "String")]
pub struct TransferSyntax(String);

impl TransferSyntax {
    /// By the UID that a file gives. What has not the form of one (PS3.5, 9.1) may be anything, and is not kept.
    pub fn of(uid: &str) -> Self {
        let uid = uid.trim_matches(|c: char| c.is_whitespace() || c == '\0');
        let formed = uid.len() <= 64 && uid.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        Self(if formed { uid.to_owned() } else { String::new() })
    }

    /// Whether pixels in it are read here.
    pub(super) fn is_read(&self) -> bool {
        self.frame_coding().is_some()
    }

    /// How the frames are coded, where they are read here.
    pub(super) fn frame_coding(&self) -> Option<FrameCoding> {
        let listed = SYNTAXES.iter().find(|syntax| syntax.0 == self.0.as_str());
        listed.and_then(|syntax| syntax.1)
    }

    /// What is known of it, where it is not read: its name, and how it is made one that is.
    fn known(&self) -> Option<(&'static str, &'static str)> {
        const ANY: &str = "convert it to Explicit VR Little Endian, or export the image as PNG or JPEG";
        const FILM: &str = "export one picture of it as PNG or JPEG";
        const JPEG: &str = "convert it to Explicit VR Little Endian (DCMTK: `dcmdjpeg IN OUT`)";
        let number = self.0.strip_prefix(CODED)?;
        Some(match number.split('.').next()? {
            "53" | "55" => ("JPEG with progression", JPEG),
            "52" | "54" | "56" => ("JPEG of a retired process", ANY),
            "58" | "59" | "60" | "61" | "62" | "63" | "64" | "65" | "66" => ("JPEG of a retired process", ANY),
            "94" | "95" | "204" | "205" => ("JPIP, which has the pixels elsewhere", ANY),
            "100" | "101" => ("MPEG-2", FILM),
            "102" | "103" | "104" | "105" | "106" => ("MPEG-4 AVC/H.264", FILM),
            "107" | "108" => ("HEVC/H.265", FILM),
            "110" => ("JPEG XL Lossless", ANY),
            "111" => ("JPEG XL Recompression", ANY),
            "112" => ("JPEG XL", ANY),
            _ => return None,
        })
    }

    /// What is told of one that is not read.
    pub(super) fn refusal(&self) -> String {
        match self.known() {
            Some((name, how)) => format!("the DICOM file is in {self} ({name}), which is not read here; {how}"),
            None => {
                format!("the DICOM file is in {self}, which is not known here; convert it to Explicit VR Little Endian")
            }
        }
    }
}

impl fmt::Display for TransferSyntax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_str() {
            "" => f.write_str("a transfer syntax without a UID"),
            uid => write!(f, "the transfer syntax {uid}"),
        }
    }
}

/// What comes from a worker is looked at as what comes from a file.
impl From<String> for TransferSyntax {
    fn from(uid: String) -> Self {
        Self::of(&uid)
    }
}

impl From<TransferSyntax> for String {
    fn from(syntax: TransferSyntax) -> Self {
        syntax.0
    }
}

/// How frames are coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameCoding {
    /// Without a header that tells the size: plain samples, run lengths, or deflated ones.
    Headerless,
    /// JPEG, but for JPEG-LS.
    Jpeg,
    JpegLs,
    /// With high throughput, too.
    Jpeg2000,
}

/// How elements are written in the transfer syntax of a UID, from which what fills it up is taken; nothing where they are not looked at. All but one
/// are explicit (PS3.5, annex A), and what is not known is taken for it.
pub(super) fn writing(uid: &[u8]) -> Option<Writing> {
    let listed = SYNTAXES.iter().find(|syntax| syntax.0.as_bytes() == uid);
    listed.map_or(Some(Writing::Explicit), |syntax| syntax.2)
}

/// A form of pixels that is not read, in a transfer syntax that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub enum PixelForm {
    /// Colours of a palette, or of a model that has no converter here.
    Colours,
    /// Lossy JPEG of 12 bits in colour or with progression.
    DeepLossyJpeg,
    /// JPEG of another process than the transfer syntax says or than is read: arithmetic codes, a hierarchy.
    JpegProcess,
    /// JPEG-LS of more than one channel.
    ColourJpegLs,
}

impl PixelForm {
    /// What is told of it.
    pub(super) fn refusal(&self) -> &'static str {
        match self {
            Self::Colours => {
                "the DICOM file's `PhotometricInterpretation` is none of those that are read (MONOCHROME1, MONOCHROME2, RGB, and YBR of \
                 8 bits; no palette); export it so, or as PNG or JPEG"
            }
            Self::DeepLossyJpeg => {
                "the DICOM file's pixels are 12-bit lossy JPEG in colour or with progression, which is not read here; convert it to Explicit \
                 VR Little Endian (DCMTK: `dcmdjpeg IN OUT`)"
            }
            Self::JpegProcess => {
                "the DICOM file's pixels are in a process of JPEG that is not read here (arithmetic or hierarchical), or not in that of \
                 its transfer syntax; convert it to Explicit VR Little Endian"
            }
            Self::ColourJpegLs => {
                "the DICOM file's pixels are JPEG-LS in colour, which is not read here; convert it to Explicit VR Little Endian (DCMTK: \
                 `dcmdjpls IN OUT`)"
            }
        }
    }
}

/// A refusal of a file in a transfer syntax that is not read.
pub(super) fn check(syntax: &TransferSyntax) -> Result<(), DicomError> {
    match syntax.is_read() {
        true => Ok(()),
        false => Err(DicomError::Syntax(syntax.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_syntax_that_is_not_read_is_named_with_what_helps() {
        let told = |uid: &str| DicomError::Syntax(TransferSyntax::of(uid)).to_string();
        let jpeg = told("1.2.840.10008.1.2.4.55\0");
        assert!(
            jpeg.contains("1.2.840.10008.1.2.4.55 (JPEG with progression)") && jpeg.contains("dcmdjpeg"),
            "{jpeg}"
        );
        assert!(told("1.2.840.10008.1.2.4.102.1").contains("H.264"));
        assert!(told("1.2.3.4").contains("the transfer syntax 1.2.3.4, which is not known"));
        // Nothing but a UID comes through, from a file or a worker.
        for other in ["CANARY^PATIENT", "1.2.CANARY", &"1".repeat(65)] {
            let syntax = TransferSyntax::of(other);
            assert_eq!(syntax, TransferSyntax::of(""));
            assert!(!told(other).contains(other) && !syntax.is_read(), "{other}");
            let worker = serde_json::to_string(other).unwrap();
            assert_eq!(serde_json::from_str::<TransferSyntax>(&worker).unwrap(), syntax);
        }
        for (uid, frames, _) in SYNTAXES {
            let syntax = TransferSyntax::of(uid);
            let read = frames.is_some();
            assert_eq!(
                (check(&syntax).is_ok(), syntax.known().is_none()),
                (read, read),
                "{uid}"
            );
        }
    }

    #[test]
    fn frames_of_every_kind_of_jpeg_that_is_read_have_their_header_looked_at() {
        for (uid, frames, _) in SYNTAXES {
            let headerless = frames.is_none_or(|coding| coding == FrameCoding::Headerless);
            let read_jpeg = frames.is_some() && uid.starts_with(CODED);
            assert_eq!(headerless, !read_jpeg, "{uid}");
        }
    }

    #[test]
    fn elements_are_explicit_but_in_one_transfer_syntax_and_where_they_are_not_looked_at() {
        for (uid, _, written) in SYNTAXES {
            let right = match uid.trim_start_matches("1.2.840.10008.1.2") {
                "" => Some(Writing::Implicit),
                ".1.99" | ".2" | ".4.95" | ".4.205" => None,
                _ => Some(Writing::Explicit),
            };
            assert_eq!((written, writing(uid.as_bytes())), (right, right), "{uid}");
        }
        for other in [&b"1.2.3.4"[..], b"", b"1.2.840.10008.1.2.4.102", b"1.2.840.10008.1.2 "] {
            assert_eq!(writing(other), Some(Writing::Explicit));
        }
    }
}
