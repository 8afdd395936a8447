//! How sure a figure is: the percentile bootstrap (Efron 1979) over patients. Images of one patient are alike; drawn one by one they
//! would make a figure look surer than it is.

use std::collections::HashMap;
use std::hash::Hash;

use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Resamples drawn.
const ROUNDS: usize = 500;

/// The interval that holds 95 % of `figure` over resamples of the cases with replacement; `None` where it is never defined, or they are all
/// alike: then "1.000 … 1.000" would look surer than any other. `patients` gives each case's patient: all cases of one are drawn together.
/// The same seed gives the same interval.
pub fn interval<P: Eq + Hash>(
    patients: impl IntoIterator<Item = P>,
    seed: u64,
    figure: impl Fn(&[usize]) -> Option<f64>,
) -> Option<(f64, f64)> {
    let (mut places, mut groups) = (HashMap::new(), Vec::<Vec<usize>>::new());
    for (case, patient) in patients.into_iter().enumerate() {
        // In the order of their first cases, so that with one case each a group's place is its case.
        let place = *places.entry(patient).or_insert(groups.len());
        match groups.get_mut(place) {
            Some(group) => group.push(case),
            None => groups.push(vec![case]),
        }
    }
    if groups.is_empty() {
        return None;
    }
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut found: Vec<f64> = (0..ROUNDS)
        .filter_map(|_| {
            let drawn = (0..groups.len()).map(|_| random.random_range(0..groups.len()));
            figure(
                &drawn
                    .flat_map(|group| groups[group].iter().copied())
                    .collect::<Vec<_>>(),
            )
        })
        .collect();
    found.sort_by(f64::total_cmp);
    let last = found.len().checked_sub(1)?;
    let at = |share: f64| found[(share * last as f64).round() as usize];
    let (low, high) = (at(0.025), at(0.975));
    (low < high).then_some((low, high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_of_a_share_is_about_two_standard_errors_to_each_side() {
        let values: Vec<f64> = (0..400).map(|i| f64::from(u8::from(i % 4 == 0))).collect();
        let mean = |drawn: &[usize]| Some(drawn.iter().map(|&i| values[i]).sum::<f64>() / drawn.len() as f64);
        let (low, high) = interval(0..400, 1, mean).unwrap();
        // Standard error: sqrt(0.25 · 0.75 / 400) = 0.0217.
        assert!(
            (low - 0.2075).abs() < 0.01 && (high - 0.2925).abs() < 0.01,
            "{low} {high}"
        );
        assert_eq!(interval(0..400, 1, mean), interval(0..400, 1, mean));
        assert_eq!(interval(0..0, 1, mean), None);
    }

    #[test]
    fn where_all_resamples_are_alike_there_is_no_interval() {
        assert_eq!(interval(0..12, 1, |_| Some(1.0)), None);
        assert_eq!(interval(0..1, 1, |drawn| Some(drawn.len() as f64)), None);
    }

    #[test]
    fn images_of_one_patient_are_drawn_together_and_make_a_figure_less_sure() {
        // Four images each of 100 patients, which are all alike.
        let values: Vec<f64> = (0..400).map(|i| f64::from(u8::from((i / 4) % 4 == 0))).collect();
        let mean = |drawn: &[usize]| Some(drawn.iter().map(|&i| values[i]).sum::<f64>() / drawn.len() as f64);
        let width = |interval: Option<(f64, f64)>| interval.map(|(low, high)| high - low).unwrap();
        let (each, together) = (interval(0..400, 1, mean), interval((0..400).map(|i| i / 4), 1, mean));
        let ratio = width(together) / width(each);
        assert!((1.6..2.4).contains(&ratio), "{ratio}");
        // However the patients are called, and wherever their images stand.
        let mixed =
            |drawn: &[usize]| Some(drawn.iter().map(|&i| values[i % 100 * 4]).sum::<f64>() / drawn.len() as f64);
        let named = interval((0..400).map(|i| format!("p{}", i % 100)), 1, mixed);
        assert!((width(named) - width(together)).abs() < 1e-12);
    }
}
