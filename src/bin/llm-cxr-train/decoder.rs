//! `llm-cxr-train decoder`: another decoder for a bundle that is there.

use std::path::PathBuf;

use clap::Args;
use llm_cxr::train::common::Outcome;
use llm_cxr::train::decoder::{exchange_decoder, with_decoder};
use serde::{Deserialize, Serialize};

use crate::Done;

/// Put a decoder that `vqgan --decoder-only` trained into a bundle: it draws the same codes in another way.
#[derive(Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecoderArgs {
    /// Folder of the bundle
    #[arg(long, value_name = "DIR")]
    bundle: PathBuf,
    /// The `vqgan/` folder with the new decoder; encoder and code book must be those of the bundle
    #[arg(long, value_name = "DIR")]
    vqgan: PathBuf,
    /// Make another bundle here, and leave the first as it is
    #[arg(long, value_name = "DIR")]
    #[serde(default)]
    out: Option<PathBuf>,
}

/// Does the work.
pub fn run(args: &DecoderArgs) -> Done {
    let (manifest, place) = match &args.out {
        Some(out) => (with_decoder(&args.bundle, &args.vqgan, out)?, out),
        None => (exchange_decoder(&args.bundle, &args.vqgan)?, &args.bundle),
    };
    println!("{} is now of version {}", place.display(), manifest.version);
    Ok(Outcome::Finished)
}
