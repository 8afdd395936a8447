//! A visit's attention: rotary embedding, the memory of keys and values, and the queries over it.

use super::super::kv::Keys;
use super::visit::Visit;
use crate::model::kernels::{Cells, Fixed, Function, Inputs, Kernels, Worker};

/// Rows of one sequence whose queries go over its keys together.
pub(super) const TOGETHER: usize = Kernels::QUERIES;

// SAFETY (of every block below): as in `visit`; what a thread works with are parts of buffers that it has by its number.
impl Visit<'_> {
    /// Rotates queries and keys, stores keys and values; the first `live` rows attend. One thread does all of a head, so that rows of one
    /// sequence find the keys of those before them.
    pub(super) fn attend(&self, worker: &Worker<'_>, layer: usize, live: usize) {
        let config = &self.path.config;
        let (kernels, context) = (self.path.kernels, config.max_position_embeddings);
        let (h, dim) = (config.hidden_size, config.head_dim());
        let scale = 1.0 / (dim as f32).sqrt();
        let space = Kernels::room_to_attend(TOGETHER, context);
        let scores = unsafe { self.scores.part_mut(worker.index() * space, space) };
        let space = 2 * TOGETHER * dim;
        let (queries, gathered) =
            unsafe { self.queries.part_mut(worker.index() * space, space) }.split_at_mut(TOGETHER * dim);
        let space = TOGETHER * dim;
        let rounded = unsafe { self.rounded.part_mut(worker.index() * space, space) };
        while let Some(heads) = worker.take(config.num_attention_heads, 1) {
            for head in heads {
                for (i, row) in self.rows.iter().enumerate() {
                    let at = |role: usize| (i * 3 + role) * h + head * dim;
                    unsafe {
                        let key = self.qkv.part_mut(at(1), dim);
                        self.rotate(row.position, key);
                        let value = self.qkv.part(at(2), dim);
                        let place = (layer, head, row.start + row.position);
                        self.kv.write(kernels, place, [key, value], &mut rounded[..dim]);
                    }
                }
                let mut first = 0;
                for rows in self.rows[..live]
                    .chunk_by(|a, b| a.start == b.start)
                    .flat_map(|rows| rows.chunks(TOGETHER))
                {
                    let (start, count) = (rows[0].start, rows.len());
                    let mut lens = [0; TOGETHER];
                    for (i, row) in rows.iter().enumerate() {
                        lens[i] = row.position + 1;
                        let query = &mut queries[i * dim..(i + 1) * dim];
                        query.copy_from_slice(unsafe { self.qkv.part((first + i) * 3 * h + head * dim, dim) });
                        self.rotate(row.position, query);
                        query.iter_mut().for_each(|q| *q *= scale);
                    }
                    let (lens, queries, out) = (&lens[..count], &queries[..count * dim], &mut gathered[..count * dim]);
                    let longest = lens.iter().copied().fold(1, usize::max);
                    unsafe {
                        match self.kv.read(layer, head, start, longest) {
                            (Keys::Panels(keys), Cells::Bf16(values)) => {
                                let rounded = &mut rounded[..count * dim];
                                if kernels.rounds_inputs() {
                                    kernels.round(queries, rounded);
                                }
                                let queries = Inputs {
                                    values: queries,
                                    rounded,
                                    fixed: Fixed::default(),
                                    stride: dim,
                                    count,
                                };
                                kernels.attend_panels(queries, lens, keys, values, scores, out);
                            }
                            (Keys::Rows(keys), values) => kernels.attend(queries, lens, keys, values, scores, out),
                            (Keys::Panels(_), Cells::F32(_)) => unreachable!("keys lie in panels where they are bf16"),
                        }
                        let to = self.attended.columns_mut(first..first + count, head * dim, dim);
                        kernels.finish(out, &[], Function::Same, &to);
                    }
                    first += count;
                }
            }
        }
    }

    /// Rotates the first dimensions of one head, in halves.
    fn rotate(&self, position: usize, x: &mut [f32]) {
        let half = self.path.config.rotary_pairs();
        let table = position * half..(position + 1) * half;
        let (first, rest) = x.split_at_mut(half);
        let angles = self.path.weights.cos[table.clone()]
            .iter()
            .zip(&self.path.weights.sin[table]);
        for ((a, b), (cos, sin)) in first.iter_mut().zip(rest).zip(angles) {
            (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
        }
    }
}
