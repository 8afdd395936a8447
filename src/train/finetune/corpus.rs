//! The data in memory: codes, reports, questions and plain instructions of the splits that are learned from and chosen by.

use std::path::Path;

use super::image_set::{Gathering, ImageSet};
use super::turns::Turns;
use crate::train::common::{Held, TrainError, split_share};
use crate::train::data::{Account, DataError, Dataset, Instruction, Record, Split, SplitWatch, Stage};
use crate::train::encode::{CodeCache, CodeOrigin, Likeness};

/// Why an image is left out.
const OTHER: &str = "image file is another one than was encoded; `encode` it again";

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

/// Plain instructions as they are read.
#[derive(Default)]
struct Plain {
    texts: Vec<(Box<str>, Split, Instruction)>,
    /// Whom each is about, where that is known.
    patients: Vec<Option<String>>,
    held: Held,
}

impl Plain {
    fn add(&mut self, record: Record) {
        if let Some(instruction) = record.instruction {
            self.texts.push((record.id.into(), record.split, instruction));
            self.patients.push(record.patient);
        }
    }
}

impl Corpus {
    /// Adds the images of a data set that `codes`, made by `origin`, holds. An image whose file has another size than the one that was
    /// encoded is left out: its codes are of another image. `watch` has seen the data sets that were added before.
    pub fn add_images(
        &mut self,
        spec: &str,
        codes: &Path,
        origin: &CodeOrigin,
        stage: Stage,
        watch: &mut SplitWatch,
    ) -> Result<(), TrainError> {
        let (path, share) = split_share(spec);
        let dataset = Dataset::open(Path::new(path))?;
        if stage == Stage::Two
            && let Some(table) = dataset.lacks_views()?
        {
            return Err(TrainError::NoData(format!(
                "stage 2 learns from the PA and AP images of each patient's first study, and {} (or .csv.gz), which tells them, is not there; \
                 put it there",
                table.display()
            )));
        }
        let file = codes;
        let codes = CodeCache::open(file, origin)?;
        if codes.damaged() > 0 {
            self.account.note(format!(
                "{} records of {} are damaged; `encode` makes them again",
                codes.damaged(),
                file.display()
            ));
        }
        let (mut gathering, mut plain, mut touched) = (Gathering::new(stage), Plain::default(), 0);
        let mut turns = Turns::default();
        dataset.visit_watched::<TrainError>(watch, &mut self.account, &mut |record: Record, account| {
            let Some(file) = &record.image else {
                plain.add(record);
                return Ok(());
            };
            if let Some(patient) = &record.patient {
                plain.held.learned(patient);
            }
            if record.split == Split::Test {
                return Ok(());
            }
            let coded = codes.get(&record.id).is_some();
            if coded && record.split == Split::Train {
                turns.add(&record.id);
            }
            if stage == Stage::Two && !record.selected {
                account.skip("image is not used in stage 2", || record.id);
                return Ok(());
            }
            if !coded {
                account.skip("image has no codes; `encode` makes them", || record.id);
                return Ok(());
            }
            if !gathering.knows(&record.id)? {
                match codes.likeness(&record.id, file) {
                    Likeness::Same => {}
                    Likeness::Touched => touched += 1,
                    Likeness::Other => {
                        account.skip(OTHER, || record.id);
                        return Ok(());
                    }
                }
            }
            gathering.add(record, account)
        })?;
        if touched > 0 {
            self.account.note(format!(
                "{touched} images of {path} were written at other times than those that were encoded; `encode` compares them"
            ));
        }
        let drawn = turns.drawn(dataset.is_mimic());
        let set = gathering.finish(codes, share, &drawn, &mut self.account)?;
        self.sets.push(set);
        self.push_texts(plain, share);
        Ok(())
    }

    /// Adds a file of plain instructions.
    pub fn add_texts(&mut self, spec: &str, watch: &mut SplitWatch) -> Result<(), TrainError> {
        let (path, share) = split_share(spec);
        let mut plain = Plain::default();
        let dataset = Dataset::open(Path::new(path))?;
        dataset.visit_watched::<DataError>(watch, &mut self.account, &mut |record, account| {
            match record.instruction {
                Some(_) => plain.add(record),
                None => account.skip("record of a --text file without an instruction", || record.id),
            }
            Ok(())
        })?;
        self.push_texts(plain, share);
        Ok(())
    }

    fn push_texts(&mut self, plain: Plain, share: f64) {
        let Plain {
            mut texts,
            patients,
            mut held,
        } = plain;
        if texts.is_empty() {
            return;
        }
        if texts.iter().all(|(_, split, _)| *split != Split::Validate) {
            for ((_, split, _), patient) in texts.iter_mut().zip(&patients) {
                if *split == Split::Train && held.next(patient.as_deref()) {
                    *split = Split::Validate;
                }
            }
        }
        texts.retain(|(_, split, _)| *split != Split::Test);
        self.texts.push(TextSet { texts, share });
    }
}
