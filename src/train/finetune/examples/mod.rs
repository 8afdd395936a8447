//! Which examples there are, and what each looks like.

mod checksum;
mod fit;

use std::collections::HashMap;
use std::fmt;

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::corpus::Corpus;
use super::image_set::{ImageSet, Pair};
use super::settings::{FinetuneSettings, Pairing};
use super::texts::TextId;
use crate::labeler;
use crate::model::drafts::DraftTable;
use crate::train::common::random::{Purpose, generator};
use crate::train::common::{Draw, Skip, TrainError};
use crate::train::data::Split;
use crate::train::language_model::{Encoder, Response, Sequence};
use crate::vocabulary::{Input, TokenId};

/// Reports that the table for drafts is made from, at most: more say little new.
const DRAFT_REPORTS: usize = 20_000;

/// What an example teaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Skill {
    /// Image → report.
    Report,
    /// Report → image.
    Draw,
    /// Image and question → answer.
    Vqa,
    /// Plain instruction → answer.
    Text,
}

impl Skill {
    /// All of them, in the order of the mixture.
    pub const ALL: [Skill; 4] = [Skill::Report, Skill::Draw, Skill::Vqa, Skill::Text];

    /// Its share in the mixture as it is asked for.
    fn weight(self, settings: &FinetuneSettings) -> f64 {
        match self {
            Self::Report => settings.report_weight,
            Self::Draw => settings.draw_weight,
            Self::Vqa => settings.vqa_weight,
            Self::Text => settings.text_weight,
        }
    }
}

impl fmt::Display for Skill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Report => "report",
            Self::Draw => "draw",
            Self::Vqa => "vqa",
            Self::Text => "text",
        })
    }
}

/// Examples of one skill from one data set.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// What they teach.
    pub skill: Skill,
    /// Which image set, or for [`Skill::Text`] which file.
    pub set: usize,
    /// Images (or texts) of the set.
    pub items: Vec<u32>,
    /// Share in the mixture.
    pub share: f64,
}

/// The wording and the question of an example.
#[derive(Clone, Copy, Debug, Default)]
struct Choice {
    wording: usize,
    question: usize,
    /// Seed of other words for the question.
    reword: Option<u64>,
    request: DrawRequest,
}

/// What a drawing is asked for with.
#[derive(Clone, Copy, Debug, Default)]
enum DrawRequest {
    /// The report.
    #[default]
    Report,
    /// The report in few words, chosen by this seed.
    Brief(u64),
    /// Nothing.
    Nothing,
}

/// Corpus, wording and token space: everything an example is made from.
#[derive(Debug)]
pub struct Examples {
    /// Where the texts are.
    pub corpus: Corpus,
    /// The token space.
    pub encoder: Encoder,
    /// What is drawn from in training.
    pub pools: Vec<Pool>,
    /// Validation examples, in order of skill.
    pub validation: Vec<Pool>,
    report_instructions: Vec<String>,
    draw_instructions: Vec<String>,
    draw_without_report: f64,
    draw_in_brief: f64,
    reword_questions: f64,
    question_power: f64,
    /// How often each wording occurs among the training questions of an image set, where that counts.
    question_counts: Vec<HashMap<TextId, u32>>,
    seed: u64,
    /// Sequences must be shorter than this.
    context: usize,
}

/// How often each wording occurs among the training questions of a set.
fn question_counts(set: &ImageSet) -> HashMap<TextId, u32> {
    let mut numbers = HashMap::new();
    let training = set.images.iter().filter(|image| image.split == Split::Train);
    for pair in training.flat_map(|image| set.questions(image)) {
        *numbers.entry(pair.question).or_default() += 1;
    }
    numbers
}

impl Examples {
    /// Sorts the corpus into pools. What would not fit into `context` tokens is dropped and counted in the corpus's account.
    pub fn new(
        corpus: Corpus,
        encoder: Encoder,
        settings: &FinetuneSettings,
        context: usize,
    ) -> Result<Self, TrainError> {
        let mut examples = Self {
            corpus,
            encoder,
            pools: Vec::new(),
            validation: Vec::new(),
            report_instructions: settings.report_instructions.clone(),
            draw_instructions: settings.draw_instructions.clone(),
            draw_without_report: settings.draw_without_report,
            draw_in_brief: settings.draw_in_brief,
            reword_questions: settings.reword_questions,
            question_power: settings.question_power,
            question_counts: Vec::new(),
            seed: settings.seed,
            context,
        };
        examples.drop_long();
        if settings.question_power > 0.0 {
            examples.question_counts = examples.corpus.sets.iter().map(question_counts).collect();
        }
        for skill in Skill::ALL {
            examples.pools.extend(examples.pools_of(skill, Split::Train, settings));
            let validation = examples.pools_of(skill, Split::Validate, settings);
            examples.validation.extend(validation);
        }
        examples.pools.retain(|pool| pool.share > 0.0);
        for skill in Skill::ALL {
            let weight = skill.weight(settings);
            if weight > 0.0 && examples.pools.iter().all(|pool| pool.skill != skill) {
                let note =
                    format!("`{skill}` has no training data; the other tasks share its --{skill}-weight of {weight}");
                examples.corpus.account.note(note);
            }
        }
        for pool in &examples.pools {
            let kind = match pool.skill {
                Skill::Report => "images to report on",
                Skill::Draw => "images to draw",
                Skill::Vqa => "images with questions",
                Skill::Text => "plain instructions",
            };
            pool.items.iter().for_each(|_| examples.corpus.account.used(kind));
        }
        // With plain instructions alone the run would go well, and learn nothing of radiographs.
        let of_images = |skill: &Skill| *skill != Skill::Text;
        let wanted = Skill::ALL
            .iter()
            .any(|skill| of_images(skill) && skill.weight(settings) > 0.0);
        if !settings.data.is_empty() && wanted && !examples.pools.iter().any(|pool| of_images(&pool.skill)) {
            return Err(TrainError::NoData(format!(
                "--data has no image to train on (split `train`) that has codes and a report or a question; to train on --text alone leave out \
                 --data, or set the weights of report, draw and vqa to 0: {}",
                examples.corpus.account
            )));
        }
        if examples.pools.is_empty() {
            return Err(TrainError::NoData(format!(
                "there is nothing to train on (split `train`): {}",
                examples.corpus.account
            )));
        }
        Ok(examples)
    }

    /// The pools of a skill, whose shares add up to that of the skill.
    fn pools_of(&self, skill: Skill, split: Split, settings: &FinetuneSettings) -> Vec<Pool> {
        let weight = skill.weight(settings);
        let mut pools = Vec::new();
        if skill == Skill::Text {
            for (set, file) in self.corpus.texts.iter().enumerate() {
                let kept = (0u32..).zip(&file.texts).filter(|(_, (_, s, _))| *s == split);
                pools.push((set, kept.map(|(i, _)| i).collect::<Vec<_>>(), file.share));
            }
        } else {
            for (set, images) in self.corpus.sets.iter().enumerate() {
                let of_split = (0u32..).zip(&images.images).filter(|(_, image)| image.split == split);
                let items: Vec<u32> = match skill {
                    Skill::Vqa => of_split
                        .filter(|(_, i)| !images.questions(i).is_empty())
                        .map(|(i, _)| i)
                        .collect(),
                    _ => {
                        let with_report = of_split.filter(|(_, i)| images.report(i).is_some()).map(|(i, _)| i);
                        let with_report: Vec<u32> = with_report.collect();
                        match settings.pairing {
                            // What is measured is measured both ways.
                            Pairing::Alternate if split == Split::Train => {
                                images.alternate(&with_report, skill == Skill::Draw)
                            }
                            _ => with_report,
                        }
                    }
                };
                pools.push((set, items, images.share));
            }
        }
        pools.retain(|(_, items, _)| !items.is_empty());
        let total: f64 = pools.iter().map(|p| p.2).sum();
        let pool = |(set, items, share)| Pool {
            skill,
            set,
            items,
            share: weight * share / total,
        };
        pools.into_iter().map(pool).collect()
    }

    /// The training example at a place of the order; `position` is that place's number. The error says why it is left out.
    pub fn training(&self, draw: Draw, position: u64) -> Result<(String, Sequence), Skip> {
        let pool = &self.pools[draw.pool];
        let item = pool.items[draw.item as usize] as usize;
        let mut rng = generator(self.seed, Purpose::Step, position);
        let wordings = self.wordings(pool.skill);
        let choice = Choice {
            wording: rng.random_range(0..wordings.max(1)),
            question: self.question(pool, item, draw.pass),
            request: self.request(&mut rng),
            reword: (self.reword_questions > 0.0 && rng.random_bool(self.reword_questions)).then(|| rng.random()),
        };
        let name = self.name(pool, item);
        let sequence = self.sequence(pool, item, choice);
        match sequence.ids.len() < self.context {
            true => Ok((name, sequence)),
            false => Err(Skip {
                data: None,
                id: name,
                reason: "example is too long for the model's context",
                detail: format!(
                    "{} tokens do not fit the context of {}",
                    sequence.ids.len(),
                    self.context
                ),
            }),
        }
    }

    /// Up to `most` fixed examples of a skill, spread evenly over the validation split: the first wording, one question an image.
    pub fn measured(&self, skill: Skill, most: usize) -> Vec<Sequence> {
        let all: Vec<(&Pool, usize)> = (self.validation.iter().filter(|p| p.skill == skill))
            .flat_map(|pool| pool.items.iter().map(move |&item| (pool, item as usize)))
            .collect();
        let count = most.min(all.len());
        (0..count)
            .map(|number| {
                let (pool, item) = all[number * all.len() / count];
                let questions = match pool.skill {
                    Skill::Vqa => self.questions(pool, item).len().max(1),
                    _ => 1,
                };
                let choice = Choice {
                    question: number % questions,
                    ..Choice::default()
                };
                self.sequence(pool, item, choice)
            })
            .filter(|sequence| sequence.ids.len() < self.context)
            .collect()
    }

    /// The table for drafts of reports, from those of the training split, at most [`DRAFT_REPORTS`] of them.
    pub fn drafts(&self) -> DraftTable {
        let reports = self.pools.iter().filter(|pool| pool.skill == Skill::Report);
        let items: Vec<(&Pool, usize)> = reports
            .flat_map(|pool| pool.items.iter().map(move |&item| (pool, item as usize)))
            .collect();
        let step = items.len().div_ceil(DRAFT_REPORTS).max(1);
        let texts: Vec<Sequence> = items
            .into_par_iter()
            .step_by(step)
            .map(|(pool, item)| self.sequence(pool, item, Choice::default()))
            .collect();
        DraftTable::of_texts(texts.iter().map(|text| (&text.ids[..], text.response)))
    }

    /// Names an example in messages.
    fn name(&self, pool: &Pool, item: usize) -> String {
        format!("{} {}", pool.skill, self.id(pool, item))
    }

    /// The id of its record.
    fn id(&self, pool: &Pool, item: usize) -> &str {
        match pool.skill {
            Skill::Text => &self.corpus.texts[pool.set].texts[item].0,
            _ => {
                let set = &self.corpus.sets[pool.set];
                set.id(&set.images[item])
            }
        }
    }

    /// The questions about an image of a pool.
    fn questions(&self, pool: &Pool, item: usize) -> &[Pair] {
        let set = &self.corpus.sets[pool.set];
        set.questions(&set.images[item])
    }

    fn wordings(&self, skill: Skill) -> usize {
        match skill {
            Skill::Report => self.report_instructions.len(),
            Skill::Draw => self.draw_instructions.len(),
            Skill::Vqa | Skill::Text => 1,
        }
    }

    /// What a drawing is learned with.
    fn request(&self, rng: &mut impl Rng) -> DrawRequest {
        if self.draw_without_report > 0.0 && rng.random_bool(self.draw_without_report) {
            DrawRequest::Nothing
        } else if self.draw_in_brief > 0.0 && rng.random_bool(self.draw_in_brief) {
            DrawRequest::Brief(rng.random())
        } else {
            DrawRequest::Report
        }
    }

    /// Which question of an image comes up in a pass: all of them once before one comes again, or rare ones more often.
    fn question(&self, pool: &Pool, item: usize, pass: u64) -> usize {
        if pool.skill != Skill::Vqa {
            return 0;
        }
        let questions = self.questions(pool, item);
        if let Some(often) = self.question_counts.get(pool.set) {
            let number = |pair: &Pair| f64::from(often.get(&pair.question).copied().unwrap_or(1));
            let weights: Vec<f64> = questions
                .iter()
                .map(|pair| number(pair).powf(-self.question_power))
                .collect();
            let stream = 1 << 63 | (pool.set as u64) << 52 | (item as u64) << 20 | pass;
            let mut left = generator(self.seed, Purpose::Order, stream).random::<f64>() * weights.iter().sum::<f64>();
            let past = weights.iter().position(|w| {
                left -= w;
                left < 0.0
            });
            return past.unwrap_or(0);
        }
        let count = questions.len().max(1);
        let (round, place) = (pass / count as u64, (pass % count as u64) as usize);
        let mut order: Vec<usize> = (0..count).collect();
        // Pools have numbers below 2²³; these places lie above them.
        let stream = 1 << 63 | (pool.set as u64) << 52 | (item as u64) << 20 | round;
        order.shuffle(&mut generator(self.seed, Purpose::Order, stream));
        order[place]
    }

    fn sequence(&self, pool: &Pool, item: usize, choice: Choice) -> Sequence {
        if pool.skill == Skill::Text {
            let (_, _, plain) = &self.corpus.texts[pool.set].texts[item];
            let input = plain.context.as_deref().map_or(Input::None, Input::Text);
            let response = Response::Text(&plain.response);
            return self.encoder.example(&plain.instruction, input, &[], response);
        }
        let set = &self.corpus.sets[pool.set];
        let image = &set.images[item];
        let (codes, report) = (set.codes(image), set.report(image).unwrap_or_default());
        let encoder = &self.encoder;
        match (pool.skill, set.questions(image).get(choice.question)) {
            (Skill::Draw, _) => {
                let instruction = &self.draw_instructions[choice.wording];
                let words;
                let input = match choice.request {
                    DrawRequest::Nothing => Input::None,
                    DrawRequest::Report => Input::Text(report),
                    DrawRequest::Brief(seed) => {
                        words = labeler::brief(report, &mut ChaCha8Rng::seed_from_u64(seed));
                        Input::Text(&words)
                    }
                };
                encoder.example(instruction, input, &[], Response::Image(codes))
            }
            (Skill::Vqa, Some(pair)) => {
                let (question, answer) = (set.text(pair.question), set.text(pair.answer));
                let words = |seed| labeler::reword(question, &mut ChaCha8Rng::seed_from_u64(seed));
                let reworded = choice.reword.and_then(words);
                let question = reworded.as_deref().unwrap_or(question);
                encoder.example(question, Input::Image(0), codes, Response::Text(answer))
            }
            _ => {
                let instruction = &self.report_instructions[choice.wording];
                encoder.example(instruction, Input::Image(0), codes, Response::Text(report))
            }
        }
    }

    /// The ids with which a report on an image, or the image of a report, is asked for in the first wording.
    pub fn asked(&self, set: usize, item: usize, skill: Skill) -> Vec<TokenId> {
        let images = &self.corpus.sets[set];
        let image = &images.images[item];
        match skill {
            Skill::Draw => {
                let report = images.report(image).unwrap_or_default();
                self.encoder
                    .prompt(&self.draw_instructions[0], Input::Text(report), &[])
            }
            _ => self
                .encoder
                .prompt(&self.report_instructions[0], Input::Image(0), images.codes(image)),
        }
    }
}
