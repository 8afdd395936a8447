//! Probes, meters, facts, keys and request ids.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Request;
use llm_cxr::config::hash_key;
use llm_cxr::engine::BackendError;
use llm_cxr::engine::scripted::Fault;
use llm_cxr::http::ErrorCode;
use llm_cxr::service::{Limits, ModelCard};
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::house::*;

#[tokio::test]
async fn a_server_that_loads_lives_and_is_not_ready() {
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let house = House::open(Plan::default(), move |backend| {
        let _ = gone.recv();
        Ok(backend)
    });
    house.get("/livez").await.ok();
    let answer = house.get("/readyz").await;
    answer.refused(503, "loading");
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(house.get("/v1/info").await.ok().json()["state"], "loading");
    house
        .json("/v1/instruct", json!({"instruction": "Say hello."}))
        .await
        .refused(503, "loading");
    drop(go);
    house.state.assistant.engine().ready().await.expect("it loads");
    house.get("/readyz").await.ok();
}

#[tokio::test]
async fn a_model_that_cannot_be_loaded_is_never_ready_and_ends_the_server() {
    let house = House::open(Plan::default(), |_| Err(BackendError("no such weights".to_owned())));
    let ending = house.serve().await.ending().await;
    assert!(
        matches!(&ending, llm_cxr::http::port::server::Ending::EngineStopped(why) if why.contains("no such weights"))
    );
    house.get("/readyz").await.refused(503, "shutting_down");
}

#[tokio::test]
async fn a_device_that_fails_its_health_check_is_not_ready() {
    let house = House::plain().await;
    house.controls.fail_always(Some(Fault::Error));
    house.get("/readyz").await.refused(503, "stalled");
    house.get("/livez").await.ok();
    house.controls.fail_always(None);
    house.get("/readyz").await.ok();
}

#[tokio::test]
async fn a_server_in_the_middle_of_a_long_step_stays_ready() {
    let house = House::plain().await;
    house.controls.pause();
    house.get("/readyz").await.ok();
    house.controls.resume();
    assert_eq!(house.state.assistant.engine().health().await, Ok(()));
}

#[tokio::test]
async fn facts_are_told() {
    let info = House::plain().await.get("/v1/info").await.ok().json();
    assert_eq!(
        (&info["state"], &info["model"]["device"], &info["model"]["context"]),
        (&json!("ready"), &json!("scripted"), &json!(512))
    );
    assert_eq!(info["disclaimer"], llm_cxr::RESEARCH_NOTICE);
    assert_eq!(info["model"]["manifest_sha256"], card().manifest_sha256);
    assert_eq!(info.get("commit").and_then(Value::as_str), llm_cxr::COMMIT);
}

#[tokio::test]
async fn the_facts_tell_the_limits_and_defaults_that_hold_here() {
    let mut plan = Plan {
        card: ModelCard {
            temperature: 0.8,
            top_p: 0.9,
            guidance: 2.5,
            report_max_tokens: 11,
            vqa_max_tokens: 12,
            instruct_max_tokens: 13,
            ..card()
        },
        limits: Limits {
            text_bytes: 5000,
            questions: 3,
            images: 2,
            stops: 1,
            stop_bytes: 20,
        },
        ..Plan::default()
    };
    plan.config.max_body_bytes = 70_000;
    plan.config.max_image_pixels = 90_000;
    plan.config.request_timeout = Duration::from_millis(2500);
    let house = House::ready(plan).await;
    let info = house.get("/v1/info").await.ok().json();
    assert_eq!(
        info["limits"],
        json!({
            "body_bytes": 70_000,
            "image_pixels": 90_000,
            "image_side": 16_384,
            "text_bytes": 5000,
            "questions": 3,
            "readings": 16,
            "images": 2,
            "messages": 256,
            "stops": 1,
            "stop_bytes": 20,
            "request_seconds": 2.5,
        })
    );
    assert_eq!(
        info["model"]["defaults"],
        json!({
            "temperature": 0.8,
            "top_p": 0.9,
            "guidance": 2.5,
            "report_max_tokens": 11,
            "vqa_max_tokens": 12,
            "instruct_max_tokens": 13,
        })
    );
    // Few pixels in all, and more on a side than is told.
    let wide = house.post("/v1/report", "image/png", png(16_385, 1)).await;
    wide.refused(413, "image_too_large");
    for stop in [json!("x".repeat(21)), json!(["x", "y"])] {
        let messages = json!([{"role": "user", "content": "Say hello."}]);
        let body = json!({"model": "scripted", "messages": messages, "stop": stop});
        let answer = house.json("/v1/chat/completions", body).await;
        answer.refused(400, "invalid_parameter");
    }
    house.state.life.drain();
    assert_eq!(house.get("/v1/info").await.ok().json()["state"], "draining");
}

#[tokio::test]
async fn a_request_is_counted_once_and_with_no_more_time_than_it_took() {
    let house = House::plain().await;
    // A recorder of this thread alone: it serves this test's requests, and those of other tests are counted elsewhere.
    let recorder = PrometheusBuilder::new().build_recorder();
    let recording = metrics::set_default_local_recorder(&recorder);
    let begun = Instant::now();
    house
        .json("/v1/instruct", json!({"instruction": "Say hello."}))
        .await
        .ok();
    house.json("/v1/vqa", json!({})).await.refused(400, "missing_field");
    let took = begun.elapsed().as_secs_f64();
    drop(recording);
    let text = recorder.handle().render();
    let mut counted: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("llm_cxr_http_requests_total{") || line.starts_with("llm_cxr_errors_total{"))
        .collect();
    counted.sort_unstable();
    assert_eq!(
        counted,
        [
            "llm_cxr_errors_total{code=\"missing_field\"} 1",
            "llm_cxr_http_requests_total{route=\"/v1/instruct\",method=\"POST\",status=\"200\"} 1",
            "llm_cxr_http_requests_total{route=\"/v1/vqa\",method=\"POST\",status=\"400\"} 1",
        ]
    );
    let value = |meter: &str, route: &str| -> f64 {
        let name = format!("llm_cxr_http_request_seconds_{meter}{{route=\"{route}\"}} ");
        let told = text.lines().find_map(|line| line.strip_prefix(name.as_str()));
        told.and_then(|value| value.parse().ok())
            .unwrap_or_else(|| panic!("{name}is not in:\n{text}"))
    };
    let seconds = ["/v1/instruct", "/v1/vqa"].map(|route| {
        assert_eq!(value("count", route), 1.0);
        value("sum", route)
    });
    assert!(
        seconds.iter().all(|spent| *spent > 0.0) && seconds.iter().sum::<f64>() <= took,
        "{seconds:?} of {took}"
    );
}

#[tokio::test]
async fn meters_count_requests_errors_and_the_engines_work() {
    let house = House::plain().await;
    house
        .json("/v1/instruct", json!({"instruction": "Say hello."}))
        .await
        .ok();
    house.json("/v1/vqa", json!({})).await.refused(400, "missing_field");
    let text = house.get("/metrics").await.ok().text();
    for meter in [
        "llm_cxr_http_requests_total{route=\"/v1/instruct\",method=\"POST\",status=\"200\"}",
        "llm_cxr_http_request_seconds_bucket{route=\"/v1/instruct\"",
        "llm_cxr_errors_total{code=\"missing_field\"}",
        "llm_cxr_queue_jobs",
        "llm_cxr_batch_size",
        "llm_cxr_generated_tokens_total",
        "llm_cxr_time_to_first_token_seconds",
        "llm_cxr_time_per_token_seconds",
        "llm_cxr_kv_tokens_used",
    ] {
        assert!(text.contains(meter), "{meter} is not in:\n{text}");
    }
}

#[tokio::test]
async fn the_meter_of_readiness_says_what_the_probe_says() {
    async fn both(house: &House) -> (u16, bool, bool) {
        let text = house.get("/metrics").await.ok().text();
        let tells = |value: &str| text.lines().any(|line| line == format!("llm_cxr_ready {value}"));
        (house.get("/readyz").await.status.as_u16(), tells("1"), tells("0"))
    }
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let house = House::open(Plan::default(), move |backend| {
        let _ = gone.recv();
        Ok(backend)
    });
    assert_eq!(both(&house).await, (503, false, true), "while the model loads");
    drop(go);
    house.state.assistant.engine().ready().await.expect("it loads");
    house.controls.fail_always(Some(Fault::Error));
    // The meter does not wait long for a device, and on a busy machine this one may be slow to say that it fails.
    soon(async {
        while both(&house).await != (503, false, true) {
            tokio::time::sleep(Duration::from_millis(2)).await
        }
    })
    .await;
    house.controls.fail_always(None);
    assert_eq!(both(&house).await, (200, true, false), "when all is well");
    house.state.life.drain();
    assert_eq!(both(&house).await, (503, false, true), "while it drains");
    let house = House::plain().await;
    house.controls.pause();
    assert_eq!(both(&house).await, (200, true, false), "in the middle of a long step");
    house.controls.resume();
}

#[tokio::test]
async fn open_connections_are_counted_beside_how_many_there_may_be() {
    // A recorder of this thread alone, on which this test's connections are served.
    let recorder = PrometheusBuilder::new().build_recorder();
    let recording = metrics::set_default_local_recorder(&recorder);
    let mut plan = Plan::default();
    plan.config.max_connections = 7;
    let house = House::ready(plan).await;
    let served = house.serve().await;
    let value = |meter: &str| -> Option<f64> {
        let (text, name) = (recorder.handle().render(), format!("{meter} "));
        let told = text.lines().find_map(|line| line.strip_prefix(name.as_str()));
        told.and_then(|value| value.parse().ok())
    };
    let until = async |open: f64| {
        while value("llm_cxr_connections_open") != Some(open) {
            tokio::time::sleep(Duration::from_millis(2)).await
        }
    };
    let held = [
        TcpStream::connect(served.address).await.expect("a place"),
        TcpStream::connect(served.address).await.expect("a place"),
    ];
    soon(until(2.0)).await;
    assert_eq!(value("llm_cxr_connections_capacity"), Some(7.0));
    drop(held);
    soon(until(0.0)).await;
    drop(recording);
}

#[tokio::test]
async fn the_operations_page_lists_exactly_the_metrics_that_there_are() {
    let house = House::plain().await;
    let image = base64(&png(16, 16));
    house.json("/v1/report", json!({"image": image})).await.ok();
    house.json("/v1/vqa", json!({})).await.refused(400, "missing_field");
    let text = house.get("/metrics").await.ok().text();
    let types = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let told: BTreeMap<&str, &str> = types.collect();
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md")).expect("the page");
    let mut listed = BTreeMap::new();
    // Only Linux tells of its processes.
    let holds =
        |row: &&str| row.starts_with("| `llm_cxr_") || (cfg!(target_os = "linux") && row.starts_with("| `process_"));
    for row in page.lines().filter(holds) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let names = cells[1].split(',').map(|name| name.trim().trim_matches('`'));
        listed.extend(names.map(|name| (name, cells[2])));
    }
    assert_eq!(listed, told);
}

#[tokio::test]
async fn the_meters_tell_what_runs_what_it_takes_and_every_code_of_an_error_from_the_start() {
    let text = House::plain().await.get("/metrics").await.ok().text();
    let labels = format!(
        "version=\"{}\",commit=\"{}\",model=\"scripted\",revision=\"1\",manifest_sha256=\"{}\"",
        env!("CARGO_PKG_VERSION"),
        llm_cxr::COMMIT.unwrap_or("unknown"),
        card().manifest_sha256
    );
    let built = format!("llm_cxr_build_info{{{labels}}} 1");
    assert!(text.lines().any(|line| line == built), "{built} is not in:\n{text}");
    for code in ErrorCode::ALL {
        let meter = format!("llm_cxr_errors_total{{code=\"{}\"}} ", code.as_str());
        assert!(text.contains(&meter), "{meter} is not in:\n{text}");
    }
    if cfg!(target_os = "linux") {
        for (meter, least) in [
            ("process_start_time_seconds ", 1e9),
            ("process_resident_memory_bytes ", 1e6),
            ("process_open_fds ", 1.0),
        ] {
            let value = text.lines().find_map(|line| line.strip_prefix(meter));
            let value: f64 = value.and_then(|value| value.parse().ok()).expect(meter);
            assert!(value >= least, "{meter}{value}");
        }
    }
}

fn keyed(key: &str) -> Plan {
    let mut plan = Plan::default();
    plan.config.api_key_hash = vec![hash_key(key).parse().expect("a hash")];
    plan
}

#[tokio::test]
async fn keys_are_asked_for_where_they_are_configured() {
    let house = House::ready(keyed("sesame")).await;
    let ask = |path: &str, key: &str| {
        house.send(
            Request::get(path)
                .header("authorization", key)
                .body(Body::empty())
                .expect("a request"),
        )
    };
    let answer = house.get("/v1/models").await;
    answer.refused(401, "missing_api_key");
    assert_eq!(answer.header("www-authenticate"), "Bearer");
    ask("/v1/models", "Bearer sesam").await.refused(401, "invalid_api_key");
    ask("/v1/models", "Basic sesame").await.refused(401, "missing_api_key");
    ask("/v1/models", "Bearer sesame").await.ok();
    ask("/v1/models", "bearer sesame").await.ok();
    ask("/v1/nothing", "Bearer sesam").await.refused(401, "invalid_api_key");
    for open in ["/livez", "/readyz", "/metrics", "/docs", "/openapi.yaml", "/"] {
        house.get(open).await.ok();
    }
    let mut plan = keyed("sesame");
    plan.config.metrics_need_key = true;
    House::ready(plan)
        .await
        .get("/metrics")
        .await
        .refused(401, "missing_api_key");
}

#[tokio::test]
async fn keys_follow_their_file_and_a_file_without_any_lets_nobody_in_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("keys");
    let write = |key: &str| std::fs::write(&file, hash_key(key)).expect("written");
    write("old-key");
    let mut plan = Plan::default();
    plan.config.api_keys_file = Some(file.clone());
    let house = House::ready(plan).await;
    let ask = async |key: &str| {
        let request = Request::get("/v1/models").header("authorization", format!("Bearer {key}"));
        house.send(request.body(Body::empty()).expect("a request")).await
    };
    let failed = async || {
        let meters = house.get("/metrics").await.ok().text();
        let told = |line: &str| line.strip_prefix("llm_cxr_api_keys_reload_failed ").map(str::to_owned);
        meters.lines().find_map(told)
    };
    ask("old-key").await.ok();
    ask("new-key").await.refused(401, "invalid_api_key");
    // As the server does, only more often.
    let reading = tokio::spawn(house.state.keys.clone().keep_fresh(Duration::from_millis(5)));
    write("new-key");
    let a_moment = || tokio::time::sleep(Duration::from_millis(2));
    soon(async {
        while ask("new-key").await.status != 200 {
            a_moment().await
        }
    })
    .await;
    ask("old-key").await.refused(401, "invalid_api_key");
    assert_eq!(failed().await.as_deref(), Some("0"));
    std::fs::write(&file, "").expect("written");
    soon(async {
        while failed().await.as_deref() != Some("1") {
            a_moment().await
        }
    })
    .await;
    ask("new-key").await.ok();
    house.get("/v1/models").await.refused(401, "missing_api_key");
    write("new-key");
    soon(async {
        while failed().await.as_deref() != Some("0") {
            a_moment().await
        }
    })
    .await;
    reading.abort();
}

#[tokio::test]
async fn request_ids_are_kept_if_plain_and_made_if_not() {
    let house = House::plain().await;
    let ask = |id: &str| {
        house.send(
            Request::get("/livez")
                .header("x-request-id", id)
                .body(Body::empty())
                .expect("a request"),
        )
    };
    assert_eq!(ask("ward-7.a").await.header("x-request-id"), "ward-7.a");
    for odd in ["a b", &"x".repeat(65), "<script>"] {
        let given = ask(odd).await.header("x-request-id").to_owned();
        assert!(given != odd && given.len() == 36, "{given}");
    }
}

/// Of these lines the status, whether the client left, and the route.
fn accounts(id: &str) -> Vec<(Value, Value, Value)> {
    let account = |line: &Value| ["status", "client_left", "route"].map(|name| line[name].clone()).into();
    accesses(id).iter().map(|line| account(&line["fields"])).collect()
}

/// Waits until so many requests are under way.
async fn under_way(house: &House, wanted: usize) {
    soon(async {
        while house.state.life.under_way() != wanted {
            tokio::time::sleep(Duration::from_millis(2)).await
        }
    })
    .await
}

#[tokio::test]
async fn a_client_that_leaves_before_its_answer_is_logged_and_counted() {
    logged();
    let house = House::plain().await;
    let served = house.serve().await;
    house.controls.pause();
    let body = r#"{"instruction": "Say hello."}"#;
    let request = format!(
        "POST /v1/instruct HTTP/1.1\r\nhost: a\r\nx-request-id: left-early\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut client = TcpStream::connect(served.address).await.expect("connected");
    client.write_all(request.as_bytes()).await.expect("written");
    under_way(&house, 1).await;
    drop(client);
    under_way(&house, 0).await;
    house.controls.resume();
    assert_eq!(
        accounts("left-early"),
        [(json!(499), json!(true), json!("/v1/instruct"))]
    );
    let text = house.get("/metrics").await.ok().text();
    let meter = "llm_cxr_http_requests_total{route=\"/v1/instruct\",method=\"POST\",status=\"499\"}";
    assert!(text.contains(meter), "{text}");
}

#[tokio::test]
async fn a_client_that_leaves_during_its_upload_is_logged_as_one_that_left() {
    logged();
    let house = House::plain().await;
    let served = house.serve().await;
    for (id, framing, some) in [
        ("left-in-length", "content-length: 1000", "some"),
        ("left-in-chunks", "transfer-encoding: chunked", "4\r\nsome\r\n"),
    ] {
        let mut client = TcpStream::connect(served.address).await.expect("connected");
        let request = format!(
            "POST /v1/report HTTP/1.1\r\nhost: a\r\nx-request-id: {id}\r\ncontent-type: image/png\r\n{framing}\r\n\r\n{some}"
        );
        client.write_all(request.as_bytes()).await.expect("written");
        under_way(&house, 1).await;
        drop(client);
        under_way(&house, 0).await;
        assert_eq!(accounts(id), [(json!(499), json!(true), json!("/v1/report"))]);
    }
}

#[tokio::test]
async fn a_body_of_broken_chunks_is_told_so_and_its_client_has_not_left() {
    logged();
    let house = House::plain().await;
    let served = house.serve().await;
    let mut client = TcpStream::connect(served.address).await.expect("connected");
    let request = "POST /v1/report HTTP/1.1\r\nhost: a\r\nx-request-id: broken-chunks\r\ncontent-type: image/png\r\n\
                   transfer-encoding: chunked\r\n\r\n4\r\nsome\r\nno number\r\n";
    client.write_all(request.as_bytes()).await.expect("written");
    let mut answer = Vec::new();
    // A reset after the last byte is an end, too.
    let _ = soon(client.read_to_end(&mut answer)).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(
        answer.starts_with("HTTP/1.1 400") && answer.contains("body_incomplete"),
        "{answer}"
    );
    under_way(&house, 0).await;
    assert_eq!(
        accounts("broken-chunks"),
        [(json!(400), json!(false), json!("/v1/report"))]
    );
}

#[tokio::test]
async fn a_client_that_gets_all_it_asked_for_has_not_left() {
    logged();
    let house = House::plain().await;
    let ask = |method: &str, path: &str, id: &str| {
        let request = Request::builder().method(method).uri(path).header("x-request-id", id);
        house.send(request.body(Body::empty()).expect("a request"))
    };
    ask("GET", "/docs", "whole-page").await.ok();
    // The answer to HEAD says how long the body is, and has none.
    let head = ask("HEAD", "/docs", "head-alone").await.ok();
    assert!(head.bytes.is_empty() && head.header("content-length") != "0");
    ask("HEAD", "/no/such/path", "head-of-nothing").await;
    for (id, status) in [("whole-page", 200), ("head-alone", 200), ("head-of-nothing", 404)] {
        let lines = accesses(id);
        let told: Vec<_> = lines
            .iter()
            .map(|line| (&line["fields"]["status"], &line["fields"]["client_left"]))
            .collect();
        assert_eq!(told, [(&json!(status), &json!(false))], "{id}");
    }
}

#[tokio::test]
async fn where_no_web_page_may_call_none_is_told_what_it_may_send() {
    let house = House::plain().await;
    let ask = |path: &str| {
        let request = Request::options(path).header("origin", "https://viewer.example.org");
        let request = request.header("access-control-request-method", "POST");
        house.send(request.body(Body::empty()).expect("a request"))
    };
    ask("/nowhere").await.refused(404, "not_found");
    ask("/v1/report").await.refused(405, "method_not_allowed");
}

#[tokio::test]
async fn a_web_page_may_call_only_from_an_origin_that_was_named() {
    let mut plan = Plan::default();
    plan.config.cors_origin = vec!["HTTPS://Viewer.Example.Org:443".parse().expect("an origin")];
    let house = House::ready(plan).await;
    let ask = |origin: &str| {
        house.send(
            Request::get("/v1/models/none")
                .header("origin", origin)
                .body(Body::empty())
                .expect("a request"),
        )
    };
    assert_eq!(
        ask("https://viewer.example.org")
            .await
            .header("access-control-allow-origin"),
        "https://viewer.example.org"
    );
    assert_eq!(
        ask("https://evil.example.org")
            .await
            .header("access-control-allow-origin"),
        ""
    );
}

#[tokio::test]
async fn a_web_page_asks_without_a_key_what_it_may_send_and_may_read_why_it_was_refused() {
    const ORIGIN: &str = "https://viewer.example.org";
    fn names(list: &str) -> Vec<&str> {
        list.split(',').map(str::trim).collect()
    }
    let mut plan = keyed("sesame");
    plan.config.cors_origin = vec![ORIGIN.parse().expect("an origin")];
    let house = House::ready(plan).await;
    let asked = Request::options("/v1/report")
        .header("origin", ORIGIN)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization,content-type");
    let answer = house.send(asked.body(Body::empty()).expect("a request")).await.ok();
    assert_eq!(answer.header("access-control-allow-origin"), ORIGIN);
    assert!(names(answer.header("access-control-allow-methods")).contains(&"POST"));
    assert_eq!(
        answer.header("access-control-allow-headers"),
        "authorization,content-type"
    );
    let keyless = Request::get("/v1/models").header("origin", ORIGIN);
    let answer = house.send(keyless.body(Body::empty()).expect("a request")).await;
    answer.refused(401, "missing_api_key");
    assert_eq!(answer.header("access-control-allow-origin"), ORIGIN);
    let exposed = names(answer.header("access-control-expose-headers"));
    for header in ["x-request-id", "x-seed", "retry-after", "x-should-retry"] {
        assert!(exposed.contains(&header), "{header} is not among {exposed:?}");
    }
}

#[tokio::test]
async fn a_request_that_takes_too_long_ends_with_an_error() {
    let mut plan = Plan::default();
    plan.config.request_timeout = Duration::from_millis(50);
    let house = House::ready(plan).await;
    house.controls.pause();
    let answer = soon(house.json("/v1/instruct", json!({"instruction": "Say hello."}))).await;
    answer.refused(504, "deadline_exceeded");
    // Official clients of the OpenAI API would ask again by themselves, and wait as long.
    assert_eq!(answer.header("x-should-retry"), "false");
    house.controls.resume();
    let answer = house.json("/v1/instruct", json!({})).await;
    answer.refused(400, "missing_field");
    assert_eq!(answer.header("x-should-retry"), "", "what is not meant is not said");
}
