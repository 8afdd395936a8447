//! AdamW (Loshchilov & Hutter 2019) over flat parameters, step for step as `torch.optim.AdamW`.

use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use super::parameters::Parameters;
use crate::model::checkpoint::Weights;
use crate::train::common::TrainError;

/// Settings of AdamW.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdamwSettings {
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of their squares.
    pub beta2: f64,
    /// Added to the denominator.
    pub eps: f64,
    /// Decoupled weight decay, as a share of the learning rate.
    pub weight_decay: f64,
}

impl Default for AdamwSettings {
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
        }
    }
}

/// The optimizer's state for one set of parameters.
pub struct Adamw {
    settings: AdamwSettings,
    mean: Tensor,
    square: Tensor,
    steps: u64,
}

impl Adamw {
    /// State before the first step.
    pub fn new(settings: AdamwSettings, parameters: &Parameters) -> Self {
        Self {
            settings,
            mean: parameters.zeros(),
            square: parameters.zeros(),
            steps: 0,
        }
    }

    /// One step: `gradient` is laid out as the parameters.
    pub fn step(&mut self, parameters: &Parameters, gradient: &Tensor, rate: f64) {
        let s = self.settings;
        self.steps += 1;
        let count = self.steps as f64;
        let (first, second) = (1.0 - s.beta1.powf(count), 1.0 - s.beta2.powf(count));
        // In pieces: on a CPU they stay in the cache, on a GPU what is between the steps takes little memory.
        let piece = match gradient.device() {
            Device::Cpu => 1 << 18,
            _ => 1 << 26,
        };
        let length = gradient.numel() as i64;
        tch::no_grad(|| {
            for start in (0..length).step_by(piece) {
                let part = |t: &Tensor| t.narrow(0, start, (length - start).min(piece as i64));
                let (mut values, gradient) = (part(parameters.flat()), part(gradient));
                let (mut mean, mut square) = (part(&self.mean), part(&self.square));
                if s.weight_decay != 0.0 {
                    let _ = values.g_mul_scalar_(1.0 - rate * s.weight_decay);
                }
                let _ = mean.lerp_(&gradient, 1.0 - s.beta1);
                let _ = square.g_mul_scalar_(s.beta2);
                let _ = square.g_add_(&(gradient.square() * (1.0 - s.beta2)));
                let mut denominator = square.sqrt();
                let _ = denominator.g_div_scalar_(second.sqrt());
                let _ = denominator.g_add_scalar_(s.eps);
                let mut change = mean / denominator;
                let _ = change.g_mul_scalar_(-rate / first);
                let _ = values.g_add_(&change);
            }
        });
    }

    /// Forgets the moments of these rows of a matrix of the parameters (code-book vectors that were replaced).
    pub fn forget_rows(&mut self, parameters: &Parameters, name: &str, rows: &Tensor) {
        tch::no_grad(|| {
            for moment in [&self.mean, &self.square] {
                if let Some(mut part) = parameters.part(moment, name) {
                    let _ = part.index_fill_(0, rows, 0.0);
                }
            }
        });
    }

    /// Steps done.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Moments by name, for a checkpoint.
    pub fn named(&self, prefix: &str, parameters: &Parameters) -> Vec<(String, Tensor)> {
        let mut out = parameters.named(&format!("{prefix}mean."), &self.mean);
        out.extend(parameters.named(&format!("{prefix}square."), &self.square));
        out
    }

    /// Takes up the state of a checkpoint.
    pub fn restore(
        &mut self,
        prefix: &str,
        parameters: &Parameters,
        weights: &Weights,
        steps: u64,
    ) -> Result<(), TrainError> {
        parameters.read(&format!("{prefix}mean."), &self.mean, weights)?;
        parameters.read(&format!("{prefix}square."), &self.square, weights)?;
        self.steps = steps;
        Ok(())
    }
}
