//! Whole folders: copies that cost no room, and the exchange of one for another.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// What the system said, and of which path.
pub type FolderError = (PathBuf, io::Error);

fn of(path: &Path) -> impl FnOnce(io::Error) -> FolderError {
    let path = path.to_owned();
    move |reason| (path, reason)
}

/// Copies the folder `from` to `to` by hard links, or by copying where there are none; what is at `to` already stays. Files are shared:
/// exchange them, do not write into them.
pub fn share(from: &Path, to: &Path) -> Result<(), FolderError> {
    fs::create_dir_all(to).map_err(of(to))?;
    for entry in fs::read_dir(from).map_err(of(from))? {
        let entry = entry.map_err(of(from))?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            share(&path, &target)?;
        } else if fs::symlink_metadata(&target).is_err() && fs::hard_link(&path, &target).is_err() {
            fs::copy(&path, &target).map_err(of(&target))?;
        }
    }
    Ok(())
}

/// Removes a folder with all in it, or a file, if it is there.
pub fn remove(place: &Path) -> Result<(), FolderError> {
    let removed = fs::symlink_metadata(place).and_then(|found| match found.is_dir() {
        true => fs::remove_dir_all(place),
        false => fs::remove_file(place),
    });
    match removed {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(of(place)(e)),
        _ => Ok(()),
    }
}

/// Waits until the disk has all that is at `place`: a file, or a folder with the names and files in it. Links are left alone.
///
/// # Errors
/// When nothing is there, or the disk refuses.
pub fn sync(place: &Path) -> Result<(), FolderError> {
    let found = fs::symlink_metadata(place).map_err(of(place))?.file_type();
    if found.is_dir() {
        for entry in fs::read_dir(place).map_err(of(place))? {
            sync(&entry.map_err(of(place))?.path())?;
        }
    }
    match found.is_dir() || found.is_file() {
        true => sync_one(place),
        false => Ok(()),
    }
}

/// [`sync`] of one file, or of the names in one folder.
fn sync_one(place: &Path) -> Result<(), FolderError> {
    use ErrorKind::{InvalidInput, PermissionDenied, Unsupported};

    match File::open(place).and_then(|open| open.sync_all()) {
        // What may not be read was not written here; some file systems do not sync folders.
        Err(e) if matches!(e.kind(), PermissionDenied | InvalidInput | Unsupported) => Ok(()),
        done => done.map_err(of(place)),
    }
}

/// With more files than this all that waits for a disk is written at once, which then is much faster than one file after the other.
const MANY: usize = 1000;

/// Waits until the disk has `place`, all in it and its name; very many files may be in it.
///
/// # Errors
/// When nothing is there, or the disk refuses.
pub fn settle(place: &Path) -> Result<(), FolderError> {
    let mut left = MANY;
    if !few(place, &mut left) && sync_file_system(place) {
        return Ok(());
    }
    sync(place)?;
    sync_one(around(place))
}

/// Whether fewer than `left` files and folders are at `place`. It counts no further.
fn few(place: &Path, left: &mut usize) -> bool {
    *left = left.saturating_sub(1);
    let mut below = fs::read_dir(place).into_iter().flatten().flatten();
    *left > 0 && below.all(|entry| few(&entry.path(), left))
}

/// [`sync`] of all that is on the disk that `place` is on; `false` where that cannot be.
#[cfg(target_os = "linux")]
fn sync_file_system(place: &Path) -> bool {
    use std::os::fd::AsRawFd;

    // SAFETY: the file is open as long as the call, which does not keep it.
    File::open(place).is_ok_and(|open| unsafe { libc::syncfs(open.as_raw_fd()) == 0 })
}

#[cfg(not(target_os = "linux"))]
fn sync_file_system(_: &Path) -> bool {
    false
}

/// The folder that a path is in.
fn around(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// [`sync`] of the two names that an exchange gives folders.
fn sync_names(new: &Path, target: &Path) -> Result<(), FolderError> {
    for name in [new, target] {
        sync_one(around(name))?;
    }
    Ok(())
}

/// Puts the folder `new` in the place of `target`, which may or may not be there; all three are on one disk. Where the system can, that
/// is one step, so that there is a folder at `target` at any moment; elsewhere what was there is at `old` in between. What was there is
/// removed only when the disk has the new one: a loss of power costs no more than the one or the other.
///
/// # Errors
/// When the system refuses; `target` is then as it was.
pub fn exchange(new: &Path, target: &Path, old: &Path) -> Result<(), FolderError> {
    recover(target, old)?;
    remove(old)?;
    sync(new)?;
    if target.exists() && swap(new, target) {
        if let Err(error) = sync_names(new, target) {
            swap(new, target);
            return Err(error);
        }
        // What was there has the other name now. If it stays it costs room, nothing else.
        let _ = fs::remove_dir_all(new);
        return Ok(());
    }
    in_turn(new, target, old)
}

/// Puts back what an [`exchange`] that was killed in between left at `old`, if there is nothing at `target`.
pub fn recover(target: &Path, old: &Path) -> Result<(), FolderError> {
    match target.exists() || !old.is_dir() {
        true => Ok(()),
        false => fs::rename(old, target).map_err(of(target)),
    }
}

/// [`exchange`] by one renaming after the other.
fn in_turn(new: &Path, target: &Path, old: &Path) -> Result<(), FolderError> {
    let occupied = target.exists();
    if occupied {
        fs::rename(target, old).map_err(of(target))?;
    }
    let placed = fs::rename(new, target).map_err(of(target)).and_then(|()| {
        sync_names(new, target).inspect_err(|_| {
            let _ = fs::rename(target, new);
        })
    });
    if let Err(error) = placed {
        if occupied {
            // What was there goes back; the first error is the one to tell.
            let _ = fs::rename(old, target);
        }
        return Err(error);
    }
    // What stays costs room, nothing else.
    let _ = fs::remove_dir_all(old);
    Ok(())
}

/// Gives each of two folders the other's name, in one step; `false` where the system cannot: then both are as they were.
#[cfg(target_os = "linux")]
fn swap(one: &Path, other: &Path) -> bool {
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt;

    let name = |path: &Path| CString::new(path.as_os_str().as_bytes());
    let (Ok(one), Ok(other)) = (name(one), name(other)) else {
        return false;
    };
    let (here, flags) = (libc::AT_FDCWD, libc::RENAME_EXCHANGE);
    // SAFETY: both names end with a zero and outlive the call, which keeps neither.
    unsafe { libc::renameat2(here, one.as_ptr(), here, other.as_ptr(), flags) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn swap(_: &Path, _: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A way to exchange folders.
    type Way = fn(&Path, &Path, &Path) -> Result<(), FolderError>;

    const WAYS: [Way; 2] = [exchange, in_turn];

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn a_shared_folder_takes_the_place_of_another_and_leaves_its_source_as_it_was() {
        for way in WAYS {
            let dir = tempfile::tempdir().unwrap();
            let path = |name: &str| dir.path().join(name);
            write(&path("from/deep/file"), "new");
            write(&path("from/kept"), "of the source");
            write(&path("to/left"), "old");
            write(&path("shared/kept"), "there before");
            share(&path("from"), &path("shared")).unwrap();
            way(&path("shared"), &path("to"), &path("old")).unwrap();
            let read = |name: &str| fs::read_to_string(path(name)).unwrap();
            assert_eq!(read("to/deep/file"), "new");
            assert_eq!(read("from/deep/file"), "new");
            assert_eq!(read("to/kept"), "there before");
            assert_eq!(read("from/kept"), "of the source");
            for gone in ["to/left", "shared", "old"] {
                assert!(!path(gone).exists(), "{gone}");
            }
        }
    }

    #[test]
    fn what_is_there_settles_whether_it_is_a_file_or_a_folder_and_what_is_not_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        write(&path("deep/er/file"), "text");
        for name in ["deep", "deep/er/file"] {
            settle(&path(name)).unwrap();
        }
        assert_eq!(settle(&path("missing")).unwrap_err().0, path("missing"));
        assert!(few(&path("deep"), &mut 4) && !few(&path("deep"), &mut 3));
        assert!(!sync_file_system(&path("missing")));
        assert_eq!(
            (around(Path::new("a/b")), around(Path::new("a"))),
            (Path::new("a"), Path::new("."))
        );
    }

    #[test]
    fn a_folder_that_nothing_takes_the_place_of_stays_where_it_is() {
        for (way, told) in WAYS.into_iter().zip(["missing", "to"]) {
            let dir = tempfile::tempdir().unwrap();
            let path = |name: &str| dir.path().join(name);
            write(&path("to/file"), "old");
            let (at, _) = way(&path("missing"), &path("to"), &path("old")).unwrap_err();
            assert_eq!(at, path(told));
            assert_eq!(fs::read_to_string(path("to/file")).unwrap(), "old");
            assert!(!path("old").exists());
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_nowhere_keeps_no_folder_from_its_place() {
        for way in WAYS {
            let dir = tempfile::tempdir().unwrap();
            let path = |name: &str| dir.path().join(name);
            write(&path("new/deep/file"), "new");
            write(&path("to/file"), "old");
            std::os::unix::fs::symlink("nowhere", path("new/deep/link")).unwrap();
            way(&path("new"), &path("to"), &path("old")).unwrap();
            assert_eq!(fs::read_to_string(path("to/deep/file")).unwrap(), "new");
            assert!(!path("to/file").exists());
        }
    }

    #[test]
    fn what_a_kill_left_between_two_names_goes_back_and_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        write(&path("old/file"), "the only one");
        exchange(&path("missing"), &path("to"), &path("old")).unwrap_err();
        assert_eq!(fs::read_to_string(path("to/file")).unwrap(), "the only one");
        // A place without anything is taken too.
        write(&path("new/file"), "new");
        exchange(&path("new"), &path("free"), &path("old")).unwrap();
        assert_eq!(fs::read_to_string(path("free/file")).unwrap(), "new");
    }
}
