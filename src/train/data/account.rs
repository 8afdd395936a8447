//! What was used and what was skipped, and why.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::DataError;

/// How the list of what was skipped is called in the folder of a run.
pub const SKIPPED: &str = "skipped.jsonl";
/// Most that are named one by one, which bounds memory; what is beyond is counted alone.
const NAMED: usize = 100_000;

/// Counts by reason; the first place of each is kept so that one can look, and a list of them all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    used: BTreeMap<&'static str, u64>,
    skipped: BTreeMap<&'static str, (u64, String)>,
    /// Each one that was skipped, up to [`NAMED`].
    named: Vec<Named>,
    /// The data set that is being read.
    data: Option<Arc<Path>>,
    notes: BTreeSet<String>,
}

/// One that was skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    data: Option<Arc<Path>>,
    place: String,
    reason: &'static str,
    detail: Option<String>,
}

impl Account {
    /// Counts one that is used, by its kind.
    pub fn used(&mut self, kind: &'static str) {
        *self.used.entry(kind).or_default() += 1;
    }

    /// Counts one that is skipped for `reason`. `place` tells where it stands (`line 3`, `line 3 of table.csv`, an id).
    pub fn skip(&mut self, reason: &'static str, place: impl FnOnce() -> String) {
        self.skip_for(reason, None, place);
    }

    /// [`Account::skip`] with what `reason` does not say: it is the same for all that are counted by it, `detail` is of this one.
    pub fn skip_for(&mut self, reason: &'static str, detail: Option<String>, place: impl FnOnce() -> String) {
        let (count, first) = self.skipped.entry(reason).or_default();
        *count += 1;
        let room = self.named.len() < NAMED;
        if *count > 1 && !room {
            return;
        }
        let place = place();
        if *count == 1 {
            first.clone_from(&place);
        }
        if room {
            self.named.push(Named {
                data: self.data.clone(),
                place,
                reason,
                detail,
            });
        }
    }

    /// Notes what whoever reads the account should know; the same note is told once.
    pub fn note(&mut self, note: String) {
        self.notes.insert(note);
    }

    /// How many were skipped for this reason.
    pub fn skipped(&self, reason: &str) -> u64 {
        self.skipped.get(reason).map_or(0, |(count, _)| *count)
    }

    /// How many of this kind are used.
    pub fn count(&self, kind: &str) -> u64 {
        self.used.get(kind).copied().unwrap_or(0)
    }

    /// What is skipped from here on is of this data set, or of none.
    pub(in crate::train) fn reading(&mut self, data: Option<&Path>) {
        self.data = data.map(Arc::from);
    }

    /// Adds what another account counts.
    pub fn join(&mut self, other: Self) {
        for (kind, count) in other.used {
            *self.used.entry(kind).or_default() += count;
        }
        for (reason, (count, place)) in other.skipped {
            let known = self.skipped.entry(reason).or_insert((0, place));
            known.0 += count;
        }
        let room = NAMED.saturating_sub(self.named.len());
        self.named.extend(other.named.into_iter().take(room));
        self.notes.extend(other.notes);
    }

    /// A line of JSON for each one that was skipped: the data set, the line or the id, the reason.
    pub fn list(&self) -> String {
        self.named.iter().map(|one| format!("{}\n", one.json())).collect()
    }

    /// Writes [`Account::list`] to `path`. Where nothing was skipped, the list that an earlier run left there is removed. Says whether there is
    /// one.
    ///
    /// # Errors
    /// When the system refuses; then no half of a list is left.
    pub fn write_skipped(&self, path: &Path) -> Result<bool, DataError> {
        let error = |reason| DataError::io(path, reason);
        if self.named.is_empty() {
            return match fs::remove_file(path) {
                Err(reason) if reason.kind() != ErrorKind::NotFound => Err(error(reason)),
                _ => Ok(false),
            };
        }
        fs::write(path, self.list()).map_err(|reason| {
            // The write's failure is what is told.
            let _ = fs::remove_file(path);
            error(reason)
        })?;
        Ok(true)
    }

    /// [`Account::write_skipped`], and notes where the list is.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn keep_skipped(&mut self, path: &Path) -> Result<(), DataError> {
        if self.write_skipped(path)? {
            let note = self.told_in(&path.display().to_string());
            self.note(note);
        }
        Ok(())
    }

    /// Says which file names what was skipped.
    pub fn told_in(&self, file: &str) -> String {
        let all: u64 = self.skipped.values().map(|(count, _)| count).sum();
        match self.named.len() {
            named if named as u64 == all => format!("{file} names what was skipped"),
            named => format!("{file} names the first {named} of the {all} that were skipped"),
        }
    }
}

impl Named {
    fn json(&self) -> Value {
        let mut out = Map::new();
        if let Some(data) = &self.data {
            out.insert("data".to_owned(), json!(data.to_string_lossy()));
        }
        match line(&self.place) {
            Some((line, table)) => {
                out.insert("line".to_owned(), json!(line));
                if let Some(table) = table {
                    out.insert("table".to_owned(), json!(table));
                }
            }
            None => {
                out.insert("id".to_owned(), json!(self.place));
            }
        }
        out.insert("reason".to_owned(), json!(self.reason));
        if let Some(detail) = &self.detail {
            out.insert("detail".to_owned(), json!(detail));
        }
        Value::Object(out)
    }
}

/// The number and the table of a place like `line 3` or `line 3 of table.csv`; `None` for an id.
fn line(place: &str) -> Option<(u64, Option<&str>)> {
    let rest = place.strip_prefix("line ")?;
    let (number, table) = match rest.split_once(" of ") {
        Some((number, table)) => (number, Some(table)),
        None => (rest, None),
    };
    Some((number.parse().ok()?, table))
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let used: Vec<String> = self.used.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
        write!(
            f,
            "used: {}",
            if used.is_empty() {
                "nothing".to_owned()
            } else {
                used.join(", ")
            }
        )?;
        for (reason, (count, place)) in &self.skipped {
            write!(f, "\nskipped {count}: {reason} (first: {place})")?;
        }
        self.notes.iter().try_for_each(|note| write!(f, "\n{note}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_was_skipped_is_named_in_a_file_and_the_list_of_an_earlier_run_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(SKIPPED);
        let mut account = Account::default();
        account.reading(Some(Path::new("/data/m.csv")));
        account.skip("no split", || "line 3".to_owned());
        account.skip("no split", || "line 7 of s.csv".to_owned());
        account.reading(None);
        account.skip_for("does not decode", Some("cut off".to_owned()), || "a.png".to_owned());
        account.keep_skipped(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(
            lines,
            [
                json!({"data": "/data/m.csv", "line": 3, "reason": "no split"}),
                json!({"data": "/data/m.csv", "line": 7, "table": "s.csv", "reason": "no split"}),
                json!({"id": "a.png", "reason": "does not decode", "detail": "cut off"}),
            ]
        );
        assert!(account.to_string().contains("skipped 2: no split (first: line 3)"));
        assert!(
            account
                .to_string()
                .ends_with(&format!("{} names what was skipped", path.display()))
        );
        assert!(!Account::default().write_skipped(&path).unwrap());
        assert!(!path.exists());
        assert!(!Account::default().write_skipped(&path).unwrap());
    }

    #[test]
    fn accounts_of_several_data_sets_are_joined() {
        let account = |places: &[&str]| {
            let mut account = Account::default();
            account.used("images");
            account.note("as told".to_owned());
            for place in places {
                account.skip("no split", || (*place).to_owned());
            }
            account
        };
        let mut all = account(&["a", "b"]);
        all.join(account(&["c"]));
        assert_eq!((all.count("images"), all.skipped("no split")), (2, 3));
        assert_eq!(all.list().lines().count(), 3);
        let text = all.to_string();
        assert!(text.contains("skipped 3: no split (first: a)"), "{text}");
        assert_eq!(text.matches("as told").count(), 1, "{text}");
    }

    #[test]
    fn the_list_of_what_was_skipped_has_an_end_and_the_count_has_none() {
        let mut account = Account::default();
        for number in 0..NAMED + 5 {
            account.skip("odd", || format!("line {number}"));
        }
        account.skip("other", || "a.png".to_owned());
        assert_eq!((account.named.len(), account.skipped("odd")), (NAMED, NAMED as u64 + 5));
        assert!(account.to_string().contains("skipped 1: other (first: a.png)"));
        assert!(account.told_in("x").contains("the first 100000 of the 100006"));
    }
}
