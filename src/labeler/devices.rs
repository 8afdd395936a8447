//! Devices: whether what is said of a tip, a place, a removal or a displacement is said of the device.

use super::cues::{AFTER, REACH, VERBS};
use super::phrases::Mention;

/// Advice on a device is no doubt that it is there: "consider advancing the tube".
pub(super) const ADVICE: &[&str] = &["consider"];

/// So many words before a device its tip may stand; what is said of that is not said of the device.
const TIP_REACH: usize = 6;

/// Parts of a device that may not be seen though it is there: "the tip of the tube is not seen".
const PARTS: &[&str] = &[
    "tip",
    "tips",
    "end",
    "sideport",
    "sidehole",
    "sideholes",
    "portion",
    "course",
];

/// After `side`: the side port or hole of a tube.
const OPENINGS: &[&str] = &["port", "ports", "hole", "holes"];

/// How far a device is not seen: "the tube is not seen below the diaphragm".
const BEYOND: &[&str] = &["below", "beyond", "past"];

/// What may become of a device that is there: "no pacemaker leads displaced".
const MOVED: &[&str] = &[
    "displaced",
    "displacement",
    "fractured",
    "fracture",
    "migration",
    "kinking",
];

/// Of a device that is there beside one that was removed.
const STAYS: &[&str] = &["new", "stable", "unchanged", "persistent"];

/// Whether what is said behind a device is said of a part of it, or of how far it is seen: "the tip of the tube is not seen".
pub(super) fn of_part(sentence: &[String], mention: &Mention) -> bool {
    let near = &sentence[mention.start.saturating_sub(TIP_REACH)..mention.start];
    let part = |w: &String| PARTS.contains(&w.as_str());
    let opening = near
        .windows(2)
        .any(|two| two[0] == "side" && OPENINGS.contains(&two[1].as_str()));
    let rest = &sentence[mention.end..];
    let mut statement = rest.iter().map(String::as_str).take_while(|w| *w != "," && *w != "and");
    rest.first().is_some_and(part) || near.iter().any(part) || opening || statement.any(|w| BEYOND.contains(&w))
}

/// Whether the sentence tells what was found when a device was out: "no pneumothorax after chest tube removal".
pub(super) fn taken_out(sentence: &[String], mention: &Mention) -> bool {
    let mut earlier = sentence[..mention.start].iter().map(String::as_str);
    mention.is_device()
        && sentence.get(mention.end).is_some_and(|w| w == "removal")
        && earlier.any(|w| AFTER.contains(&w) || w == "post")
}

/// Whether a device behind word `at` is a statement of its own: "no pneumothorax, ET tube 4 cm above the carina".
///
/// `earlier` are the mentions before it.
pub(super) fn sets_apart(sentence: &[String], earlier: &[Mention], at: usize) -> bool {
    match sentence[at].as_str() {
        "," => {
            let finding = earlier.iter().take_while(|m| m.end <= at).any(|m| !m.is_device());
            let mut rest = sentence[at..].iter().take(REACH);
            finding && !rest.any(|w| w == "or" || w == "nor")
        }
        // "No pneumothorax post pacemaker insertion", but "no post-operative drain".
        "post" => sentence.get(at + 1).is_none_or(|w| w != "operative"),
        _ => false,
    }
}

/// Whether what is said of a device is that it has moved or broken; "no tube or displaced fracture" says so of a bone.
pub(super) fn displaced(sentence: &[String], mention: &Mention) -> bool {
    let near = sentence[mention.end..].iter().take(2).map(String::as_str);
    let mut own = near.take_while(|w| !["or", "and", ","].contains(w));
    own.any(|w| MOVED.contains(&w))
}

/// Whether the comma or `and` at word `at` goes on with what was removed: "removal of the ET tube and right chest tube", but not
/// "removal of the ET tube, right PICC unchanged" or "removal of the ET tube, new right PICC".
pub(super) fn among_removed(sentence: &[String], mention: &Mention, at: usize) -> bool {
    let ends = sentence.get(mention.end).is_none_or(|w| w == "," || w == "and");
    let removal = |two: &[String]| two[0] == "removal" && two[1] == "of";
    let other = sentence.get(at + 1).is_some_and(|w| STAYS.contains(&w.as_str()));
    ends && !other
        && sentence[..at].windows(2).any(removal)
        && !sentence[at..].iter().any(|w| VERBS.contains(&w.as_str()))
}
