//! One visit of the team: some rows through all layers.

use super::super::buffer::SharedBuffer;
use super::super::config::Activation;
use super::super::kv::{KvHeads, KvMemory};
use super::super::matrix::Matrix;
use super::{Row, RowLayer, RowNorm, RowPath, Scratch, TAKE};
use crate::model::kernels::{Function, Shared, Target, Worker};

/// What the threads of one visit share.
pub(super) struct Visit<'a> {
    pub(super) path: &'a RowPath,
    pub(super) rows: &'a [Row],
    /// The first so many rows are those whose logits are wanted.
    wanted: usize,
    pub(super) kv: KvHeads<'a>,
    /// `[rows, hidden]`.
    residual: Shared<'a, f32>,
    normed: SharedBuffer<'a>,
    normed_mlp: SharedBuffer<'a>,
    /// `[rows, 3, heads, head_dim]`.
    pub(super) qkv: Shared<'a, f32>,
    pub(super) attended: SharedBuffer<'a>,
    wide: SharedBuffer<'a>,
    pub(super) scores: Shared<'a, f32>,
    pub(super) queries: Shared<'a, f32>,
    pub(super) rounded: Shared<'a, u16>,
    products: Shared<'a, f32>,
    logits: Shared<'a, f32>,
}

impl<'a> Visit<'a> {
    /// For the rows in `scratch`, of which those come first whose logits are wanted; these go to `logits`.
    pub(super) fn new(
        path: &'a RowPath,
        scratch: &'a mut Scratch,
        kv: &'a mut KvMemory,
        logits: &'a mut [f32],
    ) -> Self {
        Self {
            path,
            rows: &scratch.rows,
            wanted: scratch.rows.iter().take_while(|row| row.logits.is_some()).count(),
            kv: kv.heads(),
            residual: Shared::new(&mut scratch.residual),
            normed: scratch.normed.share(),
            normed_mlp: scratch.normed_mlp.share(),
            qkv: Shared::new(&mut scratch.qkv),
            attended: scratch.attended.share(),
            wide: scratch.wide.share(),
            scores: Shared::new(&mut scratch.scores),
            queries: Shared::new(&mut scratch.queries),
            rounded: Shared::new(&mut scratch.rounded),
            products: Shared::new(&mut scratch.products),
            logits: Shared::new(logits),
        }
    }
}

// SAFETY (of every block below): between two barriers each buffer is either read only, or written in parts that `Worker::take` gave to
// one thread alone (rows, heads, or rows of a matrix, which are columns of its output), or that each thread has by its number (its space).
impl Visit<'_> {
    /// The whole step, on one thread of the team.
    pub(super) fn walk(&self, worker: &Worker<'_>) {
        let weights = &self.path.weights;
        self.embed(worker);
        worker.barrier();
        let all = self.rows.len();
        for (number, layer) in weights.layers.iter().enumerate() {
            // Of the last layer, rows that nobody wants the logits of give their keys and values alone.
            let live = if number + 1 == weights.layers.len() {
                self.wanted
            } else {
                all
            };
            let (before, after) = (
                (&layer.input_norm, &self.normed, all),
                (&layer.post_attention_norm, &self.normed_mlp, live),
            );
            if self.path.config.use_parallel_residual {
                self.norms(worker, &[before, after]);
                worker.barrier();
                self.widen(worker, Some(layer), Some(layer), live);
                worker.barrier();
                self.attend(worker, number, live);
                if live == 0 {
                    return;
                }
                worker.barrier();
                self.fix(worker, &[&self.attended, &self.wide], live);
                self.narrow(
                    worker,
                    &[(&layer.dense, &self.attended), (&layer.down, &self.wide)],
                    live,
                );
                worker.barrier();
            } else {
                self.norms(worker, &[before]);
                worker.barrier();
                self.widen(worker, Some(layer), None, live);
                worker.barrier();
                self.attend(worker, number, live);
                if live == 0 {
                    return;
                }
                worker.barrier();
                self.fix(worker, &[&self.attended], live);
                self.narrow(worker, &[(&layer.dense, &self.attended)], live);
                worker.barrier();
                self.norms(worker, &[after]);
                worker.barrier();
                self.widen(worker, None, Some(layer), live);
                worker.barrier();
                self.fix(worker, &[&self.wide], live);
                self.narrow(worker, &[(&layer.down, &self.wide)], live);
                worker.barrier();
            }
        }
        self.output(worker);
    }

    /// Room of a thread's own for the products of one take.
    #[allow(clippy::mut_from_ref)]
    fn space(&self, worker: &Worker<'_>) -> &mut [f32] {
        let len = TAKE * self.path.most_rows;
        unsafe { self.products.part_mut(worker.index() * len, len) }
    }

    fn embed(&self, worker: &Worker<'_>) {
        let h = self.path.config.hidden_size;
        while let Some(rows) = worker.take(self.rows.len(), 1) {
            for row in rows {
                let out = unsafe { self.residual.part_mut(row * h, h) };
                self.path.weights.embed_in.row(self.rows[row].token, out);
            }
        }
    }

    fn norm_row(&self, row: usize, norm: &RowNorm, out: &SharedBuffer<'_>) {
        let (kernels, h) = (self.path.kernels, self.path.config.hidden_size);
        let eps = self.path.config.layer_norm_eps as f32;
        unsafe {
            let x = self.residual.part(row * h, h);
            kernels.norm(x, &norm.weight, &norm.bias, eps, &out.columns_mut(row..row + 1, 0, h));
            out.fix(kernels, row);
        }
    }

    /// Norms the first so many rows, for each of `norms`.
    fn norms(&self, worker: &Worker<'_>, norms: &[(&RowNorm, &SharedBuffer<'_>, usize)]) {
        let first = norms.first().map_or(0, |(_, _, count)| *count);
        let total = norms.iter().map(|(_, _, count)| count).sum();
        while let Some(pieces) = worker.take(total, 1) {
            for piece in pieces {
                let ((norm, out, _), row) = if piece < first {
                    (norms[0], piece)
                } else {
                    (norms[1], piece - first)
                };
                self.norm_row(row, norm, out);
            }
        }
    }

    /// Queries of the first `live` rows, keys and values of all, and the MLP's first half with its activation, of the first `live` again.
    fn widen(&self, worker: &Worker<'_>, attention: Option<&RowLayer>, mlp: Option<&RowLayer>, live: usize) {
        let (kernels, h) = (self.path.kernels, self.path.config.hidden_size);
        let activation = match self.path.config.hidden_act {
            Activation::Gelu => Function::Gelu,
            Activation::GeluTanh => Function::GeluTanh,
            Activation::Relu => Function::Relu,
        };
        let takes = |matrix: Option<&Matrix>| matrix.map_or(0, |m| m.rows().div_ceil(TAKE));
        let (qkv, up) = (attention.map(|l| &l.qkv), mlp.map(|l| &l.up));
        let (first, second) = (takes(qkv), takes(up));
        let space = self.space(worker);
        while let Some(pieces) = worker.take(first + second, 1) {
            for piece in pieces {
                let (matrix, piece) = if piece < first {
                    (qkv, piece)
                } else {
                    (up, piece - first)
                };
                let Some(matrix) = matrix else { continue };
                let start = piece * TAKE;
                let len = TAKE.min(matrix.rows() - start);
                let of_qkv = qkv.is_some_and(|qkv| std::ptr::eq(qkv, matrix));
                let of_keys = of_qkv && start + len > h;
                let count = if of_keys { self.rows.len() } else { live };
                if count == 0 {
                    continue;
                }
                let out = &mut space[..count * len];
                let from = if of_qkv { &self.normed } else { &self.normed_mlp };
                matrix.product(kernels, start, len, unsafe { from.inputs(count) }, out);
                let bias = matrix.bias(start, len);
                unsafe {
                    if of_qkv {
                        let to = self.qkv.columns_mut(start, [count, len], matrix.rows());
                        kernels.finish(out, bias, Function::Same, &Target::Values(to));
                    } else {
                        kernels.finish(out, bias, activation, &self.wide.columns_mut(0..count, start, len));
                    }
                }
            }
        }
    }

    /// Brings the first `count` rows of `buffers`, which threads wrote in parts, to fixed point where matrices read that, and waits for it.
    fn fix(&self, worker: &Worker<'_>, buffers: &[&SharedBuffer<'_>], count: usize) {
        if !self.path.fixes {
            return;
        }
        while let Some(pieces) = worker.take(count * buffers.len(), 1) {
            for piece in pieces {
                unsafe { buffers[piece / count].fix(self.path.kernels, piece % count) };
            }
        }
        worker.barrier();
    }

    /// Adds the products of all `parts` to the residual of the first `count` rows.
    fn narrow(&self, worker: &Worker<'_>, parts: &[(&Matrix, &SharedBuffer<'_>)], count: usize) {
        let (kernels, h) = (self.path.kernels, self.path.config.hidden_size);
        let space = self.space(worker);
        while let Some(pieces) = worker.take(h.div_ceil(TAKE), 1) {
            for piece in pieces {
                let start = piece * TAKE;
                let len = TAKE.min(h - start);
                for (matrix, from) in parts {
                    let out = &mut space[..count * len];
                    matrix.product(kernels, start, len, unsafe { from.inputs(count) }, out);
                    let to = Target::Sums(unsafe { self.residual.columns_mut(start, [count, len], h) });
                    kernels.finish(out, matrix.bias(start, len), Function::Same, &to);
                }
            }
        }
    }

    /// Final norm and output matrix, for the rows whose logits are wanted.
    fn output(&self, worker: &Worker<'_>) {
        let (kernels, vocabulary) = (self.path.kernels, self.path.config.vocab_size);
        let matrix = &self.path.weights.embed_out;
        let rows = &self.rows[..self.wanted];
        if rows.is_empty() {
            return;
        }
        while let Some(pieces) = worker.take(rows.len(), 1) {
            for row in pieces {
                self.norm_row(row, &self.path.weights.final_norm, &self.normed);
            }
        }
        worker.barrier();
        let space = self.space(worker);
        while let Some(pieces) = worker.take(vocabulary.div_ceil(TAKE), 1) {
            for piece in pieces {
                let start = piece * TAKE;
                let len = TAKE.min(vocabulary - start);
                let out = &mut space[..rows.len() * len];
                let inputs = unsafe { self.normed.inputs(rows.len()) };
                matrix.product(kernels, start, len, inputs, out);
                let bias = matrix.bias(start, len);
                for (to, out) in rows.iter().filter_map(|row| row.logits).zip(out.chunks_exact(len)) {
                    let to = unsafe { self.logits.columns_mut(to * vocabulary + start, [1, len], len) };
                    kernels.finish(out, bias, Function::Same, &Target::Values(to));
                }
            }
        }
    }
}
