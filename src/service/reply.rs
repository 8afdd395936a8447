//! From the engine's events to an answer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::consensus::agreed;
use super::deadline::within;
use super::frame::{Frame, Mark};
use super::ledger::Ledger;
use super::plan::Plan;
use super::polish::Polish;
use super::{
    Answer, Consensus, Drawing, ImageDesk, Options, Outcome, Phases, ServiceError, Undrawn, Update, Usage, blocking,
};
use crate::engine::{EngineError, Event, Events, FinishReason, SequenceSpec, SequenceSummary, Timing};
use crate::radiograph::{ImageNote, Pixels};
use crate::vocabulary::{TextStream, TokenId, Vocabulary};

/// Progress of an image is told this often while its codes come.
const PROGRESS_STEPS: usize = 32;

/// One reply while it comes.
struct Strand {
    frame: Frame,
    text: TextStream,
    polish: Polish,
    shown: String,
    ids: Vec<TokenId>,
    codes: usize,
    image: Option<Drawing>,
    summary: Option<SequenceSummary>,
    seed: u64,
}

/// An answer as it comes. Dropping it cancels the work within one step.
pub struct Reply {
    events: Events,
    plan: Plan,
    vocabulary: Vocabulary,
    desk: ImageDesk,
    strands: Vec<Strand>,
    input_codes: Option<Arc<Vec<u16>>>,
    notes: Vec<ImageNote>,
    updates: VecDeque<Update>,
    begun: Instant,
    preprocess: Duration,
    first_token: Option<Duration>,
    ledger: Ledger,
    ended: bool,
}

impl Reply {
    pub(super) fn new(
        events: Events,
        plan: Plan,
        options: &Options,
        (vocabulary, desk): (Vocabulary, ImageDesk),
        begun: Instant,
        preprocess: Duration,
    ) -> Self {
        let strand = |spec: &SequenceSpec| Strand {
            frame: Frame::default(),
            text: TextStream::new(&vocabulary),
            polish: Polish::new(options.stop.clone()),
            shown: String::new(),
            ids: Vec::new(),
            codes: 0,
            image: None,
            summary: None,
            seed: spec.sampling.seed,
        };
        let strands = plan.sequences.iter().map(strand).collect();
        Self {
            events,
            plan,
            vocabulary,
            desk,
            strands,
            input_codes: None,
            notes: Vec::new(),
            updates: VecDeque::new(),
            begun,
            preprocess,
            first_token: None,
            ledger: Ledger::default(),
            ended: false,
        }
    }

    /// The same, about an image of which something is to be noted.
    pub(super) fn with_notes(self, notes: Vec<ImageNote>) -> Self {
        Self { notes, ..self }
    }

    /// The same, which enters in `ledger` how far it has come.
    pub fn kept_in(self, ledger: Ledger) -> Self {
        let codes = self.plan.codes_per_image;
        let prompt_tokens: usize = self.plan.sequences.iter().map(|s| s.prompt.len(codes)).sum();
        ledger.enter(|entries| {
            entries.preprocess = Some(self.preprocess);
            entries.prompt_tokens = Some(prompt_tokens);
            entries.generated_tokens = Some(0);
        });
        Self { ledger, ..self }
    }

    /// What is unusual about the image that was sent.
    pub fn image_notes(&self) -> &[ImageNote] {
        &self.notes
    }

    /// The next update; `None` after [`Update::Done`] or an error.
    pub async fn next(&mut self) -> Option<Result<Update, ServiceError>> {
        loop {
            if let Some(update) = self.updates.pop_front() {
                return Some(Ok(update));
            }
            if self.ended {
                return None;
            }
            let event = self.events.next().await.unwrap_or(Event::Failed(EngineError::Stopped));
            if let Err(error) = self.take(event).await {
                self.events.failed();
                self.ended = true;
                self.updates.clear();
                return Some(Err(error));
            }
        }
    }

    /// Waits for the whole answer.
    pub async fn finish(mut self) -> Result<Outcome, ServiceError> {
        while let Some(update) = self.next().await {
            if let Update::Done(outcome) = update? {
                return Ok(*outcome);
            }
        }
        Err(EngineError::Stopped.into())
    }

    async fn take(&mut self, event: Event) -> Result<(), ServiceError> {
        match event {
            // Of several views the first is the image as it was sent.
            Event::Encoded { image: 0, codes } => self.input_codes = Some(codes),
            Event::Encoded { .. } => {}
            Event::Token { sequence, id } => self.take_token(sequence, id),
            Event::Drawn {
                sequence,
                codes,
                pixels,
            } => self.take_image(sequence, codes, pixels).await?,
            Event::Finished { sequence, mut summary } => {
                if let Some(strand) = self.strands.get_mut(sequence).filter(|s| s.summary.is_none()) {
                    let mut last = strand
                        .frame
                        .finish()
                        .and_then(|id| strand.text.push(id))
                        .unwrap_or_default();
                    last.push_str(&strand.text.finish().unwrap_or_default());
                    let mut text = strand.polish.push(&last);
                    text.push_str(&strand.polish.finish());
                    // Also a stop text that shows only at the reply's end is what ended it.
                    if strand.polish.stopped() {
                        summary.reason = FinishReason::Stop;
                    }
                    let queue = summary.timing.queue;
                    self.ledger
                        .enter(|entries| entries.queue = Some(entries.queue.map_or(queue, |first| first.min(queue))));
                    strand.summary = Some(summary);
                    self.show(sequence, text);
                }
            }
            Event::Done => self.conclude().await?,
            Event::Failed(error) => return Err(error.into()),
        }
        // Every reply has ended, one at least by a stop text, of which the engine does not know: there is nothing to wait for.
        if !self.ended
            && self.strands.iter().all(|s| s.summary.is_some())
            && self.strands.iter().any(|s| s.polish.stopped())
        {
            self.events.enough();
            self.conclude().await?;
        }
        Ok(())
    }

    fn take_token(&mut self, sequence: usize, id: TokenId) {
        let first = *self.first_token.get_or_insert_with(|| self.begun.elapsed());
        self.ledger.enter(|entries| {
            entries.first_token = Some(first);
            entries.generated_tokens = entries.generated_tokens.map(|tokens| tokens + 1);
        });
        let total = self.plan.codes_per_image;
        let Some(strand) = self.strands.get_mut(sequence).filter(|s| s.summary.is_none()) else {
            return;
        };
        strand.ids.push(id);
        let draws = self.plan.sequences.get(sequence).is_some_and(|s| s.draw);
        // In a reply that draws nothing, a `<` is a word like any other.
        let mark = if draws {
            Mark::of(id, &self.vocabulary)
        } else {
            Mark::Word
        };
        let words = strand.frame.push(id, mark);
        if mark == Mark::Code {
            strand.codes += 1;
            let done = strand.codes;
            if done <= total && (done == total || done % (total / PROGRESS_STEPS).max(1) == 0) {
                self.updates.push_back(Update::Codes {
                    index: sequence,
                    done,
                    total,
                });
            }
            return;
        }
        let piece: String = words.filter_map(|id| strand.text.push(id)).collect();
        let text = strand.polish.push(&piece);
        let stopped = strand.polish.stopped();
        self.show(sequence, text);
        if stopped {
            let summary = self.cut_short(sequence);
            if let Some(strand) = self.strands.get_mut(sequence) {
                strand.summary = Some(summary);
            }
        }
    }

    /// The account of a reply that a stop text ended; the engine may still be writing on. Where its time went is not known here, and chats alone have
    /// stop texts, which are not told it.
    fn cut_short(&self, sequence: usize) -> SequenceSummary {
        let prompt = self.plan.sequences.get(sequence).map(|s| &s.prompt);
        let with_codes = prompt.map_or(0, |p| p.len(self.plan.codes_per_image));
        let without_codes = prompt.map_or(0, |p| p.len(0));
        SequenceSummary {
            reason: FinishReason::Stop,
            prompt_tokens: with_codes,
            image_tokens: with_codes - without_codes,
            completion_tokens: self.strands.get(sequence).map_or(0, |s| s.ids.len()),
            first_token_probabilities: Vec::new(),
            timing: Timing::default(),
        }
    }

    fn show(&mut self, index: usize, text: String) {
        if let Some(strand) = self.strands.get_mut(index).filter(|_| !text.is_empty()) {
            strand.shown.push_str(&text);
            // Only replies that may be text are streamed as text, and of several readings none is before one is chosen.
            if !self.plan.form.must_draw() && self.plan.readings == 1 {
                self.updates.push_back(Update::Text { index, text });
            }
        }
    }

    async fn take_image(&mut self, sequence: usize, codes: Vec<u16>, pixels: Arc<Pixels>) -> Result<(), ServiceError> {
        // The engine draws only what a form allows.
        let Some(format) = self.plan.form.drawn_as() else {
            return Ok(());
        };
        let (width, height) = (pixels.width(), pixels.height());
        let (deadline, cut) = (self.events.deadline(), self.events.wait_cut_off());
        let writing = self.desk.write_synthetic(pixels, format);
        let file = Bytes::from(within(deadline, cut, writing).await?);
        let drawing = Drawing {
            codes,
            file,
            format,
            width,
            height,
        };
        if let Some(strand) = self.strands.get_mut(sequence) {
            strand.image = Some(drawing);
        }
        Ok(())
    }

    /// Puts the answer together from what came.
    async fn conclude(&mut self) -> Result<(), ServiceError> {
        let mut usage = Usage::default();
        let mut phases = Phases {
            preprocess: self.preprocess,
            first_token: self.first_token,
            ..Phases::default()
        };
        let mut answers = Vec::new();
        for strand in std::mem::take(&mut self.strands) {
            let Some(summary) = strand.summary else {
                return Err(EngineError::Stopped.into());
            };
            if self.plan.form.must_draw() && strand.image.is_none() {
                return Err(ServiceError::NoImage);
            }
            usage.prompt_tokens += summary.prompt_tokens;
            usage.image_tokens += summary.image_tokens;
            usage.completion_tokens += summary.completion_tokens;
            usage.sequences += 1;
            // Of several readings the first ends the wait.
            phases.queue = match (self.plan.readings, answers.is_empty()) {
                (1, _) | (_, true) => phases.queue.max(summary.timing.queue),
                (_, false) => phases.queue.min(summary.timing.queue),
            };
            phases.encode = phases.encode.max(summary.timing.encode);
            phases.prefill = phases.prefill.max(summary.timing.prefill);
            phases.decode = phases.decode.max(summary.timing.decode);
            phases.draw = phases.draw.max(summary.timing.draw);
            let whole = self.plan.codes_per_image;
            let none_drawn = strand.image.is_none() && ![0, whole].contains(&strand.codes);
            answers.push(Answer {
                text: if self.plan.form.must_draw() {
                    String::new()
                } else {
                    strand.shown
                },
                undrawn: none_drawn.then_some(Undrawn {
                    codes: strand.codes,
                    whole,
                }),
                image: strand.image,
                finish: summary.reason,
                token_ids: strand.ids,
                p_yes: yes_against_no(&summary.first_token_probabilities),
                seed: strand.seed,
            });
        }
        let mut told = Vec::new();
        if self.plan.readings > 1 {
            (answers, told) = agreement(answers, self.plan.readings).await?;
            for (index, answer) in answers.iter().enumerate().filter(|(_, answer)| !answer.text.is_empty()) {
                let text = answer.text.clone();
                self.updates.push_back(Update::Text { index, text });
            }
        }
        self.ledger.enter(|entries| {
            entries.prompt_tokens = Some(usage.prompt_tokens);
            entries.generated_tokens = Some(usage.completion_tokens);
        });
        phases.total = self.begun.elapsed();
        let input_codes = self.input_codes.take();
        let outcome = Outcome {
            answers,
            consensus: told,
            input_codes,
            image_notes: std::mem::take(&mut self.notes),
            sampling: self.plan.sampling,
            usage,
            phases,
        };
        self.updates.push_back(Update::Done(Box::new(outcome)));
        self.ended = true;
        Ok(())
    }
}

/// Of so many neighbouring readings the one that the others agree with, and how far they do. On a blocking thread: the labeler reads all of
/// them, and what a model says may be long.
async fn agreement(answers: Vec<Answer>, readings: usize) -> Result<(Vec<Answer>, Vec<Consensus>), ServiceError> {
    let work = move || -> (Vec<Answer>, Vec<Consensus>) { answers.chunks(readings).filter_map(agreed).unzip() };
    blocking(work).await.map_err(|_| ServiceError::Worker)
}

/// P(yes) / (P(yes) + P(no)), from the probabilities of the two sets; `None` if neither was watched or both are 0.
fn yes_against_no(probabilities: &[f64]) -> Option<f64> {
    match probabilities {
        [yes, no] if yes + no > 0.0 => Some(yes / (yes + no)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yes_is_weighed_against_no_alone() {
        assert_eq!(yes_against_no(&[0.375, 0.125]), Some(0.75));
        assert_eq!(yes_against_no(&[0.0, 0.0]), None);
        assert_eq!(yes_against_no(&[]), None);
    }
}
