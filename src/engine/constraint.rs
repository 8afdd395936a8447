//! What may come next in a reply: a small state machine per sequence, run as part of sampling.

use std::ops::Range;

use super::Rule;
use crate::vocabulary::{TokenId, Vocabulary};

/// The token ids the rules speak of. Nothing is hard-wired: they come from the bundle's vocabulary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRules {
    /// First image-code id. Text and control ids lie below it.
    pub code_base: TokenId,
    /// Size of the code book: code ids are `code_base .. code_base + code_count`.
    pub code_count: usize,
    /// Codes of one image.
    pub codes_per_image: usize,
    /// `<`, which opens an image.
    pub open_image: TokenId,
    /// `>`, which closes an image.
    pub close_image: TokenId,
    /// `### End`: what follows `>` in a reply that is an image.
    pub end: TokenId,
    /// Ids that end a reply (`end` among them).
    pub stops: Vec<TokenId>,
}

impl TokenRules {
    /// The rules of a bundle's vocabulary.
    pub fn of(vocabulary: &Vocabulary) -> Self {
        Self {
            code_base: vocabulary.code_base(),
            code_count: vocabulary.code_count(),
            codes_per_image: vocabulary.codes_per_image(),
            open_image: vocabulary.open_image(),
            close_image: vocabulary.close_image(),
            end: vocabulary.end(),
            stops: vocabulary.stops(),
        }
    }

    /// Whether the id ends a reply.
    pub fn is_stop(&self, id: TokenId) -> bool {
        id == self.end || self.stops.contains(&id)
    }

    /// The code an id stands for, if it is an image code.
    pub fn code(&self, id: TokenId) -> Option<u16> {
        let code = id.checked_sub(self.code_base)?;
        ((code as usize) < self.code_count)
            .then(|| u16::try_from(code).ok())
            .flatten()
    }

    /// The id of a code.
    pub fn code_id(&self, code: u16) -> TokenId {
        self.code_base + TokenId::from(code)
    }

    /// Most tokens a reply takes: an image is `<`, its codes, `>` and the end; anything else may use all it was granted.
    pub fn reply_len(&self, rule: Rule, max_new_tokens: usize) -> usize {
        match rule {
            Rule::Image => max_new_tokens.min(image_len(self.codes_per_image)),
            Rule::Text | Rule::Free => max_new_tokens,
        }
    }
}

/// Tokens of a reply that is an image: `<`, its codes, `>` and the end.
pub fn image_len(codes_per_image: usize) -> usize {
    codes_per_image + 3
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Only this token can come; nothing is sampled.
    Forced(TokenId),
    /// One of these is sampled.
    Choice(Range<TokenId>),
}

/// Where a reply stands under its rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constraint {
    rule: Rule,
    /// Tokens accepted so far; all an image's rule needs to know.
    accepted: usize,
    ended: bool,
}

impl Constraint {
    /// At the beginning of a reply.
    pub fn new(rule: Rule) -> Self {
        Self {
            rule,
            accepted: 0,
            ended: false,
        }
    }

    /// Whether the reply has come to its own end.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// What may come next in a vocabulary of `vocabulary` rows.
    pub fn next(&self, rules: &TokenRules, vocabulary: usize) -> Next {
        let codes = rules.codes_per_image;
        match self.rule {
            Rule::Text => Next::Choice(0..rules.code_base),
            Rule::Free => Next::Choice(0..vocabulary as TokenId),
            Rule::Image if self.accepted == 0 => Next::Forced(rules.open_image),
            Rule::Image if self.accepted <= codes => {
                let range = rules.code_base..rules.code_base + rules.code_count as TokenId;
                Next::Choice(range)
            }
            Rule::Image if self.accepted == codes + 1 => Next::Forced(rules.close_image),
            Rule::Image => Next::Forced(rules.end),
        }
    }

    /// Takes note of the token that came.
    pub fn accept(&mut self, id: TokenId, rules: &TokenRules) {
        self.accepted += 1;
        self.ended = match self.rule {
            Rule::Text | Rule::Free => rules.is_stop(id),
            Rule::Image => self.accepted >= image_len(rules.codes_per_image),
        };
    }

    /// Whether all that is still to come is forced, so that the reply can be completed without the model.
    pub fn rest_is_forced(&self, rules: &TokenRules) -> bool {
        self.rule == Rule::Image && self.accepted > rules.codes_per_image && !self.ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rules() -> TokenRules {
        TokenRules {
            code_base: 40,
            code_count: 16,
            codes_per_image: 4,
            open_image: 10,
            close_image: 11,
            end: 30,
            stops: vec![30, 0],
        }
    }

    #[test]
    fn an_image_is_open_codes_close_end_and_nothing_else() {
        let rules = rules();
        let mut constraint = Constraint::new(Rule::Image);
        assert_eq!(constraint.next(&rules, 56), Next::Forced(10));
        constraint.accept(10, &rules);
        for _ in 0..4 {
            assert!(!constraint.rest_is_forced(&rules));
            assert_eq!(constraint.next(&rules, 56), Next::Choice(40..56));
            constraint.accept(41, &rules);
        }
        assert!(constraint.rest_is_forced(&rules));
        assert_eq!(constraint.next(&rules, 56), Next::Forced(11));
        constraint.accept(11, &rules);
        assert!(!constraint.ended() && constraint.rest_is_forced(&rules));
        assert_eq!(constraint.next(&rules, 56), Next::Forced(30));
        constraint.accept(30, &rules);
        assert!(constraint.ended() && !constraint.rest_is_forced(&rules));
    }

    #[test]
    fn text_ends_at_any_stop_and_offers_no_code() {
        let rules = rules();
        let mut constraint = Constraint::new(Rule::Text);
        assert_eq!(constraint.next(&rules, 56), Next::Choice(0..40));
        constraint.accept(5, &rules);
        assert!(!constraint.ended());
        constraint.accept(0, &rules);
        assert!(constraint.ended());
    }

    #[test]
    fn codes_and_ids_are_one_to_one() {
        let rules = rules();
        assert_eq!(
            (rules.code(39), rules.code(40), rules.code(55), rules.code(56)),
            (None, Some(0), Some(15), None)
        );
        assert_eq!(rules.code_id(15), 55);
    }

    #[test]
    fn the_rules_of_a_vocabulary_have_its_ids() {
        let tokenizer = include_bytes!("../../tests/fixtures/vocabulary/tokenizer.json");
        let vocabulary = Vocabulary::from_bytes(tokenizer, 16, 4).unwrap();
        let rules = TokenRules::of(&vocabulary);
        assert_eq!((rules.end, &rules.stops), (vocabulary.end(), &vocabulary.stops()));
        assert_eq!(
            (rules.code_base as usize, rules.code_count),
            (vocabulary.text_len(), 16)
        );
    }

    proptest! {
        #[test]
        fn free_replies_may_hold_anything_and_end_at_a_stop(ids in prop::collection::vec(0u32..56, 1..50)) {
            let rules = rules();
            let mut constraint = Constraint::new(Rule::Free);
            for id in ids {
                prop_assert_eq!(constraint.next(&rules, 56), Next::Choice(0..56));
                constraint.accept(id, &rules);
                prop_assert_eq!(constraint.ended(), id == 30 || id == 0);
            }
        }
    }
}
