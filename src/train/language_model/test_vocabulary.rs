//! A small token space for tests.

use std::sync::OnceLock;

use crate::train::tokenizer;
use crate::vocabulary::Vocabulary;

const TEXT: &str = "The heart is normal.\nThe lungs are clear.\nNo effusion, no pneumothorax.\n\n> <image>";

/// A small token space with images of four codes.
pub fn vocabulary() -> Vocabulary {
    static VOCABULARY: OnceLock<Vocabulary> = OnceLock::new();
    let make = || Vocabulary::from_bytes(&tokenizer::train(&[TEXT], 300).unwrap(), 8, 4).unwrap();
    VOCABULARY.get_or_init(make).clone()
}
