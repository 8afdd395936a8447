//! The VQ-GAN as a list of layers: names, kinds and sizes, without weights (taming `diffusionmodules/model.py`).

use super::VqganConfig;
use crate::model::ExpectedTensor;

/// What a layer computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerKind {
    /// A convolution with `kernel × kernel` taps, stride 1, same size.
    Conv {
        /// Channels in.
        input: usize,
        /// Channels out.
        output: usize,
        /// Side of the kernel: 1 or 3.
        kernel: usize,
    },
    /// GroupNorm, swish, convolution, twice, plus the input (through a 1×1 convolution where the width changes).
    Resnet {
        /// Channels in.
        input: usize,
        /// Channels out.
        output: usize,
    },
    /// Single-head self-attention over all positions, plus the input.
    Attention {
        /// Channels.
        channels: usize,
    },
    /// Halves the side: zero padding right and below, 3×3 convolution with stride 2; or 2×2 average pooling.
    Downsample {
        /// Channels.
        channels: usize,
        /// By convolution.
        with_conv: bool,
    },
    /// Doubles the side by nearest neighbour, then a 3×3 convolution if asked for.
    Upsample {
        /// Channels.
        channels: usize,
        /// With convolution.
        with_conv: bool,
    },
    /// GroupNorm (`norm_out`), swish, 3×3 convolution (`conv_out`). The layer's name is the network's.
    Head {
        /// Channels in.
        input: usize,
        /// Channels out.
        output: usize,
    },
}

/// A layer: its name in the state dict and its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerSpec {
    /// Prefix of its tensors in the state dict.
    pub name: String,
    /// What it computes.
    pub kind: LayerKind,
}

impl LayerSpec {
    /// Adds the tensors of this layer to `out`.
    pub fn tensors(&self, out: &mut Vec<ExpectedTensor>) {
        let mut conv = |part: &str, input: usize, output: usize, kernel: usize| {
            let name = format!("{}{part}", self.name);
            out.push(ExpectedTensor::new(
                format!("{name}.weight"),
                &[output, input, kernel, kernel],
            ));
            out.push(ExpectedTensor::new(format!("{name}.bias"), &[output]));
        };
        match self.kind {
            LayerKind::Conv { input, output, kernel } => conv("", input, output, kernel),
            LayerKind::Resnet { input, output } => {
                conv(".conv1", input, output, 3);
                conv(".conv2", output, output, 3);
                if input != output {
                    conv(".nin_shortcut", input, output, 1);
                }
                self.norm(".norm1", input, out);
                self.norm(".norm2", output, out);
            }
            LayerKind::Attention { channels } => {
                for part in [".q", ".k", ".v", ".proj_out"] {
                    conv(part, channels, channels, 1);
                }
                self.norm(".norm", channels, out);
            }
            LayerKind::Downsample { channels, with_conv } | LayerKind::Upsample { channels, with_conv } => {
                if with_conv {
                    conv(".conv", channels, channels, 3);
                }
            }
            LayerKind::Head { input, output } => {
                conv(".conv_out", input, output, 3);
                self.norm(".norm_out", input, out);
            }
        }
    }

    fn norm(&self, part: &str, channels: usize, out: &mut Vec<ExpectedTensor>) {
        out.push(ExpectedTensor::new(format!("{}{part}.weight", self.name), &[channels]));
        out.push(ExpectedTensor::new(format!("{}{part}.bias", self.name), &[channels]));
    }
}

struct Builder {
    layers: Vec<LayerSpec>,
    width: usize,
}

impl Builder {
    fn push(&mut self, name: impl Into<String>, kind: LayerKind) {
        self.layers.push(LayerSpec {
            name: name.into(),
            kind,
        });
    }

    fn conv(&mut self, name: &str, input: usize, output: usize, kernel: usize) {
        self.push(name, LayerKind::Conv { input, output, kernel });
        self.width = output;
    }

    fn resnet(&mut self, name: String, output: usize) {
        self.push(
            name,
            LayerKind::Resnet {
                input: self.width,
                output,
            },
        );
        self.width = output;
    }

    fn attention(&mut self, name: String) {
        self.push(name, LayerKind::Attention { channels: self.width });
    }

    fn middle(&mut self, network: &str) {
        self.resnet(format!("{network}.mid.block_1"), self.width);
        self.attention(format!("{network}.mid.attn_1"));
        self.resnet(format!("{network}.mid.block_2"), self.width);
    }
}

pub(super) fn encoder(c: &VqganConfig) -> Vec<LayerSpec> {
    let mut b = Builder {
        layers: Vec::new(),
        width: 0,
    };
    b.conv("encoder.conv_in", c.in_channels, c.ch, 3);
    let mut side = c.resolution;
    for (level, &mult) in c.ch_mult.iter().enumerate() {
        for block in 0..c.num_res_blocks {
            b.resnet(format!("encoder.down.{level}.block.{block}"), c.ch * mult);
            if c.attn_resolutions.contains(&side) {
                b.attention(format!("encoder.down.{level}.attn.{block}"));
            }
        }
        if level + 1 != c.ch_mult.len() {
            let kind = LayerKind::Downsample {
                channels: b.width,
                with_conv: c.resamp_with_conv,
            };
            b.push(format!("encoder.down.{level}.downsample"), kind);
            side /= 2;
        }
    }
    b.middle("encoder");
    b.push(
        "encoder",
        LayerKind::Head {
            input: b.width,
            output: c.z_channels,
        },
    );
    b.conv("quant_conv", c.z_channels, c.embed_dim, 1);
    b.layers
}

pub(super) fn decoder(c: &VqganConfig) -> Vec<LayerSpec> {
    let mut b = Builder {
        layers: Vec::new(),
        width: 0,
    };
    b.conv("post_quant_conv", c.embed_dim, c.z_channels, 1);
    let deepest = c.ch_mult.last().copied().unwrap_or(1);
    b.conv("decoder.conv_in", c.z_channels, c.ch * deepest, 3);
    b.middle("decoder");
    let mut side = c.latent_side();
    for (level, &mult) in c.ch_mult.iter().enumerate().rev() {
        for block in 0..=c.num_res_blocks {
            b.resnet(format!("decoder.up.{level}.block.{block}"), c.ch * mult);
            if c.attn_resolutions.contains(&side) {
                b.attention(format!("decoder.up.{level}.attn.{block}"));
            }
        }
        if level != 0 {
            let kind = LayerKind::Upsample {
                channels: b.width,
                with_conv: c.resamp_with_conv,
            };
            b.push(format!("decoder.up.{level}.upsample"), kind);
            side *= 2;
        }
    }
    b.push(
        "decoder",
        LayerKind::Head {
            input: b.width,
            output: c.out_ch,
        },
    );
    b.layers
}
