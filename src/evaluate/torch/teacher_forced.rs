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
    /// Room for [`TOGETHER`] sequences of so many positions each, the longest that have come; `None` before the first.
    kv: Option<(KvMemory, usize)>,
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
            network,
            kv: None,
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
        let wanted = positions(given, self.context);
        // The old memory goes before there is a new one.
        let kept = self.kv.take().filter(|(_, each)| *each >= wanted);
        let (kv, each) = self
            .kv
            .insert(kept.unwrap_or_else(|| (self.network.kv_memory(wanted * TOGETHER), wanted)));
        let each = *each;
        let span = |slot: usize| Span {
            start: slot * each,
            len: each,
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
            let Some(logits) = self.network.step(kv, &segments) else {
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

/// Positions that each of these texts gets: those of the longest, rounded up to a power of two, so that memory is made a few times and not for
/// every text that is longer than all before; a context at most.
fn positions(given: &[Given], context: usize) -> usize {
    let longest = given.iter().map(|g| g.prompt.len() + g.reply.len()).max();
    longest.unwrap_or(0).next_power_of_two().min(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_for_the_longest_text_and_not_for_the_context() {
        let given = |prompt: usize, reply: usize| Given {
            prompt: vec![0; prompt],
            reply: vec![0; reply],
        };
        let texts = [given(20, 30), given(3, 4)];
        assert_eq!(positions(&texts, 4096), 64);
        assert_eq!(positions(&texts, 50), 50);
        assert_eq!(positions(&texts[1..], 4096), 8);
        assert_eq!(positions(&[], 4096), 1);
    }
}
