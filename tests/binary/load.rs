//! The load generator where there is nothing to put under load.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use serde_json::Value;

use super::house::*;

/// A server that is ready, and to whatever else it is asked says what `say` does, on a connection that is closed then. Gives its address.
fn stand_in(say: fn(&mut TcpStream) -> io::Result<()>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that has gone needs no answer.
            std::thread::spawn(move || drop(answer(stream, say)));
        }
    });
    format!("http://{address}")
}

/// Answers one request on a connection, and closes it.
fn answer(mut stream: TcpStream, say: fn(&mut TcpStream) -> io::Result<()>) -> io::Result<()> {
    let (mut request, mut piece) = (Vec::new(), [0; 4096]);
    // The whole request: what is closed with bytes unread is a connection reset to the client.
    loop {
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("content-length")
                    .then(|| value.parse::<usize>())
            });
            if body.len() >= length.and_then(Result::ok).unwrap_or(0) {
                break;
            }
        }
        let count = stream.read(&mut piece)?;
        if count == 0 {
            break;
        }
        request.extend_from_slice(&piece[..count]);
    }
    match request.starts_with(b"GET /v1/info") {
        true => respond(&mut stream, "200 OK", r#"{"state": "ready"}"#),
        false => say(&mut stream),
    }
}

fn respond(stream: &mut TcpStream, status: &str, body: &str) -> io::Result<()> {
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

/// Waits until the client has gone.
fn fall_silent(stream: &mut TcpStream) -> io::Result<()> {
    io::copy(stream, &mut io::sink()).map(drop)
}

/// Two clients for a second, none of whom is answered; gives what they saw.
fn in_vain(url: &str, more: &[&str]) -> Value {
    let args = ["load", "--url", url, "--clients", "2", "--duration", "1s", "--json"];
    let output = run(SERVER, &[&args[..], more].concat());
    assert!(!output.status.success());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("no request was answered"), "{stderr}");
    let summary: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(summary["ok"], 0, "{summary}");
    assert!(summary["requests"].as_u64().is_some_and(|n| n < 50), "{summary}");
    summary
}

#[test]
fn load_on_no_server_ends_at_once_and_says_what_is_wrong() {
    let address = TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port");
    let error = fail(
        SERVER,
        &["load", "--url", &format!("http://{address}"), "--duration", "1h"],
    );
    assert!(error.contains("refused"), "{error}");
    let error = fail(SERVER, &["load", "--url", "127.0.0.1:8080"]);
    assert!(error.contains("http://"), "{error}");
}

#[test]
fn load_asks_the_server_itself_whatever_proxy_is_set() {
    let url = stand_in(|stream| {
        let broken = r#"{"error": {"code": "model_failed", "message": "It is broken."}}"#;
        respond(stream, "503 Service Unavailable", broken)
    });
    // Nobody listens there.
    let proxy = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let proxy = format!("http://{}", proxy.expect("a free port"));
    let output = std::process::Command::new(SERVER)
        .args(["load", "--url", &url, "--clients", "1", "--duration", "500ms", "--json"])
        .env("http_proxy", &proxy)
        .env_remove("no_proxy")
        .env_remove("NO_PROXY")
        .output()
        .expect("the binary starts");
    let summary: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        summary["first_errors"]["model_failed"], "503: It is broken.",
        "{summary}"
    );
}

#[test]
fn load_on_a_server_that_answers_nothing_fails_and_does_not_spin() {
    let url = stand_in(|stream| {
        let broken = r#"{"error": {"code": "model_failed", "message": "It is broken."}}"#;
        respond(stream, "503 Service Unavailable", broken)
    });
    let summary = in_vain(&url, &[]);
    let first = &summary["first_errors"]["model_failed"];
    assert_eq!(first, "503: It is broken.", "{summary}");
}

#[test]
fn load_on_a_server_that_falls_silent_ends_and_counts_whom_it_waited_for_in_vain() {
    let half_way = |stream: &mut TcpStream| {
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{{")?;
        fall_silent(stream)
    };
    let ways: [fn(&mut TcpStream) -> io::Result<()>; 2] = [fall_silent, half_way];
    for say in ways {
        let summary = in_vain(&stand_in(say), &["--timeout", "200ms"]);
        assert_eq!(summary["errors"]["timeout"], summary["requests"], "{summary}");
        let first = &summary["first_errors"]["timeout"];
        assert_eq!(first, "no answer within 0.2 s", "{summary}");
    }
}

#[test]
fn load_takes_no_page_for_an_answer() {
    let summary = in_vain(&stand_in(|stream| respond(stream, "200 OK", "<p>Hello</p>")), &[]);
    let first = &summary["first_errors"]["200"];
    assert_eq!(first, "the answer is no JSON object", "{summary}");
}
