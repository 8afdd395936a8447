//! Files from outside of a run that are not there.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::plan::{clean, texts};
use super::{Planned, RecipeError};
use crate::train::common::split_share;

/// Settings of the commands that name a file or folder to be read.
const READ: &[&str] = &[
    "auroc_data",
    "base",
    "bundle",
    "classifier",
    "codes",
    "config",
    "data",
    "init",
    "perceptual",
    "questions",
    "text",
    "tokenizer",
    "vqgan",
];

/// What the steps `todo` of `plan` (by number) read that no earlier step makes and that is not there: a sentence for each. `root` is the run folder.
pub fn missing(plan: &[Planned], todo: impl IntoIterator<Item = usize>, root: &Path) -> Vec<RecipeError> {
    let mut missing = Vec::new();
    for number in todo {
        let step = &plan[number];
        let settings = step.settings.as_object().into_iter().flatten();
        for (key, value) in settings.filter(|(key, _)| READ.contains(&key.as_str())) {
            each_path(value, &mut |path| {
                let path = clean(root, path);
                let made = |earlier: &Planned| path.starts_with(&earlier.out) || earlier.out.starts_with(&path);
                if !plan[..number].iter().any(made) && !root.join(&path).exists() {
                    missing.push(RecipeError::Missing {
                        step: step.name.clone(),
                        key: key.clone(),
                        path: root.join(path),
                    });
                }
            });
        }
    }
    missing
}

fn each_path(value: &Value, each: &mut impl FnMut(&Path)) {
    texts(value, &mut |text| {
        let path = PathBuf::from(split_share(text).0);
        if !path.as_os_str().is_empty() {
            each(&path);
        }
    });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::train::recipe::plan;

    #[test]
    fn what_no_step_makes_and_is_not_there_is_named_with_its_step_and_key() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("real.csv"), "image\n").unwrap();
        let step = |name: &str, settings: Value| (name.to_owned(), "x".to_owned(), settings, true);
        let plan = plan(
            dir.path(),
            [
                step("phantoms", json!({"out": "phantoms", "data": null})),
                step(
                    "vqgan",
                    json!({"out": "vqgan", "data": ["phantoms@3", "real.csv", "none.csv@0.5"], "name": "no-file"}),
                ),
                step(
                    "tune",
                    json!({"out": "tune", "vqgan": "vqgan/vqgan", "text": ["dolly.jsonl"]}),
                ),
            ],
        );
        let told: Vec<_> = missing(&plan, 0..3, dir.path())
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(
            told[0].contains("step `vqgan`: data") && told[0].contains("none.csv"),
            "{told:?}"
        );
        assert!(
            told[1].contains("step `tune`: text") && told[1].contains("dolly.jsonl"),
            "{told:?}"
        );
        assert!(missing(&plan, 0..1, dir.path()).is_empty());
    }
}
