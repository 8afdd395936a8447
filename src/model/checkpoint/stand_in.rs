//! Files that only stand for the one of their name: what a download leaves that did not go as it was meant to.

use std::path::Path;

use super::CheckpointError;

/// So far into a file its kind shows.
const HEAD: usize = 1024;

/// What stands in the place of a file, and what to do; `None` for any other bytes.
pub(super) fn stand_in(bytes: &[u8]) -> Option<&'static str> {
    if bytes.starts_with(b"version https://git-lfs") {
        return Some("is a Git LFS pointer, not the file itself; fetch it with `git lfs pull`");
    }
    let head = &bytes[..bytes.len().min(HEAD)];
    let text = head.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(head).trim_ascii_start();
    // The length that safetensors begin with may be a `<`, too, but has zeros behind it.
    (text.starts_with(b"<") && !head.contains(&0)).then_some(
        "is a web page, not the file itself: its download was refused or needs a confirmation; fetch it again",
    )
}

/// Reads a small file beside the weights whole: a configuration, a tokenizer, an index.
///
/// # Errors
/// When it cannot be read, or only stands for the file of its name.
pub(crate) fn read_whole(path: &Path) -> Result<Vec<u8>, CheckpointError> {
    let bytes = std::fs::read(path).map_err(|reason| CheckpointError::io(path, reason))?;
    match stand_in(&bytes) {
        None => Ok(bytes),
        Some(reason) => Err(CheckpointError::format(path, reason)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_and_pointers_are_told_from_what_they_stand_for() {
        for page in [
            "<!DOCTYPE html><html><head><title>Virus scan warning</title></head></html>",
            "\n\t <html>",
            "\u{feff}<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
        ] {
            let said = stand_in(page.as_bytes()).unwrap_or_default();
            assert!(said.contains("web page"), "{page}: {said}");
        }
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
        assert!(stand_in(pointer).is_some_and(|said| said.contains("git lfs pull")));
        // The first two are safetensors with a header of 60 bytes, and of 15,392.
        for other in [
            b"<\0\0\0\0\0\0\0{\"a\":".as_slice(),
            b" <\0\0\0\0\0\0{\"a\":",
            b"{}",
            b"model:\n",
            b"",
            b"\xEF\xBB\xBF",
        ] {
            assert_eq!(stand_in(other), None, "{other:?}");
        }
    }

    #[test]
    fn a_small_file_is_read_unless_something_stands_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        let missing = read_whole(&path).unwrap_err().to_string();
        assert!(missing.contains("config.json"), "{missing}");
        std::fs::write(&path, "{}").unwrap();
        assert_eq!(read_whole(&path).unwrap(), b"{}");
        std::fs::write(&path, "<html>").unwrap();
        let page = read_whole(&path).unwrap_err().to_string();
        assert!(page.contains("config.json: is a web page"), "{page}");
    }
}
