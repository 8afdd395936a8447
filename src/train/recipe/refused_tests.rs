//! Steps whose command does not go on with what it is given.

use std::fs;

use super::tests::{make, planned};
use super::*;

#[test]
fn a_step_whose_command_refuses_a_value_and_writes_nothing_is_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let folder = RunFolder::open(&dir.path().join("run")).unwrap();
    let (first, other) = (planned(&[]), planned(&["phantoms.rate=1"]));
    for number in 0..2 {
        make(&folder, &first, number, false).unwrap();
    }
    // While its command is at work nobody knows.
    folder.begin(&other, 0, false).unwrap();
    assert_eq!(folder.state(&first, 0), State::Begun);
    folder.take_back(&other, 0).unwrap();
    assert_eq!(
        (folder.state(&first, 0), folder.state(&first, 1)),
        (State::Done, State::Done)
    );
    // It writes something before it fails.
    folder.begin(&other, 0, false).unwrap();
    fs::write(folder.root().join("phantoms/new"), "half").unwrap();
    folder.take_back(&other, 0).unwrap();
    assert_eq!(folder.state(&first, 0), State::Begun);
    // Nor is what was begun taken for done.
    folder.begin(&other, 0, false).unwrap();
    folder.take_back(&other, 0).unwrap();
    assert_eq!(folder.state(&first, 0), State::Begun);
    make(&folder, &other, 0, false).unwrap();
    folder.take_back(&other, 0).unwrap();
    assert_eq!(folder.state(&other, 0), State::Done);
}

#[test]
fn what_would_stop_a_run_is_known_before_it_is_begun() {
    let dir = tempfile::tempdir().unwrap();
    let folder = RunFolder::open(&dir.path().join("run")).unwrap();
    let (first, longer, other) = (planned(&[]), planned(&["vqgan.steps=20"]), planned(&["vqgan.rate=1"]));
    let stale = |plan: &[Planned], number| folder.stale(plan, number).map(|error| error.to_string());
    for number in 0..4 {
        assert_eq!(stale(&first, number), None);
        make(&folder, &first, number, false).unwrap();
        assert_eq!(stale(&first, number), None);
    }
    // As its command leaves it.
    fs::write(folder.root().join("vqgan/run.json"), first[1].settings.to_string()).unwrap();
    // A training may go on for longer; what was made of the shorter one may not.
    assert_eq!(stale(&longer, 1), None);
    let told = stale(&longer, 3).unwrap();
    assert!(told.contains("`tune`") && told.contains("`vqgan` is another"), "{told}");
    let told = stale(&other, 1).unwrap();
    assert!(
        told.contains("`vqgan`") && told.contains("rate: ") && told.contains("--redo"),
        "{told}"
    );
    // What is made anew each time is never stale.
    assert_eq!(stale(&planned(&["tokenizer.samples=7"]), 2), None);
}

#[test]
fn a_second_redo_keeps_the_finished_result_that_an_unfinished_one_put_aside() {
    let dir = tempfile::tempdir().unwrap();
    let folder = RunFolder::open(&dir.path().join("run")).unwrap();
    let (first, other, third) = (planned(&[]), planned(&["vqgan.rate=1"]), planned(&["vqgan.rate=2"]));
    for number in 0..2 {
        make(&folder, &first, number, false).unwrap();
    }
    let (out, aside) = (folder.root().join("vqgan"), folder.root().join(".steps"));
    let finished = aside.join("vqgan.old").join(&first[1].stamp);
    // Begun again, and killed.
    folder.begin(&other, 1, true).unwrap();
    fs::create_dir(&out).unwrap();
    fs::write(out.join("half"), "made").unwrap();
    assert!(finished.exists());
    folder.begin(&third, 1, true).unwrap();
    assert!(finished.exists() && !out.exists() && !aside.join("vqgan.wreck").exists());
    // It fails at once: what was finished is back, and done.
    folder.take_back(&third, 1).unwrap();
    assert!(out.join(&first[1].stamp).exists() && !out.join("half").exists());
    assert_eq!(folder.state(&first, 1), State::Done);
    // The settings are set back to those of what was finished: it is put back, and what was begun since goes.
    folder.begin(&other, 1, true).unwrap();
    fs::create_dir(&out).unwrap();
    folder.begin(&first, 1, true).unwrap();
    assert!(out.join(&first[1].stamp).exists() && !aside.join("vqgan.old").exists());
    assert_eq!(folder.state(&first, 1), State::Done);
    // Killed as soon as the wreck was out of the way.
    folder.begin(&other, 1, true).unwrap();
    fs::create_dir(&out).unwrap();
    fs::rename(&out, aside.join("vqgan.wreck")).unwrap();
    folder.begin(&third, 1, true).unwrap();
    assert!(finished.exists());
    fs::create_dir(&out).unwrap();
    make(&folder, &third, 1, false).unwrap();
    assert_eq!(folder.state(&third, 1), State::Done);
    for name in ["vqgan.old", "vqgan.old.json", "vqgan.wreck"] {
        assert!(!aside.join(name).exists(), "{name}");
    }
}

#[test]
fn a_redo_of_what_was_never_finished_keeps_the_newer_of_two_that_were_not() {
    let dir = tempfile::tempdir().unwrap();
    let folder = RunFolder::open(&dir.path().join("run")).unwrap();
    let plans = [planned(&[]), planned(&["vqgan.rate=1"]), planned(&["vqgan.rate=2"])];
    make(&folder, &plans[0], 0, false).unwrap();
    let out = folder.root().join("vqgan");
    for (number, plan) in plans.iter().enumerate() {
        folder.begin(plan, 1, true).unwrap();
        fs::create_dir(&out).unwrap();
        fs::write(out.join(number.to_string()), "half").unwrap();
    }
    let old = folder.root().join(".steps/vqgan.old");
    assert!(old.join("1").exists() && !old.join("0").exists());
}

#[test]
fn what_is_aside_of_a_step_that_is_done_is_not_taken_for_its_result_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let folder = RunFolder::open(&dir.path().join("run")).unwrap();
    let (first, other, third) = (planned(&[]), planned(&["vqgan.rate=1"]), planned(&["vqgan.rate=2"]));
    for number in 0..2 {
        make(&folder, &first, number, false).unwrap();
    }
    let aside = |name: &str| folder.root().join(".steps").join(name);
    // Killed between the record that says that it is done and what was aside.
    folder.begin(&other, 1, true).unwrap();
    for name in ["vqgan.old", "vqgan.old.json"] {
        fs::rename(aside(name), aside(&format!("kept.{name}"))).unwrap();
    }
    make(&folder, &other, 1, true).unwrap();
    for name in ["vqgan.old", "vqgan.old.json"] {
        fs::rename(aside(&format!("kept.{name}")), aside(name)).unwrap();
    }
    // What is kept from here on is the newer of the two that were finished.
    folder.begin(&third, 1, true).unwrap();
    assert!(aside("vqgan.old").join(&other[1].stamp).exists());
    folder.take_back(&third, 1).unwrap();
    assert_eq!(folder.state(&other, 1), State::Done);
    // Killed while that was put back: its record was there again, and not yet its folder.
    folder.begin(&third, 1, true).unwrap();
    fs::copy(aside("vqgan.old.json"), aside("vqgan.json")).unwrap();
    folder.take_back(&third, 1).unwrap();
    assert_eq!(folder.state(&other, 1), State::Done);
    assert!(!aside("vqgan.old.json").exists());
}
