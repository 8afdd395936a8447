//! What the log tells of a request: its ids and where it comes from with whatever went wrong, which key let it in, and probes only where they are looked for.

use axum::body::Body;
use axum::http::Request;
use llm_cxr::config::hash_key;
use serde_json::{Value, json};

use crate::house::*;

/// A request that calls itself `id`, with more headers.
fn named(id: &str, path: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::get(path).header("x-request-id", id);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::empty()).expect("a request")
}

/// The one line that the access log has of the request.
fn access(id: &str) -> Value {
    let mut lines = accesses(id);
    let line = lines.pop().expect("a line");
    assert!(lines.is_empty(), "{id} is told more than once");
    line
}

#[tokio::test]
async fn what_goes_wrong_in_a_request_is_logged_under_its_id_and_its_own_line_says_the_id_once() {
    const ID: &str = "no-worker-for-it";
    logged();
    let house = House::ready(Plan {
        dicom_worker: "/no/such/program".into(),
        ..Plan::default()
    })
    .await;
    let request = Request::post("/v1/report")
        .header("content-type", "application/dicom")
        .header("x-request-id", ID);
    let file = [&[0; 128][..], &b"DICM"[..], &[0; 64][..]].concat();
    let answer = house.send(request.body(Body::from(file)).expect("a request")).await;
    answer.refused(500, "internal_error");
    let within: Vec<Value> = log_lines()
        .into_iter()
        .filter(|line| line["span"]["request_id"] == ID)
        .collect();
    assert!(
        within
            .iter()
            .any(|line| line["level"] == "ERROR" && line["target"] != "llm_cxr::access"),
        "nothing is known of it: {within:?}"
    );
    let line = access(ID);
    assert_eq!(line["fields"]["error"], "internal_error");
    assert_eq!(line.get("span"), None, "{line}");
}

#[tokio::test]
async fn the_line_of_a_request_names_its_key_by_the_first_digits_of_the_hash_and_by_nothing_else() {
    logged();
    let mut plan = Plan::default();
    plan.config.api_key_hash = ["open-sesame-7391", "another-sesame-7391"]
        .iter()
        .map(|key| hash_key(key).parse().expect("a hash"))
        .collect();
    let house = House::ready(plan).await;
    let bearer = [("authorization", "Bearer open-sesame-7391")];
    house.send(named("with-a-key", "/v1/models", &bearer)).await.ok();
    assert_eq!(
        access("with-a-key")["fields"]["key"].as_str(),
        Some(&hash_key("open-sesame-7391")[..8])
    );
    house.send(named("on-an-open-path", "/docs", &bearer)).await.ok();
    let wrong = [("authorization", "Bearer close-sesame-7391")];
    house
        .send(named("with-a-wrong-key", "/v1/models", &wrong))
        .await
        .refused(401, "invalid_api_key");
    house
        .send(named("without-a-key", "/v1/models", &[]))
        .await
        .refused(401, "missing_api_key");
    for id in ["on-an-open-path", "with-a-wrong-key", "without-a-key"] {
        assert_eq!(access(id)["fields"].get("key"), None, "{id}");
    }
    let log = logged();
    let log = log.lock().expect("not poisoned").clone();
    assert!(
        !String::from_utf8_lossy(&log).contains("sesame-7391"),
        "a key is logged"
    );
}

#[tokio::test]
async fn a_server_without_keys_names_none() {
    logged();
    let house = House::plain().await;
    let bearer = [("authorization", "Bearer sk-anything")];
    house.send(named("needs-no-key", "/v1/models", &bearer)).await.ok();
    assert_eq!(access("needs-no-key")["fields"].get("key"), None);
}

#[tokio::test]
async fn probes_and_scrapes_that_go_well_are_told_only_where_details_are_asked_for() {
    logged();
    let house = House::plain().await;
    for (id, path, level) in [
        ("probe-of-life", "/livez", "DEBUG"),
        ("probe-of-readiness", "/readyz", "DEBUG"),
        ("scrape", "/metrics", "DEBUG"),
        ("facts", "/v1/info", "INFO"),
    ] {
        house.send(named(id, path, &[])).await.ok();
        assert_eq!(access(id)["level"], level, "{path}");
    }
    house.state.life.drain();
    house
        .send(named("probe-in-vain", "/readyz", &[]))
        .await
        .refused(503, "shutting_down");
    assert_eq!(access("probe-in-vain")["level"], "INFO");
}

/// What the access log has, of what it has about where a request comes from, of one over a connection that says whom it speaks for.
async fn told_of_its_origin(id: &str, trusted: &[&str]) -> [Value; 2] {
    let mut plan = Plan::default();
    plan.config.trusted_proxy = trusted.iter().map(|net| net.parse().expect("a network")).collect();
    let house = House::ready(plan).await;
    let served = house.serve().await;
    let request = reqwest::Client::new()
        .get(served.url("/v1/info"))
        .header("x-request-id", id)
        .header("x-forwarded-for", "192.0.2.1, 203.0.113.9, 127.0.0.7");
    let answer = soon(request.send()).await.expect("answered");
    assert_eq!(answer.headers()["x-request-id"], id);
    soon(answer.bytes()).await.expect("a body");
    // The line is written once the last byte has been handed over.
    soon(async {
        while accesses(id).is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await
        }
    })
    .await;
    let fields = &access(id)["fields"];
    ["peer", "forwarded_for"].map(|name| fields[name].clone())
}

#[tokio::test]
async fn the_line_of_a_request_names_its_peer_and_whom_a_trusted_proxy_speaks_for() {
    logged();
    let trusted = told_of_its_origin("through-a-trusted-proxy", &["10.0.0.0/8", "127.0.0.0/8"]).await;
    assert_eq!(trusted, ["127.0.0.1", "203.0.113.9"]);
    let unknown = told_of_its_origin("through-who-knows-what", &["10.0.0.0/8"]).await;
    assert_eq!(unknown, [Value::from("127.0.0.1"), Value::Null]);
}

/// What a line tells of the work on a request.
const WORK: [&str; 5] = [
    "preprocess_ms",
    "queue_ms",
    "first_token_ms",
    "prompt_tokens",
    "generated_tokens",
];

#[tokio::test]
async fn the_line_of_a_request_tells_where_its_time_went_how_much_it_was_and_whose_trace_it_is_of() {
    const ID: &str = "where-the-time-went";
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    logged();
    let house = House::plain().await;
    let body = json!({"image": base64(&png(16, 16))}).to_string();
    let request = Request::post("/v1/report")
        .header("content-type", "application/json")
        .header("content-length", body.len())
        .header("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-01"))
        .header("x-request-id", ID);
    let length = body.len();
    let answer = house.send(request.body(Body::from(body)).expect("a request")).await;
    let usage = answer.ok().json()["usage"].clone();
    let fields = &access(ID)["fields"];
    assert_eq!(fields["trace_id"], TRACE);
    assert_eq!(fields["request_bytes"], length);
    assert_eq!(fields["prompt_tokens"], usage["prompt_tokens"]);
    assert_eq!(fields["generated_tokens"], usage["completion_tokens"]);
    let [preprocess, queue, first, whole] = ["preprocess_ms", "queue_ms", "first_token_ms", "latency_ms"].map(|name| {
        let value = fields[name].as_f64().unwrap_or_else(|| panic!("{name} in {fields}"));
        assert!(
            (value * 10.0 - (value * 10.0).round()).abs() < 1e-6,
            "{name} is {value}"
        );
        value
    });
    // Each may be rounded by half a tenth.
    assert!(preprocess <= first + 0.1 && first <= whole + 0.1, "{fields}");
    assert!(queue <= whole + 0.1, "{fields}");
}

#[tokio::test]
async fn the_line_of_a_request_that_was_refused_or_asked_for_no_work_tells_of_no_more_than_was_done() {
    logged();
    let house = House::plain().await;
    house.send(named("no-work", "/v1/info", &[])).await.ok();
    let request = Request::post("/v1/report")
        .header("content-type", "image/png")
        .header("traceparent", "Doe, John")
        .header("x-request-id", "no-image");
    let cut = png(16, 16)[..60].to_vec();
    let answer = house.send(request.body(Body::from(cut)).expect("a request")).await;
    answer.refused(400, "corrupt_image");
    let told = |id: &str| {
        let line = access(id);
        WORK.map(|name| line["fields"].get(name).is_some())
    };
    assert_eq!(told("no-work"), [false; 5]);
    assert_eq!(told("no-image"), [true, false, false, false, false]);
    for name in ["trace_id", "request_bytes"] {
        assert_eq!(access("no-image")["fields"].get(name), None);
    }
}

#[tokio::test]
async fn a_request_that_names_itself_has_an_id_of_the_servers_too_in_the_log() {
    const ID: &str = "one-name-for-two";
    logged();
    let house = House::plain().await;
    for _ in 0..2 {
        let answer = house.send(named(ID, "/v1/nothing", &[])).await;
        answer.refused(404, "not_found");
        assert_eq!(answer.header("x-request-id"), ID);
    }
    let lines = accesses(ID);
    let ids: Vec<&str> = lines
        .iter()
        .filter_map(|line| line["fields"]["server_id"].as_str())
        .collect();
    assert!(
        ids.len() == 2 && ids[0] != ids[1] && ids.iter().all(|id| id.len() == 36),
        "{ids:?}"
    );
    let made = house.get("/v1/info").await.ok();
    assert_eq!(access(made.header("x-request-id"))["fields"].get("server_id"), None);
}
