//! Manifests: a hospital's own list of images, reports, questions and instructions, as CSV or JSON lines; databricks-dolly's
//! JSON lines are read by the same rules.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde_json::Value;

use super::splits::SplitWatch;
use super::{Account, DataError, Instruction, Question, Questions, Record, ReportSource, Split};

/// Accepted names of each field; the first is the one to use.
const FIELDS: &[(&str, &[&str])] = &[
    ("image", &["image", "file", "path"]),
    ("report", &["report", "text"]),
    ("question", &["question"]),
    ("answer", &["answer"]),
    ("instruction", &["instruction"]),
    ("context", &["context", "input"]),
    ("response", &["response"]),
    ("split", &["split"]),
    ("labels", &["labels"]),
    ("patient", &["patient", "subject_id"]),
    ("view", &["view"]),
];

/// Fields of a row that are not empty, by their first names; labels apart.
#[derive(Default)]
struct Row {
    text: BTreeMap<&'static str, String>,
    labels: Vec<(String, f32)>,
}

impl Row {
    fn take(&mut self, name: &str) -> Option<String> {
        self.text.remove(name)
    }
}

pub(super) fn visit_csv<E: From<DataError>>(
    path: &Path,
    account: &mut Account,
    each: &mut dyn FnMut(Record, &mut Account) -> Result<(), E>,
) -> Result<(), E> {
    let file = File::open(path).map_err(|e| DataError::io(path, e))?;
    let mut reader = csv::Reader::from_reader(BufReader::new(file));
    let headers = reader.headers().map_err(|e| DataError::csv(path, e))?.clone();
    let columns: Vec<(&'static str, usize)> = FIELDS
        .iter()
        .filter_map(|(name, spellings)| {
            let at = spellings
                .iter()
                .find_map(|s| headers.iter().position(|h| h.trim() == *s))?;
            Some((*name, at))
        })
        .collect();
    if !columns.iter().any(|(name, _)| matches!(*name, "image" | "instruction")) {
        return Err(E::from(DataError::Columns {
            path: path.to_owned(),
            missing: "`image` (or `instruction`)".to_owned(),
            found: headers.iter().collect::<Vec<_>>().join(", "),
        }));
    }
    let mut watch = SplitWatch::default();
    for record in reader.records() {
        let record = record.map_err(|e| DataError::csv(path, e))?;
        let line = record.position().map_or(0, csv::Position::line);
        let mut row = Row::default();
        for (name, at) in &columns {
            let value = record.get(*at).unwrap_or_default().trim();
            match *name {
                _ if value.is_empty() => {}
                "labels" => row.labels = value.split(';').filter_map(label).collect(),
                name => drop(row.text.insert(name, value.to_owned())),
            }
        }
        deliver(path, line, row, &mut watch, account, each)?;
    }
    Ok(())
}

pub(super) fn visit_lines<E: From<DataError>>(
    path: &Path,
    account: &mut Account,
    each: &mut dyn FnMut(Record, &mut Account) -> Result<(), E>,
) -> Result<(), E> {
    let file = File::open(path).map_err(|e| DataError::io(path, e))?;
    let mut watch = SplitWatch::default();
    for (number, line) in BufReader::new(file).lines().enumerate() {
        let (line, number) = (line.map_err(|e| DataError::io(path, e))?, number as u64 + 1);
        if line.trim().is_empty() {
            continue;
        }
        let Ok(Value::Object(fields)) = serde_json::from_str(&line) else {
            // A file of which half was copied ends like this; the whole lines are good.
            account.skip("line is not a JSON object", || format!("line {number}"));
            continue;
        };
        let mut row = Row::default();
        for (name, spellings) in FIELDS {
            match spellings.iter().find_map(|s| fields.get(*s)) {
                Some(value) if *name == "labels" => row.labels = json_labels(value),
                Some(Value::String(text)) if !text.trim().is_empty() => {
                    drop(row.text.insert(name, text.trim().to_owned()))
                }
                Some(Value::Number(n)) => drop(row.text.insert(name, n.to_string())),
                _ => {}
            }
        }
        deliver(path, number, row, &mut watch, account, each)?;
    }
    Ok(())
}

/// `Name`, `Name=0`, `Name=-1`.
fn label(text: &str) -> Option<(String, f32)> {
    let (name, value) = text.rsplit_once('=').unwrap_or((text, "1"));
    let name = name.trim();
    (!name.is_empty()).then(|| (name.to_owned(), value.trim().parse().unwrap_or(1.0)))
}

fn json_labels(value: &Value) -> Vec<(String, f32)> {
    match value {
        Value::String(text) => text.split(';').filter_map(label).collect(),
        Value::Array(list) => list.iter().filter_map(Value::as_str).filter_map(label).collect(),
        Value::Object(map) => map
            .iter()
            .filter_map(|(name, v)| Some((name.clone(), v.as_f64()? as f32)))
            .collect(),
        _ => Vec::new(),
    }
}

/// Makes a record of a row and hands it on, or counts why not.
fn deliver<E: From<DataError>>(
    path: &Path,
    line: u64,
    mut row: Row,
    watch: &mut SplitWatch,
    account: &mut Account,
    each: &mut dyn FnMut(Record, &mut Account) -> Result<(), E>,
) -> Result<(), E> {
    let place = || format!("line {line}");
    // Without a split everything is for training.
    let split = match row.take("split") {
        None => Split::Train,
        Some(text) => match Split::parse(&text) {
            Some(split) => split,
            None => {
                account.skip("split is not train, validate or test", place);
                return Ok(());
            }
        },
    };
    let patient = row.take("patient");
    if let Some(patient) = &patient {
        watch.see(path, "patient", patient, line, split)?;
    }
    let image = row.take("image");
    if let Some(image) = &image {
        watch.see(path, "image", image, line, split)?;
    }
    let instruction = match (row.take("instruction"), row.take("context"), row.take("response")) {
        (Some(instruction), context, Some(response)) => Some(Instruction {
            instruction,
            context,
            response,
        }),
        (None, _, _) => None,
        (Some(_), _, None) => {
            account.skip("instruction without response", place);
            return Ok(());
        }
    };
    let questions = match (row.take("question"), row.take("answer")) {
        (Some(question), Some(answer)) => Some(Questions::List(vec![Question { question, answer }])),
        (None, None) => None,
        _ => {
            account.skip("question without answer, or answer without question", place);
            return Ok(());
        }
    };
    if image.is_none() && instruction.is_none() {
        account.skip("neither image nor instruction", place);
        return Ok(());
    }
    let root = path.parent().unwrap_or(Path::new(""));
    let record = Record {
        id: image.clone().unwrap_or_else(place),
        image: image.map(|image| root.join(image)),
        patient,
        split,
        view: row.take("view"),
        selected: true,
        report: row.take("report").map(ReportSource::Text),
        questions,
        instruction,
        labels: row.labels,
    };
    each(record, account)
}
