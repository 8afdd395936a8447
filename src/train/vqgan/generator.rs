//! The trainable encoder, code book and decoder: the server's layers over trainable parameters.

use sha2::{Digest, Sha256};
use tch::{Device, Kind, Tensor};

use crate::model::ExpectedTensor;
use crate::model::checkpoint::Weights;
use crate::model::source::{LoadError, TensorSource};
pub(super) use crate::model::vqgan::CODE_BOOK;
use crate::model::vqgan::layout::LayerSpec;
use crate::model::vqgan::{Layer, Memory, VqganConfig};
use crate::train::common::{Initial, Parameters, TrainError};

/// The last layer, whose gradients weigh the discriminator's loss.
pub(super) const LAST_LAYER: &str = "decoder.conv_out.weight";

/// Whether a weight is used behind the code book, so that codes do not depend on it.
pub fn of_decoder(name: &str) -> bool {
    name.starts_with("decoder.") || name.starts_with("post_quant_conv.")
}

/// The first tensor by which the codes of two VQ-GANs of one shape may differ; `None` where their encoders and code books are the same.
/// The decoders of both must only be of one shape and type.
pub fn other_codes(config: &VqganConfig, one: &Weights, another: &Weights) -> Option<String> {
    let differs = |name: &str| {
        one.info(name) != another.info(name) || (!of_decoder(name) && one.bytes(name) != another.bytes(name))
    };
    let mut names = config.expected_tensors().into_iter().map(|tensor| tensor.name);
    names.find(|name| differs(name))
}

/// SHA-256 of what decides the codes of a VQ-GAN: its shape, its encoder and its code book. Files of codes and runs carry it: what
/// goes into it, and how, stays.
pub(super) fn codes_checksum(config: &VqganConfig, weights: &Weights) -> [u8; 32] {
    let VqganConfig {
        embed_dim,
        n_embed,
        z_channels,
        resolution,
        in_channels,
        out_ch,
        ch,
        ch_mult,
        num_res_blocks,
        attn_resolutions,
        resamp_with_conv,
    } = config;
    let mut sum = Sha256::new();
    sum.update(format!(
        "{embed_dim} {n_embed} {z_channels} {resolution} {in_channels} {out_ch} {ch} {ch_mult:?} {num_res_blocks} {attn_resolutions:?} \
         {resamp_with_conv}\n"
    ));
    let mut names: Vec<String> = config
        .expected_tensors()
        .into_iter()
        .map(|tensor| tensor.name)
        .collect();
    names.retain(|name| !of_decoder(name));
    names.sort();
    for name in &names {
        // One that is not there counts as such: nothing can be encoded without it.
        if let (Some(info), Some(bytes)) = (weights.info(name), weights.bytes(name)) {
            sum.update(format!("{name} {} {:?}\n", info.dtype.name(), info.shape));
            sum.update(bytes);
        }
    }
    sum.finalize().into()
}

/// A VQ-GAN's trainable weights.
pub struct Generator {
    /// Its shape.
    pub config: VqganConfig,
    /// Its weights, named as in the state dict.
    pub parameters: Parameters,
    device: Device,
}

impl Generator {
    /// Fresh weights; `beside` are trained with them and not exported.
    pub fn new(
        config: &VqganConfig,
        beside: Vec<ExpectedTensor>,
        seed: u64,
        device: Device,
    ) -> Result<Self, TrainError> {
        let mut expected = config.expected_tensors();
        expected.extend(beside);
        Ok(Self {
            parameters: Parameters::fresh(&expected, Initial::Torch, seed, device)?,
            config: config.clone(),
            device,
        })
    }

    /// The network over the present weights, which computes in `kind`; gradients flow to the weights.
    pub fn network(&self, kind: Kind) -> Result<Network, TrainError> {
        self.network_of(&self.parameters, kind)
    }

    /// The same network over other weights (an average of the present ones).
    pub fn network_of(&self, weights: &dyn TensorSource, kind: Kind) -> Result<Network, TrainError> {
        let memory = Memory::for_training(self.device);
        let load = |specs: Vec<LayerSpec>| {
            specs
                .iter()
                .map(|spec| Layer::load(weights, spec, memory, kind, self.device))
                .collect::<Result<Vec<_>, LoadError>>()
        };
        let shape = [self.config.n_embed, self.config.embed_dim];
        Ok(Network {
            encoder: load(self.config.encoder_layers())?,
            decoder: load(self.config.decoder_layers())?,
            code_book: weights.tensor(CODE_BOOK, &shape, Kind::Float, self.device)?,
            kind,
            memory,
        })
    }
}

/// Encoder and decoder for one step.
pub struct Network {
    encoder: Vec<Layer>,
    decoder: Vec<Layer>,
    /// `[n_embed, embed_dim]`, f32.
    pub code_book: Tensor,
    kind: Kind,
    memory: Memory,
}

impl Network {
    /// Images `[n, c, side, side]` in [−1, 1] → latents `[n, embed_dim, h, w]`, f32.
    pub fn encode(&self, x: &Tensor) -> Tensor {
        let x = self.memory.lay(&x.to_kind(self.kind));
        self.encoder
            .iter()
            .fold(x, |x, layer| layer.forward(&x))
            .to_kind(Kind::Float)
    }

    /// Latents → images, f32.
    pub fn decode(&self, z: &Tensor) -> Tensor {
        let z = self.memory.lay(&z.to_kind(self.kind));
        self.decoder
            .iter()
            .fold(z, |z, layer| layer.forward(&z))
            .to_kind(Kind::Float)
    }
}

/// Latents replaced by code-book vectors.
pub struct Quantized {
    /// The vectors in the latents' place, with gradients passed straight through to the latents.
    pub straight: Tensor,
    /// Indices, `[n·h·w]`, i64, row-major.
    pub codes: Tensor,
    /// taming's code-book loss.
    pub loss: Tensor,
}

/// Replaces each vector of `z` (`[n, d, h, w]`) by the nearest of `code_book` (`[k, d]`). The loss is that of taming's
/// `VectorQuantizer` as published models were trained, mean((sg[e]−z)²) + β·mean((e−sg[z])²): β weighs the code book's part.
pub fn quantize(z: &Tensor, code_book: &Tensor, beta: f64) -> Quantized {
    let rows = rows(z);
    let codes = tch::no_grad(|| nearest(&rows, code_book));
    let chosen = code_book.index_select(0, &codes);
    let commit = (chosen.detach() - &rows).square().mean(Kind::Float);
    let follow = (&chosen - rows.detach()).square().mean(Kind::Float);
    let (n, d, h, w) = z.size4().unwrap_or((0, 0, 0, 0));
    let vectors = chosen.detach().view([n, h, w, d]).permute([0, 3, 1, 2]);
    Quantized {
        straight: z + (vectors - z.detach()),
        codes,
        loss: commit + follow * beta,
    }
}

/// The vectors of `z` (`[n, d, h, w]`) as rows `[n·h·w, d]`.
pub(super) fn rows(z: &Tensor) -> Tensor {
    let d = z.size().get(1).copied().unwrap_or(1);
    z.permute([0, 2, 3, 1]).reshape([-1, d])
}

/// Index of the code-book vector nearest to each row, by squared L2.
pub(super) fn nearest(rows: &Tensor, code_book: &Tensor) -> Tensor {
    let norms = |t: &Tensor, keep| t.square().sum_dim_intlist([1i64].as_slice(), keep, Kind::Float);
    let distances = norms(rows, true) + norms(code_book, false) - rows.matmul(&code_book.transpose(0, 1)) * 2.0;
    distances.argmin(1, false)
}
