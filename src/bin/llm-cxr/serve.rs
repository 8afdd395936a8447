//! `llm-cxr serve`: the server, from its configuration to its last byte.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use llm_cxr::config::{DeviceChoice, LogFormat, ServeConfig, Speculation, log_bound, log_filter};
use llm_cxr::engine::EngineConfig;
use llm_cxr::engine::torch::{KvBudget, TorchOptions};
use llm_cxr::http::server::{Ending, Server};
use llm_cxr::http::{AppState, Meters};
use llm_cxr::model::bundle::Bundle;
use llm_cxr::model::device;
use llm_cxr::radiograph::DecodeLimits;
use llm_cxr::service::{Limits, ModelCard};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::assemble::{self, Recipe};

/// Serves until a signal or a fault. Everything that can be wrong is looked at before the port is bound; the model is loaded after,
/// so that nothing is loaded in vain and probes are answered meanwhile.
pub fn run(config: &ServeConfig) -> crate::CommandResult {
    let keys = config.check()?;
    start_log(config);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    // From here on a signal is an orderly end, also while the bundle is opened and the model loads.
    let signals = {
        let _context = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    let bundle = Bundle::open(&config.model.folder)?;
    let vocabulary = bundle.vocabulary()?;
    if config.model.device != DeviceChoice::Auto {
        device::resolve(config.model.device)?;
    }
    let card = ModelCard::from(&bundle.manifest);
    tracing::info!(
        name = card.name,
        revision = card.revision,
        licence = card.licence,
        "the bundle is open"
    );
    tracing::info!("{}", llm_cxr::RESEARCH_NOTICE);
    if let Some(warning) = card.warning() {
        tracing::warn!("{warning}");
    }
    if keys.is_empty() && !config.listen.ip().is_loopback() {
        tracing::warn!(listen = %config.listen, "everybody who can reach this address is served, without a key");
    }
    let meters = Meters::install()?;
    let ending = runtime.block_on(async {
        let server = Server::bind(config)
            .await
            .map_err(|error| format!("cannot listen on {}: {error}; give another --listen", config.listen))?;
        let address = server.local_addr()?;
        let limits = Limits::default();
        let recipe = Recipe {
            engine: engine_config(config),
            torch: torch_options(config),
            decode: DecodeLimits {
                max_bytes: usize::try_from(config.max_body_bytes).unwrap_or(usize::MAX),
                max_pixels: config.max_image_pixels,
                ..DecodeLimits::default()
            },
            preprocess: config.model.preprocess,
            dicom: config.dicom,
            image_workers: config.image_workers,
            limits,
            readings: config.readings,
        };
        // The engine's thread runs from here on: no `?` below, for an end through `main` would run libtorch's exit handlers under it.
        let assistant = assemble::assistant(bundle, vocabulary, recipe);
        let engine = assistant.engine().clone();
        let state = AppState::new(assistant, config, keys, meters);
        tracing::info!(%address, "listening; the model is loading");
        tokio::spawn(async move {
            if let Ok(facts) = engine.ready().await {
                let (device, dtype, kv_tokens) = (&facts.device, &facts.dtype, facts.kv_tokens);
                tracing::info!(device, dtype, kv_tokens, context = facts.context, "ready");
            }
        });
        Ok::<_, Box<dyn std::error::Error>>(server.run(state, first_signal(signals)).await)
    })?;
    runtime.shutdown_background();
    match ending {
        Ending::Drained => tracing::info!("everything was finished"),
        Ending::CutOff(requests) => {
            tracing::warn!(requests, "the drain deadline passed; requests were ended with an error")
        }
        Ending::EngineStopped(why) => {
            tracing::error!(why, "the engine ended");
            // As every fatal end is told, whatever the log leaves out. Not `eprintln!`, which panics where nobody reads any more.
            let _ = writeln!(std::io::stderr(), "llm-cxr: the engine ended: {why}");
            leave(1);
        }
    }
    leave(0)
}

/// Resolves at the first signal. From then on a second one ends the process at once.
async fn first_signal((mut terminate, mut interrupt): (Signal, Signal)) {
    let number = next_signal(&mut terminate, &mut interrupt).await;
    tracing::info!(signal = number, "a signal came; another one ends the process at once");
    tokio::spawn(async move { leave(128 + next_signal(&mut terminate, &mut interrupt).await) });
}

async fn next_signal(terminate: &mut Signal, interrupt: &mut Signal) -> i32 {
    tokio::select! {
        _ = terminate.recv() => libc::SIGTERM,
        _ = interrupt.recv() => libc::SIGINT,
    }
}

/// Ends the process without running exit handlers: the engine's thread may be inside libtorch, whose handlers would pull the
/// ground from under it.
fn leave(code: i32) -> ! {
    let _ = (std::io::stdout().flush(), std::io::stderr().flush());
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
        speculation: config.model.speculation == Speculation::On,
        idle_prefill_chunk: ordinary.idle_prefill_chunk.max(config.prefill_chunk.unwrap_or(0)),
        // A step on a slow CPU may take long; only what outlasts the requests themselves is taken for a fault.
        stall_after: ordinary
            .stall_after
            .max(config.request_timeout.min(Duration::from_secs(120))),
        ..ordinary
    }
}

fn torch_options(config: &ServeConfig) -> TorchOptions {
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
fn start_log(config: &ServeConfig) {
    let log = tracing_subscriber::fmt()
        .with_env_filter(log_filter(&config.log_level))
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match config.log_format {
        LogFormat::Json => log.json().flatten_event(true).finish().with(log_bound()).init(),
        LogFormat::Pretty => log.finish().with(log_bound()).init(),
    }
    // The message of a panic may hold anything; where it happened is enough.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "a thread panicked");
    }));
}
