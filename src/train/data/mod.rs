//! Data sets: the MIMIC-CXR-JPG layout, manifests (CSV or JSON lines) and databricks-dolly's JSON lines, as one stream of records.
//!
//! An index of what there is may be held in memory; images, reports and question files are read one at a time. What cannot be
//! used is counted with its reason ([`Account`]); a patient in two splits is an error.

mod account;
#[cfg(test)]
mod columns_tests;
mod error;
mod image;
mod labels;
mod lines;
mod literal;
mod manifest;
mod met;
mod mimic;
mod paths;
mod pile;
mod quotes;
#[cfg(test)]
mod quotes_tests;
mod record;
mod report;
mod splits;
#[cfg(test)]
mod splits_tests;
#[cfg(test)]
mod tests;
mod texts;
#[cfg(test)]
mod told_tests;

pub use account::{Account, SKIPPED};
pub use error::{DataError, is_no_file};
pub use image::{ImageFault, OWN_FILES, decode_image, read_file, read_image};
pub use labels::{LABELS_DIFFER, SUPPORT_DEVICES, clash, contradict, is_normal};
pub use literal::{Literal, LiteralError, parse_literal};
pub use met::{MET, Met};
pub use paths::plain_path;
pub use pile::{refuse_part, refuse_table};
pub use record::{Instruction, Question, Questions, Record, ReportSource, Split, is_frontal};
pub use report::{Stage, parse_report};
pub use splits::SplitWatch;
pub use texts::texts;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// What is read from a data set.
#[derive(Clone, Debug)]
pub struct Dataset {
    path: PathBuf,
    kind: Kind,
    /// Folder of the question files of a MIMIC-CXR-JPG layout.
    questions: Option<PathBuf>,
    /// Whether a report of a manifest that stands without an image is given too.
    bare: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Mimic,
    Csv,
    Lines,
}

impl Dataset {
    /// Finds out what stands at `path`: a folder with `mimic-cxr-2.0.0-split.csv` (or `.csv.gz`), or a `.csv` or `.jsonl` file.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        if let Err(reason) = path.metadata() {
            return Err(match reason.kind() {
                ErrorKind::NotFound => absent(path),
                _ => DataError::io(path, reason),
            });
        }
        let suffix = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
        let layout = mimic::is_layout(path)?;
        let kind = match suffix.as_deref() {
            _ if layout => Kind::Mimic,
            Some("csv") if path.is_file() => Kind::Csv,
            Some("jsonl") if path.is_file() => Kind::Lines,
            _ => return Err(DataError::Unknown(path.to_owned())),
        };
        Ok(Self {
            path: path.to_owned(),
            kind,
            questions: None,
            bare: false,
        })
    }

    /// Looks for question files of a MIMIC-CXR-JPG layout in `folder` instead of its `vqa`.
    pub fn with_questions(self, folder: Option<PathBuf>) -> Self {
        Self {
            questions: folder,
            ..self
        }
    }

    /// Gives the rows of a manifest too that hold a report (or `text`) and no image.
    pub fn with_bare_texts(self) -> Self {
        Self { bare: true, ..self }
    }

    /// Whether this is a folder in the MIMIC-CXR-JPG layout.
    pub fn is_mimic(&self) -> bool {
        self.kind == Kind::Mimic
    }

    /// The table that is not there and that says which images are frontal, and which study is a patient's first: without it stage 2 has no
    /// images. A manifest lacks none.
    ///
    /// # Errors
    /// When the system refuses to tell.
    pub fn lacks_views(&self) -> Result<Option<PathBuf>, DataError> {
        Ok(match self.kind {
            Kind::Mimic if !mimic::has_views(&self.path)? => Some(self.path.join(mimic::METADATA)),
            _ => None,
        })
    }

    /// Names of the labels of which every one that a study does not mention is absent: the columns of a MIMIC-CXR-JPG layout's
    /// table. A manifest has none: there, what is not named is unknown.
    pub fn closed_labels(&self) -> Result<Vec<String>, DataError> {
        match self.kind {
            Kind::Mimic => mimic::label_names(&self.path),
            Kind::Csv | Kind::Lines => Ok(Vec::new()),
        }
    }

    /// Gives every record to `each`, in an order that depends on the data alone (MIMIC-CXR-JPG: sorted by image id). What is
    /// unusable is counted in `account`.
    pub fn visit<E: From<DataError>>(
        &self,
        account: &mut Account,
        each: &mut dyn FnMut(Record, &mut Account) -> Result<(), E>,
    ) -> Result<(), E> {
        self.visit_watched(&mut SplitWatch::default(), account, each)
    }

    /// [`Dataset::visit`] of one of several data sets that are used together: `watch` has seen the others, and a patient or an image that
    /// one of them has in another split is an error.
    pub fn visit_watched<E: From<DataError>>(
        &self,
        watch: &mut SplitWatch,
        account: &mut Account,
        each: &mut dyn FnMut(Record, &mut Account) -> Result<(), E>,
    ) -> Result<(), E> {
        account.reading(Some(&self.path));
        let done = match self.kind {
            Kind::Mimic => mimic::visit(&self.path, self.questions.as_deref(), watch, account, each),
            Kind::Csv => manifest::visit_csv(&self.path, self.bare, watch, account, each),
            Kind::Lines => manifest::visit_lines(&self.path, self.bare, watch, account, each),
        };
        account.reading(None);
        done
    }
}

/// Why nothing is read from where nothing is: `data@0` names a file of that name, or is a share that is none.
fn absent(path: &Path) -> DataError {
    let behind = path.to_str().and_then(|text| text.rsplit_once('@'));
    let share = behind.and_then(|(_, share)| share.parse::<f64>().ok());
    let good = |share: f64| share > 0.0 && share.is_finite();
    match share {
        Some(share) if !good(share) => DataError::Share(path.to_owned()),
        _ => DataError::NotThere(path.to_owned()),
    }
}
