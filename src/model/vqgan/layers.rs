//! The VQ-GAN's layers with their weights (taming `diffusionmodules/model.py`).
//!
//! Operations and their order are the reference's own, so that on a CPU in f32 with planar memory the results are its to the bit.

use tch::{Device, Kind, Tensor};

use super::convolution::{Conv, doubled};
use super::layout::{LayerKind, LayerSpec};
use super::norm::Norm;
use crate::model::source::{LoadError, TensorSource};

/// How images lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    /// `[n, c, h, w]` as written: the reference's.
    Planar,
    /// Channels innermost: what oneDNN and cuDNN are fastest on.
    ChannelsLast,
}

impl Memory {
    /// What training is fastest over: on a CPU the gradient of a group norm takes eight times as long over channels-last images.
    pub(crate) fn for_training(device: Device) -> Self {
        match device {
            Device::Cpu => Self::Planar,
            _ => Self::ChannelsLast,
        }
    }

    /// `x`, `[n, c, h, w]`, laid out this way.
    pub(crate) fn lay(self, x: &Tensor) -> Tensor {
        match self {
            // By way of a vector: strides of dimensions of one element would still say channels-last to whoever asks them.
            Self::Planar => x.contiguous().view([-1]).view(x.size().as_slice()),
            Self::ChannelsLast => x.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2]),
        }
    }
}

/// A layer with its weights.
pub(crate) enum Layer {
    Conv(Conv),
    Resnet {
        norm1: Norm,
        conv1: Conv,
        norm2: Norm,
        conv2: Conv,
        shortcut: Option<Conv>,
    },
    Attention {
        norm: Norm,
        q: Conv,
        k: Conv,
        v: Conv,
        out: Conv,
    },
    Downsample(Option<Conv>),
    Upsample(Option<Conv>),
    Head {
        norm: Norm,
        conv: Conv,
    },
}

impl Layer {
    pub(crate) fn load(
        source: &dyn TensorSource,
        spec: &LayerSpec,
        memory: Memory,
        kind: Kind,
        device: Device,
    ) -> Result<Self, LoadError> {
        let named = |part: &str| format!("{}{part}", spec.name);
        let conv = |part: &str, input: usize, output: usize, kernel: usize| {
            let shape = [output, input, kernel, kernel];
            Conv::load(source, &named(part), shape, memory, kind, device)
        };
        let down = |c: usize| Conv::halving(source, &named(".conv"), c, memory, kind, device);
        let norm = |part: &str, channels: usize| Norm::load(source, &named(part), channels, memory, kind, device);
        Ok(match spec.kind {
            LayerKind::Conv { input, output, kernel } => Layer::Conv(conv("", input, output, kernel)?),
            LayerKind::Resnet { input, output } => Layer::Resnet {
                norm1: norm(".norm1", input)?,
                conv1: conv(".conv1", input, output, 3)?,
                norm2: norm(".norm2", output)?,
                conv2: conv(".conv2", output, output, 3)?,
                shortcut: (input != output)
                    .then(|| conv(".nin_shortcut", input, output, 1))
                    .transpose()?,
            },
            LayerKind::Attention { channels: c } => Layer::Attention {
                norm: norm(".norm", c)?,
                q: conv(".q", c, c, 1)?,
                k: conv(".k", c, c, 1)?,
                v: conv(".v", c, c, 1)?,
                out: conv(".proj_out", c, c, 1)?,
            },
            LayerKind::Downsample { channels: c, with_conv } => {
                Layer::Downsample(with_conv.then(|| down(c)).transpose()?)
            }
            LayerKind::Upsample { channels: c, with_conv } => {
                Layer::Upsample(with_conv.then(|| conv(".conv", c, c, 3)).transpose()?)
            }
            LayerKind::Head { input, output } => Layer::Head {
                norm: norm(".norm_out", input)?,
                conv: conv(".conv_out", input, output, 3)?,
            },
        })
    }

    /// `x`: `[n, channels, side, side]` → the layer's output.
    pub(crate) fn forward(&self, x: &Tensor) -> Tensor {
        match self {
            Layer::Conv(conv) => conv.forward(x),
            Layer::Resnet {
                norm1,
                conv1,
                norm2,
                conv2,
                shortcut,
            } => {
                let inner = norm1.swish(x);
                let h = conv1.forward(&inner);
                // Held no longer than is of use.
                let room = conv2.uses_room().then_some(inner);
                let h = norm2.swish_over(h);
                let onto = shortcut.as_ref().map(|shortcut| shortcut.forward(x));
                conv2.added(&h, onto.as_ref().unwrap_or(x), room)
            }
            Layer::Attention { norm, q, k, v, out } => {
                let h = norm.forward(x);
                let (n, c, rows, columns) = h.size4().unwrap_or((0, 0, 0, 0));
                let flat = |t: Tensor| t.reshape([n, c, rows * columns]);
                let (q, k, v) = (flat(q.forward(&h)), flat(k.forward(&h)), flat(v.forward(&h)));
                let weights = (q.permute([0, 2, 1]).bmm(&k) * (c as f64).powf(-0.5)).softmax(2, None::<Kind>);
                let h = v.bmm(&weights.permute([0, 2, 1])).reshape([n, c, rows, columns]);
                out.added(&h, x, None)
            }
            // Its padding is asymmetric and done apart.
            Layer::Downsample(Some(conv)) => conv.forward(&x.constant_pad_nd([0, 1, 0, 1])),
            Layer::Downsample(None) => x.avg_pool2d([2, 2], [2, 2], [0, 0], false, true, None::<i64>),
            Layer::Upsample(Some(conv)) => conv.doubled(x),
            Layer::Upsample(None) => doubled(x),
            Layer::Head { norm, conv } => conv.forward(&norm.swish(x)),
        }
    }
}
