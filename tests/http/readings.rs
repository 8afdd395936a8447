//! Reports of several readings.

use std::sync::atomic::{AtomicUsize, Ordering};

use llm_cxr::engine::scripted::Reply;
use serde_json::{Value, json};

use crate::house::*;

const CLEAR: &str = "The lungs are clear.";
const EFFUSION: &str = "There is a small left pleural effusion.";
const FLUID: &str = "Small left pleural effusion is seen.";

/// A server whose model says these texts in turn, and whose bundle reads an image so often.
async fn says_in_turn(texts: &'static [&'static str], readings: usize) -> House {
    let (vocabulary, turn) = (vocabulary(), AtomicUsize::new(0));
    let author = move |_: &[u32]| {
        let text = texts[turn.fetch_add(1, Ordering::Relaxed) % texts.len()];
        let mut ids = vocabulary.encode_text(&format!("{text}\n\n"));
        ids.push(vocabulary.end());
        ids
    };
    let mut plan = Plan {
        reply: Reply::ByPrompt(Box::new(author)),
        ..Plan::default()
    };
    plan.card.readings = readings;
    House::ready(plan).await
}

async fn report(house: &House, options: Value) -> Value {
    let mut body = options;
    body["image"] = base64(&png(16, 16)).into();
    house.json("/v1/report", body).await.ok().json()
}

#[tokio::test]
async fn the_report_is_the_reading_that_the_others_agree_with_and_tells_how_far_they_do() {
    let house = says_in_turn(&[CLEAR, EFFUSION, CLEAR, FLUID, EFFUSION], 1).await;
    let answer = report(&house, json!({"readings": 5})).await;
    assert_eq!(answer["report"], EFFUSION);
    assert_eq!(
        answer["readings"],
        json!({"count": 5, "chosen_seed": 1, "findings": [
            {"finding": "Pleural Effusion", "share": 0.6, "reported": true},
            {"finding": "No Finding", "share": 0.4, "reported": false},
        ]})
    );
    // An image has the same report tomorrow: seeds from 0 on, unless the request names one.
    assert_eq!(
        answer["sampling"],
        json!({"temperature": 0.85, "top_p": 1.0, "top_k": 0, "seed": 0})
    );
    let seeded = report(&house, json!({"readings": 5, "seed": 40, "temperature": 0.5})).await;
    assert_eq!(
        (&seeded["readings"]["chosen_seed"], &seeded["sampling"]["seed"]),
        (&json!(41), &json!(40))
    );
    assert_eq!(seeded["sampling"]["temperature"], 0.5);
}

#[tokio::test]
async fn the_bundles_number_holds_where_the_request_has_nothing_of_its_own() {
    let house = says_in_turn(&[EFFUSION], 3).await;
    let count = async |options: Value| report(&house, options).await["readings"]["count"].clone();
    assert_eq!(count(json!({})).await, 3);
    assert_eq!(count(json!({"readings": 2})).await, 2);
    let usual = "Generate free-text radiology reports for the entered chest X-ray images.";
    for own in [
        json!({"readings": 1}),
        json!({"temperature": 0.0}),
        json!({"temperature": 1.0}),
        json!({"instruction": "Name the devices."}),
        json!({"constraint": "none"}),
    ] {
        assert_eq!(count(own).await, Value::Null);
    }
    assert_eq!(count(json!({"instruction": usual, "readings": 2})).await, 2);
    let greedy = report(&house, json!({"readings": 1})).await;
    assert_eq!(greedy["sampling"]["temperature"], 0.0);
}

#[tokio::test]
async fn the_image_is_encoded_once_and_the_prompt_run_once() {
    let house = says_in_turn(&[EFFUSION], 8).await;
    let before = house.state.assistant.engine().stats();
    let answer = report(&house, json!({})).await;
    let after = house.state.assistant.engine().stats();
    let prompt = answer["usage"]["prompt_tokens"].as_u64().expect("a number") / 8;
    assert_eq!(after.images_encoded - before.images_encoded, 1);
    assert_eq!(after.prompt_tokens - before.prompt_tokens, prompt - 1 + 8);
}

#[tokio::test]
async fn a_stream_gives_the_chosen_reading_alone() {
    let house = says_in_turn(&[CLEAR, EFFUSION, FLUID], 3).await;
    let body = json!({"image": base64(&png(16, 16)), "stream": true});
    let answer = house.json("/v1/report", body).await.ok();
    let told = events(&answer.text());
    let names: Vec<&str> = told.iter().map(|event| event.0.as_str()).collect();
    assert_eq!(names, ["delta", "done"]);
    let delta: Value = serde_json::from_str(&told[0].1).expect("JSON");
    assert_eq!(delta, json!({"index": 0, "text": EFFUSION}));
    let done: Value = serde_json::from_str(&told[1].1).expect("JSON");
    assert_eq!(
        (&done["report"], &done["readings"]["count"]),
        (&json!(EFFUSION), &json!(3))
    );
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_by_name() {
    let house = House::plain().await;
    for options in [
        json!({"readings": 0}),
        json!({"readings": 33}),
        json!({"readings": "two"}),
        json!({"readings": 4, "temperature": 0.0}),
    ] {
        let mut body = options;
        body["image"] = base64(&png(16, 16)).into();
        let answer = house.json("/v1/report", body).await;
        assert_eq!(answer.status, 400);
        assert_eq!(answer.json()["error"]["param"], "readings");
    }
}
