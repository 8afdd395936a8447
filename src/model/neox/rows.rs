//! The way of few rows through the network on a CPU: one visit of a team of threads per step, no tensors on the way.
//!
//! A decode step of one to a few sequences takes as long as reading the weights. Through libtorch it takes longer: its matrix products of
//! few rows reach half of the memory's speed, each of some forty calls per layer costs microseconds, and its results depend on how
//! many rows there are. Here every row is computed as if it were alone ([`crate::model::kernels`], batch invariance), activations stay in f32
//! (rounded only where they meet bf16 or quantised weights and where keys and values are stored), and the threads meet four times per layer.

mod attend;

use std::sync::{Mutex, PoisonError};

use attend::TOGETHER;

use super::NeoxConfig;
use super::buffer::{Buffer, Form, SharedBuffer};
use super::config::Activation;
use super::kv::{KvHeads, KvMemory};
use super::matrix::{Matrix, Plain};
use super::step::Segment;
use crate::model::kernels::{Kernels, PANEL, Shared, Team, Worker};

/// Segments of at most so many tokens go this way, others through libtorch where it is faster once arithmetic is the limit.
/// Only a segment's own length decides, never its company.
pub(super) const FEW: usize = 16;

/// Rows in one visit; more are split evenly. Beyond this, arithmetic is the limit and another visit costs little.
const MOST_ROWS: usize = 16;

/// Rows in one visit where prompts go this way too: as many as the second cache holds the inputs of.
const MOST_PROMPT_ROWS: usize = 128;

/// Rows of a matrix that a thread takes at a time: two panels.
const TAKE: usize = 2 * PANEL;

/// LayerNorm.
pub(super) struct RowNorm {
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
}

/// One layer's weights, where they are held.
pub(super) struct RowLayer {
    pub input_norm: RowNorm,
    pub post_attention_norm: RowNorm,
    /// Rows by role: queries, keys, values.
    pub qkv: Matrix,
    pub dense: Matrix,
    pub up: Matrix,
    pub down: Matrix,
}

/// The network for few rows on a CPU.
pub(super) struct RowPath {
    config: NeoxConfig,
    kernels: &'static Kernels,
    team: Team,
    weights: RowWeights,
    /// Whether inputs go through fixed point.
    fixes: bool,
    /// The longest segments that go this way.
    longest: usize,
    most_rows: usize,
    scratch: Mutex<Scratch>,
}

/// All weights of the network.
pub(super) struct RowWeights {
    pub embed_in: Plain,
    pub layers: Vec<RowLayer>,
    pub final_norm: RowNorm,
    pub embed_out: Matrix,
    /// `[context, rotary_pairs]`.
    pub cos: Vec<f32>,
    /// As `cos`.
    pub sin: Vec<f32>,
}

impl RowWeights {
    /// Whether every matrix of the layers is in panels.
    pub(super) fn are_in_panels(&self) -> bool {
        let matrices = self.layers.iter().flat_map(|l| [&l.qkv, &l.dense, &l.up, &l.down]);
        !self.layers.is_empty() && matrices.into_iter().all(Matrix::is_in_panels)
    }
}

/// One token of a step.
#[derive(Clone, Copy)]
struct Row {
    token: usize,
    /// First position of its sequence in the KV memory.
    start: usize,
    /// Position in its sequence.
    position: usize,
    /// Row of the logits that it gives.
    logits: Option<usize>,
}

/// Buffers of a step, made once.
struct Scratch {
    rows: Vec<Row>,
    residual: Vec<f32>,
    normed: Buffer,
    normed_mlp: Buffer,
    qkv: Vec<f32>,
    attended: Buffer,
    wide: Buffer,
    /// `[threads, TOGETHER, context]`.
    scores: Vec<f32>,
    /// `[threads, 2, TOGETHER, head_dim]`: queries, and what they gather.
    queries: Vec<f32>,
    /// `[threads, space]`: products on their way to where they belong.
    products: Vec<f32>,
}

impl RowPath {
    /// The network over `weights`, whose matrices read inputs in `form`, for segments of at most `longest` tokens.
    pub(super) fn new(config: &NeoxConfig, weights: RowWeights, threads: usize, form: Form, longest: usize) -> Self {
        let kernels = Kernels::best();
        let (h, m) = (config.hidden_size, config.intermediate_size);
        let most_rows = if longest > FEW { MOST_PROMPT_ROWS } else { MOST_ROWS };
        let scratch = Scratch {
            rows: Vec::with_capacity(most_rows),
            residual: vec![0.0; h * most_rows],
            normed: Buffer::new(most_rows, h, form),
            normed_mlp: Buffer::new(most_rows, h, form),
            qkv: vec![0.0; 3 * h * most_rows],
            attended: Buffer::new(most_rows, h, form),
            wide: Buffer::new(most_rows, m, form),
            scores: vec![0.0; threads.max(1) * TOGETHER * config.max_position_embeddings],
            queries: vec![0.0; threads.max(1) * 2 * TOGETHER * config.head_dim()],
            products: vec![0.0; threads.max(1) * TAKE * most_rows],
        };
        tracing::debug!(kernels = kernels.name(), threads, "few rows go through our own kernels");
        Self {
            config: config.clone(),
            kernels,
            team: Team::new(threads),
            weights,
            fixes: form.is_fixed(),
            longest,
            most_rows,
            scratch: Mutex::new(scratch),
        }
    }

    /// The longest segments that go this way.
    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    /// Runs those of `segments` that have at most [`Self::longest`] tokens. `logits` is `[rows that are wanted, vocab_size]`: the rows of these segments
    /// are written, others left alone.
    pub(super) fn step(&self, kv: &mut KvMemory, segments: &[Segment<'_>], logits: &mut [f32]) {
        let scratch = &mut *self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        let total: usize = few(segments, self.longest)
            .map(|(segment, _)| segment.tokens.len())
            .sum();
        if total == 0 {
            return;
        }
        let each = total.div_ceil(total.div_ceil(self.most_rows));
        let mut rows = few(segments, self.longest).flat_map(|(segment, output)| {
            segment.tokens.iter().enumerate().map(move |(i, &token)| Row {
                token: token as usize,
                start: segment.span.start,
                position: segment.position + i,
                logits: (i + segment.logits)
                    .checked_sub(segment.tokens.len())
                    .map(|row| output + row),
            })
        });
        loop {
            scratch.rows.clear();
            scratch.rows.extend(rows.by_ref().take(each));
            if scratch.rows.is_empty() {
                return;
            }
            let visit = Visit {
                path: self,
                rows: &scratch.rows,
                kv: kv.heads(),
                residual: Shared::new(&mut scratch.residual),
                normed: scratch.normed.share(),
                normed_mlp: scratch.normed_mlp.share(),
                qkv: Shared::new(&mut scratch.qkv),
                attended: scratch.attended.share(),
                wide: scratch.wide.share(),
                scores: Shared::new(&mut scratch.scores),
                queries: Shared::new(&mut scratch.queries),
                products: Shared::new(&mut scratch.products),
                logits: Shared::new(logits),
            };
            self.team.run(|worker| visit.walk(worker));
        }
    }
}

/// The segments of at most `longest` tokens, each with its first row of the logits.
fn few<'a, 'b>(segments: &'a [Segment<'b>], longest: usize) -> impl Iterator<Item = (&'a Segment<'b>, usize)> {
    let mut wanted = 0;
    segments
        .iter()
        .map(move |segment| {
            let output = wanted;
            wanted += segment.logits;
            (segment, output)
        })
        .filter(move |(segment, _)| segment.tokens.len() <= longest)
}

/// What the threads of one visit share.
struct Visit<'a> {
    path: &'a RowPath,
    rows: &'a [Row],
    kv: KvHeads<'a>,
    /// `[rows, hidden]`.
    residual: Shared<'a, f32>,
    normed: SharedBuffer<'a>,
    normed_mlp: SharedBuffer<'a>,
    /// `[rows, 3, heads, head_dim]`.
    qkv: Shared<'a, f32>,
    attended: SharedBuffer<'a>,
    wide: SharedBuffer<'a>,
    scores: Shared<'a, f32>,
    queries: Shared<'a, f32>,
    products: Shared<'a, f32>,
    logits: Shared<'a, f32>,
}

// SAFETY (of every block below): between two barriers each buffer is either read only, or written in parts that `Worker::take` gave to
// one thread alone (rows, heads, or rows of a matrix, which are columns of its output).
impl Visit<'_> {
    /// The whole step, on one thread of the team.
    fn walk(&self, worker: &Worker<'_>) {
        let weights = &self.path.weights;
        self.embed(worker);
        worker.barrier();
        for (number, layer) in weights.layers.iter().enumerate() {
            if self.path.config.use_parallel_residual {
                self.norms(
                    worker,
                    &[
                        (&layer.input_norm, &self.normed),
                        (&layer.post_attention_norm, &self.normed_mlp),
                    ],
                );
                worker.barrier();
                self.widen(worker, Some(layer), Some(layer));
                worker.barrier();
                self.attend(worker, number);
                worker.barrier();
                self.fix(worker, &[&self.attended, &self.wide]);
                self.narrow(worker, &[(&layer.dense, &self.attended), (&layer.down, &self.wide)]);
                worker.barrier();
            } else {
                self.norms(worker, &[(&layer.input_norm, &self.normed)]);
                worker.barrier();
                self.widen(worker, Some(layer), None);
                worker.barrier();
                self.attend(worker, number);
                worker.barrier();
                self.fix(worker, &[&self.attended]);
                self.narrow(worker, &[(&layer.dense, &self.attended)]);
                worker.barrier();
                self.norms(worker, &[(&layer.post_attention_norm, &self.normed_mlp)]);
                worker.barrier();
                self.widen(worker, None, Some(layer));
                worker.barrier();
                self.fix(worker, &[&self.wide]);
                self.narrow(worker, &[(&layer.down, &self.wide)]);
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

    fn norm_row(&self, from: usize, norm: &RowNorm, to: usize, out: &SharedBuffer<'_>) {
        let (kernels, h) = (self.path.kernels, self.path.config.hidden_size);
        let eps = self.path.config.layer_norm_eps as f32;
        unsafe {
            let x = self.residual.part(from * h, h);
            out.write(kernels, to, 0, h, |out| {
                kernels.norm(x, &norm.weight, &norm.bias, eps, out)
            });
            out.fix(kernels, to);
        }
    }

    fn norms(&self, worker: &Worker<'_>, norms: &[(&RowNorm, &SharedBuffer<'_>)]) {
        let count = self.rows.len();
        while let Some(pieces) = worker.take(count * norms.len(), 1) {
            for piece in pieces {
                let (norm, out) = norms[piece / count];
                self.norm_row(piece % count, norm, piece % count, out);
            }
        }
    }

    /// Queries, keys and values, and the MLP's first half with its activation.
    fn widen(&self, worker: &Worker<'_>, attention: Option<&RowLayer>, mlp: Option<&RowLayer>) {
        let (kernels, count) = (self.path.kernels, self.rows.len());
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
                let out = &mut space[..count * len];
                let of_qkv = qkv.is_some_and(|qkv| std::ptr::eq(qkv, matrix));
                let from = if of_qkv { &self.normed } else { &self.normed_mlp };
                matrix.product(kernels, start, len, unsafe { from.inputs(count) }, out);
                if !of_qkv {
                    match self.path.config.hidden_act {
                        Activation::Gelu => kernels.gelu(out),
                        Activation::GeluTanh => kernels.gelu_tanh(out),
                        Activation::Relu => kernels.relu(out),
                    }
                }
                for (row, out) in out.chunks_exact(len).enumerate() {
                    unsafe {
                        if of_qkv {
                            let to = self.qkv.part_mut(row * matrix.rows() + start, len);
                            to.copy_from_slice(out);
                        } else {
                            self.wide.put(kernels, row, start, out);
                        }
                    }
                }
            }
        }
    }

    /// Brings the rows of `buffers`, which threads wrote in parts, to fixed point where matrices read that, and waits for it.
    fn fix(&self, worker: &Worker<'_>, buffers: &[&SharedBuffer<'_>]) {
        if !self.path.fixes {
            return;
        }
        let count = self.rows.len();
        while let Some(pieces) = worker.take(count * buffers.len(), 1) {
            for piece in pieces {
                unsafe { buffers[piece / count].fix(self.path.kernels, piece % count) };
            }
        }
        worker.barrier();
    }

    /// Adds the products of all `parts` to the residual.
    fn narrow(&self, worker: &Worker<'_>, parts: &[(&Matrix, &SharedBuffer<'_>)]) {
        let (kernels, count, h) = (self.path.kernels, self.rows.len(), self.path.config.hidden_size);
        let space = self.space(worker);
        while let Some(pieces) = worker.take(h.div_ceil(TAKE), 1) {
            for piece in pieces {
                let start = piece * TAKE;
                let len = TAKE.min(h - start);
                for (matrix, from) in parts {
                    let out = &mut space[..count * len];
                    matrix.product(kernels, start, len, unsafe { from.inputs(count) }, out);
                    for (row, out) in out.chunks_exact(len).enumerate() {
                        let to = unsafe { self.residual.part_mut(row * h + start, len) };
                        to.iter_mut().zip(out).for_each(|(x, y)| *x += y);
                    }
                }
            }
        }
    }

    /// Final norm and output matrix, for the rows whose logits are wanted.
    fn output(&self, worker: &Worker<'_>) {
        let (kernels, vocabulary) = (self.path.kernels, self.path.config.vocab_size);
        let wanted = || {
            let rows = self.rows.iter().enumerate();
            rows.filter_map(|(row, r)| r.logits.map(|output| (row, output)))
        };
        let count = wanted().count();
        if count == 0 {
            return;
        }
        while let Some(pieces) = worker.take(count, 1) {
            for (to, (row, _)) in wanted().enumerate().skip(pieces.start).take(pieces.len()) {
                self.norm_row(row, &self.path.weights.final_norm, to, &self.normed);
            }
        }
        worker.barrier();
        let space = self.space(worker);
        while let Some(pieces) = worker.take(vocabulary.div_ceil(TAKE), 1) {
            for piece in pieces {
                let start = piece * TAKE;
                let len = TAKE.min(vocabulary - start);
                let out = &mut space[..count * len];
                let inputs = unsafe { self.normed.inputs(count) };
                self.path.weights.embed_out.product(kernels, start, len, inputs, out);
                for ((_, to), out) in wanted().zip(out.chunks_exact(len)) {
                    unsafe { self.logits.part_mut(to * vocabulary + start, len) }.copy_from_slice(out);
                }
            }
        }
    }
}
