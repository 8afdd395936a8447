//! Speed of the VQ-GAN: encoding and decoding of some images, and how many of its codes are those of the reference's way to compute.

use std::path::PathBuf;
use std::slice;
use std::sync::Arc;
use std::time::Instant;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde::Serialize;
use tch::{Device, Kind};

use super::{forget_peak_memory, median, peak_memory, timed};
use crate::model::checkpoint::Weights;
use crate::model::device;
use crate::model::source::{LoadError, RandomSource, TensorSource};
use crate::model::vqgan::{LatentNotFinite, Vqgan, VqganConfig};
use crate::radiograph::Pixels;

/// Images whose codes are compared with the reference's, which take their time.
const MOST_COMPARED: usize = 8;

/// What to measure.
#[derive(Clone, Debug)]
pub struct VqganPlan {
    /// The network's shape.
    pub config: VqganConfig,
    /// Its weights; random ones without.
    pub weights: Option<PathBuf>,
    /// The language model that it stands beside computes in bfloat16 (else f32): it is loaded as the server loads it then.
    pub bf16: bool,
    /// What is encoded, each of the network's side; taken again where more are asked for.
    pub images: Vec<Arc<Pixels>>,
    /// Numbers of images that go through together.
    pub batches: Vec<usize>,
    /// Times each thing is measured; the median is given.
    pub repeat: usize,
    /// Where.
    pub device: Device,
}

/// What was measured. Medians.
#[derive(Clone, Debug, Serialize)]
pub struct VqganReport {
    /// Side of an image in pixels.
    pub image_side: usize,
    /// Codes of an image.
    pub codes_per_image: usize,
    /// Size of the code book.
    pub code_count: usize,
    /// Parameters.
    pub parameters: usize,
    /// Whether the weights are random.
    pub random: bool,
    /// What the decoder computes in: `bf16` or `f32`.
    pub decoder_dtype: String,
    /// `cpu` or `cuda:N`.
    pub device: String,
    /// The instruction set of a CPU's kernels.
    pub kernels: Option<&'static str>,
    /// Threads of libtorch.
    pub threads: i32,
    /// Loading the weights, in seconds.
    pub load_seconds: f64,
    /// Both ways, per number of images.
    pub passes: Vec<Passes>,
    /// Codes that were compared with the reference's: of one image at a time, in f32 on a CPU, planar.
    pub codes_compared: usize,
    /// The share of them that is equal.
    pub codes_equal: f64,
    /// The most memory the process held while it was timed, bytes (Linux).
    pub peak_memory_bytes: Option<u64>,
}

/// Both ways at one number of images.
#[derive(Clone, Debug, Serialize)]
pub struct Passes {
    /// Images.
    pub images: usize,
    /// From their pixels to their codes, in milliseconds.
    pub encode_ms: f64,
    /// Images encoded in a second.
    pub encode_images_per_s: f64,
    /// From their codes to their pixels, in milliseconds.
    pub decode_ms: f64,
    /// Images decoded in a second.
    pub decode_images_per_s: f64,
}

/// The shape of the published VQ-GAN: 256 codes of 1,024 for an image of 256 pixels.
pub fn published() -> VqganConfig {
    VqganConfig {
        embed_dim: 256,
        n_embed: 1024,
        z_channels: 256,
        resolution: 256,
        in_channels: 3,
        out_ch: 3,
        ch: 128,
        ch_mult: vec![1, 1, 2, 2, 4],
        num_res_blocks: 2,
        attn_resolutions: vec![16],
        resamp_with_conv: true,
    }
}

/// `count` images of noise, always the same.
pub fn noise(side: usize, count: usize) -> Vec<Arc<Pixels>> {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut image = || {
        let mut rgb = vec![0u8; side * side * 3];
        random.fill_bytes(&mut rgb);
        Pixels::new(side, side, rgb).map(Arc::new)
    };
    (0..count).filter_map(|_| image()).collect()
}

impl VqganPlan {
    /// Opened anew for each network: a source gives each tensor once.
    fn source(&self) -> Result<Box<dyn TensorSource>, LoadError> {
        Ok(match &self.weights {
            Some(path) => Box::new(Weights::open(slice::from_ref(path)).map_err(|e| LoadError::Source(e.to_string()))?),
            None => Box::new(RandomSource::new(1)),
        })
    }
}

fn no_codes(error: LatentNotFinite) -> LoadError {
    LoadError::Source(error.to_string())
}

/// Runs the plan; `progress` is told what comes next.
pub fn run(plan: &VqganPlan, progress: &dyn Fn(&str)) -> Result<VqganReport, LoadError> {
    let _guard = tch::no_grad_guard();
    let config = &plan.config;
    forget_peak_memory();
    progress("loading the VQ-GAN");
    let begun = Instant::now();
    let kind = if plan.bf16 { Kind::BFloat16 } else { Kind::Float };
    let model = Vqgan::load_beside(config, &*plan.source()?, kind, plan.device)?;
    let load_seconds = begun.elapsed().as_secs_f64();
    let mut passes = Vec::new();
    for &count in &plan.batches {
        progress(&format!("{count} images"));
        let images: Vec<_> = plan.images.iter().cycle().take(count).cloned().collect();
        let codes = model.encode(&images).map_err(no_codes)?;
        let encoding = median(plan.repeat, || timed(plan.device, || drop(model.encode(&images))));
        let decoding = median(plan.repeat, || timed(plan.device, || drop(model.decode(&codes))));
        passes.push(Passes {
            images: count,
            encode_ms: encoding * 1e3,
            encode_images_per_s: count as f64 / encoding,
            decode_ms: decoding * 1e3,
            decode_images_per_s: count as f64 / decoding,
        });
    }
    let peak_memory_bytes = peak_memory();
    progress("comparing codes with f32's");
    let reference = Vqgan::load(config, &*plan.source()?, Kind::Float, Device::Cpu)?;
    let (mut equal, mut compared) = (0, 0);
    let images = &plan.images[..plan.images.len().min(MOST_COMPARED)];
    for (image, ours) in images.iter().zip(model.encode(images).map_err(no_codes)?) {
        let theirs = reference.encode(slice::from_ref(image)).map_err(no_codes)?.concat();
        equal += ours.iter().zip(&theirs).filter(|(one, other)| one == other).count();
        compared += theirs.len();
    }
    let tensors = config.expected_tensors();
    Ok(VqganReport {
        image_side: config.resolution,
        codes_per_image: config.codes_per_image(),
        code_count: config.n_embed,
        parameters: tensors.iter().map(|t| t.shape.iter().product::<usize>()).sum(),
        random: plan.weights.is_none(),
        decoder_dtype: device::dtype_name(device::drawing_kind(kind, plan.device)).to_owned(),
        device: device::name(plan.device),
        kernels: device::kernels(plan.device),
        threads: tch::get_num_threads(),
        load_seconds,
        passes,
        codes_compared: compared,
        codes_equal: equal as f64 / compared.max(1) as f64,
        peak_memory_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_vqgan_is_measured_both_ways_and_its_codes_in_f32_are_the_references() {
        let plan = VqganPlan {
            config: VqganConfig {
                embed_dim: 8,
                n_embed: 16,
                z_channels: 8,
                resolution: 16,
                ch: 32,
                ch_mult: vec![1, 1],
                num_res_blocks: 1,
                attn_resolutions: vec![8],
                ..published()
            },
            weights: None,
            bf16: false,
            images: noise(16, 2),
            batches: vec![1, 3],
            repeat: 1,
            device: Device::Cpu,
        };
        let report = run(&plan, &|_| ()).unwrap();
        assert_eq!(report.passes.iter().map(|p| p.images).collect::<Vec<_>>(), [1, 3]);
        assert!(
            report
                .passes
                .iter()
                .all(|p| p.encode_images_per_s > 0.0 && p.decode_images_per_s > 0.0)
        );
        // 8 × 8 codes of each of the two images, which are told apart.
        assert_eq!((report.codes_compared, report.codes_equal), (128, 1.0));
        assert_ne!(plan.images[0].rgb(), plan.images[1].rgb());
    }

    #[test]
    fn the_published_shape_is_that_of_the_published_network() {
        let config = published();
        let tensors = config.expected_tensors();
        let parameters: usize = tensors.iter().map(|t| t.shape.iter().product::<usize>()).sum();
        assert_eq!(config.codes_per_image(), 256);
        // 29 million of the encoder, 42 of the decoder, and the code book.
        assert!((71_000_000..74_000_000).contains(&parameters), "{parameters}");
        assert_eq!(VqganConfig::from_yaml(config.to_yaml().as_bytes()).unwrap(), config);
    }
}
