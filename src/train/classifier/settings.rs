//! Settings of `llm-cxr-train classifier`: flags, and the table of the same names in a recipe.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::train::common::limits::{self, Limit, Movement};
use crate::train::common::{AdamwSettings, TrainError};

/// Largest norm of a gradient.
pub(super) const CLIP: f64 = 1.0;

/// Settings of `llm-cxr-train classifier`.
#[derive(Clone, Debug, PartialEq, clap::Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClassifierSettings {
    /// The run's folder; the network is left in its `classifier/`
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Images: a folder in the MIMIC-CXR-JPG layout or a manifest (.csv, .jsonl), `PATH` or `PATH@SHARE`; several are mixed
    #[arg(long, required = true, value_name = "PATH[@SHARE]")]
    pub data: Vec<String>,
    /// Labels to learn, separated by commas; all that are known of a training image, if empty
    #[arg(long, value_delimiter = ',')]
    pub labels: Vec<String>,
    /// Side of the images in pixels
    #[arg(long, default_value_t = ClassifierSettings::default().resolution)]
    pub resolution: usize,
    /// Channels of the images: 1 or 3
    #[arg(long, default_value_t = ClassifierSettings::default().channels)]
    pub channels: usize,
    /// Convolutions before the first block: 1 halves the side at once, 2 look at every pixel first
    #[arg(long, default_value_t = ClassifierSettings::default().stem_layers)]
    pub stem_layers: usize,
    /// Channels that each layer adds
    #[arg(long, default_value_t = ClassifierSettings::default().growth)]
    pub growth: usize,
    /// Layers of each dense block
    #[arg(long, value_delimiter = ',', default_values_t = ClassifierSettings::default().blocks)]
    pub blocks: Vec<usize>,
    /// Steps of the run
    #[arg(long, default_value_t = ClassifierSettings::default().steps)]
    pub steps: u64,
    /// Images a step
    #[arg(long, default_value_t = ClassifierSettings::default().batch)]
    pub batch: usize,
    /// Learning rate at its height; falls along a cosine
    #[arg(long, default_value_t = ClassifierSettings::default().rate)]
    pub rate: f64,
    /// AdamW: weight decay, of all weights, those of norms and biases too
    #[arg(long, default_value_t = ClassifierSettings::default().weight_decay)]
    pub weight_decay: f64,
    /// Decay of the running average of weights that is measured and exported (0: the weights themselves)
    #[arg(long, default_value_t = ClassifierSettings::default().ema)]
    pub ema: f64,
    /// Images for training are moved by up to this many pixels to a side and up or down, anew each time they are shown
    #[arg(long, default_value_t = ClassifierSettings::default().shift)]
    pub shift: u8,
    /// Images whose rarest finding is in fewer than this share of their data set are shown more often, up to four times (0: none)
    #[arg(long, default_value_t = ClassifierSettings::default().repeat_rare)]
    pub repeat_rare: f64,
    /// Mebibytes of decoded images kept in memory (0: each is decoded every time)
    #[arg(long, default_value_t = ClassifierSettings::default().cache_mib)]
    pub cache_mib: usize,
    /// Seed of weights and order
    #[arg(long, default_value_t = ClassifierSettings::default().seed)]
    pub seed: u64,
    /// Compute in bf16 (weights stay f32)
    #[arg(long)]
    pub bf16: bool,
    /// Steps between evaluations
    #[arg(long, default_value_t = ClassifierSettings::default().eval_every)]
    pub eval_every: u64,
    /// Steps between checkpoints
    #[arg(long, default_value_t = ClassifierSettings::default().save_every)]
    pub save_every: u64,
    /// Images of the validation split that are measured
    #[arg(long, default_value_t = ClassifierSettings::default().validate_images)]
    pub validate_images: usize,
    /// Threads that decode images
    #[arg(long, default_value_t = ClassifierSettings::default().workers)]
    pub workers: usize,
}

impl ClassifierSettings {
    /// Refuses settings that no run can have.
    pub fn check(&self) -> Result<(), TrainError> {
        let wrong = |text: String| Err(TrainError::Settings(text));
        if self.batch == 0 || self.steps == 0 {
            return wrong("--batch and --steps must be at least 1".to_owned());
        }
        if self.shift > 0 && usize::from(self.shift) >= self.resolution {
            return wrong(format!(
                "--shift is {}; it must be below --resolution, {}",
                self.shift, self.resolution
            ));
        }
        let movement = Movement {
            adamw: self.adamw(),
            rate: self.rate,
            clip: CLIP,
            ema: self.ema,
        };
        movement.check("")?;
        limits::check(&[("repeat-rare", self.repeat_rare, Limit::Share)])
    }

    pub(super) fn adamw(&self) -> AdamwSettings {
        AdamwSettings {
            weight_decay: self.weight_decay,
            ..AdamwSettings::default()
        }
    }
}

impl Default for ClassifierSettings {
    fn default() -> Self {
        Self {
            out: PathBuf::from("run-classifier"),
            data: Vec::new(),
            labels: Vec::new(),
            resolution: 128,
            channels: 1,
            stem_layers: 1,
            growth: 16,
            blocks: vec![3, 4, 6, 4],
            steps: 4000,
            batch: 32,
            rate: 1e-3,
            weight_decay: 1e-4,
            ema: 0.0,
            shift: 0,
            repeat_rare: 0.0,
            cache_mib: 0,
            seed: 1,
            bf16: false,
            eval_every: 500,
            save_every: 500,
            validate_images: 512,
            workers: 2,
        }
    }
}
