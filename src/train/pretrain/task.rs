//! The run: texts in, a language model out.

use std::sync::Arc;

use tch::{Device, Kind};

use super::settings::PretrainSettings;
use super::text::{Texts, passes};
use crate::model::drafts::DraftTable;
use crate::train::common::checkpoint::{Restored, Snapshot};
use crate::train::common::schedule::Schedule;
use crate::train::common::{Basis, Fault, Outcome, Plan, Skip, Task, TrainError, drive};
use crate::train::data::SplitWatch;
use crate::train::language_model::{Exported, Learner, Method, Shape, StepBatch};
use crate::train::neox::{Compute, TokenBatch, TrainableNeox};
use crate::train::tokenizer::with_control_tokens;
use crate::vocabulary::Vocabulary;

/// What the run leaves in its folder.
pub const EXPORTED: &str = "model";

struct PretrainTask {
    settings: PretrainSettings,
    learner: Learner,
    tokenizer: Vec<u8>,
    measured: Vec<TokenBatch>,
    /// What the texts are.
    basis: Basis,
}

/// Trains a language model on plain text, or goes on with it; leaves `model/` (config.json, tokenizer.json, model.safetensors) in the
/// run's folder.
pub fn train(settings: &PretrainSettings, device: Device, stop: impl Fn() -> bool) -> Result<Outcome, TrainError> {
    let s = settings;
    s.check()?;
    let bytes = std::fs::read(&s.tokenizer).map_err(|e| TrainError::io(&s.tokenizer, e))?;
    let (tokenizer, _) = with_control_tokens(&bytes)?;
    // Without images: codes are no part of the model yet.
    let vocabulary = Vocabulary::from_bytes(&tokenizer, 1, 1).map_err(crate::train::tokenizer::TokenizerError::from)?;
    let (mut texts, mut watch) = (Texts::default(), SplitWatch::default());
    for path in &s.text {
        texts.add(path, &vocabulary, &mut watch)?;
    }
    if texts.tokens() < s.length {
        return Err(TrainError::NoData(format!(
            "the texts hold {} tokens to learn from, fewer than one sequence of {}; {}",
            texts.tokens(),
            s.length,
            texts.account
        )));
    }
    let shape = Shape {
        rows: vocabulary.text_len(),
        hidden: s.hidden,
        layers: s.layers,
        heads: s.heads,
        context: s.context,
        tied: s.tied,
    };
    let model = TrainableNeox::fresh(&shape.config()?, s.seed, device)?;
    let method = Method {
        adamw: s.adamw(),
        schedule: Schedule {
            peak: s.rate,
            warmup: s.warmup,
            steps: s.steps,
            shape: s.schedule,
            floor: 0.05,
        },
        clip: s.clip,
        ema: s.ema,
        compute: Compute {
            kind: if s.bf16 { Kind::BFloat16 } else { Kind::Float },
            checkpointing: false,
        },
    };
    let mut task = PretrainTask {
        settings: s.clone(),
        learner: Learner::new(model, method),
        tokenizer,
        measured: passes(&texts.measured(s.validate, s.length), s.pass_tokens),
        basis: Basis::of(texts.checksum()),
    };
    crate::basics::tell(format_args!(
        "{}\n{} tokens to learn from",
        texts.account,
        texts.tokens()
    ));
    let plan = Plan {
        title: "pretrain".to_owned(),
        out: s.out.clone(),
        exports: EXPORTED,
        steps: s.steps,
        save_every: s.save_every,
        eval_every: s.eval_every,
        log_every: s.log_every,
        workers: s.workers,
    };
    let value = serde_json::to_value(s).map_err(|e| TrainError::Settings(e.to_string()))?;
    let (texts, s) = (Arc::new(texts), s.clone());
    let batch = move |step| StepBatch {
        passes: passes(&texts.training(s.seed, step, s.batch, s.length), s.pass_tokens),
        names: vec![format!("{} stretches of text", s.batch)],
        skipped: Vec::new(),
    };
    drive(&mut task, &plan, &value, batch, stop)
}

impl Task for PretrainTask {
    type Batch = StepBatch;

    fn account(batch: &StepBatch) -> (&[String], &[Skip]) {
        (&batch.names, &batch.skipped)
    }

    fn step(&mut self, batch: &StepBatch, step: u64) -> Result<Vec<(String, f64)>, Fault> {
        self.learner.step(&batch.passes, step)
    }

    fn evaluate(&mut self, _: u64) -> Result<Vec<(String, f64)>, TrainError> {
        self.learner.chosen(|model| {
            let exported = Exported {
                drafts: &DraftTable::default(),
                config: model.config(),
                tensors: &model.named(),
                tokenizer: &self.tokenizer,
                dtype: self.settings.save_dtype,
            };
            exported.folder(&self.settings.out.join(EXPORTED))?;
            if self.measured.is_empty() {
                return Ok(Vec::new());
            }
            let score = self.learner.score(model, &self.measured)?;
            Ok(vec![
                ("validation/loss".to_owned(), score.mean()),
                ("validation/accuracy".to_owned(), score.accuracy()),
            ])
        })
    }

    fn unmeasured(&self) -> &'static str {
        "the texts for validation hold less than one sequence, or --validate is 0"
    }

    fn snapshot(&self, step: u64) -> Snapshot {
        let (tensors, state) = self.learner.snapshot();
        Snapshot { step, tensors, state }
    }

    fn basis(&self) -> Basis {
        self.basis.clone()
    }

    fn restore(&mut self, restored: &Restored) -> Result<(), TrainError> {
        self.learner.restore(restored, &restored.state)
    }
}
