//! `llm-cxr serve`: the server, from its configuration to its last byte.

use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use llm_cxr::config::{
    ApiKeys, DeviceChoice, LogFormat, ServeConfig, Speculation, log_bound, log_filter, unknown_variables,
};
use llm_cxr::engine::torch::{KvBudget, TorchOptions};
use llm_cxr::engine::{Engine, EngineConfig};
use llm_cxr::http::port::server::{Ending, Server};
use llm_cxr::http::{AppState, Meters};
use llm_cxr::model::bundle::Bundle;
use llm_cxr::model::device;
use llm_cxr::radiograph::DecodeLimits;
use llm_cxr::service::{Limits, ModelCard};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::assemble::{self, Recipe};
use crate::last_words;
use crate::log_writer::{self, LogWriter};
use crate::signals::Signals;
use crate::{open_files, own_memory};

/// Most time that the end waits for the log's reader.
const LAST_LINES: Duration = Duration::from_secs(1);
/// The same at a second signal, which is to end the process at once.
const AT_ONCE: Duration = Duration::from_millis(100);
/// From one line to the next while the model loads.
const STILL_LOADING: Duration = Duration::from_secs(60);
/// How often the API keys file is read again: the longest time that a key is let in once it is taken out of it.
const KEYS_READ: Duration = Duration::from_secs(10);
/// How often the meters gather what was recorded, whether or not somebody asks for them: until then they keep every value.
const UPKEEP: Duration = Duration::from_secs(5);

/// Serves until a signal or a fault. Everything that can be wrong is looked at before the port is bound; the model is loaded after,
/// so that nothing is loaded in vain and probes are answered meanwhile.
pub fn run(config: &ServeConfig) -> crate::CommandResult {
    // Before anything of a client, or a key, is in it.
    let kept = own_memory::keep();
    let keys = config.check()?;
    let log = start_log(config)?;
    if let Err(error) = kept {
        tracing::warn!(%error, "a core of this process may be written, or its memory be looked into: the system did not let it be forbidden");
    }
    let end_with = |why: &str| log.end_with(&last_words::fatal(config.log_format, why), LAST_LINES);
    match serve(config, keys, &log) {
        Ok(Ending::Drained) => tracing::info!("everything was finished"),
        Ok(Ending::CutOff(requests)) => {
            tracing::warn!(requests, "the drain deadline passed; requests were ended with an error")
        }
        Ok(Ending::EngineStopped(why)) => {
            tracing::error!(why, "the engine ended");
            // As every fatal end is told, whatever the log leaves out.
            end_with(&format!("the engine ended: {why}"));
            leave(1);
        }
        // Told here and not by `main`, whose line could come before those that still wait, or wait for ever.
        Err(error) => {
            end_with(&error.to_string());
            leave(1);
        }
    }
    log.flush(LAST_LINES);
    leave(0)
}

fn serve(config: &ServeConfig, keys: ApiKeys, log: &LogWriter) -> Result<Ending, Box<dyn std::error::Error>> {
    let config = &within_open_files(config);
    for name in unknown_variables(std::env::vars_os().map(|(name, _)| name)) {
        tracing::warn!(
            name,
            "this variable is no setting of the server and does nothing; `llm-cxr serve --help` lists them"
        );
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    // From here on a signal is an orderly end, also while the bundle is opened and the model loads.
    let signals = {
        let _context = runtime.enter();
        Signals::listen()?
    };
    let bundle = Bundle::open(&config.model.folder)?;
    let vocabulary = bundle.vocabulary()?;
    if config.model.device != DeviceChoice::Auto {
        device::resolve(config.model.device)?;
    }
    let card = ModelCard::from(&bundle);
    tracing::info!(
        name = card.name,
        revision = card.revision,
        manifest_sha256 = card.manifest_sha256,
        licence = card.licence,
        "the bundle is open"
    );
    tracing::info!("{}", llm_cxr::RESEARCH_NOTICE);
    if let Some(warning) = card.warning() {
        tracing::warn!("{warning}");
    }
    let decode = decode_limits(config);
    crate::memory_limit::look(config, &decode, &bundle);
    if keys.is_empty() && !config.listen.ip().is_loopback() {
        tracing::warn!(listen = %config.listen, "everybody who can reach this address is served, without a key");
    }
    let meters = Meters::install()?;
    let ending = runtime.block_on(async {
        let server = Server::bind(config).await?;
        let (address, ops_address) = (server.local_addr()?, server.ops_addr()?);
        let limits = Limits::default();
        let recipe = Recipe {
            engine: engine_config(config),
            torch: torch_options(config),
            decode,
            preprocess: config.images.preprocess,
            dicom: config.dicom,
            image_workers: config.image_workers,
            limits,
            readings: config.readings,
        };
        // The engine's thread runs from here on: no `?` below, for an end through `main` would run libtorch's exit handlers under it.
        let assistant = assemble::assistant(bundle, vocabulary, recipe);
        let engine = assistant.engine().clone();
        let state = AppState::new(assistant, config, keys, meters.clone());
        if let Some(ops_address) = ops_address {
            tracing::info!(%ops_address, "listening for probes and scrapes");
        }
        tracing::info!(%address, "listening; the model is loading");
        tokio::spawn(tell_of_loading(engine));
        tokio::spawn(state.keys.clone().keep_fresh(KEYS_READ));
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(UPKEEP).await;
                meters.run_upkeep();
            }
        });
        Ok::<_, Box<dyn std::error::Error>>(server.run(state, first_signal(signals, log)).await)
    })?;
    runtime.shutdown_background();
    Ok(ending)
}

/// Resolves at the first signal. From then on a second one ends the process at once.
async fn first_signal(mut signals: Signals, log: &LogWriter) {
    let number = signals.next().await;
    let log = log.clone();
    // Before anything else, which could take its time.
    tokio::spawn(async move {
        let number = signals.next().await;
        log.flush(AT_ONCE);
        leave(128 + number)
    });
    tracing::info!(signal = number, "a signal came; another one ends the process at once");
}

/// Says that the model is ready, and until then now and then that it is not.
async fn tell_of_loading(engine: Engine) {
    let begun = Instant::now();
    let mut ready = std::pin::pin!(engine.ready());
    loop {
        match tokio::time::timeout(STILL_LOADING, ready.as_mut()).await {
            Err(_) => tracing::info!(seconds = begun.elapsed().as_secs(), "the model is still loading"),
            Ok(Ok(facts)) => {
                let (device, dtype, kv_tokens) = (&facts.device, &facts.dtype, facts.kv_tokens);
                tracing::info!(device, dtype, kv_tokens, context = facts.context, "ready");
                return;
            }
            // How the engine ended is told where the server ends with it.
            Ok(Err(_)) => return,
        }
    }
}

/// The configuration with as many connections as the system gives descriptors for.
fn within_open_files(config: &ServeConfig) -> ServeConfig {
    let (limit, wanted) = (open_files::raise(), config.max_connections);
    let max_connections = open_files::connections(limit, wanted, config.image_workers);
    if max_connections < wanted {
        let open_files = limit.unwrap_or_default();
        tracing::warn!(
            open_files,
            wanted,
            max_connections,
            "the limit of open files (ulimit -n) has no room for --max-connections; fewer are let in"
        );
    }
    let mut config = config.clone();
    config.max_connections = max_connections;
    config
}

/// Ends the process without running exit handlers: the engine's thread may be inside libtorch, whose handlers would pull the
/// ground from under it.
fn leave(code: i32) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}

fn engine_config(config: &ServeConfig) -> EngineConfig {
    let ordinary = EngineConfig::default();
    EngineConfig {
        queue_jobs: config.queue_jobs,
        queue_bytes: usize::try_from(config.queue_bytes).unwrap_or(usize::MAX),
        max_batch: config.max_batch,
        prefill_chunk: config.prefill_chunk,
        speculation: config.replies.speculation == Speculation::On,
        idle_prefill_chunk: ordinary.idle_prefill_chunk.max(config.prefill_chunk.unwrap_or(0)),
        // A step on a slow CPU may take long; only what outlasts the requests themselves is taken for a fault.
        stall_after: ordinary
            .stall_after
            .max(config.request_timeout.min(Duration::from_secs(120))),
        ..ordinary
    }
}

fn decode_limits(config: &ServeConfig) -> DecodeLimits {
    DecodeLimits {
        max_bytes: usize::try_from(config.max_body_bytes).unwrap_or(usize::MAX),
        max_pixels: config.max_image_pixels,
        ..DecodeLimits::default()
    }
}

/// How the bundle is put on its device.
pub fn torch_options(config: &ServeConfig) -> TorchOptions {
    let tokens = config.kv_tokens.map(KvBudget::Tokens);
    TorchOptions {
        device: config.model.device,
        dtype: config.model.dtype,
        weights: config.model.weights,
        kv: tokens.or(config.kv_memory.map(KvBudget::Bytes)).unwrap_or_default(),
        max_batch: config.max_batch,
        threads: config.model.threads,
        verify: true,
    }
}

/// Logs to stderr what the configuration asks for, within what may be logged at all.
fn start_log(config: &ServeConfig) -> io::Result<LogWriter> {
    // Not `io::stderr()` itself: a write that is stuck would keep its lock.
    let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let writer = LogWriter::start(stderr, log_writer::LINES, config.log_format)?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(log_filter(&config.log_level))
        .with_ansi(io::stderr().is_terminal())
        // It would be told on stderr, by a panic where that is what fails.
        .log_internal_errors(false)
        .with_writer(writer.clone());
    match config.log_format {
        LogFormat::Json => {
            // What belongs to a request says so in `span`. There is one span, so a list of them would only say it again.
            let log = log
                .json()
                .flatten_event(true)
                .with_current_span(true)
                .with_span_list(false);
            log.finish().with(log_bound()).init();
        }
        LogFormat::Pretty => log.finish().with(log_bound()).init(),
    }
    // The message of a panic may hold anything; where it happened is enough.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "a thread panicked");
    }));
    Ok(writer)
}
