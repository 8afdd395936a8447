//! Starts that are refused, and who is let in.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::house::*;

#[test]
fn a_flipped_byte_in_a_weight_file_is_refused_at_start() {
    let folder = temporary();
    let broken = folder.path().join("broken");
    copy(&broken);
    let path = broken.join("model.safetensors");
    let mut bytes = std::fs::read(&path).expect("weights");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).expect("written");
    let error = fail(
        SERVER,
        &[
            "serve",
            "--model",
            text(&broken),
            "--listen",
            "127.0.0.1:0",
            "--device",
            "cpu",
        ],
    );
    assert!(error.contains("model.safetensors"), "{error}");
}

#[test]
fn a_wrong_start_ends_with_its_reason() {
    let folder = temporary();
    let missing = text(folder.path());
    let cases: [(&[&str], &str); 4] = [
        (&["--model", missing], "bundle"),
        (&["--listen", "0.0.0.0:0"], "--allow-anonymous"),
        (&["--kv-tokens", "100"], "context"),
        (&["--device", "cuda:77"], "cuda:77"),
    ];
    for (more, word) in cases {
        let mut args = vec!["serve", "--listen", "127.0.0.1:0"];
        if !more.contains(&"--model") {
            args.extend(["--model", text(bundle())]);
        }
        if more.contains(&"--listen") {
            args.drain(1..3);
        }
        args.extend(more);
        let error = fail(SERVER, &args);
        assert!(error.contains(word), "{more:?}: {error}");
    }
}

#[test]
fn a_port_that_is_taken_ends_the_start_with_one_message_before_anything_is_loaded() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let mut args = vec!["serve", "--model", text(bundle()), "--device", "cpu"];
    args.extend(["--log-level", "error", "--listen", address.as_str()]);
    let output = run(SERVER, &args);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    let begins = format!("llm-cxr: cannot listen on {address}: ");
    assert!(
        told.starts_with(&begins) && told.ends_with("; give another --listen\n"),
        "{told}"
    );
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(!told.contains("panicked"), "{told}");
}

#[test]
fn a_server_that_logs_json_tells_in_json_why_it_does_not_start() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let cases: [(&[&str], &str); 3] = [
        (&["--max-batch", "0", "--queue-jobs", "0"], "--max-batch is 0"),
        (&["--listen", address.as_str()], "give another --listen"),
        (
            &["--listen", "127.0.0.1:0", "--ops-listen", address.as_str()],
            "give another --ops-listen",
        ),
    ];
    for (more, why) in cases {
        let mut args = vec![
            "serve",
            "--model",
            text(bundle()),
            "--device",
            "cpu",
            "--log-format",
            "json",
        ];
        args.extend(more);
        let told = fail(SERVER, &args);
        let lines: Vec<Value> = told
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
            .collect();
        let last = lines.last().expect("a reason");
        assert_eq!(last["level"], "ERROR", "{told}");
        assert!(
            last["message"].as_str().is_some_and(|message| message.contains(why)),
            "{told}"
        );
        let dated = |line: &Value| line["timestamp"].as_str().is_some_and(|time| time.ends_with('Z'));
        assert!(lines.iter().all(dated), "{told}");
    }
}

#[test]
fn a_level_of_the_log_that_is_none_is_refused_at_start() {
    let error = fail(SERVER, &["serve", "--model", text(bundle()), "--log-level", "warning"]);
    assert!(error.contains("--log-level") && error.contains("warn"), "{error}");
}

#[test]
fn a_key_is_hashed_from_standard_input_and_lets_its_owner_in() {
    let key = "a-key-for-this-test-only";
    let mut child = Command::new(SERVER)
        .arg("hash-key")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    child
        .stdin
        .take()
        .expect("stdin")
        .write_all(key.as_bytes())
        .expect("written");
    let hash = String::from_utf8(child.wait_with_output().expect("ends").stdout).expect("UTF-8");
    let server = Server::start(bundle(), &["--api-key-hash", hash.trim()]);
    assert_eq!(server.get("/v1/info").0, 401);
    let with_key = reqwest::Client::new()
        .get(format!("{}/v1/info", server.url))
        .bearer_auth(key);
    assert_eq!(server.ask(with_key).0, 200);
}

#[test]
#[cfg(target_os = "linux")]
fn a_server_leaves_no_core_and_its_meters_tell_of_the_process_all_the_same() {
    let server = Server::start(bundle(), &[]);
    let limit = super::dicom_worker::limit_of(server.child.id(), "Max core file size");
    assert_eq!(limit, Some((0, 0)));
    let meters = String::from_utf8(server.get("/metrics").1).expect("UTF-8");
    for meter in [
        "process_start_time_seconds ",
        "process_resident_memory_bytes ",
        "process_open_fds ",
    ] {
        assert!(
            meters.lines().any(|line| line.starts_with(meter)),
            "{meter}is not in:\n{meters}"
        );
    }
}

#[test]
#[cfg(target_os = "linux")]
fn threads_of_a_server_wait_briefly_for_each_other() {
    let server = Server::start(bundle(), &[]);
    // Closed to other users, and to this one: a server's memory is nobody's business.
    let Ok(environment) = std::fs::read(format!("/proc/{}/environ", server.child.id())) else {
        eprintln!("only root may look into a server's environment: not checked here");
        return;
    };
    let environment = String::from_utf8_lossy(&environment);
    let told = |name: &str| environment.split('\0').any(|variable| variable.starts_with(name));
    // Whoever runs this test may have said how threads wait.
    let theirs = ["GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_WAIT_POLICY"].map(|name| std::env::var_os(name).is_some());
    assert!(theirs.contains(&true) || told("GOMP_SPINCOUNT=2000"));
    assert_eq!(server.terminate(), Some(0));
}
