//! Transfer syntaxes by their UIDs (PS3.6, annex A), and what is told of pixels in a form that is not read here.

use std::fmt;

use super::read::DicomError;

/// Those whose pixels are read.
const READ: [&str; 20] = [
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.1.98",
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.4.57",
    "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.80",
    "1.2.840.10008.1.2.4.81",
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.91",
    "1.2.840.10008.1.2.4.92",
    "1.2.840.10008.1.2.4.93",
    "1.2.840.10008.1.2.4.201",
    "1.2.840.10008.1.2.4.202",
    "1.2.840.10008.1.2.4.203",
    "1.2.840.10008.1.2.5",
    "1.2.840.10008.1.2.8.1",
];

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
        READ.contains(&self.0.as_str())
    }

    /// How the frames are coded, where they are JPEG, JPEG-LS or JPEG 2000.
    pub(super) fn coding(&self) -> Option<Coding> {
        match self.0.strip_prefix(CODED)? {
            "50" | "51" | "57" | "70" => Some(Coding::Jpeg),
            "80" | "81" => Some(Coding::JpegLs),
            "90" | "91" | "92" | "93" | "201" | "202" | "203" => Some(Coding::Jpeg2000),
            _ => None,
        }
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

/// How a frame is coded, where its own header tells its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Jpeg,
    JpegLs,
    Jpeg2000,
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
        for uid in READ {
            let syntax = TransferSyntax::of(uid);
            assert!(check(&syntax).is_ok() && syntax.known().is_none(), "{uid}");
        }
    }
}
