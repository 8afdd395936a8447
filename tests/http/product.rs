//! The product's own endpoints, answered whole.

use axum::body::Body;
use axum::http::Request;
use llm_cxr::engine::Facts;
use llm_cxr::engine::scripted::Reply;
use llm_cxr::service::ModelCard;
use serde_json::{Value, json};

use crate::house::*;

#[tokio::test]
async fn a_report_comes_the_same_from_json_multipart_and_a_raw_body() {
    let house = House::plain().await;
    let image = png(40, 30);
    let raw = house
        .post("/v1/report?seed=5&include=codes,token_ids", "image/png", image.clone())
        .await
        .ok()
        .json();
    let parts: &[(&str, Option<&str>, &[u8])] = &[
        ("image", Some("image/png"), &image),
        ("seed", None, b"5"),
        ("include", None, b"codes"),
        ("include", None, b"token_ids"),
    ];
    let form = house
        .post("/v1/report", &multipart_kind(), multipart(parts))
        .await
        .ok()
        .json();
    let body = json!({"image": base64(&image), "seed": 5, "include": ["codes", "token_ids"]});
    let plain = house.json("/v1/report", body).await.ok().json();
    let body = json!({"image": format!("data:image/png;base64,{}", base64(&image)), "seed": 5, "include": ["codes", "token_ids"]});
    let url = house.json("/v1/report", body).await.ok().json();
    let nameless = house
        .post(
            "/v1/report?seed=5&include=codes,token_ids",
            "application/octet-stream",
            image.clone(),
        )
        .await
        .ok()
        .json();
    for answer in [&raw, &form, &plain, &url, &nameless] {
        assert_eq!(answer["report"], REPORT);
        assert_eq!(answer["finish_reason"], "stop");
        assert_eq!(
            answer["sampling"],
            json!({"temperature": 0.0, "top_p": 1.0, "top_k": 0, "seed": 5})
        );
        assert_eq!(answer["codes"], raw["codes"]);
        assert_eq!(answer["token_ids"], raw["token_ids"]);
        assert_eq!(answer["usage"]["image_tokens"], CODES_PER_IMAGE);
        assert_eq!(
            answer["model"],
            json!({"name": "scripted", "revision": "1", "trained": true})
        );
        assert_eq!(answer["disclaimer"], llm_cxr::RESEARCH_NOTICE);
        assert!(answer.get("warning").is_none());
    }
    assert_eq!(raw["codes"].as_array().map(Vec::len), Some(CODES_PER_IMAGE));
    assert_eq!(
        raw["usage"]["completion_tokens"],
        raw["token_ids"].as_array().map_or(0, Vec::len)
    );
}

#[tokio::test]
async fn a_report_that_is_to_be_sampled_takes_the_bundles_nucleus_and_tells_what_it_took() {
    let house = House::plain().await;
    let sampling = async |options: Value| {
        let mut body = options;
        body["image"] = base64(&png(16, 16)).into();
        house.json("/v1/report", body).await.ok().json()["sampling"].clone()
    };
    assert_eq!(
        sampling(json!({"temperature": 0.7, "seed": 5})).await,
        json!({"temperature": 0.7, "top_p": 0.92, "top_k": 0, "seed": 5})
    );
    let own = json!({"temperature": 0.7, "top_p": 0.5, "top_k": 3, "seed": 5});
    assert_eq!(sampling(own.clone()).await, own);
}

#[tokio::test]
async fn an_untrained_model_says_so_in_every_answer() {
    let plan = Plan::default();
    let card = llm_cxr::service::ModelCard {
        trained: false,
        ..plan.card.clone()
    };
    let house = House::ready(Plan { card, ..plan }).await;
    let image = base64(&png(16, 16));
    let messages = json!([{"role": "user", "content": "Hello."}]);
    for (path, body) in [
        ("/v1/report", json!({"image": image})),
        ("/v1/vqa", json!({"image": image, "question": "Is it so?"})),
        ("/v1/generate-image", json!({"text": "Clear."})),
        ("/v1/instruct", json!({"instruction": "Say hello."})),
        (
            "/v1/chat/completions",
            json!({"model": "scripted", "messages": messages}),
        ),
        ("/v1/images/generations", json!({"prompt": "Clear."})),
    ] {
        let answer = house.json(path, body).await.ok().json();
        assert!(
            answer["warning"].as_str().is_some_and(|w| w.contains("untrained")),
            "{path}: {answer}"
        );
    }
    assert!(house.get("/v1/info").await.ok().json()["warning"].is_string());
}

#[tokio::test]
async fn what_a_bundle_wants_said_is_said_with_its_answers() {
    let plan = Plan::default();
    let card = llm_cxr::service::ModelCard {
        caution: Some("It misses small findings.".into()),
        ..plan.card.clone()
    };
    let house = House::ready(Plan { card, ..plan }).await;
    let answer = house
        .json("/v1/report", json!({"image": base64(&png(16, 16))}))
        .await
        .ok()
        .json();
    assert_eq!(answer["warning"], "It misses small findings.");
    assert_eq!(answer["model"]["trained"], true);
    // A file has no place for it but beside.
    let request = Request::post("/v1/generate-image")
        .header("accept", "image/png")
        .header("content-type", "application/json");
    let body = Body::from(json!({"text": "Clear."}).to_string());
    let file = house.send(request.body(body).expect("a request")).await.ok();
    assert_eq!(
        (file.header("content-type"), file.header("x-warning")),
        ("image/png", "It misses small findings.")
    );
}

#[tokio::test]
async fn questions_are_answered_together_and_in_order() {
    let vocabulary = vocabulary();
    let (first, second) = (
        vocabulary.encode_text("Is one seen?"),
        vocabulary.encode_text("Are two seen?"),
    );
    let answers = [(first, "yes"), (second, "no, none")].map(|(question, answer)| {
        let mut ids = vocabulary.encode_text(answer);
        ids.push(vocabulary.end());
        (question, ids)
    });
    let choose = move |prompt: &[u32]| {
        let found = answers
            .iter()
            .find(|(question, _)| prompt.windows(question.len()).any(|w| w == question.as_slice()));
        found.map(|(_, answer)| answer.clone()).unwrap_or_default()
    };
    let house = House::ready(Plan {
        reply: Reply::ByPrompt(Box::new(choose)),
        ..Plan::default()
    })
    .await;
    let include = json!(["probabilities", "token_ids", "codes"]);
    let image = base64(&png(16, 16));
    let body = json!({"image": image, "questions": ["Are two seen?", "Is one seen?"], "include": include});
    let both = house.json("/v1/vqa", body).await.ok().json();
    assert_eq!(both["answers"][0]["answer"], "no, none");
    assert_eq!(both["answers"][1]["answer"], "yes");
    assert_eq!(both["token_ids"][1], both["answers"][1]["token_ids"]);
    assert_eq!(both["p_yes"][0], both["answers"][0]["p_yes"]);
    assert!(
        both["p_yes"][1].as_f64() > Some(0.99) && both["p_yes"][0].as_f64() < Some(0.01),
        "{both}"
    );
    assert!(both.get("answer").is_none());
    let body = json!({"image": image, "question": "Is one seen?", "include": include});
    let one = house.json("/v1/vqa", body).await.ok().json();
    assert_eq!(one["answer"], "yes");
    assert_eq!(one["p_yes"], both["p_yes"][1]);
    assert_eq!(one["token_ids"], both["token_ids"][1]);
    assert_eq!(one["codes"], both["codes"]);
}

#[tokio::test]
async fn drawings_have_seeds_that_count_on_and_draw_the_same_again() {
    let house = House::plain().await;
    let body = json!({"text": "Clear lungs.", "n": 2, "seed": 7, "include": ["codes", "token_ids"]});
    let two = house.json("/v1/generate-image", body).await.ok().json();
    let images = two["images"].as_array().expect("a list");
    assert_eq!(
        (images.len(), &images[0]["seed"], &images[1]["seed"]),
        (2, &json!(7), &json!(8))
    );
    assert_eq!(
        two["sampling"],
        json!({"temperature": 1.0, "top_p": 0.92, "top_k": 0, "seed": 7})
    );
    for (index, image) in images.iter().enumerate() {
        assert_eq!((&image["synthetic"], &image["width"]), (&json!(true), &json!(SIDE)));
        assert_eq!(two["codes"][index].as_array().map(Vec::len), Some(CODES_PER_IMAGE));
        assert_eq!(
            two["token_ids"][index].as_array().map(Vec::len),
            Some(CODES_PER_IMAGE + 3)
        );
    }
    let again = house
        .json("/v1/generate-image", json!({"text": "Clear lungs.", "seed": 8}))
        .await
        .ok()
        .json();
    assert_eq!(again["images"][0]["data"], images[1]["data"]);
    assert_ne!(images[0]["data"], images[1]["data"]);
}

#[tokio::test]
async fn guidance_changes_a_drawing_and_is_told_and_needs_a_whole_image() {
    let house = House::plain().await;
    let draw = async |guidance: Value| {
        let body = json!({"text": "Clear lungs.", "seed": 7, "guidance": guidance, "include": ["codes"]});
        house.json("/v1/generate-image", body).await.ok().json()
    };
    let (none, one, three) = (draw(json!(null)).await, draw(json!(1)).await, draw(json!(3)).await);
    assert_eq!(none["images"], one["images"]);
    assert!(one["sampling"].get("guidance").is_none());
    assert_eq!(three["sampling"]["guidance"], 3.0);
    assert_ne!(three["codes"], one["codes"]);
    assert_eq!(three["usage"], one["usage"]);
    assert_eq!(draw(json!(3)).await["images"], three["images"]);
    let body = json!({"text": "Clear lungs.", "guidance": 2, "constraint": "none"});
    let answer = house.json("/v1/generate-image", body).await;
    answer.refused(400, "invalid_parameter");
    assert_eq!(answer.json()["error"]["param"], "guidance");
    // Nothing else is drawn so.
    let body = json!({"instruction": "Write.", "guidance": 2});
    house.json("/v1/instruct", body).await.refused(400, "unknown_field");
}

#[tokio::test]
async fn a_bundles_own_guidance_is_left_out_where_both_prompts_would_never_fit() {
    let guided = |kv_tokens| Plan {
        card: ModelCard {
            guidance: 3.0,
            ..card()
        },
        facts: Facts { kv_tokens, ..facts() },
        ..Plan::default()
    };
    let body = |guidance: Value| json!({"text": "Clear lungs.", "seed": 7, "guidance": guidance});
    let house = House::ready(guided(facts().kv_tokens)).await;
    let answer = house.json("/v1/generate-image", body(json!(null))).await.ok().json();
    assert_eq!(answer["sampling"]["guidance"], 3.0);
    let prompt = answer["usage"]["prompt_tokens"].as_u64().expect("a number") as usize;
    // Room for one sequence and no second one.
    let house = House::ready(guided(prompt + CODES_PER_IMAGE + 4)).await;
    let answer = house.json("/v1/generate-image", body(json!(null))).await.ok().json();
    assert!(answer["sampling"].get("guidance").is_none());
    let asked = house.json("/v1/generate-image", body(json!(2))).await;
    asked.refused(400, "unacceptable");
    assert!(asked.text().contains("KV memory"));
}

#[tokio::test]
async fn an_image_is_sent_as_bytes_to_those_who_ask_for_it() {
    let house = House::plain().await;
    let ask = |accept: &str, body: Value| {
        let request = Request::post("/v1/generate-image")
            .header("accept", accept)
            .header("content-type", "application/json");
        house.send(request.body(Body::from(body.to_string())).expect("a request"))
    };
    let png = ask("image/png", json!({"text": "Clear.", "seed": 3})).await.ok();
    assert_eq!(
        (
            png.header("content-type"),
            png.header("x-synthetic"),
            png.header("x-seed")
        ),
        ("image/png", "true", "3")
    );
    assert!(png.bytes.starts_with(b"\x89PNG") && png.text().contains("Synthetic"));
    assert_eq!(png.header("x-disclaimer"), llm_cxr::RESEARCH_NOTICE);
    assert!(!png.headers.contains_key("x-warning"));
    let jpeg = ask("image/jpeg", json!({"text": "Clear."})).await.ok();
    assert!(jpeg.bytes.starts_with(b"\xff\xd8\xff"));
    ask("image/png", json!({"text": "Clear.", "n": 2}))
        .await
        .refused(400, "conflicting_fields");
    ask("image/png", json!({"text": "Clear.", "format": "jpeg"}))
        .await
        .refused(400, "conflicting_fields");
    for (accept, kind) in [
        ("image/*", "image/jpeg"),
        ("image/png, image/jpeg", "image/jpeg"),
        ("image/png, */*;q=0.1", "image/jpeg"),
        ("application/json, image/*;q=0.5", "application/json"),
    ] {
        let answer = ask(accept, json!({"text": "Clear.", "format": "jpeg"})).await.ok();
        assert_eq!(answer.header("content-type"), kind, "{accept}");
    }
    ask("image/*, image/jpeg;q=0", json!({"text": "Clear.", "format": "jpeg"}))
        .await
        .refused(400, "conflicting_fields");
    for refused in ["text/csv", "image/png;q=0"] {
        ask(refused, json!({"text": "Clear."}))
            .await
            .refused(406, "not_acceptable");
    }
    for (accept, kind) in [
        ("*/*", "application/json"),
        ("text/html, image/png;q=0.9, */*;q=0.8", "image/png"),
        ("application/json;q=0.1, image/jpeg", "image/jpeg"),
        ("image/*", "image/png"),
        ("image/png;q=0, image/*", "image/jpeg"),
    ] {
        let answer = ask(accept, json!({"text": "Clear."})).await.ok();
        assert_eq!(answer.header("content-type"), kind, "{accept}");
    }
}

#[tokio::test]
async fn an_instruction_may_bring_text_or_an_image() {
    let text = House::plain().await;
    let answer = text
        .json("/v1/instruct", json!({"instruction": "Say hello.", "input": ""}))
        .await
        .ok()
        .json();
    assert_eq!((&answer["text"], answer.get("image")), (&json!(REPORT), None));
    assert!(answer.get("drawing_note").is_none(), "{answer}");
    assert_eq!(answer["sampling"]["top_p"], 0.92);
    let vocabulary = vocabulary();
    let codes = (0..CODES_PER_IMAGE as u32).map(|c| vocabulary.code_base() + c);
    let ids = [vocabulary.open_image()]
        .into_iter()
        .chain(codes)
        .chain([vocabulary.close_image(), vocabulary.end()]);
    let drawing = House::ready(Plan {
        reply: Reply::Tokens(ids.collect()),
        ..Plan::default()
    })
    .await;
    let body = json!({"instruction": "Draw it.", "include": ["codes"], "format": "jpeg"});
    let answer = drawing.json("/v1/instruct", body).await.ok().json();
    assert_eq!(
        (&answer["text"], &answer["image"]["mime_type"]),
        (&json!(""), &json!("image/jpeg"))
    );
    assert!(answer.get("drawing_note").is_none(), "{answer}");
    assert_eq!(answer["codes"], json!((0..CODES_PER_IMAGE).collect::<Vec<_>>()));
}

#[tokio::test]
async fn an_instruction_that_brings_too_few_or_too_many_codes_has_no_image_and_says_why() {
    let vocabulary = vocabulary();
    for count in [1, CODES_PER_IMAGE - 1, CODES_PER_IMAGE + 1, 2 * CODES_PER_IMAGE] {
        let codes = (0..count as u32).map(|c| vocabulary.code_base() + c % CODES as u32);
        let ids = [vocabulary.open_image()]
            .into_iter()
            .chain(codes)
            .chain([vocabulary.close_image(), vocabulary.end()]);
        let house = House::ready(Plan {
            reply: Reply::Tokens(ids.collect()),
            ..Plan::default()
        })
        .await;
        let body = json!({"instruction": "Draw it.", "include": ["codes"]});
        let answer = house.json("/v1/instruct", body).await.ok().json();
        let told = format!("exactly {CODES_PER_IMAGE} codes, and the reply has {count}.");
        let note = answer["drawing_note"].as_str().unwrap_or_default();
        assert!(note.contains(&told), "{answer}");
        assert_eq!(
            (&answer["text"], &answer["finish_reason"]),
            (&json!(""), &json!("stop"))
        );
        assert!(
            answer.get("image").is_none() && answer.get("codes").is_none(),
            "{answer}"
        );
        // The last event of a stream is the same answer.
        let body = json!({"instruction": "Draw it.", "stream": true});
        let text = house.json("/v1/instruct", body).await.ok().text();
        let (name, data) = events(&text).pop().expect("events");
        let done: Value = serde_json::from_str(&data).expect("JSON");
        assert_eq!(
            (name.as_str(), &done["drawing_note"]),
            ("done", &answer["drawing_note"])
        );
    }
}

#[tokio::test]
async fn without_constraint_a_drawing_may_fail_and_says_so() {
    let house = House::plain().await;
    house
        .json("/v1/generate-image", json!({"text": "Clear.", "constraint": "none"}))
        .await
        .refused(422, "no_image");
}

#[tokio::test]
async fn a_default_length_is_shortened_to_the_context_and_a_wish_is_not() {
    let house = House::ready(Plan {
        reply: says(&"word ".repeat(600)),
        ..Plan::default()
    })
    .await;
    let long = house
        .json("/v1/instruct", json!({"instruction": "Go on."}))
        .await
        .ok()
        .json();
    assert_eq!(long["finish_reason"], "length");
    let total = long["usage"]["prompt_tokens"]
        .as_u64()
        .zip(long["usage"]["completion_tokens"].as_u64());
    assert_eq!(total.map(|(prompt, reply)| prompt + reply), Some(512));
    house
        .json("/v1/instruct", json!({"instruction": "Go on.", "max_tokens": 512}))
        .await
        .refused(400, "context_exceeded");
}

#[tokio::test]
async fn questions_of_a_form_or_a_query_are_repeated_or_one_list_in_json() {
    let house = House::plain().await;
    let image = png(16, 16);
    let asked = ["Is it?", "Are they, perhaps?"];
    let list = json!(asked).to_string();
    let sent = |questions: &[&str]| {
        let mut parts: Vec<(&str, Option<&str>, &[u8])> = vec![("image", Some("image/png"), image.as_slice())];
        parts.extend(questions.iter().map(|text| ("questions", None, text.as_bytes())));
        multipart(&parts)
    };
    let query = "/v1/vqa?questions=%5B%22Is+it%3F%22%2C%22Are+they%2C+perhaps%3F%22%5D";
    for answer in [
        house.post("/v1/vqa", &multipart_kind(), sent(&asked[..])).await,
        house
            .post("/v1/vqa", &multipart_kind(), sent(&[list.as_str()][..]))
            .await,
        house.post(query, "image/png", image.clone()).await,
    ] {
        let answers = answer.ok().json()["answers"].clone();
        let questions: Vec<&Value> = answers
            .as_array()
            .expect("a list")
            .iter()
            .map(|answer| &answer["question"])
            .collect();
        assert_eq!(questions, asked);
    }
    // One question that is no list of strings is a question.
    let answer = house
        .post("/v1/vqa", &multipart_kind(), sent(&["[sic]"][..]))
        .await
        .ok();
    assert_eq!(answer.json()["answers"][0]["question"], "[sic]");
}

#[tokio::test]
async fn json_may_begin_with_a_byte_order_mark_and_forms_may_write_flags_as_python_does() {
    let house = House::plain().await;
    let body = "\u{feff}{\"instruction\": \"Say hello.\"}";
    let answer = house.post("/v1/instruct", "application/json", body).await.ok();
    assert_eq!(answer.json()["text"], REPORT);
    let image = png(16, 16);
    for (flag, kind) in [("True", "text/event-stream"), ("FALSE", "application/json")] {
        let parts: &[(&str, Option<&str>, &[u8])] =
            &[("image", Some("image/png"), &image), ("stream", None, flag.as_bytes())];
        let form = house.post("/v1/report", &multipart_kind(), multipart(parts)).await.ok();
        let query = format!("/v1/report?stream={flag}");
        let raw = house.post(&query, "image/png", image.clone()).await.ok();
        for answer in [form, raw] {
            assert!(answer.header("content-type").starts_with(kind), "{flag}");
        }
    }
}
