//! Tests of models that are adapted: grown embeddings, code embeddings, low-rank adapters.

use tch::{Device, Kind, Tensor};

use super::grow::normals;
use super::tests::{VARIANTS, batch, config, gradient, model, stir};
use super::{Compute, LoraSettings, LoraTarget, TokenBatch, TrainableNeox};
use crate::model::neox::{EMBED_IN, EMBED_OUT};
use crate::train::common::random::Purpose;
use crate::train::common::{Adamw, AdamwSettings, TrainError};

fn leaf(model: &TrainableNeox, name: &str) -> Tensor {
    let named = model.named().into_iter().find(|(n, _)| n == name);
    named.expect("the model has this weight").1
}

fn loss(model: &TrainableNeox, batch: &TokenBatch, compute: &Compute) -> f64 {
    model.loss(batch, compute).unwrap().0.double_value(&[])
}

fn refusal<T>(result: Result<T, TrainError>) -> String {
    match result {
        Err(TrainError::Settings(reason)) => reason,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("accepted"),
    }
}

/// A model with adapters that have learned something, and what it was before.
fn adapted(extra: &str) -> (TrainableNeox, TrainableNeox) {
    let make = || model(extra).grown(40, 46, 2).unwrap();
    let adapted = make().with_lora(&LoraSettings::default(), 9).unwrap();
    stir(&adapted, 4, 0.05);
    (adapted, make())
}

/// [`batch`] with tokens that only a grown model has.
fn batch_of_grown() -> TokenBatch {
    let mut batch = batch();
    for at in [1, 3, 10] {
        batch.ids[at] = 43;
    }
    (batch.labels[3], batch.labels[10]) = (43, 43);
    batch
}

#[test]
fn grown_embeddings_keep_the_tokenizers_rows_and_draw_the_others() {
    for extra in VARIANTS {
        let before = model(extra);
        let matrices: &[&str] = if before.config().tie_word_embeddings {
            &[EMBED_IN]
        } else {
            &[EMBED_IN, EMBED_OUT]
        };
        let rows: Vec<Tensor> = matrices.iter().map(|name| leaf(&before, name).copy()).collect();
        let other = leaf(&before, "gpt_neox.layers.1.mlp.dense_h_to_4h.weight").copy();
        // 40 rows are stored for 36 tokens; the text vocabulary gets one more, and 400 image codes.
        let grown = before.grown(36, 437, 3).unwrap();
        assert_eq!(grown.config().vocab_size, 437);
        for (name, old) in matrices.iter().zip(&rows) {
            let new = leaf(&grown, name);
            assert_eq!(new.size(), [437, 32]);
            assert_eq!(new.narrow(0, 0, 36), old.narrow(0, 0, 36));
            let drawn = new.narrow(0, 36, 401);
            assert!((drawn.std(false).double_value(&[]) - 0.02).abs() < 0.001, "{name}");
            assert!(drawn.mean(Kind::Float).double_value(&[]).abs() < 0.001, "{name}");
        }
        assert_eq!(leaf(&grown, "gpt_neox.layers.1.mlp.dense_h_to_4h.weight"), other);
        let again = model(extra).grown(36, 437, 3).unwrap();
        assert_eq!(again.trainable().flat(), grown.trainable().flat());
        let cut = grown.grown(30, 30, 3).unwrap();
        assert_eq!(leaf(&cut, EMBED_IN), rows[0].narrow(0, 0, 30));
    }
    assert!(refusal(model("").grown(41, 60, 0)).contains("40 tokens"));
    assert!(refusal(model("").grown(40, 39, 0)).contains("39"));
}

#[test]
fn codes_that_look_alike_begin_with_embeddings_alike() {
    let model = model("");
    let before = leaf(&model, EMBED_IN).copy();
    let book = normals([10, 16], 1, Purpose::CodeBook, 0) * 3.0 + 5.0;
    book.get(7).copy_(&(book.get(2) + 0.05));
    model.init_codes_from(30, &book, 1).unwrap();
    for name in [EMBED_IN, EMBED_OUT] {
        let codes = leaf(&model, name).narrow(0, 30, 10);
        assert!((codes.std(false).double_value(&[]) - 0.02).abs() < 0.003, "{name}");
        let apart = |i, j| (codes.get(i) - codes.get(j)).norm().double_value(&[]);
        assert!(apart(2, 7) < 0.1 * apart(2, 3), "{name}");
    }
    assert_eq!(leaf(&model, EMBED_IN).narrow(0, 0, 30), before.narrow(0, 0, 30));
    assert_ne!(
        leaf(&model, EMBED_IN).narrow(0, 30, 10),
        leaf(&model, EMBED_OUT).narrow(0, 30, 10)
    );
    assert!(refusal(model.init_codes_from(31, &book, 1)).contains("do not fit"));
    assert!(refusal(model.init_codes_from(30, &book.ones_like(), 1)).contains("all the same"));
}

#[test]
fn fresh_adapters_change_nothing() {
    for extra in VARIANTS {
        let base = model(extra).grown(40, 46, 2).unwrap();
        let adapted = model(extra).grown(40, 46, 2).unwrap();
        let adapted = adapted.with_lora(&LoraSettings::default(), 9).unwrap();
        for compute in [Compute::F32, Compute::BF16] {
            let batch = batch_of_grown();
            assert_eq!(
                loss(&adapted, &batch, &compute),
                loss(&base, &batch, &compute),
                "{extra}"
            );
        }
        for ((name, ours), (_, theirs)) in adapted.named().into_iter().zip(base.named()) {
            assert_eq!(ours, theirs, "{extra}: {name}");
        }
    }
}

#[test]
fn the_merged_model_is_the_adapted_one_and_the_base_is_left_alone() {
    for extra in VARIANTS {
        let (adapted, base) = adapted(extra);
        let merged = TrainableNeox::from_checkpoint(adapted.config(), &adapted, Device::Cpu).unwrap();
        let batch = batch_of_grown();
        let losses = [&adapted, &merged, &base].map(|model| loss(model, &batch, &Compute::F32));
        assert!((losses[0] - losses[1]).abs() < 1e-4, "{extra}: {losses:?}");
        assert!((losses[0] - losses[2]).abs() > 1e-2, "{extra}: {losses:?}");
        assert_eq!(adapted.weights.flat(), base.weights.flat());
        assert_eq!(
            leaf(&adapted, EMBED_IN).narrow(0, 0, 40),
            leaf(&base, EMBED_IN).narrow(0, 0, 40)
        );
        assert_ne!(
            leaf(&adapted, EMBED_IN).narrow(0, 40, 6),
            leaf(&base, EMBED_IN).narrow(0, 40, 6)
        );
    }
}

#[test]
fn training_steps_the_adapters_alone_with_the_same_gradient_under_checkpointing() {
    for extra in VARIANTS {
        let (adapted, base) = adapted(extra);
        let batch = batch_of_grown();
        let checkpointing = Compute {
            checkpointing: true,
            ..Compute::F32
        };
        let (before, plain) = gradient(&adapted, &batch, &Compute::F32);
        let (_, again) = gradient(&adapted, &batch, &checkpointing);
        let off = ((&plain - again).norm() / plain.norm()).double_value(&[]);
        assert!(off < 1e-6, "{extra}: off by {off}");
        // Every adapter and every block of new rows learns.
        for (name, part) in adapted.trainable().named("", &plain) {
            assert!(part.norm().double_value(&[]) > 0.0, "{extra}: {name}");
        }
        let mut optimizer = Adamw::new(AdamwSettings::default(), adapted.trainable());
        for _ in 0..5 {
            let (_, gradient) = gradient(&adapted, &batch, &Compute::F32);
            optimizer.step(adapted.trainable(), &gradient, 0.01);
        }
        assert!(loss(&adapted, &batch, &Compute::F32) < 0.9 * before, "{extra}");
        assert_eq!(adapted.weights.flat(), base.weights.flat());
    }
}

#[test]
fn adapters_have_the_rank_and_the_targets_of_their_settings() {
    let settings = LoraSettings {
        rank: 2,
        targets: vec![LoraTarget::Qkv],
        ..LoraSettings::default()
    };
    let adapted = TrainableNeox::fresh(&config(""), 1, Device::Cpu).unwrap();
    let adapted = adapted.with_lora(&settings, 1).unwrap();
    // Three layers; no rows are new.
    assert_eq!(adapted.trainable().flat().numel(), 3 * 2 * (32 + 96));
    let again = adapted.with_lora(&settings, 1);
    assert!(refusal(again).contains("already"));
    for wrong in [
        LoraSettings {
            rank: 0,
            ..settings.clone()
        },
        LoraSettings {
            rank: 33,
            ..settings.clone()
        },
        LoraSettings {
            alpha: f64::NAN,
            ..settings.clone()
        },
        LoraSettings {
            targets: Vec::new(),
            ..settings.clone()
        },
    ] {
        assert!(refusal(model("").with_lora(&wrong, 1)).contains("LoRA"));
    }
    let grown = model("").with_lora(&settings, 1).unwrap().grown(40, 50, 1);
    assert!(refusal(grown).contains("before adapters"));
}

#[test]
fn a_model_with_other_values_computes_with_them_and_leaves_its_own_alone() {
    let compute = Compute {
        kind: Kind::Float,
        checkpointing: false,
    };
    let loss = |model: &TrainableNeox| gradient(model, &batch_of_grown(), &compute).0;
    for extra in VARIANTS {
        let (adapted, whole) = adapted(extra);
        for model in [adapted, whole] {
            let average = model.trainable().flat().copy();
            let other = model.with_values(&average);
            let own = loss(&model);
            assert_eq!(loss(&other), own, "{extra}");
            stir(&other, 3, 0.05);
            // The memory of the average is that of the other model.
            assert_eq!(other.trainable().flat(), &average, "{extra}");
            assert_ne!(model.trainable().flat(), &average, "{extra}");
            assert_ne!(loss(&other), own, "{extra}");
            assert_eq!(loss(&model), own, "{extra}");
        }
    }
}
