//! Whether something was written at a place, told without reading what is there.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// What is at a place: two that are alike mean that nothing was written there in between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Glance {
    /// Files and folders.
    entries: u64,
    /// Bytes of the files.
    bytes: u64,
    /// When one of them was last written to.
    last: Option<SystemTime>,
}

impl Glance {
    /// Looks at a file, or at a folder with all in it.
    pub(super) fn at(place: &Path) -> Self {
        let mut glance = Self::default();
        if let Ok(place) = place.canonicalize() {
            glance.take(&place);
        }
        glance
    }

    fn take(&mut self, place: &Path) {
        let Ok(found) = fs::symlink_metadata(place) else {
            return;
        };
        self.entries += 1;
        // Behind a link anything may have been written.
        let written = match found.is_symlink() {
            true => Some(SystemTime::now()),
            false => found.modified().ok(),
        };
        self.last = self.last.max(written);
        if !found.is_dir() {
            self.bytes += found.len();
            return;
        }
        for entry in fs::read_dir(place).into_iter().flatten().flatten() {
            self.take(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_written_removed_or_only_touched_shows_and_what_is_read_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let (deep, file) = (dir.path().join("a/b"), dir.path().join("a/b/file"));
        fs::create_dir_all(&deep).unwrap();
        fs::write(&file, "one").unwrap();
        let look = || Glance::at(dir.path());
        let first = look();
        fs::read(&file).unwrap();
        assert_eq!(look(), first);
        let text = serde_json::to_string(&first).unwrap();
        assert_eq!(serde_json::from_str::<Glance>(&text).unwrap(), first);
        let later = SystemTime::now() + Duration::from_secs(9);
        let open = fs::File::options().write(true).open(&file).unwrap();
        open.set_modified(later).unwrap();
        let touched = look();
        assert_ne!(touched, first);
        fs::write(deep.join("more"), "").unwrap();
        assert_ne!(look(), touched);
        fs::remove_dir_all(dir.path().join("a")).unwrap();
        assert_eq!(look().entries, 1);
        assert_eq!(Glance::at(&file), Glance::default());
    }
}
