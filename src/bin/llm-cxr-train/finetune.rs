//! `llm-cxr-train finetune`: instruction tuning.

use clap::Args;
use llm_cxr::model::device::{DeviceChoice, resolve};
use llm_cxr::train::common::{Outcome, Stop};
use llm_cxr::train::finetune::{FinetuneSettings, train};

use crate::Done;

/// Tune a language model on images, reports, questions and instructions, or go on with a run that was interrupted
#[derive(Args, Debug)]
pub struct FinetuneArgs {
    #[command(flatten)]
    pub settings: FinetuneSettings,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
}

/// Does the work.
pub fn run(settings: &FinetuneSettings, device: DeviceChoice) -> Done {
    let stop = Stop::on_signals();
    let outcome = train(settings, resolve(device)?, || stop.asked())?;
    if outcome == Outcome::Finished {
        let out = settings.out.display();
        llm_cxr::basics::say(format_args!(
            "{out}/bundle is ready to be served: llm-cxr serve --model {out}/bundle"
        ));
    }
    Ok(outcome)
}
