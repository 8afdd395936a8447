//! Makes a bundle whose matrices are stored in 8 or 4 bits: a fraction of the size, and nothing to be quantised when it is loaded.
//!
//! In its `model.safetensors` a matrix `X.weight` is two tensors, `X.weight.codes` and `X.weight.scales` ([`Stored`](super::kernels::Stored) says how). The embedding,
//! of which a step reads a row per token, norms and biases stay as they are.

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use tch::{Device, Kind};

use super::bundle::{
    self, Bundle, BundleError, BundleWriter, CONFIG, DRAFTS, Draft, Progress, TOKENIZER, VQGAN_CONFIG, VQGAN_WEIGHTS,
    WEIGHTS,
};
use super::checkpoint::{CheckpointError, Dtype, SafetensorsWriter, TensorInfo, Weights};
use super::kernels::{Cells, Format, Kernels, to_store};
use super::neox::{EMBED_OUT, OUTPUT_FORMAT};
use super::source::{LoadError, TensorSource, floats};

/// What is to be quantised, and where to.
#[derive(Clone, Debug)]
pub struct QuantiseOptions {
    /// Folder of a bundle.
    pub bundle: PathBuf,
    /// How its matrices are to be stored.
    pub format: Format,
    /// Folder of the bundle to be made.
    pub out: PathBuf,
    /// Its name; by default that of the bundle it is made from.
    pub name: Option<String>,
    /// Replace what is at `out`.
    pub force: bool,
}

/// Why nothing was quantised.
#[derive(Debug, thiserror::Error)]
pub enum QuantiseError {
    /// Once more would lose once more.
    #[error("{} is quantised already; quantise the bundle that it was made from", .0.display())]
    Already(PathBuf),
    /// The bundle cannot be read or written.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// Its weights cannot be read or written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A tensor cannot be had.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// What was made.
#[derive(Clone, Debug, Serialize)]
pub struct Quantised {
    /// Folder of the bundle.
    pub out: PathBuf,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Bytes of the bundle that it was made from.
    pub bytes_before: u64,
    /// Bytes written.
    pub bytes: u64,
}

impl fmt::Display for Quantised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (out, before, after) = (
            self.out.display(),
            bundle::size(self.bytes_before),
            bundle::size(self.bytes),
        );
        write!(
            f,
            "{out} is a bundle: {}, version {}; {after} where {before} were",
            self.name, self.version
        )
    }
}

/// The names of a stored matrix's codes and scales.
pub(super) fn parts(name: &str) -> (String, String) {
    (format!("{name}.codes"), format!("{name}.scales"))
}

/// The format of a matrix whose codes are of this type.
pub(super) fn format_of(codes: Dtype) -> Option<Format> {
    match codes {
        Dtype::I8 => Some(Format::Int8),
        Dtype::U8 => Some(Format::Int4),
        _ => None,
    }
}

/// The type of the codes of a matrix in this format.
fn dtype_of(format: Format) -> Dtype {
    match format {
        Format::Int8 => Dtype::I8,
        Format::Int4 => Dtype::U8,
    }
}

/// How the matrices of the layers are stored, if in codes.
pub(super) fn format(weights: &Weights) -> Option<Format> {
    let output = parts(EMBED_OUT).0;
    let codes = weights
        .names()
        .find(|name| name.ends_with(".codes") && **name != output)?;
    format_of(weights.info(codes)?.dtype)
}

/// How a tensor is to be stored where the matrices of the layers are in `format`; `None` for as it is.
fn wanted(name: &str, info: &TensorInfo, format: Format) -> Option<Format> {
    let layer = name.starts_with("gpt_neox.layers.") && name.ends_with(".weight") && info.shape.len() == 2;
    match layer {
        true => Some(format),
        false => (name == EMBED_OUT).then_some(OUTPUT_FORMAT),
    }
}

/// Makes a bundle with quantised matrices from one without. The original's files are compared with their checksums first. `progress` is told of the bytes of each
/// stage.
///
/// # Errors
/// When the bundle is damaged or quantised already, and when the new one cannot be written; nothing is left of it then.
pub fn quantise(options: &QuantiseOptions, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Quantised, QuantiseError> {
    bundle::may_replace(&options.out, &[&options.bundle])?;
    let bundle = Bundle::open(&options.bundle)?;
    let weights = bundle.neox_weights()?;
    if format(&weights).is_some() {
        return Err(QuantiseError::Already(options.bundle.clone()));
    }
    bundle.verify(progress)?;
    let writer = BundleWriter::create(&options.out, options.force)?;
    for name in [CONFIG, TOKENIZER, VQGAN_CONFIG, VQGAN_WEIGHTS, DRAFTS] {
        if bundle.manifest.files.iter().any(|file| file.path == name) {
            copy(&bundle.dir.join(name), &writer.path(name))?;
        }
    }
    write(&weights, options.format, &writer.path(WEIGHTS), progress)?;
    let from = bundle.manifest;
    let bits = match options.format {
        Format::Int8 => 8,
        Format::Int4 => 4,
    };
    let draft = Draft {
        name: Some(options.name.clone().unwrap_or(from.name)),
        command: "quantise",
        made_from: format!("version {} in {bits} bits; {}", from.version, from.made_from),
        trained: from.trained,
        warning: from.warning,
        licence: from.licence,
        intended_use: from.intended_use,
        instructions: from.default_instructions,
        defaults: from.defaults,
    };
    let manifest = writer.finish(draft, &bundle.vqgan, progress)?;
    let sum = |files: &[bundle::FileEntry]| files.iter().map(|file| file.size).sum();
    Ok(Quantised {
        out: options.out.clone(),
        name: manifest.name,
        version: manifest.version,
        bytes_before: sum(&from.files),
        bytes: sum(&manifest.files),
    })
}

/// Writes all tensors, the matrices in codes, one at a time.
fn write(
    weights: &Weights,
    format: Format,
    path: &Path,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(), QuantiseError> {
    let mut tensors = Vec::new();
    let infos = || weights.names().filter_map(|name| Some((name, weights.info(name)?)));
    for (name, info) in infos() {
        let Some((format, [rows, columns])) = matrix(name, info, format) else {
            tensors.push((name.to_owned(), info.clone()));
            continue;
        };
        let (codes, scales) = parts(name);
        let of = |dtype, width| TensorInfo {
            dtype,
            shape: vec![rows, width],
        };
        tensors.push((codes, of(dtype_of(format), format.row_bytes(columns))));
        tensors.push((scales, of(Dtype::BF16, format.groups(columns))));
    }
    let mut out = SafetensorsWriter::create(path, &tensors)?;
    let total = infos().filter_map(|(_, info)| info.bytes()).sum::<usize>() as u64;
    let mut done = 0;
    for (name, info) in infos() {
        match matrix(name, info, format) {
            None => out.write(name, weights.bytes(name).unwrap_or_default())?,
            Some((format, shape)) => {
                let (codes, scales) = parts(name);
                let made = coded(weights, name, format, shape)?;
                out.write(&codes, &made.0)?;
                out.write(&scales, &made.1)?;
            }
        }
        done += info.bytes().unwrap_or(0) as u64;
        progress(Progress {
            what: WEIGHTS,
            done,
            total,
        });
    }
    Ok(out.finish()?)
}

/// Format and shape of a tensor that is to be stored in codes.
fn matrix(name: &str, info: &TensorInfo, format: Format) -> Option<(Format, [usize; 2])> {
    let format = wanted(name, info, format)?;
    let shape = info.shape.as_slice().try_into().ok()?;
    Some((format, shape))
}

/// Codes and scales of a matrix, from its bf16 where they lie, else from f32.
fn coded(weights: &Weights, name: &str, format: Format, shape: [usize; 2]) -> Result<(Vec<u8>, Vec<u8>), LoadError> {
    let (kernels, mut made) = (Kernels::best(), None);
    weights.read_bf16(name, &shape, &mut |bits| {
        made = Some(to_store(kernels, format, Cells::Bf16(bits), shape[1]));
    })?;
    match made {
        Some(made) => Ok(made),
        None => {
            let wide = floats(&weights.tensor(name, &shape, Kind::Float, Device::Cpu)?);
            Ok(to_store(kernels, format, Cells::F32(&wide), shape[1]))
        }
    }
}

fn copy(from: &Path, to: &Path) -> Result<(), BundleError> {
    std::fs::copy(from, to).map(drop).map_err(BundleError::io(to))
}
