//! What the tests of the binaries share: runs that end in time, a bundle, a server.

use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

pub const SERVER: &str = env!("CARGO_BIN_EXE_llm-cxr");
pub const TRAINER: &str = env!("CARGO_BIN_EXE_llm-cxr-train");
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A command that has not ended after this hangs; reading the demo's weights on a busy machine takes a while.
const TOO_LONG: Duration = Duration::from_secs(300);

/// Runs to its end. One that does not end, as a server that should have refused to start, is killed and fails the test.
pub fn run(binary: &str, args: &[&str]) -> Output {
    let mut child = Command::new(binary)
        .args(args)
        .env_remove("LLM_CXR_MODEL")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let (stdout, stderr) = (
        child.stdout.take().expect("stdout"),
        child.stderr.take().expect("stderr"),
    );
    let (stdout, stderr) = (drain(stdout), drain(stderr));
    let status = end_of(&mut child, TOO_LONG).unwrap_or_else(|| panic!("{binary} {args:?} does not end"));
    Output {
        status,
        stdout: stdout.join().expect("stdout is read"),
        stderr: stderr.join().expect("stderr is read"),
    }
}

/// Reads beside the child, which a full pipe would stop.
fn drain(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).expect("a pipe");
        bytes
    })
}

/// Waits for the end of a child, and kills it when it takes longer.
pub fn end_of(child: &mut Child, longest: Duration) -> Option<ExitStatus> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("our own child") {
            return Some(status);
        }
        if begun.elapsed() > longest {
            let _ = (child.kill(), child.wait());
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub fn succeed(binary: &str, args: &[&str]) -> String {
    let output = run(binary, args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {stderr}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

pub fn fail(binary: &str, args: &[&str]) -> String {
    let output = run(binary, args);
    assert!(!output.status.success(), "{args:?} succeeded");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

pub fn temporary() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// A small random bundle, made once for all tests.
pub fn bundle() -> &'static Path {
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
pub fn copy(to: &Path) {
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

pub fn radiograph(folder: &Path) -> PathBuf {
    let path = folder.join("xray.png");
    let image = image::GrayImage::from_fn(90, 120, |x, y| image::Luma([(x * 2 + y / 2) as u8]));
    image.save(&path).expect("a PNG");
    path
}

/// A running server, ended when dropped.
pub struct Server {
    pub child: Child,
    pub url: String,
}

impl Server {
    /// Starts on port 0 and waits until it is ready.
    pub fn start(model: &Path, more: &[&str]) -> Self {
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
        server.ready();
        server
    }

    /// Waits until it is ready.
    pub fn ready(&self) {
        let begun = Instant::now();
        while self.get("/readyz").0 != 200 {
            assert!(begun.elapsed() < PATIENCE, "the server is not ready");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn get(&self, path: &str) -> (u16, Vec<u8>) {
        self.ask(reqwest::Client::new().get(format!("{}{path}", self.url)))
    }

    pub fn post(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.ask(reqwest::Client::new().post(format!("{}{path}", self.url)).json(body));
        let answer: Value = serde_json::from_slice(&answer).expect("JSON");
        assert_eq!(status, 200, "{answer}");
        answer
    }

    pub fn ask(&self, request: reqwest::RequestBuilder) -> (u16, Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let answer = request.timeout(PATIENCE).send().await.expect("an answer");
            (answer.status().as_u16(), answer.bytes().await.expect("a body").to_vec())
        })
    }

    pub fn signal(&self, number: i32) {
        let pid = i32::try_from(self.child.id()).expect("a process id");
        // SAFETY: our own child, which has not been waited for.
        unsafe { libc::kill(pid, number) };
    }

    /// SIGTERM; gives the exit code.
    pub fn terminate(self) -> Option<i32> {
        self.end_by(libc::SIGTERM)
    }

    /// Gives the exit code.
    pub fn end_by(self, number: i32) -> Option<i32> {
        self.signal(number);
        self.ended()
    }

    /// Waits for its end; gives the exit code.
    pub fn ended(mut self) -> Option<i32> {
        end_of(&mut self.child, PATIENCE).expect("the server ends").code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
    }
}

pub fn base64(path: &Path) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(std::fs::read(path).expect("a file"))
}
