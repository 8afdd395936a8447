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
