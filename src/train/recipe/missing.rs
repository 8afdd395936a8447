//! What a part of a recipe cannot be done without.

use std::ops::Range;
use std::path::Path;

use super::plan::{clean, texts};
use super::{Planned, RecipeError, RunFolder, State};
use crate::train::common::{PATHS, split_share_in};
use crate::train::data::plain_path;

/// What the steps `todo` of `plan` (by number) read that no earlier step makes and that is not there: a sentence for each. `root` is the run folder.
pub fn missing(plan: &[Planned], todo: impl IntoIterator<Item = usize>, root: &Path) -> Vec<RecipeError> {
    let mut missing = Vec::new();
    for number in todo {
        let step = &plan[number];
        let settings = step.settings.as_object().into_iter().flatten();
        for (key, value) in settings.filter(|(key, _)| PATHS.contains(&key.as_str())) {
            texts(value, &mut |text| {
                let path = Path::new(split_share_in(root, text).0);
                if path.as_os_str().is_empty() {
                    return;
                }
                let path = clean(root, path);
                let made = |earlier: &Planned| path.starts_with(&earlier.out) || earlier.out.starts_with(&path);
                // By name where the run folder is not made yet: the system finds no way through what is not there.
                let there = root.join(&path).exists() || (!root.exists() && plain_path(&root.join(&path)).exists());
                if !plan[..number].iter().any(made) && !there {
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

/// What the steps `chosen` that are `todo` need of steps that are not chosen and not done in `folder`: a sentence for each.
pub fn undone(plan: &[Planned], chosen: &Range<usize>, todo: &[usize], folder: &RunFolder) -> Vec<RecipeError> {
    let mut undone = Vec::new();
    for &number in todo {
        let left_out = plan[number].inputs.iter().filter(|input| !chosen.contains(*input));
        for &input in left_out.filter(|input| folder.state(plan, **input) != State::Done) {
            undone.push(RecipeError::InputMissing {
                step: plan[number].name.clone(),
                input: plan[input].name.clone(),
            });
        }
    }
    undone
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

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

    #[test]
    fn a_path_that_climbs_out_of_a_run_folder_that_is_not_made_yet_is_found() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("real.csv"), "image\n").unwrap();
        let root = dir.path().join("runs/new");
        let step = json!({"out": "vqgan", "data": ["../../real.csv", "../../none.csv"]});
        let plan = plan(&root, [("vqgan".to_owned(), "x".to_owned(), step, true)]);
        let told: Vec<_> = missing(&plan, 0..1, &root).iter().map(ToString::to_string).collect();
        assert!(told.len() == 1 && told[0].contains("none.csv"), "{told:?}");
    }

    #[test]
    fn what_a_part_needs_of_the_rest_and_is_not_done_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let step = |name: &str, settings: Value| (name.to_owned(), "x".to_owned(), settings, true);
        let steps = [
            step("phantoms", json!({"out": "phantoms"})),
            step("vqgan", json!({"out": "vqgan", "data": ["phantoms"]})),
        ];
        let plan = plan(dir.path(), steps);
        let folder = RunFolder::look(dir.path());
        let told = undone(&plan, &(1..2), &[1], &folder);
        assert_eq!(told.len(), 1);
        assert!(told[0].to_string().contains("`vqgan` needs `phantoms`"), "{}", told[0]);
        assert!(undone(&plan, &(0..2), &[0, 1], &folder).is_empty());
        assert!(undone(&plan, &(1..2), &[], &folder).is_empty());
    }
}
