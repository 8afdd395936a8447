//! Sentences of the impression.

use super::wording::{amount, capital, extent, ordinal, side, size, zone};
use crate::phantom::random::Random;
use crate::phantom::truth::{Finding, Kind};

/// One line of the impression.
pub(super) fn conclusion(finding: &Finding, random: &mut Random) -> String {
    let (side, zone, extent) = (side(finding), zone(finding), extent(finding));
    match finding.kind {
        Kind::Cardiomegaly { .. } => format!("{} cardiomegaly.", capital(extent)),
        Kind::EnlargedMediastinum => {
            let grade = amount(finding).of(["Mild", "Moderate", "Marked"]);
            match random.below(2) {
                0 => format!("{grade} mediastinal widening."),
                _ => format!("{grade} widening of the mediastinum, for which CT may be considered."),
            }
        }
        Kind::Pneumothorax => format!("{} {side} pneumothorax.", capital(size(finding))),
        Kind::Consolidation { air_bronchograms: true } => match random.below(3) {
            0 => format!(
                "{} {zone} lung consolidation, consistent with pneumonia.",
                capital(side)
            ),
            1 => format!("Pneumonia in the {side} {zone} lung with consolidation."),
            _ => format!(
                "{} {zone} zone consolidation, compatible with pneumonia.",
                capital(side)
            ),
        },
        Kind::Consolidation {
            air_bronchograms: false,
        } => match random.below(3) {
            0 => format!(
                "{} {zone} lung consolidation, which may represent pneumonia.",
                capital(side)
            ),
            1 => format!("{} {zone} zone consolidation, possibly pneumonia.", capital(side)),
            _ => format!("Consolidation in the {side} {zone} lung; pneumonia is possible."),
        },
        Kind::LungOpacity => match random.below(3) {
            0 => format!("Nonspecific {side} {zone} lung opacity."),
            1 => format!("Hazy opacity in the {side} {zone} lung, nonspecific; follow-up is suggested."),
            _ => format!("{} {zone} zone opacity of uncertain cause.", capital(side)),
        },
        Kind::Edema => format!("{} pulmonary edema.", capital(extent)),
        Kind::Atelectasis { volume_loss: true } => {
            format!("{} lower lobe atelectasis with volume loss.", capital(side))
        }
        Kind::Atelectasis { volume_loss: false } => match random.below(2) {
            0 => format!("{} basilar atelectasis.", capital(side)),
            _ => format!("Linear atelectasis at the {side} base."),
        },
        Kind::LungLesion { diameter_cm, calcified } => {
            let what = if diameter_cm > 3.0 { "mass" } else { "nodule" };
            let place = format!("{} {zone} lung", capital(side));
            match calcified {
                true => format!("{place} calcified {what} of {diameter_cm:.1} cm, likely a granuloma."),
                false => match random.below(2) {
                    0 => format!("{place} {what} of {diameter_cm:.1} cm. CT is recommended."),
                    _ => format!("{diameter_cm:.1} cm {what} in the {side} {zone} lung, suspicious; CT is advised."),
                },
            }
        }
        Kind::RibFracture { rib, last } if rib == last => format!("Displaced {side} {} rib fracture.", ordinal(rib)),
        Kind::RibFracture { rib, last } => {
            format!("Displaced {side} rib fractures, {} to {}.", ordinal(rib), ordinal(last))
        }
        _ => String::new(),
    }
}

pub(super) fn conclude_effusions(effusions: &[&Finding], _: &mut Random) -> Option<String> {
    Some(match effusions {
        [] => return None,
        [one] => format!("{} {} pleural effusion.", capital(size(one)), side(one)),
        several => {
            let sized: Vec<_> = several
                .iter()
                .map(|one| format!("{} {}", size(one), side(one)))
                .collect();
            format!("Bilateral pleural effusions: {}.", sized.join(" and "))
        }
    })
}

/// Neither findings nor devices.
pub(super) fn normal(random: &mut Random) -> String {
    if random.chance(2.0 / 3.0) {
        return nothing_acute(random);
    }
    random
        .pick(["Normal chest radiograph.", "Unremarkable frontal chest radiograph."])
        .to_owned()
}

/// No findings; nobody calls an image normal that shows a device.
pub(super) fn nothing_acute(random: &mut Random) -> String {
    random
        .pick([
            "No acute cardiopulmonary process.",
            "No acute cardiopulmonary abnormality.",
            "No radiographic evidence of acute disease.",
            "No acute intrathoracic process.",
        ])
        .to_owned()
}

/// No findings, after a device that is misplaced.
pub(super) fn nothing_else(random: &mut Random) -> String {
    random
        .pick([
            "No acute cardiopulmonary abnormality otherwise.",
            "Otherwise no acute cardiopulmonary process.",
        ])
        .to_owned()
}
