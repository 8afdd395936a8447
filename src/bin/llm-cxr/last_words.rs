//! Lines of the log that do not come through it: why the server does not start, why it ends, and what the log itself has to tell. They look as its
//! others do, so that whoever collects JSON finds no line that is none.

use llm_cxr::config::LogFormat;
use serde_json::json;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};

/// The time, as the log tells it.
fn now() -> String {
    let mut text = String::new();
    // A text takes everything.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

/// Why a command ends: one line, but for an end in `message`, and without its own. To people it is told without a time, as by any command.
pub fn fatal(format: LogFormat, message: &str) -> String {
    match format {
        LogFormat::Pretty => format!("llm-cxr: {message}"),
        LogFormat::Json => {
            json!({"timestamp": now(), "level": "ERROR", "message": message, "target": "llm_cxr"}).to_string()
        }
    }
}

/// So many lines of the log found no room.
pub fn dropped(format: LogFormat, lines: u64) -> String {
    const WHAT: &str = "log lines were dropped";
    let (now, target) = (now(), "llm_cxr::log");
    match format {
        LogFormat::Pretty => format!("{now}  WARN {target}: {lines} {WHAT}"),
        LogFormat::Json => {
            json!({"timestamp": now, "level": "WARN", "message": WHAT, "lines": lines, "target": target}).to_string()
        }
    }
}
