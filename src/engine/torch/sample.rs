//! Tokens sampled where the logits are: on a GPU a vocabulary's logits take longer to come over than a step takes.

use tch::{Kind, TchError, Tensor};

use crate::engine::RowSample;
use crate::vocabulary::TokenId;

/// Samples a token from each row of `logits` (`[n, vocabulary]`, f32, on any device) as [`RowSample::sample`] would, but for the last bits of its sums. `None` for a row
/// with a logit that is NaN or infinite, or without an id that is allowed.
///
/// # Errors
/// When the tokens do not come over.
pub(super) fn sample_rows(logits: &Tensor, samples: &[RowSample]) -> Result<Vec<Option<TokenId>>, TchError> {
    let (device, vocabulary) = (logits.device(), logits.size().last().copied().unwrap_or(0));
    let bound = |id: TokenId| i64::from(id).min(vocabulary);
    let start = bound(samples.iter().map(|sample| sample.allowed.start).min().unwrap_or(0));
    let end = bound(samples.iter().map(|sample| sample.allowed.end).max().unwrap_or(0)).max(start);
    if start == end {
        return Ok(vec![None; samples.len()]);
    }
    // One table for all settings, so that one copy goes over: `[n, 6]`. Where rows may all give the same ids and take the likeliest, none is needed.
    let alike = samples
        .iter()
        .all(|sample| (bound(sample.allowed.start), bound(sample.allowed.end)) == (start, end));
    let greedy = samples.iter().all(|sample| sample.temperature == 0.0);
    let settings = (!alike || !greedy).then(|| {
        let settings: Vec<[f64; 6]> = samples.iter().map(settings).collect();
        Tensor::from_slice(settings.as_flattened())
            .view([-1, 6])
            .to_device(device)
    });
    let setting = |column: i64| {
        settings
            .as_ref()
            .map_or_else(Tensor::new, |all| all.narrow(1, column, 1))
    };

    // Of each row the ids that some row may give.
    let mut part = logits.narrow(1, start, end - start);
    if !alike {
        let ids = Tensor::arange_start(start, end, (Kind::Double, device)).unsqueeze(0);
        let outside = ids.lt_tensor(&setting(0)).logical_or(&ids.ge_tensor(&setting(1)));
        part = part.masked_fill(&outside, f64::NEG_INFINITY);
    }
    let (largest, best) = part.max_dim(1, true);
    // Nought times what is no number, or infinite, is no number. Few kernels: a step of a small model is shorter than their launches.
    let mut wrong = (logits * 0.0).sum_dim_intlist(1, true, Kind::Float).ne(0.0);
    if !alike {
        wrong = wrong.logical_or(&largest.eq(f64::NEG_INFINITY));
    }
    let chosen = match greedy {
        true => best,
        false => weighted(&part, &largest, &best, samples, &setting),
    };
    // No place is below nought.
    let told: Vec<i64> = Vec::try_from(chosen.masked_fill(&wrong, -1i64).view(-1))?;
    let id = |place: i64| TokenId::try_from(place + start).ok().filter(|_| place >= 0);
    Ok(told.into_iter().map(id).collect())
}

/// Places in the rows of `part`, sampled by `samples`: `best`, where the `largest` are, for those that are greedy. `setting` gives a column of [`settings`].
fn weighted(
    part: &Tensor,
    largest: &Tensor,
    best: &Tensor,
    samples: &[RowSample],
    setting: &dyn Fn(i64) -> Tensor,
) -> Tensor {
    let weights = (top_k(part, samples, &setting(2)) - largest) * setting(3).to_kind(Kind::Float);
    let weights = top_p(weights.exp(), samples, &setting(4));
    let sums = weights.cumsum(1, Kind::Double);
    let target = sums.narrow(1, -1, 1) * setting(5);
    let passed = sums.le_tensor(&target).sum_dim_intlist(1, true, Kind::Int64);
    let passed = passed.clamp_max(part.size()[1] - 1);
    // Rounding must not choose what weighs nothing; and greedy has a scale of 0.
    let chosen = weights
        .gather(1, &passed, false)
        .gt(0.0)
        .logical_and(&setting(3).gt(0.0));
    passed.where_self(&chosen, best)
}

/// First and last id allowed, k, the scale of logits (0 for greedy), p, and the random number.
fn settings(sample: &RowSample) -> [f64; 6] {
    let scale = match sample.temperature == 0.0 {
        true => 0.0,
        // A tiny temperature must not make the maximum 0 · ∞.
        false => f64::from((1.0 / sample.temperature).min(f32::MAX)),
    };
    let allowed = &sample.allowed;
    [
        f64::from(allowed.start),
        f64::from(allowed.end),
        sample.top_k as f64,
        scale,
        f64::from(sample.top_p),
        sample.uniform,
    ]
}

/// Leaves the `k` largest of each row, and what equals the last of them; 0 leaves all.
fn top_k(part: &Tensor, samples: &[RowSample], k: &Tensor) -> Tensor {
    let width = part.size()[1];
    let most = samples
        .iter()
        .map(|sample| sample.top_k as i64)
        .max()
        .unwrap_or(0)
        .min(width);
    if most == 0 {
        return part.shallow_clone();
    }
    let (largest, _) = part.topk(most, 1, true, true);
    let place = (k.to_kind(Kind::Int64) - 1).clamp(0, most - 1);
    let last = largest.gather(1, &place, false);
    let off = k.le(0.0).logical_or(&k.ge(width as f64));
    let dropped = part.lt_tensor(&last).logical_and(&off.logical_not());
    part.masked_fill(&dropped, f64::NEG_INFINITY)
}

/// Leaves the nucleus of each row: the smallest set of the heaviest, the lower id first among equals, that weighs `p` of the whole.
fn top_p(weights: Tensor, samples: &[RowSample], p: &Tensor) -> Tensor {
    if samples.iter().all(|sample| sample.top_p >= 1.0) {
        return weights;
    }
    let (heaviest, order) = weights.sort_stable(true, 1, true);
    let sums = heaviest.cumsum(1, Kind::Double);
    let before = &sums - heaviest.to_kind(Kind::Double);
    let kept = before.lt_tensor(&(sums.narrow(1, -1, 1) * p)).logical_or(&p.ge(1.0));
    weights * kept.zeros_like().scatter(1, &order, &kept)
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::engine::sampler::Scratch;

    const VOCABULARY: u32 = 300;

    fn logits(rows: usize, rng: &mut ChaCha8Rng) -> (Vec<f32>, Tensor) {
        // Rounded, so that equals occur.
        let number = |_| (rng.random_range(-40..40) as f32) / 8.0;
        let values: Vec<f32> = (0..rows * VOCABULARY as usize).map(number).collect();
        let tensor = Tensor::from_slice(&values).view([rows as i64, -1]);
        (values, tensor)
    }

    fn asked(rng: &mut ChaCha8Rng) -> RowSample {
        let start = rng.random_range(0..VOCABULARY);
        RowSample {
            allowed: start..rng.random_range(start + 1..VOCABULARY + 50),
            temperature: [0.0, 0.3, 1.0, 1.7, 1e-40][rng.random_range(0..5)],
            top_k: [0, 0, 1, 5, 50, 1000][rng.random_range(0..6)],
            top_p: [1.0, 0.92, 0.5, 1e-6][rng.random_range(0..4)],
            uniform: rng.random(),
        }
    }

    #[test]
    fn rows_sampled_together_give_the_tokens_that_each_gives_alone() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for round in 0..300 {
            let (values, tensor) = logits(6, &mut rng);
            let mut samples: Vec<RowSample> = (0..6).map(|_| asked(&mut rng)).collect();
            if round % 3 == 0 {
                // Greedy rows alone go a shorter way.
                samples.iter_mut().for_each(|sample| sample.temperature = 0.0);
            }
            if round % 2 == 0 {
                // So do rows that may all give the same ids.
                let allowed = samples[0].allowed.clone();
                samples.iter_mut().for_each(|sample| sample.allowed = allowed.clone());
            }
            let rows = values.chunks_exact(VOCABULARY as usize).zip(&samples);
            let alone: Vec<Option<TokenId>> = rows
                .map(|(row, sample)| Some(sample.sample(row, &mut Scratch::default()).unwrap()))
                .collect();
            assert_eq!(sample_rows(&tensor, &samples).unwrap(), alone, "{samples:?}");
        }
    }

    #[test]
    fn tokens_come_as_often_as_their_weights_say() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let tensor = Tensor::from_slice(&[0.0f32, 1.0, 2.0])
            .view([1, 3])
            .expand([400, 3], false);
        let mut counts = [0.0; 3];
        for _ in 0..50 {
            let sample = |_| RowSample {
                allowed: 0..3,
                temperature: 1.0,
                top_k: 0,
                top_p: 1.0,
                uniform: rng.random(),
            };
            let samples: Vec<RowSample> = (0..400).map(sample).collect();
            sample_rows(&tensor, &samples)
                .unwrap()
                .into_iter()
                .for_each(|id| counts[id.unwrap() as usize] += 1.0);
        }
        let total: f64 = (0..3).map(|i| f64::from(i).exp()).sum();
        for (i, count) in counts.into_iter().enumerate() {
            let share = (i as f64).exp() / total;
            let deviation = (20_000.0 * share * (1.0 - share)).sqrt();
            assert!((count - 20_000.0 * share).abs() < 5.0 * deviation, "{i}: {count}");
        }
    }

    #[test]
    fn what_is_no_number_and_what_may_not_come_give_no_token_for_their_row_alone() {
        let sample = |allowed| RowSample {
            allowed,
            temperature: 1.0,
            top_k: 0,
            top_p: 0.9,
            uniform: 0.5,
        };
        let fine = Tensor::from_slice(&[0.0f32, 1.0]).view([1, 2]);
        assert!(sample_rows(&fine, &[sample(0..2)]).unwrap()[0].is_some());
        for allowed in [2..3, 1..1] {
            assert_eq!(sample_rows(&fine, &[sample(allowed)]).unwrap(), [None::<TokenId>]);
        }
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            // Beside what is allowed too: the model is broken then.
            let logits = Tensor::from_slice(&[0.0, 9.0, 0.0, wrong, 9.0, 0.0]).view([3, 2]);
            for temperature in [0.0, 1.0] {
                let each = [sample(0..1), sample(0..1), sample(1..2)].map(|sample| RowSample { temperature, ..sample });
                assert_eq!(sample_rows(&logits, &each).unwrap(), [Some(0), None, Some(1)]);
                let alike = [0, 1, 2].map(|_| RowSample {
                    temperature,
                    ..sample(1..2)
                });
                assert_eq!(sample_rows(&logits, &alike).unwrap(), [Some(1), None, Some(1)]);
            }
        }
        let logits = Tensor::from_slice(&[0.0f32; 4]).view([2, 2]);
        assert_eq!(
            sample_rows(&logits, &[sample(1..1), sample(0..1)]).unwrap(),
            [None, Some(0)],
            "one that may give nothing beside one that may"
        );
    }
}
