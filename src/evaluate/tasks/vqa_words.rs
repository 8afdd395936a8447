//! Questions by kind, answers made comparable.

use serde::Serialize;

use super::super::metrics::words_of_any_script;
use crate::labeler::yes_or_no;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Yes or no.
    YesNo,
    /// Left, right or both.
    Side,
    /// How severe.
    Severity,
    /// How many.
    Count,
    /// How the image was taken.
    View,
    /// Where, other than the side.
    Place,
    /// Anything else.
    Open,
}

impl Kind {
    /// The kind of a question with this right answer.
    pub fn of(question: &str, answer: &str) -> Self {
        let asked = words_of_any_script(question);
        let has = |list: &[&str]| asked.iter().any(|w| list.contains(&w.as_str()));
        if yes_or_no(answer).is_some() {
            Self::YesNo
        } else if has(&["many", "number"]) {
            Self::Count
        } else if has(&["severe", "severity", "large", "degree", "extensive"]) {
            Self::Severity
        } else if has(&["side", "sides", "laterality"]) {
            Self::Side
        } else if has(&["view", "projection", "projected"]) {
            Self::View
        } else if has(&[
            "zone", "zones", "lobe", "lobes", "rib", "ribs", "region", "regions", "location", "where",
        ]) {
            Self::Place
        } else {
            Self::Open
        }
    }

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::YesNo => "yes or no",
            Self::Side => "side",
            Self::Severity => "severity",
            Self::Count => "count",
            Self::View => "view",
            Self::Place => "place",
            Self::Open => "open",
        }
    }
}

/// An answer's words without articles, numbers as digits. Where these leave nothing, its articles; where there is no word, the text as it is:
/// answers without words are not all the same.
pub fn normalised(answer: &str) -> Vec<String> {
    const NUMBERS: [&str; 11] = [
        "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    ];
    let all = words_of_any_script(answer);
    if all.is_empty() {
        return vec![answer.trim().to_owned()];
    }
    let article = |word: &String| ["a", "an", "the"].contains(&word.as_str());
    let only_articles = all.iter().all(article);
    let kept = all.into_iter().filter(|word| only_articles || !article(word));
    kept.map(|word| match NUMBERS.iter().position(|n| *n == word) {
        Some(number) => number.to_string(),
        None => word,
    })
    .collect()
}

/// F1 of the words of two answers (as SQuAD counts it).
pub fn word_f1(answer: &[String], right: &[String]) -> f64 {
    let mut left: Vec<&String> = right.iter().collect();
    let common = answer
        .iter()
        .filter(|word| match left.iter().position(|other| other == word) {
            Some(place) => {
                left.swap_remove(place);
                true
            }
            None => false,
        });
    match (common.count(), answer.len() + right.len()) {
        (_, 0) => 1.0,
        (common, all) => 2.0 * common as f64 / all as f64,
    }
}

/// What a yes-or-no question is about: its words without the frame they stand in.
pub fn topic(question: &str) -> String {
    const FRAME: [&str; 24] = [
        "is", "are", "there", "does", "do", "the", "image", "show", "can", "be", "seen", "a", "an", "any", "this",
        "was", "were", "in", "on", "of", "x", "ray", "present", "evidence",
    ];
    let kept: Vec<String> = words_of_any_script(question)
        .into_iter()
        .filter(|w| !FRAME.contains(&w.as_str()))
        .collect();
    kept.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_sorted_by_what_they_ask_for() {
        for (question, answer, kind) in [
            ("Is there a pneumothorax?", "No.", Kind::YesNo),
            ("On which side is a pleural effusion?", "Both sides.", Kind::Side),
            ("How severe is cardiomegaly?", "Mild.", Kind::Severity),
            ("How many devices are there?", "2.", Kind::Count),
            ("Is this a PA or an AP view?", "AP.", Kind::View),
            ("In which lung zone is consolidation?", "Lower zone.", Kind::Place),
            ("Which ribs are fractured?", "The 7th rib.", Kind::Place),
            ("Which zones are hazy?", "Both lower zones.", Kind::Place),
            ("How many ribs are fractured?", "2", Kind::Count),
            ("Which abnormalities are seen?", "No abnormality", Kind::Open),
        ] {
            assert_eq!(Kind::of(question, answer), kind, "{question}");
        }
    }

    #[test]
    fn answers_compare_without_case_points_articles_and_spelt_numbers() {
        assert_eq!(normalised("The 7th rib."), normalised("7th rib"));
        assert_eq!(normalised("Two."), ["2"]);
        let f1 = word_f1(
            &normalised("left effusion, edema"),
            &normalised("Left pleural effusion."),
        );
        assert!((f1 - 2.0 * 2.0 / 6.0).abs() < 1e-12);
        assert_eq!(word_f1(&[], &[]), 1.0);
        assert_eq!(normalised(""), normalised(" "));
    }

    #[test]
    fn answers_in_any_script_are_equal_only_if_they_say_the_same() {
        for (answer, other) in [
            ("폐렴", "기흉"),
            ("Пневмония.", "Перелом."),
            ("肺炎", "气胸"),
            ("?", "!"),
            ("", "?"),
            ("A.", "The."),
        ] {
            let (one, two) = (normalised(answer), normalised(other));
            assert_ne!(one, two);
            assert_eq!((word_f1(&one, &two), word_f1(&one, &one)), (0.0, 1.0), "{answer}");
        }
        assert_eq!(normalised("ПНЕВМОНИЯ слева."), ["пневмония", "слева"]);
        assert_eq!(normalised("Épanchement"), normalised("épanchement!"));
        assert_eq!(normalised("A."), normalised("a"));
        assert_ne!(topic("폐렴이 있습니까?"), topic("기흉이 있습니까?"));
    }

    #[test]
    fn one_topic_is_asked_for_in_many_ways() {
        let ways = [
            "Is there a pleural effusion?",
            "Does the image show a pleural effusion?",
            "Can a pleural effusion be seen?",
        ];
        assert!(ways.iter().all(|way| topic(way) == "pleural effusion"));
    }
}
