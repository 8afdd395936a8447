//! `llm-cxr-train finetune`: instruction tuning.

use clap::Args;
use llm_cxr::model::device::{DeviceChoice, resolve};
use llm_cxr::train::common::{Outcome, Stop};
use llm_cxr::train::finetune::{FinetuneSettings, train};

/// Tunes a language model on images, reports, questions and instructions, or goes on with a run that was interrupted
#[derive(Args, Debug)]
pub struct FinetuneArgs {
    #[command(flatten)]
    settings: FinetuneSettings,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
}

/// Runs the command.
pub fn run(args: FinetuneArgs) -> crate::Outcome {
    let stop = Stop::on_signals();
    let outcome = train(&args.settings, resolve(args.device)?, || stop.asked())?;
    let out = args.settings.out.display();
    match outcome {
        Outcome::Finished => println!("{out}/bundle is ready to be served: llm-cxr serve --model {out}/bundle"),
        Outcome::Stopped(step) => println!("stopped and saved after step {step}; the same command goes on"),
    }
    Ok(())
}
