use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use tch::Device;

use super::text::{Texts, passes};
use super::*;
use crate::train::common::{Outcome, TrainError};
use crate::train::data::SplitWatch;
use crate::train::tokenizer;
use crate::vocabulary::{TokenId, Vocabulary};

const TEXT: &str = "The heart is normal.\nThe lungs are clear.\nNo effusion, no pneumothorax.\n\n> <image>";

fn house() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
    write("tokenizer.json", &tokenizer::train(&[TEXT], 300).unwrap());
    write("a.txt", TEXT.repeat(5).as_bytes());
    let lines: String = (0..100)
        .map(|n| {
            format!("{{\"instruction\": \"Count to {n}.\", \"context\": \"\", \"response\": \"{n} is the end.\"}}\n")
        })
        .collect();
    write("b.jsonl", (lines + "{\"text\": \"Clear.\"}\nnonsense\n{}\n").as_bytes());
    dir
}

fn settings(dir: &Path, run: &str) -> PretrainSettings {
    PretrainSettings {
        out: dir.join(run),
        text: vec![dir.join("a.txt"), dir.join("b.jsonl")],
        tokenizer: dir.join("tokenizer.json"),
        hidden: 16,
        layers: 1,
        heads: 2,
        context: 64,
        length: 24,
        batch: 4,
        pass_tokens: 50,
        steps: 6,
        warmup: 2,
        ema: 0.5,
        eval_every: 3,
        save_every: 2,
        workers: 2,
        ..PretrainSettings::default()
    }
}

#[test]
fn documents_end_with_the_end_of_text_and_some_are_kept_for_measuring() {
    let dir = house();
    let bytes = std::fs::read(dir.path().join("tokenizer.json")).unwrap();
    let vocabulary = Vocabulary::from_bytes(&bytes, 1, 1).unwrap();
    let mut texts = Texts::default();
    texts
        .add(&dir.path().join("b.jsonl"), &vocabulary, &mut SplitWatch::default())
        .unwrap();
    assert_eq!(texts.account.count("documents"), 101);
    assert_eq!(texts.account.skipped("line is not a JSON object"), 1);
    assert_eq!(texts.account.skipped("neither text, report nor instruction"), 1);
    let whole = texts.training(1, 0, 1, texts.tokens());
    let ends = whole[0].iter().filter(|&&id| id == vocabulary.end_of_text()).count();
    assert_eq!(ends, 99);
    // The 50th and the 100th document.
    let held = texts.measured(1, 20);
    assert!(vocabulary.decode_text(held[0]).starts_with("Count to 49."));
}

#[test]
fn documents_of_one_patient_are_all_kept_for_measuring_or_none_is() {
    let dir = house();
    let line = |n: u32| format!("{{\"text\":\"Count on and on to {n}.\",\"Patient_ID\":{}}}\n", n / 3);
    let file = dir.path().join("c.jsonl");
    std::fs::write(&file, (0..150).map(line).collect::<String>()).unwrap();
    let bytes = std::fs::read(dir.path().join("tokenizer.json")).unwrap();
    let vocabulary = Vocabulary::from_bytes(&bytes, 1, 1).unwrap();
    let mut texts = Texts::default();
    texts.add(&file, &vocabulary, &mut SplitWatch::default()).unwrap();
    let learned = texts.training(1, 0, 1, texts.tokens());
    let ends = learned[0].iter().filter(|&&id| id == vocabulary.end_of_text()).count();
    assert_eq!((ends, texts.account.count("documents")), (147, 150));
    let held = vocabulary.decode_text(texts.measured(1, 30)[0]);
    assert!(held.starts_with("Count on and on to 147."), "{held}");
}

/// What is learned from a file of this name and text, and what is measured on, in words.
fn learned(dir: &Path, name: &str, text: &str) -> Result<(String, String, Texts), TrainError> {
    let bytes = std::fs::read(dir.join("tokenizer.json")).unwrap();
    let vocabulary = Vocabulary::from_bytes(&bytes, 1, 1).unwrap();
    std::fs::write(dir.join(name), text).unwrap();
    let mut texts = Texts::default();
    texts.add(&dir.join(name), &vocabulary, &mut SplitWatch::default())?;
    let words = |rows: Vec<&[TokenId]>| rows.iter().map(|row| vocabulary.decode_text(row)).collect::<String>();
    let train = words(texts.training(1, 0, 1, texts.tokens()));
    let validate = words(texts.measured(100, 1));
    Ok((train, validate, texts))
}

#[test]
fn splits_are_read_as_those_of_data_sets_and_what_is_for_testing_is_not_learned() {
    let dir = house();
    let line = |split: &str, text: &str| format!("{{{split}\"text\":\"{text}\"}}\n");
    let lines = [
        line("\"Split\":\"TRAIN\",", "one"),
        line("\"set\":\"Test\",", "two"),
        line("\"SPLIT\":\"val\",", "three"),
        line("\"split\":\"held out\",", "four"),
        line("", "five"),
    ];
    for name in ["c.jsonl", "c.JSONL"] {
        let (train, validate, texts) = learned(dir.path(), name, &lines.concat()).unwrap();
        for (word, trained, measured) in [
            ("one", true, false),
            ("two", false, false),
            ("three", false, true),
            ("four", false, false),
            ("five", true, false),
        ] {
            assert_eq!(
                (train.contains(word), validate.contains(word)),
                (trained, measured),
                "{word}"
            );
        }
        assert_eq!(texts.account.skipped("split is not train, validate or test"), 1);
        assert!(texts.account.to_string().contains("1 rows of c."), "{}", texts.account);
    }
}

#[test]
fn a_report_that_several_rows_or_sources_have_is_learned_once() {
    let dir = house();
    // Each report stands in two rows far from each other, as where each question has a row, and names no patient.
    let row = |n: u32| format!("{}.png,Report number {}.,Q{n}?,A.\n", n % 100, n % 100);
    let rows: String = (0..200).map(row).collect();
    let table = format!("image,report,question,answer\n{rows}");
    let (train, _, mut texts) = learned(dir.path(), "c.csv", &table).unwrap();
    assert_eq!(texts.account.count("documents"), 100);
    assert_eq!(texts.account.skipped("text was read before"), 100);
    for n in 0..100 {
        // The 50th and the 100th are kept for measuring, with their copies.
        let learned = usize::from(![49, 99].contains(&n));
        let report = format!("Report number {n}.");
        assert_eq!(train.matches(&report).count(), learned, "{report}");
    }
    // A second source with the same texts brings nothing; a text of a test row may stand elsewhere, too.
    let file = dir.path().join("d.csv");
    std::fs::write(
        &file,
        "text,split\nOnly now.,test\nOnly now.,train\nReport number 3.,train\n",
    )
    .unwrap();
    let bytes = std::fs::read(dir.path().join("tokenizer.json")).unwrap();
    let vocabulary = Vocabulary::from_bytes(&bytes, 1, 1).unwrap();
    texts.add(&file, &vocabulary, &mut SplitWatch::default()).unwrap();
    assert_eq!(texts.account.count("documents"), 101);
    assert_eq!(texts.account.skipped("text was read before"), 101);
}

#[test]
fn images_of_a_study_share_a_report_that_is_read_once() {
    let dir = house();
    let write = |name: &str, text: &str| {
        let path = dir.path().join("mimic").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write(
        "mimic-cxr-2.0.0-split.csv",
        "dicom_id,study_id,subject_id,split\na,50,10000032,train\nb,50,10000032,train\nc,51,10000032,train\n",
    );
    for (study, image) in [("s50", "a"), ("s50", "b"), ("s51", "c")] {
        write(&format!("files/p10/p10000032/{study}/{image}.jpg"), "");
        write(
            &format!("reports/files/p10/p10000032/{study}.txt"),
            &format!("IMPRESSION: {study}."),
        );
    }
    let vocabulary = Vocabulary::from_bytes(&std::fs::read(dir.path().join("tokenizer.json")).unwrap(), 1, 1).unwrap();
    let mut texts = Texts::default();
    texts
        .add(&dir.path().join("mimic"), &vocabulary, &mut SplitWatch::default())
        .unwrap();
    assert_eq!(texts.account.count("documents"), 2);
    assert_eq!(texts.account.skipped("text was read before"), 1);
}

#[test]
fn a_patient_in_two_splits_of_the_texts_is_an_error() {
    let dir = house();
    let lines = "{\"text\":\"one\",\"patient\":7,\"split\":\"train\"}\n{\"text\":\"two\",\"patient\":\"7\",\"split\":\"test\"}\n";
    let error = learned(dir.path(), "c.jsonl", lines).err().unwrap().to_string();
    assert!(error.contains("line 2 (split test)"), "{error}");
    // A table of texts is read so, too.
    let rows = "text,patient,split\none,7,train\ntwo,7,validate\n";
    assert!(learned(dir.path(), "c.csv", rows).is_err());
    let (train, ..) = learned(dir.path(), "c.csv", &rows.replace("7,v", "8,v")).unwrap();
    assert!(train.contains("one") && !train.contains("two"), "{train}");
}

#[test]
fn every_token_of_a_stretch_is_learned_and_a_step_alone_decides_the_stretches() {
    let dir = house();
    let bytes = std::fs::read(dir.path().join("tokenizer.json")).unwrap();
    let vocabulary = Vocabulary::from_bytes(&bytes, 1, 1).unwrap();
    let mut texts = Texts::default();
    texts
        .add(&dir.path().join("a.txt"), &vocabulary, &mut SplitWatch::default())
        .unwrap();
    let stretches = texts.training(7, 3, 5, 10);
    assert_eq!(stretches, texts.training(7, 3, 5, 10));
    assert_ne!(stretches, texts.training(7, 4, 5, 10));
    let batches = passes(&stretches, 20);
    assert_eq!(
        batches.iter().map(|b| (b.rows, b.length)).collect::<Vec<_>>(),
        [(2, 10), (2, 10), (1, 10)]
    );
    assert!(batches.iter().all(|b| b.ids == b.labels));
}

#[test]
fn a_run_that_was_stopped_ends_with_the_same_bits_and_leaves_a_base_for_finetune() {
    let dir = house();
    let whole = settings(dir.path(), "whole");
    assert_eq!(train(&whole, Device::Cpu, || false).unwrap(), Outcome::Finished);
    let parted = settings(dir.path(), "parted");
    for _ in 0..20 {
        let asked = AtomicU64::new(0);
        let stop = || asked.fetch_add(1, Ordering::Relaxed) == 2;
        if train(&parted, Device::Cpu, stop).unwrap() == Outcome::Finished {
            break;
        }
    }
    let read = |s: &PretrainSettings, name: &str| std::fs::read(s.out.join("model").join(name)).unwrap();
    for name in ["model.safetensors", "config.json", "tokenizer.json"] {
        assert!(read(&whole, name) == read(&parted, name), "{name}");
    }
}

#[test]
fn too_little_text_is_refused() {
    let dir = house();
    let short = PretrainSettings {
        context: 4096,
        length: 4000,
        text: vec![dir.path().join("a.txt")],
        ..settings(dir.path(), "run")
    };
    let error = train(&short, Device::Cpu, || false).unwrap_err().to_string();
    assert!(error.contains("fewer than one sequence of 4000"), "{error}");
}
