//! kill -9 at random moments: what is trained in the end is the same, bit for bit.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::house::{
    PATIENCE, Running, borrowed, checkpoints, classifier, finetune, pretrain, succeed, trainer, vqgan, wait_for,
};

/// A number from 0 to 1, another one each time.
fn chance() -> f64 {
    RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64
}

/// Starts `args` in `folder` and kills it `wait` after the run in `out` has made its next checkpoint, or, without `after_save`, after
/// its start. Gives whether it was still at work.
fn kill(folder: &Path, args: &[&str], out: &str, after_save: bool, wait: Duration) -> bool {
    let spawned = trainer(folder, args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut running = Running(spawned.expect("the trainer starts"));
    let child = &mut running.0;
    let (begun, before) = (Instant::now(), checkpoints(&folder.join(out)));
    while after_save && checkpoints(&folder.join(out)) == before && child.try_wait().expect("its state").is_none() {
        assert!(begun.elapsed() < PATIENCE, "no checkpoint was made");
        std::thread::sleep(Duration::from_millis(2));
    }
    std::thread::sleep(wait);
    // Dropped, it is killed.
    child.try_wait().expect("its state").is_none()
}

/// Trains twice, once in peace and once killed again and again, and compares the files.
fn assert_same(folder: &Path, command: impl Fn(&str) -> Vec<String>, exported: &str, last: u64) {
    let begun = Instant::now();
    succeed(folder, &borrowed(&command("peace")));
    let whole = begun.elapsed();
    let args = command("war");
    let args = borrowed(&args);
    let mut told = Vec::new();
    for attempt in 0..4 {
        // Twice at any moment, from the start of the program on; twice close to a checkpoint, where most is being written.
        let (after_save, mut wait) = match attempt % 2 {
            0 => (true, Duration::from_secs_f64(0.05 * chance())),
            _ => (false, whole.mul_f64(0.5 * chance())),
        };
        let mut at_work = kill(folder, &args, "war", after_save, wait);
        // On a busy machine the run may have ended before this thread sees its checkpoint. One at least is to be broken off: the first is made anew.
        for _ in 0..9 {
            if at_work || attempt > 0 {
                break;
            }
            let _ = std::fs::remove_dir_all(folder.join("war"));
            wait = Duration::ZERO;
            at_work = kill(folder, &args, "war", after_save, wait);
        }
        told.push((after_save, wait, at_work, checkpoints(&folder.join("war"))));
    }
    assert!(told[0].2, "the run ended before it was killed: {told:?}");
    succeed(folder, &args);
    for file in [exported, &format!("checkpoints/step-{last:010}/tensors.safetensors")] {
        let read = |run: &str| std::fs::read(folder.join(run).join(file)).expect("the file is there");
        assert!(
            read("peace") == read("war"),
            "{file} differs after these kills: {told:?}"
        );
    }
}

/// `command` with further arguments.
fn with(command: fn(&str) -> Vec<String>, more: &'static [&'static str]) -> impl Fn(&str) -> Vec<String> {
    move |out| {
        let mut args = command(out);
        args.extend(more.iter().map(|&arg| arg.to_owned()));
        args
    }
}

#[test]
fn a_vqgan_killed_at_random_moments_ends_with_the_weights_of_one_that_was_not() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    assert_same(dir.path(), vqgan, "vqgan/model.safetensors", 24);
}

#[test]
fn a_classifier_killed_at_random_moments_ends_with_the_weights_of_one_that_was_not() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    assert_same(dir.path(), classifier, "classifier/model.safetensors", 24);
}

#[test]
fn a_language_model_killed_at_random_moments_ends_with_the_weights_of_one_that_was_not() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    assert_same(dir.path(), finetune, "bundle/model.safetensors", 24);
}

#[test]
fn a_language_model_of_plain_text_killed_at_random_moments_ends_with_the_weights_of_one_that_was_not() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    assert_same(dir.path(), pretrain, "model/model.safetensors", 24);
}

#[test]
fn a_vqgan_in_bf16_killed_at_random_moments_ends_with_the_weights_of_one_that_was_not() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    assert_same(dir.path(), with(vqgan, &["--bf16"]), "vqgan/model.safetensors", 24);
}

#[test]
fn adapters_in_bf16_killed_at_random_moments_end_with_the_weights_of_those_that_were_not() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    // What they are adapters to, of the same shape.
    succeed(dir.path(), &borrowed(&finetune("base")));
    let command = with(finetune, &["--bf16", "--lora-rank", "4", "--base", "base"]);
    assert_same(dir.path(), command, "bundle/model.safetensors", 24);
}

#[cfg(unix)]
#[test]
fn a_command_that_is_asked_to_stop_does_not_end_as_one_that_is_done() {
    use std::io::Read as _;

    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut args = vqgan("run");
    let at = args.iter().position(|a| a == "--steps").expect("the flag") + 1;
    args[at] = "100000".to_owned();
    let spawned = trainer(dir.path(), &borrowed(&args))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut running = Running(spawned.expect("the trainer starts"));
    let child = &mut running.0;
    wait_for("the VQ-GAN is at work", || {
        !checkpoints(&dir.path().join("run")).is_empty()
    });
    // SAFETY: a signal to our own child.
    unsafe { libc::kill(child.id().cast_signed(), libc::SIGTERM) };
    let (mut pipe, mut said) = (child.stdout.take().expect("a pipe"), String::new());
    pipe.read_to_string(&mut said).expect("text");
    assert!(said.contains("stopped and saved after step"), "{said}");
    assert_eq!(child.wait().expect("it ended").code(), Some(75));
}

#[test]
fn what_a_training_was_there_for_is_made_again_where_it_is_gone() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let args = vqgan("run");
    succeed(dir.path(), &borrowed(&args));
    let network = dir.path().join("run/vqgan");
    let read = || std::fs::read(network.join("model.safetensors")).expect("the file is there");
    let before = read();
    std::fs::remove_dir_all(&network).expect("the folder is there");
    let (out, err) = succeed(dir.path(), &borrowed(&args));
    assert!(
        err.contains("run/vqgan is gone") && out.contains("is ready"),
        "{out}{err}"
    );
    assert!(read() == before, "other weights were exported");
}
