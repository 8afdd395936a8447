//! How much of the host's memory a bundle takes on a CPU, known before it is loaded.

use tch::Device;

use super::{PREFIX_TOKENS, TorchOptions, sequences};
use crate::engine::BackendError;
use crate::model::bundle::Bundle;
use crate::model::kernels::Format;
use crate::model::neox::{KvMemory, Neox};
use crate::model::source::TensorSource;

/// Bytes, about, of weights and KV memory with these options on a CPU. In f32 weights that are stored in 16 bits take twice what their files do.
///
/// # Errors
/// When the weights cannot be opened, which loading them would tell, too.
pub fn bytes_on_cpu(bundle: &Bundle, options: &TorchOptions) -> Result<u64, BackendError> {
    let weights = bundle.neox_weights().map_err(|error| BackendError(error.to_string()))?;
    let (dtype, format) = (Neox::stored(&weights), weights.stored_format());
    let kind = options.dtype.kind(Device::Cpu, dtype);
    let stored = bits(format, dtype.size());
    // Not all of it is held in the fewest bits, so that it never counts with less than its files.
    let held = bits(
        options.weights.on(Device::Cpu, format).format(),
        kind.elt_size_in_bytes(),
    )
    .max(stored);
    let files: u64 = bundle.manifest.files.iter().map(|entry| entry.size).sum();
    let more = bundle.neox_bytes().saturating_mul(held - stored) / stored;
    let per_token = KvMemory::bytes_per_token(&bundle.neox, kind);
    let max_batch = options.max_batch.unwrap_or(sequences(Device::Cpu));
    let tokens = options.kv.tokens_within(&bundle.neox, per_token, max_batch, false);
    let kv = (tokens.saturating_add(PREFIX_TOKENS) as u64).saturating_mul(per_token as u64);
    Ok(files.saturating_add(more).saturating_add(kv))
}

/// Bits of a weight in codes, or in a type of so many bytes.
fn bits(format: Option<Format>, bytes: usize) -> u64 {
    match format {
        Some(Format::Int8) => 8,
        Some(Format::Int4) => 4,
        None => 8 * bytes as u64,
    }
}
