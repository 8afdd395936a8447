//! Yes and no of an answer.

/// Around a word these say nothing: `**Yes**`.
const MARKS: [char; 8] = ['*', '_', '`', '"', '\'', '“', '”', '’'];

/// Behind a dash or a bracket these take back what was said: "yes (or no)".
const TAKEN_BACK: [&str; 6] = ["yes", "no", "not", "and", "or", "but"];

/// With these behind "there is" it is said that there is nothing.
const NOTHING: [&str; 4] = ["not", "no", "none", "nothing"];

/// Whether an answer is yes (true) or no (false), alone, with more behind a point, a comma or the like, or with a "there is" or "there is
/// not" that says the same; `None` for "no effusion".
pub fn yes_or_no(answer: &str) -> Option<bool> {
    let answer = unmarked(answer);
    let heading = answer
        .split_once(':')
        .filter(|(word, _)| word.trim().eq_ignore_ascii_case("answer"));
    let answer = heading.map_or(answer, |(_, rest)| unmarked(rest));
    let end = answer.find(|c: char| !c.is_alphanumeric()).unwrap_or(answer.len());
    let (word, rest) = answer.split_at(end);
    let yes = match word.to_ascii_lowercase().as_str() {
        "yes" => true,
        "no" => false,
        _ => return None,
    };
    let rest = rest.trim_start_matches(MARKS);
    let ends = rest.trim().is_empty() || rest.starts_with([',', '.', ';', '!', ':', '?']);
    (ends || set_off(rest) || there_is(rest) == Some(yes)).then_some(yes)
}

/// Without the marks and the white space before it.
fn unmarked(text: &str) -> &str {
    text.trim_start_matches(|c: char| c.is_whitespace() || MARKS.contains(&c))
}

/// Whether this is set off by a dash or a bracket: " - small", " (small)", but not "-brainer" and not " (or no)".
fn set_off(rest: &str) -> bool {
    let more = [" - ", " – ", " (", "—", " —", "–"]
        .iter()
        .find_map(|mark| rest.strip_prefix(mark));
    let more = more.map(|more| more.trim_start().to_lowercase());
    more.is_some_and(|more| {
        let first = more.split(|c: char| !c.is_alphanumeric()).next();
        first.is_some_and(|first| !TAKEN_BACK.contains(&first))
    })
}

/// What "there is" (true) or "there is not" (false) says, where the rest begins with it.
fn there_is(rest: &str) -> Option<bool> {
    let rest = rest.to_lowercase().replace(['\'', '’'], "");
    let mut words = rest
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty());
    match (words.next(), words.next(), words.next()) {
        (Some("there"), Some("isnt" | "arent"), _) => Some(false),
        (Some("there"), Some("is" | "are"), next) => Some(!next.is_some_and(|word| NOTHING.contains(&word))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(cases: &[(&str, Option<bool>)]) {
        for (answer, yes) in cases {
            assert_eq!(yes_or_no(answer), *yes, "{answer}");
        }
    }

    #[test]
    fn the_first_word_decides_where_the_statement_ends_with_it() {
        all(&[
            (" Yes, on the left.", Some(true)),
            ("NO", Some(false)),
            ("no ", Some(false)),
            ("No?", Some(false)),
            ("No effusion", None),
            ("North", None),
            ("", None),
        ]);
    }

    #[test]
    fn a_dash_a_bracket_and_marks_end_it_too() {
        all(&[
            ("Yes - small.", Some(true)),
            ("Yes—small effusion", Some(true)),
            ("Yes (small)", Some(true)),
            ("No - normal", Some(false)),
            ("**Yes**", Some(true)),
            ("**No**, there is not.", Some(false)),
            ("\"Yes\"", Some(true)),
            ("“No”.", Some(false)),
            ("Answer: yes", Some(true)),
            ("**Answer:** No.", Some(false)),
            ("answer : no", Some(false)),
        ]);
    }

    #[test]
    fn what_there_is_may_be_said_behind_it_without_a_comma() {
        all(&[
            ("Yes there is.", Some(true)),
            ("yes there is a pneumothorax", Some(true)),
            ("No there is not.", Some(false)),
            ("No there isn't.", Some(false)),
            ("No there is no effusion", Some(false)),
            ("Yes there is no effusion", None),
            ("No there is an effusion", None),
            ("Yes there may be", None),
        ]);
    }

    #[test]
    fn what_is_neither_or_both_is_not_read() {
        all(&[
            ("No doubt there is an effusion", None),
            ("Yes and no", None),
            ("Yes (and no)", None),
            ("Yes - or no", None),
            ("No - yes, on the left", None),
            ("yes/no", None),
            ("Answer: yes or no", None),
            ("Not sure", None),
            ("No-brainer", None),
            ("\"Yes\" is wrong", None),
            ("Answers: yes", None),
            ("Answer", None),
            ("Réponse: no", None),
            ("**", None),
        ]);
    }
}
