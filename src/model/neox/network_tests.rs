//! Weights in panels: prompts of any length through the kernels, and the same weights taken out again for libtorch.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;
use crate::model::neox::Span;
use crate::model::neox::rows::RowWeights;
use crate::model::source::{RandomSource, floats};

/// Rows that are no multiple of a panel, columns that are none of a pair of registers.
const SHAPE: &str = r#"{"vocab_size":151,"hidden_size":72,"num_hidden_layers":2,"num_attention_heads":3,"intermediate_size":300,
    "max_position_embeddings":256}"#;

/// Models whose prompts of any length go through the kernels, one for each way to hold weights in panels that this machine has.
fn models() -> impl Iterator<Item = (WeightsChoice, Neox)> {
    let choices = [WeightsChoice::Native, WeightsChoice::Int8, WeightsChoice::Int4];
    choices.into_iter().filter_map(|choice| {
        let config = NeoxConfig::from_json(SHAPE.as_bytes()).unwrap();
        let source = RandomSource::new(3);
        let mut model = Neox::load_as(&config, &source, choice, Kind::BFloat16, Device::Cpu).unwrap();
        let weights = model.row_weights().filter(RowWeights::are_in_panels)?;
        let form = Form::of(Kind::BFloat16, choice != WeightsChoice::Native);
        model.rows = Some(RowPath::new(&config, weights, 2, form, usize::MAX));
        Some((choice, model))
    })
}

fn tokens(count: u32) -> Vec<u32> {
    (0..count).map(|i| i * 13 % 97).collect()
}

/// Logits after the last of `tokens`, which run in pieces of `each`, beside another sequence of one token.
fn logits(model: &Neox, tokens: &[u32], each: usize) -> Vec<f32> {
    let mut kv = model.kv_memory(512);
    let mut last = None;
    for (number, piece) in tokens.chunks(each).enumerate() {
        let other = Segment {
            span: Span { start: 256, len: 256 },
            position: number,
            tokens: &[5],
            logits: 0,
        };
        let own = Segment {
            span: Span { start: 0, len: 256 },
            position: number * each,
            tokens: piece,
            logits: 1,
        };
        last = model.step(&mut kv, &[other, own]);
    }
    floats(&last.unwrap())
}

#[test]
fn a_prompt_gives_the_same_bits_wherever_it_is_cut() {
    let _guard = tch::no_grad_guard();
    for (choice, model) in models() {
        assert!(model.cuts_freely());
        let tokens = tokens(200);
        let whole = logits(&model, &tokens, 200);
        for each in [1, 7, 32, 150] {
            assert_eq!(logits(&model, &tokens, each), whole, "{choice}, {each}");
        }
    }
}

#[test]
fn logits_after_some_of_the_last_tokens_are_those_that_all_tokens_give() {
    let _guard = tch::no_grad_guard();
    let tokens = tokens(200);
    let run = |model: &Neox, wanted: usize| {
        let segment = Segment {
            span: Span { start: 0, len: 256 },
            position: 0,
            tokens: &tokens,
            logits: wanted,
        };
        floats(&model.step(&mut model.kv_memory(512), &[segment]).unwrap())
    };
    let vocabulary = 151;
    for (choice, model) in models() {
        let all = run(&model, 200);
        for wanted in [1, 3, 40, 150] {
            assert_eq!(
                run(&model, wanted),
                all[(200 - wanted) * vocabulary..],
                "{choice}, {wanted}"
            );
        }
    }
    // Libtorch's products of another number of rows may differ in their last bits.
    let config = NeoxConfig::from_json(SHAPE.as_bytes()).unwrap();
    let model = Neox::load(&config, &RandomSource::new(3), Kind::Float, Device::Cpu).unwrap();
    let all = run(&model, 200);
    for wanted in [1, 3, 40, 150] {
        let some = run(&model, wanted);
        assert_eq!(some.len(), wanted * vocabulary);
        let apart = some.iter().zip(&all[(200 - wanted) * vocabulary..]);
        assert!(apart.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) < 1e-4, "{wanted}");
    }
}

#[test]
fn kernels_and_libtorch_give_nearly_the_same_logits() {
    let _guard = tch::no_grad_guard();
    for (choice, model) in models() {
        let tokens = tokens(200);
        let kernels = logits(&model, &tokens, 200);
        let segment = Segment {
            span: Span { start: 0, len: 256 },
            position: 0,
            tokens: &tokens,
            logits: 1,
        };
        // libtorch reads keys in rows.
        let mut kv = KvMemory::new(model.config(), 512, Kind::BFloat16, Device::Cpu, KeyOrder::Rows);
        let libtorch = floats(&model.pass(&mut kv, &[segment]).unwrap());
        let root = |values: &[f32]| values.iter().map(|x| x * x).sum::<f32>().sqrt();
        let apart: Vec<f32> = kernels.iter().zip(&libtorch).map(|(a, b)| a - b).collect();
        let difference = root(&apart) / root(&libtorch);
        assert!(difference < 3e-2, "{choice} {difference}");
    }
}

#[test]
fn a_memory_made_for_another_network_is_refused() {
    let _guard = tch::no_grad_guard();
    let config = NeoxConfig::from_json(SHAPE.as_bytes()).unwrap();
    let other = |key: &str, from: usize, to: usize| {
        let shape = SHAPE.replace(&format!("\"{key}\":{from}"), &format!("\"{key}\":{to}"));
        NeoxConfig::from_json(shape.as_bytes()).unwrap()
    };
    let model = Neox::load(&config, &RandomSource::new(3), Kind::BFloat16, Device::Cpu).unwrap();
    let segment = Segment {
        span: Span { start: 0, len: 64 },
        position: 0,
        tokens: &[5],
        logits: 1,
    };
    let memory = |config: &NeoxConfig, kind| {
        let order = match kind {
            Kind::BFloat16 => model.key_order(),
            _ => KeyOrder::Rows,
        };
        KvMemory::new(config, 64, kind, Device::Cpu, order)
    };
    let others = [
        memory(&other("num_hidden_layers", 2, 1), Kind::BFloat16),
        memory(&other("num_attention_heads", 3, 6), Kind::BFloat16),
        memory(&other("hidden_size", 72, 48), Kind::BFloat16),
        memory(&config, Kind::Float),
    ];
    for mut kv in others {
        let step = AssertUnwindSafe(|| model.step(&mut kv, std::slice::from_ref(&segment)));
        let reason = catch_unwind(step).expect_err("it is not refused");
        let reason = reason.downcast_ref::<String>().expect("a message");
        assert!(reason.contains("KV memory"), "{reason}");
    }
    assert!(model.step(&mut memory(&config, Kind::BFloat16), &[segment]).is_some());
}
