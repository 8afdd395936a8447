//! KV memory: one preallocated arena for all sequences, addressed by token position.
//!
//! Who owns which positions is the engine's business ([`super::Span`]); here they are only read and written.

use tch::{Device, Kind, Tensor};

use super::NeoxConfig;

/// Keys and values of every layer: `[heads, tokens, head_dim]` each.
pub struct KvMemory {
    layers: Vec<(Tensor, Tensor)>,
}

impl KvMemory {
    /// Room for `tokens` positions. Zeroed lazily by the system on a CPU: pages that are never used take no memory.
    pub fn new(config: &NeoxConfig, tokens: usize, kind: Kind, device: Device) -> Self {
        let shape = [
            config.num_attention_heads as i64,
            tokens as i64,
            config.head_dim() as i64,
        ];
        let make = || Tensor::zeros(shape, (kind, device));
        Self {
            layers: (0..config.num_hidden_layers).map(|_| (make(), make())).collect(),
        }
    }

    /// Bytes one position takes in all layers.
    pub fn bytes_per_token(config: &NeoxConfig, kind: Kind) -> usize {
        2 * config.num_hidden_layers * config.hidden_size * kind.elt_size_in_bytes()
    }

    /// Writes `keys` and `values` (`[n, heads, head_dim]`) to `positions` (`[n]`, i64) of `layer`.
    pub(super) fn write(&mut self, layer: usize, positions: &Tensor, keys: &Tensor, values: &Tensor) {
        let (k, v) = &mut self.layers[layer];
        let _ = k.index_copy_(1, positions, &keys.transpose(0, 1));
        let _ = v.index_copy_(1, positions, &values.transpose(0, 1));
    }

    /// Views of `len` positions from `start`: keys and values, `[1, heads, len, head_dim]`, no copy.
    pub(super) fn view(&self, layer: usize, start: usize, len: usize) -> (Tensor, Tensor) {
        let (k, v) = &self.layers[layer];
        let cut = |t: &Tensor| t.narrow(1, start as i64, len as i64).unsqueeze(0);
        (cut(k), cut(v))
    }

    /// Copies of `rows × len` positions (`[rows·len]`, i64): keys and values, `[rows, heads, len, head_dim]`.
    pub(super) fn gather(&self, layer: usize, positions: &Tensor, rows: i64, len: i64) -> (Tensor, Tensor) {
        let (k, v) = &self.layers[layer];
        let pick = |t: &Tensor| {
            let (heads, dim) = (t.size()[0], t.size()[2]);
            t.index_select(1, positions)
                .view([heads, rows, len, dim])
                .transpose(0, 1)
        };
        (pick(k), pick(v))
    }
}
