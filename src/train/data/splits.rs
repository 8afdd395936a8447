//! Watches that no patient stands in two splits.

use std::collections::HashMap;
use std::path::Path;

use super::{DataError, Split};

/// Where each patient (or image) was first seen.
#[derive(Default)]
pub(super) struct SplitWatch(HashMap<(&'static str, String), (u64, Split)>);

impl SplitWatch {
    /// Notes that the `what` called `key` is in `split` by `line` of `path`.
    pub(super) fn see(
        &mut self,
        path: &Path,
        what: &'static str,
        key: &str,
        line: u64,
        split: Split,
    ) -> Result<(), DataError> {
        let (first, first_split) = *self.0.entry((what, key.to_owned())).or_insert((line, split));
        if first_split == split {
            return Ok(());
        }
        Err(DataError::Leak {
            path: path.to_owned(),
            what,
            first,
            first_split,
            second: line,
            second_split: split,
        })
    }
}
