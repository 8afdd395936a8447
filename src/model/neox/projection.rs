//! A matrix of the network with its bias: as libtorch holds it, or in panels.

use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use super::matrix::Plain;
use crate::model::kernels::{Cells, Format, Grouped, Kernels, PANEL, Packed, Shared, Team, WideMut};
use crate::model::source::{Linear, LoadError, TensorSource, floats};

/// Weights widened at a time: few enough to stay in a cache, enough to keep libtorch's product busy.
const TILE: usize = 1 << 21;

/// `y = x·Wᵀ + b`.
pub(super) enum Projection {
    /// As the checkpoint has it, in the network's type.
    Native(Linear),
    /// In panels, on a CPU: in 8 or 4 bits, or bf16 as the checkpoint has it.
    Panels(Panels),
}

/// A matrix whose rows lie in panels.
pub(super) struct Panels {
    weight: Held,
    bias: Option<Tensor>,
    /// What libtorch's products are computed in.
    kind: Kind,
}

/// How panels are held.
#[derive(Clone)]
pub(super) enum Held {
    /// In 8 or 4 bits.
    Grouped(Arc<Grouped>),
    /// In bf16.
    Packed(Arc<Packed>),
}

impl Held {
    pub(super) fn rows(&self) -> usize {
        match self {
            Held::Grouped(matrix) => matrix.rows(),
            Held::Packed(matrix) => matrix.rows(),
        }
    }

    fn columns(&self) -> usize {
        match self {
            Held::Grouped(matrix) => matrix.columns(),
            Held::Packed(matrix) => matrix.columns(),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Held::Grouped(matrix) => matrix.bytes(),
            Held::Packed(matrix) => matrix.bytes(),
        }
    }

    /// One panel's rows, row after row.
    fn bf16(&self, panel: usize, out: &mut [u16]) {
        match self {
            Held::Grouped(matrix) => Kernels::best().widen(matrix, panel, WideMut::Bf16(out)),
            Held::Packed(matrix) => matrix.unpack(panel, out),
        }
    }

    /// As [`Self::bf16`].
    fn f32(&self, panel: usize, out: &mut [f32]) {
        match self {
            Held::Grouped(matrix) => Kernels::best().widen(matrix, panel, WideMut::F32(out)),
            Held::Packed(matrix) => {
                let mut bits = vec![0; out.len()];
                matrix.unpack(panel, &mut bits);
                let widened = bits.iter().map(|&bits| f32::from_bits(u32::from(bits) << 16));
                out.iter_mut().zip(widened).for_each(|(to, value)| *to = value);
            }
        }
    }
}

impl Panels {
    pub(super) fn weight(&self) -> &Held {
        &self.weight
    }

    /// Rows `start..start + len` in the network's type, `[len, columns]`, written to the start of `space`. `start` begins a panel.
    fn widen(&self, team: &Team, space: &Tensor, start: usize, len: usize) -> Tensor {
        let matrix = &self.weight;
        let (columns, numbers) = (matrix.columns(), len * matrix.columns());
        // A panel's rows as (first number, numbers), from the tile's start.
        let rows = |panel: usize| (panel * PANEL * columns, PANEL.min(len - panel * PANEL) * columns);
        let tile = space.narrow(0, 0, len as i64);
        assert!(tile.is_contiguous() && tile.numel() == numbers && tile.kind() == self.kind);
        let panels = len.div_ceil(PANEL);
        let first = start / PANEL;
        // SAFETY: contiguous memory of so many numbers of this kind, which nobody else touches meanwhile; each panel is written once. What libtorch
        // left in it the first time is not initialised as Rust means it: it is only written to here, and any bits are a number.
        unsafe {
            if self.kind == Kind::BFloat16 {
                let out = std::slice::from_raw_parts_mut(tile.data_ptr().cast::<u16>(), numbers);
                let out = Shared::new(out);
                each(team, panels, |panel| {
                    let (at, len) = rows(panel);
                    matrix.bf16(first + panel, out.part_mut(at, len));
                });
            } else {
                let out = std::slice::from_raw_parts_mut(tile.data_ptr().cast::<f32>(), numbers);
                let out = Shared::new(out);
                each(team, panels, |panel| {
                    let (at, len) = rows(panel);
                    matrix.f32(first + panel, out.part_mut(at, len));
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

/// How the rows of a matrix lie in the checkpoint.
#[derive(Clone, Copy)]
pub(super) enum RowOrder {
    /// As the network has them.
    Own,
    /// A fused QKV: `[heads, 3, head_dim]`, where the network has `[3, heads, head_dim]`.
    ByHead {
        /// Heads.
        heads: usize,
        /// Width of a head.
        dim: usize,
    },
}

impl RowOrder {
    /// Which row of the checkpoint is the network's row `row`.
    fn stored(self, row: usize) -> usize {
        match self {
            Self::Own => row,
            Self::ByHead { heads, dim } => {
                let (role, head, place) = (row / dim / heads, row / dim % heads, row % dim);
                (head * 3 + role) * dim + place
            }
        }
    }

    /// The rows of a checkpoint's `tensor`, `[rows, …]`, as the network has them.
    fn own(self, tensor: Tensor) -> Tensor {
        let Self::ByHead { heads, dim } = self else {
            return tensor;
        };
        let size = tensor.size();
        let tail = tensor.numel() as i64 / (3 * heads * dim) as i64;
        let by_head = tensor.view([heads as i64, 3, dim as i64, tail]);
        by_head.transpose(0, 1).contiguous().view(size.as_slice())
    }
}

impl Projection {
    /// With rows of nought at the end, so that their number is a multiple of `of`: libtorch's product on a GPU is four times as fast then. Panels stay as they
    /// are.
    pub(super) fn padded(self, of: usize) -> Self {
        match self {
            Self::Native(Linear { weight, bias: None }) => {
                let [rows, columns] = [0, 1].map(|at| weight.size()[at]);
                let more = (rows as usize).next_multiple_of(of) as i64 - rows;
                let weight = match more {
                    0 => weight,
                    _ => Tensor::cat(
                        &[
                            &weight,
                            &weight.new_zeros([more, columns], (weight.kind(), weight.device())),
                        ],
                        0,
                    ),
                };
                Self::Native(Linear { weight, bias: None })
            }
            other => other,
        }
    }

    /// Loads a matrix `[rows, columns]` and its bias, for a network that computes in `to`. As [`Self::new`]; what lies in panels anyway is made from where
    /// the source has it.
    pub(super) fn load(
        source: &dyn TensorSource,
        prefix: &str,
        [rows, columns]: [usize; 2],
        bias: bool,
        order: RowOrder,
        format: Option<Format>,
        to: (Kind, Device),
    ) -> Result<Self, LoadError> {
        let (kind, device) = to;
        let (mut held, kernels) = (None, Kernels::best());
        if device == Device::Cpu && (format.is_some() || kind == Kind::BFloat16 && kernels.packs()) {
            let row = |row| order.stored(row);
            let (name, shape) = (format!("{prefix}.weight"), [rows, columns]);
            if let Some(format) = format {
                source.read_stored(&name, shape, &mut |stored| {
                    if stored.format == format {
                        held = Some(Held::Grouped(Arc::new(Grouped::stored(stored, shape, row))));
                    }
                })?;
            }
            if held.is_none() {
                source.read_bf16(&name, &shape, &mut |bits| {
                    held = Some(match format {
                        Some(format) => {
                            Held::Grouped(Arc::new(Grouped::new(kernels, format, Cells::Bf16(bits), columns, row)))
                        }
                        None => Held::Packed(Arc::new(Packed::new(bits, columns, row))),
                    });
                })?;
            }
        }
        let part = |name: &str, shape: &[usize], kind| {
            let tensor = source.tensor(&format!("{prefix}.{name}"), shape, kind, device)?;
            Ok::<_, LoadError>(order.own(tensor))
        };
        let Some(weight) = held else {
            // What is quantised comes in f32, so that it is rounded once.
            let kind = if format.is_some() { Kind::Float } else { kind };
            let linear = Linear {
                weight: part("weight", &[rows, columns], kind)?,
                bias: bias.then(|| part("bias", &[rows], kind)).transpose()?,
            };
            return Ok(Self::new(linear, format, to.0));
        };
        Ok(Self::Panels(Panels {
            weight,
            bias: bias.then(|| part("bias", &[rows], kind)).transpose()?,
            kind,
        }))
    }

    /// Holds `linear` in `format`, for a network that computes in `kind`. Without one it stays as it is, but bf16 on a CPU whose kernels
    /// read it faster in panels is packed.
    pub(super) fn new(linear: Linear, format: Option<Format>, kind: Kind) -> Self {
        let weight = match format {
            Some(format) => Held::Grouped(Arc::new(quantised(&linear.weight, format))),
            None => match packed(&linear.weight) {
                Some(packed) => Held::Packed(Arc::new(packed)),
                None => return Self::Native(linear),
            },
        };
        Self::Panels(Panels {
            weight,
            bias: linear.bias.map(|bias| bias.to_kind(kind)),
            kind,
        })
    }

    /// As libtorch holds it (shared, not copied), if it does.
    pub(super) fn native(&self) -> Option<Linear> {
        match self {
            Self::Native(linear) => Some(Linear {
                weight: linear.weight.shallow_clone(),
                bias: linear.bias.as_ref().map(Tensor::shallow_clone),
            }),
            Self::Panels(_) => None,
        }
    }

    /// The format it is held in, if in 8 or 4 bits.
    pub(super) fn format(&self) -> Option<Format> {
        match self {
            Self::Panels(Panels {
                weight: Held::Grouped(matrix),
                ..
            }) => Some(matrix.format()),
            _ => None,
        }
    }

    pub(super) fn bias(&self) -> Option<&Tensor> {
        match self {
            Self::Native(linear) => linear.bias.as_ref(),
            Self::Panels(panels) => panels.bias.as_ref(),
        }
    }

    /// Bytes of the weights as they are held, bias included.
    pub(super) fn bytes(&self) -> usize {
        let bias = self.bias().map_or(0, bytes);
        bias + match self {
            Self::Native(linear) => bytes(&linear.weight),
            Self::Panels(panels) => panels.weight.bytes(),
        }
    }

    /// `x`: `[n, columns]` → `[n, rows]`.
    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        match self {
            Self::Native(linear) => linear.forward(x),
            Self::Panels(panels) => panels.forward(x),
        }
    }
}

/// `weight`, `[rows, columns]`, in 8 or 4 bits.
fn quantised(weight: &Tensor, format: Format) -> Grouped {
    let columns = weight.size()[1] as usize;
    let grouped = |cells| Grouped::new(Kernels::best(), format, cells, columns, |row| row);
    match Plain::new(weight) {
        Some(plain) => grouped(plain.cells()),
        None => grouped(Cells::F32(&floats(weight))),
    }
}

/// `weight` in panels; `None` where it is not bf16 on a CPU, or the kernels do not read that.
fn packed(weight: &Tensor) -> Option<Packed> {
    let (_, columns) = weight.size2().ok().filter(|_| Kernels::best().packs())?;
    match Plain::new(weight)?.cells() {
        Cells::Bf16(bits) => Some(Packed::new(bits, columns as usize, |row| row)),
        Cells::F32(_) => None,
    }
}

fn bytes(tensor: &Tensor) -> usize {
    tensor.numel() * tensor.kind().elt_size_in_bytes()
}
