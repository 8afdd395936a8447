//! Which token follows a few others, most likely: the table that drafts of replies are made from.
//!
//! A guess is looked up by the last six, four, three or two tokens, the longest first. The table has a fixed size: every context has one
//! place, found by its hash, and what comes later takes the place over. It holds hashes, not texts. A wrong guess costs time and
//! nothing else, since the model checks every token.
//!
//! A bundle may hold such a table, made from the reports it was trained on (`drafts.safetensors`: one I32 tensor `guesses` `[n, 4]` with the
//! low and high half of the context's hash, the token, and `hits · 256 + misses`).

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::checkpoint::{CheckpointError, Dtype, SafetensorsWriter, TensorInfo, Weights};
use crate::vocabulary::TokenId;

/// Lengths of contexts, the longest first.
const ORDERS: [usize; 4] = [6, 4, 3, 2];

/// Tokens of a context that count.
pub const CONTEXT: usize = ORDERS[0];

/// Guesses in a bundle's table, at most: 1 MiB.
pub const MOST_GUESSES: usize = 1 << 16;

/// Texts in which a context must stand before it enters a bundle's table, so that nothing of a single report does.
const LEAST_TEXTS: u32 = 3;

/// From so many sightings on older ones count half.
const FULL: u8 = 16;

const TENSOR: &str = "guesses";

/// What follows a context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Guess {
    /// Hash of the context; 0 where there is none.
    key: u64,
    next: TokenId,
    /// How often the guess was right, and wrong.
    hits: u8,
    misses: u8,
}

/// Guesses at the next token, in a fixed number of places.
#[derive(Clone, Debug, Default)]
pub struct DraftTable {
    places: Vec<Guess>,
}

/// FNV-1a over the ids' bytes, the length in its low bits' place; never 0.
fn key(context: &[TokenId]) -> u64 {
    let bytes = context.iter().flat_map(|id| id.to_le_bytes());
    let start = 0xcbf2_9ce4_8422_2325 ^ context.len() as u64;
    let hash = bytes.fold(start, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash.max(1)
}

/// The contexts before position `at`, the longest first.
fn contexts(ids: &[TokenId], at: usize) -> impl Iterator<Item = &[TokenId]> {
    ORDERS
        .iter()
        .filter_map(move |&order| ids.get(at.checked_sub(order)?..at))
}

impl DraftTable {
    /// An empty table with room for `guesses`, rounded up to a power of two.
    pub fn with_room(guesses: usize) -> Self {
        Self {
            places: vec![Guess::default(); guesses.next_power_of_two()],
        }
    }

    fn place(&self, key: u64) -> Option<usize> {
        // The multiplication's high bits are the well-mixed ones.
        let mixed = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize;
        (!self.places.is_empty()).then(|| mixed & (self.places.len() - 1))
    }

    /// Takes note of the tokens of `ids` from `from` on, each with what stands before it.
    pub fn learn(&mut self, ids: &[TokenId], from: usize) {
        for at in from..ids.len() {
            for context in contexts(ids, at) {
                self.note(key(context), ids[at]);
            }
        }
    }

    fn note(&mut self, key: u64, next: TokenId) {
        let Some(guess) = self.place(key).and_then(|place| self.places.get_mut(place)) else {
            return;
        };
        if guess.key != key || (guess.next != next && guess.misses >= guess.hits) {
            *guess = Guess {
                key,
                next,
                hits: 1,
                misses: 0,
            };
        } else if guess.next == next {
            guess.hits += 1;
        } else {
            guess.misses += 1;
        }
        if guess.hits.max(guess.misses) >= FULL {
            (guess.hits, guess.misses) = (guess.hits / 2, guess.misses / 2);
        }
    }

    /// The guess at what follows exactly this context, and how likely it is right.
    fn find(&self, key: u64) -> Option<(TokenId, f32)> {
        let guess = self.places.get(self.place(key)?)?;
        let (hits, misses) = (f32::from(guess.hits), f32::from(guess.misses));
        (guess.key == key).then_some((guess.next, (hits + 0.5) / (hits + misses + 1.0)))
    }

    /// Makes the table of a bundle from the replies of its training: of each context that stands in several texts the token that follows
    /// most often, and of these the most frequent. `from` says where each reply begins in its ids.
    pub fn of_texts<'a>(texts: impl Iterator<Item = (&'a [TokenId], usize)>) -> Self {
        // Texts, and how often each token followed.
        let mut seen: HashMap<u64, (u32, HashMap<TokenId, u32>)> = HashMap::new();
        let mut here = HashSet::new();
        for (ids, from) in texts {
            here.clear();
            for at in from..ids.len() {
                for context in contexts(ids, at) {
                    let key = key(context);
                    let (texts, followed) = seen.entry(key).or_default();
                    *texts += u32::from(here.insert(key));
                    *followed.entry(ids[at]).or_default() += 1;
                }
            }
        }
        let mut guesses: Vec<(u32, Guess)> = seen
            .into_iter()
            .filter(|(_, (texts, _))| *texts >= LEAST_TEXTS)
            .filter_map(|(key, (texts, followed))| {
                let total: u32 = followed.values().sum();
                let (next, hits) = followed.into_iter().max_by_key(|&(id, n)| (n, std::cmp::Reverse(id)))?;
                let scale = f64::from(FULL - 1) / f64::from(total.max(u32::from(FULL - 1)));
                let share = |n: u32| (f64::from(n) * scale).round() as u8;
                let (hits, misses) = (share(hits), share(total - hits));
                Some((
                    texts,
                    Guess {
                        key,
                        next,
                        hits,
                        misses,
                    },
                ))
            })
            .collect();
        guesses.sort_by_key(|(texts, guess)| (std::cmp::Reverse(*texts), guess.key));
        guesses.truncate(MOST_GUESSES);
        Self::with_guesses(guesses.into_iter().map(|(_, guess)| guess))
    }

    /// A table of these, the more important ones first: they keep their places.
    fn with_guesses(guesses: impl ExactSizeIterator<Item = Guess>) -> Self {
        let mut table = Self::with_room(2 * guesses.len());
        for guess in guesses {
            if let Some(place) = table.place(guess.key)
                && table.places[place].key == 0
            {
                table.places[place] = guess;
            }
        }
        table
    }

    /// Guesses there are.
    pub fn len(&self) -> usize {
        self.places.iter().filter(|guess| guess.key != 0).count()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes the table as a file of a bundle.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), CheckpointError> {
        let mut bytes = Vec::new();
        for guess in self.places.iter().filter(|guess| guess.key != 0) {
            let weights = u32::from(guess.hits) << 8 | u32::from(guess.misses);
            for word in [guess.key as u32, (guess.key >> 32) as u32, guess.next, weights] {
                bytes.extend(word.to_le_bytes());
            }
        }
        let info = TensorInfo {
            dtype: Dtype::I32,
            shape: vec![self.len(), 4],
        };
        let mut writer = SafetensorsWriter::create(path, &[(TENSOR.to_owned(), info)])?;
        writer.write(TENSOR, &bytes)?;
        writer.finish()
    }

    /// Reads a bundle's table. Guesses at ids outside a vocabulary are the reader's to ignore.
    ///
    /// # Errors
    /// When the file is not such a table, or holds more than [`MOST_GUESSES`].
    pub fn read(path: &Path) -> Result<Self, CheckpointError> {
        let weights = Weights::open(&[path.to_owned()])?;
        let wrong = |reason: String| CheckpointError::tensor(path, TENSOR, reason);
        let (Some(info), Some(bytes)) = (weights.info(TENSOR), weights.bytes(TENSOR)) else {
            return Err(wrong("is missing from the table of drafts".to_owned()));
        };
        if info.dtype != Dtype::I32 || info.shape.len() != 2 || info.shape[1] != 4 || info.shape[0] > MOST_GUESSES {
            let (dtype, shape) = (info.dtype, &info.shape);
            return Err(wrong(format!(
                "is {dtype} of shape {shape:?}; a table of drafts is I32 of [n, 4], n up to {MOST_GUESSES}"
            )));
        }
        let guess = |row: &[u8]| {
            let word = |i: usize| {
                row.get(4 * i..4 * i + 4)
                    .and_then(|b| b.try_into().ok())
                    .map_or(0, u32::from_le_bytes)
            };
            let [_, _, hits, misses] = word(3).to_be_bytes();
            Guess {
                key: u64::from(word(1)) << 32 | u64::from(word(0)),
                next: word(2),
                hits: hits.min(FULL - 1),
                misses: misses.min(FULL - 1),
            }
        };
        Ok(Self::with_guesses(bytes.chunks_exact(16).map(guess)))
    }
}

/// The best guess of several tables at what follows `ids`, and how likely it is right: the longest context decides, then the order of the
/// tables.
pub fn guess<'a>(tables: impl Iterator<Item = &'a DraftTable> + Clone, ids: &[TokenId]) -> Option<(TokenId, f32)> {
    contexts(ids, ids.len()).find_map(|context| {
        let key = key(context);
        tables.clone().find_map(|table| table.find(key))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follow(table: &DraftTable, ids: &[TokenId]) -> Option<TokenId> {
        guess(std::iter::once(table), ids).map(|(next, _)| next)
    }

    #[test]
    fn what_followed_a_context_is_guessed_again_and_the_longest_context_decides() {
        let mut table = DraftTable::with_room(1 << 10);
        assert_eq!(follow(&table, &[1, 2, 3]), None);
        table.learn(&[1, 2, 3, 4, 5], 0);
        table.learn(&[9, 8, 3, 7], 0);
        table.learn(&[0, 2, 3, 6], 0);
        assert_eq!(follow(&table, &[1, 2, 3]), Some(4));
        assert_eq!(follow(&table, &[9, 8, 3]), Some(7));
        assert_eq!(follow(&table, &[7, 8, 3]), Some(7), "two tokens are a context too");
        assert_eq!(follow(&table, &[3]), None, "one is not");
    }

    #[test]
    fn a_guess_that_is_wrong_more_often_than_right_gives_way() {
        let mut table = DraftTable::with_room(1 << 10);
        table.learn(&[1, 2, 3], 2);
        let sure = guess(std::iter::once(&table), &[1, 2]).unwrap();
        table.learn(&[1, 2, 3], 2);
        let surer = guess(std::iter::once(&table), &[1, 2]).unwrap();
        assert!(surer.1 > sure.1);
        for _ in 0..3 {
            table.learn(&[1, 2, 4], 2);
        }
        assert_eq!(follow(&table, &[1, 2]), Some(4));
    }

    #[test]
    fn a_table_never_grows() {
        let mut table = DraftTable::with_room(100);
        for text in 0..100u32 {
            table.learn(&(0..50).map(|i| i * text).collect::<Vec<_>>(), 0);
        }
        assert!(table.len() <= 128 && table.places.len() == 128);
        let mut none = DraftTable::default();
        none.learn(&[1, 2, 3], 0);
        assert_eq!(follow(&none, &[1, 2]), None);
    }

    #[test]
    fn a_bundles_table_holds_what_several_texts_share_and_survives_its_file() {
        let texts: Vec<Vec<TokenId>> = (0..5).map(|t| vec![100 + t, 1, 2, 3, 4 + t / 3, 200 + t]).collect();
        let table = DraftTable::of_texts(texts.iter().map(|ids| (&ids[..], 1)));
        assert_eq!(follow(&table, &[1, 2, 3]), Some(4));
        assert_eq!(follow(&table, &[1, 2]), Some(3));
        assert_eq!(follow(&table, &[103, 1, 2]), Some(3));
        assert_eq!(follow(&table, &[103, 1]), None, "it stands in one text only");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("drafts.safetensors");
        table.write(&path).unwrap();
        let again = DraftTable::read(&path).unwrap();
        assert_eq!(again.len(), table.len());
        let sure = |table: &DraftTable| guess(std::iter::once(table), &[1, 2, 3]);
        assert_eq!(sure(&again), sure(&table));
        std::fs::write(&path, b"no table").unwrap();
        assert!(DraftTable::read(&path).is_err());
    }
}
