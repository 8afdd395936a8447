//! What is said behind a mention: by the word at once behind it, as the answer to a heading, or by the first verb.

use super::cue_phrases;
use super::cues::{CHANGE, CHANGED, FOUND, HALF, TURNS, VERBS};
use crate::phantom::Label;

/// What stands for the whole answer behind a heading: "Pneumothorax: none."
const ANSWERS: &[&str] = &["none", "absent", "negative"];

/// What may follow a mention without a verb.
const AT_ONCE: &[(&str, Label)] = &[
    ("unlikely", Label::Uncertain),
    ("possible", Label::Uncertain),
    ("excluded", Label::Negative),
    ("removed", Label::Negative),
    ("resolved", Label::Negative),
    ("absent", Label::Negative),
    ("suspected", Label::Uncertain),
    ("questioned", Label::Uncertain),
    ("probable", Label::Uncertain),
];

/// Of [`AT_ONCE`] those that count only where the statement ends: "effusion possible", but not "effusion possible atelectasis".
const LAST: &[&str] = &["possible", "suspected", "questioned", "probable"];

/// Verbs of what something looks like, besides [`VERBS`]: "pneumonia appears unlikely".
const SEEMS: &[&str] = &["appears", "appear", "seem", "looks"];

/// Of a finding that is no more.
const ENDED: &[&str] = &["resolved", "cleared", "removed", "longer"];

/// Verbs of how it is now.
const NOW: &[&str] = &["is", "are", "has", "have"];

/// Between two commas these say nothing: "pneumonia, however, cannot be excluded".
const ASIDES: &[&str] = &["however", "though", "therefore"];

/// What is not excluded, or hard to exclude, is left open.
const EXCLUDED: &[&str] = &["excluded", "exclude", "ruled"];

/// Before one of [`EXCLUDED`].
const HARDLY: &[&str] = &["difficult", "hard", "impossible"];

/// So many words of a statement count for these two: "would be very difficult to unequivocally exclude".
const HARDLY_REACH: usize = 8;

/// Of [`FOUND`] those that, denied, leave open whether something is there: "the effusion is not well evaluated".
const LOOKED_AT: &[&str] = &["assessed", "evaluated", "defined"];

/// What is seen so little may be there all the same: "the fracture is not well visualized".
const POORLY: &[&str] = &["well", "adequately", "optimally", "fully", "completely", "entirely"];

/// Words of an earlier image: what it did not show is new.
const EARLIER: &[&str] = &["previously", "before", "earlier"];

/// Words that go with an earlier image: "not seen on the prior study".
const PRIOR: &[&str] = &["prior", "previous"];

/// Before a `not` that leaves open what it denies.
const MAY: &[&str] = &["may", "might"];

/// So many words of a statement count behind its verb.
const VERB_REACH: usize = 5;

/// So many words count behind a `not`.
const NOT_REACH: usize = 4;

/// What the word at once behind a mention says of it, the answer to it as a heading, or the first verb.
pub(super) fn behind(sentence: &[String], end: usize) -> Option<Label> {
    let rest = match sentence.get(end..)? {
        [comma, aside, other, rest @ ..] if comma == "," && other == "," && ASIDES.contains(&aside.as_str()) => rest,
        rest => rest,
    };
    at_once(rest)
        .or_else(|| answer(rest))
        .or_else(|| by_verb(rest))
        .or_else(|| around_which(rest))
}

/// What a clause with `which` says of an end, or the verb behind it: "an effusion, which has resolved", "an effusion, which was small, has
/// resolved". "Which is not seen on the lateral view" is said of one that is there.
fn around_which(rest: &[String]) -> Option<Label> {
    let clause = match rest {
        [comma, which, clause @ ..] if comma == "," && which == "which" => clause,
        [which, clause @ ..] if which == "which" => clause,
        _ => return None,
    };
    let ended = |w: &String| ENDED.contains(&w.as_str());
    let now = clause.first().is_some_and(|w| NOW.contains(&w.as_str()));
    if now && statement(clause).iter().any(ended) {
        return by_verb(clause).filter(|said| *said == Label::Negative);
    }
    let comma = clause.iter().position(|w| w == ",")?;
    let main = &clause[comma + 1..];
    main.first().filter(|w| VERBS.contains(&w.as_str()))?;
    by_verb(main)
}

fn at_once(rest: &[String]) -> Option<Label> {
    let first = rest.first()?;
    if let [less, likely, rest @ ..] = rest
        && less == "less"
        && likely == "likely"
        && ends(rest)
    {
        return Some(Label::Uncertain);
    }
    let Some(&(word, said)) = AT_ONCE.iter().find(|(word, _)| first == word) else {
        return denied(rest);
    };
    (!LAST.contains(&word) || ends(&rest[1..])).then_some(said)
}

/// Whether nothing more is said in a statement.
fn ends(rest: &[String]) -> bool {
    rest.first().is_none_or(|w| [",", "and", "?"].contains(&w.as_str()))
}

fn answer(rest: &[String]) -> Option<Label> {
    let heading = rest.iter().take_while(|w| !TURNS.contains(&w.as_str()));
    let colon = heading.map(String::as_str).position(|w| w == ":")?;
    match &rest[colon + 1..] {
        [no] if no == "no" => Some(Label::Negative),
        [no, evidence] if no == "no" && evidence == "evidence" => Some(Label::Negative),
        [answer, ..] if ANSWERS.contains(&answer.as_str()) => Some(Label::Negative),
        answer => denied(answer),
    }
}

fn by_verb(rest: &[String]) -> Option<Label> {
    let verb = rest
        .iter()
        .map(String::as_str)
        .take_while(|w| !TURNS.contains(w) && *w != "with")
        .position(|w| VERBS.contains(&w) || SEEMS.contains(&w))?;
    if of_another(&rest[..verb]) {
        return None;
    }
    // "Cannot" is verb and denial.
    if let Some(said) = denied(&rest[verb..]) {
        return Some(said);
    }
    // "May not be visible" leaves it open.
    if MAY.contains(&rest[verb].as_str()) && denied(&rest[verb + 1..]).is_some() {
        return Some(Label::Uncertain);
    }
    // A list may stand between a mention and its verb: "effusion, pneumothorax or edema is not seen".
    let statement = statement(&rest[verb + 1..]);
    let tail: Vec<&String> = statement.iter().take(VERB_REACH).collect();
    let has = |list: &[&str]| {
        let mut near = statement.iter().take(HARDLY_REACH);
        near.any(|w| list.contains(&w.as_str()))
    };
    if has(HARDLY) && has(EXCLUDED) {
        return Some(Label::Uncertain);
    }
    let Some(cue) = cue_phrases::beginning(&tail) else {
        return rest.get(verb + 1 + statement.len()..).and_then(further);
    };
    if cue.text == "presumed" && nature(statement) {
        return None;
    }
    if matches!(cue.text, "not" | "no longer") {
        return (0..2).find_map(|skip| denied(statement.get(skip..)?));
    }
    // "Has nearly resolved" leaves some of it, and "resolved with improved aeration" nothing.
    let half = tail.first().is_some_and(|w| HALF.contains(&w.as_str()));
    let mut said = tail
        .iter()
        .map(|w| w.as_str())
        .take_while(|w| *w != "with" && !FOUND.contains(w));
    let changed = said.any(|w| CHANGE.contains(&w));
    (!half && (cue.said != Label::Negative || !changed)).then_some(cue.said)
}

/// What is presumed of a finding whose being there is in doubt, beside [`FOUND`] and [`ENDED`].
const GONE: &[&str] = &["absent", "excluded", "artifact", "artifactual"];

/// Whether what these words presume is what a finding is: "presumed to be malignant", but not "presumed to be present" or "to have resolved".
fn nature(words: &[String]) -> bool {
    let Some(at) = words.iter().position(|w| w == "presumed") else {
        return false;
    };
    let rest = &words[at + 1..];
    let there = || {
        let mut words = rest.iter().map(String::as_str);
        words.any(|w| [FOUND, ENDED, GONE].iter().any(|list| list.contains(&w)))
    };
    match rest.first() {
        Some(to) if to == "to" => !there(),
        _ => cue_phrases::of_nature("presumed", rest),
    }
}

/// Whether the verb behind these words is another's: "small effusion, pneumothorax is not seen", but not "a nodule, a mass and an effusion
/// are" or "an effusion, it is".
fn of_another(words: &[String]) -> bool {
    let Some(comma) = words.iter().rposition(|w| w == ",") else {
        return false;
    };
    let lists = |words: &[String]| words.iter().any(|w| ["and", "or", "nor"].contains(&w.as_str()));
    let subject = &words[comma + 1..];
    match subject {
        [] => false,
        [one] if ["it", "this"].contains(&one.as_str()) => false,
        subject if lists(subject) => false,
        [first, ..] => ["a", "an"].contains(&first.as_str()) || !lists(words),
    }
}

/// What a second verb says of the same: "has been withdrawn and is no longer seen".
fn further(rest: &[String]) -> Option<Label> {
    match rest {
        [and, _, no, longer, ..] if and == "and" && no == "no" && longer == "longer" => by_verb(&rest[1..]),
        _ => None,
    }
}

/// What a `not`, `cannot` or `no longer` with which these words begin says of the mention before it.
///
/// That something is not seen denies it; that it is not large, or was not seen before, does not.
fn denied(words: &[String]) -> Option<Label> {
    let (rest, alone) = match statement(words) {
        [not, rest @ ..] if ["not", "cannot", "cant"].contains(&not.as_str()) => (rest, false),
        [no, longer, rest @ ..] if no == "no" && longer == "longer" => (rest, rest.is_empty()),
        _ => return None,
    };
    let within = |list: &[&str], from: usize, count: usize| {
        let stretch = rest.iter().skip(from).take(count);
        stretch.map(String::as_str).any(|w| list.contains(&w))
    };
    if within(EXCLUDED, 0, NOT_REACH) {
        return Some(Label::Uncertain);
    }
    let found = rest
        .iter()
        .take(NOT_REACH)
        .map(String::as_str)
        .take_while(|w| !CHANGE.contains(w) && !CHANGED.contains(w))
        .position(|w| FOUND.contains(&w) && !LOOKED_AT.contains(&w));
    let denies = match found {
        Some(at) => !within(EARLIER, 0, at + 2) && !within(PRIOR, at + 1, 3) && !within(POORLY, 0, at),
        None => alone,
    };
    denies.then_some(Label::Negative)
}

/// These words up to where another statement begins.
fn statement(words: &[String]) -> &[String] {
    let ends = |w: &String| TURNS.contains(&w.as_str()) || [",", "and"].contains(&w.as_str());
    &words[..words.iter().position(ends).unwrap_or(words.len())]
}
