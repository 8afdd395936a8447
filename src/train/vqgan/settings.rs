//! Settings of `llm-cxr-train vqgan`: flags, and the table of the same names in a recipe.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::files::VqganFiles;
use crate::model::convert::vqgan_config;
use crate::model::vqgan::VqganConfig;
use crate::train::common::limits::{self, Limit, Movement};
use crate::train::common::{AdamwSettings, TrainError, unsaid};

/// The shape, where neither a file nor a flag says it.
const RESOLUTION: usize = 128;
const CHANNELS: usize = 1;
const WIDTH: usize = 32;
const WIDTHS: &[usize] = &[1, 2, 2, 4];
const RES_BLOCKS: usize = 1;
const CODES: usize = 512;
const EMBED_DIM: usize = 64;

/// Steps before latents are quantised, where there is no code book yet.
const QUANTISE_FROM: u64 = 500;

/// Settings of `llm-cxr-train vqgan`.
#[derive(Clone, Debug, PartialEq, clap::Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VqganSettings {
    /// The run's folder; the network is left in its `vqgan/`
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Images: a folder, one in the MIMIC-CXR-JPG layout, or a manifest (.csv, .jsonl), `PATH` or `PATH@SHARE`; several are mixed
    #[arg(long, required = true, value_name = "PATH[@SHARE]")]
    pub data: Vec<String>,
    /// Shape of the network as a taming yaml, instead of the flags from --resolution to --embed-dim
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Begin with the weights of this VQ-GAN, which has its shape: a bundle, the folder of a run of `vqgan`, or the folder with config.yaml
    /// and model.safetensors
    #[arg(long, conflicts_with = "config")]
    pub init: Option<PathBuf>,
    /// Side of the images in pixels (128 if nothing says it)
    #[arg(long)]
    #[serde(serialize_with = "unsaid::number::<RESOLUTION, _>")]
    pub resolution: Option<usize>,
    /// Channels of the images: 1 or 3 (1 if nothing says it)
    #[arg(long)]
    #[serde(serialize_with = "unsaid::number::<CHANNELS, _>")]
    pub channels: Option<usize>,
    /// Base width, a multiple of 32 (32 if nothing says it)
    #[arg(long)]
    #[serde(serialize_with = "unsaid::number::<WIDTH, _>")]
    pub ch: Option<usize>,
    /// Width of each level in units of the base width; each level but the last halves the side (1,2,2,4 if nothing says it)
    #[arg(long, value_delimiter = ',')]
    #[serde(serialize_with = "widths")]
    pub ch_mult: Option<Vec<usize>>,
    /// Residual blocks of a level (1 if nothing says it)
    #[arg(long)]
    #[serde(serialize_with = "unsaid::number::<RES_BLOCKS, _>")]
    pub res_blocks: Option<usize>,
    /// Sides at which attention follows each residual block (none if nothing says it)
    #[arg(long, value_delimiter = ',')]
    #[serde(serialize_with = "unsaid::value")]
    pub attention: Option<Vec<usize>>,
    /// Size of the code book (512 if nothing says it)
    #[arg(long)]
    #[serde(serialize_with = "unsaid::number::<CODES, _>")]
    pub codes: Option<usize>,
    /// Length of a code-book vector (64 if nothing says it)
    #[arg(long)]
    #[serde(serialize_with = "unsaid::number::<EMBED_DIM, _>")]
    pub embed_dim: Option<usize>,
    /// Steps of the run
    #[arg(long, default_value_t = VqganSettings::default().steps)]
    pub steps: u64,
    /// Images a step
    #[arg(long, default_value_t = VqganSettings::default().batch)]
    pub batch: usize,
    /// Learning rate at its height; falls along a cosine
    #[arg(long, default_value_t = VqganSettings::default().rate)]
    pub rate: f64,
    /// Steps of warm-up
    #[arg(long, default_value_t = VqganSettings::default().warmup)]
    pub warmup: u64,
    /// Step after --findings-first from which latents are quantised; the code book is then made from them by k-means (0: at once).
    /// By default 500; with --init and without --findings-first 0, and the code book is that of --init
    #[arg(long)]
    pub quantise_from: Option<u64>,
    /// Weight of the code-book loss
    #[arg(long, default_value_t = VqganSettings::default().code_book_weight)]
    pub code_book_weight: f64,
    /// Beta of the code-book loss
    #[arg(long, default_value_t = VqganSettings::default().beta)]
    pub beta: f64,
    /// Steps after which codes that were not used are replaced (0: never)
    #[arg(long, default_value_t = VqganSettings::default().revive_every)]
    pub revive_every: u64,
    /// Feature network of the perceptual and clinical terms: a folder left by `classifier`, a `vqgan/` folder (its encoder), or a TorchScript
    /// file; may be repeated, what one does not see another may
    #[arg(long)]
    #[serde(with = "few")]
    pub perceptual: Vec<PathBuf>,
    /// Weight of the perceptual term
    #[arg(long, default_value_t = VqganSettings::default().perceptual_weight)]
    pub perceptual_weight: f64,
    /// Weight of the clinical-feature term
    #[arg(long, default_value_t = VqganSettings::default().clinical_weight)]
    pub clinical_weight: f64,
    /// Pull of findings on the latents, as a share of the reconstruction's pull: labels and common answers must be readable off the
    /// codes (0: none)
    #[arg(long, default_value_t = VqganSettings::default().findings_weight)]
    pub findings_weight: f64,
    /// Steps at the beginning in which the encoder learns findings alone, at a third of the cost of a whole step
    #[arg(long, default_value_t = VqganSettings::default().findings_first)]
    pub findings_first: u64,
    /// Learning rate at its height after --findings-first, where the decoder begins: with a warm-up and a cosine of its own (0: the
    /// first cosine goes on)
    #[arg(long, default_value_t = VqganSettings::default().draw_rate)]
    pub draw_rate: f64,
    /// The encoder and the code book of --init stay as they are, and the decoder learns to draw from their codes: those that were made of
    /// a data set, and a language model that knows them, stay right
    #[arg(long, requires = "init")]
    pub decoder_only: bool,
    /// Share of each batch that is drawn again (at least one image); of the others findings are learned alone, at a third of the cost
    #[arg(long, default_value_t = VqganSettings::default().draw_share)]
    pub draw_share: f64,
    /// Weight of the discriminator's loss (0: none)
    #[arg(long, default_value_t = VqganSettings::default().disc_weight)]
    pub disc_weight: f64,
    /// Step from which the discriminator takes part
    #[arg(long, default_value_t = VqganSettings::default().disc_start)]
    pub disc_start: u64,
    /// Filters of the discriminator's first layer
    #[arg(long, default_value_t = VqganSettings::default().disc_width)]
    pub disc_width: usize,
    /// Strided layers of the discriminator
    #[arg(long, default_value_t = VqganSettings::default().disc_layers)]
    pub disc_layers: usize,
    /// Decay of the running average of weights that is measured and exported (0: the weights themselves)
    #[arg(long, default_value_t = VqganSettings::default().ema)]
    pub ema: f64,
    /// Largest norm of a gradient (0: no limit)
    #[arg(long, default_value_t = VqganSettings::default().clip)]
    pub clip: f64,
    /// Adam: decay of the mean of gradients
    #[arg(long, default_value_t = VqganSettings::default().adam_beta1)]
    pub adam_beta1: f64,
    /// Adam: decay of the mean of their squares
    #[arg(long, default_value_t = VqganSettings::default().adam_beta2)]
    pub adam_beta2: f64,
    /// Images whose rarest finding is in fewer than this share of their data set are shown more often, up to four times (0: none)
    #[arg(long, default_value_t = VqganSettings::default().repeat_rare)]
    pub repeat_rare: f64,
    /// Mebibytes of decoded images kept in memory (0: each is decoded every time)
    #[arg(long, default_value_t = VqganSettings::default().cache_mib)]
    pub cache_mib: usize,
    /// Seed of weights, order and revival
    #[arg(long, default_value_t = VqganSettings::default().seed)]
    pub seed: u64,
    /// Compute in bf16 (weights stay f32)
    #[arg(long)]
    pub bf16: bool,
    /// Steps between evaluations
    #[arg(long, default_value_t = VqganSettings::default().eval_every)]
    pub eval_every: u64,
    /// Steps between checkpoints
    #[arg(long, default_value_t = VqganSettings::default().save_every)]
    pub save_every: u64,
    /// Steps between lines of the log
    #[arg(long, default_value_t = VqganSettings::default().log_every)]
    pub log_every: u64,
    /// Images of the validation split that are measured
    #[arg(long, default_value_t = VqganSettings::default().validate_images)]
    pub validate_images: usize,
    /// Threads that decode images
    #[arg(long, default_value_t = VqganSettings::default().workers)]
    pub workers: usize,
}

impl Default for VqganSettings {
    fn default() -> Self {
        Self {
            out: PathBuf::from("run-vqgan"),
            data: Vec::new(),
            config: None,
            init: None,
            resolution: None,
            channels: None,
            ch: None,
            ch_mult: None,
            res_blocks: None,
            attention: None,
            codes: None,
            embed_dim: None,
            steps: 20_000,
            batch: 16,
            rate: 4e-4,
            warmup: 100,
            quantise_from: None,
            code_book_weight: 1.0,
            beta: 0.25,
            revive_every: 200,
            perceptual: Vec::new(),
            perceptual_weight: 0.1,
            clinical_weight: 1.0,
            findings_weight: 0.0,
            findings_first: 0,
            draw_rate: 0.0,
            decoder_only: false,
            draw_share: 1.0,
            disc_weight: 0.8,
            disc_start: 10_000,
            disc_width: 32,
            disc_layers: 3,
            ema: 0.999,
            clip: 1.0,
            // Those of taming, for adversarial training.
            adam_beta1: 0.5,
            adam_beta2: 0.9,
            repeat_rare: 0.0,
            cache_mib: 0,
            seed: 1,
            bf16: false,
            eval_every: 1000,
            save_every: 1000,
            log_every: 20,
            validate_images: 128,
            workers: 2,
        }
    }
}

impl VqganSettings {
    /// The network's shape: from `--init`, `--config` or the flags.
    pub fn shape(&self) -> Result<VqganConfig, TrainError> {
        let (of, there) = match (&self.init, &self.config) {
            (Some(init), _) => (init, VqganFiles::find(init)?.config),
            (None, Some(path)) => (path, vqgan_config(path)?.1),
            (None, None) => return self.shape_of_flags(),
        };
        let others = self.contradictions(&there);
        match others.is_empty() {
            true => Ok(there),
            false => Err(TrainError::Settings(format!(
                "{} has another shape than is asked for ({}); leave out what says the shape, or --init and --config",
                of.display(),
                others.join(", ")
            ))),
        }
    }

    /// Flags that were given and say another shape than `there` is.
    fn contradictions(&self, there: &VqganConfig) -> Vec<String> {
        let with = self.with_shape(there);
        let says = |flag: &str, [asked, is]: [String; 2]| {
            (asked != is).then(|| format!("--{flag} is {asked}, there it is {is}"))
        };
        let number = |flag: &str, of: fn(&Self) -> Option<usize>| {
            let (asked, is) = (of(self)?, of(&with)?);
            says(flag, [asked, is].map(|number| number.to_string()))
        };
        let list = |flag: &str, of: fn(&Self) -> Option<&Vec<usize>>| {
            let (asked, is) = (of(self)?, of(&with)?);
            says(flag, [asked, is].map(|numbers| format!("{numbers:?}")))
        };
        let flags = [
            number("resolution", |s| s.resolution),
            number("channels", |s| s.channels),
            number("ch", |s| s.ch),
            list("ch-mult", |s| s.ch_mult.as_ref()),
            number("res-blocks", |s| s.res_blocks),
            list("attention", |s| s.attention.as_ref()),
            number("codes", |s| s.codes),
            number("embed-dim", |s| s.embed_dim),
        ];
        flags.into_iter().flatten().collect()
    }

    /// The same settings with the flags of this shape.
    fn with_shape(&self, shape: &VqganConfig) -> Self {
        Self {
            resolution: Some(shape.resolution),
            channels: Some(shape.in_channels),
            ch: Some(shape.ch),
            ch_mult: Some(shape.ch_mult.clone()),
            res_blocks: Some(shape.num_res_blocks),
            attention: Some(shape.attn_resolutions.clone()),
            codes: Some(shape.n_embed),
            embed_dim: Some(shape.embed_dim),
            ..self.clone()
        }
    }

    fn shape_of_flags(&self) -> Result<VqganConfig, TrainError> {
        let channels = self.channels.unwrap_or(CHANNELS);
        let embed_dim = self.embed_dim.unwrap_or(EMBED_DIM);
        let asked = VqganConfig {
            embed_dim,
            n_embed: self.codes.unwrap_or(CODES),
            z_channels: embed_dim,
            resolution: self.resolution.unwrap_or(RESOLUTION),
            in_channels: channels,
            out_ch: channels,
            ch: self.ch.unwrap_or(WIDTH),
            ch_mult: self.ch_mult.clone().unwrap_or_else(|| WIDTHS.to_vec()),
            num_res_blocks: self.res_blocks.unwrap_or(RES_BLOCKS),
            attn_resolutions: self.attention.clone().unwrap_or_default(),
            resamp_with_conv: true,
        };
        // Reading it back applies every check of a yaml.
        VqganConfig::from_yaml(asked.to_yaml().as_bytes()).map_err(|reason| TrainError::no_shape(&reason))
    }

    /// The step from which latents are quantised.
    pub(super) fn quantises_from(&self) -> u64 {
        if self.decoder_only {
            0
        } else {
            self.findings_first + self.quantises_after()
        }
    }

    fn quantises_after(&self) -> u64 {
        // A code book that fits its encoder is there from the start: without it both would drift apart.
        let fits = self.init.is_some() && self.findings_first == 0 && !self.decoder_only;
        self.quantise_from.unwrap_or(if fits { 0 } else { QUANTISE_FROM })
    }

    /// With what was not said filled in, as `run.json` keeps it: `shape` is what the network has.
    pub(super) fn filled(&self, shape: &VqganConfig) -> Self {
        Self {
            quantise_from: Some(self.quantises_after()),
            ..self.with_shape(shape)
        }
    }

    /// How many of `images` are drawn again.
    pub(super) fn drawn(&self, images: usize) -> i64 {
        (images as f64 * self.draw_share).ceil().min(images as f64) as i64
    }

    pub(super) fn adamw(&self) -> AdamwSettings {
        AdamwSettings {
            beta1: self.adam_beta1,
            beta2: self.adam_beta2,
            ..AdamwSettings::default()
        }
    }

    /// Refuses settings that no run can have.
    pub fn check(&self) -> Result<(), TrainError> {
        let wrong = |text: &str| Err(TrainError::Settings(text.to_owned()));
        if self.batch == 0 || self.steps == 0 {
            return wrong("--batch and --steps must be at least 1");
        }
        if !(1..=8).contains(&self.disc_layers) || self.disc_width == 0 {
            return wrong("--disc-layers must lie between 1 and 8, and --disc-width must be at least 1");
        }
        let movement = Movement {
            adamw: self.adamw(),
            rate: self.rate,
            clip: self.clip,
            ema: self.ema,
        };
        movement.check("adam-")?;
        limits::check(&[
            ("code-book-weight", self.code_book_weight, Limit::NotNegative),
            ("beta", self.beta, Limit::NotNegative),
            ("perceptual-weight", self.perceptual_weight, Limit::NotNegative),
            ("clinical-weight", self.clinical_weight, Limit::NotNegative),
            ("findings-weight", self.findings_weight, Limit::NotNegative),
            ("draw-rate", self.draw_rate, Limit::NotNegative),
            ("disc-weight", self.disc_weight, Limit::NotNegative),
            ("repeat-rare", self.repeat_rare, Limit::Share),
        ])?;
        if self.decoder_only && (self.init.is_none() || self.findings_weight > 0.0) {
            return wrong("--decoder-only needs --init, and no --findings-weight: the codes do not change");
        }
        if !(self.draw_share > 0.0 && self.draw_share <= 1.0) {
            return wrong("--draw-share must be above 0 and at most 1");
        }
        if self.draw_share < 1.0 && self.findings_weight == 0.0 {
            return wrong(
                "--draw-share needs --findings-weight: without it nothing would be learned of the images that are not drawn",
            );
        }
        if self.findings_first > 0 && self.findings_weight == 0.0 {
            return wrong("--findings-first needs --findings-weight");
        }
        Ok(())
    }
}

/// Writes the widths of the levels, or those that stand for them where none were given.
fn widths<S: serde::Serializer>(said: &Option<Vec<usize>>, to: S) -> Result<S::Ok, S::Error> {
    said.as_deref().unwrap_or(WIDTHS).serialize(to)
}

/// Paths as recipes and `run.json` have them: none, one by itself, or a list.
mod few {
    use std::path::PathBuf;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Few {
        One(PathBuf),
        More(Vec<PathBuf>),
    }

    pub fn serialize<S: Serializer>(paths: &[PathBuf], to: S) -> Result<S::Ok, S::Error> {
        match paths {
            [] => to.serialize_none(),
            [one] => one.serialize(to),
            more => more.serialize(to),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<PathBuf>, D::Error> {
        Ok(match Option::deserialize(from)? {
            None => Vec::new(),
            Some(Few::One(path)) => vec![path],
            Some(Few::More(paths)) => paths,
        })
    }
}
