use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use tch::{Device, Kind, Tensor};

use super::examples::{Examples, Skill};
use super::task::FinetuneTask;
use super::test_world::TestWorld;
use super::*;
use crate::model::bundle::Bundle;
use crate::model::checkpoint::{Dtype, Weights};
use crate::model::drafts::DraftTable;
use crate::train::common::store::write_tensors;
use crate::train::common::{Draw, Outcome, TrainError};
use crate::train::data::Stage;
use crate::train::language_model::{Exported, SaveDtype};
use crate::train::vqgan::VqganFiles;

/// Ids of the images (numbers of the texts) of a skill's training pools.
fn ids(examples: &Examples, skill: Skill) -> Vec<String> {
    let pools = examples.pools.iter().filter(|p| p.skill == skill);
    pools
        .flat_map(|p| {
            let set = &examples.corpus.sets[p.set];
            p.items.iter().map(|&i| set.id(&set.images[i as usize]).to_owned())
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
    let world = TestWorld::new();
    let mut settings = world.settings("run");
    let examples = world.examples(&settings, 256);
    // In turn by the checksums of their ids: 0, 2, 1, 3.
    assert_eq!(ids(&examples, Skill::Report), ["0.png", "1.png"]);
    assert_eq!(ids(&examples, Skill::Draw), ["2.png", "3.png"]);
    assert_eq!(ids(&examples, Skill::Vqa), ["0.png", "1.png"]);
    assert_eq!(
        examples
            .corpus
            .account
            .skipped("image has no codes; `encode` makes them"),
        1
    );
    settings.pairing = Pairing::Both;
    let examples = world.examples(&settings, 256);
    assert_eq!(ids(&examples, Skill::Report), ["0.png", "1.png", "2.png", "3.png"]);
    assert_eq!(ids(&examples, Skill::Draw), ids(&examples, Skill::Report));
}

#[test]
fn stage_2_learns_the_impression_alone() {
    let world = TestWorld::new();
    let settings = FinetuneSettings {
        stage: 2,
        ..world.settings("run")
    };
    let examples = world.examples(&settings, 256);
    let set = &examples.corpus.sets[0];
    let report = |n: usize| set.report(&set.images[n]);
    assert_eq!((report(2), report(3)), (Some("Effusion."), Some("A right effusion.")));
    assert_eq!(settings.stage().unwrap(), Stage::Two);
}

#[test]
fn examples_that_do_not_fit_the_context_are_dropped_and_counted() {
    let world = TestWorld::new();
    let text = format!(
        "{{\"instruction\": \"Go on.\", \"response\": \"{}\"}}\n{{\"instruction\": \"Stop.\", \"response\": \"Yes.\"}}\n",
        "word ".repeat(300)
    );
    std::fs::write(world.path("text.jsonl"), text).unwrap();
    let examples = world.examples(&world.settings("run"), 200);
    let account = &examples.corpus.account;
    assert_eq!(
        account.skipped("plain instruction is too long for the model's context"),
        1
    );
    assert_eq!(account.count("plain instructions"), 1);
}

#[test]
fn every_question_of_an_image_comes_up_before_one_comes_again() {
    let world = TestWorld::new();
    let settings = FinetuneSettings {
        report_weight: 0.0,
        draw_weight: 0.0,
        text_weight: 0.0,
        batch: 2,
        seed: 3,
        ..world.settings("run")
    };
    let examples = std::sync::Arc::new(world.examples(&settings, 256));
    let batches = batch::Batches::new(examples.clone(), &settings, 256);
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
fn a_rare_question_comes_up_more_often_where_that_is_asked_for() {
    let world = TestWorld::new();
    let settings = FinetuneSettings {
        question_power: 1.0,
        ..world.settings("run")
    };
    let examples = world.examples(&settings, 256);
    let pool = examples.pools.iter().position(|p| p.skill == Skill::Vqa).unwrap();
    let v = examples.encoder.vocabulary();
    // Of the first image two questions are known: the one is asked of two images, the other of this one alone.
    let rare = (0..300).filter(|&pass| {
        let (_, sequence) = examples.training(Draw { pool, pass, item: 0 }, pass).unwrap();
        v.decode_text(&sequence.ids).contains("Is there an effusion?")
    });
    let rare = rare.count();
    assert!((170..230).contains(&rare), "{rare} of 300");
}

#[test]
fn a_share_of_the_drawings_is_learned_without_the_report() {
    let world = TestWorld::new();
    let without = |share| {
        let settings = FinetuneSettings {
            draw_without_report: share,
            ..world.settings("run")
        };
        let examples = world.examples(&settings, 256);
        let pool = examples.pools.iter().position(|p| p.skill == Skill::Draw).unwrap();
        let v = examples.encoder.vocabulary();
        let told = |position| {
            let draw = Draw { pool, pass: 0, item: 0 };
            let (_, sequence) = examples.training(draw, position).unwrap();
            v.decode_text(&sequence.ids[..sequence.response])
                .contains("left effusion")
        };
        (0..200).filter(|&position| !told(position)).count()
    };
    assert_eq!((without(0.0), without(1.0)), (0, 200));
    assert!((40..80).contains(&without(0.3)));
}

#[test]
fn a_step_gives_the_same_batch_whoever_asks_and_an_epoch_holds_every_example() {
    let world = TestWorld::new();
    let settings = FinetuneSettings {
        batch: 4,
        pass_tokens: 400,
        ..world.settings("run")
    };
    let make = || {
        let examples = std::sync::Arc::new(world.examples(&settings, 256));
        batch::Batches::new(examples, &settings, 256)
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
    let world = TestWorld::new();
    let whole = world.settings("whole");
    assert_eq!(train(&whole, Device::Cpu, || false).unwrap(), Outcome::Finished);
    let parted = world.settings("parted");
    let mut stops = 0;
    for _ in 0..20 {
        let asked = AtomicU64::new(0);
        let stop = || asked.fetch_add(1, Ordering::Relaxed) == 1;
        match train(&parted, Device::Cpu, stop).unwrap() {
            Outcome::Finished => break,
            Outcome::Stopped(step) => assert!(step < 6),
        }
        stops += 1;
    }
    assert!((2..20).contains(&stops), "stopped {stops} times");
    assert_eq!(weights(&whole.out), weights(&parted.out));
    let bundle = Bundle::open(&whole.out.join("bundle")).unwrap();
    bundle.verify(&mut |_| {}).unwrap();
    assert!(bundle.manifest.trained && bundle.manifest.made_from.contains("stage 1"));
    assert_eq!(bundle.vocabulary().unwrap().len(), bundle.neox.vocab_size);
    let start = Bundle::open(&world.path("start")).unwrap();
    assert_eq!(bundle.neox, start.neox);
    assert!(whole.out.join("samples/step-0000000006.png").is_file());
    let sample = std::fs::read_to_string(whole.out.join("samples/step-0000000006.txt")).unwrap();
    assert!(sample.contains("report: No effusion."), "{sample}");
    // The next stage begins with the run's folder.
    let next = FinetuneSettings {
        base: Some(whole.out.clone()),
        stage: 2,
        steps: 1,
        ..world.settings("next")
    };
    assert_eq!(train(&next, Device::Cpu, || false).unwrap(), Outcome::Finished);
}

#[test]
fn a_loss_that_is_no_number_ends_the_run_with_step_examples_and_last_checkpoint() {
    let world = TestWorld::new();
    let settings = world.settings("run");
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
fn a_run_that_gets_no_better_ends_early_with_its_best_weights_and_stays_ended() {
    let world = TestWorld::new();
    let settings = world.idle("run");
    let log = || std::fs::read_to_string(settings.out.join("log.jsonl")).unwrap();
    assert_eq!(train(&settings, Device::Cpu, || false).unwrap(), Outcome::Finished);
    let (lines, first) = (log(), weights(&settings.out));
    let values: Vec<serde_json::Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let last = values.iter().rfind(|v| v["validation/loss"].is_number()).unwrap();
    let (step, best) = (
        last["step"].as_u64().unwrap(),
        last["validation/best_step"].as_f64().unwrap(),
    );
    // Two evaluations without a lower loss, and no step more.
    assert_eq!((step, best), (3, 1.0));
    let bundle = Bundle::open(&settings.out.join("bundle")).unwrap();
    assert!(
        bundle.manifest.made_from.contains("1 steps of"),
        "{}",
        bundle.manifest.made_from
    );
    assert_eq!(train(&settings, Device::Cpu, || false).unwrap(), Outcome::Finished);
    assert_eq!((log(), weights(&settings.out)), (lines, first));
}

#[test]
fn adapters_are_trained_saved_and_merged_into_the_bundle() {
    let world = TestWorld::new();
    let settings = |run: &str| FinetuneSettings {
        lora_rank: 2,
        ..world.settings(run)
    };
    let whole = settings("whole");
    assert_eq!(train(&whole, Device::Cpu, || false).unwrap(), Outcome::Finished);
    let (parted, asked) = (settings("parted"), AtomicU64::new(0));
    let stop = || asked.fetch_add(1, Ordering::Relaxed) == 2;
    assert_eq!(train(&parted, Device::Cpu, stop).unwrap(), Outcome::Stopped(3));
    assert_eq!(train(&parted, Device::Cpu, || false).unwrap(), Outcome::Finished);
    assert_eq!(weights(&whole.out), weights(&parted.out));
    let start = Bundle::open(&world.path("start")).unwrap();
    let bundle = Bundle::open(&whole.out.join("bundle")).unwrap();
    let (before, after) = (start.neox_weights().unwrap(), bundle.neox_weights().unwrap());
    for name in before.names() {
        let adapted = [".query_key_value.weight", ".dense.weight", "_4h.weight", "_to_h.weight"];
        let changes = adapted.iter().any(|end| name.ends_with(end));
        assert_eq!(before.bytes(name) != after.bytes(name), changes, "{name}");
    }
}

#[test]
fn a_base_that_was_tuned_with_other_codes_is_refused_and_one_with_another_decoder_is_not() {
    let world = TestWorld::new();
    let file = "vqgan/model.safetensors";
    let with = |name: &str| {
        let other = world.path(name);
        std::fs::create_dir_all(other.join("vqgan")).unwrap();
        std::fs::copy(world.path("start/vqgan/config.yaml"), other.join("vqgan/config.yaml")).unwrap();
        let mut tensors = Tensor::read_safetensors(world.path("start").join(file)).unwrap();
        let (_, changed) = tensors.iter_mut().find(|(tensor, _)| tensor == name).unwrap();
        *changed = &*changed + 1.0;
        write_tensors(&other.join(file), &tensors, Dtype::F32).unwrap();
        let vqgan = VqganFiles::find(&other).unwrap();
        base::Start::open(&world.settings("run"), &vqgan, Device::Cpu)
    };
    let refused = with("quantize.embedding.weight").err().expect("refused").to_string();
    assert!(refused.contains("quantize.embedding.weight differs"), "{refused}");
    assert!(with("encoder.conv_in.weight").is_err());
    assert!(with("decoder.conv_in.weight").is_ok());
}

#[test]
fn a_base_without_codes_grows_rows_for_them_and_keeps_its_own() {
    let world = TestWorld::new();
    let start = Bundle::open(&world.path("start")).unwrap();
    let text = start.vocabulary().unwrap().text_len();
    // The language model alone, as a base that never saw an image.
    let folder = world.path("language");
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
        drafts: &DraftTable::default(),
        config: &config,
        tensors: &tensors,
        tokenizer: &std::fs::read(world.path("start/tokenizer.json")).unwrap(),
        dtype: SaveDtype::F32,
    };
    exported.folder(&folder).unwrap();
    let name = "gpt_neox.embed_in.weight";
    let rows = |init_codes| {
        let settings = FinetuneSettings {
            base: Some(folder.clone()),
            init_codes: Some(init_codes),
            ..world.settings("run")
        };
        let start = base::Start::open(&settings, &world.vqgan(), Device::Cpu).unwrap();
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
    let world = TestWorld::new();
    let good = world.settings("run");
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
                base: None,
                tokenizer: Some(world.path("start/tokenizer.json")),
                lora_rank: 2,
                ..good.clone()
            },
            "--lora-rank needs --base",
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

#[test]
fn a_bundle_that_is_there_takes_a_table_of_drafts_and_stays_whole() {
    let world = TestWorld::new();
    let (folder, data) = (world.path("start"), world.settings("run").data);
    let before = Bundle::open(&folder).unwrap();
    assert!(before.drafts().unwrap().is_empty());
    for _ in 0..2 {
        let (account, guesses) = crate::train::drafts::add_drafts(&folder, &data, Stage::One).unwrap();
        let bundle = Bundle::open(&folder).unwrap();
        bundle.verify(&mut |_| {}).unwrap();
        assert_eq!(bundle.drafts().unwrap().len(), guesses, "{account}");
        assert_eq!(bundle.manifest.files.len(), before.manifest.files.len() + 1);
        assert_ne!(bundle.manifest.version, before.manifest.version);
    }
}
