//! What a backend runs before the first request: libraries choose and compile their kernels at first use, and a GPU's steps are recorded then.

use std::sync::Arc;

use super::TorchBackend;
use crate::engine::sampler::SampleError;
use crate::engine::{Backend, BackendError, RowSample, VisionOutput, VisionWork};
use crate::model::neox::{Segment, Span};
use crate::radiograph::Pixels;

/// Tokens of the prompts: one on a CPU, where a long one takes seconds; on a GPU several, for libraries take other kernels for other lengths.
const PROMPTS: &[usize] = &[8, 32, 128, 512];

impl TorchBackend {
    /// Runs prompts, steps of as many rows as are recorded, and encodings and drawings.
    pub(super) fn warm_up(&mut self) -> Result<(), BackendError> {
        let lengths = if self.device.is_cuda() { PROMPTS } else { &PROMPTS[..1] };
        for rows in self.neox.step_sizes() {
            self.warm_step(rows)?;
        }
        for length in lengths {
            self.warm_prompt(*length)?;
        }
        let mut images = 1;
        while images <= self.facts.vision_batch {
            self.warm_vision(images)?;
            images *= 2;
        }
        Ok(())
    }

    /// A prompt of `length` tokens or as many as there is room for, alone, behind as many, and beside a reply.
    fn warm_prompt(&mut self, length: usize) -> Result<(), BackendError> {
        let room = self.facts.context.min(self.facts.kv_tokens - 1) - 1;
        let prompt = vec![0; length.min(room)];
        if prompt.is_empty() {
            return Ok(());
        }
        let part = |start, tokens| Segment {
            span: Span {
                start,
                len: prompt.len() + 1,
            },
            position: 0,
            tokens,
            logits: 1,
        };
        let reply = Segment {
            span: Span { start: 0, len: 1 },
            ..part(0, &prompt[..1])
        };
        self.step(&[part(0, &prompt)], &[])?;
        // Such as follow a prefix that prompts share. They attend by other kernels.
        let behind = Segment {
            span: Span {
                start: 0,
                len: 2 * prompt.len(),
            },
            position: prompt.len(),
            ..part(0, &prompt)
        };
        if behind.span.len <= room {
            self.step(&[behind], &[])?;
        }
        self.step(&[reply, part(1, &prompt)], &[])?;
        Ok(())
    }

    /// A step of one token of each of `rows` sequences, with and, where the device samples, without logits that come over. A memory too small for as many is
    /// none that they will run in.
    fn warm_step(&mut self, rows: usize) -> Result<(), BackendError> {
        if rows > self.facts.kv_tokens {
            return Ok(());
        }
        let segment = |start: usize| Segment {
            span: Span { start, len: 1 },
            position: 0,
            tokens: &[0],
            logits: 1,
        };
        let segments: Vec<_> = (0..rows).map(segment).collect();
        self.step(&segments, &[])?;
        if !self.facts.samples_on_device {
            return Ok(());
        }
        // The likeliest, as reports are; and by weight, of some ids, as images and answers are.
        for (temperature, top_k, top_p) in [(0.0, 0, 1.0), (1.0, 0, 0.9), (1.0, 50, 1.0)] {
            let sample = RowSample {
                allowed: 0..self.facts.code_base,
                temperature,
                top_k,
                top_p,
                uniform: 0.5,
            };
            let output = self.step(&segments, &vec![vec![sample]; rows])?;
            if output.sampled.iter().flatten().any(Option::is_none) {
                return Err(BackendError(SampleError::NotFinite.to_string()));
            }
        }
        Ok(())
    }

    /// The codes of so many black images, and what they draw.
    fn warm_vision(&mut self, images: usize) -> Result<(), BackendError> {
        let side = self.facts.image_side;
        let black = Pixels::new(side, side, vec![0; side * side * 3]);
        let black = Arc::new(black.ok_or_else(|| BackendError(format!("no image has a side of {side} pixels")))?);
        let mut work = VisionWork::Encode(vec![black; images]);
        loop {
            self.vision_begin(work)?;
            work = loop {
                match self.vision_advance()? {
                    None => {}
                    Some(VisionOutput::Codes(codes)) => break VisionWork::Decode(codes),
                    Some(VisionOutput::Images(_)) => return Ok(()),
                }
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind, Tensor};

    use super::*;
    use crate::model::neox::{Neox, NeoxConfig};
    use crate::model::source::{LoadError, RandomSource, TensorSource};
    use crate::model::vqgan::{Vqgan, VqganConfig};

    const NEOX: &str = r#"{"vocab_size":120,"hidden_size":32,"num_hidden_layers":1,"num_attention_heads":2,"intermediate_size":64,
        "max_position_embeddings":32}"#;
    const VQGAN: &str = "model: {params: {embed_dim: 4, n_embed: 16, ddconfig: {double_z: false, z_channels: 4, resolution: 16, in_channels: 3, out_ch: 3, ch: 32, \
                         ch_mult: [1, 2], num_res_blocks: 1, attn_resolutions: [8], dropout: 0.0}}}";

    #[test]
    fn every_number_of_rows_that_a_gpu_records_can_be_warmed_up_and_those_that_find_no_room_are_left_out() {
        let neox = NeoxConfig::from_json(NEOX.as_bytes()).unwrap();
        let vqgan = VqganConfig::from_yaml(VQGAN.as_bytes()).unwrap();
        let source = RandomSource::new(1);
        let model = Neox::load(&neox, &source, Kind::Float, Device::Cpu).unwrap();
        assert_eq!(model.step_sizes(), vec![1]);
        let network = Vqgan::load(&vqgan, &source, Kind::Float, Device::Cpu).unwrap();
        let mut backend = TorchBackend::new(model, network, 32, 1, Kind::Float, Device::Cpu);
        backend.facts.samples_on_device = true;
        for rows in [1, 2, 4, 8, 16, 32, 64] {
            backend.warm_step(rows).unwrap();
        }
        for length in PROMPTS {
            backend.warm_prompt(*length).unwrap();
        }
        for images in [1, 2, 4] {
            backend.warm_vision(images).unwrap();
        }
        backend.warm_up().unwrap();
    }

    /// Weights of which none is a number.
    struct Damaged;

    impl TensorSource for Damaged {
        fn tensor(&self, _: &str, shape: &[usize], kind: Kind, device: Device) -> Result<Tensor, LoadError> {
            let shape: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
            Ok(Tensor::full(shape.as_slice(), f64::NAN, (kind, device)))
        }
    }

    #[test]
    fn a_model_whose_logits_are_no_numbers_is_not_warmed_up_where_tokens_are_sampled_beside_it() {
        let neox = NeoxConfig::from_json(NEOX.as_bytes()).unwrap();
        let vqgan = VqganConfig::from_yaml(VQGAN.as_bytes()).unwrap();
        let model = Neox::load(&neox, &Damaged, Kind::Float, Device::Cpu).unwrap();
        let network = Vqgan::load(&vqgan, &RandomSource::new(1), Kind::Float, Device::Cpu).unwrap();
        let mut backend = TorchBackend::new(model, network, 32, 1, Kind::Float, Device::Cpu);
        backend.facts.samples_on_device = true;
        let error = backend.warm_step(1).unwrap_err();
        assert!(error.0.contains("not finite"), "{}", error.0);
    }
}
