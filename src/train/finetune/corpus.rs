//! The data in memory: codes, reports, questions and plain instructions of the splits that are learned from and chosen by.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::train::common::{TrainError, split_share};
use crate::train::data::{
    Account, DataError, Dataset, Instruction, Question, Questions, Record, ReportSource, Split, Stage,
};
use crate::train::encode::{CodeCache, CodeOrigin, Likeness};

/// One of so many plain instructions is kept for validation, where a file names no splits.
const HOLD_EACH: usize = 50;

/// Why an image is left out.
const OTHER: &str = "image file is another one than was encoded; `encode` it again";

/// An image with what is said of it.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its record's id.
    pub id: Box<str>,
    /// Training or validation.
    pub split: Split,
    /// What the stage learns of its report.
    pub report: Option<Box<str>>,
    /// Questions about it.
    pub questions: Vec<Question>,
}

/// The images of one data set.
#[derive(Debug)]
pub struct ImageSet {
    /// In the data set's order (MIMIC-CXR-JPG: sorted by id), along which images alternate.
    pub images: Vec<Image>,
    /// Share among the data sets.
    pub share: f64,
    codes: CodeCache,
}

impl ImageSet {
    /// The codes of an image of the set.
    pub fn codes(&self, image: &Image) -> &[u16] {
        self.codes.get(&image.id).unwrap_or(&[])
    }
}

/// Plain instructions of one file.
#[derive(Debug)]
pub struct TextSet {
    /// Id, split, and the instruction.
    pub texts: Vec<(Box<str>, Split, Instruction)>,
    /// Share among the files.
    pub share: f64,
}

/// All that is learned from.
#[derive(Debug, Default)]
pub struct Corpus {
    /// Data sets of images.
    pub sets: Vec<ImageSet>,
    /// Files of plain instructions.
    pub texts: Vec<TextSet>,
    /// What was read and what was skipped.
    pub account: Account,
}

/// A record before its files are read.
struct Pending {
    id: String,
    file: PathBuf,
    split: Split,
    report: Option<ReportSource>,
    questions: Vec<Questions>,
}

impl Corpus {
    /// Adds the images of a data set that `codes`, made by `origin`, holds. An image whose file has another size than the one that was
    /// encoded is left out: its codes are of another image.
    pub fn add_images(
        &mut self,
        spec: &str,
        codes: &Path,
        origin: &CodeOrigin,
        stage: Stage,
    ) -> Result<(), TrainError> {
        let (path, share) = split_share(spec);
        let codes = CodeCache::open(codes, origin)?;
        let (mut pending, mut places): (Vec<Pending>, HashMap<String, usize>) = Default::default();
        let mut plain = Vec::new();
        Dataset::open(Path::new(path))?.visit::<DataError>(&mut self.account, &mut |record: Record, account| {
            let Some(file) = record.image else {
                let text = record.instruction.map(|text| (record.id.into(), record.split, text));
                plain.extend(text);
                return Ok(());
            };
            if record.split == Split::Test {
                return Ok(());
            }
            if stage == Stage::Two && !record.selected {
                account.skip("image is not used in stage 2", || record.id);
                return Ok(());
            }
            if codes.get(&record.id).is_none() {
                account.skip("image has no codes; `encode` makes them", || record.id);
                return Ok(());
            }
            // A manifest has a row for each question about an image.
            let at = *places.entry(record.id.clone()).or_insert(pending.len());
            if at == pending.len() {
                pending.push(Pending {
                    id: record.id,
                    file,
                    split: record.split,
                    report: None,
                    questions: Vec::new(),
                });
            }
            let known = &mut pending[at];
            known.report = known.report.take().or(record.report);
            known.questions.extend(record.questions);
            Ok(())
        })?;
        let read: Vec<_> = pending
            .into_par_iter()
            .map(|record| (codes.likeness(&record.id, &record.file), read(record, stage)))
            .collect();
        let (mut images, mut touched) = (Vec::with_capacity(read.len()), 0);
        for (likeness, (image, reasons)) in read {
            touched += usize::from(likeness == Likeness::Touched);
            if likeness == Likeness::Other {
                self.account.skip(OTHER, || image.id.to_string());
                continue;
            }
            for reason in reasons {
                self.account.skip(reason, || image.id.to_string());
            }
            images.push(image);
        }
        if touched > 0 {
            self.account.note(format!(
                "{touched} images of {path} were written at other times than those that were encoded; `encode` compares them"
            ));
        }
        self.sets.push(ImageSet { images, share, codes });
        self.push_texts(plain, share);
        Ok(())
    }

    /// Adds a file of plain instructions.
    pub fn add_texts(&mut self, spec: &str) -> Result<(), TrainError> {
        let (path, share) = split_share(spec);
        let mut texts = Vec::new();
        Dataset::open(Path::new(path))?.visit::<DataError>(&mut self.account, &mut |record, account| {
            match record.instruction {
                Some(instruction) => texts.push((record.id.into(), record.split, instruction)),
                None => account.skip("record of a --text file without an instruction", || record.id),
            }
            Ok(())
        })?;
        self.push_texts(texts, share);
        Ok(())
    }

    fn push_texts(&mut self, mut texts: Vec<(Box<str>, Split, Instruction)>, share: f64) {
        if texts.is_empty() {
            return;
        }
        if texts.iter().all(|(_, split, _)| *split == Split::Train) {
            for (_, split, _) in texts.iter_mut().skip(HOLD_EACH - 1).step_by(HOLD_EACH) {
                *split = Split::Validate;
            }
        }
        texts.retain(|(_, split, _)| *split != Split::Test);
        self.texts.push(TextSet { texts, share });
    }
}

/// Reads a record's files; gives reasons for what cannot be used of it.
fn read(record: Pending, stage: Stage) -> (Image, Vec<&'static str>) {
    let mut reasons = Vec::new();
    let report = match record.report.map(|source| source.read(stage)) {
        None => None,
        Some(Ok(text)) => Some(text),
        Some(Err(reason)) => {
            reasons.push(reason);
            None
        }
    };
    let mut questions = Vec::new();
    for source in record.questions {
        match source.read() {
            Ok(list) => questions.extend(list),
            Err(reason) => reasons.push(reason),
        }
    }
    let image = Image {
        id: record.id.into(),
        split: record.split,
        report: report.map(Into::into),
        questions,
    };
    (image, reasons)
}
