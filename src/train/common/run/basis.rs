//! What a run goes by besides its settings. These name data and base by their paths; checkpoints keep checksums of what was there, so that a run
//! that is taken up notices where it has changed.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::basics::hex;
use crate::train::common::TrainError;

/// In a checkpoint's state: the checksum of the data.
const DATA: &str = "data";
/// In a checkpoint's state: the checksum of what the data say.
const CONTENTS: &str = "contents";
/// In a checkpoint's state: the checksum of the base.
const BASE: &str = "base";
/// In a checkpoint's state: the checksum of the tokenizer.
const TOKENIZER: &str = "tokenizer";
/// In a checkpoint's state: the checksum of what gives codes their meaning.
const CODES: &str = "codes";
/// In a checkpoint's state: the checksum of the labels' names.
const LABELS: &str = "labels";

/// What is read anew whenever the run is taken up, since its checkpoints hold only what is learned beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// Where it is.
    pub place: PathBuf,
    /// Checksum of all that is read there, hexadecimal.
    pub sha256: String,
}

impl Base {
    /// The labels that are learned, by their names, in the order of what tells them; `data` is where they stand. As in training, upper and
    /// lower case are the same.
    pub fn labels(data: &[String], names: &[String]) -> Self {
        let mut sum = DataSum::default();
        names.iter().for_each(|name| sum.item(&name.to_lowercase()));
        Self {
            place: PathBuf::from(data.join(", ")),
            sha256: sum.finish(),
        }
    }
}

/// What a run goes by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Basis {
    /// [`DataSum`] of what batches are drawn from.
    pub data: Option<String>,
    /// [`DataSum`] of what they say: texts, labels, codes. None where `data` is one of that already, or nothing is learned of it.
    pub contents: Option<String>,
    /// The base, where checkpoints do not hold what became of it.
    pub base: Option<Base>,
    /// The tokenizer, which gives the ids of texts their meaning.
    pub tokenizer: Option<Base>,
    /// What gives codes of images their meaning.
    pub codes: Option<Base>,
    /// What gives the numbers of labels their meaning.
    pub labels: Option<Base>,
}

impl Basis {
    /// Of a run all of whose weights are in its checkpoints.
    pub fn of(data: String) -> Self {
        Self {
            data: Some(data),
            ..Self::default()
        }
    }

    /// Adds it to the state of a checkpoint.
    pub(super) fn note(&self, state: &mut Map<String, Value>) {
        let of = |read: &Option<Base>| read.as_ref().map(|read| read.sha256.clone());
        let sums = [
            (DATA, self.data.clone()),
            (CONTENTS, self.contents.clone()),
            (BASE, of(&self.base)),
            (TOKENIZER, of(&self.tokenizer)),
            (CODES, of(&self.codes)),
            (LABELS, of(&self.labels)),
        ];
        for (name, sum) in sums {
            if let Some(sum) = sum {
                state.insert(name.to_owned(), Value::String(sum));
            }
        }
    }

    /// Compares it with what the `state` of the checkpoint of `step` of the run in `out` says; earlier versions wrote nothing. Gives what is to
    /// be told where the data are others.
    ///
    /// # Errors
    /// Where the base is another one, or ids or labels have another meaning.
    pub(super) fn compare(&self, state: &Value, step: u64, out: &Path) -> Result<Option<String>, TrainError> {
        let differs = |name: &str, now: &str| state[name].as_str().is_some_and(|then| then != now);
        if let Some(base) = self.base.as_ref().filter(|base| differs(BASE, &base.sha256)) {
            return Err(TrainError::OtherBase {
                base: base.place.clone(),
                step,
                out: out.to_owned(),
            });
        }
        for (name, read, what, ids) in [
            (TOKENIZER, &self.tokenizer, "tokenizer", "tokens"),
            (CODES, &self.codes, "VQ-GAN", "codes"),
        ] {
            if let Some(read) = read.as_ref().filter(|read| differs(name, &read.sha256)) {
                return Err(TrainError::OtherIds {
                    what,
                    ids,
                    place: read.place.clone(),
                    step,
                    out: out.to_owned(),
                });
            }
        }
        if let Some(labels) = self.labels.as_ref().filter(|labels| differs(LABELS, &labels.sha256)) {
            return Err(TrainError::OtherLabels {
                data: labels.place.clone(),
                step,
                out: out.to_owned(),
            });
        }
        let other = |name: &str, now: &Option<String>| now.as_ref().is_some_and(|now| differs(name, now));
        Ok(if other(DATA, &self.data) {
            Some(format!(
                "the data is another than at step {step}: what is left comes in another order"
            ))
        } else if other(CONTENTS, &self.contents) {
            Some(format!(
                "texts, labels or codes of the data are others than at step {step}: what is left is learned from them as they are now"
            ))
        } else {
            None
        })
    }
}

/// A checksum of data as batches are drawn from it: pools with their shares, and the names of what is in them, in their order.
#[derive(Clone, Default)]
pub struct DataSum(Sha256);

impl DataSum {
    /// A pool begins: what it is called, and its share.
    pub fn pool(&mut self, name: &str, share: f64) {
        self.item(name);
        self.value(share);
    }

    /// A number.
    pub fn value(&mut self, value: f64) {
        self.0.update(value.to_bits().to_le_bytes());
    }

    /// So many things follow.
    pub fn count(&mut self, things: usize) {
        self.0.update((things as u64).to_le_bytes());
    }

    /// A name in the pool.
    pub fn item(&mut self, name: &str) {
        self.bytes(name.as_bytes());
    }

    /// What has no name.
    pub fn bytes(&mut self, bytes: &[u8]) {
        // With its length: otherwise two names might be taken for others.
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    /// In hexadecimal.
    pub fn finish(self) -> String {
        hex(&self.0.finalize())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn basis(data: &str, base: &str) -> Basis {
        Basis {
            data: Some(data.to_owned()),
            base: Some(Base {
                place: PathBuf::from("models/base"),
                sha256: base.to_owned(),
            }),
            ..Basis::default()
        }
    }

    #[test]
    fn ids_of_another_meaning_are_refused_and_earlier_checkpoints_are_taken() {
        let basis = |tokenizer: &str, codes: &str| {
            let read = |place: &str, sha256: &str| {
                Some(Base {
                    place: PathBuf::from(place),
                    sha256: sha256.to_owned(),
                })
            };
            Basis {
                tokenizer: read("tokenizer.json", tokenizer),
                codes: read("vqgan/model.safetensors", codes),
                ..Basis::default()
            }
        };
        let mut state = Map::new();
        basis("t", "c").note(&mut state);
        let state = Value::Object(state);
        let compare = |basis: Basis, state: &Value| basis.compare(state, 7, Path::new("run"));
        assert_eq!(compare(basis("t", "c"), &state).unwrap(), None);
        for (other, what, place) in [
            (basis("other", "c"), "another tokenizer", "tokenizer.json"),
            (basis("t", "other"), "another VQ-GAN", "vqgan/model.safetensors"),
        ] {
            let refused = compare(other, &state).unwrap_err().to_string();
            for part in [what, place, "step 7", "another --out", "remove the run's folder"] {
                assert!(refused.contains(part), "{refused}");
            }
        }
        for earlier in [json!({"data": "d"}), Value::Null] {
            assert_eq!(compare(basis("t", "c"), &earlier).unwrap(), None);
        }
    }

    #[test]
    fn labels_of_another_name_number_or_order_are_refused_and_earlier_checkpoints_are_taken() {
        let basis = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            Basis {
                labels: Some(Base::labels(&["a.csv".to_owned(), "b.csv@2".to_owned()], &names)),
                ..Basis::default()
            }
        };
        let mut state = Map::new();
        basis(&["Left", "Right"]).note(&mut state);
        let state = Value::Object(state);
        let compare = |names: &[&str], state: &Value| basis(names).compare(state, 7, Path::new("run"));
        assert_eq!(compare(&["left", "Right"], &state).unwrap(), None);
        for other in [
            &["Left", "Middle"][..],
            &["Right", "Left"],
            &["Left"],
            &["Left", "Right", "Up"],
        ] {
            let refused = compare(other, &state).unwrap_err().to_string();
            for part in ["a.csv, b.csv@2", "step 7", "another --out", "remove the run's folder"] {
                assert!(refused.contains(part), "{refused}");
            }
        }
        for earlier in [json!({"data": "d"}), Value::Null] {
            assert_eq!(compare(&["Middle"], &earlier).unwrap(), None);
        }
    }

    #[test]
    fn other_data_are_told_another_base_is_refused_and_earlier_checkpoints_are_taken() {
        let mut state = Map::new();
        basis("d", "b").note(&mut state);
        let state = Value::Object(state);
        let compare = |basis: Basis, state: &Value| basis.compare(state, 7, Path::new("run"));
        assert_eq!(compare(basis("d", "b"), &state).unwrap(), None);
        let told = compare(basis("other", "b"), &state).unwrap().unwrap();
        assert!(told.starts_with("the data is another than at step 7"), "{told}");
        let refused = compare(basis("d", "other"), &state).unwrap_err().to_string();
        for part in ["models/base", "step 7", "another --out", "remove the run's folder"] {
            assert!(refused.contains(part), "{refused}");
        }
        // Where all weights are in the checkpoint nothing is said of the base.
        assert_eq!(compare(Basis::of("d".to_owned()), &state).unwrap(), None);
        for earlier in [json!({}), Value::Null] {
            assert_eq!(compare(basis("d", "b"), &earlier).unwrap(), None);
        }
        let mut nothing = Map::new();
        Basis::default().note(&mut nothing);
        assert!(nothing.is_empty());
    }

    #[test]
    fn data_of_the_same_names_that_say_something_else_are_told_and_earlier_checkpoints_are_taken() {
        let basis = |contents: Option<&str>| Basis {
            contents: contents.map(str::to_owned),
            ..Basis::of("d".to_owned())
        };
        let mut state = Map::new();
        basis(Some("c")).note(&mut state);
        let state = Value::Object(state);
        let compare = |basis: Basis, state: &Value| basis.compare(state, 7, Path::new("run")).unwrap();
        assert_eq!(compare(basis(Some("c")), &state), None);
        let told = compare(basis(Some("other")), &state).unwrap();
        assert!(told.contains("are others than at step 7"), "{told}");
        // Where the names are others too, that says all.
        let both = Basis {
            data: Some("other".to_owned()),
            ..basis(Some("other"))
        };
        let told = compare(both, &state).unwrap();
        assert!(told.starts_with("the data is another"), "{told}");
        assert_eq!(compare(basis(None), &state), None);
        assert_eq!(compare(basis(Some("c")), &json!({"data": "d"})), None);
    }

    #[test]
    fn a_checksum_follows_names_their_order_and_shares() {
        let sum = |share: f64, names: &[&str]| {
            let mut sum = DataSum::default();
            sum.pool("vqa", share);
            names.iter().for_each(|name| sum.item(name));
            sum.finish()
        };
        let one = sum(1.0, &["ab", "c"]);
        assert_eq!(one, sum(1.0, &["ab", "c"]));
        for other in [
            sum(0.5, &["ab", "c"]),
            sum(1.0, &["c", "ab"]),
            sum(1.0, &["a", "bc"]),
            sum(1.0, &["ab"]),
        ] {
            assert_ne!(one, other);
        }
    }
}
