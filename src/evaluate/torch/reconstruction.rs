//! Images through the VQ-GAN and back, by the passes that the server runs.

use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use crate::evaluate::EvaluateError;
use crate::model::bundle::Bundle;
use crate::model::vqgan::Vqgan;
use crate::radiograph::Pixels;
use crate::train::common::TrainError;
use crate::train::vqgan::{CodeUse, levels, psnr, ssim};

/// A bundle's VQ-GAN, in f32.
pub struct VqganProbe {
    network: Vqgan,
    used: CodeUse,
    device: Device,
}

/// An image that was encoded and decoded, with how alike the two are.
pub struct Reconstructed {
    /// The reconstruction.
    pub drawn: Pixels,
    /// Peak signal-to-noise ratio in dB.
    pub psnr: f64,
    /// Structural similarity.
    pub ssim: f64,
}

impl VqganProbe {
    /// Loads the VQ-GAN of a bundle.
    pub fn open(bundle: &Bundle, device: Device) -> Result<Self, EvaluateError> {
        let network = Vqgan::load(&bundle.vqgan, &bundle.vqgan_weights()?, Kind::Float, device)?;
        Ok(Self {
            used: CodeUse::new(network.config().n_embed),
            network,
            device,
        })
    }

    /// Codes of images, each `resolution × resolution`.
    ///
    /// # Errors
    /// When the VQ-GAN gives none.
    pub fn codes(&self, images: &[Arc<Pixels>]) -> Result<Vec<Vec<u16>>, TrainError> {
        let _guard = tch::no_grad_guard();
        Ok(self.network.encode(images)?)
    }

    /// Encodes and decodes images, and compares.
    pub fn reconstruct(&mut self, images: &[Arc<Pixels>]) -> Result<Vec<Reconstructed>, TrainError> {
        let _guard = tch::no_grad_guard();
        let codes = self.codes(images)?;
        let flat: Vec<i64> = codes.iter().flatten().map(|&code| i64::from(code)).collect();
        self.used.count(&Tensor::from_slice(&flat))?;
        let drawn = self.network.decode(&codes);
        let inputs: Vec<&Pixels> = images.iter().map(AsRef::as_ref).collect();
        let (a, b) = (
            levels(&inputs, self.device),
            levels(&drawn.iter().collect::<Vec<_>>(), self.device),
        );
        let numbers = |t: Tensor| Vec::<f64>::try_from(t.to_device(Device::Cpu).to_kind(Kind::Double));
        let (psnr, ssim) = (numbers(psnr(&a, &b))?, numbers(ssim(&a, &b))?);
        let each = drawn.into_iter().zip(psnr.into_iter().zip(ssim));
        Ok(each
            .map(|(drawn, (psnr, ssim))| Reconstructed { drawn, psnr, ssim })
            .collect())
    }

    /// Share of the code book that was used, and the perplexity of its use.
    pub fn code_book(&self) -> (f64, f64) {
        (self.used.share_used(), self.used.perplexity())
    }
}

/// Mean squared difference of rows, summed over them: the clinical-feature distance of each image.
pub fn feature_distance(a: &Tensor, b: &Tensor) -> Result<f64, TrainError> {
    let each = (a - b).square().mean_dim([1i64].as_slice(), false, Kind::Double);
    Ok(each.sum(Kind::Double).f_double_value(&[])?)
}
