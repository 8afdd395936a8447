//! Settings of `finetune`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::instructions;
use super::shape::{CONTEXT, HEADS, HIDDEN, LAYERS};
use crate::model::bundle::{Defaults, GUIDANCE, READINGS};
use crate::train::common::limits::{self, Limit, Movement};
use crate::train::common::schedule::Shape;
use crate::train::common::{AdamwSettings, TrainError, unsaid};
use crate::train::data::Stage;
use crate::train::language_model::SaveDtype;

/// Which way each image is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Pairing {
    /// Half of the images for their reports and half to be drawn: in the MIMIC-CXR-JPG layout in turn along the list sorted by id, as the
    /// original; elsewhere in turn by checksums of the ids, whatever the order of the list.
    #[default]
    Alternate,
    /// Every image both ways.
    Both,
}

/// How the rows of image codes begin that the base does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum InitCodes {
    /// Normal with deviation 0.02, as the original.
    #[default]
    Random,
    /// From the code book by a random projection of the same deviation: codes that look alike begin alike.
    Codebook,
}

/// Settings of `llm-cxr-train finetune`.
#[derive(Clone, Debug, PartialEq, clap::Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FinetuneSettings {
    /// The run's folder; the bundle is left in its `bundle/`
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Images with reports and questions: a folder in the MIMIC-CXR-JPG layout or a manifest (.csv, .jsonl), `PATH` or
    /// `PATH@SHARE`; several are mixed
    #[arg(long, value_name = "PATH[@SHARE]")]
    pub data: Vec<String>,
    /// The file of codes that `encode` made of each --data, in the same order
    #[arg(long)]
    pub codes: Vec<PathBuf>,
    /// Plain instructions with their answers (databricks-dolly's JSON lines, or a manifest), `PATH` or `PATH@SHARE`
    #[arg(long)]
    pub text: Vec<String>,
    /// VQ-GAN that made the codes: its folder, the run's that trained it, or a bundle
    #[arg(long)]
    pub vqgan: PathBuf,
    /// Language model to begin with: a Hugging Face folder, a bundle, or the folder of an earlier run. Without it the
    /// weights are random, of the shape that the flags give
    #[arg(long)]
    pub base: Option<PathBuf>,
    /// tokenizer.json; by default the base's. Another one may only add tokens behind those of the base. Control tokens that it lacks are added
    #[arg(long)]
    pub tokenizer: Option<PathBuf>,
    /// Width without --base (256 if not given)
    #[arg(long)]
    #[serde(serialize_with = "unsaid::number::<HIDDEN, _>")]
    pub hidden: Option<usize>,
    /// Layers without --base (6 if not given)
    #[arg(long)]
    #[serde(serialize_with = "unsaid::number::<LAYERS, _>")]
    pub layers: Option<usize>,
    /// Attention heads without --base (4 if not given)
    #[arg(long)]
    #[serde(serialize_with = "unsaid::number::<HEADS, _>")]
    pub heads: Option<usize>,
    /// Longest sequence in tokens without --base (512 if not given)
    #[arg(long)]
    #[serde(serialize_with = "unsaid::number::<CONTEXT, _>")]
    pub context: Option<usize>,
    /// Without --base: the output matrix is the embedding
    #[arg(long)]
    pub tied: bool,
    /// How the rows of image codes begin that the base does not have (random if not given). A base with the codes of another VQ-GAN is refused,
    /// unless this is given: its rows of codes are dropped then
    #[arg(long, value_enum)]
    #[serde(serialize_with = "unsaid::value")]
    pub init_codes: Option<InitCodes>,
    /// 1: every image, findings and impression; 2: the frontal images of each patient's first study, the impression alone
    #[arg(long, default_value_t = FinetuneSettings::default().stage)]
    pub stage: u8,
    /// Which way each image is used
    #[arg(long, value_enum, default_value_t = Pairing::Alternate)]
    pub pairing: Pairing,
    /// Share of reports in the mixture (shares are relative to one another; tasks without data have none)
    #[arg(long, default_value_t = FinetuneSettings::default().report_weight)]
    pub report_weight: f64,
    /// Share of drawings
    #[arg(long, default_value_t = FinetuneSettings::default().draw_weight)]
    pub draw_weight: f64,
    /// Share of questions about an image
    #[arg(long, default_value_t = FinetuneSettings::default().vqa_weight)]
    pub vqa_weight: f64,
    /// Share of plain instructions
    #[arg(long, default_value_t = FinetuneSettings::default().text_weight)]
    pub text_weight: f64,
    /// Ways to ask for a report (one is drawn for each example); the first one is the bundle's
    #[arg(long = "report-instruction", default_values_t = instructions::report())]
    #[serde(alias = "report_instruction")]
    pub report_instructions: Vec<String>,
    /// Ways to ask for an image; the first one is the bundle's
    #[arg(long = "draw-instruction", default_values_t = instructions::draw())]
    #[serde(alias = "draw_instruction")]
    pub draw_instructions: Vec<String>,
    /// A question about an image is drawn from those of the image with its number in the data set to the power of minus this: 0, all of them in
    /// turn; 1, each wording as often as any other
    #[arg(long, default_value_t = FinetuneSettings::default().question_power)]
    pub question_power: f64,
    /// Share of the questions that are asked in other words, of those that the trainer knows other words for
    #[arg(long, default_value_t = FinetuneSettings::default().reword_questions)]
    pub reword_questions: f64,
    /// Share of the drawings that are learned without their report: what guidance holds a drawing against (see --guidance)
    #[arg(long, default_value_t = FinetuneSettings::default().draw_without_report)]
    pub draw_without_report: f64,
    /// Share of the drawings that are asked for in few words instead of with the whole report
    #[arg(long, default_value_t = FinetuneSettings::default().draw_in_brief)]
    pub draw_in_brief: f64,
    /// Steps of the run
    #[arg(long, default_value_t = FinetuneSettings::default().steps)]
    pub steps: u64,
    /// Instead of --steps: epochs, each so long that all examples of every task come up
    #[arg(long)]
    pub epochs: Option<f64>,
    /// Examples a step
    #[arg(long, default_value_t = FinetuneSettings::default().batch)]
    pub batch: usize,
    /// Most tokens computed at once, padding included: a step's examples are put together by length and computed in as many passes
    /// as this asks for (memory and speed depend on it, not the result of a step)
    #[arg(long, default_value_t = FinetuneSettings::default().pass_tokens)]
    pub pass_tokens: usize,
    /// Each label of an example with n of them weighs n to the power of minus this: 0, every token the same, as the original; 1, every
    /// example the same, however short its answer
    #[arg(long, default_value_t = FinetuneSettings::default().label_power)]
    pub label_power: f64,
    /// Learning rate at its height
    #[arg(long, default_value_t = FinetuneSettings::default().rate)]
    pub rate: f64,
    /// How the learning rate goes
    #[arg(long, value_enum, default_value_t = FinetuneSettings::default().schedule)]
    pub schedule: Shape,
    /// Where linear and cosine end, as a share of --rate
    #[arg(long, default_value_t = FinetuneSettings::default().floor)]
    pub floor: f64,
    /// Steps of warm-up
    #[arg(long, default_value_t = FinetuneSettings::default().warmup)]
    pub warmup: u64,
    /// AdamW: decay of the mean of gradients
    #[arg(long, default_value_t = FinetuneSettings::default().beta1)]
    pub beta1: f64,
    /// AdamW: decay of the mean of their squares
    #[arg(long, default_value_t = FinetuneSettings::default().beta2)]
    pub beta2: f64,
    /// AdamW: added to the denominator
    #[arg(long, default_value_t = FinetuneSettings::default().eps)]
    pub eps: f64,
    /// AdamW: weight decay, of all weights, those of norms and biases too
    #[arg(long, default_value_t = FinetuneSettings::default().weight_decay)]
    pub weight_decay: f64,
    /// Largest norm of a gradient (0: no limit)
    #[arg(long, default_value_t = FinetuneSettings::default().clip)]
    pub clip: f64,
    /// Decay of the running average of weights that is measured and exported (0: the weights themselves)
    #[arg(long, default_value_t = FinetuneSettings::default().ema)]
    pub ema: f64,
    /// Compute in bf16 (weights stay f32)
    #[arg(long)]
    pub bf16: bool,
    /// Compute activations again on the way back instead of keeping them
    #[arg(long)]
    pub checkpointing: bool,
    /// Train low-rank adapters of this rank, and the rows of new tokens, instead of the weights of --base (0: the weights)
    #[arg(long, default_value_t = FinetuneSettings::default().lora_rank)]
    pub lora_rank: usize,
    /// Scale of the adapters, over their rank
    #[arg(long, default_value_t = FinetuneSettings::default().lora_alpha)]
    pub lora_alpha: f64,
    /// Seed of weights, order and wording
    #[arg(long, default_value_t = FinetuneSettings::default().seed)]
    pub seed: u64,
    /// Steps between evaluations
    #[arg(long, default_value_t = FinetuneSettings::default().eval_every)]
    pub eval_every: u64,
    /// Steps between checkpoints
    #[arg(long, default_value_t = FinetuneSettings::default().save_every)]
    pub save_every: u64,
    /// Steps between lines of the log
    #[arg(long, default_value_t = FinetuneSettings::default().log_every)]
    pub log_every: u64,
    /// Examples of each task measured at an evaluation, from the validation split
    #[arg(long, default_value_t = FinetuneSettings::default().validate)]
    pub validate: usize,
    /// Reports and images made as samples at an evaluation
    #[arg(long, default_value_t = FinetuneSettings::default().samples)]
    pub samples: usize,
    /// End after this many evaluations without a lower validation loss (0: never)
    #[arg(long, default_value_t = FinetuneSettings::default().patience)]
    pub patience: u64,
    /// Type of the exported weights
    #[arg(long, value_enum, default_value_t = SaveDtype::F32)]
    pub save_dtype: SaveDtype,
    /// Name of the bundle; by default the run folder's
    #[arg(long)]
    pub name: Option<String>,
    /// Licence of the weights, as the bundle states it; by default that of the bundle it begins from
    #[arg(long)]
    pub licence: Option<String>,
    /// What the bundle must say with every answer, such as what it cannot do yet; by default what the bundle says that it begins from ("": nothing)
    #[arg(long)]
    pub warning: Option<String>,
    /// Temperature of drawings and plain instructions, where a request to the bundle names none
    #[arg(long, default_value_t = FinetuneSettings::default().temperature)]
    pub temperature: f32,
    /// Guidance of drawings, where a request to the bundle names none (1: none)
    #[arg(long, default_value_t = FinetuneSettings::default().guidance)]
    pub guidance: f32,
    /// How often an image is read for a report, each time moved a little, where a request to the bundle does not say: of several readings
    /// the one that the others agree with most is the report
    #[arg(long, default_value_t = FinetuneSettings::default().readings)]
    pub readings: usize,
    /// Threads that prepare examples
    #[arg(long, default_value_t = FinetuneSettings::default().workers)]
    pub workers: usize,
}

impl Default for FinetuneSettings {
    fn default() -> Self {
        Self {
            out: PathBuf::from("run-finetune"),
            data: Vec::new(),
            codes: Vec::new(),
            text: Vec::new(),
            vqgan: PathBuf::from("run-vqgan"),
            base: None,
            tokenizer: None,
            hidden: None,
            layers: None,
            heads: None,
            context: None,
            tied: false,
            init_codes: None,
            stage: 1,
            pairing: Pairing::Alternate,
            report_weight: 0.3,
            draw_weight: 0.3,
            vqa_weight: 0.2,
            text_weight: 0.2,
            report_instructions: instructions::report(),
            draw_instructions: instructions::draw(),
            question_power: 0.0,
            reword_questions: 0.0,
            draw_without_report: 0.0,
            draw_in_brief: 0.0,
            steps: 10_000,
            epochs: None,
            batch: 32,
            pass_tokens: 4096,
            label_power: 0.0,
            rate: 1e-3,
            schedule: Shape::Cosine,
            floor: 0.05,
            warmup: 100,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
            clip: 1.0,
            ema: 0.0,
            bf16: false,
            checkpointing: false,
            lora_rank: 0,
            lora_alpha: 32.0,
            seed: 1,
            eval_every: 500,
            save_every: 500,
            log_every: 20,
            validate: 128,
            samples: 4,
            patience: 0,
            save_dtype: SaveDtype::F32,
            name: None,
            licence: None,
            warning: None,
            temperature: Defaults::default().temperature,
            guidance: Defaults::default().guidance,
            readings: Defaults::default().readings,
            workers: 1,
        }
    }
}

impl FinetuneSettings {
    /// The stage as the data knows it.
    pub fn stage(&self) -> Result<Stage, TrainError> {
        Stage::try_from(self.stage).map_err(TrainError::Settings)
    }

    /// Refuses settings that no run can have.
    pub fn check(&self) -> Result<(), TrainError> {
        let wrong = |text: &str| Err(TrainError::Settings(text.to_owned()));
        self.stage()?;
        if self.data.is_empty() && self.text.is_empty() {
            return wrong("give --data with its --codes, or --text");
        }
        if self.data.len() != self.codes.len() {
            return Err(TrainError::Settings(format!(
                "{} --data and {} --codes: each data set needs the file of codes that `encode` made of it, in the same order",
                self.data.len(),
                self.codes.len()
            )));
        }
        if self.base.is_none() && self.tokenizer.is_none() {
            return wrong("without --base a --tokenizer is needed; `llm-cxr-train tokenizer` makes one");
        }
        if self.base.is_none() && self.lora_rank > 0 {
            return wrong(
                "--lora-rank needs --base: without it all but the adapters would stay random; give the language model that they are adapters \
                 to, or leave out --lora-rank",
            );
        }
        if self.report_instructions.is_empty() || self.draw_instructions.is_empty() {
            return wrong("--report-instruction and --draw-instruction need at least one wording each");
        }
        let weights = [self.report_weight, self.draw_weight, self.vqa_weight, self.text_weight];
        if weights.iter().any(|w| !w.is_finite() || *w < 0.0) {
            return wrong("the weights of the mixture must be 0 or larger");
        }
        if self.epochs.is_some_and(|e| !e.is_finite() || e <= 0.0) {
            return wrong("--epochs must be a positive number");
        }
        if self.batch == 0 || self.steps == 0 || self.pass_tokens == 0 {
            return wrong("--batch, --steps and --pass-tokens must be at least 1");
        }
        if !(0.0..=2.0).contains(&self.temperature) {
            return wrong("--temperature must lie between 0 and 2");
        }
        if !GUIDANCE.contains(&self.guidance) {
            return wrong("--guidance must lie between 1 and 10");
        }
        if !READINGS.contains(&self.readings) {
            return wrong(&format!(
                "--readings must lie between {} and {}",
                READINGS.start(),
                READINGS.end()
            ));
        }
        let movement = Movement {
            adamw: self.adamw(),
            rate: self.rate,
            clip: self.clip,
            ema: self.ema,
        };
        movement.check("")?;
        if self.lora_rank > 0 {
            limits::check(&[("lora-alpha", self.lora_alpha, Limit::Positive)])?;
        }
        limits::check(&[
            ("question-power", self.question_power, Limit::Share),
            ("reword-questions", self.reword_questions, Limit::Share),
            ("draw-without-report", self.draw_without_report, Limit::Share),
            ("draw-in-brief", self.draw_in_brief, Limit::Share),
            ("label-power", self.label_power, Limit::Share),
            ("floor", self.floor, Limit::Share),
        ])
    }

    pub(super) fn adamw(&self) -> AdamwSettings {
        AdamwSettings {
            beta1: self.beta1,
            beta2: self.beta2,
            eps: self.eps,
            weight_decay: self.weight_decay,
        }
    }
}
