//! `llm-cxr-train vqgan`: trains a VQ-GAN.

use clap::Args;
use llm_cxr::model::device::{DeviceChoice, resolve};
use llm_cxr::train::common::{Outcome, Stop};
use llm_cxr::train::vqgan::{VqganSettings, train};

/// Trains a VQ-GAN on images, or goes on with a run that was interrupted
#[derive(Args, Debug)]
pub struct VqganArgs {
    #[command(flatten)]
    settings: VqganSettings,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
}

/// Runs the command.
pub fn run(args: VqganArgs) -> crate::Outcome {
    let stop = Stop::on_signals();
    let outcome = train(&args.settings, resolve(args.device)?, || stop.asked())?;
    let out = args.settings.out.display();
    match outcome {
        Outcome::Finished => println!("{out}/vqgan is ready for a bundle"),
        Outcome::Stopped(step) => println!("stopped and saved after step {step}; the same command goes on"),
    }
    Ok(())
}
