//! Connections: slow, silent, departed and too many clients.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use http_body_util::BodyExt;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use llm_cxr::config::hash_key;
use llm_cxr::engine::scripted::Call;
use llm_cxr::http::port::server::Ending;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::house::*;

async fn read_all(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    // A reset after the last byte is an end, too.
    let _ = soon(stream.read_to_end(&mut text)).await;
    String::from_utf8_lossy(&text).into_owned()
}

fn impatient() -> Plan {
    let mut plan = Plan::default();
    plan.config.header_timeout = Duration::from_millis(100);
    plan.config.body_timeout = Duration::from_millis(100);
    plan.config.write_timeout = Duration::from_millis(100);
    plan
}

#[tokio::test]
async fn clients_that_say_nothing_or_stop_half_way_are_cut_off() {
    let house = House::ready(impatient()).await;
    let served = house.serve().await;
    for beginning in ["", "PRI * HTTP/2.0\r\n", "POST /v1/report HTTP/1.1\r\nhost: a\r\n"] {
        let mut stream = TcpStream::connect(served.address).await.expect("connected");
        stream.write_all(beginning.as_bytes()).await.expect("written");
        assert_eq!(read_all(&mut stream).await, "", "{beginning:?}");
    }
}

#[tokio::test]
async fn a_body_that_stops_half_way_is_answered_and_its_connection_closed() {
    let house = House::ready(impatient()).await;
    let served = house.serve().await;
    let mut stream = TcpStream::connect(served.address).await.expect("connected");
    let head = "POST /v1/report HTTP/1.1\r\nhost: a\r\ncontent-type: image/png\r\ncontent-length: 1000\r\n\r\nsome";
    stream.write_all(head.as_bytes()).await.expect("written");
    let answer = read_all(&mut stream).await;
    assert!(
        answer.starts_with("HTTP/1.1 408") && answer.contains("body_timeout"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_head_that_is_not_http_or_too_large_is_refused_before_it_is_a_request() {
    let house = House::plain().await;
    let served = house.serve().await;
    let head = |more: &str| format!("GET /livez HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{more}").into_bytes();
    let lines = |count: usize| head(&format!("{}\r\n", "x-line: 1\r\n".repeat(count - 2)));
    let long = head(&format!("x-long: {}\r\n\r\n", "a".repeat(60 << 10)));
    // No byte more than the server reads: those it left unread could reset the connection before the answer is seen.
    let mut endless = head("x-long: ");
    endless.resize(64 << 10, b'a');
    for (what, head, status) in [
        (
            "a greeting of TLS",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
            400,
        ),
        ("words", b"this is no request\r\n\r\n".to_vec(), 400),
        ("100 lines", lines(100), 200),
        ("101 lines", lines(101), 431),
        ("less than 64 KiB", long, 200),
        ("64 KiB and no end", endless, 431),
    ] {
        let mut stream = TcpStream::connect(served.address).await.expect("connected");
        soon(stream.write_all(&head)).await.expect("written");
        let answer = read_all(&mut stream).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {answer}");
    }
    let (mut sender, _ended) = http2(&served, 65_535).await;
    for (length, status) in [(30 << 10, 200), (40 << 10, 431)] {
        let mut request = http2_request(&served, "/livez", "");
        let value = "a".repeat(length).parse().expect("the value of a header");
        request.headers_mut().insert("x-long", value);
        let answer = soon(sender.send_request(request)).await.expect("answered");
        assert_eq!(answer.status(), status, "{length} bytes over HTTP/2");
    }
}

#[tokio::test]
async fn a_request_that_names_no_host_in_http_1_1_or_several_is_refused() {
    let house = House::ready(with_ops(8)).await;
    let served = house.serve().await;
    for (version, hosts, status) in [
        ("1.1", "host: a\r\n", 200),
        ("1.1", "host:\r\n", 200),
        ("1.1", "", 400),
        ("1.1", "host: a\r\nhost: a\r\n", 400),
        ("1.0", "", 200),
        ("1.0", "host: a\r\nhost: b\r\n", 400),
    ] {
        for address in [Some(served.address), served.ops] {
            let mut stream = TcpStream::connect(address.expect("bound")).await.expect("connected");
            let head = format!("GET /livez HTTP/{version}\r\n{hosts}connection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).await.expect("written");
            let answer = read_all(&mut stream).await;
            assert_eq!(answer.get(8..13), Some(&*format!(" {status} ")), "{head}{answer}");
            assert_eq!(answer.contains("\"invalid_host\""), status == 400, "{head}{answer}");
        }
    }
}

#[tokio::test]
async fn an_answer_tells_how_long_its_connection_is_kept_and_the_last_one_tells_nothing() {
    const KEPT: &str = "\r\nkeep-alive: timeout=10\r\n";
    const NAMED: &str = "\r\nconnection: keep-alive\r\n";
    let house = House::plain().await;
    let served = house.serve().await;
    let ask = async |heads: &[&str]| {
        let mut stream = TcpStream::connect(served.address).await.expect("connected");
        for more in heads {
            let head = format!("GET /livez HTTP/1.1\r\nhost: a\r\n{more}\r\n");
            stream.write_all(head.as_bytes()).await.expect("written");
        }
        let answers = read_all(&mut stream).await;
        ["HTTP/1.1 200", KEPT, NAMED].map(|part| answers.matches(part).count())
    };
    assert_eq!(ask(&["", "connection: close\r\n"][..]).await, [2, 1, 1]);
    assert_eq!(ask(&["connection: Keep-Alive, Close\r\n"][..]).await, [1, 0, 0]);
    let (mut sender, _ended) = http2(&served, 65_535).await;
    let answer = soon(sender.send_request(http2_request(&served, "/livez", ""))).await;
    let headers = answer.expect("answered").headers().clone();
    assert!(!headers.contains_key("keep-alive") && !headers.contains_key("connection"));
    house.state.life.drain();
    assert_eq!(ask(&[""][..]).await, [1, 0, 0], "while it drains");
}

#[tokio::test]
async fn an_answer_promises_to_keep_its_connection_only_where_the_body_was_read_to_its_end() {
    const KEPT: &str = "\r\nkeep-alive: timeout=10\r\n";
    const NEXT: &str = "GET /livez HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let house = House::plain().await;
    let served = house.serve().await;
    let ask = async |path: &str, more: &str, rest: &str| {
        let mut stream = TcpStream::connect(served.address).await.expect("connected");
        let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n{more}\r\n\r\n{rest}");
        stream.write_all(head.as_bytes()).await.expect("written");
        read_all(&mut stream).await
    };
    // It waits for a go-ahead, or stops for longer than such a body is read.
    for (framing, rest) in [
        ("content-length: 9\r\nexpect: 100-continue", ""),
        ("transfer-encoding: chunked\r\nexpect: 100-continue", ""),
        ("content-length: 9", "half"),
    ] {
        let answer = ask("/no/such/path", framing, rest).await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{framing}: {answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{framing}: {answer}");
        assert!(!answer.contains("keep-alive"), "{framing}: {answer}");
    }
    let body = r#"{"instruction": "Say hello."}"#;
    let chunks = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    for (path, framing, rest) in [
        ("/no/such/path", "content-length: 4", "some"),
        ("/no/such/path", "transfer-encoding: chunked", chunks.as_str()),
        (
            "/v1/instruct",
            "transfer-encoding: chunked\r\nexpect: 100-continue",
            chunks.as_str(),
        ),
    ] {
        let answers = ask(path, framing, &format!("{rest}{NEXT}")).await;
        assert_eq!(answers.matches(KEPT).count(), 1, "{path}, {framing}: {answers}");
        assert!(answers.contains("\"alive\""), "{path}, {framing}: {answers}");
    }
}

#[tokio::test]
async fn a_connection_is_kept_after_a_body_that_was_refused_and_read_and_not_after_one_that_is_broken() {
    const NEXT: &str = "GET /livez HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let mut plan = Plan::default();
    plan.config.max_body_bytes = 1024;
    let house = House::ready(plan).await;
    let served = house.serve().await;
    let ask = async |framing: &str, rest: &str| {
        let mut stream = TcpStream::connect(served.address).await.expect("connected");
        let head = format!("POST /v1/report HTTP/1.1\r\nhost: a\r\ncontent-type: image/png\r\n{framing}\r\n\r\n{rest}");
        stream.write_all(head.as_bytes()).await.expect("written");
        read_all(&mut stream).await
    };
    let answers = ask("content-length: 2000", &format!("{}{NEXT}", "x".repeat(2000))).await;
    assert!(
        answers.starts_with("HTTP/1.1 413") && answers.contains("body_too_large"),
        "{answers}"
    );
    assert!(answers.contains("\"alive\""), "{answers}");
    let answer = ask("transfer-encoding: chunked", "4\r\nsome\r\nno chunk\r\n").await;
    assert!(
        answer.starts_with("HTTP/1.1 400") && answer.contains("body_incomplete"),
        "{answer}"
    );
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
}

#[tokio::test]
async fn a_client_that_is_refused_while_it_sends_gets_its_answer() {
    let house = House::plain().await;
    let served = house.serve().await;
    let mut stream = TcpStream::connect(served.address).await.expect("connected");
    let head = "POST /no/such/path HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 20000000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.expect("written");
    for _ in 0..200 {
        soon(stream.write_all(&[0; 100_000])).await.expect("read by the server");
    }
    let answer = read_all(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
}

#[tokio::test]
async fn a_connection_too_many_is_told_so() {
    let mut plan = Plan::default();
    plan.config.max_connections = 1;
    let house = House::ready(plan).await;
    let served = house.serve().await;
    let mut first = TcpStream::connect(served.address).await.expect("connected");
    first
        .write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .expect("written");
    let mut buffer = [0; 64];
    soon(first.read_exact(&mut buffer[..12])).await.expect("answered");
    assert_eq!(&buffer[..12], b"HTTP/1.1 200");
    // Only a probe of the process is answered as ever: it lives.
    for (path, status, body) in [
        ("/readyz", 429, "too_many_connections"),
        ("/livezz", 429, "too_many_connections"),
        ("/livez", 200, r#"{"status":"alive"}"#),
    ] {
        let mut second = TcpStream::connect(served.address).await.expect("connected");
        let head = format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
        second.write_all(head.as_bytes()).await.expect("written");
        second.shutdown().await.expect("half closed");
        let answer = read_all(&mut second).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(body),
            "{path}: {answer}"
        );
        assert_eq!(
            answer.contains("\r\nretry-after: 1\r\n"),
            status == 429,
            "{path}: {answer}"
        );
        for handling in ["cache-control: no-store", "x-content-type-options: nosniff"] {
            assert!(
                answer.contains(&format!("\r\n{handling}\r\n")),
                "{path} lacks {handling}: {answer}"
            );
        }
    }
    let told = "llm_cxr_http_requests_total{route=\"unmatched\",method=\"other\",status=\"429\"}";
    let metrics = house.get("/metrics").await.ok().text();
    assert!(metrics.contains(told), "{metrics}");
    drop(first);
    // Its place is free again once the server has seen it go.
    let url = served.url("/readyz");
    soon(async { while !reqwest::get(&url).await.is_ok_and(|r| r.status() == 200) {} }).await;
}

/// How many connections have found no place so far, at all servers of this process.
async fn turned_away(house: &House) -> usize {
    let series = "llm_cxr_http_requests_total{route=\"unmatched\",method=\"other\",status=\"429\"} ";
    let metrics = house.get("/metrics").await.ok().text();
    let told = metrics.lines().find_map(|line| line.strip_prefix(series));
    told.map_or(0, |count| count.parse().expect("a number"))
}

#[tokio::test]
async fn connections_that_nobody_has_time_to_refuse_are_counted_all_the_same() {
    let mut plan = Plan::default();
    plan.config.max_connections = 1;
    let house = House::ready(plan).await;
    let served = house.serve().await;
    let _first = takes_a_place(served.address).await;
    let before = turned_away(&house).await;
    // They say nothing and do not leave: 64 of them are answered at a time.
    let mut silent = Vec::new();
    for _ in 0..150 {
        silent.push(TcpStream::connect(served.address).await.expect("connected"));
    }
    soon(async {
        while turned_away(&house).await < before + silent.len() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// A connection that takes a place.
async fn takes_a_place(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    stream
        .write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .expect("written");
    let mut status = [0; 12];
    soon(stream.read_exact(&mut status)).await.expect("answered");
    assert_eq!(&status, b"HTTP/1.1 200");
    stream
}

async fn status(address: SocketAddr, path: &str) -> u16 {
    let answer = soon(reqwest::get(format!("http://{address}{path}"))).await;
    answer.expect("answered").status().as_u16()
}

/// A server with a key, of few connections, and with a port for probes and scrapes.
fn with_ops(connections: usize) -> Plan {
    let mut plan = Plan::default();
    plan.config.max_connections = connections;
    plan.config.ops_listen = Some(([127, 0, 0, 1], 0).into());
    plan.config.api_key_hash = vec![hash_key("sesame").parse().expect("a hash")];
    plan
}

#[tokio::test]
async fn probes_and_scrapes_have_a_port_that_is_theirs_where_all_other_places_are_taken() {
    let house = House::ready(with_ops(1)).await;
    let mut served = house.serve().await;
    let ops = served.ops.expect("bound");
    let held = takes_a_place(served.address).await;
    for (path, at_the_port, at_theirs) in [
        ("/livez", 200, 200),
        ("/readyz", 429, 200),
        ("/metrics", 429, 200),
        ("/v1/info", 429, 404),
        ("/docs", 429, 404),
    ] {
        assert_eq!(status(served.address, path).await, at_the_port, "{path}");
        assert_eq!(status(ops, path).await, at_theirs, "{path}");
    }
    house.state.life.drain();
    assert_eq!(status(ops, "/readyz").await, 503);
    drop(held);
    served.terminate();
    assert_eq!(served.ending().await, Ending::Drained);
    let mut plan = with_ops(8);
    plan.config.metrics_need_key = true;
    let house = House::ready(plan).await;
    let served = house.serve().await;
    let ops = served.ops.expect("bound");
    assert_eq!(status(ops, "/metrics").await, 401);
    assert_eq!(status(ops, "/readyz").await, 200);
}

#[tokio::test]
async fn the_port_of_probes_takes_a_few_connections_and_no_place_of_the_others() {
    let house = House::ready(with_ops(1)).await;
    let served = house.serve().await;
    let ops = served.ops.expect("bound");
    let mut held = Vec::new();
    for _ in 0..32 {
        held.push(takes_a_place(ops).await);
    }
    assert_eq!(status(ops, "/readyz").await, 429);
    assert_eq!(status(ops, "/livez").await, 200);
    assert_eq!(status(served.address, "/readyz").await, 200);
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_place_in_the_engine() {
    let house = House::ready(Plan {
        reply: says(&"word ".repeat(300)),
        ..Plan::default()
    })
    .await;
    let served = house.serve().await;
    for stream in [false, true] {
        house.controls.pause();
        let steps = house.controls.steps();
        let body = format!("{{\"instruction\": \"Go on.\", \"stream\": {stream}}}");
        let head = format!(
            "POST /v1/instruct HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut client = TcpStream::connect(served.address).await.expect("connected");
        client.write_all(head.as_bytes()).await.expect("written");
        let controls = house.controls.clone();
        let begun = move |calls: &[Call]| calls.iter().filter(|call| matches!(call, Call::Step(_))).count() > steps;
        assert!(
            tokio::task::spawn_blocking(move || controls.wait_for(begun))
                .await
                .expect("waited")
        );
        drop(client);
        // The server sees the connection close while the device still works on the first step.
        let engine = house.state.assistant.engine().clone();
        soon(async {
            while house.state.life.under_way() > 0 {
                tokio::task::yield_now().await
            }
        })
        .await;
        house.controls.resume();
        soon(engine.idle()).await;
        assert!(
            house.controls.steps() <= steps + 2,
            "work went on after the client left"
        );
        assert_eq!(engine.stats().kv_tokens_used, 0);
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off_and_its_work_ends() {
    let mut plan = impatient();
    plan.reply = says(&"word ".repeat(300));
    let house = House::ready(plan).await;
    let served = house.serve().await;
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(1024).expect("small");
    let mut client = socket.connect(served.address).await.expect("connected");
    let body = "{\"instruction\": \"Go on.\", \"stream\": true, \"include\": [\"token_ids\"]}";
    let request = format!(
        "POST /v1/instruct HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    // Many answers on one connection, none of them read: more than any buffer holds.
    let writer = async move {
        while client.write_all(request.as_bytes()).await.is_ok() {}
        client
    };
    let writer = tokio::spawn(writer);
    let _client = soon(writer).await.expect("the connection was cut");
    soon(house.state.assistant.engine().idle()).await;
}

/// Clients may be slow to ask, as tests are on a busy machine, but not to listen.
fn impatient_with_readers() -> Plan {
    let mut plan = impatient();
    plan.config.header_timeout = Duration::from_secs(1);
    plan
}

/// A client of HTTP/2 that answers pings and grants each answer `window` bytes.
async fn http2(served: &Served, window: u32) -> (SendRequest<Body>, JoinHandle<()>) {
    let io = TokioIo::new(TcpStream::connect(served.address).await.expect("connected"));
    let handshake = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(window)
        .handshake(io);
    let (sender, connection) = handshake.await.expect("HTTP/2");
    let ended = tokio::spawn(async move { drop(connection.await) });
    (sender, ended)
}

fn http2_request(served: &Served, path: &str, body: &'static str) -> axum::http::Request<Body> {
    let request = axum::http::Request::builder()
        .method(if body.is_empty() { "GET" } else { "POST" })
        .uri(served.url(path))
        .header("content-type", "application/json");
    request.body(Body::from(body)).expect("a request")
}

#[tokio::test]
async fn requests_over_http2_are_answered_however_long_they_take() {
    let mut plan = impatient_with_readers();
    // A busy machine may take longer than a tenth of a second to send a body or to answer a ping.
    plan.config.body_timeout = Duration::from_secs(5);
    plan.config.write_timeout = Duration::from_secs(5);
    let house = House::ready(plan).await;
    let served = house.serve().await;
    let (mut sender, _ended) = http2(&served, 65_535).await;
    house.controls.pause();
    let body = r#"{"instruction": "Say hello.", "stream": true}"#;
    let answer = sender.send_request(http2_request(&served, "/v1/instruct", body));
    // Longer than a client may ask nothing.
    tokio::time::sleep(2 * house.config.header_timeout).await;
    house.controls.resume();
    let answer = soon(answer).await.expect("answered");
    assert_eq!(answer.status(), 200);
    let text = soon(answer.into_body().collect()).await.expect("whole").to_bytes();
    let events = events(&String::from_utf8_lossy(&text));
    assert_eq!(events.last().map(|event| event.0.as_str()), Some("done"));
    let contract = soon(sender.send_request(http2_request(&served, "/openapi.yaml", ""))).await;
    let contract = contract.expect("answered").into_body();
    let contract = soon(contract.collect()).await.expect("whole").to_bytes();
    assert_eq!(contract, llm_cxr::http::contract::yaml());
}

#[tokio::test]
async fn a_client_of_http2_that_asks_nothing_is_cut_off_though_it_answers_pings() {
    let house = House::ready(impatient()).await;
    let served = house.serve().await;
    let (sender, ended) = http2(&served, 65_535).await;
    soon(ended).await.expect("cut off");
    drop(sender);
}

#[tokio::test]
async fn a_client_of_http2_that_says_nothing_but_its_greeting_is_cut_off_long_before_its_time_to_read_is_over() {
    let mut plan = Plan::default();
    plan.config.header_timeout = Duration::from_millis(100);
    let house = House::ready(plan).await;
    let served = house.serve().await;
    // The preface and empty settings, and then not even an answer to a ping; half a request is none either.
    let greeting = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let half_a_request = b"\0\0\x01\x01\0\0\0\0\x01\x82";
    for more in [&b""[..], &half_a_request[..]] {
        let mut stream = TcpStream::connect(served.address).await.expect("connected");
        stream.write_all(greeting).await.expect("written");
        stream.write_all(more).await.expect("written");
        let mut said = Vec::new();
        let _ = soon(stream.read_to_end(&mut said)).await;
        assert!(!said.is_empty(), "the server speaks HTTP/2");
    }
}

#[tokio::test]
async fn a_client_of_http2_that_takes_nothing_of_its_answer_is_cut_off_though_it_answers_pings() {
    let house = House::ready(impatient_with_readers()).await;
    let served = house.serve().await;
    for (window, path) in [(0, "/openapi.yaml"), (1, "/openapi.yaml"), (0, "/livez"), (1, "/livez")] {
        let (mut sender, ended) = http2(&served, window).await;
        let answer = soon(sender.send_request(http2_request(&served, path, ""))).await;
        let answer = answer.expect("a head");
        soon(ended).await.expect("cut off");
        drop((answer, sender));
        soon(house.state.life.idle()).await;
    }
}
