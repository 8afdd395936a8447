//! `llm-cxr-train drafts`: the table that drafts of reports are made from, for a bundle that is there.

use std::path::PathBuf;

use clap::Args;
use llm_cxr::train::data::Stage;
use llm_cxr::train::drafts::add_drafts;

use crate::CommandResult;

/// Put a table for drafts of reports into a bundle, made from training reports: what stands in several of them, as hashes.
#[derive(Args, Debug)]
pub struct DraftsArgs {
    /// Folder of the bundle
    #[arg(long, visible_alias = "model", value_name = "DIR")]
    bundle: PathBuf,
    /// Data sets whose reports (split `train`) the bundle was tuned on
    #[arg(long, num_args = 1.., required = true, value_name = "PATH")]
    data: Vec<String>,
    /// Stage of tuning: 1 for findings and impression, 2 for the impression alone
    #[arg(long, default_value_t = 1)]
    stage: u8,
}

/// Does the work.
pub fn run(args: &DraftsArgs) -> CommandResult {
    let (account, guesses) = add_drafts(&args.bundle, &args.data, Stage::try_from(args.stage)?)?;
    llm_cxr::basics::say(format_args!(
        "{account}\n{guesses} guesses in {}",
        args.bundle.display()
    ));
    Ok(())
}
