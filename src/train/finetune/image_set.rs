//! The images of one data set with what is said of them.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::path::PathBuf;

use rayon::prelude::*;

use super::texts::{TextId, Texts};
use super::turns::Drawn;
use crate::train::common::TrainError;
use crate::train::data::{Account, DataError, Question, Questions, Record, ReportSource, Split, Stage};
use crate::train::encode::CodeCache;

/// Files read before their texts are put to the others.
const READ_AT_ONCE: usize = 4096;

/// Why a report is left out: the first one that is told of an image is its report.
const SECOND: &str = "report differs from the one that an earlier row has of this image";

/// An image with what is said of it: numbers of texts, which its set holds.
#[derive(Clone, Debug)]
pub struct Image {
    /// Training or validation.
    pub split: Split,
    id: TextId,
    report: Option<TextId>,
    questions: Range<u32>,
    /// Whether it is drawn, not reported on, where images alternate.
    drawn: bool,
}

/// A question and its answer.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    /// What is asked. Equal questions of a set have one number.
    pub question: TextId,
    /// What is answered.
    pub answer: TextId,
}

/// The images of one data set.
#[derive(Debug)]
pub struct ImageSet {
    /// In the data set's order (MIMIC-CXR-JPG: sorted by id).
    pub images: Vec<Image>,
    /// Share among the data sets.
    pub share: f64,
    codes: CodeCache,
    texts: Texts,
    /// Those of an image beside each other.
    pairs: Vec<Pair>,
}

impl ImageSet {
    /// Its record's id.
    pub fn id(&self, image: &Image) -> &str {
        self.texts.get(image.id)
    }

    /// Those of `items` (numbers of training images) whose turn it is to be drawn, or else to be reported on, in their order.
    pub fn alternate(&self, items: &[u32], drawn: bool) -> Vec<u32> {
        let items = items.iter().copied();
        items
            .filter(|&item| self.images[item as usize].drawn == drawn)
            .collect()
    }

    /// What the stage learns of its report.
    pub fn report(&self, image: &Image) -> Option<&str> {
        image.report.map(|report| self.texts.get(report))
    }

    /// Questions about it.
    pub fn questions(&self, image: &Image) -> &[Pair] {
        let places = image.questions.start as usize..image.questions.end as usize;
        self.pairs.get(places).unwrap_or_default()
    }

    /// A text of a question or an answer.
    pub fn text(&self, id: TextId) -> &str {
        self.texts.get(id)
    }

    /// The codes of an image of the set.
    pub fn codes(&self, image: &Image) -> &[u16] {
        self.codes.get(self.id(image)).unwrap_or(&[])
    }

    /// Drops the reports and the questions, with their answers, that do not fit. Gives the images that lost something, and for each whether
    /// its report and how many questions.
    pub fn retain(
        &mut self,
        report_fits: impl Fn(&str) -> bool + Sync,
        question_fits: impl Fn(&str, &str) -> bool + Sync,
    ) -> Vec<(usize, bool, usize)> {
        let set = &*self;
        let judged: Vec<Option<(bool, Vec<Pair>)>> = (set.images.par_iter())
            .map(|image| {
                let report = set.report(image).is_none_or(&report_fits);
                let questions = set.questions(image);
                let kept = |pair: &&Pair| question_fits(set.text(pair.question), set.text(pair.answer));
                if report && questions.iter().all(|pair| kept(&pair)) {
                    return None;
                }
                Some((report, questions.iter().filter(kept).copied().collect()))
            })
            .collect();
        let (mut pairs, mut lost) = (Vec::with_capacity(self.pairs.len()), Vec::new());
        for (at, judged) in judged.into_iter().enumerate() {
            let before = self.questions(&self.images[at]);
            let start = pairs.len() as u32;
            match judged {
                None => pairs.extend_from_slice(before),
                Some((report, kept)) => {
                    lost.push((at, !report, before.len() - kept.len()));
                    pairs.extend(kept);
                    let image = &mut self.images[at];
                    image.report = image.report.filter(|_| report);
                }
            }
            self.images[at].questions = start..pairs.len() as u32;
        }
        self.pairs = pairs;
        lost
    }
}

/// An image of which not all has been read.
struct Draft {
    id: TextId,
    split: Split,
    /// Whether a row has told where the report is.
    told: bool,
    report: Option<TextId>,
    questions: Vec<Pair>,
}

/// A file that is to be read, and what of.
enum ToRead {
    Report(PathBuf),
    Questions(PathBuf),
}

/// What was read of a file, or why it is skipped; an error where the system does not read it.
enum Told {
    Report(io::Result<Result<String, &'static str>>),
    Questions(io::Result<Result<Vec<Question>, &'static str>>),
}

/// Makes an [`ImageSet`] of records.
pub struct Gathering {
    stage: Stage,
    texts: Texts,
    drafts: Vec<Draft>,
    places: HashMap<TextId, usize>,
    to_read: Vec<(usize, ToRead)>,
}

impl Gathering {
    /// Of nothing yet; `stage` says what is learned of reports.
    pub fn new(stage: Stage) -> Self {
        Self {
            stage,
            texts: Texts::default(),
            drafts: Vec::new(),
            places: HashMap::new(),
            to_read: Vec::new(),
        }
    }

    /// Whether there is an image of this id.
    pub fn knows(&mut self, id: &str) -> Result<bool, TrainError> {
        let id = number(&mut self.texts, id)?;
        Ok(self.places.contains_key(&id))
    }

    /// Adds what a record says of its image; a manifest has a row for each question. What cannot be used is counted.
    pub fn add(&mut self, record: Record, account: &mut Account) -> Result<(), TrainError> {
        let id = number(&mut self.texts, &record.id)?;
        let at = *self.places.entry(id).or_insert(self.drafts.len());
        if at == self.drafts.len() {
            self.drafts.push(Draft {
                id,
                split: record.split,
                told: false,
                report: None,
                questions: Vec::new(),
            });
        }
        match record.report {
            Some(source) if self.drafts[at].told => {
                let first = self.drafts[at].report.map(|report| self.texts.get(report));
                let now = matches!(source, ReportSource::Text(_)).then(|| source.read(self.stage));
                if now.is_some_and(|now| now.ok().and_then(Result::ok).as_deref() != first) {
                    account.skip(SECOND, || record.id);
                }
            }
            Some(source) => {
                self.drafts[at].told = true;
                match source {
                    ReportSource::File(path) => self.to_read.push((at, ToRead::Report(path))),
                    text @ ReportSource::Text(_) => self.take(at, Told::Report(text.read(self.stage)), account)?,
                }
            }
            None => {}
        }
        match record.questions {
            None => Ok(()),
            Some(Questions::List(list)) => self.take(at, Told::Questions(Ok(Ok(list))), account),
            Some(Questions::File(path)) => {
                self.to_read.push((at, ToRead::Questions(path)));
                Ok(())
            }
        }
    }

    fn take(&mut self, at: usize, told: Told, account: &mut Account) -> Result<(), TrainError> {
        let draft = &mut self.drafts[at];
        let reason = match told {
            Told::Report(Ok(Ok(text))) => {
                draft.report = Some(number(&mut self.texts, &text)?);
                return Ok(());
            }
            Told::Questions(Ok(Ok(list))) => {
                for Question { question, answer } in list {
                    draft.questions.push(Pair {
                        question: number(&mut self.texts, &question)?,
                        answer: number(&mut self.texts, &answer)?,
                    });
                }
                return Ok(());
            }
            Told::Report(Ok(Err(reason))) | Told::Questions(Ok(Err(reason))) => reason,
            Told::Report(Err(reason)) => {
                return Err(DataError::unread("report", self.texts.get(draft.id), reason).into());
            }
            Told::Questions(Err(reason)) => {
                return Err(DataError::unread("questions", self.texts.get(draft.id), reason).into());
            }
        };
        let id = draft.id;
        account.skip(reason, || self.texts.get(id).to_owned());
        Ok(())
    }

    /// Reads what stands in files, some at a time. `drawn` says whose turn it is to be drawn.
    pub fn finish(
        mut self,
        codes: CodeCache,
        share: f64,
        drawn: &Drawn,
        account: &mut Account,
    ) -> Result<ImageSet, TrainError> {
        let (to_read, stage) = (std::mem::take(&mut self.to_read), self.stage);
        for some in to_read.chunks(READ_AT_ONCE) {
            let read: Vec<Told> = (some.par_iter())
                .map(|(_, file)| match file {
                    ToRead::Report(path) => Told::Report(ReportSource::File(path.clone()).read(stage)),
                    ToRead::Questions(path) => Told::Questions(Questions::File(path.clone()).read()),
                })
                .collect();
            for ((at, _), told) in some.iter().zip(read) {
                self.take(*at, told, account)?;
            }
        }
        let count = self.drafts.iter().map(|draft| draft.questions.len()).sum();
        let _fits = u32::try_from(count).map_err(|_| too_many())?;
        let (mut images, mut pairs) = (Vec::with_capacity(self.drafts.len()), Vec::with_capacity(count));
        for draft in self.drafts {
            if !draft.told {
                account.skip("image has no report", || self.texts.get(draft.id).to_owned());
            }
            let start = pairs.len() as u32;
            pairs.extend(draft.questions);
            images.push(Image {
                split: draft.split,
                id: draft.id,
                report: draft.report,
                questions: start..pairs.len() as u32,
                drawn: drawn.holds(self.texts.get(draft.id)),
            });
        }
        self.texts.close();
        Ok(ImageSet {
            images,
            share,
            codes,
            texts: self.texts,
            pairs,
        })
    }
}

fn number(texts: &mut Texts, text: &str) -> Result<TextId, TrainError> {
    texts.add(text).ok_or_else(too_many)
}

fn too_many() -> TrainError {
    TrainError::NoData(
        "a data set holds more than four billion texts or questions; divide it into several --data".to_owned(),
    )
}
