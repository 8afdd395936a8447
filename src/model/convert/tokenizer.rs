//! The tokenizer of a Hugging Face folder as one `tokenizer.json`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;
use tokenizers::{AddedToken, Tokenizer};

use super::ConvertError;
use crate::model::bundle::TOKENIZER;
use crate::model::checkpoint::read_whole;
use crate::vocabulary::check_tokenizer;

/// Reads `tokenizer.json`. Tokens that stand only in `added_tokens.json` or `tokenizer_config.json` are added to it; without
/// any the file is returned as it is.
pub(super) fn collect(dir: &Path) -> Result<Vec<u8>, ConvertError> {
    let path = dir.join(TOKENIZER);
    let wrong = |reason: String| ConvertError::Tokenizer {
        file: path.clone(),
        reason,
    };
    if !path.is_file() {
        let reason =
            "is not there; load the tokenizer with AutoTokenizer and save_pretrained it, which writes tokenizer.json";
        return Err(wrong(reason.to_owned()));
    }
    let json = read_whole(&path)?;
    let listed = listed_elsewhere(dir)?;
    if listed.is_empty() {
        return Ok(json);
    }
    let not_json = |e: serde_json::Error| wrong(format!("cannot be read: {e}"));
    // The tokenizers crate panics on some files that are not JSON, and on some that are.
    let value: Value = serde_json::from_slice(&json).map_err(not_json)?;
    check_tokenizer(&value).map_err(|reason| wrong(format!("cannot be read: {reason}")))?;
    let own: BTreeSet<&str> = value["added_tokens"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|token| token["content"].as_str())
        .collect();
    let in_model = |token: &str| value["model"]["vocab"].get(token).is_some();
    let missing: Vec<(u64, AddedToken)> = listed
        .into_iter()
        .filter(|(_, token)| !own.contains(token.content.as_str()) && !in_model(&token.content))
        .collect();
    if missing.is_empty() {
        return Ok(json);
    }
    let mut tokenizer = Tokenizer::from_bytes(value.to_string()).map_err(|e| wrong(format!("cannot be read: {e}")))?;
    for (id, token) in missing {
        let content = token.content.clone();
        tokenizer
            .add_tokens([token])
            .map_err(|e| wrong(format!("takes no added token {content:?}: {e}")))?;
        let given = tokenizer.token_to_id(&content);
        if given.map(u64::from) != Some(id) {
            let given = given.map_or("none".to_owned(), |id| id.to_string());
            return Err(wrong(format!(
                "lacks the added token {content:?}, which has id {id}; added to it, it gets {given}"
            )));
        }
    }
    let json = tokenizer
        .to_string(false)
        .map_err(|e| wrong(format!("cannot be written: {e}")))?;
    Ok(json.into_bytes())
}

/// Added tokens by id, from the files beside `tokenizer.json`.
fn listed_elsewhere(dir: &Path) -> Result<BTreeMap<u64, AddedToken>, ConvertError> {
    let mut tokens = BTreeMap::new();
    let special = special_tokens(&optional(dir, "special_tokens_map.json")?);
    if let Value::Object(added) = optional(dir, "added_tokens.json")? {
        for (content, id) in added {
            if let Some(id) = id.as_u64() {
                let is_special = special.contains(&content);
                tokens.insert(id, AddedToken::from(content, is_special));
            }
        }
    }
    let config = optional(dir, "tokenizer_config.json")?;
    for (id, token) in config["added_tokens_decoder"].as_object().into_iter().flatten() {
        let flag = |name: &str| token[name].as_bool();
        if let (Ok(id), Some(content)) = (id.parse(), token["content"].as_str()) {
            let is_special = flag("special").unwrap_or(false);
            let token = AddedToken::from(content, is_special)
                .single_word(flag("single_word").unwrap_or(false))
                .lstrip(flag("lstrip").unwrap_or(false))
                .rstrip(flag("rstrip").unwrap_or(false))
                .normalized(flag("normalized").unwrap_or(!is_special));
            tokens.insert(id, token);
        }
    }
    Ok(tokens)
}

/// Every text in `special_tokens_map.json`, whichever role it has.
fn special_tokens(map: &Value) -> BTreeSet<String> {
    let roles = map.as_object().into_iter().flatten().map(|(_, value)| value);
    let tokens = roles.flat_map(|value| match value {
        Value::Array(tokens) => tokens.iter().collect(),
        token => vec![token],
    });
    tokens
        .filter_map(|token| token.as_str().or_else(|| token["content"].as_str()))
        .map(str::to_owned)
        .collect()
}

/// A JSON file that need not be there.
fn optional(dir: &Path, name: &str) -> Result<Value, ConvertError> {
    let file = dir.join(name);
    if !file.is_file() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&read_whole(&file)?).map_err(|e| ConvertError::Tokenizer {
        reason: format!("is not JSON: {e}"),
        file,
    })
}
