//! `llm-cxr-train tokenizer`: a tokenizer from texts.

use std::path::PathBuf;

use clap::Args;
use indicatif::ProgressBar;
use llm_cxr::train::tokenizer::train_on_files;

use crate::Outcome;

/// Train a byte-level BPE tokenizer on texts and add LLM-CXR's control tokens.
#[derive(Args, Debug)]
pub struct TokenizerArgs {
    /// UTF-8 texts to train on.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    text: Vec<PathBuf>,
    /// Entries, the added tokens apart; at least 258.
    #[arg(long, default_value_t = 16_384)]
    vocabulary: usize,
    /// File to write.
    #[arg(long, value_name = "FILE", default_value = "tokenizer.json")]
    out: PathBuf,
}

/// Runs the command.
pub fn run(args: TokenizerArgs) -> Outcome {
    let spinner = ProgressBar::new_spinner().with_message("training the tokenizer");
    spinner.enable_steady_tick(std::time::Duration::from_millis(120));
    let trained = train_on_files(&args.text, args.vocabulary);
    spinner.finish_and_clear();
    std::fs::write(&args.out, trained?).map_err(|e| format!("{}: {e}", args.out.display()))?;
    println!("{} written", args.out.display());
    Ok(())
}
