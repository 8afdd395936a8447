//! The trainable network: its weights, its loss, and the gradient of the loss.

use tch::{Device, Kind, Tensor};

use super::TokenBatch;
use super::batch::Prepared;
use super::lora::Adapters;
use super::pass::{Pass, is_of_layer};
use crate::model::neox::{NeoxConfig, RotaryTable};
use crate::model::source::{LoadError, TensorSource};
use crate::train::common::{Initial, Parameters, TrainError};

/// How a loss is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compute {
    /// `Float`, or `BFloat16`: matrix products and what they take and give in bfloat16; weights, residual stream, norms and loss in f32.
    /// Queries and keys are rotated in this kind too; the server's libtorch passes rotate them in f32.
    pub kind: Kind,
    /// Keep only what enters each layer and compute the layer again on the way back: less memory, a third more work.
    pub checkpointing: bool,
}

#[cfg(test)]
impl Compute {
    /// Everything in f32.
    pub(super) const F32: Self = Self {
        kind: Kind::Float,
        checkpointing: false,
    };
    /// Activations and products in bfloat16.
    pub(super) const BF16: Self = Self {
        kind: Kind::BFloat16,
        checkpointing: false,
    };
}

/// A GPT-NeoX whose weights are trained.
pub struct TrainableNeox {
    pub(super) config: NeoxConfig,
    pub(super) device: Device,
    pub(super) rotary: RotaryTable,
    /// The whole model; held fixed if there are adapters.
    pub(super) weights: Parameters,
    pub(super) adapters: Option<Adapters>,
    /// The first token that was added to the embeddings.
    pub(super) grown_from: Option<usize>,
}

impl TrainableNeox {
    /// Fresh weights, which depend on `seed` and the shape alone: matrices and embeddings N(0, 0.02), biases 0, norms 1 and 0.
    pub fn fresh(config: &NeoxConfig, seed: u64, device: Device) -> Result<Self, TrainError> {
        let weights = Parameters::fresh(&config.expected_tensors(), Initial::Neox, seed, device)?;
        Ok(Self::over(config, weights, device))
    }

    /// The weights of a checkpoint under their Hugging Face names.
    ///
    /// # Errors
    /// A tensor is missing or has not the shape that `config` asks for.
    pub fn from_checkpoint(
        config: &NeoxConfig,
        weights: &dyn TensorSource,
        device: Device,
    ) -> Result<Self, TrainError> {
        let weights = Parameters::load(&config.expected_tensors(), weights, device)?;
        Ok(Self::over(config, weights, device))
    }

    pub(super) fn over(config: &NeoxConfig, weights: Parameters, device: Device) -> Self {
        Self {
            config: config.clone(),
            device,
            rotary: RotaryTable::new(config, device),
            weights,
            adapters: None,
            grown_from: None,
        }
    }

    /// The model with `flat` in the place of what is trained, laid out as [`Self::trainable`]. Nothing is copied: the memory of both is shared
    /// with it.
    pub fn with_values(&self, flat: &Tensor) -> Self {
        let weights = match self.adapters {
            Some(_) => self.weights.flat(),
            None => flat,
        };
        let mut other = Self::over(&self.config, self.weights.with_values(weights), self.device);
        other.adapters = self.adapters.as_ref().map(|adapters| adapters.with_values(flat));
        other.grown_from = self.grown_from;
        other
    }

    /// Its shape.
    pub fn config(&self) -> &NeoxConfig {
        &self.config
    }

    /// Where it is.
    pub fn device(&self) -> Device {
        self.device
    }

    /// What the optimizer steps.
    pub fn trainable(&self) -> &Parameters {
        self.adapters
            .as_ref()
            .map_or(&self.weights, |adapters| &adapters.parameters)
    }

    /// Every tensor under its Hugging Face name, f32, with adapters merged. Memory is shared with the weights where nothing is merged.
    pub fn named(&self) -> Vec<(String, Tensor)> {
        let tensors = self.config.expected_tensors().into_iter();
        tensors
            .filter_map(|t| self.merged(&t.name).map(|value| (t.name, value)))
            .collect()
    }

    /// The sum of the cross entropies over the labels that count (f32, a scalar with its graph), and their number.
    #[cfg(test)]
    pub(super) fn loss(&self, batch: &TokenBatch, compute: &Compute) -> Result<(Tensor, u64), TrainError> {
        let prepared = batch.prepare(&self.config, self.device)?;
        let pass = Pass::new(self, compute.kind, batch.length)?;
        Ok((pass.loss(&prepared)?, prepared.count))
    }

    /// Without a graph: the sum of the cross entropies, the number of labels whose token has the highest logit, and the number of
    /// labels.
    ///
    /// # Errors
    /// The batch does not fit the model, or libtorch refuses.
    pub fn measure(&self, batch: &TokenBatch, compute: &Compute) -> Result<(f64, u64, u64), TrainError> {
        let prepared = batch.prepare(&self.config, self.device)?;
        if prepared.count == 0 {
            return Ok((0.0, 0, 0));
        }
        let (loss, hits) = Pass::new(self, compute.kind, batch.length)?.measure(&prepared)?;
        Ok((loss, hits, prepared.count))
    }

    /// Adds `scale` times the gradient of the sum of the cross entropies to `into`, which is laid out as [`Self::trainable`]. Gives that sum
    /// (f32, a scalar without graph) and the number of labels.
    ///
    /// # Errors
    /// As [`Self::measure`]; `into` is then unusable.
    pub fn accumulate(
        &self,
        batch: &TokenBatch,
        scale: f64,
        compute: &Compute,
        into: &mut Tensor,
    ) -> Result<(Tensor, u64), TrainError> {
        let prepared = batch.prepare(&self.config, self.device)?;
        if prepared.count == 0 {
            return Ok((Tensor::f_zeros([], (Kind::Float, self.device))?, 0));
        }
        let pass = Pass::new(self, compute.kind, batch.length)?;
        let loss = if compute.checkpointing {
            self.accumulate_by_layers(&pass, &prepared, scale, into)?
        } else {
            let loss = pass.loss(&prepared)?;
            let scaled = loss.f_mul_scalar(scale)?;
            self.trainable().add_gradient(&scaled, |_| true, &[], into)?;
            loss.f_detach()?
        };
        Ok((loss, prepared.count))
    }

    /// The gradient with the activations of one layer at a time in memory (Chen et al. 2016, arXiv 1604.06174).
    fn accumulate_by_layers(
        &self,
        pass: &Pass<'_>,
        batch: &Prepared,
        scale: f64,
        into: &Tensor,
    ) -> Result<Tensor, TrainError> {
        let (parameters, layers) = (self.trainable(), self.config.num_hidden_layers);
        let inputs = tch::no_grad(|| {
            let mut inputs = vec![pass.embed(&batch.ids)?];
            for layer in 0..layers {
                inputs.push(pass.layer(layer, &inputs[layer], batch)?);
            }
            Ok::<_, TrainError>(inputs)
        })?;
        // What a part of the network received, as the beginning of a graph of its own.
        let begin = |x: Tensor| x.set_requires_grad(true);
        let mut inputs = inputs.into_iter().rev();
        let mut next = || inputs.next().map(begin);
        let of_layers = |name: &str| name.contains(".layers.");

        let Some(x) = next() else {
            return Err(TrainError::Torch("the network has no output".to_owned()));
        };
        let loss = pass.head(&x, batch)?;
        let scaled = loss.f_mul_scalar(scale)?;
        let head = |name: &str| !of_layers(name);
        let mut gradient = parameters.add_gradient(&scaled, head, &[&x], into)?.swap_remove(0);
        for layer in (0..layers).rev() {
            let Some(x) = next() else { break };
            // The derivative of Σ y·g is that of the loss behind y, where g is the loss's derivative by y.
            let behind = pass.layer(layer, &x, batch)?.f_mul(&gradient)?.f_sum(Kind::Float)?;
            let of_layer = |name: &str| is_of_layer(name, layer);
            gradient = parameters.add_gradient(&behind, of_layer, &[&x], into)?.swap_remove(0);
        }
        let embedded = pass.embed(&batch.ids)?;
        if embedded.requires_grad() {
            let behind = embedded.f_mul(&gradient)?.f_sum(Kind::Float)?;
            parameters.add_gradient(&behind, head, &[], into)?;
        }
        Ok(loss.detach())
    }
}

/// The weights as they stand, adapters merged, without gradients, for [`crate::model::neox::Neox::load`].
impl TensorSource for TrainableNeox {
    fn tensor(&self, name: &str, shape: &[usize], kind: Kind, device: Device) -> Result<Tensor, LoadError> {
        // The parameters check name and shape.
        let _ = self.weights.tensor(name, shape, Kind::Float, device)?;
        let missing = || LoadError::Source(format!("the model has no weight `{name}`"));
        Ok(self.merged(name).ok_or_else(missing)?.to_kind(kind).to_device(device))
    }
}
