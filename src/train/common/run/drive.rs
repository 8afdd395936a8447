//! The training loop: resume, step, log, evaluate, save, stop.

use std::time::Instant;

use indicatif::ProgressBar;
use serde_json::Value;

use super::bar::{brief, style, take_up};
use super::basis::Basis;
use super::checkpoint::{Checkpoints, KEPT, Restored, Snapshot};
use super::lines::Lines;
use super::lock::hold_folder;
use super::log::{RUN, RunLog, open_folder};
use super::plan::{Outcome, Plan, is_export};
use super::skips::{LeftOut, Skip, Skips};
use crate::train::common::{Loader, TrainError};

/// So many steps in a row of which nothing can be used end a run: then it is not a file here and there that is damaged.
const MOST_EMPTY: u64 = 100;

/// Where checkpoints are, in a run's folder.
const CHECKPOINTS: &str = "checkpoints";

/// Why most often nothing is measured.
const NOTHING_TO_MEASURE: &str = "the data has no validation split, or nothing of it is to be measured";

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

    /// Names of a batch's items, and those that were skipped.
    fn account(batch: &Self::Batch) -> (&[String], &[Skip]);

    /// What of the data is known not to be of use before the first step. Asked for once.
    fn left_out(&mut self) -> LeftOut {
        LeftOut::default()
    }

    /// Does step `step` (counted from 0) and gives its quantities. Weights must be left alone if one of them is not finite.
    fn step(&mut self, batch: &Self::Batch, step: u64) -> Result<Vec<(String, f64)>, Fault>;

    /// Measures and exports what was learned after `step` steps.
    fn evaluate(&mut self, step: u64) -> Result<Vec<(String, f64)>, TrainError>;

    /// Why [`Task::evaluate`] has measured nothing.
    fn unmeasured(&self) -> &'static str {
        NOTHING_TO_MEASURE
    }

    /// Everything a later [`Task::restore`] needs to go on bit for bit.
    fn snapshot(&self, step: u64) -> Snapshot;

    /// What the run goes by besides its settings.
    fn basis(&self) -> Basis {
        Basis::default()
    }

    /// Takes up a snapshot.
    fn restore(&mut self, restored: &Restored) -> Result<(), TrainError>;

    /// Brings what was exported before in line with settings that are said of it alone and may have changed since. Called after
    /// [`Task::restore`].
    fn restate(&self) -> Result<(), TrainError> {
        Ok(())
    }

    /// Whether the run ends before its last step, by what was measured, so that after a [`Task::restore`] there is nothing left to do.
    fn over(&self) -> bool {
        false
    }
}

/// Runs `task` to the end of `plan`, from the newest valid checkpoint in its folder if there is one. `batch` makes the batch of a
/// step from its number alone. `stop` is asked after every step, and while a batch is long in coming. A step of whose batch nothing can be
/// used is left out and counted; as batches depend on numbers alone, it is the same one in every run.
///
/// Nothing is exported before there is a checkpoint: so a run whose exports are there and whose checkpoints are not has lost them, and is
/// not begun anew over what it made. A run that has ended and whose exports are gone measures and exports again what it has learned.
pub fn drive<T: Task>(
    task: &mut T,
    plan: &Plan,
    settings: &Value,
    batch: impl Fn(u64) -> T::Batch + Send + Sync + 'static,
    stop: impl Fn() -> bool,
) -> Result<Outcome, TrainError> {
    let _held = hold_folder(&plan.out)?;
    let Some(mut session) = Session::resume(task, plan, settings)? else {
        return Ok(Outcome::Finished);
    };
    let loader = Loader::start(batch, session.done, plan.workers, plan.workers * 2);
    session.catch_up()?;
    while session.done < plan.steps && !session.over {
        let Some(batch) = loader.next(&stop)? else {
            return session.interrupted();
        };
        let values = session.step(&batch)?;
        let ends = session.keep(&values, stop())?;
        session.show(&values);
        if ends && session.done < plan.steps {
            return session.stopped();
        }
    }
    session.bar.finish();
    if let Some(told) = session.skips.told() {
        crate::basics::tell(told);
    }
    plan.finished()
}

/// A run under way, from where it is taken up to its end.
struct Session<'a, T: Task> {
    task: &'a mut T,
    plan: &'a Plan,
    checkpoints: Checkpoints,
    log: RunLog,
    bar: ProgressBar,
    lines: Lines,
    /// Steps done.
    done: u64,
    /// Whether the run had ended before its last step, and only what it exported is made again.
    over: bool,
    /// Whether there is a checkpoint.
    kept: bool,
    /// Steps that the newest checkpoint has seen.
    saved: u64,
    /// Whether what was learned is still to be measured and exported.
    owed: bool,
    /// Since when, and after which step, speed is counted.
    since: (Instant, u64),
    /// Items that could not be used.
    skips: Skips,
    /// Steps of whose batch nothing could be used.
    left_out: u64,
    /// So many of them in a row, up to now.
    empty: u64,
}

impl<'a, T: Task> Session<'a, T> {
    /// Takes the run up from its newest checkpoint, or begins it. `None` where it has ended already.
    fn resume(task: &'a mut T, plan: &'a Plan, settings: &Value) -> Result<Option<Self>, TrainError> {
        let checkpoints = Checkpoints::new(plan.out.join(CHECKPOINTS), KEPT);
        let (restored, damaged) = checkpoints.newest()?;
        check(plan, restored.as_ref().map(|restored| restored.step))?;
        open_folder(&plan.out, settings)?;
        let bar = ProgressBar::new(plan.steps).with_style(style());
        bar.set_prefix(plan.title.clone());
        for sentence in &damaged {
            bar.suspend(|| crate::basics::tell(sentence));
        }
        let (mut done, mut owed, mut over) = (0, false, false);
        if let Some(restored) = &restored {
            let changed = task.basis().compare(&restored.state, restored.step, &plan.out)?;
            task.restore(restored)?;
            task.restate()?;
            (done, owed) = (restored.step, restored.state[OWED] == true);
            over = task.over();
            let gone = (over || done == plan.steps) && !is_export(&plan.exported());
            if over && !gone {
                bar.set_position(done);
                bar.abandon();
                return Ok(None);
            }
            bar.suspend(|| crate::basics::tell(format_args!("{}: goes on after step {done}", plan.title)));
            if let Some(told) = changed.filter(|_| done < plan.steps && !over) {
                bar.suspend(|| crate::basics::tell(format_args!("{}: {told}", plan.title)));
            }
            if gone && !owed {
                let exported = plan.exported();
                bar.suspend(|| {
                    crate::basics::tell(format_args!(
                        "{} is gone: what was learned by step {done} is measured and exported again",
                        exported.display()
                    ))
                });
                owed = true;
            }
        }
        let kept = restored.is_some();
        drop(restored);
        let left_out = task.left_out();
        let mut skips = Skips::new(&plan.out, left_out.account, !kept);
        for skip in left_out.images.iter().filter(|skip| skips.meet(skip)) {
            bar.suspend(|| crate::basics::tell(format_args!("skipped: {skip}")));
        }
        skips.write()?;
        let log = RunLog::open(&plan.out, &plan.title, done, owed)?;
        Ok(Some(Self {
            task,
            plan,
            checkpoints,
            log,
            bar,
            lines: Lines::begin(done, plan.steps),
            done,
            over,
            kept,
            saved: done,
            owed,
            since: (Instant::now(), done),
            skips,
            left_out: 0,
            empty: 0,
        }))
    }

    /// Measures and exports what the run before this one could not.
    fn catch_up(&mut self) -> Result<(), TrainError> {
        take_up(&self.bar, self.done);
        if self.owed {
            self.evaluate().map_err(|reason| self.unmeasured(reason))?;
            self.over |= self.task.over();
            self.save()?;
            take_up(&self.bar, self.done);
        }
        self.count_anew();
        Ok(())
    }

    /// Does the next step, or leaves it out where nothing of its batch can be used. Gives its quantities.
    fn step(&mut self, batch: &T::Batch) -> Result<Vec<(String, f64)>, TrainError> {
        let (ids, skipped) = T::account(batch);
        for skip in skipped {
            if self.skips.meet(skip) {
                self.bar
                    .suspend(|| crate::basics::tell(format_args!("skipped: {skip}")));
            }
        }
        let mut values = Vec::new();
        if ids.is_empty() {
            self.leave_out()?;
        } else {
            self.empty = 0;
            values = self.task.step(batch, self.done).map_err(|fault| match fault {
                Fault::Other(error) => error,
                Fault::NotFinite { what, value } => TrainError::NotFinite {
                    what,
                    value,
                    step: self.done,
                    ids: ids.to_vec(),
                    last_good: self.checkpoints.last_good(),
                    exported: Some(self.plan.exported()).filter(|exported| is_export(exported)),
                },
            })?;
        }
        self.done += 1;
        self.bar.set_position(self.done);
        Ok(values)
    }

    /// Counts a step of whose batch nothing can be used; too many of them in a row end the run.
    fn leave_out(&mut self) -> Result<(), TrainError> {
        self.left_out += 1;
        self.empty += 1;
        let (step, empty) = (self.done, self.empty);
        if empty >= MOST_EMPTY.min(self.plan.steps) {
            self.skips.write()?;
            return Err(TrainError::NoData(format!(
                "nothing of the last {empty} batches can be used (up to that of step {step}); the lines above say why"
            )));
        }
        self.bar.suspend(|| {
            crate::basics::tell(format_args!(
                "step {step} is left out: nothing of its batch can be used"
            ))
        });
        Ok(())
    }

    /// After a step: writes its quantities down, measures, exports and saves, each when it is due, at the last step, and (but for measuring)
    /// when the run is `asked` to stop. Gives whether it stops: also where what was just measured ends it.
    fn keep(&mut self, values: &[(String, f64)], asked: bool) -> Result<bool, TrainError> {
        let (plan, step) = (self.plan, self.done);
        let last = step == plan.steps;
        let mut told = Ok(());
        if due(step, plan.log_every) || last || asked {
            told = self.tell(values);
        }
        self.owed = due(step, plan.eval_every) || last;
        if self.owed {
            if !self.kept && told.is_ok() {
                self.save()?;
            }
            told = told.and_then(|()| self.evaluate());
            self.count_anew();
        }
        if let Err(reason) = told {
            // A full disk, most often: what was learned comes first, and may still find room where an export did not. If that fails too,
            // the error names an earlier one.
            let _ = self.checkpoints.save(&self.snapshot());
            return Err(self.unmeasured(reason));
        }
        let ends = asked || self.task.over();
        if due(step, plan.save_every) || last || ends {
            self.save()?;
        }
        Ok(ends)
    }

    /// Writes down the quantities of a step, and how fast steps are.
    fn tell(&mut self, values: &[(String, f64)]) -> Result<(), TrainError> {
        let (since, counted) = self.since;
        let seconds = since.elapsed().as_secs_f64().max(1e-9);
        let mut line = values.to_vec();
        line.push((
            "speed/steps_per_second".to_owned(),
            (self.done - counted) as f64 / seconds,
        ));
        line.push(("data/skipped".to_owned(), self.skips.count() as f64));
        if self.left_out > 0 {
            line.push(("data/left_out_steps".to_owned(), self.left_out as f64));
        }
        let told = self.log.scalars(self.done, &line);
        self.bar.set_message(brief(values));
        self.count_anew();
        told
    }

    /// Measures and exports what was learned, and writes down what was measured.
    fn evaluate(&mut self) -> Result<(), TrainError> {
        let step = self.done;
        let measured = self.task.evaluate(step)?;
        self.owed = false;
        if !measured.is_empty() {
            self.log.scalars(step, &measured)?;
        }
        self.log.draw()?;
        let told = match measured.is_empty() {
            true => format!("exported and not measured: {}", self.task.unmeasured()),
            false => brief(&measured),
        };
        self.bar
            .suspend(|| crate::basics::tell(format_args!("step {step}: {told}")));
        Ok(())
    }

    /// Says how far the run is, where nobody sees its bar.
    fn show(&mut self, values: &[(String, f64)]) {
        if let Some(line) = self.lines.after(self.done, values) {
            crate::basics::tell(format_args!("{}: {line}", self.plan.title));
        }
    }

    fn save(&mut self) -> Result<(), TrainError> {
        self.checkpoints.save(&self.snapshot())?;
        self.kept = true;
        self.saved = self.done;
        self.skips.write()
    }

    /// What the run needs to go on, and whether it then has to measure and export first.
    fn snapshot(&self) -> Snapshot {
        let mut snapshot = self.task.snapshot(self.done);
        if let Value::Object(state) = &mut snapshot.state {
            self.task.basis().note(state);
            if self.owed {
                state.insert(OWED.to_owned(), Value::Bool(true));
            }
        }
        snapshot
    }

    /// Speed is counted from here on.
    fn count_anew(&mut self) {
        self.since = (Instant::now(), self.done);
    }

    /// The end of a run that is asked to stop while it waits for its next batch. What is saved already is not written again.
    fn interrupted(mut self) -> Result<Outcome, TrainError> {
        if self.done > self.saved {
            self.save()?;
        }
        self.stopped()
    }

    /// The end of a run that stops before its last step, and has saved.
    fn stopped(self) -> Result<Outcome, TrainError> {
        self.log.draw()?;
        self.bar.abandon();
        Ok(Outcome::Stopped(self.done))
    }

    fn unmeasured(&self, reason: TrainError) -> TrainError {
        TrainError::Unmeasured {
            step: self.done,
            reason: Box::new(reason),
            last_good: self.checkpoints.last_good(),
        }
    }
}

/// Refuses a run that has lost its checkpoints, and one that has `made` more steps than are asked for.
fn check(plan: &Plan, made: Option<u64>) -> Result<(), TrainError> {
    let exported = plan.exported();
    if made.is_none() && exported.exists() && plan.out.join(RUN).is_file() {
        let checkpoints = plan.out.join(CHECKPOINTS);
        return Err(TrainError::NoCheckpoint { exported, checkpoints });
    }
    if let Some(made) = made.filter(|made| *made > plan.steps) {
        return Err(TrainError::Settings(format!(
            "{} has made {made} steps already, more than the {} that are asked for; choose another --out, or remove it (in a recipe: --redo)",
            plan.out.display(),
            plan.steps
        )));
    }
    Ok(())
}

fn due(step: u64, every: u64) -> bool {
    every > 0 && step.is_multiple_of(every)
}
