//! `llm-cxr-train`: makes model bundles.

mod classifier;
mod decoder;
mod drafts;
mod encode;
mod evaluate;
mod finetune;
mod init;
mod parallel;
mod phantom;
mod pretrain;
mod run;
#[cfg(test)]
mod settings_tests;
mod tokenizer;
mod vqgan;
mod work;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use llm_cxr::train::common;

/// How the program ends; the error is printed as one line.
type CommandResult = Result<(), Box<dyn std::error::Error>>;

/// What the commands return that a recipe can do: they may have been stopped half-way.
type Done = Result<common::Outcome, Box<dyn std::error::Error>>;

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
    Run(run::RunArgs),
    Encode(encode::EncodeArgs),
    Classifier(classifier::ClassifierArgs),
    Decoder(decoder::DecoderArgs),
    Drafts(drafts::DraftsArgs),
    Evaluate(evaluate::EvaluateArgs),
    Finetune(Box<finetune::FinetuneArgs>),
    Init(init::InitArgs),
    Phantom(phantom::PhantomArgs),
    Pretrain(pretrain::PretrainArgs),
    Tokenizer(tokenizer::TokenizerArgs),
    Vqgan(Box<vqgan::VqganArgs>),
    #[command(hide = true)]
    Step(parallel::StepArgs),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Step(args) => return parallel::step(&args),
        Command::Run(args) => run::run(&args),
        Command::Encode(args) => ended(encode::run(&args.settings, args.device)),
        Command::Classifier(args) => ended(classifier::run(&args.settings, args.device)),
        Command::Decoder(args) => ended(decoder::run(&args)),
        Command::Drafts(args) => drafts::run(&args),
        Command::Evaluate(args) => ended(evaluate::run(&args.settings, args.device)),
        Command::Finetune(args) => ended(finetune::run(&args.settings, args.device)),
        Command::Init(args) => init::run(&args),
        Command::Phantom(args) => ended(phantom::run(&args)),
        Command::Pretrain(args) => ended(pretrain::run(&args.settings, args.device)),
        Command::Tokenizer(args) => ended(tokenizer::run(&args.settings)),
        Command::Vqgan(args) => ended(vqgan::run(&args.settings, args.device)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("llm-cxr-train: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Says how to go on with what was stopped.
fn ended(done: Done) -> CommandResult {
    if let common::Outcome::Stopped(step) = done? {
        println!("stopped and saved after step {step}; the same command goes on");
    }
    Ok(())
}
