//! Attention over keys in panels against float64, wherever in the memory they lie and whatever lies beside them.

use proptest::prelude::*;

use super::packed::Line;
use super::tests::{Padded, bf16, coarse, near};
use super::*;

/// The memory of a head in which everything is NaN but the keys of one sequence, from `start` on.
struct Memory(Vec<Line>);

impl Memory {
    fn new(keys: &[f32], dim: usize, start: usize) -> Self {
        let panels = (start + keys.len() / dim).div_ceil(KeyPanels::POSITIONS);
        let mut memory = Self(vec![Line([0x7fc1; 2 * PANEL]); panels * dim.div_ceil(2)]);
        for (i, key) in keys.chunks_exact(dim).enumerate() {
            memory.panels(dim).write(start + i, &bf16(key));
        }
        memory
    }

    fn panels(&mut self, dim: usize) -> KeyPanelsMut<'_> {
        // SAFETY: a line is so many u16.
        let cells = unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.0.len() * 2 * PANEL) };
        KeyPanelsMut::new(cells, dim)
    }

    fn keys(&self, dim: usize, start: usize) -> KeyPanels<'_> {
        // SAFETY: as above.
        let cells = unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() * 2 * PANEL) };
        KeyPanels::new(cells, dim, start)
    }
}

/// What some queries gather.
fn attend(kernels: &Kernels, queries: &[f32], lens: &[usize], keys: KeyPanels<'_>, values: &[u16]) -> Vec<f32> {
    let longest = lens.iter().copied().fold(1, usize::max);
    let dim = queries.len() / lens.len();
    let mut scores = vec![f32::NAN; Kernels::room_to_attend(lens.len(), longest)];
    let mut out = vec![f32::NAN; queries.len()];
    let values = &values[..longest * dim];
    kernels.attend_panels(
        Padded::new(queries, dim).inputs(),
        lens,
        keys,
        values,
        &mut scores,
        &mut out,
    );
    out
}

/// `softmax(query · keysᵀ) · values`, and the same of the values' magnitudes.
fn exact(query: &[f32], keys: &[f32], values: &[f32]) -> Vec<(f64, f64)> {
    let dim = query.len();
    let dot = |key: &[f32]| {
        key.iter()
            .zip(query)
            .map(|(&k, &q)| f64::from(k) * f64::from(q))
            .sum::<f64>()
    };
    let scores: Vec<f64> = keys.chunks_exact(dim).map(dot).collect();
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = scores.iter().map(|s| (s - largest).exp()).collect();
    let sum: f64 = weights.iter().sum();
    let mean = |d: usize, of: fn(f64) -> f64| {
        let terms = weights
            .iter()
            .enumerate()
            .map(|(t, w)| w * of(f64::from(values[t * dim + d])));
        terms.sum::<f64>() / sum
    };
    (0..dim).map(|d| (mean(d, |v| v), mean(d, f64::abs))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn attention_over_panels_is_that_of_float64_wherever_they_lie_and_each_query_the_same_alone(
        len in 1usize..150, more in prop::collection::vec(0usize..5, 1..=Kernels::QUERIES), half in 1usize..150, start in 0usize..40,
        seed in any::<u64>(),
    ) {
        let dim = 2 * half;
        let lens: Vec<usize> = more.iter().map(|more| len + more).collect();
        let longest = *lens.iter().max().unwrap();
        let queries = coarse(lens.len() * dim, seed);
        let (keys, values) = (coarse(longest * dim, seed ^ 1), coarse(longest * dim, seed ^ 2));
        let value_bits = bf16(&values);
        let (first, there) = (Memory::new(&keys, dim, 0), Memory::new(&keys, dim, start));
        for kernels in Kernels::all().iter().filter(|kernels| kernels.packs()) {
            let out = attend(kernels, &queries, &lens, there.keys(dim, start), &value_bits);
            // Where products take bf16 the weights of the mean are rounded to it.
            let rounding = if kernels.rounds_inputs() { 1.0 / 256.0 } else { 0.0 };
            for ((query, &len), out) in queries.chunks_exact(dim).zip(&lens).zip(out.chunks_exact(dim)) {
                for (&value, (mean, magnitude)) in out.iter().zip(exact(query, &keys[..len * dim], &values[..len * dim])) {
                    let off = (f64::from(value) - mean).abs();
                    prop_assert!(near(value, mean, 4.0, len + dim) || off <= rounding * magnitude, "{} {value} {mean}", kernels.name());
                }
                let alone = attend(kernels, query, &[len], first.keys(dim, 0), &value_bits);
                prop_assert_eq!(&alone[..], out, "{}", kernels.name());
            }
        }
    }

    #[test]
    fn keys_that_are_copied_are_those_that_were_written(
        len in 1usize..40, from in 0usize..20, apart in 0usize..20, half in 1usize..40, seed in any::<u64>(),
    ) {
        let dim = 2 * half;
        let to = from + len + apart;
        let keys = coarse(len * dim, seed);
        let mut memory = Memory::new(&keys, dim, from);
        memory.0.resize((to + len).div_ceil(PANEL) * half, Line([0x7fc1; 2 * PANEL]));
        memory.panels(dim).copy(from, to, len);
        for (at, key) in keys.chunks_exact(dim).enumerate() {
            let lanes = |position: usize| {
                let lines = &memory.0[position / PANEL * half..][..half];
                lines.iter().flat_map(|line| line.0[position % PANEL * 2..][..2].to_vec()).collect::<Vec<u16>>()
            };
            prop_assert_eq!(lanes(to + at), bf16(key));
            prop_assert_eq!(lanes(from + at), bf16(key));
        }
        prop_assert_eq!(memory.0.iter().flat_map(|line| line.0).filter(|bits| *bits != 0x7fc1).count(), 2 * len * dim);
    }
}
