//! Tensors out of a bundle's safetensors files.

use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

use super::checkpoint::{Dtype, Weights};
use super::source::{LoadError, TensorSource};

impl TensorSource for Weights {
    /// Copies the tensor out of the mapped file, converts it and moves it; its pages are then given back, so that the weights are
    /// in memory once.
    fn tensor(&self, name: &str, shape: &[usize], kind: Kind, device: Device) -> Result<Tensor, LoadError> {
        let missing = || LoadError::Source(format!("tensor `{name}` is missing from the bundle; convert it again"));
        let info = self.info(name).ok_or_else(missing)?;
        let bytes = self.bytes(name).ok_or_else(missing)?;
        if info.shape != shape {
            let reason = format!(
                "tensor `{name}` has shape {:?}, but the configuration asks for {shape:?}",
                info.shape
            );
            return Err(LoadError::Source(reason));
        }
        let stored = match info.dtype {
            Dtype::F32 => Kind::Float,
            Dtype::F16 => Kind::Half,
            Dtype::BF16 => Kind::BFloat16,
            other => {
                let reason = format!("tensor `{name}` is stored as {other}; weights are F32, F16 or BF16");
                return Err(LoadError::Source(reason));
            }
        };
        let dims: Vec<i64> = shape.iter().map(|&d| d as i64).collect();
        let torch = |e: tch::TchError| LoadError::Torch {
            name: name.to_owned(),
            reason: e.to_string(),
        };
        let tensor = copied(bytes, &dims, stored).map_err(torch)?;
        let tensor = tensor
            .f_to_device(device)
            .and_then(|t| t.f_to_kind(kind))
            .map_err(torch)?;
        self.release(name);
        Ok(tensor)
    }
}

/// Bytes that a thread copies at a time.
const PIECE: usize = 4 << 20;

/// A tensor of `bytes` on the CPU. Copying is bound by page faults, the file's and the copy's, so all threads take part in it.
fn copied(bytes: &[u8], dims: &[i64], kind: Kind) -> Result<Tensor, tch::TchError> {
    if bytes.len() <= PIECE {
        return Tensor::f_from_data_size(bytes, dims, kind);
    }
    let tensor = Tensor::f_empty(dims, (kind, Device::Cpu))?;
    assert!(tensor.is_contiguous() && tensor.numel() * kind.elt_size_in_bytes() == bytes.len());
    // SAFETY: contiguous memory of so many bytes that was made here and that nobody else holds.
    let memory = unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast::<u8>(), bytes.len()) };
    let pieces = memory.par_chunks_mut(PIECE).zip(bytes.par_chunks(PIECE));
    pieces.for_each(|(to, from)| to.copy_from_slice(from));
    Ok(tensor)
}
