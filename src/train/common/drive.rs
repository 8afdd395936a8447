//! The training loop: resume, step, log, evaluate, save, stop.

use std::path::PathBuf;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::checkpoint::{Checkpoints, Restored, Snapshot};
use super::{Loader, RunLog, TrainError, open_folder};

/// Settings that may change when a run is taken up again: they do not change what is learned up to any step.
pub const FREE: &[&str] = &[
    "steps",
    "workers",
    "cache_mib",
    "device",
    "eval_every",
    "save_every",
    "log_every",
    "keep",
    "validate_images",
    "samples",
    "patience",
    "name",
    "licence",
    "warning",
    "temperature",
    "guidance",
    "readings",
];

/// What is wrong with a step.
#[derive(Debug)]
pub enum Fault {
    /// A quantity is NaN or infinite; the update was not applied.
    NotFinite {
        /// Its name.
        what: String,
        /// Its value.
        value: f64,
    },
    /// Anything else.
    Other(TrainError),
}

impl<E: Into<TrainError>> From<E> for Fault {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

/// Refuses quantities that are not finite.
pub fn finite(values: &[(String, f64)]) -> Result<(), Fault> {
    match values.iter().find(|(_, v)| !v.is_finite()) {
        Some((what, value)) => Err(Fault::NotFinite {
            what: what.clone(),
            value: *value,
        }),
        None => Ok(()),
    }
}

/// Something that is trained step by step.
pub trait Task {
    /// What a step is made from.
    type Batch: Send + 'static;

    /// Names of a batch's items, and sentences on those that were skipped.
    fn account(batch: &Self::Batch) -> (&[String], &[String]);

    /// Does step `step` (counted from 0) and gives its quantities. Weights must be left alone if one of them is not finite.
    fn step(&mut self, batch: &Self::Batch, step: u64) -> Result<Vec<(String, f64)>, Fault>;

    /// Measures and exports what was learned after `step` steps.
    fn evaluate(&mut self, step: u64) -> Result<Vec<(String, f64)>, TrainError>;

    /// Everything a later [`Task::restore`] needs to go on bit for bit.
    fn snapshot(&self, step: u64) -> Snapshot;

    /// Takes up a snapshot.
    fn restore(&mut self, restored: &Restored) -> Result<(), TrainError>;
}

/// How long and how often.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What the run is called in its bar and curves.
    pub title: String,
    /// The run's folder.
    pub out: PathBuf,
    /// Steps of the whole run.
    pub steps: u64,
    /// Steps between checkpoints.
    pub save_every: u64,
    /// Steps between evaluations.
    pub eval_every: u64,
    /// Steps between lines of the log.
    pub log_every: u64,
    /// Checkpoints kept.
    pub keep: usize,
    /// Threads that prepare batches.
    pub workers: usize,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All steps are done.
    Finished,
    /// Stopped on demand after this many steps, and saved.
    Stopped(u64),
}

/// Runs `task` to the end of `plan`, from the newest valid checkpoint in its folder if there is one. `batch` makes the batch of a
/// step from its number alone. `stop` is asked after every step.
pub fn drive<T: Task>(
    task: &mut T,
    plan: &Plan,
    settings: &Value,
    batch: impl Fn(u64) -> T::Batch + Send + Sync + 'static,
    stop: impl Fn() -> bool,
) -> Result<Outcome, TrainError> {
    open_folder(&plan.out, settings, FREE)?;
    let checkpoints = Checkpoints::new(plan.out.join("checkpoints"), plan.keep);
    let (restored, damaged) = checkpoints.newest();
    let bar = ProgressBar::new(plan.steps).with_style(style());
    bar.set_prefix(plan.title.clone());
    for sentence in &damaged {
        bar.suspend(|| eprintln!("{sentence}"));
    }
    let mut step = 0;
    if let Some(restored) = &restored {
        task.restore(restored)?;
        step = restored.step;
        bar.suspend(|| eprintln!("{}: goes on after step {step}", plan.title));
    }
    drop(restored);
    let mut log = RunLog::open(&plan.out, &plan.title, step)?;
    let loader = Loader::start(batch, step, plan.workers, plan.workers * 2);
    bar.set_position(step);
    let (mut since, mut counted, mut skipped) = (Instant::now(), step, 0u64);
    let mut saved = step;
    while step < plan.steps {
        let batch = loader.next()?;
        let (ids, sentences) = T::account(&batch);
        for sentence in sentences {
            skipped += 1;
            bar.suspend(|| eprintln!("skipped: {sentence}"));
        }
        if ids.is_empty() {
            return Err(TrainError::NoData(format!(
                "nothing of batch {step} can be used; the lines above say why"
            )));
        }
        let values = match task.step(&batch, step) {
            Ok(values) => values,
            Err(Fault::Other(error)) => return Err(error),
            Err(Fault::NotFinite { what, value }) => {
                return Err(TrainError::NotFinite {
                    what,
                    value,
                    step,
                    ids: ids.to_vec(),
                    last_good: checkpoints.last_good(),
                });
            }
        };
        step += 1;
        bar.set_position(step);
        let (last, asked) = (step == plan.steps, stop());
        if due(step, plan.log_every) || last || asked {
            let seconds = since.elapsed().as_secs_f64().max(1e-9);
            let mut line = values.clone();
            line.push(("speed/steps_per_second".to_owned(), (step - counted) as f64 / seconds));
            line.push(("data/skipped".to_owned(), skipped as f64));
            log.scalars(step, &line)?;
            bar.set_message(brief(&values));
            (since, counted) = (Instant::now(), step);
        }
        if due(step, plan.eval_every) || last {
            let measured = task.evaluate(step)?;
            log.scalars(step, &measured)?;
            log.draw()?;
            bar.suspend(|| eprintln!("step {step}: {}", brief(&measured)));
            (since, counted) = (Instant::now(), step);
        }
        if due(step, plan.save_every) || last || asked {
            checkpoints.save(&task.snapshot(step))?;
            saved = step;
        }
        if asked && !last {
            log.draw()?;
            bar.abandon();
            return Ok(Outcome::Stopped(saved));
        }
    }
    bar.finish();
    Ok(Outcome::Finished)
}

fn due(step: u64, every: u64) -> bool {
    every > 0 && step.is_multiple_of(every)
}

fn brief(values: &[(String, f64)]) -> String {
    let short = |(name, value): &(String, f64)| format!("{} {value:.4}", name.rsplit('/').next().unwrap_or(name));
    values.iter().map(short).collect::<Vec<_>>().join("  ")
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{prefix} {bar:24} {pos}/{len} {per_sec} eta {eta} {wide_msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}
