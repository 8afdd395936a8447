//! The load generator where there is nothing to put under load.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use serde_json::Value;

use super::house::*;

/// Answers one request on a connection, and closes it.
fn answer(mut stream: TcpStream) -> std::io::Result<()> {
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
    let (status, body) = match request.starts_with(b"GET /v1/info") {
        true => ("200 OK", r#"{"state": "ready"}"#),
        false => (
            "503 Service Unavailable",
            r#"{"error": {"code": "model_failed", "message": "It is broken."}}"#,
        ),
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
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
fn load_on_a_server_that_answers_nothing_fails_and_does_not_spin() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that has gone needs no answer.
            std::thread::spawn(move || drop(answer(stream)));
        }
    });
    let url = format!("http://{address}");
    let output = run(
        SERVER,
        &["load", "--url", &url, "--clients", "2", "--duration", "1s", "--json"],
    );
    assert!(!output.status.success());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("no request was answered"), "{stderr}");
    let summary: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(summary["ok"], 0, "{summary}");
    assert!(summary["requests"].as_u64().is_some_and(|n| n < 50), "{summary}");
    let first = &summary["first_errors"]["model_failed"];
    assert_eq!(first, "503: It is broken.", "{summary}");
}
