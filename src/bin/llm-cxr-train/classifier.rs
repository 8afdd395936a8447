//! `llm-cxr-train classifier`: trains the classifier of findings.

use clap::Args;
use llm_cxr::model::device::{DeviceChoice, resolve};
use llm_cxr::train::classifier::{ClassifierSettings, train};
use llm_cxr::train::common::{Outcome, Stop};

/// Trains a classifier of findings on labelled images, or goes on with a run that was interrupted
#[derive(Args, Debug)]
pub struct ClassifierArgs {
    #[command(flatten)]
    settings: ClassifierSettings,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
}

/// Runs the command.
pub fn run(args: ClassifierArgs) -> crate::Outcome {
    let stop = Stop::on_signals();
    let outcome = train(&args.settings, resolve(args.device)?, || stop.asked())?;
    let out = args.settings.out.display();
    match outcome {
        Outcome::Finished => println!("{out}/classifier is ready"),
        Outcome::Stopped(step) => println!("stopped and saved after step {step}; the same command goes on"),
    }
    Ok(())
}
