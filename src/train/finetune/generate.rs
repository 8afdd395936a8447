//! Replies of a model in training, through the network that serves it.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind};

use crate::model::neox::{KvMemory, Neox, Segment, Span};
use crate::train::common::TrainError;
use crate::train::common::random::{Purpose, generator};
use crate::train::neox::TrainableNeox;
use crate::vocabulary::{TokenId, Vocabulary};

/// Nucleus of the image codes that are drawn, the original's.
const TOP_P: f64 = 0.92;

/// Answers prompts.
pub struct Generator<'a> {
    network: Neox,
    vocabulary: &'a Vocabulary,
}

impl<'a> Generator<'a> {
    /// The model as it is now, in f32; its weights must not change as long as this lives.
    pub fn new(model: &TrainableNeox, vocabulary: &'a Vocabulary) -> Result<Self, TrainError> {
        let network = Neox::load(model.config(), model, Kind::Float, model.device())?;
        Ok(Self { network, vocabulary })
    }

    /// Greedy texts of at most `most` tokens, without image codes.
    pub fn texts(&self, prompts: &[Vec<TokenId>], most: usize) -> Vec<String> {
        let texts = self.vocabulary.text_len();
        let end = self.vocabulary.end();
        let likeliest = |_: usize, _: usize, logits: &[f32]| {
            let text = logits.get(..texts).unwrap_or(logits);
            let best = text.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
            Some(best.map_or(end, |(id, _)| id as TokenId)).filter(|&id| id != end)
        };
        let replies = self.run(prompts, most, likeliest);
        replies
            .iter()
            .map(|ids| self.vocabulary.decode_text(ids).trim().to_owned())
            .collect()
    }

    /// The codes of one image for each prompt, sampled at temperature 1 from the nucleus; they depend on `seed` alone.
    pub fn images(&self, prompts: &[Vec<TokenId>], seed: u64) -> Vec<Vec<u16>> {
        let opened: Vec<Vec<TokenId>> = prompts
            .iter()
            .map(|prompt| [prompt.as_slice(), &[self.vocabulary.open_image()]].concat())
            .collect();
        let mut random: Vec<ChaCha8Rng> = (0..prompts.len())
            .map(|row| generator(seed, Purpose::Step, row as u64))
            .collect();
        let base = self.vocabulary.code_base() as usize;
        let sampled = |row: usize, _: usize, logits: &[f32]| {
            let codes = logits.get(base..).unwrap_or(&[]);
            Some((base + nucleus(codes, &mut random[row])) as TokenId)
        };
        let replies = self.run(&opened, self.vocabulary.codes_per_image(), sampled);
        replies.iter().map(|ids| self.vocabulary.codes_in(ids)).collect()
    }

    /// Goes on with every prompt until `choose` (given the row, the number of tokens so far, and the logits) gives `None`, or for
    /// `most` tokens; never beyond the context.
    fn run(
        &self,
        prompts: &[Vec<TokenId>],
        most: usize,
        mut choose: impl FnMut(usize, usize, &[f32]) -> Option<TokenId>,
    ) -> Vec<Vec<TokenId>> {
        let _guard = tch::no_grad_guard();
        let context = self.network.config().max_position_embeddings;
        let mut replies = vec![Vec::new(); prompts.len()];
        let mut spans = Vec::with_capacity(prompts.len());
        let mut total = 0;
        for prompt in prompts {
            let len = (prompt.len() + most).min(context);
            spans.push(Span { start: total, len });
            total += len;
        }
        let mut memory = self.network.kv_memory(total.max(1));
        let mut open: Vec<usize> = (0..prompts.len())
            .filter(|&row| !prompts[row].is_empty() && prompts[row].len() < context)
            .collect();
        let mut first = true;
        while !open.is_empty() {
            let segments: Vec<Segment<'_>> = open
                .iter()
                .map(|&row| {
                    let (prompt, reply): (&[TokenId], &[TokenId]) = (&prompts[row], &replies[row]);
                    let (position, tokens) = match first {
                        true => (0, prompt),
                        false => (
                            prompt.len() + reply.len() - 1,
                            reply.get(reply.len() - 1..).unwrap_or(&[]),
                        ),
                    };
                    Segment {
                        span: spans[row],
                        position,
                        tokens,
                        logits: 1,
                    }
                })
                .collect();
            let Some(logits) = self.step(&mut memory, &segments) else {
                break;
            };
            drop(segments);
            first = false;
            let width = self.network.config().vocab_size;
            let mut going = Vec::with_capacity(open.len());
            for (&row, logits) in open.iter().zip(logits.chunks_exact(width)) {
                let reply: &mut Vec<TokenId> = &mut replies[row];
                if let Some(id) = choose(row, reply.len(), logits) {
                    reply.push(id);
                    if reply.len() < most && prompts[row].len() + reply.len() < spans[row].len {
                        going.push(row);
                    }
                }
            }
            open = going;
        }
        replies
    }

    fn step(&self, memory: &mut KvMemory, segments: &[Segment<'_>]) -> Option<Vec<f32>> {
        let logits = self.network.step(memory, segments)?;
        let flat = logits
            .to_device(Device::Cpu)
            .to_kind(Kind::Float)
            .contiguous()
            .view([-1]);
        Vec::<f32>::try_from(flat).ok()
    }
}

/// An index drawn from the smallest set of likeliest ones whose probability reaches [`TOP_P`].
fn nucleus(logits: &[f32], rng: &mut impl Rng) -> usize {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut shares: Vec<(usize, f64)> = logits
        .iter()
        .enumerate()
        .map(|(i, &l)| (i, f64::from(l - highest).exp()))
        .collect();
    shares.sort_by(|a, b| b.1.total_cmp(&a.1));
    let total: f64 = shares.iter().map(|s| s.1).sum();
    let mut kept = 0.0;
    let mut size = 0;
    for share in &shares {
        size += 1;
        kept += share.1;
        if kept >= TOP_P * total {
            break;
        }
    }
    let mut at = rng.random::<f64>() * kept;
    for (index, share) in &shares[..size] {
        at -= share;
        if at <= 0.0 {
            return *index;
        }
    }
    shares.get(size.saturating_sub(1)).map_or(0, |s| s.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nucleus_leaves_out_what_is_unlikely_and_keeps_the_odds_of_the_rest() {
        let mut rng = generator(1, Purpose::Step, 0);
        let logits = [0.60f32, 0.30, 0.05, 0.05].map(f32::ln);
        let mut counts = [0; 4];
        for _ in 0..3000 {
            counts[nucleus(&logits, &mut rng)] += 1;
        }
        assert_eq!(counts.iter().filter(|&&n| n > 0).count(), 3);
        let share = f64::from(counts[0]) / 3000.0;
        assert!((share - 0.6 / 0.95).abs() < 0.03, "{counts:?}");
    }
}
