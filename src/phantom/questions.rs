//! Questions about a study and their answers.

use super::random::Random;
use super::report::{line, ordinal, tip_place};
use super::truth::{Finding, Kind, Severity, Side, Truth, TubePosition, View};

/// A question and its answer.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct QuestionAnswer {
    /// The question.
    pub question: String,
    /// The answer.
    pub answer: String,
}

type Topic = (&'static str, f32, fn(&Kind) -> bool);

/// What is asked with yes or no, and the share of studies where it is there. It is asked wherever it is there, and so often
/// where it is not that both answers are as frequent.
const TOPICS: [Topic; 14] = [
    ("cardiomegaly", 0.169, |kind| matches!(kind, Kind::Cardiomegaly { .. })),
    ("mediastinal widening", 0.059, |kind| {
        matches!(kind, Kind::EnlargedMediastinum)
    }),
    ("a pleural effusion", 0.215, |kind| {
        matches!(kind, Kind::PleuralEffusion)
    }),
    ("a pneumothorax", 0.062, |kind| matches!(kind, Kind::Pneumothorax)),
    ("consolidation", 0.098, |kind| {
        matches!(kind, Kind::Consolidation { .. })
    }),
    ("a hazy lung opacity", 0.064, |kind| matches!(kind, Kind::LungOpacity)),
    ("pulmonary edema", 0.121, |kind| matches!(kind, Kind::Edema)),
    ("atelectasis", 0.081, |kind| matches!(kind, Kind::Atelectasis { .. })),
    ("a lung nodule or mass", 0.066, |kind| {
        matches!(kind, Kind::LungLesion { .. })
    }),
    ("a rib fracture", 0.068, |kind| matches!(kind, Kind::RibFracture { .. })),
    ("an endotracheal tube", 0.073, |kind| {
        matches!(kind, Kind::EndotrachealTube { .. })
    }),
    ("a pacemaker", 0.059, |kind| matches!(kind, Kind::Pacemaker { .. })),
    ("a central venous line", 0.086, |kind| {
        matches!(kind, Kind::CentralLine { .. })
    }),
    ("sternal wires", 0.068, |kind| matches!(kind, Kind::SternalWires { .. })),
];

/// How often a finding of one side is asked after on the left or on the right.
const ASKED_OF_A_SIDE: f32 = 0.6;

/// Questions on presence, side, severity, count, view, and open ones.
pub(super) fn ask(truth: &Truth, random: &mut Random) -> Vec<QuestionAnswer> {
    let mut pairs = Vec::new();
    let mut put = |question: String, answer: String| pairs.push(QuestionAnswer { question, answer });
    let yes_no = |yes: bool| if yes { "Yes." } else { "No." }.to_owned();
    for (name, share, which) in TOPICS {
        let present = truth.any(which);
        if present || random.chance(share / (1.0 - share)) {
            let question = random.pick(["Is there {}?", "Does the image show {}?", "Can {} be seen?"]);
            put(question.replace("{}", name), yes_no(present));
        }
        let found: Vec<_> = truth.of(which).collect();
        let mut sides: Vec<_> = found.iter().filter_map(|finding| finding.side).collect();
        sides.dedup();
        match sides.as_slice() {
            [] => {}
            [side] => {
                put(
                    format!("On which side is {name}?"),
                    format!("{}.", capital(side.word())),
                );
                if random.chance(ASKED_OF_A_SIDE) {
                    let asked = random.pick([Side::Right, Side::Left]);
                    put(
                        format!("Is there {name} on the {}?", asked.word()),
                        yes_no(asked == *side),
                    );
                }
            }
            _ => put(format!("On which side is {name}?"), "Both sides.".to_owned()),
        }
        if let [one] = found.as_slice() {
            if let Some(severity) = one.severity {
                put(
                    format!("How severe is {name}?"),
                    format!("{}.", severity_word(severity)),
                );
            }
            if let Some(zone) = one.zone {
                put(
                    format!("In which lung zone is {name}?"),
                    format!("{} zone.", capital(zone.word())),
                );
            }
            detail(one, &mut put);
        }
    }
    let normal = truth.is_normal();
    if normal || random.chance(0.5) {
        put(
            "Is this a normal chest radiograph apart from devices?".to_owned(),
            yes_no(normal),
        );
    }
    put(
        "Is this a PA or an AP view?".to_owned(),
        format!("{}.", truth.view.code()),
    );
    let upright = truth.view == View::Pa;
    if random.chance(if upright { 0.6 } else { 0.9 }) {
        put("Was the image taken in PA projection?".to_owned(), yes_no(upright));
    }
    let abnormal: Vec<_> = truth.of(|kind| !kind.is_device()).map(name).collect();
    let seen = if abnormal.is_empty() {
        "None.".to_owned()
    } else {
        format!("{}.", capital(&abnormal.join(", ")))
    };
    put("Which abnormalities are seen?".to_owned(), seen);
    let devices: Vec<_> = truth.of(Kind::is_device).map(name).collect();
    if !devices.is_empty() || random.chance(0.2) {
        let seen = if devices.is_empty() {
            "None.".to_owned()
        } else {
            format!("{}.", capital(&devices.join(", ")))
        };
        put("Which devices are seen?".to_owned(), seen);
        put("How many devices are there?".to_owned(), format!("{}.", devices.len()));
    }
    pairs
}

fn detail(finding: &Finding, put: &mut impl FnMut(String, String)) {
    match finding.kind {
        Kind::RibFracture { rib, last } if rib == last => {
            put("Which rib is fractured?".into(), format!("The {} rib.", ordinal(rib)));
        }
        Kind::RibFracture { rib, last } => put(
            "Which ribs are fractured?".into(),
            format!("The {} to the {} rib.", ordinal(rib), ordinal(last)),
        ),
        Kind::Pacemaker { leads } => put("How many leads does the pacemaker have?".into(), format!("{leads}.")),
        Kind::SternalWires { count } => put("How many sternal wires are there?".into(), format!("{count}.")),
        Kind::CentralLine { approach, tip } => {
            put(
                "Where does the central line end?".into(),
                format!("{}.", capital(tip_place(tip))),
            );
            put(
                "What kind of central line is it?".into(),
                format!("{}.", capital(line(approach))),
            );
        }
        Kind::EndotrachealTube { position, .. } => {
            let answer = match position {
                TubePosition::Satisfactory => "Satisfactory.",
                TubePosition::High => "Too high.",
                TubePosition::Low => "Too low.",
                TubePosition::RightMainBronchus => "In the right main bronchus.",
            };
            put("How is the endotracheal tube positioned?".into(), answer.into());
        }
        _ => {}
    }
}

fn severity_word(severity: Severity) -> &'static str {
    severity.of(["Mild", "Moderate", "Severe"])
}

fn name(finding: &Finding) -> String {
    let name = match finding.kind {
        Kind::Cardiomegaly { .. } => "cardiomegaly",
        Kind::EnlargedMediastinum => "widened mediastinum",
        Kind::PleuralEffusion => "pleural effusion",
        Kind::Pneumothorax => "pneumothorax",
        Kind::Consolidation { .. } => "consolidation",
        Kind::LungOpacity => "lung opacity",
        Kind::Edema => "pulmonary edema",
        Kind::Atelectasis { .. } => "atelectasis",
        Kind::LungLesion { diameter_cm, .. } if diameter_cm > 3.0 => "lung mass",
        Kind::LungLesion { .. } => "lung nodule",
        Kind::RibFracture { .. } => "rib fracture",
        Kind::EndotrachealTube { .. } => "endotracheal tube",
        Kind::Pacemaker { .. } => "pacemaker",
        Kind::CentralLine { .. } => "central venous line",
        Kind::SternalWires { .. } => "sternal wires",
    };
    finding
        .side
        .map_or_else(|| name.to_owned(), |side| format!("{} {name}", side.word()))
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
