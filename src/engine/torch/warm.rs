//! What a backend runs before the first request: libraries choose and compile their kernels at first use, and a GPU's steps are recorded then.

use std::sync::Arc;

use super::TorchBackend;
use crate::engine::sampler::SampleError;
use crate::engine::{Backend, BackendError, RowSample, VisionOutput, VisionWork};
use crate::model::neox::{Segment, Span};
use crate::radiograph::Pixels;
use crate::vocabulary::TokenId;

/// Tokens of the prompts: one on a CPU, where a long one takes seconds; on a GPU several, for libraries take other kernels for other lengths.
const PROMPTS: &[usize] = &[8, 32, 128, 512];

/// Tokens that sequences hold when a GPU's steps are recorded: enough for every warp of a block that attends.
const BEFORE: usize = 80;

/// Sequences of so many tokens in the KV memory, one after the other, with room for a token more each.
#[derive(Clone, Copy)]
struct Sequences {
    before: usize,
}

impl Sequences {
    /// A piece of `tokens` of the sequence of this number.
    fn piece(self, number: usize, position: usize, tokens: &[TokenId], logits: usize) -> Segment<'_> {
        let len = self.before + 1;
        Segment {
            span: Span {
                start: number * len,
                len,
            },
            position,
            tokens,
            logits,
        }
    }
}

impl TorchBackend {
    /// Runs prompts, steps of as many rows as are recorded, and encodings and drawings.
    pub(super) fn warm_up(&mut self) -> Result<(), BackendError> {
        let gpu = self.device.is_cuda();
        for length in if gpu { PROMPTS } else { &PROMPTS[..1] } {
            self.warm_prompt(*length)?;
        }
        let sizes = self.neox.step_sizes();
        let most = sizes.iter().copied().max().unwrap_or(1);
        let sequences = self.warm_sequences(if gpu { most } else { 0 })?;
        for rows in sizes {
            self.warm_step(rows, sequences)?;
        }
        let mut images = 1;
        while images <= self.facts.vision_batch {
            self.warm_vision(images)?;
            images *= 2;
        }
        Ok(())
    }

    /// Tokens of a text. Not the same over and over: on a GPU our kernels are compared with libtorch's by what is run here, and where all keys and values are
    /// alike, attention to the wrong ones gives the right sums.
    fn text(&self, from: usize, count: usize) -> Vec<TokenId> {
        let words = self.facts.code_base.max(1);
        (from..from + count)
            .map(|at| (at as u32).wrapping_mul(7919) % words)
            .collect()
    }

    /// A prompt of `length` tokens or as many as there is room for, alone, behind as many, and beside a reply.
    fn warm_prompt(&mut self, length: usize) -> Result<(), BackendError> {
        let room = self
            .facts
            .context
            .min(self.facts.kv_tokens.saturating_sub(1))
            .saturating_sub(1);
        let prompt = self.text(0, length.min(room));
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

    /// Sequences for as many rows as the largest step has, each of [`BEFORE`] tokens or as many as there is room for.
    fn warm_sequences(&mut self, rows: usize) -> Result<Sequences, BackendError> {
        let room = self.facts.kv_tokens / rows.max(1);
        let before = match rows {
            0 => 0,
            _ => BEFORE.min(room.min(self.facts.context).saturating_sub(1)),
        };
        let sequences = Sequences { before };
        let texts: Vec<_> = (0..rows).map(|row| self.text(row * 3, before)).collect();
        if before > 0 {
            let pieces: Vec<_> = texts.iter().enumerate().collect();
            for some in pieces.chunks(8) {
                let segments: Vec<_> = some
                    .iter()
                    .map(|(row, text)| sequences.piece(*row, 0, text, 0))
                    .collect();
                self.step(&segments, &[])?;
            }
        }
        Ok(sequences)
    }

    /// A step of one token of each of `rows` sequences, with and, where the device samples, without logits that come over. A memory too small for as many is
    /// none that they will run in.
    fn warm_step(&mut self, rows: usize, sequences: Sequences) -> Result<(), BackendError> {
        if rows * (sequences.before + 1) > self.facts.kv_tokens {
            return Ok(());
        }
        let tokens = self.text(1, rows);
        let segments: Vec<_> = tokens
            .chunks(1)
            .enumerate()
            .map(|(row, token)| sequences.piece(row, sequences.before, token, 1))
            .collect();
        self.step(&segments, &[])?;
        if !self.facts.samples_on_device {
            return Ok(());
        }
        let words = self.facts.code_base;
        // The likeliest, as reports are; by weight, and of other ids in other rows, as where images are drawn beside answers; and of some alone.
        for (temperature, top_k, top_p, apart) in [(0.0, 0, 1.0, 0), (1.0, 0, 0.9, words / 2), (1.0, 50, 1.0, 0)] {
            let sample = |row: usize| RowSample {
                allowed: 0..words - if row % 2 == 1 { apart } else { 0 },
                temperature,
                top_k,
                top_p,
                uniform: 0.5,
            };
            let samples: Vec<_> = (0..rows).map(|row| vec![sample(row)]).collect();
            let output = self.step(&segments, &samples)?;
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
        // 32 positions in all: for 64 rows, for 16 with a token before each, and for one.
        for (most, before) in [(64, 0), (16, 1), (1, 31), (0, 0)] {
            let sequences = backend.warm_sequences(most).unwrap();
            assert_eq!(sequences.before, before, "{most}");
            for rows in [1, 2, 4, 8, 16, 32, 64] {
                backend.warm_step(rows, sequences).unwrap();
            }
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
        let error = backend.warm_step(1, Sequences { before: 0 }).unwrap_err();
        assert!(error.0.contains("not finite"), "{}", error.0);
    }
}
