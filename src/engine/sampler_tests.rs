//! The sampler against a plain sorting reference, and its limits.

use super::*;
use proptest::prelude::*;

fn sampling(temperature: f32, top_p: f32, top_k: usize, seed: u64) -> Sampling {
    Sampling {
        temperature,
        top_p,
        top_k,
        seed,
        guidance: 1.0,
    }
}

fn all(row: &[f32]) -> Range<TokenId> {
    0..row.len() as TokenId
}

fn sample(row: &[f32], sampling: Sampling) -> TokenId {
    Sampler::new(sampling)
        .sample(row, all(row), &mut Scratch::default())
        .unwrap()
}

/// The tokens transformers 4.28 keeps (temperature, then top-k, then top-p), by sorting, with their probabilities.
fn kept(row: &[f32], s: &Sampling) -> Vec<(TokenId, f64)> {
    let mut sorted: Vec<(TokenId, f64)> = row
        .iter()
        .enumerate()
        .map(|(i, &l)| (i as TokenId, f64::from(l) / f64::from(s.temperature)))
        .collect();
    sorted.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    if s.top_k > 0 && s.top_k < sorted.len() {
        let kth = sorted[s.top_k - 1].1;
        sorted.retain(|x| x.1 >= kth);
    }
    let normalise = |list: &mut Vec<(TokenId, f64)>| {
        let total: f64 = list.iter().map(|x| x.1).sum();
        list.iter_mut().for_each(|x| x.1 /= total);
    };
    let max = sorted[0].1;
    sorted.iter_mut().for_each(|x| x.1 = (x.1 - max).exp());
    normalise(&mut sorted);
    if s.top_p < 1.0 {
        let mut reached = 0.0;
        let enough = |x: &(TokenId, f64)| {
            reached += x.1;
            reached >= f64::from(s.top_p)
        };
        let keep = sorted.iter().position(enough).map_or(sorted.len(), |last| last + 1);
        sorted.truncate(keep.max(1));
        normalise(&mut sorted);
    }
    sorted
}

#[test]
fn greedy_takes_the_largest_and_the_lowest_id_among_equals() {
    assert_eq!(sample(&[0.5, 2.0, -1.0, 2.0], sampling(0.0, 1.0, 0, 9)), 1);
    let row = [9.0, 2.0, 3.0, 9.0];
    let allowed = 1..3;
    assert_eq!(
        Sampler::new(sampling(0.0, 1.0, 0, 9)).sample(&row, allowed.clone(), &mut Scratch::default()),
        Ok(2)
    );
}

#[test]
fn logits_that_are_not_finite_are_an_error_not_a_panic() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for temperature in [0.0, 1.0] {
            let mut sampler = Sampler::new(sampling(temperature, 0.9, 3, 1));
            let row = [1.0, bad, 0.0, 2.0];
            assert_eq!(
                sampler.sample(&row, all(&row), &mut Scratch::default()),
                Err(SampleError::NotFinite)
            );
            assert_eq!(probabilities(&row, &[vec![0]]), Err(SampleError::NotFinite));
        }
    }
}

#[test]
fn an_empty_choice_is_an_error_not_a_panic() {
    let mut sampler = Sampler::new(sampling(1.0, 0.9, 0, 1));
    for allowed in [5..9, 1..1] {
        let sampled = sampler.sample(&[1.0, 2.0], allowed.clone(), &mut Scratch::default());
        assert_eq!(sampled, Err(SampleError::NothingAllowed));
    }
    assert_eq!(probabilities(&[], &[]), Err(SampleError::NothingAllowed));
}

#[test]
fn ties_at_the_edge_of_the_nucleus_go_to_the_lower_id() {
    let row = [0.0; 4];
    let sampled: std::collections::BTreeSet<_> =
        (0..200).map(|seed| sample(&row, sampling(1.0, 0.5, 0, seed))).collect();
    assert_eq!(sampled.into_iter().collect::<Vec<_>>(), vec![0, 1]);
}

#[test]
fn the_same_seed_gives_the_same_tokens_and_another_seed_others() {
    let row: Vec<f32> = (0..100).map(|i| (i as f32 * 0.37).sin()).collect();
    let stream = |seed| {
        let (mut sampler, mut scratch) = (Sampler::new(sampling(1.0, 0.92, 0, seed)), Scratch::default());
        (0..50)
            .map(|_| sampler.sample(&row, all(&row), &mut scratch).unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(stream(7), stream(7));
    assert_ne!(stream(7), stream(8));
}

#[test]
fn sampled_frequencies_are_the_probabilities() {
    let row = [1.0f32, 0.0, 2.0, -1.0, 1.5];
    let settings = sampling(0.8, 0.95, 4, 3);
    let (mut sampler, mut scratch) = (Sampler::new(settings), Scratch::default());
    let mut counts = [0u32; 5];
    let n = 40_000;
    for _ in 0..n {
        counts[sampler.sample(&row, all(&row), &mut scratch).unwrap() as usize] += 1;
    }
    let expected = kept(&row, &settings);
    for (id, &count) in counts.iter().enumerate() {
        let p = expected.iter().find(|x| x.0 as usize == id).map_or(0.0, |x| x.1);
        // Five standard deviations of a binomial count.
        let tolerance = 5.0 * (p * (1.0 - p) / f64::from(n)).sqrt();
        assert!(
            (f64::from(count) / f64::from(n) - p).abs() <= tolerance,
            "token {id}: {count} of {n}, expected {p}"
        );
    }
}

#[test]
fn watched_sets_get_their_softmax_probability_over_the_whole_vocabulary() {
    let row = [0.0f32, 1.0, 2.0, 3.0];
    let total: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
    let got = probabilities(&row, &[vec![1, 3], vec![], vec![2, 2], vec![0, 1, 2, 3]]).unwrap();
    let expected = [(1f64.exp() + 3f64.exp()) / total, 0.0, 2f64.exp() / total, 1.0];
    for (g, e) in got.iter().zip(expected) {
        assert!((g - e).abs() < 1e-12, "{g} {e}");
    }
}

#[test]
fn the_exponential_is_exact_to_single_precision() {
    assert_eq!(exp(0.0), 1.0);
    assert_eq!(exp(-100.0), 0.0);
    assert_eq!(exp(f32::NEG_INFINITY), 0.0);
    let mut worst = 0f64;
    for i in 0..87_000 {
        let x = -(i as f32) / 1000.0;
        let exact = f64::from(x).exp();
        worst = worst.max((f64::from(exp(x)) - exact).abs() / exact);
    }
    assert!(worst < 3e-7, "{worst}");
}

proptest! {
    #[test]
    fn every_sampled_token_is_among_those_transformers_keeps(
        row in prop::collection::vec(-8f32..8.0, 1..400),
        temperature in 0.1f32..2.0, top_p in 0.01f32..1.0, top_k in 0usize..40, seed: u64,
    ) {
        let settings = sampling(temperature, top_p, top_k, seed);
        let expected = kept(&row, &settings);
        let (mut sampler, mut scratch) = (Sampler::new(settings), Scratch::default());
        for _ in 0..20 {
            let id = sampler.sample(&row, all(&row), &mut scratch).unwrap();
            // Rounding may move the very edge of the nucleus by one token.
            let inside = expected.iter().any(|x| x.0 == id)
                || kept(&row, &sampling(temperature, (top_p + 1e-5).min(1.0), top_k, seed)).iter().any(|x| x.0 == id);
            prop_assert!(inside);
        }
    }

    #[test]
    fn the_nucleus_ends_where_sorting_says(
        weights in prop::collection::vec(1u32..1000, 1..300), top_p in 0.01f64..0.999,
    ) {
        // Whole numbers: sums are exact in any order.
        let weights: Vec<f32> = weights.into_iter().map(|w| w as f32).collect();
        let total = sum(&weights);
        let mut sorted: Vec<(f32, u32)> = weights.iter().enumerate().map(|(i, &w)| (w, i as u32)).collect();
        sorted.sort_by(|&a, &b| order(a, b));
        let mut reached = 0.0;
        let last = sorted.iter().find(|x| { reached += f64::from(x.0); reached >= top_p * total }).unwrap();
        prop_assert_eq!(nucleus_end(&weights, total, top_p, &mut Vec::new()), *last);
    }

    #[test]
    fn walking_by_blocks_finds_what_walking_token_by_token_finds(
        weights in prop::collection::vec(0u32..4, 1..4000), uniform in 0f64..1.0,
    ) {
        let weights: Vec<f32> = weights.into_iter().map(|w| w as f32).collect();
        let target = uniform * weights.iter().map(|&w| f64::from(w)).sum::<f64>();
        let mut reached = 0.0;
        let expected = weights.iter().position(|&w| { reached += f64::from(w); reached > target });
        prop_assert_eq!(walk(&weights, uniform), expected);
    }

    #[test]
    fn top_k_of_one_is_greedy(row in prop::collection::vec(-50i32..50, 1..100), seed: u64) {
        let mut seen = std::collections::HashSet::new();
        let row: Vec<f32> = row.into_iter().filter(|x| seen.insert(*x)).map(|x| x as f32).collect();
        prop_assert_eq!(sample(&row, sampling(1.0, 1.0, 1, seed)), sample(&row, sampling(0.0, 1.0, 0, seed)));
    }
}
