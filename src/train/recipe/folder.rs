//! The folder of a run: which steps are begun and done, and the bundle at the end.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::glance::Glance;
use super::{Planned, RecipeError};
use crate::basics::{hold, make_out};
use crate::model::bundle::folders;
use crate::train::common::checkpoint::{Checkpoints, KEPT};
use crate::train::common::store::write_whole;
use crate::train::common::{FREE, RUN, differences, is_export};
use crate::train::{classifier, finetune, pretrain, vqgan};

const RECORDS: &str = ".steps";
const LOCK: &str = ".steps/lock";
const BUNDLE: &str = "bundle";

/// What a training leaves in its folder for later steps and the server; `None` of a command that leaves its output alone.
fn exports(command: &str) -> Option<&'static str> {
    match command {
        "classifier" => Some(classifier::EXPORTED),
        "finetune" => Some(finetune::EXPORTED),
        "pretrain" => Some(pretrain::EXPORTED),
        "vqgan" => Some(vqgan::EXPORTED),
        _ => None,
    }
}

/// How far a step is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing is known of it.
    ToDo,
    /// Begun with the same settings and inputs; or done, and what it is there for is gone.
    Begun,
    /// Done with the same settings and inputs.
    Done,
    /// Begun or done with other settings; the command knows whether it can go on.
    OtherSettings(Vec<String>),
    /// Begun or done from other inputs.
    OtherInputs(Vec<String>),
}

/// What is written down of a step.
#[derive(Clone, Serialize, Deserialize)]
struct Record {
    command: String,
    done: bool,
    stamp: String,
    inputs: Vec<(String, String)>,
    settings: Value,
}

/// A step that was done, before its command was asked to go on with other settings.
#[derive(Serialize, Deserialize)]
struct Before {
    record: Record,
    left: Glance,
}

/// The folder of a run, held by one process at a time.
#[derive(Debug)]
pub struct RunFolder {
    root: PathBuf,
    _lock: Option<File>,
}

impl RunFolder {
    /// Makes the folder or takes it up.
    pub fn open(root: &Path) -> Result<Self, RecipeError> {
        let path = root.join(LOCK);
        make_out(root)
            .and_then(|()| fs::create_dir_all(root.join(RECORDS)))
            .map_err(RecipeError::io(root))?;
        let lock = hold(&path).map_err(RecipeError::io(&path))?;
        let lock = lock.ok_or_else(|| RecipeError::Busy(root.to_owned()))?;
        Ok(Self {
            root: root.canonicalize().map_err(RecipeError::io(root))?,
            _lock: Some(lock),
        })
    }

    /// The folder as it is, if it is: to ask for states alone.
    pub fn look(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            _lock: None,
        }
    }

    /// Its absolute path.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(RECORDS).join(format!("{name}.json"))
    }

    /// What is written down of a step. A record that cannot be read is none: the step's command finds what it left.
    fn record(&self, step: &Planned) -> Option<Record> {
        let bytes = fs::read(self.path(&step.name)).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// How far step `number` of `plan` is.
    pub fn state(&self, plan: &[Planned], number: usize) -> State {
        let step = &plan[number];
        let Some(record) = self.record(step) else {
            return State::ToDo;
        };
        if !self.root.join(&step.out).exists() {
            // Somebody removed it to have it done again.
            return State::ToDo;
        }
        if record.stamp == step.stamp {
            let out = self.root.join(&step.out);
            let left = exports(&step.command).is_none_or(|name| is_export(&out.join(name)));
            return if record.done && left { State::Done } else { State::Begun };
        }
        let now = inputs(plan, step);
        if record.command == step.command && record.inputs != now {
            let changed =
                |(name, stamp): &(String, String)| !record.inputs.iter().any(|(n, s)| n == name && s == stamp);
            let mut changes: Vec<String> = now
                .iter()
                .filter(|input| changed(input))
                .map(|(name, _)| format!("`{name}` is another"))
                .collect();
            let gone = record
                .inputs
                .iter()
                .filter(|(name, _)| now.iter().all(|(n, _)| n != name));
            changes.extend(gone.map(|(name, _)| format!("`{name}` is no input any more")));
            return State::OtherInputs(changes);
        }
        let mut changes = Vec::new();
        if record.command != step.command {
            changes.push(format!("command: {} → {}", record.command, step.command));
        }
        for (key, value) in step.settings.as_object().into_iter().flatten() {
            if record.settings.get(key) != Some(value) {
                changes.push(format!("{key}: {} → {value}", record.settings[key]));
            }
        }
        State::OtherSettings(changes)
    }

    /// Makes sure that step `number` may be done, and writes down that it is begun. With `redo`, what it left from other inputs, or of
    /// settings that its command does not go on with, is put aside, and removed when the step is done; without, other inputs are an error.
    /// Where what is aside was finished with these settings and inputs, that is put back, and the step is done.
    /// What only settings have changed that a training may go on with is gone on with in any case.
    pub fn begin(&self, plan: &[Planned], number: usize, redo: bool) -> Result<(), RecipeError> {
        let step = &plan[number];
        // A run that was killed between the two.
        self.take_back(plan, number)?;
        for &input in &step.inputs {
            if self.state(plan, input) != State::Done {
                return Err(RecipeError::InputMissing {
                    step: step.name.clone(),
                    input: plan[input].name.clone(),
                });
            }
        }
        let changes = match self.state(plan, number) {
            State::OtherInputs(changes) => Some(changes),
            State::OtherSettings(changes) if redo && !self.may_go_on(step) => Some(changes),
            // Its command will refuse to go on: what it left is what it was.
            State::OtherSettings(_) if step.goes_on && self.refused(step).is_some() => return Ok(()),
            State::OtherSettings(_) if step.goes_on => {
                // Its command may refuse to go on with other settings. Until it has done the step, what it left is still of the old
                // ones, and --redo must find that.
                return match self.record(step) {
                    Some(record) => {
                        self.remember(step, &record)?;
                        self.put(step, &Record { done: false, ..record })
                    }
                    None => self.write(plan, step, false),
                };
            }
            // The record is gone, or one of a command that refused to go on: what the step left says itself of what settings it is.
            State::ToDo | State::Begun if redo => self.refused(step),
            _ => None,
        };
        if let Some(changes) = changes.filter(|_| step.goes_on) {
            if !redo {
                return Err(self.begun_from(step, changes));
            }
            // Settings that were set back to those of what was finished: it need not be made again.
            let finished = self.kept(step).is_some_and(|kept| kept.stamp == step.stamp);
            self.put_aside(step)?;
            if finished {
                return self.put_back(step);
            }
        }
        self.write(plan, step, false)
    }

    /// Why a run would not do step `number` without `--redo`: what it left is of other inputs, or its command would not go on with it. `None` where
    /// it is done, or may be done.
    pub fn stale(&self, plan: &[Planned], number: usize) -> Option<RecipeError> {
        let step = &plan[number];
        let changes = match self.state(plan, number) {
            State::Done => None,
            State::OtherInputs(changes) => Some(changes),
            State::ToDo | State::Begun | State::OtherSettings(_) => self.refused(step),
        };
        let changes = changes.filter(|_| step.goes_on)?;
        Some(self.begun_from(step, changes))
    }

    fn begun_from(&self, step: &Planned, changes: Vec<String>) -> RecipeError {
        RecipeError::Stale {
            step: step.name.clone(),
            changes,
            out: self.root.join(&step.out),
        }
    }

    /// Where the messages of step `step` go that is done by a process of its own.
    pub fn log(&self, step: &Planned) -> PathBuf {
        self.root.join(RECORDS).join(format!("{}.log", step.name))
    }

    /// Writes down that step `number` is done, when the disk has what it made: a loss of power leaves no step done whose files are empty.
    pub fn finish(&self, plan: &[Planned], number: usize) -> Result<(), RecipeError> {
        let out = self.root.join(&plan[number].out);
        if out.exists() {
            folders::settle(&out).map_err(RecipeError::folder)?;
        }
        self.write(plan, &plan[number], true)?;
        self.drop_aside(&plan[number])?;
        folders::remove(&self.before(&plan[number])).map_err(RecipeError::folder)
    }

    /// Why the command of a step would not go on with the run that it left; `None` where it would, or left none.
    fn refused(&self, step: &Planned) -> Option<Vec<String>> {
        let out = self.root.join(&step.out);
        let then = serde_json::from_slice(&fs::read(out.join(RUN)).ok()?).ok()?;
        let mut changes = differences(&then, &step.settings);
        changes.extend(self.too_many(step));
        (!changes.is_empty()).then_some(changes)
    }

    /// That a training has made more steps than it is asked for.
    fn too_many(&self, step: &Planned) -> Option<String> {
        // Epochs take the place of steps, and how many these are follows from the data.
        if !step.settings["epochs"].is_null() {
            return None;
        }
        let folder = self.root.join(&step.out).join("checkpoints");
        let (made, asked) = (Checkpoints::new(folder, KEPT).made()?, step.settings["steps"].as_u64()?);
        (made > asked).then(|| format!("steps: {made} made, {asked} asked for"))
    }

    /// Whether no setting has changed but those that a training may go on with, and it has not made more steps than are asked for.
    fn may_go_on(&self, step: &Planned) -> bool {
        let settings = step.settings.as_object().into_iter().flatten();
        step.goes_on
            && self.too_many(step).is_none()
            && self.record(step).is_some_and(|record| {
                let same = |(key, value): (&String, &Value)| {
                    FREE.contains(&key.as_str()) || record.settings.get(key) == Some(value)
                };
                record.command == step.command && { settings }.all(same)
            })
    }

    fn write(&self, plan: &[Planned], step: &Planned, done: bool) -> Result<(), RecipeError> {
        let record = Record {
            command: step.command.clone(),
            done,
            stamp: step.stamp.clone(),
            inputs: inputs(plan, step),
            settings: step.settings.clone(),
        };
        self.put(step, &record)
    }

    fn put(&self, step: &Planned, record: &Record) -> Result<(), RecipeError> {
        write_json(&self.path(&step.name), record)
    }

    /// Where [`Before`] is kept while the command of a step is at work.
    fn before(&self, step: &Planned) -> PathBuf {
        self.root.join(RECORDS).join(format!("{}.before.json", step.name))
    }

    /// Keeps that a step is done, and what it left: its command may refuse the other settings before it writes anything.
    fn remember(&self, step: &Planned, record: &Record) -> Result<(), RecipeError> {
        if !record.done {
            return Ok(());
        }
        let before = Before {
            record: record.clone(),
            left: Glance::at(&self.root.join(&step.out)),
        };
        write_json(&self.before(step), &before)
    }

    /// Writes down again that a step is done whose command has written nothing since [`Self::remember`].
    fn recall(&self, step: &Planned) -> Result<(), RecipeError> {
        let place = self.before(step);
        let before = fs::read(&place).ok();
        let before = before.and_then(|bytes| serde_json::from_slice::<Before>(&bytes).ok());
        if let Some(before) = before.filter(|before| before.left == Glance::at(&self.root.join(&step.out))) {
            self.put(step, &before.record)?;
        }
        folders::remove(&place).map_err(RecipeError::folder)
    }

    /// Where what a step left is kept while it is done again, with its record.
    fn aside(&self, step: &Planned) -> (PathBuf, PathBuf) {
        let aside = |end: &str| self.root.join(RECORDS).join(format!("{}.{end}", step.name));
        (aside("old"), aside("old.json"))
    }

    /// Where what a redo left that never finished is while it is removed: half of it is nothing to go on with.
    fn wreck(&self, step: &Planned) -> PathBuf {
        self.root.join(RECORDS).join(format!("{}.wreck", step.name))
    }

    /// Removes what is aside of a step that is done. The record goes first: without it half of a folder is not taken for what a step left.
    fn drop_aside(&self, step: &Planned) -> Result<(), RecipeError> {
        let (old, record) = self.aside(step);
        folders::remove(&record)
            .and_then(|()| folders::remove(&old))
            .and_then(|()| folders::remove(&self.wreck(step)))
            .map_err(RecipeError::folder)
    }

    /// The record of what is aside of a step, if that was finished.
    fn kept(&self, step: &Planned) -> Option<Record> {
        let (old, record) = self.aside(step);
        let record: Record = serde_json::from_slice(&fs::read(record).ok()?).ok()?;
        (record.done && old.exists()).then_some(record)
    }

    /// Puts what a step left aside until the step is done. Where something that was finished is aside already, the step was begun again since
    /// and has not finished: then that stays, and what the step left since goes.
    fn put_aside(&self, step: &Planned) -> Result<(), RecipeError> {
        let inside = step.out.components().all(|part| matches!(part, Component::Normal(_)));
        if !inside || step.out.as_os_str().is_empty() {
            return Err(RecipeError::Outside {
                step: step.name.clone(),
                out: step.out.clone(),
            });
        }
        let ((old, record), path) = (self.aside(step), self.root.join(&step.out));
        if path.exists() && self.kept(step).is_some() {
            let wreck = self.wreck(step);
            folders::remove(&wreck).map_err(RecipeError::folder)?;
            fs::rename(&path, &wreck).map_err(RecipeError::io(&path))?;
            folders::remove(&wreck).map_err(RecipeError::folder)?;
        } else if path.exists() {
            self.drop_aside(step)?;
            let from = self.path(&step.name);
            match fs::copy(&from, &record) {
                // Without a record it has one that says nothing.
                Err(e) if e.kind() == ErrorKind::NotFound => {
                    fs::write(&record, "").map_err(RecipeError::io(&record))?
                }
                copied => drop(copied.map_err(RecipeError::io(&record))?),
            }
            fs::rename(&path, &old).map_err(RecipeError::io(&path))?;
        }
        Ok(())
    }

    /// Puts back what was put aside for step `number`, if the step failed before it left anything, and writes down again that it is done, if it
    /// was: a slip in its settings costs nothing. What a killed [`Self::finish`] has left aside of a step that is done is removed.
    pub fn take_back(&self, plan: &[Planned], number: usize) -> Result<(), RecipeError> {
        let step = &plan[number];
        self.recall(step)?;
        if self.root.join(&step.out).exists() {
            let done = self.record(step).is_some_and(|record| record.done);
            return if done { self.drop_aside(step) } else { Ok(()) };
        }
        self.put_back(step)
    }

    /// Puts back what is aside of a step whose place is free, with its record.
    fn put_back(&self, step: &Planned) -> Result<(), RecipeError> {
        let ((old, record), path) = (self.aside(step), self.root.join(&step.out));
        if old.exists() && record.exists() {
            // The record stays aside until the folder is back: killed anywhere in between, the next run does it all again.
            fs::copy(&record, self.path(&step.name)).map_err(RecipeError::io(&record))?;
            fs::rename(&old, &path).map_err(RecipeError::io(&old))?;
            folders::remove(&record).map_err(RecipeError::folder)?;
        }
        folders::remove(&self.wreck(step)).map_err(RecipeError::folder)
    }

    /// Puts the bundle at `from` (relative to the folder) into `bundle/`; gives its path. Files are shared with `from` where the file
    /// system allows it.
    pub fn publish(&self, from: &Path) -> Result<PathBuf, RecipeError> {
        let (source, target) = (self.root.join(from), self.root.join(BUNDLE));
        if !source.join("bundle.json").is_file() {
            return Err(RecipeError::NoBundle(source));
        }
        let (new, old) = (self.root.join(".steps/bundle.new"), self.root.join(".steps/bundle.old"));
        folders::remove(&new)
            .and_then(|()| folders::share(&source, &new))
            .and_then(|()| folders::exchange(&new, &target, &old))
            .map_err(RecipeError::folder)?;
        Ok(target)
    }
}

/// Writes a file of JSON whole.
fn write_json(path: &Path, what: &impl Serialize) -> Result<(), RecipeError> {
    let io = |reason: String| RecipeError::io(path)(std::io::Error::other(reason));
    let text = serde_json::to_string_pretty(what).map_err(|e| io(e.to_string()))?;
    write_whole(path, text.as_bytes()).map_err(|e| io(e.to_string()))
}

/// Names and stamps of a step's inputs.
fn inputs(plan: &[Planned], step: &Planned) -> Vec<(String, String)> {
    let input = |&n: &usize| (plan[n].name.clone(), plan[n].stamp.clone());
    step.inputs.iter().map(input).collect()
}
