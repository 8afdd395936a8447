//! The launches of a step's kernels.

use tch::{Device, Kind, Tensor};

use super::{BLOCKS, Fused, FusedNorm, NORM_THREADS, SIZES, WARPS};
use crate::model::cuda::{Argument, CudaError, Grid, Launch, Start};
use crate::model::neox::kv::KvMemory;
use crate::model::source::Linear;

/// A step under way: what its kernels hand on.
pub(super) struct Step<'a> {
    launch: Launch<'a>,
    fused: &'a Fused,
    device: Device,
    /// Of [`SIZES`].
    size: usize,
    rows: usize,
    /// Shares of the inputs of what is added to the residual stream.
    parts: usize,
    /// `[3, rows]`, i64, as [`Fused::pass_rows`] takes it.
    input: Argument,
    /// The residual stream, f32: `[rows, hidden_size]`.
    x: Tensor,
    /// What comes to it, f32: `[parts, rows, hidden_size]`.
    added: Tensor,
    /// bf16, `[rows, hidden_size]`: of a layer's two norms.
    pub(super) normed: [Tensor; 2],
    /// f32, `[rows, 3, heads, head_dim]`.
    pub(super) qkv: Tensor,
    /// bf16, `[rows, hidden_size]`.
    attended: Tensor,
    /// bf16, `[rows, intermediate_size]`.
    active: Tensor,
}

/// What the residual stream is made of before it is normed.
pub(super) enum Begin<'a> {
    /// The embedding of the step's tokens.
    Embedding(&'a Tensor),
    /// What it was and what was added, with these biases.
    Added([Option<&'a Tensor>; 2]),
}

/// Of [`SIZES`], the last whose kernels attend and multiply beside each other.
const BESIDE: usize = 1;

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

impl<'a> Step<'a> {
    /// Makes room for a step of `input`'s rows.
    ///
    /// # Errors
    /// When there are more rows than there is a kernel for, or libtorch cannot tell the stream.
    pub(super) fn new(fused: &'a Fused, input: &Tensor) -> Result<Self, CudaError> {
        let (rows, device) = (input.size()[1] as usize, input.device());
        let size = SIZES.iter().position(|(most, ..)| rows <= *most);
        let size = size.ok_or_else(|| CudaError::new("too many rows"))?;
        let (hidden, wide) = (fused.config.hidden_size, fused.config.intermediate_size);
        let parts = BLOCKS.div_ceil(hidden.div_ceil(SIZES[size].1)).min(8);
        let make = |width: usize, kind| Tensor::empty([rows as i64, width as i64], (kind, device));
        let [floats, halves] = [Kind::Float, Kind::BFloat16].map(|kind| move |width| make(width, kind));
        Ok(Self {
            launch: fused.program.launches()?,
            fused,
            device,
            size,
            rows,
            parts,
            input: at(input),
            x: floats(hidden),
            added: floats(parts * hidden),
            normed: [halves(hidden), halves(hidden)],
            qkv: floats(3 * hidden),
            attended: halves(hidden),
            active: halves(wide),
        })
    }

    /// Room for an f32 result, `[rows, width]`.
    pub(super) fn floats(&self, width: usize) -> Tensor {
        Tensor::empty([self.rows as i64, width as i64], (Kind::Float, self.device))
    }

    /// Norms the residual stream in one or two ways.
    pub(super) fn norms(
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
            start: match begin {
                // The first kernel of a step has none ahead of it.
                Begin::Embedding(_) => Start::After,
                Begin::Added(_) => Start::Early,
            },
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
            start: Start::Early,
        }
    }

    /// Blocks for a matrix.
    fn blocks(&self, linear: &Linear) -> usize {
        (linear.weight.size()[0] as usize).div_ceil(SIZES[self.size].1)
    }

    /// The product of what was normed first, f32.
    pub(super) fn product(&self, linear: &Linear, to: &Tensor, next: Option<&Linear>) -> Result<(), CudaError> {
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
    pub(super) fn attend_and_up(
        &self,
        attend: Option<(&mut KvMemory, usize)>,
        up: Option<(&Linear, &Tensor)>,
        next: Option<&Linear>,
    ) -> Result<(), CudaError> {
        // Kernels of many rows hold so many sums that a multiprocessor has room for one block of them, which is too few to attend: those of few rows do.
        if self.size > BESIDE && attend.is_some() && up.is_some() {
            self.attend_and_up_by(0, attend, None, None)?;
            return self.attend_and_up_by(self.size, None, up, next);
        }
        let size = if up.is_some() { self.size } else { 0 };
        self.attend_and_up_by(size, attend, up, next)
    }

    /// By the kernels of this size.
    fn attend_and_up_by(
        &self,
        size: usize,
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
        let [_, kernel, _] = self.fused.products[size];
        // SAFETY: what `attend_and_up` takes; starts and positions are inside the memory, and positions below the context.
        unsafe { self.launch.run(kernel, grid, &arguments) }
    }

    /// What the second halves of attention and MLP add to the residual stream.
    pub(super) fn add(&self, dense: Option<&Linear>, down: Option<&Linear>, next: &Linear) -> Result<(), CudaError> {
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
