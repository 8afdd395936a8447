//! What a DICOM file says of its picture that speaks against a frontal radiograph of a chest: its view, its modality and the part examined.
//!
//! Only values from fixed lists are told: these attributes are codes, but a file may hold anything in them.

use dicom_dictionary_std::tags;
use dicom_object::{DefaultDicomObject as Object, InMemDicomObject, Tag};

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
    /// A view that is not frontal, by a word of its name (PS3.3 C.8.7.1.1, and what is written instead) or by its code (PS3.16, CID 4010).
    OtherView {
        Lateral: "LL" | "RL" | "LAT" | "LLAT" | "RLAT" | "PROFIL" | "PROFILE" | "PERFIL" | "SEITLICH" | "SWIMMERS"
            | "R-102CD" | "399067008" | "R-10232" | "399198007" | "R-10236" | "399173006" | "R-10224" | "399260004" | "R-10228" | "399352003"
            => "lateral",
        Oblique: "LLO" | "RLO" | "LAO" | "RAO" | "LPO" | "RPO"
            | "R-102C1" | "399182000" | "R-10204" | "399160007" | "R-10208" | "399312000" | "R-10216" | "399059000" | "R-10210" | "399038007"
            | "R-10212" | "399006002" | "R-10220" | "399135007" | "R-40985" | "399356000" | "R-10234" | "399236003" | "R-10238" | "399184004"
            => "oblique",
        Decubitus: "LLD" | "RLD" => "of somebody lying on the side",
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

/// What views that are not frontal are called in many languages and forms, by how a word begins.
const STEMS: [(&str, OtherView); 3] = [
    ("LATERAL", OtherView::Lateral),
    ("OBL", OtherView::Oblique),
    ("DECUB", OtherView::Decubitus),
];

/// Words and codes of frontal views.
const FRONTAL: [&str; 15] = [
    "AP",
    "PA",
    "FRONTAL",
    "FACE",
    "FRENTE",
    "ANTERO",
    "POSTERO",
    "ANTEROPOSTERIOR",
    "POSTEROANTERIOR",
    "R-10206",
    "399348003",
    "R-10214",
    "272479007",
    "R-10202",
    "399033003",
];

/// How words begin that say that somebody lies on the back or the front.
const FLAT: [&str; 4] = ["SUPIN", "DORSAL", "PRON", "VENTRAL"];

/// What the part examined is called, in parts of words, where the chest is in the picture; and what says nothing of it.
const CHEST: [&str; 21] = [
    "CHEST", "CXR", "THORA", "TORA", "BRUST", "BORSTKAS", "POITRINE", "PIERSI", "HRUDN", "LUNG", "PULM", "POUMON",
    "BRONCH", "HEART", "STERN", "TORSO", "TRUNK", "BODY", "BABYGRAM", "UNKNOWN", "UNSPEC",
];

/// As [`CHEST`], but whole words: other names have these within.
const CHEST_WORDS: [&str; 8] = ["RIB", "RIBS", "RIBCAGE", "PECHO", "PEITO", "PETTO", "MELLKAS", "NONE"];

/// What a DICOM file says of its picture, where that is not what a frontal radiograph of a chest would say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(default)]
pub struct DicomFacts {
    /// By `ViewPosition`, `ViewCodeSequence` or `PatientOrientation`.
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
        let view = code(object, tags::VIEW_POSITION).and_then(|name| View::named(&name));
        let view = view.or_else(|| View::coded(object)).or_else(|| View::oriented(object));
        Self {
            view: view.and_then(|View(other)| other),
            modality: code(object, tags::MODALITY).and_then(|modality| OtherModality::of(&modality)),
            body_part: code(object, tags::BODY_PART_EXAMINED).and_then(|part| other_part(&part)),
        }
    }

    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What a file says of its view: none but a frontal one, or another.
struct View(Option<OtherView>);

impl View {
    /// By the words of a name.
    fn named(name: &str) -> Option<Self> {
        let says = |view| words(name).any(|word| other_view(word) == Some(view));
        let begins = |stems: [&str; 4]| words(name).any(|word| stems.iter().any(|stem| word.starts_with(stem)));
        if says(OtherView::Decubitus) && !begins(FLAT) {
            Some(Self(Some(OtherView::Decubitus)))
        } else if says(OtherView::Oblique) {
            Some(Self(Some(OtherView::Oblique)))
        } else if words(name).any(|word| FRONTAL.contains(&word)) {
            // A lateral one that is named beside may be another picture of the study.
            Some(Self(None))
        } else {
            says(OtherView::Lateral).then_some(Self(Some(OtherView::Lateral)))
        }
    }

    /// By its code, or by what the file says that its code means.
    fn coded(object: &Object) -> Option<Self> {
        let item = object.get(tags::VIEW_CODE_SEQUENCE)?.items()?.first()?;
        let value = code(item, tags::CODE_VALUE).unwrap_or_default();
        if FRONTAL.contains(&value.as_str()) {
            return Some(Self(None));
        }
        let other = OtherView::of(&value).map(|view| Self(Some(view)));
        other.or_else(|| Self::named(&code(item, tags::CODE_MEANING)?))
    }

    /// Lateral, where the patient's front or back is to a side, and head or feet are above (PS3.3 C.7.6.1.1.1).
    fn oriented(object: &Object) -> Option<Self> {
        let orientation = code(object, tags::PATIENT_ORIENTATION)?;
        let (row, column) = orientation.split_once('\\')?;
        let (row, column) = (row.trim(), column.trim());
        // One with both in it is something else: the name of a view, mostly.
        let sound = row.bytes().all(|letter| b"APLRHF".contains(&letter)) && !(row.contains('A') && row.contains('P'));
        let lateral = sound && row.starts_with(['A', 'P']) && column.starts_with(['H', 'F']);
        lateral.then_some(Self(Some(OtherView::Lateral)))
    }
}

fn other_view(word: &str) -> Option<OtherView> {
    let stem = STEMS.iter().find(|(stem, _)| word.starts_with(stem));
    OtherView::of(word).or(stem.map(|(_, view)| *view))
}

/// A part of the body that is not the chest.
fn other_part(name: &str) -> Option<OtherPart> {
    if CHEST.iter().any(|part| name.contains(part)) || words(name).any(|word| CHEST_WORDS.contains(&word)) {
        return None;
    }
    let known = OtherPart::of(name).or_else(|| words(name).find_map(OtherPart::of));
    // These codes have no other letters; what is written in some may be a chest.
    known.or(name.is_ascii().then_some(OtherPart::Other))
}

fn words(name: &str) -> impl Iterator<Item = &str> {
    name.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
}

/// A code as a file spells it, in capitals and without what fills it up.
pub(super) fn code(object: &InMemDicomObject, tag: Tag) -> Option<String> {
    let text = object.get(tag)?.to_str().ok()?;
    let code = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!code.is_empty()).then(|| code.to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::radiograph::dicom::sample::{Picture, WrittenAs, element, sequence};
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
        let file = picture.plain(WrittenAs::ExplicitLittle);
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
            ("DX", "POITRINE", "AP SUPINE"),
            ("CR", "KLATKA PIERSIOWA", "PA ERECT"),
            ("CR", "PECHO", "AP PORTABLE"),
            ("CR", "POUMONS", "FACE/PROFIL"),
            ("CR", "RIBS LEFT", "PA/LAT"),
            ("DX", "BABYGRAM", "BILATERAL"),
            ("DX", "BRONCHUS", "DECUBITO SUPINO"),
            ("DX", "TORAX", "AP DORSAL DECUB"),
            ("DX", "胸部", "Frontal"),
        ] {
            let told = facts(&[(MODALITY, modality), (PART, part), (VIEW, view)]);
            assert!(told.is_empty(), "{modality} {part} {view}: {told:?}");
        }
    }

    #[test]
    fn views_that_are_not_frontal_are_known_by_any_word_of_their_names() {
        use OtherView::{Decubitus, Lateral, Oblique};
        for (name, view) in [
            ("LLAT", Lateral),
            ("RLAT", Lateral),
            ("L LAT", Lateral),
            ("LT LATERAL", Lateral),
            ("LEFT LATERAL", Lateral),
            ("LATERAL LEFT", Lateral),
            ("X-TABLE LATERAL", Lateral),
            ("XTABLE LATERAL", Lateral),
            ("LATERALE", Lateral),
            ("PROFIL", Lateral),
            ("SWIMMERS", Lateral),
            ("LAO", Oblique),
            ("PA OBL", Oblique),
            ("OBLIQUE_RIGHT", Oblique),
            ("AP LLD", Decubitus),
            ("PA LLD", Decubitus),
            ("RLD", Decubitus),
            ("DECUB LEFT", Decubitus),
            ("LEFT LATERAL DECUBITUS", Decubitus),
        ] {
            assert_eq!(facts(&[(VIEW, name)]).view, Some(view), "{name}");
        }
    }

    /// The view that a file tells by the code of one and by how the patient stood.
    fn view(coded: Option<[&str; 3]>, orientation: &str, named: &str) -> Option<OtherView> {
        let even = |text: &str| format!("{text}{}", if text.len() % 2 == 1 { " " } else { "" }).into_bytes();
        let mut more = vec![
            element(VIEW, "CS", &even(named)),
            element((0x20, 0x20), "CS", &even(orientation)),
        ];
        more.extend(coded.map(|[value, scheme, meaning]| {
            let coded = [
                element((0x08, 0x100), "SH", &even(value)),
                element((0x08, 0x102), "SH", &even(scheme)),
                element((0x08, 0x104), "LO", &even(meaning)),
            ];
            sequence((0x54, 0x220), &coded)
        }));
        let file = Picture::grey((2, 2), &[0, 1, 2, 3], more).plain(WrittenAs::ExplicitLittle);
        read_dicom_with_facts(&file, &DecodeLimits::default()).unwrap().1.view
    }

    #[test]
    fn the_code_of_the_view_and_how_the_patient_stood_tell_what_the_view_position_does_not() {
        let lateral = Some(OtherView::Lateral);
        assert_eq!(view(Some(["R-10236", "SNM3", "left lateral"]), "", ""), lateral);
        assert_eq!(view(Some(["399067008", "SCT", ""]), "", ""), lateral);
        assert_eq!(view(Some(["1234", "99LOCAL", "Right lateral"]), "", ""), lateral);
        assert_eq!(view(Some(["R-10210", "SRT", ""]), "", ""), Some(OtherView::Oblique));
        for orientation in ["A\\F", "P\\F", "AL\\F ", "A\\FR"] {
            assert_eq!(view(None, orientation, ""), lateral, "{orientation}");
        }
        for orientation in ["L\\F", "R\\F", "LA\\F", "PA\\F", "A", "L\\P", "PA"] {
            assert_eq!(view(None, orientation, ""), None, "{orientation}");
        }
        // What is said of the view goes before what is left of another.
        assert_eq!(view(Some(["R-10206", "SRT", "antero-posterior"]), "A\\F", ""), None);
        assert_eq!(view(Some(["", "", "postero-anterior"]), "A\\F", ""), None);
        assert_eq!(view(Some(["R-10236", "SRT", "left lateral"]), "A\\F", "PA"), None);
    }

    #[test]
    fn a_part_of_the_body_is_known_by_any_word_of_its_name() {
        for (name, part) in [
            ("LEFT KNEE", OtherPart::Leg),
            ("SKULL AP", OtherPart::Head),
            ("UP_EXM", OtherPart::Arm),
            ("TRIBUTE", OtherPart::Other),
        ] {
            assert_eq!(facts(&[(PART, name)]).body_part, Some(part), "{name}");
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
