//! `llm-cxr-train pretrain`: a small language model from plain text.

use clap::Args;
use llm_cxr::model::device::{DeviceChoice, resolve};
use llm_cxr::train::common::{Outcome, Stop};
use llm_cxr::train::pretrain::{PretrainSettings, train};

use crate::Done;

/// Train a small GPT-NeoX on plain text, or go on with a run that was interrupted
#[derive(Args, Debug)]
pub struct PretrainArgs {
    #[command(flatten)]
    pub settings: PretrainSettings,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
}

/// Does the work.
pub fn run(settings: &PretrainSettings, device: DeviceChoice) -> Done {
    let stop = Stop::on_signals();
    let outcome = train(settings, resolve(device)?, || stop.asked())?;
    if outcome == Outcome::Finished {
        let out = settings.out.display();
        llm_cxr::basics::say(format_args!("{out}/model can be given to `finetune --base`"));
    }
    Ok(outcome)
}
