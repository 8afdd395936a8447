//! The OpenAI-compatible endpoints, on the wire.

use serde_json::{Value, json};

use crate::house::*;

fn ask(more: Value) -> Value {
    let mut body = json!({"model": "scripted", "messages": [{"role": "user", "content": "Say hello."}]});
    if let (Some(body), Some(more)) = (body.as_object_mut(), more.as_object()) {
        body.extend(more.clone());
    }
    body
}

#[tokio::test]
async fn a_chat_is_answered_as_openai_answers() {
    let house = House::plain().await;
    let answer = house
        .json(
            "/v1/chat/completions",
            ask(json!({"n": 2, "seed": 1, "user": "u", "store": false})),
        )
        .await
        .ok()
        .json();
    assert_eq!(answer["object"], "chat.completion");
    assert_eq!(
        answer["choices"][1]["message"],
        json!({"role": "assistant", "content": REPORT, "refusal": null})
    );
    assert_eq!(answer["choices"][1]["finish_reason"], "stop");
    let usage = &answer["usage"];
    let sum = usage["prompt_tokens"]
        .as_u64()
        .zip(usage["completion_tokens"].as_u64())
        .map(|(a, b)| a + b);
    assert_eq!(usage["total_tokens"].as_u64(), sum);
}

#[tokio::test]
async fn a_chat_may_show_an_image() {
    let house = House::plain().await;
    let url = format!("data:image/png;base64,{}", base64(&png(20, 20)));
    let content = json!([{"type": "text", "text": "What is seen?"}, {"type": "image_url", "image_url": {"url": url, "detail": "auto"}}]);
    let body = json!({"model": "scripted", "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": content}]});
    let answer = house.json("/v1/chat/completions", body).await.ok().json();
    assert_eq!(answer["choices"][0]["message"]["content"], REPORT);
}

#[tokio::test]
async fn an_image_without_a_word_asks_for_a_report_whatever_was_said_before() {
    let house = House::plain().await;
    let url = format!("data:image/png;base64,{}", base64(&png(20, 20)));
    let image = json!({"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]});
    let said = [
        json!([image]),
        json!([{"role": "system", "content": "You are a helpful assistant."}, image]),
        json!([{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello! How can I help?"}, image]),
    ];
    let mut prompts = Vec::new();
    for messages in said {
        let body = json!({"model": "scripted", "messages": messages});
        let answer = house.json("/v1/chat/completions", body).await.ok().json();
        prompts.push(answer["usage"]["prompt_tokens"].clone());
    }
    let report = house
        .json("/v1/report", json!({"image": base64(&png(20, 20))}))
        .await
        .ok()
        .json();
    assert!(
        prompts.iter().all(|tokens| *tokens == report["usage"]["prompt_tokens"]),
        "{prompts:?}"
    );
}

#[tokio::test]
async fn any_whole_number_is_a_seed() {
    let house = House::plain().await;
    for seed in [
        json!(-1),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(7),
        json!(-7.0),
        json!(1e15),
        json!(1e19),
    ] {
        house
            .json("/v1/chat/completions", ask(json!({"seed": seed})))
            .await
            .ok();
    }
    for seed in [json!(0.5), json!(-0.5), json!("7")] {
        house
            .json("/v1/chat/completions", ask(json!({"seed": seed})))
            .await
            .refused(400, "invalid_field");
    }
    // Whole, and of more digits than any number has: read as one with a point.
    for seed in [json!(1e20), json!(1.5e29), json!(-1e19), json!(1e300)] {
        let answer = house.json("/v1/chat/completions", ask(json!({"seed": seed}))).await;
        answer.refused(400, "invalid_parameter");
        assert!(answer.text().contains("64 bits"), "{}", answer.text());
    }
}

#[tokio::test]
async fn a_streamed_chat_ends_with_usage_and_done() {
    let house = House::plain().await;
    let body = ask(json!({"stream": true, "stream_options": {"include_usage": true}}));
    let answer = house.json("/v1/chat/completions", body).await.ok();
    let mut data: Vec<String> = events(&answer.text()).into_iter().map(|(_, data)| data).collect();
    assert_eq!(data.pop().as_deref(), Some("[DONE]"));
    let chunks: Vec<Value> = data
        .iter()
        .map(|data| serde_json::from_str(data).expect("JSON"))
        .collect();
    assert!(
        chunks
            .iter()
            .all(|chunk| chunk["object"] == "chat.completion.chunk" && chunk["id"] == chunks[0]["id"])
    );
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    let text: String = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(text, REPORT);
    assert!(chunks[0]["disclaimer"].is_string() && chunks[1]["disclaimer"].is_null());
    assert_eq!(chunks[0].get("usage"), Some(&Value::Null));
    let [.., end, usage] = chunks.as_slice() else {
        panic!("too few chunks")
    };
    assert_eq!(end["choices"][0]["finish_reason"], "stop");
    assert_eq!(
        (&usage["choices"], usage["usage"]["completion_tokens"].is_u64()),
        (&json!([]), true)
    );
}

#[tokio::test]
async fn a_stop_text_ends_the_reply_and_is_not_part_of_it() {
    let house = House::plain().await;
    let answer = house
        .json("/v1/chat/completions", ask(json!({"stop": " is"})))
        .await
        .ok()
        .json();
    assert_eq!(answer["choices"][0]["message"]["content"], "The heart");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    let answer = house
        .json("/v1/chat/completions", ask(json!({"stop": ["lungs", " is"]})))
        .await
        .ok()
        .json();
    assert_eq!(answer["choices"][0]["message"]["content"], "The heart");
}

#[tokio::test]
async fn a_stop_text_that_waits_for_a_longer_one_in_vain_ends_the_reply_all_the_same() {
    let house = House::plain().await;
    let whole = house.json("/v1/chat/completions", ask(json!({}))).await.ok().json();
    let tokens = whole["usage"]["completion_tokens"].as_u64().expect("a number");
    for most in 1..=tokens {
        let said = async |stop: Value| {
            let body = ask(json!({"stop": stop, "max_tokens": most}));
            let choice = house.json("/v1/chat/completions", body).await.ok().json()["choices"][0].clone();
            (choice["message"]["content"].clone(), choice["finish_reason"].clone())
        };
        // The longer one begins before the other, and never goes on so.
        let both = said(json!(["art", "heart of oak"])).await;
        assert_eq!(both, said(json!("art")).await, "{most} tokens");
    }
}

#[tokio::test]
async fn a_chat_that_its_stop_text_ends_is_done_and_not_cancelled() {
    let house = House::ready(Plan {
        reply: says(&"The heart is normal. ".repeat(20)),
        ..Plan::default()
    })
    .await;
    // Slow enough that the client has all it wants long before the reply would be whole.
    house.controls.slow(std::time::Duration::from_millis(20));
    house
        .json("/v1/chat/completions", ask(json!({"stop": " is", "max_tokens": 100})))
        .await
        .ok();
    let engine = house.state.assistant.engine();
    soon(engine.idle()).await;
    let stats = engine.stats();
    assert_eq!((stats.jobs_done, stats.jobs_cancelled), (1, 0), "{stats:?}");
    assert!(stats.tokens_generated < 100, "{stats:?}");
}

#[tokio::test]
async fn four_stop_texts_of_256_bytes_at_most_are_taken() {
    let house = House::plain().await;
    for stop in [json!(["w", "x", "y", "z"]), json!("x".repeat(256)), json!([])] {
        house
            .json("/v1/chat/completions", ask(json!({"stop": stop})))
            .await
            .ok();
    }
    for stop in [
        json!(["v", "w", "x", "y", "z"]),
        json!(""),
        json!(["x", ""]),
        json!("x".repeat(257)),
    ] {
        let answer = house.json("/v1/chat/completions", ask(json!({"stop": stop}))).await;
        answer.refused(400, "invalid_parameter");
        assert_eq!(answer.json()["error"]["param"], "stop");
    }
}

#[tokio::test]
async fn a_reply_that_a_stop_text_ends_counts_its_prompt_as_ever_and_the_tokens_up_to_there() {
    let house = House::plain().await;
    let url = format!("data:image/png;base64,{}", base64(&png(20, 20)));
    let content = json!([{"type": "text", "text": "What is seen?"}, {"type": "image_url", "image_url": {"url": url}}]);
    for asked in [
        ask(json!({})),
        ask(json!({"messages": [{"role": "user", "content": content}]})),
    ] {
        let usage = async |stop: Value| {
            let mut body = asked.clone();
            body["stop"] = stop;
            let answer = house.json("/v1/chat/completions", body).await.ok().json();
            ["prompt_tokens", "completion_tokens"].map(|name| answer["usage"][name].as_u64().expect("a number"))
        };
        let ([prompt, whole], [same, cut]) = (usage(json!(null)).await, usage(json!(" is")).await);
        assert_eq!(same, prompt);
        assert!((1..whole).contains(&cut), "{cut} of {whole} tokens");
    }
}

#[tokio::test]
async fn what_would_change_the_answer_is_refused_and_the_rest_is_ignored() {
    let house = House::plain().await;
    for more in [
        json!({"tools": [{"type": "function"}]}),
        json!({"response_format": {"type": "json_object"}}),
        json!({"logprobs": true}),
        json!({"frequency_penalty": 0.5}),
        json!({"audio": {"voice": "ash", "format": "mp3"}}),
        json!({"moderation": {"model": "omni-moderation-latest"}}),
        json!({"web_search_options": {}}),
    ] {
        house
            .json("/v1/chat/completions", ask(more))
            .await
            .refused(400, "unsupported_parameter");
    }
    house
        .json(
            "/v1/chat/completions",
            ask(json!({"tools": [], "frequency_penalty": 0, "metadata": {}})),
        )
        .await
        .ok();
    let prediction = json!({"type": "content", "content": "Hello."});
    house
        .json(
            "/v1/chat/completions",
            ask(json!({"prediction": prediction, "prompt_cache_retention": "24h", "prompt_cache_options": {"ttl": "24h"}})),
        )
        .await
        .ok();
    house
        .json("/v1/chat/completions", ask(json!({"model": "gpt-4"})))
        .await
        .refused(404, "model_not_found");
    house
        .json("/v1/chat/completions", ask(json!({"wishes": null, "tools": null})))
        .await
        .ok();
    house
        .json("/v1/images/generations", json!({"prompt": "Clear.", "wishes": null}))
        .await
        .ok();
    house
        .json("/v1/chat/completions", ask(json!({"wishes": 3})))
        .await
        .refused(400, "unknown_field");
}

#[tokio::test]
async fn what_a_message_holds_besides_what_is_read_is_refused_and_it_is_told_where_an_image_goes() {
    let house = House::plain().await;
    let shown = format!("data:image/png;base64,{}", base64(&png(20, 20)));
    let with = |more: Value| {
        let mut message = json!({"role": "user", "content": "Is there an effusion?"});
        message
            .as_object_mut()
            .expect("an object")
            .extend(more.as_object().expect("an object").clone());
        json!([message])
    };
    let part = |part: Value| json!([{"role": "user", "content": [{"type": "text", "text": "Is it?"}, part]}]);
    for (messages, name) in [
        (with(json!({"images": [base64(&png(20, 20))]})), "`images`"),
        (with(json!({"image": shown})), "`image`"),
        (with(json!({"tool_calls": []})), "`tool_calls`"),
        (
            part(json!({"type": "text", "text": "And?", "image_url": {"url": shown}})),
            "`image_url`",
        ),
        (
            part(json!({"type": "image_url", "image_url": {"url": shown, "crop": [0, 0]}})),
            "`crop`",
        ),
        (
            part(json!({"type": "image_url", "image_url": {"url": shown}, "text": "And?"})),
            "`text`",
        ),
        (
            json!([{"role": "assistant", "content": null, "tool_calls": [{"id": "1"}]}, {"role": "user", "content": "And?"}]),
            "`tool_calls`",
        ),
        (with(json!({"no plain name": 1})), "One of the names sent"),
    ] {
        let answer = house
            .json("/v1/chat/completions", ask(json!({"messages": messages})))
            .await;
        answer.refused(400, "unknown_field");
        let error = answer.json()["error"].clone();
        assert_eq!(error["param"], "messages");
        let message = error["message"].as_str().expect("a message");
        assert!(
            message.starts_with(name) && message.contains("data:image/png;base64,…"),
            "{message}"
        );
    }
}

#[tokio::test]
async fn a_reply_may_be_sent_back_as_official_clients_keep_it() {
    let house = House::plain().await;
    let shown = format!("data:image/png;base64,{}", base64(&png(20, 20)));
    let reply = json!({
        "role": "assistant", "content": "A heart.", "refusal": null, "annotations": [], "audio": null, "function_call": null,
        "tool_calls": [], "name": "reader",
    });
    let image = json!({
        "type": "image_url", "image_url": {"url": shown, "detail": "high"}, "prompt_cache_breakpoint": {"mode": "explicit"},
    });
    let messages = json!([
        {"role": "developer", "content": [{"type": "text", "text": "Be brief.", "prompt_cache_breakpoint": null}], "name": "ward"},
        {"role": "user", "content": "What is seen?", "name": "somebody", "tool_calls": null},
        reply,
        {"role": "user", "content": [{"type": "text", "text": "And here?"}, image]},
    ]);
    let answer = house.json("/v1/chat/completions", ask(json!({"messages": messages})));
    assert_eq!(answer.await.ok().json()["choices"][0]["message"]["content"], REPORT);
}

#[tokio::test]
async fn a_message_shows_one_image_and_a_later_message_may_show_another() {
    let house = House::plain().await;
    let image = |side: usize| {
        let url = format!("data:image/png;base64,{}", base64(&png(side, side)));
        json!({"type": "image_url", "image_url": {"url": url}})
    };
    let text = json!({"type": "text", "text": "What has changed?"});
    let both = json!([{"role": "user", "content": [text, image(20), image(24)]}]);
    let answer = house.json("/v1/chat/completions", ask(json!({"messages": both}))).await;
    answer.refused(400, "conflicting_fields");
    assert_eq!(answer.json()["error"]["param"], "messages");
    let in_turn =
        json!([{"role": "user", "content": [text, image(20)]}, {"role": "user", "content": [text, image(24)]}]);
    house
        .json("/v1/chat/completions", ask(json!({"messages": in_turn})))
        .await
        .ok();
}

#[tokio::test]
async fn options_of_a_stream_are_true_or_false_and_unknown_ones_are_refused() {
    let house = House::plain().await;
    for options in [
        json!(null),
        json!({}),
        json!({"include_usage": null}),
        json!({"include_usage": false, "include_obfuscation": true}),
    ] {
        let body = ask(json!({"stream": true, "stream_options": options}));
        house.json("/v1/chat/completions", body).await.ok();
    }
    for (options, code) in [
        (json!({"include_usages": true}), "unknown_field"),
        (json!({"include_usage": "yes"}), "invalid_field"),
        (json!({"include_obfuscation": 1}), "invalid_field"),
        (json!(true), "invalid_field"),
    ] {
        let body = ask(json!({"stream": true, "stream_options": options}));
        let answer = house.json("/v1/chat/completions", body).await;
        answer.refused(400, code);
        assert_eq!(answer.json()["error"]["param"], "stream_options");
    }
}

#[tokio::test]
async fn an_error_names_the_field_that_was_sent() {
    let house = House::plain().await;
    let said = |text: String| json!([{"role": "user", "content": text}]);
    let shown = json!([{"type": "image_url", "image_url": {"url": "data:image/png;base64,YQ=="}}]);
    for (path, body, code, param) in [
        (
            "/v1/chat/completions",
            ask(json!({"messages": said("x".repeat(40_000))})),
            "text_too_long",
            "messages",
        ),
        (
            "/v1/chat/completions",
            ask(json!({"messages": said("what is this? ".repeat(400))})),
            "context_exceeded",
            "messages",
        ),
        (
            "/v1/chat/completions",
            ask(json!({"messages": [{"role": "user", "content": shown}]})),
            "unknown_image_format",
            "messages",
        ),
        (
            "/v1/chat/completions",
            ask(json!({"max_completion_tokens": 100_000})),
            "context_exceeded",
            "max_completion_tokens",
        ),
        (
            "/v1/chat/completions",
            ask(json!({"max_tokens": 100_000})),
            "context_exceeded",
            "max_tokens",
        ),
        (
            "/v1/chat/completions",
            ask(json!({"max_completion_tokens": 0})),
            "invalid_parameter",
            "max_completion_tokens",
        ),
        (
            "/v1/images/generations",
            json!({"prompt": "x".repeat(40_000)}),
            "text_too_long",
            "prompt",
        ),
        (
            "/v1/images/generations",
            json!({"prompt": "white lung ".repeat(600)}),
            "context_exceeded",
            "prompt",
        ),
    ] {
        let answer = house.json(path, body).await;
        answer.refused(400, code);
        let error = answer.json()["error"].clone();
        assert_eq!(error["param"], param);
        let message = error["message"].as_str().expect("a message");
        for other in ["`text`", "`instruction`", "`image`"] {
            assert!(!message.contains(other), "{message}");
        }
        assert!(!message.contains("_tokens") || message.contains(param), "{message}");
    }
}

#[tokio::test]
async fn images_are_drawn_in_the_openai_way() {
    let house = House::plain().await;
    let answer = house
        .json(
            "/v1/images/generations",
            json!({"prompt": "Clear.", "n": 2, "size": "16x16", "model": "scripted"}),
        )
        .await;
    let answer = answer.ok().json();
    assert_eq!(answer["data"].as_array().map(Vec::len), Some(2));
    assert!(
        answer["data"][0]["b64_json"]
            .as_str()
            .is_some_and(|data| data.starts_with("iVBOR"))
    );
    for wish in [
        json!({"response_format": "url"}),
        json!({"size": "1024x1024"}),
        json!({"stream": true}),
    ] {
        let mut body = json!({"prompt": "Clear."});
        body.as_object_mut()
            .expect("an object")
            .extend(wish.as_object().expect("an object").clone());
        house
            .json("/v1/images/generations", body)
            .await
            .refused(400, "unsupported_parameter");
    }
}

#[tokio::test]
async fn the_models_are_listed() {
    let house = House::plain().await;
    let list = house.get("/v1/models").await.ok().json();
    assert_eq!(
        (&list["object"], &list["data"][0]["id"]),
        (&json!("list"), &json!("scripted"))
    );
    assert_eq!(house.get("/v1/models/scripted").await.ok().json(), list["data"][0]);
    house.get("/v1/models/other").await.refused(404, "model_not_found");
}
