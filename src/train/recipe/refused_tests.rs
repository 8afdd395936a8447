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
