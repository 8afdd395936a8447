//! A step of few rows on a GPU by kernels of our own (`model/cuda/kernels.cu`), in bf16: five launches a layer at most, and the weights read once.
//! libtorch's way ([`super::Neox::pass_rows`]) launches some thirty.

use std::ffi::CString;

use tch::{Device, Kind, Tensor};

use super::NeoxConfig;
use super::config::Activation;
use super::kv::KvMemory;
use crate::model::cuda::{Argument, CudaError, Kernel, Launch, Program};
use crate::model::source::Linear;

const SOURCE: &str = include_str!("../cuda/kernels.cu");

/// Compute capability that has the instructions.
const OLDEST: [i32; 2] = [8, 0];

/// Rows that there are kernels for, outputs that a block of each makes, and their names.
const SIZES: [(usize, usize, [&std::ffi::CStr; 2]); 4] = [
    (8, 16, [c"widen_8", c"add_to_8"]),
    (16, 16, [c"widen_16", c"add_to_16"]),
    (32, 32, [c"widen_32", c"add_to_32"]),
    (64, 32, [c"widen_64", c"add_to_64"]),
];

/// As the source has them.
const NORM_THREADS: usize = 512;
const ATTEND_THREADS: usize = 256;
const FRESH: usize = 16;

/// Warps of a block of a product, and weight blocks that each has under way.
const WARPS: usize = 8;
const DEPTH: usize = 4;

/// Shared memory that a block has without asking for more.
const SHARED_BYTES: usize = 48 << 10;

/// The weights, bf16, as the network holds them.
pub(super) struct FusedWeights {
    pub(super) embed_in: Tensor,
    pub(super) layers: Vec<FusedLayer>,
    pub(super) final_norm: FusedNorm,
    pub(super) embed_out: Linear,
    /// f32, `[context, rotary_pairs]`.
    pub(super) cos: Tensor,
    pub(super) sin: Tensor,
}

/// A layer of [`FusedWeights`].
pub(super) struct FusedLayer {
    pub(super) input_norm: FusedNorm,
    pub(super) post_attention_norm: FusedNorm,
    /// Rows in the order `[3, heads, head_dim]`.
    pub(super) qkv: Linear,
    pub(super) dense: Linear,
    pub(super) up: Linear,
    pub(super) down: Linear,
}

/// Weight and bias of a norm.
pub(super) struct FusedNorm {
    pub(super) weight: Tensor,
    pub(super) bias: Tensor,
}

/// The kernels of one model.
pub(super) struct Fused {
    config: NeoxConfig,
    weights: FusedWeights,
    norms: Kernel,
    attend: Kernel,
    /// By [`SIZES`].
    products: Vec<[Kernel; 2]>,
    // Last: the kernels are of it.
    program: Program,
}

impl Fused {
    /// Compiles the kernels for a model of this shape, whose weights are on the GPU `device`.
    ///
    /// # Errors
    /// With the reason, when the shape, the type or the machine is not one the kernels are for.
    pub(super) fn new(config: &NeoxConfig, weights: FusedWeights, device: usize) -> Result<Self, CudaError> {
        if !fits(config) || !weights.all().iter().all(|tensor| usable(tensor, device)) {
            return Err(CudaError::new("the model's shape or type is none the kernels are made for"));
        }
        let activation = match config.hidden_act {
            Activation::Gelu => 0,
            Activation::GeluTanh => 1,
            Activation::Relu => 2,
        };
        let macros = [
            format!("HIDDEN={}", config.hidden_size),
            format!("DIM={}", config.head_dim()),
            format!("HALF={}", config.rotary_pairs()),
            format!("ACTIVATION={activation}"),
            format!("EPS={:e}f", config.layer_norm_eps),
            format!("WARPS={WARPS}"),
            format!("DEPTH={DEPTH}"),
        ];
        let source = CString::new(SOURCE).map_err(|error| CudaError::new(error.to_string()))?;
        let program = Program::compile(device, &source, &macros, OLDEST)?;
        let products = SIZES.iter().map(|(.., names)| Ok([program.kernel(names[0])?, program.kernel(names[1])?]));
        Ok(Self {
            config: config.clone(),
            weights,
            norms: program.kernel(c"norms")?,
            attend: program.kernel(c"attend")?,
            products: products.collect::<Result<_, CudaError>>()?,
            program,
        })
    }

    /// As [`super::Neox::pass_rows`], for 64 rows at most, of which at most 16 in a row are of the same sequence; `input` must stay where it is until the
    /// launches have run.
    ///
    /// # Errors
    /// When CUDA refuses a launch.
    pub(super) fn pass_rows(&self, kv: &mut KvMemory, input: &Tensor) -> Result<Tensor, CudaError> {
        let rows = input.size()[1] as usize;
        let size = SIZES.iter().position(|(most, ..)| rows <= *most);
        let size = size.ok_or_else(|| CudaError::new("too many rows"))?;
        let (hidden, wide) = (self.config.hidden_size, self.config.intermediate_size);
        let make = |width: usize, kind| Tensor::empty([rows as i64, width as i64], (kind, input.device()));
        let half = |width| make(width, Kind::BFloat16);
        let float = |width| make(width, Kind::Float);
        let step = Step {
            launch: self.program.launches()?,
            fused: self,
            size,
            rows,
            input: Argument::from(input.data_ptr()),
            x: float(hidden),
            normed: [half(hidden), half(hidden)],
            qkv: float(3 * hidden),
            attended: half(hidden),
            active: half(wide),
        };
        let [normed, normed2] = &step.normed;
        for (number, layer) in self.weights.layers.iter().enumerate() {
            let embed = (number == 0).then_some(&self.weights.embed_in);
            if self.config.use_parallel_residual {
                step.norms(embed, (&layer.input_norm, normed), Some((&layer.post_attention_norm, normed2)))?;
                step.widen(Some((&layer.qkv, normed, &step.qkv)), Some((&layer.up, normed2, &step.active)))?;
                step.attend(kv, number)?;
                step.add(Some((&layer.dense, &step.attended)), Some((&layer.down, &step.active)))?;
            } else {
                step.norms(embed, (&layer.input_norm, normed), None)?;
                step.widen(Some((&layer.qkv, normed, &step.qkv)), None)?;
                step.attend(kv, number)?;
                step.add(Some((&layer.dense, &step.attended)), None)?;
                step.norms(None, (&layer.post_attention_norm, normed), None)?;
                step.widen(None, Some((&layer.up, normed, &step.active)))?;
                step.add(None, Some((&layer.down, &step.active)))?;
            }
        }
        step.norms(None, (&self.weights.final_norm, normed), None)?;
        let logits = float(self.config.vocab_size);
        step.widen(Some((&self.weights.embed_out, normed, &logits)), None)?;
        Ok(logits)
    }
}

impl FusedWeights {
    fn all(&self) -> Vec<&Tensor> {
        let mut all = vec![&self.embed_in, &self.embed_out.weight, &self.final_norm.weight, &self.final_norm.bias];
        for layer in &self.layers {
            for linear in [&layer.qkv, &layer.dense, &layer.up, &layer.down] {
                all.push(&linear.weight);
                all.extend(&linear.bias);
            }
            for norm in [&layer.input_norm, &layer.post_attention_norm] {
                all.extend([&norm.weight, &norm.bias]);
            }
        }
        all
    }
}

/// Whether the kernels can be compiled for this shape.
fn fits(config: &NeoxConfig) -> bool {
    let (dim, context) = (config.head_dim(), config.max_position_embeddings);
    let attention = 2 * (2 * FRESH * dim) + 4 * (ATTEND_THREADS / (dim / 8).max(1) + 1) * dim + 256 + 4 * context;
    dim.is_multiple_of(8)
        && dim <= ATTEND_THREADS
        && 2 * config.rotary_pairs() <= dim
        && config.hidden_size.is_multiple_of(32)
        && config.intermediate_size.is_multiple_of(32)
        && attention <= SHARED_BYTES
}

fn usable(tensor: &Tensor, device: usize) -> bool {
    // Read in pieces of 16 bytes.
    let aligned = (tensor.data_ptr() as usize).is_multiple_of(16);
    tensor.kind() == Kind::BFloat16 && tensor.device() == Device::Cuda(device) && tensor.is_contiguous() && aligned
}

/// A step under way: what its kernels hand on.
struct Step<'a> {
    launch: Launch<'a>,
    fused: &'a Fused,
    /// Of [`SIZES`].
    size: usize,
    rows: usize,
    input: Argument,
    /// The residual stream, f32.
    x: Tensor,
    /// bf16.
    normed: [Tensor; 2],
    /// f32.
    qkv: Tensor,
    /// bf16.
    attended: Tensor,
    /// bf16.
    active: Tensor,
}

/// A matrix, what it multiplies, and where the product goes.
type Product<'a> = (&'a Linear, &'a Tensor, &'a Tensor);

fn at(tensor: &Tensor) -> Argument {
    Argument::from(tensor.data_ptr())
}

fn at_or_null(tensor: Option<&Tensor>) -> Argument {
    tensor.map_or(Argument::from(std::ptr::null_mut::<u8>()), at)
}

fn bias(linear: Option<&Linear>) -> Argument {
    at_or_null(linear.and_then(|linear| linear.bias.as_ref()))
}

fn number(value: usize) -> Argument {
    Argument::from(value as i64)
}

impl Step<'_> {
    /// Of the residual stream, which begins with the embedding of the step's tokens where one is given.
    fn norms(&self, embed: Option<&Tensor>, first: (&FusedNorm, &Tensor), second: Option<(&FusedNorm, &Tensor)>) -> Result<(), CudaError> {
        let ids = if embed.is_some() { self.input } else { at_or_null(None) };
        let arguments = [
            at(&self.x),
            ids,
            at_or_null(embed),
            at(&first.0.weight),
            at(&first.0.bias),
            at(first.1),
            at_or_null(second.map(|(norm, _)| &norm.weight)),
            at_or_null(second.map(|(norm, _)| &norm.bias)),
            at_or_null(second.map(|(_, to)| to)),
        ];
        // The first kernel of a step has none ahead of it.
        let early = embed.is_none();
        // SAFETY: what `norms` takes; every row has a place in each of them, and ids are inside the vocabulary.
        unsafe { self.launch.run(self.fused.norms, [self.rows, 1], NORM_THREADS, 0, early, &arguments) }
    }

    /// `qkv`'s product, f32, and `up`'s, activated, bf16.
    fn widen(&self, qkv: Option<Product<'_>>, up: Option<Product<'_>>) -> Result<(), CudaError> {
        let (_, outputs, _) = SIZES[self.size];
        let (mut arguments, mut blocks) = (Vec::with_capacity(11), 0);
        for product in [qkv, up] {
            let count = product.map_or(0, |(linear, ..)| linear.weight.size()[0] as usize);
            blocks += count.div_ceil(outputs);
            arguments.extend([
                at_or_null(product.map(|(linear, ..)| &linear.weight)),
                at_or_null(product.map(|(_, x, _)| x)),
                bias(product.map(|(linear, ..)| linear)),
                at_or_null(product.map(|(.., to)| to)),
                number(count),
            ]);
        }
        arguments.push(number(self.rows));
        let [kernel, _] = self.fused.products[self.size];
        // SAFETY: what `widen` takes; inputs are `hidden_size` wide, and every row has a place in what is written.
        unsafe { self.launch.run(kernel, [blocks, 1], WARPS * 32, 0, true, &arguments) }
    }

    /// Adds the products to the residual stream.
    fn add(&self, dense: Option<(&Linear, &Tensor)>, down: Option<(&Linear, &Tensor)>) -> Result<(), CudaError> {
        let (_, outputs, _) = SIZES[self.size];
        let mut arguments = Vec::with_capacity(10);
        for product in [dense, down] {
            arguments.extend([
                at_or_null(product.map(|(linear, _)| &linear.weight)),
                at_or_null(product.map(|(_, x)| x)),
                bias(product.map(|(linear, _)| linear)),
                number(product.map_or(0, |(linear, _)| linear.weight.size()[1] as usize)),
            ]);
        }
        arguments.extend([at(&self.x), number(self.rows)]);
        let blocks = self.fused.config.hidden_size.div_ceil(outputs);
        let [_, kernel] = self.fused.products[self.size];
        // SAFETY: what `add_to` takes; each input is as wide as its matrix, and the stream has all rows.
        unsafe { self.launch.run(kernel, [blocks, 1], WARPS * 32, 0, true, &arguments) }
    }

    /// Writes the step's keys and values to `kv`, and attends.
    fn attend(&self, kv: &mut KvMemory, layer: usize) -> Result<(), CudaError> {
        let config = &self.fused.config;
        let (keys, values, tokens) = kv.place(layer);
        let arguments = [
            at(&self.qkv),
            at(&self.fused.weights.cos),
            at(&self.fused.weights.sin),
            self.input,
            Argument::from(keys),
            Argument::from(values),
            at(&self.attended),
            number(self.rows),
            number(tokens),
        ];
        let grid = [config.num_attention_heads, self.rows];
        let shared = config.max_position_embeddings * size_of::<f32>();
        // SAFETY: what `attend` takes; starts and positions are inside the memory, and positions below the context.
        unsafe { self.launch.run(self.fused.attend, grid, ATTEND_THREADS, shared, true, &arguments) }
    }
}
