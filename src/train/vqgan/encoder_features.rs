//! The encoder of a VQ-GAN as a feature network.
//!
//! Where findings were trained into it (`--findings-weight`), its features are clinical ones, and what a decoder draws is asked to hold what
//! the encoder sees in the image that it draws.

use std::path::Path;

use tch::{Device, Kind, Tensor};

use super::features::Features;
use super::files::VqganFiles;
use crate::model::source::LoadError;
use crate::model::vqgan::{Layer, Memory, VqganConfig};
use crate::train::common::{TrainError, fitted, gathered};

/// An encoder with fixed weights.
pub struct EncoderFeatures {
    config: VqganConfig,
    layers: Vec<Layer>,
    memory: Memory,
    kind: Kind,
}

impl EncoderFeatures {
    /// Reads the VQ-GAN in a folder, as [`VqganFiles::find`] finds it; computes in `kind`.
    pub fn open(folder: &Path, kind: Kind, device: Device) -> Result<Self, TrainError> {
        let files = VqganFiles::find(folder)?;
        let (weights, config) = (files.open()?, files.config);
        let memory = Memory::for_training(device);
        let layers = config.encoder_layers();
        let layers = layers
            .iter()
            .map(|spec| Layer::load(&weights, spec, memory, kind, device))
            .collect::<Result<Vec<_>, LoadError>>()?;
        Ok(Self {
            config,
            layers,
            memory,
            kind,
        })
    }

    /// Of images `[n, c, h, w]` in [−1, 1]: the maps with which each level ends, the latents as the last map, and as the vector the mean and
    /// the maximum of each latent channel, which is what findings were read off.
    pub fn features(&self, x: &Tensor) -> Features {
        let x = fitted(x, self.config.in_channels, self.config.resolution);
        let mut h = self.memory.lay(&x.to_kind(self.kind));
        let mut maps = Vec::new();
        for layer in &self.layers {
            if matches!(layer, Layer::Downsample(_)) {
                maps.push(h.to_kind(Kind::Float));
            }
            h = layer.forward(&h);
        }
        let latents = h.to_kind(Kind::Float);
        let vector = gathered(&latents);
        maps.push(latents);
        Features {
            maps,
            vector: Some(vector),
        }
    }
}
