//! Log-probabilities of given replies under teacher forcing, through the passes that the server runs.

use tch::{Device, Kind, Tensor};

use crate::evaluate::EvaluateError;
use crate::model::bundle::Bundle;
use crate::model::device::WeightsChoice;
use crate::model::neox::{KvMemory, Neox, Segment, Span};
use crate::train::common::TrainError;
use crate::vocabulary::TokenId;

/// Sequences computed together.
pub const TOGETHER: usize = 16;

/// A language model that is given each token of a reply, whatever it would have said itself.
pub struct TeacherForced {
    network: Neox,
    kv: KvMemory,
    context: usize,
}

/// A prompt and the reply that is right.
pub struct Given {
    /// The prompt's tokens, image codes included.
    pub prompt: Vec<TokenId>,
    /// The reply's tokens.
    pub reply: Vec<TokenId>,
}

impl TeacherForced {
    /// Loads the language model of a bundle, computing in `kind`, its matrices held as `weights` says.
    ///
    /// # Errors
    /// When it cannot be loaded.
    pub fn open(bundle: &Bundle, kind: Kind, weights: WeightsChoice, device: Device) -> Result<Self, EvaluateError> {
        let network = Neox::load_as(&bundle.neox, &bundle.neox_weights()?, weights, kind, device)?;
        let context = bundle.neox.max_position_embeddings;
        Ok(Self {
            kv: network.kv_memory(context * TOGETHER),
            network,
            context,
        })
    }

    /// Longest prompt and reply together.
    pub fn context(&self) -> usize {
        self.context
    }

    /// For each of at most [`TOGETHER`] sequences, each within the context, the natural logarithm of the probability of each reply token.
    pub fn log_probabilities(&mut self, given: &[Given]) -> Result<Vec<Vec<f64>>, TrainError> {
        let _guard = tch::no_grad_guard();
        let span = |slot: usize| Span {
            start: slot * self.context,
            len: self.context,
        };
        let mut found = vec![Vec::new(); given.len()];
        let longest = given.iter().map(|g| g.reply.len()).max().unwrap_or(0);
        for at in 0..longest {
            let (mut segments, mut wanted) = (Vec::new(), Vec::new());
            for (slot, one) in given.iter().enumerate() {
                let Some(&target) = one.reply.get(at) else { continue };
                let (position, tokens) = match at {
                    0 => (0, one.prompt.as_slice()),
                    _ => (one.prompt.len() + at - 1, &one.reply[at - 1..at]),
                };
                segments.push(Segment {
                    span: span(slot),
                    position,
                    tokens,
                    logits: 1,
                });
                wanted.push((slot, target));
            }
            let Some(logits) = self.network.step(&mut self.kv, &segments) else {
                continue;
            };
            let targets: Vec<i64> = wanted.iter().map(|w| i64::from(w.1)).collect();
            let targets = Tensor::from_slice(&targets).to_device(logits.device()).unsqueeze(1);
            let chosen = logits.log_softmax(-1, Kind::Float).f_gather(1, &targets, false)?;
            let chosen = Vec::<f64>::try_from(chosen.view([-1]).to_device(Device::Cpu).to_kind(Kind::Double))?;
            wanted
                .iter()
                .zip(chosen)
                .for_each(|((slot, _), value)| found[*slot].push(value));
        }
        Ok(found)
    }
}
