//! Many texts in little memory.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// The number of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TextId(u32);

/// Texts one behind the other, equal ones once: a data set repeats its questions and answers, and a study's report for each image.
#[derive(Debug, Default)]
pub struct Texts {
    bytes: String,
    /// Where each text ends and the next begins.
    ends: Vec<usize>,
    /// Numbers of texts by their hash; where that is taken by another text, by the next one that is free.
    known: HashMap<u64, TextId>,
}

impl Texts {
    /// Takes over a text. `None` if there are more than can be numbered, 2³² different ones.
    pub fn add(&mut self, text: &str) -> Option<TextId> {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let mut hash = hasher.finish();
        while let Some(&known) = self.known.get(&hash) {
            if self.get(known) == text {
                return Some(known);
            }
            hash = hash.wrapping_add(1);
        }
        let id = TextId(u32::try_from(self.ends.len()).ok()?);
        self.bytes.push_str(text);
        self.ends.push(self.bytes.len());
        self.known.insert(hash, id);
        Some(id)
    }

    /// A text by its number.
    pub fn get(&self, TextId(number): TextId) -> &str {
        let end = |number: usize| self.ends.get(number).copied();
        let number = number as usize;
        let start = number.checked_sub(1).and_then(end).unwrap_or(0);
        let text = end(number).and_then(|end| self.bytes.get(start..end));
        text.unwrap_or_default()
    }

    /// Gives back memory that is only needed while texts are added; what is added later is not compared with what is there.
    pub fn close(&mut self) {
        self.bytes.shrink_to_fit();
        self.ends.shrink_to_fit();
        self.known = HashMap::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_back_by_number_and_equal_ones_are_held_once() {
        let mut texts = Texts::default();
        let words = ["Yes.", "", "Größe", "No.", "Yes.", "Größe", ""];
        let ids = words.map(|word| texts.add(word).unwrap());
        texts.close();
        assert_eq!(ids.map(|id| texts.get(id).to_owned()), words.map(str::to_owned));
        assert_eq!((ids[4], ids[5], ids[6]), (ids[0], ids[2], ids[1]));
        assert_eq!(texts.bytes.len(), "Yes.GrößeNo.".len());
    }

    #[test]
    fn two_texts_of_one_hash_stay_two() {
        let mut texts = Texts::default();
        let a = texts.add("a").unwrap();
        let (&hash, _) = texts.known.iter().next().unwrap();
        // As if "b" had stood where the hash of "a" points.
        texts.bytes = "b".to_owned();
        let again = texts.add("a").unwrap();
        assert_eq!((texts.get(a), texts.get(again)), ("b", "a"));
        assert_eq!(texts.known[&hash.wrapping_add(1)], again);
        assert_eq!(texts.add("a"), Some(again));
    }
}
