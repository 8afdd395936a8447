//! The values that a picture is shown between where its file does not say: from the least that occurs to the greatest, outliers aside.
//!
//! A dead pixel, a burned-in marker or the edge of a collimator would else decide how bright all the rest is. What lies outside becomes
//! black or white. A picture without outliers is shown from its least value to its greatest.

/// How many may be outliers, and how far off they are: at either end one of so many pixels, where it lies further from the rest than this share
/// of the width of the rest. A hundredth where it is far away (markers, edges), then a thousandth also near by (dead pixels); two grey levels
/// of 256 are let be.
const OUTLIERS: [(u64, f64); 2] = [(100, 0.5), (1000, 1.0 / 128.0)];

/// The least value and the greatest, outliers aside; `None` where there is none. `value`: what a sample stands for, `None` where it is no part
/// of the picture.
pub(super) fn ends(samples: impl Iterator<Item = u16>, value: impl Fn(u16) -> Option<f64>) -> Option<(f64, f64)> {
    let mut counts = vec![0u64; 1 << 16];
    samples.for_each(|sample| counts[usize::from(sample)] += 1);
    let mut values: Vec<(f64, u64)> = (0..=u16::MAX)
        .zip(counts)
        .filter(|&(_, count)| count > 0)
        .filter_map(|(sample, count)| Some((value(sample)?, count)))
        .collect();
    values.sort_unstable_by(|one, other| one.0.total_cmp(&other.0));
    let pixels: u64 = values.iter().map(|&(_, count)| count).sum();
    let mut kept = &values[..];
    for (one_of, slack) in OUTLIERS {
        kept = without(kept, pixels / one_of, slack);
    }
    Some((kept.first()?.0, kept.last()?.0))
}

/// Values in order without those that lie further from the rest than a share `slack` of its width; the rest are all pixels but the outermost
/// `outliers` at either end.
fn without(values: &[(f64, u64)], outliers: u64, slack: f64) -> &[(f64, u64)] {
    let rest = inner(values.iter(), outliers).zip(inner(values.iter().rev(), outliers));
    let Some((low, high)) = rest.filter(|(low, high)| low < high) else {
        return values;
    };
    let slack = slack * (high - low);
    let from = values.partition_point(|&(value, _)| value < low - slack);
    let to = values.partition_point(|&(value, _)| value <= high + slack);
    &values[from..to]
}

/// The first value that is not one of the first `outliers` pixels'.
fn inner<'a>(mut values: impl Iterator<Item = &'a (f64, u64)>, outliers: u64) -> Option<f64> {
    let mut seen = 0u64;
    let found = values.find(|&&(_, count)| {
        seen += count;
        seen > outliers
    });
    found.map(|&(value, _)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(samples: &[u16]) -> Option<(f64, f64)> {
        ends(samples.iter().copied(), |sample| Some(f64::from(sample)))
    }

    /// 10,000 pixels from 1000 to 3560, the first of which are replaced.
    fn picture(replaced: &[(u16, usize)]) -> Vec<u16> {
        let mut samples: Vec<u16> = (0..10_000).map(|i| 1000 + i % 2561).collect();
        let new = replaced.iter().flat_map(|&(sample, count)| vec![sample; count]);
        for (sample, new) in samples.iter_mut().zip(new) {
            *sample = new;
        }
        samples
    }

    const WHOLE: Option<(f64, f64)> = Some((1000.0, 3560.0));

    #[test]
    fn a_picture_without_outliers_goes_from_its_least_value_to_its_greatest() {
        assert_eq!(of(&picture(&[])), WHOLE);
        // Of so few pixels none is an outlier.
        assert_eq!(of(&[7, 0, 65_535]), Some((0.0, 65_535.0)));
        assert_eq!(of(&[5, 5]), Some((5.0, 5.0)));
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn a_thousandth_of_the_pixels_is_left_out_at_either_end() {
        assert_eq!(of(&picture(&[(0, 1), (65_535, 1)])), WHOLE);
        assert_eq!(of(&picture(&[(0, 10), (4095, 10)])), WHOLE);
        // One more, which is not far away.
        assert_eq!(of(&picture(&[(0, 11), (4095, 11)])), Some((0.0, 4095.0)));
    }

    #[test]
    fn a_hundredth_of_the_pixels_is_left_out_where_it_is_far_away() {
        assert_eq!(of(&picture(&[(65_535, 100)])), WHOLE);
        assert_eq!(of(&picture(&[(65_535, 101)])), Some((1000.0, 65_535.0)));
        // A far marker does not keep a hot pixel in that is nearer.
        assert_eq!(of(&picture(&[(65_535, 90), (4095, 10)])), WHOLE);
    }

    #[test]
    fn what_is_less_than_two_grey_levels_away_is_no_outlier() {
        assert_eq!(of(&picture(&[(985, 1), (3575, 1)])), Some((985.0, 3575.0)));
    }

    #[test]
    fn a_picture_of_nearly_one_value_is_shown_whole() {
        let mut flat = vec![300u16; 10_000];
        flat[5000] = 500;
        assert_eq!(of(&flat), Some((300.0, 500.0)));
    }

    #[test]
    fn values_count_in_their_own_order_and_what_is_no_part_does_not() {
        let samples = picture(&[(65_535, 5000), (0, 1)]);
        let value = |sample: u16| (sample != 65_535).then_some(-f64::from(sample));
        let seen = ends(samples.into_iter(), value);
        assert_eq!(seen, Some((-3560.0, -1000.0)));
    }
}
