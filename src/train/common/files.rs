//! Images on disk: a folder, a manifest (CSV or JSON lines), or the MIMIC-CXR-JPG layout.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::table::Table;
use super::{ImageSource, Sample, TrainError};
use crate::radiograph::{DecodeLimits, Preprocess, prepare};

/// The findings of CheXpert's labels other than `No Finding` and `Support Devices`.
const NORMAL: &[&str] = &["no finding", "normal"];
/// One of so many images of a plain folder is kept for validation.
const VALIDATE_EACH: usize = 20;

struct Entry {
    path: PathBuf,
    labels: Vec<(String, f32)>,
    /// Every label not named is absent, not unknown.
    normal: bool,
}

/// A list of image files with their labels.
pub struct Files {
    entries: Vec<Entry>,
    root: PathBuf,
}

impl Files {
    /// The images of `path` that belong to training, or else to validation: a folder with `mimic-cxr-2.0.0-split.csv` is the
    /// MIMIC-CXR-JPG layout; another folder is taken with every image below it (each 20th is for validation); a `.csv` or `.jsonl`
    /// file is a manifest with `file` (or `image`), `split` (train, val or validate) and, optionally, `labels` separated by `;`.
    pub fn open(path: &Path, training: bool) -> Result<Self, TrainError> {
        let (root, entries) = if path.join("mimic-cxr-2.0.0-split.csv").is_file() {
            (path, mimic(path, training)?)
        } else if path.is_dir() {
            (path, folder(path, training)?)
        } else {
            (path.parent().unwrap_or(path), manifest(path, training)?)
        };
        Ok(Self {
            root: root.to_owned(),
            entries,
        })
    }

    /// Every label that is named.
    pub fn labels(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .entries
            .iter()
            .flat_map(|e| e.labels.iter().map(|l| l.0.clone()))
            .collect();
        names.sort();
        names.dedup();
        names
    }
}

impl ImageSource for Files {
    fn count(&self) -> Option<u64> {
        Some(self.entries.len() as u64)
    }

    fn load(&self, index: u64, side: usize) -> Result<Sample, String> {
        let entry = self.entries.get(index as usize).ok_or("there is no such image")?;
        let name = entry.path.strip_prefix(&self.root).unwrap_or(&entry.path);
        let id = name.to_string_lossy().into_owned();
        let bytes = fs::read(&entry.path).map_err(|e| format!("{id}: {e}"))?;
        let pixels = prepare(&bytes, &DecodeLimits::default(), Preprocess::Default, side);
        let mut labels = entry.labels.clone();
        if entry.normal {
            labels.push(("*".to_owned(), 0.0));
        }
        Ok(Sample {
            pixels: pixels.map_err(|e| format!("{id}: {e}"))?,
            id,
            labels,
        })
    }
}

/// A source and its weight in the mixture.
pub type Weighted = (Arc<dyn ImageSource>, f64);

/// Sources written as `PATH` or `PATH@SHARE`.
pub fn open_sources(specs: &[String], training: bool) -> Result<Vec<Weighted>, TrainError> {
    specs
        .iter()
        .map(|spec| {
            let (path, share) = match spec.rsplit_once('@').map(|(path, share)| (path, share.parse::<f64>())) {
                Some((path, Ok(share))) if share > 0.0 && share.is_finite() => (path, share),
                _ => (spec.as_str(), 1.0),
            };
            let files = Files::open(Path::new(path), training)?;
            Ok((Arc::new(files) as Arc<dyn ImageSource>, share))
        })
        .collect()
}

fn is_image(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
    matches!(extension.as_deref(), Some("png" | "jpg" | "jpeg"))
}

fn folder(root: &Path, training: bool) -> Result<Vec<Entry>, TrainError> {
    let (mut paths, mut pending) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(&folder).map_err(|e| TrainError::io(&folder, e))? {
            let path = entry.map_err(|e| TrainError::io(&folder, e))?.path();
            if path.is_dir() {
                pending.push(path);
            } else if is_image(&path) {
                paths.push(path);
            }
        }
    }
    paths.sort();
    let entry = |path| Entry {
        path,
        labels: Vec::new(),
        normal: false,
    };
    let kept = paths.into_iter().enumerate();
    Ok(kept
        .filter(|(i, _)| (i % VALIDATE_EACH == VALIDATE_EACH - 1) != training)
        .map(|(_, path)| entry(path))
        .collect())
}

fn in_split(split: &str, training: bool) -> bool {
    if training {
        split == "train"
    } else {
        matches!(split, "val" | "validate" | "validation")
    }
}

fn manifest(path: &Path, training: bool) -> Result<Vec<Entry>, TrainError> {
    let root = path.parent().unwrap_or(path);
    let entry = |file: &str, labels: &str| {
        let labels: Vec<String> = labels
            .split(';')
            .map(|l| l.trim().to_owned())
            .filter(|l| !l.is_empty())
            .collect();
        let normal = labels.iter().any(|l| NORMAL.contains(&l.to_lowercase().as_str()));
        Entry {
            path: root.join(file),
            labels: labels.into_iter().map(|l| (l, 1.0)).collect(),
            normal,
        }
    };
    if path.extension().is_some_and(|e| e == "jsonl") {
        let text = fs::read_to_string(path).map_err(|e| TrainError::io(path, e))?;
        let mut entries = Vec::new();
        for (number, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
            let bad = |why: String| TrainError::Settings(format!("{} line {}: {why}", path.display(), number + 1));
            let value: Value = serde_json::from_str(line).map_err(|e| bad(e.to_string()))?;
            let file = value.get("file").or(value.get("image")).and_then(Value::as_str);
            let file = file.ok_or_else(|| bad("`file` (or `image`) is missing".to_owned()))?;
            let labels = match &value["labels"] {
                Value::Array(list) => list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(";"),
                other => other.as_str().unwrap_or_default().to_owned(),
            };
            if in_split(value["split"].as_str().unwrap_or("train"), training) {
                entries.push(entry(file, &labels));
            }
        }
        return Ok(entries);
    }
    let table = Table::read(path, &["split"])?;
    let column = if table.columns().any(|c| c == "image") {
        "image"
    } else {
        "file"
    };
    let table = Table::read(path, &[column, "split"])?;
    Ok(table
        .rows()
        .filter(|row| in_split(row.get("split"), training))
        .map(|row| entry(row.get(column), row.get("labels")))
        .collect())
}

fn mimic(root: &Path, training: bool) -> Result<Vec<Entry>, TrainError> {
    let mut labels: HashMap<String, Vec<(String, f32)>> = HashMap::new();
    let path = root.join("mimic-cxr-2.0.0-chexpert.csv");
    if path.is_file() {
        let table = Table::read(&path, &["study_id"])?;
        let names: Vec<String> = table
            .columns()
            .filter(|c| !c.ends_with("_id"))
            .map(str::to_owned)
            .collect();
        for row in table.rows() {
            let known = names.iter().filter_map(|name| {
                // Not mentioned counts as absent, uncertain (−1) as unknown.
                let value = row.get(name).parse().unwrap_or(0.0f32);
                (value >= 0.0).then(|| (name.clone(), value))
            });
            labels.insert(row.get("study_id").to_owned(), known.collect());
        }
    }
    let table = Table::read(
        &root.join("mimic-cxr-2.0.0-split.csv"),
        &["dicom_id", "study_id", "subject_id", "split"],
    )?;
    Ok(table
        .rows()
        .filter(|row| in_split(row.get("split"), training))
        .map(|row| {
            let (subject, study) = (row.get("subject_id"), row.get("study_id"));
            let group = subject.get(..2).unwrap_or(subject);
            Entry {
                path: root.join(format!(
                    "files/p{group}/p{subject}/s{study}/{}.jpg",
                    row.get("dicom_id")
                )),
                labels: labels.get(study).cloned().unwrap_or_default(),
                normal: false,
            }
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(files: &Files) -> Vec<String> {
        let name = |e: &Entry| e.path.strip_prefix(&files.root).unwrap().to_string_lossy().into_owned();
        files.entries.iter().map(name).collect()
    }

    #[test]
    fn a_manifest_gives_its_splits_and_labels_and_normal_means_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let csv = dir.path().join("m.csv");
        fs::write(
            &csv,
            "file,split,labels\na.png,train,Pneumonia;bacteria\nb.png,val,NORMAL\n",
        )
        .unwrap();
        let (train, validate) = (Files::open(&csv, true).unwrap(), Files::open(&csv, false).unwrap());
        assert_eq!(
            (names(&train), names(&validate)),
            (vec!["a.png".to_owned()], vec!["b.png".to_owned()])
        );
        assert_eq!(train.labels(), ["Pneumonia", "bacteria"]);
        assert!(validate.entries[0].normal && !train.entries[0].normal);
        let jsonl = dir.path().join("m.jsonl");
        fs::write(
            &jsonl,
            "{\"image\":\"a.png\",\"split\":\"train\",\"labels\":[\"x\"]}\n{\"split\":1}\n",
        )
        .unwrap();
        let error = Files::open(&jsonl, true).err().unwrap().to_string();
        assert!(error.contains("line 2"), "{error}");
    }

    #[test]
    fn the_mimic_layout_gives_paths_and_certain_labels() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write(
            "mimic-cxr-2.0.0-split.csv",
            "dicom_id,study_id,subject_id,split\nd1,50,10000032,train\nd2,51,10000033,validate\n",
        );
        write(
            "mimic-cxr-2.0.0-chexpert.csv",
            "subject_id,study_id,Edema,Fracture,Lung Lesion\n10000032,50,1.0,,-1.0\n",
        );
        let files = Files::open(dir.path(), true).unwrap();
        assert_eq!(names(&files), ["files/p10/p10000032/s50/d1.jpg"]);
        let mut labels = files.entries[0].labels.clone();
        labels.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(labels, [("Edema".to_owned(), 1.0), ("Fracture".to_owned(), 0.0)]);
        // The file is not there: a sentence, not an end.
        assert!(files.load(0, 8).err().unwrap().contains("d1.jpg"));
    }
}
