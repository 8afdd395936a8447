//! Reports in radiologists' prose, written from the truth and from nothing else.

mod absences;
mod conclusions;
mod devices;
mod wording;

pub(super) use devices::{line, tip_place};
pub(super) use wording::ordinal;

use super::random::Random;
use super::truth::{Kind, Truth};

/// The two sections of a report.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Report {
    /// What is seen.
    pub findings: String,
    /// What it amounts to.
    pub impression: String,
}

impl std::fmt::Display for Report {
    /// As in a MIMIC-CXR file: headings in capitals, each section a paragraph.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            " FINDINGS:\n\n {}\n\n IMPRESSION:\n\n {}",
            self.findings, self.impression
        )
    }
}

/// Writes the report. Also returns the CheXpert observations it names as absent.
pub(super) fn write(truth: &Truth, random: &mut Random) -> (Report, Vec<&'static str>) {
    let mut denied = Vec::new();
    let has = |which: fn(&Kind) -> bool| truth.any(which);
    let mut findings = Vec::new();
    if random.chance(0.45) {
        findings.push(wording::technique(truth, random));
    }
    findings.extend(
        truth
            .of(Kind::is_device)
            .map(|finding| devices::device(finding, random)),
    );
    if !has(Kind::is_device) && random.chance(0.1) {
        denied.push("Support Devices");
        findings.push(devices::no_devices(random));
    }

    let lead = findings.len();
    let mut lungs: Vec<String> = truth
        .of(wording::in_lung)
        .map(|finding| wording::lung(finding, random))
        .collect();
    let effusions: Vec<_> = truth.of(|kind| *kind == Kind::PleuralEffusion).collect();
    lungs.extend(wording::effusions(&effusions, random));
    lungs.extend(
        truth
            .of(|kind| *kind == Kind::Pneumothorax)
            .map(|finding| wording::pneumothorax(finding, random)),
    );
    findings.extend(lungs);
    findings.extend(absences::absences(truth, &mut denied, random));

    let mut centre = Vec::new();
    match truth.of(|kind| matches!(kind, Kind::Cardiomegaly { .. })).next() {
        Some(heart) => centre.push(wording::cardiomegaly(heart, random)),
        None => {
            denied.push("Cardiomegaly");
            centre.push(wording::normal_heart(random));
        }
    }
    match truth.of(|kind| *kind == Kind::EnlargedMediastinum).next() {
        Some(wide) => centre.push(wording::mediastinum(wide, random)),
        None if random.chance(0.75) => {
            denied.push("Enlarged Cardiomediastinum");
            centre.push(wording::normal_mediastinum(truth, random));
        }
        None => {}
    }
    // Some begin with the heart, most with the lungs.
    if random.chance(0.3) {
        findings.splice(lead..lead, centre);
    } else {
        findings.extend(centre);
    }
    let mut broken = truth.of(|kind| matches!(kind, Kind::RibFracture { .. })).peekable();
    if broken.peek().is_none() && random.chance(0.5) {
        denied.push("Fracture");
        findings.push(wording::intact_bones(random));
    }
    findings.extend(broken.map(|finding| wording::fracture(finding, random)));

    let report = Report {
        findings: findings.join(" "),
        impression: impression(truth, random),
    };
    (report, denied)
}

fn impression(truth: &Truth, random: &mut Random) -> String {
    let mut points: Vec<String> = Vec::new();
    let effusions: Vec<_> = truth.of(|kind| *kind == Kind::PleuralEffusion).collect();
    points.extend(
        truth
            .of(|kind| !kind.is_device() && *kind != Kind::PleuralEffusion)
            .map(|finding| conclusions::conclusion(finding, random)),
    );
    points.extend(conclusions::conclude_effusions(&effusions, random));
    points.extend(
        truth
            .of(Kind::is_device)
            .filter_map(|finding| devices::misplaced(finding, random)),
    );
    if truth.is_normal() {
        points.push(match (truth.any(Kind::is_device), points.is_empty()) {
            (false, _) => conclusions::normal(random),
            (true, true) => conclusions::nothing_acute(random),
            (true, false) => conclusions::nothing_else(random),
        });
    }
    match points.as_slice() {
        [only] => only.clone(),
        several if random.chance(0.5) => several
            .iter()
            .enumerate()
            .map(|(number, point)| format!("{}. {point}", number + 1))
            .collect::<Vec<_>>()
            .join(" "),
        several => several.join(" "),
    }
}
