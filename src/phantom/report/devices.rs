//! Sentences on tubes, lines, pacemakers and wires.

use super::wording::{capital, side};
use crate::phantom::random::Random;
use crate::phantom::truth::{Approach, Finding, Kind, LineTip, TubePosition};

pub(super) fn no_devices(random: &mut Random) -> String {
    random
        .pick([
            "There are no lines or tubes.",
            "No support devices are present.",
            "No tubes, lines or pacemaker are seen.",
        ])
        .to_owned()
}

pub(super) fn device(finding: &Finding, random: &mut Random) -> String {
    let side = side(finding);
    match finding.kind {
        Kind::EndotrachealTube {
            position,
            tip_above_carina_cm,
        } => {
            let name = random.pick(["An endotracheal tube", "The endotracheal tube", "An ET tube"]);
            let cm = format!("{tip_above_carina_cm:.1} cm");
            match position {
                TubePosition::RightMainBronchus => match random.below(2) {
                    0 => format!("{name} terminates in the right main bronchus."),
                    _ => format!("{name} extends past the carina into the right mainstem bronchus."),
                },
                _ => match random.below(3) {
                    0 => format!("{name} terminates {cm} above the carina."),
                    1 => format!("{name} is present with its tip {cm} above the carina."),
                    _ => format!("{name} ends {cm} from the carina."),
                },
            }
        }
        Kind::Pacemaker { leads: 1 } => match random.below(3) {
            0 => format!("A {side} chest wall single-lead pacemaker is present with its lead in the right ventricle."),
            1 => format!("There is a {side}-sided pacemaker with a single lead ending in the right ventricle."),
            _ => format!("A single-chamber {side} pectoral pacemaker is seen, lead tip over the right ventricle."),
        },
        Kind::Pacemaker { .. } => match random.below(3) {
            0 => format!(
                "A {side} chest wall dual-lead pacemaker is present with leads in the right atrium and right ventricle."
            ),
            1 => format!(
                "There is a {side}-sided pacemaker with two leads, ending in the right atrium and right ventricle."
            ),
            _ => format!(
                "A dual-chamber {side} pectoral pacemaker is seen with right atrial and right ventricular leads."
            ),
        },
        Kind::CentralLine { approach, tip } => {
            let name = line(approach);
            let end = tip_place(tip);
            match random.below(3) {
                0 => format!("A {side} {name} terminates {end}."),
                1 => format!("There is a {side} {name} with its tip {end}."),
                _ => format!("A {side} {name} is present, ending {end}."),
            }
        }
        Kind::SternalWires { count } => match random.below(3) {
            0 => "Median sternotomy wires are intact.".to_owned(),
            1 => format!("There are {count} midline sternal wires."),
            _ => "Sternotomy wires are aligned in the midline.".to_owned(),
        },
        _ => String::new(),
    }
}

pub(in crate::phantom) fn line(approach: Approach) -> &'static str {
    match approach {
        Approach::InternalJugular => "internal jugular central venous line",
        Approach::Subclavian => "subclavian central venous line",
        Approach::Peripheral => "PICC",
    }
}

pub(in crate::phantom) fn tip_place(tip: LineTip) -> &'static str {
    match tip {
        LineTip::SuperiorVenaCava => "in the superior vena cava",
        LineTip::CavoatrialJunction => "at the cavoatrial junction",
        LineTip::RightAtrium => "in the right atrium",
    }
}

/// What the impression says about a device that does not lie as it should.
pub(super) fn misplaced(finding: &Finding, random: &mut Random) -> Option<String> {
    Some(match finding.kind {
        Kind::EndotrachealTube {
            position: TubePosition::High,
            ..
        } => "High endotracheal tube; advancement is recommended.".to_owned(),
        Kind::EndotrachealTube {
            position: TubePosition::Low,
            ..
        } => "Low endotracheal tube close to the carina; withdrawal is recommended.".to_owned(),
        Kind::EndotrachealTube {
            position: TubePosition::RightMainBronchus,
            ..
        } => "Endotracheal tube in the right main bronchus; withdrawal is recommended.".to_owned(),
        Kind::EndotrachealTube { .. } if random.chance(0.5) => "Endotracheal tube in satisfactory position.".to_owned(),
        Kind::CentralLine {
            approach,
            tip: LineTip::RightAtrium,
        } => {
            format!(
                "{} {} with its tip in the right atrium.",
                capital(side(finding)),
                line(approach)
            )
        }
        Kind::Pacemaker { .. } if random.chance(0.4) => format!("{} pacemaker.", capital(side(finding))),
        _ => return None,
    })
}
