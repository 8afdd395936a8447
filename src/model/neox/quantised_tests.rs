//! The network with weights in panels: in 8 or 4 bits, and made from the mapped file.

use tch::{Device, Kind, Tensor};

use super::kv::KeyOrder;
use super::{KvMemory, Neox, NeoxConfig, Segment, Span};
use crate::model::checkpoint::Weights;
use crate::model::device::WeightsChoice;
use crate::model::source::{LoadError, RandomSource, TensorSource};

/// Columns that are no multiple of a group, rows that are none of a panel.
const SHAPES: [&str; 2] = [
    r#"{"vocab_size":151,"hidden_size":72,"num_hidden_layers":2,"num_attention_heads":3,"intermediate_size":200,"max_position_embeddings":64}"#,
    r#"{"vocab_size":100,"hidden_size":64,"num_hidden_layers":2,"num_attention_heads":4,"intermediate_size":96,"max_position_embeddings":64,
        "use_parallel_residual":false,"tie_word_embeddings":true}"#,
];

fn model(shape: &str, weights: WeightsChoice, kind: Kind) -> Neox {
    let config = NeoxConfig::from_json(shape.as_bytes()).unwrap();
    Neox::load_as(&config, &RandomSource::new(3), weights, kind, Device::Cpu).unwrap()
}

/// Logits after 40 tokens that run in pieces of `each`.
fn logits(model: &Neox, each: usize) -> Tensor {
    let _guard = tch::no_grad_guard();
    let tokens: Vec<u32> = (0..40).map(|i| i * 13 % 97).collect();
    let mut kv = model.kv_memory(64);
    let mut last = None;
    for (number, tokens) in tokens.chunks(each).enumerate() {
        let segment = Segment {
            span: Span { start: 0, len: 64 },
            position: number * each,
            tokens,
            logits: 1,
        };
        last = model.step(&mut kv, &[segment]);
    }
    last.unwrap()
}

/// How far apart, of how large.
fn apart(a: &Tensor, b: &Tensor) -> f64 {
    let root = |t: Tensor| t.square().mean(Kind::Double).double_value(&[]).sqrt();
    root(a - b) / root(b.shallow_clone())
}

#[test]
fn libtorch_and_the_kernels_give_nearly_the_same_logits() {
    let _guard = tch::no_grad_guard();
    let tokens: Vec<u32> = (0..40).map(|i| i * 13 % 97).collect();
    for shape in SHAPES {
        for weights in [WeightsChoice::Int8, WeightsChoice::Int4] {
            for (kind, most) in [(Kind::Float, 2e-2), (Kind::BFloat16, 3e-2)] {
                let model = model(shape, weights, kind);
                let whole = Segment {
                    span: Span { start: 0, len: 64 },
                    position: 0,
                    tokens: &tokens,
                    logits: 1,
                };
                // libtorch reads keys in rows.
                let mut kv = KvMemory::new(model.config(), 64, kind, Device::Cpu, KeyOrder::Rows);
                let libtorch = model.pass(&mut kv, &[whole]).unwrap();
                let difference = apart(&libtorch, &logits(&model, 1));
                assert!(difference < most, "{weights} {kind:?} {difference}");
            }
        }
    }
}

#[test]
fn quantised_weights_give_nearly_the_logits_of_the_weights_themselves() {
    for shape in SHAPES {
        let native = logits(&model(shape, WeightsChoice::Native, Kind::Float), 40);
        for (weights, most) in [(WeightsChoice::Int8, 0.03), (WeightsChoice::Int4, 0.3)] {
            let difference = apart(&logits(&model(shape, weights, Kind::Float), 40), &native);
            assert!(difference < most && difference > 0.0, "{weights} {difference}");
        }
    }
}

/// A checkpoint that gives tensors alone.
struct Copied<'a>(&'a Weights);

impl TensorSource for Copied<'_> {
    fn tensor(&self, name: &str, shape: &[usize], kind: Kind, device: Device) -> Result<Tensor, LoadError> {
        self.0.tensor(name, shape, kind, device)
    }
}

#[test]
fn weights_made_from_the_mapped_file_are_those_made_from_its_tensors() {
    let folder = tempfile::tempdir().unwrap();
    for (number, shape) in SHAPES.into_iter().enumerate() {
        let config = NeoxConfig::from_json(shape.as_bytes()).unwrap();
        let random = RandomSource::new(8);
        let expected = config.expected_tensors().into_iter();
        let tensors: Vec<(String, Tensor)> = expected
            .map(|e| {
                let tensor = random.tensor(&e.name, &e.shape, Kind::BFloat16, Device::Cpu).unwrap();
                (e.name, tensor)
            })
            .collect();
        let path = folder.path().join(format!("{number}.safetensors"));
        Tensor::write_safetensors(&tensors, &path).unwrap();
        let file = Weights::open(&[path]).unwrap();
        for (weights, kind) in [
            (WeightsChoice::Native, Kind::BFloat16),
            (WeightsChoice::Int8, Kind::BFloat16),
            (WeightsChoice::Int4, Kind::Float),
        ] {
            let load = |source: &dyn TensorSource| Neox::load_as(&config, source, weights, kind, Device::Cpu).unwrap();
            let (mapped, copied) = (load(&file), load(&Copied(&file)));
            assert_eq!(logits(&mapped, 7), logits(&copied, 7), "{weights}");
        }
    }
}
