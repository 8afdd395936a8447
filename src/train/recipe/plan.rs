//! What follows from what.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::basics::sha256;
use crate::train::common::{FREE, split_share_in};
use crate::train::data::plain_path;

/// Settings that do not change what any step makes.
pub const SPEED: &[&str] = &["workers", "jobs", "log_every", "save_every"];

/// Those of [`FREE`], which may change while a training goes on, that show in what later steps get from it.
pub const SHOWN: &[&str] = &[
    "steps",
    "patience",
    "name",
    "licence",
    "warning",
    "temperature",
    "guidance",
    "readings",
];

/// Whether a setting is no part of a step's stamp. A step that does not go on is done anew, so whatever it is asked for counts.
fn free(key: &str, goes_on: bool) -> bool {
    SPEED.contains(&key) || (goes_on && FREE.contains(&key) && !SHOWN.contains(&key))
}

/// A step with its settings complete.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// Its name.
    pub name: String,
    /// Its command.
    pub command: String,
    /// Every setting of the command.
    pub settings: Value,
    /// What it leaves, relative to the run folder.
    pub out: PathBuf,
    /// Whether it goes on with what it left before, so that this must have been made from the same inputs.
    pub goes_on: bool,
    /// What its settings name: paths of inputs, and its output, relative to the run folder where they lie in it; other texts too.
    pub names: Vec<PathBuf>,
    /// Numbers of the earlier steps that it reads.
    pub inputs: Vec<usize>,
    /// Checksum of command, settings and inputs' stamps, in hexadecimal.
    pub stamp: String,
}

/// Finds each step's inputs and makes its stamp. `steps` are given with name, command, settings (`out` among them) and whether
/// they go on with what they left; `root` is the run folder's absolute path.
///
/// A step's inputs are the earlier ones whose output one of its paths leads into, or that lie in a folder that it reads.
pub fn plan(root: &Path, steps: impl IntoIterator<Item = (String, String, Value, bool)>) -> Vec<Planned> {
    let mut planned: Vec<Planned> = Vec::new();
    for (name, command, settings, goes_on) in steps {
        let out = clean(root, Path::new(settings["out"].as_str().unwrap_or(&name)));
        let mut names = Vec::new();
        texts(&settings, &mut |text| {
            names.push(clean(root, Path::new(split_share_in(root, text).0)))
        });
        names.retain(|path| !path.as_os_str().is_empty());
        let reads = |earlier: &Planned| {
            let leads =
                |path: &PathBuf| path.starts_with(&earlier.out) || (*path != out && earlier.out.starts_with(path));
            earlier.out != out && names.iter().any(leads)
        };
        let inputs: Vec<usize> = (0..planned.len()).filter(|&n| reads(&planned[n])).collect();
        let kept: serde_json::Map<String, Value> = settings
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(key, _)| !free(key, goes_on))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let stamps: Vec<_> = inputs.iter().map(|&n| planned[n].stamp.as_str()).collect();
        let whole = json!({"command": command, "settings": kept, "inputs": stamps}).to_string();
        let stamp = sha256(whole.as_bytes());
        planned.push(Planned {
            name,
            command,
            settings,
            out,
            goes_on,
            names,
            inputs,
            stamp,
        });
    }
    planned
}

/// Relative to `root` where it lies in it, without `.` and, as far as that goes by names alone, without `..`: so `./a`, `b/../a` and `ROOT/a` all lead into `a`.
pub(super) fn clean(root: &Path, path: &Path) -> PathBuf {
    let clean = plain_path(path);
    match clean.strip_prefix(root) {
        Ok(inside) => inside.to_owned(),
        Err(_) => clean,
    }
}

/// Every text in `value`.
pub(super) fn texts<'a>(value: &'a Value, each: &mut impl FnMut(&'a str)) {
    match value {
        Value::String(text) => each(text),
        Value::Array(items) => items.iter().for_each(|item| texts(item, each)),
        Value::Object(fields) => fields.values().for_each(|item| texts(item, each)),
        _ => {}
    }
}
