//! The studies that are measured.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rand::SeedableRng;
use rand::seq::{SliceRandom, index};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::EvaluateError;
use super::settings::SplitChoice;
use crate::labeler;
use crate::phantom::{LABELS, Label, Truth};
use crate::radiograph::{ImageFormat, is_dicom, write};
use crate::train::data::{
    Account, DataError, Dataset, LABELS_DIFFER, Question, Questions, ReportSource, SUPPORT_DEVICES, Stage, clash,
    decode_image, is_frontal, is_normal, read_file,
};

/// One image with what is known of it.
#[derive(Clone, Debug)]
pub struct Study {
    /// The image's name in the data.
    pub id: String,
    /// Its file.
    pub image: PathBuf,
    patient: Option<String>,
    report: Option<ReportSource>,
    questions: Vec<Questions>,
    /// Labels of the data: 1 present, 0 absent, −1 uncertain.
    pub labels: Vec<(String, f32)>,
    /// The truth of a phantom, if there is one.
    truth: PathBuf,
    /// Whether what the labels do not name is absent: so in the tables of MIMIC-CXR-JPG, which have every observation. The labelled text is
    /// the impression, or the findings where there is none, so that what only the findings name is absent there. Elsewhere it is unknown.
    complete: bool,
    /// Whether a label calls the image normal: so it is without findings, though lines and tubes may be in it.
    normal: bool,
}

/// A study, or a part of one, that could not be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// The image's name in the data.
    pub id: String,
    /// Why.
    pub reason: String,
}

/// The studies of a data set that are measured.
#[derive(Debug)]
pub struct Studies {
    /// In the data's order.
    pub list: Vec<Study>,
    /// How many frontal images the split has, measured or not.
    pub found: usize,
    /// What the data set's reader left out, in words.
    pub account: Account,
}

impl Studies {
    /// Reads the list of a data set: frontal images of `split` (in a manifest also those without a view); of these at most `limit` (0: all),
    /// drawn by `seed`.
    pub fn collect(
        data: &Path,
        questions: Option<&Path>,
        split: SplitChoice,
        limit: usize,
        seed: u64,
    ) -> Result<Self, EvaluateError> {
        let tables = data.is_dir();
        let dataset = Dataset::open(data)?.with_questions(questions.map(Path::to_owned));
        let (mut list, mut places, mut account) =
            (Vec::<Study>::new(), HashMap::<String, usize>::new(), Account::default());
        dataset.visit::<EvaluateError>(&mut account, &mut |record, account| {
            let Some(image) = record.image else { return Ok(()) };
            if !split.holds(record.split) {
                return Ok(());
            }
            // Who writes a manifest without views has frontal images; MIMIC-CXR-JPG has others, and leaves the view of some open.
            if dataset.is_mimic() && record.view.is_none() {
                account.skip("view is unknown", || record.id.clone());
                return Ok(());
            }
            if !is_frontal(record.view.as_deref()) {
                account.skip("view is not frontal", || record.id.clone());
                return Ok(());
            }
            // A manifest may name an image once for each question.
            match places.get(&record.id).and_then(|&place| list.get_mut(place)) {
                Some(study) => {
                    study.questions.extend(record.questions);
                    study.report = study.report.take().or(record.report);
                    if study.label(record.labels, tables) {
                        account.skip(LABELS_DIFFER, || study.id.clone());
                    }
                }
                None => {
                    account.used("images");
                    places.insert(record.id.clone(), list.len());
                    let mut study = Study {
                        truth: truth_file(data, &image),
                        id: record.id,
                        image,
                        patient: record.patient,
                        report: record.report,
                        questions: record.questions.into_iter().collect(),
                        labels: Vec::new(),
                        complete: false,
                        normal: false,
                    };
                    study.label(record.labels, tables);
                    list.push(study);
                }
            }
            Ok(())
        })?;
        if list.is_empty() {
            return Err(EvaluateError::Settings(format!(
                "{} holds no frontal image (view PA, AP or frontal; in a manifest also without one) in this split; choose another with --split, or write the views so ({account})",
                data.display()
            )));
        }
        let found = list.len();
        if limit > 0 && limit < found {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let mut chosen = index::sample(&mut random, list.len(), limit).into_vec();
            chosen.sort_unstable();
            list = chosen
                .into_iter()
                .filter_map(|place| list.get(place).cloned())
                .collect();
        }
        Ok(Self { list, found, account })
    }

    /// How many images there are and are measured, and what the data set's reader left out.
    pub fn told(&self) -> String {
        let account = self.account.to_string();
        // The first line counts what was read, of which a limit may leave a part.
        let left_out = account.lines().skip(1).map(|line| format!("\n{line}"));
        format!(
            "{} images in the split, {} measured{}",
            self.found,
            self.list.len(),
            left_out.collect::<String>()
        )
    }

    /// How many images are phantoms: those beside which it stands what is true of them.
    pub fn phantoms(&self) -> usize {
        self.list.iter().filter(|study| study.truth.is_file()).count()
    }

    /// Whose image each study is, as a place in the list: that of the patient's first one; its own where the patient is not known.
    pub fn patients(&self) -> Vec<usize> {
        let mut first = HashMap::new();
        let each = self.list.iter().enumerate();
        each.map(|(place, study)| match &study.patient {
            Some(patient) => *first.entry(patient.as_str()).or_insert(place),
            None => place,
        })
        .collect()
    }

    /// For each study another one, of another patient where there is one: the order is shuffled, and each takes its successor's image.
    pub fn shuffled(&self, seed: u64) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.list.len()).collect();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed ^ 0xb11d));
        let mut others = order.clone();
        let count = order.len();
        for (at, &study) in order.iter().enumerate() {
            let patient = &self.list[study].patient;
            let another = |step: &usize| {
                let other = &self.list[order[(at + step) % count]];
                patient.is_none() || other.patient != *patient
            };
            let step = (1..count).find(another).unwrap_or(1);
            others[study] = order[(at + step) % count];
        }
        others
    }
}

impl Study {
    /// The image as a request holds it: a PNG or JPEG file as it is. The service does not decode DICOM in its own process, so of such a
    /// file these are its `side × side` prepared pixels, as a PNG.
    pub fn file(&self, side: usize) -> Result<Bytes, String> {
        let bytes = read_file(&self.image).map_err(|e| format!("image: {e}"))?;
        if !is_dicom(&bytes) {
            return Ok(Bytes::from(bytes));
        }
        let pixels = decode_image(&bytes, side).map_err(|e| format!("image: {e}"))?;
        let png = write(&pixels, ImageFormat::Png, &[]).map_err(|e| format!("image: {e}"))?;
        Ok(Bytes::from(png))
    }

    /// The report as the stage learns it, `None` where the study has none; or a reason to skip it.
    ///
    /// # Errors
    /// When the system does not read a file that may be there.
    pub fn text(&self, stage: Stage) -> Result<Result<Option<String>, &'static str>, DataError> {
        let Some(report) = &self.report else {
            return Ok(Ok(None));
        };
        let read = report.read(stage);
        let read = read.map_err(|reason| DataError::unread("report", &self.id, reason))?;
        Ok(read.map(|text| Some(text.trim().to_owned())))
    }

    /// The questions, or a reason to skip them.
    ///
    /// # Errors
    /// When the system does not read a file that may be there.
    pub fn questions(&self) -> Result<Result<Vec<Question>, &'static str>, DataError> {
        let read: std::io::Result<Vec<_>> = self.questions.iter().map(Questions::read).collect();
        let read = read.map_err(|reason| DataError::unread("questions", &self.id, reason))?;
        let lists: Result<Vec<_>, &'static str> = read.into_iter().collect();
        Ok(lists.map(|lists| lists.concat()))
    }

    /// Adds the labels that a row gives; of those that several rows give the first one's stand, as in training. Whether they contradict those.
    fn label(&mut self, labels: Vec<(String, f32)>, complete: bool) -> bool {
        let normal = |(name, value): &(String, f32)| *value > 0.0 && is_normal(name);
        self.complete |= !labels.is_empty() && complete;
        self.normal |= labels.iter().any(normal);
        let contradicts = clash(&self.labels, &labels);
        for (name, value) in labels {
            if self.labels.iter().all(|(known, _)| !known.eq_ignore_ascii_case(&name)) {
                self.labels.push((name, value));
            }
        }
        contradicts
    }

    /// What the data's own labels say of one observation; `None` where that is not known.
    pub fn known(&self, label: &str) -> Option<Label> {
        let same = |name: &str| name.eq_ignore_ascii_case(label) || (is_normal(name) && is_normal(label));
        match self.labels.iter().find(|(name, _)| same(name)) {
            Some((_, value)) if *value > 0.0 => Some(Label::Positive),
            Some((_, value)) if *value < 0.0 => Some(Label::Uncertain),
            Some(_) => Some(Label::Negative),
            None => {
                let finding = !label.eq_ignore_ascii_case(SUPPORT_DEVICES);
                (self.complete || (self.normal && finding)).then_some(Label::Blank)
            }
        }
    }

    /// Everything known of a phantom; `None` for other images.
    pub fn phantom(&self) -> Option<Truth> {
        let text = std::fs::read(&self.truth).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// What is known of each of [`LABELS`]: by the data's own labels where it has any, else by the report. `None` where nothing is.
    ///
    /// # Errors
    /// When the system does not read a report that may be there.
    pub fn truth(&self, stage: Stage) -> Result<[Option<Label>; 14], DataError> {
        if !self.labels.is_empty() {
            return Ok(LABELS.map(|label| self.known(label)));
        }
        let text = self.text(stage)?.ok().flatten();
        Ok(text.map_or([None; 14], |text| labeler::read(&text).labels.map(Some)))
    }
}

/// Where `phantom` writes what is true of an image: `truth/files/p10/p10000032/s50414267.json`.
fn truth_file(data: &Path, image: &Path) -> PathBuf {
    let study = image.parent().and_then(|study| study.strip_prefix(data).ok());
    study.map_or_else(PathBuf::new, |study| {
        data.join("truth").join(study).with_extension("json")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_study_gets_the_image_of_another_patient() {
        let study = |number: usize| Study {
            id: number.to_string(),
            image: PathBuf::new(),
            patient: Some((number / 3).to_string()),
            report: None,
            questions: Vec::new(),
            labels: Vec::new(),
            complete: false,
            normal: false,
            truth: PathBuf::new(),
        };
        let studies = Studies {
            list: (0..30).map(study).collect(),
            found: 30,
            account: Account::default(),
        };
        assert_eq!(studies.patients()[..7], [0, 0, 0, 3, 3, 3, 6]);
        let others = studies.shuffled(1);
        assert!((0..30).all(|i| others[i] / 3 != i / 3));
        assert_ne!(others, studies.shuffled(2));
        assert_eq!(others, studies.shuffled(1));
    }

    #[test]
    fn a_limit_is_told_beside_what_there_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.csv");
        let rows: String = (0..9).map(|n| format!("{n}.png,test,PA\n")).collect();
        std::fs::write(&path, format!("image,split,view\n{rows}x.png,test,LATERAL\n")).unwrap();
        let told = |limit| {
            let studies = Studies::collect(&path, None, SplitChoice::Test, limit, 1).unwrap();
            studies.told()
        };
        assert_eq!(
            told(4),
            "9 images in the split, 4 measured\nskipped 1: view is not frontal (first: x.png)"
        );
        assert!(told(0).starts_with("9 images in the split, 9 measured\n"));
    }

    #[test]
    fn an_image_of_mimic_cxr_whose_view_is_not_known_is_skipped_and_a_missing_table_of_views_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write(
            "mimic-cxr-2.0.0-split.csv",
            "dicom_id,study_id,subject_id,split\na,50,10000032,test\nb,50,10000032,test\nc,50,10000032,test\n",
        );
        for image in ["a", "b", "c"] {
            write(&format!("files/p10/p10000032/s50/{image}.jpg"), "");
        }
        let studies = || Studies::collect(dir.path(), None, SplitChoice::Test, 0, 1);
        let none = studies().unwrap_err().to_string();
        assert!(
            none.contains("has no metadata table (mimic-cxr-2.0.0-metadata.csv)") && none.contains("view is unknown"),
            "{none}"
        );
        write(
            "mimic-cxr-2.0.0-metadata.csv",
            "dicom_id,ViewPosition,StudyDate,StudyTime\na,PA,21800101,1\nb,,21800101,1\nc,LATERAL,21800101,1\n",
        );
        let studies = studies().unwrap();
        assert_eq!((studies.list.len(), studies.list[0].id.as_str()), (1, "a"));
        assert_eq!(studies.account.skipped("view is unknown"), 1);
        assert_eq!(studies.account.skipped("view is not frontal"), 1);
    }

    /// A DICOM file of 4 × 4 pixels.
    fn dicom() -> Vec<u8> {
        let pixels: Vec<u16> = (0..16).map(|n| n * 273).collect();
        crate::radiograph::dicom::sample::file("MONOCHROME2 ", None, (4, 4), &pixels)
    }

    #[test]
    fn a_dicom_file_is_sent_as_a_png_of_what_training_sees_and_a_png_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.csv");
        std::fs::write(&path, "image,split\na.dcm,test\nb.png,test\nc.dcm,test\n").unwrap();
        std::fs::write(dir.path().join("a.dcm"), dicom()).unwrap();
        std::fs::write(dir.path().join("b.png"), "as it is").unwrap();
        std::fs::write(dir.path().join("c.dcm"), &dicom()[..200]).unwrap();
        let list = Studies::collect(&path, None, SplitChoice::Test, 0, 1).unwrap().list;
        let seen = crate::train::data::read_image(&list[0].image, 8).unwrap();
        let sent = decode_image(&list[0].file(8).unwrap(), 8).unwrap();
        assert_eq!(sent.rgb(), seen.rgb());
        assert!(sent.rgb().first() < sent.rgb().last());
        assert_eq!(list[1].file(8).unwrap().as_ref(), b"as it is");
        assert!(list[2].file(8).unwrap_err().contains("DICOM"));
    }

    #[test]
    fn a_manifest_that_names_an_image_for_each_question_is_one_study_each() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.csv");
        let rows = "image,question,answer,split,labels\na.png,Q1?,Yes,test,Pneumonia\na.png,Q2?,No,test,\nb.png,Q1?,No,train,\n";
        std::fs::write(&path, rows).unwrap();
        let studies = Studies::collect(&path, None, SplitChoice::Test, 0, 1).unwrap();
        assert_eq!(studies.list.len(), 1);
        assert_eq!(studies.list[0].questions().unwrap().unwrap().len(), 2);
        assert_eq!(studies.list[0].truth(Stage::One).unwrap()[11], Some(Label::Positive));
        let none = Studies::collect(&path, None, SplitChoice::Validate, 0, 1)
            .unwrap_err()
            .to_string();
        assert!(none.contains("--split"), "{none}");
    }

    #[test]
    fn an_image_called_normal_has_no_finding_and_may_have_devices() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.csv");
        std::fs::write(&path, "image,split,labels\na.png,test,Normal\nb.png,test,Edema=0\n").unwrap();
        let studies = Studies::collect(&path, None, SplitChoice::Test, 0, 1).unwrap();
        let [normal, other] = &studies.list[..] else {
            panic!("{} studies", studies.list.len())
        };
        assert_eq!(normal.known("No Finding"), Some(Label::Positive));
        assert_eq!(normal.known("Pneumonia"), Some(Label::Blank));
        assert_eq!(normal.known("Support Devices"), None);
        assert_eq!(other.known("Pneumonia"), None);
        // The names that training goes by are those of the phantoms and the labeler.
        assert!(is_normal(crate::phantom::NO_FINDING) && LABELS.contains(&SUPPORT_DEVICES));
    }

    #[test]
    fn labels_of_all_rows_count_and_reports_are_what_the_stage_learns() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.csv");
        let rows = "image,split,view,labels,report\n\
                    a.png,test,PA,Edema,FINDINGS: Wet. IMPRESSION: Edema.\n\
                    a.png,test,PA,pneumonia=0;edema=0,\n\
                    b.png,test,Frontal,,No heading.\n\
                    c.png,test,LATERAL,,Sideways.\n\
                    d.png,test,,,FINDINGS: IMPRESSION:\n";
        std::fs::write(&path, rows).unwrap();
        let studies = Studies::collect(&path, None, SplitChoice::Test, 0, 1).unwrap();
        let [a, b, d] = &studies.list[..] else {
            panic!("{} studies", studies.list.len())
        };
        assert_eq!(a.known("Edema"), Some(Label::Positive));
        assert_eq!(studies.account.skipped(LABELS_DIFFER), 1);
        assert_eq!(a.known("Pneumonia"), Some(Label::Negative));
        assert_eq!(a.text(Stage::Two).unwrap(), Ok(Some("Edema.".to_owned())));
        assert_eq!(b.text(Stage::Two).unwrap(), Ok(Some("No heading.".to_owned())));
        assert!(d.text(Stage::One).unwrap().unwrap_err().contains("no section"));
    }

    #[cfg(unix)]
    #[test]
    fn what_a_report_that_the_system_does_not_read_says_is_not_taken_for_unknown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.csv");
        std::fs::write(&path, "image,split\na.png,test\n").unwrap();
        let mut study = Studies::collect(&path, None, SplitChoice::Test, 0, 1)
            .unwrap()
            .list
            .remove(0);
        assert_eq!(study.truth(Stage::One).unwrap(), [None; 14]);
        let held = dir.path().join("held.txt");
        std::os::unix::fs::symlink("/proc/self/mem", &held).unwrap();
        study.report = Some(ReportSource::File(held));
        assert!(study.truth(Stage::One).is_err());
    }
}
