//! A visit's attention: rotary embedding, the memory of keys and values, and the queries over it.

use super::visit::Visit;
use crate::model::kernels::{Function, Worker};

/// Rows of one sequence whose queries go over its keys together.
pub(super) const TOGETHER: usize = 8;

// SAFETY (of every block below): as in `visit`; scores and queries are parts of a buffer that each thread has by its number.
impl Visit<'_> {
    /// Rotates queries and keys, stores keys and values; the first `live` rows attend. One thread does all of a head, so that rows of one
    /// sequence find the keys of those before them.
    pub(super) fn attend(&self, worker: &Worker<'_>, layer: usize, live: usize) {
        let config = &self.path.config;
        let (kernels, context) = (self.path.kernels, config.max_position_embeddings);
        let (h, dim) = (config.hidden_size, config.head_dim());
        let scale = 1.0 / (dim as f32).sqrt();
        let space = TOGETHER * context;
        let scores = unsafe { self.scores.part_mut(worker.index() * space, space) };
        let space = 2 * TOGETHER * dim;
        let (queries, gathered) =
            unsafe { self.queries.part_mut(worker.index() * space, space) }.split_at_mut(TOGETHER * dim);
        while let Some(heads) = worker.take(config.num_attention_heads, 1) {
            for head in heads {
                for (i, row) in self.rows.iter().enumerate() {
                    let at = |role: usize| (i * 3 + role) * h + head * dim;
                    unsafe {
                        let key = self.qkv.part_mut(at(1), dim);
                        self.rotate(row.position, key);
                        let value = self.qkv.part(at(2), dim);
                        let place = (layer, head, row.start + row.position);
                        self.kv.write(kernels, place, key, value);
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
                        let (keys, values) = self.kv.read(layer, head, start, longest);
                        kernels.attend(queries, lens, keys, values, scores, out);
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
