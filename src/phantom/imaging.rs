//! From attenuation to grey: scatter, noise, the logarithm, and what a digital system does to the picture.

use super::View;
use super::canvas::Canvas;
use super::noise::lerp;
use super::random::Random;

/// How a picture is taken and shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exposure {
    /// Scattered to primary radiation at the detector, after the grid.
    scatter: f32,
    /// Range of scatter in parts of the picture.
    scatter_range: f32,
    /// Relative noise at a dose of 1, and noise of the detector.
    quantum: f32,
    detector: f32,
    /// Fall of the dose from cathode to anode.
    heel: f32,
    /// How much of the coarse contrast is taken out (dynamic range compression).
    equalise: f32,
    sharpen: f32,
    /// Grey of the darkest lung and of the densest tissue, and bend of the curve between.
    black: f32,
    white: f32,
    gamma: f32,
}

impl Exposure {
    pub(super) fn sample(random: &mut Random, view: View) -> Self {
        let bedside = view == View::Ap;
        Self {
            scatter: if bedside {
                random.between(0.5, 1.3)
            } else {
                random.between(0.15, 0.55)
            },
            scatter_range: random.between(0.05, 0.09),
            quantum: if bedside {
                random.between(0.006, 0.013)
            } else {
                random.between(0.003, 0.009)
            },
            detector: random.between(0.0005, 0.0015),
            heel: random.normal(0.0, 0.06),
            equalise: random.between(0.12, 0.50),
            sharpen: random.between(0.2, 0.9),
            black: random.between(8.0, 50.0),
            white: random.between(188.0, 244.0),
            gamma: random.normal(1.0, 0.13),
        }
    }
}

/// The picture: `size × size` grey values 0 … 255, row-major, not yet rounded.
pub(super) fn expose(canvas: &Canvas, exposure: &Exposure, random: &mut Random) -> Vec<f32> {
    let size = canvas.size;
    let mut dose: Vec<f32> = canvas.values.iter().map(|&path| (-path.max(0.0)).exp()).collect();
    // Scatter comes from the patient: air beside the body gives none, so its dose is capped.
    let capped: Vec<f32> = dose.iter().map(|&value| value.min(0.25)).collect();
    let scattered = blur(&capped, size, exposure.scatter_range * size as f32);
    let grain = grain(size, random);
    for (index, value) in dose.iter_mut().enumerate() {
        let x = (index % size) as f32 / size as f32 - 0.5;
        let mean = (*value + exposure.scatter * scattered[index]) * (1.0 + exposure.heel * x);
        // Photon counts: the variance grows with the mean. The dose behind the mediastinum is about 0.02.
        let deviation = exposure.quantum * (mean * 0.05).sqrt() + 0.02 * exposure.detector;
        *value = -(mean + deviation * grain[index]).max(1e-4).ln();
    }
    develop(dose, size, exposure)
}

/// Logarithmic picture → grey values: range compression, unsharp mask, and a curve between percentiles.
fn develop(density: Vec<f32>, size: usize, exposure: &Exposure) -> Vec<f32> {
    // Beside the body the density is far below that of lung: what is shown there is black, so it need not spread.
    let (lung, _) = percentiles(&density, size, 0.04, 0.5);
    let floor = lung - 0.7;
    let clipped: Vec<f32> = density.iter().map(|&value| value.max(floor)).collect();
    let coarse = blur(&clipped, size, 0.09 * size as f32);
    let fine = blur(&clipped, size, 0.008 * size as f32);
    let shaped: Vec<f32> = (0..size * size)
        .map(|index| {
            let value = clipped[index];
            value - exposure.equalise * coarse[index] + exposure.sharpen * (value - fine[index])
        })
        .collect();
    let (low, high) = percentiles(&shaped, size, 0.03, 0.975);
    let span = (high - low).max(1e-3);
    shaped
        .iter()
        .zip(&density)
        .map(|(&value, &density)| {
            let place = (value - low) / span;
            // Toe and shoulder of the curve, straight in the middle.
            let bent = match place {
                place if place < 0.08 => 0.08 * ((place - 0.08) / 0.08).exp(),
                place if place > 0.88 => 1.0 - 0.12 * (-(place - 0.88) / 0.12).exp(),
                place => place,
            };
            let grey = lerp(exposure.black, exposure.white, bent.powf(exposure.gamma));
            // Direct exposure is black whatever the processing.
            let air = ((floor - density) / 0.35).clamp(0.0, 1.0);
            lerp(grey, 0.35 * exposure.black, air)
        })
        .collect()
}

/// Two quantiles over the middle of the picture, every third pixel.
fn percentiles(values: &[f32], size: usize, low: f32, high: f32) -> (f32, f32) {
    let margin = size / 10;
    let mut sample: Vec<f32> = (margin..size - margin)
        .step_by(3)
        .flat_map(|row| {
            values[row * size + margin..(row + 1) * size - margin]
                .iter()
                .step_by(3)
                .copied()
        })
        .collect();
    let mut at = |share: f32| {
        let place = (share * (sample.len() - 1) as f32) as usize;
        *sample.select_nth_unstable_by(place, f32::total_cmp).1
    };
    (at(low), at(high))
}

/// White noise, slightly smoothed as a detector's pixels share light. Deviation about 1.
fn grain(size: usize, random: &mut Random) -> Vec<f32> {
    // The sum of four even bytes is normal enough for a picture of eight bits.
    let white: Vec<f32> = (0..size * size)
        .map(|_| {
            let sum: u32 = random.bits().to_le_bytes().into_iter().map(u32::from).sum();
            (sum as f32 - 510.0) / 147.8
        })
        .collect();
    (0..size * size)
        .map(|index| {
            let side = white.get(index + 1).copied().unwrap_or(0.0);
            let below = white.get(index + size).copied().unwrap_or(0.0);
            (white[index] + 0.45 * (side + below)) / 1.18
        })
        .collect()
}

/// Gaussian blur of deviation `sigma` pixels: three running means, on a coarser grid where that loses nothing.
pub(super) fn blur(values: &[f32], size: usize, sigma: f32) -> Vec<f32> {
    let factor = ((sigma / 4.0) as usize).clamp(1, size / 8);
    if factor == 1 {
        let mut out = values.to_vec();
        smooth(&mut out, size, sigma);
        return out;
    }
    let small = size.div_ceil(factor);
    let mut coarse = vec![0.0; small * small];
    for row in 0..small {
        for column in 0..small {
            let rows = row * factor..((row + 1) * factor).min(size);
            let columns = column * factor..((column + 1) * factor).min(size);
            let count = (rows.len() * columns.len()) as f32;
            let sum: f32 = rows
                .map(|y| values[y * size..][columns.clone()].iter().sum::<f32>())
                .sum();
            coarse[row * small + column] = sum / count;
        }
    }
    smooth(&mut coarse, small, sigma / factor as f32);
    let place = |pixel: usize| {
        let at = ((pixel as f32 + 0.5) / factor as f32 - 0.5).clamp(0.0, (small - 1) as f32);
        let first = (at as usize).min(small - 2);
        (first, at - first as f32)
    };
    let mut out = Vec::with_capacity(size * size);
    for row in 0..size {
        let (top, t) = place(row);
        for column in 0..size {
            let (left, s) = place(column);
            let at = top * small + left;
            let above = lerp(coarse[at], coarse[at + 1], s);
            let below = lerp(coarse[at + small], coarse[at + small + 1], s);
            out.push(lerp(above, below, t));
        }
    }
    out
}

/// Three running means along rows and columns; the edge is continued outwards.
fn smooth(values: &mut [f32], size: usize, sigma: f32) {
    // A mean over 2m + 1 values and a part p of the next on either side has variance
    // (m(m + 1)(2m + 1)/3 + 2p(m + 1)²)/(2m + 1 + 2p); each of the three gives a third of sigma².
    let third = sigma * sigma / 3.0;
    let whole = (((1.0 + 12.0 * third).sqrt() - 1.0) / 2.0).floor();
    let part = (2.0 * whole + 1.0) * (third - whole * (whole + 1.0) / 3.0)
        / (2.0 * (whole + 1.0) * (whole + 1.0) - 2.0 * third);
    let radius = whole + part.clamp(0.0, 1.0);
    let mut line = vec![0.0; size];
    for _ in 0..3 {
        for row in 0..size {
            line.copy_from_slice(&values[row * size..(row + 1) * size]);
            running_mean(&line, radius, |at, mean| values[row * size + at] = mean);
        }
        for column in 0..size {
            for (row, value) in line.iter_mut().enumerate() {
                *value = values[row * size + column];
            }
            running_mean(&line, radius, |at, mean| values[at * size + column] = mean);
        }
    }
}

/// Mean over `2 radius + 1` values, fractional ends counted in part.
fn running_mean(line: &[f32], radius: f32, mut put: impl FnMut(usize, f32)) {
    let whole = radius as usize;
    let part = radius - whole as f32;
    let last = line.len() - 1;
    let at = |index: isize| line[index.clamp(0, last as isize) as usize];
    let reach = whole as isize;
    let mut sum: f32 = (-reach..=reach).map(at).sum();
    let norm = 1.0 / (2.0 * radius + 1.0);
    for index in 0..line.len() {
        let i = index as isize;
        put(index, (sum + part * (at(i - reach - 1) + at(i + reach + 1))) * norm);
        sum += at(i + reach + 1) - at(i - reach);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blur_keeps_what_is_even_and_the_mean_of_what_is_not() {
        let even = vec![3.0; 64 * 64];
        assert!(blur(&even, 64, 7.0).iter().all(|value| (value - 3.0).abs() < 1e-4));
        let mut point = vec![0.0; 64 * 64];
        point[32 * 64 + 32] = 1.0;
        for sigma in [0.7, 2.0, 5.0] {
            let spread = blur(&point, 64, sigma);
            assert!((spread.iter().sum::<f32>() - 1.0).abs() < 0.03, "sigma {sigma}");
            let variance: f32 = (0..64 * 64)
                .map(|index| spread[index] * ((index % 64) as f32 - 32.0).powi(2))
                .sum();
            assert!(
                (variance.sqrt() / sigma - 1.0).abs() < 0.25,
                "sigma {sigma}: {}",
                variance.sqrt()
            );
        }
    }
}
