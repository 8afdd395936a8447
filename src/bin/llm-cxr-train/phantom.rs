//! `phantom`: synthetic radiographs with known findings.

use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressStyle};
use llm_cxr::phantom::{Phantom, PhantomError, check_studies, contact_sheet, write_dataset};
use llm_cxr::train::common::Outcome;
use serde::{Deserialize, Serialize};

/// Make synthetic chest radiographs with reports, questions and ground truth, in the layout of MIMIC-CXR-JPG.
#[derive(clap::Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PhantomArgs {
    /// Folder to write to: new, empty, or made with the same seed and size.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How many studies.
    #[arg(long, value_name = "N")]
    studies: u64,
    /// The same seed gives the same bytes.
    #[arg(long, value_name = "S", default_value_t = 0)]
    #[serde(default)]
    seed: u64,
    /// Side of the pictures in pixels.
    #[arg(long, value_name = "PIXELS", default_value_t = 256)]
    #[serde(default = "size")]
    size: usize,
    /// Also put the first studies (up to 24) on one PNG picture.
    #[arg(long, value_name = "PNG")]
    #[serde(default)]
    sheet: Option<PathBuf>,
    /// Threads; 0 for one per core.
    #[arg(long, value_name = "N", default_value_t = 0)]
    #[serde(default)]
    jobs: usize,
}

fn size() -> usize {
    256
}

impl PhantomArgs {
    /// Refuses settings that no phantoms can have.
    pub(crate) fn check(&self) -> Result<(), PhantomError> {
        check_studies(self.studies)?;
        Phantom::new(self.seed, self.size).map(drop)
    }
}

/// Does the work.
pub(crate) fn run(args: &PhantomArgs) -> crate::Done {
    let phantom = Phantom::new(args.seed, args.size)?;
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} studies, {per_sec}, {eta} left")?;
    let bar = ProgressBar::new(args.studies).with_style(style);
    // First: a path that cannot be written to is known before hours of work.
    if let Some(path) = &args.sheet {
        std::fs::write(path, contact_sheet(&phantom, args.studies.min(24))?)
            .map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
    }
    let summary = write_dataset(&phantom, args.studies, &args.out, args.jobs, || bar.inc(1))?;
    bar.finish();
    llm_cxr::basics::say(format_args!(
        "{} studies of {} patients in {}",
        summary.studies,
        summary.patients,
        args.out.display()
    ));
    Ok(Outcome::Finished)
}
