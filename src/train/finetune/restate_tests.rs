//! Runs that are taken up after their last step.

use serde_json::{Value, json};
use tch::Device;

use super::test_world::TestWorld;
use super::{FinetuneSettings, train};
use crate::model::bundle::Bundle;
use crate::train::common::Outcome;

/// A run that is done in two steps.
fn done(world: &TestWorld) -> FinetuneSettings {
    let settings = FinetuneSettings {
        steps: 2,
        eval_every: 2,
        samples: 0,
        ..world.settings("run")
    };
    assert_eq!(train(&settings, Device::Cpu, || false).unwrap(), Outcome::Finished);
    settings
}

#[test]
fn what_a_bundle_says_of_itself_follows_the_command_after_the_last_step_too() {
    let world = TestWorld::new();
    let settings = done(&world);
    let bundle = settings.out.join("bundle");
    let before = Bundle::open(&bundle).unwrap().manifest;
    assert_eq!((before.name.as_str(), before.defaults.readings), ("run", 1));
    let other = FinetuneSettings {
        name: Some("ward 3".to_owned()),
        licence: Some("CC0-1.0".to_owned()),
        warning: Some("It is small.".to_owned()),
        temperature: 0.5,
        guidance: 1.5,
        readings: 3,
        ..settings
    };
    assert_eq!(train(&other, Device::Cpu, || false).unwrap(), Outcome::Finished);
    let after = Bundle::open(&bundle).unwrap();
    after.verify(&mut |_| {}).unwrap();
    let after = after.manifest;
    assert_eq!((after.name.as_str(), after.licence.as_str()), ("ward 3", "CC0-1.0"));
    assert_eq!(after.warning.as_deref(), Some("It is small."));
    let said = (
        after.defaults.temperature,
        after.defaults.guidance,
        after.defaults.readings,
    );
    assert_eq!(said, (0.5, 1.5, 3));
    assert_eq!((after.version, after.made_from), (before.version, before.made_from));
}

#[test]
fn what_a_trained_base_says_of_its_weaknesses_and_licence_comes_with_it_unless_the_command_says_otherwise() {
    let world = TestWorld::new();
    let settings = done(&world);
    let first = FinetuneSettings {
        licence: Some("CC0-1.0".to_owned()),
        warning: Some("It is small.".to_owned()),
        ..settings.clone()
    };
    assert_eq!(train(&first, Device::Cpu, || false).unwrap(), Outcome::Finished);
    let further = |out: &str, warning: Option<&str>| {
        let further = FinetuneSettings {
            base: Some(settings.out.clone()),
            warning: warning.map(str::to_owned),
            out: world.path(out),
            ..settings.clone()
        };
        assert_eq!(train(&further, Device::Cpu, || false).unwrap(), Outcome::Finished);
        let manifest = Bundle::open(&further.out.join("bundle")).unwrap().manifest;
        assert_eq!(manifest.licence, "CC0-1.0");
        manifest.warning
    };
    assert_eq!(further("silent", None).as_deref(), Some("It is small."));
    assert_eq!(further("other", Some("It is slow.")).as_deref(), Some("It is slow."));
    assert_eq!(further("none", Some("")), None);
}

#[test]
fn a_run_whose_checkpoints_are_gone_is_not_begun_anew_over_its_bundle() {
    let world = TestWorld::new();
    let settings = done(&world);
    let version = || Bundle::open(&settings.out.join("bundle")).unwrap().manifest.version;
    let before = version();
    std::fs::remove_dir_all(settings.out.join("checkpoints")).unwrap();
    let other = FinetuneSettings {
        steps: 1,
        ..settings.clone()
    };
    let error = train(&other, Device::Cpu, || false).unwrap_err().to_string();
    assert!(
        error.contains("no checkpoint to go on from") && error.contains("another --out"),
        "{error}"
    );
    assert_eq!(version(), before);
}

#[test]
fn a_bundle_that_is_gone_is_made_again_by_the_same_command() {
    let world = TestWorld::new();
    let settings = done(&world);
    let bundle = settings.out.join("bundle");
    let before = Bundle::open(&bundle).unwrap().manifest;
    std::fs::remove_dir_all(&bundle).unwrap();
    assert_eq!(train(&settings, Device::Cpu, || false).unwrap(), Outcome::Finished);
    let after = Bundle::open(&bundle).unwrap();
    after.verify(&mut |_| {}).unwrap();
    assert_eq!(after.manifest, before);
}

#[test]
fn where_the_best_weights_were_in_a_bundle_that_is_gone_the_last_ones_are_exported_and_the_run_stays_ended() {
    let world = TestWorld::new();
    let settings = world.idle("run");
    let bundle = settings.out.join("bundle");
    let end = || {
        assert_eq!(train(&settings, Device::Cpu, || false).unwrap(), Outcome::Finished);
        let made_from = Bundle::open(&bundle).unwrap().manifest.made_from;
        (
            made_from,
            std::fs::read_to_string(settings.out.join("log.jsonl")).unwrap(),
        )
    };
    let first = end();
    assert!(first.0.contains(" 1 steps of"), "{}", first.0);
    std::fs::remove_dir_all(&bundle).unwrap();
    let again = end();
    assert!(again.0.contains(" 3 steps of"), "{}", again.0);
    // What was measured again stands in the place of what was measured before.
    let last: Value = serde_json::from_str(again.1.lines().next_back().unwrap()).unwrap();
    assert_eq!((&last["step"], &last["validation/best_step"]), (&json!(3), &json!(3.0)));
    assert_eq!(again.1.lines().count(), first.1.lines().count());
    assert_eq!(end(), again);
}

#[test]
fn a_task_without_data_and_what_is_said_twice_of_an_image_are_told() {
    let world = TestWorld::new();
    let rows = "image,split,report,question,answer
0.png,train,The heart is large.,,
0.png,train,The heart is large.,,
0.png,train,The heart is normal.,,
1.png,train,,Is the heart large?,no
2.png,train,A left effusion.,,
";
    std::fs::write(world.path("data.csv"), rows).unwrap();
    std::fs::write(world.path("text.jsonl"), "").unwrap();
    let account = world.examples(&world.settings("run"), 256).corpus.account;
    let differs = "report differs from the one that an earlier row has of this image";
    assert_eq!(
        (account.skipped(differs), account.skipped("image has no report")),
        (1, 1)
    );
    let text = account.to_string();
    assert!(text.contains("\n`text` has no training data"), "{text}");
    assert!(!text.contains("`vqa` has no training data"), "{text}");
}
