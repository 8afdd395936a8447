//! `llm-cxr-train`: makes model bundles.

mod classifier;
mod encode;
mod evaluate;
mod finetune;
mod init;
mod phantom;
mod pretrain;
mod tokenizer;
mod vqgan;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What every command returns; the error is printed as one line.
type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Makes model bundles for `llm-cxr`.
///
/// For research only; not a medical device.
#[derive(Parser, Debug)]
#[command(name = "llm-cxr-train", version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Encode(encode::EncodeArgs),
    Classifier(classifier::ClassifierArgs),
    Evaluate(evaluate::EvaluateArgs),
    Finetune(Box<finetune::FinetuneArgs>),
    Init(init::InitArgs),
    Phantom(phantom::PhantomArgs),
    Pretrain(pretrain::PretrainArgs),
    Tokenizer(tokenizer::TokenizerArgs),
    Vqgan(vqgan::VqganArgs),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Encode(args) => encode::run(args),
        Command::Classifier(args) => classifier::run(args),
        Command::Evaluate(args) => evaluate::run(args),
        Command::Finetune(args) => finetune::run(*args),
        Command::Init(args) => init::run(args),
        Command::Phantom(args) => phantom::run(args),
        Command::Pretrain(args) => pretrain::run(args),
        Command::Tokenizer(args) => tokenizer::run(args),
        Command::Vqgan(args) => vqgan::run(args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("llm-cxr-train: {error}");
            ExitCode::FAILURE
        }
    }
}
