//! The run: examples in, a bundle out.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use tch::{Device, Kind};

use super::base::Start;
use super::batch::{Batches, pack};
use super::corpus::Corpus;
use super::examples::{Examples, Skill};
use super::generate::Generator;
use super::samples::write_samples;
use super::settings::FinetuneSettings;
use crate::model::bundle::{DefaultInstructions, Defaults, Draft, Manifest, restate};
use crate::model::drafts::DraftTable;
use crate::model::vqgan::Vqgan;
use crate::train::common::checkpoint::{Restored, Snapshot};
use crate::train::common::schedule::Schedule;
use crate::train::common::{Basis, Fault, Outcome, Plan, Skip, Task, TrainError, drive, is_export, split_share};
use crate::train::data::SplitWatch;
use crate::train::language_model::{Encoder, Exported, Learner, Method, StepBatch};
use crate::train::neox::{Compute, TokenBatch};
use crate::train::vqgan::VqganFiles;

/// What the run leaves in its folder.
pub const EXPORTED: &str = "bundle";

/// The lowest validation loss so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Best {
    /// Step at which it was measured; its weights are in the bundle.
    step: u64,
    /// The loss; `None` before the first evaluation.
    loss: Option<f64>,
    /// Evaluations since.
    since: u64,
}

pub(super) struct FinetuneTask {
    settings: FinetuneSettings,
    pub(super) learner: Learner,
    examples: Arc<Examples>,
    /// Of the training reports.
    drafts: DraftTable,
    tokenizer: Vec<u8>,
    /// What the base says of itself, as the run began.
    said: Option<Manifest>,
    vqgan: VqganFiles,
    network: Vqgan,
    /// Validation examples of each skill with its share in the mixture.
    measured: Vec<(Skill, f64, Vec<TokenBatch>)>,
    steps: u64,
    best: Best,
    /// Whether patience has run out.
    exhausted: bool,
    /// What the examples are, what gives ids their meaning and, with adapters, the base.
    basis: Basis,
}

/// Tunes a language model on images, reports, questions and instructions, or goes on with it; leaves `bundle/` in the run's folder.
pub fn train(settings: &FinetuneSettings, device: Device, stop: impl Fn() -> bool) -> Result<Outcome, TrainError> {
    let (mut task, batches) = FinetuneTask::open(settings, device)?;
    task.run(move |step| batches.step(step), stop)
}

impl FinetuneTask {
    /// Reads data and base; gives the task and what makes its batches.
    pub(super) fn open(settings: &FinetuneSettings, device: Device) -> Result<(Self, Batches), TrainError> {
        let s = settings;
        s.check()?;
        let vqgan = VqganFiles::find(&s.vqgan)?;
        let start = Start::open(s, &vqgan, device)?;
        let config = start.model.config().clone();
        let (mut corpus, mut watch) = (Corpus::default(), SplitWatch::default());
        let origin = vqgan.origin()?;
        for (spec, codes) in s.data.iter().zip(&s.codes) {
            corpus.add_images(spec, codes, &origin, s.stage()?, &mut watch)?;
        }
        for spec in &s.text {
            corpus.add_texts(spec, &mut watch)?;
        }
        let context = config.max_position_embeddings;
        let examples = Arc::new(Examples::new(corpus, Encoder::new(start.vocabulary), s, context)?);
        let batches = Batches::new(examples.clone(), s, context);
        let steps = match s.epochs {
            Some(epochs) => ((epochs * batches.epoch()).ceil() as u64).max(1),
            None => s.steps,
        };
        let measured = Skill::ALL.into_iter().filter_map(|skill| {
            let share: f64 = examples
                .pools
                .iter()
                .filter(|p| p.skill == skill)
                .map(|p| p.share)
                .sum();
            let sequences = examples.measured(skill, s.validate);
            let passes = pack(&examples.encoder, sequences, s.pass_tokens, context);
            (share > 0.0 && !passes.is_empty()).then_some((skill, share, passes))
        });
        let method = Method {
            adamw: s.adamw(),
            schedule: Schedule {
                peak: s.rate,
                warmup: s.warmup,
                steps,
                shape: s.schedule,
                floor: s.floor,
            },
            clip: s.clip,
            ema: s.ema,
            compute: Compute {
                kind: if s.bf16 { Kind::BFloat16 } else { Kind::Float },
                checkpointing: s.checkpointing,
            },
        };
        let task = Self {
            learner: Learner::new(start.model, method),
            measured: measured.collect(),
            network: vqgan.load(device)?,
            settings: s.clone(),
            drafts: examples.drafts(),
            basis: Basis {
                data: Some(examples.checksum()),
                contents: Some(examples.contents()),
                base: start.base,
                tokenizer: Some(start.texts),
                codes: Some(vqgan.meaning()?),
                labels: None,
            },
            examples,
            tokenizer: start.tokenizer,
            said: start.said,
            vqgan,
            steps,
            best: Best::default(),
            exhausted: false,
        };
        Ok((task, batches))
    }

    pub(super) fn run(
        &mut self,
        batch: impl Fn(u64) -> StepBatch + Send + Sync + 'static,
        stop: impl Fn() -> bool,
    ) -> Result<Outcome, TrainError> {
        let s = &self.settings;
        let account = &self.examples.corpus.account;
        crate::basics::tell(format_args!("{account}\n{} steps of {} examples", self.steps, s.batch));
        let plan = Plan {
            title: format!("finetune, stage {}", s.stage),
            out: s.out.clone(),
            exports: EXPORTED,
            steps: self.steps,
            save_every: s.save_every,
            eval_every: s.eval_every,
            log_every: s.log_every,
            workers: s.workers,
        };
        let kept = s.filled(self.learner.model.config());
        let value = serde_json::to_value(kept).map_err(|e| TrainError::Settings(e.to_string()))?;
        let outcome = drive(self, &plan, &value, batch, stop)?;
        match outcome {
            Outcome::Stopped(step) if self.exhausted => {
                let finished = plan.finished()?;
                crate::basics::tell(format_args!(
                    "ended after step {step}: the validation loss was lowest at step {}, whose weights are in the bundle",
                    self.best.step
                ));
                Ok(finished)
            }
            outcome => Ok(outcome),
        }
    }

    /// Writes the bundle with the weights that were measured.
    fn export(&self, step: u64, losses: &[(String, f64)]) -> Result<(), TrainError> {
        let s = &self.settings;
        self.learner.chosen(|model| {
            let tensors = model.named();
            let exported = Exported {
                config: model.config(),
                tensors: &tensors,
                tokenizer: &self.tokenizer,
                dtype: s.save_dtype,
                drafts: &self.drafts,
            };
            exported.bundle(&s.out.join(EXPORTED), &self.vqgan, self.draft(step, losses))
        })
    }

    fn draft(&self, step: u64, losses: &[(String, f64)]) -> Draft {
        let s = &self.settings;
        let file_name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let sets: Vec<String> = (s.data.iter().chain(&s.text))
            .map(|spec| file_name(Path::new(split_share(spec).0)))
            .collect();
        let from = match &s.base {
            Some(base) => format!("from {}", file_name(base)),
            None => "from random weights".to_owned(),
        };
        let losses: Vec<String> = losses
            .iter()
            .map(|(name, v)| format!("{} {v:.4}", name.trim_start_matches("validation/")))
            .collect();
        let measured = match losses.is_empty() {
            true => String::new(),
            false => format!("; validation: {}", losses.join(", ")),
        };
        // Its weaknesses and its licence come with it, unless this command says otherwise.
        let (warning, licence) = match &self.said {
            Some(base) => (base.warning.clone(), Some(base.licence.clone())),
            None => (None, None),
        };
        Draft {
            name: s
                .name
                .clone()
                .or_else(|| Some(file_name(&s.out)).filter(|n| !n.is_empty())),
            command: "finetune",
            made_from: format!(
                "{from}, stage {}, {step} steps of {} examples of {} (seed {}){measured}",
                s.stage,
                s.batch,
                sets.join(", "),
                s.seed
            ),
            trained: true,
            warning: s.warning.clone().or(warning).filter(|text| !text.is_empty()),
            licence: (s.licence.clone().or(licence)).unwrap_or_else(|| "not stated".to_owned()),
            intended_use: format!("Research on chest X-rays. {}", crate::RESEARCH_NOTICE),
            instructions: DefaultInstructions::default(),
            defaults: Defaults {
                instruct_max_tokens: 256,
                temperature: s.temperature,
                guidance: s.guidance,
                readings: s.readings,
                ..Defaults::default()
            },
        }
    }
}

impl Task for FinetuneTask {
    type Batch = StepBatch;

    fn account(batch: &StepBatch) -> (&[String], &[Skip]) {
        (&batch.names, &batch.skipped)
    }

    fn step(&mut self, batch: &StepBatch, step: u64) -> Result<Vec<(String, f64)>, Fault> {
        self.learner.step(&batch.passes, step)
    }

    fn evaluate(&mut self, step: u64) -> Result<Vec<(String, f64)>, TrainError> {
        let s = &self.settings;
        let (mut values, mut total) = (Vec::new(), (0.0, 0.0));
        self.learner.chosen(|model| {
            let _guard = tch::no_grad_guard();
            for (skill, share, passes) in &self.measured {
                let score = self.learner.score(model, passes)?;
                values.push((format!("validation/{skill}_loss"), score.mean()));
                values.push((format!("validation/{skill}_accuracy"), score.accuracy()));
                total = (total.0 + share * score.mean(), total.1 + share);
            }
            if s.samples > 0 {
                let generator = Generator::new(model, self.examples.encoder.vocabulary())?;
                let folder = s.out.join("samples");
                write_samples(
                    &folder,
                    step,
                    &generator,
                    &self.examples,
                    &self.network,
                    s.samples,
                    s.seed,
                )?;
            }
            Ok::<_, TrainError>(())
        })?;
        if self.measured.is_empty() {
            self.export(step, &[])?;
            return Ok(values);
        }
        let loss = total.0 / total.1;
        values.insert(0, ("validation/loss".to_owned(), loss));
        // A loss that is not a number is never the best.
        let better = loss.is_finite() && self.best.loss.is_none_or(|best| loss < best);
        let gone = self.best.loss.is_some() && !is_export(&s.out.join(EXPORTED));
        if better || gone {
            let best = self.best.step;
            if !better && best != step {
                crate::basics::tell(format_args!(
                    "the best weights, of step {best}, are gone with the bundle: those of step {step} are exported"
                ));
            }
            self.export(step, &values)?;
            self.best = Best {
                step,
                loss: Some(loss).filter(|loss| loss.is_finite()),
                // What takes the place of the best ones is no better than they were.
                since: if better { 0 } else { self.best.since },
            };
        } else {
            self.best.since += 1;
            self.exhausted = self.settings.patience > 0 && self.best.since >= self.settings.patience;
        }
        values.push(("validation/best_step".to_owned(), self.best.step as f64));
        Ok(values)
    }

    fn unmeasured(&self) -> &'static str {
        "no task that is learned has an example for validation, or --validate is 0"
    }

    fn snapshot(&self, step: u64) -> Snapshot {
        let (tensors, learner) = self.learner.snapshot();
        let best = json!({"step": self.best.step, "loss": self.best.loss, "since": self.best.since});
        Snapshot {
            step,
            tensors,
            state: json!({"learner": learner, "best": best}),
        }
    }

    fn basis(&self) -> Basis {
        self.basis.clone()
    }

    fn restore(&mut self, restored: &Restored) -> Result<(), TrainError> {
        self.learner.restore(restored, &restored.state["learner"])?;
        let best = &restored.state["best"];
        self.best = Best {
            step: best["step"].as_u64().unwrap_or(0),
            loss: best["loss"].as_f64(),
            since: best["since"].as_u64().unwrap_or(0),
        };
        self.exhausted = self.settings.patience > 0 && self.best.since >= self.settings.patience;
        Ok(())
    }

    fn restate(&self) -> Result<(), TrainError> {
        let bundle = self.settings.out.join(EXPORTED);
        if restate(&bundle, self.draft(self.best.step, &[]))? {
            crate::basics::tell(format_args!(
                "{}: name, licence, warning and defaults are those of this command, or of its base, now",
                bundle.display()
            ));
        }
        Ok(())
    }

    fn over(&self) -> bool {
        self.exhausted
    }
}
