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

/// Asks a question whether one finding is there in other words, with the same answer; `None` where it is no such question.
pub fn reword(question: &str, rng: &mut impl Rng) -> Option<String> {
    let text = question.trim().strip_suffix('?')?.to_lowercase();
    let asks = OPENINGS.iter().any(|opening| text.starts_with(opening));
    if !asks || (text.starts_with("can ") && !text.ends_with(" be seen")) {
        return None;
    }
    let reading = read(&text);
    let there = |&place: &usize| place != NO_FINDING && !matches!(reading.labels[place], Label::Blank);
    let mut places = (0..LABELS.len()).filter(there);
    let place = places.next().filter(|_| places.next().is_none())?;
    let sides = reading.sides[place];
    let names = match LABELS[place] {
        "Support Devices" => DEVICES.iter().find(|(word, _)| text.contains(word))?.1,
        "Lung Opacity" if text.contains("hazy") => HAZY,
        _ => NAMES[place].0,
    };
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
    match rng.random_range(0..6) {
        0 => format!("Do you see {with_article}?"),
        1 => format!("Does this patient have {with_article}?"),
        2 => format!("Is {with_article} present?"),
        3 => format!("Any {bare}?"),
        4 => format!("{}?", capital(bare)),
        _ => format!("Is there {with_article}?"),
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
    fn questions_that_are_no_question_of_presence_stay_as_they_are() {
        for question in [
            "On which side is a pleural effusion?",
            "Which devices are seen?",
            "How severe is pulmonary edema?",
            "Is this a normal chest radiograph apart from devices?",
            "Is there a pleural effusion or a pneumothorax?",
            "Is this a PA or an AP view?",
            "Is there anything?",
            "",
        ] {
            assert!(all(question).is_empty(), "{question}: {:?}", all(question));
        }
    }
}
