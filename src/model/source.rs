//! Where a model's tensors come from: a checkpoint's files, or a generator of random weights of the same shapes.

use tch::{Device, Kind, Tensor};

/// A tensor that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The source cannot give this tensor.
    #[error("{0}")]
    Source(String),
    /// libtorch refused (most often: out of memory).
    #[error("libtorch could not make tensor `{name}`: {reason}")]
    Torch {
        /// Name in the state dict.
        name: String,
        /// What libtorch said.
        reason: String,
    },
}

/// Gives tensors by their state-dict names.
pub trait TensorSource {
    /// The tensor of this name, which must have this shape, as `kind` on `device`. Each is asked for once, so that a source
    /// may drop what it holds of it: weights are never in memory twice.
    fn tensor(&self, name: &str, shape: &[usize], kind: Kind, device: Device) -> Result<Tensor, LoadError>;

    /// Reads the bits of a tensor where they lie, without a copy, if they are bf16 in memory or in a mapped file, row after row. As with [`Self::tensor`],
    /// each is asked for once. `false`, and `read` was not called, where they are not.
    fn read_bf16(&self, _name: &str, _shape: &[usize], _read: &mut dyn FnMut(&[u16])) -> Result<bool, LoadError> {
        Ok(false)
    }

    /// [`Self::tensor`] for tensors whose shape is a `LayerSpec`'s or a config's own.
    fn linear(
        &self,
        prefix: &str,
        rows: usize,
        columns: usize,
        bias: bool,
        kind: Kind,
        device: Device,
    ) -> Result<Linear, LoadError> {
        let weight = self.tensor(&format!("{prefix}.weight"), &[rows, columns], kind, device)?;
        let bias = bias
            .then(|| self.tensor(&format!("{prefix}.bias"), &[rows], kind, device))
            .transpose()?;
        Ok(Linear { weight, bias })
    }
}

/// `y = x·Wᵀ + b`.
#[derive(Debug)]
pub struct Linear {
    /// `[rows, columns]`.
    pub weight: Tensor,
    /// `[rows]`.
    pub bias: Option<Tensor>,
}

impl Linear {
    /// `x`: `[n, columns]` → `[n, rows]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.linear(&self.weight, self.bias.as_ref())
    }
}

/// Random weights (normal, standard deviation 0.02; ones for norms' scales), for benchmarks of a shape. Values repeat a pool, so that
/// billions of them are made at memory speed.
pub struct RandomSource {
    pool: Tensor,
}

impl RandomSource {
    /// A source whose values depend on `seed` alone.
    pub fn new(seed: i64) -> Self {
        tch::manual_seed(seed);
        // A prime length: rows of a matrix never line up with the pool.
        Self {
            pool: Tensor::randn([1_048_573], (Kind::Float, Device::Cpu)) * 0.02,
        }
    }
}

impl TensorSource for RandomSource {
    fn tensor(&self, name: &str, shape: &[usize], kind: Kind, device: Device) -> Result<Tensor, LoadError> {
        let torch = |e: tch::TchError| LoadError::Torch {
            name: name.to_owned(),
            reason: e.to_string(),
        };
        let dims: Vec<i64> = shape.iter().map(|&d| d as i64).collect();
        let count: i64 = dims.iter().product();
        if name.ends_with("norm.weight") || name.ends_with("layernorm.weight") {
            return Tensor::f_ones(&dims, (kind, device)).map_err(torch);
        }
        let pool = self.pool.to_kind(kind).to_device(device);
        let out = Tensor::f_empty([count], (kind, device)).map_err(torch)?;
        let (mut done, length) = (0, pool.size()[0]);
        while done < count {
            let n = length.min(count - done);
            out.narrow(0, done, n).copy_(&pool.narrow(0, 0, n));
            done += n;
        }
        Ok(out.view(dims.as_slice()))
    }
}
