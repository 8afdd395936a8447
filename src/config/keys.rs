//! API keys: kept and compared as SHA-256 digests, never as they are.

use std::path::Path;

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::basics::{hex, sha256};

/// The SHA-256 of an API key. Its `Debug` shows nothing of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyDigest([u8; 32]);

impl std::fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyDigest(…)")
    }
}

/// Why keys could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not 64 hexadecimal digits.
    #[error("an API key hash is 64 hexadecimal digits; `llm-cxr hash-key` makes one from a key")]
    NotADigest,
    /// The same, in a file.
    #[error("{file}, line {line}: an API key hash is 64 hexadecimal digits; `llm-cxr hash-key` makes one from a key")]
    NotADigestInFile {
        /// The file.
        file: String,
        /// The line, counted from 1.
        line: usize,
    },
    /// The file could not be read.
    #[error("the API keys file {file} cannot be read: {reason}")]
    Unreadable {
        /// The file.
        file: String,
        /// Why.
        reason: String,
    },
    /// The file held keys that are not given otherwise, and holds none at all any more.
    #[error("the API keys file {file} holds no key")]
    NoKeyInFile {
        /// The file.
        file: String,
    },
}

impl std::str::FromStr for KeyDigest {
    type Err = KeyError;

    fn from_str(hex: &str) -> Result<Self, KeyError> {
        let hex = hex.trim().as_bytes();
        let digit = |b: u8| char::from(b).to_digit(16).map(|d| d as u8);
        let mut digest = [0; 32];
        if hex.len() != 64 {
            return Err(KeyError::NotADigest);
        }
        for (byte, pair) in digest.iter_mut().zip(hex.chunks_exact(2)) {
            *byte = match pair {
                &[high, low] => digit(high)
                    .zip(digit(low))
                    .map(|(h, l)| h << 4 | l)
                    .ok_or(KeyError::NotADigest)?,
                _ => return Err(KeyError::NotADigest),
            };
        }
        Ok(Self(digest))
    }
}

/// The hash of `key` as the configuration wants it: SHA-256 in lower-case hex.
pub fn hash_key(key: &str) -> String {
    sha256(key.as_bytes())
}

/// A key that is let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownKey {
    /// What the log calls it: the first eight digits of its hash, which tell keys apart and give none away.
    pub name: String,
    /// A number that tells it from others: the same while the key is known, whichever come and go beside it.
    pub number: u32,
}

/// The keys that are let in, each once. None at all: everybody is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiKeys(Vec<KeyDigest>);

impl ApiKeys {
    /// The given digests, and those in `file`.
    pub fn new(digests: &[KeyDigest], file: Option<&Path>) -> Result<Self, KeyError> {
        let mut listed: Vec<KeyDigest> = Vec::new();
        if let Some(path) = file {
            let file = path.display().to_string();
            let text = std::fs::read_to_string(path).map_err(|e| KeyError::Unreadable {
                file: file.clone(),
                reason: e.to_string(),
            })?;
            for (number, line) in text.lines().enumerate() {
                let line = line.split('#').next().unwrap_or_default().trim();
                if !line.is_empty() {
                    let wrong = |_| KeyError::NotADigestInFile {
                        file: file.clone(),
                        line: number + 1,
                    };
                    listed.push(line.parse().map_err(wrong)?);
                }
            }
        }
        Ok(Self(listed).beside(digests))
    }

    /// The given digests and these behind them, each once.
    pub fn beside(self, digests: &[KeyDigest]) -> Self {
        let mut keys = Vec::new();
        for key in digests.iter().copied().chain(self.0) {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        Self(keys)
    }

    /// Whether no key is asked for.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Whether there are at least two.
    pub fn are_several(&self) -> bool {
        self.0.len() > 1
    }

    /// If `key` is one of them, which. Looking takes the same time whichever it is, and if it is none.
    pub fn find(&self, key: &str) -> Option<KnownKey> {
        let digest = Sha256::digest(key.as_bytes());
        let known = |found, known: &KeyDigest| found | known.0.ct_eq(&digest);
        let found = self.0.iter().fold(Choice::from(0), known);
        let &[a, b, c, d, ..] = digest.as_slice() else {
            return None;
        };
        bool::from(found).then(|| KnownKey {
            name: hex(&digest[..4]),
            number: u32::from_be_bytes([a, b, c, d]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_known_by_its_hash_alone() {
        let digest: KeyDigest = hash_key("sesame").parse().expect("a hash parses");
        let keys = ApiKeys::new(&[digest], None).expect("no file");
        let name = hash_key("sesame")[..8].to_owned();
        assert_eq!(keys.find("sesame").map(|known| known.name), Some(name));
        assert!(keys.find("sesam").is_none());
        assert!(keys.find("").is_none());
        assert!(!format!("{keys:?}").contains(&hash_key("sesame")[..8]));
    }

    #[test]
    fn a_keys_file_may_hold_comments_and_names_the_line_that_is_wrong() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("keys");
        std::fs::write(&path, format!("# ward 7\n\n{}  # viewer\n", hash_key("a"))).expect("written");
        assert!(ApiKeys::new(&[], Some(&path)).expect("read").find("a").is_some());
        std::fs::write(&path, "# ward 7\nabc\n").expect("written");
        let error = ApiKeys::new(&[], Some(&path)).expect_err("not a hash");
        assert!(matches!(error, KeyError::NotADigestInFile { line: 2, .. }));
    }

    #[test]
    fn every_key_is_let_in_those_given_and_those_of_the_file_and_no_other() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("keys");
        std::fs::write(&path, format!("{}\n{}\n", hash_key("c"), hash_key("d"))).expect("written");
        let given: [KeyDigest; 2] = ["a", "b"].map(|key| hash_key(key).parse().expect("a hash parses"));
        let keys = ApiKeys::new(&given, Some(&path)).expect("read");
        let number = |keys: &ApiKeys, key: &str| keys.find(key).map(|known| known.number);
        let alone = ApiKeys::new(&[], Some(&path)).expect("read");
        assert_eq!(
            number(&keys, "c"),
            number(&alone, "c"),
            "the same, whichever are beside it"
        );
        let numbers: std::collections::BTreeSet<_> = ["a", "b", "c", "d"]
            .map(|key| number(&keys, key).expect("let in"))
            .into();
        assert_eq!(numbers.len(), 4);
        for key in ["e", "", "A", hash_key("a").as_str()] {
            assert!(keys.find(key).is_none(), "{key}");
        }
        assert!(keys.are_several());
    }

    #[test]
    fn a_key_that_is_given_twice_is_one() {
        let key: KeyDigest = hash_key("a").parse().expect("a hash parses");
        let keys = ApiKeys::new(&[key, key], None).expect("no file");
        assert!(!keys.are_several() && keys.find("a").is_some());
    }
}
