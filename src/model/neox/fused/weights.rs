//! The weights that the fused kernels read.

use tch::{Device, Kind, Tensor};

use crate::model::source::Linear;

/// The weights, bf16, as the network holds them.
pub(in crate::model::neox) struct FusedWeights {
    pub(in crate::model::neox) embed_in: Tensor,
    pub(in crate::model::neox) layers: Vec<FusedLayer>,
    pub(in crate::model::neox) final_norm: FusedNorm,
    pub(in crate::model::neox) embed_out: Linear,
    /// f32, `[context, rotary_pairs]`.
    pub(in crate::model::neox) cos: Tensor,
    pub(in crate::model::neox) sin: Tensor,
}

/// A layer of [`FusedWeights`].
pub(in crate::model::neox) struct FusedLayer {
    pub(in crate::model::neox) input_norm: FusedNorm,
    pub(in crate::model::neox) post_attention_norm: FusedNorm,
    /// Rows in the order `[3, heads, head_dim]`.
    pub(in crate::model::neox) qkv: Linear,
    pub(in crate::model::neox) dense: Linear,
    pub(in crate::model::neox) up: Linear,
    pub(in crate::model::neox) down: Linear,
}

/// Weight and bias of a norm.
pub(in crate::model::neox) struct FusedNorm {
    pub(in crate::model::neox) weight: Tensor,
    pub(in crate::model::neox) bias: Tensor,
}

impl FusedWeights {
    /// Whether kernels can read all of them on the GPU `device`.
    pub(super) fn usable(&self, device: usize) -> bool {
        self.all().iter().all(|tensor| usable(tensor, device))
    }

    fn all(&self) -> Vec<&Tensor> {
        let mut all = vec![
            &self.embed_in,
            &self.embed_out.weight,
            &self.final_norm.weight,
            &self.final_norm.bias,
        ];
        for layer in &self.layers {
            for linear in [&layer.qkv, &layer.dense, &layer.up, &layer.down] {
                all.push(&linear.weight);
                all.extend(&linear.bias);
            }
            for norm in [&layer.input_norm, &layer.post_attention_norm] {
                all.extend([&norm.weight, &norm.bias]);
            }
        }
        all
    }
}

fn usable(tensor: &Tensor, device: usize) -> bool {
    // Read in pieces of 16 bytes.
    let aligned = (tensor.data_ptr() as usize).is_multiple_of(16);
    tensor.kind() == Kind::BFloat16 && tensor.device() == Device::Cuda(device) && tensor.is_contiguous() && aligned
}
