//! Watches that no patient stands in two splits, over all data sets of a run.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{DataError, Split, plain_path};

/// Stands in a folder of phantoms, whose patients are numbered as those of MIMIC-CXR are, and are not these.
pub(super) const PHANTOMS: &str = "phantom.json";

const ONE_LAYOUT: &str = ". Subjects of data sets in the MIMIC-CXR-JPG layout are taken for the same people; if these are two people, give one of \
                          them another id";
const ONE_FOLDER: &str = ". Patients of data sets in one folder are taken for the same people; if these are two people, give one of them another id, \
                          or put the data sets into two folders";

/// Where each patient and image was first seen. One watch goes over all data sets that are learned from and measured on together.
///
/// A patient's id means one person within a data set; in data sets of the MIMIC-CXR-JPG layout, all of which are parts of MIMIC-CXR
/// (phantoms apart); and in those that stand in one folder. Elsewhere two equal ids (`1`, `p1`) may be two people. An image file is
/// the same image whichever data set names it.
#[derive(Debug, Default)]
pub struct SplitWatch {
    /// Tables in which something was seen first.
    tables: Vec<PathBuf>,
    /// By checksums of what was seen: number of the table, line, split.
    first: HashMap<[u8; 16], (u32, u32, Split)>,
}

/// Where the names of a data set mean what they mean.
pub(super) struct Scope {
    folder: PathBuf,
    /// Whether its patients are those of MIMIC-CXR.
    mimic: bool,
}

impl Scope {
    /// Of a data set that stands in `folder`, which has the MIMIC-CXR-JPG layout or not.
    pub(super) fn of(folder: &Path, layout: bool) -> Self {
        let here = match folder.as_os_str().is_empty() {
            true => Path::new("."),
            false => folder,
        };
        Self {
            folder: here.canonicalize().unwrap_or_else(|_| here.to_owned()),
            mimic: layout && !here.join(PHANTOMS).is_file(),
        }
    }
}

/// A place in a table.
pub(super) struct Place<'a> {
    pub(super) table: &'a Path,
    /// Counted from 1.
    pub(super) line: u64,
    pub(super) split: Split,
}

impl SplitWatch {
    /// Notes a patient.
    pub(super) fn patient(&mut self, scope: &Scope, patient: &str, place: &Place<'_>) -> Result<(), DataError> {
        let folder = scope.folder.as_os_str().as_encoded_bytes();
        self.see("patient", [b"folder", folder, patient.as_bytes()], ONE_FOLDER, place)?;
        match scope.mimic {
            true => self.see("patient", [b"mimic", b"", patient.as_bytes()], ONE_LAYOUT, place),
            false => Ok(()),
        }
    }

    /// Notes an image by its path, absolute or from the data set's folder.
    pub(super) fn image(&mut self, scope: &Scope, image: &Path, place: &Place<'_>) -> Result<(), DataError> {
        let path = plain_path(&scope.folder.join(image));
        self.see("image", [b"image", b"", path.as_os_str().as_encoded_bytes()], "", place)
    }

    fn see(
        &mut self,
        what: &'static str,
        key: [&[u8]; 3],
        why: &'static str,
        place: &Place<'_>,
    ) -> Result<(), DataError> {
        if self.tables.last().is_none_or(|last| last != place.table) {
            self.tables.push(place.table.to_owned());
        }
        let table = self.tables.len() as u32 - 1;
        let mut sum = Sha256::new();
        for part in key {
            sum.update((part.len() as u64).to_le_bytes());
            sum.update(part);
        }
        let sum: [u8; 32] = sum.finalize().into();
        let new = (table, u32::try_from(place.line).unwrap_or(u32::MAX), place.split);
        let key = std::array::from_fn(|at| sum[at]);
        let (first_table, first, first_split) = *self.first.entry(key).or_insert(new);
        if first_split == place.split {
            return Ok(());
        }
        let first_table = self.tables.get(first_table as usize);
        let elsewhere = first_table.filter(|first| *first != place.table);
        Err(DataError::Leak {
            path: place.table.to_owned(),
            what,
            first: u64::from(first),
            why: elsewhere.map_or("", |_| why),
            elsewhere: elsewhere.cloned(),
            first_split,
            second: place.line,
            second_split: place.split,
        })
    }
}
