//! Drawings of the data's reports, read by a classifier that had no part in them.

use std::collections::HashMap;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::super::EvaluateError;
use super::super::metrics::{LabelTable, interval, micro_f1};
use super::super::page::Sample;
use super::super::subject::Subject;
use super::super::torch::{Moments, Reader};
use super::sizes::{SizeScores, Sizes};
use super::{Case, Context, pixels, sample};
use crate::labeler;
use crate::phantom::{Label, NO_FINDING};
use crate::radiograph::{ImageFormat, Pixels};
use crate::service::{Options, Outcome, Request, Task};
use crate::train::classifier::scores::{Counts, auroc};
use crate::train::data::decode_image;

/// Images read at a time.
pub(super) const TOGETHER: usize = 16;

/// What the classifier reads off images against what was asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ReadScores {
    /// Decisions at a probability of one half.
    pub labels: LabelTable,
    /// Area under the ROC curve of each label.
    pub auroc: Vec<(String, Option<f64>)>,
    /// 95 % of the micro-F1 over the findings, by bootstrap over patients.
    pub micro_findings_interval: Option<(f64, f64)>,
}

/// Fréchet distances of the classifier's features.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FrechetScores {
    /// All drawings against all images of the data.
    pub drawn_real: Option<f64>,
    /// Half of the data's images against those of the other patients: what two samples of the same kind give.
    pub real_halves: Option<f64>,
    /// Half of the drawings against the data's images of the other studies: as many of each as in `real_halves`, so that the two compare.
    pub drawn_half_real_half: Option<f64>,
    /// Images in each set of the first.
    pub images: (u64, u64),
}

/// Drawings.
#[derive(Clone, Debug, Serialize)]
pub struct Drawings {
    /// Drawings made.
    pub cases: usize,
    /// The drawings, read.
    pub drawn: ReadScores,
    /// The data's own images of the same studies, read: for comparison.
    pub real: ReadScores,
    /// Findings by size, where the data is of phantoms: the share that the classifier sees.
    pub by_size: Vec<SizeScores>,
    /// Distances in the space of features.
    pub frechet: FrechetScores,
    /// For the page.
    #[serde(skip)]
    pub samples: Vec<Sample>,
}

/// Probabilities and what is true of an image, and whose it is.
pub(super) type Row = (Vec<f64>, Vec<Option<bool>>, usize);
/// These of every image.
pub(super) type Rows = Vec<Row>;

/// Images of one kind that wait to be read.
struct Queue<'a> {
    reader: &'a Reader,
    waiting: Vec<(usize, Pixels)>,
    rows: Vec<(usize, Vec<f64>)>,
    /// In which half each case is ([`halves`]).
    half: &'a [usize],
    /// Features of the two halves.
    halves: [Moments; 2],
}

/// Puts the cases of these patients into two halves, 0 and 1: every second patient with all cases into the second. Two images of one patient
/// are more alike than those of two, so that halves of the same patients would be too close.
fn halves(patients: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut ranks = HashMap::<usize, usize>::new();
    let half = |patient: usize| {
        let next = ranks.len();
        *ranks.entry(patient).or_insert(next) % 2
    };
    patients.map(half).collect()
}

impl<'a> Queue<'a> {
    fn new(reader: &'a Reader, half: &'a [usize]) -> Self {
        Self {
            reader,
            half,
            waiting: Vec::new(),
            rows: Vec::new(),
            halves: [Moments::new(reader.width()), Moments::new(reader.width())],
        }
    }

    fn push(&mut self, case: usize, image: Pixels) -> Result<(), EvaluateError> {
        self.waiting.push((case, image));
        if self.waiting.len() >= TOGETHER {
            self.read()
        } else {
            Ok(())
        }
    }

    fn read(&mut self) -> Result<(), EvaluateError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let waiting = std::mem::take(&mut self.waiting);
        let images: Vec<&Pixels> = waiting.iter().map(|w| &w.1).collect();
        let sight = self.reader.see(&images)?;
        for (row, ((case, _), probabilities)) in waiting.iter().zip(sight.probabilities).enumerate() {
            self.halves[self.half[*case]].add(&sight.features.narrow(0, row as i64, 1))?;
            self.rows.push((*case, probabilities));
        }
        Ok(())
    }

    fn whole(&self) -> Moments {
        let [one, other] = &self.halves;
        one.with(other)
    }
}

/// Has the reports drawn and the drawings read; `None` where the data has no reports.
pub fn drawings(context: &Context<'_>, subject: &Subject, reader: &Reader) -> Result<Option<Drawings>, EvaluateError> {
    let cases = context.cases()?;
    if cases.is_empty() {
        return Ok(None);
    }
    let patients = context.studies.patients();
    let half = halves(cases.iter().map(|case| patients[case.study]));
    let Made { drawn, real, samples } = have_drawn(context, subject, reader, cases, &half)?;
    let frechet = FrechetScores {
        drawn_real: drawn.whole().distance(&real.whole())?,
        real_halves: real.halves[0].distance(&real.halves[1])?,
        drawn_half_real_half: drawn.halves[0].distance(&real.halves[1])?,
        images: (drawn.whole().count(), real.whole().count()),
    };
    let mut sizes = Sizes::default();
    for ((case, row), (_, own)) in drawn.rows.iter().zip(&real.rows) {
        if let Some(truth) = context.studies.list[cases[*case].study].phantom() {
            sizes.add(&truth, seen(reader, row), Some(&seen(reader, own)));
        }
    }
    let rows = |queue: &Queue<'_>| -> Rows {
        let wanted = |(case, row): &(usize, Vec<f64>)| {
            let case = &cases[*case];
            (row.clone(), requested(case, reader), patients[case.study])
        };
        queue.rows.iter().map(wanted).collect()
    };
    Ok(Some(Drawings {
        cases: drawn.rows.len(),
        by_size: sizes.scores(),
        drawn: read_scores(&rows(&drawn), &reader.labels(), context.settings.seed),
        real: read_scores(&rows(&real), &reader.labels(), context.settings.seed),
        frechet,
        samples,
    }))
}

/// What was drawn and read.
struct Made<'a> {
    drawn: Queue<'a>,
    /// The data's own images of the same studies.
    real: Queue<'a>,
    samples: Vec<Sample>,
}

/// Drawings of every case, read beside the data's own image.
fn have_drawn<'a>(
    context: &Context<'_>,
    subject: &Subject,
    reader: &'a Reader,
    cases: &[Case],
    half: &'a [usize],
) -> Result<Made<'a>, EvaluateError> {
    context.progress.begin("drawings", cases.len() as u64);
    let texts: Vec<String> = cases.iter().map(|case| asked(context, case)).collect();
    let studies: Vec<usize> = cases.iter().map(|case| case.study).collect();
    let request = |number: usize| -> Result<Request, String> {
        Ok(Request {
            task: Task::Draw {
                text: texts[number].clone(),
                n: 1,
                format: ImageFormat::Png,
            },
            options: Options {
                seed: Some(context.seed(studies[number])),
                ..Options::default()
            },
            deadline: None,
        })
    };
    let (mut drawn, mut real) = (Queue::new(reader, half), Queue::new(reader, half));
    let (mut samples, mut failed) = (Vec::new(), Ok(()));
    let take = |number: usize, outcome: Outcome| -> Result<(), String> {
        let study = &context.studies.list[studies[number]];
        let answer = outcome.answers.into_iter().next();
        let file = answer.and_then(|a| a.image).map(|i| i.file).ok_or("no image came")?;
        let image = decode_image(&file, reader.side()).map_err(|e| e.to_string())?;
        let own = pixels(study, reader.side())?;
        if samples.len() < context.settings.samples {
            let mut shown = sample(study, subject.facts.image_side);
            shown
                .figures
                .push(("drawn from the report (synthetic)".to_owned(), file.to_vec()));
            shown.texts.push(("requested".to_owned(), texts[number].clone()));
            samples.push((number, shown));
        }
        let read = drawn
            .push(number, image)
            .and_then(|()| real.push(number, Pixels::clone(&own)));
        if failed.is_ok() {
            failed = read;
        }
        Ok(())
    };
    context.ask(subject, ("drawing", "drawings"), &studies, request, take)?;
    failed?;
    drawn.read()?;
    real.read()?;
    for (number, shown) in &mut samples {
        for (queue, what) in [
            (&drawn, "read off the drawing"),
            (&real, "read off the image of the data"),
        ] {
            if let Some((_, row)) = queue.rows.iter().find(|(case, _)| case == number) {
                shown.texts.push((what.to_owned(), findings(row, &reader.labels())));
            }
        }
    }
    let samples = samples.into_iter().map(|s| s.1).collect();
    Ok(Made { drawn, real, samples })
}

/// The text that a study's drawing is asked for with.
fn asked(context: &Context<'_>, case: &Case) -> String {
    match context.settings.brief {
        false => case.reference.clone(),
        true => labeler::brief(
            &case.reference,
            &mut ChaCha8Rng::seed_from_u64(context.seed(case.study)),
        ),
    }
}

/// What the report asks for, of the labels that the classifier tells; what it leaves open is not scored.
fn requested(case: &Case, reader: &Reader) -> Vec<Option<bool>> {
    known(&case.reading.labels.map(Some), reader)
}

/// Of the labels that the classifier tells: present, absent, or `None` where uncertain or unknown.
pub(super) fn known(labels: &[Option<Label>; 14], reader: &Reader) -> Vec<Option<bool>> {
    let each = reader.places().into_iter().map(|place| match labels[place] {
        Some(Label::Positive) => Some(true),
        Some(Label::Negative | Label::Blank) => Some(false),
        Some(Label::Uncertain) | None => None,
    });
    each.collect()
}

/// Whether the label at a place in [`LABELS`](crate::phantom::LABELS) is seen; `None` where the classifier does not tell it.
pub(super) fn seen<'a>(reader: &'a Reader, row: &'a [f64]) -> impl Fn(usize) -> Option<bool> + 'a {
    let places = reader.places();
    move |label| {
        let at = places.iter().position(|place| *place == label)?;
        row.get(at).map(|p| *p > 0.5)
    }
}

/// The names of what is seen.
fn findings(row: &[f64], names: &[String]) -> String {
    let seen: Vec<String> = names
        .iter()
        .zip(row)
        .filter(|(_, p)| **p > 0.5)
        .map(|(name, p)| format!("{name} ({:.0} %)", p * 100.0))
        .collect();
    if seen.is_empty() {
        "nothing".to_owned()
    } else {
        seen.join(", ")
    }
}

pub(super) fn read_scores(rows: &Rows, names: &[String], seed: u64) -> ReadScores {
    let decided: Vec<(Vec<bool>, Vec<Option<bool>>)> = rows
        .iter()
        .map(|(row, truth, _)| (row.iter().map(|&p| p > 0.5).collect(), truth.clone()))
        .collect();
    let counts: Vec<Counts> = decided
        .iter()
        .map(|(told, truth)| {
            let mut counts = Counts::default();
            for ((name, &told), truth) in names.iter().zip(told).zip(truth) {
                if let Some(truth) = truth.filter(|_| name != NO_FINDING) {
                    counts.add(told, truth);
                }
            }
            counts
        })
        .collect();
    let micro = |drawn: &[usize]| micro_f1(&counts, drawn);
    let area = |place: usize| {
        let points = rows
            .iter()
            .filter_map(|(row, truth, _)| Some((*row.get(place)?, (*truth.get(place)?)?)));
        auroc(&points.collect::<Vec<_>>())
    };
    ReadScores {
        auroc: names
            .iter()
            .enumerate()
            .map(|(place, name)| (name.clone(), area(place)))
            .collect(),
        micro_findings_interval: interval(rows.iter().map(|row| row.2), seed, micro),
        labels: LabelTable::of(names, &decided),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_images_of_a_patient_are_in_one_half() {
        let patients = [3, 3, 3, 5, 5, 9, 3, 10];
        assert_eq!(halves(patients.into_iter()), [0, 0, 0, 1, 1, 0, 0, 1]);
        // Where patients are not known, each study is one's own.
        assert_eq!(halves(0..5), [0, 1, 0, 1, 0]);
    }
}
