//! How well labels are told: area under the ROC curve, F1.

use std::iter::Sum;

/// Area under the ROC curve: the chance that a positive scores above a negative, ties counted half (Mann & Whitney). `None` without
/// both kinds.
pub fn auroc(scored: &[(f64, bool)]) -> Option<f64> {
    let mut sorted = scored.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let positives = sorted.iter().filter(|s| s.1).count();
    let negatives = sorted.len() - positives;
    if positives == 0 || negatives == 0 {
        return None;
    }
    let (mut below, mut area) = (0usize, 0.0);
    for ties in sorted.chunk_by(|a, b| a.0 == b.0) {
        let up = ties.iter().filter(|s| s.1).count();
        let down = ties.len() - up;
        area += up as f64 * (below as f64 + down as f64 / 2.0);
        below += down;
    }
    Some(area / (positives as f64 * negatives as f64))
}

/// Counts of true positives, false positives and false negatives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Present and told.
    pub hits: usize,
    /// Told but absent.
    pub false_alarms: usize,
    /// Present but not told.
    pub misses: usize,
}

impl Counts {
    /// Adds one decision.
    pub fn add(&mut self, told: bool, present: bool) {
        match (told, present) {
            (true, true) => self.hits += 1,
            (true, false) => self.false_alarms += 1,
            (false, true) => self.misses += 1,
            (false, false) => {}
        }
    }

    /// F1 = 2·TP / (2·TP + FP + FN); `None` where nothing was present or told.
    pub fn f1(&self) -> Option<f64> {
        let all = 2 * self.hits + self.false_alarms + self.misses;
        (all > 0).then(|| 2.0 * self.hits as f64 / all as f64)
    }
}

impl<'a> Sum<&'a Counts> for Counts {
    fn sum<I: Iterator<Item = &'a Counts>>(counts: I) -> Self {
        counts.fold(Self::default(), |sum, one| Self {
            hits: sum.hits + one.hits,
            false_alarms: sum.false_alarms + one.false_alarms,
            misses: sum.misses + one.misses,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_area_is_the_share_of_pairs_in_order(scored in prop::collection::vec((0u8..6, any::<bool>()), 1..40)) {
            let scored: Vec<(f64, bool)> = scored.into_iter().map(|(s, p)| (f64::from(s), p)).collect();
            let (mut pairs, mut in_order) = (0.0, 0.0);
            for a in scored.iter().filter(|s| s.1) {
                for b in scored.iter().filter(|s| !s.1) {
                    pairs += 1.0;
                    in_order += if a.0 > b.0 { 1.0 } else if a.0 == b.0 { 0.5 } else { 0.0 };
                }
            }
            match auroc(&scored) {
                Some(area) => prop_assert!((area - in_order / pairs).abs() < 1e-12),
                None => prop_assert_eq!(pairs, 0.0),
            }
        }
    }

    #[test]
    fn f1_weighs_false_alarms_and_misses_alike() {
        let mut counts = Counts::default();
        for (told, present) in [(true, true), (true, true), (true, false), (false, true), (false, false)] {
            counts.add(told, present);
        }
        assert_eq!(counts.f1(), Some(2.0 / 3.0));
        assert_eq!(Counts::default().f1(), None);
    }
}
