//! One command at a time makes or changes a folder.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::BundleError;
use super::write::sibling;
use crate::basics::hold;

/// So often the file is opened anew where whoever held it removes it at that moment.
const ATTEMPTS: usize = 100;

/// A hidden file beside a folder that is made or changed: held until this is dropped, and removed then. One that a kill left is taken.
#[derive(Debug)]
pub(super) struct Held {
    path: PathBuf,
    _file: File,
}

impl Held {
    /// Holds that of `folder`, which need not be there.
    ///
    /// # Errors
    /// [`BundleError::Busy`] while another command holds it, or what the system said.
    pub(super) fn beside(folder: &Path) -> Result<Self, BundleError> {
        let path = sibling(folder, "partial.lock")?;
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(BundleError::io(parent))?;
        }
        for _ in 0..ATTEMPTS {
            let Some(file) = hold(&path).map_err(BundleError::io(&path))? else {
                break;
            };
            // If it was removed after it was opened, what is held has no name, and another command may hold the next file of that name.
            if is_at(&file, &path) {
                return Ok(Self { path, _file: file });
            }
        }
        Err(BundleError::Busy(folder.to_owned()))
    }

    /// Holds that of the folder at `folder`. Where nothing can be made beside it, whoever would replace it cannot either: `None`.
    ///
    /// # Errors
    /// [`BundleError::Busy`] while another command holds it.
    pub(super) fn where_possible(folder: &Path) -> Result<Option<Self>, BundleError> {
        match Self::beside(folder) {
            Err(busy @ BundleError::Busy(_)) => Err(busy),
            held => Ok(held.ok()),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // It is closed after this. One that stays is taken by the next command.
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether the open file is the one at `path`.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;

    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(there)) => (open.dev(), open.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> bool {
    path.exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_held_once_and_the_file_that_says_so_goes_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("deep/out");
        let held = Held::beside(&out).unwrap();
        let refused = Held::beside(&out).unwrap_err();
        assert!(matches!(&refused, BundleError::Busy(at) if *at == out), "{refused}");
        assert!(refused.to_string().contains("another command is at work"), "{refused}");
        let other = Held::beside(&dir.path().join("deep/other")).unwrap();
        drop((held, other));
        assert_eq!(fs::read_dir(dir.path().join("deep")).unwrap().count(), 0);
        // One that a kill left is held by nobody.
        fs::write(dir.path().join("deep/.out.partial.lock"), "").unwrap();
        drop(Held::beside(&out).unwrap());
        assert_eq!(fs::read_dir(dir.path().join("deep")).unwrap().count(), 0);
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_was_removed_meanwhile_is_not_the_one_at_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let file = File::create(&path).unwrap();
        assert!(is_at(&file, &path));
        fs::remove_file(&path).unwrap();
        assert!(!is_at(&file, &path));
        let next = File::create(&path).unwrap();
        assert!(!is_at(&file, &path) && is_at(&next, &path));
    }
}
