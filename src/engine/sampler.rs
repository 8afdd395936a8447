//! Samples the next token from a row of logits.
//!
//! The order is that of transformers 4.28: mask, temperature, top-k, top-p. Each sequence has a generator of its own and takes
//! exactly one number from it per sampled token, so its stream depends on nothing but its seed and how many tokens it has sampled.
//! No full sort and, once the buffers have grown, no allocation.

use std::cmp::Ordering;
use std::ops::Range;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::{RowSample, Sampling};
use crate::vocabulary::TokenId;

/// The logits cannot be sampled from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SampleError {
    /// A logit is NaN or infinite.
    #[error("the model gave logits that are not finite")]
    NotFinite,
    /// The constraint leaves no token within the row.
    #[error("no token is allowed here")]
    NothingAllowed,
}

/// Buffers that are reused from token to token.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Logits of the range, then their weights exp((l − max) / t).
    weights: Vec<f32>,
    /// Candidates for the nucleus: weight and index.
    candidates: Vec<(f32, u32)>,
    /// Copy for selection of the k-th largest.
    selection: Vec<f32>,
}

/// A sequence's own way of sampling tokens.
#[derive(Clone, Debug)]
pub struct Sampler {
    sampling: Sampling,
    generator: ChaCha12Rng,
}

impl Sampler {
    /// Starts at the beginning of the seed's stream.
    pub fn new(sampling: Sampling) -> Self {
        Self {
            sampling,
            generator: ChaCha12Rng::seed_from_u64(sampling.seed),
        }
    }

    /// How the next token is sampled, of the range `allowed`. Greedy takes no random number.
    pub fn next(&mut self, allowed: Range<TokenId>) -> RowSample {
        let Sampling {
            temperature,
            top_k,
            top_p,
            ..
        } = self.sampling;
        let uniform = match temperature == 0.0 {
            true => 0.0,
            // 53 random bits: uniform in [0, 1).
            false => (self.generator.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64),
        };
        RowSample {
            allowed,
            temperature,
            top_k,
            top_p,
            uniform,
        }
    }

    /// So many tokens were sampled as a copy of this sampler said.
    pub fn skip(&mut self, tokens: usize) {
        if self.sampling.temperature != 0.0 {
            (0..tokens).for_each(|_| _ = self.generator.next_u64());
        }
    }

    /// Samples one token of the range `allowed` from `row` (one logit per id of the vocabulary).
    ///
    /// # Errors
    /// As [`RowSample::sample`].
    pub fn sample(
        &mut self,
        row: &[f32],
        allowed: Range<TokenId>,
        scratch: &mut Scratch,
    ) -> Result<TokenId, SampleError> {
        self.next(allowed).sample(row, scratch)
    }
}

/// A token of each of `rows` (`vocabulary` logits each, one after the other), as far as there are samples; `None` where [`RowSample::sample`] gives
/// none.
pub fn sample_rows(samples: &[RowSample], rows: &[f32], vocabulary: usize) -> Vec<Option<TokenId>> {
    let mut scratch = Scratch::default();
    let pairs = samples.iter().zip(rows.chunks_exact(vocabulary.max(1)));
    pairs
        .map(|(sample, row)| sample.sample(row, &mut scratch).ok())
        .collect()
}

impl RowSample {
    /// The token, from one logit per id of the vocabulary.
    ///
    /// # Errors
    /// [`SampleError::NotFinite`] if any logit of the row is NaN or infinite; [`SampleError::NothingAllowed`].
    pub fn sample(&self, row: &[f32], scratch: &mut Scratch) -> Result<TokenId, SampleError> {
        if !all_finite(row) {
            return Err(SampleError::NotFinite);
        }
        let start = (self.allowed.start as usize).min(row.len());
        let end = (self.allowed.end as usize).clamp(start, row.len());
        let weights = &mut scratch.weights;
        weights.clear();
        weights.extend_from_slice(&row[start..end]);
        let (best, max) = argmax(weights).ok_or(SampleError::NothingAllowed)?;
        let chosen = if self.temperature == 0.0 {
            best
        } else {
            self.nucleus(max, best, scratch)
        };
        Ok((start + chosen) as TokenId)
    }

    /// Samples an index into `scratch.weights`, which holds logits with the maximum `max`, at `best`.
    fn nucleus(&self, max: f32, best: usize, scratch: &mut Scratch) -> usize {
        let Scratch {
            weights,
            candidates,
            selection,
        } = scratch;
        if let Some(kth) = kth_largest(weights, self.top_k, selection) {
            // As in transformers, what equals the k-th largest stays.
            weights
                .iter_mut()
                .filter(|logit| **logit < kth)
                .for_each(|logit| *logit = f32::NEG_INFINITY);
        }
        // A tiny temperature must not make the maximum 0 · ∞.
        let scale = (1.0 / self.temperature).min(f32::MAX);
        weights
            .iter_mut()
            .for_each(|logit| *logit = exp((*logit - max) * scale));
        if self.top_p < 1.0 {
            let last = nucleus_end(weights, sum(weights), f64::from(self.top_p), candidates);
            for (i, weight) in weights.iter_mut().enumerate() {
                *weight = if keeps(last, *weight, i) { *weight } else { 0.0 };
            }
        }
        // Walking in the order of ids keeps the token independent of how selection works.
        walk(weights, self.uniform).unwrap_or(best)
    }
}

/// For each set, its probability: softmax of the unmodified logits over the whole row. Each id of a set counts once.
///
/// # Errors
/// [`SampleError::NotFinite`] if any logit is NaN or infinite.
pub fn probabilities(row: &[f32], sets: &[Vec<TokenId>]) -> Result<Vec<f64>, SampleError> {
    if !all_finite(row) {
        return Err(SampleError::NotFinite);
    }
    let Some((_, max)) = argmax(row) else {
        return Err(SampleError::NothingAllowed);
    };
    let weight = |logit: f32| (f64::from(logit) - f64::from(max)).exp();
    let total: f64 = row.iter().map(|&logit| weight(logit)).sum();
    let probability = |set: &Vec<TokenId>| {
        let first = |(at, id): &(usize, &TokenId)| !set[..*at].contains(id);
        let logits = set
            .iter()
            .enumerate()
            .filter(first)
            .filter_map(|(_, &id)| row.get(id as usize));
        (logits.map(|&logit| weight(logit)).sum::<f64>() / total).min(1.0)
    };
    Ok(sets.iter().map(probability).collect())
}

fn all_finite(row: &[f32]) -> bool {
    // x · 0 is 0 for finite x and NaN otherwise: no branch in the loop.
    row.chunks(4096)
        .all(|chunk| chunk.iter().fold(true, |fine, &x| fine & (x * 0.0 == 0.0)))
}

/// Index and value of the largest, the lowest index among equals; `None` if nothing is above −∞.
fn argmax(values: &[f32]) -> Option<(usize, f32)> {
    let max = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let best = values.iter().position(|&value| value == max)?;
    (max > f32::NEG_INFINITY).then_some((best, max))
}

/// The k-th largest; `None` when k is 0 (off) or keeps all.
fn kth_largest(values: &[f32], k: usize, buffer: &mut Vec<f32>) -> Option<f32> {
    if k == 0 || k >= values.len() {
        return None;
    }
    buffer.clear();
    buffer.extend_from_slice(values);
    let (_, kth, _) = buffer.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
    Some(*kth)
}

/// The sum in eight lanes, which vectorises and is the same on every machine.
fn sum(weights: &[f32]) -> f64 {
    let mut lanes = [0f64; 8];
    let chunks = weights.chunks_exact(8);
    let rest: f64 = chunks.remainder().iter().map(|&w| f64::from(w)).sum();
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, &w)| *lane += f64::from(w));
    }
    lanes.iter().sum::<f64>() + rest
}

/// The index at which the running sum of the weights passes `uniform` times their total; block by block, then within the block.
/// `None` when all weights are 0.
fn walk(weights: &[f32], uniform: f64) -> Option<usize> {
    const BLOCK: usize = 1024;
    let mut left = uniform * weights.chunks(BLOCK).map(sum).sum::<f64>();
    let mut chosen = None;
    for (number, block) in weights.chunks(BLOCK).enumerate() {
        let weight = sum(block);
        // Rounding may leave the target just beyond the last weight; the last one that counts is taken then.
        if let Some(last) = block.iter().rposition(|&w| w > 0.0).filter(|_| weight > 0.0) {
            chosen = Some(number * BLOCK + last);
        }
        if left < weight {
            for (i, &w) in block.iter().enumerate() {
                left -= f64::from(w);
                if left < 0.0 {
                    return Some(number * BLOCK + i);
                }
            }
            return chosen;
        }
        left -= weight;
    }
    chosen
}

/// Most probable first, the lower id first among equals.
fn order(a: (f32, u32), b: (f32, u32)) -> Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

/// Whether the token comes no later than the last one kept.
fn keeps(last_kept: (f32, u32), weight: f32, index: usize) -> bool {
    weight > last_kept.0 || (weight == last_kept.0 && index <= last_kept.1 as usize)
}

/// The last token of the nucleus: of the smallest set of most probable tokens whose weight reaches `top_p · total`.
///
/// Found by halving: select the middle, weigh the upper half, go on in the half where the target lies; linear on average.
fn nucleus_end(weights: &[f32], total: f64, top_p: f64, candidates: &mut Vec<(f32, u32)>) -> (f32, u32) {
    // All tokens lighter than this weigh less than (1 − p) · total together, so the nucleus is among the others.
    let floor = ((1.0 - top_p) * total / weights.len() as f64) as f32 * 0.999;
    candidates.clear();
    let heavy = weights.iter().enumerate().filter(|&(_, &w)| w > 0.0 && w >= floor);
    candidates.extend(heavy.map(|(i, &w)| (w, i as u32)));
    let target = top_p * total;
    let (mut low, mut high, mut before) = (0, candidates.len(), 0.0);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        candidates[low..high].select_nth_unstable_by(middle - low, |&a, &b| order(a, b));
        let upper: f64 = candidates[low..middle].iter().map(|c| f64::from(c.0)).sum();
        if before + upper >= target {
            high = middle;
        } else {
            before += upper;
            low = middle;
        }
    }
    // There is always a heaviest token, whose weight is 1.
    candidates.get(low).copied().unwrap_or((0.0, u32::MAX))
}

/// e^x for x ≤ 0 within 2 units in the last place, 0 below −87; no branches, so that the loop over a vocabulary vectorises.
///
/// e^x = 2^n · e^r with n = round(x / ln 2); e^r by its Taylor polynomial on |r| ≤ ln 2 / 2; 2^n through the exponent bits.
fn exp(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_145_75;
    const LN2_LOW: f32 = 1.428_606_8e-6;
    /// Adding and subtracting 1.5 · 2²³ rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    let clamped = x.max(-87.0);
    let n = (clamped * std::f32::consts::LOG2_E + ROUND) - ROUND;
    let r = (clamped - n * LN2_HIGH) - n * LN2_LOW;
    let p = 1.0 / 5040.0;
    let p = p * r + 1.0 / 720.0;
    let p = p * r + 1.0 / 120.0;
    let p = p * r + 1.0 / 24.0;
    let p = p * r + 1.0 / 6.0;
    let p = p * r + 0.5;
    let p = p * r * r + r + 1.0;
    let power = f32::from_bits(((n as i32 + 127) << 23) as u32);
    if x < -87.0 { 0.0 } else { p * power }
}

#[cfg(test)]
#[path = "sampler_tests.rs"]
mod tests;
