//! Files that are whole or not there: written under another name, synced, and renamed.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use tch::{Device, Kind, Tensor};

use crate::model::checkpoint::{Dtype, SafetensorsWriter, TensorInfo};
use crate::train::common::TrainError;

/// Writes tensors as a safetensors file and waits until it is on disk: i64 as it is, whatever else as `floats` (f32 or bf16).
pub fn write_tensors(path: &Path, tensors: &[(String, Tensor)], floats: Dtype) -> Result<(), TrainError> {
    let stored = |t: &Tensor| match (t.kind(), floats) {
        (Kind::Int64, _) => (Kind::Int64, Dtype::I64),
        (_, Dtype::BF16) => (Kind::BFloat16, Dtype::BF16),
        _ => (Kind::Float, Dtype::F32),
    };
    let info = |t: &Tensor| TensorInfo {
        dtype: stored(t).1,
        shape: t.size().iter().map(|&d| d as usize).collect(),
    };
    let header: Vec<_> = tensors.iter().map(|(name, t)| (name.clone(), info(t))).collect();
    let mut writer = SafetensorsWriter::create(path, &header)?;
    for (name, tensor) in tensors {
        let (kind, dtype) = stored(tensor);
        let values = tensor
            .detach()
            .f_to_device(Device::Cpu)?
            .f_to_kind(kind)?
            .f_contiguous()?;
        let count = values.numel();
        let mut bytes = vec![0u8; count * dtype.size()];
        values.f_copy_data_u8(&mut bytes, count)?;
        writer.write(name, &bytes)?;
    }
    Ok(writer.finish()?)
}

/// [`write_tensors`] in the place of a file that may be there: a reader sees the old one or the new one.
pub fn replace_tensors(path: &Path, tensors: &[(String, Tensor)], floats: Dtype) -> Result<(), TrainError> {
    let new = beside(path);
    write_tensors(&new, tensors, floats)
        .and_then(|()| put(&new, path))
        .inspect_err(|_| remove(&new))
}

/// Writes `bytes` to `path` under another name first, so that a reader sees the old file or the new one.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    let new = beside(path);
    let write = || {
        let mut file = File::create(&new)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write()
        .map_err(|reason| TrainError::io(path, reason))
        .and_then(|()| put(&new, path))
        .inspect_err(|_| remove(&new))
}

/// Copies a file. An error names the one of the two that it is about: a full disk is not the fault of what is copied.
pub fn copy_file(from: &Path, to: &Path) -> Result<(), (PathBuf, io::Error)> {
    File::open(from).map_err(|reason| (from.to_owned(), reason))?;
    fs::copy(from, to).map_err(|reason| (to.to_owned(), reason))?;
    Ok(())
}

/// Waits until the disk has the names in a folder.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    use ErrorKind::{InvalidInput, PermissionDenied, Unsupported};

    match File::open(path).and_then(|folder| folder.sync_all()) {
        // Some file systems do not sync folders.
        Err(e) if matches!(e.kind(), InvalidInput | PermissionDenied | Unsupported) => Ok(()),
        done => done,
    }
}

/// Where a file is written before it takes its place.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

/// Gives the file at `new` the name `path`, and waits until the disk has it so.
fn put(new: &Path, path: &Path) -> Result<(), TrainError> {
    fs::rename(new, path).map_err(|reason| TrainError::io(path, reason))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    sync_folder(parent).map_err(|reason| TrainError::io(parent, reason))
}

/// Makes room after a failure, whose reason is what is told.
fn remove(new: &Path) {
    let _ = fs::remove_file(new);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::checkpoint::Weights;

    #[test]
    fn tensors_take_the_place_of_others_in_the_type_that_is_asked_for_and_counts_stay_whole_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        let tensors = [
            ("a".to_owned(), Tensor::from_slice(&[0.5f32, -2.0])),
            ("n".to_owned(), Tensor::from_slice(&[7i64])),
        ];
        for (floats, size) in [(Dtype::F32, 8), (Dtype::BF16, 4)] {
            replace_tensors(&path, &tensors, floats).unwrap();
            let weights = Weights::open(std::slice::from_ref(&path)).unwrap();
            let (a, n) = (weights.info("a").unwrap(), weights.info("n").unwrap());
            assert_eq!((a.dtype, n.dtype), (floats, Dtype::I64));
            assert_eq!(weights.bytes("a").unwrap().len(), size);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_be_written_leaves_what_was_there_and_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        write_whole(&path, b"old").unwrap();
        let twice = [1f32, 2.0].map(|value| ("a".to_owned(), Tensor::from_slice(&[value])));
        replace_tensors(&path, &twice, Dtype::F32).unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_copy_that_fails_names_the_file_that_it_failed_at() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("none/to"));
        assert_eq!(copy_file(&from, &to).unwrap_err().0, from);
        fs::write(&from, "text").unwrap();
        assert_eq!(copy_file(&from, &to).unwrap_err().0, to);
        copy_file(&from, &dir.path().join("to")).unwrap();
        assert_eq!(fs::read(dir.path().join("to")).unwrap(), b"text");
    }
}
