//! `llm-cxr-train init`: a bundle of random weights.

use std::path::PathBuf;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use llm_cxr::train::init::{InitOptions, init};

use crate::Outcome;

/// Make a small bundle of random weights, to try the service with. Its answers are noise, and say so.
#[derive(Args, Debug)]
pub struct InitArgs {
    /// Folder of the bundle to make.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Name of the bundle; by default the folder's.
    #[arg(long)]
    name: Option<String>,
    /// The same seed and shape give the same bundle.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Entries of the tokenizer, its added tokens apart.
    #[arg(long, default_value_t = 1024)]
    vocabulary: usize,
    /// Width of the language model.
    #[arg(long, default_value_t = 256)]
    hidden: usize,
    /// Layers of the language model.
    #[arg(long, default_value_t = 4)]
    layers: usize,
    /// Attention heads of the language model.
    #[arg(long, default_value_t = 4)]
    heads: usize,
    /// Longest sequence in tokens.
    #[arg(long, default_value_t = 1024)]
    context: usize,
    /// Side of an image in pixels.
    #[arg(long, default_value_t = 256)]
    resolution: usize,
    /// Base width of the VQ-GAN.
    #[arg(long, default_value_t = 32)]
    channels: usize,
    /// Width of each level of the VQ-GAN in units of --channels; each level but the last halves the side.
    #[arg(long, value_delimiter = ',', default_value = "1,1,2,2,4")]
    multipliers: Vec<usize>,
    /// Residual blocks in each level of the VQ-GAN.
    #[arg(long, default_value_t = 1)]
    blocks: usize,
    /// Length of a code-book vector.
    #[arg(long, default_value_t = 64)]
    code_width: usize,
    /// Size of the code book.
    #[arg(long, default_value_t = 1024)]
    codes: usize,
    /// Write the language model's weights in bfloat16 instead of f32.
    #[arg(long)]
    bf16: bool,
    /// Replace what is at --out.
    #[arg(long)]
    force: bool,
}

/// Runs the command.
pub fn run(args: InitArgs) -> Outcome {
    let options = InitOptions {
        out: args.out,
        name: args.name,
        force: args.force,
        seed: args.seed,
        vocabulary: args.vocabulary,
        hidden: args.hidden,
        layers: args.layers,
        heads: args.heads,
        context: args.context,
        resolution: args.resolution,
        channels: args.channels,
        multipliers: args.multipliers,
        blocks: args.blocks,
        code_width: args.code_width,
        codes: args.codes,
        bf16: args.bf16,
    };
    let bar = ProgressBar::new(0);
    bar.set_style(ProgressStyle::with_template(
        "{msg:24} {wide_bar} {bytes}/{total_bytes}",
    )?);
    let outcome = init(&options, &mut |progress| {
        bar.set_message(progress.what.to_owned());
        bar.set_length(progress.total);
        bar.set_position(progress.done);
    });
    bar.finish_and_clear();
    let manifest = outcome?;
    println!(
        "{} is a bundle: {}, version {}",
        options.out.display(),
        manifest.name,
        manifest.version
    );
    println!("  UNTRAINED: the weights are random, every answer and image is noise without meaning");
    Ok(())
}
