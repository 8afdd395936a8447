//! Sentences on what is not there.

use super::wording::in_lung;
use crate::phantom::random::Random;
use crate::phantom::truth::{Finding, Kind, Severity, Truth};

/// Sentences on what is not there. Adds the observations they name to `denied`.
pub(super) fn absences(truth: &Truth, denied: &mut Vec<&'static str>, random: &mut Random) -> Vec<String> {
    let mut sentences = Vec::new();
    // Nobody calls a lung clear that much fluid hides or that has collapsed.
    let hidden = |finding: &Finding| {
        finding.severity == Some(Severity::Severe) && matches!(finding.kind, Kind::PleuralEffusion | Kind::Pneumothorax)
    };
    let lungs_clear = !truth.any(in_lung) && !truth.findings.iter().any(hidden);
    // Nor does anybody call both well aerated where air or more than a little fluid lies beside one.
    let aerated = |finding: &Finding| match finding.kind {
        Kind::Pneumothorax => false,
        Kind::PleuralEffusion => finding.severity == Some(Severity::Mild),
        _ => true,
    };
    if lungs_clear && random.chance(0.75) {
        denied.extend(["Consolidation", "Lung Opacity"]);
        let wordings = [
            "The lungs are clear without consolidation or other opacity.",
            "There is no focal consolidation or opacity in either lung.",
            "No consolidation or focal opacity is seen.",
            "Both lungs are well aerated, with no consolidation and no opacity.",
        ];
        let usable = wordings.len() - usize::from(!truth.findings.iter().all(aerated));
        sentences.push(wordings[random.below(usable)].to_owned());
    }
    let mut absent: Vec<(&'static str, &'static str)> = [
        (
            "Pleural Effusion",
            "pleural effusion",
            truth.any(|kind| *kind == Kind::PleuralEffusion),
        ),
        (
            "Pneumothorax",
            "pneumothorax",
            truth.any(|kind| *kind == Kind::Pneumothorax),
        ),
        ("Edema", "pulmonary edema", truth.any(|kind| *kind == Kind::Edema)),
        (
            "Consolidation",
            "consolidation",
            truth.any(|kind| matches!(kind, Kind::Consolidation { .. })),
        ),
        (
            "Lung Lesion",
            "pulmonary nodule or mass",
            truth.any(|kind| matches!(kind, Kind::LungLesion { .. })),
        ),
    ]
    .into_iter()
    .filter(|&(name, _, present)| !present && !denied.contains(&name))
    .map(|(name, words, _)| (name, words))
    .collect();
    random.shuffle(&mut absent);
    absent.truncate(1 + random.below(4));
    // A nodule or mass at the end of a list reads best.
    absent.sort_by_key(|&(name, _)| name == "Lung Lesion");
    denied.extend(absent.iter().map(|&(name, _)| name));
    let words: Vec<_> = absent.iter().map(|&(_, words)| words).collect();
    match words.as_slice() {
        [] => {}
        [one] => {
            let text = random.pick([0, 1, 2]);
            sentences.push(match text {
                0 => format!("There is no {one}."),
                1 => format!("No {one} is seen."),
                _ => format!("No evidence of {one}."),
            });
        }
        [rest @ .., last] => {
            let list = format!(
                "{}{} {last}",
                rest.join(", "),
                if rest.len() > 1 { ", or" } else { " or" }
            );
            sentences.push(match random.below(3) {
                0 => format!("There is no {list}."),
                1 => format!("No {list} is seen."),
                _ => format!("No evidence of {list}."),
            });
        }
    }
    sentences
}
