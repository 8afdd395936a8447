//! Makes a bundle of random weights: small, whole, and of no use but to try the service.

use std::f32::consts::TAU;
use std::path::PathBuf;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::tokenizer::{self, TokenizerError};
use crate::model::bundle::{
    BundleError, BundleWriter, DefaultInstructions, Defaults, Draft, Manifest, Progress, may_replace,
};
use crate::model::checkpoint::{CheckpointError, Dtype, SafetensorsWriter, TensorInfo};
use crate::model::neox::{NeoxConfig, NeoxSizes};
use crate::model::vqgan::{CODE_BOOK, VqganConfig};
use crate::model::{ConfigError, ExpectedTensor};
use crate::vocabulary::Vocabulary;

/// Sentences and words of radiology, to train the bundle's tokenizer on.
const RADIOLOGY: &str = include_str!("radiology.txt");

/// The model to make.
#[derive(Clone, Debug, clap::Args)]
pub struct InitOptions {
    /// Folder of the bundle to make.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Name of the bundle; by default the folder's.
    #[arg(long)]
    pub name: Option<String>,
    /// The same seed and shape give the same bundle.
    #[arg(long, default_value_t = demo().seed)]
    pub seed: u64,
    /// Entries of the tokenizer, its added tokens apart.
    #[arg(long, default_value_t = demo().vocabulary)]
    pub vocabulary: usize,
    /// Width of the language model; its MLP is four times as wide.
    #[arg(long, default_value_t = demo().hidden)]
    pub hidden: usize,
    /// Layers of the language model.
    #[arg(long, default_value_t = demo().layers)]
    pub layers: usize,
    /// Attention heads of the language model.
    #[arg(long, default_value_t = demo().heads)]
    pub heads: usize,
    /// Longest sequence in tokens.
    #[arg(long, default_value_t = demo().context)]
    pub context: usize,
    /// Side of an image in pixels.
    #[arg(long, default_value_t = demo().resolution)]
    pub resolution: usize,
    /// Base width of the VQ-GAN.
    #[arg(long, default_value_t = demo().channels)]
    pub channels: usize,
    /// Width of each level of the VQ-GAN in units of --channels; each level but the last halves the side.
    #[arg(long, value_delimiter = ',', default_values_t = demo().multipliers)]
    pub multipliers: Vec<usize>,
    /// Residual blocks in each level of the VQ-GAN.
    #[arg(long, default_value_t = demo().blocks)]
    pub blocks: usize,
    /// Length of a code-book vector.
    #[arg(long, default_value_t = demo().code_width)]
    pub code_width: usize,
    /// Size of the code book.
    #[arg(long, default_value_t = demo().codes)]
    pub codes: usize,
    /// Write the language model's weights in bfloat16 instead of f32.
    #[arg(long)]
    pub bf16: bool,
    /// Replace the bundle that is at --out.
    #[arg(long)]
    pub force: bool,
}

/// What is made where flags say nothing.
fn demo() -> InitOptions {
    InitOptions::demo(PathBuf::new())
}

impl InitOptions {
    /// The demonstration model: 256 codes per image as the published one, answers in about a second on two cores.
    pub fn demo(out: PathBuf) -> Self {
        Self {
            out,
            name: None,
            force: false,
            seed: 0,
            vocabulary: 1024,
            hidden: 256,
            layers: 4,
            heads: 4,
            context: 1024,
            resolution: 256,
            channels: 32,
            multipliers: vec![1, 1, 2, 2, 4],
            blocks: 1,
            code_width: 64,
            codes: 1024,
            bf16: false,
        }
    }
}

/// Why no bundle was made.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The shape is none that the model can have.
    #[error("the shape that the flags give is none that a model has: {}", .0.without_file())]
    Shape(#[from] ConfigError),
    /// No tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// Weights cannot be written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The bundle cannot be written.
    #[error(transparent)]
    Bundle(#[from] BundleError),
}

/// Makes the bundle. Its manifest says that it is untrained.
pub fn init(options: &InitOptions, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Manifest, InitError> {
    may_replace(&options.out, &[])?;
    let tokenizer = tokenizer::train(&[RADIOLOGY], options.vocabulary)?;
    let vocabulary = Vocabulary::from_bytes(&tokenizer, options.codes, 1).map_err(TokenizerError::from)?;
    let (config, neox) = language_model(options, vocabulary.len())?;
    let (yaml, vqgan) = image_model(options)?;

    let writer = BundleWriter::create(&options.out, options.force)?;
    writer.write("config.json", config.as_bytes())?;
    writer.write("tokenizer.json", &tokenizer)?;
    writer.write("vqgan/config.yaml", yaml.as_bytes())?;
    let mut stream = 0;
    let text_dtype = if options.bf16 { Dtype::BF16 } else { Dtype::F32 };
    for (file, dtype, tensors) in [
        ("model.safetensors", text_dtype, neox.expected_tensors()),
        ("vqgan/model.safetensors", Dtype::F32, vqgan.expected_tensors()),
    ] {
        let info = |tensor: &ExpectedTensor| TensorInfo {
            dtype,
            shape: tensor.shape.clone(),
        };
        let header: Vec<_> = tensors
            .iter()
            .map(|tensor| (tensor.name.clone(), info(tensor)))
            .collect();
        let total = header.iter().filter_map(|(_, info)| info.bytes()).sum::<usize>() as u64;
        let mut out = SafetensorsWriter::create(&writer.path(file), &header)?;
        let mut done = 0;
        for tensor in &tensors {
            // Each tensor has its own stream, so its values do not depend on those before it.
            let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
            rng.set_stream(stream);
            stream += 1;
            let values = values(tensor, dtype, &mut rng);
            out.write(&tensor.name, &values)?;
            done += values.len() as u64;
            progress(Progress {
                what: file,
                done,
                total,
            });
        }
        out.finish()?;
    }
    let draft = Draft {
        name: options.name.clone(),
        command: "init",
        made_from: format!("random weights of seed {}", options.seed),
        trained: false,
        warning: None,
        licence: "Apache-2.0".to_owned(),
        intended_use: format!("Trying the service; the weights are random. {}", crate::RESEARCH_NOTICE),
        instructions: DefaultInstructions::default(),
        defaults: Defaults {
            instruct_max_tokens: 256,
            ..Defaults::default()
        },
    };
    Ok(writer.finish(draft, &vqgan, progress)?)
}

/// `config.json`, and what it means.
fn language_model(options: &InitOptions, rows: usize) -> Result<(String, NeoxConfig), ConfigError> {
    let sizes = NeoxSizes {
        vocab_size: rows,
        hidden_size: options.hidden,
        num_hidden_layers: options.layers,
        num_attention_heads: options.heads,
        intermediate_size: options.hidden.saturating_mul(4),
        max_position_embeddings: options.context,
        tie_word_embeddings: false,
    };
    let config = sizes.config()?;
    let text = config.to_json(if options.bf16 { "bfloat16" } else { "float32" });
    Ok((text, config))
}

/// The VQ-GAN's yaml, and what it means: reading it back checks the shape.
fn image_model(options: &InitOptions) -> Result<(String, VqganConfig), ConfigError> {
    let halvings = options.multipliers.len().saturating_sub(1) as u32;
    let latent_side = options.resolution.checked_shr(halvings).unwrap_or(0);
    let config = VqganConfig {
        embed_dim: options.code_width,
        n_embed: options.codes,
        z_channels: options.code_width,
        resolution: options.resolution,
        in_channels: 3,
        out_ch: 3,
        ch: options.channels,
        ch_mult: options.multipliers.clone(),
        num_res_blocks: options.blocks,
        attn_resolutions: vec![latent_side],
        resamp_with_conv: true,
    };
    let text = config.to_yaml();
    let config = VqganConfig::from_yaml(text.as_bytes())?;
    Ok((text, config))
}

/// Values by the tensor's part: scales of norms 1, biases 0, matrices normal with deviation 0.02, convolutions normal with the
/// deviation that keeps a signal's size, so that images are not blank; code-book vectors of the size of what they stand for.
fn values(tensor: &ExpectedTensor, dtype: Dtype, rng: &mut ChaCha8Rng) -> Vec<u8> {
    let count: usize = tensor.shape.iter().product();
    // `None` is 1 throughout; biases take no random numbers.
    let mut one = |scale: Option<f32>| match scale {
        None => 1.0,
        Some(0.0) => 0.0,
        Some(deviation) => deviation * normal(rng),
    };
    let scale = match &*tensor.shape {
        [_] if tensor.name.ends_with(".bias") => Some(0.0),
        [_] => None,
        [_, channels, height, width] => Some(((channels * height * width) as f32).sqrt().recip()),
        _ if tensor.name == CODE_BOOK => Some(1.0),
        _ => Some(0.02),
    };
    let mut bytes = Vec::with_capacity(count * dtype.size());
    for _ in 0..count {
        let value = one(scale);
        match dtype {
            Dtype::BF16 => bytes.extend_from_slice(&half::bf16::from_f32(value).to_le_bytes()),
            _ => bytes.extend_from_slice(&value.to_le_bytes()),
        }
    }
    bytes
}

/// A standard normal value (Box and Muller 1958).
fn normal(rng: &mut ChaCha8Rng) -> f32 {
    let (radius, angle): (f32, f32) = (1.0 - rng.random::<f32>(), rng.random());
    (-2.0 * radius.ln()).sqrt() * (TAU * angle).cos()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::bundle::Bundle;

    /// A bundle that is made in no time.
    pub(crate) fn tiny(out: PathBuf) -> InitOptions {
        InitOptions {
            vocabulary: 300,
            hidden: 32,
            layers: 1,
            heads: 2,
            context: 128,
            resolution: 16,
            multipliers: vec![1, 1],
            code_width: 8,
            codes: 32,
            ..InitOptions::demo(out)
        }
    }

    /// A smaller one, to train with: images of 8 × 8 pixels, 16 codes.
    pub(crate) fn smallest(out: PathBuf) -> InitOptions {
        InitOptions {
            hidden: 16,
            context: 64,
            resolution: 8,
            code_width: 4,
            codes: 16,
            ..tiny(out)
        }
    }

    #[test]
    fn a_random_bundle_is_whole_and_says_that_it_is_untrained() {
        let dir = tempfile::tempdir().unwrap();
        let options = tiny(dir.path().join("tiny"));
        let manifest = init(&options, &mut |_| {}).unwrap();
        assert!(!manifest.trained);
        let bundle = Bundle::open(&options.out).unwrap();
        bundle.verify(&mut |_| {}).unwrap();
        assert_eq!(bundle.vocabulary().unwrap().codes_per_image(), 64);
        for (weights, expected) in [
            (bundle.neox_weights().unwrap(), bundle.neox.expected_tensors()),
            (bundle.vqgan_weights().unwrap(), bundle.vqgan.expected_tensors()),
        ] {
            for tensor in expected {
                assert_eq!(
                    weights.info(&tensor.name).map(|info| &info.shape),
                    Some(&tensor.shape),
                    "{}",
                    tensor.name
                );
            }
        }
    }

    #[test]
    fn the_seed_decides_the_weights() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str, seed| {
            let options = InitOptions {
                seed,
                ..tiny(dir.path().join(name))
            };
            init(&options, &mut |_| {}).unwrap().version
        };
        assert_eq!(make("a", 1), make("b", 1));
        assert_ne!(make("c", 1), make("d", 2));
    }

    #[test]
    fn a_shape_that_no_model_has_is_refused_before_anything_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("none");
        for options in [
            InitOptions {
                hidden: 33,
                ..tiny(out.clone())
            },
            InitOptions {
                channels: 20,
                ..tiny(out.clone())
            },
            InitOptions {
                multipliers: vec![],
                ..tiny(out.clone())
            },
            InitOptions {
                multipliers: vec![1; 70],
                ..tiny(out.clone())
            },
        ] {
            assert!(matches!(init(&options, &mut |_| {}), Err(InitError::Shape(_))));
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn normal_values_have_mean_0_and_deviation_1() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let values: Vec<f32> = (0..20_000).map(|_| normal(&mut rng)).collect();
        let mean = values.iter().sum::<f32>() / 20_000.0;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / 20_000.0;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
    }
}
