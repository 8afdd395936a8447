//! Training of GPT-NeoX against transformers and torch.optim, step by step (`tests/fixtures/make_finetune_fixtures.py`).

use std::path::Path;

use llm_cxr::model::checkpoint::Weights;
use llm_cxr::model::neox::NeoxConfig;
use llm_cxr::model::source::{LoadError, TensorSource};
use llm_cxr::train::common::checkpoint::read_counts;
use llm_cxr::train::common::schedule::{Schedule, Shape};
use llm_cxr::train::common::{Adamw, AdamwSettings, clip};
use llm_cxr::train::neox::{Compute, TokenBatch, TrainableNeox};
use tch::{Device, Kind, Tensor};

const TOLERANCE: f64 = 1e-4;

struct Fixture {
    config: NeoxConfig,
    weights: Weights,
}

/// The weights before training, under their own names.
impl TensorSource for Fixture {
    fn tensor(&self, name: &str, shape: &[usize], kind: Kind, device: Device) -> Result<Tensor, LoadError> {
        self.weights.tensor(&format!("before.{name}"), shape, kind, device)
    }
}

impl Fixture {
    fn open(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/finetune/{name}.safetensors"));
        let config = std::fs::read(path.with_extension("json")).expect("the configuration can be read");
        Self {
            config: NeoxConfig::from_json(&config).expect("it is GPT-NeoX's"),
            weights: Weights::open(&[path]).expect("the fixture can be read"),
        }
    }

    fn get(&self, name: &str) -> Tensor {
        let shape = &self.weights.info(name).expect("the fixture has this tensor").shape;
        self.weights
            .tensor(name, shape, Kind::Float, Device::Cpu)
            .expect("the tensor can be read")
    }

    fn batch(&self, number: usize) -> TokenBatch {
        let values = |part: &str| read_counts(&self.weights, &format!("batch.{number}.{part}")).expect("integers");
        let shape = &self
            .weights
            .info(&format!("batch.{number}.ids"))
            .expect("a batch")
            .shape;
        TokenBatch {
            rows: shape[0],
            length: shape[1],
            ids: values("ids"),
            labels: values("labels"),
            weights: Vec::new(),
        }
    }
}

#[test]
fn six_steps_of_training_give_the_losses_gradients_and_weights_of_transformers() {
    let schedule = Schedule {
        peak: 0.01,
        warmup: 4,
        steps: 6,
        shape: Shape::WarmupLog,
        floor: 0.0,
    };
    for name in ["parallel", "sequential", "tied"] {
        let fixture = Fixture::open(name);
        let (losses, norms) = (fixture.get("losses"), fixture.get("norms"));
        for checkpointing in [false, true] {
            let compute = Compute {
                kind: Kind::Float,
                checkpointing,
            };
            let model = TrainableNeox::from_checkpoint(&fixture.config, &fixture, Device::Cpu).unwrap();
            let mut optimizer = Adamw::new(AdamwSettings::default(), model.trainable());
            for step in 0..6 {
                let batch = fixture.batch(step as usize % 2);
                let mut gradient = model.trainable().zeros();
                let scale = 1.0 / batch.labelled() as f64;
                let (sum, _) = model.accumulate(&batch, scale, &compute, &mut gradient).unwrap();
                let norm = clip(&mut gradient, 1.0).double_value(&[]);
                let loss = sum.double_value(&[]) * scale;
                let (their_loss, their_norm) = (losses.double_value(&[step]), norms.double_value(&[step]));
                assert!(
                    (loss - their_loss).abs() < TOLERANCE,
                    "{name}, step {step}: loss {loss}, not {their_loss}"
                );
                assert!(
                    (norm / their_norm - 1.0).abs() < TOLERANCE,
                    "{name}, step {step}: norm {norm}, not {their_norm}"
                );
                optimizer.step(model.trainable(), &gradient, schedule.rate(step as u64));
            }
            let mut compared = 0;
            for (key, ours) in model.named() {
                let after = format!("after.{key}");
                if fixture.weights.info(&after).is_some() {
                    let error = (ours - fixture.get(&after)).abs().max().double_value(&[]);
                    assert!(error < TOLERANCE, "{name}: {key} differs by {error}");
                    compared += 1;
                }
            }
            assert_eq!(compared, 3, "{name}: a first, a middle and the last tensor");
        }
    }
}
