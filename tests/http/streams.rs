//! Answers by server-sent events.

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
