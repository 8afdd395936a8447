//! `llm-cxr quantise`: a bundle in 8 or 4 bits.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use llm_cxr::model::kernels::Format;
use llm_cxr::model::quantise::{QuantiseOptions, quantise};

use crate::output_args::OutputArgs;
use crate::{CommandResult, show};

/// Store a bundle's matrices in 8 or 4 bits: smaller to ship, and faster to load than when the server quantises them.
///
/// On a CPU it is served in these bits; on a GPU they are widened while it is loaded.
#[derive(Args, Debug)]
pub struct QuantiseArgs {
    /// Folder of the bundle.
    #[arg(long, visible_alias = "bundle", value_name = "DIR")]
    model: PathBuf,
    /// How its matrices are to be stored.
    #[arg(long, value_enum)]
    weights: Bits,
    /// Name of the bundle, shown in every answer; by default that of the bundle it is made from.
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Bits {
    /// 8 bits, with a scale for 64 weights.
    Int8,
    /// 4 bits, with a scale for 32 weights; the output matrix 8 bits.
    Int4,
}

/// Runs the command.
pub fn run(args: QuantiseArgs) -> CommandResult {
    let options = QuantiseOptions {
        bundle: args.model,
        format: match args.weights {
            Bits::Int8 => Format::Int8,
            Bits::Int4 => Format::Int4,
        },
        out: args.output.out,
        name: args.name,
        force: args.output.force,
    };
    show::work(args.output.json, |progress| quantise(&options, progress))
}
