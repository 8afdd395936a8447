//! A matrix of the network with its bias: as libtorch holds it, or quantised.

use std::sync::Arc;

use tch::{Kind, Tensor};

use crate::model::device::WeightsChoice;
use crate::model::kernels::{Format, Grouped, Kernels, PANEL, Shared, Team, WideMut};
use crate::model::source::Linear;

/// Weights widened at a time: few enough to stay in a cache, enough to keep libtorch's product busy.
const TILE: usize = 1 << 21;

/// `y = x·Wᵀ + b`.
pub(super) enum Projection {
    /// As the checkpoint has it, in the network's type.
    Native(Linear),
    /// In 8 or 4 bits, on a CPU.
    Quantised(Quantised),
}

/// A matrix in 8 or 4 bits.
pub(super) struct Quantised {
    weight: Arc<Grouped>,
    bias: Option<Tensor>,
    /// What products of many rows are computed in.
    kind: Kind,
}

impl Quantised {
    pub(super) fn weight(&self) -> &Arc<Grouped> {
        &self.weight
    }

    /// Rows `start..start + len` in the network's type, `[len, columns]`, written to the start of `space`. `start` begins a panel.
    fn widen(&self, team: &Team, space: &Tensor, start: usize, len: usize) -> Tensor {
        let (kernels, matrix) = (Kernels::best(), &*self.weight);
        let (columns, numbers) = (matrix.columns(), len * matrix.columns());
        // A panel's rows as (first number, numbers), from the tile's start.
        let rows = |panel: usize| (panel * PANEL * columns, PANEL.min(len - panel * PANEL) * columns);
        let tile = space.narrow(0, 0, len as i64);
        assert!(tile.is_contiguous() && tile.numel() == numbers && tile.kind() == self.kind);
        let panels = len.div_ceil(PANEL);
        let first = start / PANEL;
        // SAFETY: contiguous memory of so many numbers of this kind, which nobody else touches meanwhile; each panel is written once.
        unsafe {
            if self.kind == Kind::BFloat16 {
                let out = std::slice::from_raw_parts_mut(tile.data_ptr().cast::<u16>(), numbers);
                let out = Shared::new(out);
                each(team, panels, |panel| {
                    let (at, len) = rows(panel);
                    kernels.widen(matrix, first + panel, WideMut::Bf16(out.part_mut(at, len)));
                });
            } else {
                let out = std::slice::from_raw_parts_mut(tile.data_ptr().cast::<f32>(), numbers);
                let out = Shared::new(out);
                each(team, panels, |panel| {
                    let (at, len) = rows(panel);
                    kernels.widen(matrix, first + panel, WideMut::F32(out.part_mut(at, len)));
                });
            }
        }
        tile
    }

    /// Tile by tile: a second copy of all weights is never there.
    fn forward(&self, x: &Tensor) -> Tensor {
        let (rows, columns) = (self.weight.rows(), self.weight.columns());
        let step = (TILE / columns / PANEL * PANEL).clamp(PANEL, rows.next_multiple_of(PANEL));
        let team = Team::new(tch::get_num_threads().max(1) as usize);
        let space = Tensor::empty([step.min(rows) as i64, columns as i64], (self.kind, x.device()));
        let tile = |start: usize| {
            let len = step.min(rows - start);
            let bias = self.bias.as_ref().map(|bias| bias.narrow(0, start as i64, len as i64));
            x.linear(&self.widen(&team, &space, start, len), bias.as_ref())
        };
        let parts: Vec<Tensor> = (0..rows).step_by(step).map(tile).collect();
        Tensor::cat(&parts, 1)
    }
}

/// `work` for each of so many pieces, on all threads of the team.
fn each(team: &Team, pieces: usize, work: impl Fn(usize) + Sync) {
    team.run(|worker| {
        while let Some(pieces) = worker.take(pieces, 1) {
            pieces.for_each(&work);
        }
    });
}

/// How a matrix is held under a choice; `None` as it comes.
pub(super) fn format(choice: WeightsChoice) -> Option<Format> {
    match choice {
        WeightsChoice::Native => None,
        WeightsChoice::Int8 => Some(Format::Int8),
        WeightsChoice::Int4 => Some(Format::Int4),
    }
}

impl Projection {
    /// Holds `linear` in `format`, for a network that computes in `kind`; as it is, without one.
    pub(super) fn new(linear: Linear, format: Option<Format>, kind: Kind) -> Self {
        let Some(format) = format else {
            return Self::Native(linear);
        };
        let size = linear.weight.size();
        let (rows, columns) = (size[0] as usize, size[1] as usize);
        let mut weight = Grouped::new(format, rows, columns);
        let step = (TILE / columns.max(1) / PANEL * PANEL).max(PANEL);
        for start in (0..rows).step_by(step) {
            let some = linear.weight.narrow(0, start as i64, step.min(rows - start) as i64);
            weight.fill(Kernels::best(), start, &super::matrix::floats(&some));
        }
        Self::Quantised(Quantised {
            weight: Arc::new(weight),
            bias: linear.bias.map(|bias| bias.to_kind(kind)),
            kind,
        })
    }

    pub(super) fn bias(&self) -> Option<&Tensor> {
        match self {
            Self::Native(linear) => linear.bias.as_ref(),
            Self::Quantised(linear) => linear.bias.as_ref(),
        }
    }

    /// Bytes of the weights as they are held, bias included.
    pub(super) fn bytes(&self) -> usize {
        let bias = self.bias().map_or(0, bytes);
        bias + match self {
            Self::Native(linear) => bytes(&linear.weight),
            Self::Quantised(linear) => linear.weight.bytes(),
        }
    }

    /// `x`: `[n, columns]` → `[n, rows]`.
    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        match self {
            Self::Native(linear) => linear.forward(x),
            Self::Quantised(linear) => linear.forward(x),
        }
    }
}

fn bytes(tensor: &Tensor) -> usize {
    tensor.numel() * tensor.kind().elt_size_in_bytes()
}
