//! `llm-cxr-train decoder`: another decoder for a bundle that is there.

use std::path::PathBuf;

use clap::Args;
use llm_cxr::model::bundle::find_bundle;
use llm_cxr::train::common::Outcome;
use llm_cxr::train::decoder::{exchange_decoder, with_decoder};
use serde::{Deserialize, Serialize};

use crate::Done;

/// Put a decoder that `vqgan --decoder-only` trained into a bundle: it draws the same codes in another way.
#[derive(Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecoderArgs {
    /// Folder of the bundle, or of the run that made it
    #[arg(long, visible_alias = "model", value_name = "DIR")]
    bundle: PathBuf,
    /// The VQ-GAN with the new decoder: the folder of its run, or the `vqgan/` in it; encoder and code book must be those of the bundle
    #[arg(long, value_name = "DIR")]
    vqgan: PathBuf,
    /// Make another bundle here, and leave the first as it is
    #[arg(long, value_name = "DIR")]
    #[serde(default)]
    out: Option<PathBuf>,
}

impl DecoderArgs {
    /// Where the bundle with the new decoder is in the end.
    pub fn place(&self) -> PathBuf {
        self.out.clone().unwrap_or_else(|| find_bundle(&self.bundle))
    }
}

/// Does the work.
pub fn run(args: &DecoderArgs) -> Done {
    let manifest = match &args.out {
        Some(out) => with_decoder(&args.bundle, &args.vqgan, out)?,
        None => exchange_decoder(&args.bundle, &args.vqgan)?,
    };
    llm_cxr::basics::say(format_args!(
        "{} is now of version {}",
        args.place().display(),
        manifest.version
    ));
    Ok(Outcome::Finished)
}
