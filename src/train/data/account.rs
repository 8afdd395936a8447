//! What was used and what was skipped, and why.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Counts by reason; the first place of each is kept so that one can look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    used: BTreeMap<&'static str, u64>,
    skipped: BTreeMap<&'static str, (u64, String)>,
    notes: BTreeSet<String>,
}

impl Account {
    /// Counts one that is used, by its kind.
    pub fn used(&mut self, kind: &'static str) {
        *self.used.entry(kind).or_default() += 1;
    }

    /// Counts one that is skipped for `reason`. `place` tells where it stands (a file of the data set and line, an id).
    pub fn skip(&mut self, reason: &'static str, place: impl FnOnce() -> String) {
        self.skipped.entry(reason).or_insert_with(|| (0, place())).0 += 1;
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
