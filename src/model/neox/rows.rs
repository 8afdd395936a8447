//! The way of few rows through the network on a CPU: one visit of a team of threads per step, no tensors on the way.
//!
//! A decode step of one to a few sequences takes as long as reading the weights. Through libtorch it takes longer: its matrix products of
//! few rows reach half of the memory's speed, each of some forty calls per layer costs microseconds, and its results depend on how
//! many rows there are. Here every row is computed as if it were alone ([`crate::model::kernels`], batch invariance), activations stay in f32
//! (rounded only where they meet bf16 or quantised weights and where keys and values are stored), and the threads meet four times per layer.

mod attend;
mod visit;

use std::sync::{Mutex, PoisonError};

use tch::Kind;

use attend::TOGETHER;
use visit::Visit;

use super::NeoxConfig;
use super::buffer::{Buffer, Form};
use super::kv::{KeyOrder, KvMemory};
use super::matrix::{Matrix, Plain};
use super::step::Segment;
use crate::model::kernels::{Kernels, PANEL, Team};

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
    /// `[threads, room for TOGETHER queries]`.
    scores: Vec<f32>,
    /// `[threads, 2, TOGETHER, head_dim]`: queries, and what they gather.
    queries: Vec<f32>,
    /// `[threads, TOGETHER, head_dim]`: queries, and a key, as bf16.
    rounded: Vec<u16>,
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
            scores: vec![0.0; threads.max(1) * Kernels::room_to_attend(TOGETHER, config.max_position_embeddings)],
            queries: vec![0.0; threads.max(1) * 2 * TOGETHER * config.head_dim()],
            rounded: vec![0; threads.max(1) * TOGETHER * config.head_dim()],
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

    /// How keys are to lie: in panels where nothing but this reads them.
    pub(super) fn key_order(&self, kind: Kind) -> KeyOrder {
        let even = self.config.head_dim().is_multiple_of(2);
        match self.longest == usize::MAX && kind == Kind::BFloat16 && even && self.kernels.packs() {
            true => KeyOrder::Panels,
            false => KeyOrder::Rows,
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
            // Those first that the last layer is wanted of.
            scratch.rows.sort_by_key(|row| row.logits.is_none());
            let visit = Visit::new(self, scratch, kv, logits);
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
