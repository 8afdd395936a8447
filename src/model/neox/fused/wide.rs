//! A pass over many rows, of steps and of prompts: libtorch multiplies, kernels of our own (`model/cuda/wide.cu`) do the rest.

use tch::{Kind, Tensor};

use super::residual::{Begin, Residual, at, at_or_null, number};
use super::{Fused, FusedLayer};
use crate::model::cuda::{CudaError, Grid, Kernel, Launch, Program, Start};
use crate::model::neox::NeoxConfig;
use crate::model::neox::attention::AttentionPlan;
use crate::model::neox::kv::KvMemory;
use crate::model::source::Linear;

/// Threads of a block that turns or activates.
const TURN_THREADS: usize = 256;

/// Warps of a block that attends, and stages of keys and values that each has. These and [`tile`] were the fastest of those tried on an H200.
const ATTEND_WARPS: usize = 4;
const STAGES: usize = 2;

/// Largest head that the kernels can attend with.
pub(super) const LARGEST_HEAD: usize = 256;

/// Keys that a warp takes at a time: fewer where they are so large that a block of a smaller GPU would have no room for them.
fn tile(config: &NeoxConfig) -> usize {
    if config.head_dim() > 128 { 8 } else { 16 }
}

/// Shared memory that a block needs to attend: rows of the ring are apart by as much as the kernel's PITCH.
fn ring_bytes(config: &NeoxConfig) -> usize {
    let dim = config.head_dim();
    let pitch = if dim % 32 == 16 { dim } else { dim + 16 };
    ATTEND_WARPS * STAGES * 2 * tile(config) * pitch * size_of::<u16>()
}

/// What the kernels are compiled with.
pub(super) fn settings(config: &NeoxConfig) -> [String; 4] {
    [
        format!("TURN_THREADS={TURN_THREADS}"),
        format!("ATTEND_WARPS={ATTEND_WARPS}"),
        format!("TILE={}", tile(config)),
        format!("STAGES={STAGES}"),
    ]
}

/// The kernels.
pub(super) struct Wide {
    turn_and_activate: Kernel,
    attend: Kernel,
    /// Of a block that attends.
    shared_bytes: usize,
}

/// How the rows attend.
pub(super) enum Attention<'a> {
    /// Each by itself, to what the KV memory holds up to its position.
    OfRows,
    /// By libtorch.
    Planned(&'a AttentionPlan),
}

/// What a pass hands on.
struct Pass<'a> {
    launch: Launch<'a>,
    fused: &'a Fused,
    wide: &'a Wide,
    residual: Residual,
    /// f32, without bias: `[rows, 3·hidden_size]`.
    qkv: Tensor,
    /// bf16, `[rows, hidden_size]`: turned.
    queries: Tensor,
    attended: Tensor,
    /// f32, without bias: `[rows, intermediate_size]`.
    up: Tensor,
    /// bf16, `[rows, intermediate_size]`.
    active: Tensor,
}

impl Wide {
    /// The kernels of `program` for a model of this shape.
    ///
    /// # Errors
    /// When a block of this GPU has too little shared memory.
    pub(super) fn new(config: &NeoxConfig, program: &Program) -> Result<Self, CudaError> {
        let shared_bytes = ring_bytes(config);
        Ok(Self {
            turn_and_activate: program.kernel(c"turn_and_activate")?,
            attend: program.kernel_with_shared(c"attend_rows", shared_bytes)?,
            shared_bytes,
        })
    }

    /// Runs the rows of `input`, `[3, rows]`, as [`Fused::pass_rows`] takes it; gives what the output matrix reads, bf16, `[rows, hidden_size]`.
    ///
    /// # Errors
    /// When CUDA refuses a launch.
    pub(super) fn pass(
        &self,
        fused: &Fused,
        kv: &mut KvMemory,
        input: &Tensor,
        attention: &Attention<'_>,
    ) -> Result<Tensor, CudaError> {
        let (hidden, wide) = (fused.config.hidden_size, fused.config.intermediate_size);
        let parallel = fused.config.use_parallel_residual;
        let residual = Residual::new(input, hidden, if parallel { 2 } else { 1 });
        let pass = Pass {
            launch: fused.program.launches()?,
            fused,
            wide: self,
            qkv: residual.room(3 * hidden, Kind::Float),
            queries: residual.room(hidden, Kind::BFloat16),
            attended: residual.room(hidden, Kind::BFloat16),
            up: residual.room(wide, Kind::Float),
            active: residual.room(wide, Kind::BFloat16),
            residual,
        };
        let mut begin = Begin::Embedding(&fused.weights.embed_in);
        for (number, layer) in fused.weights.layers.iter().enumerate() {
            pass.norms(
                &begin,
                &layer.input_norm,
                parallel.then_some(&layer.post_attention_norm),
            )?;
            let [first, second] = &pass.residual.normed;
            product(&pass.qkv, first, &layer.qkv);
            if parallel {
                product(&pass.up, second, &layer.up);
                pass.turn_and_activate(layer, Some((kv, number)), true)?;
                let attended = pass.attend(kv, number, attention)?;
                product(&pass.residual.added.get(0), &attended, &layer.dense);
                product(&pass.residual.added.get(1), &pass.active, &layer.down);
            } else {
                pass.turn_and_activate(layer, Some((kv, number)), false)?;
                let attended = pass.attend(kv, number, attention)?;
                product(&pass.residual.added.get(0), &attended, &layer.dense);
                let added = Begin::Added([layer.dense.bias.as_ref(), None]);
                pass.norms(&added, &layer.post_attention_norm, None)?;
                product(&pass.up, first, &layer.up);
                pass.turn_and_activate(layer, None, true)?;
                product(&pass.residual.added.get(0), &pass.active, &layer.down);
            }
            let dense = layer.dense.bias.as_ref().filter(|_| parallel);
            begin = Begin::Added([dense, layer.down.bias.as_ref()]);
        }
        pass.norms(&begin, &fused.weights.final_norm, None)?;
        let [normed, _] = pass.residual.normed;
        Ok(normed)
    }
}

/// `to` = `x`·Wᵀ, f32, of bf16; the bias is added by who reads it.
fn product(to: &Tensor, x: &Tensor, linear: &Linear) {
    let _ = x.mm_dtype_out(to, &linear.weight.tr(), Kind::Float);
}

impl Pass<'_> {
    fn norms(
        &self,
        begin: &Begin<'_>,
        first: &super::FusedNorm,
        second: Option<&super::FusedNorm>,
    ) -> Result<(), CudaError> {
        let kernel = (&self.launch, self.fused.norms);
        self.residual.norms(kernel, begin, first, second, false)
    }

    /// Queries, keys and values of the rows, which go to the memory; and the MLP's first half, activated.
    fn turn_and_activate(
        &self,
        layer: &FusedLayer,
        turn: Option<(&mut KvMemory, usize)>,
        activate: bool,
    ) -> Result<(), CudaError> {
        let (rows, weights) = (self.residual.rows(), &self.fused.weights);
        let turning = if turn.is_some() { 3 * rows } else { 0 };
        let (keys, values, tokens) = match turn {
            Some((kv, layer)) => kv.place(layer),
            None => (std::ptr::null_mut(), std::ptr::null_mut(), 0),
        };
        let outputs = self.fused.config.intermediate_size;
        let activating = match activate {
            true => (rows * outputs).div_ceil(8 * TURN_THREADS),
            false => 0,
        };
        let arguments = [
            number(turning),
            at(&self.qkv),
            at_or_null(layer.qkv.bias.as_ref()),
            at(&weights.cos),
            at(&weights.sin),
            self.residual.input(),
            keys.into(),
            values.into(),
            at(&self.queries),
            number(tokens),
            at(&self.up),
            at_or_null(layer.up.bias.as_ref()),
            at(&self.active),
            number(outputs),
            number(rows),
        ];
        let grid = Grid {
            blocks: turning + activating,
            parts: 1,
            threads: TURN_THREADS,
            shared_bytes: 0,
            start: Start::After,
        };
        // SAFETY: what `turn_and_activate` takes; starts and positions are inside the memory, and positions below the context.
        unsafe { self.launch.run(self.wide.turn_and_activate, grid, &arguments) }
    }

    /// What the rows make of keys and values, bf16, `[rows, hidden_size]`.
    fn attend(&self, kv: &mut KvMemory, layer: usize, attention: &Attention<'_>) -> Result<Tensor, CudaError> {
        let (rows, config) = (self.residual.rows(), &self.fused.config);
        let heads = config.num_attention_heads;
        if let Attention::Planned(plan) = attention {
            let shape = [rows as i64, heads as i64, config.head_dim() as i64];
            return Ok(plan.run(&self.queries.view(shape), kv, layer));
        }
        let (keys, values, tokens) = kv.place(layer);
        let arguments = [
            at(&self.queries),
            self.residual.input(),
            keys.into(),
            values.into(),
            at(&self.attended),
            number(rows),
            number(tokens),
        ];
        let grid = Grid {
            blocks: rows * heads,
            parts: 1,
            threads: ATTEND_WARPS * 32,
            shared_bytes: self.wide.shared_bytes,
            start: Start::Early,
        };
        // SAFETY: what `attend_rows` takes; starts and positions are inside the memory.
        unsafe { self.launch.run(self.wide.attend, grid, &arguments) }?;
        Ok(self.attended.shallow_clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_of_every_size_find_room_on_the_smallest_gpu_that_is_served() {
        for dim in (8..=LARGEST_HEAD).step_by(8) {
            let json = format!(
                r#"{{"vocab_size":100,"hidden_size":{},"num_hidden_layers":1,"num_attention_heads":4,"intermediate_size":64}}"#,
                4 * dim
            );
            let config = NeoxConfig::from_json(json.as_bytes()).unwrap();
            // What a block may have with compute capability 8.6, 8.9 and 12.0, less what the kernel takes besides.
            assert!(ring_bytes(&config) <= (99 - 5) << 10, "{dim}");
            assert_eq!(32 % tile(&config), 0, "lanes share a key");
        }
    }
}
