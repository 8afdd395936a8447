//! What a client sends shows in its own answer alone: never in logs, meters or errors.

use std::sync::PoisonError;

use axum::body::Body;
use axum::http::Request;
use llm_cxr::engine::scripted::Fault;
use serde_json::json;

use crate::house::*;

const CANARY: &str = "canary7391";

fn without_canary(what: &str, text: &str) {
    assert!(!text.contains(CANARY), "{what} holds what a client sent: {text}");
}

#[tokio::test]
async fn nothing_that_a_client_sends_is_logged_metered_or_told_in_an_error() {
    let log = logged();
    let house = House::plain().await;
    let image = png(16, 16);
    let shown = base64(&image);
    let text = format!("{CANARY} is the patient's name");
    let messages = json!([{"role": "user", "content": text, "name": CANARY}]);
    // Requests that are answered.
    for (path, body) in [
        ("/v1/report", json!({"image": shown, "instruction": text})),
        ("/v1/vqa", json!({"image": shown, "questions": [text, "Is it?"]})),
        ("/v1/generate-image", json!({"text": text})),
        (
            "/v1/instruct",
            json!({"instruction": text, "input": text, "stream": true}),
        ),
        (
            "/v1/chat/completions",
            json!({"model": "scripted", "messages": messages, "user": CANARY, "stop": CANARY}),
        ),
        ("/v1/images/generations", json!({"prompt": text})),
    ] {
        house.json(path, body).await.ok();
    }
    // Requests that are refused, each for another reason, with the canary where the reason is.
    let mut refused = Vec::new();
    for (path, body) in [
        ("/v1/report", json!({"image": format!("http://{CANARY}/x.png")})),
        ("/v1/report", json!({"image": format!("{CANARY}!")})),
        ("/v1/report", json!({"image": base64(text.as_bytes())})),
        ("/v1/report", json!({"image": shown, "temperature": text})),
        ("/v1/report", json!({"image": shown, "include": [text]})),
        ("/v1/report", json!({"image": shown, "constraint": text})),
        ("/v1/report", json!({"image": shown, "stream": text})),
        ("/v1/report", json!({"image": shown, text.clone(): 1})),
        ("/v1/vqa", json!({"image": shown, "question": text.repeat(2000)})),
        (
            "/v1/vqa",
            json!({"image": shown, "question": format!("{CANARY} ").repeat(700)}),
        ),
        ("/v1/generate-image", json!({"text": text, "format": CANARY})),
        ("/v1/generate-image", json!({"text": text, "constraint": "none"})),
        ("/v1/chat/completions", json!({"model": CANARY, "messages": messages})),
        (
            "/v1/chat/completions",
            json!({"model": "scripted", "messages": [{"role": CANARY, "content": text}]}),
        ),
        ("/v1/images/generations", json!({"prompt": text, "size": CANARY})),
    ] {
        refused.push(house.json(path, body).await);
    }
    refused.push(
        house
            .post("/v1/report", "application/json", format!("{{\"image\": {text}"))
            .await,
    );
    refused.push(house.post("/v1/report", CANARY, "x").await);
    refused.push(
        house
            .post(&format!("/v1/report?seed={CANARY}"), "image/png", image.clone())
            .await,
    );
    refused.push(house.get(&format!("/{CANARY}?{CANARY}={CANARY}")).await);
    let parts: &[(&str, Option<&str>, &[u8])] = &[("image", Some("image/png"), text.as_bytes())];
    refused.push(house.post("/v1/report", &multipart_kind(), multipart(parts)).await);
    let odd = Request::builder()
        .method(CANARY)
        .uri("/v1/report")
        .header("authorization", CANARY)
        .header("x-request-id", format!("{CANARY} !"));
    refused.push(house.send(odd.body(Body::empty()).expect("a request")).await);
    house.controls.fail_step(house.controls.steps(), Fault::Panic);
    refused.push(
        house
            .json("/v1/report", json!({"image": shown, "instruction": text}))
            .await,
    );
    for answer in &refused {
        assert!(
            answer.status.is_client_error() || answer.status.is_server_error(),
            "{}",
            answer.text()
        );
        without_canary("an error", &answer.text());
        assert!(answer.json()["error"]["code"].is_string());
    }
    without_canary("/metrics", &house.get("/metrics").await.ok().text());
    let log = String::from_utf8_lossy(&log.lock().unwrap_or_else(PoisonError::into_inner)).into_owned();
    assert!(
        log.contains("\"route\":\"/v1/report\"") && log.contains("\"status\":400"),
        "nothing was logged"
    );
    without_canary("the log", &log);
}
