//! P(yes) of one question against one label.

use serde::Serialize;

use super::super::EvaluateError;
use super::super::metrics::{Calibration, calibration, interval};
use super::super::studies::{Studies, Study};
use super::super::subject::Subject;
use super::Context;
use crate::phantom::Label;
use crate::service::{Options, Outcome, Request, Task};
use crate::train::classifier::scores::auroc as area;

/// How well P(yes) tells two kinds of images apart.
#[derive(Clone, Debug, Serialize)]
pub struct PresenceScores {
    /// The question.
    pub question: String,
    /// The label that makes yes right.
    pub label: String,
    /// Base name of the data.
    pub data: String,
    /// Images with the label.
    pub positives: usize,
    /// Images known not to have it.
    pub negatives: usize,
    /// Images of which it is not known; they are not scored.
    pub unknown: usize,
    /// Area under the ROC curve.
    pub auroc: Option<f64>,
    /// 95 % of it, by bootstrap over patients.
    pub interval: Option<(f64, f64)>,
    /// Share of right answers at P(yes) of one half.
    pub accuracy: Option<f64>,
    /// Calibration of P(yes).
    pub calibration: Option<Calibration>,
    /// The ROC curve: false-positive and true-positive rates.
    pub curve: Vec<(f64, f64)>,
}

/// The places of the images of which it is known whether they have the label, and whether they do.
///
/// # Errors
/// [`EvaluateError::Settings`] unless there are both such with it and such without.
pub fn labelled(studies: &Studies, label: &str) -> Result<Vec<(usize, bool)>, EvaluateError> {
    let places = studies.list.iter().enumerate();
    let known: Vec<(usize, bool)> = places
        .filter_map(|(place, study)| Some((place, has(study, label)?)))
        .collect();
    let count = |truth: bool| known.iter().filter(|k| k.1 == truth).count();
    if count(true) == 0 || count(false) == 0 {
        return Err(EvaluateError::Settings(format!(
            "the data has {} images with the label {label} and {} known to be without it; --auroc-label needs both (labels are looked \
             for as the data spells them, without regard to case)",
            count(true),
            count(false)
        )));
    }
    Ok(known)
}

/// Asks the question of every image of `data` (its base name) whose label is known.
pub fn auroc(
    context: &Context<'_>,
    subject: &Subject,
    question: &str,
    label: &str,
    data: String,
) -> Result<PresenceScores, EvaluateError> {
    let studies = &context.studies.list;
    let known = labelled(context.studies, label)?;
    context.progress.begin("P(yes)", known.len() as u64);
    let places: Vec<usize> = known.iter().map(|k| k.0).collect();
    let request = |number: usize| -> Result<Request, String> {
        let place = places[number];
        Ok(Request {
            task: Task::Vqa {
                image: studies[place].file(subject.facts.image_side)?,
                questions: vec![question.to_owned()],
            },
            options: Options {
                // P(yes) is of the first token: the rest of the answer is not needed.
                max_tokens: Some(1),
                seed: Some(context.seed(place)),
                readings: context.settings.readings,
                ..Options::default()
            },
            deadline: None,
        })
    };
    let patients = context.studies.patients();
    let take = |number: usize, outcome: Outcome| -> Result<_, String> {
        let (place, truth) = known[number];
        let answer = outcome.answers.into_iter().next();
        match answer.and_then(|answer| answer.p_yes) {
            Some(p) => Ok(((p, truth), patients[place])),
            None => Err("the model gives neither yes nor no any probability".to_owned()),
        }
    };
    let asked = context.ask(subject, ("P(yes)", "P(yes)"), &places, request, take)?;
    let (points, of): (Vec<(f64, bool)>, Vec<usize>) = asked.into_iter().unzip();
    let right = points.iter().filter(|p| (p.0 > 0.5) == p.1).count();
    Ok(PresenceScores {
        question: question.to_owned(),
        label: label.to_owned(),
        data,
        positives: points.iter().filter(|p| p.1).count(),
        negatives: points.iter().filter(|p| !p.1).count(),
        unknown: studies.len() - known.len(),
        auroc: area(&points),
        interval: interval(of, context.settings.seed, |drawn| {
            area(&drawn.iter().map(|&i| points[i]).collect::<Vec<_>>())
        }),
        accuracy: (!points.is_empty()).then(|| right as f64 / points.len() as f64),
        calibration: calibration(&points),
        curve: curve(&points),
    })
}

/// Whether a study has the label; `None` where that is uncertain or not known.
fn has(study: &Study, label: &str) -> Option<bool> {
    match study.known(label)? {
        Label::Positive => Some(true),
        Label::Negative | Label::Blank => Some(false),
        Label::Uncertain => None,
    }
}

/// The ROC curve, thinned to at most 200 points.
fn curve(points: &[(f64, bool)]) -> Vec<(f64, f64)> {
    let mut sorted = points.to_vec();
    sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
    let positives = sorted.iter().filter(|p| p.1).count().max(1) as f64;
    let negatives = (sorted.len() as f64 - positives).max(1.0);
    let (mut up, mut right, mut curve) = (0.0, 0.0, vec![(0.0, 0.0)]);
    for ties in sorted.chunk_by(|a, b| a.0 == b.0) {
        let hits = ties.iter().filter(|p| p.1).count() as f64;
        up += hits / positives;
        right += (ties.len() as f64 - hits) / negatives;
        curve.push((right, up));
    }
    let step = curve.len().div_ceil(200);
    let last = curve.len() - 1;
    curve
        .into_iter()
        .enumerate()
        .filter(|(at, _)| at % step == 0 || *at == last)
        .map(|(_, point)| point)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::SplitChoice;

    #[test]
    fn a_label_is_known_by_its_value_or_by_a_normal_image() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.csv");
        let rows = "file,split,labels\na.png,test,PNEUMONIA;virus\nb.png,test,NORMAL\nc.png,test,Pneumonia=-1\nd.png,test,virus\ne.png,test,Pneumonia=0\n";
        std::fs::write(&path, rows).unwrap();
        let studies = Studies::collect(&path, None, SplitChoice::All, 0, 1).unwrap();
        let known: Vec<Option<bool>> = studies.list.iter().map(|s| has(s, "Pneumonia")).collect();
        assert_eq!(known, [Some(true), Some(false), None, None, Some(false)]);
    }

    #[test]
    fn the_curve_goes_from_corner_to_corner_and_holds_the_area() {
        let points = [(0.9, true), (0.8, false), (0.7, true), (0.1, false)];
        let curve = curve(&points);
        assert_eq!((curve[0], curve[curve.len() - 1]), ((0.0, 0.0), (1.0, 1.0)));
        let under: f64 = curve
            .windows(2)
            .map(|w| (w[1].0 - w[0].0) * (w[1].1 + w[0].1) / 2.0)
            .sum();
        assert_eq!(Some(under), area(&points));
    }
}
