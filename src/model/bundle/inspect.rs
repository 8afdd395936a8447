//! What a bundle holds, for people and programs.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Serialize;

use super::{Bundle, BundleError, Manifest, Progress};
use crate::model::checkpoint::{CheckpointError, TensorInfo, Weights};
use crate::model::kernels::Format;
use crate::model::quantise::format_of;

/// What `llm-cxr inspect` says of a bundle.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    /// `bundle.json`.
    pub manifest: Manifest,
    /// The language model.
    pub language_model: Network,
    /// The VQ-GAN.
    pub vqgan: Network,
    /// Length of the tokenizer, added tokens included.
    pub tokenizer_length: usize,
    /// Size of the code book.
    pub code_count: usize,
    /// Whether the files are those that the manifest lists.
    pub checksums: Checksums,
}

/// One of the two networks.
#[derive(Clone, Debug, Serialize)]
pub struct Network {
    /// Its shape, as name and value.
    pub shape: Vec<(&'static str, String)>,
    /// Number of parameters in its files.
    pub parameters: u64,
    /// Parameters of each element type.
    pub dtypes: BTreeMap<String, u64>,
    /// Bytes of its tensors.
    pub bytes: u64,
}

/// Whether checksums were compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Checksums {
    /// Not asked for.
    NotCompared,
    /// All files are as listed.
    Match,
}

/// Looks into a bundle. With `verify` every file is read and compared with its checksum; one that differs is an error.
pub fn inspect(dir: &Path, verify: bool, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Inspection, BundleError> {
    let bundle = Bundle::open(dir)?;
    if verify {
        bundle.verify(progress)?;
    }
    let vocabulary = bundle.vocabulary()?;
    let (neox, vqgan) = (&bundle.neox, &bundle.vqgan);
    let language = vec![
        ("hidden size", neox.hidden_size.to_string()),
        ("layers", neox.num_hidden_layers.to_string()),
        ("attention heads", neox.num_attention_heads.to_string()),
        ("intermediate size", neox.intermediate_size.to_string()),
        ("context", format!("{} tokens", neox.max_position_embeddings)),
        (
            "vocabulary",
            format!(
                "{} = {} text + {} codes",
                vocabulary.len(),
                vocabulary.text_len(),
                vqgan.n_embed
            ),
        ),
        (
            "rotary",
            format!(
                "{} of {} dimensions, base {}",
                neox.rotary_ndims,
                neox.head_dim(),
                neox.rotary_base
            ),
        ),
        (
            "residual",
            if neox.use_parallel_residual {
                "parallel"
            } else {
                "sequential"
            }
            .to_owned(),
        ),
        (
            "embeddings",
            if neox.tie_word_embeddings { "tied" } else { "untied" }.to_owned(),
        ),
    ];
    let image = vec![
        ("image", format!("{0} × {0} pixels", vqgan.resolution)),
        ("codes per image", vqgan.codes_per_image().to_string()),
        ("code book", format!("{} vectors of {}", vqgan.n_embed, vqgan.embed_dim)),
        ("widths", format!("{} × {:?}", vqgan.ch, vqgan.ch_mult)),
        ("residual blocks", vqgan.num_res_blocks.to_string()),
        ("attention at", format!("{:?}", vqgan.attn_resolutions)),
    ];
    Ok(Inspection {
        language_model: network(language, &bundle.neox_weights()?)?,
        vqgan: network(image, &bundle.vqgan_weights()?)?,
        tokenizer_length: vocabulary.text_len(),
        code_count: vqgan.n_embed,
        checksums: if verify {
            Checksums::Match
        } else {
            Checksums::NotCompared
        },
        manifest: bundle.manifest,
    })
}

fn network(shape: Vec<(&'static str, String)>, weights: &Weights) -> Result<Network, CheckpointError> {
    let mut network = Network {
        shape,
        parameters: 0,
        dtypes: BTreeMap::new(),
        bytes: 0,
    };
    for (name, info) in weights.names().filter_map(|name| Some((name, weights.info(name)?))) {
        // Checked to fit the file when it was opened.
        let elements = info.elements().unwrap_or(0) as u64;
        network.bytes += TensorInfo::bytes(info).unwrap_or(0) as u64;
        let (dtype, parameters) = match (name.rsplit('.').next(), format_of(info.dtype)) {
            // Two to a byte; at the end of a row some may say nothing.
            (Some("codes"), Some(Format::Int4)) => ("int4".to_owned(), 2 * elements),
            (Some("codes"), Some(Format::Int8)) => ("int8".to_owned(), elements),
            (Some("scales"), _) => continue,
            _ => (info.dtype.to_string(), elements),
        };
        network.parameters += parameters;
        *network.dtypes.entry(dtype).or_default() += parameters;
    }
    Ok(network)
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let manifest = &self.manifest;
        let trained = if manifest.trained {
            "yes"
        } else {
            "NO: the weights are random, every answer is noise"
        };
        for (key, value) in [
            ("name", manifest.name.as_str()),
            ("version", &manifest.version),
            ("trained", trained),
            ("created by", &manifest.created_by),
            ("made from", &manifest.made_from),
            ("licence", &manifest.licence),
            ("intended use", &manifest.intended_use),
            ("warning", manifest.caution().unwrap_or("none")),
            ("report instruction", &manifest.default_instructions.report),
            ("draw instruction", &manifest.default_instructions.draw),
        ] {
            line(f, key, value)?;
        }
        for (title, network) in [("language model", &self.language_model), ("VQ-GAN", &self.vqgan)] {
            writeln!(f, "\n{title}")?;
            for (key, value) in &network.shape {
                line(f, key, value)?;
            }
            let types: Vec<String> = network
                .dtypes
                .iter()
                .map(|(dtype, n)| format!("{} {dtype}", count(*n)))
                .collect();
            line(
                f,
                "parameters",
                &format!("{} ({})", count(network.parameters), types.join(", ")),
            )?;
            line(f, "size", &size(network.bytes))?;
        }
        writeln!(f, "\nfiles")?;
        for entry in &manifest.files {
            line(
                f,
                &entry.path,
                &format!("{:>10}  sha256 {}", size(entry.size), entry.sha256),
            )?;
        }
        let checksums = match self.checksums {
            Checksums::NotCompared => "not compared (--verify compares them)",
            Checksums::Match => "all files are as listed",
        };
        line(f, "checksums", checksums)
    }
}

fn line(f: &mut fmt::Formatter<'_>, key: &str, value: &str) -> fmt::Result {
    writeln!(f, "  {key:<24}{value}")
}

/// A number with thousands separated.
fn count(n: u64) -> String {
    let digits = n.to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .filter_map(|group| std::str::from_utf8(group).ok())
        .collect();
    groups.join(",")
}

/// A size in units of 1000.
pub(crate) fn size(n: u64) -> String {
    let (mut scaled, mut unit) = (n as f64, "B");
    for next in ["kB", "MB", "GB", "TB"] {
        if scaled < 1000.0 {
            break;
        }
        (scaled, unit) = (scaled / 1000.0, next);
    }
    if unit == "B" {
        format!("{n} B")
    } else {
        format!("{scaled:.1} {unit}")
    }
}
