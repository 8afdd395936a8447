//! Yes and no of an answer.

/// Whether an answer is yes (true) or no (false), alone or with more behind a point, a comma or the like; `None` for "no effusion".
pub fn yes_or_no(answer: &str) -> Option<bool> {
    let answer = answer.trim();
    let end = answer.find(|c: char| !c.is_alphanumeric()).unwrap_or(answer.len());
    let (word, rest) = answer.split_at(end);
    let alone = rest.is_empty() || rest.starts_with([',', '.', ';', '!', ':', '?']);
    match word.to_ascii_lowercase().as_str() {
        "yes" if alone => Some(true),
        "no" if alone => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_decides_where_the_statement_ends_with_it() {
        for (answer, yes) in [
            (" Yes, on the left.", Some(true)),
            ("NO", Some(false)),
            ("no ", Some(false)),
            ("No?", Some(false)),
            ("No effusion", None),
            ("North", None),
            ("", None),
        ] {
            assert_eq!(yes_or_no(answer), yes, "{answer}");
        }
    }
}
