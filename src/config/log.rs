//! What is logged: what the operator asks for, and of libraries nothing that could hold what clients sent.

use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{FilterFn, filter_fn};

/// How the names of our own crates begin.
const OURS: &str = "llm_cxr";

/// The finest level that is logged of others. Below it they show what they work on: tokenizers the texts, hyper and h2 heads with their
/// query strings.
const OF_OTHERS: Level = Level::WARN;

/// Whether this is a level or a filter. A word by itself must be a level: a filter takes any other for a target, and then says nothing of all
/// else. `warning`, meant as a level, would switch off the log of this program, its end included.
pub(super) fn is_log_filter(text: &str) -> bool {
    let text = text.trim();
    let level = |word: &str| word.eq_ignore_ascii_case("off") || word.parse::<Level>().is_ok();
    let told = |part: &str| part.contains('=') || level(part);
    text.split(',').all(told) && text.parse::<EnvFilter>().is_ok()
}

/// What `--log-level` asks for. A bare level is for this program.
pub fn log_filter(asked: &str) -> EnvFilter {
    let asked = asked.trim();
    EnvFilter::new(match asked.parse::<Level>() {
        Ok(level) => format!("warn,{OURS}={level}"),
        // Whatever is asked for comes with the id of the request that it belongs to.
        Err(_) => format!("{asked},{OURS}::request=error"),
    })
}

/// What no filter can ask for is left out: it belongs over every subscriber that writes the log.
pub fn log_bound() -> FilterFn {
    let bound: fn(&Metadata<'_>) -> bool = |event| may_be_logged(event.target(), *event.level());
    filter_fn(bound)
}

/// Whether an event of this target and level holds nothing that a client sent, whatever it says.
fn may_be_logged(target: &str, level: Level) -> bool {
    target.starts_with(OURS) || level <= OF_OTHERS
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn others_are_logged_from_warnings_upwards_and_our_own_crates_at_every_level() {
        for (target, level, logged) in [
            ("llm_cxr::access", Level::INFO, true),
            ("llm_cxr", Level::TRACE, true),
            ("llm_cxr_train::steps", Level::TRACE, true),
            ("hyper::proto::h1::io", Level::ERROR, true),
            ("hyper::proto::h1::io", Level::WARN, true),
            ("hyper::proto::h1::io", Level::INFO, false),
            ("h2::codec", Level::TRACE, false),
            ("tokenizers::tokenizer::normalizer", Level::TRACE, false),
            ("not_llm_cxr", Level::DEBUG, false),
        ] {
            assert_eq!(may_be_logged(target, level), logged, "{target} {level}");
        }
    }

    /// What a log that was asked for `told` holds of what is said.
    fn logged(told: &str, say: impl FnOnce()) -> String {
        #[derive(Clone, Default)]
        struct Sink(Arc<Mutex<Vec<u8>>>);
        impl Write for Sink {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().expect("not poisoned").write(bytes)
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let sink = Sink::default();
        let writer = sink.clone();
        let log = tracing_subscriber::fmt()
            .with_env_filter(log_filter(told))
            .with_writer(move || writer.clone())
            .finish()
            .with(log_bound());
        tracing::subscriber::with_default(log, say);
        let bytes = sink.0.lock().expect("not poisoned").clone();
        String::from_utf8(bytes).expect("UTF-8")
    }

    /// The same of what two libraries and this program say.
    fn written(told: &str) -> String {
        logged(told, || {
            tracing::trace!(target: "tokenizers::tokenizer::normalizer", "a patient's name");
            tracing::info!(target: "hyper::proto", "a question in a query string");
            tracing::warn!(target: "hyper::proto", "hyper warns");
            tracing::debug!(target: "llm_cxr::engine", "the engine in detail");
            tracing::info!(target: "llm_cxr::access", "a request");
        })
    }

    #[test]
    fn no_filter_brings_what_clients_sent_into_the_log() {
        for told in [
            "trace",
            "info",
            "info,tokenizers=trace",
            "trace,hyper=trace",
            "off,tokenizers=trace,hyper=trace",
        ] {
            let log = written(told);
            assert!(!log.contains("patient") && !log.contains("question"), "{told}: {log}");
        }
    }

    #[test]
    fn whatever_filter_lets_an_event_in_lets_in_the_request_that_it_belongs_to() {
        for told in ["warn", "llm_cxr::service=warn", "off,llm_cxr::service=error"] {
            let log = logged(told, || {
                let request = tracing::error_span!(target: "llm_cxr::request", "request", request_id = "r-1");
                request.in_scope(|| tracing::error!(target: "llm_cxr::service", "a worker broke"));
            });
            assert!(log.contains("a worker broke") && log.contains("r-1"), "{told}: {log}");
        }
    }

    #[test]
    fn what_was_asked_for_is_logged() {
        for (told, parts) in [
            ("info", [true, true, false]),
            (" debug ", [true, true, true]),
            ("llm_cxr=debug", [true, false, true]),
            ("warn", [false, true, false]),
            ("warn,llm_cxr::access=info", [true, true, false]),
            ("off", [false, false, false]),
        ] {
            let log = written(told);
            let held = ["a request", "hyper warns", "the engine in detail"].map(|part| log.contains(part));
            assert_eq!(held, parts, "{told}: {log}");
        }
    }
}
