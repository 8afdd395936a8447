//! The binaries themselves, end to end: bundles made, converted and broken; the server from its start to its last answer.
#![allow(clippy::disallowed_methods)] // `reqwest::get` polls for readiness; every wait is bounded.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use llm_cxr::labeler;
use llm_cxr::phantom::Label;
use serde_json::{Value, json};

const SERVER: &str = env!("CARGO_BIN_EXE_llm-cxr");
const TRAINER: &str = env!("CARGO_BIN_EXE_llm-cxr-train");
const PATIENCE: Duration = Duration::from_secs(60);

fn run(binary: &str, args: &[&str]) -> Output {
    Command::new(binary)
        .args(args)
        .env_remove("LLM_CXR_MODEL")
        .output()
        .expect("the binary starts")
}

fn succeed(binary: &str, args: &[&str]) -> String {
    let output = run(binary, args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {stderr}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn fail(binary: &str, args: &[&str]) -> String {
    let output = run(binary, args);
    assert!(!output.status.success(), "{args:?} succeeded");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn temporary() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// A small random bundle, made once for all tests.
fn bundle() -> &'static Path {
    static BUNDLE: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    &BUNDLE
        .get_or_init(|| {
            let folder = temporary();
            let out = folder.path().join("tiny");
            let shape =
                "--hidden 64 --layers 2 --heads 2 --context 512 --resolution 64 --multipliers 1,2,2 --codes 128";
            let mut args = vec!["init", "--out", text(&out)];
            args.extend(shape.split(' '));
            succeed(TRAINER, &args);
            (folder, out)
        })
        .1
}

/// A copy of the bundle that a test may break.
fn copy(to: &Path) {
    std::fs::create_dir_all(to.join("vqgan")).expect("a folder");
    for name in [
        "bundle.json",
        "config.json",
        "tokenizer.json",
        "model.safetensors",
        "vqgan/config.yaml",
        "vqgan/model.safetensors",
    ] {
        std::fs::copy(bundle().join(name), to.join(name)).expect("a copy");
    }
}

fn radiograph(folder: &Path) -> PathBuf {
    let path = folder.join("xray.png");
    let image = image::GrayImage::from_fn(90, 120, |x, y| image::Luma([(x * 2 + y / 2) as u8]));
    image.save(&path).expect("a PNG");
    path
}

/// A running server, ended when dropped.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    /// Starts on port 0 and waits until it is ready.
    fn start(model: &Path, more: &[&str]) -> Self {
        let mut child = Command::new(SERVER)
            .args([
                "serve",
                "--model",
                text(model),
                "--listen",
                "127.0.0.1:0",
                "--device",
                "cpu",
                "--log-format",
                "json",
            ])
            .args(more)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut lines = BufReader::new(child.stderr.take().expect("stderr")).lines();
        let address = lines
            .by_ref()
            .map_while(Result::ok)
            .filter_map(|line| serde_json::from_str::<Value>(&line).ok())
            .find_map(|line| line["address"].as_str().map(str::to_owned))
            .expect("the server tells its address");
        // Whoever logs must not block on a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let server = Self {
            child,
            url: format!("http://{address}"),
        };
        let begun = Instant::now();
        while server.get("/readyz").0 != 200 {
            assert!(begun.elapsed() < PATIENCE, "the server is not ready");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    fn get(&self, path: &str) -> (u16, Vec<u8>) {
        self.ask(reqwest::Client::new().get(format!("{}{path}", self.url)))
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.ask(reqwest::Client::new().post(format!("{}{path}", self.url)).json(body));
        let answer: Value = serde_json::from_slice(&answer).expect("JSON");
        assert_eq!(status, 200, "{answer}");
        answer
    }

    fn ask(&self, request: reqwest::RequestBuilder) -> (u16, Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let answer = request.timeout(PATIENCE).send().await.expect("an answer");
            (answer.status().as_u16(), answer.bytes().await.expect("a body").to_vec())
        })
    }

    fn signal(&self, number: i32) {
        let pid = i32::try_from(self.child.id()).expect("a process id");
        // SAFETY: our own child, which has not been waited for.
        unsafe { libc::kill(pid, number) };
    }

    /// SIGTERM; gives the exit code.
    fn terminate(self) -> Option<i32> {
        self.end_by(libc::SIGTERM)
    }

    /// Gives the exit code.
    fn end_by(mut self, number: i32) -> Option<i32> {
        self.signal(number);
        self.child.wait().expect("the server ends").code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
    }
}

fn base64(path: &Path) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(std::fs::read(path).expect("a file"))
}

#[test]
fn the_server_reads_answers_and_draws_from_a_bundle_and_ends_in_order() {
    let folder = temporary();
    let image = base64(&radiograph(folder.path()));
    let server = Server::start(bundle(), &[]);

    let report = server.post(
        "/v1/report",
        &json!({"image": image, "max_tokens": 20, "include": ["token_ids", "codes"]}),
    );
    assert_eq!(report["codes"].as_array().map(Vec::len), Some(256));
    assert!(
        report["token_ids"]
            .as_array()
            .is_some_and(|ids| (1..=20).contains(&ids.len()))
    );
    assert_eq!(report["model"]["trained"], false);
    assert!(
        report["warning"].as_str().is_some_and(|w| w.contains("untrained")),
        "an untrained model says so"
    );

    let questions = ["Is there an effusion?", "Which side?"];
    let answers = server.post(
        "/v1/vqa",
        &json!({"image": image, "questions": questions, "max_tokens": 8, "include": ["probabilities"]}),
    );
    assert_eq!(answers["answers"].as_array().map(Vec::len), Some(2));
    assert!(answers["p_yes"][0].as_f64().is_some_and(|p| (0.0..=1.0).contains(&p)));

    let draw = json!({"text": "Left effusion.", "seed": 7, "include": ["codes"]});
    let (first, second) = (
        server.post("/v1/generate-image", &draw),
        server.post("/v1/generate-image", &draw),
    );
    assert_eq!(first["codes"], second["codes"], "the same seed draws the same image");
    assert_eq!(first["images"][0]["data"], second["images"][0]["data"]);
    assert_eq!(first["images"][0]["synthetic"], true);

    assert_eq!(server.get("/metrics").0, 200);
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn one_request_gets_the_same_tokens_alone_and_among_others() {
    let folder = temporary();
    let image = base64(&radiograph(folder.path()));
    let server = Server::start(bundle(), &["--max-batch", "8"]);
    let ask = |temperature: f64| json!({"image": image, "max_tokens": 40, "temperature": temperature, "seed": 5, "include": ["token_ids"]});
    let alone: Vec<Value> = [0.0, 1.0]
        .map(|t| server.post("/v1/report", &ask(t))["token_ids"].clone())
        .into();
    std::thread::scope(|scope| {
        let others = (0..5).map(|i| {
            let (server, image) = (&server, &image);
            scope.spawn(move || {
                let text = format!("Is there finding number {i}? ").repeat(1 + i);
                server.post(
                    "/v1/vqa",
                    &json!({"image": image, "question": text, "temperature": 1, "seed": i, "max_tokens": 60}),
                );
            })
        });
        let others: Vec<_> = others.collect();
        for _ in 0..3 {
            for (i, temperature) in [0.0, 1.0].into_iter().enumerate() {
                assert_eq!(
                    server.post("/v1/report", &ask(temperature))["token_ids"],
                    alone[i],
                    "at temperature {temperature}"
                );
            }
        }
        others.into_iter().for_each(|other| other.join().expect("answered"));
    });
}

#[test]
fn the_offline_commands_say_what_the_server_says() {
    let folder = temporary();
    let image = radiograph(folder.path());
    let server = Server::start(bundle(), &[]);
    let served = server.post(
        "/v1/report",
        &json!({"image": base64(&image), "max_tokens": 16, "include": ["token_ids", "codes"]}),
    );
    let model = ["--model", text(bundle()), "--device", "cpu"];

    let mut args = vec!["report", text(&image), "--json", "--max-tokens", "16"];
    args.extend(model);
    let offline: Value = serde_json::from_str(&succeed(SERVER, &args)).expect("JSON");
    for field in ["report", "token_ids", "codes", "finish_reason"] {
        assert_eq!(offline[field], served[field], "{field}");
    }

    let mut args = vec!["encode", text(&image)];
    args.extend(model);
    let encoded = succeed(SERVER, &args);
    assert_eq!(
        serde_json::from_str::<Value>(&encoded).expect("JSON")["codes"],
        served["codes"]
    );

    let (codes, drawn) = (folder.path().join("codes.json"), folder.path().join("drawn.png"));
    std::fs::write(&codes, encoded).expect("a file");
    let mut args = vec!["decode", text(&codes), "-o", text(&drawn)];
    args.extend(model);
    succeed(SERVER, &args);
    let drawn = std::fs::read(&drawn).expect("an image");
    assert!(
        drawn.windows(9).any(|w| w == b"Synthetic"),
        "the file says that it is synthetic"
    );

    let mut args = vec!["ask", text(&image), "Is it?", "--json", "--max-tokens", "4"];
    args.extend(model);
    let answer: Value = serde_json::from_str(&succeed(SERVER, &args)).expect("JSON");
    assert!(answer["answers"][0]["p_yes"].is_number());
}

#[test]
fn the_demo_reads_the_same_findings_with_every_instruction_set_of_this_machine() {
    let folder = temporary();
    let data = folder.path().join("phantoms");
    let args = [
        "phantom",
        "--out",
        text(&data),
        "--studies",
        "1",
        "--seed",
        "11",
        "--size",
        "256",
    ];
    succeed(TRAINER, &args);
    let patient = "files/p10/p10000000/s50000000";
    let image = std::fs::read_dir(data.join(patient))
        .expect("a study")
        .next()
        .expect("an image")
        .expect("a file")
        .path();
    let mut read = Vec::new();
    for kernels in [
        "portable",
        "avx2",
        "avx-vnni",
        "avx512",
        "avx512-vnni",
        "avx512-bf16",
        "auto",
    ] {
        for weights in ["native", "int8", "int4"] {
            let mut args = vec!["report", text(&image), "--model", "models/demo", "--device", "cpu"];
            args.extend(["--cpu-kernels", kernels, "--weights", weights]);
            let output = run(SERVER, &args);
            if output.status.success() {
                let report = String::from_utf8_lossy(&output.stdout).into_owned();
                // What is there for sure and what may be there are a matter of words.
                let there = labeler::read(&report)
                    .labels
                    .map(|label| matches!(label, Label::Positive | Label::Uncertain));
                read.push((kernels, weights, there));
            } else {
                let reason = String::from_utf8_lossy(&output.stderr);
                assert!(reason.contains("this processor has portable"), "{kernels}: {reason}");
            }
        }
    }
    assert!(read.len() >= 6, "portable kernels and the best run everywhere");
    let (_, _, first) = read[0];
    assert!(first.contains(&true), "the consolidation is seen");
    for (kernels, weights, there) in read {
        assert_eq!(there, first, "{kernels}, {weights}");
    }
}

#[test]
fn published_formats_are_converted_and_served() {
    let folder = temporary();
    let out = folder.path().join("converted");
    let llm = folder.path().join("llm");
    std::fs::create_dir(&llm).expect("a folder");
    for entry in std::fs::read_dir(fixture("checkpoint/llm")).expect("the fixture") {
        let entry = entry.expect("an entry");
        std::fs::copy(entry.path(), llm.join(entry.file_name())).expect("a copy");
    }
    std::fs::copy(fixture("vocabulary/tokenizer.json"), llm.join("tokenizer.json")).expect("a copy");
    let (yaml, checkpoint) = (fixture("model/vqgan-colour.yaml"), fixture("checkpoint/vqgan.ckpt"));
    let parts = [
        "--llm",
        text(&llm),
        "--vqgan-config",
        text(&yaml),
        "--vqgan-checkpoint",
        text(&checkpoint),
    ];
    succeed(SERVER, &[&["convert", "--out", text(&out)], &parts[..]].concat());
    let shown = succeed(SERVER, &["inspect", "--model", text(&out), "--verify"]);
    assert!(shown.contains("converted"), "{shown}");
    let server = Server::start(&out, &[]);
    let info: Value = serde_json::from_slice(&server.get("/v1/info").1).expect("JSON");
    assert_eq!(info["model"]["trained"], true, "{info}");
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn a_quantised_bundle_is_made_and_says_what_its_original_says_in_these_bits() {
    let folder = temporary();
    let (image, small) = (radiograph(folder.path()), folder.path().join("small"));
    let made = [
        "quantise",
        "--model",
        "models/demo",
        "--weights",
        "int4",
        "--out",
        text(&small),
    ];
    assert!(succeed(SERVER, &made).contains("is a bundle"));
    let report = |model: &str, more: &[&str]| {
        let args = ["report", text(&image), "--device", "cpu", "--model", model];
        succeed(SERVER, &[&args[..], more].concat())
    };
    assert_eq!(report(text(&small), &[]), report("models/demo", &["--weights", "int4"]));
    let server = Server::start(&small, &[]);
    let info: Value = serde_json::from_slice(&server.get("/v1/info").1).expect("JSON");
    assert_eq!(info["model"]["weights"], "int4", "{info}");
    assert_eq!(server.terminate(), Some(0));
    let again = fail(
        SERVER,
        &[
            "quantise",
            "--model",
            text(&small),
            "--weights",
            "int8",
            "--out",
            "never",
        ],
    );
    assert!(again.contains("quantised already"), "{again}");
}

#[test]
fn a_command_whose_reader_has_gone_ends_without_a_word() {
    let mut child = Command::new(SERVER)
        .arg("openapi")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

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

/// A port that was free a moment ago, for servers whose log cannot tell theirs.
fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").to_string()
}

/// Starts a server whose log goes to `log`, and waits until it answers.
fn start_with_log(log: Stdio) -> Server {
    let address = free_address();
    let args = [
        "serve",
        "--model",
        text(bundle()),
        "--device",
        "cpu",
        "--listen",
        address.as_str(),
    ];
    let mut command = Command::new(SERVER);
    command.args(args).stderr(log);
    // Whoever runs the tests may have it ignored, which the server would keep to.
    // SAFETY: takes numbers only.
    unsafe {
        command.pre_exec(|| {
            libc::signal(libc::SIGHUP, libc::SIG_DFL);
            Ok(())
        });
    }
    let child = command.spawn().expect("the server starts");
    let server = Server {
        child,
        url: format!("http://{address}"),
    };
    let begun = Instant::now();
    while std::net::TcpStream::connect(&address).is_err() {
        assert!(begun.elapsed() < PATIENCE, "the server does not listen");
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
        assert_eq!(server.get("/livez").0, 200);
    }
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn a_server_whose_log_nobody_reads_any_more_answers_and_ends_in_order() {
    let mut server = start_with_log(Stdio::piped());
    drop(server.child.stderr.take());
    for _ in 0..3 {
        assert_eq!(server.get("/livez").0, 200);
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
        assert_eq!(server.get("/livez").0, 200);
    }
    assert_eq!(server.terminate(), Some(0));
    drop(reader);
}

#[test]
fn a_hang_up_drains_and_the_users_signals_do_nothing() {
    let server = start_with_log(Stdio::null());
    for number in [libc::SIGUSR1, libc::SIGUSR2] {
        server.signal(number);
        assert_eq!(server.get("/livez").0, 200);
    }
    assert_eq!(server.end_by(libc::SIGHUP), Some(0));
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
