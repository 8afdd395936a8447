//! Runs that are taken up when their base, their data or the meaning of ids has changed.

use std::sync::atomic::{AtomicU64, Ordering};

use tch::{Device, Tensor};

use super::test_world::TestWorld;
use super::{FinetuneSettings, train};
use crate::model::bundle::{CONFIG, TOKENIZER, VQGAN_CONFIG, VQGAN_WEIGHTS, WEIGHTS};
use crate::model::checkpoint::Dtype;
use crate::train::common::checkpoint::Checkpoints;
use crate::train::common::store::replace_tensors;
use crate::train::common::{Outcome, TrainError};

/// A run that is stopped after three of its six steps.
fn cut(settings: &FinetuneSettings) {
    let asked = AtomicU64::new(0);
    let stop = || asked.fetch_add(1, Ordering::Relaxed) == 2;
    assert_eq!(train(settings, Device::Cpu, stop).unwrap(), Outcome::Stopped(3));
}

fn finish(settings: &FinetuneSettings) -> Result<Outcome, TrainError> {
    train(settings, Device::Cpu, || false)
}

#[test]
fn adapters_to_a_base_that_was_trained_further_are_refused_and_a_run_that_holds_all_weights_goes_on() {
    let world = TestWorld::new();
    let base = world.path("base");
    std::fs::create_dir(&base).unwrap();
    // Without a manifest, as a run leaves it.
    for name in [CONFIG, TOKENIZER, WEIGHTS] {
        std::fs::copy(world.path("start").join(name), base.join(name)).unwrap();
    }
    let settings = |run: &str, lora_rank| FinetuneSettings {
        base: Some(base.clone()),
        lora_rank,
        samples: 0,
        ..world.settings(run)
    };
    let (adapters, whole) = (settings("adapters", 2), settings("whole", 0));
    cut(&adapters);
    cut(&whole);
    let weights = base.join(WEIGHTS);
    let before = std::fs::read(&weights).unwrap();
    let mut tensors = Tensor::read_safetensors(&weights).unwrap();
    let (_, first) = tensors.first_mut().unwrap();
    *first = &*first + 1.0;
    replace_tensors(&weights, &tensors, Dtype::F32).unwrap();
    let error = finish(&adapters).unwrap_err();
    assert!(matches!(&error, TrainError::OtherBase { step: 3, .. }), "{error}");
    assert!(error.to_string().contains("base"), "{error}");
    assert_eq!(finish(&whole).unwrap(), Outcome::Finished);
    // With the base of before the adapters are learned to the end.
    std::fs::write(&weights, before).unwrap();
    assert_eq!(finish(&adapters).unwrap(), Outcome::Finished);
}

#[test]
fn another_tokenizer_and_other_codes_are_refused_and_another_decoder_is_not() {
    let world = TestWorld::new();
    let (base, vqgan) = (world.path("base"), world.path("other"));
    std::fs::create_dir(&base).unwrap();
    std::fs::create_dir_all(vqgan.join("vqgan")).unwrap();
    // Both without a manifest.
    for (folder, name) in [
        (&base, CONFIG),
        (&base, TOKENIZER),
        (&base, WEIGHTS),
        (&vqgan, VQGAN_CONFIG),
        (&vqgan, VQGAN_WEIGHTS),
    ] {
        std::fs::copy(world.path("start").join(name), folder.join(name)).unwrap();
    }
    // Of texts alone: codes of images tell by themselves which VQ-GAN has made them.
    let settings = FinetuneSettings {
        base: Some(base.clone()),
        vqgan: vqgan.clone(),
        data: Vec::new(),
        codes: Vec::new(),
        samples: 0,
        ..world.settings("run")
    };
    cut(&settings);
    let tokenizer = base.join(TOKENIZER);
    let before = std::fs::read(&tokenizer).unwrap();
    std::fs::write(&tokenizer, [&before[..], b"\n"].concat()).unwrap();
    let error = finish(&settings).unwrap_err();
    assert!(matches!(&error, TrainError::OtherIds { step: 3, .. }), "{error}");
    assert!(
        error.to_string().contains("tokenizer.json is another tokenizer"),
        "{error}"
    );
    std::fs::write(&tokenizer, before).unwrap();
    let weights = vqgan.join(VQGAN_WEIGHTS);
    let before = std::fs::read(&weights).unwrap();
    let change = |name: &str| {
        let mut tensors = Tensor::read_safetensors(&weights).unwrap();
        let (_, changed) = tensors.iter_mut().find(|(tensor, _)| tensor == name).unwrap();
        *changed = &*changed + 1.0;
        replace_tensors(&weights, &tensors, Dtype::F32).unwrap();
    };
    for name in [
        "encoder.conv_in.weight",
        "quantize.embedding.weight",
        "quant_conv.weight",
    ] {
        change(name);
        let error = finish(&settings).unwrap_err();
        assert!(
            matches!(&error, TrainError::OtherIds { step: 3, .. }),
            "{name}: {error}"
        );
        assert!(error.to_string().contains("is another VQ-GAN"), "{error}");
        std::fs::write(&weights, &before).unwrap();
    }
    change("decoder.conv_in.weight");
    assert_eq!(finish(&settings).unwrap(), Outcome::Finished);
}

#[test]
fn a_checkpoint_knows_its_data_and_a_run_goes_on_with_others() {
    let world = TestWorld::new();
    let settings = FinetuneSettings {
        samples: 0,
        ..world.settings("run")
    };
    cut(&settings);
    let sum = || world.examples(&settings, 256).checksum();
    let kept = || {
        let newest = Checkpoints::new(settings.out.join("checkpoints"), 2).newest();
        newest.unwrap().0.unwrap().state["data"].as_str().unwrap().to_owned()
    };
    let before = sum();
    assert_eq!([sum(), kept()], [before.clone(), before.clone()]);
    let table = world.path("data.csv");
    let rows = std::fs::read_to_string(&table).unwrap();
    let rows: String = (rows.lines())
        .filter(|row| !row.starts_with("3.png"))
        .map(|row| format!("{row}\n"))
        .collect();
    std::fs::write(&table, rows).unwrap();
    assert_ne!(sum(), before);
    assert_eq!(finish(&settings).unwrap(), Outcome::Finished);
    assert_eq!(kept(), sum());
}

#[test]
fn texts_that_were_written_anew_under_their_old_names_are_noticed() {
    let world = TestWorld::new();
    let settings = FinetuneSettings {
        samples: 0,
        ..world.settings("run")
    };
    cut(&settings);
    let sums = || {
        let examples = world.examples(&settings, 256);
        [examples.checksum(), examples.contents()]
    };
    let kept = || {
        let newest = Checkpoints::new(settings.out.join("checkpoints"), 2).newest();
        let state = newest.unwrap().0.unwrap().state;
        ["data", "contents"].map(|key| state[key].as_str().unwrap().to_owned())
    };
    let before = sums();
    assert_eq!(kept(), before);
    for (file, from, to) in [
        ("data.csv", "A right effusion.", "A small right effusion."),
        ("data.csv", "Is the heart large?,yes", "Is the heart large?,no"),
        ("text.jsonl", "Count to 7.", "Count up to 7."),
    ] {
        let path = world.path(file);
        let whole = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, whole.replace(from, to)).unwrap();
        let [names, contents] = sums();
        assert_eq!(names, before[0], "{from}");
        assert_ne!(contents, before[1], "{from}");
        std::fs::write(&path, whole).unwrap();
    }
    assert_eq!(sums(), before);
    let path = world.path("text.jsonl");
    let whole = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, whole.replace("Count to", "Count up to")).unwrap();
    assert_eq!(finish(&settings).unwrap(), Outcome::Finished);
    assert_eq!(kept(), sums());
}
