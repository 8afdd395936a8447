//! The residual stream of a pass, and the kernel that adds to it and norms it.

use tch::{Device, Kind, Tensor};

use super::{FusedNorm, NORM_THREADS};
use crate::model::cuda::{Argument, CudaError, Grid, Kernel, Launch, Start};

/// The stream, and what was made of it.
pub(super) struct Residual {
    rows: usize,
    device: Device,
    /// `[3, rows]`, i64, as [`super::Fused::pass_rows`] takes it.
    input: Argument,
    /// The stream, f32: `[rows, hidden_size]`.
    x: Tensor,
    /// Parts of what comes to it.
    parts: usize,
    /// What comes to it, f32: `[parts, rows, hidden_size]`.
    pub(super) added: Tensor,
    /// bf16, `[rows, hidden_size]`: of a layer's two norms.
    pub(super) normed: [Tensor; 2],
}

/// What the residual stream is made of before it is normed.
pub(super) enum Begin<'a> {
    /// The embedding of the tokens.
    Embedding(&'a Tensor),
    /// What it was and what was added, with these biases.
    Added([Option<&'a Tensor>; 2]),
}

pub(super) fn at(tensor: &Tensor) -> Argument {
    Argument::from(tensor.data_ptr())
}

pub(super) fn at_or_null(tensor: Option<&Tensor>) -> Argument {
    tensor.map_or(Argument::from(std::ptr::null_mut::<u8>()), at)
}

pub(super) fn number(value: usize) -> Argument {
    Argument::from(value as i64)
}

impl Residual {
    /// Makes room for the rows of `input`, to which something comes in so many parts.
    pub(super) fn new(input: &Tensor, hidden: usize, parts: usize) -> Self {
        let (rows, device) = (input.size()[1] as usize, input.device());
        let make = |width: usize, kind| Tensor::empty([rows as i64, width as i64], (kind, device));
        Self {
            rows,
            device,
            input: at(input),
            x: make(hidden, Kind::Float),
            parts,
            added: make(parts * hidden, Kind::Float).view([parts as i64, rows as i64, hidden as i64]),
            normed: [(); 2].map(|()| make(hidden, Kind::BFloat16)),
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn parts(&self) -> usize {
        self.parts
    }

    pub(super) fn input(&self) -> Argument {
        self.input
    }

    /// Room for `[rows, width]` on the same device.
    pub(super) fn room(&self, width: usize, kind: Kind) -> Tensor {
        Tensor::empty([self.rows as i64, width as i64], (kind, self.device))
    }

    /// Norms the stream in one or two ways; `early`: the kernel before it is one of ours, and lets it start before it has ended.
    pub(super) fn norms(
        &self,
        (launch, kernel): (&Launch<'_>, Kernel),
        begin: &Begin<'_>,
        first: &FusedNorm,
        second: Option<&FusedNorm>,
        early: bool,
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
            at(&first.weight),
            at(&first.bias),
            at(&self.normed[0]),
            at_or_null(second.map(|norm| &norm.weight)),
            at_or_null(second.map(|norm| &norm.bias)),
            at_or_null(second.map(|_| &self.normed[1])),
        ];
        let grid = Grid {
            blocks: self.rows,
            parts: 1,
            threads: NORM_THREADS,
            shared_bytes: 0,
            start: match begin {
                Begin::Added(_) if early => Start::Early,
                // The first kernel of a step has none ahead of it.
                _ => Start::After,
            },
        };
        // SAFETY: what `norms` takes; every row has a place in each of them, and ids are inside the vocabulary.
        unsafe { launch.run(kernel, grid, &arguments) }
    }
}
