//! Trains a byte-level BPE tokenizer with LLM-CXR's added tokens.

use std::collections::HashSet;
use std::path::PathBuf;

use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer};

use crate::vocabulary::{Vocabulary, VocabularyError, check_tokenizer};

/// Entries below which a tokenizer cannot write every byte: 256 bytes and two special tokens.
pub const FEWEST_ENTRIES: usize = 258;

/// Runs of spaces that have tokens of their own, as in GPT-NeoX-20B's tokenizer.
const LONGEST_RUN: usize = 24;

/// The added tokens that give prompts their structure, in the order in which dolly-v2 and LLM-CXR add them.
const CONTROL: [&str; 4] = ["### End", "### Instruction:", "### Response:", "### Response:\n"];

/// Why no tokenizer was trained.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// A text cannot be read.
    #[error("{}: {reason}", .file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },
    /// Too few entries were asked for.
    #[error("{0} entries are too few: {FEWEST_ENTRIES} are needed for the single bytes and two special tokens")]
    TooFewEntries(usize),
    /// The texts hold nothing.
    #[error("the texts are empty; a tokenizer is trained on the kind of text it will read")]
    NoText,
    /// The tokenizers library failed.
    #[error("the tokenizer could not be trained: {0}")]
    Training(String),
    /// The result cannot serve as a vocabulary.
    #[error(transparent)]
    Vocabulary(#[from] VocabularyError),
}

/// Reads files of text.
pub fn read_texts(files: &[PathBuf]) -> Result<Vec<String>, TokenizerError> {
    let read = |file: &PathBuf| {
        std::fs::read_to_string(file).map_err(|reason| TokenizerError::Io {
            file: file.clone(),
            reason,
        })
    };
    files.iter().map(read).collect()
}

/// Trains a tokenizer and gives its `tokenizer.json`.
///
/// It has up to `entries` byte-level BPE entries (fewer if the texts give no more), `<|endoftext|>` and `<|padding|>` first
/// among them, and after them the added tokens: runs of 24 to 2 spaces, `### End`, `### Instruction:`, `### Response:` and
/// `### Response:` with its newline. The same texts give the same tokenizer.
pub fn train<S: AsRef<str>>(texts: &[S], entries: usize) -> Result<Vec<u8>, TokenizerError> {
    if entries < FEWEST_ENTRIES {
        return Err(TokenizerError::TooFewEntries(entries));
    }
    if texts.iter().all(|text| text.as_ref().trim().is_empty()) {
        return Err(TokenizerError::NoText);
    }
    let failed = |e: tokenizers::Error| TokenizerError::Training(e.to_string());
    let mut tokenizer = Tokenizer::new(BPE::default());
    let bytes = ByteLevel::new(false, true, true);
    tokenizer.with_normalizer(Some(NFC)).map_err(failed)?;
    tokenizer
        .with_pre_tokenizer(Some(bytes))
        .with_post_processor(Some(bytes))
        .with_decoder(Some(bytes));
    let mut trainer = TrainerWrapper::from(
        BpeTrainer::builder()
            .vocab_size(entries)
            .show_progress(false)
            .special_tokens(
                ["<|endoftext|>", "<|padding|>"]
                    .map(|token| AddedToken::from(token, true))
                    .into(),
            )
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect::<HashSet<char>>())
            .build(),
    );
    let lines: Vec<&str> = texts
        .iter()
        .flat_map(|text| text.as_ref().split_inclusive('\n'))
        .collect();
    tokenizer.train(&mut trainer, lines.into_iter()).map_err(failed)?;
    let runs = (2..=LONGEST_RUN)
        .rev()
        .map(|length| AddedToken::from(" ".repeat(length), false));
    tokenizer.add_tokens(runs).map_err(failed)?;
    tokenizer
        .add_special_tokens(CONTROL.map(|token| AddedToken::from(token, true)))
        .map_err(failed)?;
    let json = tokenizer.to_string(false).map_err(failed)?.into_bytes();
    Vocabulary::from_bytes(&json, 1, 1)?;
    Ok(json)
}

/// A `tokenizer.json` with LLM-CXR's control tokens, and how many were added: those it lacks come after its last id. One that has them
/// all is returned as it is.
pub fn with_control_tokens(json: &[u8]) -> Result<(Vec<u8>, usize), TokenizerError> {
    let failed = |reason: String| TokenizerError::Vocabulary(VocabularyError::Syntax(reason));
    // The tokenizers crate panics on some files that are not JSON, and on some that are.
    let value: serde_json::Value = serde_json::from_slice(json).map_err(|e| failed(e.to_string()))?;
    check_tokenizer(&value).map_err(|reason| failed(reason.to_owned()))?;
    let mut tokenizer = Tokenizer::from_bytes(value.to_string()).map_err(|e| failed(e.to_string()))?;
    let missing: Vec<&str> = CONTROL
        .into_iter()
        .filter(|token| tokenizer.token_to_id(token).is_none())
        .collect();
    if missing.is_empty() {
        return Ok((json.to_vec(), 0));
    }
    tokenizer
        .add_special_tokens(missing.iter().map(|&token| AddedToken::from(token, true)))
        .map_err(|e| failed(e.to_string()))?;
    let json = tokenizer.to_string(false).map_err(|e| failed(e.to_string()))?;
    Ok((json.into_bytes(), missing.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "The heart is normal.\nThe lungs are clear.\nNo effusion, no pneumothorax.\n";

    #[test]
    fn a_trained_tokenizer_serves_as_a_vocabulary() {
        let vocabulary = Vocabulary::from_bytes(&train(&[TEXT], 290).unwrap(), 64, 16).unwrap();
        assert_eq!(vocabulary.text_len(), 290 + 23 + 4);
        assert_eq!(vocabulary.end_of_text(), 0);
        assert_eq!(vocabulary.encode_text("  ").len(), 1);
        let text = "Größe: 3 mm\n\n心臓";
        assert_eq!(vocabulary.decode_text(&vocabulary.encode_text(text)), text);
    }

    #[test]
    fn control_tokens_are_added_after_the_last_id_and_only_where_they_are_missing() {
        let whole = train(&[TEXT], 290).unwrap();
        assert_eq!(with_control_tokens(&whole).unwrap(), (whole.clone(), 0));
        let mut value: serde_json::Value = serde_json::from_slice(&whole).unwrap();
        value["added_tokens"].as_array_mut().unwrap().truncate(2 + 23 + 1);
        let (grown, added) = with_control_tokens(value.to_string().as_bytes()).unwrap();
        assert_eq!(added, 3);
        let (a, b) = (
            Vocabulary::from_bytes(&whole, 1, 1),
            Vocabulary::from_bytes(&grown, 1, 1),
        );
        assert_eq!(a.unwrap().end(), b.unwrap().end());
        for wrong in ["", "[]", "{}", "{\"model\": 3}"] {
            assert!(with_control_tokens(wrong.as_bytes()).is_err());
        }
        value["normalizer"] = serde_json::json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"});
        let error = with_control_tokens(value.to_string().as_bytes()).unwrap_err();
        assert!(error.to_string().contains("Precompiled"), "{error}");
        let twice = String::from_utf8(whole).unwrap().replacen(
            '{',
            r#"{"normalizer":{"type":"Precompiled","precompiled_charsmap":"AAAA"},"#,
            1,
        );
        assert_eq!(with_control_tokens(twice.as_bytes()).unwrap().1, 0);
    }

    /// Needs the published file, which lies beside the repository where its makers work.
    #[test]
    fn the_published_gpt_neox_tokenizer_gets_the_ids_that_llm_cxr_gives() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/tokenizer/20B_tokenizer.json");
        let Ok(json) = std::fs::read(path) else {
            return;
        };
        let (grown, added) = with_control_tokens(&json).unwrap();
        let vocabulary = Vocabulary::from_bytes(&grown, 1024, 256).unwrap();
        assert_eq!((added, vocabulary.text_len(), vocabulary.len()), (4, 50_281, 51_305));
        assert_eq!((vocabulary.end(), vocabulary.code_base()), (50_277, 50_281));
    }

    #[test]
    fn the_same_text_gives_the_same_tokenizer() {
        assert_eq!(train(&[TEXT], 300).unwrap(), train(&[TEXT], 300).unwrap());
    }

    #[test]
    fn too_few_entries_and_empty_texts_are_refused() {
        assert!(matches!(train(&[TEXT], 257), Err(TokenizerError::TooFewEntries(257))));
        assert!(matches!(train(&[" \n"], 300), Err(TokenizerError::NoText)));
        let error = read_texts(&[PathBuf::from("no-such-file")]).unwrap_err();
        assert!(error.to_string().contains("no-such-file"));
    }
}
