//! What a run begins with: the VQ-GAN, the tokenizer, and the language model with a row for every token and code.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tch::{Device, Kind, Tensor};

use super::settings::{FinetuneSettings, InitCodes};
use super::tokens::check_extends;
use crate::basics::{hash_file, hex, sha256};
use crate::model::bundle::{Bundle, CONFIG, MANIFEST, Manifest, TOKENIZER, VQGAN_CONFIG};
use crate::model::checkpoint::{CheckpointReader, Dtype, read_whole};
use crate::model::convert;
use crate::model::neox::NeoxConfig;
use crate::model::source::{LoadError, TensorSource};
use crate::train::common::{Base, TrainError, verify_listed};
use crate::train::neox::{LoraSettings, TrainableNeox};
use crate::train::tokenizer::with_control_tokens;
use crate::train::vqgan::{VqganFiles, other_codes};
use crate::vocabulary::Vocabulary;

/// Whether the rows of `base` behind its `text` tokens, of `rows` in all, are those of the codes of `vqgan`, and stay. To a language model that was
/// tuned with another VQ-GAN each code would mean something else: such a base is refused, unless `--init-codes` says how other rows begin.
fn keeps_codes(
    settings: &FinetuneSettings,
    base: &Path,
    [text, rows]: [usize; 2],
    vqgan: &VqganFiles,
) -> Result<bool, TrainError> {
    if !base.join(VQGAN_CONFIG).is_file() {
        let fits = rows == text + vqgan.config.n_embed;
        if !fits {
            tell_dropped(base, [text, rows]);
        }
        return Ok(fits);
    }
    let before = VqganFiles::find(base)?;
    if rows != text + before.config.n_embed {
        // It knows no codes; the VQ-GAN only lies beside it.
        tell_dropped(base, [text, rows]);
        return Ok(false);
    }
    let differs = match before.config == vqgan.config {
        true => other_codes(&vqgan.config, &before.open()?, &vqgan.open()?),
        false => Some("the shape".to_owned()),
    };
    let Some(what) = differs else { return Ok(true) };
    let [base, weights] = [base, vqgan.weights.as_path()].map(Path::display);
    if settings.init_codes.is_some() {
        crate::basics::tell(format_args!(
            "the codes of {weights} are not those that {base} was tuned with ({what} differs): its rows of codes are dropped, and new ones begin \
             as --init-codes says"
        ));
        return Ok(false);
    }
    Err(TrainError::Settings(format!(
        "the codes of {weights} are not those that {base} was tuned with ({what} differs): give that VQ-GAN, with codes that it made; begin \
         from a language model without codes; or say by --init-codes how rows for other codes begin, and those of the base are dropped"
    )))
}

/// Says that rows of `base` are dropped, if it has some behind those of its `text` tokens.
fn tell_dropped(base: &Path, [text, rows]: [usize; 2]) {
    if let Some(line) = dropped(base, [text, rows]) {
        crate::basics::tell(line);
    }
}

/// What is said of them. Most often they pad the embeddings; but nothing shows that they were not learned.
fn dropped(base: &Path, [text, rows]: [usize; 2]) -> Option<String> {
    let behind = rows.checked_sub(text).filter(|behind| *behind > 0)?;
    Some(format!(
        "{} stores {rows} rows for {text} tokens: the {behind} behind the last token are dropped, and new ones are drawn. If they are more than \
         padding, give the tokenizer and the VQ-GAN that they were learned with",
        base.display()
    ))
}

/// A language model before its first step.
pub struct Start {
    /// Its weights.
    pub model: TrainableNeox,
    /// Its token space.
    pub vocabulary: Vocabulary,
    /// The tokenizer's file, control tokens included.
    pub tokenizer: Vec<u8>,
    /// What gives the ids of texts their meaning: that file as it is read.
    pub texts: Base,
    /// With adapters: what they are adapters to.
    pub base: Option<Base>,
    /// What a base that was trained says of itself.
    pub said: Option<Manifest>,
}

impl Start {
    /// Opens the base, or makes fresh weights.
    pub fn open(settings: &FinetuneSettings, vqgan: &VqganFiles, device: Device) -> Result<Self, TrainError> {
        let s = settings;
        let base = s.base.as_deref().map(base_folder);
        if let Some(base) = &base {
            verify_listed(base, is_language_model)?;
        }
        let said = base.as_deref().map(said_by).transpose()?.flatten();
        let (path, bytes) = match (&s.tokenizer, &base) {
            (Some(path), _) => (path.clone(), read_whole(path)?),
            (None, Some(base)) => (base.join(TOKENIZER), tokenizer_of(base)?),
            (None, None) => return Err(TrainError::Settings("give --tokenizer or --base".to_owned())),
        };
        let named = |reason: &dyn std::fmt::Display| TrainError::Settings(format!("{}: {reason}", path.display()));
        let (tokenizer, added) = with_control_tokens(&bytes).map_err(|e| named(&e))?;
        let texts = Base {
            place: path.clone(),
            sha256: sha256(&bytes),
        };
        let (codes, per_image) = (vqgan.config.n_embed, vqgan.config.codes_per_image());
        let vocabulary = Vocabulary::from_bytes(&tokenizer, codes, per_image).map_err(|e| named(&e))?;
        let (rows, text) = (vocabulary.len(), vocabulary.text_len());
        let mut adapted = None;
        let (mut model, knows_codes) = match &base {
            Some(base) => {
                let own = base.join(TOKENIZER);
                let before = match s.tokenizer.is_some() && own.is_file() {
                    true => {
                        let bytes = tokenizer_of(base)?;
                        check_extends(
                            (own.as_path(), bytes.as_slice()),
                            (path.as_path(), tokenizer.as_slice()),
                        )?
                    }
                    false => text - added,
                };
                let (config, source) = read_base(base)?;
                s.check_shape(base, &config)?;
                if s.lora_rank > 0 {
                    adapted = Some(Base {
                        place: base.clone(),
                        sha256: source.checksum(&tokenizer)?,
                    });
                }
                let known = config.vocab_size;
                let keeps = keeps_codes(s, base, [before, known], vqgan)?;
                let model = TrainableNeox::from_checkpoint(&config, &source, device)?;
                // What is stored behind the last token that the base knew belongs to no token, unless it is codes.
                let model = match keeps && known == rows {
                    true => model,
                    false => model.grown_between(known.min(before), if keeps { codes } else { 0 }, rows, s.seed)?,
                };
                (model, keeps)
            }
            None => (TrainableNeox::fresh(&s.shape(rows).config()?, s.seed, device)?, false),
        };
        if s.init_codes == Some(InitCodes::Codebook) && !knows_codes {
            let weights = vqgan.open()?;
            let shape = [codes, vqgan.config.embed_dim];
            let book = weights.tensor(crate::model::vqgan::CODE_BOOK, &shape, Kind::Float, Device::Cpu)?;
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
            texts,
            base: adapted,
            said,
        })
    }
}

/// The folder that holds the language model: the given one, or the result in a run's folder.
fn base_folder(given: &Path) -> PathBuf {
    let results = [given.join("bundle"), given.join("model")];
    let result = results.into_iter().find(|folder| folder.join(CONFIG).is_file());
    result.unwrap_or_else(|| given.to_owned())
}

/// What the base, `folder`, says of itself: a bundle that was trained. A folder without a manifest says nothing.
fn said_by(folder: &Path) -> Result<Option<Manifest>, TrainError> {
    if !folder.join(MANIFEST).is_file() {
        return Ok(None);
    }
    let manifest = Bundle::open(folder)?.manifest;
    Ok(manifest.trained.then_some(manifest))
}

/// Whether a file of a bundle is one of its language model.
fn is_language_model(path: &str) -> bool {
    [CONFIG, TOKENIZER].contains(&path) || (path.starts_with("model") && path.ends_with(".safetensors"))
}

/// The tokenizer of a base, as `convert` reads it. That of a bundle is whole, and files beside it are not the bundle's.
fn tokenizer_of(base: &Path) -> Result<Vec<u8>, TrainError> {
    match base.join(MANIFEST).is_file() {
        true => Ok(read_whole(&base.join(TOKENIZER))?),
        false => Ok(convert::collect_tokenizer(base)?),
    }
}

/// Reads a Hugging Face folder as `convert` does: its shape and its tensors, which are all those of the shape and no others.
fn read_base(folder: &Path) -> Result<(NeoxConfig, Stored), TrainError> {
    let (_, config) = convert::language_model_config(folder)?;
    let reader = convert::open_language_model(folder)?;
    let in_codes = |name: &str| reader.info(name).is_none() && reader.info(&format!("{name}.codes")).is_some();
    if config.expected_tensors().iter().any(|tensor| in_codes(&tensor.name)) {
        return Err(TrainError::Settings(format!(
            "{}: its matrices are quantised; train from the bundle that it was made from",
            folder.display()
        )));
    }
    convert::check_language_model(&reader, &config)?;
    Ok((config, Stored(reader)))
}

/// The tensors of a checkpoint, whichever files they are in.
struct Stored(CheckpointReader);

impl Stored {
    /// SHA-256 of the files that hold the tensors, and of the tokenizer that goes with them.
    fn checksum(&self, tokenizer: &[u8]) -> Result<String, TrainError> {
        let files: BTreeSet<&Path> = self.0.names().filter_map(|name| self.0.file_of(name)).collect();
        let mut sum = Sha256::new();
        for file in files {
            hash_file(file, &mut sum, &mut |_| ()).map_err(|e| TrainError::io(file, e))?;
        }
        sum.update(tokenizer);
        Ok(hex(&sum.finalize()))
    }
}

impl TensorSource for Stored {
    fn tensor(&self, name: &str, shape: &[usize], kind: Kind, device: Device) -> Result<Tensor, LoadError> {
        let fail = |reason: String| LoadError::Source(format!("{}: {reason}", self.0.root().display()));
        let torch = |e: tch::TchError| fail(format!("tensor `{name}`: {e}"));
        let missing = || fail(format!("tensor `{name}` is missing"));
        let info = self.0.info(name).ok_or_else(missing)?;
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
            Dtype::F64 => Kind::Double,
            other => {
                return Err(fail(format!(
                    "tensor `{name}` has type {other}; weights must be f32, f16, bf16 or f64"
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
        let reason = read_base(&options.out).err().unwrap().to_string();
        assert!(
            reason.contains("train from the bundle that it was made from"),
            "{reason}"
        );
    }

    #[test]
    fn rows_behind_the_last_token_are_not_dropped_without_a_word() {
        let line = dropped(Path::new("base"), [277, 300]).unwrap();
        assert!(
            line.contains("base stores 300 rows for 277 tokens: the 23 behind"),
            "{line}"
        );
        assert!(!line.contains('\n'), "{line}");
        for none in [[300, 300], [300, 277]] {
            assert_eq!(dropped(Path::new("base"), none), None);
        }
    }
}
