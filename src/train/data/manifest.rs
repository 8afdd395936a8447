//! Manifests: a hospital's own list of images, reports, questions and instructions, as CSV or JSON lines; databricks-dolly's
//! JSON lines are read by the same rules.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::labels::{self, Labels};
use super::lines::{BYTE_ORDER_MARK, lines};
use super::mimic;
use super::quotes::Paired;
use super::record::joint_view;
use super::splits::{Place, Scope, SplitWatch};
use super::{
    Account, DataError, Instruction, Question, Questions, Record, ReportSource, Split, is_frontal, plain_path,
};

/// Accepted names of each field; the first is the one to use. Case and blanks around a name do not matter.
const FIELDS: &[(&str, &[&str])] = &[
    ("image", &["image", "file", "path", "filename", "image_path"]),
    ("report", &["report", "text"]),
    ("question", &["question"]),
    ("answer", &["answer"]),
    ("instruction", &["instruction"]),
    ("context", &["context", "input"]),
    ("response", &["response"]),
    ("split", &["split", "set"]),
    ("labels", &["labels"]),
    ("patient", &["patient", "patient_id", "patientid", "subject_id"]),
    (VIEW, &[VIEW, "viewposition", "view_position", "frontal/lateral"]),
    (FINDINGS, &[FINDINGS]),
    (IMPRESSION, &[IMPRESSION]),
];

/// The two parts of a report that has no column of its own.
const FINDINGS: &str = "findings";
const IMPRESSION: &str = "impression";

/// The one field that may have several columns: public tables have a side and a position (`Frontal/Lateral`, `ViewPosition`).
const VIEW: &str = "view";
/// Why a row is left out whose columns of the view do not say the same: whether it is frontal would depend on the order of the columns.
const VIEWS: &str = "columns of the view contradict each other; keep the one that is right";

/// Most names of fields that are not read that are told.
const TOLD: usize = 20;

/// Fields of a row that are not empty, by their first names; labels apart.
#[derive(Default)]
struct Row {
    text: BTreeMap<&'static str, String>,
    labels: Labels,
    /// Why the row cannot be used.
    fault: Option<&'static str>,
}

impl Row {
    fn take(&mut self, name: &str) -> Option<String> {
        self.text.remove(name)
    }

    /// Takes what a column says, which was not said before; of the view, several may say the same.
    fn put(&mut self, name: &'static str, text: String) {
        let known = self.text.get(name).filter(|_| name == VIEW);
        match known.map(|known| joint_view(known, &text).map(str::to_owned)) {
            None => drop(self.text.insert(name, text)),
            Some(Some(view)) => drop(self.text.insert(name, view)),
            Some(None) => self.fault = Some(VIEWS),
        }
    }

    fn label(&mut self, labels: Result<Labels, &'static str>) {
        match labels {
            Ok(labels) => {
                for label in labels {
                    if labels::clash(&self.labels, std::slice::from_ref(&label)) {
                        self.fault = Some(labels::CONTRADICTION);
                    }
                    self.labels.push(label);
                }
            }
            Err(reason) => self.fault = Some(reason),
        }
    }

    /// The report, or its two parts under their headings, as a report file has them.
    fn report(&mut self) -> Option<String> {
        let whole = self.take("report");
        let parts = [
            self.take(FINDINGS).map(|text| part("FINDINGS:", text)),
            self.take(IMPRESSION).map(|text| part("IMPRESSION:", text)),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        whole.or_else(|| (!parts.is_empty()).then(|| parts.join("\n")))
    }
}

/// A part of a report under its heading, which it may have already.
fn part(heading: &str, text: String) -> String {
    let headed = text.get(..heading.len());
    match headed.is_some_and(|own| own.eq_ignore_ascii_case(heading)) {
        true => text,
        false => format!("{heading} {text}"),
    }
}

/// A column's name without what does not count.
fn plain(name: &str) -> &str {
    name.trim_start_matches(BYTE_ORDER_MARK).trim()
}

/// The field that a column or key stands for; an observation of CheXpert stands for itself.
fn field(name: &str) -> Option<&'static str> {
    let name = plain(name).to_lowercase();
    let found = FIELDS.iter().find(|(_, spellings)| spellings.contains(&name.as_str()));
    found.map(|(name, _)| *name).or_else(|| labels::observation(&name))
}

/// Tells which columns or keys are not read: a misspelt `split` would put test patients among those that are trained on.
fn tell_ignored<'a>(path: &Path, names: impl IntoIterator<Item = &'a str>, account: &mut Account) {
    let names: Vec<&str> = names.into_iter().filter(|name| !name.is_empty()).collect();
    if !names.is_empty() {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        account.note(format!("columns of {file} that are not read: {}", names.join(", ")));
    }
}

/// Field and place of each column that is read; the others are told. A table of `bare` texts needs no images.
fn columns(
    path: &Path,
    bare: bool,
    headers: &csv::StringRecord,
    account: &mut Account,
) -> Result<Vec<(&'static str, usize)>, DataError> {
    if headers.iter().all(|header| plain(header).is_empty()) {
        return Err(DataError::Empty(path.to_owned()));
    }
    let (mut columns, mut others) = (Vec::<(&'static str, usize)>::new(), Vec::new());
    for (at, header) in headers.iter().enumerate() {
        let Some(name) = field(header) else {
            others.push(plain(header));
            continue;
        };
        let before = columns.iter().find(|column| column.0 == name);
        if let Some((_, first)) = before.filter(|_| name != VIEW) {
            return Err(DataError::Twice {
                path: path.to_owned(),
                field: name,
                first: plain(&headers[*first]).to_owned(),
                second: plain(header).to_owned(),
            });
        }
        columns.push((name, at));
    }
    let needed = |name: &str| {
        matches!(name, "image" | "instruction") || (bare && matches!(name, "report" | FINDINGS | IMPRESSION))
    };
    if columns.iter().any(|(name, _)| needed(name)) {
        tell_ignored(path, others, account);
        return Ok(columns);
    }
    let line = headers.iter().collect::<Vec<_>>().join(",");
    for (separator, what) in [(';', "semicolons"), ('\t', "tabs")] {
        if line.split(separator).filter_map(field).any(needed) {
            let path = path.to_owned();
            return Err(DataError::Separator { path, what });
        }
    }
    Err(DataError::Columns {
        path: path.to_owned(),
        missing: match bare {
            true => "`text`, `report` or `instruction`".to_owned(),
            false => "`image` (or `instruction`)".to_owned(),
        },
        found: headers.iter().map(plain).collect::<Vec<_>>().join(", "),
    })
}

pub(super) fn visit_csv<E: From<DataError>>(
    path: &Path,
    bare: bool,
    watch: &mut SplitWatch,
    account: &mut Account,
    each: &mut dyn FnMut(Record, &mut Account) -> Result<(), E>,
) -> Result<(), E> {
    let file = File::open(path).map_err(|e| DataError::io(path, e))?;
    let mut reader = csv::Reader::from_reader(Paired::new(BufReader::new(file)));
    let headers = reader.headers().map_err(|e| DataError::csv(path, e))?.clone();
    let columns = columns(path, bare, &headers, account)?;
    let mut table = Table::new(path, bare)?;
    table.splits = columns.iter().any(|(name, _)| *name == "split");
    for record in reader.records() {
        let record = record.map_err(|e| DataError::csv(path, e))?;
        let line = record.position().map_or(0, csv::Position::line);
        let mut row = Row::default();
        for (name, at) in &columns {
            let value = record.get(*at).unwrap_or_default().trim();
            match *name {
                _ if value.is_empty() => {}
                "labels" => row.label(labels::of_text(value)),
                name if labels::observation(name).is_some() => row.label(labels::of_cell(name, value)),
                name => row.put(name, value.to_owned()),
            }
        }
        deliver(&mut table, line, row, watch, account, each)?;
    }
    table.tell_unsaid(account);
    Ok(())
}

pub(super) fn visit_lines<E: From<DataError>>(
    path: &Path,
    bare: bool,
    watch: &mut SplitWatch,
    account: &mut Account,
    each: &mut dyn FnMut(Record, &mut Account) -> Result<(), E>,
) -> Result<(), E> {
    let (mut table, mut others) = (Table::new(path, bare)?, BTreeSet::new());
    for line in lines(path)? {
        let (number, line) = line?;
        let Ok(Value::Object(fields)) = serde_json::from_str(&line) else {
            // A file of which half was copied ends like this; the whole lines are good.
            account.skip("line is not a JSON object", || format!("line {number}"));
            continue;
        };
        let (mut row, mut seen) = (Row::default(), BTreeMap::<&'static str, &str>::new());
        for (key, value) in &fields {
            let Some(name) = field(key) else {
                if others.len() < TOLD {
                    others.insert(key.clone());
                }
                continue;
            };
            table.splits |= name == "split";
            let empty = value.is_null() || value.as_str().is_some_and(|text| text.trim().is_empty());
            if empty {
                continue;
            }
            if let Some(first) = seen.insert(name, key).filter(|_| name != VIEW) {
                return Err(E::from(DataError::Line {
                    path: path.to_owned(),
                    line: number,
                    reason: format!("`{first}` and `{key}` both stand for `{name}`; keep one of them"),
                }));
            }
            match value {
                value if name == "labels" => row.label(labels::of_json(value)),
                value if labels::observation(name).is_some() => row.label(labels::of_key(name, value)),
                Value::String(text) => row.put(name, text.trim().to_owned()),
                Value::Number(n) => row.put(name, n.to_string()),
                // No split is for training; a split that is none must not become that.
                value if name == "split" => row.put(name, value.to_string()),
                // A list of names under `findings`, say.
                _ if others.len() < TOLD => {
                    others.insert(format!("{key} (neither text nor a number)"));
                }
                _ => {}
            }
        }
        deliver(&mut table, number, row, watch, account, each)?;
    }
    table.tell_unsaid(account);
    tell_ignored(path, others.iter().map(String::as_str), account);
    Ok(())
}

/// A manifest and where it stands.
struct Table<'a> {
    path: &'a Path,
    /// Paths of images are relative to it.
    root: &'a Path,
    scope: Scope,
    /// Whether a report without an image is a record.
    bare: bool,
    /// Whether rows may name their split.
    splits: bool,
    /// Rows that do not.
    unsaid: u64,
}

impl<'a> Table<'a> {
    fn new(path: &'a Path, bare: bool) -> Result<Self, DataError> {
        let root = path.parent().unwrap_or(Path::new(""));
        Ok(Self {
            path,
            root,
            scope: Scope::of(root, mimic::is_layout(root)?),
            bare,
            splits: false,
            unsaid: 0,
        })
    }

    /// Tells of rows without a split in a table of which others have one: they may have been meant for something else than training.
    fn tell_unsaid(&self, account: &mut Account) {
        if self.splits && self.unsaid > 0 {
            let file = self.path.file_name().unwrap_or_default().to_string_lossy();
            account.note(format!(
                "{} rows of {file} name no split and are for training",
                self.unsaid
            ));
        }
    }
}

/// Makes a record of a row and hands it on, or counts why not.
fn deliver<E: From<DataError>>(
    table: &mut Table<'_>,
    line: u64,
    mut row: Row,
    watch: &mut SplitWatch,
    account: &mut Account,
    each: &mut dyn FnMut(Record, &mut Account) -> Result<(), E>,
) -> Result<(), E> {
    let place = || format!("line {line}");
    // Without a split everything is for training.
    let split = match row.take("split") {
        None => {
            table.unsaid += 1;
            Split::Train
        }
        Some(text) => match Split::parse(&text) {
            Some(split) => split,
            None => {
                account.skip("split is not train, validate or test", place);
                return Ok(());
            }
        },
    };
    let patient = row.take("patient");
    let seen = Place {
        table: table.path,
        line,
        split,
    };
    if let Some(patient) = &patient {
        watch.patient(&table.scope, patient, &seen)?;
    }
    // An image that two rows spell in two ways is one.
    let image: Option<PathBuf> = row.take("image").map(|image| plain_path(Path::new(&image)));
    if let Some(image) = &image {
        watch.image(&table.scope, image, &seen)?;
    }
    if let Some(reason) = row.fault {
        account.skip(reason, place);
        return Ok(());
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
    let report = row.report();
    if image.is_none() && instruction.is_none() && !(table.bare && report.is_some()) {
        let reason = match table.bare {
            true => "neither text, report nor instruction",
            false => "neither image nor instruction",
        };
        account.skip(reason, place);
        return Ok(());
    }
    let view = row.take(VIEW);
    let record = Record {
        id: match &image {
            Some(image) => image.to_string_lossy().into_owned(),
            None => place(),
        },
        image: image.map(|image| table.root.join(image)),
        patient,
        split,
        selected: is_frontal(view.as_deref()),
        view,
        report: report.map(ReportSource::Text),
        questions,
        instruction,
        labels: row.labels,
    };
    each(record, account)
}
