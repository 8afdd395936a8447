//! Every kernel of every instruction set of this machine against float64, on random and ragged shapes.

use proptest::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// Numbers in −1..1 that depend on `seed` alone.
pub(super) fn numbers(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

pub(super) fn bf16(values: &[f32]) -> Vec<u16> {
    values.iter().map(|&x| round_to_bf16(x)).collect()
}

fn widened(bits: &[u16]) -> Vec<f32> {
    bits.iter().map(|&b| f32::from_bits(u32::from(b) << 16)).collect()
}

/// Values that bf16 holds exactly.
pub(super) fn coarse(len: usize, seed: u64) -> Vec<f32> {
    widened(&bf16(&numbers(len, seed)))
}

/// Rows of inputs as the kernels want them.
pub(super) struct Padded {
    values: Vec<f32>,
    rounded: Vec<u16>,
    bytes: Vec<i8>,
    words: Vec<i16>,
    scales: Vec<f32>,
    offsets: Vec<i32>,
    stride: usize,
    count: usize,
}

impl Padded {
    pub(super) fn new(rows: &[f32], columns: usize) -> Self {
        let stride = columns.next_multiple_of(Kernels::PADDING);
        let count = rows.len() / columns;
        let mut values = vec![0.0; count * stride];
        for (to, from) in values.chunks_exact_mut(stride).zip(rows.chunks_exact(columns)) {
            to[..columns].copy_from_slice(from);
        }
        let groups = values.len() / Fixed::GROUP;
        let (mut bytes, mut words) = (vec![0; values.len()], vec![0; values.len()]);
        let (mut scales, mut offsets) = (vec![0.0; groups], vec![0; groups]);
        // Both forms, whichever some kernels read.
        for kernels in Kernels::all() {
            let to = FixedMut {
                bytes: &mut bytes,
                words: &mut words,
                scales: &mut scales,
                offsets: &mut offsets,
            };
            kernels.fix(&values, to);
        }
        Self {
            rounded: bf16(&values),
            values,
            bytes,
            words,
            scales,
            offsets,
            stride,
            count,
        }
    }

    pub(super) fn inputs(&self) -> Inputs<'_> {
        Inputs {
            values: &self.values,
            rounded: &self.rounded,
            fixed: Fixed {
                bytes: &self.bytes,
                words: &self.words,
                scales: &self.scales,
                offsets: &self.offsets,
            },
            stride: self.stride,
            count: self.count,
        }
    }
}

/// Within a few roundings of f32 over `terms` additions of this total magnitude.
pub(super) fn near(value: f32, exact: f64, magnitude: f64, terms: usize) -> bool {
    (f64::from(value) - exact).abs() <= (terms as f64).sqrt() * 4.0 * f64::from(f32::EPSILON) * (magnitude + 1e-3)
}

/// Whether `out` is the product of `inputs` and `weights`, rows of `columns`, as float64 has it.
fn is_product(out: &[f32], inputs: &[f32], weights: &[f32], columns: usize) -> bool {
    let rows = weights.len() / columns;
    let row_is = |(x, out): (&[f32], &[f32])| {
        weights.chunks_exact(columns).zip(out).all(|(w, &value)| {
            let terms = || x.iter().zip(w).map(|(&x, &w)| f64::from(x) * f64::from(w));
            near(value, terms().sum(), terms().map(f64::abs).sum(), columns)
        })
    };
    out.len() == inputs.len() / columns * rows && inputs.chunks_exact(columns).zip(out.chunks_exact(rows)).all(row_is)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_product_is_that_of_float64_and_each_row_the_same_alone(
        rows in 1usize..23, columns in 1usize..300, count in 1usize..=20, seed in any::<u64>(),
    ) {
        let weights = coarse(rows * columns, seed);
        let inputs = coarse(count * columns, seed ^ 1);
        let bits = bf16(&weights);
        let padded = Padded::new(&inputs, columns);
        for kernels in Kernels::all() {
            for cells in [Cells::F32(&weights), Cells::Bf16(&bits)] {
                let mut out = vec![f32::NAN; rows * count];
                kernels.product(cells, columns, padded.inputs(), &mut out);
                prop_assert!(is_product(&out, &inputs, &weights, columns), "{}", kernels.name());
                for (i, x) in inputs.chunks_exact(columns).enumerate() {
                    let mut alone = vec![f32::NAN; rows];
                    kernels.product(cells, columns, Padded::new(x, columns).inputs(), &mut alone);
                    prop_assert_eq!(&alone, &out[i * rows..(i + 1) * rows], "{}", kernels.name());
                    // A row's bits do not depend on the rows computed with it either: threads take them in any pieces.
                    let last = rows - 1;
                    let mut single = [f32::NAN];
                    kernels.product(cells.part(last * columns, columns), columns, Padded::new(x, columns).inputs(), &mut single);
                    prop_assert_eq!(single[0], alone[last], "{}", kernels.name());
                }
            }
        }
    }

    #[test]
    fn a_product_with_packed_weights_is_that_of_float64_and_each_row_the_same_alone(
        rows in 1usize..70, columns in 1usize..300, count in 1usize..=40, long in any::<bool>(), seed in any::<u64>(),
    ) {
        // Long ones are computed in blocks of columns, several rows of inputs in turns.
        let (columns, rows) = if long { (columns + 2600, rows % 20 + 1) } else { (columns, rows) };
        let weights = coarse(rows * columns, seed);
        let inputs = coarse(count * columns, seed ^ 1);
        let packed = Packed::new(&bf16(&weights), columns, |row| row);
        let padded = Padded::new(&inputs, columns);
        for kernels in Kernels::all().iter().filter(|kernels| kernels.packs()) {
            let mut out = vec![f32::NAN; rows * count];
            kernels.packed_product(&packed, 0, padded.inputs(), &mut out);
            prop_assert!(is_product(&out, &inputs, &weights, columns), "{}", kernels.name());
            for (i, x) in inputs.chunks_exact(columns).enumerate() {
                let mut alone = vec![f32::NAN; rows];
                kernels.packed_product(&packed, 0, Padded::new(x, columns).inputs(), &mut alone);
                prop_assert_eq!(&alone, &out[i * rows..(i + 1) * rows], "{}", kernels.name());
                // A row's bits do not depend on the panels computed with it either.
                let start = (rows - 1) / PANEL * PANEL;
                let mut last = vec![f32::NAN; rows - start];
                kernels.packed_product(&packed, start, Padded::new(x, columns).inputs(), &mut last);
                prop_assert_eq!(&last, &alone[start..], "{}", kernels.name());
            }
        }
    }

    #[test]
    fn packed_weights_can_be_taken_out_again(rows in 1usize..50, columns in 1usize..70, seed in any::<u64>()) {
        let bits = bf16(&numbers(rows * columns, seed));
        let packed = Packed::new(&bits, columns, |row| row);
        for (panel, bits) in bits.chunks(PANEL * columns).enumerate() {
            let mut out = vec![1; bits.len()];
            packed.unpack(panel, &mut out);
            prop_assert_eq!(&out, bits);
        }
    }

    #[test]
    fn attention_is_that_of_float64_and_each_query_the_same_alone(
        len in 1usize..150, more in prop::collection::vec(0usize..5, 1..8), dim in 1usize..300, seed in any::<u64>(),
    ) {
        let lens: Vec<usize> = more.iter().map(|more| len + more).collect();
        let (count, longest) = (lens.len(), *lens.iter().max().unwrap());
        let queries = numbers(count * dim, seed);
        let (keys, values) = (coarse(longest * dim, seed ^ 1), coarse(longest * dim, seed ^ 2));
        let (key_bits, value_bits) = (bf16(&keys), bf16(&values));
        for kernels in Kernels::all() {
            for (key_cells, value_cells) in [
                (Cells::F32(&keys), Cells::F32(&values)),
                (Cells::Bf16(&key_bits), Cells::Bf16(&value_bits)),
            ] {
                let (mut out, mut scratch) = (vec![f32::NAN; count * dim], vec![f32::NAN; count * longest]);
                kernels.attend(&queries, &lens, key_cells, value_cells, &mut scratch, &mut out);
                for ((query, &len), out) in queries.chunks_exact(dim).zip(&lens).zip(out.chunks_exact(dim)) {
                    let dot = |key: &[f32]| key.iter().zip(query).map(|(&k, &q)| f64::from(k) * f64::from(q)).sum::<f64>();
                    let scores: Vec<f64> = keys.chunks_exact(dim).take(len).map(dot).collect();
                    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    let weights: Vec<f64> = scores.iter().map(|s| (s - largest).exp()).collect();
                    let sum: f64 = weights.iter().sum();
                    for (d, &value) in out.iter().enumerate() {
                        let exact: f64 = weights.iter().enumerate().map(|(t, w)| w * f64::from(values[t * dim + d])).sum();
                        prop_assert!(near(value, exact / sum, 4.0, len + dim), "{} {value} {}", kernels.name(), exact / sum);
                    }
                    let (mut alone, mut scratch) = (vec![f32::NAN; dim], vec![f32::NAN; len]);
                    let (keys, values) = (key_cells.part(0, len * dim), value_cells.part(0, len * dim));
                    kernels.attend(query, &[len], keys, values, &mut scratch, &mut alone);
                    prop_assert_eq!(&alone[..], out, "{}", kernels.name());
                }
            }
        }
    }
}

#[test]
fn a_number_that_is_not_finite_is_not_hidden() {
    for kernels in Kernels::all() {
        let input = Padded::new(&[f32::INFINITY, 1.0, f32::NAN], 3);
        let mut out = [0.0; 2];
        kernels.product(Cells::F32(&[1.0; 6]), 3, input.inputs(), &mut out);
        assert!(out.iter().all(|x| x.is_nan()), "{}", kernels.name());
    }
}

#[test]
fn a_team_does_each_piece_once_between_two_barriers() {
    for threads in [1, 2, 5] {
        let team = Team::new(threads);
        let done: Vec<AtomicUsize> = (0..100).map(|_| AtomicUsize::new(0)).collect();
        team.run(|worker| {
            for round in 0..20 {
                while let Some(pieces) = worker.take(done.len(), 7) {
                    for piece in pieces {
                        assert_eq!(done[piece].fetch_add(1, Ordering::Relaxed), round);
                    }
                }
                worker.barrier();
                assert!(done.iter().all(|count| count.load(Ordering::Relaxed) > round));
                worker.barrier();
            }
        });
        assert!(done.iter().all(|count| count.load(Ordering::Relaxed) == 20));
    }
}

#[test]
fn a_panic_on_one_thread_stops_the_team_and_reaches_the_caller() {
    let team = Team::new(3);
    let arrivals = AtomicUsize::new(0);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        team.run(|worker| {
            if arrivals.fetch_add(1, Ordering::Relaxed) == 0 {
                std::panic::resume_unwind(Box::new("the first"));
            }
            worker.barrier();
        });
    }));
    assert_eq!(outcome.unwrap_err().downcast_ref::<&str>(), Some(&"the first"));
    // And it can run again.
    arrivals.store(1, Ordering::Relaxed);
    team.run(|worker| worker.barrier());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_group_norm_is_that_of_float64_and_each_image_the_same_alone(
        images in 1usize..4, pixels in 1usize..700, width in 1usize..=4, far in 0f32..50.0, swish in any::<bool>(), seed in any::<u64>(),
    ) {
        let (groups, channels) = (16, 16 * width);
        let x: Vec<f32> = coarse(images * pixels * channels, seed).iter().map(|x| x + far).collect();
        let x = widened(&bf16(&x));
        let bits = bf16(&x);
        let (weight, bias) = (numbers(channels, seed ^ 1), numbers(channels, seed ^ 2));
        let norm = GroupNorm { weight: &weight, bias: &bias, groups, eps: 1e-6, swish };
        let team = Team::new(2);
        for kernels in Kernels::all() {
            let (mut out, mut short) = (vec![f32::NAN; x.len()], vec![0u16; x.len()]);
            norm.run(kernels, &team, Some(&x), images, &mut out);
            norm.run(kernels, &team, Some(&bits), images, &mut short);
            let mut over = x.clone();
            norm.run(kernels, &team, None, images, &mut over);
            prop_assert_eq!(&over, &out, "{}", kernels.name());
            for (image, x) in x.chunks_exact(pixels * channels).enumerate() {
                let at = image * pixels * channels;
                for group in 0..groups {
                    let inside = |i: usize| i % channels / width == group;
                    let values: Vec<f64> = (0..x.len()).filter(|&i| inside(i)).map(|i| f64::from(x[i])).collect();
                    let mean = values.iter().sum::<f64>() / values.len() as f64;
                    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64;
                    let deviation = (variance + 1e-6).sqrt();
                    for i in (0..x.len()).filter(|&i| inside(i)) {
                        let (w, b) = (f64::from(weight[i % channels]), f64::from(bias[i % channels]));
                        let y = (f64::from(x[i]) - mean) / deviation * w + b;
                        let y = if swish { y / (1.0 + (-y).exp()) } else { y };
                        // A value is multiplied before the mean is taken away: a rounding of either may be left.
                        let rounding = 6e-6 * (1.0 + y.abs() + f64::from(far + 1.0) * w.abs() / deviation);
                        prop_assert!((f64::from(out[at + i]) - y).abs() <= rounding, "{} {} {y}", kernels.name(), out[at + i]);
                        let rounded = f64::from(f32::from_bits(u32::from(short[at + i]) << 16));
                        prop_assert!((rounded - y).abs() <= rounding + y.abs() / 200.0 + 1e-6, "{} {rounded} {y}", kernels.name());
                    }
                }
                let mut alone = vec![f32::NAN; x.len()];
                norm.run(kernels, &Team::new(1), Some(x), 1, &mut alone);
                prop_assert_eq!(&alone, &out[at..at + x.len()], "{}", kernels.name());
            }
        }
    }
}
