//! `llm-cxr-train tokenizer`: a tokenizer from texts.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;
use llm_cxr::train::common::Outcome;
use llm_cxr::train::common::store::write_whole;
use llm_cxr::train::data::{Account, Dataset, texts};
use llm_cxr::train::tokenizer::{read_texts, train};
use serde::{Deserialize, Serialize};

use crate::Done;

/// Train a byte-level BPE tokenizer on texts and add LLM-CXR's control tokens.
#[derive(Args, Debug)]
pub struct TokenizerArgs {
    #[command(flatten)]
    pub settings: TokenizerSettings,
}

/// Settings of `llm-cxr-train tokenizer`.
#[derive(Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TokenizerSettings {
    /// UTF-8 texts to train on.
    #[arg(long, num_args = 1.., value_name = "FILE", required_unless_present = "data")]
    pub text: Vec<PathBuf>,
    /// Data sets: the reports, questions, answers and instructions of their split `train` are trained on.
    #[arg(long, num_args = 1.., value_name = "PATH")]
    pub data: Vec<PathBuf>,
    /// Entries, the added tokens apart; at least 258.
    #[arg(long, default_value_t = TokenizerSettings::default().vocabulary)]
    pub vocabulary: usize,
    /// File to write.
    #[arg(long, value_name = "FILE", default_value = "tokenizer.json")]
    pub out: PathBuf,
}

impl Default for TokenizerSettings {
    fn default() -> Self {
        Self {
            text: Vec::new(),
            data: Vec::new(),
            vocabulary: 16_384,
            out: PathBuf::from("tokenizer.json"),
        }
    }
}

/// Does the work.
pub fn run(settings: &TokenizerSettings) -> Done {
    let spinner = ProgressBar::new_spinner().with_message("training the tokenizer");
    spinner.enable_steady_tick(Duration::from_millis(120));
    let mut account = Account::default();
    let mut all = read_texts(&settings.text)?;
    for path in &settings.data {
        all.extend(texts(&Dataset::open(path)?, &mut account)?);
    }
    let trained = train(&all, settings.vocabulary);
    spinner.finish_and_clear();
    write_whole(&settings.out, &trained?)?;
    if !settings.data.is_empty() {
        llm_cxr::basics::say(account);
    }
    llm_cxr::basics::say(format_args!("{} written", settings.out.display()));
    Ok(Outcome::Finished)
}
