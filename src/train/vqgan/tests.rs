use std::path::Path;
use std::sync::Mutex;

use serde_json::Value;
use tch::{Device, Kind, Tensor};

use super::task::{Material, VqganTask};
use super::*;
use crate::basics::sha256_file;
use crate::model::checkpoint::Weights;
use crate::model::vqgan::{Vqgan, VqganConfig};
use crate::train::common::checkpoint::Checkpoints;
use crate::train::common::trainer::MODEL;
use crate::train::common::{AdamwSettings, ImageBatch, Outcome, Task, TrainError, Trainer};

/// Bright discs on a slope, from the number alone.
pub(super) fn discs(number: u64, side: usize) -> ImageBatch {
    let mut batch = ImageBatch::default();
    for n in 0..2u64 {
        let k = number * 2 + n;
        let (cx, cy, r) = (8 + (k * 7 % 16) as i64, 8 + (k * 5 % 16) as i64, 3 + (k % 5) as i64);
        for y in 0..side as i64 {
            for x in 0..side as i64 {
                let inside = (x - cx).pow(2) + (y - cy).pow(2) <= r * r;
                batch.levels.push(if inside { 220 } else { (x * 3 + y) as u8 });
            }
        }
        batch.ids.push(format!("disc-{k}"));
        batch.labels.push(Vec::new());
    }
    batch
}

/// The same, with whether a disc stands on the left.
pub(super) fn labelled(number: u64) -> ImageBatch {
    let mut batch = discs(number, 32);
    let left = |n: u64| (8 + (number * 2 + n) * 7 % 16) < 16;
    batch.labels = (0..2)
        .map(|n| vec![("left".to_owned(), f32::from(u8::from(left(n))))])
        .collect();
    batch
}

/// Data of which nothing is known but the labels.
pub(super) fn material(labels: &[String]) -> Material {
    Material {
        labels: labels.to_vec(),
        ..Material::default()
    }
}

pub(super) fn settings(out: &Path, steps: u64) -> VqganSettings {
    VqganSettings {
        out: out.to_owned(),
        resolution: Some(32),
        ch: Some(32),
        ch_mult: Some(vec![1, 1, 2]),
        codes: Some(16),
        embed_dim: Some(8),
        steps,
        batch: 2,
        rate: 2e-3,
        warmup: 2,
        quantise_from: Some(3),
        revive_every: 3,
        disc_start: 4,
        disc_width: 8,
        disc_layers: 2,
        save_every: 5,
        eval_every: 0,
        log_every: 1,
        workers: 1,
        ..VqganSettings::default()
    }
}

fn run(s: &VqganSettings, stop: impl Fn() -> bool) -> Result<Outcome, TrainError> {
    VqganTask::new(s, Material::default(), Device::Cpu)?.drive(|n| discs(n, 32), stop)
}

fn logged(out: &Path, name: &str) -> Vec<f64> {
    let text = std::fs::read_to_string(out.join("log.jsonl")).unwrap();
    text.lines()
        .filter_map(|l| serde_json::from_str::<Value>(l).unwrap()[name].as_f64())
        .collect()
}

#[test]
fn the_loss_falls_and_what_is_left_is_what_the_server_loads() {
    let dir = tempfile::tempdir().unwrap();
    let s = VqganSettings {
        disc_weight: 0.0,
        ema: 0.0,
        ..settings(dir.path(), 40)
    };
    assert_eq!(run(&s, || false).unwrap(), Outcome::Finished);
    let losses = logged(dir.path(), "loss/l1");
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    assert!(mean(&losses[35..]) < 0.6 * mean(&losses[..3]), "{losses:?}");
    let yaml = std::fs::read(dir.path().join("vqgan/config.yaml")).unwrap();
    let config = VqganConfig::from_yaml(&yaml).unwrap();
    let weights = Weights::open(&[dir.path().join("vqgan/model.safetensors")]).unwrap();
    assert_eq!(weights.names().count(), config.expected_tensors().len());
    // The server's codes are those of the training network.
    let network = Vqgan::load(&config, &weights, Kind::Float, Device::Cpu).unwrap();
    let task = {
        let mut task = VqganTask::new(&s, Material::default(), Device::Cpu).unwrap();
        let newest = Checkpoints::new(dir.path().join("checkpoints"), 2)
            .newest()
            .unwrap()
            .0
            .unwrap();
        task.restore(&newest).unwrap();
        task
    };
    let batch = discs(99, 32);
    let served = network.encode(&evaluate::pixels(&batch, 32, 1)).unwrap();
    let served: Vec<i64> = served.into_iter().flatten().map(i64::from).collect();
    let trained = task.generator.network(Kind::Float).unwrap();
    let q = quantize(
        &trained.encode(&batch.tensor(32, 1, Device::Cpu)),
        &trained.code_book,
        0.25,
    );
    let trained = Vec::<i64>::try_from(&q.codes).unwrap();
    let same = served.iter().zip(&trained).filter(|(a, b)| a == b).count();
    assert!(same * 100 >= served.len() * 98, "{same} of {}", served.len());
}

#[test]
fn a_run_that_was_killed_ends_with_the_same_weights_bit_for_bit() {
    killed_and_whole(|out| settings(out, 13), &[], |n| discs(n, 32));
}

#[test]
fn a_run_that_was_killed_while_it_learned_findings_ends_with_the_same_weights_too() {
    let s = |out: &Path| VqganSettings {
        findings_weight: 1.0,
        findings_first: 7,
        quantise_from: Some(2),
        draw_share: 0.5,
        ..settings(out, 13)
    };
    killed_and_whole(s, &["left".to_owned()], labelled);
}

/// Runs 13 steps at once, and in pieces.
fn killed_and_whole(s: impl Fn(&Path) -> VqganSettings, labels: &[String], batch: fn(u64) -> ImageBatch) {
    let (whole, broken) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let run = |out: &tempfile::TempDir, stop: &dyn Fn() -> bool| {
        VqganTask::new(&s(out.path()), material(labels), Device::Cpu)
            .unwrap()
            .drive(batch, stop)
            .unwrap()
    };
    run(&whole, &|| false);
    // Ended without a word after step 8: the checkpoint of step 5 is what is left.
    let calls = Mutex::new(0);
    let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        run(&broken, &|| {
            let mut calls = calls.lock().unwrap();
            *calls += 1;
            assert!(*calls < 8, "killed");
            false
        })
    }));
    assert!(killed.is_err());
    // Then asked to stop after two more steps, then left alone.
    let calls = Mutex::new(0);
    let stopped = run(&broken, &|| {
        let mut calls = calls.lock().unwrap();
        *calls += 1;
        *calls == 2
    });
    assert_eq!(stopped, Outcome::Stopped(7));
    assert_eq!(run(&broken, &|| false), Outcome::Finished);
    for file in [
        "checkpoints/step-0000000013/tensors.safetensors",
        "vqgan/model.safetensors",
    ] {
        let sums = [&whole, &broken].map(|d| sha256_file(&d.path().join(file), &mut |_| ()).unwrap());
        assert_eq!(sums[0], sums[1], "{file}");
    }
    for loss in ["loss/l1", "loss/findings"] {
        assert_eq!(logged(whole.path(), loss), logged(broken.path(), loss));
    }
}

#[test]
fn nan_stops_the_run_with_the_step_the_batch_and_the_last_good_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let s = settings(dir.path(), 12);
    run(&VqganSettings { steps: 5, ..s.clone() }, || false).unwrap();
    let mut task = VqganTask::new(&s, Material::default(), Device::Cpu).unwrap();
    let newest = Checkpoints::new(dir.path().join("checkpoints"), 2)
        .newest()
        .unwrap()
        .0
        .unwrap();
    task.restore(&newest).unwrap();
    tch::no_grad(|| {
        let _ = task
            .generator
            .parameters
            .flat()
            .shallow_clone()
            .narrow(0, 0, 1)
            .fill_(f64::NAN);
    });
    // A NaN in the weights of a checkpoint stands for one that a step made.
    let checkpoints = Checkpoints::new(dir.path().join("checkpoints"), 3);
    checkpoints.save(&task.snapshot(6)).unwrap();
    let error = run(&s, || false).unwrap_err().to_string();
    for part in [
        "NaN at step 6",
        "disc-12",
        "disc-13",
        "checkpoint is of step 6",
        "vqgan --init",
    ] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn other_settings_are_refused_with_their_names() {
    let dir = tempfile::tempdir().unwrap();
    let s = settings(dir.path(), 1);
    run(&s, || false).unwrap();
    let error = run(&VqganSettings { rate: 0.5, ..s }, || false)
        .unwrap_err()
        .to_string();
    assert!(error.contains("rate: 0.002 → 0.5"), "{error}");
}

#[test]
fn codes_that_were_not_used_are_replaced_by_latents_of_the_batch() {
    let dir = tempfile::tempdir().unwrap();
    let task = VqganTask::new(&settings(dir.path(), 9), Material::default(), Device::Cpu).unwrap();
    let latents = Tensor::arange(16, (Kind::Float, Device::Cpu)).view([2, 8]) + 100.0;
    let parameters = &task.generator.parameters;
    let book = || parameters.leaf(generator::CODE_BOOK).unwrap().detach().copy();
    let before = book();
    let mut used = code_book::Use(vec![1; 16]);
    (used.0[3], used.0[9]) = (0, 0);
    let mut trainer = Trainer::new(MODEL, AdamwSettings::default(), 0.0, parameters);
    code_book::revive(parameters, &mut trainer, &mut used, &latents, (1, 2)).unwrap();
    let after = book();
    assert_eq!(used.0, [0; 16]);
    for row in 0..16i64 {
        let moved = after.get(row).ne_tensor(&before.get(row)).any().int64_value(&[]) == 1;
        assert_eq!(moved, row == 3 || row == 9);
    }
    assert!(after.get(3).double_value(&[0]) >= 100.0);
    // Not by the same one: the second of two equal codes would be dead again.
    assert!(!after.get(3).equal(&after.get(9)));
}

#[test]
fn a_decoder_that_learns_alone_leaves_encoder_and_codes_as_they_were() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let plain = VqganSettings {
        disc_weight: 0.0,
        ..settings(first.path(), 12)
    };
    run(&plain, || false).unwrap();
    let alone = VqganSettings {
        out: second.path().to_owned(),
        init: Some(first.path().join("vqgan")),
        decoder_only: true,
        steps: 30,
        ..plain
    };
    assert_eq!(run(&alone, || false).unwrap(), Outcome::Finished);
    let open = |dir: &Path| Weights::open(&[dir.join("vqgan/model.safetensors")]).unwrap();
    let (before, after) = (open(first.path()), open(second.path()));
    for name in before.names() {
        let learns = generator::of_decoder(name);
        assert_eq!(before.bytes(name) == after.bytes(name), !learns, "{name}");
    }
    let losses = logged(second.path(), "loss/l1");
    assert!(losses[29] < losses[0], "{losses:?}");
    assert!(VqganSettings { init: None, ..alone }.check().is_err());
}

#[test]
fn a_decoder_learns_to_draw_what_the_encoder_sees() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let plain = VqganSettings {
        disc_weight: 0.0,
        ..settings(first.path(), 12)
    };
    run(&plain, || false).unwrap();
    let encoder = first.path().join("vqgan");
    let with_features = VqganSettings {
        out: second.path().to_owned(),
        init: Some(encoder.clone()),
        decoder_only: true,
        perceptual: vec![encoder.clone()],
        perceptual_weight: 0.1,
        steps: 40,
        ..plain
    };
    assert_eq!(run(&with_features, || false).unwrap(), Outcome::Finished);
    let losses = logged(second.path(), "loss/perceptual");
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    assert!(mean(&losses[35..]) < 0.8 * mean(&losses[..5]), "{losses:?}");
    assert_eq!(logged(second.path(), "loss/clinical").len(), 40);
    // Its last map are the latents, from which the codes follow.
    let network = FeatureNetwork::open(&encoder, Kind::Float, Device::Cpu).unwrap();
    let x = discs(7, 32).tensor(32, 1, Device::Cpu);
    let seen = network.features(&x).unwrap();
    assert_eq!(seen.maps.iter().map(|m| m.size()[2]).collect::<Vec<_>>(), [32, 16, 8]);
    let task = VqganTask::new(
        &VqganSettings {
            perceptual: Vec::new(),
            ..with_features
        },
        Material::default(),
        Device::Cpu,
    )
    .unwrap();
    let latents = task.generator.network(Kind::Float).unwrap().encode(&x);
    assert!(seen.maps[2].allclose(&latents, 1e-5, 1e-5, false));
    // Two judges see what each sees.
    let both = FeatureNetwork::open_all(&[encoder.clone(), encoder], Kind::Float, Device::Cpu).unwrap();
    let (both, other) = (both.unwrap(), x.flip([3]));
    let (twice, there) = (both.features(&x).unwrap(), both.features(&other).unwrap());
    let once = network.features(&other).unwrap();
    let value = |distance: Option<Tensor>| distance.unwrap().double_value(&[]);
    assert_eq!(twice.maps.len(), 6);
    let (one, two) = (value(once.perceptual(&seen)), value(there.perceptual(&twice)));
    assert!(one > 0.0 && (two - 2.0 * one).abs() < 1e-5 * one, "{one} {two}");
    let (one, two) = (value(once.clinical(&seen)), value(there.clinical(&twice)));
    assert!(one > 0.0 && (two - one).abs() < 1e-5 * one, "{one} {two}");
}

#[test]
fn findings_can_be_read_off_the_codes_once_the_encoder_has_learned_them() {
    learns_a_finding(1.0);
}

#[test]
fn findings_are_measured_of_some_images_at_a_time_as_of_all_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let s = VqganSettings {
        findings_weight: 1.0,
        ..settings(dir.path(), 4)
    };
    let task = VqganTask::new(&s, material(&["left".to_owned()]), Device::Cpu).unwrap();
    let mut all = ImageBatch::default();
    for one in (0..4).map(labelled) {
        all.ids.extend(one.ids);
        all.levels.extend(one.levels);
        all.labels.extend(one.labels);
    }
    let parts = all.parts(3);
    assert_eq!(parts.iter().map(|part| part.ids.len()).collect::<Vec<_>>(), [3, 3, 2]);
    assert_eq!(parts.iter().flat_map(|part| &part.levels).count(), all.levels.len());
    let network = task.generator.network(Kind::Float).unwrap();
    let latents = |images: &ImageBatch| {
        let z = network.encode(&images.tensor(32, 1, Device::Cpu));
        let codes = quantize(&z, &network.code_book, 0.25).straight;
        (z, Some(codes))
    };
    let reader = findings::FindingsReader::new(crate::train::common::Labels::new(&["left".to_owned()]));
    let measure = |images: &[ImageBatch]| {
        let measured = reader.measure(&task.generator.parameters, images, &latents, Device::Cpu);
        measured.unwrap()
    };
    let whole = measure(&all.parts(8));
    assert_eq!(whole.len(), 3);
    assert_eq!(measure(&parts), whole);
}

#[test]
fn findings_are_learned_of_images_that_are_not_drawn_too() {
    learns_a_finding(0.5);
    let drawn = |draw_share, images| {
        VqganSettings {
            draw_share,
            ..VqganSettings::default()
        }
        .drawn(images)
    };
    assert_eq!(
        (drawn(1.0, 48), drawn(0.34, 48), drawn(0.01, 48), drawn(0.5, 0)),
        (48, 17, 1, 0)
    );
    for draw_share in [0.0, 1.1, f64::NAN, 0.5] {
        assert!(
            VqganSettings {
                draw_share,
                ..VqganSettings::default()
            }
            .check()
            .is_err(),
            "{draw_share}"
        );
    }
}

fn learns_a_finding(draw_share: f64) {
    let dir = tempfile::tempdir().unwrap();
    let s = VqganSettings {
        draw_share,
        steps: 120,
        findings_weight: 1.0,
        findings_first: 80,
        quantise_from: Some(10),
        disc_weight: 0.0,
        ema: 0.0,
        adam_beta1: 0.9,
        adam_beta2: 0.98,
        ..settings(dir.path(), 120)
    };
    let mut task = VqganTask::new(&s, material(&["left".to_owned()]), Device::Cpu).unwrap();
    assert_eq!(task.drive(labelled, || false).unwrap(), Outcome::Finished);
    let losses = logged(dir.path(), "loss/findings");
    assert_eq!(losses.len(), 120);
    assert_eq!(logged(dir.path(), "loss/l1").len(), 40);
    // A single batch of two may still be told wrongly.
    let median = |v: &[f64]| {
        let mut sorted = v.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted[v.len() / 2]
    };
    assert!(median(&losses[110..]) < 0.3 * median(&losses[..10]), "{losses:?}");
    // The reader stays here.
    let weights = Weights::open(&[dir.path().join("vqgan/model.safetensors")]).unwrap();
    assert_eq!(weights.names().count(), task.generator.config.expected_tensors().len());
    let without = VqganTask::new(&s, Material::default(), Device::Cpu)
        .err()
        .unwrap()
        .to_string();
    assert!(without.contains("needs data with labels"), "{without}");
}
