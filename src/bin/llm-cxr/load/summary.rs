//! What the clients of `llm-cxr load` saw, in figures.

use std::collections::BTreeMap;
use std::io::{self, Write as _};

use serde::Serialize;

use super::Kind;

/// How one request went: its code (`ok` or the server's error code), its time, the part of it that the server's own account
/// (`timing_ms`) gives to waiting and to the model, its tokens.
pub struct Sample {
    pub kind: Kind,
    pub code: String,
    pub seconds: f64,
    pub model_seconds: f64,
    pub tokens: u64,
}

#[derive(Serialize)]
pub struct Summary {
    clients: u32,
    seconds: f64,
    requests: usize,
    pub ok: usize,
    requests_per_s: f64,
    tokens_per_s: f64,
    latency: BTreeMap<Kind, Latency>,
    errors: BTreeMap<String, usize>,
    /// What was said at the first one of each kind of error.
    first_errors: BTreeMap<String, String>,
}

/// Latency of the requests that succeeded, in seconds.
#[derive(Serialize)]
struct Latency {
    ok: usize,
    p50: f64,
    p90: f64,
    p95: f64,
    p99: f64,
    max: f64,
    /// Median of what was spent outside of queue and model, on both sides of the connection: reading the image, tokenising, writing JSON
    /// and images, HTTP; and this program's own part.
    outside_p50: f64,
}

/// What a run of so many seconds gave; `first_errors` holds a text for each code of an error.
pub fn summarise(clients: u32, samples: &[Sample], first_errors: BTreeMap<String, String>, seconds: f64) -> Summary {
    let mut times: BTreeMap<Kind, (Vec<f64>, Vec<f64>)> = BTreeMap::new();
    let mut errors = BTreeMap::new();
    let (mut ok, mut tokens) = (0, 0);
    for sample in samples {
        if sample.code == "ok" {
            ok += 1;
            tokens += sample.tokens;
            let (whole, outside) = times.entry(sample.kind).or_default();
            whole.push(sample.seconds);
            outside.push((sample.seconds - sample.model_seconds).max(0.0));
        } else {
            *errors.entry(sample.code.clone()).or_insert(0) += 1;
        }
    }
    Summary {
        clients,
        seconds,
        requests: samples.len(),
        ok,
        requests_per_s: ok as f64 / seconds,
        tokens_per_s: tokens as f64 / seconds,
        latency: times
            .into_iter()
            .map(|(kind, (whole, outside))| (kind, latency(whole, outside)))
            .collect(),
        errors,
        first_errors,
    }
}

/// Of as many times, at least one, and their parts outside of the model.
fn latency(mut times: Vec<f64>, mut outside: Vec<f64>) -> Latency {
    times.sort_by(f64::total_cmp);
    outside.sort_by(f64::total_cmp);
    // Nearest rank.
    let rank = |of: &[f64], share: f64| of[((share * of.len() as f64).ceil() as usize).clamp(1, of.len()) - 1];
    let at = |share| rank(&times, share);
    Latency {
        outside_p50: rank(&outside, 0.5),
        ok: times.len(),
        p50: at(0.5),
        p90: at(0.9),
        p95: at(0.95),
        p99: at(0.99),
        max: at(1.0),
    }
}

/// Prints the summary as a table.
pub fn print(s: &Summary) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{} clients, {:.1} s: {} requests, {} answered, {:.2} requests/s, {:.1} tokens/s",
        s.clients, s.seconds, s.requests, s.ok, s.requests_per_s, s.tokens_per_s
    )?;
    writeln!(
        out,
        "{:10} {:>7} {:>9} {:>9} {:>9} {:>9} {:>9} {:>15}",
        "", "ok", "p50 s", "p90 s", "p95 s", "p99 s", "max s", "outside p50 ms"
    )?;
    for (kind, l) in &s.latency {
        let name = format!("{kind:?}").to_lowercase();
        writeln!(
            out,
            "{name:10} {:7} {:9.3} {:9.3} {:9.3} {:9.3} {:9.3} {:15.1}",
            l.ok,
            l.p50,
            l.p90,
            l.p95,
            l.p99,
            l.max,
            l.outside_p50 * 1000.0
        )?;
    }
    for (code, count) in &s.errors {
        let first = s.first_errors.get(code).map_or("", String::as_str);
        writeln!(out, "not answered: {code} × {count} (first: {first})")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let l = latency((1..=100).rev().map(f64::from).collect(), vec![3.0, 1.0, 2.0, 9.0]);
        assert_eq!((l.p50, l.p90, l.p95, l.p99, l.max), (50.0, 90.0, 95.0, 99.0, 100.0));
        assert_eq!(l.outside_p50, 2.0);
        assert_eq!(latency(vec![7.0], vec![1.0]).p50, 7.0);
    }
}
