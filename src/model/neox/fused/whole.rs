//! A step of at most sixteen rows in one launch (`model/cuda/step.cu`), on Hopper and Blackwell for data centres.

use tch::{Device, Kind, Tensor};

use super::FusedWeights;
use crate::model::cuda::{Argument, CudaError, Grid, Kernel, Limits, Program, Start};
use crate::model::neox::NeoxConfig;
use crate::model::neox::kv::KvMemory;
use crate::model::source::Linear;

const SOURCE: &str = include_str!("../../cuda/step.cu");

/// Compute capability that has the instructions.
const OLDEST: [i32; 2] = [9, 0];

/// Shared memory that a block needs for a ring of some stages: other GPUs of these generations have half as much.
const LEAST_SHARED_BYTES: usize = 200 << 10;

/// Rows that there are kernels for.
const SIZES: [usize; 5] = [1, 2, 4, 8, 16];

/// Threads of a block: ten warps that consume, one that produces, one that tells.
const THREADS: usize = (10 + 2) * 32;

/// Most inputs of a stage of weights. This and the next two were the fastest of those tried on an H200 (docs/performance-notes.md).
const STAGE_INPUTS: usize = 1280;

/// Stages that a block asks memory for at a time.
const UNDER_WAY: usize = 3;

/// Sixteenths of the MLP's first half that are made before attention.
const UP_FIRST: usize = 7;

/// The kernel for steps of some number of rows.
struct OfRows {
    rows: usize,
    kernel: Kernel,
    // Last: the kernel is of it.
    program: Program,
}

/// The kernels of one model.
pub(super) struct Whole {
    kernels: Vec<OfRows>,
    /// Addresses of every layer's weights, i64: `[layers, 12]`.
    layers: Tensor,
    /// How many blocks have done what, i32: zero between steps.
    counts: Tensor,
    limits: Limits,
}

impl Whole {
    /// Compiles the kernels behind `common`, with `macros`, for a model of this shape, whose weights are on the GPU `device`.
    ///
    /// # Errors
    /// With the reason, when the shape or the GPU is not one they are for.
    pub(super) fn new(
        config: &NeoxConfig,
        weights: &FusedWeights,
        device: usize,
        common: &str,
        macros: &[String],
    ) -> Result<Self, CudaError> {
        if !config.use_parallel_residual {
            return Err(CudaError::new("attention and MLP are not side by side"));
        }
        let limits = Limits::of(device)?;
        if limits.shared_bytes < LEAST_SHARED_BYTES {
            return Err(CudaError::new(
                "a block of this GPU has too little shared memory for a step in one launch",
            ));
        }
        let mut macros = macros.to_vec();
        macros.extend([
            format!("LAYERS={}", config.num_hidden_layers),
            format!("WIDE={}", config.intermediate_size),
            format!("VOCABULARY={}", config.vocab_size),
            format!("CONTEXT={}", config.max_position_embeddings),
            format!("GRID={}", limits.processors),
            format!("SHARED_BYTES={}", limits.shared_bytes),
            format!("STAGE_INPUTS={}", stage_inputs(config)),
            format!("UNDER_WAY={UNDER_WAY}"),
            format!("UP_FIRST={UP_FIRST}"),
        ]);
        let source = super::source(&[common, SOURCE])?;
        let compile = |rows: usize| -> Result<OfRows, CudaError> {
            let macros = [&macros[..], &[format!("STEP_ROWS={rows}")]].concat();
            let program = Program::compile(device, &source, &macros, OLDEST)?;
            let kernel = program.kernel_with_shared(c"whole", limits.shared_bytes)?;
            Ok(OfRows { rows, kernel, program })
        };
        // Each takes seconds.
        let kernels = std::thread::scope(|scope| {
            let threads = SIZES.map(|rows| scope.spawn(move || compile(rows)));
            let lost = |_| Err(CudaError::new("the compiler's thread is lost"));
            let made = threads.map(|thread| thread.join().unwrap_or_else(lost));
            made.into_iter().collect::<Result<Vec<_>, _>>()
        })?;
        let at = Device::Cuda(device);
        let addresses: Vec<i64> = weights.layers.iter().flat_map(addresses).collect();
        Ok(Self {
            kernels,
            layers: Tensor::from_slice(&addresses).to_device(at),
            counts: Tensor::zeros([4 * config.num_hidden_layers as i64 + 1], (Kind::Int, at)),
            limits,
        })
    }

    /// Whether there is a kernel for steps of `rows` rows.
    pub(super) fn serves(&self, rows: usize) -> bool {
        self.kernels.iter().any(|kernel| kernel.rows == rows)
    }

    /// As [`super::Fused::pass_rows`].
    ///
    /// # Errors
    /// When there is no kernel for as many rows, or CUDA refuses the launch.
    pub(super) fn pass_rows(
        &self,
        config: &NeoxConfig,
        weights: &FusedWeights,
        kv: &mut KvMemory,
        input: &Tensor,
    ) -> Result<Tensor, CudaError> {
        let (rows, device) = (input.size()[1], input.device());
        let of_rows = self.kernels.iter().find(|kernel| kernel.rows as i64 == rows);
        let OfRows { kernel, program, .. } = of_rows.ok_or_else(|| CudaError::new("no kernel for as many rows"))?;
        let make = |width: usize, kind| Tensor::empty([rows, width as i64], (kind, device));
        let (hidden, heads) = (config.hidden_size, config.num_attention_heads);
        // Attention is in four shares at most.
        let shares = 4;
        let x = make(hidden, Kind::Float);
        let qkv = make(3 * hidden, Kind::Float);
        let attended = make(shares * hidden, Kind::Float);
        let scales = make(shares * heads * 2, Kind::Float);
        let whole = make(hidden, Kind::BFloat16);
        let active = make(config.intermediate_size, Kind::BFloat16);
        let logits = make(config.vocab_size, Kind::Float);
        let stride = kv.layer_stride();
        let (keys, values, tokens) = kv.place(0);
        let at = |tensor: &Tensor| Argument::from(tensor.data_ptr());
        let fields = [
            at(&self.layers),
            at(&weights.embed_in),
            at(&weights.embed_out.weight),
            weights.embed_out.bias.as_ref().map_or(Argument::from(0), at),
            at(&weights.final_norm.weight),
            at(&weights.final_norm.bias),
            at(&weights.cos),
            at(&weights.sin),
            at(input),
            Argument::from(keys),
            Argument::from(values),
            Argument::from(stride as i64),
            Argument::from(tokens as i64),
            at(&x),
            at(&qkv),
            at(&attended),
            at(&scales),
            at(&whole),
            at(&active),
            at(&logits),
            at(&self.counts),
        ];
        let grid = Grid {
            blocks: self.limits.processors,
            parts: 1,
            threads: THREADS,
            shared_bytes: self.limits.shared_bytes,
            start: Start::AtOnce,
        };
        // SAFETY: the fields of the kernel's `Whole`, in order; every row has a place in what is written, starts and positions are inside the memory, and
        // positions below the context.
        unsafe { program.launches()?.run_with(*kernel, grid, &fields) }?;
        Ok(logits)
    }
}

/// The fields of the kernels' `Layer`.
fn addresses(layer: &super::FusedLayer) -> Vec<i64> {
    let at = |tensor: &Tensor| tensor.data_ptr() as i64;
    let pair = |linear: &Linear| [at(&linear.weight), linear.bias.as_ref().map_or(0, at)];
    let linears = [&layer.qkv, &layer.dense, &layer.up, &layer.down].map(pair);
    let norms = [&layer.input_norm, &layer.post_attention_norm].map(|norm| [at(&norm.weight), at(&norm.bias)]);
    linears.into_iter().chain(norms).flatten().collect()
}

/// Inputs of a stage: they divide those of every matrix, and are whole blocks of 32.
fn stage_inputs(config: &NeoxConfig) -> usize {
    let (hidden, wide) = (config.hidden_size, config.intermediate_size);
    let fits = |inputs: &usize| hidden.is_multiple_of(*inputs) && wide.is_multiple_of(*inputs);
    (32..=STAGE_INPUTS.min(hidden))
        .step_by(32)
        .filter(fits)
        .max()
        .unwrap_or(32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_has_inputs_that_divide_those_of_every_matrix() {
        let inputs = |hidden: usize, wide: usize| {
            let json = format!(
                r#"{{"vocab_size":100,"hidden_size":{hidden},"num_hidden_layers":1,"num_attention_heads":4,"intermediate_size":{wide},
                    "max_position_embeddings":64}}"#
            );
            stage_inputs(&NeoxConfig::from_json(json.as_bytes()).unwrap())
        };
        assert_eq!(inputs(2560, 10_240), 1280);
        assert_eq!(inputs(384, 1536), 384);
        assert_eq!(inputs(1600, 6400), 800);
        assert_eq!(inputs(256, 96), 32);
    }

    #[test]
    fn the_source_is_launched_with_as_many_threads_as_it_has_warps_for() {
        assert!(SOURCE.contains(&format!("#define CONSUMERS {}\n", THREADS / 32 - 2)));
    }
}
