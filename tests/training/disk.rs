//! A disk that is full when a checkpoint is written.

use std::fs;
use std::process::Command;

use crate::house::{borrowed, checkpoints, succeed, texts, trainer, vqgan};

#[test]
fn a_full_disk_leaves_the_last_checkpoint_valid_and_says_what_to_do() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let run = dir.path().join("run");
    let steps = |steps: &str| {
        let mut args = vqgan("run");
        let at = args.iter().position(|a| a == "--steps").expect("the flag") + 1;
        args[at] = steps.to_owned();
        args
    };
    succeed(dir.path(), &borrowed(&steps("6")));
    assert_eq!(checkpoints(&run), [3, 6]);
    let length = |path: &str| fs::metadata(run.join(path)).expect("the file is there").len();
    let (exported, saved) = (
        length("vqgan/model.safetensors"),
        length("checkpoints/step-0000000006/tensors.safetensors"),
    );
    // Files may grow so far that the exported weights fit and a checkpoint does not. The signal must not end the program, as a full
    // disk sends none.
    let blocks = (exported + saved) / 2 / 1024;
    let args = steps("12");
    let inner = trainer(dir.path(), &borrowed(&args));
    let output = Command::new("bash")
        .current_dir(dir.path())
        .env("OMP_NUM_THREADS", "1")
        .args(["-c", "trap '' XFSZ; ulimit -f \"$0\"; exec \"$@\"", &blocks.to_string()])
        .arg(inner.get_program())
        .args(inner.get_args())
        .output()
        .expect("bash starts");
    let (ok, _, err) = texts(output);
    assert!(!ok, "a checkpoint was written against the limit");
    assert!(
        err.contains("the checkpoint of step 9 could not be written")
            && err.contains("the last good checkpoint is of step 6")
            && err.contains("Make room on the disk"),
        "{err}"
    );
    assert_eq!(checkpoints(&run), [3, 6]);
    // With room again the same command goes on.
    let (_, err) = succeed(dir.path(), &borrowed(&args));
    assert!(err.contains("goes on after step 6"), "{err}");
    assert_eq!(checkpoints(&run), [9, 12]);
}
