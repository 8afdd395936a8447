//! The 14 observations of CheXpert.

use super::truth::{Kind, Truth};

/// The observation that there is nothing else to observe, devices apart.
pub const NO_FINDING: &str = "No Finding";

/// The observations, in the order of `mimic-cxr-2.0.0-chexpert.csv`.
pub const LABELS: [&str; 14] = [
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Enlarged Cardiomediastinum",
    "Fracture",
    "Lung Lesion",
    "Lung Opacity",
    NO_FINDING,
    "Pleural Effusion",
    "Pleural Other",
    "Pneumonia",
    "Pneumothorax",
    "Support Devices",
];

/// What a report says about an observation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Label {
    /// It is there (1.0).
    Positive,
    /// It is not there (0.0).
    Negative,
    /// It may be there (-1.0).
    Uncertain,
    /// The report does not say (empty).
    Blank,
}

impl Label {
    /// As in the CSV file.
    pub fn code(self) -> &'static str {
        match self {
            Self::Positive => "1.0",
            Self::Negative => "0.0",
            Self::Uncertain => "-1.0",
            Self::Blank => "",
        }
    }
}

/// What the report of a study says, in the order of [`LABELS`]. `denied` are the observations the report names as absent.
///
/// Pneumonia follows from what is seen: consolidation with air bronchograms is reported as pneumonia, consolidation
/// without as possible pneumonia. Each observation is named only for its own finding, as in the wording of the reports.
pub(super) fn labels(truth: &Truth, denied: &[&str]) -> [Label; 14] {
    LABELS.map(|name| {
        let present = match name {
            "Atelectasis" => truth.any(|kind| matches!(kind, Kind::Atelectasis { .. })),
            "Cardiomegaly" => truth.any(|kind| matches!(kind, Kind::Cardiomegaly { .. })),
            "Consolidation" => truth.any(|kind| matches!(kind, Kind::Consolidation { .. })),
            "Edema" => truth.any(|kind| matches!(kind, Kind::Edema)),
            "Enlarged Cardiomediastinum" => truth.any(|kind| matches!(kind, Kind::EnlargedMediastinum)),
            "Fracture" => truth.any(|kind| matches!(kind, Kind::RibFracture { .. })),
            "Lung Lesion" => truth.any(|kind| matches!(kind, Kind::LungLesion { .. })),
            "Lung Opacity" => truth.any(|kind| matches!(kind, Kind::LungOpacity)),
            "Pleural Effusion" => truth.any(|kind| matches!(kind, Kind::PleuralEffusion)),
            "Pneumothorax" => truth.any(|kind| matches!(kind, Kind::Pneumothorax)),
            "Support Devices" => truth.any(Kind::is_device),
            NO_FINDING => truth.is_normal(),
            "Pneumonia" => {
                let seen = |sure: bool| {
                    truth.any(
                        |kind| matches!(kind, Kind::Consolidation { air_bronchograms } if *air_bronchograms == sure),
                    )
                };
                if !seen(true) && seen(false) {
                    return Label::Uncertain;
                }
                seen(true)
            }
            _ => false,
        };
        match present {
            true => Label::Positive,
            false if denied.contains(&name) => Label::Negative,
            false => Label::Blank,
        }
    })
}
