//! The training loop: resume, step, log, evaluate, save, stop.

use std::path::PathBuf;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::checkpoint::{Checkpoints, Restored, Snapshot};
use super::log::RUN;
use super::{Loader, RunLog, TrainError, hold_folder, open_folder};

/// So many steps in a row of which nothing can be used end a run: then it is not a file here and there that is damaged.
const MOST_EMPTY: u64 = 100;

/// In a checkpoint's state: what was learned has not been measured and exported.
const OWED: &str = "measurement_owed";

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

    /// Brings what was exported before in line with settings that are said of it alone and may have changed since. Called after
    /// [`Task::restore`].
    fn restate(&self) -> Result<(), TrainError> {
        Ok(())
    }

    /// Whether the run has ended before its last step, so that after a [`Task::restore`] there is nothing left to do.
    fn over(&self) -> bool {
        false
    }
}

/// How long and how often.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What the run is called in its bar and curves.
    pub title: String,
    /// The run's folder.
    pub out: PathBuf,
    /// What it leaves there besides checkpoints and logs.
    pub exports: &'static str,
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
/// step from its number alone. `stop` is asked after every step. A step of whose batch nothing can be used is left out and counted; as
/// batches depend on numbers alone, it is the same one in every run.
///
/// Nothing is exported before there is a checkpoint: so a run whose exports are there and whose checkpoints are not has lost them, and is
/// not begun anew over what it made.
pub fn drive<T: Task>(
    task: &mut T,
    plan: &Plan,
    settings: &Value,
    batch: impl Fn(u64) -> T::Batch + Send + Sync + 'static,
    stop: impl Fn() -> bool,
) -> Result<Outcome, TrainError> {
    let _held = hold_folder(&plan.out)?;
    let folder = plan.out.join("checkpoints");
    let checkpoints = Checkpoints::new(folder.clone(), plan.keep);
    let (restored, damaged) = checkpoints.newest()?;
    let exported = plan.out.join(plan.exports);
    if restored.is_none() && exported.exists() && plan.out.join(RUN).is_file() {
        let checkpoints = folder;
        return Err(TrainError::NoCheckpoint { exported, checkpoints });
    }
    if let Some(made) = restored.as_ref().map(|r| r.step).filter(|made| *made > plan.steps) {
        return Err(TrainError::Settings(format!(
            "{} has made {made} steps already, more than the {} that are asked for; choose another --out, or remove it (in a recipe: --redo)",
            plan.out.display(),
            plan.steps
        )));
    }
    open_folder(&plan.out, settings)?;
    let bar = ProgressBar::new(plan.steps).with_style(style());
    bar.set_prefix(plan.title.clone());
    for sentence in &damaged {
        bar.suspend(|| eprintln!("{sentence}"));
    }
    let (mut step, mut owed) = (0, false);
    if let Some(restored) = &restored {
        task.restore(restored)?;
        task.restate()?;
        (step, owed) = (restored.step, restored.state[OWED] == true);
        if task.over() {
            bar.set_position(step);
            bar.abandon();
            return Ok(Outcome::Finished);
        }
        bar.suspend(|| eprintln!("{}: goes on after step {step}", plan.title));
    }
    // Whether there is a checkpoint.
    let mut kept = restored.is_some();
    drop(restored);
    let mut log = RunLog::open(&plan.out, &plan.title, step)?;
    let loader = Loader::start(batch, step, plan.workers, plan.workers * 2);
    bar.set_position(step);
    if owed {
        measure(task, &mut owed, &mut log, &bar, step).map_err(|reason| unmeasured(&checkpoints, step, reason))?;
        checkpoints.save(&task.snapshot(step))?;
    }
    let (mut since, mut counted, mut skipped) = (Instant::now(), step, 0u64);
    let (mut saved, mut left_out, mut empty) = (step, 0u64, 0u64);
    while step < plan.steps {
        let batch = loader.next()?;
        let (ids, sentences) = T::account(&batch);
        for sentence in sentences {
            skipped += 1;
            bar.suspend(|| eprintln!("skipped: {sentence}"));
        }
        let mut values = Vec::new();
        if ids.is_empty() {
            (left_out, empty) = (left_out + 1, empty + 1);
            if empty >= MOST_EMPTY.min(plan.steps) {
                return Err(TrainError::NoData(format!(
                    "nothing of the last {empty} batches can be used (up to that of step {step}); the lines above say why"
                )));
            }
            bar.suspend(|| eprintln!("step {step} is left out: nothing of its batch can be used"));
        } else {
            empty = 0;
            values = task.step(&batch, step).map_err(|fault| match fault {
                Fault::Other(error) => error,
                Fault::NotFinite { what, value } => TrainError::NotFinite {
                    what,
                    value,
                    step,
                    ids: ids.to_vec(),
                    last_good: checkpoints.last_good(),
                },
            })?;
        }
        step += 1;
        bar.set_position(step);
        let (last, asked) = (step == plan.steps, stop());
        let mut told = Ok(());
        if due(step, plan.log_every) || last || asked {
            let seconds = since.elapsed().as_secs_f64().max(1e-9);
            let mut line = values.clone();
            line.push(("speed/steps_per_second".to_owned(), (step - counted) as f64 / seconds));
            line.push(("data/skipped".to_owned(), skipped as f64));
            if left_out > 0 {
                line.push(("data/left_out_steps".to_owned(), left_out as f64));
            }
            told = log.scalars(step, &line);
            bar.set_message(brief(&values));
            (since, counted) = (Instant::now(), step);
        }
        let mut owed = due(step, plan.eval_every) || last;
        if owed {
            if !kept && told.is_ok() {
                checkpoints.save(&snapshot(task, step, owed))?;
                kept = true;
            }
            told = told.and_then(|()| measure(task, &mut owed, &mut log, &bar, step));
            (since, counted) = (Instant::now(), step);
        }
        if let Err(reason) = told {
            // A full disk, most often: what was learned comes first, and may still find room where an export did not. If that fails too,
            // the error names an earlier one.
            let _ = checkpoints.save(&snapshot(task, step, owed));
            return Err(unmeasured(&checkpoints, step, reason));
        }
        if due(step, plan.save_every) || last || asked {
            checkpoints.save(&task.snapshot(step))?;
            (saved, kept) = (step, true);
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

/// What the run needs to go on, and whether it then has to measure and export first.
fn snapshot<T: Task>(task: &T, step: u64, owed: bool) -> Snapshot {
    let mut snapshot = task.snapshot(step);
    if let (true, Value::Object(state)) = (owed, &mut snapshot.state) {
        state.insert(OWED.to_owned(), Value::Bool(true));
    }
    snapshot
}

/// Measures and exports what was learned, and writes down what was measured; `owed` tells whether the former is still to be done.
fn measure<T: Task>(
    task: &mut T,
    owed: &mut bool,
    log: &mut RunLog,
    bar: &ProgressBar,
    step: u64,
) -> Result<(), TrainError> {
    let measured = task.evaluate(step)?;
    *owed = false;
    log.scalars(step, &measured)?;
    log.draw()?;
    bar.suspend(|| match measured.is_empty() {
        true => eprintln!("step {step}: exported and not measured, as the data has no validation split"),
        false => eprintln!("step {step}: {}", brief(&measured)),
    });
    Ok(())
}

fn unmeasured(checkpoints: &Checkpoints, step: u64, reason: TrainError) -> TrainError {
    TrainError::Unmeasured {
        step,
        reason: Box::new(reason),
        last_good: checkpoints.last_good(),
    }
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
