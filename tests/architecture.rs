//! The walls of the house: the map in `src/lib.rs` is read and held against the source.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Lines in a file of `src`; the aim is 400.
const LONGEST_FILE: usize = 450;

/// Where tensors may be named, as the map says. The binaries that measure and train count as part of these rooms.
const TENSOR_PLACES: &[&str] = &[
    "model/",
    "train/",
    "engine/torch",
    "evaluate/torch/",
    "bin/llm-cxr/bench.rs",
    "bin/llm-cxr-train/",
];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every file of `src` with its path relative to it.
fn files() -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<(String, String)>) {
        for entry in fs::read_dir(folder).expect("the folder can be read") {
            let path = entry.expect("the entry can be read").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path
                    .strip_prefix(source())
                    .expect("inside src")
                    .to_string_lossy()
                    .into_owned();
                found.push((name, fs::read_to_string(&path).expect("the file can be read")));
            }
        }
    }
    let mut found = Vec::new();
    walk(&source(), &mut found);
    found.sort();
    assert!(found.len() > 10, "the source was not found");
    found
}

/// The source without comments and blank space, so that documentation may name anything.
fn code(text: &str) -> String {
    let lines = text.lines().map(|line| {
        // "http://" in a string is no comment.
        let comment = line.match_indices("//").find(|(at, _)| !line[..*at].ends_with(':'));
        comment.map_or(line, |(at, _)| &line[..at])
    });
    lines.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
}

/// The paths below `crate` that a source names, as `room::item…`; a group names each of its members.
fn paths(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let standing_alone = code[..at]
            .chars()
            .next_back()
            .is_none_or(|c| !c.is_alphanumeric() && c != '_');
        if standing_alone {
            branches(&code[at + "crate::".len()..], "", &mut found);
        }
    }
    found
}

/// Follows one `use` tree from behind its `::`; returns how many bytes it took.
fn branches(tree: &str, before: &str, found: &mut Vec<String>) -> usize {
    if !tree.starts_with('{') {
        let end = tree
            .find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':')
            .unwrap_or(tree.len());
        let path = format!("{before}{}", &tree[..end]);
        if path.ends_with("::") && tree[end..].starts_with('{') {
            return end + branches(&tree[end..], &path, found);
        }
        found.push(path.trim_end_matches(':').to_owned());
        return end;
    }
    let mut at = 1;
    while at < tree.len() && !tree[at..].starts_with('}') {
        let rest = &tree[at..];
        if rest.starts_with(|c: char| c.is_alphabetic() || c == '_' || c == '{') {
            at += branches(rest, before, found);
            // `as name` is no path.
            if let Some(alias) = tree[at..].strip_prefix(" as ") {
                at += 4 + alias.find([',', '}']).unwrap_or(alias.len());
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    at + 1
}

/// The map's table: each room with what it may use. `None` means everything.
fn map() -> BTreeMap<String, Option<Vec<String>>> {
    let text = fs::read_to_string(source().join("lib.rs")).expect("the map can be read");
    let quoted = |cell: &str| -> Vec<String> {
        let names = cell.split('`').skip(1).step_by(2);
        names.map(|name| name.trim_end_matches('/').to_owned()).collect()
    };
    let rows = text.lines().filter_map(|line| line.strip_prefix("//! | "));
    let rooms = rows
        .map(|row| row.split('|').collect::<Vec<_>>())
        .filter(|cells| cells.len() >= 3);
    rooms
        .filter_map(|cells| {
            let room = quoted(cells[0]).into_iter().next()?;
            let everything = cells[2].trim() == "all";
            Some((room, (!everything).then(|| quoted(cells[2]))))
        })
        .collect()
}

/// The room that a file belongs to.
fn room(file: &str) -> &str {
    file.split('/').next().unwrap_or(file).trim_end_matches(".rs")
}

#[test]
fn every_room_is_on_the_map_and_every_room_of_the_map_exists() {
    let map = map();
    let mut rooms: Vec<String> = files().iter().map(|(file, _)| room(file).to_owned()).collect();
    rooms.retain(|room| room != "lib");
    rooms.sort();
    rooms.dedup();
    assert_eq!(rooms, map.into_keys().collect::<Vec<_>>());
}

#[test]
fn no_room_uses_another_that_the_map_does_not_grant_it() {
    let map = map();
    let mut broken = Vec::new();
    for (file, text) in files() {
        let Some(Some(granted)) = map.get(room(&file)) else {
            continue;
        };
        for path in paths(&code(&text)) {
            let to = path.split("::").next().unwrap_or_default();
            let allowed = |grant: &String| path == *grant || path.starts_with(&format!("{grant}::"));
            // What is no room (the notice, a macro) stands above the rooms and is everybody's.
            if map.contains_key(to) && to != room(&file) && !granted.iter().any(allowed) {
                broken.push(format!("src/{file} uses crate::{path}"));
            }
        }
    }
    assert!(
        broken.is_empty(),
        "the map in src/lib.rs does not grant this:\n{}",
        broken.join("\n")
    );
}

#[test]
fn tensors_stay_in_their_rooms() {
    let broken: Vec<String> = files()
        .into_iter()
        .filter(|(file, text)| {
            let code = code(text);
            let named = code.contains("use tch")
                || code
                    .match_indices("tch::")
                    .any(|(at, _)| at == 0 || !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'));
            named && !TENSOR_PLACES.iter().any(|place| file.starts_with(place))
        })
        .map(|(file, _)| file)
        .collect();
    assert!(
        broken.is_empty(),
        "tch is named outside of model, train, evaluate::torch and engine::torch: {broken:?}"
    );
}

#[test]
fn every_file_says_what_it_is_and_stays_small() {
    for (file, text) in files() {
        assert!(
            text.starts_with("//!") || file.ends_with("tests.rs"),
            "src/{file} does not begin with what it is (//!)"
        );
        let lines = text.lines().count();
        assert!(
            lines <= LONGEST_FILE,
            "src/{file} has {lines} lines; {LONGEST_FILE} are the most: split it by idea"
        );
    }
}

#[test]
fn the_scanner_sees_every_way_to_name_a_room() {
    let text = "
        //! [`crate::http`] in documentation is free.
        use crate::engine::{Job, scripted::{self, Reply}, Event as E};
        use crate::{model, vocabulary::Prompt};
        fn f() -> crate::service::Answer { let u = \"http://crate\"; other_crate::http::go(u) } // crate::train
    ";
    assert_eq!(
        paths(&code(text)),
        [
            "engine::Job",
            "engine::scripted::self",
            "engine::scripted::Reply",
            "engine::Event",
            "model",
            "vocabulary::Prompt",
            "service::Answer"
        ]
    );
}
