//! A language model with its optimizer.

use serde_json::Value;
use tch::{Device, Kind, Tensor};

use crate::train::common::checkpoint::Restored;
use crate::train::common::schedule::Schedule;
use crate::train::common::trainer::MODEL;
use crate::train::common::{AdamwSettings, Fault, TrainError, Trainer, clip, finite};
use crate::train::neox::{Compute, TokenBatch, TrainableNeox};

/// How it learns.
#[derive(Clone, Debug)]
pub struct Method {
    /// The optimizer's constants.
    pub adamw: AdamwSettings,
    /// Learning rate by step.
    pub schedule: Schedule,
    /// Largest norm of a gradient (0: no limit).
    pub clip: f64,
    /// Decay of the running average of weights (0: none).
    pub ema: f64,
    /// Arithmetic.
    pub compute: Compute,
}

/// The model, the optimizer's state and the average of weights.
pub struct Learner {
    /// The model.
    pub model: TrainableNeox,
    method: Method,
    trainer: Trainer,
}

/// Loss and accuracy over some sequences.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score {
    /// Sum of the cross entropies.
    pub loss: f64,
    /// Labels whose token is the likeliest one.
    pub hits: u64,
    /// Labels.
    pub labels: u64,
}

impl Score {
    /// Cross entropy of a token.
    pub fn mean(&self) -> f64 {
        self.loss / self.labels.max(1) as f64
    }

    /// Share of tokens that the model would have chosen.
    pub fn accuracy(&self) -> f64 {
        self.hits as f64 / self.labels.max(1) as f64
    }
}

impl Learner {
    /// Before the first step.
    pub fn new(model: TrainableNeox, method: Method) -> Self {
        Self {
            trainer: Trainer::new(MODEL, method.adamw, method.ema, model.trainable()),
            method,
            model,
        }
    }

    /// One step: the weighted mean loss over all labels of the passes, whichever pass they are in. Weights stay as they are if the loss or the
    /// gradient is not finite.
    pub fn step(&mut self, passes: &[TokenBatch], step: u64) -> Result<Vec<(String, f64)>, Fault> {
        let labels: u64 = passes.iter().map(TokenBatch::labelled).sum();
        let weight: f64 = passes.iter().map(TokenBatch::weight).sum();
        let scale = if weight > 0.0 { weight.recip() } else { 1.0 };
        let parameters = self.model.trainable();
        let (mut gradient, mut losses) = (parameters.zeros(), Vec::with_capacity(passes.len()));
        for pass in passes {
            let (loss, _) = self
                .model
                .accumulate(pass, scale, &self.method.compute, &mut gradient)?;
            losses.push(loss.view([1]));
        }
        let norm = tch::no_grad(|| clip(&mut gradient, self.method.clip));
        let loss = match losses.is_empty() {
            true => norm.zeros_like(),
            false => Tensor::cat(&losses, 0).sum(Kind::Float) * scale,
        };
        // One transfer from the device for both.
        let row = Tensor::stack(&[loss.view([1]), norm.to_kind(Kind::Float).view([1])], 0);
        let numbers = Vec::<f32>::try_from(row.to_device(Device::Cpu).view([-1])).map_err(TrainError::from)?;
        let rate = self.method.schedule.rate(step);
        let tokens: usize = passes.iter().map(|p| p.rows * p.length).sum();
        let values: Vec<(String, f64)> = ["loss/train", "gradient/norm"]
            .iter()
            .zip(numbers)
            .map(|(name, value)| ((*name).to_owned(), f64::from(value)))
            .chain([
                ("learning/rate".to_owned(), rate),
                ("data/labels".to_owned(), labels as f64),
                ("data/tokens".to_owned(), tokens as f64),
            ])
            .collect();
        finite(&values)?;
        self.trainer.step(parameters, &gradient, rate, step);
        Ok(values)
    }

    /// Runs `work` with the weights that are measured and exported: the average, or the weights themselves.
    pub fn chosen<R>(&self, work: impl FnOnce(&TrainableNeox) -> R) -> R {
        match self.trainer.average() {
            Some(average) => work(&self.model.with_values(average)),
            None => work(&self.model),
        }
    }

    /// Loss and accuracy of a model over passes.
    pub fn score(&self, model: &TrainableNeox, passes: &[TokenBatch]) -> Result<Score, TrainError> {
        let mut score = Score::default();
        for pass in passes {
            let (loss, hits, labels) = model.measure(pass, &self.method.compute)?;
            score.loss += loss;
            score.hits += hits;
            score.labels += labels;
        }
        Ok(score)
    }

    /// Tensors and numbers for a checkpoint.
    pub fn snapshot(&self) -> (Vec<(String, Tensor)>, Value) {
        let tensors = self.trainer.named(self.model.trainable());
        (tensors, Value::from_iter([self.trainer.steps()]))
    }

    /// Takes up what [`Self::snapshot`] gave; `state` is the numbers.
    pub fn restore(&mut self, restored: &Restored, state: &Value) -> Result<(), TrainError> {
        self.trainer
            .restore(self.model.trainable(), &restored.weights, state, restored.step)
    }
}
