//! What a DICOM file says of its picture that speaks against a frontal radiograph of a chest: its view, its modality and the part examined.
//!
//! Only values from fixed lists are told: these attributes are codes, but a file may hold anything in them.

use dicom_dictionary_std::tags;
use dicom_object::{DefaultDicomObject as Object, Tag};

/// Declares the values of an attribute that are told: name, how files spell it, how it is told.
macro_rules! codes {
    ($(#[$doc:meta])* $name:ident { $($variant:ident: $($code:literal)|+ => $says:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
        pub enum $name { $(#[doc = $says] $variant,)+ }

        impl $name {
            /// The value that a file spells so, if it is one of these.
            fn of(code: &str) -> Option<Self> {
                match code {
                    $($($code)|+ => Some(Self::$variant),)+
                    _ => None,
                }
            }

            /// As a sentence has it.
            pub fn says(self) -> &'static str {
                match self { $(Self::$variant => $says,)+ }
            }
        }
    };
}

codes! {
    /// A view that is not frontal (PS3.3 C.8.7.1.1, and what is written instead).
    OtherView {
        Lateral: "LL" | "RL" | "LAT" | "LATERAL" | "XTABLE LATERAL" => "lateral",
        Oblique: "LLO" | "RLO" | "LAO" | "RAO" | "LPO" | "RPO" | "OBLIQUE" => "oblique",
        Decubitus: "LLD" | "RLD" | "DECUBITUS" => "of somebody lying on the side",
    }
}

codes! {
    /// A modality that makes no radiographs (PS3.3 C.7.3.1.1.1).
    OtherModality {
        Ct: "CT" => "CT",
        Mr: "MR" => "MR",
        Us: "US" => "US",
        Mg: "MG" => "MG",
        Nm: "NM" => "NM",
        Pt: "PT" => "PT",
        Xa: "XA" => "XA",
        Io: "IO" => "IO",
        Px: "PX" => "PX",
        Es: "ES" => "ES",
        Gm: "GM" => "GM",
        Sm: "SM" => "SM",
        Xc: "XC" => "XC",
        Op: "OP" => "OP",
    }
}

codes! {
    /// A part of the body that is not the chest (PS3.16, annex L).
    OtherPart {
        Abdomen: "ABDOMEN" | "ABDOMENPELVIS" => "the abdomen",
        Head: "HEAD" | "SKULL" | "BRAIN" | "SINUS" | "JAW" => "the head",
        Neck: "NECK" | "CSPINE" => "the neck",
        Spine: "SPINE" | "TSPINE" | "LSPINE" | "SSPINE" | "LSSPINE" => "the spine",
        Pelvis: "PELVIS" | "HIP" | "SACRUM" => "the pelvis",
        Breast: "BREAST" => "the breast",
        Shoulder: "SHOULDER" | "CLAVICLE" | "SCAPULA" => "the shoulder",
        Arm: "ARM" | "HUMERUS" | "ELBOW" | "FOREARM" | "UP_EXM" | "EXTREMITY" => "a limb",
        Hand: "HAND" | "WRIST" | "FINGER" | "THUMB" => "the hand",
        Leg: "LEG" | "FEMUR" | "THIGH" | "KNEE" | "TIBIA" | "LOW_EXM" | "CALF" => "the leg",
        Foot: "FOOT" | "ANKLE" | "HEEL" | "TOE" => "the foot",
        Other: "OTHER" => "a body part that is not known here",
    }
}

/// What the part examined is called, in parts of words, where the chest is in the picture; and what says nothing of it.
const CHEST: [&str; 17] = [
    "CHEST",
    "CXR",
    "THORA",
    "TORA",
    "BRUST",
    "LUNG",
    "PULM",
    "POUMON",
    "HEART",
    "RIB",
    "STERN",
    "TORSO",
    "TRUNK",
    "BODY",
    "UNKNOWN",
    "UNSPECIFIED",
    "NONE",
];

/// What a DICOM file says of its picture, where that is not what a frontal radiograph of a chest would say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(default)]
pub struct DicomFacts {
    /// By `ViewPosition`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub view: Option<OtherView>,
    /// By `Modality`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modality: Option<OtherModality>,
    /// By `BodyPartExamined`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_part: Option<OtherPart>,
}

impl DicomFacts {
    /// Of a file. What is missing, empty or not known says nothing, but for a part of the body: one that is not known is told as such.
    pub(super) fn of(object: &Object) -> Self {
        let part = code(object, tags::BODY_PART_EXAMINED);
        let part = part.filter(|part| !CHEST.iter().any(|word| part.contains(word)));
        Self {
            view: code(object, tags::VIEW_POSITION).and_then(|view| OtherView::of(&view)),
            modality: code(object, tags::MODALITY).and_then(|modality| OtherModality::of(&modality)),
            body_part: part.map(|part| OtherPart::of(&part).unwrap_or(OtherPart::Other)),
        }
    }

    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A code as a file spells it, in capitals and without what fills it up.
fn code(object: &Object, tag: Tag) -> Option<String> {
    let text = object.get(tag)?.to_str().ok()?;
    let code = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!code.is_empty()).then(|| code.to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::radiograph::dicom::sample::{Coding, Picture, element};
    use crate::radiograph::{DecodeLimits, read_dicom_with_facts};

    const MODALITY: (u16, u16) = (0x08, 0x60);
    const PART: (u16, u16) = (0x18, 0x15);
    const VIEW: (u16, u16) = (0x18, 0x5101);

    fn facts(named: &[((u16, u16), &str)]) -> DicomFacts {
        let even = |text: &str| format!("{text}{}", if text.len() % 2 == 1 { " " } else { "" });
        let more = named
            .iter()
            .map(|(tag, text)| element(*tag, "CS", even(text).as_bytes()));
        let picture = Picture::grey((2, 2), &[0, 1, 2, 3], more.collect());
        let file = picture.plain(Coding::ExplicitLittle);
        read_dicom_with_facts(&file, &DecodeLimits::default()).unwrap().1
    }

    #[test]
    fn a_frontal_radiograph_of_a_chest_and_a_file_that_says_nothing_have_nothing_to_tell() {
        assert!(facts(&[]).is_empty());
        for (modality, part, view) in [
            ("DX", "CHEST", "PA"),
            ("CR", "Thorax", "AP"),
            ("RG", "PORT CHEST", ""),
            ("DX", "CXR PORTABLE", "AP"),
            ("DX", "UNSPECIFIED", ""),
            ("", "", "ANYTHING"),
            ("OT", "UNKNOWN", "AP AXIAL"),
        ] {
            let told = facts(&[(MODALITY, modality), (PART, part), (VIEW, view)]);
            assert!(told.is_empty(), "{modality} {part} {view}: {told:?}");
        }
    }

    #[test]
    fn what_is_not_a_frontal_radiograph_of_a_chest_is_told_in_words_of_ours() {
        let told = facts(&[(MODALITY, "CT"), (PART, "knee"), (VIEW, "LL")]);
        assert_eq!(told.modality, Some(OtherModality::Ct));
        assert_eq!(told.body_part, Some(OtherPart::Leg));
        assert_eq!(told.view, Some(OtherView::Lateral));
        let canary = facts(&[(PART, "CANARY^PATIENT")]);
        assert_eq!(canary.body_part, Some(OtherPart::Other));
        let written = serde_json::to_string(&canary).unwrap();
        assert_eq!(written, r#"{"body_part":"Other"}"#);
        assert_eq!(serde_json::from_str::<DicomFacts>(&written).unwrap(), canary);
        assert!(serde_json::from_str::<DicomFacts>(r#"{"body_part":"CANARY"}"#).is_err());
    }
}
