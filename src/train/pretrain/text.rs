//! Plain texts as two long rows of tokens, one to learn from and one to measure on.

use std::path::Path;

use rand::Rng;
use rayon::prelude::*;

use crate::train::common::random::{Purpose, generator};
use crate::train::common::{DataSum, Held, TrainError};
use crate::train::data::{Account, DataError, Dataset, MET, Met, ReportSource, Split, SplitWatch, is_no_file};
use crate::train::neox::TokenBatch;
use crate::vocabulary::{TokenId, Vocabulary};

/// Documents one after the other, `<|endoftext|>` after each.
#[derive(Debug, Default)]
pub struct Texts {
    train: Vec<TokenId>,
    validate: Vec<TokenId>,
    /// Documents to learn from or to measure on, of all sources.
    met: Met,
    /// What was read and skipped.
    pub account: Account,
}

/// A document.
struct Document {
    text: String,
    split: Split,
    /// Whom it is about, where its source says so.
    patient: Option<String>,
    /// Names it in the account.
    place: String,
}

impl Texts {
    /// Reads and tokenises a source. `watch` has seen the sources before it. Where the source has nothing for validation, one of so many
    /// documents is kept for it; documents of one patient stay together. A text that was read before, as where each question or image of a
    /// study has a row with its report, is skipped: it would be learned again and again, and might be measured on too.
    pub fn add(&mut self, path: &Path, vocabulary: &Vocabulary, watch: &mut SplitWatch) -> Result<(), TrainError> {
        let suffix = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
        let mut documents = match suffix.as_deref() {
            Some("txt") => {
                let bytes = std::fs::read(path).map_err(|e| TrainError::io(path, e))?;
                vec![Document {
                    text: String::from_utf8_lossy(&bytes).into_owned(),
                    split: Split::Train,
                    patient: None,
                    place: path.display().to_string(),
                }]
            }
            _ => records(path, watch, &mut self.met, &mut self.account)?,
        };
        // What is for testing is not used, and takes nothing away from what is.
        let (met, account) = (&mut self.met, &mut self.account);
        documents.retain(|document| {
            let new = document.split == Split::Test || met.text(&document.text);
            if !new {
                account.skip(MET, || document.place.clone());
            }
            new
        });
        if documents.iter().all(|document| document.split != Split::Validate) {
            let mut held = Held::default();
            let learned = documents.iter_mut().filter(|document| document.split == Split::Train);
            for document in learned {
                if held.next(document.patient.as_deref()) {
                    document.split = Split::Validate;
                }
            }
        }
        let tokens: Vec<Vec<TokenId>> = documents
            .par_iter()
            .map(|document| vocabulary.encode_text(&document.text))
            .collect();
        for (document, ids) in documents.iter().zip(tokens) {
            if ids.is_empty() {
                self.account.skip("document is empty", || document.place.clone());
                continue;
            }
            let row = match document.split {
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

    /// Checksum of the tokens to learn from.
    pub fn checksum(&self) -> String {
        let mut sum = DataSum::default();
        for part in self.train.chunks(1 << 16) {
            let bytes: Vec<u8> = part.iter().flat_map(|id| id.to_le_bytes()).collect();
            sum.bytes(&bytes);
        }
        sum.finish()
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

/// The reports, other texts, and instructions with their responses of a data set, with its rules of splits and patients.
fn records(
    path: &Path,
    watch: &mut SplitWatch,
    met: &mut Met,
    account: &mut Account,
) -> Result<Vec<Document>, TrainError> {
    let mut documents = Vec::new();
    let dataset = Dataset::open(path)?.with_bare_texts();
    dataset.visit_watched::<DataError>(watch, account, &mut |record, account| {
        let text = match (record.report, record.instruction) {
            (Some(ReportSource::Text(text)), _) => text,
            // The images of a study share its report.
            (Some(ReportSource::File(file)), _) if !met.file(&file) => {
                account.skip(MET, || record.id);
                return Ok(());
            }
            (Some(ReportSource::File(file)), _) => match std::fs::read(file) {
                Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
                Err(reason) if is_no_file(&reason) => {
                    account.skip("report cannot be read", || record.id);
                    return Ok(());
                }
                Err(reason) => return Err(DataError::unread("report", &record.id, reason)),
            },
            (None, Some(plain)) => {
                let parts = [Some(plain.instruction), plain.context, Some(plain.response)];
                parts.into_iter().flatten().collect::<Vec<_>>().join("\n\n")
            }
            (None, None) => {
                account.skip("record without a report", || record.id);
                return Ok(());
            }
        };
        documents.push(Document {
            text,
            split: record.split,
            patient: record.patient,
            place: record.id,
        });
        Ok(())
    })?;
    Ok(documents)
}
