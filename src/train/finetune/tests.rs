use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use tch::{Device, Kind};

use super::corpus::Corpus;
use super::example::Encoder;
use super::examples::{Examples, Skill};
use super::task::FinetuneTask;
use super::*;
use crate::model::bundle::Bundle;
use crate::model::checkpoint::Weights;
use crate::radiograph::{ImageFormat, Pixels, write};
use crate::train::common::{Outcome, TrainError};
use crate::train::data::{Dataset, Stage};
use crate::train::encode::encode;
use crate::train::init::{InitOptions, init};
use crate::train::tokenizer;
use crate::vocabulary::Vocabulary;

const TEXT: &str = "The heart is normal.\nThe lungs are clear.\nNo effusion, no pneumothorax.\n\n> <image>";

/// A small token space with images of four codes.
pub(super) fn vocabulary() -> Vocabulary {
    static VOCABULARY: OnceLock<Vocabulary> = OnceLock::new();
    let make = || Vocabulary::from_bytes(&tokenizer::train(&[TEXT], 300).unwrap(), 8, 4).unwrap();
    VOCABULARY.get_or_init(make).clone()
}

/// A folder with a random bundle of a tiny shape, a manifest of images with its codes, and a file of plain instructions.
struct House(tempfile::TempDir);

const ROWS: &str = "image,split,report,question,answer
0.png,train,The heart is large.,Is the heart large?,yes
0.png,train,,Is there an effusion?,no
1.png,train,The lungs are clear.,Is the heart large?,no
2.png,train,FINDINGS: A left effusion. IMPRESSION: Effusion.,,
3.png,train,A right effusion.,,
4.png,validate,No effusion.,Is there an effusion?,no
5.png,validate,The heart is normal.,,
6.png,test,No pneumothorax.,,
7.png,train,Never encoded.,,
";

impl House {
    fn new() -> Self {
        let house = Self(tempfile::tempdir().unwrap());
        let options = InitOptions {
            vocabulary: 300,
            hidden: 16,
            layers: 1,
            heads: 2,
            context: 256,
            resolution: 8,
            multipliers: vec![1, 1],
            code_width: 4,
            codes: 16,
            ..InitOptions::demo(house.path("start"))
        };
        init(&options, &mut |_| {}).unwrap();
        for number in 0..7u8 {
            let rgb = (0..8 * 8 * 3).map(|i| (i as u8).wrapping_mul(number + 1)).collect();
            let png = write(&Pixels::new(8, 8, rgb).unwrap(), ImageFormat::Png, &[]).unwrap();
            std::fs::write(house.path(&format!("{number}.png")), png).unwrap();
        }
        std::fs::write(house.path("data.csv"), ROWS).unwrap();
        let line =
            |n: usize| format!("{{\"instruction\": \"Count to {n}.\", \"context\": \"\", \"response\": \"{n}\"}}\n");
        std::fs::write(house.path("text.jsonl"), (0..60).map(line).collect::<String>()).unwrap();
        let vqgan = house.vqgan();
        let origin = vqgan.origin().unwrap();
        let network = vqgan.load(Device::Cpu).unwrap();
        let data = Dataset::open(&house.path("data.csv")).unwrap();
        encode(&data, &network, &origin, &house.path("codes"), 4, &mut |_| {}).unwrap();
        house
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn vqgan(&self) -> base::VqganFiles {
        base::VqganFiles::find(&self.path("start")).unwrap()
    }

    fn settings(&self, run: &str) -> FinetuneSettings {
        let text = |name: &str| self.path(name).to_string_lossy().into_owned();
        FinetuneSettings {
            out: self.path(run),
            data: vec![text("data.csv")],
            codes: vec![self.path("codes")],
            text: vec![text("text.jsonl")],
            vqgan: self.path("start"),
            base: Some(self.path("start")),
            steps: 6,
            batch: 4,
            pass_tokens: 400,
            warmup: 2,
            ema: 0.5,
            eval_every: 3,
            save_every: 2,
            validate: 4,
            samples: 1,
            workers: 2,
            ..FinetuneSettings::default()
        }
    }

    fn examples(&self, settings: &FinetuneSettings, context: usize) -> Examples {
        let bundle = Bundle::open(&self.path("start")).unwrap();
        let (mut corpus, origin) = (Corpus::default(), self.vqgan().origin().unwrap());
        corpus
            .add_images(
                &settings.data[0],
                &settings.codes[0],
                &origin,
                settings.stage().unwrap(),
            )
            .unwrap();
        corpus.add_texts(&settings.text[0]).unwrap();
        Examples::new(corpus, Encoder::new(bundle.vocabulary().unwrap()), settings, context).unwrap()
    }
}

/// Ids of the images (numbers of the texts) of a skill's training pools.
fn ids(examples: &Examples, skill: Skill) -> Vec<String> {
    let pools = examples.pools.iter().filter(|p| p.skill == skill);
    pools
        .flat_map(|p| {
            p.items
                .iter()
                .map(|&i| examples.corpus.sets[p.set].images[i as usize].id.to_string())
        })
        .collect()
}

fn weights(run: &Path) -> Vec<Vec<u8>> {
    let weights = Weights::open(&[run.join("bundle/model.safetensors")]).unwrap();
    weights
        .names()
        .map(|name| weights.bytes(name).unwrap().to_vec())
        .collect()
}

#[test]
fn images_alternate_between_report_and_drawing_or_are_used_both_ways() {
    let house = House::new();
    let mut settings = house.settings("run");
    let examples = house.examples(&settings, 256);
    assert_eq!(ids(&examples, Skill::Report), ["0.png", "2.png"]);
    assert_eq!(ids(&examples, Skill::Draw), ["1.png", "3.png"]);
    assert_eq!(ids(&examples, Skill::Vqa), ["0.png", "1.png"]);
    assert_eq!(
        examples
            .corpus
            .account
            .skipped("image has no codes; `encode` makes them"),
        1
    );
    settings.pairing = Pairing::Both;
    let examples = house.examples(&settings, 256);
    assert_eq!(ids(&examples, Skill::Report), ["0.png", "1.png", "2.png", "3.png"]);
    assert_eq!(ids(&examples, Skill::Draw), ids(&examples, Skill::Report));
}

#[test]
fn stage_2_learns_the_impression_alone() {
    let house = House::new();
    let settings = FinetuneSettings {
        stage: 2,
        ..house.settings("run")
    };
    let examples = house.examples(&settings, 256);
    let report = |n: usize| examples.corpus.sets[0].images[n].report.as_deref();
    assert_eq!((report(2), report(3)), (Some("Effusion."), Some("A right effusion.")));
    assert_eq!(settings.stage().unwrap(), Stage::Two);
}

#[test]
fn examples_that_do_not_fit_the_context_are_dropped_and_counted() {
    let house = House::new();
    let text = format!(
        "{{\"instruction\": \"Go on.\", \"response\": \"{}\"}}\n{{\"instruction\": \"Stop.\", \"response\": \"Yes.\"}}\n",
        "word ".repeat(300)
    );
    std::fs::write(house.path("text.jsonl"), text).unwrap();
    let examples = house.examples(&house.settings("run"), 200);
    let account = &examples.corpus.account;
    assert_eq!(
        account.skipped("plain instruction is too long for the model's context"),
        1
    );
    assert_eq!(account.count("plain instructions"), 1);
}

#[test]
fn every_question_of_an_image_comes_up_before_one_comes_again() {
    let house = House::new();
    let settings = FinetuneSettings {
        report_weight: 0.0,
        draw_weight: 0.0,
        text_weight: 0.0,
        batch: 2,
        ..house.settings("run")
    };
    let examples = std::sync::Arc::new(house.examples(&settings, 256));
    let batches = batch::Batches::new(examples.clone(), 3, 2, 4096, 256);
    let v = examples.encoder.vocabulary();
    let asked = |step| {
        let batch = batches.step(step);
        let text = |ids: &[i64]| v.decode_text(&ids.iter().map(|&i| i as u32).collect::<Vec<_>>());
        let pass = &batch.passes[0];
        pass.ids
            .chunks(pass.length)
            .map(text)
            .filter(|t| t.contains("Is there an effusion?"))
            .count()
    };
    for round in 0..5 {
        assert_eq!(asked(2 * round) + asked(2 * round + 1), 1, "round {round}");
    }
}

#[test]
fn a_step_gives_the_same_batch_whoever_asks_and_an_epoch_holds_every_example() {
    let house = House::new();
    let settings = house.settings("run");
    let make = || {
        let examples = std::sync::Arc::new(house.examples(&settings, 256));
        batch::Batches::new(examples, settings.seed, 4, 400, 256)
    };
    let (a, b) = (make(), make());
    let forward: Vec<_> = (0..40).map(|step| a.step(step)).collect();
    let mut backward: Vec<_> = (0..40).rev().map(|step| b.step(step)).collect();
    backward.reverse();
    assert!(forward == backward);
    assert!(forward[0] != forward[1] && forward[0].names.len() == 4);
    let epoch = a.epoch().ceil() as u64;
    let seen: std::collections::HashSet<String> = (0..epoch).flat_map(|step| a.step(step).names).collect();
    // Two reports, two drawings, two images with questions, and all texts but the one that is kept for validation.
    assert_eq!(seen.len(), 2 + 2 + 2 + 59);
}

#[test]
fn a_run_that_was_stopped_ends_with_the_same_bits_and_leaves_a_whole_bundle() {
    let house = House::new();
    let whole = house.settings("whole");
    assert_eq!(train(&whole, Device::Cpu, || false).unwrap(), Outcome::Finished);
    let parted = house.settings("parted");
    for _ in 0..20 {
        let asked = AtomicU64::new(0);
        let stop = || asked.fetch_add(1, Ordering::Relaxed) == 1;
        match train(&parted, Device::Cpu, stop).unwrap() {
            Outcome::Finished => break,
            Outcome::Stopped(step) => assert_eq!(step % 2, 0),
        }
    }
    assert_eq!(weights(&whole.out), weights(&parted.out));
    let bundle = Bundle::open(&whole.out.join("bundle")).unwrap();
    bundle.verify(&mut |_| {}).unwrap();
    assert!(bundle.manifest.trained && bundle.manifest.made_from.contains("stage 1"));
    assert_eq!(bundle.vocabulary().unwrap().len(), bundle.neox.vocab_size);
    let start = Bundle::open(&house.path("start")).unwrap();
    assert_eq!(bundle.neox, start.neox);
    assert!(whole.out.join("samples/step-0000000006.png").is_file());
    let sample = std::fs::read_to_string(whole.out.join("samples/step-0000000006.txt")).unwrap();
    assert!(sample.contains("report: No effusion."), "{sample}");
    // The next stage begins with the run's folder.
    let next = FinetuneSettings {
        base: Some(whole.out.clone()),
        stage: 2,
        steps: 1,
        ..house.settings("next")
    };
    assert_eq!(train(&next, Device::Cpu, || false).unwrap(), Outcome::Finished);
}

#[test]
fn a_loss_that_is_no_number_ends_the_run_with_step_examples_and_last_checkpoint() {
    let house = House::new();
    let settings = house.settings("run");
    let (mut task, batches) = FinetuneTask::open(&settings, Device::Cpu).unwrap();
    let flat = task.learner.model.trainable().flat().shallow_clone();
    let poison = AtomicU64::new(0);
    let stop = || {
        // After the third step, when the checkpoint of the second is there.
        if poison.fetch_add(1, Ordering::Relaxed) == 2 {
            let _ = tch::no_grad(|| flat.shallow_clone().fill_(f64::NAN));
        }
        false
    };
    let error = task.run(move |step| batches.step(step), stop).unwrap_err();
    let TrainError::NotFinite {
        step, ids, last_good, ..
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!((step, ids.len(), last_good.0.unwrap().0), (3, 4, 2));
}

#[test]
fn a_base_without_codes_grows_rows_for_them_and_keeps_its_own() {
    let house = House::new();
    let start = Bundle::open(&house.path("start")).unwrap();
    let text = start.vocabulary().unwrap().text_len();
    // The language model alone, as a base that never saw an image.
    let folder = house.path("language");
    let weights = start.neox_weights().unwrap();
    let config = crate::model::neox::NeoxConfig {
        vocab_size: text,
        ..start.neox.clone()
    };
    let tensors: Vec<_> = (start.neox.expected_tensors().iter().zip(config.expected_tensors()))
        .map(|(whole, cut)| {
            use crate::model::source::TensorSource;
            let tensor = weights
                .tensor(&whole.name, &whole.shape, Kind::Float, Device::Cpu)
                .unwrap();
            let tensor = tensor.narrow(0, 0, cut.shape[0] as i64);
            (cut.name, tensor)
        })
        .collect();
    let exported = Exported {
        config: &config,
        tensors: &tensors,
        tokenizer: &std::fs::read(house.path("start/tokenizer.json")).unwrap(),
        dtype: SaveDtype::F32,
    };
    exported.folder(&folder).unwrap();
    let name = "gpt_neox.embed_in.weight";
    let rows = |init_codes| {
        let settings = FinetuneSettings {
            base: Some(folder.clone()),
            init_codes,
            ..house.settings("run")
        };
        let start = base::Start::open(&settings, &house.vqgan(), Device::Cpu).unwrap();
        assert_eq!(start.vocabulary.len(), text + 16);
        let named = start.model.named();
        let (_, tensor) = named.iter().find(|(n, _)| n == name).unwrap();
        tensor.copy()
    };
    let (random, projected) = (rows(InitCodes::Random), rows(InitCodes::Codebook));
    let (_, known) = tensors.iter().find(|(n, _)| n == name).unwrap();
    for grown in [&random, &projected] {
        assert_eq!(grown.size(), [text as i64 + 16, 16]);
        assert!(grown.narrow(0, 0, text as i64).equal(known));
        let deviation = grown.narrow(0, text as i64, 16).std(false).double_value(&[]);
        assert!((0.015..0.025).contains(&deviation), "{deviation}");
    }
    assert!(!random.equal(&projected));
}

#[test]
fn settings_that_no_run_can_have_are_refused_with_what_to_do() {
    let house = House::new();
    let good = house.settings("run");
    good.check().unwrap();
    for (wrong, says) in [
        (
            FinetuneSettings {
                codes: vec![],
                ..good.clone()
            },
            "encode",
        ),
        (
            FinetuneSettings {
                stage: 3,
                ..good.clone()
            },
            "1 or 2",
        ),
        (
            FinetuneSettings {
                base: None,
                ..good.clone()
            },
            "--tokenizer",
        ),
        (
            FinetuneSettings {
                batch: 0,
                ..good.clone()
            },
            "--batch",
        ),
        (
            FinetuneSettings {
                draw_weight: -1.0,
                ..good.clone()
            },
            "mixture",
        ),
    ] {
        let error = train(&wrong, Device::Cpu, || false).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}
