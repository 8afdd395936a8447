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

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use llm_cxr::train::common::{Outcome, STOPPED, Stop};

/// How the program ends; the error is printed as one line.
type CommandResult = Result<(), Box<dyn std::error::Error>>;

/// What the commands return that a recipe can do: they may have been stopped half-way.
type Done = Result<Outcome, Box<dyn std::error::Error>>;

/// With these words ends what is said of a run that was asked to stop.
const GOES_ON: &str = "the same command goes on";

/// What `--help` shows last.
const EXAMPLES: &str = "\
Examples:
  llm-cxr-train phantom --out data --studies 200 --sheet data.png
  llm-cxr-train run recipes/demo.toml --dry-run
  llm-cxr-train evaluate --bundle models/demo --data data --out measured";

/// Makes model bundles for `llm-cxr`.
///
/// For research only; not a medical device.
#[derive(Parser, Debug)]
#[command(name = "llm-cxr-train", version = llm_cxr::version(), max_term_width = 110, after_help = EXAMPLES)]
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
    /// Print what a shell reads to complete command lines, as in `source <(llm-cxr-train completions bash)`.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    #[command(hide = true)]
    Step(parallel::StepArgs),
}

impl Command {
    /// Whether libtorch computes for longer than it takes to start.
    fn computes(&self) -> bool {
        matches!(
            self,
            Self::Run(_)
                | Self::Step(_)
                | Self::Encode(_)
                | Self::Classifier(_)
                | Self::Evaluate(_)
                | Self::Finetune(_)
                | Self::Pretrain(_)
                | Self::Vqgan(_)
        )
    }
}

fn main() -> ExitCode {
    let command = llm_cxr::basics::command_line::<Cli>().command;
    if command.computes() {
        llm_cxr::model::openmp::wait_briefly();
    }
    let done = match command {
        Command::Step(args) => return parallel::step(&args),
        Command::Run(args) => whole(run::run(&args)),
        Command::Encode(args) => encode::run(&args.settings, args.device),
        Command::Classifier(args) => classifier::run(&args.settings, args.device),
        Command::Decoder(args) => decoder::run(&args),
        Command::Drafts(args) => whole(drafts::run(&args)),
        Command::Evaluate(args) => evaluate::run(&args.settings, args.device),
        Command::Finetune(args) => finetune::run(&args.settings, args.device),
        Command::Init(args) => whole(init::run(&args)),
        Command::Phantom(args) => phantom::run(&args),
        Command::Pretrain(args) => pretrain::run(&args.settings, args.device),
        Command::Tokenizer(args) => tokenizer::run(&args.settings),
        Command::Vqgan(args) => vqgan::run(&args.settings, args.device),
        Command::Completions { shell } => {
            let script = llm_cxr::basics::completions::<Cli>("llm-cxr-train", shell);
            let printed = std::io::stdout().write_all(&script);
            whole(printed.map_err(Into::into))
        }
    };
    match done {
        Ok(Outcome::Finished) => ExitCode::SUCCESS,
        Ok(Outcome::Stopped(step)) => {
            llm_cxr::basics::say(format_args!("stopped and saved after step {step}; {GOES_ON}"));
            ExitCode::from(STOPPED)
        }
        Err(error) => {
            let text = error.to_string();
            llm_cxr::basics::tell(format_args!("llm-cxr-train: {text}"));
            // A recipe tells so that it was asked to stop.
            match Stop::default().asked() && text.ends_with(GOES_ON) {
                true => ExitCode::from(STOPPED),
                false => ExitCode::FAILURE,
            }
        }
    }
}

/// What a command does that cannot be stopped half-way.
fn whole(result: CommandResult) -> Done {
    result.map(|()| Outcome::Finished)
}
