//! What makes a report one without findings, or keeps it from being so though no observation is named.

use super::cues;
use super::phrases::Mention;
use crate::phantom::Label;

/// Whole statements that there is nothing.
const NOTHING: &[&str] = &["no finding", "no findings"];

/// Words of reports that call the chest normal without naming anything.
const NORMAL: &[&str] = &["normal", "unremarkable", "clear", "negative"];

/// What is denied where a report says that there is nothing without naming anything.
const OF_NOTE: &[&str] = &["acute", "active", "abnormality", "abnormalities"];

/// How words begin for what is wrong with a chest and is none of the observations.
const OTHERWISE: &[&str] = &[
    "emphysem",
    "copd",
    "hyperinflat",
    "hyperexpan",
    "bulla",
    "bullous",
    "bleb",
    "bronchiect",
    "bronchitis",
    "bronchiolitis",
    "asthma",
    "aspiration",
    "scarring",
    "fibrosis",
    "granuloma",
    "calcif",
    "thickening",
    "thickened",
    "elevat",
    "eventration",
    "hernia",
    "scoliosis",
    "dextroscoliosis",
    "levoscoliosis",
    "kyphosis",
    "kyphoscoliosis",
    "degenerative",
    "osteophyt",
    "osteopeni",
    "deformit",
    "atheroscler",
    "aneurysm",
    "hematoma",
    "haematoma",
    "hemorrhag",
    "haemorrhag",
    "contusion",
    "pneumomediastin",
    "pneumoperiton",
    "lymphadenopathy",
    "adenopathy",
];

/// Whether a sentence calls something of the chest normal, or says that there is nothing acute or abnormal.
pub(super) fn called_normal(sentence: &[String]) -> bool {
    // Of a patient "healthy" says nothing.
    let healthy = |two: &[String]| two[0] == "healthy" && two[1] == "chest";
    sentence.iter().any(|w| NORMAL.contains(&w.as_str()))
        || nothing_of_note(sentence)
        || sentence.windows(2).any(healthy)
        || (sentence.len() == 2 && NOTHING.contains(&sentence.join(" ").as_str()))
}

/// Whether a sentence affirms or leaves open something that is none of the observations and that nobody would call normal.
pub(super) fn otherwise_ill(sentence: &[String]) -> bool {
    let named = |word: &String| OTHERWISE.iter().any(|stem| word.starts_with(stem));
    let places = sentence.iter().enumerate().filter(|(_, word)| named(word));
    let mentions: Vec<Mention> = places
        .map(|(at, _)| Mention {
            start: at,
            end: at + 1,
            labels: &[],
        })
        .collect();
    (0..mentions.len())
        .filter_map(|index| cues::judge(sentence, &mentions, index))
        .any(|label| label != Label::Negative)
}

/// Whether a sentence says that there is nothing acute or abnormal; "no change in the abnormality" does not.
fn nothing_of_note(sentence: &[String]) -> bool {
    let Some(named) = sentence.iter().rposition(|w| OF_NOTE.contains(&w.as_str())) else {
        return false;
    };
    let Some(no) = sentence[..named].iter().rposition(|w| w == "no") else {
        return false;
    };
    // "No change or acute abnormality" denies both.
    sentence[no..named].iter().any(|w| w == "or") || !cues::of_change(sentence, no + 1, named)
}
