//! Settings of `pretrain`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::train::common::limits::Movement;
use crate::train::common::schedule::Shape;
use crate::train::common::{AdamwSettings, TrainError};
use crate::train::language_model::SaveDtype;

/// Settings of `llm-cxr-train pretrain`.
#[derive(Clone, Debug, PartialEq, clap::Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PretrainSettings {
    /// The run's folder; the language model is left in its `model/`
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Texts: .txt files of one document each, or data sets (a folder in the MIMIC-CXR-JPG layout, .csv, .jsonl), of which reports, `text` and
    /// instructions with their responses are read. Splits and patients count as in any data set: what is for testing is not learned
    #[arg(long, required = true)]
    pub text: Vec<PathBuf>,
    /// tokenizer.json, as `tokenizer` makes it
    #[arg(long)]
    pub tokenizer: PathBuf,
    /// Width
    #[arg(long, default_value_t = PretrainSettings::default().hidden)]
    pub hidden: usize,
    /// Layers
    #[arg(long, default_value_t = PretrainSettings::default().layers)]
    pub layers: usize,
    /// Attention heads
    #[arg(long, default_value_t = PretrainSettings::default().heads)]
    pub heads: usize,
    /// Longest sequence in tokens that the model can be given
    #[arg(long, default_value_t = PretrainSettings::default().context)]
    pub context: usize,
    /// The output matrix is the embedding
    #[arg(long)]
    pub tied: bool,
    /// Tokens of a sequence in training
    #[arg(long, default_value_t = PretrainSettings::default().length)]
    pub length: usize,
    /// Sequences a step
    #[arg(long, default_value_t = PretrainSettings::default().batch)]
    pub batch: usize,
    /// Most tokens computed at once
    #[arg(long, default_value_t = PretrainSettings::default().pass_tokens)]
    pub pass_tokens: usize,
    /// Steps of the run
    #[arg(long, default_value_t = PretrainSettings::default().steps)]
    pub steps: u64,
    /// Learning rate at its height
    #[arg(long, default_value_t = PretrainSettings::default().rate)]
    pub rate: f64,
    /// How the learning rate goes
    #[arg(long, value_enum, default_value_t = PretrainSettings::default().schedule)]
    pub schedule: Shape,
    /// Steps of warm-up
    #[arg(long, default_value_t = PretrainSettings::default().warmup)]
    pub warmup: u64,
    /// AdamW: decay of the mean of squared gradients
    #[arg(long, default_value_t = PretrainSettings::default().beta2)]
    pub beta2: f64,
    /// AdamW: weight decay, of all weights, those of norms and biases too
    #[arg(long, default_value_t = PretrainSettings::default().weight_decay)]
    pub weight_decay: f64,
    /// Largest norm of a gradient (0: no limit)
    #[arg(long, default_value_t = PretrainSettings::default().clip)]
    pub clip: f64,
    /// Decay of the running average of weights that is measured and exported (0: the weights themselves)
    #[arg(long, default_value_t = PretrainSettings::default().ema)]
    pub ema: f64,
    /// Compute in bf16 (weights stay f32)
    #[arg(long)]
    pub bf16: bool,
    /// Seed of weights and order
    #[arg(long, default_value_t = PretrainSettings::default().seed)]
    pub seed: u64,
    /// Steps between evaluations
    #[arg(long, default_value_t = PretrainSettings::default().eval_every)]
    pub eval_every: u64,
    /// Steps between checkpoints
    #[arg(long, default_value_t = PretrainSettings::default().save_every)]
    pub save_every: u64,
    /// Steps between lines of the log
    #[arg(long, default_value_t = PretrainSettings::default().log_every)]
    pub log_every: u64,
    /// Sequences measured at an evaluation
    #[arg(long, default_value_t = PretrainSettings::default().validate)]
    pub validate: usize,
    /// Type of the exported weights
    #[arg(long, value_enum, default_value_t = SaveDtype::F32)]
    pub save_dtype: SaveDtype,
    /// Threads that prepare sequences
    #[arg(long, default_value_t = PretrainSettings::default().workers)]
    pub workers: usize,
}

impl Default for PretrainSettings {
    fn default() -> Self {
        Self {
            out: PathBuf::from("run-pretrain"),
            text: Vec::new(),
            tokenizer: PathBuf::from("tokenizer.json"),
            hidden: 256,
            layers: 6,
            heads: 4,
            context: 512,
            tied: false,
            length: 256,
            batch: 32,
            pass_tokens: 4096,
            steps: 2000,
            rate: 1e-3,
            schedule: Shape::Cosine,
            warmup: 100,
            beta2: 0.99,
            weight_decay: 0.01,
            clip: 1.0,
            ema: 0.0,
            bf16: false,
            seed: 1,
            eval_every: 500,
            save_every: 500,
            log_every: 20,
            validate: 64,
            save_dtype: SaveDtype::F32,
            workers: 1,
        }
    }
}

impl PretrainSettings {
    /// Refuses settings that no run can have.
    pub fn check(&self) -> Result<(), TrainError> {
        let wrong = |text: &str| Err(TrainError::Settings(text.to_owned()));
        if self.text.is_empty() {
            return wrong("give --text");
        }
        if self.batch == 0 || self.steps == 0 || self.pass_tokens == 0 {
            return wrong("--batch, --steps and --pass-tokens must be at least 1");
        }
        if self.length < 2 || self.length > self.context {
            return wrong("--length must be at least 2 and at most --context");
        }
        let movement = Movement {
            adamw: self.adamw(),
            rate: self.rate,
            clip: self.clip,
            ema: self.ema,
        };
        movement.check("")
    }

    pub(super) fn adamw(&self) -> AdamwSettings {
        AdamwSettings {
            beta2: self.beta2,
            weight_decay: self.weight_decay,
            ..AdamwSettings::default()
        }
    }
}
