//! Checkpoints of a run: written whole or not at all, checked when read, the newest valid one wins.
//!
//! A checkpoint is a folder `step-0000001000/` with `tensors.safetensors` and `state.json`, which holds the checksum of both. It is
//! written under another name, synced, and renamed: a crash or a full disk at any moment leaves the earlier ones as they were.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tch::{Kind, Tensor};

use super::{LastGood, TrainError};
use crate::model::checkpoint::{CheckpointError, Dtype, SafetensorsWriter, TensorInfo, Weights};

const TENSORS: &str = "tensors.safetensors";
const STATE: &str = "state.json";
const UNFINISHED: &str = "unfinished";

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

/// The checkpoints of one run.
pub struct Checkpoints {
    folder: PathBuf,
    keep: usize,
}

impl Checkpoints {
    /// Those in `folder`; the newest `keep` (at least two) stay.
    pub fn new(folder: PathBuf, keep: usize) -> Self {
        Self {
            folder,
            keep: keep.max(2),
        }
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
        let unfinished = self.folder.join(UNFINISHED);
        match fs::remove_dir_all(&unfinished) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(TrainError::io(&unfinished, e)),
            _ => {}
        }
        fs::create_dir_all(&unfinished).map_err(io(&unfinished))?;
        let tensors = unfinished.join(TENSORS);
        write_tensors(&tensors, &snapshot.tensors)?;
        let body = json!({
            "step": snapshot.step,
            "tensors_sha256": hash_file(&tensors).map_err(io(&tensors))?,
            "state": snapshot.state,
        });
        let whole = json!({"sha256": hash(body.to_string().as_bytes()), "body": body});
        let state = unfinished.join(STATE);
        let mut file = File::create(&state).map_err(io(&state))?;
        file.write_all(whole.to_string().as_bytes())
            .and_then(|()| file.sync_all())
            .map_err(io(&state))?;
        sync_folder(&unfinished).map_err(io(&unfinished))?;
        let path = self.path(snapshot.step);
        if path.exists() {
            // Only a damaged one, or one of a run taken up from before it.
            fs::remove_dir_all(&path).map_err(io(&path))?;
        }
        fs::rename(&unfinished, &path).map_err(io(&path))?;
        sync_folder(&self.folder).map_err(io(&self.folder))?;
        // Those of later steps are damaged, or the run would have gone on from them: they must not take the place of a good one.
        let (earlier, later): (Vec<u64>, Vec<u64>) = self.steps().into_iter().partition(|&step| step <= snapshot.step);
        for &step in later.iter().chain(earlier.iter().rev().skip(self.keep)) {
            // One that cannot be removed costs room, nothing else.
            let _ = fs::remove_dir_all(self.path(step));
        }
        Ok(path)
    }

    /// The newest valid checkpoint, and a sentence on each newer one that is damaged.
    pub fn newest(&self) -> (Option<Restored>, Vec<String>) {
        let mut damaged = Vec::new();
        for step in self.steps().into_iter().rev() {
            match self.read(step) {
                Ok(restored) => return (Some(restored), damaged),
                Err(reason) => damaged.push(format!(
                    "the checkpoint of step {step} is damaged ({reason}); an earlier one is used"
                )),
            }
        }
        (None, damaged)
    }

    /// The newest checkpoint that reads whole.
    pub fn last_good(&self) -> LastGood {
        let newest = self.newest().0;
        LastGood(newest.map(|restored| (restored.step, self.path(restored.step))))
    }

    fn read(&self, step: u64) -> Result<Restored, String> {
        let folder = self.path(step);
        let text = fs::read(folder.join(STATE)).map_err(|e| format!("{STATE}: {e}"))?;
        let mut whole: Value = serde_json::from_slice(&text).map_err(|e| format!("{STATE}: {e}"))?;
        let body = whole["body"].take();
        if whole["sha256"].as_str() != Some(&hash(body.to_string().as_bytes())) {
            return Err(format!("{STATE} does not match its checksum"));
        }
        let tensors = folder.join(TENSORS);
        let sum = hash_file(&tensors).map_err(|e| format!("{TENSORS}: {e}"))?;
        if body["tensors_sha256"].as_str() != Some(&sum) {
            return Err(format!("{TENSORS} does not match its checksum"));
        }
        if body["step"].as_u64() != Some(step) {
            return Err("it says that it is of another step".to_owned());
        }
        let weights = Weights::open(&[tensors]).map_err(|e| e.to_string())?;
        let state = body["state"].clone();
        Ok(Restored { step, weights, state })
    }

    /// Steps of which there is a folder, rising.
    fn steps(&self) -> Vec<u64> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut steps: Vec<u64> = entries
            .filter_map(|entry| entry.file_name().to_str()?.strip_prefix("step-")?.parse().ok())
            .collect();
        steps.sort_unstable();
        steps
    }

    fn path(&self, step: u64) -> PathBuf {
        self.folder.join(format!("step-{step:010}"))
    }
}

/// Writes tensors (f32 or i64; whatever else as f32) as a safetensors file and waits until it is on disk.
pub fn write_tensors(path: &Path, tensors: &[(String, Tensor)]) -> Result<(), TrainError> {
    let stored = |t: &Tensor| match t.kind() {
        Kind::Int64 => (Kind::Int64, Dtype::I64),
        _ => (Kind::Float, Dtype::F32),
    };
    let info = |t: &Tensor| TensorInfo {
        dtype: stored(t).1,
        shape: t.size().iter().map(|&d| d as usize).collect(),
    };
    let header: Vec<_> = tensors.iter().map(|(name, t)| (name.clone(), info(t))).collect();
    let mut writer = SafetensorsWriter::create(path, &header)?;
    for (name, tensor) in tensors {
        let kind = stored(tensor).0;
        let values = tensor.f_to_device(tch::Device::Cpu)?.f_to_kind(kind)?.f_contiguous()?;
        let count = values.numel();
        let mut bytes = vec![0u8; count * kind.elt_size_in_bytes()];
        values.f_copy_data_u8(&mut bytes, count)?;
        writer.write(name, &bytes)?;
    }
    Ok(writer.finish()?)
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

/// SHA-256 of a file, in hexadecimal.
pub fn hash_file(path: &Path) -> io::Result<String> {
    let mut sum = Sha256::new();
    io::copy(&mut File::open(path)?, &mut sum)?;
    Ok(hex(&sum.finalize()))
}

fn hash(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Writes `bytes` to `path` under another name first, so that a reader sees the old file or the new one.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    let error = |reason| TrainError::io(path, reason);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let mut file = File::create(&new).map_err(error)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(error)?;
    fs::rename(&new, path).map_err(error)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
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
        assert_eq!(checkpoints.steps(), [20, 30]);
        let (restored, damaged) = checkpoints.newest();
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
                _ => fs::remove_file(&path).unwrap(),
            }
            let (restored, damaged) = checkpoints.newest();
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
        assert_eq!(checkpoints.newest().0.unwrap().step, 10);
        checkpoints.save(&snapshot(15)).unwrap();
        assert_eq!(checkpoints.steps(), [10, 15]);
        assert_eq!(checkpoints.newest().0.unwrap().step, 15);
        checkpoints.save(&snapshot(20)).unwrap();
        assert_eq!(checkpoints.steps(), [15, 20]);
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
        assert_eq!(checkpoints.newest().0.unwrap().step, 10);
        assert!(!dir.path().join(UNFINISHED).exists());
        checkpoints.save(&snapshot(20)).unwrap();
        assert_eq!(checkpoints.newest().0.unwrap().step, 20);
    }

    #[test]
    fn what_a_crash_left_unfinished_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(dir.path().to_owned(), 2);
        checkpoints.save(&snapshot(10)).unwrap();
        fs::create_dir(dir.path().join(UNFINISHED)).unwrap();
        fs::write(dir.path().join(UNFINISHED).join(TENSORS), b"half").unwrap();
        assert_eq!(checkpoints.newest().0.unwrap().step, 10);
        checkpoints.save(&snapshot(20)).unwrap();
        assert_eq!(checkpoints.newest().0.unwrap().step, 20);
    }
}
