use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::*;

/// Settings of a command, as the commands' own.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    out: String,
    data: Vec<String>,
    rate: f64,
    steps: u64,
    workers: u64,
    samples: u64,
}

const TEXT: &str = r#"
bundle = "tune/bundle"
[values]
real = "real"
[[step]]
command = "phantom"
id = "phantoms"
[[step]]
command = "vqgan"
data = ["phantoms@3", "{real}/real.csv"]
steps = 10
[[step]]
command = "tokenizer"
[[step]]
command = "tune"
data = ["./vqgan/vqgan", "tokenizer.json"]
out = "tune"
"#;

fn read(text: &str, sets: &[&str]) -> Result<Recipe, RecipeError> {
    let sets: Vec<String> = sets.iter().map(|s| (*s).to_owned()).collect();
    Recipe::parse(Path::new("r.toml"), text, &sets)
}

fn message(text: &str, sets: &[&str]) -> String {
    read(text, sets).unwrap_err().to_string()
}

pub(super) fn planned(sets: &[&str]) -> Vec<Planned> {
    let recipe = read(TEXT, sets).unwrap();
    let described = recipe.steps.iter().map(|step| {
        let out = if step.command == "tokenizer" {
            "tokenizer.json"
        } else {
            &step.name
        };
        let settings: Settings = step.settings(out).unwrap();
        let settings = serde_json::to_value(settings).unwrap();
        (
            step.name.clone(),
            step.command.clone(),
            settings,
            step.command != "tokenizer",
        )
    });
    plan(Path::new("/runs/this"), described)
}

#[test]
fn a_recipe_gives_steps_with_settings_and_values_filled_in() {
    let recipe = read(
        TEXT,
        &[
            "vqgan.rate=3e-4",
            "vqgan.steps=20",
            "real=/data/ours",
            "vqgan.workers=2",
        ],
    )
    .unwrap();
    assert_eq!(recipe.bundle.as_deref(), Some(Path::new("tune/bundle")));
    let settings: Settings = recipe.steps[1].settings("vqgan").unwrap();
    let expected = Settings {
        out: "vqgan".to_owned(),
        data: vec!["phantoms@3".to_owned(), "/data/ours/real.csv".to_owned()],
        rate: 3e-4,
        steps: 20,
        workers: 2,
        samples: 0,
    };
    assert_eq!(settings, expected);
    assert_eq!(
        (recipe.find("tune").unwrap(), recipe.steps[0].name.as_str()),
        (3, "phantoms")
    );
    assert!(
        recipe
            .find("x")
            .unwrap_err()
            .to_string()
            .contains("phantoms, vqgan, tokenizer, tune")
    );
}

#[test]
fn a_value_is_read_as_toml_and_else_as_a_text() {
    let recipe = read(TEXT, &["vqgan.data=[\"a\", \"b\"]", "vqgan.out=some where"]).unwrap();
    let settings: Settings = recipe.steps[1].settings("vqgan").unwrap();
    assert_eq!(
        (settings.data, settings.out.as_str()),
        (vec!["a".to_owned(), "b".to_owned()], "some where")
    );
}

#[test]
fn mistakes_are_named_with_their_step_and_key() {
    let wrong = |text: &str| {
        let recipe = read(text, &[]).unwrap();
        recipe.steps[0].settings::<Settings>("x").unwrap_err().to_string()
    };
    let unknown = wrong("[[step]]\ncommand = 'vqgan'\nid = 'first'\nstpes = 3\n");
    assert!(
        unknown.contains("step `first`") && unknown.contains("`stpes`"),
        "{unknown}"
    );
    let kind = wrong("[[step]]\ncommand = 'vqgan'\nsteps = 'many'\n");
    assert!(
        kind.contains("step `vqgan`") && kind.contains("steps") && kind.contains("many"),
        "{kind}"
    );
    for (text, part) in [
        ("[[step]]\nid = 'a'\n", "step `a`: it has no `command`"),
        (
            "[[step]]\ncommand = 3\n",
            "step `number 1`: `command` is of type integer",
        ),
        ("[[step]]\ncommand = '../a'\n", "letters, digits"),
        ("[[step]]\ncommand = 'a'\nid = 'bundle'\n", "is not `bundle`"),
        (
            "[[step]]\ncommand = 'a'\n[[step]]\ncommand = 'a'\n",
            "another step has this name",
        ),
        ("[[step]\ncommand", "line 1"),
        ("[[stop]]\ncommand = 'a'\n", "stop"),
        ("bundle = 'x'\n", "no [[step]]"),
        ("values.a = 1\n[[step]]\ncommand = 'a'\n", "a of [values] is no text"),
    ] {
        let error = message(text, &[]);
        assert!(error.contains(part), "{error}");
    }
    for (set, part) in [
        ("nothing", "NAME=VALUE"),
        ("mimic=x", "[values] are real"),
        ("x.steps=1", "the steps are phantoms, vqgan, tokenizer, tune"),
        ("vqgan.command=x", "cannot be set"),
    ] {
        let error = message(TEXT, &[set]);
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_path_leads_into_a_step_however_it_is_written_and_so_does_a_folder_that_holds_one() {
    let step = |name: &str, out: &str, data: &str| {
        let settings = serde_json::json!({"out": out, "data": [data]});
        (name.to_owned(), "x".to_owned(), settings, true)
    };
    for (data, input) in [
        ("data/ph", true),
        ("./data/../data/ph@0.5", true),
        ("/runs/this/data/ph/files", true),
        ("data", true),
        ("data/other", false),
        ("../data/ph", false),
        ("/elsewhere/data/ph", false),
    ] {
        let plan = plan(
            Path::new("/runs/this"),
            [step("ph", "data/ph", ""), step("v", "v", data)],
        );
        assert_eq!(plan[1].inputs, if input { vec![0] } else { vec![] }, "{data}");
    }
}

#[test]
fn a_step_has_as_inputs_the_earlier_steps_that_its_paths_lead_into() {
    let plan = planned(&[]);
    let inputs: Vec<_> = plan.iter().map(|step| step.inputs.clone()).collect();
    assert_eq!(inputs, [vec![], vec![0], vec![], vec![1, 2]]);
}

#[test]
fn a_change_shows_in_the_stamps_of_all_that_follows_from_it_and_in_no_other() {
    let changed = |set: &str| -> Vec<bool> {
        let (before, after) = (planned(&[]), planned(&[set]));
        before.iter().zip(&after).map(|(a, b)| a.stamp != b.stamp).collect()
    };
    assert_eq!(changed("phantoms.steps=3"), [true, true, false, true]);
    assert_eq!(changed("vqgan.rate=1"), [false, true, false, true]);
    // How many threads did the work does not matter.
    assert_eq!(changed("vqgan.workers=7"), [false; 4]);
    // Nor what a training shows meanwhile; what is done anew is done as it is asked for.
    assert_eq!(changed("vqgan.samples=7"), [false; 4]);
    assert_eq!(changed("tokenizer.samples=7"), [false, false, true, true]);
    assert_eq!(changed("vqgan.steps=7"), [false, true, false, true]);
}

/// Makes what a step would make, and writes it down.
pub(super) fn make(folder: &RunFolder, plan: &[Planned], number: usize, redo: bool) -> Result<(), RecipeError> {
    folder.begin(plan, number, redo)?;
    let out = folder.root().join(&plan[number].out);
    if out.extension().is_some() {
        fs::write(out, "made").unwrap();
    } else {
        let exported = out.join("vqgan");
        fs::create_dir_all(&exported).unwrap();
        fs::write(exported.join("model.safetensors"), "made").unwrap();
        fs::write(out.join(&plan[number].stamp), "made").unwrap();
    }
    folder.finish(plan, number)
}

#[test]
fn steps_are_done_once_and_again_only_if_something_changed_or_was_removed() {
    let dir = tempfile::tempdir().unwrap();
    let folder = RunFolder::open(&dir.path().join("run")).unwrap();
    let first = planned(&[]);
    assert!(matches!(
        make(&folder, &first, 1, false),
        Err(RecipeError::InputMissing { .. })
    ));
    for number in 0..4 {
        assert_eq!(folder.state(&first, number), State::ToDo);
        make(&folder, &first, number, false).unwrap();
        assert_eq!(folder.state(&first, number), State::Done);
    }
    // More steps of a training: its command goes on. What follows from it was made from something else.
    let more = planned(&["vqgan.steps=20"]);
    assert_eq!(
        folder.state(&more, 1),
        State::OtherSettings(vec!["steps: 10 → 20".to_owned()])
    );
    make(&folder, &more, 1, false).unwrap();
    assert!(folder.root().join("vqgan").join(&first[1].stamp).exists());
    assert_eq!(
        folder.state(&more, 3),
        State::OtherInputs(vec!["`vqgan` is another".to_owned()])
    );
    let error = make(&folder, &more, 3, false).unwrap_err().to_string();
    assert!(error.contains("`tune`") && error.contains("--redo"), "{error}");
    make(&folder, &more, 3, true).unwrap();
    assert!(!folder.root().join("tune").join(&first[3].stamp).exists());
    assert_eq!(folder.state(&more, 3), State::Done);
    fs::remove_dir_all(folder.root().join("tune")).unwrap();
    assert_eq!(folder.state(&more, 3), State::ToDo);
    folder.begin(&more, 3, false).unwrap();
    fs::create_dir(folder.root().join("tune")).unwrap();
    assert_eq!(folder.state(&more, 3), State::Begun);
}

#[test]
fn a_training_whose_export_is_gone_is_not_done() {
    let dir = tempfile::tempdir().unwrap();
    let folder = RunFolder::open(&dir.path().join("run")).unwrap();
    let plan = planned(&[]);
    for number in 0..4 {
        make(&folder, &plan, number, false).unwrap();
    }
    let exported = |step: &str| folder.root().join(step).join("vqgan");
    fs::remove_dir_all(exported("vqgan")).unwrap();
    assert_eq!(folder.state(&plan, 1), State::Begun);
    // What a command leaves that is no training is its own affair.
    fs::remove_dir_all(exported("phantoms")).unwrap();
    assert_eq!(folder.state(&plan, 0), State::Done);
    make(&folder, &plan, 1, false).unwrap();
    assert_eq!(folder.state(&plan, 1), State::Done);
}

#[test]
fn settings_that_a_command_refuses_leave_a_step_done() {
    let dir = tempfile::tempdir().unwrap();
    let folder = RunFolder::open(&dir.path().join("run")).unwrap();
    let first = planned(&[]);
    for number in 0..2 {
        make(&folder, &first, number, false).unwrap();
    }
    // As its command leaves it.
    let run = folder.root().join("vqgan/run.json");
    fs::write(run, first[1].settings.to_string()).unwrap();
    let (refused, longer) = (planned(&["vqgan.rate=1"]), planned(&["vqgan.steps=20"]));
    folder.begin(&refused, 1, false).unwrap();
    assert!(matches!(folder.state(&refused, 1), State::OtherSettings(_)));
    assert_eq!(folder.state(&first, 1), State::Done);
    // With these it goes on, and what it left is not what it was.
    folder.begin(&longer, 1, false).unwrap();
    assert_eq!(folder.state(&first, 1), State::Begun);
}

#[test]
fn a_step_whose_command_refused_other_settings_is_still_done_again_on_demand() {
    let dir = tempfile::tempdir().unwrap();
    let folder = RunFolder::open(&dir.path().join("run")).unwrap();
    let (first, other) = (planned(&[]), planned(&["vqgan.rate=1"]));
    for number in 0..4 {
        make(&folder, &first, number, false).unwrap();
    }
    let left = folder.root().join("vqgan").join(&first[1].stamp);
    // Twice the command is asked to go on, and refuses: it never finishes.
    for _ in 0..2 {
        folder.begin(&other, 1, false).unwrap();
        assert!(matches!(folder.state(&other, 1), State::OtherSettings(_)));
    }
    assert!(left.exists());
    // With the old settings it would go on.
    assert_eq!(folder.state(&first, 1), State::Begun);
    folder.begin(&other, 1, true).unwrap();
    assert!(!left.exists());
    make(&folder, &other, 1, false).unwrap();
    assert_eq!(folder.state(&other, 1), State::Done);
}

#[test]
fn what_a_step_left_is_thrown_away_when_it_is_done_again_not_before() {
    let dir = tempfile::tempdir().unwrap();
    let folder = RunFolder::open(&dir.path().join("run")).unwrap();
    let (first, other) = (planned(&[]), planned(&["vqgan.rate=1"]));
    for number in 0..2 {
        make(&folder, &first, number, false).unwrap();
    }
    let left = folder.root().join("vqgan").join(&first[1].stamp);
    // The command refuses its settings at once.
    folder.begin(&other, 1, true).unwrap();
    assert!(!left.exists());
    folder.take_back(&other, 1).unwrap();
    assert!(left.exists());
    assert_eq!(folder.state(&first, 1), State::Done);
    // The command leaves something before it fails: that is gone on with.
    folder.begin(&other, 1, true).unwrap();
    fs::create_dir(folder.root().join("vqgan")).unwrap();
    folder.take_back(&other, 1).unwrap();
    assert_eq!((left.exists(), folder.state(&other, 1)), (false, State::Begun));
    make(&folder, &other, 1, false).unwrap();
    assert!(!folder.root().join(".steps/vqgan.old").exists());
    // What a training may go on with needs nothing to be thrown away.
    let longer = planned(&["vqgan.rate=1", "vqgan.steps=20"]);
    let kept = folder.root().join("vqgan").join(&other[1].stamp);
    make(&folder, &longer, 1, true).unwrap();
    assert!(kept.exists());
}

#[test]
fn a_run_that_its_command_does_not_go_on_with_is_put_aside_on_demand() {
    let dir = tempfile::tempdir().unwrap();
    let folder = RunFolder::open(&dir.path().join("run")).unwrap();
    let (first, shorter, other) = (planned(&[]), planned(&["vqgan.steps=5"]), planned(&["vqgan.rate=1"]));
    for number in 0..2 {
        make(&folder, &first, number, false).unwrap();
    }
    let (out, record) = (folder.root().join("vqgan"), folder.root().join(".steps/vqgan.json"));
    let left = out.join(&first[1].stamp);
    // As its command leaves it.
    fs::create_dir_all(out.join("checkpoints/step-0000000010")).unwrap();
    fs::write(out.join("run.json"), first[1].settings.to_string()).unwrap();
    // It has made more steps than are asked for.
    folder.begin(&shorter, 1, false).unwrap();
    assert!(left.exists());
    folder.begin(&shorter, 1, true).unwrap();
    assert!(!left.exists());
    folder.take_back(&shorter, 1).unwrap();
    assert!(left.exists());
    // Without a record it is gone on with if its settings are the same ones.
    fs::remove_file(&record).unwrap();
    folder.begin(&first, 1, true).unwrap();
    assert!(left.exists());
    // With others it is not, whether the command has refused them before or not.
    for tried in [true, false] {
        fs::remove_file(&record).unwrap();
        if tried {
            folder.begin(&other, 1, false).unwrap();
            assert_eq!((left.exists(), folder.state(&other, 1)), (true, State::Begun));
        }
        folder.begin(&other, 1, true).unwrap();
        assert!(!left.exists());
        folder.take_back(&other, 1).unwrap();
        assert!(left.exists());
    }
    assert_eq!(folder.state(&first, 1), State::ToDo);
}

#[test]
fn what_a_bundle_says_of_itself_shows_in_its_step() {
    let plan = |name: &str| {
        let settings = serde_json::json!({"out": "tune", "name": name, "samples": 1});
        plan(
            Path::new("/runs/this"),
            [("tune".to_owned(), "finetune".to_owned(), settings, true)],
        )
    };
    assert_ne!(plan("a")[0].stamp, plan("b")[0].stamp);
    assert_eq!(plan("a")[0].stamp, plan("a")[0].stamp);
}

#[test]
fn nothing_outside_of_the_run_folder_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let folder = RunFolder::open(&dir.path().join("run")).unwrap();
    let out = format!("tune.out={}", dir.path().join("elsewhere").display());
    for number in 0..4 {
        make(&folder, &planned(&[&out]), number, false).unwrap();
    }
    let changed = planned(&[&out, "vqgan.rate=1"]);
    make(&folder, &changed, 1, true).unwrap();
    assert!(matches!(
        make(&folder, &changed, 3, true),
        Err(RecipeError::Outside { .. })
    ));
    assert!(dir.path().join("elsewhere").is_dir());
}

#[test]
fn two_processes_do_not_work_in_one_folder() {
    let dir = tempfile::tempdir().unwrap();
    let held = RunFolder::open(dir.path()).unwrap();
    assert!(matches!(RunFolder::open(dir.path()), Err(RecipeError::Busy(_))));
    drop(held);
    RunFolder::open(dir.path()).unwrap();
}

#[test]
fn the_bundle_is_published_whole_and_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let folder = RunFolder::open(dir.path()).unwrap();
    let source = dir.path().join("tune/bundle");
    assert!(matches!(
        folder.publish(Path::new("tune/bundle")),
        Err(RecipeError::NoBundle(_))
    ));
    fs::create_dir_all(source.join("vqgan")).unwrap();
    for text in ["one", "two"] {
        // As a bundle is replaced: by new files.
        for name in ["bundle.json", "vqgan/config.yaml"] {
            let _ = fs::remove_file(source.join(name));
            fs::write(source.join(name), text).unwrap();
        }
        let bundle = folder.publish(Path::new("tune/bundle")).unwrap();
        assert_eq!(fs::read_to_string(bundle.join("vqgan/config.yaml")).unwrap(), text);
        assert_eq!(fs::read_to_string(bundle.join("bundle.json")).unwrap(), text);
    }
}
