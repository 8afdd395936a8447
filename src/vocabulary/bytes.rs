//! The alphabet of byte-level BPE: a printable character for each of the 256 bytes (Radford et al. 2019).

use std::collections::HashMap;

/// Between the characters in which byte-level tokens are written and the bytes they stand for.
pub(super) struct ByteAlphabet {
    byte_of: HashMap<char, u8>,
}

impl ByteAlphabet {
    /// Printable bytes of Latin-1 stand for themselves; the others follow from U+0100 on, in order.
    pub(super) fn new() -> Self {
        let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
        let shifted = (0u8..=255).filter(|b| !printable(*b)).zip('\u{100}'..);
        let same = (0u8..=255).filter(|b| printable(*b)).map(|b| (b, char::from(b)));
        Self {
            byte_of: same.chain(shifted).map(|(byte, char)| (char, byte)).collect(),
        }
    }

    /// The bytes of a token. One that is not wholly written in the alphabet (an added token such as a run of spaces) stands
    /// for its own text.
    pub(super) fn bytes(&self, token: &str) -> Box<[u8]> {
        let bytes: Option<Box<[u8]>> = token.chars().map(|c| self.byte_of.get(&c).copied()).collect();
        bytes.unwrap_or_else(|| token.as_bytes().into())
    }

    /// Each byte and the character it is written as.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u8, char)> {
        self.byte_of.iter().map(|(char, byte)| (*byte, *char))
    }
}

/// Whether the byte can occur in UTF-8; the others need no token.
pub(super) fn occurs_in_utf8(byte: u8) -> bool {
    !matches!(byte, 0xC0 | 0xC1 | 0xF5..=0xFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_own_character() {
        let alphabet = ByteAlphabet::new();
        let mut bytes: Vec<u8> = alphabet.iter().map(|(byte, _)| byte).collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
    }

    #[test]
    fn a_space_and_a_newline_are_written_as_in_published_vocabularies() {
        let alphabet = ByteAlphabet::new();
        assert_eq!(&*alphabet.bytes("ĠlungĊ"), b" lung\n");
        assert_eq!(
            &*alphabet.bytes("   "),
            b"   ",
            "a run of spaces is an added token and stands for itself"
        );
    }
}
