//! `llm-cxr-train vqgan`: trains a VQ-GAN.

use clap::Args;
use llm_cxr::model::device::{DeviceChoice, resolve};
use llm_cxr::train::common::{Outcome, Stop};
use llm_cxr::train::vqgan::{VqganSettings, train};

use crate::Done;

/// Train a VQ-GAN on images, or go on with a run that was interrupted
#[derive(Args, Debug)]
pub struct VqganArgs {
    #[command(flatten)]
    pub settings: VqganSettings,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
}

/// Does the work.
pub fn run(settings: &VqganSettings, device: DeviceChoice) -> Done {
    let stop = Stop::on_signals();
    let outcome = train(settings, resolve(device)?, || stop.asked())?;
    if outcome == Outcome::Finished {
        llm_cxr::basics::say(format_args!("{}/vqgan is ready for a bundle", settings.out.display()));
    }
    Ok(outcome)
}
