//! The text of a reply while it is being generated.

use super::spaces::{clean_up, settled};
use super::{TokenId, Vocabulary};

/// Turns ids into text one at a time.
///
/// All that [`push`](Self::push) and [`finish`](Self::finish) give, put together, is [`Vocabulary::decode_text`] of all ids.
/// Text that a later token could still change (half a UTF-8 character, a space before a full stop) is held back.
#[derive(Debug)]
pub struct TextStream {
    vocabulary: Vocabulary,
    /// The beginning of a UTF-8 character; at most three bytes between pushes.
    bytes: Vec<u8>,
    /// Text that is not settled yet.
    text: String,
}

impl TextStream {
    /// An empty stream.
    pub fn new(vocabulary: &Vocabulary) -> Self {
        Self {
            vocabulary: vocabulary.clone(),
            bytes: Vec::new(),
            text: String::new(),
        }
    }

    /// Takes the next id; gives the text that is settled by it, if any.
    pub fn push(&mut self, id: TokenId) -> Option<String> {
        self.bytes.extend_from_slice(self.vocabulary.piece(id));
        let complete = complete_characters(&self.bytes);
        self.text += &String::from_utf8_lossy(&self.bytes[..complete]);
        self.bytes.drain(..complete);
        let settled = settled(&self.text);
        let rest = self.text.split_off(settled);
        some(clean_up(&std::mem::replace(&mut self.text, rest)))
    }

    /// Gives what was held back; after this the stream is empty.
    pub fn finish(&mut self) -> Option<String> {
        self.text += &String::from_utf8_lossy(&std::mem::take(&mut self.bytes));
        some(clean_up(&std::mem::take(&mut self.text)))
    }
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// How many of the bytes are decided: all but a character's beginning at the end.
fn complete_characters(bytes: &[u8]) -> usize {
    let mut valid = 0;
    loop {
        match std::str::from_utf8(&bytes[valid..]) {
            Ok(_) => return bytes.len(),
            Err(error) => match error.error_len() {
                Some(invalid) => valid += error.valid_up_to() + invalid,
                None => return valid + error.valid_up_to(),
            },
        }
    }
}
