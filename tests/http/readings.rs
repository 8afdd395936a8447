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
    let answer = report(&house, json!({"readings": 5, "include": ["codes"]})).await;
    assert_eq!(answer["report"], EFFUSION);
    assert_eq!(
        answer["readings"],
        json!({"count": 5, "chosen": 1, "findings": [
            {"finding": "Pleural Effusion", "share": 0.6, "reported": true},
            {"finding": "No Finding", "share": 0.4, "reported": false},
        ]})
    );
    assert_eq!(answer["sampling"]["temperature"], 0.0);
    assert_eq!(
        answer["codes"],
        report(&house, json!({"include": ["codes"]})).await["codes"],
        "the codes are those of the image as it was sent"
    );
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
        json!({"temperature": 1.0}),
        json!({"instruction": "Name the devices."}),
        json!({"constraint": "none"}),
    ] {
        assert_eq!(count(own).await, Value::Null);
    }
    assert_eq!(count(json!({"instruction": usual, "readings": 2})).await, 2);
    assert_eq!(count(json!({"temperature": 0.0})).await, 3);
    assert_eq!(count(json!({"instruction": " "})).await, 3);
    assert_eq!(count(json!({"temperature": 1.0, "readings": 2})).await, 2);
}

#[tokio::test]
async fn every_reading_sees_a_view_of_its_own_and_questions_share_them() {
    let house = says_in_turn(&["Yes.", "No.", "Yes.", "No.", "No.", "Yes."], 8).await;
    let encoded = || house.state.assistant.engine().stats().images_encoded;
    report(&house, json!({})).await;
    assert_eq!(encoded(), 8);
    let body = json!({"image": base64(&png(16, 16)), "questions": ["Is it so?", "Is it not?"], "readings": 3, "include": ["probabilities"]});
    let answer = house.json("/v1/vqa", body).await.ok().json();
    assert_eq!(encoded(), 8 + 3);
    // Eight replies came before these six: they begin with the third text.
    let told: Vec<_> = answer["answers"].as_array().expect("a list").iter().collect();
    assert_eq!(told.len(), 2);
    assert_eq!(
        (&told[0]["answer"], &told[1]["answer"]),
        (&json!("No."), &json!("Yes."))
    );
    // One of the first question's three readings says yes, and two of the second's do.
    for (one, mean) in told.into_iter().zip([1.0 / 3.0, 2.0 / 3.0]) {
        assert!((one["agreement"].as_f64().expect("a number") - 2.0 / 3.0).abs() < 1e-12);
        let p_yes = one["p_yes"].as_f64().expect("a number");
        assert!((p_yes - mean).abs() < 0.02, "{p_yes} is not the mean, {mean}");
    }
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
async fn a_chat_about_an_image_without_a_word_counts_its_prompt_once_and_the_reply_that_it_gives() {
    let house = says_in_turn(&[CLEAR, EFFUSION, FLUID], 3).await;
    let url = format!("data:image/png;base64,{}", base64(&png(16, 16)));
    let content = json!([{"type": "image_url", "image_url": {"url": url}}]);
    let chat = async |more: Value| {
        let mut body = json!({"model": "scripted", "messages": [{"role": "user", "content": content}]});
        body.as_object_mut()
            .expect("an object")
            .extend(more.as_object().expect("an object").clone());
        house.json("/v1/chat/completions", body).await.ok()
    };
    // One reading alone, for what it takes; then as many replies as bring the model's turn back to its first text.
    let single = report(&house, json!({"readings": 1})).await;
    report(&house, json!({"readings": 2})).await;
    let prompt = single["usage"]["prompt_tokens"].clone();
    let length = |text: &str| vocabulary().encode_text(&format!("{text}\n\n")).len() + 1;

    let whole = chat(json!({})).await.json();
    assert_eq!(whole["choices"][0]["message"]["content"], EFFUSION);
    assert_eq!(whole["readings"]["count"], 3);
    assert_eq!(
        (&whole["usage"]["prompt_tokens"], &whole["usage"]["completion_tokens"]),
        (&prompt, &json!(length(EFFUSION)))
    );

    let streamed = chat(json!({"stream": true, "stream_options": {"include_usage": true}})).await;
    let chunks: Vec<Value> = events(&streamed.text())
        .iter()
        .filter_map(|(_, data)| serde_json::from_str(data).ok())
        .collect();
    let [.., last, usage] = chunks.as_slice() else {
        panic!("too few chunks")
    };
    assert_eq!(
        (&last["readings"], &usage["usage"]),
        (&whole["readings"], &whole["usage"])
    );

    let several = chat(json!({"n": 3})).await.json();
    assert!(several.get("readings").is_none(), "nothing is agreed among choices");
    let choices = several["choices"].as_array().expect("a list").iter();
    let lengths = choices.map(|choice| length(choice["message"]["content"].as_str().expect("a text")));
    let lengths: Vec<usize> = lengths.collect();
    assert_eq!(lengths.len(), 3);
    assert_eq!(
        (
            &several["usage"]["prompt_tokens"],
            &several["usage"]["completion_tokens"]
        ),
        (&prompt, &json!(lengths.iter().sum::<usize>()))
    );
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_by_name() {
    let house = House::plain().await;
    for options in [
        json!({"readings": 0}),
        json!({"readings": 17}),
        json!({"readings": "two"}),
    ] {
        let mut body = options;
        body["image"] = base64(&png(16, 16)).into();
        let answer = house.json("/v1/report", body).await;
        assert_eq!(answer.status, 400);
        assert_eq!(answer.json()["error"]["param"], "readings");
    }
}
