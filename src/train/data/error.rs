//! Why a data set cannot be read at all.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::Split;
use super::quotes::Misplaced;

/// A data set that cannot be used. Patients are never named, only places in files.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// Neither layout.
    #[error(
        "{} is no data set: give a folder in the MIMIC-CXR-JPG layout (with mimic-cxr-2.0.0-split.csv), or a manifest ending in .csv or .jsonl \
         (`pretrain --text` takes .txt too)", .0.display()
    )]
    Unknown(PathBuf),
    /// Nothing is there.
    #[error("{} is no data set: nothing is there; look at the path{}", .0.display(), backslashes(.0))]
    NotThere(PathBuf),
    /// Nothing is there, and the path ends as a share does that is none.
    #[error("{} is no data set: nothing is there; if a share is meant by what stands behind the @, it must be a number above 0", .0.display())]
    Share(PathBuf),
    /// A folder whose images are those of a data set with splits.
    #[error("{} is no mere folder of images: {why}", .folder.display())]
    NoPile {
        /// The folder.
        folder: PathBuf,
        /// What it is, and what to give.
        why: String,
    },
    /// A table without a line.
    #[error("{} is empty: its first line must name its columns", .0.display())]
    Empty(PathBuf),
    /// The operating system refused.
    #[error("{}: {reason}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// A file of a record that is there or not, which the system does not say.
    #[error(
        "the {what} of {id} could not be read: {reason}; see that the disk or share that holds it answers and that it may be read, and run this \
         again"
    )]
    Unread {
        /// What stands in the file.
        what: &'static str,
        /// The record's id: a path may name the patient.
        id: String,
        /// What the system said.
        reason: io::Error,
    },
    /// A table lacks columns.
    #[error("{} lacks the column {missing}; it has {found}", .path.display())]
    Columns {
        /// The file.
        path: PathBuf,
        /// What is needed.
        missing: String,
        /// What is there.
        found: String,
    },
    /// Two columns that stand for one field.
    #[error("{} has two columns for `{field}`: {first} and {second}; rename or remove one of them", .path.display())]
    Twice {
        /// The file.
        path: PathBuf,
        /// What both stand for.
        field: &'static str,
        /// One of the two.
        first: String,
        /// The other.
        second: String,
    },
    /// A table whose columns are not separated by commas.
    #[error("{} separates its columns by {what}; save it comma-separated, as UTF-8", .path.display())]
    Separator {
        /// The file.
        path: PathBuf,
        /// By what they are separated.
        what: &'static str,
    },
    /// A line that cannot be parsed.
    #[error("{}, line {line}: {reason}", .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: u64,
        /// What is wrong.
        reason: String,
    },
    /// A patient (or, without patients, an image) in two splits.
    #[error(
        "{}: the {what} of line {second} (split {second_split}) is already in split {first_split} by line {first}{}; a leak between splits makes every score worthless, so put all of a patient's images into one{why}", .path.display(), of(elsewhere.as_deref())
    )]
    Leak {
        /// The file.
        path: PathBuf,
        /// `patient` or `image`.
        what: &'static str,
        /// Line of the first mention.
        first: u64,
        /// Its split.
        first_split: Split,
        /// File of the first mention, where it is another one.
        elsewhere: Option<PathBuf>,
        /// Why two files are thought to mean the same one; a sentence, or nothing.
        why: &'static str,
        /// Line of the contradiction.
        second: u64,
        /// Its split.
        second_split: Split,
    },
}

/// Whether the system knows that no file is there, nor can be: nothing, a folder, a link that leads to itself, or a name that no file has.
/// Whatever else it says, as where a share does not answer, is no reason to go on without the file.
pub fn is_no_file(reason: &io::Error) -> bool {
    matches!(
        reason.kind(),
        ErrorKind::NotFound
            | ErrorKind::NotADirectory
            | ErrorKind::IsADirectory
            | ErrorKind::InvalidFilename
            | ErrorKind::InvalidInput
    ) || reason.raw_os_error() == Some(libc::ELOOP)
}

/// A hint at a path that was written on another system.
fn backslashes(path: &Path) -> &'static str {
    match path.to_string_lossy().contains('\\') {
        true => ", whose folders have / between them here, not backslashes",
        false => "",
    }
}

/// Names the file of a line.
fn of(file: Option<&Path>) -> String {
    file.map_or_else(String::new, |file| format!(" of {}", file.display()))
}

impl DataError {
    pub(super) fn io(path: &Path, reason: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            reason,
        }
    }

    /// Of the file with the `what` of the record `id`.
    pub fn unread(what: &'static str, id: &str, reason: io::Error) -> Self {
        Self::Unread {
            what,
            id: id.to_owned(),
            reason,
        }
    }

    pub(super) fn csv(path: &Path, error: csv::Error) -> Self {
        let line = error.position().map_or(0, csv::Position::line);
        match error.into_kind() {
            csv::ErrorKind::Io(reason) => match Misplaced::of(&reason) {
                Some(quote) => Self::Line {
                    path: path.to_owned(),
                    line: quote.line,
                    reason: quote.to_string(),
                },
                None => Self::io(path, reason),
            },
            kind => Self::Line {
                path: path.to_owned(),
                line,
                reason: match kind {
                    csv::ErrorKind::Utf8 { .. } => {
                        "it is not UTF-8; save the table as UTF-8, comma-separated".to_owned()
                    }
                    csv::ErrorKind::UnequalLengths { expected_len, len, .. } => format!(
                        "it has {len} columns and the first line {expected_len}; save the table as UTF-8, comma-separated, with quotes \
                         around texts that hold commas"
                    ),
                    _ => "it is no row of this table; save the table as UTF-8, comma-separated".to_owned(),
                },
            },
        }
    }
}
