//! What survives a VQ-GAN: PSNR, SSIM, code-book use, and sheets of inputs beside reconstructions.

use std::path::Path;
use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use super::code_book::Use;
use super::features::FeatureNetwork;
use crate::model::vqgan::{Vqgan, normalised};
use crate::radiograph::{ImageFormat, Pixels, write};
use crate::train::common::{ImageBatch, TrainError};

/// Images measured at a time.
pub(super) const CHUNK: usize = 16;
/// Pairs on a sheet, and pairs in a row of it.
const SHEET: (usize, usize) = (12, 4);

/// Measures `network` on `images`, through the very passes that the server runs, and writes a sheet.
pub(super) fn measure(
    network: &Vqgan,
    images: &[Arc<Pixels>],
    features: Option<&FeatureNetwork>,
    device: Device,
    sheet: &Path,
) -> Result<Vec<(String, f64)>, TrainError> {
    let _guard = tch::no_grad_guard();
    let mut used = Use::new(network.config().n_embed);
    let (mut psnr, mut ssim, mut distance, mut pairs) = (0.0, 0.0, (0.0, 0.0), Vec::new());
    for chunk in images.chunks(CHUNK) {
        let codes = network.encode(chunk)?;
        let flat: Vec<i64> = codes.iter().flatten().map(|&c| i64::from(c)).collect();
        used.count(&Tensor::from_slice(&flat))?;
        let drawn = network.decode(&codes);
        let inputs: Vec<&Pixels> = chunk.iter().map(AsRef::as_ref).collect();
        let (a, b) = (
            levels(&inputs, device),
            levels(&drawn.iter().collect::<Vec<_>>(), device),
        );
        psnr += self::psnr(&a, &b).sum(Kind::Float).double_value(&[]);
        ssim += self::ssim(&a, &b).sum(Kind::Float).double_value(&[]);
        if let Some(network) = features {
            let (a, b) = (network.features(&normalised(&a))?, network.features(&normalised(&b))?);
            let n = chunk.len() as f64;
            distance.0 += a.perceptual(&b).map_or(0.0, |d| d.double_value(&[])) * n;
            distance.1 += a.clinical(&b).map_or(0.0, |d| d.double_value(&[])) * n;
        }
        for (input, output) in chunk.iter().zip(drawn) {
            if pairs.len() < SHEET.0 {
                pairs.push((input.clone(), output));
            }
        }
    }
    if let Some(pixels) = lay_out(&pairs) {
        let notes = [(
            "Description",
            "LLM-CXR VQ-GAN: each pair is an input and its reconstruction (synthetic)",
        )];
        let bytes = write(&pixels, ImageFormat::Png, &notes)?;
        std::fs::write(sheet, bytes).map_err(|e| TrainError::io(sheet, e))?;
    }
    let n = images.len().max(1) as f64;
    let mut values = vec![
        ("validation/psnr".to_owned(), psnr / n),
        ("validation/ssim".to_owned(), ssim / n),
        ("validation/perplexity".to_owned(), used.perplexity()),
        ("validation/codes_used".to_owned(), used.share_used()),
    ];
    if features.is_some() {
        values.push(("validation/perceptual".to_owned(), distance.0 / n));
        values.push(("validation/clinical".to_owned(), distance.1 / n));
    }
    Ok(values)
}

/// A batch's images as the server takes them.
pub(super) fn pixels(batch: &ImageBatch, side: usize, channels: usize) -> Vec<Arc<Pixels>> {
    let each = batch.levels.chunks_exact(side * side * channels);
    each.filter_map(|levels| {
        let rgb = match channels {
            1 => levels.iter().flat_map(|&v| [v; 3]).collect(),
            _ => levels.to_vec(),
        };
        Pixels::new(side, side, rgb).map(Arc::new)
    })
    .collect()
}

/// Mean of the colours, `[n, 1, side, side]`, 0 … 255.
pub fn levels(images: &[&Pixels], device: Device) -> Tensor {
    let side = images.first().map_or(0, |p| p.width()) as i64;
    let bytes: Vec<u8> = images.iter().flat_map(|p| p.rgb().iter().copied()).collect();
    let rgb = Tensor::from_slice(&bytes)
        .to_device(device)
        .view([images.len() as i64, side, side, 3]);
    rgb.to_kind(Kind::Float)
        .mean_dim([3i64].as_slice(), false, Kind::Float)
        .unsqueeze(1)
}

/// Peak signal-to-noise ratio of each pair of `[n, 1, side, side]` on levels 0 … 255, in dB, `[n]`.
pub fn psnr(a: &Tensor, b: &Tensor) -> Tensor {
    let errors = (a - b).square().mean_dim([1i64, 2, 3].as_slice(), false, Kind::Float);
    (errors.clamp_min(1e-10) / (255.0 * 255.0)).log10() * -10.0
}

/// SSIM of each pair (Wang et al. 2004: Gaussian window of 11, σ 1.5, on levels 0 … 255), `[n]`.
pub fn ssim(a: &Tensor, b: &Tensor) -> Tensor {
    let weights: Vec<f32> = (-5i32..=5)
        .map(|i| (-f64::from(i * i) / (2.0 * 1.5 * 1.5)).exp() as f32)
        .collect();
    let line = Tensor::from_slice(&weights).to_device(a.device());
    let line = &line / line.sum(Kind::Float);
    let window = line.outer(&line).view([1, 1, 11, 11]);
    let blur = |t: &Tensor| t.conv2d(&window, None::<&Tensor>, [1; 2], [0; 2], [1; 2], 1);
    let (c1, c2) = ((0.01f64 * 255.0).powi(2), (0.03f64 * 255.0).powi(2));
    let (ma, mb) = (blur(a), blur(b));
    let (va, vb) = (blur(&a.square()) - ma.square(), blur(&b.square()) - mb.square());
    let covariance = blur(&(a * b)) - &ma * &mb;
    let above = (&ma * &mb * 2.0 + c1) * (covariance * 2.0 + c2);
    let below = (ma.square() + mb.square() + c1) * (va + vb + c2);
    (above / below).mean_dim([1i64, 2, 3].as_slice(), false, Kind::Float)
}

/// Pairs side by side, some in a row; `None` without pairs.
pub(in crate::train) fn lay_out(pairs: &[(Arc<Pixels>, Pixels)]) -> Option<Pixels> {
    let side = pairs.first()?.0.width();
    let columns = pairs.len().min(SHEET.1);
    let rows = pairs.len().div_ceil(SHEET.1);
    let (width, height) = (columns * side * 2, rows * side);
    let mut rgb = vec![0u8; width * height * 3];
    for (number, (input, output)) in pairs.iter().enumerate() {
        let (column, row) = (number % SHEET.1, number / SHEET.1);
        for (place, image) in [input.as_ref(), output].into_iter().enumerate() {
            for (y, line) in image.rgb().chunks_exact(side * 3).take(side).enumerate() {
                let at = ((row * side + y) * width + (column * 2 + place) * side) * 3;
                if let Some(out) = rgb.get_mut(at..at + line.len()) {
                    out.copy_from_slice(line);
                }
            }
        }
    }
    Pixels::new(width, height, rgb)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_wholly_like_itself_and_less_like_noise() {
        let a = Tensor::arange(1024, (Kind::Float, Device::Cpu)).view([1, 1, 32, 32]) / 4.0;
        let same = ssim(&a, &a).double_value(&[0]);
        assert!((same - 1.0).abs() < 1e-4, "{same}");
        let flipped: Tensor = 255.0 - &a;
        assert!(ssim(&a, &flipped).double_value(&[0]) < 0.0);
    }
}
