//! `llm-cxr inspect`: what a bundle holds.

use std::path::PathBuf;

use clap::Args;
use llm_cxr::model::bundle::inspect;

use crate::{Outcome, show};

/// Print what a bundle holds: manifest, shapes, parameters, types, sizes.
#[derive(Args, Debug)]
pub struct InspectArgs {
    /// Folder of the bundle.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Read every file and compare its checksum.
    #[arg(long)]
    verify: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: InspectArgs) -> Outcome {
    let bar = show::bytes_bar();
    let outcome = inspect(&args.model, args.verify, &mut |progress| show::advance(&bar, progress));
    bar.finish_and_clear();
    let inspection = outcome?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&inspection)?);
    } else {
        print!("{inspection}");
    }
    Ok(())
}
