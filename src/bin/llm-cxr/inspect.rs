//! `llm-cxr inspect`: what a bundle holds.

use std::path::PathBuf;

use clap::Args;
use llm_cxr::model::bundle::inspect;

use crate::{CommandResult, show};

/// Print what a bundle holds: manifest, shapes, parameters, types, sizes.
#[derive(Args, Debug)]
pub struct InspectArgs {
    /// Folder of the bundle.
    #[arg(long, visible_alias = "bundle", value_name = "DIR")]
    model: PathBuf,
    /// Read every file and compare its checksum.
    #[arg(long)]
    verify: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: InspectArgs) -> CommandResult {
    show::work(args.json, |progress| inspect(&args.model, args.verify, progress))
}
