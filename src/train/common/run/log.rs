//! What a run writes down: JSON lines, TensorBoard events, and curves.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::curves::{Series, svg};
use super::settings::differences;
use super::store::write_whole;
use super::tensorboard::EventFile;
use crate::train::common::TrainError;

/// Where a run's settings are kept.
pub const RUN: &str = "run.json";
const LINES: &str = "log.jsonl";
const CURVES: &str = "curves.svg";
/// So the names of quantities begin that are measured when a run is evaluated.
const MEASURED: &str = "validation/";

/// The log of a run.
pub struct RunLog {
    folder: PathBuf,
    title: String,
    lines: File,
    events: EventFile,
    history: BTreeMap<String, Vec<(u64, f64)>>,
}

impl RunLog {
    /// Goes on with the log in `folder` from `step`; lines of later steps (lost by an interruption) are dropped, and what was measured after
    /// this one where it is measured `again`.
    pub fn open(folder: &Path, title: &str, step: u64, again: bool) -> Result<Self, TrainError> {
        let path = folder.join(LINES);
        let (mut kept, mut history) = (String::new(), BTreeMap::<String, Vec<(u64, f64)>>::new());
        if let Ok(file) = File::open(&path) {
            for line in BufReader::new(file).lines().map_while(Result::ok) {
                // The last line may be cut by a kill.
                let Ok(Value::Object(entry)) = serde_json::from_str(&line) else {
                    continue;
                };
                let Some(at) = entry.get("step").and_then(Value::as_u64).filter(|&at| at <= step) else {
                    continue;
                };
                if again && at == step && entry.keys().any(|name| name.starts_with(MEASURED)) {
                    continue;
                }
                for (name, value) in entry.iter().filter(|(name, _)| name.contains('/')) {
                    if let Some(value) = value.as_f64() {
                        history.entry(name.clone()).or_default().push((at, value));
                    }
                }
                kept.push_str(&line);
                kept.push('\n');
            }
            write_whole(&path, kept.as_bytes())?;
        }
        let error = |reason| TrainError::io(&path, reason);
        Ok(Self {
            folder: folder.to_owned(),
            title: title.to_owned(),
            lines: OpenOptions::new()
                .create(true)
                .append(true)
                .open(&path)
                .map_err(error)?,
            events: EventFile::create(folder, step + 1).map_err(|e| TrainError::io(folder, e))?,
            history,
        })
    }

    /// Writes quantities, named `group/name`, of a step.
    pub fn scalars(&mut self, step: u64, values: &[(String, f64)]) -> Result<(), TrainError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut entry = Map::new();
        entry.insert("step".to_owned(), json!(step));
        entry.insert("time".to_owned(), json!((now.as_secs_f64() * 1e3).round() / 1e3));
        for (name, value) in values {
            entry.insert(name.clone(), json!(value));
            self.history.entry(name.clone()).or_default().push((step, *value));
        }
        let line = format!("{}\n", Value::Object(entry));
        let error = |reason| TrainError::io(&self.folder.join(LINES), reason);
        self.lines.write_all(line.as_bytes()).map_err(error)?;
        self.events.scalars(step, values).map_err(error)
    }

    /// Writes the curves of everything logged so far.
    pub fn draw(&self) -> Result<(), TrainError> {
        let series: Vec<Series> = self
            .history
            .iter()
            .map(|(name, points)| Series {
                name: name.clone(),
                points: points.clone(),
            })
            .collect();
        write_whole(&self.folder.join(CURVES), svg(&self.title, &series).as_bytes())
    }
}

/// Creates a run's folder, or checks that the one there was begun with the same settings, but for those that may change ([`differences`]).
pub fn open_folder(folder: &Path, settings: &Value) -> Result<(), TrainError> {
    fs::create_dir_all(folder).map_err(|e| TrainError::io(folder, e))?;
    let path = folder.join(RUN);
    match fs::read(&path) {
        Ok(bytes) => {
            let then: Value = serde_json::from_slice(&bytes).map_err(|e| {
                TrainError::Settings(format!("{}: {e}; remove the folder to begin anew", path.display()))
            })?;
            let differences = differences(&then, settings);
            if !differences.is_empty() {
                let folder = folder.to_owned();
                return Err(TrainError::Changed { folder, differences });
            }
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(TrainError::io(&path, e)),
    }
    write_whole(&path, format!("{settings:#}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_taken_up_again_drops_what_came_after_its_checkpoint() {
        let dir = tempfile::tempdir().unwrap();
        let value = |v: f64| vec![("loss/total".to_owned(), v)];
        let mut log = RunLog::open(dir.path(), "run", 0, false).unwrap();
        for step in 1..=5 {
            log.scalars(step, &value(step as f64)).unwrap();
        }
        drop(log);
        fs::write(
            dir.path().join(LINES),
            fs::read_to_string(dir.path().join(LINES)).unwrap() + "{\"step\": 6, \"lo",
        )
        .unwrap();
        let mut log = RunLog::open(dir.path(), "run", 3, false).unwrap();
        log.scalars(4, &value(40.0)).unwrap();
        log.draw().unwrap();
        assert_eq!(log.history["loss/total"], [(1, 1.0), (2, 2.0), (3, 3.0), (4, 40.0)]);
        assert_eq!(fs::read_to_string(dir.path().join(LINES)).unwrap().lines().count(), 4);
        assert!(
            fs::read_to_string(dir.path().join(CURVES))
                .unwrap()
                .contains("loss/total")
        );
    }

    #[test]
    fn what_is_measured_again_takes_the_place_of_what_was_measured_before() {
        let dir = tempfile::tempdir().unwrap();
        let value = |name: &str, v: f64| vec![(name.to_owned(), v)];
        let mut log = RunLog::open(dir.path(), "run", 0, false).unwrap();
        for step in 1..=2 {
            log.scalars(step, &value("loss/total", 1.0)).unwrap();
            log.scalars(step, &value("validation/loss", 2.0)).unwrap();
        }
        drop(log);
        // Not of another step, nor where nothing is measured again.
        for (again, lines) in [(false, 4), (true, 3)] {
            let log = RunLog::open(dir.path(), "run", 2, again).unwrap();
            let measured = &log.history["validation/loss"];
            assert_eq!((measured.len(), log.history["loss/total"].len()), (lines - 2, 2));
            let text = fs::read_to_string(dir.path().join(LINES)).unwrap();
            assert_eq!(text.lines().count(), lines, "{text}");
        }
    }

    #[test]
    fn a_folder_begun_with_other_settings_is_refused_and_free_ones_may_change() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("run");
        open_folder(&folder, &json!({"seed": 1, "steps": 10})).unwrap();
        open_folder(&folder, &json!({"seed": 1, "steps": 20})).unwrap();
        let error = open_folder(&folder, &json!({"seed": 2, "steps": 20})).unwrap_err();
        assert!(error.to_string().contains("seed: 1 → 2"), "{error}");
    }
}
