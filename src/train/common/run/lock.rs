//! One process at a time in a folder.

use std::fs::{self, File};
use std::path::Path;

use crate::basics::hold;
use crate::train::common::TrainError;

const LOCK: &str = ".lock";

/// Makes a run's folder and holds it, or says that another run is at work there.
pub fn hold_folder(folder: &Path) -> Result<File, TrainError> {
    fs::create_dir_all(folder).map_err(|e| TrainError::io(folder, e))?;
    let path = folder.join(LOCK);
    let held = hold(&path).map_err(|e| TrainError::io(&path, e))?;
    held.ok_or_else(|| TrainError::Busy(folder.to_owned()))
}
