//! A server and its log, and the signals that it gets.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use clap::Args as _;
use llm_cxr::config::ServeConfig;
use serde_json::json;

use super::house::*;

/// A free address of this test alone, for servers whose log cannot tell theirs: Linux has a whole network of loopback addresses.
fn free_address() -> String {
    static TAKEN: AtomicU8 = AtomicU8::new(1);
    let host = if cfg!(target_os = "linux") {
        let [low, high, ..] = std::process::id().to_le_bytes();
        format!("127.{}.{low}.{}", high.max(1), TAKEN.fetch_add(1, Ordering::Relaxed))
    } else {
        "127.0.0.1".to_owned()
    };
    let listener = std::net::TcpListener::bind((host, 0)).expect("a free port");
    listener.local_addr().expect("bound").to_string()
}

/// The server at an address, with the small bundle.
fn serve_at(address: &str) -> Command {
    let mut command = Command::new(SERVER);
    command.args([
        "serve",
        "--model",
        text(bundle()),
        "--device",
        "cpu",
        "--listen",
        address,
    ]);
    command
}

/// Starts a server whose log goes to `log`, and waits until it answers.
fn start_with_log(log: Stdio) -> Server {
    start_with(log, libc::SIG_DFL)
}

/// The same, with what the server finds done at a hang-up.
fn start_with(log: Stdio, at_hang_up: libc::sighandler_t) -> Server {
    let address = free_address();
    let mut command = serve_at(&address);
    command.stderr(log);
    // Whoever runs the tests may have it ignored, which the server would keep to.
    // SAFETY: takes numbers only.
    unsafe {
        command.pre_exec(move || {
            libc::signal(libc::SIGHUP, at_hang_up);
            Ok(())
        });
    }
    let child = command.spawn().expect("the server starts");
    let mut server = Server {
        child,
        url: format!("http://{address}"),
    };
    let begun = Instant::now();
    while TcpStream::connect(&address).is_err() {
        assert!(begun.elapsed() < PATIENCE, "the server does not listen");
        assert_eq!(
            server.child.try_wait().expect("our own child"),
            None,
            "the server has ended"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    server
}

#[test]
#[cfg(target_os = "linux")]
fn a_server_whose_log_cannot_be_written_answers_and_ends_in_order() {
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .expect("Linux has it");
    let server = start_with_log(full.into());
    for _ in 0..3 {
        // Each of these is a line; probes that go well are none.
        assert_eq!(server.get("/nowhere").0, 404);
    }
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn a_server_whose_log_nobody_reads_any_more_answers_and_ends_in_order() {
    let mut server = start_with_log(Stdio::piped());
    drop(server.child.stderr.take());
    for _ in 0..3 {
        // Each of these is a line; probes that go well are none.
        assert_eq!(server.get("/nowhere").0, 404);
    }
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn a_server_whose_log_is_stuck_answers_and_ends_in_order() {
    use std::os::fd::AsRawFd as _;
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let set = |flags: i32| {
        // SAFETY: takes numbers only; the pipe is open.
        let done = unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETFL, flags) };
        assert_eq!(done, 0);
    };
    set(libc::O_NONBLOCK);
    while (&writer).write(&[b'x'; 4096]).is_ok() {}
    set(0);
    let server = start_with_log(writer.into());
    for _ in 0..3 {
        // Each of these is a line; probes that go well are none.
        assert_eq!(server.get("/nowhere").0, 404);
    }
    assert_eq!(server.terminate(), Some(0));
    drop(reader);
}

/// A request that the server has begun to read, and the body that it waits for.
fn begun(server: &Server) -> (TcpStream, String) {
    let body = json!({"instruction": "Tell all.", "max_tokens": 4}).to_string();
    let address = server.url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a bound");
    let length = body.len();
    let head = format!(
        "POST /v1/instruct HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\nexpect: 100-continue\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("a head");
    let mut told = [0; 25];
    stream.read_exact(&mut told).expect("an interim answer");
    assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n");
    (stream, body)
}

/// Waits until the server takes no more work.
fn closed(server: &Server) {
    let begun = Instant::now();
    let open = || async {
        let answer = reqwest::get(format!("{}/readyz", server.url)).await;
        answer.is_ok_and(|answer| answer.status() == 200)
    };
    while runtime().block_on(open()) {
        assert!(begun.elapsed() < PATIENCE, "the signal is not seen");
    }
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime")
}

#[test]
fn a_hang_up_drains_and_the_users_signals_do_nothing() {
    let server = start_with_log(Stdio::null());
    server.ready();
    for number in [libc::SIGUSR1, libc::SIGUSR2] {
        server.signal(number);
        assert_eq!(server.get("/livez").0, 200);
    }
    let (mut stream, body) = begun(&server);
    server.signal(libc::SIGHUP);
    closed(&server);
    stream.write_all(body.as_bytes()).expect("the server reads on");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    // It came too late for a place, and is answered all the same.
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("\"shutting_down\""), "{answer}");
    assert_eq!(server.ended(), Some(0));
}

#[test]
fn a_second_signal_ends_the_server_at_once() {
    let server = start_with_log(Stdio::null());
    server.ready();
    let url = format!("{}/v1/generate-image", server.url);
    // Work for seconds, whose answers never come.
    let asked: Vec<_> = (0..8)
        .map(|seed| {
            let request = reqwest::Client::new().post(&url).timeout(PATIENCE);
            let request = request.json(&json!({"text": "Left effusion.", "n": 8, "seed": seed}));
            std::thread::spawn(move || runtime().block_on(async move { request.send().await.is_ok() }))
        })
        .collect();
    let begun = Instant::now();
    let runs = |text: &str| {
        let gauge = text
            .lines()
            .find_map(|line| line.strip_prefix("llm_cxr_running_sequences "));
        gauge
            .and_then(|number| number.parse::<f64>().ok())
            .is_some_and(|number| number > 0.0)
    };
    while !runs(&String::from_utf8_lossy(&server.get("/metrics").1)) {
        assert!(begun.elapsed() < PATIENCE, "nothing runs");
    }
    server.signal(libc::SIGTERM);
    closed(&server);
    server.signal(libc::SIGINT);
    assert_eq!(server.ended(), Some(128 + libc::SIGINT));
    let answered = asked.into_iter().map(|asked| asked.join().expect("it ends"));
    assert!(answered.filter(|answered| !answered).count() > 0, "some were cut off");
}

#[test]
fn a_server_that_nohup_started_outlives_a_hang_up() {
    let server = start_with(Stdio::null(), libc::SIG_IGN);
    server.signal(libc::SIGHUP);
    server.ready();
    assert_eq!(server.terminate(), Some(0));
}

/// The log of a start that ends by itself, for its port is taken, with this in the environment.
fn log_of_a_start(environment: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let log = folder.path().join("log");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let mut command = serve_at(&address);
    command
        .envs(environment.iter().copied())
        .stderr(std::fs::File::create(&log).expect("a file"));
    let mut child = command.spawn().expect("the server starts");
    assert_eq!(end_of(&mut child, PATIENCE).and_then(|status| status.code()), Some(1));
    std::fs::read_to_string(&log).expect("a log")
}

#[test]
fn the_start_tells_which_bundle_it_is_by_the_checksum_of_its_manifest() {
    let manifest = std::fs::read(bundle().join("bundle.json")).expect("a manifest");
    let told = log_of_a_start(&[]);
    assert!(told.contains(&llm_cxr::basics::sha256(&manifest)), "{told}");
}

#[test]
fn a_variable_that_is_empty_is_as_one_that_is_not_set() {
    let command = ServeConfig::augment_args(clap::Command::new("serve"));
    let variables = command.get_arguments().filter_map(|flag| flag.get_env()?.to_str());
    let empty: Vec<(&str, &str)> = variables.map(|name| (name, "")).collect();
    assert!(empty.contains(&("LLM_CXR_OPS_LISTEN", "")), "{empty:?}");
    let told = log_of_a_start(&empty);
    assert!(
        told.contains("cannot listen on") && !told.contains("no setting"),
        "{told}"
    );
}

#[test]
fn a_misspelt_variable_is_told_of() {
    let told = log_of_a_start(&[("LLM_CXR_MAX_BACTH", "4")]);
    assert!(
        told.contains("LLM_CXR_MAX_BACTH") && told.contains("no setting"),
        "{told}"
    );
}
