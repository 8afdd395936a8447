//! A published VQ-GAN without a language model: the folder that trainings begin with.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::{ConvertError, check_finite, copy, plan, vqgan_config};
use crate::model::bundle::{self, BundleError, Partial, Progress};
use crate::model::checkpoint::CheckpointReader;

/// The names by which `llm-cxr-train` knows the files of a VQ-GAN.
const CONFIG: &str = "config.yaml";
const WEIGHTS: &str = "model.safetensors";

/// What is to be converted, and where to.
#[derive(Clone, Debug)]
pub struct VqganOptions {
    /// Yaml of the taming `VQModel`.
    pub config: PathBuf,
    /// Its Lightning checkpoint, or safetensors.
    pub checkpoint: PathBuf,
    /// Folder to be made.
    pub out: PathBuf,
    /// Replace what is at `out`.
    pub force: bool,
    /// Take weights that are NaN or infinite too.
    pub allow_non_finite: bool,
}

/// What was made.
#[derive(Clone, Debug, Serialize)]
pub struct VqganSummary {
    /// The folder.
    pub out: PathBuf,
    /// Parameters.
    pub parameters: u64,
    /// Codes of an image.
    pub codes_per_image: usize,
    /// Side of an image in pixels.
    pub image_side: usize,
    /// Size of the code book.
    pub code_count: usize,
    /// Bytes written.
    pub bytes: u64,
    /// What looks wrong but does not prevent a training: weights that are not finite, where they are allowed.
    pub warnings: Vec<String>,
}

/// Makes the folder of a VQ-GAN: its yaml and its weights, without the losses and whatever else a training checkpoint holds. `progress` is
/// told of the bytes.
pub fn convert_vqgan(
    options: &VqganOptions,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<VqganSummary, ConvertError> {
    bundle::may_replace(&options.out, &[&options.config, &options.checkpoint])?;
    let (yaml, config) = vqgan_config(&options.config)?;
    let reader = CheckpointReader::open_file(&options.checkpoint)?;
    let plan = plan::vqgan(&reader, &config)?;
    let partial = Partial::create(&options.out, options.force)?;
    partial.write(CONFIG, &yaml)?;
    let weights = partial.path(WEIGHTS);
    let mut warnings = Vec::new();
    copy(&reader, &plan, &weights, WEIGHTS, progress, &mut warnings)?;
    check_finite(&warnings, options.allow_non_finite)?;
    let size = weights.metadata().map_err(BundleError::io(&weights))?.len();
    partial.finish()?;
    Ok(VqganSummary {
        out: options.out.clone(),
        parameters: plan.parameters(),
        codes_per_image: config.codes_per_image(),
        image_side: config.resolution,
        code_count: config.n_embed,
        bytes: size + yaml.len() as u64,
        warnings,
    })
}

impl fmt::Display for VqganSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let out = self.out.display();
        writeln!(f, "{out} is the folder of a VQ-GAN")?;
        writeln!(
            f,
            "  {:.1} M parameters, {} of {} codes for an image of {} pixels, {}",
            self.parameters as f64 / 1e6,
            self.codes_per_image,
            self.code_count,
            self.image_side,
            bundle::size(self.bytes)
        )?;
        write!(
            f,
            "  it is for `llm-cxr-train`: vqgan --init {out}, encode --vqgan {out}, finetune --vqgan {out}"
        )?;
        self.warnings
            .iter()
            .try_for_each(|warning| write!(f, "\n  warning: {warning}"))
    }
}
