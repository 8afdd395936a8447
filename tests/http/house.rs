//! A server to test: everything real but the model.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use llm_cxr::config::{Dicom, ModelConfig, ServeConfig};
use llm_cxr::engine::scripted::{self, Controls, Reply, ScriptedBackend};
use llm_cxr::engine::{Backend, BackendError, Engine, EngineConfig, Facts, TokenRules};
use llm_cxr::http::port::server::{Ending, Server};
use llm_cxr::http::{AppState, Meters, app};
use llm_cxr::radiograph::{self, DecodeLimits, ImageFormat, Pixels};
use llm_cxr::service::dicom::DicomReader;
use llm_cxr::service::{Assistant, ImageDesk, Limits, ModelCard};
use llm_cxr::vocabulary::Vocabulary;
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tower::ServiceExt;

pub const CODES: usize = 32;
pub const CODES_PER_IMAGE: usize = 16;
pub const SIDE: usize = 16;
pub const REPORT: &str = "The heart is normal.";

pub fn vocabulary() -> Vocabulary {
    let tokenizer = include_bytes!("../fixtures/vocabulary/tokenizer.json");
    Vocabulary::from_bytes(tokenizer, CODES, CODES_PER_IMAGE).expect("the fixture is a tokenizer")
}

pub fn facts() -> Facts {
    scripted::facts(&TokenRules::of(&vocabulary()), SIDE)
}

/// A model that says `text` and ends.
pub fn says(text: &str) -> Reply {
    let vocabulary = vocabulary();
    // As trained replies do, white space before the end.
    let mut ids = vocabulary.encode_text(&format!("{text}\n\n"));
    ids.push(vocabulary.end());
    Reply::Tokens(ids)
}

/// What differs from the ordinary server.
pub struct Plan {
    pub config: ServeConfig,
    pub engine: EngineConfig,
    pub reply: Reply,
    pub facts: Facts,
    pub card: ModelCard,
    pub limits: Limits,
    /// What decodes DICOM files.
    pub dicom_worker: PathBuf,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            config: ServeConfig {
                listen: ([127, 0, 0, 1], 0).into(),
                model: ModelConfig {
                    folder: ".".into(),
                    ..ModelConfig::default()
                },
                ..ServeConfig::default()
            },
            engine: EngineConfig::default(),
            reply: says(REPORT),
            facts: facts(),
            card: card(),
            limits: Limits::default(),
            dicom_worker: env!("CARGO_BIN_EXE_llm-cxr").into(),
        }
    }
}

pub struct House {
    pub app: Router,
    pub state: AppState,
    pub config: ServeConfig,
    pub controls: Controls,
}

impl House {
    /// A server whose model is loaded.
    pub async fn ready(plan: Plan) -> Self {
        let house = Self::open(plan, Ok);
        house
            .state
            .assistant
            .engine()
            .ready()
            .await
            .expect("the scripted model loads");
        house
    }

    pub async fn plain() -> Self {
        Self::ready(Plan::default()).await
    }

    /// A server whose model is loaded by `load`, in the engine's thread.
    pub fn open<F>(plan: Plan, load: F) -> Self
    where
        F: FnOnce(Box<dyn Backend>) -> Result<Box<dyn Backend>, BackendError> + Send + 'static,
    {
        let Plan {
            config,
            engine,
            reply,
            facts,
            card,
            limits,
            dicom_worker,
        } = plan;
        let keys = config.check().expect("the configuration is sound");
        let (backend, controls) = ScriptedBackend::new(facts, reply);
        let engine = Engine::start(engine, TokenRules::of(&vocabulary()), move || load(Box::new(backend)));
        let decode = DecodeLimits {
            max_pixels: config.max_image_pixels,
            ..DecodeLimits::default()
        };
        let mut desk = ImageDesk::new(config.image_workers, decode, config.images.preprocess, SIDE);
        if config.dicom == Dicom::On {
            desk = desk.with_dicom(DicomReader::new(dicom_worker));
        }
        let assistant = Assistant::new(engine, vocabulary(), card, desk, limits);
        let meters = Meters::install().expect("the only recorder of this process");
        let state = AppState::new(assistant, &config, keys, meters);
        Self {
            app: app(state.clone()),
            state,
            config,
            controls,
        }
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.app.clone().oneshot(request).await.expect("a router does not fail");
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.expect("a body").to_bytes().to_vec();
        let answer = Answer {
            status: head.status,
            headers: head.headers,
            bytes,
        };
        // Whatever was asked: nobody keeps an answer, and no browser guesses what it is.
        let handling = (answer.header("cache-control"), answer.header("x-content-type-options"));
        assert_eq!(handling, ("no-store", "nosniff"), "{}", answer.status);
        answer
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::empty()).expect("a request"))
            .await
    }

    pub async fn post(&self, path: &str, kind: &str, body: impl Into<Body>) -> Answer {
        let request = Request::post(path)
            .header("content-type", kind)
            .body(body.into())
            .expect("a request");
        self.send(request).await
    }

    pub async fn json(&self, path: &str, body: Value) -> Answer {
        self.post(path, "application/json", body.to_string()).await
    }

    /// The same server behind a port.
    pub async fn serve(&self) -> Served {
        let server = Server::bind(&self.config).await.expect("port 0 is free");
        let address = server.local_addr().expect("bound");
        let ops = server.ops_addr().expect("bound");
        let (signal, signalled) = oneshot::channel();
        let task = tokio::spawn(server.run(self.state.clone(), async { drop(signalled.await) }));
        Served {
            address,
            ops,
            signal: Some(signal),
            task,
        }
    }
}

/// A server behind a port.
pub struct Served {
    pub address: SocketAddr,
    /// The port for probes and scrapes alone.
    pub ops: Option<SocketAddr>,
    signal: Option<oneshot::Sender<()>>,
    pub task: JoinHandle<Ending>,
}

impl Served {
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// As SIGTERM does.
    pub fn terminate(&mut self) {
        self.signal.take().map(|signal| signal.send(()));
    }

    pub async fn ending(self) -> Ending {
        soon(self.task).await.expect("the server does not panic")
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub bytes: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|_| panic!("not JSON: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    pub fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text());
        self
    }

    #[track_caller]
    pub fn refused(&self, status: u16, code: &str) {
        assert_eq!(
            (self.status.as_u16(), self.code().as_str()),
            (status, code),
            "{}",
            self.text()
        );
        assert_eq!(self.header("content-type"), "application/json");
        let wait = self.headers.get("retry-after").map(|_| self.header("retry-after"));
        assert_eq!(wait.is_some(), [429, 503].contains(&status), "{status} with {wait:?}");
        assert!(
            wait.is_none_or(|wait| wait.parse::<u64>().is_ok_and(|seconds| seconds >= 1)),
            "no time to wait: {wait:?}"
        );
        let error = &self.json()["error"];
        assert_eq!(error["request_id"].as_str(), Some(self.header("x-request-id")));
        let message = error["message"].as_str().expect("a message");
        let begins = message.starts_with(|c: char| c.is_uppercase() || c == '`');
        assert!(
            message.len() > 10 && begins && message.ends_with('.'),
            "no sentence: {message}"
        );
        // Programs read the header and people the text.
        if let Some((_, told)) = message.split_once("try again in ")
            && let Some((seconds, _)) = told.split_once(" s.")
        {
            assert_eq!(Some(seconds), wait, "{message}");
        }
    }
}

/// A PNG file of noise.
pub fn png(width: usize, height: usize) -> Vec<u8> {
    let bytes = (0..width * height * 3).map(|i| (i * 37 % 251) as u8).collect();
    let pixels = Pixels::new(width, height, bytes).expect("the size fits");
    radiograph::write(&pixels, ImageFormat::Png, &[]).expect("written")
}

pub fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

pub const BOUNDARY: &str = "boundary-of-parts";

/// A multipart body; a part with a media type is a file.
pub fn multipart(parts: &[(&str, Option<&str>, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, kind, bytes) in parts {
        body.extend(format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"").bytes());
        if let Some(kind) = kind {
            body.extend(format!("; filename=\"patient.png\"\r\nContent-Type: {kind}").bytes());
        }
        body.extend(b"\r\n\r\n".iter().chain(*bytes).chain(b"\r\n"));
    }
    body.extend(format!("--{BOUNDARY}--\r\n").bytes());
    body
}

pub fn multipart_kind() -> String {
    format!("multipart/form-data; boundary={BOUNDARY}")
}

/// The events of a stream, in order: name (empty for none) and data.
pub fn events(text: &str) -> Vec<(String, String)> {
    let field = |block: &str, name: &str| {
        block
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .map(|value| value.trim().to_owned())
    };
    let blocks = text.split("\n\n").filter(|block| !block.trim().is_empty());
    blocks
        .filter_map(|block| Some((field(block, "event:").unwrap_or_default(), field(block, "data:")?)))
        .collect()
}

/// What should come comes within ten seconds; a test that waits longer hangs.
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), future)
        .await
        .expect("it should have come by now")
}

/// Everything that this process logs, from the first call on.
pub fn logged() -> Arc<Mutex<Vec<u8>>> {
    static LOG: OnceLock<Arc<Mutex<Vec<u8>>>> = OnceLock::new();
    let start = || {
        let log: Arc<Mutex<Vec<u8>>> = Arc::default();
        let sink = Arc::clone(&log);
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .json()
            .with_writer(move || Sink(Arc::clone(&sink)))
            .finish();
        tracing::subscriber::set_global_default(subscriber).expect("the only subscriber of this process");
        log
    };
    Arc::clone(LOG.get_or_init(start))
}

/// Its lines so far.
pub fn log_lines() -> Vec<Value> {
    let log = logged();
    let log = String::from_utf8_lossy(&log.lock().unwrap_or_else(PoisonError::into_inner)).into_owned();
    log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The lines that the access log has of requests with this id.
pub fn accesses(id: &str) -> Vec<Value> {
    let mut lines = log_lines();
    lines.retain(|line| line["target"] == "llm_cxr::access" && line["fields"]["request_id"] == id);
    lines
}

struct Sink(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A trained model with the original's instructions and limits.
pub fn card() -> ModelCard {
    ModelCard {
        name: "scripted".into(),
        revision: "1".into(),
        manifest_sha256: "5a".repeat(32),
        trained: true,
        caution: None,
        licence: "unknown".into(),
        intended_use: "tests".into(),
        report_instruction: "Write the report.".into(),
        draw_instruction: "Draw the image.".into(),
        report_max_tokens: 128,
        vqa_max_tokens: 128,
        instruct_max_tokens: 512,
        temperature: 1.0,
        top_p: 0.92,
        guidance: 1.0,
        readings: 1,
        image_side: SIDE,
    }
}
