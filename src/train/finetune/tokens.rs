//! Another tokenizer than the base's own: it may add tokens behind those that the base has rows for, and nothing else.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use serde_json::Value;

use crate::train::common::TrainError;

/// What a `tokenizer.json` makes of a text.
struct Tokens {
    /// The token of each id.
    ids: BTreeMap<u64, String>,
    /// Pairs that become one, in the order of their rank.
    merges: Vec<[String; 2]>,
}

impl Tokens {
    /// Reads the file; `None` where it is no BPE.
    fn read(json: &[u8]) -> Option<Self> {
        let file: Value = serde_json::from_slice(json).ok()?;
        let model = &file["model"];
        let listed = model["vocab"].as_object()?.iter();
        let listed = listed.filter_map(|(token, id)| Some((id.as_u64()?, token.clone())));
        let added = file["added_tokens"].as_array().into_iter().flatten();
        let added = added.filter_map(|token| Some((token["id"].as_u64()?, token["content"].as_str()?.to_owned())));
        Some(Self {
            ids: listed.chain(added).collect(),
            merges: model["merges"].as_array()?.iter().filter_map(pair).collect(),
        })
    }
}

/// A merge, written as a list of two or, in older files, as a text with a blank between them.
fn pair(merge: &Value) -> Option<[String; 2]> {
    if let Some(text) = merge.as_str() {
        let (left, right) = text.split_once(' ')?;
        return Some([left.to_owned(), right.to_owned()]);
    }
    match &merge.as_array()?[..] {
        [Value::String(left), Value::String(right)] => Some([left.clone(), right.clone()]),
        _ => None,
    }
}

/// Refuses the tokenizer `other`, which is written in the file of that name, if it reads a text otherwise than `base`'s, from whose tokens a
/// language model has learned. Gives how many tokens these are.
pub(super) fn check_extends(
    (base_file, base): (&Path, &[u8]),
    (other_file, other): (&Path, &[u8]),
) -> Result<usize, TrainError> {
    let differs = |what: String| {
        TrainError::Settings(format!(
            "{} is another tokenizer than {}, from which the base has learned: {what}. Leave out --tokenizer, or give one that has the tokens \
             of the base and adds some at the end",
            other_file.display(),
            base_file.display(),
        ))
    };
    let read = |json: &[u8]| {
        Tokens::read(json).ok_or_else(|| differs("only those of byte-level BPE can be compared".to_owned()))
    };
    let (base, other) = (read(base)?, read(other)?);
    if let Some((id, token)) = base.ids.iter().find(|&(id, token)| other.ids.get(id) != Some(token)) {
        let there = other
            .ids
            .get(id)
            .map_or("not there".to_owned(), |other| format!("{other:?}"));
        return Err(differs(format!("token {id} is {there}, and was {token:?}")));
    }
    let mut ranks = 0..base.merges.len();
    if let Some(rank) = ranks.find(|&rank| other.merges.get(rank) != base.merges.get(rank)) {
        let merge = base.merges[rank].join(" ");
        return Err(differs(format!("merge {rank} is another than {merge:?}")));
    }
    // Those behind may make tokens that are added. One that makes a token of the base reads texts otherwise, and adds nothing.
    let known: HashSet<&str> = base.ids.values().map(String::as_str).collect();
    for (rank, [left, right]) in other.merges.iter().enumerate().skip(base.merges.len()) {
        let token = format!("{left}{right}");
        if known.contains(token.as_str()) {
            return Err(differs(format!(
                "merge {rank} (\"{left} {right}\") is not one of the base, and makes its token {token:?}"
            )));
        }
    }
    Ok(base.ids.last_key_value().map_or(0, |(id, _)| *id as usize + 1))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn file(tokens: &[&str], merges: Value, added: &[&str]) -> Vec<u8> {
        let vocab: serde_json::Map<String, Value> =
            (0..).zip(tokens).map(|(id, t)| ((*t).to_owned(), json!(id))).collect();
        let added: Vec<Value> = (tokens.len()..)
            .zip(added)
            .map(|(id, content)| json!({"id": id, "content": content}))
            .collect();
        let file = json!({"model": {"type": "BPE", "vocab": vocab, "merges": merges}, "added_tokens": added});
        file.to_string().into_bytes()
    }

    fn check(base: &[u8], other: &[u8]) -> Result<usize, String> {
        check_extends((Path::new("base.json"), base), (Path::new("other.json"), other)).map_err(|e| e.to_string())
    }

    #[test]
    fn a_tokenizer_may_add_tokens_at_the_end_and_change_none_before() {
        let base = file(&["a", "b", "ab"], json!([["a", "b"]]), &["### End"]);
        assert_eq!(check(&base, &base), Ok(4));
        let older = file(&["a", "b", "ab"], json!(["a b"]), &["### End", "### Response:"]);
        assert_eq!(check(&base, &older), Ok(4));
        assert!(
            check(&older, &base)
                .unwrap_err()
                .contains("token 4 is not there, and was \"### Response:\"")
        );
        let exchanged = file(&["b", "a", "ab"], json!([["a", "b"]]), &["### End"]);
        let error = check(&base, &exchanged).unwrap_err();
        assert!(
            error.contains("other.json is another tokenizer than base.json"),
            "{error}"
        );
        assert!(error.contains("token 0 is \"b\", and was \"a\""), "{error}");
        let merged = file(&["a", "b", "ab"], json!([["b", "a"], ["a", "b"]]), &["### End"]);
        assert!(
            check(&base, &merged)
                .unwrap_err()
                .contains("merge 0 is another than \"a b\"")
        );
        assert!(check(&base, b"{}").unwrap_err().contains("byte-level BPE"));
    }

    #[test]
    fn merges_that_are_added_may_make_tokens_that_are_added_and_no_others() {
        let base = file(&["a", "b", "c", "ab", "abc"], json!([["a", "b"], ["ab", "c"]]), &[]);
        let merges = |new: Value| {
            let mut merges = json!([["a", "b"], ["ab", "c"]]);
            merges.as_array_mut().unwrap().push(new);
            file(&["a", "b", "c", "ab", "abc", "bc"], merges, &[])
        };
        assert_eq!(check(&base, &merges(json!(["b", "c"]))), Ok(5));
        for new in [json!(["a", "bc"]), json!("a bc")] {
            let error = check(&base, &merges(new)).unwrap_err();
            assert!(
                error.contains("merge 2 (\"a bc\") is not one of the base, and makes its token \"abc\""),
                "{error}"
            );
        }
    }
}
