//! The studies that are measured.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rand::SeedableRng;
use rand::seq::{SliceRandom, index};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::EvaluateError;
use super::settings::SplitChoice;
use crate::labeler;
use crate::phantom::{LABELS, Label, Truth};
use crate::radiograph::{ImageFormat, is_dicom, write};
use crate::train::data::{
    Account, DataError, Dataset, LABELS_DIFFER, Question, Questions, ReportSource, SUPPORT_DEVICES, Stage, clash,
    decode_image, is_frontal, is_normal, read_file,
};

/// One image with what is known of it.
#[derive(Clone, Debug)]
pub struct Study {
    /// The image's name in the data.
    pub id: String,
    /// Its file.
    pub image: PathBuf,
    patient: Option<String>,
    report: Option<ReportSource>,
    questions: Vec<Questions>,
    /// Labels of the data: 1 present, 0 absent, −1 uncertain.
    pub labels: Vec<(String, f32)>,
    /// The truth of a phantom, if there is one.
    truth: PathBuf,
    /// Whether what the labels do not name is absent: so in the tables of MIMIC-CXR-JPG, which have every observation. The labelled text is
    /// the impression, or the findings where there is none, so that what only the findings name is absent there. Elsewhere it is unknown.
    complete: bool,
    /// Whether a label calls the image normal: so it is without findings, though lines and tubes may be in it.
    normal: bool,
}

/// A study, or a part of one, that could not be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// The image's name in the data.
    pub id: String,
    /// Why.
    pub reason: String,
}

/// The studies of a data set that are measured.
#[derive(Debug)]
pub struct Studies {
    /// In the data's order.
    pub list: Vec<Study>,
    /// How many frontal images the split has, measured or not.
    pub found: usize,
    /// What the data set's reader left out, in words.
    pub account: Account,
}

impl Studies {
    /// Reads the list of a data set: frontal images of `split` (in a manifest also those without a view); of these at most `limit` (0: all),
    /// drawn by `seed`.
    pub fn collect(
        data: &Path,
        questions: Option<&Path>,
        split: SplitChoice,
        limit: usize,
        seed: u64,
    ) -> Result<Self, EvaluateError> {
        let tables = data.is_dir();
        let dataset = Dataset::open(data)?.with_questions(questions.map(Path::to_owned));
        let (mut list, mut places, mut account) =
            (Vec::<Study>::new(), HashMap::<String, usize>::new(), Account::default());
        dataset.visit::<EvaluateError>(&mut account, &mut |record, account| {
            let Some(image) = record.image else { return Ok(()) };
            if !split.holds(record.split) {
                return Ok(());
            }
            // Who writes a manifest without views has frontal images; MIMIC-CXR-JPG has others, and leaves the view of some open.
            if dataset.is_mimic() && record.view.is_none() {
                account.skip("view is unknown", || record.id.clone());
                return Ok(());
            }
            if !is_frontal(record.view.as_deref()) {
                account.skip("view is not frontal", || record.id.clone());
                return Ok(());
            }
            // A manifest may name an image once for each question.
            match places.get(&record.id).and_then(|&place| list.get_mut(place)) {
                Some(study) => {
                    study.questions.extend(record.questions);
                    study.report = study.report.take().or(record.report);
                    if study.label(record.labels, tables) {
                        account.skip(LABELS_DIFFER, || study.id.clone());
                    }
                }
                None => {
                    account.used("images");
                    places.insert(record.id.clone(), list.len());
                    let mut study = Study {
                        truth: truth_file(data, &image),
                        id: record.id,
                        image,
                        patient: record.patient,
                        report: record.report,
                        questions: record.questions.into_iter().collect(),
                        labels: Vec::new(),
                        complete: false,
                        normal: false,
                    };
                    study.label(record.labels, tables);
                    list.push(study);
                }
            }
            Ok(())
        })?;
        if list.is_empty() {
            return Err(EvaluateError::Settings(format!(
                "{} holds no frontal image (view PA, AP or frontal; in a manifest also without one) in this split; choose another with --split, or write the views so ({account})",
                data.display()
            )));
        }
        let found = list.len();
        if limit > 0 && limit < found {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let mut chosen = index::sample(&mut random, list.len(), limit).into_vec();
            chosen.sort_unstable();
            list = chosen
                .into_iter()
                .filter_map(|place| list.get(place).cloned())
                .collect();
        }
        Ok(Self { list, found, account })
    }

    /// How many images there are and are measured, and what the data set's reader left out.
    pub fn told(&self) -> String {
        let account = self.account.to_string();
        // The first line counts what was read, of which a limit may leave a part.
        let left_out = account.lines().skip(1).map(|line| format!("\n{line}"));
        format!(
            "{} images in the split, {} measured{}",
            self.found,
            self.list.len(),
            left_out.collect::<String>()
        )
    }

    /// How many images are phantoms: those beside which it stands what is true of them.
    pub fn phantoms(&self) -> usize {
        self.list.iter().filter(|study| study.truth.is_file()).count()
    }

    /// Whose image each study is, as a place in the list: that of the patient's first one; its own where the patient is not known.
    pub fn patients(&self) -> Vec<usize> {
        let mut first = HashMap::new();
        let each = self.list.iter().enumerate();
        each.map(|(place, study)| match &study.patient {
            Some(patient) => *first.entry(patient.as_str()).or_insert(place),
            None => place,
        })
        .collect()
    }

    /// For each study another one, of another patient where there is one: the order is shuffled, and each takes its successor's image.
    pub fn shuffled(&self, seed: u64) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.list.len()).collect();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed ^ 0xb11d));
        let mut others = order.clone();
        let count = order.len();
        for (at, &study) in order.iter().enumerate() {
            let patient = &self.list[study].patient;
            let another = |step: &usize| {
                let other = &self.list[order[(at + step) % count]];
                patient.is_none() || other.patient != *patient
            };
            let step = (1..count).find(another).unwrap_or(1);
            others[study] = order[(at + step) % count];
        }
        others
    }
}

impl Study {
    /// The image as a request holds it: a PNG or JPEG file as it is. The service does not decode DICOM in its own process, so of such a
    /// file these are its `side × side` prepared pixels, as a PNG.
    pub fn file(&self, side: usize) -> Result<Bytes, String> {
        let bytes = read_file(&self.image).map_err(|e| format!("image: {e}"))?;
        if !is_dicom(&bytes) {
            return Ok(Bytes::from(bytes));
        }
        let pixels = decode_image(&bytes, side).map_err(|e| format!("image: {e}"))?;
        let png = write(&pixels, ImageFormat::Png, &[]).map_err(|e| format!("image: {e}"))?;
        Ok(Bytes::from(png))
    }

    /// The report as the stage learns it, `None` where the study has none; or a reason to skip it.
    ///
    /// # Errors
    /// When the system does not read a file that may be there.
    pub fn text(&self, stage: Stage) -> Result<Result<Option<String>, &'static str>, DataError> {
        let Some(report) = &self.report else {
            return Ok(Ok(None));
        };
        let read = report.read(stage);
        let read = read.map_err(|reason| DataError::unread("report", &self.id, reason))?;
        Ok(read.map(|text| Some(text.trim().to_owned())))
    }

    /// The questions, or a reason to skip them.
    ///
    /// # Errors
    /// When the system does not read a file that may be there.
    pub fn questions(&self) -> Result<Result<Vec<Question>, &'static str>, DataError> {
        let read: std::io::Result<Vec<_>> = self.questions.iter().map(Questions::read).collect();
        let read = read.map_err(|reason| DataError::unread("questions", &self.id, reason))?;
        let lists: Result<Vec<_>, &'static str> = read.into_iter().collect();
        Ok(lists.map(|lists| lists.concat()))
    }

    /// Adds the labels that a row gives; of those that several rows give the first one's stand, as in training. Whether they contradict those.
    fn label(&mut self, labels: Vec<(String, f32)>, complete: bool) -> bool {
        self.complete |= !labels.is_empty() && complete;
        let (said, before) = (labels.len(), &self.labels);
        let kept: Vec<_> = labels
            .into_iter()
            .filter(|one| !clash(before, std::slice::from_ref(one)))
            .collect();
        let contradicts = kept.len() < said;
        self.normal |= kept.iter().any(|(name, value)| *value > 0.0 && is_normal(name));
        for (name, value) in kept {
            if self.labels.iter().all(|(known, _)| !known.eq_ignore_ascii_case(&name)) {
                self.labels.push((name, value));
            }
        }
        contradicts
    }

    /// What the data's own labels say of one observation; `None` where that is not known.
    pub fn known(&self, label: &str) -> Option<Label> {
        let same = |name: &str| name.eq_ignore_ascii_case(label) || (is_normal(name) && is_normal(label));
        match self.labels.iter().find(|(name, _)| same(name)) {
            Some((_, value)) if *value > 0.0 => Some(Label::Positive),
            Some((_, value)) if *value < 0.0 => Some(Label::Uncertain),
            Some(_) => Some(Label::Negative),
            None => {
                let finding = !label.eq_ignore_ascii_case(SUPPORT_DEVICES);
                (self.complete || (self.normal && finding)).then_some(Label::Blank)
            }
        }
    }

    /// Everything known of a phantom; `None` for other images.
    pub fn phantom(&self) -> Option<Truth> {
        let text = std::fs::read(&self.truth).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// What is known of each of [`LABELS`]: by the data's own labels where it has any, else by the report. `None` where nothing is.
    ///
    /// # Errors
    /// When the system does not read a report that may be there.
    pub fn truth(&self, stage: Stage) -> Result<[Option<Label>; 14], DataError> {
        if !self.labels.is_empty() {
            return Ok(LABELS.map(|label| self.known(label)));
        }
        let text = self.text(stage)?.ok().flatten();
        Ok(text.map_or([None; 14], |text| labeler::read(&text).labels.map(Some)))
    }
}

/// Where `phantom` writes what is true of an image: `truth/files/p10/p10000032/s50414267.json`.
fn truth_file(data: &Path, image: &Path) -> PathBuf {
    let study = image.parent().and_then(|study| study.strip_prefix(data).ok());
    study.map_or_else(PathBuf::new, |study| {
        data.join("truth").join(study).with_extension("json")
    })
}

#[cfg(test)]
mod tests;
