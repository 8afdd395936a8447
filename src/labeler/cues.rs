//! Whether a mention is affirmed, denied, left open, or no statement on this image at all.

use super::phrases::Mention;
use crate::phantom::Label;

/// Phrases before a mention, the longest first where one ends as another. `None`: what follows is not a statement on this image.
const BEFORE: &[(&str, Option<Label>)] = &[
    ("cannot exclude", Some(Label::Uncertain)),
    ("can not exclude", Some(Label::Uncertain)),
    ("cannot rule out", Some(Label::Uncertain)),
    ("not exclude", Some(Label::Uncertain)),
    ("difficult to exclude", Some(Label::Uncertain)),
    ("rule out", None),
    ("ruling out", None),
    ("r o", None),
    ("evaluate for", None),
    ("evaluation for", None),
    ("assess for", None),
    ("history of", None),
    ("h o", None),
    ("not only", Some(Label::Positive)),
    ("no change", Some(Label::Positive)),
    ("removal of", Some(Label::Negative)),
    ("resolution of", Some(Label::Negative)),
    ("clearing of", Some(Label::Negative)),
    ("negative for", Some(Label::Negative)),
    ("free of", Some(Label::Negative)),
    ("clear of", Some(Label::Negative)),
    ("absence of", Some(Label::Negative)),
    ("resolved", Some(Label::Negative)),
    ("no", Some(Label::Negative)),
    ("not", Some(Label::Negative)),
    ("without", Some(Label::Negative)),
    ("nor", Some(Label::Negative)),
    ("neither", Some(Label::Negative)),
    ("denies", Some(Label::Negative)),
    ("may", Some(Label::Uncertain)),
    ("might", Some(Label::Uncertain)),
    ("could", Some(Label::Uncertain)),
    ("possible", Some(Label::Uncertain)),
    ("possibly", Some(Label::Uncertain)),
    ("possibility of", Some(Label::Uncertain)),
    ("questionable", Some(Label::Uncertain)),
    ("question of", Some(Label::Uncertain)),
    ("equivocal", Some(Label::Uncertain)),
    ("suspected", Some(Label::Uncertain)),
    ("suspicious for", Some(Label::Uncertain)),
    ("suspicion of", Some(Label::Uncertain)),
    ("suspicion for", Some(Label::Uncertain)),
    ("concerning for", Some(Label::Uncertain)),
    ("concern for", Some(Label::Uncertain)),
    ("suggest", Some(Label::Uncertain)),
    ("suggests", Some(Label::Uncertain)),
    ("suggesting", Some(Label::Uncertain)),
    ("suggestive of", Some(Label::Uncertain)),
    ("versus", Some(Label::Uncertain)),
    ("vs", Some(Label::Uncertain)),
    ("borderline", Some(Label::Uncertain)),
    ("potentially", Some(Label::Uncertain)),
    ("perhaps", Some(Label::Uncertain)),
];

/// What a verb behind a mention may go on with.
const BEHIND: &[(&str, Label)] = &[
    ("not excluded", Label::Uncertain),
    ("not be excluded", Label::Uncertain),
    ("not entirely excluded", Label::Uncertain),
    ("not be entirely excluded", Label::Uncertain),
    ("be excluded", Label::Uncertain),
    ("be entirely excluded", Label::Uncertain),
    ("be ruled out", Label::Uncertain),
    ("difficult to exclude", Label::Uncertain),
    ("possible", Label::Uncertain),
    ("suspected", Label::Uncertain),
    ("questioned", Label::Uncertain),
    ("questionable", Label::Uncertain),
    ("suggested", Label::Uncertain),
    ("be present", Label::Uncertain),
    ("be considered", Label::Uncertain),
    ("not", Label::Negative),
    ("no longer", Label::Negative),
    ("absent", Label::Negative),
    ("excluded", Label::Negative),
    ("ruled out", Label::Negative),
    ("resolved", Label::Negative),
    ("been removed", Label::Negative),
    ("removed", Label::Negative),
    ("cleared", Label::Negative),
];

/// Verbs that say something of what stands before them.
const VERBS: &[&str] = &[
    "is", "are", "was", "were", "has", "have", "had", "cannot", "can", "could", "may", "might", "remains", "remain",
];

/// Words that begin a new statement.
const TURNS: &[&str] = &[
    "but", "however", "although", "though", "except", "aside", "apart", "while", "whereas", "yet", "which", "there",
];

/// A comma or `and` before one of these begins a new statement, unless an `or` shows that a list goes on.
const OPENERS: &[&str] = &[
    "a",
    "an",
    "there",
    "small",
    "mild",
    "moderate",
    "moderately",
    "mildly",
    "large",
    "severe",
    "minimal",
    "tiny",
    "trace",
    "bilateral",
    "left",
    "right",
    "stable",
    "unchanged",
    "new",
    "persistent",
    "increased",
    "increasing",
    "worsening",
    "marked",
    "with",
    "the",
    "these",
    "this",
    "heart",
    "lungs",
    "lung",
    "mediastinum",
    "extensive",
    "faint",
    "dense",
    "low",
    "patchy",
];

/// After these, `with` binds; elsewhere it begins a new statement.
const BINDS_WITH: &[&str] = &[
    "consistent",
    "compatible",
    "keeping",
    "associated",
    "correlation",
    "line",
];

/// What follows `no` when the denial is of a change and not of the finding.
const CHANGE: &[&str] = &[
    "change",
    "changes",
    "changed",
    "increase",
    "decrease",
    "progression",
    "improvement",
    "worsening",
];

/// What the sentence says of the mention; `None` if it says nothing of this image.
pub(super) fn judge(sentence: &[String], mention: &Mention) -> Option<Label> {
    if let Some(said) = behind(sentence, mention.end) {
        return Some(said);
    }
    before(sentence, mention.start)
}

/// Whether a new statement begins at word `at`.
fn turns(sentence: &[String], at: usize) -> bool {
    let word = sentence[at].as_str();
    let next = sentence.get(at + 1).map_or("", String::as_str);
    let previous = at.checked_sub(1).map_or("", |p| sentence[p].as_str());
    match word {
        "with" => !BINDS_WITH.contains(&previous),
        "," | "and" if OPENERS.contains(&next) => {
            let rest = sentence[at + 1..].iter().take_while(|w| !TURNS.contains(&w.as_str()));
            !rest.clone().any(|w| w == "or" || w == "nor")
        }
        _ => TURNS.contains(&word),
    }
}

/// The nearest cue before word `start`, back to where the statement begins.
fn before(sentence: &[String], start: usize) -> Option<Label> {
    let mut end = start;
    while end > 0 {
        let at = end - 1;
        if turns(sentence, at) {
            break;
        }
        // A cue may stand anywhere before the mention, so each word is tried as the end of one.
        let cue = BEFORE.iter().find(|(text, _)| ends_with(&sentence[..end], text));
        if let Some((_, said)) = cue {
            if *said == Some(Label::Negative) && of_change(sentence, end, start) {
                return Some(Label::Positive);
            }
            return *said;
        }
        end = at;
    }
    // A question asks.
    match sentence.last().is_some_and(|w| w == "?") {
        true => Some(Label::Uncertain),
        false => Some(Label::Positive),
    }
}

/// Whether a `no` that ends at word `end` denies a change and not the finding at `start`.
fn of_change(sentence: &[String], end: usize, start: usize) -> bool {
    let words = sentence.get(end..start).unwrap_or_default();
    words.iter().take(4).any(|w| CHANGE.contains(&w.as_str()))
}

/// What the first verb behind a mention says of it.
fn behind(sentence: &[String], end: usize) -> Option<Label> {
    let rest = sentence.get(end..)?;
    let stop = |w: &String| TURNS.contains(&w.as_str());
    let verb = rest
        .iter()
        .take_while(|w| !stop(w) && *w != "with")
        .position(|w| VERBS.contains(&w.as_str()))?;
    // A list may stand between a mention and its verb: "effusion, pneumothorax or edema is not seen".
    let tail: Vec<&String> = rest[verb + 1..]
        .iter()
        .take_while(|w| !stop(w) && *w != "," && *w != "and")
        .take(5)
        .collect();
    let cue = BEHIND.iter().find(|(text, _)| {
        let words: Vec<&str> = text.split(' ').collect();
        (0..2).any(|skip| {
            let here = tail.get(skip..skip + words.len());
            here.is_some_and(|here| here.iter().zip(&words).all(|(a, b)| a.as_str() == *b))
        })
    })?;
    let changed = tail
        .iter()
        .any(|w| CHANGE.contains(&w.as_str()) || *w == "enlarged" || *w == "widened");
    (!(cue.1 == Label::Negative && changed)).then_some(cue.1)
}

fn ends_with(words: &[String], cue: &str) -> bool {
    let cue: Vec<&str> = cue.split(' ').collect();
    words.len() >= cue.len() && words[words.len() - cue.len()..].iter().zip(&cue).all(|(a, b)| a == b)
}
