//! What was met before: a report may stand in several rows, one for each image or question, and is one text all the same.

use std::collections::HashSet;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::ReportSource;

/// Why a text is left out that was read before.
pub const MET: &str = "text was read before";

/// Texts and files that were met, by checksums of 16 bytes.
#[derive(Debug, Default)]
pub struct Met(HashSet<[u8; 16]>);

impl Met {
    /// Notes a text. Whether it is new.
    pub fn text(&mut self, text: &str) -> bool {
        self.note(b"text", text.as_bytes())
    }

    /// Notes a file, by its path. Whether it is new.
    pub fn file(&mut self, path: &Path) -> bool {
        self.note(b"file", path.as_os_str().as_encoded_bytes())
    }

    /// Notes where a report is: the file, or the text. Whether it is new.
    pub fn source(&mut self, report: &ReportSource) -> bool {
        match report {
            ReportSource::File(path) => self.file(path),
            ReportSource::Text(text) => self.text(text),
        }
    }

    fn note(&mut self, kind: &[u8; 4], bytes: &[u8]) -> bool {
        let sum: [u8; 32] = Sha256::new().chain_update(kind).chain_update(bytes).finalize().into();
        self.0.insert(std::array::from_fn(|at| sum[at]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_and_a_file_of_one_name_are_two_and_each_is_new_once() {
        let mut met = Met::default();
        assert!(met.text("a.txt") && met.file(Path::new("a.txt")) && met.text("Clear."));
        assert!(!met.source(&ReportSource::Text("Clear.".to_owned())));
        assert!(!met.source(&ReportSource::File("a.txt".into())));
    }
}
