//! `llm-cxr-train decoder`: another decoder for a bundle that is there.

use std::path::PathBuf;

use clap::Args;
use llm_cxr::train::decoder::exchange_decoder;

use crate::Outcome;

/// Put a decoder that `vqgan --decoder-only` trained into a bundle: it draws the same codes in another way.
#[derive(Args, Debug)]
pub struct DecoderArgs {
    /// Folder of the bundle
    #[arg(long, value_name = "DIR")]
    bundle: PathBuf,
    /// The `vqgan/` folder with the new decoder; encoder and code book must be those of the bundle
    #[arg(long, value_name = "DIR")]
    vqgan: PathBuf,
}

/// Does the work.
pub fn run(args: &DecoderArgs) -> Outcome {
    let manifest = exchange_decoder(&args.bundle, &args.vqgan)?;
    println!("{} is now of version {}", args.bundle.display(), manifest.version);
    Ok(())
}
