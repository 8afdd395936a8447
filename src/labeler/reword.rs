//! A question in other words: people ask after a finding by more names than a data set does.

use rand::Rng;
use rand::seq::IndexedRandom;

use super::brief::{DEVICES, NAMES, capital};
use super::{NO_FINDING, Sides, read};
use crate::phantom::{LABELS, Label};

/// How questions begin that are answered by yes where a finding is there.
const OPENINGS: [&str; 4] = ["is there ", "are there ", "does the image show ", "can "];

/// What ends a name that has an article.
const COUNTED: [&str; 17] = [
    "effusion",
    "nodule",
    "lesion",
    "mass",
    "opacity",
    "infiltrate",
    "fracture",
    "rib",
    "heart",
    "silhouette",
    "mediastinum",
    "pneumothorax",
    "tube",
    "line",
    "pacemaker",
    "pacer",
    "catheter",
];

/// Questions of their own about an observation whose side is not asked for.
const OWN: [(&str, &[&str]); 4] = [
    (
        "Cardiomegaly",
        &[
            "Is the heart enlarged?",
            "Is the heart too big?",
            "Is the cardiac silhouette enlarged?",
        ],
    ),
    (
        "Enlarged Cardiomediastinum",
        &["Is the mediastinum widened?", "Is the mediastinum too wide?"],
    ),
    ("Edema", &["Are there signs of congestion?", "Are the lungs congested?"]),
    ("Fracture", &["Are any ribs broken?", "Is a rib broken?"]),
];

/// Names of an opacity that is hazy: a consolidation is an opacity too, and not one of these.
const HAZY: &[&str] = &[
    "hazy opacity",
    "hazy lung opacity",
    "ground-glass opacity",
    "faint opacity",
];

/// Questions about one finding that presuppose it, up to its name, and what else may be asked: `{}` is a bare name.
const PRESUPPOSING: [(&str, &[&str]); 3] = [
    (
        "on which side is ",
        &[
            "On which side is the {}?",
            "Which side is the {} on?",
            "On what side is the {}?",
            "Is the {} on the left or on the right?",
        ],
    ),
    (
        "how severe is ",
        &[
            "How severe is the {}?",
            "How bad is the {}?",
            "What is the severity of the {}?",
            "Is the {} mild, moderate or severe?",
        ],
    ),
    (
        "in which lung zone is ",
        &[
            "In which lung zone is the {}?",
            "Which zone is the {} in?",
            "In which third of the lung is the {}?",
            "Is the {} in the upper, mid or lower zone?",
        ],
    ),
];

/// Questions about no finding in particular.
const GENERAL: [(&str, &[&str]); 6] = [
    (
        "is this a normal chest radiograph apart from devices",
        &[
            "Is the chest normal apart from devices?",
            "Apart from devices, is this normal?",
            "Is this chest X-ray normal apart from lines and tubes?",
        ],
    ),
    (
        "is this a pa or an ap view",
        &["Is this PA or AP?", "Which view is this?", "What is the view position?"],
    ),
    (
        "was the image taken in pa projection",
        &["Is this a PA view?", "Was this taken PA?"],
    ),
    (
        "which abnormalities are seen",
        &[
            "What abnormalities are there?",
            "Which abnormal findings are there?",
            "Are there abnormal findings, and which?",
        ],
    ),
    (
        "which devices are seen",
        &["What devices are there?", "Which lines, tubes and devices are there?"],
    ),
    (
        "how many devices are there",
        &["How many devices do you see?", "What is the number of devices?"],
    ),
];

/// Names of a line of which nothing more is said.
const LINES: &[&str] = &["central venous line", "central line", "central venous catheter"];

/// Names of a nodule or a mass: a nodule alone is asked after by fewer.
const LESIONS: &[&str] = &[
    "lung lesion",
    "nodule or mass",
    "lung nodule or mass",
    "pulmonary nodule or mass",
];

/// Names in questions of data sets that are asked in other words, but not themselves other words.
const ASKED: &[&str] = &["mediastinal widening"];

/// Asks a question of a data set in other words, with the same answer: whether one finding is there, on which side, in which zone, how severe;
/// which view, findings and devices there are. `None` where it knows no others.
pub fn reword(question: &str, rng: &mut impl Rng) -> Option<String> {
    let text = question.trim().strip_suffix('?')?.to_lowercase();
    if let Some((_, others)) = GENERAL.iter().find(|(asked, _)| *asked == text) {
        return others.choose(rng).map(|&text| text.to_owned());
    }
    for (opening, others) in PRESUPPOSING {
        if let Some(name) = text.strip_prefix(opening) {
            let (place, _) = subject(&format!("there is {name}"))
                .filter(|(place, sides)| sides.is_empty() && is_bare(name, *place))?;
            // A name that says where would answer for the image.
            let says = |name: &&&str| !(opening.contains("zone") && name.contains("basal"));
            let names: Vec<_> = names(place, &text)?.iter().filter(says).collect();
            let name = names.choose(rng)?;
            return others.choose(rng).map(|other| other.replace("{}", name));
        }
    }
    let asks = OPENINGS.iter().any(|opening| text.starts_with(opening));
    if !asks || (text.starts_with("can ") && !text.ends_with(" be seen")) {
        return None;
    }
    let (place, sides) = subject(&text).filter(|(place, _)| is_bare(without_frame(&text), *place))?;
    let names = names(place, &text)?;
    let own = OWN
        .iter()
        .find(|(label, _)| *label == LABELS[place] && sides.is_empty());
    if let Some((_, own)) = own.filter(|_| rng.random_bool(0.4)) {
        return own.choose(rng).map(|&text| text.to_owned());
    }
    let name = *names.choose(rng)?;
    Some(match side(sides)? {
        None => about(&with_article(name), name, rng),
        Some(side) if rng.random_bool(0.5) => {
            let name = format!("{side} {name}");
            about(&with_article(&name), &name, rng)
        }
        Some(side) => {
            let sided = |name: &str| format!("{name} on the {side}");
            about(&sided(&with_article(name)), &sided(name), rng)
        }
    })
}

/// The one observation that a text is about, and on which sides.
fn subject(text: &str) -> Option<(usize, Sides)> {
    let reading = read(text);
    let there = |&place: &usize| place != NO_FINDING && !matches!(reading.labels[place], Label::Blank);
    let mut places = (0..LABELS.len()).filter(there);
    let place = places.next().filter(|_| places.next().is_none())?;
    Some((place, reading.sides[place]))
}

/// What a question asks after whether it is there, without its side.
fn without_frame(question: &str) -> &str {
    let named = OPENINGS.iter().find_map(|opening| question.strip_prefix(opening));
    let named = named.unwrap_or(question);
    let named = named.strip_suffix(" be seen").unwrap_or(named);
    let ends = [" on the left", " on the right"].iter();
    ends.fold(named, |named, end| named.strip_suffix(end).unwrap_or(named))
}

/// Whether this is a name and nothing more, such as an amount, a place or a comparison, which other words would leave out.
fn is_bare(named: &str, place: usize) -> bool {
    let articles = ["a ", "an ", "the ", "any "].iter();
    let mut name = articles.fold(named, |name, article| name.strip_prefix(article).unwrap_or(name));
    for side in ["left ", "right "] {
        name = name.strip_prefix(side).unwrap_or(name);
    }
    let devices = DEVICES.iter().flat_map(|(_, names)| names.iter());
    let all = NAMES[place]
        .0
        .iter()
        .chain(HAZY)
        .chain(LINES)
        .chain(LESIONS)
        .chain(ASKED)
        .chain(devices);
    all.into_iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// What else the thing is called that a question asks after.
fn names(place: usize, question: &str) -> Option<&'static [&'static str]> {
    Some(match LABELS[place] {
        "Support Devices" if question.contains("central venous line") => LINES,
        "Support Devices" => DEVICES.iter().find(|(word, _)| question.contains(word))?.1,
        "Lung Lesion" if LESIONS.iter().any(|name| question.contains(name)) => LESIONS,
        "Lung Opacity" if question.contains("hazy") => HAZY,
        _ => NAMES[place].0,
    })
}

/// `left`, `right`, none; nothing for both.
fn side(sides: Sides) -> Option<Option<&'static str>> {
    match (sides.left, sides.right) {
        (true, true) => None,
        (true, false) => Some(Some("left")),
        (false, true) => Some(Some("right")),
        (false, false) => Some(None),
    }
}

/// A whole question about a name with its article, or about the bare name.
fn about(with_article: &str, bare: &str, rng: &mut impl Rng) -> String {
    let (is, there) = match bare.split(' ').any(|word| word == "wires") {
        true => ("Are", "Are there"),
        false => ("Is", "Is there"),
    };
    match rng.random_range(0..6) {
        0 => format!("Do you see {with_article}?"),
        1 => format!("Does this patient have {with_article}?"),
        2 => format!("{is} {with_article} present?"),
        3 => format!("Any {bare}?"),
        4 => format!("{}?", capital(bare)),
        _ => format!("{there} {with_article}?"),
    }
}

fn with_article(name: &str) -> String {
    let counted = COUNTED.iter().any(|end| name.ends_with(end)) || name.starts_with("PICC");
    let vowel = name.starts_with(['a', 'e', 'i', 'o', 'u']) || name.starts_with("ET ");
    match (counted, vowel) {
        (false, _) => name.to_owned(),
        (true, true) => format!("an {name}"),
        (true, false) => format!("a {name}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn all(question: &str) -> BTreeSet<String> {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        (0..400).filter_map(|_| reword(question, &mut rng)).collect()
    }

    #[test]
    fn a_finding_is_asked_after_by_its_other_names_on_the_same_side() {
        let heart = all("Is there cardiomegaly?");
        for one in [
            "Is the heart enlarged?",
            "Any cardiomegaly?",
            "Do you see an enlarged heart?",
            "Big heart?",
        ] {
            assert!(heart.contains(one), "{one}: {heart:?}");
        }
        let effusion = all("Is there a pleural effusion on the left?");
        assert!(effusion.contains("Is there a left pleural effusion?"), "{effusion:?}");
        assert!(
            effusion.contains("Does this patient have an effusion on the left?"),
            "{effusion:?}"
        );
        let lower = || effusion.iter().map(|text| text.to_lowercase());
        assert!(lower().all(|text| text.contains("left") && !text.contains("right")));
        let tube = all("Can an endotracheal tube be seen?");
        assert!(
            tube.contains("Is an ET tube present?") && tube.iter().all(|text| text.contains("tube")),
            "{tube:?}"
        );
    }

    #[test]
    fn a_hazy_opacity_stays_hazy() {
        let hazy = all("Is there a hazy lung opacity on the right?");
        assert!(
            hazy.contains("Is there a ground-glass opacity on the right?"),
            "{hazy:?}"
        );
        let lower = || hazy.iter().map(|text| text.to_lowercase());
        let kept = |text: &String| HAZY.iter().any(|name| text.contains(name));
        assert!(lower().all(|text| kept(&text) && text.contains("right")), "{hazy:?}");
    }

    #[test]
    fn a_nodule_or_mass_stays_both() {
        for question in ["Is there a lung nodule or mass?", "Is there a lung lesion?"] {
            let lesion = all(question);
            let both = |text: &String| text.contains("esion") || text.contains("or mass");
            assert!(lesion.contains("Is there a nodule or mass?"), "{lesion:?}");
            assert!(lesion.iter().all(both), "{lesion:?}");
        }
        assert!(all("Is there a nodule?").contains("Is there a lung nodule?"));
    }

    #[test]
    fn side_zone_and_severity_are_asked_of_the_same_finding() {
        let side = all("On which side is a pneumothorax?");
        assert!(
            side.contains("Is the pneumothorax on the left or on the right?"),
            "{side:?}"
        );
        let zone = all("In which lung zone is a hazy lung opacity?");
        assert!(zone.contains("Which zone is the ground-glass opacity in?"), "{zone:?}");
        assert!(
            zone.iter().all(|text| HAZY.iter().any(|name| text.contains(name))),
            "{zone:?}"
        );
        let zone = all("In which lung zone is atelectasis?");
        assert!(
            !zone.is_empty() && zone.iter().all(|text| !text.contains("basal")),
            "{zone:?}"
        );
        let wires = all("Are there sternal wires?");
        assert!(wires.contains("Are sternal wires present?"), "{wires:?}");
        let severity = all("How severe is pulmonary edema?");
        assert!(severity.contains("How bad is the fluid overload?"), "{severity:?}");
        let line = all("Is there a central venous line on the right?");
        assert!(line.contains("Is there a central line on the right?"), "{line:?}");
    }

    #[test]
    fn a_question_about_the_whole_image_has_other_words_too() {
        assert!(all("Which abnormalities are seen?").contains("What abnormalities are there?"));
        let normal = all("Is this a normal chest radiograph apart from devices?");
        assert!(normal.contains("Apart from devices, is this normal?"), "{normal:?}");
        assert!(
            normal.iter().all(|text| text.to_lowercase().contains("apart from")),
            "{normal:?}"
        );
    }

    #[test]
    fn questions_that_it_has_no_other_words_for_stay_as_they_are() {
        for question in [
            "On which side is a pleural effusion or a pneumothorax?",
            "On which side is it?",
            "On which side is the larger pleural effusion?",
            "How severe is the left pleural effusion?",
            "How severe is the upper lobe consolidation?",
            "On which side is the tip of the pacemaker lead?",
            "Is there a large pleural effusion?",
            "Is there a new pneumothorax?",
            "Which rib is fractured?",
            "Is there a pleural effusion or a pneumothorax?",
            "Is there anything?",
            "",
        ] {
            assert!(all(question).is_empty(), "{question}: {:?}", all(question));
        }
    }
}
