//! Where a model's tensors come from: a checkpoint's files, or a generator of random weights of the same shapes.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use tch::{Device, Kind, Tensor};

use super::kernels::{Format, Stored};

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

    /// How the source holds the matrices of its layers, if in codes.
    fn stored_format(&self) -> Option<Format> {
        None
    }

    /// Reads a matrix that the source holds in codes where these lie. As with [`Self::tensor`], which gives the weights that they stand for, each is asked
    /// for once. `false`, and `read` was not called, where it does not hold it so.
    fn read_stored(
        &self,
        _name: &str,
        _shape: [usize; 2],
        _read: &mut dyn FnMut(Stored<'_>),
    ) -> Result<bool, LoadError> {
        Ok(false)
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

/// The values of a small tensor (a bias, a norm, a table) in f32.
pub(crate) fn floats(tensor: &Tensor) -> Vec<f32> {
    let flat = tensor.to_kind(Kind::Float).to_device(Device::Cpu).contiguous();
    let mut out = vec![0.0; flat.numel()];
    let len = out.len();
    flat.copy_data(&mut out, len);
    out
}

/// A prime: rows of a matrix never line up with the pool.
const POOL: usize = 1_048_573;

/// Random weights (normal, standard deviation 0.02; ones for norms' scales), for benchmarks of a shape. Values repeat a pool, so that
/// billions of them are made at memory speed.
pub struct RandomSource {
    pool: Tensor,
}

impl RandomSource {
    /// A source whose values depend on `seed` alone.
    pub fn new(seed: u64) -> Self {
        // A generator of its own: libtorch's is one for all threads.
        let random = ChaCha8Rng::seed_from_u64(seed);
        let values = random.sample_iter::<f32, _>(StandardNormal).map(|value| value * 0.02);
        Self {
            pool: Tensor::from_slice(&values.take(POOL).collect::<Vec<_>>()),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_weights_depend_on_the_seed_alone_whatever_other_threads_draw() {
        let draw = |seed| {
            let source = RandomSource::new(seed);
            source.tensor("w", &[100, 70], Kind::Float, Device::Cpu).unwrap()
        };
        let (first, other) = (draw(3), draw(4));
        assert!(first != other);
        assert!((first.std(true).double_value(&[]) - 0.02).abs() < 1e-3);
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|n| scope.spawn(move || (n % 2, draw(3 + n % 2)))).collect();
            for thread in threads {
                let (odd, drawn) = thread.join().unwrap();
                assert!(drawn == *[&first, &other][odd as usize]);
            }
        });
    }
}
