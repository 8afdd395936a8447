//! How fields are read from JSON, forms and queries, and refused.

use super::*;

/// The fields of a JSON object that there is room for.
fn of_json(body: &[u8]) -> Result<Fields, ApiError> {
    Fields::from_json(body, |_| Ok(()))
}

#[test]
fn json_form_and_query_give_the_same_fields() {
    let json = of_json(
        br#"{"temperature": 0.5, "seed": 7, "stream": true, "include": ["codes", "token_ids"], "instruction": "a b"}"#,
    );
    let query = Fields::from_query("temperature=0.5&seed=7&stream=true&include=codes,token_ids&instruction=a+b");
    for fields in [json, query] {
        let mut fields = fields.expect("sound");
        assert_eq!(fields.number("temperature").expect("a number"), Some(0.5));
        assert_eq!(fields.integer("seed").expect("an integer"), Some(7));
        assert!(fields.flag("stream").expect("a flag"));
        assert_eq!(
            fields.texts("include", true).expect("a list").expect("given"),
            ["codes", "token_ids"]
        );
        assert_eq!(fields.text("instruction").expect("a text").expect("given"), "a b");
        assert!(fields.finish().is_ok());
    }
}

#[test]
fn an_error_names_the_field_and_never_its_value() {
    let mut fields = of_json(br#"{"seed": "canary", "canary_name": 1}"#).expect("JSON");
    let error = fields.integer("seed").expect_err("a string");
    assert_eq!(
        (error.code, error.param.as_deref()),
        (ErrorCode::InvalidField, Some("seed"))
    );
    assert!(!error.message.contains("canary"));
    let error = fields.finish().expect_err("left over");
    assert_eq!(
        (error.code, error.param.as_deref()),
        (ErrorCode::UnknownField, Some("canary_name"))
    );
}

#[test]
fn a_number_larger_than_any_is_a_number_and_one_below_nought_or_that_is_not_whole_is_none() {
    let read = |number: &str| {
        let json = of_json(format!("{{\"seed\": {number}}}").as_bytes());
        [json, Fields::from_query(&format!("seed={number}"))].map(|fields| fields.expect("sound").integer("seed"))
    };
    for (number, right) in [
        ("18446744073709551615", u64::MAX),
        ("99999999999999999999", u64::MAX),
        ("9007199254740992", 1 << 53),
    ] {
        for integer in read(number) {
            assert_eq!(integer.expect("a number"), Some(right), "{number}");
        }
    }
    for number in ["-1", "-99999999999999999999", "0.5"] {
        for integer in read(number) {
            assert_eq!(integer.expect_err("none").code, ErrorCode::InvalidField, "{number}");
        }
    }
}

#[test]
fn a_number_that_no_f32_holds_is_the_largest_of_its_sign_and_a_word_is_none() {
    let read = |number: &str| {
        let fields = Fields::from_query(&format!("temperature={number}"));
        fields.expect("a query").number("temperature")
    };
    let of_json = |number: &str| {
        let fields = of_json(format!("{{\"temperature\": {number}}}").as_bytes());
        fields.expect("JSON").number("temperature")
    };
    for (number, right) in [
        ("1e39", f32::MAX),
        ("-1e39", f32::MIN),
        ("1e308", f32::MAX),
        ("0.1", 0.1),
    ] {
        for told in [read(number), of_json(number)] {
            assert_eq!(told.expect("a number"), Some(right), "{number}");
        }
    }
    assert_eq!(read("1e400").expect("a number"), Some(f32::MAX));
    for word in ["inf", "-Infinity", "nan", "", "hot", "0x1"] {
        assert_eq!(read(word).expect_err("none").code, ErrorCode::InvalidField, "{word}");
    }
}

#[test]
fn a_whole_number_in_json_may_be_written_with_a_point() {
    let read = |number: &str| {
        let fields = of_json(format!("{{\"seed\": {number}}}").as_bytes());
        fields.expect("JSON").integer("seed")
    };
    for (number, right) in [
        ("16.0", 16),
        ("1e3", 1000),
        ("0.0", 0),
        ("-0.0", 0),
        ("9007199254740992.0", 1 << 53),
        ("1e300", u64::MAX),
    ] {
        assert_eq!(read(number).expect("whole"), Some(right), "{number}");
    }
    for number in ["16.5", "-16.0", "1e-3", "-1e300"] {
        assert_eq!(
            read(number).expect_err("none").code,
            ErrorCode::InvalidField,
            "{number}"
        );
    }
}

#[test]
fn what_is_left_over_is_told_before_what_is_missing() {
    let mut fields = of_json(br#"{"instrution": "a"}"#).expect("JSON");
    assert_eq!(fields.required_text("instruction").expect("stands in"), "");
    fields.lack("image");
    let error = fields.finish().expect_err("misspelt");
    assert_eq!(
        (error.code, error.param.as_deref()),
        (ErrorCode::UnknownField, Some("instrution"))
    );
    let mut fields = of_json(b"{}").expect("JSON");
    fields.lack("image");
    fields.lack("question");
    let error = fields.finish().expect_err("nothing was sent");
    assert_eq!(
        (error.code, error.param.as_deref()),
        (ErrorCode::MissingField, Some("image"))
    );
}

#[test]
fn null_in_json_counts_as_not_given_under_whatever_name() {
    let mut fields = of_json(br#"{"instruction": null, "of_another_api": null}"#).expect("JSON");
    assert_eq!(fields.text("instruction").expect("not given"), None);
    assert!(fields.finish().is_ok());
    let fields = of_json(br#"{"null": null, "of_another_api": {"a": null}}"#).expect("JSON");
    let error = fields.finish().expect_err("an object");
    assert_eq!(
        (error.code, error.param.as_deref()),
        (ErrorCode::UnknownField, Some("of_another_api"))
    );
}

#[test]
fn a_byte_order_mark_before_json_is_passed_over() {
    let mut fields = of_json(b"\xef\xbb\xbf{\"text\": \"a\"}").expect("JSON");
    assert_eq!(fields.text("text").expect("a text").as_deref(), Some("a"));
}

#[test]
fn flags_of_forms_and_queries_may_have_capitals_and_those_of_json_are_no_texts() {
    for (text, flag) in [("true", true), ("True", true), ("FALSE", false), ("false", false)] {
        let mut fields = Fields::from_query(&format!("stream={text}")).expect("a query");
        assert_eq!(fields.flag("stream").expect("a flag"), flag, "{text}");
        let mut fields = of_json(format!("{{\"stream\": \"{text}\"}}").as_bytes()).expect("JSON");
        assert_eq!(fields.flag("stream").expect_err("a text").code, ErrorCode::InvalidField);
    }
}

#[test]
fn a_list_in_a_query_is_repeated_values_or_one_value_in_json() {
    for (query, listed) in [
        ("questions=a%3F&questions=b%3F", &["a?", "b?"][..]),
        ("questions=%5B%22a%3F%22%2C+%22b%3F%22%5D", &["a?", "b?"][..]),
        ("questions=%5B%5D", &[] as &[&str]),
        // What is no list of strings is a text.
        ("questions=%5B1%5D", &["[1]"][..]),
        ("questions=%5Ba%5D", &["[a]"][..]),
        ("questions=%5B%22a%22%5D&questions=b", &["[\"a\"]", "b"][..]),
    ] {
        let mut fields = Fields::from_query(query).expect("a query");
        let texts = fields.texts("questions", false).expect("a list").expect("given");
        assert_eq!(texts, listed, "{query}");
    }
}

#[test]
fn broken_text_is_refused() {
    assert_eq!(
        of_json(b"{\"a\": \"\xff\"}").expect_err("not UTF-8").code,
        ErrorCode::InvalidUtf8
    );
    assert_eq!(of_json(b"{\"a\": ").expect_err("cut").code, ErrorCode::InvalidJson);
    assert_eq!(of_json(b"[1]").expect_err("a list").code, ErrorCode::InvalidJson);
    // What is JSON by its grammar is not told that it is none.
    for (body, told) in [
        (&br#"{"a": "\ud83d"}"#[..], "broken \\u escape"),
        (&br#"{"a": 1e400}"#[..], "out of every range"),
    ] {
        let error = of_json(body).expect_err("nothing that can be read");
        assert_eq!(error.code, ErrorCode::InvalidJson);
        assert!(error.message.contains(told), "{error}");
    }
    assert_eq!(
        Fields::from_query("a=%ff").expect_err("not UTF-8").code,
        ErrorCode::InvalidUtf8
    );
    assert_eq!(
        Fields::from_query("a=%f").expect_err("cut").code,
        ErrorCode::InvalidField
    );
}

#[test]
fn json_asks_for_room_for_its_values_before_it_is_taken_apart() {
    let asked = |body: &str| {
        let mut asked = 0;
        let read = Fields::from_json(body.as_bytes(), |bytes| {
            asked = bytes;
            Ok(())
        });
        read.map(|_| asked)
    };
    let image = format!("{{\"image\": \"{}\"}}", ",[{".repeat(1000));
    assert_eq!(asked(&image).expect("sound"), VALUE_BYTES, "a text is one value");
    let small = format!("{{\"a\": [{}{{}}]}}", "{\"\": 0}, ".repeat(1000));
    assert!(asked(&small).expect("sound") > 1000 * 450);
    // Where there is none, it is not read: that it breaks off does not show.
    let full = |_: u64| Err(ApiError::new(ErrorCode::TooManyBodies, "Full."));
    let error = Fields::from_json(b"{\"a\": [", full).expect_err("no room");
    assert_eq!(error.code, ErrorCode::TooManyBodies);
}
