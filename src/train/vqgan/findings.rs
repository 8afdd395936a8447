//! A linear reader of findings over the quantised latents, trained with the VQ-GAN and thrown away: what it can read off the codes, a
//! language model can learn to read off them too.
//!
//! Not in the paper, whose clinical-feature term acts on pixels alone. The reader sees no places, only the mean and the maximum of each
//! latent channel, because that is what attention over code embeddings gathers in its first steps.

use tch::{Device, Kind, Tensor};

use crate::model::ExpectedTensor;
use crate::model::source::TensorSource;
use crate::train::common::{ImageBatch, Labels, Parameters, TrainError, gathered};

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

/// What a reader told of images, of each label.
#[derive(Debug, Default, PartialEq)]
struct Counts {
    /// Told, and there.
    hits: Vec<f64>,
    /// Told plus there.
    all: Vec<f64>,
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
        self.labels.loss(&self.logits(parameters, z)?, batch, device)
    }

    /// F1 of what the reader of these `weights` tells of images from their latents and, once these are quantised, from their codes; that of
    /// each finding where it counts. `latents` gives both for some images at a time.
    pub(super) fn measure(
        &self,
        weights: &dyn TensorSource,
        images: &[ImageBatch],
        latents: &dyn Fn(&ImageBatch) -> (Tensor, Option<Tensor>),
        device: Device,
    ) -> Result<Vec<(String, f64)>, TrainError> {
        let (mut plain, mut codes) = (Counts::default(), None);
        for some in images {
            let (z, quantised) = latents(some);
            self.count(weights, &z, some, device, &mut plain)?;
            if let Some(quantised) = quantised {
                let counts = codes.get_or_insert_with(Counts::default);
                self.count(weights, &quantised, some, device, counts)?;
            }
        }
        let (all, each) = self.f1(&plain);
        let mut values = vec![("validation/findings_f1".to_owned(), all)];
        let mut named = ("findings_f1", each);
        if let Some(codes) = &codes {
            let (all, each) = self.f1(codes);
            values.push(("validation/findings_f1_codes".to_owned(), all));
            named = ("findings_f1_codes", each);
        }
        let (title, each) = named;
        values.extend(each.into_iter().map(|(name, f1)| (format!("{title}/{name}"), f1)));
        Ok(values)
    }

    /// Counts what the reader tells of `batch` from its latents `z`, `[n, d, h, w]`.
    fn count(
        &self,
        weights: &dyn TensorSource,
        z: &Tensor,
        batch: &ImageBatch,
        device: Device,
        counts: &mut Counts,
    ) -> Result<(), TrainError> {
        let (target, mask) = self.labels.targets(batch, device);
        let told = self.logits(weights, z)?.gt(0.0).to_kind(Kind::Float) * &mask;
        let present = target * mask;
        let add = |sums: &mut Vec<f64>, t: &Tensor| -> Result<(), TrainError> {
            let new = t.sum_dim_intlist([0i64].as_slice(), false, Kind::Double);
            let new = Vec::<f64>::try_from(new.to_device(Device::Cpu))?;
            sums.resize(new.len(), 0.0);
            sums.iter_mut().zip(new).for_each(|(sum, n)| *sum += n);
            Ok(())
        };
        add(&mut counts.hits, &(&told * &present))?;
        add(&mut counts.all, &(told + present))
    }

    /// F1 over all labels that are known, and of each finding (0 where nothing is there or told).
    fn f1(&self, counts: &Counts) -> (f64, Vec<(String, f64)>) {
        let f1 = |hits: f64, all: f64| 2.0 * hits / all.max(1.0);
        let of = |at: usize| match (counts.hits.get(at), counts.all.get(at)) {
            (Some(hits), Some(all)) => f1(*hits, *all),
            _ => 0.0,
        };
        let each = self.labels.findings().map(|(name, at)| (name.to_owned(), of(at)));
        (f1(counts.hits.iter().sum(), counts.all.iter().sum()), each.collect())
    }

    fn logits(&self, weights: &dyn TensorSource, z: &Tensor) -> Result<Tensor, TrainError> {
        let gathered = gathered(z);
        let (labels, width) = (self.labels.len(), gathered.size2()?.1 as usize);
        let weight = weights.tensor(WEIGHT, &[labels, width], Kind::Float, z.device())?;
        let bias = weights.tensor(BIAS, &[labels], Kind::Float, z.device())?;
        Ok(gathered.f_linear(&weight, Some(&bias))?)
    }
}
