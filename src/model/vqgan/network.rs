//! The whole VQ-GAN: passes that run layer by layer, the quantizer, and pixels in and out.

use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use super::layers::{Layer, Memory};
use super::{CODE_BOOK, VqganConfig};
use crate::model::device::drawing_kind;
use crate::model::source::{LoadError, TensorSource};
use crate::radiograph::Pixels;

/// A VQ-GAN with its weights on a device, for inference.
pub struct Vqgan {
    config: VqganConfig,
    encoder: Vec<Layer>,
    decoder: Vec<Layer>,
    /// `[n_embed, embed_dim]`, f32.
    code_book: Tensor,
    /// `|e|²` of each code, `[n_embed]`.
    squares: Tensor,
    decoder_kind: Kind,
    memory: Memory,
    device: Device,
}

/// A pass under way: the layer to run next and its input.
pub struct Pass {
    direction: Direction,
    next: usize,
    x: Tensor,
}

impl Pass {
    /// Whether all that its last layer gave is finite.
    pub fn is_finite(&self) -> bool {
        self.x.isfinite().all().int64_value(&[]) != 0
    }
}

/// An image has no codes: of values that are no numbers none is the nearest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the VQ-GAN's encoder or code book gave values that are not finite, so its weights are damaged; get or make the model again"
)]
pub struct LatentNotFinite;

/// Levels from 0 to 255 as the networks take them: f32 in [−1, 1].
pub fn normalised(levels: &Tensor) -> Tensor {
    levels.to_kind(Kind::Float) / 255.0 * 2.0 - 1.0
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Encode,
    Decode,
}

impl Vqgan {
    /// Loads every tensor from `source`. The encoder computes in f32 always: one flipped rounding can change a code. The decoder
    /// computes in `decoder_kind`. In f32 both run as the reference does, to the bit on a CPU; else memory is laid out for speed.
    pub fn load(
        config: &VqganConfig,
        source: &dyn TensorSource,
        decoder_kind: Kind,
        device: Device,
    ) -> Result<Self, LoadError> {
        let memory = match decoder_kind {
            Kind::Float => Memory::Planar,
            _ => Memory::ChannelsLast,
        };
        Self::load_laid_out(config, source, decoder_kind, memory, device)
    }

    /// As the server has it beside a language model that computes in `kind`: in f32 all as the reference computes it, to the bit on a CPU; in bf16
    /// memory is laid out for speed, and images are drawn in what the device is fast at. Pixels may differ from the reference's in their last bits then,
    /// and so, rarely, a code (at least 999 of 1,000 are the same).
    pub fn load_beside(
        config: &VqganConfig,
        source: &dyn TensorSource,
        kind: Kind,
        device: Device,
    ) -> Result<Self, LoadError> {
        let memory = match kind {
            Kind::Float => Memory::Planar,
            _ => Memory::ChannelsLast,
        };
        Self::load_laid_out(config, source, drawing_kind(kind, device), memory, device)
    }

    fn load_laid_out(
        config: &VqganConfig,
        source: &dyn TensorSource,
        decoder_kind: Kind,
        memory: Memory,
        device: Device,
    ) -> Result<Self, LoadError> {
        let load = |layers: Vec<super::layout::LayerSpec>, kind| {
            layers
                .iter()
                .map(|spec| Layer::load(source, spec, memory, kind, device))
                .collect::<Result<Vec<_>, _>>()
        };
        let shape = [config.n_embed, config.embed_dim];
        let code_book = source.tensor(CODE_BOOK, &shape, Kind::Float, device)?;
        Ok(Self {
            config: config.clone(),
            encoder: load(config.encoder_layers(), Kind::Float)?,
            decoder: load(config.decoder_layers(), decoder_kind)?,
            squares: code_book.square().sum_dim_intlist(1, false, Kind::Float),
            code_book,
            decoder_kind,
            memory,
            device,
        })
    }

    /// The configuration it was loaded with.
    pub fn config(&self) -> &VqganConfig {
        &self.config
    }

    /// Begins to encode `images`, each `resolution × resolution`.
    pub fn begin_encode(&self, images: &[Arc<Pixels>]) -> Pass {
        let side = self.config.resolution as i64;
        let mut bytes = Vec::with_capacity(images.iter().map(|i| i.bytes()).sum());
        images.iter().for_each(|image| bytes.extend_from_slice(image.rgb()));
        let rgb = Tensor::from_slice(&bytes)
            .view([images.len() as i64, side, side, 3])
            .to_device(self.device);
        let x = match self.config.in_channels {
            // Pillow's `L`: ITU-R 601-2 luma in 16-bit fixed point.
            1 => {
                let weights = Tensor::from_slice(&[19595i64, 38470, 7471]).to_device(self.device);
                let sum = (rgb.to_kind(Kind::Int64) * weights).sum_dim_intlist(3, true, Kind::Int64);
                (sum + 0x8000)
                    .bitwise_right_shift_tensor_scalar(16)
                    .to_kind(Kind::Float)
            }
            _ => rgb.to_kind(Kind::Float),
        };
        let x = self.memory.lay(&normalised(&x).permute([0, 3, 1, 2]));
        Pass {
            direction: Direction::Encode,
            next: 0,
            x,
        }
    }

    /// Begins to decode lists of `codes_per_image` codes, each code below `n_embed`.
    pub fn begin_decode(&self, codes: &[Vec<u16>]) -> Pass {
        let side = self.config.latent_side() as i64;
        let flat: Vec<i64> = codes.iter().flatten().map(|&code| i64::from(code)).collect();
        let vectors = self
            .code_book
            .index_select(0, &Tensor::from_slice(&flat).to_device(self.device));
        let x = vectors
            .view([codes.len() as i64, side, side, self.config.embed_dim as i64])
            .permute([0, 3, 1, 2]);
        Pass {
            direction: Direction::Decode,
            next: 0,
            x: self.memory.lay(&x).to_kind(self.decoder_kind),
        }
    }

    /// The codes of images, each `resolution × resolution`, in one pass.
    ///
    /// # Errors
    /// As [`Self::codes`].
    pub fn encode(&self, images: &[Arc<Pixels>]) -> Result<Vec<Vec<u16>>, LatentNotFinite> {
        let mut pass = self.begin_encode(images);
        while self.advance(&mut pass) {}
        self.codes(pass)
    }

    /// The images of lists of `codes_per_image` codes, each code below `n_embed`, in one pass.
    pub fn decode(&self, codes: &[Vec<u16>]) -> Vec<Pixels> {
        let mut pass = self.begin_decode(codes);
        while self.advance(&mut pass) {}
        self.images(pass)
    }

    /// Runs the next layer of the pass. `true` while there are more.
    pub fn advance(&self, pass: &mut Pass) -> bool {
        let layers = match pass.direction {
            Direction::Encode => &self.encoder,
            Direction::Decode => &self.decoder,
        };
        if let Some(layer) = layers.get(pass.next) {
            pass.x = layer.forward(&pass.x);
            pass.next += 1;
        }
        pass.next < layers.len()
    }

    /// The codes of each image of a finished encoding pass: nearest code-book vector by squared L2, row-major.
    ///
    /// # Errors
    /// When the distance to the nearest vector is not finite, of whichever of the images.
    pub fn codes(&self, pass: Pass) -> Result<Vec<Vec<u16>>, LatentNotFinite> {
        let (n, per_image) = (pass.x.size()[0], self.config.codes_per_image());
        let z = pass
            .x
            .permute([0, 2, 3, 1])
            .reshape([n * per_image as i64, self.config.embed_dim as i64]);
        let norms = z.square().sum_dim_intlist(1, true, Kind::Float);
        let distances = norms + &self.squares - z.matmul(&self.code_book.transpose(0, 1)) * 2.0;
        // What is no number is the least, wherever it comes from: a latent, or a vector.
        let (least, nearest) = distances.min_dim(1, false);
        if least.isfinite().all().int64_value(&[]) == 0 {
            return Err(LatentNotFinite);
        }
        let nearest = nearest.to_device(Device::Cpu);
        let mut flat = vec![0i64; n as usize * per_image];
        nearest.copy_data(&mut flat, n as usize * per_image);
        let codes = |image: &[i64]| -> Vec<u16> { image.iter().map(|&code| code as u16).collect() };
        Ok(flat.chunks(per_image).map(codes).collect())
    }

    /// The images of a finished decoding pass: clipped to [−1, 1], then `(x+1)/2` to 8 bit, rounded to nearest.
    pub fn images(&self, pass: Pass) -> Vec<Pixels> {
        let (n, side) = (pass.x.size()[0], self.config.resolution);
        let x = pass.x.to_kind(Kind::Float);
        let levels = ((x.clamp(-1.0, 1.0) + 1.0) / 2.0 * 255.0 + 0.5)
            .floor()
            .to_kind(Kind::Uint8);
        let rows = levels
            .expand([n, 3, side as i64, side as i64], false)
            .permute([0, 2, 3, 1])
            .contiguous();
        let rows = rows.to_device(Device::Cpu);
        let mut bytes = vec![0u8; n as usize * side * side * 3];
        let length = bytes.len();
        rows.copy_data(&mut bytes, length);
        bytes
            .chunks(side * side * 3)
            .filter_map(|image| Pixels::new(side, side, image.to_vec()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::source::RandomSource;

    const YAML: &str = "model: {params: {embed_dim: 4, n_embed: 16, ddconfig: {double_z: false, z_channels: 4, resolution: 16, in_channels: 3, out_ch: 3, ch: 32, \
                        ch_mult: [1, 2], num_res_blocks: 1, attn_resolutions: [8], dropout: 0.0}}}";

    /// Random weights, of which one tensor is not finite.
    struct Damaged {
        source: RandomSource,
        name: &'static str,
    }

    impl TensorSource for Damaged {
        fn tensor(&self, name: &str, shape: &[usize], kind: Kind, device: Device) -> Result<Tensor, LoadError> {
            let tensor = self.source.tensor(name, shape, kind, device)?;
            Ok(if name == self.name { tensor * f64::NAN } else { tensor })
        }
    }

    #[test]
    fn an_encoder_or_a_code_book_that_gives_no_numbers_gives_no_codes_and_such_a_decoder_is_told() {
        let _guard = tch::no_grad_guard();
        let config = VqganConfig::from_yaml(YAML.as_bytes()).unwrap();
        let image = Arc::new(Pixels::new(16, 16, vec![9; 16 * 16 * 3]).unwrap());
        let load = |name| {
            let source = RandomSource::new(1);
            Vqgan::load(&config, &Damaged { source, name }, Kind::Float, Device::Cpu).unwrap()
        };
        let encode = |name| load(name).encode(std::slice::from_ref(&image));
        assert_eq!(encode("none").unwrap()[0].len(), config.codes_per_image());
        for name in ["encoder.conv_out.bias", "quantize.embedding.weight"] {
            assert_eq!(encode(name), Err(LatentNotFinite), "{name}");
        }
        let draws_numbers = |name| {
            let network = load(name);
            let mut pass = network.begin_decode(&[vec![3; config.codes_per_image()]]);
            while network.advance(&mut pass) {}
            pass.is_finite()
        };
        assert!(draws_numbers("none") && !draws_numbers("decoder.conv_out.bias"));
    }
}
