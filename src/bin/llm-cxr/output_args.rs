//! What `convert` and `quantise` share: where the bundle that they make goes, and how that is told.

use std::path::PathBuf;

use clap::Args;

/// The bundle to make.
#[derive(Args, Debug)]
pub struct OutputArgs {
    /// Folder of the bundle to make.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Replace the bundle, or the folder of a VQ-GAN, that is at --out.
    #[arg(long)]
    pub force: bool,
    /// Print the summary as JSON.
    #[arg(long)]
    pub json: bool,
}
