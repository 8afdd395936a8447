//! How sure a figure is: the percentile bootstrap (Efron 1979) over studies.

use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Resamples drawn.
const ROUNDS: usize = 500;

/// The interval that holds 95 % of `figure` over resamples of `0 .. cases` with replacement; `None` where it is never defined. The
/// same seed gives the same interval.
pub fn interval(cases: usize, seed: u64, figure: impl Fn(&[usize]) -> Option<f64>) -> Option<(f64, f64)> {
    if cases == 0 {
        return None;
    }
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut found: Vec<f64> = (0..ROUNDS)
        .filter_map(|_| {
            let drawn: Vec<usize> = (0..cases).map(|_| random.random_range(0..cases)).collect();
            figure(&drawn)
        })
        .collect();
    found.sort_by(f64::total_cmp);
    let last = found.len().checked_sub(1)?;
    let at = |share: f64| found[(share * last as f64).round() as usize];
    Some((at(0.025), at(0.975)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_of_a_share_is_about_two_standard_errors_to_each_side() {
        let values: Vec<f64> = (0..400).map(|i| f64::from(u8::from(i % 4 == 0))).collect();
        let mean = |drawn: &[usize]| Some(drawn.iter().map(|&i| values[i]).sum::<f64>() / drawn.len() as f64);
        let (low, high) = interval(400, 1, mean).unwrap();
        // Standard error: sqrt(0.25 · 0.75 / 400) = 0.0217.
        assert!(
            (low - 0.2075).abs() < 0.01 && (high - 0.2925).abs() < 0.01,
            "{low} {high}"
        );
        assert_eq!(interval(400, 1, mean), interval(400, 1, mean));
        assert_eq!(interval(0, 1, mean), None);
    }
}
