//! Whether a mention is affirmed, denied, left open, or no statement on this image at all.

use super::cue_phrases::{self, CueBefore};
use super::phrases::Mention;
use crate::phantom::Label;

/// A cue so many words before a mention, or a word so far behind a comma, is of something else. Sentences are shorter; what a model writes
/// without an end need not be.
const REACH: usize = 64;

/// Doubts that only tell what something else would mean: where that is denied, so is what it would mean.
const EVIDENCE: &[&str] = &[
    "suspicious for",
    "suspicion of",
    "suspicion for",
    "concerning for",
    "concern for",
    "suggest",
    "suggesting",
    "suggestive of",
];

/// An end of the finding, which may itself be denied or be only half of one.
const GOING: &[&str] = &["removal of", "resolution of", "clearing of", "resolved"];

/// Before one of [`GOING`]: the finding is still there.
const HALF: &[&str] = &[
    "no",
    "not",
    "without",
    "partial",
    "partially",
    "incomplete",
    "incompletely",
];

/// What stands for the whole answer behind a heading: "Pneumothorax: none."
const ANSWERS: &[&str] = &["none", "absent", "negative"];

/// Headings of why the image was taken and of earlier ones.
const REQUESTS: &[&str] = &[
    "reason for exam",
    "reason for examination",
    "reason for this exam",
    "reason for this examination",
    "reason for study",
    "indication",
    "indications",
    "history",
    "clinical history",
    "clinical information",
    "clinical indication",
    "comparison",
];

/// What may follow a mention without a verb.
const AT_ONCE: &[(&str, Label)] = &[
    ("unlikely", Label::Uncertain),
    ("removed", Label::Negative),
    ("resolved", Label::Negative),
    ("absent", Label::Negative),
];

/// Verbs that say something of what stands before them.
const VERBS: &[&str] = &[
    "is", "are", "was", "were", "has", "have", "had", "cannot", "can", "could", "may", "might", "should", "remains",
    "remain",
];

/// Verbs with which a statement is whole.
const WHOLE: &[&str] = &["appears", "appear", "persists", "persist"];

/// That something was looked for, which is said of all that a list names.
const FOUND: &[&str] = &[
    "seen",
    "noted",
    "identified",
    "present",
    "evident",
    "visible",
    "visualized",
    "visualised",
    "detected",
    "demonstrated",
    "appreciated",
    "apparent",
    "observed",
    "found",
    "shown",
    "assessed",
    "evaluated",
    "delineated",
    "defined",
];

/// Why something was not to be seen stands behind these.
const CAUSES: &[&str] = &["due", "because", "secondary", "by"];

/// Words that begin a new statement.
pub(super) const TURNS: &[&str] = &[
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
    "bibasilar",
    "bibasal",
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

/// What follows `not` when the finding is still there.
const CHANGED: &[&str] = &[
    "enlarged",
    "widened",
    "increased",
    "decreased",
    "progressed",
    "improved",
    "worsened",
    "larger",
    "smaller",
    "resolved",
    "cleared",
    "removed",
];

/// Whether a sentence tells why the image was taken, or what it is compared with. Another heading in it may lead on to the findings.
pub(super) fn is_request(sentence: &[String]) -> bool {
    let mut parts = sentence.split(|word| word == ":");
    let heading = parts.next().unwrap_or_default().join(" ");
    REQUESTS.contains(&heading.as_str()) && parts.count() == 1
}

/// What the sentence says of the mention at `index`; `None` if it says nothing of this image.
pub(super) fn judge(sentence: &[String], mentions: &[Mention], index: usize) -> Option<Label> {
    let mention = mentions.get(index)?;
    if let Some(said) = behind(sentence, mention.end) {
        return Some(said);
    }
    // A question asks.
    let asked = sentence.last().is_some_and(|w| w == "?");
    let bare = match asked || alternative(sentence, mentions, index) {
        true => Label::Uncertain,
        false => Label::Positive,
    };
    before(sentence, mention.start, bare)
}

/// Whether a mention is one of two between which the report leaves it: "atelectasis or pneumonia", "atelectasis vs. scarring".
fn alternative(sentence: &[String], mentions: &[Mention], index: usize) -> bool {
    let word = |at: usize| sentence.get(at).map_or("", String::as_str);
    let either = |a: &Mention, b: &Mention| word(a.end) == "or" && b.start <= a.end + 2 && a.labels != b.labels;
    let mut pairs = mentions.windows(2).enumerate();
    ["vs", "versus"].contains(&word(mentions[index].end))
        || pairs.any(|(first, pair)| (first == index || first + 1 == index) && either(&pair[0], &pair[1]))
}

/// Whether a new statement begins at word `at`.
fn turns(sentence: &[String], at: usize) -> bool {
    let word = sentence[at].as_str();
    let next = sentence.get(at + 1).map_or("", String::as_str);
    let previous = at.checked_sub(1).map_or("", |p| sentence[p].as_str());
    match word {
        "with" => !BINDS_WITH.contains(&previous),
        "," | "and" if OPENERS.contains(&next) => {
            let near = sentence[at + 1..].iter().take(REACH);
            let mut rest = near.take_while(|w| !TURNS.contains(&w.as_str()));
            !rest.any(|w| w == "or" || w == "nor")
        }
        _ => TURNS.contains(&word),
    }
}

/// Whether a clause with a verb of its own begins behind the comma or `and` at word `at`: "no pneumothorax, cardiomegaly is unchanged".
///
/// What is or is not seen may be a whole list: "no effusion, consolidation, and pneumothorax is seen".
pub(super) fn clause(sentence: &[String], at: usize) -> bool {
    let joins = |w: &str| TURNS.contains(&w) || [",", "and", "or", "nor", "that"].contains(&w);
    let rest = sentence.get(at + 1..).unwrap_or_default();
    let own = rest.iter().take_while(|w| !joins(w));
    let verb = own
        .map(String::as_str)
        .position(|w| VERBS.contains(&w) || WHOLE.contains(&w));
    verb.is_some_and(|verb| !rest[verb..].iter().take(5).any(|w| FOUND.contains(&w.as_str())))
}

/// The nearest cue before word `start`, back to where the statement begins; `bare` where there is none.
fn before(sentence: &[String], start: usize, bare: Label) -> Option<Label> {
    // Whether a new clause begins between cue and mention, and where the evidence begins that would mean the finding.
    let (mut parted, mut evidence) = (false, None);
    for end in (1..=start).rev().take(REACH) {
        let at = end - 1;
        let joint = [",", "and"].contains(&sentence[at].as_str());
        if turns(sentence, at) || (joint && evidence.is_some()) {
            break;
        }
        parted |= joint && clause(sentence, at);
        // A cue may stand anywhere before the mention, so each word is tried as the end of one.
        let Some(cue) = cue_phrases::ending(&sentence[..end]) else {
            continue;
        };
        let still_there = || of_change(sentence, end, start) || half(sentence, end, cue);
        match (cue.said, evidence) {
            (Some(Label::Negative), None) if parted || clouded(sentence, end, start) => return Some(bare),
            (Some(Label::Negative), None) if still_there() => return Some(Label::Positive),
            (Some(Label::Uncertain), None) if EVIDENCE.contains(&cue.text) => evidence = Some(end - cue.len()),
            (said, None) => return said,
            // "Opacity not seen before, suggesting pneumonia" denies no evidence.
            (_, Some(from)) if matches!(cue.text, "no" | "without") || (cue.text == "not" && end == from) => {
                return Some(match still_there() {
                    true => Label::Uncertain,
                    false => Label::Negative,
                });
            }
            (_, Some(_)) => break,
        }
    }
    Some(evidence.map_or(bare, |_| Label::Uncertain))
}

/// Whether a denial that ends at word `end` denies a change and not the finding at `start`.
pub(super) fn of_change(sentence: &[String], end: usize, start: usize) -> bool {
    let not = end.checked_sub(1).is_some_and(|at| sentence[at] == "not");
    let words = sentence.get(end..start).unwrap_or_default();
    words
        .iter()
        .take(4)
        .any(|w| CHANGE.contains(&w.as_str()) || (not && CHANGED.contains(&w.as_str())))
}

/// Whether the cue that ends at word `end` tells of an end that has not, or only half, come.
fn half(sentence: &[String], end: usize, cue: &CueBefore) -> bool {
    let before = sentence[..end - cue.len()].iter().rev().map(String::as_str);
    let mut near = before.take(3).take_while(|w| ![",", "and"].contains(w));
    GOING.contains(&cue.text) && near.any(|w| HALF.contains(&w))
}

/// Whether the denial that ends at word `end` is of what cannot be seen, and `start` the cause: "not well seen due to an effusion".
fn clouded(sentence: &[String], end: usize, start: usize) -> bool {
    let mut words = sentence[end..start].iter().map(String::as_str);
    words.any(|w| FOUND.contains(&w)) && words.any(|w| CAUSES.contains(&w))
}

/// What the first verb behind a mention says of it, or the word at once behind it.
pub(super) fn behind(sentence: &[String], end: usize) -> Option<Label> {
    let rest = sentence.get(end..)?;
    if let Some((_, said)) = AT_ONCE.iter().find(|(word, _)| rest.first().is_some_and(|w| w == word)) {
        return Some(*said);
    }
    let stop = |w: &String| TURNS.contains(&w.as_str());
    if let Some(colon) = rest.iter().take_while(|w| !stop(w)).position(|w| w == ":") {
        match &rest[colon + 1..] {
            [no] if no == "no" => return Some(Label::Negative),
            [answer, ..] if ANSWERS.contains(&answer.as_str()) => return Some(Label::Negative),
            _ => {}
        }
    }
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
    let cue = cue_phrases::beginning(&tail)?;
    // "Not seen with improved aeration" denies the finding.
    let mut said = tail
        .iter()
        .map(|w| w.as_str())
        .take_while(|w| *w != "with" && !FOUND.contains(w));
    let changed = said.any(|w| CHANGE.contains(&w) || (cue.text == "not" && CHANGED.contains(&w)));
    (!(cue.said == Label::Negative && changed)).then_some(cue.said)
}
