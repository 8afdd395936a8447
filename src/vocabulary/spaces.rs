//! The clean-up of tokenizer spaces that transformers 4.28 applies to decoded text, for whole texts and for streams.

/// What is replaced, in this order, each over the whole text.
const RULES: [(&str, &str); 10] = [
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
];

/// Applies the clean-up to a whole text.
pub(super) fn clean_up(text: &str) -> String {
    let mut text = text.to_owned();
    for (from, to) in RULES {
        if text.contains(from) {
            text = text.replace(from, to);
        }
    }
    text
}

/// The length in bytes of the longest prefix of `text` that can be cleaned up alone: whatever follows, cleaning the prefix and
/// the rest apart gives the same as cleaning them together.
///
/// Every rule begins with a space, and no rule removes anything but spaces. So a match across the cut begins at a space of the
/// prefix, and what stands between that space and the cut is the beginning of a rule (without its space): nothing, `'`, `n`,
/// `n'`, `'v` or `'r`. The fifth rule may have removed spaces around a quotation mark before, so that what follows the last
/// space may also be a lone `v` or `r`. If it is none of these, no match crosses the cut.
pub(super) fn settled(text: &str) -> usize {
    let ends = text.char_indices().rev().map(|(start, c)| start + c.len_utf8());
    ends.into_iter().find(|end| is_settled(&text[..*end])).unwrap_or(0)
}

fn is_settled(prefix: &str) -> bool {
    match prefix.rfind(' ') {
        None => true,
        Some(space) => !matches!(&prefix[space + 1..], "" | "'" | "n" | "n'" | "'v" | "'r" | "v" | "r"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rules_apply_one_after_the_other() {
        assert_eq!(
            clean_up("No effusion . It is n't large , is it ?"),
            "No effusion. It isn't large, is it?"
        );
        assert_eq!(clean_up("the patient ' s heart"), "the patient's heart");
        assert_eq!(
            clean_up("we  ' ve"),
            "we've",
            "the fifth rule makes a match for a later one"
        );
        assert_eq!(clean_up("a  ."), "a .", "each rule passes once");
    }

    #[test]
    fn ordinary_words_are_settled_as_they_come() {
        assert_eq!(settled("The heart"), 9);
        assert_eq!(settled("The heart "), 9);
        assert_eq!(settled("The heart is n"), 12);
        assert_eq!(settled("The heart is n'"), 12);
        assert_eq!(settled("The heart is normal."), 20);
    }

    proptest! {
        #[test]
        fn a_settled_prefix_can_be_cleaned_up_alone(text in "[ '.?!,ntmsvera]{0,24}", cut in 0usize..25) {
            let cut = cut.min(text.len());
            let end = settled(&text[..cut]);
            prop_assert_eq!(clean_up(&text[..end]) + &clean_up(&text[end..]), clean_up(&text));
        }

        #[test]
        fn so_can_all_prefixes_in_a_row(text in "[ 'ntvre.]{0,40}") {
            let (mut out, mut from) = (String::new(), 0);
            for to in 0..=text.len() {
                let end = from + settled(&text[from..to]);
                out += &clean_up(&text[from..end]);
                from = end;
            }
            out += &clean_up(&text[from..]);
            prop_assert_eq!(out, clean_up(&text));
        }
    }
}
