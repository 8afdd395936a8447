//! What goes along with some weights through a training: the moments of the optimizer, and the running average.

use serde_json::Value;
use tch::Tensor;

use super::adamw::{Adamw, AdamwSettings};
use super::average::Average;
use super::parameters::Parameters;
use crate::model::checkpoint::Weights;
use crate::train::common::TrainError;

/// The names of a model's weights and of its optimizer in checkpoints, where a training has no other.
pub const MODEL: [&str; 2] = ["model", "optimizer"];

/// Moves parameters, which are always the same ones, and follows them. What it keeps is laid out as they are.
pub struct Trainer {
    /// What weights and optimizer are called in checkpoints.
    names: [&'static str; 2],
    adamw: Adamw,
    average: Option<Average>,
}

impl Trainer {
    /// Before the first step; at an `ema` of 0 without an average. `names` are those of weights and optimizer in checkpoints.
    pub fn new(names: [&'static str; 2], settings: AdamwSettings, ema: f64, parameters: &Parameters) -> Self {
        Self {
            names,
            adamw: Adamw::new(settings, parameters),
            average: Average::of(parameters, ema),
        }
    }

    /// Moves the parameters along `gradient`, and their average after them; `step` is counted from 0.
    pub fn step(&mut self, parameters: &Parameters, gradient: &Tensor, rate: f64, step: u64) {
        self.adamw.step(parameters, gradient, rate);
        if let Some(average) = &mut self.average {
            average.follow(parameters, step);
        }
    }

    /// The average of the parameters, if there is one.
    pub fn average(&self) -> Option<&Tensor> {
        self.average.as_ref().map(Average::flat)
    }

    /// What is measured and exported: the average, or the parameters themselves.
    pub fn chosen<'a>(&'a self, parameters: &'a Parameters) -> &'a Tensor {
        self.average().unwrap_or(parameters.flat())
    }

    /// Forgets the moments of these rows of a matrix of the parameters.
    pub fn forget_rows(&mut self, parameters: &Parameters, name: &str, rows: &Tensor) {
        self.adamw.forget_rows(parameters, name, rows);
    }

    /// Parameters, moments and average by name, for a checkpoint.
    pub fn named(&self, parameters: &Parameters) -> Vec<(String, Tensor)> {
        let [weights, optimizer] = self.names;
        let mut tensors = parameters.named(&format!("{weights}."), parameters.flat());
        tensors.extend(self.adamw.named(&format!("{optimizer}."), parameters));
        if let Some(average) = &self.average {
            tensors.extend(average.named(parameters));
        }
        tensors
    }

    /// The steps that the optimizer has done, with their name in the state of a checkpoint.
    pub fn steps(&self) -> (String, Value) {
        (self.key(), self.adamw.steps().into())
    }

    /// Takes up what [`Self::named`] and [`Self::steps`] gave to a checkpoint after `done` steps of the run.
    pub fn restore(
        &mut self,
        parameters: &Parameters,
        weights: &Weights,
        state: &Value,
        done: u64,
    ) -> Result<(), TrainError> {
        let [name, optimizer] = self.names;
        parameters.read(&format!("{name}."), parameters.flat(), weights)?;
        if let Some(average) = &self.average {
            average.restore(parameters, weights)?;
        }
        // Moments of steps that are not counted would be taken for those of a first one.
        let steps = state[self.key()].as_u64().unwrap_or(done);
        self.adamw.restore(&format!("{optimizer}."), parameters, weights, steps)
    }

    fn key(&self) -> String {
        let [_, optimizer] = self.names;
        format!("{optimizer}_steps")
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;
    use crate::model::ExpectedTensor;
    use crate::model::checkpoint::Dtype;
    use crate::train::common::store::write_tensors;
    use crate::train::common::{FlatSource, Initial};

    fn parameters(seed: u64) -> Parameters {
        let expected = [ExpectedTensor {
            name: "a.weight".to_owned(),
            shape: vec![3, 5],
        }];
        Parameters::fresh(&expected, Initial::Torch, seed, Device::Cpu).unwrap()
    }

    fn trainer(parameters: &Parameters, ema: f64) -> Trainer {
        Trainer::new(MODEL, AdamwSettings::default(), ema, parameters)
    }

    fn go(trainer: &mut Trainer, parameters: &Parameters, steps: std::ops::Range<u64>) {
        for step in steps {
            let gradient = parameters.flat() * (step + 1) as f64;
            trainer.step(parameters, &gradient, 0.1, step);
        }
    }

    #[test]
    fn what_is_taken_up_goes_on_bit_for_bit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tensors.safetensors");
        for ema in [0.0, 0.9] {
            let (whole, cut, again) = (parameters(1), parameters(1), parameters(2));
            let mut through = trainer(&whole, ema);
            go(&mut through, &whole, 0..5);
            let mut first = trainer(&cut, ema);
            go(&mut first, &cut, 0..3);
            write_tensors(&path, &first.named(&cut), Dtype::F32).unwrap();
            let state = Value::from_iter([first.steps()]);
            assert_eq!(state, serde_json::json!({"optimizer_steps": 3}));
            let weights = Weights::open(std::slice::from_ref(&path)).unwrap();
            // Where nothing is said of them, they are the run's.
            for state in [state, Value::Null] {
                let mut second = trainer(&again, ema);
                second.restore(&again, &weights, &state, 3).unwrap();
                go(&mut second, &again, 3..5);
                assert_eq!(again.flat(), whole.flat(), "{ema}");
                assert_eq!(second.chosen(&again), through.chosen(&whole), "{ema}");
            }
        }
    }

    #[test]
    fn other_values_of_some_parameters_share_their_memory_and_leave_the_parameters_alone() {
        let own = parameters(1);
        let average = own.flat().copy();
        let other = own.with_values(&average);
        let _ = tch::no_grad(|| average.shallow_clone().fill_(7.0));
        assert_eq!(other.leaf("a.weight").unwrap().min().double_value(&[]), 7.0);
        assert!(own.leaf("a.weight").unwrap().max().double_value(&[]) < 7.0);
        let source = FlatSource::new(&own, &average);
        let tensor = |source: &dyn crate::model::source::TensorSource| {
            source
                .tensor("a.weight", &[3, 5], Kind::Float, Device::Cpu)
                .unwrap()
                .detach()
        };
        assert_eq!(tensor(&source), tensor(&other));
    }
}
