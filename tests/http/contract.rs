//! The contract: the committed file, what is served, and what is really answered are the same.

use std::collections::BTreeSet;

use llm_cxr::http::{ErrorCode, contract};
use serde_json::{Value, json};

use crate::house::*;

fn document() -> Value {
    serde_json::to_value(contract::document()).expect("a document")
}

/// Holds `value` against a schema of the contract.
#[track_caller]
fn fits(schema: &str, value: &Value) {
    let contract = document();
    let root = json!({"$ref": format!("#/components/schemas/{schema}"), "components": contract["components"]});
    let validator = jsonschema::draft202012::new(&root).expect("a schema");
    let errors: Vec<String> = validator
        .iter_errors(value)
        .map(|e| format!("{}: {e}", e.instance_path()))
        .collect();
    assert!(errors.is_empty(), "not a {schema}: {errors:?}\n{value}");
}

#[tokio::test]
async fn the_committed_contract_is_what_the_code_serves() {
    let committed =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.yaml")).expect("openapi.yaml");
    assert!(
        committed == contract::yaml(),
        "openapi.yaml is not what the code says; `make openapi` writes it"
    );
    let served = House::plain().await.get("/openapi.yaml").await.ok();
    assert_eq!(served.text(), committed);
}

#[tokio::test]
async fn every_answer_fits_its_schema() {
    let house = House::plain().await;
    let image = base64(&png(20, 16));
    let most = json!(["token_ids", "codes"]);
    let all = json!(["token_ids", "codes", "probabilities"]);
    let messages = json!([{"role": "user", "content": "Say hello."}]);
    for (schema, path, body) in [
        ("ReportResponse", "/v1/report", json!({"image": image})),
        ("ReportResponse", "/v1/report", json!({"image": image, "include": most})),
        ("VqaResponse", "/v1/vqa", json!({"image": image, "question": "Is it?"})),
        (
            "VqaResponse",
            "/v1/vqa",
            json!({"image": image, "questions": ["Is it?", "Are they?"], "include": all}),
        ),
        (
            "GenerateImageResponse",
            "/v1/generate-image",
            json!({"text": "Clear.", "n": 2, "include": most}),
        ),
        (
            "InstructResponse",
            "/v1/instruct",
            json!({"instruction": "Say hello.", "include": most}),
        ),
        (
            "ChatCompletion",
            "/v1/chat/completions",
            json!({"model": "scripted", "messages": messages}),
        ),
        ("ImagesResponse", "/v1/images/generations", json!({"prompt": "Clear."})),
    ] {
        fits(schema, &house.json(path, body).await.ok().json());
    }
    for (schema, path) in [
        ("ModelList", "/v1/models"),
        ("ModelObject", "/v1/models/scripted"),
        ("Info", "/v1/info"),
        ("Status", "/livez"),
        ("Status", "/readyz"),
    ] {
        fits(schema, &house.get(path).await.ok().json());
    }
    for answer in [
        house.get("/nowhere").await,
        house.get("/v1/vqa").await,
        house.json("/v1/vqa", json!({})).await,
    ] {
        fits("ErrorBody", &answer.json());
    }
}

#[tokio::test]
async fn every_event_of_a_stream_fits_its_schema() {
    let house = House::plain().await;
    let image = base64(&png(16, 16));
    for (path, body, whole) in [
        ("/v1/report", json!({"image": image, "stream": true}), "ReportResponse"),
        (
            "/v1/vqa",
            json!({"image": image, "question": "Is it?", "stream": true}),
            "VqaResponse",
        ),
        (
            "/v1/generate-image",
            json!({"text": "Clear.", "stream": true}),
            "GenerateImageResponse",
        ),
        (
            "/v1/instruct",
            json!({"instruction": "Say hello.", "stream": true}),
            "InstructResponse",
        ),
    ] {
        for (name, data) in events(&house.json(path, body).await.ok().text()) {
            let schema = match name.as_str() {
                "delta" => "DeltaEvent",
                "progress" => "ProgressEvent",
                "done" => whole,
                other => panic!("{path} sent {other}"),
            };
            fits(schema, &serde_json::from_str(&data).expect("JSON"));
        }
    }
    let body = json!({"model": "scripted", "messages": [{"role": "user", "content": "Hi."}], "stream": true, "stream_options": {"include_usage": true}});
    for (_, data) in events(&house.json("/v1/chat/completions", body).await.ok().text()) {
        if data != "[DONE]" {
            fits("ChatChunk", &serde_json::from_str(&data).expect("JSON"));
        }
    }
}

/// The fields that a path says it takes when it is sent one that it does not know beside those of `body`.
async fn taken(house: &House, path: &str, mut body: Value) -> BTreeSet<String> {
    body["no_such_field"] = json!(1);
    let answer = house.json(path, body).await;
    answer.refused(400, "unknown_field");
    let error = answer.json()["error"].clone();
    let message = error["message"].as_str().unwrap_or_default();
    let names = message
        .split_once("it takes: ")
        .map(|(_, names)| names.trim_end_matches('.'));
    names.unwrap_or_default().split(", ").map(str::to_owned).collect()
}

/// The fields of a schema of the contract.
fn described(schema: &str) -> BTreeSet<String> {
    let contract = document();
    let properties = contract["components"]["schemas"][schema]["properties"].as_object();
    properties.expect("properties").keys().cloned().collect()
}

#[tokio::test]
async fn requests_take_exactly_the_fields_of_their_schemas() {
    let house = House::plain().await;
    let image = base64(&png(16, 16));
    for (schema, path, body) in [
        ("ReportRequest", "/v1/report", json!({"image": image})),
        ("VqaRequest", "/v1/vqa", json!({"image": image, "question": "Is it?"})),
        ("GenerateImageRequest", "/v1/generate-image", json!({"text": "Clear."})),
        ("InstructRequest", "/v1/instruct", json!({"instruction": "Say hello."})),
    ] {
        assert_eq!(taken(&house, path, body).await, described(schema), "{path}");
    }
}

#[tokio::test]
async fn requests_in_the_openai_way_take_the_fields_of_their_schemas_and_what_clients_send_besides() {
    /// What changes nothing, and what is refused where it asks for something.
    const CHAT: &[&str] = &[
        "user",
        "store",
        "metadata",
        "service_tier",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "prediction",
        "safety_identifier",
        "parallel_tool_calls",
        "reasoning_effort",
        "verbosity",
        "tools",
        "tool_choice",
        "functions",
        "function_call",
        "response_format",
        "logprobs",
        "top_logprobs",
        "frequency_penalty",
        "presence_penalty",
        "logit_bias",
        "modalities",
        "audio",
        "moderation",
        "web_search_options",
    ];
    const IMAGES: &[&str] = &[
        "quality",
        "complexity",
        "style",
        "background",
        "moderation",
        "user",
        "output_compression",
        "partial_images",
        "frame_count",
        "frame_duration_ms",
        "svg",
        "safety_identifier",
        "stream",
    ];
    let house = House::plain().await;
    let messages = json!([{"role": "user", "content": "Say hello."}]);
    for (schema, path, body, besides) in [
        (
            "ChatRequest",
            "/v1/chat/completions",
            json!({"model": "scripted", "messages": messages}),
            CHAT,
        ),
        (
            "ImagesRequest",
            "/v1/images/generations",
            json!({"prompt": "Clear."}),
            IMAGES,
        ),
    ] {
        let (taken, described) = (taken(&house, path, body).await, described(schema));
        assert!(
            described.is_subset(&taken),
            "{path}: not all of {described:?} in {taken:?}"
        );
        let rest: BTreeSet<&str> = taken.difference(&described).map(String::as_str).collect();
        assert_eq!(rest, besides.iter().copied().collect(), "{path}");
    }
}

#[tokio::test]
async fn every_path_of_the_contract_is_served() {
    let house = House::plain().await;
    for (path, methods) in document()["paths"].as_object().expect("paths") {
        for method in methods.as_object().expect("methods").keys() {
            let path = path.replace("{id}", "scripted");
            let answer = match method.as_str() {
                "get" => house.get(&path).await,
                _ => house.json(&path, json!({})).await,
            };
            assert!(
                ![404, 405].contains(&answer.status.as_u16()),
                "{method} {path}: {}",
                answer.text()
            );
        }
    }
}

#[test]
fn the_table_of_errors_is_the_one_in_the_documentation() {
    let file = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/errors.md")).expect("docs/errors.md");
    let row = |line: &str| -> Option<(String, String, String)> {
        let mut cells = line
            .strip_prefix("| `")?
            .split('|')
            .map(|cell| cell.trim().trim_matches('`').to_owned());
        Some((cells.next()?, cells.next()?, cells.next()?))
    };
    let documented: Vec<_> = file.lines().filter_map(row).collect();
    let coded = ErrorCode::ALL.iter().map(|code| {
        (
            code.as_str().to_owned(),
            code.status().as_u16().to_string(),
            code.kind().as_str().to_owned(),
        )
    });
    assert_eq!(documented, coded.collect::<Vec<_>>());
}

#[test]
fn the_ranges_of_the_contract_are_those_that_the_service_holds() {
    let schemas = document()["components"]["schemas"].clone();
    let limits = llm_cxr::service::Limits::default();
    for request in ["GenerateImageRequest", "ChatRequest", "ImagesRequest"] {
        assert_eq!(
            schemas[request]["properties"]["n"]["maximum"],
            json!(limits.images),
            "{request}"
        );
    }
    let questions = &schemas["VqaRequest"]["properties"]["questions"];
    assert_eq!(questions["maxItems"], json!(limits.questions));
    let readings = &schemas["ReportRequest"]["properties"]["readings"]["maximum"];
    assert_eq!(*readings, json!(llm_cxr::model::bundle::READINGS.end()));
    let seed = &schemas["ReportRequest"]["properties"]["seed"]["maximum"];
    assert_eq!(*seed, json!(llm_cxr::service::SEED_END - 1));
    let guidance = &schemas["GenerateImageRequest"]["properties"]["guidance"];
    let range = llm_cxr::model::bundle::GUIDANCE;
    let ends = [&guidance["minimum"], &guidance["maximum"]].map(|end| end.as_f64().map(|end| end as f32));
    assert_eq!(ends, [Some(*range.start()), Some(*range.end())]);
    // What ends a reply is described in words.
    let stop = schemas["ChatRequest"]["properties"]["stop"].to_string();
    let (most, bytes) = (limits.stops, format!("at most {} bytes", limits.stop_bytes));
    assert!(
        most == 4 && stop.contains("up to four texts") && stop.contains(&bytes),
        "{most}, {stop}"
    );
    assert!(schemas["Stop"].to_string().contains("Up to four."));
}

/// A request's body that is taken, with its path, for each schema of a request.
fn taken_bodies() -> [(&'static str, &'static str, Value); 6] {
    let image = base64(&png(16, 16));
    let messages = json!([{"role": "user", "content": "Say hello."}]);
    [
        ("ReportRequest", "/v1/report", json!({"image": image})),
        ("VqaRequest", "/v1/vqa", json!({"image": image, "question": "Is it?"})),
        ("GenerateImageRequest", "/v1/generate-image", json!({"text": "Clear."})),
        ("InstructRequest", "/v1/instruct", json!({"instruction": "Say hello."})),
        (
            "ChatRequest",
            "/v1/chat/completions",
            json!({"model": "scripted", "messages": messages}),
        ),
        ("ImagesRequest", "/v1/images/generations", json!({"prompt": "Clear."})),
    ]
}

#[tokio::test]
async fn the_words_of_the_contract_are_those_that_are_taken_and_no_others() {
    let house = House::plain().await;
    let contract = document();
    let mut listed = BTreeSet::new();
    for (schema, path, body) in taken_bodies() {
        let fields = &contract["components"]["schemas"][schema]["properties"];
        for (name, field) in fields.as_object().expect("properties") {
            let of_list = field["items"]["enum"].as_array();
            let Some(words) = of_list.or(field["enum"].as_array()) else {
                continue;
            };
            listed.insert(name.as_str());
            let send = |word: Value| {
                let mut body = body.clone();
                body[name] = if of_list.is_some() { json!([word]) } else { word };
                house.json(path, body)
            };
            for word in words {
                let answer = send(word.clone()).await;
                // A drawing without constraint may come to nothing.
                let sound = answer.status == 200 || answer.code() == "no_image";
                assert!(sound, "{path} {name}: {word} is refused: {}", answer.text());
            }
            let answer = send(json!("no such word")).await;
            answer.refused(400, "invalid_parameter");
            assert_eq!(answer.json()["error"]["param"], name.as_str());
        }
    }
    assert_eq!(
        listed,
        BTreeSet::from(["constraint", "format", "include", "output_format"])
    );
    let roles =
        &contract["components"]["schemas"]["ChatRequest"]["properties"]["messages"]["items"]["properties"]["role"];
    for role in roles["enum"].as_array().expect("roles") {
        let messages = json!([{"role": role, "content": "Hello."}, {"role": "user", "content": "Say hello."}]);
        house
            .json(
                "/v1/chat/completions",
                json!({"model": "scripted", "messages": messages}),
            )
            .await
            .ok();
    }
}

#[tokio::test]
async fn what_the_contract_says_must_not_be_empty_is_refused_when_it_is() {
    let house = House::plain().await;
    let contract = document();
    let mut filled = 0;
    for (schema, path, body) in taken_bodies() {
        let described = &contract["components"]["schemas"][schema];
        for (name, field) in described["properties"].as_object().expect("properties") {
            let of_list = &field["items"];
            let (least, empty) = match of_list["minLength"].is_null() {
                true => (&field["minLength"], json!("")),
                false => (&of_list["minLength"], json!([""])),
            };
            if least.is_null() {
                continue;
            }
            filled += 1;
            assert_eq!(*least, json!(1), "{schema} {name}");
            let mut body = body.clone();
            if name == "questions" {
                body["question"] = Value::Null;
            }
            body[name] = empty;
            let answer = house.json(path, body).await;
            assert_eq!(answer.status, 400, "{path} {name}: {}", answer.text());
            assert_eq!(answer.json()["error"]["param"], name.as_str());
        }
        // What must be there has no value of its own.
        for name in described["required"].as_array().expect("required fields") {
            let name = name.as_str().expect("a name");
            assert_eq!(described["properties"][name].get("default"), None, "{schema} {name}");
        }
    }
    assert_eq!(filled, 8);
}

#[test]
fn the_contract_tells_of_headers_that_come_with_errors_and_of_options_that_a_raw_image_alone_takes() {
    let paths = document()["paths"].clone();
    let report = &paths["/v1/report"]["post"];
    for (status, header) in [
        ("4XX", "allow"),
        ("4XX", "www-authenticate"),
        ("4XX", "retry-after"),
        ("5XX", "x-should-retry"),
        ("5XX", "retry-after"),
    ] {
        let described = &report["responses"][status]["headers"][header]["description"];
        assert!(described.is_string(), "{status} {header}");
    }
    for option in report["parameters"].as_array().expect("options") {
        let told = option["description"].as_str().unwrap_or_default();
        assert!(told.starts_with("Only where the body is the image itself."), "{option}");
    }
}
