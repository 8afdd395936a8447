//! The one configuration struct of the server: flags and `LLM_CXR_*` environment variables, validated before a port is bound.

mod check;
mod cidr;
mod cors_origin;
mod environment;
mod keys;
mod log;
mod units;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;

pub use check::ConfigError;
pub use cidr::{Cidr, CidrError};
pub use cors_origin::{CorsOrigin, CorsOriginError};
pub use environment::unknown_variables;
pub use keys::{ApiKeys, KeyDigest, KeyError, KnownKey, hash_key};
pub use log::{log_bound, log_filter};
pub use units::{UnitError, parse_duration, parse_size};

pub use crate::model::cpu::CpuKernels;
pub use crate::model::device::{DeviceChoice, DtypeChoice, WeightsChoice};
use crate::radiograph::{MAX_PIXELS, Preprocess};

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Pretty,
    /// One JSON object per line.
    Json,
}

/// Whether replies of text are drafted ahead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Speculation {
    /// Several tokens of a reply may come in one step.
    #[default]
    On,
    /// One token comes in a step.
    Off,
}

/// Whether DICOM files are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Dicom {
    /// Each is decoded in a process of its own.
    #[default]
    On,
    /// They are refused.
    Off,
}

/// Which model runs, where and how: what the server and all commands for single images are told alike.
#[derive(Clone, Debug, clap::Args)]
pub struct ModelConfig {
    /// Folder of the model bundle.
    #[arg(
        id = "model",
        long,
        visible_alias = "bundle",
        env = "LLM_CXR_MODEL",
        value_name = "DIR",
        default_value = "models/demo"
    )]
    pub folder: PathBuf,
    /// Where the model runs: auto, cpu, cuda or cuda:N.
    #[arg(long, env = "LLM_CXR_DEVICE", value_name = "DEVICE", default_value_t = DeviceChoice::Auto)]
    pub device: DeviceChoice,
    /// What the language model computes in: auto (bf16 on a GPU, and for weights stored so on a CPU with AVX2; else f32), f32 or bf16.
    #[arg(long, env = "LLM_CXR_DTYPE", value_enum, default_value_t = DtypeChoice::Auto)]
    pub dtype: DtypeChoice,
    /// How the language model's matrices are held on a CPU: auto (as the bundle stores them), native (as it computes), int8 or int4.
    #[arg(long, env = "LLM_CXR_WEIGHTS", value_enum, default_value_t = WeightsChoice::Auto)]
    pub weights: WeightsChoice,
    /// CPU threads of the model. Not given: one for each core, within a container's CPU quota.
    #[arg(long, env = "LLM_CXR_THREADS", value_name = "N")]
    pub threads: Option<usize>,
    /// CPU instructions of matrix products: auto (the fastest there are), portable, avx2, avx-vnni, avx512, avx512-vnni or avx512-bf16. Nodes with the same setting give the
    /// same results.
    #[arg(long, env = "LLM_CXR_CPU_KERNELS", value_enum, default_value_t = CpuKernels::Auto)]
    pub cpu_kernels: CpuKernels,
}

impl Default for ModelConfig {
    /// What runs when nothing is said; the environment is not looked at.
    fn default() -> Self {
        Self {
            folder: PathBuf::from("models/demo"),
            device: DeviceChoice::Auto,
            dtype: DtypeChoice::Auto,
            weights: WeightsChoice::Auto,
            threads: None,
            cpu_kernels: CpuKernels::Auto,
        }
    }
}

/// How images are read: for the server, and for the commands that read one.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct ImageConfig {
    /// How radiographs are read: `default` honours orientation, alpha and 16-bit windows; `compat` does as the original did.
    #[arg(long, env = "LLM_CXR_PREPROCESS", value_enum, default_value_t = Preprocess::Default)]
    pub preprocess: Preprocess,
}

/// How replies are written: for the server, and for the commands that have one written.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct ReplyConfig {
    /// Speculative decoding of text, with n-gram drafts: on or off. The reply is the same.
    #[arg(long, env = "LLM_CXR_SPECULATION", value_enum, default_value_t = Speculation::On)]
    pub speculation: Speculation,
}

/// Everything the server can be told. [`ServeConfig::check`] looks at all of it before anything is opened or bound.
#[derive(Clone, Debug, clap::Args)]
pub struct ServeConfig {
    /// The model.
    #[command(flatten)]
    pub model: ModelConfig,
    /// How images are read.
    #[command(flatten)]
    pub images: ImageConfig,
    /// How replies are written.
    #[command(flatten)]
    pub replies: ReplyConfig,
    /// Address and port to listen on. An address that is not loopback needs API keys or `--allow-anonymous`.
    #[arg(long, env = "LLM_CXR_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Address and port for probes and scrapes alone: `/livez`, `/readyz` and `/metrics` are answered there also while `--max-connections` are open at
    /// `--listen`. No key is asked for but at `/metrics` with `--metrics-need-key`. Not given: there is none.
    #[arg(long, env = "LLM_CXR_OPS_LISTEN", value_name = "ADDR")]
    pub ops_listen: Option<SocketAddr>,
    /// Whether DICOM files are read, each decoded in a process of its own: on or off.
    #[arg(long, env = "LLM_CXR_DICOM", value_enum, default_value_t = Dicom::On)]
    pub dicom: Dicom,

    /// Most sequences in one step of the language model. Not given: 64 on a GPU, 16 on a CPU.
    #[arg(long, env = "LLM_CXR_MAX_BATCH", value_name = "N")]
    pub max_batch: Option<usize>,
    /// KV cache in token positions, shared by all running sequences. Not given: max-batch times the context, but at most 8 GiB on a GPU and
    /// 512 MiB (or one context) on a CPU.
    #[arg(long, env = "LLM_CXR_KV_TOKENS", value_name = "N", conflicts_with = "kv_memory")]
    pub kv_tokens: Option<usize>,
    /// KV cache in bytes (for example 2GiB), instead of `--kv-tokens`.
    #[arg(long, env = "LLM_CXR_KV_MEMORY", value_name = "SIZE", value_parser = parse_size)]
    pub kv_memory: Option<u64>,
    /// Prompt tokens run in one step while other replies are being written. Not given: as many as delay these by at most about two
    /// decode steps (16 to 256, by device and weights).
    #[arg(long, env = "LLM_CXR_PREFILL_CHUNK", value_name = "N")]
    pub prefill_chunk: Option<usize>,
    /// How often a radiograph is read for a report whose request does not say (see `readings` of `/v1/report`). Not given: the bundle's own number.
    #[arg(long, env = "LLM_CXR_READINGS", value_name = "N")]
    pub readings: Option<usize>,

    /// Most jobs that wait; one more is refused with 429.
    #[arg(long, env = "LLM_CXR_QUEUE_JOBS", value_name = "N", default_value_t = 256)]
    pub queue_jobs: usize,
    /// Most bytes held by waiting jobs, and, as a second budget, by request bodies that are being read.
    #[arg(long, env = "LLM_CXR_QUEUE_BYTES", value_name = "SIZE", value_parser = parse_size, default_value = "256MiB")]
    pub queue_bytes: u64,
    /// Largest request body; a larger one is refused with 413.
    #[arg(long, env = "LLM_CXR_MAX_BODY_BYTES", value_name = "SIZE", value_parser = parse_size, default_value = "32MiB")]
    pub max_body_bytes: u64,
    /// Most pixels of an image that is sent; a larger one is refused before it is decoded.
    #[arg(
        long,
        env = "LLM_CXR_MAX_IMAGE_PIXELS",
        value_name = "N",
        default_value_t = MAX_PIXELS
    )]
    pub max_image_pixels: u64,
    /// Images decoded at the same time; each may take up to max-image-pixels times 15 bytes for a moment, a DICOM file 19 bytes a pixel, the file twice
    /// and 128 MiB.
    #[arg(long, env = "LLM_CXR_IMAGE_WORKERS", value_name = "N", default_value_t = 2)]
    pub image_workers: usize,
    /// Most open connections; one more is refused with 429.
    #[arg(long, env = "LLM_CXR_MAX_CONNECTIONS", value_name = "N", default_value_t = 1024)]
    pub max_connections: usize,

    /// Time a client has to send the head of a request.
    #[arg(long, env = "LLM_CXR_HEADER_TIMEOUT", value_name = "TIME", value_parser = parse_duration, default_value = "10s")]
    pub header_timeout: Duration,
    /// Time a client has to send the body of a request.
    #[arg(long, env = "LLM_CXR_BODY_TIMEOUT", value_name = "TIME", value_parser = parse_duration, default_value = "30s")]
    pub body_timeout: Duration,
    /// Time a client may leave its answer unread before its connection is cut.
    #[arg(long, env = "LLM_CXR_WRITE_TIMEOUT", value_name = "TIME", value_parser = parse_duration, default_value = "30s")]
    pub write_timeout: Duration,
    /// Time a request may take from its last body byte to its answer, the wait in the queue included.
    #[arg(long, env = "LLM_CXR_REQUEST_TIMEOUT", value_name = "TIME", value_parser = parse_duration, default_value = "10m")]
    pub request_timeout: Duration,
    /// Time that running requests have to finish after SIGTERM or SIGINT.
    #[arg(long, env = "LLM_CXR_DRAIN_TIMEOUT", value_name = "TIME", value_parser = parse_duration, default_value = "30s")]
    pub drain_timeout: Duration,

    /// How log lines look.
    #[arg(long, env = "LLM_CXR_LOG_FORMAT", value_enum, default_value_t = LogFormat::Pretty)]
    pub log_format: LogFormat,
    /// What is logged: error, warn, info, debug, trace, or a `tracing` filter such as `llm_cxr::engine=debug`. Of libraries never more than warnings: at
    /// finer levels they may show what clients sent.
    #[arg(long, env = "LLM_CXR_LOG_LEVEL", value_name = "FILTER", default_value = "info")]
    pub log_level: String,

    /// SHA-256 of an API key in hex (`llm-cxr hash-key` prints one). May be given many times; in the environment, comma separated.
    #[arg(long, env = "LLM_CXR_API_KEY_HASH", value_name = "HEX", value_delimiter = ',')]
    pub api_key_hash: Vec<KeyDigest>,
    /// File with one SHA-256 of an API key per line; `#` begins a comment. Read again every ten seconds: a key that is taken out is refused from then on.
    #[arg(long, env = "LLM_CXR_API_KEYS_FILE", value_name = "FILE")]
    pub api_keys_file: Option<PathBuf>,
    /// Serve everybody, without keys, on an address that is not loopback.
    #[arg(long, env = "LLM_CXR_ALLOW_ANONYMOUS", value_parser = BoolishValueParser::new())]
    pub allow_anonymous: bool,
    /// Ask for a key at `/metrics` too.
    #[arg(long, env = "LLM_CXR_METRICS_NEED_KEY", value_parser = BoolishValueParser::new())]
    pub metrics_need_key: bool,
    /// Web origin that may call this server from a browser (for example `https://viewer.example.org`). May be given many times; in the environment, comma
    /// separated.
    #[arg(long, env = "LLM_CXR_CORS_ORIGIN", value_name = "ORIGIN", value_delimiter = ',')]
    pub cors_origin: Vec<CorsOrigin>,
    /// Network of proxies (for example 10.0.0.0/8) whose `X-Forwarded-For` the access log believes, so that it names their clients. May be given many
    /// times; in the environment, comma separated.
    #[arg(long, env = "LLM_CXR_TRUSTED_PROXY", value_name = "CIDR", value_delimiter = ',')]
    pub trusted_proxy: Vec<Cidr>,
}

impl Default for ServeConfig {
    /// What the server does when it is told nothing; the environment is not looked at.
    fn default() -> Self {
        Self {
            model: ModelConfig::default(),
            images: ImageConfig::default(),
            replies: ReplyConfig::default(),
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            ops_listen: None,
            dicom: Dicom::On,
            max_batch: None,
            kv_tokens: None,
            kv_memory: None,
            prefill_chunk: None,
            readings: None,
            queue_jobs: 256,
            queue_bytes: 256 << 20,
            max_body_bytes: 32 << 20,
            max_image_pixels: MAX_PIXELS,
            image_workers: 2,
            max_connections: 1024,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(600),
            drain_timeout: Duration::from_secs(30),
            log_format: LogFormat::Pretty,
            log_level: "info".to_owned(),
            api_key_hash: Vec::new(),
            api_keys_file: None,
            allow_anonymous: false,
            metrics_need_key: false,
            cors_origin: Vec::new(),
            trusted_proxy: Vec::new(),
        }
    }
}
