//! Studies as files in the layout of MIMIC-CXR-JPG.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::{LABELS, Phantom, PhantomError, Study};
use crate::radiograph::{ImageFormat, write};

/// Name and header of a CSV file, and what each study adds to it.
type Table = (&'static str, String, fn(&Rows) -> &str);

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Studies, each with one picture.
    pub studies: u64,
    /// Patients.
    pub patients: u64,
}

struct Rows {
    patient: u64,
    split: String,
    metadata: String,
    labels: String,
}

/// Refuses a number of studies that cannot be made.
///
/// # Errors
/// [`PhantomError::NoStudies`], [`PhantomError::TooManyStudies`].
pub fn check_studies(studies: u64) -> Result<(), PhantomError> {
    match studies {
        0 => Err(PhantomError::NoStudies),
        1..=Phantom::MAX_STUDIES => Ok(()),
        _ => Err(PhantomError::TooManyStudies(studies)),
    }
}

/// Writes studies 0 … `studies - 1` below `out`: `files/`, `reports/files/`, `vqa/files/`, `truth/files/` and the three
/// `mimic-cxr-2.0.0-*.csv`, which come last: what they list is complete. `done` is called after each study, from any of
/// `jobs` threads (0: as many as there are cores). A folder made with the same seed and size is continued.
///
/// # Errors
/// [`PhantomError`]; no half-written file and no half-written study is left.
pub fn write_dataset(
    phantom: &Phantom,
    studies: u64,
    out: &Path,
    jobs: usize,
    done: impl Fn() + Sync,
) -> Result<Summary, PhantomError> {
    check_studies(studies)?;
    claim(phantom, out)?;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(jobs)
        .build()
        .map_err(|_| PhantomError::Threads(jobs))?;
    let rows: Vec<Rows> = pool.install(|| {
        (0..studies)
            .into_par_iter()
            .map(|index| {
                let rows = write_study(phantom, &phantom.study(index), out)?;
                done();
                Ok(rows)
            })
            .collect::<Result<_, PhantomError>>()
    })?;
    let labels = LABELS.join(",");
    let tables: [Table; 3] = [
        ("split", "dicom_id,study_id,subject_id,split".to_owned(), |rows| {
            &rows.split
        }),
        (
            "metadata",
            "dicom_id,subject_id,study_id,ViewPosition,Rows,Columns,StudyDate,StudyTime".to_owned(),
            |rows| &rows.metadata,
        ),
        ("chexpert", format!("subject_id,study_id,{labels}"), |rows| &rows.labels),
    ];
    for (name, header, row) in tables {
        let mut text = header + "\n";
        for rows in &rows {
            text.push_str(row(rows));
            text.push('\n');
        }
        put(&out.join(format!("mimic-cxr-2.0.0-{name}.csv")), text.as_bytes())?;
    }
    let mut patients: Vec<_> = rows.iter().map(|rows| rows.patient).collect();
    patients.dedup();
    Ok(Summary {
        studies,
        patients: patients.len() as u64,
    })
}

/// Marks the folder as ours, or finds that it is.
fn claim(phantom: &Phantom, out: &Path) -> Result<(), PhantomError> {
    if out.is_file() {
        return Err(PhantomError::Occupied {
            folder: out.to_owned(),
            reason: "is a file, and --out is a folder",
        });
    }
    fs::create_dir_all(out).map_err(PhantomError::file(out, "created"))?;
    let mark = out.join("phantom.json");
    let text = format!(
        "{{\"generator\":\"llm-cxr phantom 6\",\"seed\":{},\"size\":{}}}\n",
        phantom.seed, phantom.size
    );
    let occupied = |reason| PhantomError::Occupied {
        folder: out.to_owned(),
        reason,
    };
    match fs::read_to_string(&mark) {
        Ok(found) if found == text => Ok(()),
        Ok(_) => Err(occupied("holds phantoms of another seed, size or version")),
        Err(_) => {
            let mut entries = fs::read_dir(out).map_err(PhantomError::file(out, "read"))?;
            match entries.next() {
                Some(_) => Err(occupied("holds other files")),
                None => put(&mark, text.as_bytes()),
            }
        }
    }
}

/// Writes a file whole or not at all.
fn put(path: &Path, bytes: &[u8]) -> Result<(), PhantomError> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let written = fs::write(&partial, bytes).and_then(|()| fs::rename(&partial, path));
    written.map_err(|error| {
        let _ = fs::remove_file(&partial);
        PhantomError::file(path, "written")(error)
    })
}

fn write_study(phantom: &Phantom, study: &Study, out: &Path) -> Result<Rows, PhantomError> {
    let truth = &study.truth;
    let (_, visit) = phantom.patient(truth.index);
    let (subject, number) = (10_000_000 + truth.patient, 50_000_000 + truth.index);
    let dicom = format!("{:016x}-{:016x}", phantom.seed, truth.index);
    let group = format!("p{}", subject / 1_000_000);
    let patient = Path::new("files").join(group).join(format!("p{subject}"));
    let name = |tree: &str, ending: &str| out.join(tree).join(&patient).join(format!("s{number}.{ending}"));
    let image = write(
        &study.pixels,
        ImageFormat::Jpeg,
        &[("synthetic", "phantom radiograph, not of a person")],
    )?;
    let json = serde_json::to_vec_pretty(truth).expect("the truth is plain data with text keys");
    let files = [
        (name("reports", "txt"), study.report.to_string().into_bytes()),
        (name("vqa", "txt"), literal(study).into_bytes()),
        (name("truth", "json"), json),
        // The picture last: a study with a picture is whole.
        (
            out.join(&patient)
                .join(format!("s{number}"))
                .join(format!("{dicom}.jpg")),
            image,
        ),
    ];
    for (path, bytes) in &files {
        let folder = path.parent().unwrap_or(out);
        let made = fs::create_dir_all(folder).map_err(PhantomError::file(folder, "created"));
        if let Err(error) = made.and_then(|()| put(path, bytes)) {
            for (path, _) in &files {
                let _ = fs::remove_file(path);
            }
            return Err(error);
        }
    }
    // By patient, so that no patient is in two splits: eight, one and one of ten.
    let split = match (truth.patient.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % 10 {
        0 => "validate",
        1 => "test",
        _ => "train",
    };
    let date = 21_000_101 + truth.patient % 80 * 10_000 + visit * 100;
    let mut labels = format!("{subject},{number}");
    for label in study.labels {
        let _ = write!(labels, ",{}", label.code());
    }
    let (view, size) = (study.view.code(), truth.size);
    Ok(Rows {
        patient: truth.patient,
        split: format!("{dicom},{number},{subject},{split}"),
        metadata: format!("{dicom},{subject},{number},{view},{size},{size},{date},120000"),
        labels,
    })
}

/// The questions as a Python literal: a list of dicts. Nothing in them needs more than quotes escaped.
fn literal(study: &Study) -> String {
    let quote = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
    let pairs: Vec<_> = study
        .vqa
        .iter()
        .map(|pair| {
            format!(
                "{{'question': {}, 'answer': {}}}",
                quote(&pair.question),
                quote(&pair.answer)
            )
        })
        .collect();
    format!("[{}]\n", pairs.join(", "))
}
