//! Whether probabilities mean what they say.

use serde::Serialize;

/// How many bins.
const BINS: usize = 10;

/// Answers whose probability lies in one tenth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Bin {
    /// Answers in it.
    pub count: usize,
    /// Mean probability.
    pub mean: f64,
    /// Share that is true.
    pub share: f64,
}

/// Calibration of probabilities against what is true.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Calibration {
    /// Mean squared difference of probability and truth (Brier 1950).
    pub brier: f64,
    /// Expected calibration error over ten bins of equal width (Guo et al. 2017).
    pub error: f64,
    /// The bins.
    pub bins: Vec<Bin>,
}

/// Calibration of `(probability, truth)`; `None` without any.
pub fn calibration(scored: &[(f64, bool)]) -> Option<Calibration> {
    if scored.is_empty() {
        return None;
    }
    let mut bins = vec![Bin::default(); BINS];
    for &(p, truth) in scored {
        let bin = &mut bins[((p * BINS as f64) as usize).min(BINS - 1)];
        bin.count += 1;
        bin.mean += p;
        bin.share += f64::from(u8::from(truth));
    }
    for bin in bins.iter_mut().filter(|bin| bin.count > 0) {
        bin.mean /= bin.count as f64;
        bin.share /= bin.count as f64;
    }
    let n = scored.len() as f64;
    let squares = scored
        .iter()
        .map(|&(p, truth)| (p - f64::from(u8::from(truth))).powi(2));
    Some(Calibration {
        brier: squares.sum::<f64>() / n,
        error: bins.iter().map(|b| b.count as f64 / n * (b.mean - b.share).abs()).sum(),
        bins,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_is_the_mean_gap_between_what_is_said_and_what_is_true() {
        let scored = [(0.95, true), (0.95, false), (0.05, false), (1.0, true)];
        let found = calibration(&scored).unwrap();
        // Bin 9 holds three: mean 0.9667, share 2/3; bin 0 holds one: 0.05 against 0.
        let wanted = 0.75 * (2.9 / 3.0 - 2.0 / 3.0) + 0.25 * 0.05;
        assert!((found.error - wanted).abs() < 1e-12);
        assert!((found.brier - (0.0025 + 0.9025 + 0.0025 + 0.0) / 4.0).abs() < 1e-12);
        assert!(calibration(&[]).is_none());
    }
}
