//! Whole measurements on a toy: an untrained bundle, a classifier of one step, a few phantoms.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::torch::{Given, TeacherForced};
use super::*;
use crate::model::checkpoint::Dtype;
use crate::model::device::{DtypeChoice, WeightsChoice};
use crate::phantom::{NO_FINDING, Phantom, write_dataset};
use crate::train::classifier::{ClassifierSettings, train};
use crate::train::init::{InitOptions, init, tests::tiny};

struct Quiet;

impl Progress for Quiet {
    fn begin(&self, _: &str, _: u64) {}
    fn step(&self) {}
}

/// A folder with `bundle`, `data` and `classifier`, made once.
fn toy() -> &'static Path {
    static TOY: OnceLock<tempfile::TempDir> = OnceLock::new();
    let make = || {
        let dir = tempfile::tempdir().unwrap();
        let options = InitOptions {
            layers: 2,
            context: 512,
            ..tiny(dir.path().join("bundle"))
        };
        init(&options, &mut |_| ()).unwrap();
        write_dataset(&Phantom::new(21, 64).unwrap(), 12, &dir.path().join("data"), 1, || ()).unwrap();
        let settings = ClassifierSettings {
            out: dir.path().join("classifier"),
            data: vec![dir.path().join("data").display().to_string()],
            resolution: 16,
            growth: 8,
            blocks: vec![1],
            steps: 1,
            batch: 2,
            eval_every: 1,
            save_every: 1,
            validate_images: 2,
            workers: 1,
            ..ClassifierSettings::default()
        };
        train(&settings, device::resolve(DeviceChoice::Cpu).unwrap(), || false).unwrap();
        dir
    };
    TOY.get_or_init(make).path()
}

fn settings(out: PathBuf) -> EvaluateSettings {
    EvaluateSettings {
        out,
        bundle: toy().join("bundle"),
        data: toy().join("data"),
        split: SplitChoice::All,
        samples: 2,
        threads: Some(1),
        ..EvaluateSettings::default()
    }
}

fn measure(settings: &EvaluateSettings) -> Result<Evaluation, EvaluateError> {
    evaluate(settings, DeviceChoice::Cpu, &Quiet)
}

#[test]
fn every_part_is_measured_and_the_same_command_gives_the_same_bytes() {
    let run = || {
        let dir = tempfile::tempdir().unwrap();
        let settings = EvaluateSettings {
            classifier: Some(toy().join("classifier")),
            blind: true,
            compare: Some(DtypeChoice::Bf16),
            auroc_question: Some("Is this a normal chest radiograph?".to_owned()),
            auroc_label: Some(NO_FINDING.to_owned()),
            ..settings(dir.path().join("out"))
        };
        let evaluation = measure(&settings).unwrap();
        let file = |name: &str| std::fs::read_to_string(settings.out.join(name)).unwrap();
        (
            evaluation,
            file("report.json"),
            file("report.html"),
            file("answers.jsonl"),
        )
    };
    let (evaluation, json, html, answers) = run();
    assert!(evaluation.skipped.is_empty(), "{:?}", evaluation.skipped);
    let reports = evaluation.reports.as_ref().unwrap();
    assert_eq!(reports.scores.cases, 12);
    // The labeler reads from the true reports what the phantoms' own table says.
    assert_eq!(reports.labeler.as_ref().unwrap().micro.f1, Some(1.0));
    assert!(reports.blind.is_some() && !reports.by_size.is_empty());
    assert!(evaluation.vqa.as_ref().unwrap().scores.yes_no.questions > 12);
    let drawings = evaluation.drawings.as_ref().unwrap();
    assert_eq!((drawings.cases, drawings.frechet.images), (12, (12, 12)));
    assert!(drawings.frechet.drawn_real.is_some());
    let reconstruction = evaluation.reconstruction.as_ref().unwrap();
    assert_eq!(reconstruction.all.images, 12);
    assert!(reconstruction.all.psnr > 0.0 && reconstruction.read.is_some());
    let presence = evaluation.auroc.as_ref().unwrap();
    assert_eq!(presence.positives + presence.negatives, 12);
    let perplexity = evaluation.perplexity.as_ref().unwrap();
    assert!(perplexity.own.perplexity > 1.0 && perplexity.difference.unwrap() > 0.0);
    assert_eq!(
        (
            perplexity.own.dtype.as_str(),
            perplexity.compared.as_ref().unwrap().dtype.as_str()
        ),
        ("f32", "bf16")
    );
    assert!(html.contains("<article>") && html.contains("data:image/png;base64,") && html.contains("untrained"));
    assert!(html.contains("share it only where these may be shared"));
    assert_eq!(evaluation.data.phantoms, 12);
    assert!(html.contains("The data are synthetic radiographs (phantoms)"));
    assert!(html.contains(">blind<") && !html.contains("ceiling") && !html.contains("<th scope=\"col\"></th>"));
    assert!(!json.contains(toy().to_str().unwrap()) && !html.contains(toy().to_str().unwrap()));
    assert!(answers.lines().count() > 12);
    let again = run();
    assert!(json == again.1, "report.json differs between two runs");
    assert!(html == again.2, "report.html differs between two runs");
}

#[test]
fn a_study_that_cannot_be_read_is_named_and_the_others_are_measured() {
    let dir = tempfile::tempdir().unwrap();
    let phantom = Phantom::new(22, 64).unwrap();
    let mut rows = "image,report,split\n".to_owned();
    for index in 0..3 {
        let study = phantom.study(index);
        let png = crate::radiograph::write(&study.pixels, crate::radiograph::ImageFormat::Png, &[]).unwrap();
        // The second file was half copied.
        let end = if index == 1 { png.len() / 2 } else { png.len() };
        std::fs::write(dir.path().join(format!("{index}.png")), &png[..end]).unwrap();
        rows.push_str(&format!("{index}.png,The lungs are clear.,test\n"));
    }
    rows.push_str("gone.png,No effusion.,test\n");
    std::fs::write(dir.path().join("m.csv"), rows).unwrap();
    let settings = EvaluateSettings {
        data: dir.path().join("m.csv"),
        only: vec![Part::Reports, Part::Reconstruction],
        ..settings(dir.path().join("out"))
    };
    std::fs::create_dir(&settings.out).unwrap();
    std::fs::write(settings.out.join("answers.jsonl"), "of another run").unwrap();
    let evaluation = measure(&settings).unwrap();
    assert!(settings.out.join("reports.jsonl").is_file());
    let html = std::fs::read_to_string(settings.out.join("report.html")).unwrap();
    assert!(!html.contains(">blind<"), "columns of a run that was not made");
    assert!(!html.contains("synthetic radiographs"), "nothing says that these are");
    assert!(
        !settings.out.join("answers.jsonl").exists(),
        "another run's answers are left"
    );
    assert_eq!(evaluation.reports.as_ref().unwrap().scores.cases, 2);
    assert_eq!(evaluation.reconstruction.as_ref().unwrap().all.images, 2);
    let mut named: Vec<&str> = evaluation.skipped.iter().map(|s| s.id.as_str()).collect();
    named.sort_unstable();
    assert_eq!(named, ["1.png", "1.png", "gone.png", "gone.png"]);
    assert!(evaluation.text().contains("gone.png"));
    assert!(evaluation.data.account.starts_with("4 images in the split, 4 measured"));
    assert!(evaluation.text().contains("4 images in the split, 4 measured"));
    // Nothing to ask: a measurement that was named cannot be left out in silence.
    let report = || std::fs::read_to_string(settings.out.join("report.json"));
    std::fs::remove_file(settings.out.join("report.json")).unwrap();
    let asked = |only: &[Part]| EvaluateSettings {
        only: only.to_vec(),
        ..settings.clone()
    };
    let error = measure(&asked(&[Part::Vqa])).unwrap_err().to_string();
    assert!(error.contains("no question"), "{error}");
    assert!(report().is_err());
    // A file that cannot take its place is not left beside it under another name.
    std::fs::create_dir_all(settings.out.join("report.json/full")).unwrap();
    let error = measure(&asked(&[Part::Reconstruction])).unwrap_err().to_string();
    assert!(error.contains("report.json"), "{error}");
    assert!(!settings.out.join("report.json.new").exists());
    std::fs::remove_dir_all(settings.out.join("report.json")).unwrap();
    // What was measured besides is not lost.
    let error = measure(&asked(&[Part::Vqa, Part::Reconstruction]))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("no question") && error.contains("measured before is in"),
        "{error}"
    );
    let kept = report().unwrap();
    assert!(
        kept.contains("\"incomplete\": true") && kept.contains("\"psnr\""),
        "{kept}"
    );
}

#[test]
fn a_report_that_no_measurement_can_use_is_named_once() {
    let dir = tempfile::tempdir().unwrap();
    let phantom = Phantom::new(23, 64).unwrap();
    let mut rows = "image,report,split\n".to_owned();
    for (index, report) in [
        "The lungs are clear.",
        "No effusion.",
        // Its sections are empty.
        "FINDINGS: IMPRESSION:",
    ]
    .into_iter()
    .enumerate()
    {
        let pixels = phantom.study(index as u64).pixels;
        let png = crate::radiograph::write(&pixels, crate::radiograph::ImageFormat::Png, &[]).unwrap();
        std::fs::write(dir.path().join(format!("{index}.png")), png).unwrap();
        rows.push_str(&format!("{index}.png,{report},test\n"));
    }
    std::fs::write(dir.path().join("m.csv"), rows).unwrap();
    let evaluation = measure(&EvaluateSettings {
        data: dir.path().join("m.csv"),
        only: vec![Part::Reports, Part::Perplexity],
        ..settings(dir.path().join("out"))
    })
    .unwrap();
    assert_eq!(evaluation.reports.as_ref().unwrap().scores.cases, 2);
    assert_eq!(evaluation.perplexity.as_ref().unwrap().reports, 2);
    let named: Vec<(&str, &str)> = evaluation
        .skipped
        .iter()
        .map(|s| (s.id.as_str(), s.reason.as_str()))
        .collect();
    assert_eq!(named, [("2.png", "report has no section that this stage uses")]);
}

#[test]
fn a_label_that_the_data_does_not_have_is_refused_before_anything_is_measured() {
    struct Never;
    impl Progress for Never {
        fn begin(&self, what: &str, _: u64) {
            panic!("{what} were begun");
        }
        fn step(&self) {}
    }
    let dir = tempfile::tempdir().unwrap();
    let settings = EvaluateSettings {
        auroc_question: Some("Is there a nonsense?".to_owned()),
        auroc_label: Some("Nonsense".to_owned()),
        auroc_data: Some(toy().join("data")),
        ..settings(dir.path().join("out"))
    };
    let told = |settings: &EvaluateSettings| {
        let error = evaluate(settings, DeviceChoice::Cpu, &Never).unwrap_err();
        error.to_string()
    };
    assert!(told(&settings).contains("--auroc-label needs both"));
    let gone = EvaluateSettings {
        auroc_data: Some(dir.path().join("gone")),
        ..settings
    };
    assert!(told(&gone).contains("is no data set"));
}

#[test]
fn a_reply_scores_the_same_token_by_token_and_as_part_of_the_prompt() {
    let bundle = Bundle::open(&toy().join("bundle")).unwrap();
    let vocabulary = bundle.vocabulary().unwrap();
    let on = device::resolve(DeviceChoice::Cpu).unwrap();
    let mut network = TeacherForced::open(
        &bundle,
        DtypeChoice::F32.kind(on, Dtype::F32),
        WeightsChoice::Native,
        on,
    )
    .unwrap();
    let prompt = vocabulary.encode_text("Is there a pleural effusion on the left side of this chest?");
    let reply = vocabulary.encode_text("Small left pleural effusion.");
    let other = Given {
        prompt: reply.clone(),
        reply: prompt.clone(),
    };
    let whole = Given {
        prompt: prompt.clone(),
        reply: reply.clone(),
    };
    let found = network.log_probabilities(&[whole, other]).unwrap();
    assert_eq!((found[0].len(), found[1].len()), (reply.len(), prompt.len()));
    for (at, &token) in reply.iter().enumerate() {
        let longer = Given {
            prompt: [prompt.as_slice(), &reply[..at]].concat(),
            reply: vec![token],
        };
        let alone = network.log_probabilities(&[longer]).unwrap()[0][0];
        assert!(
            (alone - found[0][at]).abs() < 1e-4,
            "{alone} and {} at {at}",
            found[0][at]
        );
    }
    let total: f64 = found[0].iter().sum();
    assert!(total < 0.0);
}
