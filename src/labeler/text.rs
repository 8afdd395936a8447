//! A report as sentences of words.

/// A sentence ends after so many words. Those of reports are shorter; a text without an end is read part by part, so that the time it takes
/// grows with its length and not with the square of it.
const LONGEST: usize = 512;

/// So many digits may number a line of a list.
const DIGITS: usize = 2;

/// So many characters in brackets are looked at for the doubt with which they end.
const BRACKETED: usize = 64;

/// Lower-case words of each sentence. Commas and colons are words of their own, a question mark stands as the last word `?`, or before
/// what it puts in doubt ("? pneumonia", "cough // ? pneumonia"); hyphens and slashes part words; a point between digits belongs to the
/// number, and that of "vs." to the word.
pub(super) fn sentences(text: &str) -> Vec<Vec<String>> {
    let chars: Vec<char> = text.chars().flat_map(char::to_lowercase).collect();
    let (mut all, mut sentence, mut word) = (Vec::new(), Vec::new(), String::new());
    let digit = |at: Option<usize>| at.and_then(|i| chars.get(i)).is_some_and(char::is_ascii_digit);
    for (at, &c) in chars.iter().enumerate() {
        let decimal = c == '.' && digit(at.checked_sub(1)) && digit(Some(at + 1));
        if c.is_alphanumeric() || decimal {
            word.push(c);
            continue;
        }
        if c == '\'' || c == '’' {
            continue;
        }
        if !word.is_empty() {
            sentence.push(std::mem::take(&mut word));
        }
        // "An opacity (pneumonia?)": the doubt is of what the brackets hold.
        if c == '(' && doubted(&chars[at + 1..]) && !sentence.is_empty() {
            all.push(std::mem::take(&mut sentence));
        }
        let last = sentence.last().map_or("", String::as_str);
        let goes_on = match c {
            '.' => last == "vs",
            // Of "??" the second begins nothing.
            '?' => {
                let before = &chars[..at];
                let slash = before.iter().rfind(|c| !c.is_whitespace()) == Some(&'/');
                (slash || matches!(last, "" | "," | ":")) && before.last() != Some(&'?')
            }
            _ => false,
        };
        let heading = last == ":";
        if matches!(c, ',' | ':' | '?') {
            sentence.push(c.to_string());
        }
        // A line may break within a sentence; an empty line ends it, and so does the next one of a list, but not that of a heading.
        let paragraph = c == '\n'
            && chars
                .get(at + 1..)
                .is_some_and(|rest| blank_line(rest) || (!heading && item(rest)));
        let ends = matches!(c, '.' | '!' | '?' | ';') && !goes_on;
        if sentence.len() >= LONGEST || ((ends || paragraph) && !sentence.is_empty()) {
            all.push(std::mem::take(&mut sentence));
        }
    }
    if !word.is_empty() {
        sentence.push(word);
    }
    if !sentence.is_empty() {
        all.push(sentence);
    }
    all
}

/// Whether what follows a line end is white space up to another one.
fn blank_line(rest: &[char]) -> bool {
    rest.iter().take_while(|c| c.is_whitespace()).any(|&c| c == '\n')
}

/// Whether a line begins with the mark of a list: "- no effusion", "2) no effusion".
fn item(line: &[char]) -> bool {
    let mut line = line.iter().skip_while(|c| **c == ' ' || **c == '\t').peekable();
    let digits = std::iter::from_fn(|| line.next_if(|c| c.is_ascii_digit()));
    let digits = digits.take(DIGITS).count();
    match line.next() {
        Some('-' | '*' | '•' | '–') => digits == 0 && line.next() == Some(&' '),
        Some(')') => digits > 0,
        _ => false,
    }
}

/// Whether brackets that begin here end with a question mark.
fn doubted(rest: &[char]) -> bool {
    let end = rest.iter().take(BRACKETED).position(|&c| c == ')');
    end.and_then(|end| end.checked_sub(1))
        .is_some_and(|last| rest[last] == '?')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_whole_and_sentences_end_at_points_semicolons_and_empty_lines() {
        let text = "1. A 1.2 cm well-defined\nnodule, left; stable.\nFINDINGS\n\nPneumonia?";
        let read: Vec<String> = sentences(text).iter().map(|s| s.join(" ")).collect();
        assert_eq!(
            read,
            [
                "1",
                "a 1.2 cm well defined nodule , left",
                "stable",
                "findings",
                "pneumonia ?"
            ]
        );
        let text = "Atelectasis vs. pneumonia. History: ? edema. ? effusion. Really?? No.";
        let read: Vec<String> = sentences(text).iter().map(|s| s.join(" ")).collect();
        assert_eq!(
            read,
            [
                "atelectasis vs pneumonia",
                "history : ? edema",
                "? effusion",
                "really ?",
                "?",
                "no"
            ]
        );
        let text = "Impression:\n- No edema\n2) Mild\n-like (new?) cough // ? edema";
        let read: Vec<String> = sentences(text).iter().map(|s| s.join(" ")).collect();
        assert_eq!(read, ["impression : no edema", "2 mild like", "new ?", "cough ? edema"]);
        assert!(sentences("").is_empty() && sentences(" \n. ").is_empty());
    }

    #[test]
    fn a_text_without_an_end_is_read_part_by_part_and_no_word_is_lost() {
        for text in ["effusion ", "effusion, "] {
            let parts = sentences(&text.repeat(3 * LONGEST));
            assert!(parts.len() > 2 && parts.iter().all(|part| part.len() <= LONGEST + 1));
            let words = parts.iter().flatten().filter(|word| *word == "effusion");
            assert_eq!(words.count(), 3 * LONGEST);
        }
    }
}
