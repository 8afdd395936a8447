//! A report in few words: what somebody would type who wants such an image drawn.

use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};

use super::{NO_FINDING, Reading, SUPPORT_DEVICES, Sides, read};
use crate::phantom::{LABELS, Label};

/// Common names of each observation, in the order of [`LABELS`], and whether one says on which side it is.
pub(super) const NAMES: [(&[&str], bool); 14] = [
    (&["atelectasis", "basal atelectasis", "partial collapse"], true),
    (
        &[
            "cardiomegaly",
            "enlarged heart",
            "big heart",
            "enlarged cardiac silhouette",
        ],
        false,
    ),
    (
        &["consolidation", "airspace consolidation", "lobar consolidation"],
        true,
    ),
    (
        &[
            "pulmonary edema",
            "pulmonary oedema",
            "edema",
            "vascular congestion",
            "fluid overload",
        ],
        false,
    ),
    (
        &["widened mediastinum", "mediastinal widening", "enlarged mediastinum"],
        false,
    ),
    (&["rib fracture", "broken rib", "fractured rib"], true),
    (&["lung nodule", "nodule", "pulmonary nodule", "lung lesion"], true),
    (&["opacity", "lung opacity", "hazy opacity", "infiltrate"], true),
    (&[], false),
    (&["pleural effusion", "effusion", "pleural fluid"], true),
    (&["pleural thickening"], true),
    (&["pneumonia", "lung infection"], true),
    (&["pneumothorax", "air in the pleural space"], true),
    (&["support device"], true),
];

const ATELECTASIS: usize = 0;
const CONSOLIDATION: usize = 2;
const FRACTURE: usize = 5;
const LUNG_LESION: usize = 6;
const LUNG_OPACITY: usize = 7;
const PNEUMONIA: usize = 11;

/// What lies in a third of a lung; an apical pneumothorax is in no lobe.
const IN_LUNG: [usize; 5] = [ATELECTASIS, CONSOLIDATION, LUNG_LESION, LUNG_OPACITY, PNEUMONIA];

/// Words that name a third of the lung, and how it is called in a request.
const ZONES: [(&str, &str); 5] = [
    ("upper", "upper"),
    ("mid", "middle"),
    ("middle", "middle"),
    ("lower", "lower"),
    ("apical", "upper"),
];

/// Words for how much there is of a finding.
const AMOUNTS: [&str; 9] = [
    "tiny",
    "small",
    "minimal",
    "mild",
    "moderate",
    "large",
    "severe",
    "marked",
    "extensive",
];

/// Words that tell devices apart, and their names.
pub(super) const DEVICES: [(&str, &[&str]); 6] = [
    ("pacemaker", &["pacemaker", "pacer"]),
    ("picc", &["PICC", "PICC line"]),
    ("jugular", &["jugular line", "central line", "central venous catheter"]),
    (
        "subclavian",
        &["subclavian line", "central line", "central venous catheter"],
    ),
    ("stern", &["sternal wires", "sternotomy wires", "median sternotomy"]),
    ("endotracheal", &["endotracheal tube", "ET tube", "breathing tube"]),
];

/// Requests for a chest without findings.
pub(super) const NORMAL: [&str; 10] = [
    "normal chest X-ray",
    "normal chest",
    "a healthy chest",
    "clear lungs, normal heart",
    "no acute findings",
    "no abnormality",
    "unremarkable chest radiograph",
    "no finding",
    "normal",
    "clear lungs",
];

/// What of a finding the sentences say.
#[derive(Default)]
struct Finding {
    sides: Sides,
    zone: Option<&'static str>,
    amount: Option<&'static str>,
    names: Vec<&'static str>,
}

/// Asks in few words for every observation that a report affirms or suspects: by some of its own sentences, or by common names with side, zone
/// and amount, in any order. Where there is none it says that the chest is normal if the labeler reads `No Finding`; of other reports, such as
/// those of emphysema alone, it is the whole text.
///
/// What a report denies is left out, and so may be details of what it affirms, and what is wrong beside the observations.
pub fn brief(report: &str, rng: &mut impl Rng) -> String {
    let sentences: Vec<Said<'_>> = sentences(report).into_iter().map(Said::by).collect();
    let whole = Said::by(report);
    let mut text = match rng.random_bool(0.4) && !whole.affirmed.is_empty() {
        true => own_sentences(&sentences, whole.affirmed, rng).join(" "),
        false => names(&whole, &sentences, rng),
    };
    if rng.random_bool(0.3) {
        text = text.to_lowercase();
    }
    if rng.random_bool(0.3) {
        text = text.trim_end_matches('.').to_owned();
    }
    text
}

/// A report's sentences as they stand; a point within a number ends none.
fn sentences(report: &str) -> Vec<&str> {
    let mut rest = report;
    let mut found = Vec::new();
    while let Some(end) = rest.find(". ") {
        found.push(rest[..=end].trim());
        rest = &rest[end + 2..];
    }
    found.push(rest.trim());
    found.retain(|sentence| !sentence.is_empty());
    found
}

/// A text, read once.
struct Said<'a> {
    text: &'a str,
    /// Places of what it affirms or suspects; that nothing was found is not among them.
    affirmed: Vec<usize>,
    /// Whether it says that nothing was found, and affirms no device.
    normal: bool,
    sides: [Sides; 14],
}

impl<'a> Said<'a> {
    fn by(text: &'a str) -> Self {
        let Reading { labels, sides } = read(text);
        let there = |&place: &usize| place != NO_FINDING && matches!(labels[place], Label::Positive | Label::Uncertain);
        let affirmed: Vec<usize> = (0..LABELS.len()).filter(there).collect();
        Self {
            text,
            normal: affirmed.is_empty() && labels[NO_FINDING] == Label::Positive,
            affirmed,
            sides,
        }
    }
}

/// Sentences in random order that affirm all of it; a device's sentence is never left out, since one label stands for many devices.
fn own_sentences<'a>(sentences: &[Said<'a>], mut wanted: Vec<usize>, rng: &mut impl Rng) -> Vec<&'a str> {
    let mut order: Vec<&Said<'a>> = sentences.iter().collect();
    order.shuffle(rng);
    order.retain(|sentence| {
        let new = sentence.affirmed.iter().any(|place| wanted.contains(place));
        wanted.retain(|place| *place == SUPPORT_DEVICES || !sentence.affirmed.contains(place));
        new
    });
    order.into_iter().map(|sentence| sentence.text).collect()
}

/// What is affirmed, by common names.
fn names(whole: &Said<'_>, sentences: &[Said<'_>], rng: &mut impl Rng) -> String {
    let mut findings: Vec<Finding> = Vec::new();
    for &place in &whole.affirmed {
        if place == SUPPORT_DEVICES {
            findings.extend(devices(sentences));
        } else if place != CONSOLIDATION || !whole.affirmed.contains(&PNEUMONIA) || rng.random_bool(0.5) {
            findings.push(finding(place, whole, sentences));
        }
    }
    if findings.is_empty() && !whole.normal {
        return whole.text.trim().to_owned();
    }
    if findings.is_empty() {
        let text = *NORMAL.choose(rng).unwrap_or(&"normal");
        return finished(text.to_owned(), rng);
    }
    findings.shuffle(rng);
    let parts: Vec<String> = findings.iter().map(|one| one.worded(rng)).collect();
    let text = match (parts.as_slice(), rng.random_range(0..3)) {
        ([first @ .., last], 0) if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        (parts, 1) => parts.iter().map(|part| capital(part)).collect::<Vec<_>>().join(". "),
        (parts, _) => parts.join(", "),
    };
    let lead = *["", "", "", "chest X-ray with ", "X-ray showing ", "patient with "]
        .choose(rng)
        .unwrap_or(&"");
    finished(format!("{lead}{text}"), rng)
}

fn finished(text: String, rng: &mut impl Rng) -> String {
    match rng.random_bool(0.6) {
        true => format!("{}.", capital(&text)),
        false => text,
    }
}

/// An observation with what the sentences that affirm it say of it.
fn finding(place: usize, whole: &Said<'_>, sentences: &[Said<'_>]) -> Finding {
    let (names, sided) = NAMES[place];
    let mut found = Finding {
        names: names.to_vec(),
        ..Finding::default()
    };
    if place == LUNG_LESION && whole.text.contains("mass") && !whole.text.contains("nodule ") {
        found.names = vec!["lung mass", "mass", "pulmonary mass"];
    }
    let affirming = || sentences.iter().filter(|sentence| sentence.affirmed.contains(&place));
    // Of a clavicle it is not a rib's.
    if place == FRACTURE && !affirming().any(|sentence| sentence.text.to_lowercase().contains("rib")) {
        found.names = vec!["fracture"];
    }
    if sided {
        found.sides = whole.sides[place];
    }
    for sentence in affirming() {
        // Of several findings it is not told whose zone and amount a sentence names.
        if sentence.affirmed.len() > 1 {
            continue;
        }
        let words = words(sentence.text);
        if IN_LUNG.contains(&place) {
            found.zone = found.zone.or_else(|| zone(&words));
        }
        let amount = AMOUNTS.into_iter().find(|amount| words.iter().any(|w| w == amount));
        found.amount = found.amount.or(amount);
    }
    // Two places cannot be told in one breath.
    if found.sides.left && found.sides.right {
        (found.zone, found.amount) = (None, None);
    }
    found
}

/// The third of the lung that a sentence names, if it names one alone.
fn zone(words: &[String]) -> Option<&'static str> {
    let named = |(word, _): &&(&str, &str)| words.iter().any(|w| w == word);
    let mut zones = ZONES.iter().filter(named).map(|(_, zone)| *zone);
    let first = zones.next()?;
    zones.all(|zone| zone == first).then_some(first)
}

/// The devices that are affirmed somewhere. Those of sentences that name none of [`DEVICES`] are one, by a name that fits all.
fn devices(sentences: &[Said<'_>]) -> Vec<Finding> {
    let mut found: Vec<(&str, Finding)> = Vec::new();
    for sentence in sentences.iter().filter(|s| s.affirmed.contains(&SUPPORT_DEVICES)) {
        let (text, sides) = (sentence.text.to_lowercase(), sentence.sides[SUPPORT_DEVICES]);
        let mut named = DEVICES.to_vec();
        named.retain(|(word, _)| names_device(&text, word));
        if named.is_empty() {
            named.push(("", NAMES[SUPPORT_DEVICES].0));
        }
        for (word, names) in named {
            if !found.iter().any(|(known, _)| *known == word) {
                let names = names.to_vec();
                found.push((
                    word,
                    Finding {
                        sides,
                        names,
                        ..Finding::default()
                    },
                ));
            }
        }
    }
    found.into_iter().map(|(_, finding)| finding).collect()
}

/// Whether a sentence in lower case names the device of this word in [`DEVICES`]; an endotracheal tube may be an ET tube.
fn names_device(text: &str, word: &str) -> bool {
    let short = || words(text).windows(2).any(|two| two[0] == "et" && two[1] == "tube");
    text.contains(word) || (word == "endotracheal" && short())
}

fn words(sentence: &str) -> Vec<String> {
    sentence
        .split(|c: char| !c.is_alphanumeric())
        .map(str::to_lowercase)
        .collect()
}

impl Finding {
    /// As `small left pleural effusion` or `pneumonia in the right lower lobe`.
    fn worded(&self, rng: &mut impl Rng) -> String {
        let name = *self.names.choose(rng).unwrap_or(&"");
        let amount = match self.amount.filter(|_| rng.random_bool(0.5)) {
            Some(amount) => format!("{amount} "),
            None => String::new(),
        };
        let side = match (self.sides.left, self.sides.right) {
            (true, true) => {
                return match rng.random_bool(0.5) {
                    true => format!("{amount}bilateral {name}"),
                    false => format!("{amount}{name} on both sides"),
                };
            }
            (true, false) => "left",
            (false, true) => "right",
            (false, false) => return format!("{amount}{name}"),
        };
        match self.zone.filter(|_| rng.random_bool(0.5)) {
            Some(zone) => {
                // The left lung has no middle lobe.
                let parts: &[&str] = match (side, zone) {
                    ("left", "middle") => &["lung", "zone"],
                    _ => &["lobe", "lung", "zone"],
                };
                let part = *parts.choose(rng).unwrap_or(&"lung");
                match rng.random_bool(0.5) && !name.starts_with("lung") {
                    true => format!("{amount}{side} {zone} {part} {name}"),
                    false => format!("{amount}{name} in the {side} {zone} {part}"),
                }
            }
            None => match rng.random_range(0..4) {
                0 => format!("{amount}{name} on the {side}"),
                1 => format!("{amount}{side}-sided {name}"),
                _ => format!("{amount}{side} {name}"),
            },
        }
    }
}

pub(super) fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::phantom::Phantom;

    #[test]
    fn few_words_affirm_what_the_report_affirms_on_the_same_side() {
        let phantom = Phantom::new(11, 64).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let (mut shorter, mut of) = (0, 0);
        for index in 0..60 {
            let report = phantom.study(index).report;
            let report = format!("{} {}", report.findings, report.impression);
            let whole = read(&report);
            for _ in 0..20 {
                let text = brief(&report, &mut rng);
                let said = read(&text);
                for (place, name) in LABELS.iter().enumerate() {
                    // Pneumonia may stand for the consolidation that it is.
                    let others = ["pneumonia", "infection", "pacer"];
                    if others.iter().any(|word| text.to_lowercase().contains(word)) || place == NO_FINDING {
                        continue;
                    }
                    let there = |label| matches!(label, Label::Positive | Label::Uncertain);
                    assert_eq!(
                        there(said.labels[place]),
                        there(whole.labels[place]),
                        "{name}: {text} / {report}"
                    );
                    // Whose side is named between two devices is a matter of taste.
                    if place == SUPPORT_DEVICES {
                        continue;
                    }
                    let (some, all) = (said.sides[place], whole.sides[place]);
                    assert!(
                        (!some.left || all.left) && (!some.right || all.right),
                        "{text} / {report}"
                    );
                }
                of += 1;
                shorter += usize::from(text.len() * 2 < report.len());
            }
        }
        assert!(shorter * 10 > of * 7, "{shorter} of {of}");
    }

    #[test]
    fn side_and_third_of_a_finding_are_kept_together() {
        let report = "There is a small focal consolidation in the right lower zone. The heart is not enlarged.";
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let texts: Vec<String> = (0..200).map(|_| brief(report, &mut rng).to_lowercase()).collect();
        assert!(texts.iter().any(|text| text.contains("right lower lobe")));
        assert!(
            texts
                .iter()
                .all(|text| !text.contains("left") && !text.contains("upper") && !text.contains("heart"))
        );
    }

    #[test]
    fn a_third_of_the_lung_is_named_only_where_it_is_surely_the_findings() {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let mut texts = |report: &str| -> Vec<String> {
            let texts = (0..300).map(|_| brief(report, &mut rng).to_lowercase());
            // Its own sentences say what they say.
            texts.filter(|text| !text.contains(" is ")).collect()
        };
        let left = texts("There is a nodule in the left mid lung.");
        assert!(left.iter().any(|text| text.contains("left middle zone")));
        assert!(left.iter().all(|text| !text.contains("middle lobe")), "{left:?}");
        let right = texts("There is a nodule in the right mid lung.");
        assert!(right.iter().any(|text| text.contains("right middle lobe")));
        let pleural = texts(
            "There is an apical pneumothorax on the right. Pleural thickening is seen at the left upper chest wall.",
        );
        assert!(pleural.iter().any(|text| text.contains("right pneumothorax")));
        assert!(pleural.iter().all(|text| !text.contains("upper")), "{pleural:?}");
        let two = texts("There is a nodule in the right upper lobe and consolidation in the right lower lobe.");
        let zoned = |text: &String| text.contains("upper") || text.contains("lower");
        assert!(!two.is_empty() && !two.iter().any(zoned), "{two:?}");
    }
}
