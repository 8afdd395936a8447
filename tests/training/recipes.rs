//! Recipes: those that are kept here, and what `run` does.

use std::fs;
use std::path::Path;

use crate::house::{Running, checkpoints, fail, succeed, texts, trainer, wait_for};

const SMALL: &str = r#"
[values]
images = "phantoms"

[[step]]
command = "phantom"
id = "phantoms"
studies = 12
size = 64

[[step]]
command = "tokenizer"
data = ["phantoms"]
vocabulary = 300

[[step]]
command = "vqgan"
data = ["phantoms"]
resolution = 32
ch_mult = [1, 1]
embed_dim = 8
codes = 16
batch = 2
steps = 4
disc_start = 2
disc_width = 8
disc_layers = 1
quantise_from = 1
validate_images = 2

[[step]]
command = "encode"
data = "{images}"
vqgan = "vqgan"
"#;

fn write(folder: &Path, text: &str) {
    fs::write(folder.join("small.toml"), text).expect("the recipe is written");
}

/// The codes of each record of a file of them, without the times of the images' files.
fn codes_in(path: &Path) -> Vec<Vec<u8>> {
    let bytes = fs::read(path).expect("codes");
    let (header, records) = bytes.split_at(48);
    let number = usize::from(u16::from_le_bytes([header[40], header[41]]));
    let (before, codes) = (16 + 24 + 16, 2 * number);
    let record = |record: &[u8]| record[before..before + codes].to_vec();
    records.chunks_exact(before + codes + 4).map(record).collect()
}

#[test]
fn a_recipe_is_followed_once_and_gone_on_with() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let folder = dir.path();
    write(folder, SMALL);
    let (dry, _) = succeed(folder, &["run", "small.toml", "--dry-run"]);
    assert_eq!(dry.matches("to do").count(), 4, "{dry}");
    assert!(!folder.join("runs").exists(), "a dry run did something");

    let run = ["run", "small.toml", "--device", "cpu"];
    let (_, err) = succeed(folder, &run);
    for place in [
        "step 1 of 4: phantoms (phantom)",
        "step 3 of 4: vqgan (vqgan)",
        "step 4 of 4: encode",
    ] {
        assert!(err.contains(place), "{err}");
    }
    let codes = folder.join("runs/small/encode.codes");
    let made = codes_in(&codes);
    assert_eq!(made.len(), 12);
    let (_, err) = succeed(folder, &run);
    assert_eq!(err.matches(" is done").count(), 4, "{err}");

    // What somebody removed is done again, and nothing else is.
    fs::remove_file(&codes).expect("the file is there");
    let (_, err) = succeed(folder, &run);
    assert_eq!(err.matches(" is done").count(), 3, "{err}");
    assert!(codes_in(&codes) == made, "the same images gave other codes");

    // A longer training goes on; the codes of the shorter one are not silently kept.
    let longer = [&run[..], &["--set", "vqgan.steps=6"]].concat();
    let dry = [&longer[..], &["--dry-run"]].concat();
    let (ok, out, _) = texts(trainer(folder, &dry).output().expect("the trainer starts"));
    assert!(!ok && out.contains("step `encode`") && out.contains("--redo"), "{out}");
    assert!(!out.contains("step `vqgan`"), "{out}");
    succeed(folder, &[&dry[..], &["--redo"]].concat());
    let error = fail(folder, &longer);
    assert!(
        error.contains("step 3 of 4: vqgan (vqgan): other settings (steps: 4 → 6)"),
        "{error}"
    );
    assert!(error.contains("goes on after step 4"), "{error}");
    assert!(error.contains("step `encode`") && error.contains("--redo"), "{error}");
    succeed(folder, &[&longer[..], &["--redo"]].concat());
    assert!(codes_in(&codes) != made, "the codes are those of the other VQ-GAN");
}

#[test]
fn steps_beside_one_another_make_what_they_make_one_after_the_other() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let folder = dir.path();
    write(folder, SMALL);
    let run = |out: &str, more: &[&str]| {
        succeed(
            folder,
            &[&["run", "small.toml", "--device", "cpu", "--out", out], more].concat(),
        )
    };
    run("plain", &[]);
    let (_, err) = run("beside", &["--parallel", "3"]);
    // What nothing is read of by the other is begun before the other has ended.
    let at = |text: &str| err.find(text).unwrap_or_else(|| panic!("{text} in {err}"));
    assert!(
        at("step 3 of 4: vqgan (vqgan): to do") < at("step 2 of 4: tokenizer is done"),
        "{err}"
    );
    assert!(
        at("step 3 of 4: vqgan is done") < at("step 4 of 4: encode (encode)"),
        "{err}"
    );
    for file in ["tokenizer.json", "vqgan/vqgan/model.safetensors"] {
        let made = |out: &str| fs::read(folder.join(out).join(file)).expect("it was made");
        assert!(made("plain") == made("beside"), "{file} is another");
    }
    assert!(codes_in(&folder.join("plain/encode.codes")) == codes_in(&folder.join("beside/encode.codes")));
    let messages = fs::read_to_string(folder.join("beside/.steps/vqgan.log")).expect("the messages");
    assert!(messages.contains("is ready for a bundle"), "{messages}");
    let (_, err) = run("beside", &["--parallel", "3"]);
    assert_eq!(err.matches(" is done").count(), 4, "{err}");
}

#[test]
fn a_step_that_fails_beside_others_is_named_with_its_reason_and_the_others_go_on_later() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let folder = dir.path();
    // The tokenizer fails at once; the VQ-GAN, which is at work by then, saves and ends.
    write(
        folder,
        &SMALL
            .replace("vocabulary = 300", "vocabulary = 3")
            .replace("steps = 4", "steps = 100_000"),
    );
    let run = ["run", "small.toml", "--device", "cpu", "--parallel", "3"];
    let error = fail(folder, &run);
    assert!(error.contains("step 2 of 4: tokenizer: "), "{error}");
    assert!(error.contains(".steps/tokenizer.log"), "{error}");
    assert!(!error.contains("vqgan is done"), "{error}");
    let (dry, _) = succeed(
        folder,
        &["run", "small.toml", "--dry-run", "--set", "tokenizer.vocabulary=300"],
    );
    assert!(dry.contains("goes on"), "{dry}");
}

/// A run that is ended, gently or not, leaves no step at work.
#[cfg(unix)]
#[test]
fn steps_end_with_the_run_that_began_them_and_go_on_with_the_next() {
    use std::os::unix::process::ExitStatusExt;

    for signal in [libc::SIGTERM, libc::SIGKILL] {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let folder = dir.path();
        write(folder, &SMALL.replace("steps = 4", "steps = 100_000\nsave_every = 5"));
        let run = ["run", "small.toml", "--device", "cpu", "--parallel", "2"];
        let mut running = Running(trainer(folder, &run).spawn().expect("the trainer starts"));
        let child = &mut running.0;
        let log = folder.join("runs/small/vqgan/log.jsonl");
        let saved = || !checkpoints(&folder.join("runs/small/vqgan")).is_empty();
        wait_for("the VQ-GAN is at work", || log.is_file() && saved());
        // SAFETY: a signal to our own child.
        unsafe { libc::kill(child.id().cast_signed(), signal) };
        let status = child.wait().expect("it ended");
        assert_eq!(
            status.signal() == Some(libc::SIGKILL),
            signal == libc::SIGKILL,
            "{status}"
        );
        // What was asked to stop says so by its status.
        assert_eq!(status.code(), (signal == libc::SIGTERM).then_some(75));
        // Its folder is held as long as a step is at work in it.
        let lock = folder.join("runs/small/vqgan/.lock");
        wait_for("the step has ended", || {
            fs::File::open(&lock).expect("the lock").try_lock().is_ok()
        });
        let saved = checkpoints(&folder.join("runs/small/vqgan"));
        let steps = format!("vqgan.steps={}", saved.last().expect("a checkpoint") + 2);
        let (_, err) = succeed(folder, &[&run[..], &["--set", &steps]].concat());
        assert!(err.contains("vqgan is done"), "{err}");
    }
}

#[test]
fn a_slip_in_the_last_step_shows_before_the_first_is_begun() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let folder = dir.path();
    write(
        folder,
        &SMALL.replace("vqgan = \"vqgan\"", "vqgan = \"vqgan\"\nbacth = 3"),
    );
    let error = fail(folder, &["run", "small.toml"]);
    assert!(error.contains("step `encode`") && error.contains("`bacth`"), "{error}");
    write(
        folder,
        &SMALL.replace("command = \"encode\"", "command = \"encrypt\"\nid = \"encode\""),
    );
    let error = fail(folder, &["run", "small.toml"]);
    assert!(error.contains("no command `encrypt`"), "{error}");
    // A value that the command would refuse, and data that nobody makes.
    write(folder, SMALL);
    let error = fail(folder, &["run", "small.toml", "--set", "vqgan.rate=-1"]);
    assert!(error.contains("step `vqgan`: --rate"), "{error}");
    let error = fail(folder, &["run", "small.toml", "--set", "images=elsewhere"]);
    assert!(
        error.contains("step `encode`: data") && error.contains("elsewhere is not there"),
        "{error}"
    );
    assert!(!folder.join("runs").exists());
    let only = ["run", "small.toml", "--only", "encode"];
    let error = fail(folder, &only);
    assert!(error.contains("`encode` needs `phantoms`"), "{error}");
    let dry = trainer(folder, &[&only[..], &["--dry-run"]].concat()).output();
    let (ok, dry, _) = texts(dry.expect("the trainer starts"));
    assert!(!ok, "a part that cannot be done passed for one that can");
    assert!(
        dry.contains("`encode` needs `phantoms`") && dry.contains("`encode` needs `vqgan`"),
        "{dry}"
    );
    let error = fail(folder, &[&only[..], &["--from", "vqgan"]].concat());
    assert!(error.contains("cannot be used with"), "{error}");
    assert!(!folder.join("runs").exists());
    let error = fail(folder, &["run", "small.toml", "--only", "encoded"]);
    assert!(error.contains("phantoms, tokenizer, vqgan, encode"), "{error}");
    // A bundle that no step makes.
    write(folder, &format!("bundle = \"vqgan\"\n{SMALL}"));
    let error = fail(folder, &["run", "small.toml"]);
    assert!(error.contains("no step makes one"), "{error}");
    assert!(!folder.join("runs").exists());
}

#[test]
fn a_training_is_begun_anew_on_demand_where_it_has_made_more_steps_or_was_of_other_settings() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let folder = dir.path();
    write(folder, SMALL);
    let run = ["run", "small.toml", "--device", "cpu", "--only", "vqgan"];
    succeed(folder, &["run", "small.toml", "--only", "phantoms"]);
    succeed(folder, &run);
    let made = || checkpoints(&folder.join("runs/small/vqgan"));
    assert_eq!(made(), [4]);
    let shorter = [&run[..], &["--set", "vqgan.steps=2"]].concat();
    let error = fail(folder, &shorter);
    assert!(
        error.contains("made 4 steps already") && error.contains("--redo"),
        "{error}"
    );
    succeed(folder, &[&shorter[..], &["--redo"]].concat());
    assert_eq!(made(), [2]);
    // Its record is gone, as after a move of the folder by hand.
    fs::remove_file(folder.join("runs/small/.steps/vqgan.json")).expect("the record is there");
    let other = [&shorter[..], &["--set", "vqgan.rate=1e-3"]].concat();
    let error = fail(folder, &other);
    assert!(error.contains("rate: ") && error.contains("--redo"), "{error}");
    let (_, err) = succeed(folder, &[&other[..], &["--redo"]].concat());
    assert!(!err.contains("goes on after"), "{err}");
}

#[test]
fn a_step_is_done_as_long_as_what_it_left_is_there_and_a_refused_setting_does_not_change_that() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let folder = dir.path();
    write(folder, SMALL);
    let run = ["run", "small.toml", "--device", "cpu", "--only", "vqgan"];
    succeed(folder, &["run", "small.toml", "--only", "phantoms"]);
    succeed(folder, &run);
    let state_of = |step: &str| {
        let (dry, _) = succeed(folder, &["run", "small.toml", "--dry-run"]);
        let named = |line: &&str| line.split_whitespace().nth(1) == Some(step);
        let line = dry.lines().find(named).expect("the step");
        line.split_whitespace().skip(3).collect::<Vec<_>>().join(" ")
    };
    let state = || state_of("vqgan");
    assert_eq!(state(), "done");
    let error = fail(folder, &[&run[..], &["--set", "vqgan.codes=64"]].concat());
    assert!(error.contains("codes: 16 → 64"), "{error}");
    assert_eq!(state(), "done");
    // Commands refuse what they left of other settings, and values that cannot be.
    for (set, told) in [
        ("phantoms.seed=5", "of another seed"),
        ("phantoms.size=7", "7 pixels a side"),
    ] {
        let error = fail(folder, &["run", "small.toml", "--only", "phantoms", "--set", set]);
        assert!(error.contains(told), "{error}");
        assert_eq!(state_of("phantoms"), "done");
    }
    let network = folder.join("runs/small/vqgan/vqgan");
    fs::remove_dir_all(&network).expect("the folder is there");
    assert_eq!(state(), "goes on");
    succeed(folder, &run);
    assert_eq!(
        (state().as_str(), network.join("model.safetensors").is_file()),
        ("done", true)
    );
}

#[test]
fn a_number_below_nought_is_refused_by_what_it_must_be() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let args = "classifier --device cpu --data none --out run --rate -1";
    let error = fail(dir.path(), &args.split_whitespace().collect::<Vec<_>>());
    assert!(error.contains("--rate is -1; it must be a positive number"), "{error}");
}

#[test]
fn the_recipes_of_the_repository_are_understood() {
    let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes");
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut seen = 0;
    for entry in fs::read_dir(recipes).expect("the recipes") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|e| e == "toml") {
            // Data of others are not here.
            let dry = trainer(dir.path(), &["run", path.to_str().expect("a plain path"), "--dry-run"]).output();
            let (ok, out, err) = texts(dry.expect("the trainer starts"));
            assert!(ok || err.contains("cannot be done"), "{err}");
            // Nothing that a step makes, under a misspelt name.
            let lacking = out.lines().filter(|line| line.contains("is not there"));
            for line in lacking {
                let of_others = ["real", "shared", "models", "dolly", "mimic", "vqa"];
                assert!(of_others.iter().any(|part| line.contains(part)), "{line}");
            }
            assert!(out.contains("to do"), "{out}");
            seen += 1;
        }
    }
    assert!(seen >= 3, "{seen} recipes");
}
