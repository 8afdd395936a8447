//! What a run cannot use of its data: told once, counted, and named in the run's folder.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::store::write_whole;
use crate::train::common::TrainError;
use crate::train::data::{Account, SKIPPED};

/// An example that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skip {
    /// The data set that it is of, where one is known.
    pub data: Option<Arc<Path>>,
    /// Names it there.
    pub id: String,
    /// The same for all with this fault, to count by.
    pub reason: &'static str,
    /// What is wrong with this one.
    pub detail: String,
}

impl From<&'static str> for Skip {
    fn from(reason: &'static str) -> Self {
        Self {
            data: None,
            id: "an image".to_owned(),
            reason,
            detail: reason.to_owned(),
        }
    }
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.id, self.detail)
    }
}

/// What is known before the first step of what cannot be used.
#[derive(Debug, Default)]
pub struct LeftOut {
    /// Rows and files that are left out of the data.
    pub account: Account,
    /// Images that are not there to be measured.
    pub images: Vec<Skip>,
}

/// What a run has skipped up to now.
pub(super) struct Skips {
    /// The list in the run's folder.
    place: PathBuf,
    /// What it named when the run was taken up.
    before: String,
    account: Account,
    met: HashSet<(Option<Arc<Path>>, String)>,
    /// Whether the list has to be written.
    behind: bool,
}

impl Skips {
    /// Of a run in `folder` whose data lack what `account` says. A run that `begins` leaves nothing of the list of an earlier one.
    pub(super) fn new(folder: &Path, account: Account, begins: bool) -> Self {
        let place = folder.join(SKIPPED);
        let before = match begins {
            true => String::new(),
            false => fs::read_to_string(&place).unwrap_or_default(),
        };
        Self {
            place,
            // Also where a list was lost.
            behind: before.is_empty(),
            before,
            account,
            met: HashSet::new(),
        }
    }

    /// Counts one, and says whether it is the first time: an example comes up once an epoch, and more often where it is repeated.
    pub(super) fn meet(&mut self, skip: &Skip) -> bool {
        let first = self.met.insert((skip.data.clone(), skip.id.clone()));
        if first {
            self.account.reading(skip.data.as_deref());
            self.account
                .skip_for(skip.reason, Some(skip.detail.clone()), || skip.id.clone());
            self.behind = true;
        }
        first
    }

    /// How many were met.
    pub(super) fn count(&self) -> usize {
        self.met.len()
    }

    /// Brings the list in the run's folder up to date. What it named before the run was taken up stays: it need not have come up again.
    pub(super) fn write(&mut self) -> Result<(), TrainError> {
        if !self.behind {
            return Ok(());
        }
        if self.before.is_empty() {
            self.account.write_skipped(&self.place)?;
        } else {
            let now = self.account.list();
            let known: HashSet<&str> = now.lines().collect();
            let before = self.before.lines().filter(|line| !known.contains(line));
            let all: String = now.lines().chain(before).map(|line| format!("{line}\n")).collect();
            write_whole(&self.place, all.as_bytes())?;
        }
        self.behind = false;
        Ok(())
    }

    /// Where the list is, if there is one.
    pub(super) fn told(&self) -> Option<String> {
        let list = self.place.is_file();
        list.then(|| format!("{} names what was skipped", self.place.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skip(data: &str, id: &str) -> Skip {
        Skip {
            data: Some(Arc::from(Path::new(data))),
            id: id.to_owned(),
            ..Skip::from("image does not decode")
        }
    }

    #[test]
    fn an_image_is_met_once_and_named_with_what_the_data_lack() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join(SKIPPED);
        fs::write(&place, "of an earlier run").unwrap();
        let mut skips = Skips::new(dir.path(), Account::default(), true);
        assert!(skips.told().is_some());
        skips.write().unwrap();
        assert_eq!((place.exists(), skips.told()), (false, None));
        let mut account = Account::default();
        account.skip("no split", || "line 3".to_owned());
        let mut skips = Skips::new(dir.path(), account, true);
        let first =
            [("a.csv", "1.png"), ("a.csv", "1.png"), ("b.csv", "1.png")].map(|(data, id)| skips.meet(&skip(data, id)));
        assert_eq!((first, skips.count()), ([true, false, true], 2));
        skips.write().unwrap();
        let text = fs::read_to_string(&place).unwrap();
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(
            text.contains("\"line\":3") && text.contains("\"data\":\"b.csv\""),
            "{text}"
        );
    }

    #[test]
    fn a_run_that_is_taken_up_goes_on_with_its_list() {
        let dir = tempfile::tempdir().unwrap();
        let text = || fs::read_to_string(dir.path().join(SKIPPED)).unwrap();
        for (begins, ids, lines) in [(true, ["1", "2"], 2), (false, ["2", "2"], 2), (false, ["3", "1"], 3)] {
            let mut skips = Skips::new(dir.path(), Account::default(), begins);
            // Nothing new leaves it as it is.
            let before = (!begins).then(text);
            skips.write().unwrap();
            assert_eq!((!begins).then(text), before);
            for id in ids {
                skips.meet(&skip("a.csv", id));
            }
            skips.write().unwrap();
            assert_eq!(text().lines().count(), lines, "{}", text());
        }
        // Where the list was lost, what the data lack is named again.
        fs::remove_file(dir.path().join(SKIPPED)).unwrap();
        let mut account = Account::default();
        account.skip("no split", || "line 3".to_owned());
        Skips::new(dir.path(), account, false).write().unwrap();
        assert_eq!(text().lines().count(), 1);
    }
}
