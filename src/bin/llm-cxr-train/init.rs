//! `llm-cxr-train init`: a bundle of random weights.

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use llm_cxr::train::init::{InitOptions, init};

use crate::CommandResult;

/// Make a small bundle of random weights, to try the service with. Its answers are noise, and say so.
#[derive(Args, Debug)]
pub struct InitArgs {
    #[command(flatten)]
    options: InitOptions,
}

/// Runs the command.
pub fn run(args: &InitArgs) -> CommandResult {
    let options = &args.options;
    let bar = ProgressBar::new(0);
    bar.set_style(ProgressStyle::with_template(
        "{msg:24} {wide_bar} {bytes}/{total_bytes}",
    )?);
    let outcome = init(options, &mut |progress| {
        bar.set_message(progress.what.to_owned());
        bar.set_length(progress.total);
        bar.set_position(progress.done);
    });
    bar.finish_and_clear();
    let manifest = outcome?;
    llm_cxr::basics::say(format_args!(
        "{} is a bundle: {}, version {}",
        options.out.display(),
        manifest.name,
        manifest.version
    ));
    llm_cxr::basics::say(format_args!(
        "  UNTRAINED: the weights are random, every answer and image is noise without meaning"
    ));
    Ok(())
}
