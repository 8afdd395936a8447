//! The yaml of a taming `VQModel`: whole (`model: params: …`) or just its parameters.

use serde::Deserialize;
use serde_norway::Value;

use super::layout::{self, LayerSpec};
use crate::model::{ConfigError, ExpectedTensor};

/// Name of the code book in the state dict, `[n_embed, embed_dim]`.
pub const CODE_BOOK: &str = "quantize.embedding.weight";

const FILE: &str = "vqgan/config.yaml";

/// Shape of a VQ-GAN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VqganConfig {
    /// Length of a code-book vector.
    pub embed_dim: usize,
    /// Size of the code book.
    pub n_embed: usize,
    /// Channels of the latent before `quant_conv`.
    pub z_channels: usize,
    /// Side of the image in pixels.
    pub resolution: usize,
    /// Channels of the image read: 3, or 1 for grey.
    pub in_channels: usize,
    /// Channels of the image drawn: 3, or 1 for grey.
    pub out_ch: usize,
    /// Base width.
    pub ch: usize,
    /// Width of each level, in units of `ch`; each level but the last halves the side.
    pub ch_mult: Vec<usize>,
    /// Residual blocks of a level.
    pub num_res_blocks: usize,
    /// Sides at which attention follows each residual block.
    pub attn_resolutions: Vec<usize>,
    /// Sampling between levels by convolution (else average pooling and plain nearest).
    pub resamp_with_conv: bool,
}

#[derive(Deserialize)]
struct Params {
    embed_dim: usize,
    n_embed: usize,
    ddconfig: DdConfig,
    #[serde(default)]
    remap: Value,
}

#[derive(Deserialize)]
struct DdConfig {
    z_channels: usize,
    resolution: usize,
    #[serde(default = "three")]
    in_channels: usize,
    out_ch: usize,
    ch: usize,
    ch_mult: Vec<usize>,
    num_res_blocks: usize,
    #[serde(default)]
    attn_resolutions: Vec<usize>,
    #[serde(default = "yes")]
    resamp_with_conv: bool,
    #[serde(default)]
    double_z: bool,
    #[serde(default)]
    give_pre_end: bool,
}

fn three() -> usize {
    3
}

fn yes() -> bool {
    true
}

/// Channels of every GroupNorm group count in taming's networks.
pub(super) const GROUPS: usize = 32;

impl VqganConfig {
    /// Reads the yaml; other keys (losses, data) are ignored.
    pub fn from_yaml(bytes: &[u8]) -> Result<Self, ConfigError> {
        let syntax = |reason: String| ConfigError::Syntax { file: FILE, reason };
        let root: Value = serde_norway::from_slice(bytes).map_err(|e| syntax(e.to_string()))?;
        let inner = root
            .get("model")
            .and_then(|m| m.get("params"))
            .or_else(|| root.get("params"))
            .unwrap_or(&root);
        let params: Params = serde_norway::from_value(inner.clone()).map_err(|e| syntax(e.to_string()))?;
        let dd = params.ddconfig;
        let value = |key, reason: String| {
            Err(ConfigError::Value {
                file: FILE,
                key,
                reason,
            })
        };
        if !params.remap.is_null() {
            return value(
                "remap",
                "is set: such a model numbers its codes by a file of its own, which is not supported".to_owned(),
            );
        }
        if dd.double_z {
            return value(
                "double_z",
                "is true, which is a KL autoencoder's; a VQModel has false".to_owned(),
            );
        }
        if dd.give_pre_end {
            return value(
                "give_pre_end",
                "is true; a decoder without its last layer draws no image".to_owned(),
            );
        }
        for (key, n, most) in [
            ("embed_dim", params.embed_dim, 1 << 14),
            ("n_embed", params.n_embed, 1 << 16),
            ("z_channels", dd.z_channels, 1 << 14),
            ("ch", dd.ch, 1 << 12),
            ("num_res_blocks", dd.num_res_blocks, 64),
            ("resolution", dd.resolution, 4096),
        ] {
            if n == 0 || n > most {
                return value(key, format!("is {n}; it must lie between 1 and {most}"));
            }
        }
        for (key, n) in [("in_channels", dd.in_channels), ("out_ch", dd.out_ch)] {
            if n != 3 && n != 1 {
                return value(key, format!("is {n}; an image has 3 channels, or 1"));
            }
        }
        if dd.ch_mult.is_empty() || dd.ch_mult.len() > 10 || dd.ch_mult.iter().any(|&m| m == 0 || m > 64) {
            return value(
                "ch_mult",
                format!("{:?} is not a list of 1 to 10 factors from 1 to 64", dd.ch_mult),
            );
        }
        if !dd.resolution.is_multiple_of(1 << (dd.ch_mult.len() - 1)) {
            let reason = format!("{} cannot be halved {} times", dd.resolution, dd.ch_mult.len() - 1);
            return value("resolution", reason);
        }
        if !dd.ch.is_multiple_of(GROUPS) {
            return value("ch", format!("is {}; GroupNorm needs a multiple of {GROUPS}", dd.ch));
        }
        Ok(Self {
            embed_dim: params.embed_dim,
            n_embed: params.n_embed,
            z_channels: dd.z_channels,
            resolution: dd.resolution,
            in_channels: dd.in_channels,
            out_ch: dd.out_ch,
            ch: dd.ch,
            ch_mult: dd.ch_mult,
            num_res_blocks: dd.num_res_blocks,
            attn_resolutions: dd.attn_resolutions,
            resamp_with_conv: dd.resamp_with_conv,
        })
    }

    /// The yaml of this configuration, as taming writes it.
    pub fn to_yaml(&self) -> String {
        let list = |v: &[usize]| v.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        format!(
            "model:\n  target: taming.models.vqgan.VQModel\n  params:\n    embed_dim: {}\n    n_embed: {}\n    ddconfig:\n      \
             double_z: false\n      z_channels: {}\n      resolution: {}\n      in_channels: {}\n      out_ch: {}\n      ch: {}\n      \
             ch_mult: [{}]\n      num_res_blocks: {}\n      attn_resolutions: [{}]\n      dropout: 0.0\n      resamp_with_conv: {}\n",
            self.embed_dim,
            self.n_embed,
            self.z_channels,
            self.resolution,
            self.in_channels,
            self.out_ch,
            self.ch,
            list(&self.ch_mult),
            self.num_res_blocks,
            list(&self.attn_resolutions),
            self.resamp_with_conv,
        )
    }

    /// Side of the latent grid.
    pub fn latent_side(&self) -> usize {
        self.resolution >> (self.ch_mult.len() - 1)
    }

    /// Codes of one image: the latent grid, row-major.
    pub fn codes_per_image(&self) -> usize {
        self.latent_side() * self.latent_side()
    }

    /// The encoder's layers in order, `quant_conv` last.
    pub fn encoder_layers(&self) -> Vec<LayerSpec> {
        layout::encoder(self)
    }

    /// The decoder's layers in order, `post_quant_conv` first.
    pub fn decoder_layers(&self) -> Vec<LayerSpec> {
        layout::decoder(self)
    }

    /// Every tensor of the state dict that the model needs (losses and discriminator apart).
    pub fn expected_tensors(&self) -> Vec<ExpectedTensor> {
        let mut out = vec![ExpectedTensor::new(CODE_BOOK, &[self.n_embed, self.embed_dim])];
        for layer in self.encoder_layers().iter().chain(&self.decoder_layers()) {
            layer.tensors(&mut out);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLISHED: &str = "model:\n  target: taming.models.vqgan.VQModel\n  params:\n    embed_dim: 256\n    n_embed: 1024\n    ddconfig:\n      double_z: False\n      \
        z_channels: 256\n      resolution: 256\n      in_channels: 3\n      out_ch: 3\n      ch: 128\n      ch_mult: [1, 1, 2, 2, 4]\n      num_res_blocks: 2\n      \
        attn_resolutions: [16]\n      dropout: 0.0\n    lossconfig:\n      target: x\n";

    #[test]
    fn the_published_yaml_is_read_and_its_networks_have_the_published_sizes() {
        let config = VqganConfig::from_yaml(PUBLISHED.as_bytes()).unwrap();
        assert_eq!(config.codes_per_image(), 256);
        let parameters = |layers: Vec<LayerSpec>| {
            let mut tensors = Vec::new();
            layers.iter().for_each(|l| l.tensors(&mut tensors));
            tensors.iter().map(|t| t.shape.iter().product::<usize>()).sum::<usize>() / 1_000_000
        };
        assert_eq!(
            (parameters(config.encoder_layers()), parameters(config.decoder_layers())),
            (29, 42)
        );
    }

    #[test]
    fn what_is_written_reads_back_the_same() {
        let config = VqganConfig::from_yaml(PUBLISHED.as_bytes()).unwrap();
        assert_eq!(VqganConfig::from_yaml(config.to_yaml().as_bytes()).unwrap(), config);
    }

    #[test]
    fn a_shape_that_no_network_has_is_refused_with_its_key() {
        for (from, to, key) in [
            ("ch: 128", "ch: 100", "ch:"),
            ("resolution: 256", "resolution: 100", "resolution"),
            ("double_z: False", "double_z: True", "double_z"),
            ("in_channels: 3", "in_channels: 4", "in_channels"),
            ("n_embed: 1024", "n_embed: 1024\n    remap: used.npy", "remap"),
        ] {
            let error = VqganConfig::from_yaml(PUBLISHED.replace(from, to).as_bytes())
                .unwrap_err()
                .to_string();
            assert!(error.contains(key), "{error}");
        }
    }
}
