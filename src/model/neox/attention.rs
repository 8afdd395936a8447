//! Attention of one step's queries over the KV memory, for sequences of different lengths.

use tch::{Device, Kind, Tensor};

use super::kv::KvMemory;
use super::step::Segment;

/// How the queries of a step find their keys: worked out once per step, used in every layer.
pub(super) struct AttentionPlan {
    pieces: Vec<Piece>,
}

enum Piece {
    /// One segment over its own view of the memory. `rows` query rows from `row`.
    Alone {
        row: i64,
        rows: i64,
        start: usize,
        len: usize,
        mask: Option<Tensor>,
        causal: bool,
    },
    /// Consecutive one-token segments as one padded batch (a GPU pays per launch, not per byte copied).
    Padded {
        row: i64,
        rows: i64,
        len: i64,
        positions: Tensor,
        mask: Tensor,
    },
}

impl AttentionPlan {
    pub(super) fn new(segments: &[Segment<'_>], kind: Kind, device: Device) -> Self {
        let pad = device.is_cuda();
        let mut pieces = Vec::new();
        let (mut row, mut i) = (0, 0);
        while i < segments.len() {
            let single = segments[i..].iter().take_while(|s| s.tokens.len() == 1).count();
            if pad && single > 1 {
                let rows = &segments[i..i + single];
                let index = |of: fn(&Segment<'_>) -> usize| {
                    let values: Vec<i64> = rows.iter().map(|segment| of(segment) as i64).collect();
                    Tensor::from_slice(&values).to_device(device)
                };
                let len = rows.iter().map(|s| s.position + 1).max().unwrap_or(1);
                let (starts, positions) = (index(|s| s.span.start), index(|s| s.position));
                pieces.push(Piece::padded(row, &starts, &positions, len as i64, kind));
                (row, i) = (row + single as i64, i + single);
            } else {
                let s = &segments[i];
                let rows = s.tokens.len() as i64;
                let len = s.position + s.tokens.len();
                // libtorch's causal flag aligns the mask with the first key: right only where nothing came before.
                let causal = rows > 1 && s.position == 0;
                let mask = (rows > 1 && s.position > 0).then(|| chunk_mask(rows, len as i64, kind, device));
                pieces.push(Piece::Alone {
                    row,
                    rows,
                    start: s.span.start,
                    len,
                    mask,
                    causal,
                });
                (row, i) = (row + rows, i + 1);
            }
        }
        Self { pieces }
    }

    /// For rows that are each a token, at `positions` (`[rows]`, i64, below `keys`) of sequences that begin at `starts` in the memory.
    pub(super) fn of_rows(starts: &Tensor, positions: &Tensor, keys: i64, kind: Kind) -> Self {
        Self {
            pieces: vec![Piece::padded(0, starts, positions, keys, kind)],
        }
    }

    /// `q`: `[n, heads, head_dim]` → `[n, heads·head_dim]`.
    pub(super) fn run(&self, q: &Tensor, kv: &KvMemory, layer: usize) -> Tensor {
        let (n, heads, dim) = q.size3().unwrap_or((0, 0, 0));
        let mut out: Vec<Tensor> = self.pieces.iter().map(|piece| piece.run(q, kv, layer)).collect();
        let joined = if out.len() == 1 {
            out.remove(0)
        } else {
            Tensor::cat(&out, 0)
        };
        joined.reshape([n, heads * dim])
    }
}

impl Piece {
    /// One-token segments from `row` on, at `positions` (`[rows]`, i64, below `len`) of sequences that begin at `starts`.
    fn padded(row: i64, starts: &Tensor, positions: &Tensor, len: i64, kind: Kind) -> Self {
        let (rows, device) = (positions.size()[0], positions.device());
        let offsets = Tensor::arange(len, (Kind::Int64, device)).unsqueeze(0);
        let inside = offsets.le_tensor(&positions.unsqueeze(1));
        let mask = Tensor::zeros([rows, len], (kind, device));
        let mask = mask.masked_fill(&inside.logical_not(), f64::NEG_INFINITY);
        // What lies beyond the sequence reads its first position, and is masked.
        let positions = starts.unsqueeze(1) + offsets * inside;
        Piece::Padded {
            row,
            rows,
            len,
            positions: positions.view(-1),
            mask: mask.view([rows, 1, 1, len]),
        }
    }

    /// The piece's rows of the output, `[rows, heads, head_dim]`.
    fn run(&self, q: &Tensor, kv: &KvMemory, layer: usize) -> Tensor {
        match self {
            Piece::Alone {
                row,
                rows,
                start,
                len,
                mask,
                causal,
            } => {
                let (k, v) = kv.view(layer, *start, *len);
                let q = q.narrow(0, *row, *rows).transpose(0, 1).unsqueeze(0);
                attend(&q, &k, &v, mask.as_ref(), *causal)
                    .squeeze_dim(0)
                    .transpose(0, 1)
            }
            Piece::Padded {
                row,
                rows,
                len,
                positions,
                mask,
            } => {
                let (k, v) = kv.gather(layer, positions, *rows, *len);
                let q = q.narrow(0, *row, *rows).unsqueeze(2);
                attend(&q, &k, &v, Some(mask), false).squeeze_dim(2)
            }
        }
    }
}

fn attend(q: &Tensor, k: &Tensor, v: &Tensor, mask: Option<&Tensor>, causal: bool) -> Tensor {
    Tensor::scaled_dot_product_attention(q, k, v, mask, 0.0, causal, None, false)
}

/// For a chunk whose sequence began earlier: row `r` of `rows` sees the first `len - rows + r + 1` keys.
fn chunk_mask(rows: i64, len: i64, kind: Kind, device: Device) -> Tensor {
    let blocked = Tensor::full([rows, len], f64::NEG_INFINITY, (kind, device));
    blocked.triu(len - rows + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::neox::kv::KeyOrder;
    use crate::model::neox::{NeoxConfig, Span};
    use crate::model::source::{RandomSource, TensorSource};

    #[test]
    fn a_padded_batch_attends_as_each_sequence_does_alone() {
        let config = NeoxConfig::from_json(
            br#"{"vocab_size":10,"hidden_size":32,"num_hidden_layers":1,"num_attention_heads":4,"intermediate_size":8}"#,
        )
        .unwrap();
        let cpu = Device::Cpu;
        let random = |seed, shape: &[usize]| {
            let source = RandomSource::new(seed);
            source.tensor("values", shape, Kind::Float, cpu).unwrap() * 50.0
        };
        let mut kv = KvMemory::new(&config, 64, Kind::Float, cpu, KeyOrder::Rows);
        let (keys, values) = (random(1, &[64, 4, 8]), random(2, &[64, 4, 8]));
        kv.write(0, &Tensor::arange(64, (Kind::Int64, cpu)), &keys, &values);
        let token = [0u32];
        let segment = |start, position| Segment {
            span: Span { start, len: 20 },
            position,
            tokens: &token,
            logits: 1,
        };
        let segments = [segment(0, 3), segment(20, 17), segment(40, 0)];
        let q = random(3, &[3, 4, 8]);
        let alone = AttentionPlan::new(&segments, Kind::Float, cpu).run(&q, &kv, 0);
        let (starts, positions) = (Tensor::from_slice(&[0i64, 20, 40]), Tensor::from_slice(&[3i64, 17, 0]));
        let batch = AttentionPlan::of_rows(&starts, &positions, 18, Kind::Float).run(&q, &kv, 0);
        assert!((alone - batch).abs().max().double_value(&[]) < 1e-5);
    }
}
