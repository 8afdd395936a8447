//! The measurements, one a file.

mod agreement;
mod auroc;
mod drawings;
mod perplexity;
mod reconstruction;
mod reports;
mod sizes;
mod vqa;
mod vqa_words;

pub use agreement::Agreement;
pub use auroc::{PresenceScores, auroc, labelled};
pub use drawings::{Drawings, ReadScores, drawings};
pub use perplexity::{Perplexity, perplexity};
pub use reconstruction::{Reconstruction, reconstruction};
pub use reports::{ReportScores, Reports, reports};
pub use sizes::SizeScores;
pub use vqa::{Answers, VqaScores, vqa};

use std::cell::{OnceCell, RefCell};
use std::sync::Arc;

use super::EvaluateError;
use super::page::Sample;
use super::settings::{EvaluateSettings, Uncertain};
use super::studies::{Skipped, Studies, Study};
use super::subject::Subject;
use crate::labeler::{self, Reading};
use crate::phantom::Label;
use crate::radiograph::{ImageFormat, Pixels, write};
use crate::service::{Outcome, Request};
use crate::train::data::read_image;

/// Told how far the work has come.
pub trait Progress {
    /// A piece of work of so many steps begins.
    fn begin(&self, what: &str, steps: u64);
    /// One more step is done.
    fn step(&self);
}

/// What every measurement needs.
pub struct Context<'a> {
    /// How to measure.
    pub settings: &'a EvaluateSettings,
    /// On what.
    pub studies: &'a Studies,
    /// Who is told how far it has come.
    pub progress: &'a dyn Progress,
    /// What could not be used.
    pub skipped: RefCell<Vec<Skipped>>,
    /// The studies that have a report, once they were asked for.
    pub cases: OnceCell<Vec<Case>>,
}

/// A study with its reference report.
pub struct Case {
    /// Its place among the studies.
    pub study: usize,
    /// The report.
    pub reference: String,
    /// What the labeler reads of it.
    pub reading: Reading,
}

impl Context<'_> {
    /// Notes that a study, or a part of it, could not be used.
    pub fn skip(&self, study: &Study, reason: impl Into<String>) {
        self.skipped.borrow_mut().push(Skipped {
            id: study.id.clone(),
            reason: reason.into(),
        });
    }

    /// The studies that have a report: read once, so that one that cannot be used is skipped once, whatever is measured of it.
    ///
    /// # Errors
    /// When the system does not read one that may be there.
    pub fn cases(&self) -> Result<&[Case], EvaluateError> {
        if let Some(cases) = self.cases.get() {
            return Ok(cases);
        }
        let cases = self.read_cases()?;
        Ok(self.cases.get_or_init(|| cases))
    }

    fn read_cases(&self) -> Result<Vec<Case>, EvaluateError> {
        let mut cases = Vec::new();
        for (place, study) in self.studies.list.iter().enumerate() {
            match study.text(self.settings.stage)? {
                Ok(Some(reference)) => cases.push(Case {
                    study: place,
                    reading: labeler::read(&reference),
                    reference,
                }),
                Ok(None) => {}
                Err(reason) => self.skip(study, reason),
            }
        }
        Ok(cases)
    }

    /// Asks the service for something of each of `studies` (places among them), some at a time: `request` makes the one with this number, and
    /// `take` is given what came of it, in order; what it gives comes back. What fails in between is skipped, with `note` before the reason.
    ///
    /// # Errors
    /// When the engine has ended, or every single one fails: then nothing of this `part` can be measured.
    pub fn ask<T>(
        &self,
        subject: &Subject,
        (note, part): (&str, &'static str),
        studies: &[usize],
        request: impl Fn(usize) -> Result<Request, String>,
        mut take: impl FnMut(usize, Outcome) -> Result<T, String>,
    ) -> Result<Vec<T>, EvaluateError> {
        let (mut taken, mut first) = (Vec::new(), None);
        subject.ask((0..studies.len()).map(request), |number, outcome| {
            self.progress.step();
            match outcome.and_then(|outcome| take(number, outcome)) {
                Ok(one) => taken.push(one),
                Err(reason) => {
                    self.skip(&self.studies.list[studies[number]], format!("{note}: {reason}"));
                    first.get_or_insert(reason);
                }
            }
        })?;
        match (taken.is_empty(), first) {
            (true, Some(first)) => Err(EvaluateError::Nothing {
                part,
                count: studies.len(),
                first,
            }),
            _ => Ok(taken),
        }
    }

    /// Whether a label counts as present.
    pub fn present(&self, label: Label) -> bool {
        match label {
            Label::Positive => true,
            Label::Uncertain => self.settings.uncertain == Uncertain::Positive,
            Label::Negative | Label::Blank => false,
        }
    }

    /// A seed for item `number`, below 2⁵³.
    pub fn seed(&self, number: usize) -> u64 {
        let mixed = self
            .settings
            .seed
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .wrapping_add(number as u64);
        mixed & ((1 << 53) - 1)
    }
}

/// An image of the data as the VQ-GAN or the classifier takes it.
pub fn pixels(study: &Study, side: usize) -> Result<Arc<Pixels>, String> {
    let pixels = read_image(&study.image, side);
    pixels.map(Arc::new).map_err(|e| format!("image: {e}"))
}

/// A picture for the page; an image of the data is not marked, a drawn one is already a file.
pub fn picture(pixels: &Pixels) -> Vec<u8> {
    write(pixels, ImageFormat::Png, &[]).unwrap_or_default()
}

/// A sample of a study with its own image in front.
pub fn sample(study: &Study, side: usize) -> Sample {
    let image = pixels(study, side).map(|pixels| picture(&pixels)).unwrap_or_default();
    Sample {
        title: study.id.clone(),
        figures: vec![("image of the data".to_owned(), image)],
        texts: Vec::new(),
    }
}
