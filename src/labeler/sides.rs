//! Which side a finding is said to be on.

use super::cues::TURNS;
use super::phrases::Mention;

/// A set of sides of the patient.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Sides {
    /// The patient's right.
    pub right: bool,
    /// The patient's left.
    pub left: bool,
}

impl Sides {
    /// Whether no side is named.
    pub fn is_empty(self) -> bool {
        !self.right && !self.left
    }

    pub(super) fn add(&mut self, other: Self) {
        self.right |= other.right;
        self.left |= other.left;
    }
}

/// Words that go with a side without being where a finding is.
const ANATOMY: &[&str] = &[
    "atrium",
    "atrial",
    "ventricle",
    "ventricular",
    "main",
    "mainstem",
    "heart",
    "brachiocephalic",
];

/// Vessels behind a side and `pulmonary`, where no finding is either: "right pulmonary artery", but not "right pulmonary edema".
const VESSELS: &[&str] = &[
    "artery",
    "arteries",
    "arterial",
    "vein",
    "veins",
    "venous",
    "vasculature",
];

/// Between an adjective and its noun none of these stands.
const PARTS: &[&str] = &[
    "and",
    ",",
    "with",
    "is",
    "are",
    "in",
    "on",
    "at",
    "of",
    "or",
    "there",
    "without",
    "from",
    "to",
    "lung",
    "lobe",
    "zone",
    "base",
    "hemithorax",
    "hemidiaphragm",
    "side",
    "angle",
    "due",
    "apex",
];

/// Between a side and the finding in it these may stand: "left lung base opacity", "right lower lobe pulmonary nodule".
const PLACES: &[&str] = &[
    "upper",
    "lower",
    "middle",
    "mid",
    "lobe",
    "lung",
    "base",
    "zone",
    "apex",
    "apical",
    "basal",
    "basilar",
    "pulmonary",
    "partial",
    "focal",
    "airspace",
    "lobar",
    "hazy",
    "sided",
];

/// A side that goes with one of these is where nothing is.
const CLEAR: &[&str] = &["clear", "normal", "unremarkable", "none"];

/// The sides that a sentence gives to each of its mentions, in their order.
///
/// A side is an adjective of the mention that follows ("left pleural effusion") where nothing but adjectives or nothing but a part of
/// the lung stands between; else it tells where the mention before it is ("a nodule in the left lung"); at the beginning of a sentence
/// it is said of the first mention.
pub(super) fn sides(sentence: &[String], mentions: &[Mention]) -> Vec<Sides> {
    let mut of = vec![Sides::default(); mentions.len()];
    for (at, word) in sentence.iter().enumerate() {
        let next = |by: usize| sentence.get(at + by).map_or("", String::as_str);
        // "B/L" is two words.
        let both = (word == "b" && next(1) == "l").then_some(Sides {
            right: true,
            left: true,
        });
        let Some(side) = side(word).or(both) else { continue };
        if ANATOMY.contains(&next(1)) || (next(1) == "pulmonary" && VESSELS.contains(&next(2))) {
            continue;
        }
        // "Fluid in the right pleural space": the mention itself names it.
        let within = mentions.iter().position(|m| m.start < at && at < m.end);
        let following = mentions.iter().position(|m| m.start > at);
        let preceding = mentions.iter().rposition(|m| m.end <= at);
        let adjective = following.filter(|&m| {
            let between = &sentence[at + 1..mentions[m].start];
            let mut words = between.iter().map(String::as_str);
            !words.clone().any(|w| PARTS.contains(&w)) || words.all(|w| PLACES.contains(&w))
        });
        // "Right and left effusions": what joins two sides is no border, but for "effusion on the right and left opacity".
        let told = preceding.is_some() && at.checked_sub(2).is_some_and(|on| sentence[on] == "on");
        let joined = following.filter(|&m| {
            let between = &sentence[at + 1..mentions[m].start];
            !told
                && between.first().is_some_and(|w| w == "and" || w == "or")
                && between.get(1).is_some_and(|w| self::side(w).is_some())
        });
        let elsewhere = preceding.or(following).filter(|_| {
            let from = preceding.map_or(0, |m| mentions[m].end);
            let to = following.map_or(sentence.len(), |m| mentions[m].start);
            !clear(sentence[from..at].iter().rev()) && !clear(sentence[at + 1..to].iter())
        });
        if let Some(slot) = within
            .or(adjective)
            .or(joined)
            .or(elsewhere)
            .and_then(|m| of.get_mut(m))
        {
            slot.add(side);
        }
    }
    of
}

/// Whether a side is said to be clear by the words next to it, up to the next part of the sentence or another side.
fn clear<'a>(words: impl Iterator<Item = &'a String>) -> bool {
    let parts = |w: &str| [",", "and", "with", "than"].contains(&w) || TURNS.contains(&w) || side(w).is_some();
    let mut near = words.map(String::as_str).take_while(|w| !parts(w));
    near.any(|w| CLEAR.contains(&w))
}

fn side(word: &str) -> Option<Sides> {
    let (right, left) = match word {
        "right" | "rt" | "rul" | "rml" | "rll" => (true, false),
        "left" | "lt" | "lul" | "lll" | "lingula" | "lingular" => (false, true),
        "bilateral" | "bilaterally" | "bilat" | "both" | "bibasilar" | "bibasal" | "biapical" | "either" => {
            (true, true)
        }
        _ => return None,
    };
    Some(Sides { right, left })
}
