//! Whole folders: copies that cost no room, and the exchange of one for another.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// What the system said, and of which path.
pub type FolderError = (PathBuf, io::Error);

fn of(path: &Path) -> impl FnOnce(io::Error) -> FolderError {
    let path = path.to_owned();
    move |reason| (path, reason)
}

/// Copies the folder `from` to `to` by hard links, or by copying where there are none. Files are shared: exchange them, do not write into them.
pub fn share(from: &Path, to: &Path) -> Result<(), FolderError> {
    fs::create_dir_all(to).map_err(of(to))?;
    for entry in fs::read_dir(from).map_err(of(from))? {
        let entry = entry.map_err(of(from))?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            share(&path, &target)?;
        } else if fs::hard_link(&path, &target).is_err() {
            fs::copy(&path, &target).map_err(of(&target))?;
        }
    }
    Ok(())
}

/// Removes a folder with all in it, if it is there.
pub fn remove(folder: &Path) -> Result<(), FolderError> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(of(folder)(e)),
        _ => Ok(()),
    }
}

/// Puts the folder `new` in the place of `target`, which may or may not be there and is `old` in between; all three are on one disk.
pub fn exchange(new: &Path, target: &Path, old: &Path) -> Result<(), FolderError> {
    remove(old)?;
    if target.exists() {
        fs::rename(target, old).map_err(of(target))?;
    }
    fs::rename(new, target).map_err(of(target))?;
    // What stays costs room, nothing else.
    let _ = fs::remove_dir_all(old);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_folder_takes_the_place_of_another_and_leaves_its_source_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir_all(path("from/deep")).unwrap();
        fs::write(path("from/deep/file"), "new").unwrap();
        fs::create_dir(path("to")).unwrap();
        fs::write(path("to/left"), "old").unwrap();
        share(&path("from"), &path("shared")).unwrap();
        exchange(&path("shared"), &path("to"), &path("old")).unwrap();
        assert_eq!(fs::read_to_string(path("to/deep/file")).unwrap(), "new");
        assert_eq!(fs::read_to_string(path("from/deep/file")).unwrap(), "new");
        for gone in ["to/left", "shared", "old"] {
            assert!(!path(gone).exists(), "{gone}");
        }
    }
}
