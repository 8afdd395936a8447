//! The sentences. Every observation is named only for its own finding, so that a labeler reads from the text what is true:
//! "opacity" never stands for a consolidation, "effusion" never for edema.

use crate::phantom::random::Random;
use crate::phantom::truth::{Finding, Kind, Severity, Side, Truth, View};

pub(super) fn side(finding: &Finding) -> &'static str {
    finding.side.map_or("", Side::word)
}

pub(super) fn zone(finding: &Finding) -> &'static str {
    finding.zone.map_or("", |zone| zone.word())
}

pub(super) fn amount(finding: &Finding) -> Severity {
    finding.severity.unwrap_or(Severity::Moderate)
}

pub(super) fn extent(finding: &Finding) -> &'static str {
    amount(finding).of(["mild", "moderate", "severe"])
}

pub(super) fn size(finding: &Finding) -> &'static str {
    amount(finding).of(["small", "moderate", "large"])
}

pub(super) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// `a` or `an` before the word.
fn article(word: &str) -> &'static str {
    if word.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    }
}

pub(super) fn technique(truth: &Truth, random: &mut Random) -> String {
    match truth.view {
        View::Pa => random.pick([
            "PA view of the chest.",
            "Single upright PA radiograph of the chest.",
            "Frontal PA view was obtained.",
            "An upright posteroanterior view of the chest is provided.",
        ]),
        View::Ap => random.pick([
            "Portable AP view of the chest.",
            "Single AP radiograph of the chest at the bedside.",
            "A portable anteroposterior view was obtained.",
            "AP chest film, patient semi-upright.",
        ]),
    }
    .to_owned()
}

pub(super) fn in_lung(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::Consolidation { .. }
            | Kind::LungOpacity
            | Kind::Edema
            | Kind::Atelectasis { .. }
            | Kind::LungLesion { .. }
    )
}

pub(super) fn lung(finding: &Finding, random: &mut Random) -> String {
    let (side, zone, extent) = (side(finding), zone(finding), extent(finding));
    match finding.kind {
        Kind::Consolidation { air_bronchograms } => {
            let amount = amount(finding).of(["small", "moderate", "extensive"]);
            let area = amount_area(amount, random);
            let text = random.pick([0, 1, 2, 3]);
            let place = random.pick([0, 1]);
            let place = if place == 0 {
                format!("in the {side} {zone} lung")
            } else {
                format!("in the {side} {zone} zone")
            };
            let mut text = match text {
                0 => format!("There is {area} {place}."),
                1 => format!("{} is seen {place}.", capital(&area)),
                2 => format!("{} is present {place}.", capital(&area)),
                _ => format!("The {side} {zone} lung shows {area}."),
            };
            if air_bronchograms {
                text.push(' ');
                text.push_str(random.pick([
                    "It contains air bronchograms.",
                    "Air bronchograms are visible within it.",
                    "There are air bronchograms.",
                ]));
            }
            text
        }
        Kind::LungOpacity => {
            let hazy = random.pick(["hazy", "ill-defined", "ground-glass", "hazy, ill-defined"]);
            let degree = amount(finding).of(["faint", "moderate", "extensive"]);
            match random.below(4) {
                0 => format!(
                    "There is {} {degree} {hazy} opacity in the {side} {zone} lung.",
                    article(degree)
                ),
                1 => format!(
                    "{} {hazy} opacity projects over the {side} {zone} lung.",
                    capital(degree)
                ),
                2 => format!("{} {hazy} opacity is seen in the {side} {zone} zone.", capital(degree)),
                _ => format!(
                    "The {side} {zone} zone shows {} {degree} {hazy} opacity.",
                    article(degree)
                ),
            }
        }
        Kind::Edema => match random.below(4) {
            0 => format!(
                "There is {extent} pulmonary edema with {}.",
                edema_sign(finding, random)
            ),
            1 => format!(
                "{}, in keeping with {extent} pulmonary edema.",
                capital(edema_sign(finding, random))
            ),
            2 => format!("{} pulmonary edema is present.", capital(extent)),
            _ => format!(
                "Findings of {extent} pulmonary edema include {}.",
                edema_sign(finding, random)
            ),
        },
        Kind::Atelectasis { volume_loss: false } => {
            let amount = amount(finding).of(["minor", "moderate", "marked"]);
            match random.below(4) {
                0 => format!("There is {amount} linear atelectasis at the {side} base."),
                1 => format!(
                    "{} band-like atelectasis is seen in the {side} lower lung.",
                    capital(amount)
                ),
                2 => format!(
                    "{} subsegmental atelectasis is present at the {side} lung base.",
                    capital(amount)
                ),
                _ => format!("The {side} base shows {amount} plate-like atelectasis."),
            }
        }
        Kind::Atelectasis { volume_loss: true } => {
            let amount = amount(finding).of(["minor", "moderate", "marked"]);
            match random.below(3) {
                0 => format!(
                    "There is {amount} {side} lower lobe atelectasis with volume loss and elevation of the {side} hemidiaphragm."
                ),
                1 => format!(
                    "The {side} hemidiaphragm is elevated due to {amount} volume loss from {side} lower lobe atelectasis."
                ),
                _ => format!(
                    "{} atelectasis of the {side} lower lobe is seen, with volume loss.",
                    capital(amount)
                ),
            }
        }
        Kind::LungLesion { diameter_cm, calcified } => {
            let what = if diameter_cm > 3.0 { "mass" } else { "nodule" };
            let look = if calcified { "calcified " } else { "" };
            let long = format!("{diameter_cm:.1} cm");
            match random.below(4) {
                0 => format!("There is a {long} {look}{what} in the {side} {zone} lung."),
                1 => format!("A {look}{what} measuring {long} is seen in the {side} {zone} zone."),
                2 => format!("A {look}pulmonary {what} of about {long} projects over the {side} {zone} lung."),
                _ => format!("In the {side} {zone} zone there is a rounded {look}{what}, {long} across."),
            }
        }
        _ => String::new(),
    }
}

fn amount_area(amount: &str, random: &mut Random) -> String {
    match random.below(3) {
        0 => format!("{} {amount} area of consolidation", article(amount)),
        1 => format!("{} {amount} focal consolidation", article(amount)),
        _ => format!("{} {amount} airspace consolidation", article(amount)),
    }
}

fn edema_sign(finding: &Finding, random: &mut Random) -> &'static str {
    match amount(finding) {
        Severity::Mild => random.pick([
            "indistinct vessels and Kerley B lines",
            "septal lines at both bases",
            "vascular congestion and septal thickening",
        ]),
        Severity::Moderate => random.pick([
            "bilateral perihilar haze and Kerley lines",
            "perihilar clouding in a bat-wing pattern",
            "central vascular congestion with perihilar haze",
        ]),
        Severity::Severe => random.pick([
            "extensive bilateral bat-wing airspace shadowing",
            "widespread bilateral alveolar shadowing",
            "dense perihilar clouding on both sides",
        ]),
    }
}

pub(super) fn effusions(effusions: &[&Finding], random: &mut Random) -> Option<String> {
    Some(match effusions {
        [] => return None,
        [one] => {
            let (side, size) = (side(one), size(one));
            let sign = amount(one).of([
                "blunting of the costophrenic angle",
                "a meniscus that obscures the hemidiaphragm",
                "dense shadowing of much of the hemithorax",
            ]);
            match random.below(5) {
                0 => format!("There is a {size} {side} pleural effusion."),
                1 => format!("A {size} {side} pleural effusion is present."),
                2 => format!("There is a {size} {side} pleural effusion with {sign}."),
                3 => format!("A {size} pleural effusion is seen on the {side}."),
                _ => format!(
                    "{} on the {side}, consistent with a {size} pleural effusion.",
                    capital(sign)
                ),
            }
        }
        several => {
            let sized: Vec<_> = several
                .iter()
                .map(|one| format!("{} on the {}", size(one), side(one)))
                .collect();
            let sizes = sized.join(" and ");
            match random.below(3) {
                0 => format!("There are bilateral pleural effusions, {sizes}."),
                1 => format!("Bilateral pleural effusions are present, {sizes}."),
                _ => format!("Pleural effusions are seen on both sides, {sizes}."),
            }
        }
    })
}

pub(super) fn pneumothorax(finding: &Finding, random: &mut Random) -> String {
    let (side, size) = (side(finding), size(finding));
    match (random.below(5), amount(finding)) {
        (0, _) => format!("There is a {size} {side} pneumothorax."),
        (1, _) => format!("A {size} {side} pneumothorax is present with a visible visceral pleural line."),
        (2, Severity::Mild) => format!("A {size} {side} apical pneumothorax is seen."),
        (3, Severity::Severe) => {
            format!(
                "There is a {size} {side} pneumothorax with collapse of the {side} lung and slight shift of the mediastinum."
            )
        }
        (4, _) => {
            format!("A {size} pneumothorax is seen on the {side}, without lung markings beyond the pleural line.")
        }
        _ => format!("A {size} {side} pneumothorax is identified."),
    }
}

pub(super) fn cardiomegaly(finding: &Finding, random: &mut Random) -> String {
    let (extent, grade) = (
        extent(finding),
        amount(finding).of(["mildly", "moderately", "severely"]),
    );
    match random.below(4) {
        0 => format!("The heart is {grade} enlarged."),
        1 => format!("There is {extent} cardiomegaly."),
        2 => format!("Heart size is {grade} enlarged."),
        _ => format!("{} cardiomegaly is present.", capital(extent)),
    }
}

pub(super) fn normal_heart(random: &mut Random) -> String {
    random
        .pick([
            "The heart size is normal.",
            "Heart size is within normal limits.",
            "The heart is not enlarged.",
            "Cardiac size is normal.",
            "There is no cardiomegaly.",
        ])
        .to_owned()
}

pub(super) fn mediastinum(finding: &Finding, random: &mut Random) -> String {
    let grade = amount(finding).of(["mildly", "moderately", "markedly"]);
    match random.below(4) {
        0 => format!("The mediastinum is {grade} widened."),
        1 => format!("The upper mediastinal contour is {grade} widened."),
        2 => format!("There is {} widening of the mediastinum.", grade.trim_end_matches("ly")),
        _ => format!("The mediastinal silhouette is {grade} enlarged."),
    }
}

/// That the mediastinum is not widened, and no more than that where something shifts it or clouds the hila.
pub(super) fn normal_mediastinum(truth: &Truth, random: &mut Random) -> String {
    let shifts = |finding: &Finding| match finding.kind {
        Kind::Pneumothorax | Kind::PleuralEffusion => finding.severity == Some(Severity::Severe),
        Kind::Atelectasis { volume_loss } => volume_loss,
        _ => false,
    };
    let wordings = [
        "The mediastinum is not widened.",
        "The mediastinal contours are normal.",
        "The mediastinal silhouette is within normal limits.",
        "Mediastinal and hilar contours are unremarkable.",
    ];
    let usable = if truth.findings.iter().any(shifts) {
        1
    } else if truth.any(|kind| *kind == Kind::Edema) {
        3
    } else {
        4
    };
    wordings[random.below(usable)].to_owned()
}

pub(in crate::phantom) fn ordinal(number: u8) -> String {
    let ending = match (number % 10, number) {
        (1, n) if n != 11 => "st",
        (2, n) if n != 12 => "nd",
        (3, n) if n != 13 => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

pub(super) fn fracture(finding: &Finding, random: &mut Random) -> String {
    let side = side(finding);
    let Kind::RibFracture { rib, last } = finding.kind else {
        return String::new();
    };
    let several = rib != last;
    let (rib, last) = (ordinal(rib), ordinal(last));
    if several {
        return match random.below(3) {
            0 => format!("There are displaced fractures of the {side} {rib} to {last} ribs."),
            1 => format!("Displaced {side} rib fractures are seen, from the {rib} to the {last} rib."),
            _ => format!("The {side} {rib} to {last} ribs are fractured laterally, with displacement."),
        };
    }
    match random.below(4) {
        0 => format!("There is a displaced fracture of the {side} {rib} rib."),
        1 => format!("A displaced {side} {rib} rib fracture is seen."),
        2 => format!("The {side} {rib} rib is fractured laterally, with displacement."),
        _ => format!("There is a cortical break with step-off in the {side} {rib} rib, consistent with a fracture."),
    }
}

pub(super) fn intact_bones(random: &mut Random) -> String {
    random
        .pick([
            "No displaced fracture is seen.",
            "There is no acute rib fracture.",
            "The bones are intact without fracture.",
            "No fracture is identified.",
        ])
        .to_owned()
}
