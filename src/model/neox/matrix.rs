//! A matrix's memory on a CPU, for kernels: it is held, not copied.

use tch::{Device, Kind, Tensor};

use super::projection::{Held, Projection};
use crate::model::kernels::{Cells, Inputs, Kernels};
use crate::model::source::floats;

/// The memory of a matrix `[rows, columns]` in f32 or bf16 that libtorch holds.
pub(super) struct Plain {
    /// Keeps the memory.
    _weight: Tensor,
    data: *const std::ffi::c_void,
    kind: Kind,
    rows: usize,
    columns: usize,
}

// SAFETY: the address points into the tensor, which may be sent, and moves with it.
unsafe impl Send for Plain {}
// SAFETY: weights are never written once they are loaded, and the tensor itself is not touched through a shared reference.
unsafe impl Sync for Plain {}

impl Plain {
    /// The memory of `weight`; `None` unless it is a contiguous matrix of f32 or bf16 on a CPU.
    pub(super) fn new(weight: &Tensor) -> Option<Self> {
        let kind = weight.kind();
        let (rows, columns) = weight.size2().ok()?;
        let usable =
            weight.device() == Device::Cpu && weight.is_contiguous() && matches!(kind, Kind::Float | Kind::BFloat16);
        usable.then(|| Self {
            data: weight.data_ptr(),
            _weight: weight.shallow_clone(),
            kind,
            rows: rows as usize,
            columns: columns as usize,
        })
    }

    pub(super) fn cells(&self) -> Cells<'_> {
        let len = self.rows * self.columns;
        // SAFETY: a contiguous tensor of this kind and size, which is held and never written.
        unsafe {
            match self.kind {
                Kind::BFloat16 => Cells::Bf16(std::slice::from_raw_parts(self.data.cast(), len)),
                _ => Cells::F32(std::slice::from_raw_parts(self.data.cast(), len)),
            }
        }
    }

    /// Row `row` in f32.
    pub(super) fn row(&self, row: usize, out: &mut [f32]) {
        self.cells().part(row * self.columns, self.columns).widen(out);
    }
}

/// A matrix with its bias, as kernels take it.
pub(super) struct Matrix {
    weights: Weights,
    /// Empty where there is none.
    bias: Vec<f32>,
}

enum Weights {
    Plain(Plain),
    Panels(Held),
}

impl Matrix {
    /// The memory of a projection; `None` where kernels cannot read it.
    pub(super) fn of(projection: &Projection) -> Option<Self> {
        let weights = match projection {
            Projection::Native(linear) => Weights::Plain(Plain::new(&linear.weight)?),
            Projection::Panels(panels) => Weights::Panels(panels.weight().clone()),
        };
        Some(Self {
            weights,
            bias: projection.bias().map(floats).unwrap_or_default(),
        })
    }

    /// Whether kernels may read it however many rows of inputs there are ([`Kernels::takes_prompts`]).
    pub(super) fn is_in_panels(&self) -> bool {
        matches!(self.weights, Weights::Panels(_))
    }

    pub(super) fn rows(&self) -> usize {
        match &self.weights {
            Weights::Plain(plain) => plain.rows,
            Weights::Panels(panels) => panels.rows(),
        }
    }

    /// The biases of rows `start..start + len`; empty where there are none.
    pub(super) fn bias(&self, start: usize, len: usize) -> &[f32] {
        match &self.bias[..] {
            [] => &[],
            bias => &bias[start..start + len],
        }
    }

    /// Rows `start..start + len` of the product, without the bias: `out` is `[inputs.count, len]`. `start` is a multiple of sixteen.
    pub(super) fn product(&self, kernels: &Kernels, start: usize, len: usize, inputs: Inputs<'_>, out: &mut [f32]) {
        match &self.weights {
            Weights::Plain(plain) => {
                let cells = plain.cells().part(start * plain.columns, len * plain.columns);
                kernels.product(cells, plain.columns, inputs, out);
            }
            Weights::Panels(Held::Grouped(grouped)) => kernels.grouped_product(grouped, start, inputs, out),
            Weights::Panels(Held::Packed(packed)) => kernels.packed_product(packed, start, inputs, out),
        }
    }
}
