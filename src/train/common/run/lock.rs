//! One process at a time in a folder.

use std::fs::File;
use std::path::Path;

use crate::basics::{hold, make_out};
use crate::train::common::TrainError;

const LOCK: &str = ".lock";

/// Makes a run's folder and holds it, or says that another run is at work there.
pub fn hold_folder(folder: &Path) -> Result<File, TrainError> {
    make_out(folder).map_err(|e| TrainError::io(folder, e))?;
    let path = folder.join(LOCK);
    let held = hold(&path).map_err(|e| TrainError::io(&path, e))?;
    held.ok_or_else(|| TrainError::Busy(folder.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_no_folder_for_a_run_and_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("run");
        std::fs::write(&file, "mine").unwrap();
        let told = hold_folder(&file).unwrap_err().to_string();
        assert!(told.ends_with("run: is a file; --out is a folder"), "{told}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
        assert!(hold_folder(&dir.path().join("other/run")).is_ok());
    }
}
