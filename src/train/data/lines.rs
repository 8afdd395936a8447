//! Lines of a text file, with their numbers.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use super::DataError;

/// Stands before the text of files that some programs write as UTF-8.
pub(super) const BYTE_ORDER_MARK: char = '\u{feff}';

/// Every line that is not blank, with its number counted from 1.
pub(super) fn lines(path: &Path) -> Result<impl Iterator<Item = Result<(u64, String), DataError>>, DataError> {
    let file = File::open(path).map_err(|e| DataError::io(path, e))?;
    let numbered = BufReader::new(file).split(b'\n').enumerate();
    let read = numbered.map(|(at, bytes)| {
        let number = at as u64 + 1;
        let text = String::from_utf8(bytes.map_err(|e| DataError::io(path, e))?).map_err(|_| DataError::Line {
            path: path.to_owned(),
            line: number,
            reason: "it is not UTF-8; save the file as UTF-8".to_owned(),
        })?;
        Ok(match text.strip_prefix(BYTE_ORDER_MARK) {
            Some(rest) if number == 1 => (number, rest.to_owned()),
            _ => (number, text),
        })
    });
    Ok(read.filter(|line| !line.as_ref().is_ok_and(|(_, text)| text.trim().is_empty())))
}
