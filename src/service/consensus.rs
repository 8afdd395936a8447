//! Of several readings of a radiograph, the one that the others agree with most.
//!
//! An image that is moved by a part of a code's cell has other codes: what one reading misses another may see (docs/training-notes.md has the figures).
//! Each reading sees the image moved so, and of the readings the one is taken from which the others differ least: minimum Bayes risk (Kumar & Byrne
//! 2004), with F1 over findings and their sides as what is to be gained.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Answer;
use crate::labeler::{self, Reading};
use crate::phantom::{LABELS, Label};
use crate::radiograph::Pixels;

/// Where readings see the image, in steps to the right and down: as it is, then ever farther away.
const VIEWS: [(i32, i32); 16] = [
    (0, 0),
    (-1, 0),
    (1, 0),
    (0, -1),
    (0, 1),
    (-1, -1),
    (1, 1),
    (-1, 1),
    (1, -1),
    (-2, 0),
    (2, 0),
    (0, -2),
    (0, 2),
    (-2, -1),
    (2, 1),
    (-1, 2),
];

/// The image as each of so many readings sees it, of `cells` × `cells` codes: moved by steps of a quarter of a cell.
pub(super) fn views(image: &Arc<Pixels>, readings: usize, cells: usize) -> Vec<Arc<Pixels>> {
    let step = (image.width() / cells.max(1) / 4).max(1) as i32;
    let view = |&(right, down): &(i32, i32)| match (right, down) {
        (0, 0) => Arc::clone(image),
        _ => Arc::new(image.moved(right * step, down * step)),
    };
    VIEWS.iter().take(readings).map(view).collect()
}

/// What several readings say together.
#[derive(Clone, Debug, PartialEq)]
pub struct Consensus {
    /// How many readings there were.
    pub readings: usize,
    /// Index of the one that counts; 0 saw the image as it was sent.
    pub chosen: usize,
    /// Share of the readings that say the same, word for word.
    pub same: f64,
    /// What any of them affirms or leaves open, what most do first.
    pub findings: Vec<FindingShare>,
}

/// How far readings agree on a finding.
#[derive(Clone, Debug, PartialEq)]
pub struct FindingShare {
    /// Its name, one of [`LABELS`].
    pub finding: &'static str,
    /// Share of the readings that affirm it or leave it open, in (0, 1].
    pub share: f64,
    /// Whether the chosen one does.
    pub reported: bool,
}

/// The reading that the others agree with most, with the mean of their probabilities.
pub(super) fn agreed(readings: &[Answer]) -> Option<(Answer, Consensus)> {
    let told = consensus(&readings.iter().map(|one| one.text.as_str()).collect::<Vec<_>>())?;
    let known: Vec<f64> = readings.iter().filter_map(|one| one.p_yes).collect();
    let p_yes = (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64);
    let chosen = readings.get(told.chosen)?.clone();
    Some((Answer { p_yes, ..chosen }, told))
}

/// Chooses among readings; `None` where there are none. Of equals the one whose words the others use most, and of these the first.
fn consensus(reports: &[&str]) -> Option<Consensus> {
    let said: Vec<u64> = reports
        .iter()
        .map(|report| findings(&labeler::read(report)) | yes_or_no(report))
        .collect();
    let words: Vec<BTreeMap<&str, usize>> = reports.iter().map(|report| bag(report)).collect();
    let worth = |at: usize| -> (f64, f64) {
        let sum = |gain: &dyn Fn(usize) -> f64| (0..reports.len()).map(gain).sum();
        (
            sum(&|other| f1(said[at], said[other])),
            sum(&|other| shared(&words[at], &words[other])),
        )
    };
    let worths: Vec<(f64, f64)> = (0..reports.len()).map(worth).collect();
    let better = |a: usize, b: usize| {
        let ((finds, words), (other_finds, other_words)) = (worths[a], worths[b]);
        // Sums of the same fractions in another order may differ in their last bit.
        finds > other_finds + 1e-9 || (finds > other_finds - 1e-9 && words > other_words + 1e-9)
    };
    let chosen = (0..reports.len()).reduce(|best, next| if better(next, best) { next } else { best })?;
    let share = |(place, &finding): (usize, &&'static str)| {
        let bit = 1 << place;
        let count = said.iter().filter(|one| **one & bit != 0).count();
        FindingShare {
            finding,
            share: count as f64 / reports.len() as f64,
            reported: said[chosen] & bit != 0,
        }
    };
    let mut findings: Vec<_> = LABELS
        .iter()
        .enumerate()
        .map(share)
        .filter(|one| one.share > 0.0)
        .collect();
    findings.sort_by(|a, b| b.share.total_cmp(&a.share));
    Some(Consensus {
        readings: reports.len(),
        chosen,
        same: reports.iter().filter(|report| **report == reports[chosen]).count() as f64 / reports.len() as f64,
        findings,
    })
}

/// What a report affirms or leaves open as a set: a bit for each finding, and one for each of its sides.
fn findings(reading: &Reading) -> u64 {
    let mut set = 0;
    for (place, (label, sides)) in reading.labels.iter().zip(&reading.sides).enumerate() {
        let said = matches!(label, Label::Positive | Label::Uncertain);
        let bits = [said, said && sides.right, said && sides.left];
        for (row, bit) in bits.into_iter().enumerate() {
            set |= u64::from(bit) << (row * LABELS.len() + place);
        }
    }
    set
}

/// An answer's yes or no as a bit of its own, so that the vote goes by it.
fn yes_or_no(text: &str) -> u64 {
    const BESIDE: usize = 3 * LABELS.len();
    match labeler::yes_or_no(text) {
        Some(true) => 1 << BESIDE,
        Some(false) => 2 << BESIDE,
        None => 0,
    }
}

/// F1 of one set against another, whichever is the truth; 1 of two empty ones.
fn f1(a: u64, b: u64) -> f64 {
    match a.count_ones() + b.count_ones() {
        0 => 1.0,
        both => f64::from(2 * (a & b).count_ones()) / f64::from(both),
    }
}

fn bag(report: &str) -> BTreeMap<&str, usize> {
    let mut bag = BTreeMap::new();
    for word in report.split_whitespace() {
        *bag.entry(word).or_default() += 1;
    }
    bag
}

/// Share of words that two reports have in common (F1 of one bag against the other).
fn shared(a: &BTreeMap<&str, usize>, b: &BTreeMap<&str, usize>) -> f64 {
    let common: usize = a
        .iter()
        .map(|(word, count)| *b.get(word).unwrap_or(&0).min(count))
        .sum();
    let both: usize = a.values().chain(b.values()).sum();
    2.0 * common as f64 / both.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EFFUSION: &str = "There is a small left pleural effusion.";
    const RIGHT: &str = "There is a small right pleural effusion.";
    const BOTH: &str = "There is a small left pleural effusion. Mild cardiomegaly.";
    const CLEAR: &str = "The lungs are clear. No acute findings.";

    #[test]
    fn a_vote_on_a_question_goes_by_yes_and_no_however_they_go_on() {
        for (answers, chosen) in [
            (["No.", "Yes.", "Yes, small."], 1),
            (["Yes.", "No.", "no, none is seen"], 1),
            (["No", "Yes.", "No."], 0),
            (["No acute findings.", "Yes.", "Yes"], 1),
        ] {
            assert_eq!(consensus(&answers).unwrap().chosen, chosen, "{answers:?}");
        }
    }

    #[test]
    fn what_most_readings_say_is_the_report_though_each_says_it_in_its_own_way() {
        // The same words twice are the likeliest single report here, and yet only two of five find nothing.
        let readings = [
            CLEAR,
            CLEAR,
            EFFUSION,
            "A left effusion is present.",
            "Left-sided pleural fluid, small effusion.",
        ];
        let told = consensus(&readings).unwrap();
        assert!(told.chosen >= 2, "{told:?}");
        let share = |name| {
            told.findings
                .iter()
                .find(|one| one.finding == name)
                .map(|one| (one.share, one.reported))
        };
        assert_eq!(share("Pleural Effusion"), Some((0.6, true)));
        assert_eq!(share("No Finding"), Some((0.4, false)));
        assert_eq!(share("Pneumothorax"), None);
        assert_eq!(told.findings[0].finding, "Pleural Effusion");
    }

    #[test]
    fn answers_of_few_words_are_put_to_the_vote() {
        let told = consensus(&["No.", "Yes.", "Yes.", "No.", "Yes."]).unwrap();
        assert_eq!((told.chosen, told.same), (1, 0.6));
    }

    #[test]
    fn the_first_view_is_the_image_and_all_differ() {
        let image = Arc::new(Pixels::new(32, 32, (0..32 * 32 * 3).map(|i| (i * i / 7) as u8).collect()).unwrap());
        let all = views(&image, 16, 4);
        assert!(Arc::ptr_eq(&all[0], &image) && all.len() == 16);
        // A cell has eight pixels, a step two.
        assert_eq!(*all[1], image.moved(-2, 0));
        assert!((1..16).all(|a| (0..a).all(|b| all[a] != all[b])));
        assert_eq!(views(&image, 1, 4).len(), 1);
        assert_eq!(*views(&image, 2, 0)[1], image.moved(-8, 0));
    }

    #[test]
    fn a_side_counts() {
        assert_eq!(consensus(&[RIGHT, EFFUSION, EFFUSION]).unwrap().chosen, 1);
    }

    #[test]
    fn a_reading_between_the_others_is_taken() {
        let told = consensus(&["Mild cardiomegaly. Left rib fracture.", BOTH, EFFUSION]).unwrap();
        assert_eq!(told.chosen, 1);
    }

    #[test]
    fn of_readings_that_find_the_same_the_one_in_the_common_words_is_taken_and_else_the_first() {
        let odd = "Effusion on the left, small, pleural.";
        assert_eq!(consensus(&[odd, EFFUSION, EFFUSION]).unwrap().chosen, 1);
        assert_eq!(consensus(&[EFFUSION; 4]).unwrap().chosen, 0);
        assert_eq!(consensus(&["", ""]).unwrap().chosen, 0);
        assert_eq!(consensus(&[]), None);
    }

    proptest! {
        #[test]
        fn the_choice_is_one_of_them_and_no_other_is_nearer_to_all(picks in prop::collection::vec(0usize..4, 1..12)) {
            let readings: Vec<&str> = picks.iter().map(|&pick| [EFFUSION, RIGHT, BOTH, CLEAR][pick]).collect();
            let told = consensus(&readings).unwrap();
            let sets: Vec<u64> = readings.iter().map(|report| findings(&labeler::read(report))).collect();
            let worth = |at: usize| sets.iter().map(|other| f1(sets[at], *other)).sum::<f64>();
            prop_assert!((0..readings.len()).all(|other| worth(other) <= worth(told.chosen) + 1e-6));
            // What all say is said.
            let reported: Vec<_> = told.findings.iter().filter(|one| one.share == 1.0).map(|one| one.reported).collect();
            prop_assert!(reported.into_iter().all(|reported| reported));
        }
    }
}
