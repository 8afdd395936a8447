//! Heart and mediastinum: not named as findings but described, "the heart is mildly enlarged".

use super::behind::behind;
use super::cues;
use crate::phantom::Label;

/// Which of the two is described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Organ {
    Heart,
    Mediastinum,
}

/// What is said of its size.
const STATES: &[(&str, Label)] = &[
    ("enlarged", Label::Positive),
    ("enlargement", Label::Positive),
    ("widened", Label::Positive),
    ("widening", Label::Positive),
    ("dilated", Label::Positive),
    ("increased", Label::Positive),
    ("large", Label::Positive),
    ("prominent", Label::Uncertain),
    ("prominence", Label::Uncertain),
    ("borderline", Label::Uncertain),
    ("normal", Label::Negative),
    ("unremarkable", Label::Negative),
];

/// A state holds of an organ named at most so many words away.
const REACH: usize = 10;

/// From an organ's name to a `which` that goes on about it: "the cardiac silhouette, which".
const NAME: usize = 3;

/// Nouns of size. Behind `with` they are said of the organ before it: "the heart is stable with mild enlargement".
const NOUNS: &[&str] = &["enlargement", "widening", "prominence"];

/// Verbs by which an organ has had its statement, besides [`cues::VERBS`].
const APPEARS: &[&str] = &["appears", "appear"];

/// Verbs of a statement that goes on about the organ named before it: "which is enlarged", "but appears enlarged".
const GOES_ON: &[&str] = &[
    "is", "are", "was", "were", "has", "have", "appears", "appear", "remains", "remain", "looks", "look", "seems",
    "seem", "may", "might", "likely", "probably",
];

/// What a sentence says of the size of heart and mediastinum.
pub(super) fn states(sentence: &[String]) -> Vec<(Organ, Label)> {
    let mut found = Vec::new();
    // Organs that wait for a state, and a state that waits for an organ ("enlarged heart").
    let mut organs: Vec<(Organ, usize)> = Vec::new();
    let mut waiting: Option<(Label, usize)> = None;
    for (at, word) in sentence.iter().enumerate() {
        let same = goes_on(sentence, at);
        if ["but", "however", "although", "while", "there", "which"].contains(&word.as_str()) {
            organs.retain(|&(_, from)| same && (word != "which" || at - from <= NAME));
            waiting = None;
        }
        let clause = [",", "and"].contains(&word.as_str()) && cues::clause(sentence, at);
        // "The aorta is dilated and the heart is normal": the state was another's.
        if word == "with" || clause {
            waiting = None;
        }
        // "The heart size is stable and the lungs are normal": so is the next one where the organ has had its verb.
        if (clause && !same) || (word == "with" && !of_size(sentence, at)) {
            organs.retain(|&(_, from)| at - from <= REACH && !told(&sentence[from..at]));
        }
        // "Enlarged hilar nodes, heart size stable": so was it where no organ stands before the comma.
        let stale = |from: usize| at - from > REACH || (from..at).all(|i| organ(sentence, i).is_none());
        if word == "," && waiting.is_some_and(|(_, from)| stale(from)) {
            waiting = None;
        }
        if let Some(organ) = organ(sentence, at) {
            match waiting {
                Some((label, from)) if at - from <= REACH => found.push((organ, said_on(sentence, at, label))),
                _ => organs.push((organ, at)),
            }
            continue;
        }
        let Some(&(_, label)) = STATES.iter().find(|(state, _)| state == word) else {
            continue;
        };
        // "The previously enlarged heart", "larger than normal": not of this heart, or no state of it.
        // In "other than an enlarged heart" it is of this one.
        let previous = at.checked_sub(1).map_or("", |p| sentence[p].as_str());
        let excepted = at.checked_sub(2).is_some_and(|p| cues::excepts(sentence, p));
        if ["previously", "formerly", "than"].contains(&previous) && !excepted {
            continue;
        }
        // "A large effusion" and "increased markings" are not of the heart's size, but "increased heart size" is.
        let before = word == "increased" && heart_size(&sentence[at + 1..]);
        if of_others(word) && !predicate(sentence, at) && !before {
            continue;
        }
        organs.retain(|&(_, from)| at - from <= REACH);
        let first = organs.first().map_or(at, |o| o.1);
        let label = match (label, denied(sentence, first, at)) {
            (Label::Positive | Label::Uncertain, true) => Label::Negative,
            // "not normal" says too little.
            (Label::Negative, true) => continue,
            (Label::Positive, false) if unsure(sentence, at) => Label::Uncertain,
            (label, false) => label,
            (Label::Blank, true) => continue,
        };
        if organs.is_empty() {
            waiting = (before || !of_others(word)).then_some((label, at));
            continue;
        }
        let label = match NOUNS.contains(&word.as_str()) {
            true => said_on(sentence, at, label),
            false => label,
        };
        found.extend(organs.drain(..).map(|(organ, _)| (organ, label)));
        waiting = None;
    }
    found
}

/// Whether a statement that begins at word `at` has no subject of its own.
fn goes_on(sentence: &[String], at: usize) -> bool {
    let next = sentence.get(at + 1);
    sentence[at] != "there" && next.is_some_and(|w| GOES_ON.contains(&w.as_str()))
}

/// Whether a verb stands among the words behind an organ: what it is like has been said.
fn told(words: &[String]) -> bool {
    let verb = |w: &str| cues::VERBS.contains(&w) || APPEARS.contains(&w);
    words.iter().any(|w| verb(w.as_str()))
}

/// Whether the `with` at word `at` goes on with the size of the organ before it.
fn of_size(sentence: &[String], at: usize) -> bool {
    let mut near = sentence[at + 1..].iter().take(3);
    near.any(|w| NOUNS.contains(&w.as_str()))
}

fn heart_size(words: &[String]) -> bool {
    matches!(words, [heart, size, ..] if ["heart", "cardiac"].contains(&heart.as_str()) && size == "size")
}

/// Words that are more often said of something else.
fn of_others(state: &str) -> bool {
    ["increased", "large"].contains(&state)
}

/// Whether the word `at` is what a verb says of something, as in "the heart is mildly large".
fn predicate(sentence: &[String], at: usize) -> bool {
    let verb = |w: &String| ["is", "appears", "remains", "was", "not"].contains(&w.as_str());
    let ends = |w: &String| [",", "and", "but", "in", "for", "with"].contains(&w.as_str());
    sentence[at.saturating_sub(2)..at].iter().any(verb) && sentence.get(at + 1).is_none_or(ends)
}

/// A state as the verb behind word `at` has it: "widening of the mediastinum is not seen".
fn said_on(sentence: &[String], at: usize, label: Label) -> Label {
    let end = sentence[at..].iter().position(|w| [",", "and"].contains(&w.as_str()));
    let clause = &sentence[..end.map_or(sentence.len(), |end| at + end)];
    match label {
        Label::Positive | Label::Uncertain => behind(clause, at + 1).unwrap_or(label),
        label => label,
    }
}

fn organ(sentence: &[String], at: usize) -> Option<Organ> {
    let next = sentence.get(at + 1).map_or("", String::as_str);
    let previous = at.checked_sub(1).map_or("", |p| sentence[p].as_str());
    match sentence[at].as_str() {
        "heart" => {
            let other = [
                "border", "borders", "failure", "valve", "valves", "rate", "disease", "base", "surgery",
            ];
            (!other.contains(&next) && !["right", "left"].contains(&previous)).then_some(Organ::Heart)
        }
        "cardiac" => {
            let size = ["silhouette", "size", "contour", "contours", "shadow", "enlargement"];
            // "The cardiac and mediastinal silhouettes".
            let joined = || {
                let mut near = sentence[at + 1..].iter().take(4).map(String::as_str);
                let with = ["mediastinal", "hilar", "contours", "silhouettes"];
                ["and", ","].contains(&next) && near.any(|w| with.contains(&w))
            };
            (size.contains(&next) || joined()).then_some(Organ::Heart)
        }
        "mediastinum" | "cardiomediastinum" | "mediastinal" | "cardiomediastinal" => {
            let other = [
                "shift",
                "lymph",
                "node",
                "nodes",
                "vessels",
                "wires",
                "drains",
                "tube",
                "tubes",
                "mass",
                "lymphadenopathy",
                "adenopathy",
                "drain",
                "fat",
                "clips",
            ];
            (!other.contains(&next)).then_some(Organ::Mediastinum)
        }
        _ => None,
    }
}

/// Whether a state at word `at` is denied: a `not` shortly before it, or a `no` before the organ it is said of.
fn denied(sentence: &[String], first: usize, at: usize) -> bool {
    let near = |end: usize, words: usize, cues: &[&str]| {
        let stretch = (end.saturating_sub(words)..end).rev();
        let mut stretch = stretch.take_while(|&i| {
            !["and", ",", "with", "but"].contains(&sentence[i].as_str()) && !cues::excepts(sentence, i)
        });
        // "No change in the enlarged heart" leaves it enlarged.
        stretch.any(|i| cues.contains(&sentence[i].as_str()) && !no_change(sentence, i, end))
    };
    near(at, 4, &["not", "no", "without", "nor"]) || near(first, 3, &["no", "without"])
}

/// Whether the `no` at word `i` is of a change.
fn no_change(sentence: &[String], i: usize, end: usize) -> bool {
    sentence[i] != "not" && cues::of_change(sentence, i + 1, end)
}

fn unsure(sentence: &[String], at: usize) -> bool {
    let stretch = &sentence[at.saturating_sub(4)..at];
    let cues = [
        "may",
        "might",
        "possibly",
        "possible",
        "borderline",
        "questionably",
        "could",
        "perhaps",
    ];
    stretch.iter().any(|w| cues.contains(&w.as_str()))
}
