//! Tensors out of a bundle's safetensors files.

use std::mem::MaybeUninit;

use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

use super::checkpoint::{Dtype, Weights};
use super::kernels::{Format, Stored, in_large_pages};
use super::quantise::{self, parts};
use super::source::{LoadError, TensorSource};

impl TensorSource for Weights {
    /// Copies the tensor out of the mapped file, converts it and moves it; its pages are then given back, so that the weights are
    /// in memory once.
    fn tensor(&self, name: &str, shape: &[usize], kind: Kind, device: Device) -> Result<Tensor, LoadError> {
        let dims: Vec<i64> = shape.iter().map(|&d| d as i64).collect();
        let torch = |e: tch::TchError| LoadError::Torch {
            name: name.to_owned(),
            reason: e.to_string(),
        };
        if let &[rows, columns] = shape {
            let mut wide = Vec::new();
            let found = self.read_stored(name, [rows, columns], &mut |stored| {
                wide.resize(rows * columns, 0.0);
                stored.widen(columns, &mut wide);
            })?;
            if found {
                let tensor = Tensor::f_from_slice(&wide).and_then(|t| t.f_view(dims.as_slice()));
                let moved = tensor.and_then(|t| t.f_to_kind(kind)?.f_to_device(device));
                return moved.map_err(torch);
            }
        }
        let (dtype, bytes) = find(self, name, shape)?;
        let stored = match dtype {
            Dtype::F32 => Kind::Float,
            Dtype::F16 => Kind::Half,
            Dtype::BF16 => Kind::BFloat16,
            other => {
                let reason = format!("tensor `{name}` is stored as {other}; weights are F32, F16 or BF16");
                return Err(LoadError::Source(reason));
            }
        };
        let tensor = copied(bytes, &dims, stored).map_err(torch)?;
        let tensor = tensor
            .f_to_device(device)
            .and_then(|t| t.f_to_kind(kind))
            .map_err(torch)?;
        self.release(name);
        Ok(tensor)
    }

    fn stored_format(&self) -> Option<Format> {
        quantise::format(self)
    }

    fn read_stored(&self, name: &str, shape: [usize; 2], read: &mut dyn FnMut(Stored<'_>)) -> Result<bool, LoadError> {
        let (codes, scales) = parts(name);
        let format = match self.info(&codes).map(|info| info.dtype) {
            None => return Ok(false),
            Some(dtype) => quantise::format_of(dtype).ok_or_else(|| {
                LoadError::Source(format!("tensor `{codes}` is stored as {dtype}; codes are I8 or U8"))
            })?,
        };
        let [rows, columns] = shape;
        let (_, code_bytes) = find(self, &codes, &[rows, format.row_bytes(columns)])?;
        let (dtype, scale_bytes) = find(self, &scales, &[rows, format.groups(columns)])?;
        if dtype != Dtype::BF16 {
            let reason = format!("tensor `{scales}` is stored as {dtype}; scales are BF16");
            return Err(LoadError::Source(reason));
        }
        read(Stored {
            format,
            codes: code_bytes,
            scales: scale_bytes,
        });
        self.release(&codes);
        self.release(&scales);
        Ok(true)
    }

    fn read_bf16(&self, name: &str, shape: &[usize], read: &mut dyn FnMut(&[u16])) -> Result<bool, LoadError> {
        if self.info(&parts(name).0).is_some() {
            return Ok(false);
        }
        let (dtype, bytes) = find(self, name, shape)?;
        // SAFETY: every pair of bytes is a u16.
        let (before, bits, after) = unsafe { bytes.align_to::<u16>() };
        if dtype != Dtype::BF16 || !before.is_empty() || !after.is_empty() || cfg!(target_endian = "big") {
            return Ok(false);
        }
        read(bits);
        self.release(name);
        Ok(true)
    }
}

/// Type and bytes of a tensor that must be there in this shape.
fn find<'a>(weights: &'a Weights, name: &str, shape: &[usize]) -> Result<(Dtype, &'a [u8]), LoadError> {
    let missing = || LoadError::Source(format!("tensor `{name}` is missing from the bundle; convert it again"));
    let info = weights.info(name).ok_or_else(missing)?;
    let bytes = weights.bytes(name).ok_or_else(missing)?;
    match info.shape == shape {
        true => Ok((info.dtype, bytes)),
        false => Err(LoadError::Source(format!(
            "tensor `{name}` has shape {:?}, but the configuration asks for {shape:?}",
            info.shape
        ))),
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
    let start = tensor.data_ptr().cast::<MaybeUninit<u8>>();
    // SAFETY: contiguous memory of so many bytes that was made here and that nobody else holds; it is not initialised.
    let memory = unsafe { std::slice::from_raw_parts_mut(start, bytes.len()) };
    in_large_pages(memory);
    let pieces = memory.par_chunks_mut(PIECE).zip(bytes.par_chunks(PIECE));
    pieces.for_each(|(to, from)| {
        assert_eq!(to.len(), from.len());
        // SAFETY: as many bytes as there is room for, in other memory.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to.as_mut_ptr().cast::<u8>(), from.len()) };
    });
    Ok(tensor)
}
