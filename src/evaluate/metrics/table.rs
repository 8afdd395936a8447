//! Precision, recall and F1 of each label, and over all of them.

use serde::Serialize;

use crate::phantom::NO_FINDING;
use crate::train::classifier::scores::Counts;

/// Precision, recall and F1; none where nothing was told or present.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Scores {
    /// Share of what was told that is true.
    pub precision: Option<f64>,
    /// Share of what is true that was told.
    pub recall: Option<f64>,
    /// Their harmonic mean.
    pub f1: Option<f64>,
}

impl Scores {
    /// From counts.
    pub fn of(counts: &Counts) -> Self {
        let share = |of: usize| (of > 0).then(|| counts.hits as f64 / of as f64);
        Self {
            precision: share(counts.hits + counts.false_alarms),
            recall: share(counts.hits + counts.misses),
            f1: counts.f1(),
        }
    }
}

/// F1 over all decisions on the cases `drawn`, with `counts` of each case; a case that is drawn twice counts twice.
pub fn micro_f1(counts: &[Counts], drawn: &[usize]) -> Option<f64> {
    let drawn = drawn.iter().filter_map(|&case| counts.get(case));
    drawn.sum::<Counts>().f1()
}

/// One label's row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LabelScore {
    /// The label.
    pub label: String,
    /// Present and told.
    pub hits: usize,
    /// Told but absent.
    pub false_alarms: usize,
    /// Present but not told.
    pub misses: usize,
    /// Neither.
    pub rejections: usize,
    /// Precision, recall, F1.
    #[serde(flatten)]
    pub scores: Scores,
}

/// The rows of all labels, and their sums.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LabelTable {
    /// Over all decisions.
    pub micro: Scores,
    /// Over the decisions on findings, [`NO_FINDING`] left out.
    pub micro_findings: Scores,
    /// Mean F1 of the labels that were present or told at least once.
    pub macro_f1: Option<f64>,
    /// Images or reports that were compared.
    pub cases: usize,
    /// Each label.
    pub labels: Vec<LabelScore>,
}

impl LabelTable {
    /// Counts `cases` of (told, present), each as long as `names`; `None` where a label is unknown.
    pub fn of(names: &[String], cases: &[(Vec<bool>, Vec<Option<bool>>)]) -> Self {
        let (mut micro, mut findings, mut labels) = (Counts::default(), Counts::default(), Vec::new());
        for (place, name) in names.iter().enumerate() {
            let (mut counts, mut all) = (Counts::default(), 0);
            for (told, present) in cases {
                if let (Some(&told), Some(&Some(present))) = (told.get(place), present.get(place)) {
                    all += 1;
                    counts.add(told, present);
                    micro.add(told, present);
                    if name != NO_FINDING {
                        findings.add(told, present);
                    }
                }
            }
            labels.push(LabelScore {
                label: name.clone(),
                hits: counts.hits,
                false_alarms: counts.false_alarms,
                misses: counts.misses,
                rejections: all - counts.hits - counts.false_alarms - counts.misses,
                scores: Scores::of(&counts),
            });
        }
        let each: Vec<f64> = labels.iter().filter_map(|l| l.scores.f1).collect();
        Self {
            micro: Scores::of(&micro),
            micro_findings: Scores::of(&findings),
            macro_f1: (!each.is_empty()).then(|| each.iter().sum::<f64>() / each.len() as f64),
            cases: cases.len(),
            labels,
        }
    }
}
