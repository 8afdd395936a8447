//! Running average of weights (Polyak & Juditsky 1992, with exponential decay): smoother than the weights themselves, and mostly better.

use tch::Tensor;

use super::parameters::Parameters;
use crate::model::checkpoint::Weights;
use crate::train::common::TrainError;

/// What its tensors are called in a checkpoint.
const PREFIX: &str = "average.";

/// The average of some parameters over the steps, laid out as they are.
pub struct Average {
    flat: Tensor,
    decay: f64,
}

impl Average {
    /// Begins at the parameters as they are; `None` at a decay of 0.
    pub fn of(parameters: &Parameters, decay: f64) -> Option<Self> {
        (decay > 0.0).then(|| Self {
            flat: parameters.flat().copy(),
            decay,
        })
    }

    /// All values as one tensor `[n]`, f32.
    pub fn flat(&self) -> &Tensor {
        &self.flat
    }

    /// Moves towards the parameters after `step` (from 0). A young average follows faster: decay is min(decay, (1 + step) / (10 + step)).
    pub fn follow(&mut self, parameters: &Parameters, step: u64) {
        let decay = self.decay.min((1.0 + step as f64) / (10.0 + step as f64));
        tch::no_grad(|| {
            let _ = self.flat.lerp_(parameters.flat(), 1.0 - decay);
        });
    }

    /// Its tensors for a checkpoint.
    pub fn named(&self, parameters: &Parameters) -> Vec<(String, Tensor)> {
        parameters.named(PREFIX, &self.flat)
    }

    /// Takes up what [`Self::named`] gave.
    pub fn restore(&self, parameters: &Parameters, weights: &Weights) -> Result<(), TrainError> {
        parameters.read(PREFIX, &self.flat, weights)
    }
}
