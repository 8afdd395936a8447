//! Sentences that tell why the image was taken, or what it is compared with.

use super::cues::VERBS;

/// What may stand before a heading, without a colon.
const TITLE: &str = "final report ";

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

/// Whether a sentence tells why the image was taken, or what it is compared with. Another heading in it may lead on to the findings.
pub(super) fn is_request(sentence: &[String]) -> bool {
    // "CLINICAL HISTORY  Pneumothorax, follow-up.": a heading without a colon, where it can be nothing else.
    if let [first, second, third, ..] = sentence
        && first == "clinical"
        && ["history", "information", "indication"].contains(&second.as_str())
        && third != "of"
        && !sentence.iter().any(|w| w == ":" || VERBS.contains(&w.as_str()))
    {
        return true;
    }
    // "INDICATION: History: cough": several may stand in a row.
    let parts: Vec<&[String]> = sentence.split(|word| word == ":").collect();
    let Some((_, headings)) = parts.split_last() else {
        return false;
    };
    let request = |heading: &&[String]| {
        let heading = heading.join(" ");
        REQUESTS.contains(&heading.strip_prefix(TITLE).unwrap_or(&heading))
    };
    !headings.is_empty() && headings.iter().all(request)
}
