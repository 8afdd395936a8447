//! Convolutions, by libtorch or by our own kernels.

use tch::{Device, Kind, Tensor};

use super::layers::Memory;
use crate::model::kernels::{Images, Kernels, Team, Value, Winograd, in_large_pages};
use crate::model::source::{LoadError, TensorSource, floats};

/// A convolution with its weights.
pub(crate) enum Conv {
    /// libtorch's.
    Direct {
        /// `[outputs, inputs, kernel, kernel]`
        weight: Tensor,
        /// `[outputs]`
        bias: Tensor,
        stride: i64,
        padding: i64,
    },
    /// Ours, of 3 × 3: where neither a gradient nor the reference's bits are wanted.
    Winograd(Winograd),
}

impl Conv {
    /// The tensors `{name}.weight`, `[outputs, inputs, kernel, kernel]`, and `{name}.bias` of `source`; outputs are as large as inputs.
    pub(crate) fn load(
        source: &dyn TensorSource,
        name: &str,
        shape: [usize; 4],
        memory: Memory,
        kind: Kind,
        device: Device,
    ) -> Result<Self, LoadError> {
        let (weight, bias) = tensors(source, name, shape, kind, device)?;
        let [outputs, inputs, kernel, _] = shape;
        let trained = weight.requires_grad() || bias.requires_grad();
        let ours = device == Device::Cpu && memory == Memory::ChannelsLast && kernel == 3 && !trained;
        // libtorch multiplies tiles of bf16 where the processor does, and is faster then.
        let slower = || kind != Kind::Float && Kernels::tiles();
        if ours && !slower() && Winograd::takes(Kernels::best(), inputs, outputs) {
            let made = Winograd::new(Kernels::best(), &team(), &floats(&weight), floats(&bias));
            return Ok(Self::Winograd(made));
        }
        Ok(Self::Direct {
            weight: memory.lay(&weight),
            bias,
            stride: 1,
            padding: kernel as i64 / 2,
        })
    }

    /// Likewise of 3 × 3 with stride 2, without a border.
    pub(crate) fn halving(
        source: &dyn TensorSource,
        name: &str,
        channels: usize,
        memory: Memory,
        kind: Kind,
        device: Device,
    ) -> Result<Self, LoadError> {
        let (weight, bias) = tensors(source, name, [channels, channels, 3, 3], kind, device)?;
        Ok(Self::Direct {
            weight: memory.lay(&weight),
            bias,
            stride: 2,
            padding: 0,
        })
    }

    /// `x`: `[n, inputs, h, w]` → `[n, outputs, h, w]`, or half as high and wide.
    pub(crate) fn forward(&self, x: &Tensor) -> Tensor {
        match self {
            Self::Direct {
                weight,
                bias,
                stride,
                padding,
            } => x.conv2d(weight, Some(bias), [*stride; 2], [*padding; 2], [1; 2], 1),
            Self::Winograd(convolution) => convolve(convolution, x, &Around::default()),
        }
    }

    /// The same, added to `onto`. The result may take the memory of `room`, which nobody needs any more.
    pub(crate) fn added(&self, x: &Tensor, onto: &Tensor, room: Option<Tensor>) -> Tensor {
        match self {
            Self::Direct { .. } => self.forward(x) + onto,
            Self::Winograd(convolution) => {
                let around = Around {
                    onto: Some(onto),
                    room,
                    ..Around::default()
                };
                convolve(convolution, x, &around)
            }
        }
    }

    /// Whether [`Self::added`] can use its `room`.
    pub(crate) fn uses_room(&self) -> bool {
        matches!(self, Self::Winograd(_))
    }

    /// The same, of `x` with each pixel taken for four.
    pub(crate) fn doubled(&self, x: &Tensor) -> Tensor {
        match self {
            Self::Direct { .. } => self.forward(&doubled(x)),
            Self::Winograd(convolution) => {
                let around = Around {
                    doubled: true,
                    ..Around::default()
                };
                convolve(convolution, x, &around)
            }
        }
    }
}

/// `x` with each pixel taken for four.
pub(crate) fn doubled(x: &Tensor) -> Tensor {
    let (_, _, rows, columns) = x.size4().unwrap_or((0, 0, 0, 0));
    x.upsample_nearest2d([rows * 2, columns * 2], None, None)
}

fn tensors(
    source: &dyn TensorSource,
    name: &str,
    shape: [usize; 4],
    kind: Kind,
    device: Device,
) -> Result<(Tensor, Tensor), LoadError> {
    let weight = source.tensor(&format!("{name}.weight"), &shape, kind, device)?;
    let bias = source.tensor(&format!("{name}.bias"), &shape[..1], kind, device)?;
    Ok((weight, bias))
}

/// The threads that libtorch computes on.
pub(super) fn team() -> Team {
    Team::new(tch::get_num_threads().max(1) as usize)
}

/// What a convolution of ours does besides.
#[derive(Default)]
struct Around<'a> {
    /// Takes each pixel of its images for four.
    doubled: bool,
    /// Is added to the result.
    onto: Option<&'a Tensor>,
    /// Its memory may be the result's.
    room: Option<Tensor>,
}

impl Around<'_> {
    /// Memory for images of this size, `[n, h, w, channels]`.
    fn out(&self, size: [i64; 4], kind: Kind) -> Tensor {
        let room = self.room.as_ref().map(|room| room.permute([0, 2, 3, 1]));
        let fits = |room: &Tensor| room.size() == size && room.kind() == kind && room.is_contiguous();
        room.filter(fits)
            .unwrap_or_else(|| Tensor::empty(size, (kind, Device::Cpu)))
    }
}

/// # Panics
/// For what no weights in these kernels' order are loaded for: images on a GPU, a gradient, or values other than f32 and bf16.
fn convolve(convolution: &Winograd, x: &Tensor, around: &Around<'_>) -> Tensor {
    for given in around.onto.into_iter().chain([x]) {
        assert!(given.device() == Device::Cpu && given.kind() == x.kind() && !given.requires_grad());
    }
    match x.kind() {
        Kind::BFloat16 => run::<u16>(convolution, x, around),
        Kind::Float => run::<f32>(convolution, x, around),
        kind => panic!("images of {kind:?} are not convolved by kernels of f32 and bf16"),
    }
}

/// Convolves images whose values are held as `E`.
fn run<E: Value>(convolution: &Winograd, x: &Tensor, around: &Around<'_>) -> Tensor {
    // Copies only where they lie otherwise.
    let lay = |x: &Tensor| x.permute([0, 2, 3, 1]).contiguous();
    let (x, onto) = (lay(x), around.onto.map(lay));
    let (n, h, w, _) = x.size4().unwrap_or((0, 0, 0, 0));
    let side = if around.doubled { 2 } else { 1 };
    let images = Images {
        count: n as usize,
        rows: (h * side) as usize,
        columns: (w * side) as usize,
        doubled: around.doubled,
    };
    let out = around.out([n, h * side, w * side, convolution.outputs() as i64], x.kind());
    if out.numel() == 0 {
        return out.permute([0, 3, 1, 2]);
    }
    assert!(out.data_ptr() != x.data_ptr() && onto.as_ref().is_none_or(|onto| onto.data_ptr() != out.data_ptr()));
    // SAFETY: all are of one kind, whose values are `E`s, on the CPU and without gaps; nobody else holds or reads `out`. What libtorch left in it
    // is not initialised as Rust means it: it is only written to, and any bits are a number.
    unsafe {
        let values = |x: &Tensor| std::slice::from_raw_parts(x.data_ptr().cast::<E>(), x.numel());
        let to = std::slice::from_raw_parts_mut(out.data_ptr().cast::<E>(), out.numel());
        in_large_pages(to);
        convolution.run(&team(), images, values(&x), onto.as_ref().map(values), to);
    }
    out.permute([0, 3, 1, 2])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::source::RandomSource;

    #[test]
    fn our_convolutions_give_what_libtorchs_give_wherever_images_lie() {
        let _guard = tch::no_grad_guard();
        let cpu = Device::Cpu;
        for (kind, tolerance) in [(Kind::Float, 2e-5), (Kind::BFloat16, 2e-2)] {
            let source = RandomSource::new(1);
            let load = |memory| Conv::load(&source, "conv", [64, 32, 3, 3], memory, kind, cpu).unwrap();
            let (ours, theirs) = (load(Memory::ChannelsLast), load(Memory::Planar));
            let wanted = Kernels::best().has_vectors() && !(kind == Kind::BFloat16 && Kernels::tiles());
            assert_eq!(matches!(ours, Conv::Winograd(_)), wanted);
            assert!(matches!(theirs, Conv::Direct { .. }));
            for (n, h, w) in [(1, 1, 1), (2, 6, 9), (0, 4, 4)] {
                let numbers = |seed, shape: [usize; 4]| {
                    let source = RandomSource::new(seed);
                    source.tensor("x", &shape, kind, cpu).unwrap() * 50.0
                };
                let (x, onto) = (numbers(2, [n, 32, h, w]), numbers(3, [n, 64, h, w]));
                for memory in [Memory::Planar, Memory::ChannelsLast] {
                    let (x, onto) = (memory.lay(&x), memory.lay(&onto));
                    for (ours, theirs) in [
                        (ours.forward(&x), theirs.forward(&x)),
                        (ours.added(&x, &onto, None), theirs.added(&x, &onto, None)),
                        (ours.added(&x, &onto, Some(onto.copy())), theirs.added(&x, &onto, None)),
                        (ours.doubled(&x), theirs.doubled(&x)),
                    ] {
                        assert_eq!((ours.size(), ours.kind()), (theirs.size(), kind));
                        if n == 0 {
                            continue;
                        }
                        let [ours, theirs] = [ours, theirs].map(|y| y.to_kind(Kind::Float));
                        let size = theirs.abs().max().double_value(&[]);
                        let apart = (ours - theirs).abs().max().double_value(&[]);
                        assert!(apart < tolerance * size, "{kind:?} {n} {h} {w}: {apart} of {size}");
                    }
                }
            }
        }
    }
}
