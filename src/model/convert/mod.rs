//! Turns published checkpoints into a bundle.
//!
//! Everything is checked before anything is written: configurations, tokenizer, vocabulary, and the name, shape and type of
//! every tensor. Then tensors are streamed one at a time into safetensors beside the bundle's place.

mod plan;
#[cfg(test)]
mod tests;
mod tokenizer;
mod values;
mod vqgan_alone;

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use self::plan::{Plan, Problems};
use super::bundle::{
    BundleError, BundleWriter, CONFIG, DefaultInstructions, Defaults, Draft, Progress, TOKENIZER, VQGAN_CONFIG,
    VQGAN_WEIGHTS, WEIGHTS, may_replace, token_space,
};
use super::checkpoint::{CheckpointError, CheckpointReader, SafetensorsWriter, read_whole};
use super::neox::{EMBED_OUT, NeoxConfig};
use super::vqgan::VqganConfig;
use super::{ConfigError, bundle};

pub use self::values::TargetDtype;
pub use self::vqgan_alone::{VqganOptions, VqganSummary, convert_vqgan};

/// What is to be converted, and where to.
#[derive(Clone, Debug)]
pub struct ConvertOptions {
    /// Hugging Face folder of the language model.
    pub llm: PathBuf,
    /// Yaml of the taming `VQModel`.
    pub vqgan_config: PathBuf,
    /// Its Lightning checkpoint, or safetensors.
    pub vqgan_checkpoint: PathBuf,
    /// Folder of the bundle to be made.
    pub out: PathBuf,
    /// Element type of the language model's weights in the bundle.
    pub dtype: TargetDtype,
    /// Name of the bundle; by default the folder's.
    pub name: Option<String>,
    /// Replace what is at `out`.
    pub force: bool,
    /// Take weights that are NaN or infinite too.
    pub allow_non_finite: bool,
}

/// Why nothing was converted.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// A configuration cannot be used.
    #[error("{}: {}", .file.display(), .reason.without_file())]
    Config {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: ConfigError,
    },
    /// The tokenizer's files contradict each other or cannot be used.
    #[error("{}: {reason}", .file.display())]
    Tokenizer {
        /// The file.
        file: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// Tensors are missing, extra, misshapen or of a wrong type.
    #[error("{0}")]
    Tensors(Problems),
    /// Weights are NaN or infinite; what is said of each such tensor.
    #[error("{}\nno request that meets such values can be answered: get the checkpoint again, or take them all the same with --allow-non-finite", .0.join("\n"))]
    NotFinite(Vec<String>),
    /// A checkpoint cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The bundle cannot be written, or its parts do not fit together.
    #[error(transparent)]
    Bundle(#[from] BundleError),
}

/// What was made.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Folder of the bundle.
    pub out: PathBuf,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Parameters of the language model.
    pub language_model_parameters: u64,
    /// Parameters of the VQ-GAN.
    pub vqgan_parameters: u64,
    /// Length of the tokenizer.
    pub tokenizer_length: usize,
    /// Size of the code book.
    pub code_count: usize,
    /// Bytes written.
    pub bytes: u64,
    /// What looks wrong but does not prevent a bundle: weights that are not finite, where they are allowed.
    pub warnings: Vec<String>,
}

/// Makes a bundle. `progress` is told of the bytes of each stage.
pub fn convert(options: &ConvertOptions, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Summary, ConvertError> {
    may_replace(
        &options.out,
        &[&options.llm, &options.vqgan_config, &options.vqgan_checkpoint],
    )?;
    let (config_json, neox) = language_model_config(&options.llm)?;
    let (vqgan_yaml, vqgan) = vqgan_config(&options.vqgan_config)?;
    let tokenizer = collect_tokenizer(&options.llm)?;
    let vocabulary = token_space(&options.llm, &tokenizer, &neox, &vqgan)?;

    let llm = open_language_model(&options.llm)?;
    let images = CheckpointReader::open_file(&options.vqgan_checkpoint)?;
    let plans = [
        (WEIGHTS, &llm, plan::language_model(&llm, &neox, options.dtype)?),
        (VQGAN_WEIGHTS, &images, plan::vqgan(&images, &vqgan)?),
    ];

    let writer = BundleWriter::create(&options.out, options.force)?;
    writer.write(CONFIG, &config_json)?;
    writer.write(TOKENIZER, &tokenizer)?;
    writer.write(VQGAN_CONFIG, &vqgan_yaml)?;
    let mut warnings = Vec::new();
    for (file, reader, plan) in &plans {
        copy(reader, plan, &writer.path(file), file, progress, &mut warnings)?;
    }
    check_finite(&warnings, options.allow_non_finite)?;
    let draft = Draft {
        name: options.name.clone(),
        command: "convert",
        made_from: format!("{} and {}", short(&options.llm), short(&options.vqgan_checkpoint)),
        trained: true,
        warning: None,
        licence: "that of the published checkpoints; see where they were obtained".to_owned(),
        intended_use: crate::RESEARCH_NOTICE.to_owned(),
        instructions: DefaultInstructions::published(),
        defaults: Defaults::default(),
    };
    let manifest = writer.finish(draft, &vqgan, progress)?;
    Ok(Summary {
        out: options.out.clone(),
        name: manifest.name,
        version: manifest.version,
        language_model_parameters: plans[0].2.parameters(),
        vqgan_parameters: plans[1].2.parameters(),
        tokenizer_length: vocabulary.text_len(),
        code_count: vqgan.n_embed,
        bytes: manifest.files.iter().map(|file| file.size).sum(),
        warnings,
    })
}

/// The configuration of the language model in the Hugging Face folder `dir`, as it is written and as it is meant.
pub(crate) fn language_model_config(dir: &Path) -> Result<(Vec<u8>, NeoxConfig), ConvertError> {
    let file = dir.join(CONFIG);
    let json = read_whole(&file)?;
    match NeoxConfig::from_json(&json) {
        Ok(config) => Ok((json, config)),
        Err(reason) => Err(ConvertError::Config { file, reason }),
    }
}

/// The configuration of a VQ-GAN in the yaml `file`, as it is written and as it is meant.
pub(crate) fn vqgan_config(file: &Path) -> Result<(Vec<u8>, VqganConfig), ConvertError> {
    let yaml = read_whole(file)?;
    match VqganConfig::from_yaml(&yaml) {
        Ok(config) => Ok((yaml, config)),
        Err(reason) => Err(ConvertError::Config {
            file: file.to_owned(),
            reason,
        }),
    }
}

/// The tensors of the language model in the Hugging Face folder `dir`, under the names that its configuration expects.
pub(crate) fn open_language_model(dir: &Path) -> Result<CheckpointReader, ConvertError> {
    let mut reader = CheckpointReader::open_folder(dir)?;
    // What recent versions of transformers call the output matrix in memory, and so in a state dict saved by hand.
    reader.rename("lm_head.weight", EMBED_OUT);
    Ok(reader)
}

/// Refuses tensors that are not those, all those and no others than those that `config` asks for.
pub(crate) fn check_language_model(reader: &CheckpointReader, config: &NeoxConfig) -> Result<(), ConvertError> {
    plan::language_model(reader, config, TargetDtype::Keep).map(|_| ())
}

/// The tokenizer in the Hugging Face folder `dir` as one `tokenizer.json`, with the tokens that stand only in the files beside it.
pub(crate) fn collect_tokenizer(dir: &Path) -> Result<Vec<u8>, ConvertError> {
    tokenizer::collect(dir)
}

/// Refuses weights that `copy` has warned of.
fn check_finite(warnings: &[String], allowed: bool) -> Result<(), ConvertError> {
    match allowed || warnings.is_empty() {
        true => Ok(()),
        false => Err(ConvertError::NotFinite(warnings.to_vec())),
    }
}

/// Streams the planned tensors into one safetensors file. Each that is not finite, as it is in the checkpoint or as it is written, gets a warning.
fn copy(
    reader: &CheckpointReader,
    plan: &Plan,
    path: &Path,
    what: &str,
    progress: &mut dyn FnMut(Progress<'_>),
    warnings: &mut Vec<String>,
) -> Result<(), ConvertError> {
    let mut out = SafetensorsWriter::create(path, &plan.tensors)?;
    let total = plan.tensors.iter().filter_map(|(_, info)| info.bytes()).sum::<usize>() as u64;
    let mut done = 0;
    for (name, info) in &plan.tensors {
        let values = reader.read(name)?;
        let source = reader.info(name).map_or(info.dtype, |found| found.dtype);
        let mut bad = 0;
        let cast = values::cast(&values, source, info.dtype);
        // A value too large for the new type becomes infinite.
        out.write_chunks(name, cast.inspect(|chunk| bad += values::not_finite(chunk, info.dtype)))?;
        if bad > 0 {
            let file = reader.file_of(name).unwrap_or(reader.root());
            warnings.push(format!(
                "{}: tensor `{name}` has {bad} values that are NaN or infinite as {}",
                file.display(),
                info.dtype
            ));
        }
        done += info.bytes().unwrap_or(0) as u64;
        progress(Progress { what, done, total });
    }
    Ok(out.finish()?)
}

/// The last part of a path: a bundle travels, folders of the machine that made it do not.
fn short(path: &Path) -> String {
    path.canonicalize()
        .ok()
        .as_deref()
        .unwrap_or(path)
        .file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default()
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} is a bundle: {}, version {}",
            self.out.display(),
            self.name,
            self.version
        )?;
        let (llm, images) = (
            self.language_model_parameters as f64 / 1e6,
            self.vqgan_parameters as f64 / 1e6,
        );
        writeln!(
            f,
            "  language model {llm:.1} M parameters, VQ-GAN {images:.1} M, {}",
            bundle::size(self.bytes)
        )?;
        write!(
            f,
            "  {} text tokens and {} image codes",
            self.tokenizer_length, self.code_count
        )?;
        self.warnings
            .iter()
            .try_for_each(|warning| write!(f, "\n  warning: {warning}"))
    }
}
