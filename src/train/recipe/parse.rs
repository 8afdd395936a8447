//! Reads a recipe.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::RecipeError;

/// A step: a command with its settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Its name, unique in the recipe; fit for a file name.
    pub name: String,
    /// The command that does it.
    pub command: String,
    /// The command's settings.
    settings: Table,
}

/// A recipe as written, with what was set on the command line.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// The folder, relative to the run's, that becomes its `bundle/`.
    pub bundle: Option<PathBuf>,
    /// The steps in order.
    pub steps: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    bundle: Option<PathBuf>,
    #[serde(default)]
    values: Table,
    #[serde(default)]
    step: Vec<Table>,
}

impl Recipe {
    /// Reads the file at `path` and applies `sets`: `NAME=VALUE` for one of its `[values]`, `STEP.KEY=VALUE` for a setting of a step.
    /// A value is written as in TOML; what is no TOML is a text.
    pub fn read(path: &Path, sets: &[String]) -> Result<Self, RecipeError> {
        let text = fs::read_to_string(path).map_err(RecipeError::io(path))?;
        Self::parse(path, &text, sets)
    }

    pub(super) fn parse(path: &Path, text: &str, sets: &[String]) -> Result<Self, RecipeError> {
        let format = |reason: String| RecipeError::Format {
            path: path.to_owned(),
            reason,
        };
        let mut raw: Raw = toml::from_str(text).map_err(|e| format(one_line(&e.to_string())))?;
        if raw.step.is_empty() {
            return Err(format("it has no [[step]]".to_owned()));
        }
        let mut steps = Vec::new();
        let mut names = HashSet::new();
        for (number, settings) in raw.step.drain(..).enumerate() {
            let step = step(number, settings)?;
            if !names.insert(step.name.clone()) {
                let reason = "another step has this name; give each its own with `id = \"…\"`".to_owned();
                return Err(RecipeError::Step {
                    step: step.name,
                    reason,
                });
            }
            steps.push(step);
        }
        for set in sets {
            apply(set, &mut raw.values, &mut steps)?;
        }
        for (name, value) in &raw.values {
            if !value.is_str() {
                return Err(format(format!("{name} of [values] is no text")));
            }
        }
        for step in &mut steps {
            for value in step.settings.iter_mut().map(|(_, value)| value) {
                fill_in(value, &raw.values);
            }
        }
        Ok(Self {
            bundle: raw.bundle,
            steps,
        })
    }

    /// The step of this name, by number.
    pub fn find(&self, name: &str) -> Result<usize, RecipeError> {
        let found = self.steps.iter().position(|step| step.name == name);
        found.ok_or_else(|| RecipeError::NoStep {
            name: name.to_owned(),
            steps: list(&self.steps),
        })
    }
}

impl Step {
    /// The settings as their command has them; `out` is `default_out` where the recipe does not say.
    pub fn settings<T: DeserializeOwned>(&self, default_out: &str) -> Result<T, RecipeError> {
        let mut table = self.settings.clone();
        table
            .entry("out")
            .or_insert_with(|| Value::String(default_out.to_owned()));
        table
            .try_into()
            .map_err(|e: toml::de::Error| self.wrong(one_line(&e.to_string())))
    }

    /// An error about this step.
    pub fn wrong(&self, reason: String) -> RecipeError {
        RecipeError::Step {
            step: self.name.clone(),
            reason,
        }
    }
}

/// Takes id and command out of a step's table.
fn step(number: usize, mut settings: Table) -> Result<Step, RecipeError> {
    let place = |name: Option<&str>| name.map_or_else(|| format!("number {}", number + 1), str::to_owned);
    let mut take = |key: &str| match settings.remove(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(RecipeError::Step {
            step: place(None),
            reason: format!("`{key}` is of type {}, not a text", other.type_str()),
        }),
    };
    let (command, name) = (take("command")?, take("id")?);
    let wrong = |reason: &str| {
        Err(RecipeError::Step {
            step: place(name.as_deref()),
            reason: reason.to_owned(),
        })
    };
    let Some(command) = command else {
        return wrong("it has no `command`");
    };
    let name = name.clone().unwrap_or_else(|| command.clone());
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || !name.chars().all(plain) || name == "bundle" {
        return wrong("an id is made of letters, digits, - and _, and is not `bundle`: it names files of the run");
    }
    Ok(Step {
        name,
        command,
        settings,
    })
}

fn apply(set: &str, values: &mut Table, steps: &mut [Step]) -> Result<(), RecipeError> {
    let wrong = |reason: String| RecipeError::Set {
        what: set.to_owned(),
        reason,
    };
    let (key, value) = set
        .split_once('=')
        .ok_or_else(|| wrong("write it as NAME=VALUE or STEP.KEY=VALUE".to_owned()))?;
    let value = value_of(value);
    let Some((name, key)) = key.split_once('.') else {
        if !values.contains_key(key) {
            let known: Vec<_> = values.keys().map(String::as_str).collect();
            return Err(wrong(format!(
                "the recipe's [values] are {}",
                if known.is_empty() {
                    "empty".to_owned()
                } else {
                    known.join(", ")
                }
            )));
        }
        values.insert(key.to_owned(), value);
        return Ok(());
    };
    let known = list(steps);
    let step = steps
        .iter_mut()
        .find(|step| step.name == name)
        .ok_or_else(|| wrong(format!("the steps are {known}")))?;
    if key == "id" || key == "command" {
        return Err(wrong(format!("the {key} of a step cannot be set")));
    }
    step.settings.insert(key.to_owned(), value);
    Ok(())
}

/// A value as in TOML, or else a text.
fn value_of(text: &str) -> Value {
    let parsed = toml::from_str::<Table>(&format!("value = {text}"));
    let value = parsed
        .ok()
        .filter(|table| table.len() == 1)
        .and_then(|mut t| t.remove("value"));
    value.unwrap_or_else(|| Value::String(text.to_owned()))
}

fn fill_in(value: &mut Value, values: &Table) {
    match value {
        Value::String(text) => {
            for (name, value) in values {
                if let Value::String(value) = value {
                    *text = text.replace(&format!("{{{name}}}"), value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| fill_in(item, values)),
        Value::Table(table) => table.iter_mut().for_each(|(_, item)| fill_in(item, values)),
        _ => {}
    }
}

fn list(steps: &[Step]) -> String {
    steps
        .iter()
        .map(|step| step.name.as_str())
        .collect::<Vec<_>>()
        .join(", ")
}

/// Errors of TOML have several lines, with a drawing of the place.
fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join(" ")
}
