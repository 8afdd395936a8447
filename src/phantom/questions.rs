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

/// What is asked after, by one name in all questions.
pub(super) struct Topic {
    /// With its article.
    name: &'static str,
    /// Share of the studies where it is there.
    share: f32,
    /// Share of the studies where it is on both sides.
    on_both: f32,
    /// Of those where it is on one side, the share of the right one.
    right: f32,
    /// Which findings it is.
    pub(super) which: fn(&Kind) -> bool,
    /// Questions besides "is it there?" that only make sense where it is: `{}` is the bare name. With the share of the studies with it where each is asked.
    presuppose: &'static [(&'static str, f32)],
}

const SIDE: &str = "On which side is the {}?";
const SEVERITY: &str = "How severe is the {}?";
const ZONE: &str = "In which lung zone is the {}?";
const ONE_RIB: &str = "Which rib is fractured?";
const RIBS: &str = "Which ribs are fractured?";
const LEADS: &str = "How many leads does the pacemaker have?";
const WIRES: &str = "How many sternal wires are there?";
const LINE_END: &str = "Where does the central line end?";
const LINE_KIND: &str = "What kind of central line is it?";
const TUBE: &str = "How is the endotracheal tube positioned?";

pub(super) const TOPICS: [Topic; 14] = [
    Topic::new(
        "cardiomegaly",
        0.152,
        |kind| matches!(kind, Kind::Cardiomegaly { .. }),
        &[(SEVERITY, 1.0)],
    ),
    Topic::new(
        "mediastinal widening",
        0.060,
        |kind| matches!(kind, Kind::EnlargedMediastinum),
        &[(SEVERITY, 1.0)],
    ),
    Topic {
        on_both: 0.042,
        right: 0.407,
        ..Topic::new(
            "a pleural effusion",
            0.192,
            |kind| matches!(kind, Kind::PleuralEffusion),
            &[(SIDE, 1.0), (SEVERITY, 1.0)],
        )
    },
    Topic::new(
        "a pneumothorax",
        0.062,
        |kind| matches!(kind, Kind::Pneumothorax),
        &[(SIDE, 1.0), (SEVERITY, 1.0)],
    ),
    Topic::new(
        "consolidation",
        0.108,
        |kind| matches!(kind, Kind::Consolidation { .. }),
        &[(SIDE, 1.0), (SEVERITY, 1.0), (ZONE, 1.0)],
    ),
    Topic::new(
        "a hazy lung opacity",
        0.052,
        |kind| matches!(kind, Kind::LungOpacity),
        &[(SIDE, 1.0), (SEVERITY, 1.0), (ZONE, 1.0)],
    ),
    Topic::new(
        "pulmonary edema",
        0.125,
        |kind| matches!(kind, Kind::Edema),
        &[(SEVERITY, 1.0)],
    ),
    Topic {
        right: 0.393,
        ..Topic::new(
            "atelectasis",
            0.069,
            |kind| matches!(kind, Kind::Atelectasis { .. }),
            &[(SIDE, 1.0), (SEVERITY, 1.0), (ZONE, 1.0)],
        )
    },
    Topic::new(
        "a lung nodule or mass",
        0.070,
        |kind| matches!(kind, Kind::LungLesion { .. }),
        &[(SIDE, 1.0), (ZONE, 1.0)],
    ),
    Topic::new(
        "a rib fracture",
        0.070,
        |kind| matches!(kind, Kind::RibFracture { .. }),
        &[(SIDE, 1.0), (ONE_RIB, 0.3), (RIBS, 0.7)],
    ),
    Topic::new(
        "an endotracheal tube",
        0.073,
        |kind| matches!(kind, Kind::EndotrachealTube { .. }),
        &[(TUBE, 1.0)],
    ),
    Topic {
        right: 0.26,
        ..Topic::new(
            "a pacemaker",
            0.057,
            |kind| matches!(kind, Kind::Pacemaker { .. }),
            &[(SIDE, 1.0), (LEADS, 1.0)],
        )
    },
    Topic {
        right: 0.65,
        ..Topic::new(
            "a central venous line",
            0.085,
            |kind| matches!(kind, Kind::CentralLine { .. }),
            &[(SIDE, 1.0), (LINE_END, 1.0), (LINE_KIND, 1.0)],
        )
    },
    Topic::new(
        "sternal wires",
        0.068,
        |kind| matches!(kind, Kind::SternalWires { .. }),
        &[(WIRES, 1.0)],
    ),
];

/// How often a finding is asked after on a side where it is, and, where it is on one side only, on the other one.
const ASKED_OF_ITS_SIDE: f32 = 0.5;
const ASKED_OF_THE_OTHER: f32 = 0.25;
/// How often a question presupposes what is not there, against how often it is asked where it is.
const PRESUPPOSED: f32 = 0.5;

impl Topic {
    const fn new(
        name: &'static str,
        share: f32,
        which: fn(&Kind) -> bool,
        presuppose: &'static [(&'static str, f32)],
    ) -> Self {
        Self {
            name,
            share,
            on_both: 0.0,
            right: 0.5,
            which,
            presuppose,
        }
    }

    /// How often a question is asked where it is not there, so that it is asked `ratio` times as often there as in `share` of the studies.
    fn absent(&self, share: f32, ratio: f32) -> f32 {
        ratio * share / (1.0 - self.share)
    }

    /// Whether it is there: asked wherever it is, and so often where it is not that both answers are as frequent.
    fn presence(&self, present: bool, random: &mut Random, put: &mut impl FnMut(String, String)) {
        if present || random.chance(self.absent(self.share, 1.0)) {
            let is_there = if self.is_plural() {
                "Are there {}?"
            } else {
                "Is there {}?"
            };
            let question = random.pick([is_there, "Does the image show {}?", "Can {} be seen?"]);
            put(question.replace("{}", self.name), yes_no(present));
        }
    }

    /// Whether it is on a given side: asked where one side, both and neither have it, and of each side yes and no as frequent.
    fn on_a_side(&self, sides: &[Side], random: &mut Random, put: &mut impl FnMut(String, String)) {
        for side in [Side::Right, Side::Left] {
            let one_side = self.share - self.on_both;
            let right = if side == Side::Right {
                self.right
            } else {
                1.0 - self.right
            };
            let (there, opposite) = (self.on_both + one_side * right, one_side * (1.0 - right));
            // Half of what is denied is on the other side, unless that is the rarer one by far.
            let denied = ASKED_OF_ITS_SIDE * there;
            let of_the_other = (denied / (2.0 * opposite)).min(ASKED_OF_THE_OTHER);
            let chance = match sides {
                [] => self.absent(denied - of_the_other * opposite, 1.0),
                _ if sides.contains(&side) => ASKED_OF_ITS_SIDE,
                _ => of_the_other,
            };
            if random.chance(chance) {
                let question = format!("Is there {} on the {}?", self.name, side.word());
                put(question, yes_no(sides.contains(&side)));
            }
        }
    }

    /// Questions that presuppose it, where it is not there: the answer says so.
    fn presupposed(&self, random: &mut Random, put: &mut impl FnMut(String, String)) {
        let verb = if self.is_plural() { "are" } else { "is" };
        for (question, of) in self.presuppose {
            if random.chance(self.absent(self.share * of, PRESUPPOSED)) {
                put(
                    question.replace("{}", self.bare()),
                    format!("There {verb} no {}.", self.bare()),
                );
            }
        }
    }

    /// Its name without the article.
    pub(super) fn bare(&self) -> &'static str {
        let name = self.name.strip_prefix("a ").or_else(|| self.name.strip_prefix("an "));
        name.unwrap_or(self.name)
    }

    fn is_plural(&self) -> bool {
        self.name.ends_with("wires")
    }

    /// Whether it is a thing of one side or the other.
    fn has_sides(&self) -> bool {
        self.presuppose.iter().any(|(question, _)| *question == SIDE)
    }
}

fn yes_no(yes: bool) -> String {
    if yes { "Yes." } else { "No." }.to_owned()
}

/// Questions on presence, side, severity, count, view, and open ones. Those that presuppose a finding are asked where it is missing, too.
pub(super) fn ask(truth: &Truth, random: &mut Random) -> Vec<QuestionAnswer> {
    let mut pairs = Vec::new();
    let mut put = |question: String, answer: String| pairs.push(QuestionAnswer { question, answer });
    for topic in &TOPICS {
        let found: Vec<_> = truth.of(topic.which).collect();
        topic.presence(!found.is_empty(), random, &mut put);
        if topic.has_sides() {
            let mut sides: Vec<_> = found.iter().filter_map(|finding| finding.side).collect();
            sides.sort_unstable();
            sides.dedup();
            topic.on_a_side(&sides, random, &mut put);
            match sides.as_slice() {
                [] => {}
                [side] => put(SIDE.replace("{}", topic.bare()), format!("{}.", capital(side.word()))),
                _ => put(SIDE.replace("{}", topic.bare()), "Both sides.".to_owned()),
            }
        }
        match found.as_slice() {
            [] => topic.presupposed(random, &mut put),
            [one] => {
                if let Some(severity) = one.severity {
                    put(
                        SEVERITY.replace("{}", topic.bare()),
                        format!("{}.", severity_word(severity)),
                    );
                }
                if let Some(zone) = one.zone {
                    put(
                        ZONE.replace("{}", topic.bare()),
                        format!("{} zone.", capital(zone.word())),
                    );
                }
                detail(one, &mut put);
            }
            _ => {}
        }
    }
    general(truth, random, &mut put);
    pairs
}

/// Questions about the whole image.
fn general(truth: &Truth, random: &mut Random, put: &mut impl FnMut(String, String)) {
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
}

fn detail(finding: &Finding, put: &mut impl FnMut(String, String)) {
    match finding.kind {
        Kind::RibFracture { rib, last } if rib == last => {
            put(ONE_RIB.into(), format!("The {} rib.", ordinal(rib)));
        }
        Kind::RibFracture { rib, last } => put(
            RIBS.into(),
            format!("The {} to the {} rib.", ordinal(rib), ordinal(last)),
        ),
        Kind::Pacemaker { leads } => put(LEADS.into(), format!("{leads}.")),
        Kind::SternalWires { count } => put(WIRES.into(), format!("{count}.")),
        Kind::CentralLine { approach, tip } => {
            put(LINE_END.into(), format!("{}.", capital(tip_place(tip))));
            put(LINE_KIND.into(), format!("{}.", capital(line(approach))));
        }
        Kind::EndotrachealTube { position, .. } => {
            let answer = match position {
                TubePosition::Satisfactory => "Satisfactory.",
                TubePosition::High => "Too high.",
                TubePosition::Low => "Too low.",
                TubePosition::RightMainBronchus => "In the right main bronchus.",
            };
            put(TUBE.into(), answer.into());
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
