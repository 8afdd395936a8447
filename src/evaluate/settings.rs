//! Settings of `llm-cxr-train evaluate`: flags, and the table of the same names in a recipe.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::EvaluateError;
use crate::model::bundle::READINGS;
use crate::model::device::{DtypeChoice, WeightsChoice, check_threads};
use crate::train::data::{Split, Stage};

/// A measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Reports of the images, against the data's reports
    Reports,
    /// Answers to the data's questions
    Vqa,
    /// Drawings of the data's reports, read by the classifier
    Draw,
    /// What survives the VQ-GAN
    Reconstruction,
    /// P(yes) of one question, against one label
    Auroc,
    /// How well the data's reports are foreseen, word by word
    Perplexity,
}

/// Which part of the data is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SplitChoice {
    /// The split `train`
    Train,
    /// The split `validate`
    Validate,
    /// The split `test`
    #[default]
    Test,
    /// Every split: for a data set of which nothing was trained on
    All,
}

impl SplitChoice {
    pub(super) fn holds(self, split: Split) -> bool {
        match self {
            Self::Train => split == Split::Train,
            Self::Validate => split == Split::Validate,
            Self::Test => split == Split::Test,
            Self::All => true,
        }
    }
}

/// What "may be pneumonia" counts as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Uncertain {
    /// As present
    #[default]
    Positive,
    /// As absent
    Negative,
}

/// Settings of `llm-cxr-train evaluate`.
#[derive(Clone, Debug, PartialEq, clap::Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvaluateSettings {
    /// Folder for report.json and report.html
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// The model bundle
    #[arg(long, visible_alias = "model", value_name = "DIR")]
    pub bundle: PathBuf,
    /// Images, reports and questions: a folder in the MIMIC-CXR-JPG layout (as `phantom` writes it) or a manifest (.csv, .jsonl)
    #[arg(long, value_name = "PATH")]
    pub data: PathBuf,
    /// Question files of a MIMIC-CXR-JPG layout, if they are not in its `vqa/`
    #[arg(long, value_name = "DIR")]
    pub questions: Option<PathBuf>,
    /// Part of the data
    #[arg(long, value_enum, default_value_t)]
    pub split: SplitChoice,
    /// At most this many studies, drawn at random by the seed (0: all)
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub limit: usize,
    /// Only these measurements, separated by commas; without it, all that bundle, data and flags allow
    #[arg(long, value_enum, value_delimiter = ',')]
    pub only: Vec<Part>,
    /// Classifier of findings, as `classifier` leaves it in its run's folder: reads drawings and reconstructions
    #[arg(long, value_name = "DIR")]
    pub classifier: Option<PathBuf>,
    /// Also measure reports and answers with the image of another patient's study: what remains is guessed
    #[arg(long)]
    pub blind: bool,
    /// Stage whose texts are the reference and are drawn: 1 findings and impression, 2 the impression alone
    #[arg(long, value_parser = stage, default_value = "1")]
    pub stage: Stage,
    /// Ask for drawings in few words instead of with the whole text, as somebody would type who wants such an image
    #[arg(long)]
    pub brief: bool,
    /// What a doubtful finding counts as
    #[arg(long, value_enum, default_value_t)]
    pub uncertain: Uncertain,
    /// Question whose P(yes) is scored, such as "Is there pneumonia?"
    #[arg(long, value_name = "TEXT", requires = "auroc_label")]
    pub auroc_question: Option<String>,
    /// Label of the data that makes yes the right answer; a label of 0, `No Finding` or `Normal` makes it no, -1 is left out
    #[arg(long, value_name = "LABEL", requires = "auroc_question")]
    pub auroc_label: Option<String>,
    /// Labelled images for it, if not those of --data
    #[arg(long, value_name = "PATH")]
    pub auroc_data: Option<PathBuf>,
    /// Part of them, if not as --split
    #[arg(long, value_enum)]
    pub auroc_split: Option<SplitChoice>,
    /// What the language model computes in
    #[arg(long, value_enum, default_value_t)]
    pub dtype: DtypeChoice,
    /// Also give the perplexity of the data's reports when computing in this
    #[arg(long, value_enum, value_name = "DTYPE")]
    pub compare: Option<DtypeChoice>,
    /// How its matrices are held on a CPU
    #[arg(long, value_enum, default_value_t)]
    pub weights: WeightsChoice,
    /// Also give that perplexity with matrices held so
    #[arg(long, value_enum, value_name = "WEIGHTS")]
    pub compare_weights: Option<WeightsChoice>,
    /// Seed of drawings, of the choice of studies and of the shuffle of --blind
    #[arg(long, default_value_t = EvaluateSettings::default().seed)]
    pub seed: u64,
    /// How often each image is read for its report and its answers, 1 to 16; if not given, as often as the server does
    #[arg(long, value_name = "N")]
    pub readings: Option<usize>,
    /// Requests under way at a time; the engine computes them together
    #[arg(long, default_value_t = EvaluateSettings::default().concurrency)]
    pub concurrency: usize,
    /// Studies shown with their images in report.html
    #[arg(long, default_value_t = EvaluateSettings::default().samples)]
    pub samples: usize,
    /// CPU threads of the model (one for each core if not given)
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

impl Default for EvaluateSettings {
    fn default() -> Self {
        Self {
            out: PathBuf::from("evaluation"),
            bundle: PathBuf::new(),
            data: PathBuf::new(),
            questions: None,
            split: SplitChoice::default(),
            limit: 0,
            only: Vec::new(),
            classifier: None,
            blind: false,
            stage: Stage::One,
            brief: false,
            uncertain: Uncertain::default(),
            auroc_question: None,
            auroc_label: None,
            auroc_data: None,
            auroc_split: None,
            dtype: DtypeChoice::default(),
            compare: None,
            weights: WeightsChoice::default(),
            compare_weights: None,
            seed: 1,
            readings: None,
            concurrency: 32,
            samples: 12,
            threads: None,
        }
    }
}

fn stage(text: &str) -> Result<Stage, String> {
    let number: u8 = text.parse().map_err(|_| "use 1 or 2".to_owned())?;
    Stage::try_from(number)
}

impl EvaluateSettings {
    /// Whether a measurement is to be made.
    pub(super) fn wants(&self, part: Part) -> bool {
        let possible = match part {
            Part::Draw => self.classifier.is_some(),
            Part::Auroc => self.auroc_question.is_some(),
            // It costs as much as writing the reports again, so it is made where it is asked for.
            Part::Perplexity => self.compares() || self.only.contains(&part),
            _ => true,
        };
        possible && (self.only.is_empty() || self.only.contains(&part))
    }

    /// Whether the perplexity is wanted in another arithmetic too.
    pub(super) fn compares(&self) -> bool {
        self.compare.is_some() || self.compare_weights.is_some()
    }

    /// Refuses settings that no run can have.
    ///
    /// # Errors
    /// [`EvaluateError::Settings`].
    pub fn check(&self) -> Result<(), EvaluateError> {
        let wrong = |text: &str| Err(EvaluateError::Settings(text.to_owned()));
        if self.only.contains(&Part::Draw) && self.classifier.is_none() {
            return wrong(
                "drawings are read by a classifier; name its folder with --classifier, or leave `draw` out of --only",
            );
        }
        if self.auroc_question.is_some() != self.auroc_label.is_some() {
            return wrong("--auroc-question and --auroc-label belong together");
        }
        if self.only.contains(&Part::Auroc) && self.auroc_question.is_none() {
            return wrong("give the question and its label with --auroc-question and --auroc-label");
        }
        if self.readings.is_some_and(|n| !READINGS.contains(&n)) {
            return wrong(&format!(
                "--readings must lie between {} and {}",
                READINGS.start(),
                READINGS.end()
            ));
        }
        if let Err(told) = check_threads(self.threads) {
            return wrong(&told);
        }
        if self.concurrency == 0 {
            return wrong("--concurrency must be at least 1");
        }
        if self.seed >= 1 << 52 {
            return wrong("--seed must be below 2^52");
        }
        Ok(())
    }

    /// These settings as report.json keeps them: of each path its last part alone, so that a run on another machine gives the same file.
    pub(super) fn described(&self) -> Self {
        let last = |path: &Path| PathBuf::from(path.file_name().unwrap_or(path.as_os_str()));
        Self {
            out: last(&self.out),
            bundle: last(&self.bundle),
            data: last(&self.data),
            questions: self.questions.as_deref().map(last),
            classifier: self.classifier.as_deref().map(last),
            auroc_data: self.auroc_data.as_deref().map(last),
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_names_only_what_it_changes_and_a_misspelt_name_is_refused() {
        let value =
            serde_json::json!({"bundle": "b", "data": "d", "only": ["reports", "draw"], "classifier": "c", "stage": 2});
        let settings: EvaluateSettings = serde_json::from_value(value).unwrap();
        assert!(settings.wants(Part::Reports) && settings.wants(Part::Draw) && !settings.wants(Part::Vqa));
        assert_eq!((settings.stage, settings.concurrency), (Stage::Two, 32));
        let wrong = serde_json::from_value::<EvaluateSettings>(serde_json::json!({"bundel": "b"}));
        assert!(wrong.unwrap_err().to_string().contains("bundel"));
    }

    #[test]
    fn what_cannot_be_measured_is_refused_with_what_is_missing() {
        let message = |settings: EvaluateSettings| settings.check().unwrap_err().to_string();
        let draw = EvaluateSettings {
            only: vec![Part::Draw],
            ..EvaluateSettings::default()
        };
        assert!(message(draw).contains("--classifier"));
        let idle = EvaluateSettings {
            threads: Some(0),
            ..EvaluateSettings::default()
        };
        assert!(message(idle).contains("--threads is 0"));
        let half = EvaluateSettings {
            auroc_label: Some("Pneumonia".to_owned()),
            ..EvaluateSettings::default()
        };
        assert!(message(half).contains("--auroc-question"));
        assert!(EvaluateSettings::default().check().is_ok());
    }

    #[test]
    fn the_kept_settings_name_no_place_on_this_machine() {
        let settings = EvaluateSettings {
            data: PathBuf::from("/secret/place/phantoms"),
            ..EvaluateSettings::default()
        };
        assert_eq!(settings.described().data, PathBuf::from("phantoms"));
    }
}
