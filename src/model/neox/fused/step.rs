//! The launches of a step's kernels.

use tch::{Kind, Tensor};

use super::residual::{Begin, Residual, at, at_or_null, number};
use super::{BLOCKS, Fused, FusedNorm, OUTPUTS, SIZES, WARPS};
use crate::model::cuda::{Argument, CudaError, Grid, Launch, Start};
use crate::model::neox::kv::KvMemory;
use crate::model::source::Linear;

/// A step under way: what its kernels hand on.
pub(super) struct Step<'a> {
    launch: Launch<'a>,
    fused: &'a Fused,
    /// Of [`SIZES`].
    size: usize,
    residual: Residual,
    /// f32, `[rows, 3, heads, head_dim]`.
    pub(super) qkv: Tensor,
    /// bf16, `[rows, hidden_size]`.
    attended: Tensor,
    /// bf16, `[rows, intermediate_size]`.
    active: Tensor,
}

/// The weights of the kernel that comes next, and their bytes.
fn ahead(next: Option<&Linear>) -> [Argument; 2] {
    let bytes = |weight: &Tensor| weight.numel() * weight.kind().elt_size_in_bytes();
    let weight = next.map(|linear| &linear.weight);
    [at_or_null(weight), number(weight.map_or(0, bytes))]
}

impl<'a> Step<'a> {
    /// Makes room for a step of `input`'s rows.
    ///
    /// # Errors
    /// When there are more rows than there is a kernel for, or libtorch cannot tell the stream.
    pub(super) fn new(fused: &'a Fused, input: &Tensor) -> Result<Self, CudaError> {
        let rows = input.size()[1] as usize;
        let size = SIZES.iter().position(|(most, _)| rows <= *most);
        let size = size.ok_or_else(|| CudaError::new("too many rows"))?;
        let (hidden, wide) = (fused.config.hidden_size, fused.config.intermediate_size);
        // Shares of the inputs of what is added to the residual stream.
        let parts = BLOCKS.div_ceil(hidden.div_ceil(OUTPUTS)).min(8);
        let residual = Residual::new(input, hidden, parts);
        Ok(Self {
            launch: fused.program.launches()?,
            fused,
            size,
            qkv: residual.room(3 * hidden, Kind::Float),
            attended: residual.room(hidden, Kind::BFloat16),
            active: residual.room(wide, Kind::BFloat16),
            residual,
        })
    }

    /// Room for an f32 result, `[rows, width]`.
    pub(super) fn floats(&self, width: usize) -> Tensor {
        self.residual.room(width, Kind::Float)
    }

    /// What was normed last, `[rows, hidden_size]`, bf16.
    pub(super) fn normed(&self) -> &[Tensor; 2] {
        &self.residual.normed
    }

    /// Norms the residual stream in one or two ways.
    pub(super) fn norms(
        &self,
        begin: &Begin<'_>,
        first: &FusedNorm,
        second: Option<&FusedNorm>,
    ) -> Result<(), CudaError> {
        let kernel = (&self.launch, self.fused.norms);
        self.residual.norms(kernel, begin, first, second, true)
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
        (linear.weight.size()[0] as usize).div_ceil(OUTPUTS)
    }

    /// The product of what was normed first, f32.
    pub(super) fn product(&self, linear: &Linear, to: &Tensor, next: Option<&Linear>) -> Result<(), CudaError> {
        let [weights_ahead, bytes_ahead] = ahead(next);
        let arguments = [
            at(&linear.weight),
            at(&self.residual.normed[0]),
            at_or_null(linear.bias.as_ref()),
            at(to),
            number(linear.weight.size()[0] as usize),
            number(self.residual.rows()),
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
        let (config, weights) = (&self.fused.config, &self.fused.weights);
        let attending = if attend.is_some() {
            config.num_attention_heads * self.residual.rows()
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
            self.residual.input(),
            keys.into(),
            values.into(),
            at(&self.attended),
            number(tokens),
            at_or_null(linear.map(|linear| &linear.weight)),
            at_or_null(up.map(|(_, x)| x)),
            at_or_null(linear.and_then(|linear| linear.bias.as_ref())),
            at(&self.active),
            number(linear.map_or(0, |linear| linear.weight.size()[0] as usize)),
            number(self.residual.rows()),
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
    pub(super) fn add(&self, dense: Option<&Linear>, down: Option<&Linear>, next: &Linear) -> Result<(), CudaError> {
        let mut arguments = Vec::with_capacity(10);
        for (linear, x) in [(dense, &self.attended), (down, &self.active)] {
            let inputs = linear.map_or(0, |linear| linear.weight.size()[1] as usize);
            arguments.extend([at_or_null(linear.map(|linear| &linear.weight)), at(x), number(inputs)]);
        }
        arguments.extend([at(&self.residual.added), number(self.residual.rows())]);
        arguments.extend(ahead(Some(next)));
        let grid = Grid {
            parts: self.residual.parts(),
            ..self.grid(self.fused.config.hidden_size.div_ceil(OUTPUTS))
        };
        let [.., kernel] = self.fused.products[self.size];
        // SAFETY: what `add` takes; each input is as wide as its matrix, and every part has all rows.
        unsafe { self.launch.run(kernel, grid, &arguments) }
    }
}
