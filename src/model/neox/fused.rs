//! Passes on a GPU by kernels of our own, in bf16. Steps of few rows read the weights once, in one launch (`model/cuda/step.cu`) or in four a layer
//! (`model/cuda/kernels.cu`). Those of more rows, and prompts, leave the products to libtorch, and fuse what lies between them (`model/cuda/wide.cu`).
//! libtorch's way ([`super::Neox::pass_rows`]) launches some thirty kernels a layer.

mod residual;
mod step;
mod weights;
mod whole;
mod wide;

use std::ffi::{CStr, CString};

use tch::{Kind, Tensor};

use super::NeoxConfig;
use super::attention::AttentionPlan;
use super::config::Activation;
use super::kv::KvMemory;
use crate::model::cuda::{CudaError, Kernel, Program};
use crate::model::source::Linear;
use residual::Begin;
use step::Step;
pub(super) use weights::{FusedLayer, FusedNorm, FusedWeights};
use whole::Whole;
use wide::Wide;

/// What all kernels begin with.
const COMMON: &str = include_str!("../cuda/common.cuh");

const SOURCE: &str = include_str!("../cuda/kernels.cu");

/// What is compiled behind it.
const WIDE_SOURCE: &str = include_str!("../cuda/wide.cu");

/// Compute capability that has the instructions.
const OLDEST: [i32; 2] = [8, 0];

/// Rows that there are products of our own for, and their kernels' names.
const SIZES: [(usize, [&CStr; 3]); 2] = [
    (8, [c"product_8", c"attend_and_up_8", c"add_8"]),
    (16, [c"product_16", c"attend_and_up_16", c"add_16"]),
];

/// Outputs that a block of theirs makes.
const OUTPUTS: usize = 16;

/// Threads of a block that norms a row.
const NORM_THREADS: usize = 512;

/// Most rows of one sequence in a step.
pub(super) const FRESH: usize = 16;

/// Most rows of a step.
pub(super) const MOST_ROWS: usize = 64;

/// Warps of a block of a product, and blocks of weights that each has under way. These, [`CHUNK`] and [`BLOCKS`] were the fastest of those tried on an
/// H200.
const WARPS: usize = 16;
const DEPTH: usize = 2;

/// Bytes of the next kernel's weights that each block of a product brings into the cache.
const CHUNK: usize = 32 << 10;

/// Blocks that what is added to the residual stream is spread over, at least.
const BLOCKS: usize = 640;

/// Shared memory that a block has without asking for more.
const SHARED_BYTES: usize = 48 << 10;

/// The kernels of one model.
pub(super) struct Fused {
    config: NeoxConfig,
    weights: FusedWeights,
    norms: Kernel,
    /// By [`SIZES`].
    products: Vec<[Kernel; 3]>,
    /// A step in one launch; `None` where the GPU or the shape is none for it.
    whole: Option<Whole>,
    /// For more rows, and prompts.
    wide: Wide,
    // Last: the kernels are of it.
    program: Program,
}

/// How kernels of our own run a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// In one launch.
    Whole,
    /// In four launches a layer.
    Layers,
    /// With libtorch's products.
    Wide,
}

/// What a program is compiled from.
fn source(parts: &[&str]) -> Result<CString, CudaError> {
    CString::new(parts.join("\n")).map_err(|error| CudaError::new(error.to_string()))
}

impl Fused {
    /// Compiles the kernels for a model of this shape, whose weights are on the GPU `device`.
    ///
    /// # Errors
    /// With the reason, when the shape, the type or the machine is not one the kernels are for.
    pub(super) fn new(config: &NeoxConfig, weights: FusedWeights, device: usize) -> Result<Self, CudaError> {
        if !fits(config) || !weights.usable(device) {
            return Err(CudaError::new(
                "the model's shape or type is none the kernels are made for",
            ));
        }
        let activation = match config.hidden_act {
            Activation::Gelu => 0,
            Activation::GeluTanh => 1,
            Activation::Relu => 2,
        };
        let shape = [
            format!("HIDDEN={}", config.hidden_size),
            format!("DIM={}", config.head_dim()),
            format!("HALF={}", config.rotary_pairs()),
            format!("ACTIVATION={activation}"),
            format!("EPS={:e}f", config.layer_norm_eps),
        ];
        let settings = [
            format!("WARPS={WARPS}"),
            format!("DEPTH={DEPTH}"),
            format!("CHUNK={CHUNK}"),
            format!("NORM_THREADS={NORM_THREADS}"),
            format!("FRESH={FRESH}"),
        ];
        let macros = [&shape[..], &settings, &wide::settings(config)].concat();
        // Compiling takes seconds; the two are compiled beside each other.
        let (program, whole) = std::thread::scope(|scope| {
            let others =
                scope.spawn(|| Program::compile(device, &source(&[COMMON, SOURCE, WIDE_SOURCE])?, &macros, OLDEST));
            let whole = Whole::new(config, &weights, device, COMMON, &shape);
            let lost = |_| Err(CudaError::new("the compiler's thread is lost"));
            (others.join().unwrap_or_else(lost), whole)
        });
        let program = program?;
        let whole = whole
            .inspect_err(|reason| tracing::info!(%reason, "steps run in four launches a layer"))
            .ok();
        let of_size = |names: [&CStr; 3]| -> Result<[Kernel; 3], CudaError> {
            let [product, attend_and_up, add] = names.map(|name| program.kernel(name));
            Ok([product?, attend_and_up?, add?])
        };
        let products = SIZES.iter().map(|&(_, names)| of_size(names));
        Ok(Self {
            config: config.clone(),
            weights,
            norms: program.kernel(c"norms")?,
            products: products.collect::<Result<_, CudaError>>()?,
            whole,
            wide: Wide::new(config, &program)?,
            program,
        })
    }

    /// The ways in which steps of `rows` rows can be run, the fastest first.
    pub(super) fn ways(&self, rows: usize) -> Vec<Way> {
        let whole = self.whole.as_ref().is_some_and(|whole| whole.serves(rows));
        // Where both do, libtorch's products are slower than ours.
        let layers = SIZES.iter().any(|(most, _)| rows <= *most);
        [(whole, Way::Whole), (layers, Way::Layers), (!layers, Way::Wide)]
            .into_iter()
            .filter_map(|(is, way)| is.then_some(way))
            .collect()
    }

    /// As [`super::Neox::pass_rows`], for 64 rows at most, of which at most 16 in a row are of the same sequence; `input` must stay where it is until the
    /// launches have run.
    ///
    /// # Errors
    /// When CUDA refuses a launch.
    pub(super) fn pass_rows(&self, kv: &mut KvMemory, input: &Tensor, way: Way) -> Result<Tensor, CudaError> {
        match (way, &self.whole) {
            (Way::Whole, Some(whole)) => whole.pass_rows(&self.config, &self.weights, kv, input),
            (Way::Wide, _) => {
                let normed = self.wide.pass(self, kv, input, &wide::Attention::OfRows)?;
                Ok(self.logits(&normed))
            }
            _ => self.pass_layers(kv, input),
        }
    }

    /// Runs prompts, whose attention is planned; `input` is as that of [`Self::pass_rows`]. Gives what the output matrix reads, bf16, `[rows, hidden_size]`.
    ///
    /// # Errors
    /// When CUDA refuses a launch.
    pub(super) fn pass_prompts(
        &self,
        kv: &mut KvMemory,
        input: &Tensor,
        plan: &AttentionPlan,
    ) -> Result<Tensor, CudaError> {
        self.wide.pass(self, kv, input, &wide::Attention::Planned(plan))
    }

    /// Without what rows that the output matrix has too many give ([`super::projection::Projection::padded`]).
    fn of_vocabulary(&self, logits: &Tensor) -> Tensor {
        logits.narrow(1, 0, self.config.vocab_size as i64)
    }

    /// Logits, f32, of what the output matrix reads, by libtorch's product.
    pub(super) fn logits(&self, normed: &Tensor) -> Tensor {
        let Linear { weight, bias } = &self.weights.embed_out;
        let logits = self.of_vocabulary(&normed.mm_dtype(&weight.tr(), Kind::Float));
        match bias {
            Some(bias) => logits + bias,
            None => logits,
        }
    }

    fn pass_layers(&self, kv: &mut KvMemory, input: &Tensor) -> Result<Tensor, CudaError> {
        let parallel = self.config.use_parallel_residual;
        let step = Step::new(self, input)?;
        let [normed, normed2] = step.normed();
        let mut begin = Begin::Embedding(&self.weights.embed_in);
        for (number, layer) in self.weights.layers.iter().enumerate() {
            let (first, second) = (&layer.input_norm, &layer.post_attention_norm);
            let (dense, up, down) = (&layer.dense, &layer.up, &layer.down);
            let next = self
                .weights
                .layers
                .get(number + 1)
                .map_or(&self.weights.embed_out, |layer| &layer.qkv);
            step.norms(&begin, first, parallel.then_some(second))?;
            if parallel {
                step.product(&layer.qkv, &step.qkv, Some(up))?;
                step.attend_and_up(Some((kv, number)), Some((up, normed2)), Some(down))?;
                step.add(Some(dense), Some(down), next)?;
            } else {
                step.product(&layer.qkv, &step.qkv, Some(dense))?;
                step.attend_and_up(Some((kv, number)), None, None)?;
                step.add(Some(dense), None, up)?;
                step.norms(&Begin::Added([dense.bias.as_ref(), None]), second, None)?;
                step.attend_and_up(None, Some((up, normed)), Some(down))?;
                step.add(None, Some(down), next)?;
            }
            let dense = dense.bias.as_ref().filter(|_| parallel);
            begin = Begin::Added([dense, down.bias.as_ref()]);
        }
        step.norms(&begin, &self.weights.final_norm, None)?;
        let out = &self.weights.embed_out;
        let logits = step.floats(out.weight.size()[0] as usize);
        step.product(out, &logits, None)?;
        Ok(self.of_vocabulary(&logits))
    }
}

/// Whether the kernels can be compiled for this shape.
fn fits(config: &NeoxConfig) -> bool {
    let (dim, context) = (config.head_dim(), config.max_position_embeddings);
    let groups = WARPS * 32 / (dim / 8).max(1);
    // Keys and values of the step's own rows, sums of groups and the query, a weight for each position.
    let attention = 2 * (2 * FRESH * dim) + 4 * (groups + 1) * dim + 4 * context;
    // Of a product's warps, in the same kernel.
    let sums = 4 * WARPS * 4 * 32;
    // What adding up over a block takes, and CUDA for itself.
    let rest = 1024 + 4 * 2 * 32;
    dim.is_multiple_of(8)
        && dim <= wide::LARGEST_HEAD
        && 2 * config.rotary_pairs() <= dim
        && config.hidden_size.is_multiple_of(32)
        && config.intermediate_size.is_multiple_of(32)
        && attention + sums + rest <= SHARED_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(hidden: usize, heads: usize, context: usize) -> NeoxConfig {
        let json = format!(
            r#"{{"vocab_size":100,"hidden_size":{hidden},"num_hidden_layers":1,"num_attention_heads":{heads},"intermediate_size":{},
                "max_position_embeddings":{context}}}"#,
            4 * hidden
        );
        NeoxConfig::from_json(json.as_bytes()).unwrap()
    }

    #[test]
    fn the_published_shape_and_the_demos_fit_and_what_the_kernels_cannot_hold_does_not() {
        assert!(fits(&shape(2560, 32, 2048)) && fits(&shape(384, 6, 512)));
        // Heads of 12 dimensions; a width that is no multiple of 32; scores of too many positions.
        assert!(!fits(&shape(384, 32, 512)));
        assert!(!fits(&shape(400, 5, 512)));
        assert!(!fits(&shape(2560, 32, 16_384)));
        // Heads of 256 and of 264 dimensions.
        assert!(fits(&shape(2816, 11, 512)) && !fits(&shape(2112, 8, 512)));
    }

    #[test]
    fn the_source_has_kernels_for_every_size() {
        for (rows, names) in SIZES {
            assert!(SOURCE.contains(&format!("OF_ROWS({rows}, {}, ", rows / 8)), "{rows}");
            let kinds = ["product_", "attend_and_up_", "add_"];
            assert_eq!(
                names.map(|name| name.to_str().unwrap()),
                kinds.map(|kind| format!("{kind}{rows}"))
            );
            assert!(kinds.iter().all(|kind| SOURCE.contains(&format!(" {kind}##NAME("))));
        }
    }
}
