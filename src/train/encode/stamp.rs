//! What an image file was when it was encoded.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

/// File systems note times in steps of up to this: of a file that was written later than so long ago, another writing may not show.
const COARSEST: Duration = Duration::from_secs(2);

/// Stands for the time of change of a file that may have been written to again unseen.
const UNSETTLED: i64 = i64::MIN;

/// What can be asked of a file without reading it.
///
/// The time of change is no attribute that a copy takes along, so a file that replaces another is told from it even where both have one
/// size and one time of modification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Bytes.
    pub(super) size: u64,
    /// When its content was written, in ns since 1970.
    pub(super) modified: i64,
    /// When it became what it is at this place, in ns since 1970.
    pub(super) changed: i64,
}

impl Stamp {
    /// Bytes of a stamp in a file of codes.
    pub(super) const LENGTH: usize = 24;

    /// Asks for it.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let file = fs::metadata(path)?;
        let time = |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        Ok(Self {
            size: file.len(),
            modified: time(file.mtime(), file.mtime_nsec()),
            changed: time(file.ctime(), file.ctime_nsec()),
        })
    }

    /// What is noted of a file that is read after this: the stamp of one that was written just now is equal to none, so the next run looks
    /// into it again.
    pub(super) fn settled(self) -> Self {
        let limit = SystemTime::now()
            .checked_sub(COARSEST)
            .and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok())
            .and_then(|time| i64::try_from(time.as_nanos()).ok());
        match limit {
            Some(limit) if self.modified < limit && self.changed < limit => self,
            _ => Self {
                changed: UNSETTLED,
                ..self
            },
        }
    }

    pub(super) fn to_bytes(self) -> [u8; Self::LENGTH] {
        let mut out = [0; Self::LENGTH];
        let fields = [self.size, self.modified.cast_unsigned(), self.changed.cast_unsigned()];
        for (place, field) in out.as_chunks_mut::<8>().0.iter_mut().zip(fields) {
            *place = field.to_le_bytes();
        }
        out
    }

    pub(super) fn from_bytes(bytes: &[u8; Self::LENGTH]) -> Self {
        let fields = bytes.as_chunks::<8>().0;
        let [size, modified, changed] = std::array::from_fn(|at| u64::from_le_bytes(fields[at]));
        Self {
            size,
            modified: modified.cast_signed(),
            changed: changed.cast_signed(),
        }
    }
}

/// Half of the SHA-256 of a file's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Content(pub(super) [u8; 16]);

impl Content {
    /// Of these bytes.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let sum: [u8; 32] = Sha256::digest(bytes).into();
        Self(std::array::from_fn(|at| sum[at]))
    }
}

/// An image file as it was when it was encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// Size and times.
    pub(super) stamp: Stamp,
    /// What it held.
    pub(super) content: Content,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_back_and_one_of_a_file_just_written_is_equal_to_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, "abc").unwrap();
        let stamp = Stamp::of(&path).unwrap();
        assert_eq!((stamp.size, Stamp::from_bytes(&stamp.to_bytes())), (3, stamp));
        assert_ne!(stamp.settled(), stamp);
        let old = Stamp {
            modified: 5,
            changed: -7,
            ..stamp
        };
        assert_eq!((old.settled(), Stamp::from_bytes(&old.to_bytes())), (old, old));
    }
}
