//! A linear reader of findings over the quantised latents, trained with the VQ-GAN and thrown away: what it can read off the codes, a
//! language model can learn to read off them too.
//!
//! Not in the paper, whose clinical-feature term acts on pixels alone. The reader sees no places, only the mean and the maximum of each
//! latent channel, because that is what attention over code embeddings gathers in its first steps.

use tch::{Device, Kind, Reduction, Tensor};

use crate::model::ExpectedTensor;
use crate::train::common::{ImageBatch, Labels, Parameters, TrainError};

const WEIGHT: &str = "findings.weight";
const BIAS: &str = "findings.bias";

/// Whether a parameter belongs to the reader, not to the VQ-GAN.
pub(super) fn is_reader(name: &str) -> bool {
    name.starts_with("findings.")
}

/// Which findings are read.
pub(super) struct FindingsReader {
    labels: Labels,
}

impl FindingsReader {
    /// A reader of these labels.
    pub(super) fn new(labels: Labels) -> Self {
        Self { labels }
    }

    /// Its tensors, beside a VQ-GAN whose latents have `width` channels.
    pub(super) fn expected_tensors(&self, width: usize) -> Vec<ExpectedTensor> {
        let tensor = |name: &str, shape: &[usize]| ExpectedTensor {
            name: name.to_owned(),
            shape: shape.to_vec(),
        };
        vec![
            tensor(WEIGHT, &[self.labels.len(), 2 * width]),
            tensor(BIAS, &[self.labels.len()]),
        ]
    }

    /// Mean cross entropy of the labels that are known of `batch`, read off its latents `z`, `[n, d, h, w]` (f32): a scalar.
    pub(super) fn loss(
        &self,
        parameters: &Parameters,
        z: &Tensor,
        batch: &ImageBatch,
        device: Device,
    ) -> Result<Tensor, TrainError> {
        let logits = self.logits(parameters, z)?;
        let (target, mask) = self.labels.targets(batch, device);
        let none = None::<&Tensor>;
        let each = logits.f_binary_cross_entropy_with_logits(&target, none, none, Reduction::None)?;
        Ok((each * &mask).sum(Kind::Float) / mask.sum(Kind::Float).clamp_min(1.0))
    }

    /// F1 of what the reader tells of `batch` from its latents `z`: over all labels that are known, and of each finding (0 where nothing
    /// is there or told).
    pub(super) fn f1(
        &self,
        parameters: &Parameters,
        z: &Tensor,
        batch: &ImageBatch,
        device: Device,
    ) -> Result<(f64, Vec<(String, f64)>), TrainError> {
        let (target, mask) = self.labels.targets(batch, device);
        let told = self.logits(parameters, z)?.gt(0.0).to_kind(Kind::Float) * &mask;
        let present = target * mask;
        let of_each = |t: &Tensor| -> Result<Vec<f64>, TrainError> {
            let sums = t.sum_dim_intlist([0i64].as_slice(), false, Kind::Double);
            Ok(Vec::try_from(sums.to_device(Device::Cpu))?)
        };
        let (hits, all) = (of_each(&(&told * &present))?, of_each(&(told + present))?);
        let f1 = |hits: f64, all: f64| 2.0 * hits / all.max(1.0);
        let findings = self.labels.findings();
        let each = findings.map(|(name, at)| (name.to_owned(), f1(hits[at], all[at])));
        Ok((f1(hits.iter().sum(), all.iter().sum()), each.collect()))
    }

    fn logits(&self, parameters: &Parameters, z: &Tensor) -> Result<Tensor, TrainError> {
        let missing = || TrainError::Settings("the reader of findings has no weights".to_owned());
        let weight = parameters.leaf(WEIGHT).ok_or_else(missing)?;
        let bias = parameters.leaf(BIAS).ok_or_else(missing)?;
        let mean = z.mean_dim([2i64, 3].as_slice(), false, Kind::Float);
        let gathered = Tensor::f_cat(&[mean, z.amax([2, 3], false)], 1)?;
        Ok(gathered.f_linear(weight, Some(bias))?)
    }
}
