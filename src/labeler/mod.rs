//! A rule-based labeler: which of the 14 CheXpert observations a report affirms, denies or leaves open, and on which side.
//!
//! In the manner of the CheXpert labeler (Irvin et al. 2019, arXiv 1901.07031): mentions by phrases, then denial and doubt by cues in
//! the same statement, then one verdict for each observation, where affirmed outweighs doubtful and doubtful outweighs denied. Rules
//! and phrases are this program's own; figures compare with each other, not with those of another labeler.

mod behind;
mod brief;
#[cfg(test)]
mod brief_tests;
#[cfg(test)]
mod clause_tests;
mod cue_phrases;
mod cues;
#[cfg(test)]
mod device_tests;
mod devices;
#[cfg(test)]
mod doubt_tests;
mod no_finding;
mod phrases;
#[cfg(test)]
mod prose_tests;
mod request;
mod reword;
mod sides;
mod states;
#[cfg(test)]
mod tests;
mod text;
mod yes_no;

use crate::phantom::{LABELS, Label};
use states::Organ;

pub use brief::brief;
pub use reword::reword;
pub use sides::Sides;
pub use yes_no::yes_or_no;

/// What a report says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// In the order of [`LABELS`].
    pub labels: [Label; 14],
    /// Where what is affirmed or doubtful is said to be; empty where no side is named.
    pub sides: [Sides; 14],
}

const CARDIOMEGALY: usize = 1;
const ENLARGED_MEDIASTINUM: usize = 4;
const NO_FINDING: usize = 8;
const SUPPORT_DEVICES: usize = 13;

/// Reads a report.
///
/// `No Finding` is affirmed, as in CheXpert, where nothing but support devices is affirmed or doubtful, neither of the observations nor of
/// what else may be wrong with a chest, such as emphysema or a hernia. Otherwise than there something must have been said: that an
/// observation is absent, that something is normal, unremarkable or clear, or that nothing acute is seen. That a device is gone says
/// nothing of the chest.
pub fn read(report: &str) -> Reading {
    let mut reading = Reading {
        labels: [Label::Blank; 14],
        sides: [Sides::default(); 14],
    };
    let (mut called_normal, mut otherwise_ill) = (false, false);
    for sentence in text::sentences(report) {
        if request::is_request(&sentence) {
            continue;
        }
        called_normal |= no_finding::called_normal(&sentence);
        otherwise_ill |= no_finding::otherwise_ill(&sentence);
        for (organ, label) in states::states(&sentence) {
            let place = match organ {
                Organ::Heart => CARDIOMEGALY,
                Organ::Mediastinum => ENLARGED_MEDIASTINUM,
            };
            reading.labels[place] = outweighing(reading.labels[place], label);
        }
        let mentions = phrases::mentions(&sentence);
        for (index, (mention, sides)) in mentions.iter().zip(sides::sides(&sentence, &mentions)).enumerate() {
            let Some(label) = cues::judge(&sentence, &mentions, index) else {
                continue;
            };
            for &place in mention.labels {
                reading.labels[place] = outweighing(reading.labels[place], label);
                if label != Label::Negative {
                    reading.sides[place].add(sides);
                }
            }
        }
    }
    let nothing = (0..LABELS.len()).all(|place| {
        place == SUPPORT_DEVICES
            || place == NO_FINDING
            || matches!(reading.labels[place], Label::Negative | Label::Blank)
    });
    let denied = |place: usize| place != SUPPORT_DEVICES && reading.labels[place] == Label::Negative;
    if nothing && !otherwise_ill && (called_normal || (0..LABELS.len()).any(denied)) {
        reading.labels[NO_FINDING] = Label::Positive;
    }
    reading
}

fn outweighing(a: Label, b: Label) -> Label {
    let weight = |label| match label {
        Label::Positive => 3,
        Label::Uncertain => 2,
        Label::Negative => 1,
        Label::Blank => 0,
    };
    if weight(b) > weight(a) { b } else { a }
}
