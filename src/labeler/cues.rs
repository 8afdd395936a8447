//! Whether a mention is affirmed, denied, left open, or no statement on this image at all.

use super::behind::behind;
use super::cue_phrases::{self, CueBefore};
use super::devices::{ADVICE, among_removed, displaced, of_part, sets_apart, taken_out};
use super::phrases::Mention;
use crate::phantom::Label;

/// A cue so many words before a mention, or a word so far behind a comma, is of something else. Sentences are shorter; what a model writes
/// without an end need not be.
pub(super) const REACH: usize = 64;

/// Doubts that only tell what something else would mean: where that is denied, so is what it would mean.
const EVIDENCE: &[&str] = &[
    "suspected",
    "suspicious for",
    "suspicion of",
    "suspicion for",
    "concerning for",
    "concern for",
    "worrisome for",
    "suggest",
    "suggesting",
    "suggestive of",
    "suggestion of",
];

/// An end of the finding, which may itself be denied or be only half of one.
const GOING: &[&str] = &["removal of", "resolution of", "clearing of", "clearance of", "resolved"];

/// Before one of [`GOING`]: the end has not come.
const UNDONE: &[&str] = &["no", "not", "without"];

/// Before an end of the finding that is hoped for and not seen: "follow-up to document resolution of the pneumonia".
const HOPED: &[&str] = &["ensure", "document", "confirm", "assure", "verify", "until"];

/// Before an end of the finding: some of it is still there.
pub(super) const HALF: &[&str] = &[
    "partial",
    "partially",
    "partly",
    "incomplete",
    "incompletely",
    "near",
    "nearly",
    "almost",
    "mostly",
    "largely",
    "some",
    "further",
    "continued",
    "ongoing",
];

/// Before a procedure, which is a statement of its own: "no pneumothorax after line placement".
pub(super) const AFTER: &[&str] = &["after", "following", "status"];

/// Verbs that say something of what stands before them.
pub(super) const VERBS: &[&str] = &[
    "is", "are", "was", "were", "has", "have", "had", "cannot", "cant", "can", "could", "may", "might", "must",
    "should", "would", "seems", "does", "do", "did", "remains", "remain",
];

/// Verbs with which a statement is whole.
const WHOLE: &[&str] = &["appears", "appear", "persists", "persist"];

/// With these a terse statement is whole: "no pneumothorax, effusion unchanged".
const TERSE: &[&str] = &["unchanged", "stable", "improved", "resolved"];

/// That something was looked for, which is said of all that a list names.
pub(super) const FOUND: &[&str] = &[
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
    "detectable",
    "discernible",
    "recognizable",
    "confirmed",
    "assessed",
    "evaluated",
    "delineated",
    "defined",
];

/// Why something was not to be seen stands behind these.
const CAUSES: &[&str] = &["due", "because", "secondary", "by"];

/// Behind a `not` and a comma the cause follows these too: "not sharply seen, consistent with an effusion".
const MEANS: &[&str] = &[
    "consistent",
    "compatible",
    "likely",
    "reflecting",
    "representing",
    "indicating",
    "from",
    "probably",
    "presumably",
];

/// How an outline is where nothing hides it.
const OUTLINED: &[&str] = &["sharp", "clear"];

/// Words that begin a new statement.
pub(super) const TURNS: &[&str] = &[
    "but", "however", "although", "though", "except", "aside", "apart", "while", "whereas", "yet", "which", "there",
    "despite", "besides",
];

/// Words that begin what a denial does not hold of, besides "other than".
const EXCEPTIONS: &[&str] = &["except", "aside", "apart", "besides"];

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
    "improved",
    "improving",
    "worsened",
    "decreased",
    "linear",
    "streaky",
    "residual",
    "subsegmental",
    "basilar",
    "layering",
    "slight",
    "chronic",
    "healed",
    "old",
    "just",
    "only",
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
pub(super) const CHANGE: &[&str] = &[
    "change",
    "changes",
    "changed",
    "increase",
    "decrease",
    "progression",
    "improvement",
    "worsening",
];

/// What follows `no`, with an `of`, when the denial is of growth. Without it they may be what is denied: "no cardiac enlargement".
const GROWTH: &[&str] = &["enlargement", "growth", "expansion"];

/// What follows `not` when the finding is still there.
pub(super) const CHANGED: &[&str] = &[
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

/// What the sentence says of the mention at `index`; `None` if it says nothing of this image.
pub(super) fn judge(sentence: &[String], mentions: &[Mention], index: usize) -> Option<Label> {
    let mention = mentions.get(index)?;
    let own = |said: &Label| !(mention.is_device() && *said == Label::Negative && of_part(sentence, mention));
    if let Some(said) = behind(sentence, mention.end).filter(own) {
        return Some(said);
    }
    if taken_out(sentence, mention) {
        return Some(Label::Negative);
    }
    // A question asks.
    let asked = sentence.last().is_some_and(|w| w == "?");
    let bare = match asked || alternative(sentence, mentions, index) || if_any(sentence, mentions, index) {
        true => Label::Uncertain,
        false => Label::Positive,
    };
    before(sentence, mentions, index, bare)
}

/// Whether a mention is one of two between which the report leaves it: "atelectasis or pneumonia", "atelectasis vs. scarring".
fn alternative(sentence: &[String], mentions: &[Mention], index: usize) -> bool {
    let word = |at: usize| sentence.get(at).map_or("", String::as_str);
    let either = |a: &Mention, b: &Mention| {
        let or = a.end + usize::from(word(a.end) == "and");
        word(or) == "or" && b.start <= or + 2 && a.labels != b.labels
    };
    let mut pairs = mentions.windows(2).enumerate();
    let mention = &mentions[index];
    let before = |back: usize| mention.start.checked_sub(back).map_or("", word);
    ["vs", "versus"].contains(&word(mention.end))
        || (before(1) == "or" && before(2) == "aspiration")
        || (before(1) == "than"
            && sentence[..mention.start]
                .windows(2)
                .any(|two| two == ["more", "likely"]))
        || pairs.any(|(first, pair)| (first == index || first + 1 == index) && either(&pair[0], &pair[1]))
}

/// Whether it is left open behind the mention, before the next one, that there is any: "pleural effusion, if any, is minimal".
fn if_any(sentence: &[String], mentions: &[Mention], index: usize) -> bool {
    let end = mentions.get(index + 1).map_or(sentence.len(), |next| next.start);
    let behind = sentence.get(mentions[index].end..end).unwrap_or_default();
    let open = |two: &[String]| two[0] == "if" && ["any", "present", "at"].contains(&two[1].as_str());
    behind.windows(2).any(open)
}

/// Whether a new statement begins at word `at`.
fn turns(sentence: &[String], at: usize) -> bool {
    let word = sentence[at].as_str();
    let next = sentence.get(at + 1).map_or("", String::as_str);
    let previous = at.checked_sub(1).map_or("", |p| sentence[p].as_str());
    match word {
        "with" => !BINDS_WITH.contains(&previous),
        // "Minimal, if any, left effusion".
        "," if previous == "any" && at > 1 && sentence[at - 2] == "if" => false,
        "," | "and" if OPENERS.contains(&next) => {
            let near = sentence[at + 1..].iter().take(REACH);
            let mut rest = near.take_while(|w| !TURNS.contains(&w.as_str()));
            !rest.any(|w| w == "or" || w == "nor")
        }
        "there" => !inverted(sentence, at),
        "other" => excepts(sentence, at),
        _ => TURNS.contains(&word) || AFTER.contains(&word),
    }
}

/// Whether an exception begins at word `at`: "no abnormality other than an effusion".
pub(super) fn excepts(sentence: &[String], at: usize) -> bool {
    let than = || sentence.get(at + 1).is_some_and(|w| w == "than");
    EXCEPTIONS.contains(&sentence[at].as_str()) || (sentence[at] == "other" && than())
}

/// Whether the `there` at word `at` goes on with a denial: "nor is there an effusion".
fn inverted(sentence: &[String], at: usize) -> bool {
    let before = at.checked_sub(2).map(|from| &sentence[from..at]);
    before.is_some_and(|before| ["nor", "neither"].contains(&before[0].as_str()) && VERBS.contains(&before[1].as_str()))
}

/// Whether a clause with a verb of its own begins behind the comma or `and` at word `at`: "no pneumothorax, cardiomegaly is unchanged".
///
/// What is or is not seen may be a whole list: "no effusion, consolidation, and pneumothorax is seen".
pub(super) fn clause(sentence: &[String], at: usize) -> bool {
    let joins = |w: &str| TURNS.contains(&w) || [",", "and", "or", "nor", "that"].contains(&w);
    let rest = sentence.get(at + 1..).unwrap_or_default();
    let own = rest.iter().take_while(|w| !joins(w));
    let whole = |w: &str| VERBS.contains(&w) || WHOLE.contains(&w);
    let verb = own
        .map(String::as_str)
        .enumerate()
        .position(|(i, w)| whole(w) || (i > 0 && TERSE.contains(&w)));
    verb.is_some_and(|verb| !rest[verb..].iter().take(5).any(|w| FOUND.contains(&w.as_str())))
}

/// Whether these words, from a comma or `and` to the evidence, go on with a list of what is denied: "no edema, effusion, or opacity to
/// suggest pneumonia".
fn goes_on(words: &[String]) -> bool {
    let verb = |w: &str| VERBS.contains(&w) || WHOLE.contains(&w);
    words.iter().any(|w| w == "or" || w == "nor") && !words.iter().any(|w| verb(w.as_str()))
}

/// The nearest cue before the mention at `index`, back to where the statement begins; `bare` where there is none.
fn before(sentence: &[String], mentions: &[Mention], index: usize, bare: Label) -> Option<Label> {
    let (earlier, mention) = (&mentions[..index], &mentions[index]);
    let (start, device) = (mention.start, mention.is_device());
    // Whether a new clause begins between cue and mention, and where the evidence begins that would mean the finding.
    let (mut parted, mut evidence): (bool, Option<usize>) = (false, None);
    for end in (1..=start).rev().take(REACH) {
        let at = end - 1;
        let joint = [",", "and"].contains(&sentence[at].as_str());
        let turns = turns(sentence, at) && !(device && joint && among_removed(sentence, mention, at));
        if turns || (joint && evidence.is_some_and(|from| !goes_on(&sentence[at..from]))) {
            break;
        }
        if device && sets_apart(sentence, earlier, at) {
            break;
        }
        parted |= joint && clause(sentence, at);
        // A cue may stand anywhere before the mention, so each word is tried as the end of one.
        let Some(cue) = cue_phrases::ending(&sentence[..end]) else {
            continue;
        };
        // "Consider advancing the tube", "no pacemaker leads displaced": the device is there.
        if device && (ADVICE.contains(&cue.text) || displaced(sentence, mention)) {
            continue;
        }
        // "Presumed malignant nodule": what is presumed is its nature.
        if end < start && cue_phrases::of_nature(cue.text, &sentence[end..start]) {
            continue;
        }
        let still_there = || of_change(sentence, end, start) || half(sentence, end, cue);
        match (cue.said, evidence) {
            (Some(Label::Negative), None) if parted || clouded(sentence, end, start) => return Some(bare),
            (Some(Label::Negative), None) if hoped(sentence, end, cue) => return None,
            (Some(Label::Negative), None) if still_there() => return Some(Label::Positive),
            (Some(Label::Uncertain), None) if EVIDENCE.contains(&cue.text) => evidence = Some(end - cue.len()),
            (said, None) => return said,
            // "Opacity not seen before, suggesting pneumonia" denies no evidence.
            (_, Some(from))
                if matches!(cue.text, "no" | "without" | "nothing") || (cue.text == "not" && end == from) =>
            {
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
    let changes = |w: &String| CHANGE.contains(&w.as_str()) || (not && CHANGED.contains(&w.as_str()));
    words.iter().take(4).any(changes) || of_growth(words)
}

/// Whether these words tell of the growth of what follows them: "no interval enlargement of the", but not "no enlargement of the heart or".
fn of_growth(words: &[String]) -> bool {
    let growth = words.iter().take(3).position(|w| GROWTH.contains(&w.as_str()));
    let joins = |w: &String| [",", "and", "or", "nor"].contains(&w.as_str());
    growth.is_some_and(|at| words.get(at + 1).is_some_and(|w| w == "of") && !words.iter().any(joins))
}

/// Whether the cue that ends at word `end` tells of an end that has not, or only half, come.
fn half(sentence: &[String], end: usize, cue: &CueBefore) -> bool {
    let before = sentence[..end - cue.len()].iter().rev().map(String::as_str);
    let mut near = before
        .take(3)
        .take_while(|w| ![",", "and"].contains(w) && !AFTER.contains(w));
    GOING.contains(&cue.text) && near.any(|w| UNDONE.contains(&w) || HALF.contains(&w))
}

/// Whether the cue that ends at word `end` tells of an end that is waited for, which says nothing of this image.
fn hoped(sentence: &[String], end: usize, cue: &CueBefore) -> bool {
    let mut near = sentence[..end - cue.len()].iter().rev().map(String::as_str).take(3);
    GOING.contains(&cue.text) && near.any(|w| HOPED.contains(&w))
}

/// Whether the denial that ends at word `end` is of what cannot be seen, and `start` the cause: "not well seen due to an effusion", "not
/// sharp, consistent with an effusion".
fn clouded(sentence: &[String], end: usize, start: usize) -> bool {
    let mut words = sentence[end..start].iter().map(String::as_str);
    if !words.any(|w| FOUND.contains(&w) || OUTLINED.contains(&w)) {
        return false;
    }
    let not = end.checked_sub(1).is_some_and(|at| sentence[at] == "not");
    let mut behind = words.clone().skip_while(|w| *w != ",");
    words.any(|w| CAUSES.contains(&w)) || (not && behind.any(|w| MEANS.contains(&w)))
}
