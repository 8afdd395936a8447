//! Images on disk, with their labels: a plain folder, or any data set that [`Dataset`] reads.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::answers::answers;
use super::images::{ImageSource, Sample};
use super::labels::{ALL_OTHERS, ANSWER};
use crate::train::common::{Skip, TrainError, split_share};
use crate::train::data::{
    Account, DataError, Dataset, LABELS_DIFFER, Questions, Split, SplitWatch, contradict, is_normal, read_image,
    refuse_part, refuse_table,
};

/// One of so many images of a plain folder is kept for validation.
const VALIDATE_EACH: usize = 20;

/// What is taken for labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// What the data set calls labels.
    Labels,
    /// Common answers to its questions too.
    LabelsAndAnswers,
}

struct Entry {
    path: PathBuf,
    /// Which of the labels' names, and 1 present or 0 absent. Those not here are unknown.
    labels: Box<[(u16, f32)]>,
    /// The image is called normal: every other finding is absent, not unknown.
    normal: bool,
}

/// A list of image files with their labels. Only the list is in memory.
pub struct Files {
    entries: Vec<Entry>,
    names: Vec<String>,
    root: PathBuf,
    /// Whether they are in the MIMIC-CXR-JPG layout, whose folders are called after patients and studies.
    mimic: bool,
    /// The data set that they are of.
    data: Arc<Path>,
    account: Account,
}

impl Files {
    /// The images of `path` that belong to training, or else to validation. What [`Dataset`] reads has its own splits; an image
    /// that several rows name (one for each question) counts once. Any other folder is taken with every image below it (each
    /// 20th is for validation), without labels, unless it is a part of a data set with splits.
    ///
    /// In a MIMIC-CXR-JPG layout a label that is not mentioned is absent; in a manifest it is unknown, unless the image is named
    /// normal: then every other finding is absent, and support devices stay unknown. Uncertain labels are unknown. `known` says what is
    /// taken for labels.
    pub fn open(path: &Path, training: bool, known: Known) -> Result<Self, TrainError> {
        Self::open_watched(path, training, known, &mut SplitWatch::default())
    }

    /// [`Files::open`] beside other data sets, which `watch` has seen.
    fn open_watched(path: &Path, training: bool, known: Known, watch: &mut SplitWatch) -> Result<Self, TrainError> {
        match Dataset::open(path) {
            Ok(dataset) => Self::index(&dataset, path, training, known, watch),
            Err(DataError::Unknown(_)) if path.is_dir() => folder(path, training),
            Err(error) => Err(error.into()),
        }
    }

    fn index(
        dataset: &Dataset,
        path: &Path,
        training: bool,
        taken: Known,
        watch: &mut SplitWatch,
    ) -> Result<Self, TrainError> {
        let asks = taken == Known::LabelsAndAnswers;
        let wanted = if training { Split::Train } else { Split::Validate };
        let mut names = Names::default();
        // Their order is the table's, so that it does not depend on which are mentioned.
        let closed: Vec<u16> = dataset.closed_labels()?.iter().map(|name| names.number(name)).collect();
        let (mut entries, mut questions): (Vec<Entry>, Vec<Vec<Questions>>) = Default::default();
        let (mut known, mut account) = (HashMap::<PathBuf, usize>::new(), Account::default());
        dataset.visit_watched::<DataError>(watch, &mut account, &mut |record, account| {
            let Some(path) = record.image.filter(|_| record.split == wanted) else {
                return Ok(());
            };
            let mut labels: Vec<(u16, f32)> = Vec::new();
            for (name, value) in &record.labels {
                let number = names.number(name);
                if labels.iter().all(|label| label.0 != number) {
                    labels.push((number, *value));
                }
            }
            if !labels.is_empty() {
                let blank = closed.iter().filter(|n| labels.iter().all(|label| label.0 != **n));
                let blank: Vec<_> = blank.map(|&n| (n, 0.0)).collect();
                labels.extend(blank);
            }
            let normal = |(name, value): &(String, f32)| *value > 0.0 && is_normal(name) && closed.is_empty();
            let normal = record.labels.iter().any(normal);
            match known.get(&path) {
                Some(&at) => {
                    let said = labels.len();
                    labels.retain(|new| !entries[at].contradicts(std::slice::from_ref(new), &names));
                    if labels.len() < said {
                        account.skip(LABELS_DIFFER, || record.id.clone());
                    }
                    let says_normal = |label: &(u16, f32)| {
                        let name = names.list.get(usize::from(label.0));
                        label.1 > 0.0 && name.is_some_and(|name| is_normal(name))
                    };
                    entries[at].join(&labels, normal && labels.iter().any(says_normal));
                    questions[at].extend(record.questions.filter(|_| asks));
                }
                None => {
                    known.insert(path.clone(), entries.len());
                    questions.push(record.questions.filter(|_| asks).into_iter().collect());
                    entries.push(Entry {
                        path,
                        labels: labels.into(),
                        normal,
                    });
                }
            }
            Ok(())
        })?;
        entries.iter_mut().for_each(Entry::forget_uncertain);
        if asks {
            let (answers, known) = answers(questions).map_err(|(at, reason)| {
                // Only the MIMIC-CXR-JPG layout has them in files.
                DataError::unread("questions", &stem(&entries[at].path), reason)
            })?;
            let numbers: Vec<u16> = answers.iter().map(|name| names.number(name)).collect();
            for (entry, known) in entries.iter_mut().zip(known) {
                let labels: Vec<_> = known.iter().map(|&(answer, value)| (numbers[answer], value)).collect();
                entry.join(&labels, false);
            }
        }
        let root = if path.is_dir() { Some(path) } else { path.parent() };
        Ok(Self {
            root: root.unwrap_or(Path::new("")).to_owned(),
            mimic: dataset.is_mimic(),
            data: Arc::from(path),
            entries,
            names: names.list,
            account,
        })
    }

    /// Every label that is named.
    pub fn labels(&self) -> &[String] {
        &self.names
    }

    /// Those that are known to be present or absent in one of the images.
    pub fn known_labels(&self) -> Vec<String> {
        let known: HashSet<u16> = self
            .entries
            .iter()
            .flat_map(|entry| entry.labels.iter().map(|l| l.0))
            .collect();
        let numbered = self.names.iter().enumerate();
        let of_images = numbered.filter(|(number, _)| known.contains(&(*number as u16)));
        of_images.map(|(_, name)| name.clone()).collect()
    }

    /// What was skipped, in all splits.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// The image's path in its data set, by which checksums of the data know it.
    fn place(&self, entry: &Entry) -> String {
        let name = entry.path.strip_prefix(&self.root).unwrap_or(&entry.path);
        name.to_string_lossy().into_owned()
    }

    /// What messages call the image: as [`Files::place`], but in the MIMIC-CXR-JPG layout, where that names the patient, by its id alone.
    fn id(&self, entry: &Entry) -> String {
        match self.mimic {
            true => stem(&entry.path),
            false => self.place(entry),
        }
    }
}

/// The name of a file without what stands behind its last point: in the MIMIC-CXR-JPG layout the image's id.
fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

impl Entry {
    /// Whether another row says of the same image what cannot be right beside what is known.
    fn contradicts(&self, labels: &[(u16, f32)], names: &Names) -> bool {
        let named = |label: &(u16, f32)| (names.list.get(usize::from(label.0)).map_or("", String::as_str), label.1);
        let against = |old: &(u16, f32)| labels.iter().any(|new| contradict(named(old), named(new)));
        self.labels.iter().any(against)
    }

    /// Leaves out labels that are uncertain, which count as said until all rows are read: the first of several values of a label counts.
    fn forget_uncertain(&mut self) {
        if self.labels.iter().any(|label| label.1 < 0.0) {
            self.labels = self.labels.iter().filter(|label| label.1 >= 0.0).copied().collect();
        }
    }

    /// Adds what another row says of the same image.
    fn join(&mut self, labels: &[(u16, f32)], normal: bool) {
        let new: Vec<_> = labels
            .iter()
            .filter(|new| self.labels.iter().all(|old| old.0 != new.0))
            .copied()
            .collect();
        if !new.is_empty() {
            self.labels = [&self.labels[..], &new].concat().into();
        }
        self.normal |= normal;
    }
}

/// Labels' names by number.
#[derive(Default)]
struct Names {
    list: Vec<String>,
    numbers: HashMap<String, u16>,
}

impl Names {
    /// Names are compared without regard to case. Past 65,535 of them, which no data set has, all share the last number.
    fn number(&mut self, name: &str) -> u16 {
        let key = name.to_lowercase();
        if let Some(&number) = self.numbers.get(&key) {
            return number;
        }
        let number = u16::try_from(self.list.len()).unwrap_or(u16::MAX);
        if usize::from(number) == self.list.len() {
            self.list.push(name.to_owned());
            self.numbers.insert(key, number);
        }
        number
    }
}

impl ImageSource for Files {
    fn count(&self) -> Option<u64> {
        Some(self.entries.len() as u64)
    }

    fn load(&self, index: u64, side: usize) -> Result<Sample, Skip> {
        let entry = self.entries.get(index as usize).ok_or("there is no such image")?;
        let id = self.id(entry);
        let pixels = read_image(&entry.path, side).map_err(|fault| Skip {
            data: Some(self.data.clone()),
            id: id.clone(),
            reason: fault.reason(),
            detail: fault.to_string(),
        })?;
        let labels = self.known(index);
        Ok(Sample { pixels, id, labels })
    }

    fn name(&self, index: u64) -> Option<String> {
        Some(self.place(self.entries.get(index as usize)?))
    }

    fn known(&self, index: u64) -> Vec<(String, f32)> {
        let Some(entry) = self.entries.get(index as usize) else {
            return Vec::new();
        };
        let named = entry
            .labels
            .iter()
            .filter_map(|(number, value)| Some((self.names.get(usize::from(*number))?.clone(), *value)));
        let mut labels: Vec<_> = named.collect();
        if entry.normal {
            labels.push((ALL_OTHERS.to_owned(), 0.0));
        }
        labels
    }

    fn present(&self, index: u64) -> Vec<String> {
        let entry = self.entries.get(index as usize);
        let labels = entry.map(|entry| &entry.labels[..]).unwrap_or_default();
        let present = labels.iter().filter(|label| label.1 > 0.0);
        let names = present.filter_map(|label| self.names.get(usize::from(label.0)));
        names.filter(|name| !name.starts_with(ANSWER)).cloned().collect()
    }
}

/// A source and its weight in the mixture.
pub type Weighted = (Arc<dyn ImageSource>, f64);

/// What [`open_sources`] finds.
pub struct Sources {
    /// The sources, with their shares.
    pub images: Vec<Weighted>,
    /// Names of the labels that are known of an image.
    pub labels: Vec<String>,
    /// What of all of them was skipped, in all splits.
    pub account: Account,
}

/// Opens sources written as `PATH` or `PATH@SHARE`. What of the training data is used and skipped is told on standard error. A patient or an
/// image in two splits is an error, within a source and between them ([`SplitWatch`]).
pub fn open_sources(specs: &[String], training: bool, known: Known) -> Result<Sources, TrainError> {
    let (mut images, mut labels, mut account) = (Vec::<Weighted>::new(), Vec::<String>::new(), Account::default());
    let mut watch = SplitWatch::default();
    for spec in specs {
        let (path, share) = split_share(spec);
        let files = Files::open_watched(Path::new(path), training, known, &mut watch)?;
        labels.extend(files.known_labels());
        account.join(files.account().clone());
        if training {
            let skips = files.account().to_string();
            let skips = skips.lines().skip(1).map(|line| format!("\n  {line}"));
            crate::basics::tell(format_args!(
                "{path}: {} training images{}",
                files.entries.len(),
                skips.collect::<String>()
            ));
        }
        images.push((Arc::new(files) as Arc<dyn ImageSource>, share));
    }
    labels.sort();
    let mut seen = HashSet::new();
    labels.retain(|name| seen.insert(name.to_lowercase()));
    Ok(Sources {
        images,
        labels,
        account,
    })
}

fn is_image(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
    matches!(extension.as_deref(), Some("png" | "jpg" | "jpeg" | "dcm"))
}

/// Every image below `root`, in the order of their paths. Where they are those of a data set with splits it is refused.
fn folder(root: &Path, training: bool) -> Result<Files, TrainError> {
    refuse_part(root)?;
    let (mut paths, mut pending) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(&folder).map_err(|e| TrainError::io(&folder, e))? {
            let path = entry.map_err(|e| TrainError::io(&folder, e))?.path();
            if path.is_dir() {
                pending.push(path);
            } else if is_image(&path) {
                paths.push(path);
            } else {
                refuse_table(root, &path)?;
            }
        }
    }
    paths.sort();
    let mut account = Account::default();
    if paths.len() >= VALIDATE_EACH {
        account.note(
            "each 20th image of this folder is for validation; images of one patient may be on both sides: a manifest with the columns \
             `patient` and `split` keeps them apart"
                .to_owned(),
        );
    }
    let kept = paths.into_iter().enumerate();
    let kept = kept.filter(|(i, _)| (i % VALIDATE_EACH == VALIDATE_EACH - 1) != training);
    let entry = |(_, path)| Entry {
        path,
        labels: Box::default(),
        normal: false,
    };
    Ok(Files {
        entries: kept.map(entry).collect(),
        names: Vec::new(),
        root: root.to_owned(),
        mimic: false,
        data: Arc::from(root),
        account,
    })
}

#[cfg(test)]
mod tests;
