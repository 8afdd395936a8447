//! What the tests share: the trainer, and a small data set.

use std::path::Path;
use std::process::{Child, Command, Output};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Longer than any step of these tests takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// The trainer in `folder`, with one thread for its sums.
pub fn trainer(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_llm-cxr-train"));
    command.current_dir(folder).args(args).env("OMP_NUM_THREADS", "1");
    command
}

/// A trainer at work, ended when dropped: a test that fails leaves none behind.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}

/// Runs it; gives standard output and error as one text each if it succeeds.
pub fn succeed(folder: &Path, args: &[&str]) -> (String, String) {
    let (ok, out, err) = texts(trainer(folder, args).output().expect("the trainer starts"));
    assert!(ok, "{args:?}: {err}");
    (out, err)
}

/// Runs it; gives what it says when it fails.
pub fn fail(folder: &Path, args: &[&str]) -> String {
    let (ok, _, err) = texts(trainer(folder, args).output().expect("the trainer starts"));
    assert!(!ok, "{args:?} succeeded");
    err
}

pub fn texts(output: Output) -> (bool, String, String) {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

/// 40 phantoms of 64 pixels, made once by the trainer.
pub fn phantoms() -> &'static Path {
    static MADE: OnceLock<TempDir> = OnceLock::new();
    MADE.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        succeed(
            folder.path(),
            &[
                "phantom",
                "--out",
                ".",
                "--studies",
                "40",
                "--size",
                "64",
                "--seed",
                "5",
            ],
        );
        folder
    })
    .path()
}

/// `vqgan` on the phantoms into `out`, small and with everything a step can do: k-means, discriminator, running average, revival.
pub fn vqgan(out: &str) -> Vec<String> {
    let data = phantoms().to_str().expect("a plain path");
    let args = format!(
        "vqgan --device cpu --data {data} --out {out} --resolution 32 --ch 32 --ch-mult 1,1 --embed-dim 8 --codes 16 --batch 4 \
         --steps 24 --save-every 3 --eval-every 8 --log-every 1 --quantise-from 2 --disc-start 4 --disc-width 8 --disc-layers 1 \
         --revive-every 5 --validate-images 2 --warmup 2"
    );
    args.split_whitespace().map(str::to_owned).collect()
}

/// `classifier` on the phantoms into `out`, small and with everything it can do.
pub fn classifier(out: &str) -> Vec<String> {
    let data = phantoms().to_str().expect("a plain path");
    let args = format!(
        "classifier --device cpu --data {data} --out {out} --resolution 32 --growth 8 --blocks 2,2 --stem-layers 2 --steps 24 --batch 4 \
         --save-every 3 --eval-every 8 --validate-images 4 --ema 0.5 --shift 2 --repeat-rare 0.3 --cache-mib 1"
    );
    args.split_whitespace().map(str::to_owned).collect()
}

pub fn borrowed(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

/// Steps of the checkpoints in a run's folder, rising.
pub fn checkpoints(run: &Path) -> Vec<u64> {
    let entries = std::fs::read_dir(run.join("checkpoints"))
        .into_iter()
        .flatten()
        .flatten();
    let mut steps: Vec<u64> = entries
        .filter_map(|entry| entry.file_name().to_str()?.strip_prefix("step-")?.parse().ok())
        .collect();
    steps.sort_unstable();
    steps
}

/// Waits until `come` is so.
pub fn wait_for(what: &str, mut come: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !come() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What a finetune run reads: a VQ-GAN, codes and a tokenizer, made once.
pub fn prepared() -> &'static Path {
    static MADE: OnceLock<TempDir> = OnceLock::new();
    MADE.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data = phantoms().to_str().expect("a plain path");
        succeed(folder.path(), &borrowed(&vqgan("vqgan")));
        succeed(
            folder.path(),
            &[
                "encode", "--data", data, "--vqgan", "vqgan", "--out", "codes", "--device", "cpu",
            ],
        );
        let vocabulary = ["--vocabulary", "600", "--out", "tokenizer.json"];
        succeed(
            folder.path(),
            &[&["tokenizer", "--data", data][..], &vocabulary].concat(),
        );
        folder
    })
    .path()
}

/// `finetune` on the phantoms into `out`, small.
pub fn finetune(out: &str) -> Vec<String> {
    let (data, made) = (phantoms().display(), prepared().display());
    let args = format!(
        "finetune --device cpu --data {data} --codes {made}/codes --vqgan {made}/vqgan --tokenizer {made}/tokenizer.json --out {out} \
         --hidden 32 --layers 1 --heads 2 --context 768 --steps 24 --batch 4 --save-every 3 --eval-every 8 --log-every 1 --warmup 2 \
         --samples 1 --validate 4 --ema 0.5"
    );
    args.split_whitespace().map(str::to_owned).collect()
}

/// `pretrain` on the phantoms' reports into `out`, small.
pub fn pretrain(out: &str) -> Vec<String> {
    let (data, made) = (phantoms().display(), prepared().display());
    let args = format!(
        "pretrain --device cpu --text {data} --tokenizer {made}/tokenizer.json --out {out} --hidden 64 --layers 2 --heads 2 --context 128 \
         --length 128 --steps 24 --batch 8 --save-every 3 --eval-every 8 --log-every 1 --warmup 2 --validate 4 --ema 0.5"
    );
    args.split_whitespace().map(str::to_owned).collect()
}
