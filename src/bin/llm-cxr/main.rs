//! `llm-cxr`: serves a model bundle, works on single images, converts checkpoints, and measures.

mod bench;
mod convert;
mod inspect;
mod show;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What every command returns; the error is printed as one line.
type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Reads chest X-rays, answers questions about them and draws them, with one language model (LLM-CXR).
///
/// For research only; not a medical device.
#[derive(Parser, Debug)]
#[command(name = "llm-cxr", version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Bench(bench::BenchArgs),
    Convert(convert::ConvertArgs),
    Inspect(inspect::InspectArgs),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Bench(args) => bench::run(args),
        Command::Convert(args) => convert::run(args),
        Command::Inspect(args) => inspect::run(args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("llm-cxr: {error}");
            ExitCode::FAILURE
        }
    }
}
