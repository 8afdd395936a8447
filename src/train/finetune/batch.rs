//! The examples of a step, put together by length so that little padding is computed.

use super::examples::Examples;
use super::settings::FinetuneSettings;
use crate::train::common::Mixture;
use crate::train::language_model::{Encoder, Sequence, StepBatch};
use crate::train::neox::{IGNORED, TokenBatch};

/// Sequences are padded to a multiple of this.
const PAD_TO: usize = 8;

/// Makes the batch of each step from its number alone.
pub struct Batches {
    /// The examples.
    pub examples: std::sync::Arc<Examples>,
    mixture: Mixture,
    size: usize,
    pass_tokens: usize,
    context: usize,
    label_power: f64,
}

impl Batches {
    /// Steps of `settings.batch` examples, in passes of at most `settings.pass_tokens` tokens (and at least one sequence).
    pub fn new(examples: std::sync::Arc<Examples>, settings: &FinetuneSettings, context: usize) -> Self {
        let pools = examples.pools.iter().map(|p| (Some(p.items.len() as u64), p.share));
        Self {
            mixture: Mixture::new(pools.collect(), settings.seed),
            examples,
            size: settings.batch,
            pass_tokens: settings.pass_tokens,
            context,
            label_power: settings.label_power,
        }
    }

    /// Steps until every example has come up once.
    pub fn epoch(&self) -> f64 {
        self.mixture.epoch() as f64 / self.size as f64
    }

    /// The batch of `step`.
    pub fn step(&self, step: u64) -> StepBatch {
        let (mut batch, mut sequences) = (StepBatch::default(), Vec::with_capacity(self.size));
        for position in step * self.size as u64..(step + 1) * self.size as u64 {
            let Some(draw) = self.mixture.draw(position) else {
                break;
            };
            match self.examples.training(draw, position) {
                Ok((name, sequence)) => {
                    batch.names.push(name);
                    sequences.push(sequence);
                }
                Err(skip) => batch.skipped.push(skip),
            }
        }
        batch.passes = pack(&self.examples.encoder, sequences, self.pass_tokens, self.context);
        if self.label_power > 0.0 {
            batch.passes.iter_mut().for_each(|pass| weigh(pass, self.label_power));
        }
        batch
    }
}

/// Puts sequences of similar length together and pads each group to a multiple of eight (but to no more than `context`); the padding
/// is `<|endoftext|>` and carries no labels.
pub fn pack(encoder: &Encoder, mut sequences: Vec<Sequence>, pass_tokens: usize, context: usize) -> Vec<TokenBatch> {
    sequences.sort_by_key(|s| std::cmp::Reverse(s.ids.len()));
    let pad = i64::from(encoder.vocabulary().end_of_text());
    let (mut passes, mut rest) = (Vec::new(), sequences.as_slice());
    while let Some(longest) = rest.first() {
        let length = longest
            .ids
            .len()
            .next_multiple_of(PAD_TO)
            .min(context.max(longest.ids.len()));
        let rows = (pass_tokens / length).clamp(1, rest.len());
        let (group, others) = rest.split_at(rows);
        let mut pass = TokenBatch {
            rows,
            length,
            ids: Vec::with_capacity(rows * length),
            labels: Vec::with_capacity(rows * length),
            weights: Vec::new(),
        };
        for sequence in group {
            pass.ids.extend(sequence.ids.iter().map(|&id| i64::from(id)));
            pass.labels.extend(encoder.labels(sequence));
            let end = pass.ids.len().next_multiple_of(length);
            pass.ids.resize(end, pad);
            pass.labels.resize(end, IGNORED);
        }
        passes.push(pass);
        rest = others;
    }
    passes
}

/// Gives each label of a sequence with n of them the weight n^−power.
fn weigh(pass: &mut TokenBatch, power: f64) {
    let rows = pass.labels.chunks(pass.length.max(1));
    let count = |labels: &[i64]| labels.iter().filter(|&&label| label != IGNORED).count().max(1);
    pass.weights = rows.map(|labels| (count(labels) as f64).powf(-power) as f32).collect();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::language_model::test_vocabulary::vocabulary;

    #[test]
    fn sequences_of_like_length_share_a_pass_and_padding_reaches_a_multiple_of_eight() {
        let encoder = Encoder::new(vocabulary());
        let sequence = |length: usize| Sequence {
            ids: (1..=length as u32).collect(),
            response: length - 2,
        };
        let lengths = [30, 9, 31, 12, 9];
        let passes = pack(&encoder, lengths.map(sequence).to_vec(), 64, 512);
        let shapes: Vec<_> = passes.iter().map(|p| (p.rows, p.length)).collect();
        assert_eq!(shapes, [(2, 32), (3, 16)]);
        let second = &passes[1];
        assert_eq!(
            second.ids[16..32],
            [[1, 2, 3, 4, 5, 6, 7, 8, 9].as_slice(), &[0; 7]].concat()
        );
        assert_eq!(second.labels[16 + 7..32], [[8, 9].as_slice(), &[IGNORED; 7]].concat());
        let labels = passes.iter().flat_map(|p| &p.labels).filter(|&&l| l != IGNORED);
        assert_eq!(labels.count(), 2 * lengths.len());
    }

    #[test]
    fn with_power_one_every_example_weighs_the_same_and_with_a_half_short_answers_weigh_less_but_each_label_more() {
        let encoder = Encoder::new(vocabulary());
        let sequence = |labels: usize| Sequence {
            ids: vec![1; 20],
            response: 20 - labels,
        };
        let mut pass = pack(&encoder, vec![sequence(16), sequence(4)], 64, 64).swap_remove(0);
        assert_eq!(pass.weight(), 20.0);
        weigh(&mut pass, 1.0);
        assert_eq!((pass.weights.clone(), pass.weight()), (vec![0.0625, 0.25], 2.0));
        weigh(&mut pass, 0.5);
        assert_eq!((pass.weights.clone(), pass.weight()), (vec![0.25, 0.5], 6.0));
    }

    #[test]
    fn a_sequence_longer_than_a_pass_has_a_pass_of_its_own_and_padding_stays_in_the_context() {
        let encoder = Encoder::new(vocabulary());
        let sequence = Sequence {
            ids: vec![1; 27],
            response: 5,
        };
        let passes = pack(&encoder, vec![sequence; 2], 10, 30);
        assert_eq!(
            passes.iter().map(|p| (p.rows, p.length)).collect::<Vec<_>>(),
            [(1, 30); 2]
        );
    }
}
