//! Plain texts as two long rows of tokens, one to learn from and one to measure on.

use std::path::Path;

use rand::Rng;
use rayon::prelude::*;
use serde_json::Value;

use crate::train::common::random::{Purpose, generator};
use crate::train::common::{Held, TrainError};
use crate::train::data::{self, Account, DataError, Dataset, ReportSource, Split, SplitWatch, patient_of};
use crate::train::neox::TokenBatch;
use crate::vocabulary::{TokenId, Vocabulary};

/// Documents one after the other, `<|endoftext|>` after each.
#[derive(Debug, Default)]
pub struct Texts {
    train: Vec<TokenId>,
    validate: Vec<TokenId>,
    /// What was read and skipped.
    pub account: Account,
}

/// A document.
struct Document {
    text: String,
    /// Where its source says so.
    split: Option<Split>,
    /// Whom it is about, where its source says so and no split.
    patient: Option<String>,
}

impl Document {
    fn of(text: String, split: Split) -> Self {
        Self {
            text,
            split: Some(split),
            patient: None,
        }
    }
}

impl Texts {
    /// Reads and tokenises a source. `watch` has seen the sources before it. Where the source names no splits, one of so many documents is
    /// kept for validation; documents of one patient stay together.
    pub fn add(&mut self, path: &Path, vocabulary: &Vocabulary, watch: &mut SplitWatch) -> Result<(), TrainError> {
        let suffix = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        let documents = match suffix {
            "txt" => {
                let bytes = std::fs::read(path).map_err(|e| TrainError::io(path, e))?;
                vec![Document::of(String::from_utf8_lossy(&bytes).into_owned(), Split::Train)]
            }
            "jsonl" => lines(path, &mut self.account)?,
            _ => records(path, watch, &mut self.account)?,
        };
        let tokens: Vec<Vec<TokenId>> = documents
            .par_iter()
            .map(|document| vocabulary.encode_text(&document.text))
            .collect();
        let mut held = Held::default();
        for (number, (document, ids)) in documents.iter().zip(tokens).enumerate() {
            let held = match held.next(document.patient.as_deref()) {
                true => Split::Validate,
                false => Split::Train,
            };
            if ids.is_empty() {
                self.account
                    .skip("document is empty", || format!("number {}", number + 1));
                continue;
            }
            let row = match document.split.unwrap_or(held) {
                Split::Train => &mut self.train,
                Split::Validate => &mut self.validate,
                Split::Test => continue,
            };
            row.extend(ids);
            row.push(vocabulary.end_of_text());
            self.account.used("documents");
        }
        Ok(())
    }

    /// Tokens to learn from.
    pub fn tokens(&self) -> usize {
        self.train.len()
    }

    /// `count` stretches of `length` tokens to learn from in `step`: a function of seed and step alone.
    pub fn training(&self, seed: u64, step: u64, count: usize, length: usize) -> Vec<&[TokenId]> {
        let mut rng = generator(seed, Purpose::Step, step);
        let last = self.train.len().saturating_sub(length);
        let starts = (0..count).map(|_| rng.random_range(0..=last));
        starts
            .filter_map(|start| self.train.get(start..(start + length).min(self.train.len())))
            .collect()
    }

    /// Up to `count` stretches for measuring, spread evenly.
    pub fn measured(&self, count: usize, length: usize) -> Vec<&[TokenId]> {
        let whole: Vec<&[TokenId]> = self.validate.chunks_exact(length).collect();
        let count = count.min(whole.len());
        (0..count).map(|n| whole[n * whole.len() / count]).collect()
    }
}

/// Stretches of one length as batches of at most `pass_tokens` tokens, every token a label.
pub fn passes(stretches: &[&[TokenId]], pass_tokens: usize) -> Vec<TokenBatch> {
    let length = stretches.first().map_or(1, |s| s.len()).max(1);
    let batch = |rows: &[&[TokenId]]| {
        let ids: Vec<i64> = rows
            .iter()
            .flat_map(|row| row.iter().map(|&id| i64::from(id)))
            .collect();
        TokenBatch {
            rows: rows.len(),
            length,
            labels: ids.clone(),
            ids,
            weights: Vec::new(),
        }
    };
    stretches.chunks((pass_tokens / length).max(1)).map(batch).collect()
}

/// JSON lines with `text` (or `report`), or with an instruction and its response.
fn lines(path: &Path, account: &mut Account) -> Result<Vec<Document>, TrainError> {
    let mut documents = Vec::new();
    for line in data::lines(path)? {
        let (number, line) = line?;
        let Ok(value) = serde_json::from_str::<Value>(&line) else {
            account.skip("line is not JSON", || format!("line {number}"));
            continue;
        };
        let field = |name: &str| value[name].as_str().map(str::trim).filter(|text| !text.is_empty());
        let parts: Vec<&str> = match field("text").or_else(|| field("report")) {
            Some(text) => vec![text],
            None => ["instruction", "context", "response"]
                .into_iter()
                .filter_map(field)
                .collect(),
        };
        match parts.is_empty() {
            true => account.skip("line holds no text", || format!("line {number}")),
            false => documents.push(Document {
                text: parts.join("\n\n"),
                split: field("split").and_then(Split::parse),
                patient: value.as_object().and_then(patient_of),
            }),
        }
    }
    Ok(documents)
}

/// The reports of a data set.
fn records(path: &Path, watch: &mut SplitWatch, account: &mut Account) -> Result<Vec<Document>, TrainError> {
    let mut documents = Vec::new();
    Dataset::open(path)?.visit_watched::<DataError>(watch, account, &mut |record, account| {
        match record.report {
            Some(ReportSource::Text(text)) => documents.push(Document::of(text, record.split)),
            Some(ReportSource::File(file)) => match std::fs::read(file) {
                Ok(bytes) => documents.push(Document::of(String::from_utf8_lossy(&bytes).into_owned(), record.split)),
                Err(_) => account.skip("report cannot be read", || record.id),
            },
            None => account.skip("record without a report", || record.id),
        }
        Ok(())
    })?;
    Ok(documents)
}
