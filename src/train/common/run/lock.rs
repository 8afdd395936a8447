//! One process at a time in a folder.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;

use crate::train::common::TrainError;

const LOCK: &str = ".lock";

/// Holds the file at `path`, made if it is not there, until what is given back is dropped; `None` while another process holds it. The
/// system lets go of it when a process ends, however it ends.
pub fn hold(path: &Path) -> io::Result<Option<File>> {
    let file = File::create(path)?;
    Ok(lock(&file)?.then_some(file))
}

/// Holds a file that is open, until it is closed; `false` while another process holds it.
pub fn lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        // Some network file systems have no locks; there the rule cannot be kept, and work must still be possible.
        Err(TryLockError::Error(reason)) if reason.kind() == io::ErrorKind::Unsupported => Ok(true),
        Err(TryLockError::Error(reason)) => Err(reason),
    }
}

/// Makes a run's folder and holds it, or says that another run is at work there.
pub fn hold_folder(folder: &Path) -> Result<File, TrainError> {
    fs::create_dir_all(folder).map_err(|e| TrainError::io(folder, e))?;
    let path = folder.join(LOCK);
    let held = hold(&path).map_err(|e| TrainError::io(&path, e))?;
    held.ok_or_else(|| TrainError::Busy(folder.to_owned()))
}
