//! A folder beside its place, until it is whole.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::held::Held;
use super::write::sibling;
use super::{BundleError, folders};

/// A folder being written. Until [`finish`](Self::finish) it lies hidden beside its place, and is removed if the work fails; so the folder is
/// whole or not there. One command at a time is at work on it.
#[derive(Debug)]
pub(crate) struct Partial {
    out: PathBuf,
    old: PathBuf,
    folder: PathBuf,
    /// Let go of when the hidden folder is gone.
    _held: Held,
}

impl Partial {
    /// Begins a folder at `out`, which must be empty or missing unless `force` allows to replace it.
    pub(crate) fn create(out: &Path, force: bool) -> Result<Self, BundleError> {
        check_free(out, force)?;
        let held = Held::beside(out)?;
        // Another command may have made something there just now.
        check_free(out, force)?;
        let (folder, old) = (sibling(out, "partial")?, sibling(out, "old.partial")?);
        // Left behind by a run that was killed.
        folders::remove(&folder).map_err(BundleError::folder)?;
        fs::create_dir_all(&folder).map_err(BundleError::io(&folder))?;
        Ok(Self {
            out: out.to_owned(),
            old,
            folder,
            _held: held,
        })
    }

    /// The path at which a file of the folder is to be written.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes a small file.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), BundleError> {
        let path = self.path(name);
        fs::write(&path, bytes).map_err(BundleError::io(&path))
    }

    /// Moves the folder to its place when the disk has all of it.
    pub(crate) fn finish(self) -> Result<(), BundleError> {
        folders::exchange(&self.folder, &self.out, &self.old).map_err(BundleError::folder)
    }
}

/// Refuses what is at `out` unless it is empty or missing, or `force` allows to replace it.
fn check_free(out: &Path, force: bool) -> Result<(), BundleError> {
    let occupied = match fs::read_dir(out) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == ErrorKind::NotFound => false,
        Err(error) => return Err(BundleError::io(out)(error)),
    };
    match occupied && !force {
        true => Err(BundleError::Exists(out.to_owned())),
        false => Ok(()),
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // After `finish` there is nothing left to remove.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_at_its_place_when_it_is_whole_and_leaves_nothing_when_it_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let names = || fs::read_dir(dir.path()).unwrap().count();
        let partial = Partial::create(&out, false).unwrap();
        partial.write("file", b"one").unwrap();
        // It, and the file that says that somebody is at work.
        assert_eq!((out.exists(), names()), (false, 2));
        drop(partial);
        assert_eq!(names(), 0);
        for (force, text) in [(false, "one"), (true, "two")] {
            let partial = Partial::create(&out, force).unwrap();
            partial.write("file", text.as_bytes()).unwrap();
            partial.finish().unwrap();
            assert_eq!(
                (fs::read_to_string(out.join("file")).unwrap().as_str(), names()),
                (text, 1)
            );
        }
        assert!(matches!(Partial::create(&out, false), Err(BundleError::Exists(_))));
        assert!(Partial::create(Path::new("/"), true).is_err());
    }

    #[test]
    fn a_second_command_at_the_same_place_is_refused_and_does_the_first_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        // What a kill left is removed.
        fs::create_dir(dir.path().join(".out.partial")).unwrap();
        fs::write(dir.path().join(".out.partial/left"), "by a kill").unwrap();
        let first = Partial::create(&out, true).unwrap();
        assert!(!first.path("left").exists());
        first.write("file", b"of the first").unwrap();
        for force in [false, true] {
            let refused = Partial::create(&out, force).unwrap_err();
            assert!(matches!(&refused, BundleError::Busy(_)), "{refused}");
        }
        first.finish().unwrap();
        assert_eq!(fs::read_to_string(out.join("file")).unwrap(), "of the first");
        let names = |folder: &Path| fs::read_dir(folder).unwrap().count();
        assert_eq!((names(dir.path()), names(&out)), (1, 1));
        Partial::create(&out, true).unwrap().finish().unwrap();
    }
}
