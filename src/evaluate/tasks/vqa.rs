//! Answers to the data's questions.

use std::collections::BTreeMap;

use serde::Serialize;

use super::super::EvaluateError;
use super::super::metrics::{Calibration, calibration, interval};
use super::super::page::Sample;
use super::super::subject::Subject;
use super::vqa_words::{Kind, normalised, topic, word_f1};
use super::{Context, sample};
use crate::labeler::yes_or_no;
use crate::service::{Options, Outcome, Request, Task};
use crate::train::classifier::scores::auroc;
use crate::train::data::Question;

/// Yes-or-no questions of one topic.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TopicScores {
    /// The question without its frame.
    pub topic: String,
    /// Questions whose right answer is yes.
    pub yes: usize,
    /// Questions whose right answer is no.
    pub no: usize,
    /// Share of right answers where yes is right.
    pub right_of_yes: Option<f64>,
    /// Share of right answers where no is right.
    pub right_of_no: Option<f64>,
    /// Mean of the two.
    pub balanced: Option<f64>,
    /// Area under the ROC curve of P(yes).
    pub auroc: Option<f64>,
}

/// Yes-or-no questions.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct YesNoScores {
    /// Questions.
    pub questions: usize,
    /// Share of right answers.
    pub accuracy: Option<f64>,
    /// Share of right answers, yes and no equally frequent within each topic: what a set that holds as many of both as the rarer
    /// answer allows would give on average.
    pub balanced_accuracy: Option<f64>,
    /// 95 % of it, by bootstrap over patients.
    pub balanced_interval: Option<(f64, f64)>,
    /// Answers that are neither yes nor no; they count as wrong.
    pub neither: usize,
    /// Area under the ROC curve of P(yes) over all.
    pub auroc: Option<f64>,
    /// Calibration of P(yes).
    pub calibration: Option<Calibration>,
    /// Each topic.
    pub topics: Vec<TopicScores>,
}

/// Questions of one kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KindScores {
    /// What is asked for.
    pub kind: Kind,
    /// Questions.
    pub questions: usize,
    /// Share of answers that are the right one, normalised.
    pub exact: f64,
    /// Mean F1 of the words.
    pub word_f1: f64,
}

/// Scores of a set of answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct VqaScores {
    /// Yes-or-no questions.
    pub yes_no: YesNoScores,
    /// The other kinds.
    pub kinds: Vec<KindScores>,
}

/// Answers, and what is left of them when the image is another.
#[derive(Clone, Debug, Serialize)]
pub struct Answers {
    /// With each study's own image.
    #[serde(flatten)]
    pub scores: VqaScores,
    /// With another patient's image.
    pub blind: Option<VqaScores>,
    /// Every answer.
    #[serde(skip)]
    pub answered: Vec<Answered>,
    /// For the page.
    #[serde(skip)]
    pub samples: Vec<Sample>,
}

/// One question and what became of it.
#[derive(Clone, Debug, Serialize)]
pub struct Answered {
    /// The study's place.
    #[serde(skip)]
    study: usize,
    /// The place of the first study of its patient.
    #[serde(skip)]
    patient: usize,
    /// The image's name.
    pub id: String,
    /// The question.
    pub question: String,
    /// The data's answer.
    pub reference: String,
    /// The bundle's answer.
    pub answer: String,
    /// P(yes) against no at the first token.
    pub p_yes: Option<f64>,
}

/// Questions of one study that are answered together.
struct Batch {
    study: usize,
    questions: Vec<Question>,
}

/// Has the questions answered and scores the answers; `None` where the data has none.
pub fn vqa(context: &Context<'_>, subject: &Subject) -> Result<Option<Answers>, EvaluateError> {
    let mut batches = Vec::new();
    for (study, one) in context.studies.list.iter().enumerate() {
        match one.questions()? {
            Ok(questions) => batches.extend(questions.chunks(subject.questions_at_once()).map(|questions| Batch {
                study,
                questions: questions.to_vec(),
            })),
            Err(reason) => context.skip(one, reason),
        }
    }
    if batches.is_empty() {
        return Ok(None);
    }
    let own: Vec<usize> = (0..context.studies.list.len()).collect();
    let answered = have_answered(context, subject, &batches, &own, "questions")?;
    let blind = match context.settings.blind {
        false => None,
        true => {
            let others = context.studies.shuffled(context.settings.seed);
            let answered = have_answered(context, subject, &batches, &others, "questions, blind")?;
            Some(score(&answered, context.settings.seed))
        }
    };
    let mut samples: Vec<Sample> = Vec::new();
    for of_study in answered
        .chunk_by(|a, b| a.study == b.study)
        .take(context.settings.samples.div_ceil(2))
    {
        let mut shown = sample(&context.studies.list[of_study[0].study], subject.facts.image_side);
        let lines = of_study
            .iter()
            .map(|a| (a.question.clone(), format!("{} (right: {})", a.answer, a.reference)));
        shown.texts.extend(lines);
        samples.push(shown);
    }
    Ok(Some(Answers {
        scores: score(&answered, context.settings.seed),
        blind,
        answered,
        samples,
    }))
}

fn have_answered(
    context: &Context<'_>,
    subject: &Subject,
    batches: &[Batch],
    image_of: &[usize],
    what: &str,
) -> Result<Vec<Answered>, EvaluateError> {
    context.progress.begin(what, batches.len() as u64);
    let studies: Vec<usize> = batches.iter().map(|batch| batch.study).collect();
    let request = |number: usize| -> Result<Request, String> {
        let batch = &batches[number];
        let image = context.studies.list[image_of[batch.study]].file(subject.facts.image_side)?;
        Ok(Request {
            task: Task::Vqa {
                image,
                questions: batch.questions.iter().map(|q| q.question.clone()).collect(),
            },
            options: Options {
                seed: Some(context.seed(batch.study)),
                readings: context.settings.readings,
                ..Options::default()
            },
            deadline: None,
        })
    };
    let patients = context.studies.patients();
    let take = |number: usize, outcome: Outcome| -> Result<Vec<Answered>, String> {
        let batch = &batches[number];
        let pairs = batch.questions.iter().zip(outcome.answers);
        let answered = pairs.map(|(q, a)| Answered {
            study: batch.study,
            patient: patients[batch.study],
            id: context.studies.list[batch.study].id.clone(),
            question: q.question.clone(),
            reference: q.answer.clone(),
            answer: a.text,
            p_yes: a.p_yes,
        });
        Ok(answered.collect())
    };
    let answered = context.ask(subject, (what, "questions"), &studies, request, take)?;
    Ok(answered.into_iter().flatten().collect())
}

fn score(answered: &[Answered], seed: u64) -> VqaScores {
    let mut kinds: BTreeMap<Kind, Vec<&Answered>> = BTreeMap::new();
    for one in answered {
        kinds
            .entry(Kind::of(&one.question, &one.reference))
            .or_default()
            .push(one);
    }
    let yes_no = kinds.remove(&Kind::YesNo).unwrap_or_default();
    let each = kinds.into_iter().map(|(kind, of)| {
        let (mut exact, mut f1) = (0usize, 0.0);
        for one in &of {
            let (answer, right) = (normalised(&one.answer), normalised(&one.reference));
            exact += usize::from(answer == right);
            f1 += word_f1(&answer, &right);
        }
        KindScores {
            kind,
            questions: of.len(),
            exact: exact as f64 / of.len() as f64,
            word_f1: f1 / of.len() as f64,
        }
    });
    VqaScores {
        kinds: each.collect(),
        yes_no: score_yes_no(&yes_no, seed),
    }
}

/// Of one answer: its topic, whether yes is right, and whether it is right.
struct Judged {
    topic: usize,
    yes: bool,
    right: bool,
}

fn score_yes_no(answered: &[&Answered], seed: u64) -> YesNoScores {
    let mut topics: Vec<String> = answered.iter().map(|a| topic(&a.question)).collect();
    topics.sort();
    topics.dedup();
    let (mut judged, mut scored, mut neither) = (Vec::new(), Vec::new(), 0);
    let mut patients = Vec::new();
    for one in answered {
        let Some(yes) = yes_or_no(&one.reference) else { continue };
        let told = yes_or_no(&one.answer);
        neither += usize::from(told.is_none());
        let place = topics.binary_search(&topic(&one.question)).unwrap_or(0);
        patients.push(one.patient);
        judged.push(Judged {
            topic: place,
            yes,
            right: told == Some(yes),
        });
        scored.extend(one.p_yes.map(|p| (place, p, yes)));
    }
    let all: Vec<usize> = (0..judged.len()).collect();
    let rows = topics.iter().enumerate().map(|(place, name)| {
        let share = |yes: bool| {
            let of = || judged.iter().filter(move |j| j.topic == place && j.yes == yes);
            let count = of().count();
            (
                count,
                (count > 0).then(|| of().filter(|j| j.right).count() as f64 / count as f64),
            )
        };
        let ((yes, right_of_yes), (no, right_of_no)) = (share(true), share(false));
        let points: Vec<(f64, bool)> = scored.iter().filter(|s| s.0 == place).map(|s| (s.1, s.2)).collect();
        TopicScores {
            topic: name.clone(),
            yes,
            no,
            right_of_yes,
            right_of_no,
            balanced: right_of_yes.zip(right_of_no).map(|(a, b)| (a + b) / 2.0),
            auroc: auroc(&points),
        }
    });
    let points: Vec<(f64, bool)> = scored.iter().map(|s| (s.1, s.2)).collect();
    let right = judged.iter().filter(|j| j.right).count();
    YesNoScores {
        questions: judged.len(),
        accuracy: (!judged.is_empty()).then(|| right as f64 / judged.len() as f64),
        balanced_accuracy: balanced(&judged, topics.len(), &all),
        balanced_interval: interval(patients, seed, |drawn| balanced(&judged, topics.len(), drawn)),
        neither,
        auroc: auroc(&points),
        calibration: calibration(&points),
        topics: rows.collect(),
    }
}

/// Each topic's mean of the shares right of yes and of no, weighted by how often its rarer answer occurs.
fn balanced(judged: &[Judged], topics: usize, of: &[usize]) -> Option<f64> {
    // Of each topic: (questions, right) where yes is right, and where no is.
    let mut counts = vec![[(0usize, 0usize); 2]; topics];
    for one in of.iter().filter_map(|&place| judged.get(place)) {
        if let Some(topic) = counts.get_mut(one.topic) {
            let slot = &mut topic[usize::from(one.yes)];
            *slot = (slot.0 + 1, slot.1 + usize::from(one.right));
        }
    }
    let (mut sum, mut weights) = (0.0, 0.0);
    for [no, yes] in counts {
        let weight = no.0.min(yes.0) as f64;
        if weight > 0.0 {
            sum += weight * (no.1 as f64 / no.0 as f64 + yes.1 as f64 / yes.0 as f64) / 2.0;
            weights += weight;
        }
    }
    (weights > 0.0).then(|| sum / weights)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(study: usize, question: &str, reference: &str, answer: &str, p_yes: Option<f64>) -> Answered {
        Answered {
            study,
            patient: study,
            id: study.to_string(),
            question: question.to_owned(),
            reference: reference.to_owned(),
            answer: answer.to_owned(),
            p_yes,
        }
    }

    #[test]
    fn always_saying_no_is_worth_a_half_however_rare_yes_is() {
        let mut all: Vec<Answered> = (0..9)
            .map(|i| answered(i, "Is there edema?", "No.", "No.", Some(0.2)))
            .collect();
        all.push(answered(9, "Can edema be seen?", "Yes.", "no", Some(0.3)));
        all.push(answered(9, "Is there a nodule?", "No.", "No.", Some(0.9)));
        let scores = score(&all, 1).yes_no;
        assert_eq!(scores.balanced_accuracy, Some(0.5));
        assert_eq!(scores.accuracy, Some(10.0 / 11.0));
        assert_eq!(
            (scores.topics.len(), scores.topics[0].yes, scores.topics[0].no),
            (2, 1, 9)
        );
        assert_eq!((scores.topics[0].auroc, scores.topics[1].auroc), (Some(1.0), None));
    }

    #[test]
    fn other_answers_count_by_kind_and_what_is_neither_yes_nor_no_is_wrong() {
        let all = [
            answered(0, "On which side is edema?", "Left.", "left", None),
            answered(0, "On which side is edema?", "Left.", "Right.", None),
            answered(
                0,
                "Which devices are seen?",
                "Central venous line.",
                "Venous line",
                None,
            ),
            answered(1, "Is there edema?", "Yes.", "Maybe", None),
        ];
        let scores = score(&all, 1);
        assert_eq!((scores.kinds[0].kind, scores.kinds[0].exact), (Kind::Side, 0.5));
        assert_eq!((scores.kinds[1].exact, scores.kinds[1].word_f1), (0.0, 0.8));
        assert_eq!((scores.yes_no.neither, scores.yes_no.accuracy), (1, Some(0.0)));
        assert_eq!(scores.yes_no.balanced_accuracy, None);
    }
}
