//! Answers by server-sent events.

use llm_cxr::engine::scripted::Reply;
use serde_json::{Value, json};

use crate::house::*;

#[tokio::test]
async fn a_streamed_report_is_the_whole_report_in_pieces() {
    let house = House::plain().await;
    let body = json!({"image": base64(&png(16, 16)), "stream": true, "seed": 1});
    let answer = house.json("/v1/report", body).await.ok();
    assert!(answer.header("content-type").starts_with("text/event-stream"));
    let events = events(&answer.text());
    let (last, deltas) = events.split_last().expect("events");
    let text: String = deltas
        .iter()
        .map(|(name, data)| {
            assert_eq!(name, "delta");
            let data: Value = serde_json::from_str(data).expect("JSON");
            data["text"].as_str().expect("a text").to_owned()
        })
        .collect();
    assert_eq!((text.as_str(), last.0.as_str()), (REPORT, "done"));
    let done: Value = serde_json::from_str(&last.1).expect("JSON");
    assert_eq!((&done["report"], &done["object"]), (&json!(REPORT), &json!("report")));
    assert!(deltas.len() > 1, "it came in one piece");
}

#[tokio::test]
async fn a_streamed_drawing_tells_its_progress() {
    let house = House::plain().await;
    let answer = house
        .json("/v1/generate-image", json!({"text": "Clear.", "stream": true}))
        .await
        .ok();
    let events = events(&answer.text());
    let progress: Vec<Value> = events
        .iter()
        .filter(|e| e.0 == "progress")
        .map(|e| serde_json::from_str(&e.1).expect("JSON"))
        .collect();
    assert_eq!(
        progress.last(),
        Some(&json!({"index": 0, "codes_done": CODES_PER_IMAGE, "codes_total": CODES_PER_IMAGE}))
    );
    let last = events.last().expect("an event");
    assert_eq!(last.0, "done");
    assert!(!events.iter().any(|e| e.0 == "delta"));
}

#[tokio::test]
async fn no_proxy_is_to_hold_a_stream_back() {
    let house = House::plain().await;
    let image = base64(&png(16, 16));
    let messages = json!([{"role": "user", "content": "Say hello."}]);
    for (path, body) in [
        ("/v1/report", json!({"image": image, "stream": true})),
        ("/v1/generate-image", json!({"text": "Clear.", "stream": true})),
        (
            "/v1/chat/completions",
            json!({"model": "scripted", "messages": messages, "stream": true}),
        ),
    ] {
        let answer = house.json(path, body).await.ok();
        assert!(answer.header("content-type").starts_with("text/event-stream"), "{path}");
        assert_eq!(answer.header("x-accel-buffering"), "no", "{path}");
    }
}

#[tokio::test]
async fn a_fault_in_the_middle_of_a_stream_is_its_last_event() {
    let house = House::plain().await;
    house.controls.fail_step(2, llm_cxr::engine::scripted::Fault::Panic);
    let body = json!({"image": base64(&png(16, 16)), "stream": true});
    let answer = house.json("/v1/report", body).await.ok();
    let events = events(&answer.text());
    let (name, data) = events.last().expect("an event");
    let data: Value = serde_json::from_str(data).expect("JSON");
    assert_eq!(
        (name.as_str(), &data["error"]["code"]),
        ("error", &json!("model_failed"))
    );
    assert_eq!(data["error"]["request_id"], answer.header("x-request-id"));
    house.json("/v1/instruct", json!({"instruction": "Go on."})).await.ok();
}

#[tokio::test]
async fn the_pieces_of_a_free_reply_are_its_text_without_the_marks_around_codes() {
    let vocabulary = vocabulary();
    let text = |text: &str| vocabulary.encode_text(text);
    let codes = |number: usize| -> Vec<u32> { (0..number as u32).map(|c| vocabulary.code_base() + c).collect() };
    let (open, close) = (vec![vocabulary.open_image()], vec![vocabulary.close_image()]);
    let drawing = [open.clone(), codes(CODES_PER_IMAGE), close.clone()].concat();
    for (said, whole, drawn) in [
        (text("a < b"), "a < b", false),
        ([open.clone(), text("b")].concat(), "<b", false),
        ([text("a"), open.clone()].concat(), "a<", false),
        (drawing.clone(), "", true),
        (
            [text("Here:"), drawing.clone(), text(" done")].concat(),
            "Here: done",
            true,
        ),
        ([text("a < b"), drawing.clone()].concat(), "a < b", true),
        ([open.clone(), codes(5), close.clone()].concat(), "", false),
        ([text("a"), open, codes(5), text(" b"), close].concat(), "a b>", false),
    ] {
        let ids = [said, vec![vocabulary.end()]].concat();
        let house = House::ready(Plan {
            reply: Reply::Tokens(ids),
            ..Plan::default()
        })
        .await;
        let body = json!({"instruction": "Go on.", "stream": true});
        let answer = house.json("/v1/instruct", body).await.ok();
        let events: Vec<(String, Value)> = events(&answer.text())
            .into_iter()
            .map(|(name, data)| (name, serde_json::from_str(&data).expect("JSON")))
            .collect();
        let deltas = events.iter().filter(|(name, _)| name == "delta");
        let pieces: String = deltas.map(|(_, data)| data["text"].as_str().expect("a text")).collect();
        let (name, done) = events.last().expect("events");
        assert_eq!(name, "done");
        assert_eq!((pieces.as_str(), &done["text"]), (whole, &json!(whole)));
        assert_eq!(done["image"].is_object(), drawn, "{whole}");
    }
}
