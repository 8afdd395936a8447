//! Small findings apart from large ones, where the data is of phantoms and says how large each is.

use serde::Serialize;

use crate::phantom::{Kind, LABELS, Severity, Truth};

/// Findings of one kind and size: in how many studies, and in which share of them they are told.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SizeScores {
    /// The label.
    pub label: String,
    /// The size.
    pub size: &'static str,
    /// Studies with such a finding, none larger of its kind.
    pub studies: usize,
    /// Share in which it is told.
    pub told: f64,
    /// Share in which the classifier sees it in the data's own image, where one is read.
    pub real: Option<f64>,
}

/// Sizes from the smallest.
const SIZES: [&str; 3] = ["mild, small", "moderate", "severe, large"];
const NODULES: [&str; 3] = ["up to 1.5 cm", "up to 3 cm", "more than 3 cm"];

#[derive(Clone, Copy, Default)]
struct Count {
    studies: usize,
    told: usize,
    real: usize,
}

/// Counts by label and size.
#[derive(Default)]
pub struct Sizes {
    counts: Vec<[Count; 3]>,
    with_real: bool,
}

impl Sizes {
    /// Adds a study. `told` says of a place in [`LABELS`] whether it is told, `real` the same of the data's own image; findings of which `told`
    /// says nothing are left out.
    pub fn add(
        &mut self,
        truth: &Truth,
        told: impl Fn(usize) -> Option<bool>,
        real: Option<&dyn Fn(usize) -> Option<bool>>,
    ) {
        self.counts.resize(LABELS.len(), Default::default());
        self.with_real |= real.is_some();
        let mut largest = [None::<usize>; LABELS.len()];
        for finding in &truth.findings {
            if let Some((place, size)) = sized(&finding.kind, finding.severity) {
                largest[place] = largest[place].max(Some(size));
            }
        }
        for (place, size) in largest
            .into_iter()
            .enumerate()
            .filter_map(|(place, size)| Some((place, size?)))
        {
            let Some(told) = told(place) else { continue };
            let count = &mut self.counts[place][size];
            count.studies += 1;
            count.told += usize::from(told);
            count.real += usize::from(real.and_then(|real| real(place)) == Some(true));
        }
    }

    /// The shares of what occurred.
    pub fn scores(&self) -> Vec<SizeScores> {
        let mut scores = Vec::new();
        for (place, counts) in self.counts.iter().enumerate() {
            let names = if LABELS[place] == "Lung Lesion" { NODULES } else { SIZES };
            for (size, count) in names.into_iter().zip(counts).filter(|(_, count)| count.studies > 0) {
                let share = |n: usize| n as f64 / count.studies as f64;
                scores.push(SizeScores {
                    label: LABELS[place].to_owned(),
                    size,
                    studies: count.studies,
                    told: share(count.told),
                    real: self.with_real.then(|| share(count.real)),
                });
            }
        }
        scores
    }
}

/// The place of a finding's label, and its size from 0 to 2; `None` for devices.
fn sized(kind: &Kind, severity: Option<Severity>) -> Option<(usize, usize)> {
    let name = match kind {
        Kind::Cardiomegaly { .. } => "Cardiomegaly",
        Kind::EnlargedMediastinum => "Enlarged Cardiomediastinum",
        Kind::PleuralEffusion => "Pleural Effusion",
        Kind::Pneumothorax => "Pneumothorax",
        Kind::Consolidation { .. } => "Consolidation",
        Kind::LungOpacity => "Lung Opacity",
        Kind::Edema => "Edema",
        Kind::Atelectasis { .. } => "Atelectasis",
        Kind::LungLesion { .. } => "Lung Lesion",
        Kind::RibFracture { .. } => "Fracture",
        Kind::EndotrachealTube { .. }
        | Kind::Pacemaker { .. }
        | Kind::CentralLine { .. }
        | Kind::SternalWires { .. } => return None,
    };
    let size = match (kind, severity) {
        (Kind::LungLesion { diameter_cm, .. }, _) => match diameter_cm {
            d if *d <= 1.5 => 0,
            d if *d <= 3.0 => 1,
            _ => 2,
        },
        (_, Some(Severity::Mild)) => 0,
        (_, Some(Severity::Severe)) => 2,
        (_, Some(Severity::Moderate) | None) => 1,
    };
    Some((LABELS.iter().position(|label| *label == name)?, size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phantom::{NO_FINDING, Phantom};

    #[test]
    fn every_finding_of_a_phantom_counts_once_by_its_largest_size() {
        let phantom = Phantom::new(3, 64).unwrap();
        let (mut sizes, mut findings) = (Sizes::default(), 0);
        for index in 0..80 {
            let study = phantom.study(index);
            // Pneumonia and devices have no size of their own.
            let labels = study.labels.iter().enumerate().filter(|(place, label)| {
                ![NO_FINDING, "Support Devices", "Pneumonia"].contains(&LABELS[*place])
                    && **label == crate::phantom::Label::Positive
            });
            findings += labels.count();
            sizes.add(&study.truth, |place| Some(LABELS[place] == "Edema"), None);
        }
        let scores = sizes.scores();
        assert_eq!(scores.iter().map(|s| s.studies).sum::<usize>(), findings);
        assert!(findings > 40 && scores.iter().all(|s| s.real.is_none()));
        assert!(scores.iter().all(|s| s.told == f64::from(u8::from(s.label == "Edema"))));
    }
}
