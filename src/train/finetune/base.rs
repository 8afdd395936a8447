//! What a run begins with: the VQ-GAN, the tokenizer, and the language model with a row for every token and code.

use std::path::{Path, PathBuf};

use tch::{Device, Kind, Tensor};

use super::settings::{FinetuneSettings, InitCodes};
use crate::model::bundle::{CONFIG, TOKENIZER, VQGAN_CONFIG};
use crate::model::checkpoint::{CheckpointReader, Dtype};
use crate::model::neox::NeoxConfig;
use crate::model::source::{LoadError, TensorSource};
use crate::train::common::TrainError;
use crate::train::language_model::Shape;
use crate::train::neox::{LoraSettings, TrainableNeox};
use crate::train::tokenizer::with_control_tokens;
use crate::train::vqgan::{VqganFiles, other_codes};
use crate::vocabulary::Vocabulary;

/// Refuses another VQ-GAN, `vqgan`, than the one of `base`, if that is a bundle with one: to its language model each code would mean
/// something else.
fn check_codes_of(base: &Path, vqgan: &VqganFiles) -> Result<(), TrainError> {
    if !base.join(VQGAN_CONFIG).is_file() {
        return Ok(());
    }
    let before = VqganFiles::find(base)?;
    let differs = match before.config == vqgan.config {
        true => other_codes(&vqgan.config, &before.open()?, &vqgan.open()?),
        false => Some("the shape".to_owned()),
    };
    let Some(what) = differs else { return Ok(()) };
    Err(TrainError::Settings(format!(
        "the codes of {} are not those that {} was tuned with ({what} differs): give that VQ-GAN, with codes that it made, or begin \
         from a language model without codes",
        vqgan.weights.display(),
        base.display(),
    )))
}

/// A language model before its first step.
pub struct Start {
    /// Its weights.
    pub model: TrainableNeox,
    /// Its token space.
    pub vocabulary: Vocabulary,
    /// The tokenizer's file, control tokens included.
    pub tokenizer: Vec<u8>,
}

impl Start {
    /// Opens the base, or makes fresh weights.
    pub fn open(settings: &FinetuneSettings, vqgan: &VqganFiles, device: Device) -> Result<Self, TrainError> {
        let s = settings;
        let base = s.base.as_deref().map(base_folder);
        let path = match (&s.tokenizer, &base) {
            (Some(path), _) => path.clone(),
            (None, Some(base)) => base.join(TOKENIZER),
            (None, None) => return Err(TrainError::Settings("give --tokenizer or --base".to_owned())),
        };
        let bytes = std::fs::read(&path).map_err(|e| TrainError::io(&path, e))?;
        let named = |reason: &dyn std::fmt::Display| TrainError::Settings(format!("{}: {reason}", path.display()));
        let (tokenizer, added) = with_control_tokens(&bytes).map_err(|e| named(&e))?;
        let (codes, per_image) = (vqgan.config.n_embed, vqgan.config.codes_per_image());
        let vocabulary = Vocabulary::from_bytes(&tokenizer, codes, per_image).map_err(|e| named(&e))?;
        let (rows, text) = (vocabulary.len(), vocabulary.text_len());
        let (mut model, known) = match &base {
            Some(base) => {
                let (config, source) = read_base(base)?;
                let known = config.vocab_size;
                let model = TrainableNeox::from_checkpoint(&config, &source, device)?;
                // What is stored behind the tokenizer's last token belongs to no token, unless the model knows codes already.
                match known == rows && added == 0 {
                    true => {
                        check_codes_of(base, vqgan)?;
                        (model, rows)
                    }
                    false => (model.grown(known.min(text - added), rows, s.seed)?, text),
                }
            }
            None => {
                let shape = Shape {
                    rows,
                    hidden: s.hidden,
                    layers: s.layers,
                    heads: s.heads,
                    context: s.context,
                    tied: s.tied,
                };
                (TrainableNeox::fresh(&shape.config()?, s.seed, device)?, 0)
            }
        };
        if s.init_codes == InitCodes::Codebook && known < rows {
            let weights = vqgan.open()?;
            let shape = [codes, vqgan.config.embed_dim];
            let book = weights.tensor("quantize.embedding.weight", &shape, Kind::Float, Device::Cpu)?;
            model.init_codes_from(text, &book, s.seed)?;
        }
        if s.lora_rank > 0 {
            let lora = LoraSettings {
                rank: s.lora_rank,
                alpha: s.lora_alpha,
                ..LoraSettings::default()
            };
            model = model.with_lora(&lora, s.seed)?;
        }
        Ok(Self {
            model,
            vocabulary,
            tokenizer,
        })
    }
}

/// The folder that holds the language model: the given one, or the result in a run's folder.
fn base_folder(given: &Path) -> PathBuf {
    let results = [given.join("bundle"), given.join("model")];
    let result = results.into_iter().find(|folder| folder.join(CONFIG).is_file());
    result.unwrap_or_else(|| given.to_owned())
}

/// Reads a Hugging Face folder: its shape and its tensors.
fn read_base(folder: &Path) -> Result<(NeoxConfig, Stored), TrainError> {
    let path = folder.join(CONFIG);
    let bytes = std::fs::read(&path).map_err(|e| TrainError::io(&path, e))?;
    let config = NeoxConfig::from_json(&bytes)?;
    Ok((config, Stored(CheckpointReader::open_folder(folder)?)))
}

/// The tensors of a checkpoint, whichever files they are in.
struct Stored(CheckpointReader);

impl TensorSource for Stored {
    fn tensor(&self, name: &str, shape: &[usize], kind: Kind, device: Device) -> Result<Tensor, LoadError> {
        let fail = |reason: String| LoadError::Source(format!("{}: {reason}", self.0.root().display()));
        let torch = |e: tch::TchError| fail(format!("tensor `{name}`: {e}"));
        let info = self.0.info(name).ok_or_else(|| {
            fail(match self.0.info(&format!("{name}.codes")) {
                Some(_) => "its matrices are quantised; train from the bundle that it was made from".to_owned(),
                None => format!("tensor `{name}` is missing"),
            })
        })?;
        if info.shape != shape {
            return Err(fail(format!(
                "tensor `{name}` has shape {:?}, but config.json asks for {shape:?}",
                info.shape
            )));
        }
        let stored = match info.dtype {
            Dtype::F32 => Kind::Float,
            Dtype::F16 => Kind::Half,
            Dtype::BF16 => Kind::BFloat16,
            other => {
                return Err(fail(format!(
                    "tensor `{name}` has type {other}; weights must be f32, f16 or bf16"
                )));
            }
        };
        let bytes = self.0.read(name).map_err(|e| fail(e.to_string()))?;
        let dims: Vec<i64> = shape.iter().map(|&d| d as i64).collect();
        let tensor = Tensor::f_from_data_size(&bytes, &dims, stored).map_err(torch)?;
        tensor
            .f_to_device(device)
            .and_then(|t| t.f_to_kind(kind))
            .map_err(torch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::kernels::Format;
    use crate::model::quantise::{QuantiseOptions, quantise};

    #[test]
    fn a_quantised_bundle_is_no_base_and_the_reason_says_what_is() {
        let folder = tempfile::tempdir().unwrap();
        let options = QuantiseOptions {
            bundle: Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo"),
            format: Format::Int8,
            out: folder.path().join("small"),
            name: None,
            force: false,
        };
        quantise(&options, &mut |_| ()).unwrap();
        let (config, source) = read_base(&options.out).unwrap();
        let made = TrainableNeox::from_checkpoint(&config, &source, Device::Cpu);
        let reason = made.err().unwrap().to_string();
        assert!(
            reason.contains("train from the bundle that it was made from"),
            "{reason}"
        );
    }
}
