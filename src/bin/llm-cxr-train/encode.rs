//! `llm-cxr-train encode`: the images of a data set as codes.

use std::path::PathBuf;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use llm_cxr::model::device::{DeviceChoice, resolve};
use llm_cxr::train::common::Outcome;
use llm_cxr::train::data::Dataset;
use llm_cxr::train::encode::encode;
use llm_cxr::train::vqgan::VqganFiles;
use serde::{Deserialize, Serialize};

use crate::Done;

/// Encode the images of a data set with a VQ-GAN, once. Run again, it goes on where it was, and encodes images whose files have changed.
#[derive(Args, Debug)]
pub struct EncodeArgs {
    #[command(flatten)]
    pub settings: EncodeSettings,
    /// auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
}

/// Settings of `llm-cxr-train encode`.
#[derive(Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncodeSettings {
    /// Data set: a folder in the MIMIC-CXR-JPG layout, or a manifest (.csv, .jsonl).
    #[arg(long, value_name = "PATH")]
    pub data: PathBuf,
    /// A model bundle, the folder of a VQ-GAN (config.yaml and model.safetensors), or of the run that trained it.
    #[arg(long, value_name = "DIR")]
    pub vqgan: PathBuf,
    /// File of codes to make or go on with.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Images encoded together.
    #[arg(long, default_value_t = 16)]
    #[serde(default = "batch")]
    pub batch: usize,
}

fn batch() -> usize {
    16
}

/// Does the work.
pub fn run(args: &EncodeSettings, device: DeviceChoice) -> Done {
    let dataset = Dataset::open(&args.data)?;
    let files = VqganFiles::find(&args.vqgan)?;
    let (origin, vqgan) = (files.origin()?, files.load(resolve(device)?)?);
    let bar =
        ProgressBar::new_spinner().with_style(ProgressStyle::with_template("{pos} images  {per_sec}  {elapsed}")?);
    let outcome = encode(&dataset, &vqgan, &origin, &args.out, args.batch, &mut |done| {
        bar.set_position(done)
    });
    bar.finish_and_clear();
    llm_cxr::basics::say(outcome?);
    Ok(Outcome::Finished)
}
