//! Porter's stemmer (1980) with the extensions that nltk's `PorterStemmer` has by default.

/// Words whose stem no rule finds.
const IRREGULAR: &[(&str, &str)] = &[
    ("sky", "sky"),
    ("skies", "sky"),
    ("dying", "die"),
    ("lying", "lie"),
    ("tying", "tie"),
    ("news", "news"),
    ("innings", "inning"),
    ("inning", "inning"),
    ("outings", "outing"),
    ("outing", "outing"),
    ("cannings", "canning"),
    ("canning", "canning"),
    ("howe", "howe"),
    ("proceed", "proceed"),
    ("exceed", "exceed"),
    ("succeed", "succeed"),
];

const STEP_2: &[(&str, &str)] = &[
    ("ational", "ate"),
    ("tional", "tion"),
    ("enci", "ence"),
    ("anci", "ance"),
    ("izer", "ize"),
    ("bli", "ble"),
    ("alli", "al"),
    ("entli", "ent"),
    ("eli", "e"),
    ("ousli", "ous"),
    ("ization", "ize"),
    ("ation", "ate"),
    ("ator", "ate"),
    ("alism", "al"),
    ("iveness", "ive"),
    ("fulness", "ful"),
    ("ousness", "ous"),
    ("aliti", "al"),
    ("iviti", "ive"),
    ("biliti", "ble"),
    ("fulli", "ful"),
];

const STEP_3: &[(&str, &str)] = &[
    ("icate", "ic"),
    ("ative", ""),
    ("alize", "al"),
    ("iciti", "ic"),
    ("ical", "ic"),
    ("ful", ""),
    ("ness", ""),
];

const STEP_4: &[&str] = &[
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism", "ate", "iti",
    "ous", "ive", "ize",
];

/// The stem of a lower-case word.
pub(super) fn stem(word: &str) -> String {
    if let Some((_, stem)) = IRREGULAR.iter().find(|(irregular, _)| *irregular == word) {
        return (*stem).to_owned();
    }
    if word.len() <= 2 || !word.is_ascii() {
        return word.to_owned();
    }
    let mut word = step_1a(word);
    word = step_1b(&word);
    word = step_1c(word);
    word = step_2(&word);
    word = step_3(&word);
    word = step_4(&word);
    step_5(&word)
}

fn consonant(word: &[u8], at: usize) -> bool {
    match word[at] {
        b'a' | b'e' | b'i' | b'o' | b'u' => false,
        b'y' => at == 0 || !consonant(word, at - 1),
        _ => true,
    }
}

/// Porter's m: how often a vowel is followed by a consonant.
fn measure(stem: &str) -> usize {
    let bytes = stem.as_bytes();
    (1..bytes.len())
        .filter(|&at| consonant(bytes, at) && !consonant(bytes, at - 1))
        .count()
}

fn has_vowel(stem: &str) -> bool {
    (0..stem.len()).any(|at| !consonant(stem.as_bytes(), at))
}

fn double_consonant(word: &str) -> bool {
    let bytes = word.as_bytes();
    let n = bytes.len();
    n >= 2 && bytes[n - 1] == bytes[n - 2] && consonant(bytes, n - 1)
}

/// Ends as consonant, vowel, consonant other than w, x, y; nltk also takes two letters, vowel and consonant.
fn short_end(word: &str) -> bool {
    let bytes = word.as_bytes();
    let n = bytes.len();
    let last = n > 0 && !b"wxy".contains(&bytes[n - 1]);
    (n >= 3 && consonant(bytes, n - 3) && !consonant(bytes, n - 2) && consonant(bytes, n - 1) && last)
        || (n == 2 && !consonant(bytes, 0) && consonant(bytes, 1))
}

fn step_1a(word: &str) -> String {
    if word.ends_with("ies") && word.len() == 4 {
        return word[..3].to_owned();
    }
    for (ending, instead) in [("sses", "ss"), ("ies", "i"), ("ss", "ss"), ("s", "")] {
        if let Some(stem) = word.strip_suffix(ending) {
            return format!("{stem}{instead}");
        }
    }
    word.to_owned()
}

fn step_1b(word: &str) -> String {
    if let Some(stem) = word.strip_suffix("ied") {
        return format!("{stem}{}", if word.len() == 4 { "ie" } else { "i" });
    }
    if let Some(stem) = word.strip_suffix("eed") {
        return if measure(stem) > 0 {
            format!("{stem}ee")
        } else {
            word.to_owned()
        };
    }
    let Some(stem) = ["ed", "ing"]
        .iter()
        .find_map(|e| word.strip_suffix(e).filter(|s| has_vowel(s)))
    else {
        return word.to_owned();
    };
    if ["at", "bl", "iz"].iter().any(|end| stem.ends_with(end)) {
        return format!("{stem}e");
    }
    if double_consonant(stem) {
        let last = stem.as_bytes()[stem.len() - 1];
        return if b"lsz".contains(&last) {
            stem.to_owned()
        } else {
            stem[..stem.len() - 1].to_owned()
        };
    }
    match measure(stem) == 1 && short_end(stem) {
        true => format!("{stem}e"),
        false => stem.to_owned(),
    }
}

fn step_1c(word: String) -> String {
    match word.strip_suffix('y') {
        Some(stem) if stem.len() > 1 && consonant(stem.as_bytes(), stem.len() - 1) => format!("{stem}i"),
        _ => word,
    }
}

/// The first ending that fits decides, whether or not its condition holds.
fn replace(word: &str, rules: &[(&str, &str)]) -> Option<String> {
    let (stem, instead) = rules
        .iter()
        .find_map(|(end, instead)| Some((word.strip_suffix(end)?, instead)))?;
    (measure(stem) > 0).then(|| format!("{stem}{instead}"))
}

fn step_2(word: &str) -> String {
    if let Some(stem) = word.strip_suffix("alli").filter(|stem| measure(stem) > 0) {
        return step_2(&format!("{stem}al"));
    }
    // The measure is taken before the `l`, so that geology and theology agree.
    if let Some(stem) = word.strip_suffix("logi")
        && !STEP_2.iter().any(|(end, _)| word.ends_with(end))
    {
        return if measure(&format!("{stem}l")) > 0 {
            format!("{stem}log")
        } else {
            word.to_owned()
        };
    }
    replace(word, STEP_2).unwrap_or_else(|| word.to_owned())
}

fn step_3(word: &str) -> String {
    replace(word, STEP_3).unwrap_or_else(|| word.to_owned())
}

fn step_4(word: &str) -> String {
    let Some((stem, ending)) = STEP_4.iter().find_map(|end| Some((word.strip_suffix(end)?, *end))) else {
        return word.to_owned();
    };
    let allowed = ending != "ion" || stem.ends_with(['s', 't']);
    match measure(stem) > 1 && allowed {
        true => stem.to_owned(),
        false => word.to_owned(),
    }
}

fn step_5(word: &str) -> String {
    let mut word = word.to_owned();
    if let Some(stem) = word.strip_suffix('e') {
        let m = measure(stem);
        if m > 1 || (m == 1 && !short_end(stem)) {
            word = stem.to_owned();
        }
    }
    if word.ends_with("ll") && measure(&word[..word.len() - 1]) > 1 {
        word.pop();
    }
    word
}
