//! Rotary position embedding (Su et al. 2021, arXiv 2104.09864), in halves, on the first dimensions of each head.

use tch::{Device, Kind, Tensor};

use super::NeoxConfig;

/// Cosines and sines for every position: `[context, rotary_pairs]`, f32.
pub struct RotaryTable {
    cos: Tensor,
    sin: Tensor,
    half: i64,
}

/// The rows of the table for one step: `[n, 1, 1, rotary_pairs]`, f32.
pub(super) struct RotaryRows {
    cos: Tensor,
    sin: Tensor,
    half: i64,
}

impl RotaryTable {
    /// The tables of a model, on `device`.
    pub fn new(config: &NeoxConfig, device: Device) -> Self {
        let half = config.rotary_pairs() as i64;
        let f32 = (Kind::Float, device);
        // As transformers computes them, in f32: θ_i = base^(−2i/ndims).
        let exponents = Tensor::arange(half, f32) * 2.0 / config.rotary_ndims as f64;
        let frequencies = Tensor::full([1], config.rotary_base, f32).pow(&exponents).reciprocal();
        let positions = Tensor::arange(config.max_position_embeddings as i64, f32);
        let angles = positions.unsqueeze(1) * frequencies.unsqueeze(0);
        Self {
            cos: angles.cos(),
            sin: angles.sin(),
            half,
        }
    }

    /// Cosines and sines, `[context, rotary_pairs]` each.
    pub fn tables(&self) -> (&Tensor, &Tensor) {
        (&self.cos, &self.sin)
    }

    pub(super) fn rows(&self, positions: &Tensor) -> RotaryRows {
        let pick = |table: &Tensor| table.index_select(0, positions).unsqueeze(1).unsqueeze(1);
        RotaryRows {
            cos: pick(&self.cos),
            sin: pick(&self.sin),
            half: self.half,
        }
    }
}

impl RotaryRows {
    /// `x`: `[n, 2, heads, head_dim]`, queries and keys → the same, the first `2·rotary_pairs` dimensions of each head rotated. Computed in f32.
    pub(super) fn rotate(&self, x: &Tensor) -> Tensor {
        let kind = x.kind();
        let rotary = 2 * self.half;
        let first = x.narrow(3, 0, self.half).to_kind(Kind::Float);
        let second = x.narrow(3, self.half, self.half).to_kind(Kind::Float);
        let a = &first * &self.cos - &second * &self.sin;
        let b = &second * &self.cos + &first * &self.sin;
        let rest = x.size()[3] - rotary;
        if rest == 0 {
            return Tensor::cat(&[a, b], 3).to_kind(kind);
        }
        Tensor::cat(&[a.to_kind(kind), b.to_kind(kind), x.narrow(3, rotary, rest)], 3)
    }
}
