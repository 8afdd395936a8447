//! Pillow's antialiased 8-bit Lanczos resize: same arithmetic, same pixels.
//!
//! A separable filter in two passes, rows first, with an 8-bit image between them. Weights are made in double precision,
//! normalised, and rounded half away from zero to fixed point with 22 fractional bits; sums start at one half and are
//! clipped to 0 … 255. See Pillow's documentation of `Image.Resampling.LANCZOS` and its `Resample.c` (10.0.1).
//!
//! Every output pixel depends on its own taps only, so computing a window of the result gives the same pixels as cutting
//! it out of the whole.

use rayon::prelude::*;

use super::Raster;

/// Fractional bits of a fixed-point weight: 32 minus 8 for a sample minus 2 for the filter's negative lobes.
const PRECISION: u32 = 32 - 8 - 2;
/// One half, so that the shift rounds to nearest.
const HALF: i32 = 1 << (PRECISION - 1);
/// Taps are padded with zero weights to a multiple of this, so that the inner loop has no remainder.
const LANES: usize = 8;
/// Multiplications below which a second thread costs more than it gives.
const PARALLEL_FROM: usize = 1 << 20;

/// A part of the resized image, in its coordinates.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) left: usize,
    pub(super) top: usize,
    pub(super) width: usize,
    pub(super) height: usize,
}

/// `raster` resized to `width × height`, of which `window` is returned: `window.height × window.width × channels` bytes.
pub(super) fn lanczos(raster: &Raster, width: usize, height: usize, window: Window) -> Vec<u8> {
    let channels = raster.channels().count();
    let columns = window.left..window.left + window.width;
    let rows = window.top..window.top + window.height;
    if columns.is_empty() || rows.is_empty() {
        return Vec::new();
    }
    // A pass that changes nothing is left out, as Pillow does.
    let vertical = (height != raster.height()).then(|| Taps::new(raster.height(), height, rows.clone()));
    let needed = vertical.as_ref().map_or(rows, Taps::span);

    let stride = window.width * channels;
    let mut narrow = vec![0; needed.len() * stride];
    if width == raster.width() {
        for (y, out) in needed.clone().zip(narrow.chunks_exact_mut(stride)) {
            out.copy_from_slice(&raster.row(y)[columns.start * channels..columns.end * channels]);
        }
    } else {
        let taps = Taps::new(raster.width(), width, columns);
        // One worker's rows at a time, so that its scratch is made once.
        let band = needed.len().div_ceil(4 * rayon::current_num_threads()).max(1);
        let work = |(i, out): (usize, &mut [u8])| {
            let first = needed.start + i * band;
            taps.resample_rows(raster, first, out);
        };
        if needed.len() * stride * taps.stride < PARALLEL_FROM {
            narrow.chunks_mut(band * stride).enumerate().for_each(work);
        } else {
            narrow.par_chunks_mut(band * stride).enumerate().for_each(work);
        }
    }
    match vertical {
        None => narrow,
        Some(taps) => taps.resample_columns(&narrow, needed.start, stride),
    }
}

/// The Lanczos window of three lobes.
fn lanczos3(x: f64) -> f64 {
    let sinc = |x: f64| {
        if x == 0.0 {
            1.0
        } else {
            (x * std::f64::consts::PI).sin() / (x * std::f64::consts::PI)
        }
    };
    if (-3.0..3.0).contains(&x) {
        sinc(x) * sinc(x / 3.0)
    } else {
        0.0
    }
}

/// Which input samples, with which weights, make each output sample of one axis.
struct Taps {
    /// First and past-the-last input sample of each output sample.
    bounds: Vec<(usize, usize)>,
    /// Weights per output sample, padding included.
    stride: usize,
    /// Fixed-point weights.
    weights: Vec<i32>,
}

impl Taps {
    /// Taps of output samples `wanted` when `from` samples become `to`.
    fn new(from: usize, to: usize, wanted: std::ops::Range<usize>) -> Self {
        let scale = from as f64 / to as f64;
        let filter_scale = scale.max(1.0);
        let support = 3.0 * filter_scale;
        let stride = (support.ceil() as usize * 2 + 1).min(from).next_multiple_of(LANES);
        let mut taps = Self {
            bounds: Vec::with_capacity(wanted.len()),
            stride,
            weights: vec![0; wanted.len() * stride],
        };
        let mut weights = Vec::with_capacity(stride);
        for (out, at) in wanted.zip((0..).step_by(stride)) {
            let centre = (out as f64 + 0.5) * scale;
            // Casts truncate towards zero and saturate, as the original's bounds do.
            let first = (centre - support + 0.5) as usize;
            let end = ((centre + support + 0.5) as usize).min(from);
            let reciprocal = 1.0 / filter_scale;
            weights.clear();
            weights.extend((first..end).map(|x| lanczos3((x as f64 - centre + 0.5) * reciprocal)));
            let total: f64 = weights.iter().sum();
            for (i, weight) in weights.iter().enumerate() {
                let weight = if total == 0.0 { *weight } else { weight / total };
                let fixed = weight * f64::from(1 << PRECISION);
                taps.weights[at + i] = (fixed + 0.5f64.copysign(fixed)) as i32;
            }
            taps.bounds.push((first, end));
        }
        taps
    }

    /// All input samples that are needed.
    fn span(&self) -> std::ops::Range<usize> {
        let first = self.bounds.iter().map(|b| b.0).min().unwrap_or(0);
        first..self.bounds.iter().map(|b| b.1).max().unwrap_or(0)
    }

    /// Rows of `raster` from `first` on, resampled along x into `out`.
    fn resample_rows(&self, raster: &Raster, first: usize, out: &mut [u8]) {
        let channels = raster.channels().count();
        // One row of one channel, with room for the padding of the last taps.
        let mut line = vec![0u8; raster.width() + self.stride];
        for (y, out) in out.chunks_exact_mut(self.bounds.len() * channels).enumerate() {
            let row = raster.row(first + y);
            for channel in 0..channels {
                if channels == 1 {
                    line[..row.len()].copy_from_slice(row);
                } else {
                    for (to, from) in line.iter_mut().zip(row.chunks_exact(channels)) {
                        *to = from[channel];
                    }
                }
                let targets = out[channel..].iter_mut().step_by(channels);
                let taps = self.bounds.iter().zip(self.weights.chunks_exact(self.stride));
                for (target, (&(first, _), weights)) in targets.zip(taps) {
                    *target = clip(weighted_sum(&line[first..][..self.stride], weights));
                }
            }
        }
    }

    /// Resamples along y: `narrow` holds rows of `stride` bytes, of which the first is input row `offset`.
    fn resample_columns(&self, narrow: &[u8], offset: usize, stride: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bounds.len() * stride);
        let mut sums = vec![HALF; stride];
        for (y, &(first, end)) in self.bounds.iter().enumerate() {
            sums.fill(HALF);
            let rows = narrow.chunks_exact(stride).skip(first - offset).take(end - first);
            for (row, &weight) in rows.zip(&self.weights[y * self.stride..]) {
                for (sum, &sample) in sums.iter_mut().zip(row) {
                    *sum = sum.wrapping_add(weight.wrapping_mul(i32::from(sample)));
                }
            }
            out.extend(sums.iter().map(|&sum| clip(sum)));
        }
        out
    }
}

/// `½ + Σ sample · weight` in fixed point. A plain loop is what the compiler vectorises best.
#[inline]
fn weighted_sum(samples: &[u8], weights: &[i32]) -> i32 {
    let products = samples
        .iter()
        .zip(weights)
        .map(|(&sample, &weight)| i32::from(sample).wrapping_mul(weight));
    products.fold(HALF, i32::wrapping_add)
}

/// Fixed point to 8 bit.
#[inline]
fn clip(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Channels;
    use super::*;

    proptest! {
        #[test]
        fn a_window_equals_the_same_part_of_the_whole(
            (from_width, from_height) in (1usize..60, 1usize..60),
            (width, height) in (1usize..60, 1usize..60),
            corner in (0usize..60, 0usize..60),
            seed in any::<u32>(),
        ) {
            let samples = (0..from_width * from_height * 3).map(|i| (seed.wrapping_mul(i as u32 + 1) >> 13) as u8);
            let raster = Raster::new(from_width, from_height, Channels::Rgb, samples.collect()).unwrap();
            let whole = lanczos(&raster, width, height, Window { left: 0, top: 0, width, height });
            let (left, top) = (corner.0 % width, corner.1 % height);
            let window = Window { left, top, width: width - left, height: height - top };
            let part = lanczos(&raster, width, height, window);
            let rows = whole.chunks_exact(width * 3).skip(top).flat_map(|row| &row[left * 3..]);
            prop_assert!(part.iter().eq(rows));
        }

        #[test]
        fn weights_of_an_output_sample_sum_to_one(from in 1usize..5000, to in 1usize..600) {
            let taps = Taps::new(from, to, 0..to);
            for weights in taps.weights.chunks_exact(taps.stride) {
                let sum: i64 = weights.iter().map(|&weight| i64::from(weight)).sum();
                // Each weight is rounded by at most one half.
                prop_assert!((sum - (1 << PRECISION)).unsigned_abs() <= taps.stride as u64);
            }
        }
    }

    #[test]
    fn an_image_of_the_size_wanted_is_left_alone() {
        let samples: Vec<u8> = (0..48).collect();
        let raster = Raster::new(8, 6, Channels::Grey, samples.clone()).unwrap();
        assert_eq!(
            lanczos(
                &raster,
                8,
                6,
                Window {
                    left: 0,
                    top: 0,
                    width: 8,
                    height: 6
                }
            ),
            samples
        );
    }
}
