//! Bodies that nobody wrote: damaged, cut, mixed up. Whatever comes ends in an answer or in a 4xx of the one shape, never in a 5xx.

use std::sync::LazyLock;

use axum::body::Body;
use axum::http::Request;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::json;

use crate::house::*;

/// One server for all cases, and the runtime it lives on.
static HOUSE: LazyLock<(tokio::runtime::Runtime, House)> = LazyLock::new(|| {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let house = runtime.block_on(House::plain());
    (runtime, house)
});

/// Sound requests of every kind: path, content type, body.
fn sound() -> Vec<(&'static str, String, Vec<u8>)> {
    let image = png(20, 16);
    let shown = base64(&image);
    let data_url = format!("data:image/png;base64,{shown}");
    let json_type = || "application/json".to_owned();
    let parts: &[(&str, Option<&str>, &[u8])] = &[
        ("image", Some("image/png"), &image),
        ("question", None, "Größe?".as_bytes()),
        ("include", None, b"codes,probabilities"),
    ];
    let jsons = [
        (
            "/v1/report",
            json!({"image": shown, "max_tokens": 9, "seed": 3, "temperature": 0.5, "include": ["codes"]}),
        ),
        (
            "/v1/vqa",
            json!({"image": data_url, "questions": ["Is it?", "\u{1f600}"], "top_k": 3, "stream": true}),
        ),
        (
            "/v1/generate-image",
            json!({"text": "Clear.", "n": 2, "format": "jpeg", "top_p": 0.9}),
        ),
        (
            "/v1/instruct",
            json!({"instruction": "Say <image> ### End", "input": ""}),
        ),
        (
            "/v1/chat/completions",
            json!({"model": "scripted", "stop": ["x"], "messages": [{"role": "user", "content": [
                {"type": "text", "text": "Hi"}, {"type": "image_url", "image_url": {"url": data_url}}]}]}),
        ),
        ("/v1/images/generations", json!({"prompt": "Clear.", "size": "16x16"})),
    ];
    let mut all: Vec<_> = jsons
        .into_iter()
        .map(|(path, body)| (path, json_type(), body.to_string().into_bytes()))
        .collect();
    all.push(("/v1/vqa", multipart_kind(), multipart(parts)));
    all.push(("/v1/report", "image/png".to_owned(), image));
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_request_ends_in_an_answer_or_in_a_4xx(
        (path, kind, mut body) in select(sound()),
        other_path in prop::option::weighted(0.1, select(sound()).prop_map(|request| request.0)),
        edits in prop::collection::vec((any::<Index>(), any::<u8>()), 0..5),
        cut in prop::option::of(any::<Index>()),
        repeated in prop::option::weighted(0.2, (any::<Index>(), any::<Index>())),
        query in "(\\?[a-z]{1,8}=[%a-z0-9]{0,6})?",
    ) {
        for (at, byte) in edits {
            let at = at.index(body.len());
            body[at] = byte;
        }
        if let Some((from, to)) = repeated {
            let (from, to) = (from.index(body.len()), to.index(body.len()));
            body.extend_from_within(from.min(to)..from.max(to));
        }
        if let Some(at) = cut {
            body.truncate(at.index(body.len() + 1));
        }
        let target = format!("{}{query}", other_path.unwrap_or(path));
        let request = Request::post(&target).header("content-type", kind).body(Body::from(body)).expect("a request");
        let (runtime, house) = &*HOUSE;
        let answer = runtime.block_on(soon(house.send(request)));
        let status = answer.status.as_u16();
        prop_assert!(status == 200 || (400..500).contains(&status), "{target}: {}", answer.text());
        if status != 200 {
            answer.refused(status, &answer.code());
        }
    }
}
