//! Quantised weights: every kernel of every instruction set of this machine against float64, and what quantising loses.

use proptest::prelude::*;

use super::tests::{Padded, near, numbers};
use super::*;

const FORMATS: [Format; 2] = [Format::Int8, Format::Int4];

fn grouped(kernels: &Kernels, format: Format, columns: usize, weights: &[f32]) -> Grouped {
    Grouped::new(kernels, format, Cells::F32(weights), columns, |row| row)
}

/// The weights that a matrix stands for.
fn widened(kernels: &Kernels, matrix: &Grouped) -> Vec<f32> {
    let (rows, columns) = (matrix.rows(), matrix.columns());
    let mut out = vec![f32::NAN; rows * columns];
    for (panel, out) in out.chunks_mut(PANEL * columns).enumerate() {
        kernels.widen(matrix, panel, WideMut::F32(out));
    }
    out
}

/// Root of the mean square.
fn size(values: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut count) = (0.0, 0.0);
    for value in values {
        sum += value * value;
        count += 1.0;
    }
    (sum / f64::max(count, 1.0)).sqrt()
}

/// The number of value `at` in [`Fixed::words`].
fn whole(words: &[i16], at: usize) -> i16 {
    words[at / 4 * 4 + [0, 2, 1, 3][at % 4]]
}

/// About normal: sums of eight.
fn bell(len: usize, seed: u64) -> Vec<f32> {
    numbers(len * 8, seed)
        .chunks_exact(8)
        .map(|some| some.iter().sum())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_product_with_quantised_weights_is_that_of_float64_and_each_row_the_same_alone(
        rows in 1usize..70, columns in 1usize..600, count in 1usize..=40, seed in any::<u64>(),
    ) {
        let weights = numbers(rows * columns, seed);
        let inputs = numbers(count * columns, seed ^ 1);
        let padded = Padded::new(&inputs, columns);
        let all = padded.inputs();
        // The inputs that fixed point stands for.
        let given = |i: usize, c: usize| {
            let at = i * all.stride + c;
            f64::from(whole(all.fixed.words, at)) * f64::from(all.fixed.scales[at / Fixed::GROUP])
        };
        for kernels in Kernels::all() {
            for format in FORMATS {
                let matrix = grouped(kernels, format, columns, &weights);
                let held = widened(kernels, &matrix);
                let mut out = vec![f32::NAN; rows * count];
                kernels.grouped_product(&matrix, 0, all, &mut out);
                for (i, x) in inputs.chunks_exact(columns).enumerate() {
                    for (r, w) in held.chunks_exact(columns).enumerate() {
                        let terms = || w.iter().enumerate().map(|(c, &w)| given(i, c) * f64::from(w));
                        let (exact, magnitude) = (terms().sum(), terms().map(f64::abs).sum());
                        prop_assert!(near(out[i * rows + r], exact, magnitude, columns), "{} {format:?}", kernels.name());
                    }
                    let mut alone = vec![f32::NAN; rows];
                    let padded = Padded::new(x, columns);
                    kernels.grouped_product(&matrix, 0, padded.inputs(), &mut alone);
                    prop_assert_eq!(&alone, &out[i * rows..(i + 1) * rows], "{} {:?}", kernels.name(), format);
                    // Nor do a row's bits depend on the panels computed with it.
                    let start = (rows - 1) / PANEL * PANEL;
                    let mut last = vec![f32::NAN; rows - start];
                    kernels.grouped_product(&matrix, start, padded.inputs(), &mut last);
                    prop_assert_eq!(&last, &alone[start..], "{} {:?}", kernels.name(), format);
                }
            }
        }
    }

    #[test]
    fn fixed_point_is_within_half_a_step_of_each_value(groups in 1usize..20, size in -20i32..20, seed in any::<u64>()) {
        let values: Vec<f32> = numbers(groups * Fixed::GROUP, seed).iter().map(|x| x * 2f32.powi(size)).collect();
        for kernels in Kernels::all() {
            let (mut bytes, mut words) = (vec![0; values.len()], vec![0; values.len()]);
            let (mut scales, mut offsets) = (vec![0.0; groups], vec![0; groups]);
            let to = FixedMut { bytes: &mut bytes, words: &mut words, scales: &mut scales, offsets: &mut offsets };
            kernels.fix(&values, to);
            let wholes: Vec<i16> = match kernels.multiplies_bytes() {
                true => bytes.iter().map(|&byte| byte.into()).collect(),
                false => (0..words.len()).map(|at| whole(&words, at)).collect(),
            };
            let groups = values.chunks(Fixed::GROUP).zip(wholes.chunks(Fixed::GROUP));
            for ((some, wholes), (scale, offset)) in groups.zip(scales.iter().zip(offsets)) {
                let largest = some.iter().fold(0f32, |most, x| most.max(x.abs()));
                for (&value, &whole) in some.iter().zip(wholes) {
                    let error = f64::from(value) - f64::from(whole) * f64::from(*scale);
                    prop_assert!(error.abs() <= f64::from(largest) / 127.0 * 0.501, "{}", kernels.name());
                }
                prop_assert_eq!(offset, -128 * wholes.iter().map(|&x| i32::from(x)).sum::<i32>());
            }
        }
    }

    #[test]
    fn a_file_gives_the_bits_that_quantising_gives(rows in 1usize..40, columns in 1usize..200, seed in any::<u64>()) {
        let weights = bell(rows * columns, seed);
        let order = |row: usize| rows - 1 - row;
        for kernels in Kernels::all() {
            for format in FORMATS {
                let made = Grouped::new(kernels, format, Cells::F32(&weights), columns, order);
                let (codes, scales) = to_store(kernels, format, Cells::F32(&weights), columns);
                let stored = Stored { format, codes: &codes, scales: &scales };
                let read = Grouped::stored(stored, [rows, columns], order);
                prop_assert_eq!(&widened(kernels, &read), &widened(kernels, &made), "{} {:?}", kernels.name(), format);
                let mut plain = vec![f32::NAN; rows * columns];
                stored.widen(columns, &mut plain);
                let turned: Vec<f32> = plain.chunks_exact(columns).rev().flatten().copied().collect();
                prop_assert_eq!(&turned, &widened(kernels, &made), "{} {:?}", kernels.name(), format);
                prop_assert!(!stored.is_of([rows + 1, columns]) && !stored.is_of([rows, columns + 64]));
            }
        }
    }

    #[test]
    fn every_instruction_set_packs_and_widens_the_same_bits(rows in 1usize..40, columns in 1usize..200, seed in any::<u64>()) {
        let weights = bell(rows * columns, seed);
        for format in FORMATS {
            let plain = Kernels::all()[0];
            let first = widened(plain, &grouped(plain, format, columns, &weights));
            for kernels in Kernels::all() {
                let matrix = grouped(kernels, format, columns, &weights);
                prop_assert_eq!(&widened(kernels, &matrix), &first, "{} {:?}", kernels.name(), format);
                let rows = rows.min(PANEL);
                let mut bits = vec![0; rows * columns];
                kernels.widen(&matrix, 0, WideMut::Bf16(&mut bits));
                let rounded: Vec<u16> = first[..rows * columns].iter().map(|&x| round_to_bf16(x)).collect();
                prop_assert_eq!(bits, rounded, "{} {:?}", kernels.name(), format);
            }
        }
    }
}

#[test]
fn eight_bits_lose_less_than_a_hundredth_and_four_less_than_a_twelfth() {
    let (rows, columns) = (64, 320);
    let weights = bell(rows * columns, 7);
    let kernels = Kernels::best();
    let whole = size(weights.iter().map(|&w| f64::from(w)));
    for (format, most) in [(Format::Int8, 0.01), (Format::Int4, 1.0 / 12.0)] {
        let held = widened(kernels, &grouped(kernels, format, columns, &weights));
        let lost = size(held.iter().zip(&weights).map(|(&a, &b)| f64::from(a) - f64::from(b)));
        assert!(lost / whole < most, "{format:?} loses {}", lost / whole);
    }
}

#[test]
fn eight_bits_hold_the_largest_weight_of_a_group_and_zeros() {
    let kernels = Kernels::best();
    let mut weights = vec![0.0; 2 * 64];
    (weights[3], weights[9]) = (-1.0, 0.3);
    let held = widened(kernels, &grouped(kernels, Format::Int8, 64, &weights));
    assert!((held[3] + 1.0).abs() < 0.005 && (held[9] - 0.3).abs() < 0.005);
    assert!(held.iter().enumerate().all(|(i, &w)| i == 3 || i == 9 || w == 0.0));
    for format in FORMATS {
        let zeros = widened(kernels, &grouped(kernels, format, 64, &[0.0; 64]));
        assert!(zeros.iter().all(|&w| w == 0.0), "{format:?}");
    }
}

#[test]
fn a_weight_or_an_input_that_is_not_finite_is_not_hidden() {
    for kernels in Kernels::all() {
        for format in FORMATS {
            for wrong in [f32::NAN, f32::INFINITY] {
                let matrix = grouped(kernels, format, 40, &[[0.5; 40], [wrong; 40]].concat());
                let (good, bad) = (Padded::new(&[0.5; 40], 40), Padded::new(&[wrong; 40], 40));
                let mut out = [0.0; 2];
                kernels.grouped_product(&matrix, 0, good.inputs(), &mut out);
                assert!(out[0].is_finite() && out[1].is_nan(), "{} {format:?}", kernels.name());
                kernels.grouped_product(&matrix, 0, bad.inputs(), &mut out);
                assert!(out.iter().all(|x| x.is_nan()), "{} {format:?}", kernels.name());
            }
        }
    }
}

#[test]
fn every_set_of_kernels_gives_a_group_the_same_codes_and_scale() {
    for format in FORMATS {
        for (number, weights) in bell(200 * format.columns(), 9)
            .chunks_exact(format.columns())
            .enumerate()
        {
            let coded = |kernels: &Kernels| {
                let mut codes = vec![0; weights.len()];
                let scale = kernels.group(format, Cells::F32(weights), weights.len(), 0, 0, &mut codes);
                (scale, codes)
            };
            let all: Vec<_> = Kernels::all().iter().map(|kernels| coded(kernels)).collect();
            assert!(all.iter().all(|one| *one == all[0]), "{format:?}, group {number}");
        }
    }
}
