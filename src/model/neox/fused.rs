//! A step of few rows on a GPU by kernels of our own (`model/cuda/kernels.cu`), in bf16: four launches a layer, and the weights read once.
//! libtorch's way ([`super::Neox::pass_rows`]) launches some thirty.

use std::ffi::{CStr, CString};

use tch::{Device, Kind, Tensor};

use super::NeoxConfig;
use super::config::Activation;
use super::kv::KvMemory;
use crate::model::cuda::{Argument, CudaError, Grid, Kernel, Launch, Program};
use crate::model::source::Linear;

const SOURCE: &str = include_str!("../cuda/kernels.cu");

/// Compute capability that has the instructions.
const OLDEST: [i32; 2] = [8, 0];

/// Rows that there are kernels for, outputs that a block of each makes, and their names.
const SIZES: [(usize, usize, [&CStr; 3]); 4] = [
    (8, 16, [c"product_8", c"attend_and_up_8", c"add_8"]),
    (16, 16, [c"product_16", c"attend_and_up_16", c"add_16"]),
    (32, 32, [c"product_32", c"attend_and_up_32", c"add_32"]),
    (64, 32, [c"product_64", c"attend_and_up_64", c"add_64"]),
];

/// Threads of a block that norms a row.
const NORM_THREADS: usize = 512;

/// Most rows of one sequence in a step.
const FRESH: usize = 16;

/// Warps of a block of a product, and blocks of weights that each has under way. These, [`CHUNK`] and [`BLOCKS`] were the fastest of those tried on an
/// H200 (docs/performance.md).
const WARPS: usize = 16;
const DEPTH: usize = 2;

/// Bytes of the next kernel's weights that each block of a product brings into the cache.
const CHUNK: usize = 32 << 10;

/// Blocks that what is added to the residual stream is spread over, at least.
const BLOCKS: usize = 640;

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
    /// By [`SIZES`].
    products: Vec<[Kernel; 3]>,
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
            return Err(CudaError::new(
                "the model's shape or type is none the kernels are made for",
            ));
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
            format!("CHUNK={CHUNK}"),
            format!("NORM_THREADS={NORM_THREADS}"),
            format!("FRESH={FRESH}"),
        ];
        let source = CString::new(SOURCE).map_err(|error| CudaError::new(error.to_string()))?;
        let program = Program::compile(device, &source, &macros, OLDEST)?;
        let of_size = |names: [&CStr; 3]| -> Result<[Kernel; 3], CudaError> {
            let [product, attend_and_up, add] = names.map(|name| program.kernel(name));
            Ok([product?, attend_and_up?, add?])
        };
        let products = SIZES.iter().map(|&(.., names)| of_size(names));
        Ok(Self {
            config: config.clone(),
            weights,
            norms: program.kernel(c"norms")?,
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
        let (outputs, parallel) = (SIZES[size].1, self.config.use_parallel_residual);
        let parts = BLOCKS.div_ceil(hidden.div_ceil(outputs)).min(8);
        let step = Step {
            launch: self.program.launches()?,
            fused: self,
            size,
            rows,
            parts,
            input: Argument::from(input.data_ptr()),
            x: float(hidden),
            added: float(parts * hidden),
            normed: [half(hidden), half(hidden)],
            qkv: float(3 * hidden),
            attended: half(hidden),
            active: half(wide),
        };
        let [normed, normed2] = &step.normed;
        let mut begin = Begin::Embedding(&self.weights.embed_in);
        for (number, layer) in self.weights.layers.iter().enumerate() {
            let (first, second) = (&layer.input_norm, &layer.post_attention_norm);
            let (dense, up, down) = (&layer.dense, &layer.up, &layer.down);
            let next = self
                .weights
                .layers
                .get(number + 1)
                .map_or(&self.weights.embed_out, |layer| &layer.qkv);
            step.norms(&begin, (first, normed), parallel.then_some((second, normed2)))?;
            if parallel {
                step.product(&layer.qkv, &step.qkv, Some(up))?;
                step.attend_and_up(Some((kv, number)), Some((up, normed2)), Some(down))?;
                step.add(Some(dense), Some(down), next)?;
            } else {
                step.product(&layer.qkv, &step.qkv, Some(dense))?;
                step.attend_and_up(Some((kv, number)), None, None)?;
                step.add(Some(dense), None, up)?;
                step.norms(&Begin::Added([dense.bias.as_ref(), None]), (second, normed), None)?;
                step.attend_and_up(None, Some((up, normed)), Some(down))?;
                step.add(None, Some(down), next)?;
            }
            let dense = dense.bias.as_ref().filter(|_| parallel);
            begin = Begin::Added([dense, down.bias.as_ref()]);
        }
        step.norms(&begin, (&self.weights.final_norm, normed), None)?;
        let logits = float(self.config.vocab_size);
        step.product(&self.weights.embed_out, &logits, None)?;
        Ok(logits)
    }
}

impl FusedWeights {
    fn all(&self) -> Vec<&Tensor> {
        let mut all = vec![
            &self.embed_in,
            &self.embed_out.weight,
            &self.final_norm.weight,
            &self.final_norm.bias,
        ];
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
    let groups = WARPS * 32 / (dim / 8).max(1);
    let attention = 2 * (2 * FRESH * dim) + 4 * (groups + 1) * dim + 4 * context;
    let sums = 4 * WARPS * 4 * 32;
    dim.is_multiple_of(8)
        && dim <= WARPS * 32
        && 2 * config.rotary_pairs() <= dim
        && config.hidden_size.is_multiple_of(32)
        && config.intermediate_size.is_multiple_of(32)
        && attention + sums + 1024 <= SHARED_BYTES
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
    /// Shares of the inputs of what is added to the residual stream.
    parts: usize,
    input: Argument,
    /// The residual stream, f32.
    x: Tensor,
    /// What comes to it, f32: `[parts, rows, hidden_size]`.
    added: Tensor,
    /// bf16.
    normed: [Tensor; 2],
    /// f32.
    qkv: Tensor,
    /// bf16.
    attended: Tensor,
    /// bf16.
    active: Tensor,
}

/// What the residual stream is made of before it is normed.
enum Begin<'a> {
    /// The embedding of the step's tokens.
    Embedding(&'a Tensor),
    /// What it was and what was added, with these biases.
    Added([Option<&'a Tensor>; 2]),
}

fn at(tensor: &Tensor) -> Argument {
    Argument::from(tensor.data_ptr())
}

fn at_or_null(tensor: Option<&Tensor>) -> Argument {
    tensor.map_or(Argument::from(std::ptr::null_mut::<u8>()), at)
}

/// The weights of the kernel that comes next, and their bytes.
fn ahead(next: Option<&Linear>) -> [Argument; 2] {
    let bytes = |weight: &Tensor| weight.numel() * weight.kind().elt_size_in_bytes();
    let weight = next.map(|linear| &linear.weight);
    [at_or_null(weight), number(weight.map_or(0, bytes))]
}

fn number(value: usize) -> Argument {
    Argument::from(value as i64)
}

impl Step<'_> {
    /// Norms the residual stream in one or two ways.
    fn norms(
        &self,
        begin: &Begin<'_>,
        first: (&FusedNorm, &Tensor),
        second: Option<(&FusedNorm, &Tensor)>,
    ) -> Result<(), CudaError> {
        let null = at_or_null(None);
        let (ids, embedding, biases) = match begin {
            Begin::Embedding(matrix) => (self.input, at(matrix), [null; 2]),
            Begin::Added(biases) => (null, null, biases.map(at_or_null)),
        };
        let arguments = [
            at(&self.x),
            ids,
            embedding,
            at(&self.added),
            number(self.parts),
            biases[0],
            biases[1],
            at(&first.0.weight),
            at(&first.0.bias),
            at(first.1),
            at_or_null(second.map(|(norm, _)| &norm.weight)),
            at_or_null(second.map(|(norm, _)| &norm.bias)),
            at_or_null(second.map(|(_, to)| to)),
        ];
        let grid = Grid {
            blocks: self.rows,
            parts: 1,
            threads: NORM_THREADS,
            shared_bytes: 0,
            // The first kernel of a step has none ahead of it.
            early: matches!(begin, Begin::Added(_)),
        };
        // SAFETY: what `norms` takes; every row has a place in each of them, and ids are inside the vocabulary.
        unsafe { self.launch.run(self.fused.norms, grid, &arguments) }
    }

    /// The grid of one of the products' kernels.
    fn grid(&self, blocks: usize) -> Grid {
        Grid {
            blocks,
            parts: 1,
            threads: WARPS * 32,
            shared_bytes: 0,
            early: true,
        }
    }

    /// Blocks for a matrix.
    fn blocks(&self, linear: &Linear) -> usize {
        (linear.weight.size()[0] as usize).div_ceil(SIZES[self.size].1)
    }

    /// The product of what was normed first, f32.
    fn product(&self, linear: &Linear, to: &Tensor, next: Option<&Linear>) -> Result<(), CudaError> {
        let [weights_ahead, bytes_ahead] = ahead(next);
        let arguments = [
            at(&linear.weight),
            at(&self.normed[0]),
            at_or_null(linear.bias.as_ref()),
            at(to),
            number(linear.weight.size()[0] as usize),
            number(self.rows),
            weights_ahead,
            bytes_ahead,
        ];
        let [kernel, ..] = self.fused.products[self.size];
        // SAFETY: what `product` takes; inputs are `hidden_size` wide, and every row has a place in what is written.
        unsafe { self.launch.run(kernel, self.grid(self.blocks(linear)), &arguments) }
    }

    /// Attention in a layer, which writes the step's keys and values to the memory, and beside it the MLP's first half over what was normed.
    fn attend_and_up(
        &self,
        attend: Option<(&mut KvMemory, usize)>,
        up: Option<(&Linear, &Tensor)>,
        next: Option<&Linear>,
    ) -> Result<(), CudaError> {
        let (config, weights) = (&self.fused.config, &self.fused.weights);
        let attending = if attend.is_some() {
            config.num_attention_heads * self.rows
        } else {
            0
        };
        let (keys, values, tokens) = match attend {
            Some((kv, layer)) => kv.place(layer),
            None => (std::ptr::null_mut(), std::ptr::null_mut(), 0),
        };
        let linear = up.map(|(linear, _)| linear);
        let [weights_ahead, bytes_ahead] = ahead(next);
        let arguments = [
            number(attending),
            at(&self.qkv),
            at(&weights.cos),
            at(&weights.sin),
            self.input,
            Argument::from(keys),
            Argument::from(values),
            at(&self.attended),
            number(tokens),
            at_or_null(linear.map(|linear| &linear.weight)),
            at_or_null(up.map(|(_, x)| x)),
            at_or_null(linear.and_then(|linear| linear.bias.as_ref())),
            at(&self.active),
            number(linear.map_or(0, |linear| linear.weight.size()[0] as usize)),
            number(self.rows),
            weights_ahead,
            bytes_ahead,
        ];
        let blocks = attending + linear.map_or(0, |linear| self.blocks(linear));
        let grid = Grid {
            shared_bytes: config.max_position_embeddings * size_of::<f32>(),
            ..self.grid(blocks)
        };
        let [_, kernel, _] = self.fused.products[self.size];
        // SAFETY: what `attend_and_up` takes; starts and positions are inside the memory, and positions below the context.
        unsafe { self.launch.run(kernel, grid, &arguments) }
    }

    /// What the second halves of attention and MLP add to the residual stream.
    fn add(&self, dense: Option<&Linear>, down: Option<&Linear>, next: &Linear) -> Result<(), CudaError> {
        let mut arguments = Vec::with_capacity(10);
        for (linear, x) in [(dense, &self.attended), (down, &self.active)] {
            let inputs = linear.map_or(0, |linear| linear.weight.size()[1] as usize);
            arguments.extend([at_or_null(linear.map(|linear| &linear.weight)), at(x), number(inputs)]);
        }
        arguments.extend([at(&self.added), number(self.rows)]);
        arguments.extend(ahead(Some(next)));
        let grid = Grid {
            parts: self.parts,
            ..self.grid(self.fused.config.hidden_size.div_ceil(SIZES[self.size].1))
        };
        let [.., kernel] = self.fused.products[self.size];
        // SAFETY: what `add` takes; each input is as wide as its matrix, and every part has all rows.
        unsafe { self.launch.run(kernel, grid, &arguments) }
    }
}
