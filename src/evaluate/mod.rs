//! How good a bundle is: what it says and draws against what is true.
//!
//! ```text
//! data set ─ studies ─┬─ service (in process) ─ reports, answers, drawings ─┐
//!                     ├─ VQ-GAN ─ reconstructions ──────────────────────────┼─ labeler, classifier, scores ─ report.json, report.html, tables
//!                     └─ language model, given the true report ─ perplexity ┘
//! ```
//!
//! | file | one idea |
//! | --- | --- |
//! | `settings`, `studies` | what is measured, and on what |
//! | `subject` | the bundle: the service with its engine, in process |
//! | `metrics/` | one score a file, held to a public implementation |
//! | `torch/` | what needs tensors: the classifier, the VQ-GAN, the Fréchet distance, log-probabilities |
//! | `tasks/` | one measurement a file |
//! | `show`, `page`, `plots`, `html` | tables and the page |
//!
//! The same command on the same files gives the same report.json: no dates, no durations, no absolute paths.

mod error;
mod html;
pub mod metrics;
mod page;
mod plots;
mod settings;
mod show;
mod studies;
mod subject;
mod tasks;
#[cfg(test)]
mod tests;
mod torch;

pub use error::EvaluateError;
pub use settings::{EvaluateSettings, Part, SplitChoice, Uncertain};
pub use studies::{Skipped, Studies, Study};
pub use tasks::{Answers, Drawings, Perplexity, PresenceScores, Progress, Reconstruction, Reports};

use std::cell::{OnceCell, RefCell};
use std::path::Path;

use clap::ValueEnum;
use serde::Serialize;

use crate::basics::make_out;
use crate::model::bundle::{Bundle, find_bundle, folders};
use crate::model::device::{self, DeviceChoice, arithmetic};
use crate::train::common::store::write_whole;
use crate::train::data::SKIPPED;
use subject::Subject;
use tasks::Context;
use torch::{Reader, VqganProbe};

/// What was said of each study's image.
const REPORTS: &str = "reports.jsonl";
/// What was answered to each question.
const ANSWERS: &str = "answers.jsonl";

/// The bundle that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// Its name.
    pub name: String,
    /// Its version: follows from the checksums of its files, which were checked.
    pub version: String,
    /// Whether its weights were trained.
    pub trained: bool,
    /// What it says with every answer, such as what it cannot do yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    /// Codes of an image.
    pub codes_per_image: usize,
    /// Side of an image in pixels.
    pub image_side: usize,
    /// Where it ran.
    pub device: String,
    /// What the language model computed in.
    pub dtype: String,
}

/// The data it was measured on.
#[derive(Clone, Debug, Serialize)]
pub struct Material {
    /// Base name of the data set.
    pub name: String,
    /// Images measured.
    pub images: usize,
    /// Of these phantoms: synthetic radiographs.
    #[serde(skip_serializing_if = "is_none_of_them")]
    pub phantoms: usize,
    /// How many there are, and what the data set's reader left out.
    pub account: String,
}

fn is_none_of_them(count: &usize) -> bool {
    *count == 0
}

impl Material {
    /// That its images, or some of them, show nobody; `None` where that is not known of any.
    fn synthetic(&self) -> Option<String> {
        const OF_THEM: &str = "what is measured on them says little of radiographs of patients.";
        match self.phantoms {
            0 => None,
            all if all == self.images => Some(format!("The data are synthetic radiographs (phantoms): {OF_THEM}")),
            some => Some(format!(
                "{some} of the {} images are synthetic radiographs (phantoms): {OF_THEM}",
                self.images
            )),
        }
    }
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub struct Evaluation {
    /// The program and its version.
    pub program: String,
    /// The settings; of paths the last part alone.
    pub command: EvaluateSettings,
    /// The bundle.
    pub bundle: Measured,
    /// The data.
    pub data: Material,
    /// Whether an error ended it early: then more was asked for than is here.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub incomplete: bool,
    /// Reports.
    pub reports: Option<Reports>,
    /// Answers.
    pub vqa: Option<Answers>,
    /// Drawings.
    pub drawings: Option<Drawings>,
    /// Reconstructions.
    pub reconstruction: Option<Reconstruction>,
    /// P(yes) against a label.
    pub auroc: Option<PresenceScores>,
    /// Perplexity.
    pub perplexity: Option<Perplexity>,
    /// What could not be used.
    pub skipped: Vec<Skipped>,
    /// What these models are for.
    pub notice: &'static str,
}

/// Measures a bundle and writes `report.json`, `report.html`, and what was said on each study (`reports.jsonl`, `answers.jsonl`) to
/// the settings' folder; with a list of what of the data was not used (`skipped.jsonl`), where there is any.
///
/// # Errors
/// Settings, bundle, classifier or data that cannot be used, a measurement for which every study failed, files that cannot be written.
/// A single study that cannot be used is counted and named. What was measured before an error is written all the same.
pub fn evaluate(
    settings: &EvaluateSettings,
    choice: DeviceChoice,
    progress: &dyn Progress,
) -> Result<Evaluation, EvaluateError> {
    settings.check()?;
    let on = device::resolve(choice)?;
    let bundle = Bundle::open(&find_bundle(&settings.bundle))?;
    let reader = settings
        .classifier
        .as_ref()
        .map(|folder| Reader::open(folder, on))
        .transpose()?;
    let s = settings;
    let mut studies = Studies::collect(&s.data, s.questions.as_deref(), s.split, s.limit, s.seed)?;
    make_out(&s.out).map_err(EvaluateError::io(&s.out))?;
    if studies.account.write_skipped(&s.out.join(SKIPPED))? {
        let note = studies.account.told_in(SKIPPED);
        studies.account.note(note);
    }
    let context = Context {
        settings,
        studies: &studies,
        progress,
        skipped: RefCell::default(),
        cases: OnceCell::default(),
    };
    // Looked at before the long measurements: a slip in these flags must not show after hours.
    let asked = presence_data(&context)?;
    look_ahead(&context)?;
    let subject = Subject::open(&bundle, settings, choice)?;
    let mut evaluation = Evaluation {
        program: format!("llm-cxr-train {}", env!("CARGO_PKG_VERSION")),
        command: settings.described(),
        bundle: Measured {
            name: bundle.manifest.name.clone(),
            version: bundle.manifest.version.clone(),
            trained: bundle.manifest.trained,
            warning: bundle.manifest.caution().map(str::to_owned),
            codes_per_image: bundle.manifest.codes_per_image,
            image_side: bundle.manifest.image_side,
            device: subject.facts.device.clone(),
            dtype: arithmetic(&subject.facts.dtype, &subject.facts.weights),
        },
        data: Material {
            name: base_name(&s.data),
            images: studies.list.len(),
            phantoms: studies.phantoms(),
            account: studies.told(),
        },
        incomplete: false,
        reports: None,
        vqa: None,
        drawings: None,
        reconstruction: None,
        auroc: None,
        perplexity: None,
        skipped: Vec::new(),
        notice: crate::RESEARCH_NOTICE,
    };
    let done = evaluation
        .measure(&context, &bundle, subject, reader.as_ref(), asked.as_ref(), choice)
        .and_then(|()| evaluation.missing(settings));
    evaluation.skipped = context.skipped.into_inner();
    evaluation.end(done, &s.out)
}

/// Data of the question of --auroc-question, where it is not that of everything else; refused if nothing is known there of its label.
fn presence_data(context: &Context<'_>) -> Result<Option<Studies>, EvaluateError> {
    let s = context.settings;
    let Some(label) = s.auroc_label.as_ref().filter(|_| s.wants(Part::Auroc)) else {
        return Ok(None);
    };
    let split = s.auroc_split.unwrap_or(s.split);
    let other = match (&s.auroc_data, s.auroc_split) {
        (None, None) => None,
        (path, _) => Some(Studies::collect(
            path.as_deref().unwrap_or(&s.data),
            None,
            split,
            s.limit,
            s.seed,
        )?),
    };
    tasks::labelled(other.as_ref().unwrap_or(context.studies), label)?;
    Ok(other)
}

/// Reads the reports and questions of what is to be measured: one that the system does not read must not show after hours, either.
fn look_ahead(context: &Context<'_>) -> Result<(), EvaluateError> {
    let s = context.settings;
    if s.wants(Part::Reports) || s.wants(Part::Perplexity) || s.wants(Part::Draw) {
        context.cases()?;
    }
    for study in &context.studies.list {
        if s.wants(Part::Vqa) {
            // What is skipped of them is told where they are asked.
            drop(study.questions()?);
        }
        if s.wants(Part::Reconstruction) {
            study.truth(s.stage)?;
        }
    }
    Ok(())
}

/// The question of --auroc-question on its own data, or on that of everything else.
fn presence(
    context: &Context<'_>,
    subject: &Subject,
    other: Option<&Studies>,
) -> Result<Option<PresenceScores>, EvaluateError> {
    let s = context.settings;
    let (Some(question), Some(label)) = (&s.auroc_question, &s.auroc_label) else {
        return Ok(None);
    };
    let inner = Context {
        settings: s,
        studies: other.unwrap_or(context.studies),
        progress: context.progress,
        skipped: RefCell::default(),
        cases: OnceCell::default(),
    };
    let data = base_name(s.auroc_data.as_deref().unwrap_or(&s.data));
    let scores = tasks::auroc(&inner, subject, question, label, data);
    context.skipped.borrow_mut().append(&mut inner.skipped.into_inner());
    scores.map(Some)
}

fn base_name(path: &Path) -> String {
    let name = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    name.file_name()
        .unwrap_or(name.as_os_str())
        .to_string_lossy()
        .into_owned()
}

impl Evaluation {
    /// Makes the measurements that are wanted; an error leaves those that were made before it.
    fn measure(
        &mut self,
        context: &Context<'_>,
        bundle: &Bundle,
        subject: Subject,
        reader: Option<&Reader>,
        asked: Option<&Studies>,
        choice: DeviceChoice,
    ) -> Result<(), EvaluateError> {
        let s = context.settings;
        if s.wants(Part::Reports) {
            self.reports = tasks::reports(context, &subject)?;
        }
        if s.wants(Part::Vqa) {
            self.vqa = tasks::vqa(context, &subject)?;
        }
        if let Some(reader) = reader.filter(|_| s.wants(Part::Draw)) {
            self.drawings = tasks::drawings(context, &subject, reader)?;
        }
        if s.wants(Part::Auroc) {
            self.auroc = presence(context, &subject, asked)?;
        }
        // The engine's weights and KV memory are given back before the networks are loaded on their own.
        drop(subject);
        if s.wants(Part::Reconstruction) || s.wants(Part::Perplexity) {
            let mut probe = VqganProbe::open(bundle, device::resolve(choice)?)?;
            if s.wants(Part::Reconstruction) {
                let side = bundle.manifest.image_side;
                self.reconstruction = Some(tasks::reconstruction(context, &mut probe, side, reader)?);
            }
            if s.wants(Part::Perplexity) {
                self.perplexity = tasks::perplexity(context, bundle, &probe, choice)?;
            }
        }
        Ok(())
    }

    /// Writes what was measured, which an error in what came after it must not take away.
    fn end(mut self, done: Result<(), EvaluateError>, folder: &Path) -> Result<Self, EvaluateError> {
        let Err(reason) = done else {
            self.write(folder)?;
            return Ok(self);
        };
        let nothing = Part::value_variants().iter().all(|part| !self.holds(*part));
        self.incomplete = true;
        if nothing || self.write(folder).is_err() {
            return Err(reason);
        }
        Err(EvaluateError::Incomplete {
            folder: folder.to_owned(),
            reason: Box::new(reason),
        })
    }

    /// Whether a measurement was made.
    fn holds(&self, part: Part) -> bool {
        match part {
            Part::Reports => self.reports.is_some(),
            Part::Vqa => self.vqa.is_some(),
            Part::Draw => self.drawings.is_some(),
            Part::Reconstruction => self.reconstruction.is_some(),
            Part::Auroc => self.auroc.is_some(),
            Part::Perplexity => self.perplexity.is_some(),
        }
    }

    /// Refuses a run in which something asked for by name could not be measured at all.
    fn missing(&self, settings: &EvaluateSettings) -> Result<(), EvaluateError> {
        match settings.only.iter().find(|part| !self.holds(**part)) {
            None => Ok(()),
            Some(part) => {
                let what = if *part == Part::Vqa {
                    "question"
                } else {
                    "report that can be used"
                };
                Err(EvaluateError::Settings(format!(
                    "{} has no {what} in this split; leave this measurement out of --only, or choose other data",
                    settings.data.display()
                )))
            }
        }
    }

    /// The tables as text.
    pub fn text(&self) -> String {
        page::text(&show::sections(self))
    }

    /// Writes every file into `folder`; each is whole or not there. What another run said there of parts that this one did not measure is
    /// removed: it would pass for this one's.
    fn write(&self, folder: &Path) -> Result<(), EvaluateError> {
        for (part, name) in [(Part::Reports, REPORTS), (Part::Vqa, ANSWERS)] {
            if !self.holds(part) {
                folders::remove(&folder.join(name)).map_err(|(path, reason)| EvaluateError::Io { path, reason })?;
            }
        }
        let json = serde_json::to_string_pretty(self).map_err(|e| EvaluateError::Settings(e.to_string()))?;
        write_whole(&folder.join("report.json"), format!("{json}\n").as_bytes())?;
        write_whole(&folder.join("report.html"), show::page(self).as_bytes())?;
        let lines = |values: Vec<serde_json::Value>| values.iter().map(|v| format!("{v}\n")).collect::<String>();
        if let Some(reports) = &self.reports {
            let line = |(id, reference, generated): &(String, String, String)| serde_json::json!({"id": id, "reference": reference, "generated": generated});
            let text = lines(reports.texts.iter().map(line).collect());
            write_whole(&folder.join(REPORTS), text.as_bytes())?;
        }
        if let Some(vqa) = &self.vqa {
            let values: Result<Vec<_>, _> = vqa.answered.iter().map(serde_json::to_value).collect();
            let values = values.map_err(|e| EvaluateError::Settings(e.to_string()))?;
            write_whole(&folder.join(ANSWERS), lines(values).as_bytes())?;
        }
        Ok(())
    }
}
