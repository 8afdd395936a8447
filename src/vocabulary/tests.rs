//! Against transformers (`tests/fixtures/make_vocabulary_fixtures.py`), and properties that hold for any text.

use std::path::Path;

use proptest::prelude::*;
use serde::Deserialize;
use tokenizers::{AddedToken, Tokenizer};

use super::{Input, Prompt, PromptPart, TextStream, TokenId, Vocabulary, VocabularyError};

const TOKENIZER: &[u8] = include_bytes!("../../tests/fixtures/vocabulary/tokenizer.json");
const CASES: &[u8] = include_bytes!("../../tests/fixtures/vocabulary/cases.json");
const CODES: usize = 64;

#[derive(Deserialize)]
struct Cases {
    length: usize,
    control: std::collections::HashMap<String, TokenId>,
    prompts: Vec<PromptCase>,
    hostile: Vec<PromptCase>,
    decoded: Vec<DecodedCase>,
}

#[derive(Deserialize)]
struct PromptCase {
    instruction: String,
    input: Option<String>,
    image: bool,
    ids: Vec<i64>,
}

#[derive(Deserialize)]
struct DecodedCase {
    ids: Vec<TokenId>,
    text: String,
}

fn cases() -> Cases {
    serde_json::from_slice(CASES).unwrap()
}

fn vocabulary() -> Vocabulary {
    Vocabulary::from_bytes(TOKENIZER, CODES, 16).unwrap()
}

/// The ids of a prompt, -1 where an image's codes go.
fn flat(prompt: &Prompt) -> Vec<i64> {
    let part = |part: &PromptPart| match part {
        PromptPart::Tokens(ids) => ids.iter().map(|id| i64::from(*id)).collect(),
        PromptPart::Image(_) => vec![-1],
    };
    prompt.parts.iter().flat_map(part).collect()
}

fn laid_out(vocabulary: &Vocabulary, case: &PromptCase) -> Vec<i64> {
    let input = match &case.input {
        _ if case.image => Input::Image(0),
        Some(text) => Input::Text(text),
        None => Input::None,
    };
    flat(&vocabulary.prompt(&case.instruction, input))
}

fn stream(vocabulary: &Vocabulary, ids: &[TokenId]) -> String {
    let mut stream = TextStream::new(vocabulary);
    let mut text: String = ids.iter().filter_map(|id| stream.push(*id)).collect();
    text.extend(stream.finish());
    text
}

#[test]
fn prompts_have_the_ids_transformers_gives() {
    let vocabulary = vocabulary();
    for case in &cases().prompts {
        assert_eq!(
            laid_out(&vocabulary, case),
            case.ids,
            "{:?} {:?}",
            case.instruction,
            case.input
        );
    }
}

#[test]
fn control_text_from_a_user_is_tokenised_as_text() {
    let vocabulary = vocabulary();
    for case in &cases().hostile {
        assert_eq!(
            laid_out(&vocabulary, case),
            case.ids,
            "{:?} {:?}",
            case.instruction,
            case.input
        );
    }
}

#[test]
fn decoded_texts_are_those_of_transformers_whole_and_streamed() {
    let vocabulary = vocabulary();
    for case in &cases().decoded {
        assert_eq!(vocabulary.decode_text(&case.ids), case.text);
        assert_eq!(stream(&vocabulary, &case.ids), case.text);
    }
}

#[test]
fn ids_are_found_by_their_text_and_codes_follow_the_last_one() {
    let (vocabulary, cases) = (vocabulary(), cases());
    assert_eq!(vocabulary.text_len(), cases.length);
    assert_eq!(vocabulary.len(), cases.length + CODES);
    assert_eq!(vocabulary.stops(), [cases.control["### End"]]);
    assert_eq!(
        vocabulary.decode_text(&[vocabulary.open_image(), vocabulary.close_image()]),
        "<>"
    );
    let base = vocabulary.code_base();
    let ids = [
        base,
        5,
        base + CODES as TokenId - 1,
        base + CODES as TokenId,
        TokenId::MAX,
        base + 1,
    ];
    assert_eq!(vocabulary.codes_in(&ids), [0, CODES as u16 - 1, 1]);
    let (yes, no) = vocabulary.yes_no();
    assert!(yes.len() == 2 && no.len() == 2 && yes.iter().all(|id| !no.contains(id)));
}

#[test]
fn a_stream_gives_each_word_as_soon_as_it_is_settled() {
    let vocabulary = vocabulary();
    let mut stream = TextStream::new(&vocabulary);
    let mut push = |text: &str| -> String {
        vocabulary
            .encode_text(text)
            .into_iter()
            .filter_map(|id| stream.push(id))
            .collect()
    };
    assert_eq!(push("The heart"), "The heart");
    assert_eq!(push(" "), "");
    assert_eq!(push("."), ".");
    assert_eq!(push(" n"), "");
    assert_eq!(push("ormal"), " normal");
    assert_eq!(stream.finish(), None);
}

/// The fixture's tokenizer.json with something changed.
fn changed(change: impl Fn(&mut serde_json::Value)) -> Result<Vocabulary, VocabularyError> {
    let mut json: serde_json::Value = serde_json::from_slice(TOKENIZER).unwrap();
    change(&mut json);
    Vocabulary::from_bytes(json.to_string().as_bytes(), CODES, 16)
}

fn without(json: &mut serde_json::Value, token: &str) {
    json["added_tokens"]
        .as_array_mut()
        .unwrap()
        .retain(|t| t["content"] != token);
}

#[test]
fn a_tokenizer_that_cannot_serve_is_refused_with_the_reason() {
    for token in ["### End", "### Instruction:", "### Response:\n"] {
        let error = changed(|json| without(json, token)).unwrap_err();
        assert!(
            matches!(error, VocabularyError::MissingControl { token: t } if t == token),
            "{error}"
        );
    }
    let error = changed(|json| json["decoder"] = serde_json::Value::Null).unwrap_err();
    assert!(matches!(error, VocabularyError::NotByteLevel(_)), "{error}");
    let error = changed(|json| without(json, "### Response:")).unwrap_err();
    assert!(matches!(error, VocabularyError::Ids { .. }), "{error}");
    assert!(matches!(
        Vocabulary::from_bytes(b"{}", CODES, 16).unwrap_err(),
        VocabularyError::Syntax(_)
    ));
    assert!(matches!(
        Vocabulary::from_bytes(TOKENIZER, 0, 16).unwrap_err(),
        VocabularyError::CodeCount(0)
    ));
    assert!(matches!(
        Vocabulary::from_bytes(TOKENIZER, 65_537, 16).unwrap_err(),
        VocabularyError::CodeCount(_)
    ));
    assert!(matches!(
        Vocabulary::from_bytes(TOKENIZER, 1, 0).unwrap_err(),
        VocabularyError::CodesPerImage
    ));
}

#[test]
fn a_precompiled_normalizer_is_refused_wherever_it_stands_and_others_are_taken() {
    let of = |kind: serde_json::Value| serde_json::json!({"type": kind, "precompiled_charsmap": "AAAA"});
    let bad = of("Precompiled".into());
    for normalizer in [
        bad.clone(),
        of(serde_json::json!({"Precompiled": null})),
        serde_json::json!({"type": "Sequence", "normalizers": [{"type": "NFC"}, bad]}),
        serde_json::json!({"type": "Sequence", "normalizers": [{"type": "Sequence", "normalizers": [bad]}]}),
        serde_json::json!([[bad]]),
    ] {
        let error = changed(|json| json["normalizer"] = normalizer.clone()).unwrap_err();
        assert!(error.to_string().contains("Precompiled"), "{error}");
    }
    let usual = serde_json::json!({"type": "Sequence", "normalizers": [{"type": "NFC"}]});
    changed(|json| json["normalizer"] = usual.clone()).unwrap();
    // The last value of a key counts, and the tokenizers crate does not see those before it.
    let twice = std::str::from_utf8(TOKENIZER)
        .unwrap()
        .replacen('{', &format!("{{\"normalizer\":{bad},"), 1);
    let [twice, once] = [twice.as_bytes(), TOKENIZER].map(|json| Vocabulary::from_bytes(json, CODES, 16).unwrap());
    assert_eq!(twice.encode_text("Größe: 3 mm"), once.encode_text("Größe: 3 mm"));
    // Not even an object.
    for json in ["[]", "3", "null", "\"text\""] {
        assert!(Vocabulary::from_bytes(json.as_bytes(), CODES, 16).is_err(), "{json}");
    }
}

#[test]
fn a_control_token_that_the_file_calls_ordinary_is_still_kept_from_users() {
    let vocabulary = changed(|json| {
        for token in json["added_tokens"].as_array_mut().unwrap() {
            if token["content"] == "### End" {
                token["special"] = false.into();
            }
        }
    })
    .unwrap();
    assert!(!vocabulary.encode_text("a ### End b").contains(&vocabulary.end()));
}

#[test]
fn a_truncating_tokenizer_does_not_cut_prompts() {
    let vocabulary = changed(|json| {
        json["truncation"] =
            serde_json::json!({"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0});
    })
    .unwrap();
    assert!(vocabulary.encode_text("one two three four five six seven").len() > 6);
}

#[test]
fn the_published_tokenizer_has_the_published_ids() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/tokenizer/20B_tokenizer.json");
    let Ok(bytes) = std::fs::read(path) else { return };
    let mut tokenizer = Tokenizer::from_bytes(&bytes).unwrap();
    let control = ["### End", "### Instruction:", "### Response:", "### Response:\n"];
    tokenizer
        .add_special_tokens(control.map(|t| AddedToken::from(t, true)))
        .unwrap();
    let json = serde_json::to_vec(&tokenizer).unwrap();
    let vocabulary = Vocabulary::from_bytes(&json, 1024, 256).unwrap();
    assert_eq!((vocabulary.text_len(), vocabulary.len()), (50_281, 51_305));
    assert_eq!(vocabulary.stops(), [50_277]);
    assert_eq!((vocabulary.open_image(), vocabulary.close_image()), (29, 31));
    let whole = tokenizer.encode(
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n\
         ### Instruction:\nDescribe  it.\n\nInput:\n<image>\n\n### Response:\n",
        true,
    );
    let expected: Vec<i64> = whole
        .unwrap()
        .get_ids()
        .iter()
        .map(|id| if *id == 5695 { -1 } else { i64::from(*id) })
        .collect();
    assert_eq!(flat(&vocabulary.prompt("Describe  it.", Input::Image(0))), expected);
    assert_eq!(expected.iter().filter(|id| **id == -1).count(), 1);
    assert_eq!(expected.last(), Some(&50_280));
}

/// Texts in which control text, code points that normalise, and runs of white space are frequent.
fn user_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("### End".to_owned()),
        Just("### Instruction:".to_owned()),
        Just("### Response:".to_owned()),
        Just("### Response:\n".to_owned()),
        Just("<|endoftext|>".to_owned()),
        Just("<|padding|>".to_owned()),
        Just("<image>".to_owned()),
        "[ \n\t#:]{0,8}",
        "[a-z ,.']{0,12}",
        any::<String>(),
    ];
    proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn user_text_never_becomes_a_control_token_or_a_code(instruction in user_text(), text in user_text()) {
        let vocabulary = vocabulary_once();
        let control: Vec<i64> = cases_once().control.values().map(|id| i64::from(*id)).collect();
        let ids = flat(&vocabulary.prompt(&instruction, Input::Text(&text)));
        let count = ids.iter().filter(|id| control.contains(id)).count();
        prop_assert_eq!(count, 2, "the layout's own two");
        prop_assert!(ids.iter().all(|id| *id >= 0 && (*id as usize) < vocabulary.text_len()));
    }

    #[test]
    fn text_comes_back_from_its_ids_but_for_normalisation_and_clean_up(text in "[a-zäöü#:]{1,5}( [a-zA-Z0-9:;#<>]{2,7}){0,10}") {
        let vocabulary = vocabulary_once();
        let kept = super::spaces::clean_up(&text);
        prop_assert_eq!(vocabulary.decode_text(&vocabulary.encode_text(&text)), kept);
    }

    #[test]
    fn a_stream_says_what_decoding_all_at_once_says(ids in proptest::collection::vec(0u32..1000, 0..60)) {
        let vocabulary = vocabulary_once();
        prop_assert_eq!(stream(vocabulary, &ids), vocabulary.decode_text(&ids));
    }

    #[test]
    fn no_file_makes_the_reader_panic(at in 0usize..TOKENIZER.len(), byte in any::<u8>()) {
        let mut bytes = TOKENIZER.to_vec();
        bytes[at] = byte;
        let _ = Vocabulary::from_bytes(&bytes, CODES, 16);
    }
}

fn vocabulary_once() -> &'static Vocabulary {
    static ONCE: std::sync::OnceLock<Vocabulary> = std::sync::OnceLock::new();
    ONCE.get_or_init(vocabulary)
}

fn cases_once() -> &'static Cases {
    static ONCE: std::sync::OnceLock<Cases> = std::sync::OnceLock::new();
    ONCE.get_or_init(cases)
}
