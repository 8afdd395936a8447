//! One spelling of a path.

use std::path::{Component, Path, PathBuf};

/// The path without `.` and, as far as that goes by names alone, without `..`: `./a`, `b/../a` and `a` are one.
pub fn plain_path(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        let last = out.components().next_back();
        let (inside, top) = (
            matches!(last, Some(Component::Normal(_))),
            matches!(last, Some(Component::RootDir | Component::Prefix(_))),
        );
        match part {
            Component::CurDir => {}
            Component::ParentDir if inside => drop(out.pop()),
            Component::ParentDir if top => {}
            part => out.push(part),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_to_write_a_path_become_one_and_what_lies_above_stays_above() {
        for (written, plain) in [
            ("./img/a.jpg", "img/a.jpg"),
            ("img//./a.jpg", "img/a.jpg"),
            ("img/../img/a.jpg", "img/a.jpg"),
            ("../a.jpg", "../a.jpg"),
            ("b/../../../a.jpg", "../../a.jpg"),
            ("/../data/./a.jpg", "/data/a.jpg"),
        ] {
            assert_eq!(plain_path(Path::new(written)).to_str(), Some(plain), "{written}");
        }
    }
}
