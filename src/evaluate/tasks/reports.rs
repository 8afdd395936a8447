//! Reports of images against the data's reports.

use serde::Serialize;

use super::super::EvaluateError;
use super::super::metrics::{Bleu, LabelTable, bleu, cider, interval, meteor, micro_f1, rouge_l};
use super::super::page::Sample;
use super::super::subject::Subject;
use super::agreement::{Agreement, agreement};
use super::sizes::{SizeScores, Sizes};
use super::{Case, Context, sample};
use crate::engine::FinishReason;
use crate::labeler::{self, Reading, Sides};
use crate::phantom::LABELS;
use crate::service::{Consensus, Options, Outcome, Request, Task};
use crate::train::classifier::scores::Counts;

/// Likeness of texts, word by word.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TextScores {
    /// BLEU-1 to BLEU-4.
    #[serde(flatten)]
    pub bleu: Bleu,
    /// ROUGE-L.
    pub rouge_l: f64,
    /// METEOR with exact and stem matches.
    pub meteor: f64,
    /// CIDEr-D.
    pub cider: f64,
}

/// Where findings that both reports name are said to be.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SideScores {
    /// Findings that both reports name, each with a side.
    pub mentioned: usize,
    /// Of these, those with the same side.
    pub right: usize,
    /// Findings that both name, and only the reference with a side.
    pub left_out: usize,
    /// `right` ÷ `mentioned`.
    pub accuracy: Option<f64>,
}

impl SideScores {
    fn add(&mut self, generated: Sides, reference: Sides) {
        match (generated.is_empty(), reference.is_empty()) {
            (false, false) => {
                self.mentioned += 1;
                self.right += usize::from(generated == reference);
            }
            (true, false) => self.left_out += 1,
            (_, true) => {}
        }
        self.accuracy = (self.mentioned > 0).then(|| self.right as f64 / self.mentioned as f64);
    }
}

/// Scores of a set of generated reports.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ReportScores {
    /// Reports compared.
    pub cases: usize,
    /// What is said of the 14 observations, generated against reference, both read by the labeler.
    pub labels: LabelTable,
    /// 95 % of the micro-F1 over the 14, by bootstrap over patients.
    pub micro_f1_interval: Option<(f64, f64)>,
    /// Sides.
    pub sides: SideScores,
    /// Sides of each observation that has any.
    pub sides_by_label: Vec<(String, SideScores)>,
    /// Words.
    pub text: TextScores,
    /// Reports that were cut off at the most tokens.
    pub cut_off: usize,
}

/// Reports, and what shows how far the figures may be trusted.
#[derive(Clone, Debug, Serialize)]
pub struct Reports {
    /// With each study's own image.
    #[serde(flatten)]
    pub scores: ReportScores,
    /// With another patient's image.
    pub blind: Option<ReportScores>,
    /// Generated reports against the data's own labels.
    pub against_data: Option<LabelTable>,
    /// The labeler on the references against the data's own labels: its own errors, and what the texts differ by where the labels were made from
    /// another section.
    pub labeler: Option<LabelTable>,
    /// How far readings agreed, where each image was read several times.
    pub agreement: Option<Agreement>,
    /// Findings by size, where the data is of phantoms: the share that is reported.
    pub by_size: Vec<SizeScores>,
    /// Id, reference, generated.
    #[serde(skip)]
    pub texts: Vec<(String, String, String)>,
    /// For the page.
    #[serde(skip)]
    pub samples: Vec<Sample>,
}

/// A report that was written.
struct Written {
    case: usize,
    text: String,
    /// What the labeler reads of it.
    reading: Reading,
    whole: bool,
    consensus: Option<Consensus>,
}

/// Has reports written and scores them; `None` where the data has none.
pub fn reports(context: &Context<'_>, subject: &Subject) -> Result<Option<Reports>, EvaluateError> {
    let cases = context.cases()?;
    if cases.is_empty() {
        return Ok(None);
    }
    let own: Vec<usize> = (0..context.studies.list.len()).collect();
    let written = have_written(context, subject, cases, &own, "reports")?;
    let blind = match context.settings.blind {
        false => None,
        true => {
            let others = context.studies.shuffled(context.settings.seed);
            let written = have_written(context, subject, cases, &others, "reports, blind")?;
            Some(score(context, cases, &written))
        }
    };
    let study = |written: &Written| &context.studies.list[cases[written.case].study];
    let mut samples = Vec::new();
    for one in written.iter().take(context.settings.samples) {
        let mut shown = sample(study(one), subject.facts.image_side);
        shown
            .texts
            .push(("true report".to_owned(), cases[one.case].reference.clone()));
        shown.texts.push(("generated report".to_owned(), one.text.clone()));
        samples.push(shown);
    }
    let against_data = |generated: bool| -> Option<LabelTable> {
        let rows: Vec<_> = written
            .iter()
            .filter(|one| !study(one).labels.is_empty())
            .map(|one| {
                let truth = LABELS.map(|label| study(one).known(label));
                let told = match generated {
                    true => one.reading.labels,
                    false => cases[one.case].reading.labels,
                };
                (
                    told.iter().map(|&l| context.present(l)).collect(),
                    truth.iter().map(|l| l.map(|l| context.present(l))).collect(),
                )
            })
            .collect();
        (!rows.is_empty()).then(|| LabelTable::of(&LABELS.map(str::to_owned), &rows))
    };
    let mut sizes = Sizes::default();
    for one in &written {
        if let Some(truth) = study(one).phantom() {
            let told = |place: usize| Some(context.present(one.reading.labels[place]));
            sizes.add(&truth, told, None);
        }
    }
    Ok(Some(Reports {
        by_size: sizes.scores(),
        scores: score(context, cases, &written),
        blind,
        agreement: agreement(
            context,
            written.iter().map(|one| (&one.consensus, &cases[one.case].reading)),
        ),
        against_data: against_data(true),
        labeler: against_data(false),
        texts: written
            .iter()
            .map(|one| {
                (
                    study(one).id.clone(),
                    cases[one.case].reference.clone(),
                    one.text.clone(),
                )
            })
            .collect(),
        samples,
    }))
}

/// Reports of every case, from the image of study `image_of[case.study]`.
fn have_written(
    context: &Context<'_>,
    subject: &Subject,
    cases: &[Case],
    image_of: &[usize],
    what: &str,
) -> Result<Vec<Written>, EvaluateError> {
    context.progress.begin(what, cases.len() as u64);
    let studies: Vec<usize> = cases.iter().map(|case| case.study).collect();
    let request = |number: usize| -> Result<Request, String> {
        let case = &cases[number];
        let image = context.studies.list[image_of[case.study]].file(subject.facts.image_side)?;
        Ok(Request {
            task: Task::Report {
                image,
                instruction: None,
            },
            options: Options {
                seed: Some(context.seed(case.study)),
                readings: context.settings.readings,
                ..Options::default()
            },
            deadline: None,
        })
    };
    let take = |number: usize, outcome: Outcome| -> Result<Written, String> {
        let answer = outcome.answers.into_iter().next().ok_or("no report came")?;
        Ok(Written {
            case: number,
            reading: labeler::read(&answer.text),
            whole: answer.finish == FinishReason::Stop,
            text: answer.text,
            consensus: outcome.consensus.into_iter().next(),
        })
    };
    context.ask(subject, (what, "reports"), &studies, request, take)
}

fn score(context: &Context<'_>, cases: &[Case], written: &[Written]) -> ReportScores {
    let pairs: Vec<(String, String)> = written
        .iter()
        .map(|w| (w.text.clone(), cases[w.case].reference.clone()))
        .collect();
    let (mut sides, mut by_label) = (SideScores::default(), vec![SideScores::default(); LABELS.len()]);
    let (mut rows, mut counts) = (Vec::new(), Vec::new());
    for one in written {
        let (generated, reference) = (&one.reading, &cases[one.case].reading);
        let mut own = Counts::default();
        for (place, of_label) in by_label.iter_mut().enumerate() {
            let (told, present) = (
                context.present(generated.labels[place]),
                context.present(reference.labels[place]),
            );
            own.add(told, present);
            if told && present {
                sides.add(generated.sides[place], reference.sides[place]);
                of_label.add(generated.sides[place], reference.sides[place]);
            }
        }
        counts.push(own);
        rows.push((
            generated.labels.iter().map(|&l| context.present(l)).collect(),
            reference.labels.iter().map(|&l| Some(context.present(l))).collect(),
        ));
    }
    let micro = |drawn: &[usize]| micro_f1(&counts, drawn);
    let patients = context.studies.patients();
    let patients = written.iter().map(|w| patients[cases[w.case].study]);
    let named = LABELS
        .iter()
        .zip(by_label)
        .filter(|(_, s)| s.mentioned + s.left_out > 0);
    ReportScores {
        cases: written.len(),
        labels: LabelTable::of(&LABELS.map(str::to_owned), &rows),
        micro_f1_interval: interval(patients, context.settings.seed, micro),
        sides,
        sides_by_label: named.map(|(name, scores)| ((*name).to_owned(), scores)).collect(),
        text: TextScores {
            bleu: bleu(&pairs),
            rouge_l: rouge_l(&pairs),
            meteor: meteor(&pairs),
            cider: cider(&pairs),
        },
        cut_off: written.iter().filter(|w| !w.whole).count(),
    }
}
