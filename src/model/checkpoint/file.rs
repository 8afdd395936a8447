//! A file mapped into memory.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use super::CheckpointError;
use super::stand_in::stand_in;

/// A file whose bytes are read where they lie: mapped, not loaded.
#[derive(Debug)]
pub(crate) struct MappedFile {
    pub(crate) path: PathBuf,
    map: Mmap,
}

impl MappedFile {
    /// # Errors
    /// When it cannot be read, or only stands for the file of its name.
    pub(crate) fn open(path: &Path) -> Result<Self, CheckpointError> {
        let io = |reason| CheckpointError::io(path, reason);
        let file = File::open(path).map_err(io)?;
        if !file.metadata().map_err(io)?.is_file() {
            return Err(CheckpointError::format(path, "is not a file"));
        }
        // SAFETY: the map is read-only and private to this process. Nobody may write to a checkpoint while it is open;
        // bundles are written under another name and moved into place.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        if let Some(reason) = stand_in(&map) {
            return Err(CheckpointError::format(path, reason));
        }
        Ok(Self {
            path: path.to_owned(),
            map,
        })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Gives the pages that lie wholly inside `range` back to the system (they stay in the page cache).
    pub(crate) fn release(&self, range: Range<usize>) {
        const PAGE: usize = 4096;
        let (start, end) = (range.start.next_multiple_of(PAGE), range.end / PAGE * PAGE);
        if start < end && end <= self.map.len() {
            // SAFETY: the map is read-only and file-backed, so a dropped page is read from the file again when it is touched.
            let advised = unsafe {
                self.map
                    .unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, end - start)
            };
            if let Err(error) = advised {
                tracing::debug!(%error, "pages of a loaded tensor stay mapped");
            }
        }
    }

    /// The bytes of a range that `what` is said to occupy.
    pub(crate) fn slice(&self, range: Range<u64>, what: &str) -> Result<&[u8], CheckpointError> {
        let length = self.map.len() as u64;
        if range.end > length || range.start > range.end {
            let needed = range.end.max(range.start);
            return Err(CheckpointError::Truncated {
                file: self.path.clone(),
                what: what.to_owned(),
                needed,
                length,
            });
        }
        Ok(&self.map[range.start as usize..range.end as usize])
    }
}
