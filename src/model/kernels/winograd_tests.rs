//! Convolutions beside their definition, and their bits in company.

use super::group_norm::Value;
use super::sets::Kernels;
use super::team::Team;
use super::winograd::{Images, Winograd};

/// Numbers in −1..1 that look random.
fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// The convolution as it is defined, in f64.
fn defined(images: Images, x: &[f32], weights: &[f32], bias: &[f32]) -> Vec<f64> {
    let (outputs, inputs) = (bias.len(), weights.len() / 9 / bias.len());
    let Images { rows, columns, .. } = images;
    let mut out = Vec::new();
    for pixel in 0..images.pixels() {
        let (image, row, column) = (pixel / (rows * columns), pixel / columns % rows, pixel % columns);
        for output in 0..outputs {
            let mut sum = f64::from(bias[output]);
            for (down, across) in (0..9).map(|at| (at / 3, at % 3)) {
                let (Some(r), Some(c)) = ((row + down).checked_sub(1), (column + across).checked_sub(1)) else {
                    continue;
                };
                if r >= rows || c >= columns {
                    continue;
                }
                for input in 0..inputs {
                    let value = x[((image * rows + r) * columns + c) * inputs + input];
                    let weight = weights[(output * inputs + input) * 9 + down * 3 + across];
                    sum += f64::from(value) * f64::from(weight);
                }
            }
            out.push(sum);
        }
    }
    out
}

fn images(count: usize, rows: usize, columns: usize) -> Images {
    Images {
        count,
        rows,
        columns,
        doubled: false,
    }
}

#[test]
fn every_set_of_kernels_convolves_as_it_is_defined_whatever_the_size() {
    for kernels in Kernels::all().iter().filter(|kernels| kernels.has_vectors()) {
        for (number, (shape, inputs, outputs)) in [
            (images(1, 12, 12), 32, 64),
            (images(2, 5, 7), 64, 32),
            (images(3, 1, 2), 32, 32),
            (images(1, 33, 21), 32, 96),
        ]
        .into_iter()
        .enumerate()
        {
            let seed = number as u64;
            let x = numbers(seed, shape.pixels() * inputs);
            let weights = numbers(seed + 10, outputs * inputs * 9);
            let bias = numbers(seed + 20, outputs);
            let wanted = defined(shape, &x, &weights, &bias);
            let team = Team::new(2);
            let made = Winograd::new(kernels, &team, &weights, bias);
            let mut out = vec![f32::NAN; wanted.len()];
            made.run(&team, shape, &x, None, &mut out);
            let size = (wanted.iter().map(|y| y * y).sum::<f64>() / wanted.len() as f64).sqrt();
            let apart = out.iter().zip(&wanted).map(|(a, b)| (f64::from(*a) - b).abs());
            let apart = apart.fold(0.0, f64::max) / size;
            assert!(apart < 2e-5, "{} {shape:?}: {apart}", kernels.name());
            // In bf16 it is the same of rounded inputs, rounded.
            let short: Vec<u16> = x.iter().map(|&x| super::round_to_bf16(x)).collect();
            let wide: Vec<f32> = short.iter().map(|&x| Value::wide(x)).collect();
            let mut rounded = vec![0u16; out.len()];
            made.run(&team, shape, &short, None, &mut rounded);
            made.run(&team, shape, &wide, None, &mut out);
            let expected: Vec<u16> = out.iter().map(|&y| super::round_to_bf16(y)).collect();
            assert!(rounded == expected, "{} {shape:?}", kernels.name());
        }
    }
}

#[test]
fn pixels_taken_for_four_and_values_added_are_as_if_done_before_and_after() {
    let kernels = Kernels::best();
    if !kernels.has_vectors() {
        return;
    }
    let team = Team::new(2);
    let (channels, small, large) = (32, images(2, 5, 3), images(2, 10, 6));
    let made = Winograd::new(
        kernels,
        &team,
        &numbers(1, channels * channels * 9),
        numbers(2, channels),
    );
    let x = numbers(3, small.pixels() * channels);
    let doubled: Vec<f32> = (0..large.pixels())
        .flat_map(|pixel| {
            let (image, row, column) = (pixel / 60, pixel / 6 % 10, pixel % 6);
            &x[((image * 5 + row / 2) * 3 + column / 2) * channels..][..channels]
        })
        .copied()
        .collect();
    let mut wanted = vec![0f32; large.pixels() * channels];
    made.run(&team, large, &doubled, None, &mut wanted);
    let mut out = vec![0f32; wanted.len()];
    let twice = Images { doubled: true, ..large };
    made.run(&team, twice, &x, None, &mut out);
    assert!(out == wanted);
    let onto = numbers(4, wanted.len());
    made.run(&team, twice, &x, Some(&onto), &mut out);
    for ((sum, before), onto) in out.iter().zip(&wanted).zip(&onto) {
        assert_eq!(*sum, before + onto);
    }
}

#[test]
fn an_image_has_the_same_bits_in_any_company_and_on_any_number_of_threads() {
    let kernels = Kernels::best();
    if !kernels.has_vectors() {
        return;
    }
    let (inputs, outputs) = (32, 128);
    let convolution = Winograd::new(
        kernels,
        &Team::new(1),
        &numbers(1, outputs * inputs * 9),
        numbers(2, outputs),
    );
    let x = numbers(3, 5 * 10 * 9 * inputs);
    let run = |threads: usize, count: usize, x: &[f32]| {
        let mut out = vec![0f32; count * 90 * outputs];
        convolution.run(&Team::new(threads), images(count, 10, 9), x, None, &mut out);
        out
    };
    let all = run(1, 5, &x);
    for threads in [2, 3, 7] {
        assert!(run(threads, 5, &x) == all, "{threads}");
    }
    for number in 0..5 {
        let alone = run(2, 1, &x[number * 90 * inputs..][..90 * inputs]);
        assert!(alone == all[number * 90 * outputs..][..90 * outputs], "{number}");
    }
}

#[test]
fn every_set_of_kernels_gives_the_same_bits() {
    let (shape, x) = (images(1, 9, 14), numbers(1, 9 * 14 * 64));
    let run = |kernels| {
        let made = Winograd::new(kernels, &Team::new(1), &numbers(2, 64 * 64 * 9), numbers(3, 64));
        let mut out = vec![0f32; shape.pixels() * 64];
        made.run(&Team::new(1), shape, &x, None, &mut out);
        out
    };
    let sets = Kernels::all().iter().filter(|kernels| kernels.has_vectors());
    let made: Vec<_> = sets.map(|kernels| run(kernels)).collect();
    assert!(made.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn what_it_is_not_for_is_left_to_others() {
    let kernels = Kernels::best();
    for (inputs, outputs) in [(3, 128), (128, 3), (48, 64), (0, 32), (512, 512)] {
        assert!(!Winograd::takes(kernels, inputs, outputs), "{inputs} {outputs}");
    }
}
