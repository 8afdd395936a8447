//! One more file for a bundle that is there.
//!
//! The new bundle is prepared beside the old one, with which it shares all other files, and takes its place as a whole: nobody sees the new
//! file with the old manifest, and a server that runs keeps the files it has opened.

use std::fs;
use std::path::{Path, PathBuf};

use super::held::Held;
use super::manifest::{FileEntry, Manifest};
use super::write::{json, sibling, version};
use super::{BundleError, MANIFEST, folders, read_manifest, sha256};

/// What a folder that is replaced is called in between, behind its name.
const OLD: &str = "old.partial";
/// The room in a bundle.
const INSIDE: &str = ".partial";

/// Puts one more file into a bundle that is there, or another in its place: `write` is given the path to write it at, where nothing is yet.
///
/// Where the bundle's folder cannot be exchanged as a whole (a mount point, a parent that cannot be written to, no hard links), its files
/// are exchanged one after the other.
///
/// # Errors
/// When the folder is no bundle or cannot be written to, when another command is at work on it, and what `write` says. The bundle is as it
/// was then.
pub fn add_file(
    dir: &Path,
    name: &str,
    write: &dyn Fn(&Path) -> Result<(), BundleError>,
) -> Result<Manifest, BundleError> {
    if let Ok(old) = sibling(dir, OLD) {
        folders::recover(dir, &old).map_err(BundleError::folder)?;
    }
    read_manifest(&dir.join(MANIFEST))?;
    // A link to the bundle goes on pointing at it.
    let dir = &dir.canonicalize().map_err(BundleError::io(dir))?;
    let _held = Held::where_possible(dir)?;
    // Another command may have changed it just now.
    let manifest = read_manifest(&dir.join(MANIFEST))?;
    let room = Room::beside(dir).map_or_else(|| Room::inside(dir), Ok)?;
    let manifest = room.prepare(manifest, name, write)?;
    if !room.exchanged(dir) {
        room.put(dir, name)?;
    }
    Ok(manifest)
}

/// A hidden folder in which a change is prepared; removed in the end.
struct Room {
    path: PathBuf,
    /// Whether it lies beside the bundle and shares a file system with it.
    beside: bool,
}

impl Room {
    /// Beside the bundle at `dir`; `None` where that cannot be exchanged for it.
    fn beside(dir: &Path) -> Option<Self> {
        // Whoever stands in the folder would be left in one that is gone.
        let stands_in_it = std::env::current_dir().is_ok_and(|at| at.starts_with(dir));
        let path = sibling(dir, "partial").ok().filter(|_| !stands_in_it)?;
        folders::remove(&path).ok()?;
        fs::create_dir(&path).ok()?;
        let (room, probe) = (Self { path, beside: true }, "probe");
        fs::hard_link(dir.join(MANIFEST), room.path.join(probe)).ok()?;
        fs::remove_file(room.path.join(probe)).ok()?;
        Some(room)
    }

    /// In the bundle at `dir`.
    fn inside(dir: &Path) -> Result<Self, BundleError> {
        let path = dir.join(INSIDE);
        folders::remove(&path).map_err(BundleError::folder)?;
        fs::create_dir(&path).map_err(BundleError::io(&path))?;
        Ok(Self { path, beside: false })
    }

    /// Writes the file and the manifest that lists it, and waits until the disk has both.
    fn prepare(
        &self,
        mut manifest: Manifest,
        name: &str,
        write: &dyn Fn(&Path) -> Result<(), BundleError>,
    ) -> Result<Manifest, BundleError> {
        let (new, listed) = (self.path.join(name), self.path.join(MANIFEST));
        if let Some(folder) = new.parent() {
            fs::create_dir_all(folder).map_err(BundleError::io(folder))?;
        }
        write(&new)?;
        let entry = FileEntry {
            path: name.to_owned(),
            size: new.metadata().map_err(BundleError::io(&new))?.len(),
            sha256: sha256(&new, &mut |_| ())?,
        };
        manifest.files.retain(|file| file.path != name);
        manifest.files.push(entry);
        manifest.files.sort_by(|a, b| a.path.cmp(&b.path));
        manifest.version = version(&manifest.files);
        fs::write(&listed, json(&manifest, &listed)?).map_err(BundleError::io(&listed))?;
        folders::sync(&self.path).map_err(BundleError::folder)?;
        Ok(manifest)
    }

    /// Takes the place of the bundle at `dir`, with all its other files; `false` if that cannot be: then the bundle is as it was.
    fn exchanged(&self, dir: &Path) -> bool {
        let Ok(old) = sibling(dir, OLD) else { return false };
        // Left behind inside by a process that was killed.
        if !self.beside || folders::remove(&dir.join(INSIDE)).is_err() {
            return false;
        }
        // Written before the bundle's other files are shared: nothing is ever written into one of those.
        if folders::share(dir, &self.path).is_err() {
            return false;
        }
        if let Ok(found) = dir.metadata() {
            // Who may read the bundle stays as it was, as far as the system lets it.
            let _ = fs::set_permissions(&self.path, found.permissions());
        }
        folders::exchange(&self.path, dir, &old).is_ok()
    }

    /// Puts file and manifest into the bundle at `dir`, one after the other. If the second cannot be put there, the first goes back.
    fn put(&self, dir: &Path, name: &str) -> Result<(), BundleError> {
        let (place, before) = (dir.join(name), self.path.join("before"));
        let there = place.exists();
        let kept = there && fs::hard_link(&place, &before).is_ok();
        let rename = |name: &str, to: &Path| fs::rename(self.path.join(name), to).map_err(BundleError::io(to));
        rename(name, &place)?;
        rename(MANIFEST, &dir.join(MANIFEST)).inspect_err(|_| {
            // The first error is the one to tell.
            let _ = match (kept, there) {
                (true, _) => fs::rename(&before, &place),
                (false, false) => fs::remove_file(&place),
                (false, true) => Ok(()),
            };
        })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // What stays costs room, nothing else. After an exchange nothing is left there.
        let _ = fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use tempfile::TempDir;

    use super::*;
    use crate::model::bundle::{CONFIG, TOKENIZER, VQGAN_CONFIG, VQGAN_WEIGHTS};

    /// A folder with what a bundle has, as far as its manifest can tell, in `bundle/`.
    fn bundle() -> (TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("bundle");
        fs::create_dir_all(dir.join("vqgan")).unwrap();
        let mut files = Vec::new();
        for path in [CONFIG, TOKENIZER, VQGAN_CONFIG, VQGAN_WEIGHTS] {
            fs::write(dir.join(path), "old").unwrap();
            files.push(FileEntry {
                path: path.to_owned(),
                size: 3,
                sha256: sha256(&dir.join(path), &mut |_| ()).unwrap(),
            });
        }
        let manifest = Manifest::listing(files);
        fs::write(dir.join(MANIFEST), json(&manifest, Path::new(MANIFEST)).unwrap()).unwrap();
        (root, dir)
    }

    fn write(path: &Path) -> Result<(), BundleError> {
        assert!(!path.exists(), "there is a file that may be shared");
        fs::write(path, "newer").map_err(BundleError::io(path))
    }

    /// Whether every file is what the manifest says, and nothing hidden is left.
    fn assert_whole(root: &TempDir, dir: &Path) {
        let manifest = read_manifest(&dir.join(MANIFEST)).unwrap();
        assert_eq!(manifest.version, version(&manifest.files));
        for file in &manifest.files {
            assert_eq!(sha256(&dir.join(&file.path), &mut |_| ()).unwrap(), file.sha256);
        }
        for folder in [root.path(), dir] {
            for entry in fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                let hidden = entry.path().is_dir() && entry.file_name().to_string_lossy().starts_with('.');
                assert!(!hidden, "{} is left", entry.path().display());
            }
        }
    }

    #[test]
    fn a_file_takes_the_place_of_another_and_who_has_that_open_keeps_it() {
        let (root, dir) = bundle();
        let twin = root.path().join("twin");
        folders::share(&dir, &twin).unwrap();
        let mut open = fs::File::open(dir.join(VQGAN_WEIGHTS)).unwrap();
        let manifest = add_file(&dir, VQGAN_WEIGHTS, &write).unwrap();
        assert_eq!(manifest, read_manifest(&dir.join(MANIFEST)).unwrap());
        assert_eq!(fs::read_to_string(dir.join(VQGAN_WEIGHTS)).unwrap(), "newer");
        let mut text = String::new();
        open.read_to_string(&mut text).unwrap();
        assert_eq!(text, "old");
        assert_whole(&root, &dir);
        assert_whole(&root, &twin);
        assert_ne!(read_manifest(&twin.join(MANIFEST)).unwrap().version, manifest.version);
        // One that was not there is listed too.
        assert_eq!(add_file(&dir, "more", &write).unwrap().files.len(), 5);
        assert_whole(&root, &dir);
    }

    #[test]
    fn a_folder_that_cannot_be_exchanged_gets_its_files_one_after_the_other() {
        let (root, dir) = bundle();
        // No folder can be made there.
        fs::write(root.path().join(".bundle.partial"), "in the way").unwrap();
        fs::create_dir(dir.join(INSIDE)).unwrap();
        fs::write(dir.join(INSIDE).join("left"), "by a kill").unwrap();
        for name in [VQGAN_WEIGHTS, "more"] {
            add_file(&dir, name, &write).unwrap();
            assert_eq!(fs::read_to_string(dir.join(name)).unwrap(), "newer");
            assert_whole(&root, &dir);
        }
    }

    #[test]
    fn a_failure_leaves_the_bundle_as_it_was() {
        let (root, dir) = bundle();
        let before = fs::read(dir.join(MANIFEST)).unwrap();
        let half = |path: &Path| -> Result<(), BundleError> {
            fs::write(path, "half").unwrap();
            Err(BundleError::NotABundle(path.to_owned()))
        };
        add_file(&dir, VQGAN_WEIGHTS, &half).unwrap_err();
        assert_eq!(fs::read(dir.join(MANIFEST)).unwrap(), before);
        assert_whole(&root, &dir);
        assert!(add_file(root.path(), VQGAN_WEIGHTS, &write).is_err());
    }

    #[test]
    fn a_bundle_that_is_being_replaced_gets_no_file() {
        let (root, dir) = bundle();
        let held = Held::beside(&dir.canonicalize().unwrap()).unwrap();
        let refused = add_file(&dir, "more", &write).unwrap_err();
        assert!(matches!(&refused, BundleError::Busy(_)), "{refused}");
        drop(held);
        add_file(&dir, "more", &write).unwrap();
        assert_whole(&root, &dir);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_a_bundle_stays_a_link() {
        let (root, dir) = bundle();
        let link = root.path().join("current");
        std::os::unix::fs::symlink("bundle", &link).unwrap();
        add_file(&link, VQGAN_WEIGHTS, &write).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(dir.join(VQGAN_WEIGHTS)).unwrap(), "newer");
        assert_whole(&root, &dir);
    }
}
