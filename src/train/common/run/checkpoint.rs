//! Checkpoints of a run: written whole or not at all, checked when read, the newest valid one wins.
//!
//! A checkpoint is a folder `step-0000001000/` with `tensors.safetensors` and `state.json`, which holds the checksum of both. It is
//! written under another name, synced, and renamed: a crash or a full disk at any moment leaves the earlier ones as they were.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tch::Tensor;

use super::store::{sync_folder, write_tensors};
use crate::basics::{sha256, sha256_file};
use crate::model::bundle::folders;
use crate::model::checkpoint::{CheckpointError, Dtype, Weights};
use crate::train::common::{LastGood, TrainError};

const TENSORS: &str = "tensors.safetensors";
const STATE: &str = "state.json";
const UNFINISHED: &str = "unfinished";
/// What one of the same step is called while another takes its place.
const REPLACED: &str = "replaced";

/// Checkpoints that a run keeps: where the newest is damaged, there is the one before.
pub const KEPT: usize = 2;

/// What a run needs to go on exactly where it was.
pub struct Snapshot {
    /// Steps done.
    pub step: u64,
    /// Weights, moments, counts.
    pub tensors: Vec<(String, Tensor)>,
    /// Everything else.
    pub state: Value,
}

/// A checkpoint read back.
pub struct Restored {
    /// Steps done.
    pub step: u64,
    /// Its tensors, mapped.
    pub weights: Weights,
    /// Everything else.
    pub state: Value,
}

/// Why a checkpoint is not read.
enum Unread {
    /// It is not what was written.
    Damaged(String),
    /// The system does not give it.
    Io(PathBuf, io::Error),
}

impl Unread {
    /// A file that is not there or ends early is damaged. Anything else (no permission, a disk that does not answer) says nothing of what
    /// the file holds.
    fn io(path: &Path, reason: io::Error) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        match reason.kind() {
            ErrorKind::NotFound | ErrorKind::UnexpectedEof => Self::Damaged(format!("{name}: {reason}")),
            _ => Self::Io(path.to_owned(), reason),
        }
    }
}

/// The checkpoints of one run.
pub struct Checkpoints {
    folder: PathBuf,
    keep: usize,
}

impl Checkpoints {
    /// Those in `folder`; the newest `keep` stay.
    pub fn new(folder: PathBuf, keep: usize) -> Self {
        Self { folder, keep }
    }

    /// Writes `snapshot`, and removes the oldest ones and those of later steps. On failure the earlier ones stay valid.
    pub fn save(&self, snapshot: &Snapshot) -> Result<PathBuf, TrainError> {
        self.write(snapshot).map_err(|error| {
            // Room for the next attempt.
            let _ = fs::remove_dir_all(self.folder.join(UNFINISHED));
            TrainError::CheckpointUnwritable {
                step: snapshot.step,
                reason: error.to_string(),
                last_good: self.last_good(),
            }
        })
    }

    fn write(&self, snapshot: &Snapshot) -> Result<PathBuf, TrainError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |reason| TrainError::io(&path, reason)
        };
        self.put_back()?;
        // What else is there was replaced: its room is needed now.
        let _ = folders::remove(&self.folder.join(REPLACED));
        let unfinished = self.folder.join(UNFINISHED);
        match fs::remove_dir_all(&unfinished) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(TrainError::io(&unfinished, e)),
            _ => {}
        }
        fs::create_dir_all(&unfinished).map_err(io(&unfinished))?;
        let tensors = unfinished.join(TENSORS);
        write_tensors(&tensors, &snapshot.tensors, Dtype::F32)?;
        let body = json!({
            "step": snapshot.step,
            "tensors_sha256": sha256_file(&tensors, &mut |_| ()).map_err(io(&tensors))?,
            "state": snapshot.state,
        });
        let whole = json!({"sha256": sha256(body.to_string().as_bytes()), "body": body});
        let state = unfinished.join(STATE);
        let mut file = File::create(&state).map_err(io(&state))?;
        file.write_all(whole.to_string().as_bytes())
            .and_then(|()| file.sync_all())
            .map_err(io(&state))?;
        sync_folder(&unfinished).map_err(io(&unfinished))?;
        let path = self.path(snapshot.step);
        // One that is there is damaged, or of a run taken up from before it, or was saved before the step was measured. It may be the only
        // one: it goes when the new one has its place.
        folders::exchange(&unfinished, &path, &self.folder.join(REPLACED))
            .map_err(|(path, reason)| TrainError::io(&path, reason))?;
        // Those of later steps are damaged, or the run would have gone on from them: they must not take the place of a good one.
        let steps = self.steps().unwrap_or_default();
        let (earlier, later): (Vec<u64>, Vec<u64>) = steps.into_iter().partition(|&step| step <= snapshot.step);
        for &step in later.iter().chain(earlier.iter().rev().skip(self.keep)) {
            // One that cannot be removed costs room, nothing else.
            let _ = fs::remove_dir_all(self.path(step));
        }
        Ok(path)
    }

    /// The newest valid checkpoint, and a sentence on each newer one that is damaged; none where none was made. For the run that holds the
    /// folder alone: one that a kill left under another name gets its own back.
    ///
    /// # Errors
    /// When there are checkpoints and none of them can be read: to begin anew then would throw away what was exported. When the system
    /// does not let one be read, for a reason that may pass.
    pub fn newest(&self) -> Result<(Option<Restored>, Vec<String>), TrainError> {
        self.put_back()?;
        let mut damaged: Vec<(u64, String)> = Vec::new();
        for step in self.steps()?.into_iter().rev() {
            match self.read(step) {
                Ok(restored) => {
                    let sentence = |(step, reason): (u64, String)| {
                        format!("the checkpoint of step {step} is damaged ({reason}); an earlier one is used")
                    };
                    return Ok((Some(restored), damaged.into_iter().map(sentence).collect()));
                }
                Err(Unread::Damaged(reason)) => damaged.push((step, reason)),
                Err(Unread::Io(path, reason)) => return Err(TrainError::io(&path, reason)),
            }
        }
        match damaged.is_empty() {
            true => Ok((None, Vec::new())),
            false => Err(TrainError::NoneReads {
                folder: self.folder.clone(),
                damaged: damaged
                    .iter()
                    .map(|(step, why)| format!("step {step}: {why}"))
                    .collect(),
            }),
        }
    }

    /// The newest checkpoint that reads whole. As [`Self::newest`], for the run that holds the folder.
    pub fn last_good(&self) -> LastGood {
        let _ = self.put_back();
        let steps = self.steps().unwrap_or_default();
        let newest = steps.into_iter().rev().find(|&step| self.read(step).is_ok());
        LastGood(newest.map(|step| (step, self.path(step))))
    }

    /// The step of the newest one, whether it reads or not.
    pub fn made(&self) -> Option<u64> {
        self.steps().ok()?.into_iter().chain(self.displaced()).max()
    }

    /// The step of a checkpoint that is under another name, and its own is free: where the system cannot exchange folders in one step, a kill
    /// between the two renamings leaves it so.
    fn displaced(&self) -> Option<u64> {
        let text = fs::read(self.folder.join(REPLACED).join(STATE)).ok()?;
        let whole: Value = serde_json::from_slice(&text).ok()?;
        let step = whole["body"]["step"].as_u64()?;
        (!self.path(step).exists()).then_some(step)
    }

    /// Gives such a checkpoint its name back.
    fn put_back(&self) -> Result<(), TrainError> {
        let Some(step) = self.displaced() else { return Ok(()) };
        let replaced = self.folder.join(REPLACED);
        fs::rename(&replaced, self.path(step)).map_err(|reason| TrainError::io(&replaced, reason))
    }

    fn read(&self, step: u64) -> Result<Restored, Unread> {
        let damaged = |reason: &str| Err(Unread::Damaged(reason.to_owned()));
        let folder = self.path(step);
        let (state, tensors) = (folder.join(STATE), folder.join(TENSORS));
        let text = fs::read(&state).map_err(|e| Unread::io(&state, e))?;
        let mut whole: Value = serde_json::from_slice(&text).map_err(|e| Unread::Damaged(format!("{STATE}: {e}")))?;
        let Some(body) = whole.get_mut("body").map(Value::take) else {
            return damaged("state.json is not that of a checkpoint");
        };
        if whole["sha256"].as_str() != Some(&sha256(body.to_string().as_bytes())) {
            return damaged("state.json does not match its checksum");
        }
        let sum = sha256_file(&tensors, &mut |_| ()).map_err(|e| Unread::io(&tensors, e))?;
        if body["tensors_sha256"].as_str() != Some(&sum) {
            return damaged("tensors.safetensors does not match its checksum");
        }
        if body["step"].as_u64() != Some(step) {
            return damaged("it says that it is of another step");
        }
        let weights = Weights::open(std::slice::from_ref(&tensors)).map_err(|e| match e {
            CheckpointError::Io { file, reason } => Unread::io(&file, reason),
            other => Unread::Damaged(other.to_string()),
        })?;
        let state = body["state"].clone();
        Ok(Restored { step, weights, state })
    }

    /// Steps of which there is a folder, rising.
    fn steps(&self) -> Result<Vec<u64>, TrainError> {
        let io = |e: io::Error| TrainError::io(&self.folder, e);
        let entries = match fs::read_dir(&self.folder) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(io)?,
        };
        let mut steps = Vec::new();
        for entry in entries {
            let name = entry.map_err(io)?.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix("step-"));
            steps.extend(number.and_then(|number| number.parse::<u64>().ok()));
        }
        steps.sort_unstable();
        Ok(steps)
    }

    fn path(&self, step: u64) -> PathBuf {
        self.folder.join(format!("step-{step:010}"))
    }
}

/// Reads an i64 tensor of a checkpoint.
pub fn read_counts(weights: &Weights, name: &str) -> Result<Vec<i64>, TrainError> {
    let missing = || {
        TrainError::Checkpoint(CheckpointError::Missing {
            file: weights.file_of(name).unwrap_or(Path::new(TENSORS)).to_owned(),
            tensor: name.to_owned(),
        })
    };
    let info = weights.info(name).ok_or_else(missing)?;
    if info.dtype != Dtype::I64 {
        return Err(missing());
    }
    let bytes = weights.bytes(name).ok_or_else(missing)?;
    let (values, _) = bytes.as_chunks::<8>();
    Ok(values.iter().map(|v| i64::from_le_bytes(*v)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(step: u64) -> Snapshot {
        let values = Tensor::from_slice(&[step as f32, 0.1, -3.0]).view([3, 1]);
        Snapshot {
            step,
            tensors: vec![("a".into(), values), ("n".into(), Tensor::from_slice(&[step as i64]))],
            state: json!({"third": 1.0 / 3.0}),
        }
    }

    #[test]
    fn what_was_saved_is_read_back_and_only_the_newest_stay() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(dir.path().join("checkpoints"), 2);
        for step in [10, 20, 30] {
            checkpoints.save(&snapshot(step)).unwrap();
        }
        assert_eq!(checkpoints.steps().unwrap(), [20, 30]);
        let (restored, damaged) = checkpoints.newest().unwrap();
        let restored = restored.unwrap();
        assert!(damaged.is_empty());
        assert_eq!((restored.step, restored.state["third"].as_f64()), (30, Some(1.0 / 3.0)));
        assert_eq!(restored.weights.info("a").unwrap().shape, [3, 1]);
        assert_eq!(read_counts(&restored.weights, "n").unwrap(), [30]);
        assert!(read_counts(&restored.weights, "a").is_err() && read_counts(&restored.weights, "b").is_err());
    }

    #[test]
    fn a_damaged_last_checkpoint_falls_back_to_the_one_before() {
        for (file, damage) in [
            (TENSORS, "cut"),
            (TENSORS, "flip"),
            (STATE, "cut"),
            (STATE, "flip"),
            (STATE, "gone"),
            (STATE, "[]"),
            (STATE, "3"),
            (STATE, "\"text\""),
            (STATE, "{}"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let checkpoints = Checkpoints::new(dir.path().to_owned(), 3);
            checkpoints.save(&snapshot(10)).unwrap();
            let path = checkpoints.save(&snapshot(20)).unwrap().join(file);
            let mut bytes = fs::read(&path).unwrap();
            match damage {
                "cut" => fs::write(&path, &bytes[..bytes.len() / 2]).unwrap(),
                "flip" => {
                    let last = bytes.len() - 4;
                    bytes[last] ^= 1;
                    fs::write(&path, bytes).unwrap();
                }
                "gone" => fs::remove_file(&path).unwrap(),
                other => fs::write(&path, other).unwrap(),
            }
            let (restored, damaged) = checkpoints.newest().unwrap();
            assert_eq!(restored.unwrap().step, 10, "{file} {damage}");
            assert!(damaged.len() == 1 && damaged[0].contains("step 20"), "{damaged:?}");
        }
    }

    #[test]
    fn a_damaged_checkpoint_of_a_later_step_does_not_push_out_a_good_one() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(dir.path().to_owned(), 2);
        checkpoints.save(&snapshot(10)).unwrap();
        let damaged = checkpoints.save(&snapshot(20)).unwrap();
        fs::write(damaged.join(TENSORS), b"damaged").unwrap();
        assert_eq!(checkpoints.newest().unwrap().0.unwrap().step, 10);
        checkpoints.save(&snapshot(15)).unwrap();
        assert_eq!(checkpoints.steps().unwrap(), [10, 15]);
        assert_eq!(checkpoints.newest().unwrap().0.unwrap().step, 15);
        checkpoints.save(&snapshot(20)).unwrap();
        assert_eq!(checkpoints.steps().unwrap(), [15, 20]);
    }

    #[test]
    fn a_checkpoint_that_cannot_be_written_leaves_the_one_before_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(dir.path().to_owned(), 2);
        checkpoints.save(&snapshot(10)).unwrap();
        // Two tensors of one name: refused while writing, as a full disk would be.
        let mut twice = snapshot(20);
        twice.tensors.push(("a".into(), Tensor::from_slice(&[1f32])));
        let error = checkpoints.save(&twice).unwrap_err().to_string();
        assert!(
            error.contains("step 20") && error.contains("last good checkpoint is of step 10"),
            "{error}"
        );
        assert_eq!(checkpoints.newest().unwrap().0.unwrap().step, 10);
        assert!(!dir.path().join(UNFINISHED).exists());
        checkpoints.save(&snapshot(20)).unwrap();
        assert_eq!(checkpoints.newest().unwrap().0.unwrap().step, 20);
    }

    #[test]
    fn what_a_crash_left_unfinished_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(dir.path().to_owned(), 2);
        checkpoints.save(&snapshot(10)).unwrap();
        fs::create_dir(dir.path().join(UNFINISHED)).unwrap();
        fs::write(dir.path().join(UNFINISHED).join(TENSORS), b"half").unwrap();
        assert_eq!(checkpoints.newest().unwrap().0.unwrap().step, 10);
        checkpoints.save(&snapshot(20)).unwrap();
        assert_eq!(checkpoints.newest().unwrap().0.unwrap().step, 20);
    }

    #[test]
    fn where_no_checkpoint_can_be_read_all_are_named_and_left_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(dir.path().join("checkpoints"), 2);
        assert!(checkpoints.newest().unwrap().0.is_none() && checkpoints.made().is_none());
        for (step, file) in [(10, TENSORS), (20, STATE)] {
            let path = checkpoints.save(&snapshot(step)).unwrap().join(file);
            fs::write(path, b"damaged").unwrap();
        }
        let error = checkpoints.newest().err().unwrap().to_string();
        for part in ["step 20: state.json", "step 10: tensors.safetensors", "another --out"] {
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(
            (checkpoints.last_good(), checkpoints.made()),
            (LastGood(None), Some(20))
        );
        assert_eq!(checkpoints.steps().unwrap(), [10, 20]);
    }

    #[test]
    fn what_the_system_does_not_let_be_read_is_no_damage() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(dir.path().to_owned(), 2);
        checkpoints.save(&snapshot(10)).unwrap();
        let state = checkpoints.save(&snapshot(20)).unwrap().join(STATE);
        // A folder in the place of a file is refused by the system, as a file without permission is.
        fs::remove_file(&state).unwrap();
        fs::create_dir(&state).unwrap();
        let error = checkpoints.newest().err().unwrap();
        assert!(
            matches!(&error, TrainError::Io { path, .. } if *path == state),
            "{error}"
        );
    }

    #[test]
    fn a_checkpoint_of_a_step_takes_the_place_of_another_one_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(dir.path().to_owned(), 2);
        checkpoints.save(&snapshot(10)).unwrap();
        let again = Snapshot {
            state: json!({"again": true}),
            ..snapshot(10)
        };
        checkpoints.save(&again).unwrap();
        assert_eq!(checkpoints.newest().unwrap().0.unwrap().state, json!({"again": true}));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
    #[test]
    fn a_checkpoint_that_a_kill_left_under_another_name_is_found_and_gets_its_own_back() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(dir.path().to_owned(), 2);
        let replaced = dir.path().join(REPLACED);
        // As between the two renamings, where the only one is replaced by another of its step.
        fs::rename(checkpoints.save(&snapshot(10)).unwrap(), &replaced).unwrap();
        assert_eq!((checkpoints.made(), replaced.exists()), (Some(10), true));
        assert_eq!(checkpoints.newest().unwrap().0.unwrap().step, 10);
        assert!(checkpoints.path(10).exists() && !replaced.exists());
        // The same where the run finds it when it saves the next one.
        fs::rename(checkpoints.path(10), &replaced).unwrap();
        checkpoints.save(&snapshot(20)).unwrap();
        assert_eq!(checkpoints.steps().unwrap(), [10, 20]);
        // One whose place is taken was replaced: it is not taken up, and goes with the next save.
        fs::create_dir(&replaced).unwrap();
        fs::copy(checkpoints.path(10).join(STATE), replaced.join(STATE)).unwrap();
        assert_eq!(checkpoints.newest().unwrap().0.unwrap().step, 20);
        assert!(replaced.exists());
        checkpoints.save(&snapshot(30)).unwrap();
        assert_eq!(checkpoints.steps().unwrap(), [20, 30]);
        assert!(!replaced.exists());
    }
}
