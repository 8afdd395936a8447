//! The MIMIC-CXR-JPG layout: an index from its tables, files found as they are asked for.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use super::labels::{Labels, TABLE_VALUE, is_blank, number};
use super::quotes::Paired;
use super::splits::{Place, Scope, SplitWatch};
use super::{Account, DataError, Questions, Record, ReportSource, Split, is_no_file};

pub(super) const SPLITS: &str = "mimic-cxr-2.0.0-split.csv";
pub(super) const METADATA: &str = "mimic-cxr-2.0.0-metadata.csv";
const LABELS: &str = "mimic-cxr-2.0.0-chexpert.csv";

/// Where reports may lie: as in MIMIC-CXR, as the original of LLM-CXR has its archive, and beside the images.
const REPORTS: [&str; 3] = ["reports/files", "mimic-cxr-reports/files", "files"];

struct Row {
    study: String,
    subject: String,
    split: Split,
    /// Of the table.
    line: u64,
}

/// View, date and time of an image.
type Taken = (String, String, String);

pub(super) fn visit<E: From<DataError>>(
    root: &Path,
    questions: Option<&Path>,
    watch: &mut SplitWatch,
    account: &mut Account,
    each: &mut dyn FnMut(Record, &mut Account) -> Result<(), E>,
) -> Result<(), E> {
    let splits = table_file(root, SPLITS)?.unwrap_or_else(|| root.join(SPLITS));
    let scope = Scope::of(root, true);
    let rows = rows(&splits, &scope, watch, account)?;
    let taken = match table_file(root, METADATA)? {
        Some(path) => {
            let listed = taken(&path)?;
            tell_unlisted(&rows, &listed, account);
            listed
        }
        None => {
            account.note(format!(
                "{} has no metadata table ({METADATA}): views are unknown, and stage 2 and `evaluate` use none of its images",
                root.display()
            ));
            HashMap::new()
        }
    };
    let labels = match table_file(root, LABELS)? {
        Some(path) => {
            let listed = labels(&path, account)?;
            tell_unlabelled(&rows, &listed, account);
            listed
        }
        None => HashMap::new(),
    };
    count_strangers(&rows, &labels, account);
    let first = earliest_frontal(&rows, &taken);
    let own = root.join("vqa");
    let questions = questions.unwrap_or(&own);
    // Sorted by image id: the order in which the original alternates.
    for (id, row) in rows {
        let group = row.subject.get(..2).unwrap_or(&row.subject);
        let study = PathBuf::from(format!("p{group}/p{}/s{}", row.subject, row.study));
        let folder = Path::new("files").join(&study);
        // The path would name the patient.
        let unseen = |reason: io::Error| DataError::Line {
            path: splits.clone(),
            line: row.line,
            reason: format!("a file of this image could not be looked at: {reason}"),
        };
        let image = ["jpg", "jpeg", "png", "dcm"].map(|suffix| folder.join(format!("{id}.{suffix}")));
        let Some(image) = first_there(root, image).map_err(unseen)? else {
            account.skip("image file is missing", || id.clone());
            continue;
        };
        // Another data set may list the same file.
        let place = Place {
            table: &splits,
            line: row.line,
            split: row.split,
        };
        watch.image(&scope, &image, &place)?;
        let text = study.with_extension("txt");
        let report = REPORTS.map(|folder| Path::new(folder).join(&text));
        let report = first_there(root, report).map_err(unseen)?;
        let asked = [Path::new("files").join(&text), text];
        let asked = first_there(questions, asked).map_err(unseen)?;
        let frontal = taken.get(&id).filter(|(view, ..)| is_pa_or_ap(view));
        let record = Record {
            selected: frontal.is_some() && first.get(&row.subject).is_some_and(|(_, study)| *study == row.study),
            view: taken
                .get(&id)
                .map(|(view, ..)| view.clone())
                .filter(|view| !view.is_empty()),
            image: Some(root.join(image)),
            split: row.split,
            report: report.map(|file| ReportSource::File(root.join(file))),
            questions: asked.map(|file| Questions::File(questions.join(file))),
            instruction: None,
            labels: labels.get(&row.study).cloned().unwrap_or_default(),
            patient: Some(row.subject),
            id,
        };
        each(record, account)?;
    }
    Ok(())
}

fn is_pa_or_ap(view: &str) -> bool {
    matches!(view, "PA" | "AP")
}

/// The first of these paths below `root` at which a file is; as it is given.
///
/// Only what is known not to be there is passed over: where a share does not answer for a moment, what it holds must not be left out unseen.
fn first_there<const N: usize>(root: &Path, files: [PathBuf; N]) -> io::Result<Option<PathBuf>> {
    for file in files {
        match root.join(&file).metadata() {
            Ok(found) if found.is_file() => return Ok(Some(file)),
            Err(error) if !is_no_file(&error) => return Err(error),
            _ => {}
        }
    }
    Ok(None)
}

/// A table of the data set, unpacked or as it is published (`.csv.gz`); `None` without either.
fn table_file(root: &Path, name: &str) -> Result<Option<PathBuf>, DataError> {
    let files = [PathBuf::from(name), PathBuf::from(format!("{name}.gz"))];
    match first_there(root, files) {
        Ok(file) => Ok(file.map(|file| root.join(file))),
        Err(reason) => Err(DataError::io(&root.join(name), reason)),
    }
}

/// Whether a folder has this layout.
pub(super) fn is_layout(root: &Path) -> Result<bool, DataError> {
    Ok(table_file(root, SPLITS)?.is_some())
}

/// Whether the table is there that says which images are frontal.
pub(super) fn has_views(root: &Path) -> Result<bool, DataError> {
    Ok(table_file(root, METADATA)?.is_some())
}

/// A table that is read row by row.
type Rows = csv::Reader<Paired<Box<dyn Read>>>;

/// Opens a table and finds columns by name.
fn table<const N: usize>(path: &Path, names: [&str; N]) -> Result<(Rows, [usize; N]), DataError> {
    let file = BufReader::new(File::open(path).map_err(|e| DataError::io(path, e))?);
    let plain: Box<dyn Read> = match path.extension() {
        Some(suffix) if suffix == "gz" => Box::new(MultiGzDecoder::new(file)),
        _ => Box::new(file),
    };
    let mut reader = csv::Reader::from_reader(Paired::new(plain));
    let headers = reader.headers().map_err(|e| DataError::csv(path, e))?;
    if headers.is_empty() {
        return Err(DataError::Empty(path.to_owned()));
    }
    let mut at = [0; N];
    for (slot, name) in at.iter_mut().zip(names) {
        *slot = headers
            .iter()
            .position(|h| h == name)
            .ok_or_else(|| DataError::Columns {
                path: path.to_owned(),
                missing: name.to_owned(),
                found: headers.iter().collect::<Vec<_>>().join(", "),
            })?;
    }
    Ok((reader, at))
}

fn rows(
    path: &Path,
    scope: &Scope,
    watch: &mut SplitWatch,
    account: &mut Account,
) -> Result<BTreeMap<String, Row>, DataError> {
    let (mut reader, at) = table(path, ["dicom_id", "study_id", "subject_id", "split"])?;
    let mut rows = BTreeMap::new();
    for record in reader.records() {
        let record = record.map_err(|e| DataError::csv(path, e))?;
        let line = record.position().map_or(0, csv::Position::line);
        let place = || place_in(path, line);
        let [id, study, subject, split] = at.map(|column| record.get(column).unwrap_or_default());
        // Names become paths: they may not lead elsewhere.
        let plain =
            |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        if !(plain(id) && plain(study) && plain(subject)) || id.starts_with('.') {
            account.skip("row of the split table without proper ids", place);
            continue;
        }
        let Some(split) = Split::parse(split) else {
            account.skip("split is not train, validate or test", place);
            continue;
        };
        let table = path;
        watch.patient(scope, subject, &Place { table, line, split })?;
        let row = Row {
            study: study.to_owned(),
            subject: subject.to_owned(),
            split,
            line,
        };
        if rows.insert(id.to_owned(), row).is_some() {
            account.skip("image is listed twice", place);
        }
    }
    Ok(rows)
}

/// A line of one of the tables, as an account names it.
fn place_in(table: &Path, line: u64) -> String {
    let name = table.file_name().unwrap_or_default().to_string_lossy();
    format!("line {line} of {name}")
}

/// When and from where each image was taken.
fn taken(path: &Path) -> Result<HashMap<String, Taken>, DataError> {
    let (mut reader, at) = table(path, ["dicom_id", "ViewPosition", "StudyDate", "StudyTime"])?;
    reader
        .records()
        .map(|record| {
            let record = record.map_err(|e| DataError::csv(path, e))?;
            let [id, view, date, time] = at.map(|column| record.get(column).unwrap_or_default().to_owned());
            // `93000.5` is before `120000`: hours lose their leading zero in the table.
            let time = format!(
                "{time:0>width$}",
                width = time.len() + 6usize.saturating_sub(time.find('.').unwrap_or(time.len()))
            );
            Ok((id, (view, date, time)))
        })
        .collect()
}

/// For each patient, when and which the earliest study with a frontal image was.
fn earliest_frontal(
    rows: &BTreeMap<String, Row>,
    taken: &HashMap<String, Taken>,
) -> HashMap<String, ((String, String), String)> {
    let mut first: HashMap<String, ((String, String), String)> = HashMap::new();
    for (id, row) in rows {
        let Some((_, date, time)) = taken.get(id).filter(|(view, ..)| is_pa_or_ap(view)) else {
            continue;
        };
        let candidate = ((date.clone(), time.clone()), row.study.clone());
        match first.get_mut(&row.subject) {
            Some(best) if *best <= candidate => {}
            Some(best) => *best = candidate,
            None => drop(first.insert(row.subject.clone(), candidate)),
        }
    }
    first
}

/// Tells how many images the metadata table lacks, as where half of it was copied.
fn tell_unlisted(rows: &BTreeMap<String, Row>, taken: &HashMap<String, Taken>, account: &mut Account) {
    let mut lacking = rows.keys().filter(|id| !taken.contains_key(*id));
    if let Some(first) = lacking.next() {
        account.note(format!(
            "{} images of the split table are not in {METADATA} (first: {first}): their views are unknown, and stage 2 and `evaluate` use none of them",
            lacking.count() + 1
        ));
    }
}

/// Tells how many studies the table of labels lacks.
fn tell_unlabelled<V>(rows: &BTreeMap<String, Row>, labels: &HashMap<String, V>, account: &mut Account) {
    let studies = rows.values().map(|row| row.study.as_str());
    let lacking: BTreeSet<&str> = studies.filter(|study| !labels.contains_key(*study)).collect();
    if let Some(first) = lacking.first() {
        account.note(format!(
            "studies of the split table without a row in {LABELS}: {} (first: {first}); their labels are unknown",
            lacking.len()
        ));
    }
}

/// Counts the studies of the table of labels that the split table does not know: their labels are nobody's.
fn count_strangers<V>(rows: &BTreeMap<String, Row>, labels: &HashMap<String, V>, account: &mut Account) {
    let known: HashSet<&str> = rows.values().map(|row| row.study.as_str()).collect();
    let strangers = labels.keys().map(String::as_str).filter(|study| !known.contains(study));
    // The first one named is always the same.
    let strangers: BTreeSet<&str> = strangers.collect();
    for study in strangers {
        account.skip("labels are of a study that the split table does not list", || {
            format!("study {study}")
        });
    }
}

/// Columns of the table of labels; none without the table.
pub(super) fn label_names(root: &Path) -> Result<Vec<String>, DataError> {
    let Some(path) = table_file(root, LABELS)? else {
        return Ok(Vec::new());
    };
    let (mut reader, _) = table(&path, ["study_id"])?;
    let headers = reader.headers().map_err(|e| DataError::csv(&path, e))?;
    let names = headers.iter().filter(|name| !name.ends_with("_id"));
    Ok(names.map(str::to_owned).collect())
}

/// Labels of each study that are mentioned. A study with a value that is not understood has none, and is counted: what is not mentioned is
/// taken to be absent, so to leave out the one value would teach the opposite of what it may say.
fn labels(path: &Path, account: &mut Account) -> Result<HashMap<String, Labels>, DataError> {
    let (mut reader, [study]) = table(path, ["study_id"])?;
    let headers = reader.headers().map_err(|e| DataError::csv(path, e))?.clone();
    let mut labels = HashMap::new();
    for record in reader.records() {
        let record = record.map_err(|e| DataError::csv(path, e))?;
        let cells = headers.iter().zip(&record);
        let said = cells.filter(|(name, value)| !name.ends_with("_id") && !is_blank(value));
        let known: Option<Labels> = said
            .map(|(name, value)| Some((name.to_owned(), number(value)?)))
            .collect();
        if known.is_none() {
            let line = record.position().map_or(0, csv::Position::line);
            account.skip(TABLE_VALUE, || place_in(path, line));
        }
        let study = record.get(study).unwrap_or_default().to_owned();
        labels.insert(study, known.unwrap_or_default());
    }
    Ok(labels)
}
