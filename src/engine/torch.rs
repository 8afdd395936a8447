//! The engine's backend over libtorch: the one place of the engine that holds tensors.

use tch::{Device, Kind, Tensor};

use super::backend::{Backend, BackendError, Facts, VisionOutput, VisionWork};
use crate::model::device;
use crate::model::neox::{KvMemory, Neox, Segment};
use crate::model::vqgan::{Pass, Vqgan};

/// Language model, VQ-GAN and KV memory on one device. Made and used inside the engine's thread: gradients are off there alone.
pub struct TorchBackend {
    neox: Neox,
    vqgan: Vqgan,
    kv: KvMemory,
    pass: Option<(Pass, bool)>,
    facts: Facts,
    device: Device,
    _no_grad: tch::NoGradGuard,
}

impl TorchBackend {
    /// Puts the parts together. `kv_tokens` positions of KV memory are set aside; code `c` is the token `code_base + c`.
    pub fn new(neox: Neox, vqgan: Vqgan, kv_tokens: usize, vision_batch: usize, kind: Kind, on: Device) -> Self {
        let config = neox.config();
        let facts = Facts {
            vocabulary: config.vocab_size,
            context: config.max_position_embeddings,
            kv_tokens,
            kv_bytes_per_token: KvMemory::bytes_per_token(config, kind),
            codes_per_image: vqgan.config().codes_per_image(),
            code_base: (config.vocab_size - vqgan.config().n_embed) as u32,
            code_count: vqgan.config().n_embed,
            image_side: vqgan.config().resolution,
            vision_batch,
            device: device::name(on),
            dtype: if kind == Kind::BFloat16 { "bf16" } else { "f32" }.to_owned(),
        };
        let kv = neox.kv_memory(kv_tokens);
        Self {
            neox,
            vqgan,
            kv,
            pass: None,
            facts,
            device: on,
            _no_grad: tch::no_grad_guard(),
        }
    }
}

impl Backend for TorchBackend {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn step(&mut self, segments: &[Segment<'_>]) -> Result<Vec<f32>, BackendError> {
        let Some(logits) = self.neox.step(&mut self.kv, segments) else {
            return Ok(Vec::new());
        };
        let logits = logits
            .f_to_device(Device::Cpu)
            .map_err(torch)?
            .f_contiguous()
            .map_err(torch)?;
        let mut out = vec![0f32; logits.numel()];
        let length = out.len();
        logits.f_copy_data(&mut out, length).map_err(torch)?;
        Ok(out)
    }

    fn vision_begin(&mut self, work: VisionWork) -> Result<(), BackendError> {
        self.pass = Some(match work {
            VisionWork::Encode(images) => (self.vqgan.begin_encode(&images), true),
            VisionWork::Decode(codes) => (self.vqgan.begin_decode(&codes), false),
        });
        Ok(())
    }

    fn vision_advance(&mut self) -> Result<Option<VisionOutput>, BackendError> {
        // Taken out first: after a panic in a layer no pass is under way.
        let Some((mut pass, encode)) = self.pass.take() else {
            return Err(BackendError("no VQ-GAN pass is under way".to_owned()));
        };
        if self.vqgan.advance(&mut pass) {
            self.pass = Some((pass, encode));
            return Ok(None);
        }
        Ok(Some(match encode {
            true => VisionOutput::Codes(self.vqgan.codes(pass)),
            false => VisionOutput::Images(self.vqgan.images(pass)),
        }))
    }

    fn vision_cancel(&mut self) {
        self.pass = None;
    }

    fn health(&mut self) -> Result<(), BackendError> {
        let ones = Tensor::f_ones([16, 16], (Kind::Float, self.device)).map_err(torch)?;
        let product = ones.f_matmul(&ones).map_err(torch)?;
        match product.f_double_value(&[0, 0]).map_err(torch)? {
            16.0 => Ok(()),
            other => Err(BackendError(format!("the device computes 16 ones as {other}"))),
        }
    }
}

/// The first line of what libtorch said: the rest is a C++ stack.
fn torch(error: tch::TchError) -> BackendError {
    BackendError(error.to_string().lines().next().unwrap_or("libtorch failed").to_owned())
}
