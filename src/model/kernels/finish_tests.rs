//! What becomes of a product, LayerNorm and rounding against float64, for every set of kernels that this machine can run.

use proptest::prelude::*;

use super::tests::numbers;
use super::*;

proptest! {
    #[test]
    fn a_layer_norm_is_that_of_float64(len in 1usize..300, seed in any::<u64>()) {
        let x: Vec<f32> = numbers(len, seed).iter().map(|x| x * 3.0 + 2.0).collect();
        let (weight, bias) = (numbers(len, seed ^ 1), numbers(len, seed ^ 2));
        let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / len as f64;
        let variance = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / len as f64;
        for kernels in Kernels::all() {
            let mut out = vec![f32::NAN; len];
            let mut bits = vec![0; len];
            let (values, rounded) = (Shared::new(&mut out), Shared::new(&mut bits));
            // SAFETY: nobody else has them.
            unsafe {
                let to = [
                    Target::Values(values.columns_mut(0, [1, len], len)),
                    Target::Rounded(rounded.columns_mut(0, [1, len], len)),
                ];
                to.iter().for_each(|to| kernels.norm(&x, &weight, &bias, 1e-2, to));
            }
            prop_assert!(out.iter().zip(bits).all(|(&value, bits)| round_to_bf16(value) == bits), "{}", kernels.name());
            for (i, &value) in out.iter().enumerate() {
                let exact = (f64::from(x[i]) - mean) / (variance + 1e-2).sqrt() * f64::from(weight[i]) + f64::from(bias[i]);
                prop_assert!((f64::from(value) - exact).abs() < 2e-5, "{}", kernels.name());
            }
        }
    }

    #[test]
    fn rows_come_to_where_they_belong_with_bias_and_function_and_nothing_else_is_touched(
        [count, len, first, gap] in [1usize..5, 1usize..70, 0usize..20, 0usize..20], biased: bool, which in 0usize..4, seed in any::<u64>()
    ) {
        let function = [Function::Same, Function::Gelu, Function::GeluTanh, Function::Relu][which];
        let product: Vec<f32> = numbers(count * len, seed).iter().map(|x| x * 3.0).collect();
        let bias = numbers(if biased { len } else { 0 }, seed ^ 1);
        let stride = len + gap;
        let before = numbers(first + count * stride, seed ^ 2);
        for kernels in Kernels::all() {
            let (mut values, mut sums) = (before.clone(), before.clone());
            let mut bits = vec![7u16; before.len()];
            let shared = [&mut values, &mut sums].map(|values| Shared::new(values));
            let rounded = Shared::new(&mut bits);
            // SAFETY: nobody else has them.
            unsafe {
                let to = [
                    Target::Values(shared[0].columns_mut(first, [count, len], stride)),
                    Target::Sums(shared[1].columns_mut(first, [count, len], stride)),
                    Target::Rounded(rounded.columns_mut(first, [count, len], stride)),
                ];
                to.iter().for_each(|to| kernels.finish(&product, &bias, function, to));
            }
            for (at, &old) in before.iter().enumerate() {
                let (row, column) = (at.wrapping_sub(first) / stride, at.wrapping_sub(first) % stride);
                if at < first || column >= len {
                    prop_assert!(values[at] == old && sums[at] == old && bits[at] == 7, "{} {at}", kernels.name());
                    continue;
                }
                let x = product[row * len + column] + bias.get(column).unwrap_or(&0.0);
                prop_assert_eq!(values[at], mapped(kernels, function, &[x])[0], "{} {}", kernels.name(), at);
                prop_assert_eq!(sums[at], old + values[at]);
                prop_assert_eq!(bits[at], round_to_bf16(values[at]));
            }
        }
    }

    #[test]
    fn rounding_to_bf16_is_that_of_half(bits in any::<u32>(), len in 1usize..40) {
        let x = vec![f32::from_bits(bits); len];
        for kernels in Kernels::all() {
            let mut out = vec![0; len];
            kernels.round(&x, &mut out);
            prop_assert!(out.iter().all(|&o| o == half::bf16::from_f32(x[0]).to_bits()), "{}", kernels.name());
        }
    }
}

/// A function of each number.
fn mapped(kernels: &Kernels, function: Function, x: &[f32]) -> Vec<f32> {
    let mut out = vec![f32::MAX; x.len()];
    let values = Shared::new(&mut out);
    // SAFETY: nobody else has it.
    let to = Target::Values(unsafe { values.columns_mut(0, [1, x.len()], x.len()) });
    kernels.finish(x, &[], function, &to);
    out
}

/// The normal distribution function by Simpson's rule from 0.
fn normal(x: f64) -> f64 {
    let steps = 2000;
    let density = |t: f64| (-t * t / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let width = x / f64::from(steps);
    let area: f64 = (0..=steps)
        .map(|i| {
            let factor = match i {
                0 => 1.0,
                i if i == steps => 1.0,
                i if i % 2 == 1 => 4.0,
                _ => 2.0,
            };
            factor * density(f64::from(i) * width)
        })
        .sum();
    0.5 + area * width / 3.0
}

#[test]
fn activations_are_those_of_float64() {
    let mut x: Vec<f32> = (-1200..=1200).map(|i| i as f32 / 100.0).collect();
    x.extend([0.0, -0.0, 1e-20, -1e-20, 90.0, -90.0, 1e6, -1e6]);
    for kernels in Kernels::all() {
        let [exact, tanh, relu] =
            [Function::Gelu, Function::GeluTanh, Function::Relu].map(|function| mapped(kernels, function, &x));
        for (i, &x) in x.iter().enumerate() {
            let wide = f64::from(x);
            let within = |value: f32, reference: f64| (f64::from(value) - reference).abs() <= 4e-7 * (1.0 + wide.abs());
            let phi = match wide {
                x if x > 13.0 => 1.0,
                x if x < -13.0 => 0.0,
                x => normal(x),
            };
            assert!(
                within(exact[i], wide * phi),
                "{} gelu({x}) = {}",
                kernels.name(),
                exact[i]
            );
            let u = (2.0 / std::f64::consts::PI).sqrt() * (wide + 0.044715 * wide.powi(3));
            assert!(
                within(tanh[i], wide * 0.5 * (1.0 + u.tanh())),
                "{} gelu_tanh({x}) = {}",
                kernels.name(),
                tanh[i]
            );
            assert_eq!(relu[i], x.max(0.0), "{} relu({x})", kernels.name());
        }
    }
}

#[test]
fn a_number_that_is_not_finite_stays_so() {
    for kernels in Kernels::all() {
        for function in [Function::Same, Function::Gelu, Function::GeluTanh, Function::Relu] {
            let x = mapped(kernels, function, &[f32::NAN; 19]);
            assert!(x.iter().all(|x| x.is_nan()), "{}", kernels.name());
        }
    }
}
