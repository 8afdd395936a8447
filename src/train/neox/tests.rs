use tch::{Device, Kind, Tensor};

use super::grow::normals;
use super::{Compute, IGNORED, TokenBatch, TrainableNeox};
use crate::model::neox::{Neox, NeoxConfig, Segment, Span};
use crate::train::common::random::Purpose;
use crate::train::common::{FlatSource, TrainError};

pub(super) const VARIANTS: [&str; 4] = [
    "",
    r#","use_parallel_residual":false,"rotary_pct":1.0"#,
    r#","tie_word_embeddings":true,"hidden_act":"gelu_new","attention_bias":false"#,
    r#","rotary_pct":0.45,"hidden_act":"relu""#,
];

pub(super) fn config(extra: &str) -> NeoxConfig {
    let json = format!(
        r#"{{"vocab_size":40,"hidden_size":32,"num_hidden_layers":3,"num_attention_heads":2,"intermediate_size":48,
            "max_position_embeddings":320{extra}}}"#
    );
    NeoxConfig::from_json(json.as_bytes()).unwrap()
}

/// A model whose weights are large enough that every part of it matters, norms and biases too.
pub(super) fn model(extra: &str) -> TrainableNeox {
    let model = TrainableNeox::fresh(&config(extra), 5, Device::Cpu).unwrap();
    stir(&model, 7, 0.1);
    model
}

pub(super) fn stir(model: &TrainableNeox, seed: u64, by: f64) {
    tch::no_grad(|| {
        let mut flat = model.trainable().flat().shallow_clone();
        flat += random_like(&flat, seed) * by;
    });
}

/// Standard normal numbers, as many as `flat` has.
fn random_like(flat: &Tensor, seed: u64) -> Tensor {
    normals([1, flat.numel()], seed, Purpose::Step, 0).view_as(flat)
}

/// Two sequences, the second padded; labels behind a prompt.
pub(super) fn batch() -> TokenBatch {
    let x = IGNORED;
    TokenBatch {
        rows: 2,
        length: 7,
        ids: vec![3, 17, 39, 4, 4, 21, 9, 8, 0, 30, 12, 0, 0, 0],
        labels: vec![x, x, 39, 4, 4, 21, 9, x, x, 30, 12, x, x, x],
        weights: Vec::new(),
    }
}

pub(super) fn gradient(model: &TrainableNeox, batch: &TokenBatch, compute: &Compute) -> (f64, Tensor) {
    let mut into = model.trainable().zeros();
    let (loss, count) = model.accumulate(batch, 0.25, compute, &mut into).unwrap();
    assert_eq!(count, batch.labelled());
    (loss.double_value(&[]), into)
}

fn distance(a: &Tensor, b: &Tensor) -> f64 {
    ((a - b).norm() / b.norm()).double_value(&[])
}

#[test]
fn the_loss_is_that_of_the_inference_networks_logits() {
    for extra in VARIANTS {
        let model = model(extra);
        let source = FlatSource::new(model.trainable(), model.trainable().flat());
        let network = Neox::load(model.config(), &source, Kind::Float, Device::Cpu).unwrap();
        let batch = batch();
        let mut expected = 0.0;
        for row in 0..batch.rows {
            let of_row = row * batch.length..(row + 1) * batch.length;
            let ids: Vec<u32> = batch.ids[of_row.clone()].iter().map(|&id| id as u32).collect();
            for (at, &label) in batch.labels[of_row].iter().enumerate() {
                if label == IGNORED {
                    continue;
                }
                let segment = Segment {
                    span: Span { start: 0, len: 16 },
                    position: 0,
                    tokens: &ids[..at],
                    logits: 1,
                };
                let logits = network.step(&mut network.kv_memory(16), &[segment]).unwrap();
                expected -= logits.log_softmax(-1, Kind::Float).double_value(&[0, label]);
            }
        }
        let (loss, count) = model.loss(&batch, &Compute::F32).unwrap();
        assert_eq!(count, 7);
        let loss = loss.double_value(&[]);
        assert!((loss - expected).abs() < 1e-4, "{extra}: {loss} is not {expected}");
        let (rounded, _) = model.loss(&batch, &Compute::BF16).unwrap();
        let rounded = rounded.double_value(&[]);
        assert!(
            (rounded / expected - 1.0).abs() < 0.03,
            "{extra}: {rounded} is far from {expected}"
        );
    }
}

#[test]
fn the_gradient_is_the_slope_of_the_loss_and_nearly_the_same_in_bf16() {
    for extra in VARIANTS {
        let model = model(extra);
        let batch = batch();
        let (_, exact) = gradient(&model, &batch, &Compute::F32);
        // Along a random direction, by central differences.
        let direction = random_like(&exact, 3);
        let mut flat = model.trainable().flat().shallow_clone();
        let mut loss_at = |by: f64| {
            let _ = tch::no_grad(|| flat.g_add_(&(&direction * by)));
            let loss = model.loss(&batch, &Compute::F32).unwrap().0.double_value(&[]);
            let _ = tch::no_grad(|| flat.g_sub_(&(&direction * by)));
            loss
        };
        let step = 1e-3;
        let slope = 0.25 * (loss_at(step) - loss_at(-step)) / (2.0 * step);
        let expected = (&exact * &direction).sum(Kind::Float).double_value(&[]);
        let tolerance = 0.02 * exact.norm().double_value(&[]);
        assert!(
            (slope - expected).abs() < tolerance,
            "{extra}: {slope} is not {expected}"
        );
        let (_, rounded) = gradient(&model, &batch, &Compute::BF16);
        let off = distance(&rounded, &exact);
        assert!(off < 0.1, "{extra}: bf16 is off by {off}");
    }
}

#[test]
fn attention_in_blocks_is_that_of_one_sequence() {
    let model = model("");
    // 300 tokens are attended to in two blocks; bf16 alone takes this way.
    let ids: Vec<i64> = (0..600).map(|i| i * i % 37).collect();
    let batch = TokenBatch {
        rows: 2,
        length: 300,
        labels: ids.clone(),
        ids,
        weights: Vec::new(),
    };
    let [exact, rounded] = [Compute::F32, Compute::BF16].map(|compute| gradient(&model, &batch, &compute));
    assert!((rounded.0 / exact.0 - 1.0).abs() < 0.01, "{} {}", rounded.0, exact.0);
    let off = distance(&rounded.1, &exact.1);
    assert!(off < 0.1, "off by {off}");
}

#[test]
fn checkpointing_changes_no_gradient() {
    for extra in VARIANTS {
        let model = model(extra);
        for kind in [Kind::Float, Kind::BFloat16] {
            let with = |checkpointing| gradient(&model, &batch(), &Compute { kind, checkpointing });
            let ((loss, plain), (again, checkpointed)) = (with(false), with(true));
            assert_eq!(loss, again);
            let off = distance(&checkpointed, &plain);
            // The same products; tied embeddings are summed in another order.
            let tolerance = if kind == Kind::Float { 1e-6 } else { 1e-2 };
            assert!(off < tolerance, "{extra} {kind:?}: off by {off}");
        }
    }
}

#[test]
fn the_same_inputs_give_the_same_gradient_bit_for_bit() {
    let model = model("");
    let (rows, length) = (8, 32);
    let ids: Vec<i64> = (0..rows * length).map(|i| (i * i % 7) as i64).collect();
    let batch = TokenBatch {
        rows,
        length,
        labels: ids.clone(),
        ids,
        weights: Vec::new(),
    };
    for compute in [Compute::F32, Compute::BF16] {
        let (_, first) = gradient(&model, &batch, &compute);
        for _ in 0..3 {
            assert_eq!(first, gradient(&model, &batch, &compute).1);
        }
    }
}

#[test]
fn gradients_of_micro_batches_add_up_and_padding_adds_nothing() {
    let model = model("");
    let whole = batch();
    let (loss, expected) = gradient(&model, &whole, &Compute::F32);
    let parts = [
        TokenBatch {
            rows: 1,
            length: 7,
            ids: whole.ids[..7].to_vec(),
            labels: whole.labels[..7].to_vec(),
            weights: Vec::new(),
        },
        TokenBatch {
            rows: 1,
            length: 4,
            ids: whole.ids[7..11].to_vec(),
            labels: whole.labels[7..11].to_vec(),
            weights: Vec::new(),
        },
        // No label counts: that of the first token has nothing to be predicted from.
        TokenBatch {
            rows: 1,
            length: 2,
            ids: vec![1, 2],
            labels: vec![1, IGNORED],
            weights: Vec::new(),
        },
    ];
    let mut into = model.trainable().zeros();
    let mut sum = 0.0;
    for part in &parts {
        let (loss, _) = model.accumulate(part, 0.25, &Compute::F32, &mut into).unwrap();
        sum += loss.double_value(&[]);
    }
    assert!((sum - loss).abs() < 1e-4);
    assert!(distance(&into, &expected) < 1e-5);
}

#[test]
fn a_batch_that_does_not_fit_the_model_is_refused_with_its_reason() {
    let model = model("");
    let refused = |batch: TokenBatch| match model.loss(&batch, &Compute::F32) {
        Err(TrainError::Settings(reason)) => reason,
        other => panic!("{:?}", other.map(|(_, count)| count)),
    };
    let one = |id: i64, label: i64, length: usize| TokenBatch {
        rows: 1,
        length,
        ids: vec![id; length],
        labels: vec![label; length],
        weights: Vec::new(),
    };
    assert!(refused(one(40, 1, 3)).contains("token 40"));
    assert!(refused(one(1, -1, 3)).contains("token -1"));
    assert!(refused(one(1, 1, 321)).contains("321 tokens"));
    assert!(refused(one(1, 1, 0)).contains("0 tokens"));
    let short = TokenBatch {
        labels: vec![1],
        ..one(1, 1, 3)
    };
    assert!(refused(short).contains("needs 3"));
}

#[test]
fn fresh_weights_are_those_of_gpt_neox_and_of_the_seed() {
    let config = config("");
    let fresh = |seed| TrainableNeox::fresh(&config, seed, Device::Cpu).unwrap();
    let model = fresh(1);
    for (name, value) in model.named() {
        let deviation = value.std(false).double_value(&[]);
        let (low, high) = match &*name {
            n if n.ends_with("norm.weight") => (1.0, 1.0),
            n if n.ends_with(".bias") => (0.0, 0.0),
            _ => {
                assert!((deviation - 0.02).abs() < 0.002, "{name}: {deviation}");
                continue;
            }
        };
        let ends = (value.min().double_value(&[]), value.max().double_value(&[]));
        assert_eq!(ends, (low, high), "{name}");
    }
    assert_eq!(model.trainable().flat(), fresh(1).trainable().flat());
    assert_ne!(model.trainable().flat(), fresh(2).trainable().flat());
}
