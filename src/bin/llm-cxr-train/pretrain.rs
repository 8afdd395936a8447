//! `llm-cxr-train pretrain`: a small language model from plain text.

use clap::Args;
use llm_cxr::model::device::{DeviceChoice, resolve};
use llm_cxr::train::common::{Outcome, Stop};
use llm_cxr::train::pretrain::{PretrainSettings, train};

/// Trains a small GPT-NeoX on plain text, or goes on with a run that was interrupted
#[derive(Args, Debug)]
pub struct PretrainArgs {
    #[command(flatten)]
    settings: PretrainSettings,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
}

/// Runs the command.
pub fn run(args: PretrainArgs) -> crate::Outcome {
    let stop = Stop::on_signals();
    let outcome = train(&args.settings, resolve(args.device)?, || stop.asked())?;
    let out = args.settings.out.display();
    match outcome {
        Outcome::Finished => println!("{out}/model can be given to `finetune --base`"),
        Outcome::Stopped(step) => println!("stopped and saved after step {step}; the same command goes on"),
    }
    Ok(())
}
