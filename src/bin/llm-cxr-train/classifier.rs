//! `llm-cxr-train classifier`: trains the classifier of findings.

use clap::Args;
use llm_cxr::model::device::{DeviceChoice, resolve};
use llm_cxr::train::classifier::{ClassifierSettings, train};
use llm_cxr::train::common::{Outcome, Stop};

use crate::Done;

/// Train a classifier of findings on labelled images, or go on with a run that was interrupted
#[derive(Args, Debug)]
pub struct ClassifierArgs {
    #[command(flatten)]
    pub settings: ClassifierSettings,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
}

/// Does the work.
pub fn run(settings: &ClassifierSettings, device: DeviceChoice) -> Done {
    let stop = Stop::on_signals();
    let outcome = train(settings, resolve(device)?, || stop.asked())?;
    if outcome == Outcome::Finished {
        llm_cxr::basics::say(format_args!("{}/classifier is ready", settings.out.display()));
    }
    Ok(outcome)
}
