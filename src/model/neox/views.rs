//! The network's weights as the ways take them that do not go by libtorch alone. They are the same tensors.

use tch::Device;

use super::fused::{Fused, FusedLayer, FusedNorm, FusedWeights};
use super::matrix::{Matrix, Plain};
use super::network::{Layer, Neox, Norm};
use super::rows::{RowLayer, RowNorm, RowWeights};
use crate::model::source::floats;

impl Neox {
    /// The weights as the kernels of few rows take them; `None` where these do not apply.
    pub(super) fn row_weights(&self) -> Option<RowWeights> {
        let norm = |norm: &Norm| RowNorm {
            weight: floats(&norm.weight),
            bias: floats(&norm.bias),
        };
        let layer = |layer: &Layer| {
            Some(RowLayer {
                qkv: Matrix::of(&layer.qkv)?,
                dense: Matrix::of(&layer.dense)?,
                up: Matrix::of(&layer.up)?,
                down: Matrix::of(&layer.down)?,
                input_norm: norm(&layer.input_norm),
                post_attention_norm: norm(&layer.post_attention_norm),
            })
        };
        let (cos, sin) = self.rotary.tables();
        Some(RowWeights {
            embed_in: Plain::new(&self.embed_in)?,
            layers: self.layers.iter().map(layer).collect::<Option<_>>()?,
            final_norm: norm(&self.final_norm),
            embed_out: Matrix::of(&self.embed_out)?,
            cos: floats(cos),
            sin: floats(sin),
        })
    }

    /// The kernels of steps and prompts on a GPU; `None` where there are none for this model, with the reason in the log.
    pub(super) fn fused(&self) -> Option<Fused> {
        let Device::Cuda(index) = self.device() else {
            return None;
        };
        let norm = |norm: &Norm| FusedNorm {
            weight: norm.weight.shallow_clone(),
            bias: norm.bias.shallow_clone(),
        };
        let layer = |layer: &Layer| {
            Some(FusedLayer {
                input_norm: norm(&layer.input_norm),
                post_attention_norm: norm(&layer.post_attention_norm),
                qkv: layer.qkv.native()?,
                dense: layer.dense.native()?,
                up: layer.up.native()?,
                down: layer.down.native()?,
            })
        };
        let (cos, sin) = self.rotary.tables();
        let weights = FusedWeights {
            embed_in: self.embed_in.shallow_clone(),
            layers: self.layers.iter().map(layer).collect::<Option<_>>()?,
            final_norm: norm(&self.final_norm),
            embed_out: self.embed_out.native()?,
            cos: cos.shallow_clone(),
            sin: sin.shallow_clone(),
        };
        let made = Fused::new(self.config(), weights, index);
        made.inspect_err(|reason| tracing::info!(%reason, "steps run by libtorch's kernels"))
            .ok()
    }
}
