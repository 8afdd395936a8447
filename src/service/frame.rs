//! The `<` and `>` around the codes of a drawing, in a reply that may hold text as well: they are no words of it.
//!
//! What a `<` is shows with the token after it: where that is a code, it opens a drawing. So it is held back for one token, and the text that
//! is streamed is the text of the whole answer, piece by piece. A drawing that is broken off has the same frame.

use crate::vocabulary::{TokenId, Vocabulary};

/// What a token may be to a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// `<`.
    Open,
    /// `>`.
    Close,
    /// A code of an image.
    Code,
    /// Anything else.
    Word,
}

impl Mark {
    pub(super) fn of(id: TokenId, vocabulary: &Vocabulary) -> Self {
        if vocabulary.code(id).is_some() {
            return Self::Code;
        }
        // A tokenizer may have tokens of them with a space, too.
        match vocabulary.decode_text(&[id]).trim() {
            "<" => Self::Open,
            ">" => Self::Close,
            _ => Self::Word,
        }
    }
}

/// Takes the tokens of a reply one at a time and gives those that are text.
#[derive(Debug, Default)]
pub(super) struct Frame {
    /// A `<` that came last.
    held: Option<TokenId>,
    /// Whether a `<` opened a drawing and its `>` is still to come.
    open: bool,
    after_code: bool,
}

impl Frame {
    /// Takes the next token; gives the tokens that are now known to be text, in order.
    pub(super) fn push(&mut self, id: TokenId, mark: Mark) -> impl Iterator<Item = TokenId> + use<> {
        let held = self.held.take();
        let after_code = std::mem::replace(&mut self.after_code, mark == Mark::Code);
        let text = match mark {
            Mark::Code => {
                self.open |= held.is_some();
                [None, None]
            }
            Mark::Open => {
                self.held = Some(id);
                [held, None]
            }
            // Right after a code, so nothing was held.
            Mark::Close if self.open && after_code => {
                self.open = false;
                [None, None]
            }
            Mark::Close | Mark::Word => [held, Some(id)],
        };
        text.into_iter().flatten()
    }

    /// The reply has ended: gives what was held back.
    pub(super) fn finish(&mut self) -> Option<TokenId> {
        self.held.take()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The marks that `written` stands for: `c` is a code.
    fn marks(written: &str) -> Vec<Mark> {
        let mark = |letter| match letter {
            '<' => Mark::Open,
            '>' => Mark::Close,
            'c' => Mark::Code,
            _ => Mark::Word,
        };
        written.chars().map(mark).collect()
    }

    /// What is text of it, by place in the reply.
    fn text_of(marks: &[Mark]) -> Vec<TokenId> {
        let mut frame = Frame::default();
        let mut text = Vec::new();
        for (id, mark) in (0..).zip(marks) {
            text.extend(frame.push(id, *mark));
        }
        text.extend(frame.finish());
        text
    }

    #[test]
    fn the_marks_around_codes_are_no_text_and_all_others_are() {
        for (written, text) in [
            ("a<b", "a<b"),
            ("a<", "a<"),
            ("<<", "<<"),
            ("<cc>", ""),
            ("a<cc>b", "ab"),
            ("a<b<cc>b", "a<bb"),
            ("<<cc>>", "<>"),
            ("a<cc", "a"),
            ("<cca", "a"),
            ("<cca>", "a>"),
            ("<ccacc>", "a"),
            ("cc>", ">"),
            ("<>cc", "<>"),
            ("<cc>a<cc>", "a"),
        ] {
            let letters: Vec<char> = written.chars().collect();
            let kept: String = text_of(&marks(written))
                .iter()
                .map(|id| letters[*id as usize])
                .collect();
            assert_eq!(kept, text, "{written}");
        }
    }

    #[test]
    fn marks_are_known_by_what_they_write() {
        let tokenizer = include_bytes!("../../tests/fixtures/vocabulary/tokenizer.json");
        let vocabulary = Vocabulary::from_bytes(tokenizer, 32, 16).expect("the fixture is a tokenizer");
        let of = |id| Mark::of(id, &vocabulary);
        assert_eq!(of(vocabulary.open_image()), Mark::Open);
        assert_eq!(of(vocabulary.close_image()), Mark::Close);
        assert_eq!(of(vocabulary.code_base() + 31), Mark::Code);
        assert_eq!(of(vocabulary.end()), Mark::Word);
    }

    proptest! {
        #[test]
        fn only_codes_and_the_marks_next_to_them_are_left_out(written in "[<>ca]{0,24}") {
            let marks = marks(&written);
            let kept = text_of(&marks);
            prop_assert!(kept.is_sorted());
            for (at, mark) in marks.iter().enumerate() {
                let kept = kept.contains(&(at as TokenId));
                let code = |at: Option<usize>| at.and_then(|at| marks.get(at)) == Some(&Mark::Code);
                match mark {
                    Mark::Word => prop_assert!(kept),
                    Mark::Code => prop_assert!(!kept),
                    Mark::Open => prop_assert_eq!(kept, !code(Some(at + 1))),
                    Mark::Close => prop_assert!(kept || code(at.checked_sub(1))),
                }
            }
        }
    }
}
