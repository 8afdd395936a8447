//! Meters of the HTTP room, and the Prometheus recorder that holds them and the engine's.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use super::error::ErrorCode;
use super::process;
use crate::radiograph::ImageNote;
use crate::service::ModelCard;

const REQUESTS: &str = "llm_cxr_http_requests_total";
const REQUEST_SECONDS: &str = "llm_cxr_http_request_seconds";
const ERRORS: &str = "llm_cxr_errors_total";
const READY: &str = "llm_cxr_ready";
const UNDER_WAY: &str = "llm_cxr_http_requests_under_way";
const PREPROCESS_SECONDS: &str = "llm_cxr_preprocess_seconds";
const IMAGES_WAITING: &str = "llm_cxr_images_waiting";
const BODY_BYTES_USED: &str = "llm_cxr_body_bytes_used";
const BODY_BYTES_CAPACITY: &str = "llm_cxr_body_bytes_capacity";
const CONNECTIONS_OPEN: &str = "llm_cxr_connections_open";
const CONNECTIONS_CAPACITY: &str = "llm_cxr_connections_capacity";
const IMAGE_NOTES: &str = "llm_cxr_image_notes_total";
const LOG_LINES_DROPPED: &str = "llm_cxr_log_lines_dropped_total";
const KEYS_RELOAD_FAILED: &str = "llm_cxr_api_keys_reload_failed";
const BUILD_INFO: &str = "llm_cxr_build_info";

/// Bounds of histograms over times: from a fast refusal to the longest that a request may take where nobody says otherwise.
const SECONDS: [f64; 19] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0,
];

/// Bounds of the histogram over batch sizes.
const BATCHES: [f64; 8] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];

/// The recorder's handle. There is one recorder in a process; everything is recorded through the `metrics` facade.
#[derive(Clone)]
pub struct Meters(PrometheusHandle);

impl Meters {
    /// The process's recorder, installed by the first call.
    ///
    /// # Errors
    /// When somebody else has installed another recorder.
    pub fn install() -> Result<Self, BuildError> {
        static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
        static INSTALLING: Mutex<()> = Mutex::new(());
        let _one_at_a_time = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = HANDLE.get() {
            return Ok(Self(handle.clone()));
        }
        let handle = PrometheusBuilder::new()
            .set_buckets(&SECONDS)?
            .set_buckets_for_metric(Matcher::Full("llm_cxr_batch_size".to_owned()), &BATCHES)?
            .install_recorder()?;
        crate::engine::describe_metrics();
        describe_counter!(REQUESTS, Unit::Count, "Requests by route, method and status");
        describe_histogram!(
            REQUEST_SECONDS,
            Unit::Seconds,
            "From a request's head to the last byte of its answer, by route"
        );
        describe_counter!(ERRORS, Unit::Count, "Errors by code, those inside streams included");
        describe_gauge!(READY, Unit::Count, "1 while /readyz answers 200, else 0");
        describe_gauge!(UNDER_WAY, Unit::Count, "Requests under way");
        describe_histogram!(
            PREPROCESS_SECONDS,
            Unit::Seconds,
            "Reading an image and laying out a prompt, by task"
        );
        describe_gauge!(
            IMAGES_WAITING,
            Unit::Count,
            "Images that wait for a worker, to be read or written"
        );
        describe_gauge!(BODY_BYTES_USED, Unit::Bytes, "Memory that request bodies hold");
        describe_gauge!(
            BODY_BYTES_CAPACITY,
            Unit::Bytes,
            "Memory that there is for request bodies"
        );
        describe_gauge!(CONNECTIONS_OPEN, Unit::Count, "Open connections to the API's port");
        describe_gauge!(
            CONNECTIONS_CAPACITY,
            Unit::Count,
            "Connections that the API's port takes at a time"
        );
        describe_counter!(
            IMAGE_NOTES,
            Unit::Count,
            "Images of which something unusual was noted, by what it was"
        );
        describe_counter!(
            LOG_LINES_DROPPED,
            Unit::Count,
            "Log lines that found no room, for nobody reads the log fast enough"
        );
        describe_gauge!(
            KEYS_RELOAD_FAILED,
            Unit::Count,
            "1 while the API keys file cannot be taken and the keys of before still hold, else 0"
        );
        describe_gauge!(
            BUILD_INFO,
            Unit::Count,
            "Always 1; its labels tell what runs: version and commit of the server, name and revision of the bundle, SHA-256 of its manifest"
        );
        process::describe();
        // Shown from the start, so that a rate has something to start from.
        counter!(LOG_LINES_DROPPED).absolute(0);
        keys_reload_failed(false);
        gauge!(CONNECTIONS_OPEN).set(0.0);
        connections_capacity(0);
        for code in ErrorCode::ALL {
            counter!(ERRORS, "code" => code.as_str()).absolute(0);
        }
        for note in ImageNote::NAMES {
            counter!(IMAGE_NOTES, "note" => note).absolute(0);
        }
        let _ = HANDLE.set(handle.clone());
        Ok(Self(handle))
    }

    /// Gathers what was recorded. Until then every value of a histogram is kept by itself, so call it now and then.
    pub fn run_upkeep(&self) {
        self.0.run_upkeep();
    }

    /// All meters in Prometheus' text format, for a server that stands so.
    pub(super) fn render(&self, now: &Standing) -> String {
        // The recorder is the process's: without a turn for each, one scrape could tell what another has just set.
        static TURN: Mutex<()> = Mutex::new(());
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        gauge!(READY).set(if now.ready { 1.0 } else { 0.0 });
        gauge!(IMAGES_WAITING).set(now.images_waiting as f64);
        let (used, capacity) = now.body_bytes;
        gauge!(BODY_BYTES_USED).set(used as f64);
        gauge!(BODY_BYTES_CAPACITY).set(capacity as f64);
        process::record();
        self.0.run_upkeep();
        self.0.render()
    }
}

/// What is looked up when somebody asks for the meters.
pub(super) struct Standing {
    /// Whether `/readyz` answers 200.
    pub ready: bool,
    /// Images that wait for a worker.
    pub images_waiting: usize,
    /// Memory that bodies hold, and that there is for them.
    pub body_bytes: (u64, u64),
}

/// A connection to the API's port, counted as long as this is held.
pub(super) struct OpenConnection(());

impl OpenConnection {
    /// One more.
    pub(super) fn new() -> Self {
        gauge!(CONNECTIONS_OPEN).increment(1.0);
        Self(())
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        gauge!(CONNECTIONS_OPEN).decrement(1.0);
    }
}

/// The API's port takes so many connections at a time.
pub(super) fn connections_capacity(connections: usize) {
    gauge!(CONNECTIONS_CAPACITY).set(connections as f64);
}

/// This bundle is served.
pub(super) fn build_info(card: &ModelCard) {
    let labels = [
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("commit", crate::COMMIT.unwrap_or("unknown").to_owned()),
        ("model", card.name.clone()),
        ("revision", card.revision.clone()),
        ("manifest_sha256", card.manifest_sha256.clone()),
    ];
    gauge!(BUILD_INFO, &labels).set(1.0);
}

/// A line of the log found no room.
pub fn log_line_dropped() {
    counter!(LOG_LINES_DROPPED).increment(1);
}

/// Whether the API keys file could not be taken when it was last read.
pub(super) fn keys_reload_failed(failed: bool) {
    gauge!(KEYS_RELOAD_FAILED).set(if failed { 1.0 } else { 0.0 });
}

/// A request's answer has been handed over.
pub(super) fn request(route: &str, method: &str, status: u16, took: Duration) {
    let (route, method) = (route.to_owned(), method.to_owned());
    counter!(REQUESTS, "route" => route.clone(), "method" => method, "status" => status.to_string()).increment(1);
    histogram!(REQUEST_SECONDS, "route" => route).record(took.as_secs_f64());
}

/// An error was told to a client.
pub(super) fn error(code: ErrorCode) {
    counter!(ERRORS, "code" => code.as_str()).increment(1);
}

/// So many requests are under way.
pub(super) fn under_way(requests: usize) {
    gauge!(UNDER_WAY).set(requests as f64);
}

/// A task's input has been made ready.
pub(super) fn preprocess(task: &'static str, took: Duration) {
    histogram!(PREPROCESS_SECONDS, "task" => task).record(took.as_secs_f64());
}

/// An image of which this is to be noted was taken.
pub(super) fn image_notes(notes: &[ImageNote]) {
    for note in notes {
        counter!(IMAGE_NOTES, "note" => note.name()).increment(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_rise_and_reach_as_far_as_a_request_may_take() {
        assert!(SECONDS.is_sorted_by(|a, b| a < b) && BATCHES.is_sorted_by(|a, b| a < b));
        let longest = crate::config::ServeConfig::default().request_timeout;
        assert!(SECONDS.last().is_some_and(|last| *last >= longest.as_secs_f64()));
    }
}
