//! Phrases that affirm, deny or leave open what stands behind them or before them.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::phantom::Label;

/// Phrases before a mention, the longest first where one ends as another. `None`: what follows is not a statement on this image.
const BEFORE: &[(&str, Option<Label>)] = &[
    ("cannot exclude", Some(Label::Uncertain)),
    ("can not exclude", Some(Label::Uncertain)),
    ("cannot rule out", Some(Label::Uncertain)),
    ("not exclude", Some(Label::Uncertain)),
    ("difficult to exclude", Some(Label::Uncertain)),
    ("hard to exclude", Some(Label::Uncertain)),
    ("unable to exclude", Some(Label::Uncertain)),
    ("impossible to exclude", Some(Label::Uncertain)),
    ("cant exclude", Some(Label::Uncertain)),
    ("to exclude", None),
    ("exclude", Some(Label::Uncertain)),
    ("rule out", None),
    ("ruling out", None),
    ("r o", None),
    ("evaluate for", None),
    ("evaluation for", None),
    ("eval for", None),
    ("assess for", None),
    ("assessment for", None),
    ("history of", None),
    ("hx of", None),
    ("h o", None),
    ("not only", Some(Label::Positive)),
    ("no change", Some(Label::Positive)),
    ("placement of", Some(Label::Positive)),
    ("replacement of", Some(Label::Positive)),
    ("insertion of", Some(Label::Positive)),
    ("repositioning of", Some(Label::Positive)),
    ("advancement of", Some(Label::Positive)),
    ("removal of", Some(Label::Negative)),
    ("resolution of", Some(Label::Negative)),
    ("clearing of", Some(Label::Negative)),
    ("clearance of", Some(Label::Negative)),
    ("negative for", Some(Label::Negative)),
    ("free of", Some(Label::Negative)),
    ("clear of", Some(Label::Negative)),
    ("absence of", Some(Label::Negative)),
    ("resolved", Some(Label::Negative)),
    ("rather than", Some(Label::Negative)),
    ("instead of", Some(Label::Negative)),
    ("as opposed to", Some(Label::Negative)),
    // "A skin fold simulates a pneumothorax": what is seen is something else.
    ("simulate", Some(Label::Negative)),
    ("simulates", Some(Label::Negative)),
    ("simulating", Some(Label::Negative)),
    ("mimic", Some(Label::Negative)),
    ("mimics", Some(Label::Negative)),
    ("mimicking", Some(Label::Negative)),
    ("mistaken for", Some(Label::Negative)),
    ("no", Some(Label::Negative)),
    ("not", Some(Label::Negative)),
    ("without", Some(Label::Negative)),
    ("nor", Some(Label::Negative)),
    ("nothing", Some(Label::Negative)),
    ("neither", Some(Label::Negative)),
    ("denies", Some(Label::Negative)),
    ("may", Some(Label::Uncertain)),
    ("might", Some(Label::Uncertain)),
    ("could", Some(Label::Uncertain)),
    ("possible", Some(Label::Uncertain)),
    ("if any", Some(Label::Uncertain)),
    ("possibly", Some(Label::Uncertain)),
    ("possibility of", Some(Label::Uncertain)),
    ("probable", Some(Label::Uncertain)),
    ("probably", Some(Label::Uncertain)),
    ("presumed", Some(Label::Uncertain)),
    ("presumably", Some(Label::Uncertain)),
    ("consider", Some(Label::Uncertain)),
    ("or trace", Some(Label::Uncertain)),
    ("questionable", Some(Label::Uncertain)),
    ("questioned", Some(Label::Uncertain)),
    ("question", Some(Label::Uncertain)),
    ("question of", Some(Label::Uncertain)),
    ("query", Some(Label::Uncertain)),
    ("differential includes", Some(Label::Uncertain)),
    ("differential diagnosis includes", Some(Label::Uncertain)),
    ("differential considerations include", Some(Label::Uncertain)),
    ("considerations include", Some(Label::Uncertain)),
    ("favor", Some(Label::Uncertain)),
    ("favour", Some(Label::Uncertain)),
    ("equivocal", Some(Label::Uncertain)),
    ("suspect", Some(Label::Uncertain)),
    ("suspected", Some(Label::Uncertain)),
    ("suspicious for", Some(Label::Uncertain)),
    ("suspicion of", Some(Label::Uncertain)),
    ("suspicion for", Some(Label::Uncertain)),
    ("concerning for", Some(Label::Uncertain)),
    ("concern for", Some(Label::Uncertain)),
    ("worrisome for", Some(Label::Uncertain)),
    ("correlate clinically for", Some(Label::Uncertain)),
    ("suggest", Some(Label::Uncertain)),
    ("suggestion of", Some(Label::Uncertain)),
    ("suggests", Some(Label::Uncertain)),
    ("suggesting", Some(Label::Uncertain)),
    ("suggestive of", Some(Label::Uncertain)),
    ("versus", Some(Label::Uncertain)),
    ("vs", Some(Label::Uncertain)),
    ("borderline", Some(Label::Uncertain)),
    ("potentially", Some(Label::Uncertain)),
    ("perhaps", Some(Label::Uncertain)),
    ("?", Some(Label::Uncertain)),
    // As in CheXpert, what is unlikely is in doubt and not denied.
    ("unlikely", Some(Label::Uncertain)),
    ("less likely", Some(Label::Uncertain)),
    ("favored over", Some(Label::Uncertain)),
    ("favoured over", Some(Label::Uncertain)),
    ("doubt", Some(Label::Uncertain)),
    ("doubtful", Some(Label::Uncertain)),
];

/// What a verb behind a mention may go on with. What `not` and `no longer` deny is told by what follows them.
const BEHIND: &[(&str, Label)] = &[
    ("not suspected", Label::Negative),
    ("not suggested", Label::Negative),
    ("not likely", Label::Uncertain),
    ("not felt to be likely", Label::Uncertain),
    ("not thought to be likely", Label::Uncertain),
    ("not a consideration", Label::Negative),
    ("be excluded", Label::Uncertain),
    ("be entirely excluded", Label::Uncertain),
    ("be ruled out", Label::Uncertain),
    ("possible", Label::Uncertain),
    ("probable", Label::Uncertain),
    ("probably present", Label::Uncertain),
    ("presumed", Label::Uncertain),
    ("suspected", Label::Uncertain),
    ("questioned", Label::Uncertain),
    ("questionable", Label::Uncertain),
    ("doubtful", Label::Uncertain),
    ("suggested", Label::Uncertain),
    ("be present", Label::Uncertain),
    ("be considered", Label::Uncertain),
    ("have to be considered", Label::Uncertain),
    ("have to be seriously considered", Label::Uncertain),
    ("a possibility", Label::Uncertain),
    ("a consideration", Label::Uncertain),
    ("main consideration", Label::Uncertain),
    ("primary consideration", Label::Uncertain),
    ("leading consideration", Label::Uncertain),
    ("a concern", Label::Uncertain),
    ("in the differential", Label::Uncertain),
    ("on the differential", Label::Uncertain),
    ("unlikely", Label::Uncertain),
    ("less likely", Label::Uncertain),
    ("to be unlikely", Label::Uncertain),
    ("felt to be unlikely", Label::Uncertain),
    ("felt to be less likely", Label::Uncertain),
    ("thought to be unlikely", Label::Uncertain),
    ("thought to be less likely", Label::Uncertain),
    ("be removed", Label::Positive),
    ("not", Label::Negative),
    ("no longer", Label::Negative),
    ("absent", Label::Negative),
    ("excluded", Label::Negative),
    ("ruled out", Label::Negative),
    ("simulated by", Label::Negative),
    ("mimicked by", Label::Negative),
    ("resolved", Label::Negative),
    ("to be resolved", Label::Negative),
    ("to have resolved", Label::Negative),
    ("to have cleared", Label::Negative),
    ("been removed", Label::Negative),
    ("removed", Label::Negative),
    ("cleared", Label::Negative),
];

/// What a finding may be, behind a word that presumes it.
const NATURES: &[&str] = &[
    "malignant",
    "benign",
    "metastatic",
    "reactive",
    "infectious",
    "inflammatory",
];

/// Whether a cue presumes, before these words, what a finding is, and not that it is there.
pub(super) fn of_nature(cue: &str, words: &[String]) -> bool {
    let nature = words.first().is_some_and(|w| NATURES.contains(&w.as_str()));
    matches!(cue, "presumed" | "presumably") && nature
}

/// A phrase, and what it says of a mention.
pub(super) struct Cue<T> {
    /// As it stands in the list.
    pub(super) text: &'static str,
    words: Vec<&'static str>,
    /// What it says.
    pub(super) said: T,
}

impl<T: Copy> Cue<T> {
    fn of(&(text, said): &(&'static str, T)) -> Self {
        Self {
            text,
            words: text.split(' ').collect(),
            said,
        }
    }

    /// How many words it has.
    pub(super) fn len(&self) -> usize {
        self.words.len()
    }
}

/// A phrase before a mention; where it says `None`, what follows is not a statement on this image.
pub(super) type CueBefore = Cue<Option<Label>>;

/// Those of [`BEFORE`] by their last word, in its order: each word of a report is tried as the end of one.
static BEFORE_BY_END: LazyLock<HashMap<&str, Vec<CueBefore>>> = LazyLock::new(|| {
    let mut by_end: HashMap<&str, Vec<CueBefore>> = HashMap::new();
    for cue in BEFORE.iter().map(Cue::of) {
        if let Some(end) = cue.words.last() {
            by_end.entry(*end).or_default().push(cue);
        }
    }
    by_end
});

static BEHIND_IN_WORDS: LazyLock<Vec<Cue<Label>>> = LazyLock::new(|| BEHIND.iter().map(Cue::of).collect());

/// The first phrase in the list of those before a mention that these words end with.
pub(super) fn ending(words: &[String]) -> Option<&'static CueBefore> {
    let cues = BEFORE_BY_END.get(words.last()?.as_str())?;
    cues.iter().find(|cue| {
        let tail = words.len().checked_sub(cue.len()).map(|from| &words[from..]);
        tail.is_some_and(|tail| tail.iter().zip(&cue.words).all(|(a, b)| a == b))
    })
}

/// The first phrase in the list of those behind a mention that these words begin with, the first of them left out or not.
pub(super) fn beginning(words: &[&String]) -> Option<&'static Cue<Label>> {
    BEHIND_IN_WORDS.iter().find(|cue| {
        (0..2).any(|skip| {
            let here = words.get(skip..skip + cue.len());
            here.is_some_and(|here| here.iter().zip(&cue.words).all(|(a, b)| a.as_str() == *b))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn every_phrase_before_a_mention_is_found_and_of_several_the_first_in_the_list() {
        for (text, _) in BEFORE {
            for said in [(*text).to_owned(), format!("there is {text}")] {
                let said = words(&said);
                let first = BEFORE.iter().find(|(other, _)| said.ends_with(&words(other)));
                let found = ending(&said).map(|cue| (cue.text, cue.said));
                assert!(found.is_some(), "{text}");
                assert_eq!(found, first.copied(), "{text}");
            }
        }
        assert!(ending(&words("only")).is_none(), "a phrase longer than what was said");
        assert!(ending(&words("there is")).is_none() && ending(&[]).is_none());
    }

    #[test]
    fn a_phrase_behind_a_mention_may_have_one_word_before_it() {
        let found = |text: &str| {
            let said = words(text);
            beginning(&said.iter().collect::<Vec<_>>()).map(|cue| cue.text)
        };
        assert_eq!(found("ruled out"), Some("ruled out"));
        assert_eq!(found("thus ruled out by this"), Some("ruled out"));
        assert_eq!(found("seen and also absent"), None);
        assert_eq!(found("be"), None);
    }
}
