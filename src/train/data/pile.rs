//! Whether a folder is a mere pile of images, or a part of a data set that has splits.

use std::path::Path;

use super::splits::PHANTOMS;
use super::{DataError, mimic};

/// So the names of MIMIC-CXR-JPG's tables begin, in each of its versions.
const TABLES: &str = "mimic-cxr-2.";

/// Refuses a folder that lies in a data set: taken for a mere pile of images, its images for testing would be trained on.
///
/// # Errors
/// [`DataError::NoPile`], or when the system refuses to tell what lies above it.
pub fn refuse_part(folder: &Path) -> Result<(), DataError> {
    let place = folder.canonicalize().map_err(|reason| DataError::io(folder, reason))?;
    for above in place.ancestors().skip(1) {
        if mimic::is_layout(above)? || above.join(PHANTOMS).is_file() {
            let why = format!(
                "it is a part of the data set in {0}, whose splits say which images are for testing; give {0}",
                above.display()
            );
            return Err(no_pile(folder, why));
        }
    }
    Ok(())
}

/// Refuses a folder that holds this file, if the file is a table of a data set: one with splits, or one whose table of splits is not where
/// it should be.
///
/// # Errors
/// As [`refuse_part`].
pub fn refuse_table(folder: &Path, file: &Path) -> Result<(), DataError> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let table = name.starts_with(TABLES) && (name.ends_with(".csv") || name.ends_with(".csv.gz"));
    if !table && name != PHANTOMS {
        return Ok(());
    }
    let whole = file.parent().unwrap_or(folder);
    let why = match mimic::is_layout(whole)? {
        true => format!(
            "it holds the data set in {0}, whose splits say which images are for testing; give {0}",
            whole.display()
        ),
        false => format!(
            "{} is of a data set in the MIMIC-CXR-JPG layout, and {} (or .csv.gz), which says which images are for testing, is not beside \
             it; put it there under this name",
            file.display(),
            mimic::SPLITS
        ),
    };
    Err(no_pile(folder, why))
}

fn no_pile(folder: &Path, why: String) -> DataError {
    DataError::NoPile {
        folder: folder.to_owned(),
        why,
    }
}
