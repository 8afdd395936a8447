//! The classifier learns what is told of images, and nothing of what is not.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tch::{Device, Kind, Tensor};

use super::{Classifier, ClassifierSettings, train};
use crate::radiograph::{ImageFormat, Pixels, write};
use crate::train::common::{Outcome, TrainError};

const SIDE: usize = 16;

/// A manifest of images that are bright on the left or on the right; what is on the right is told of every second one.
fn data(folder: &Path) -> String {
    let mut rows = "image,split,labels\n".to_owned();
    for number in 0..48usize {
        let (left, right) = (number % 2 == 0, number % 3 == 0);
        let shade = |at: usize| match at % SIDE < SIDE / 2 {
            true => [40 + 160 * u8::from(left); 3],
            false => [50 + 150 * u8::from(right); 3],
        };
        let pixels = Pixels::new(SIDE, SIDE, (0..SIDE * SIDE).flat_map(shade).collect()).unwrap();
        let name = format!("{number}.png");
        fs::write(folder.join(&name), write(&pixels, ImageFormat::Png, &[]).unwrap()).unwrap();
        let split = if number < 36 { "train" } else { "validate" };
        let known = match number / 2 % 2 {
            0 => format!(";Right={}", u8::from(right)),
            _ => String::new(),
        };
        rows += &format!("{name},{split},Left={}{known}\n", u8::from(left));
    }
    let path = folder.join("data.csv");
    fs::write(&path, rows).unwrap();
    path.display().to_string()
}

fn settings(folder: &Path) -> ClassifierSettings {
    ClassifierSettings {
        out: folder.join("run"),
        data: vec![data(folder)],
        resolution: SIDE,
        growth: 8,
        blocks: vec![1, 1],
        steps: 60,
        batch: 12,
        rate: 5e-3,
        eval_every: 60,
        save_every: 60,
        validate_images: 12,
        workers: 1,
        ..ClassifierSettings::default()
    }
}

#[test]
fn labels_are_learned_of_the_images_that_they_are_known_of() {
    let dir = tempfile::tempdir().unwrap();
    for (stem_layers, ema) in [(1, 0.0), (2, 0.9)] {
        let s = ClassifierSettings {
            out: dir.path().join(format!("run{stem_layers}")),
            stem_layers,
            ema,
            shift: 1,
            ..settings(dir.path())
        };
        train(&s, Device::Cpu, || false).unwrap();
        let log = fs::read_to_string(s.out.join("log.jsonl")).unwrap();
        let scores = log.lines().filter_map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            line["validation/f1_micro"].as_f64()
        });
        assert_eq!(scores.collect::<Vec<f64>>().last(), Some(&1.0), "{stem_layers} layers");
        let network = Classifier::open(&s.out.join("classifier"), Kind::Float, Device::Cpu).unwrap();
        assert_eq!(network.config().labels, ["Left", "Right"]);
        // Of images of another size and number of channels too.
        let bright = Tensor::ones([1, 3, 32, 32], (Kind::Float, Device::Cpu)) * 0.55;
        let seen = Vec::<f64>::try_from(network.see(&bright).logits.view([-1]).to_kind(Kind::Double)).unwrap();
        assert!(seen.iter().all(|logit| *logit > 0.0), "{seen:?}");
    }
}

#[test]
fn images_that_cannot_be_read_are_named_once_in_the_folder_of_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let s = ClassifierSettings {
        steps: 6,
        eval_every: 6,
        ..settings(dir.path())
    };
    // One of training, which comes up in both epochs, and one of validation.
    for name in ["7.png", "40.png"] {
        fs::write(dir.path().join(name), "no image").unwrap();
    }
    fs::write(
        dir.path().join("data.csv"),
        fs::read_to_string(&s.data[0]).unwrap() + "48.png,nowhere,Left=1\n",
    )
    .unwrap();
    train(&s, Device::Cpu, || false).unwrap();
    let text = fs::read_to_string(s.out.join("skipped.jsonl")).unwrap();
    let mut told: Vec<(Value, Value)> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .inspect(|line| assert_eq!(line["data"], s.data[0].as_str(), "{line}"))
        .map(|line| (line["id"].clone(), line["reason"].clone()))
        .collect();
    told.retain(|(id, _)| !id.is_null());
    let undecodable = |id: &str| (Value::from(id), Value::from("image does not decode"));
    assert_eq!(told, [undecodable("40.png"), undecodable("7.png")]);
    // And the row of no split.
    assert_eq!(text.lines().count(), 3, "{text}");
    let log = fs::read_to_string(s.out.join("log.jsonl")).unwrap();
    assert!(log.contains("\"data/skipped\":2"), "{log}");
}

#[test]
fn a_configuration_without_stem_layers_is_one_of_a_single_one() {
    let dir = tempfile::tempdir().unwrap();
    let json = r#"{"resolution":16,"channels":1,"growth":8,"blocks":[1],"labels":["Left"]}"#;
    fs::write(dir.path().join("config.json"), json).unwrap();
    let config = super::ClassifierConfig::read(dir.path()).unwrap();
    assert_eq!(config.stem_layers, 1);
    assert!(
        config
            .expected_tensors()
            .iter()
            .all(|tensor| !tensor.name.starts_with("fine"))
    );
}

#[test]
fn labels_that_no_training_image_has_are_refused_and_blanks_around_names_do_not_count() {
    let dir = tempfile::tempdir().unwrap();
    let with = |labels: &[&str]| {
        let s = ClassifierSettings {
            labels: labels.iter().map(|&label| label.to_owned()).collect(),
            steps: 1,
            ..settings(dir.path())
        };
        train(&s, Device::Cpu, || false).map(|_| s.out)
    };
    let out = with(&["right ", " Left", ""]).unwrap();
    let network = Classifier::open(&out.join("classifier"), Kind::Float, Device::Cpu).unwrap();
    assert_eq!(network.config().labels, ["right", "Left"]);
    let unknown = with(&["Left", "Heart"]).unwrap_err().to_string();
    assert!(
        unknown.contains("`Heart`, which no training image has; known are Left, Right"),
        "{unknown}"
    );
    let twice = with(&["left", "Left "]).unwrap_err().to_string();
    assert!(twice.contains("twice"), "{twice}");
}

#[test]
fn a_run_is_not_taken_up_with_labels_of_another_meaning() {
    let dir = tempfile::tempdir().unwrap();
    let begun = ClassifierSettings {
        steps: 2,
        ..settings(dir.path())
    };
    assert_eq!(train(&begun, Device::Cpu, || false).unwrap(), Outcome::Finished);
    let table = dir.path().join("data.csv");
    let changed = |from: &str, to: &str| {
        // The settings write the table anew.
        let s = settings(dir.path());
        let rows = fs::read_to_string(&table).unwrap().replace(from, to);
        fs::write(&table, rows).unwrap();
        train(&ClassifierSettings { steps: 4, ..s }, Device::Cpu, || false)
    };
    for (from, to) in [("Right=", "Middle="), ("Left=", "Above=1;Left=")] {
        let error = changed(from, to).unwrap_err();
        assert!(matches!(&error, TrainError::OtherLabels { step: 2, .. }), "{error}");
        assert!(error.to_string().contains("data.csv"), "{error}");
    }
    // Those of before, in other letters.
    assert_eq!(changed("Right=", "right=").unwrap(), Outcome::Finished);
}

#[test]
fn data_without_a_label_that_is_known_train_no_classifier() {
    let dir = tempfile::tempdir().unwrap();
    let s = settings(dir.path());
    let bare = dir.path().join("bare.csv");
    fs::write(&bare, "image,split,labels\n0.png,train,Left=-1\n1.png,validate,Left\n").unwrap();
    let s = ClassifierSettings {
        data: vec![bare.display().to_string()],
        ..s
    };
    let error = train(&s, Device::Cpu, || false).unwrap_err().to_string();
    assert!(error.contains("no label is known of any training image"), "{error}");
    assert!(!s.out.exists());
}
