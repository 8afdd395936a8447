//! `llm-cxr load`: many clients against a running server; throughput and latency percentiles.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::Args;
use llm_cxr::config::parse_duration;
use serde::Serialize;
use serde_json::{Value, json};

use crate::CommandResult;
use crate::show::bar;

/// Puts a running server under load and prints throughput and latency percentiles.
#[derive(Args, Debug)]
pub struct LoadArgs {
    /// Address of the server
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: String,
    /// Clients that ask at the same time
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=4096))]
    clients: u32,
    /// What they ask for: report, vqa, image, instruct; with weights as in report=3,vqa=1
    #[arg(long, default_value = "report,vqa,image")]
    mix: Mix,
    /// How long new requests are sent
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    duration: Duration,
    /// X-rays to send (a synthetic pattern if none is given)
    #[arg(long)]
    image: Vec<PathBuf>,
    /// How often an image is read for a report (not given: the server's own number)
    #[arg(long, value_name = "N")]
    readings: Option<u32>,
    /// Most tokens of a reply
    #[arg(long)]
    max_tokens: Option<u32>,
    /// API key
    #[arg(long, env = "LLM_CXR_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Kinds of request and their weights.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mix(Vec<Kind>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Report,
    Vqa,
    Image,
    Instruct,
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut kinds = Vec::new();
        for part in text.split(',') {
            let (name, weight) = part.split_once('=').unwrap_or((part, "1"));
            let kind = match name.trim() {
                "report" => Kind::Report,
                "vqa" => Kind::Vqa,
                "image" => Kind::Image,
                "instruct" => Kind::Instruct,
                other => {
                    return Err(format!(
                        "`{other}` is no kind of request: use report, vqa, image, instruct"
                    ));
                }
            };
            let weight: usize = weight
                .trim()
                .parse()
                .ok()
                .filter(|w| (1..=100).contains(w))
                .ok_or("a weight is a number from 1 to 100")?;
            kinds.extend(std::iter::repeat_n(kind, weight));
        }
        Ok(Self(kinds))
    }
}

/// How one request went: its code (`ok` or the server's error code), its time, the part of it that the server's own account
/// (`timing_ms`) gives to waiting and to the model, its tokens.
struct Sample {
    kind: Kind,
    code: String,
    seconds: f64,
    model_seconds: f64,
    tokens: u64,
}

#[derive(Serialize)]
struct Summary {
    clients: u32,
    seconds: f64,
    requests: usize,
    ok: usize,
    requests_per_s: f64,
    tokens_per_s: f64,
    latency: BTreeMap<Kind, Latency>,
    errors: BTreeMap<String, usize>,
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

pub fn run(args: LoadArgs) -> CommandResult {
    let images = images(&args.image)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (samples, seconds) = runtime.block_on(drive(&args, images))?;
    let summary = summarise(args.clients, samples, seconds);
    match args.json {
        true => println!("{}", serde_json::to_string_pretty(&summary)?),
        false => print(&summary),
    }
    Ok(())
}

async fn drive(args: &LoadArgs, images: Vec<String>) -> Result<(Vec<Sample>, f64), Box<dyn std::error::Error>> {
    let client = reqwest::Client::builder().timeout(Duration::from_secs(600)).build()?;
    let begun = Instant::now();
    let end = begun + args.duration;
    let bar = bar(args.duration.as_secs(), "load");
    let images = Arc::new(images);
    let tasks: Vec<_> = (0..args.clients as usize)
        .map(|number| {
            let caller = Caller {
                client: client.clone(),
                url: args.url.trim_end_matches('/').to_owned(),
                key: args.api_key.clone(),
                readings: args.readings,
                max_tokens: args.max_tokens,
                images: images.clone(),
            };
            let mix = args.mix.0.clone();
            tokio::spawn(async move {
                let mut samples = Vec::new();
                let mut turn = number;
                while Instant::now() < end {
                    samples.push(caller.ask(mix[turn % mix.len()], turn).await);
                    turn += 1;
                }
                samples
            })
        })
        .collect();
    let ticker = tokio::spawn(async move {
        while Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(500)).await;
            bar.set_position(begun.elapsed().as_secs());
        }
        bar.finish_and_clear();
    });
    let mut samples = Vec::new();
    for task in tasks {
        samples.extend(task.await?);
    }
    ticker.abort();
    Ok((samples, begun.elapsed().as_secs_f64()))
}

struct Caller {
    client: reqwest::Client,
    url: String,
    key: Option<String>,
    readings: Option<u32>,
    max_tokens: Option<u32>,
    images: Arc<Vec<String>>,
}

impl Caller {
    async fn ask(&self, kind: Kind, turn: usize) -> Sample {
        let begun = Instant::now();
        let (code, tokens, model) = match self.send(kind, turn).await {
            Ok((200, body)) => {
                let phases = ["queue", "encode", "prefill", "decode", "draw"];
                let ms = phases.map(|phase| body["timing_ms"][phase].as_f64().unwrap_or(0.0));
                (
                    "ok".to_owned(),
                    body["usage"]["completion_tokens"].as_u64().unwrap_or(0),
                    ms.iter().sum::<f64>() / 1000.0,
                )
            }
            Ok((status, body)) => {
                let code = body["error"]["code"]
                    .as_str()
                    .map_or_else(|| status.to_string(), str::to_owned);
                if status == 429 {
                    // A polite client waits a little before it asks again.
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                (code, 0, 0.0)
            }
            Err(error) => {
                let what = if error.is_timeout() { "timeout" } else { "connection" };
                (what.to_owned(), 0, 0.0)
            }
        };
        Sample {
            kind,
            code,
            seconds: begun.elapsed().as_secs_f64(),
            model_seconds: model,
            tokens,
        }
    }

    async fn send(&self, kind: Kind, turn: usize) -> Result<(u16, Value), reqwest::Error> {
        let image = &self.images[turn % self.images.len()];
        let (path, mut body) = match kind {
            Kind::Report => ("/v1/report", json!({"image": image})),
            Kind::Vqa => (
                "/v1/vqa",
                json!({"image": image, "question": "Is there a pleural effusion?"}),
            ),
            Kind::Image => (
                "/v1/generate-image",
                json!({"text": "Small left pleural effusion.", "seed": turn}),
            ),
            Kind::Instruct => (
                "/v1/instruct",
                json!({"instruction": "Name the two lungs.", "seed": turn}),
            ),
        };
        if let (Some(most), true) = (self.max_tokens, kind != Kind::Image) {
            body["max_tokens"] = most.into();
        }
        if let (Some(readings), Kind::Report) = (self.readings, kind) {
            body["readings"] = readings.into();
        }
        let mut request = self.client.post(format!("{}{path}", self.url)).json(&body);
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        let response = request.send().await?;
        let status = response.status().as_u16();
        Ok((status, response.json().await.unwrap_or(Value::Null)))
    }
}

/// The images as base64; without any, a 512×512 grey pattern.
fn images(paths: &[PathBuf]) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    if paths.is_empty() {
        let pattern = image::GrayImage::from_fn(512, 512, |x, y| image::Luma([((x * x + y * y) / 1024) as u8]));
        let mut png = std::io::Cursor::new(Vec::new());
        pattern.write_to(&mut png, image::ImageFormat::Png)?;
        return Ok(vec![BASE64.encode(png.into_inner())]);
    }
    paths
        .iter()
        .map(|path| Ok(BASE64.encode(std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?)))
        .collect()
}

fn summarise(clients: u32, samples: Vec<Sample>, seconds: f64) -> Summary {
    let mut times: BTreeMap<Kind, (Vec<f64>, Vec<f64>)> = BTreeMap::new();
    let mut errors = BTreeMap::new();
    let (mut ok, mut tokens) = (0, 0);
    for sample in &samples {
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

fn print(s: &Summary) {
    println!(
        "{} clients, {:.1} s: {} requests, {} answered, {:.2} requests/s, {:.1} tokens/s",
        s.clients, s.seconds, s.requests, s.ok, s.requests_per_s, s.tokens_per_s
    );
    println!(
        "{:10} {:>7} {:>9} {:>9} {:>9} {:>9} {:>9} {:>15}",
        "", "ok", "p50 s", "p90 s", "p95 s", "p99 s", "max s", "outside p50 ms"
    );
    for (kind, l) in &s.latency {
        let name = format!("{kind:?}").to_lowercase();
        println!(
            "{name:10} {:7} {:9.3} {:9.3} {:9.3} {:9.3} {:9.3} {:15.1}",
            l.ok,
            l.p50,
            l.p90,
            l.p95,
            l.p99,
            l.max,
            l.outside_p50 * 1000.0
        );
    }
    for (code, count) in &s.errors {
        println!("not answered: {code} × {count}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mix_repeats_each_kind_by_its_weight() {
        assert_eq!(
            "report=2,image".parse(),
            Ok(Mix(vec![Kind::Report, Kind::Report, Kind::Image]))
        );
        assert!("reports".parse::<Mix>().is_err());
        assert!("report=0".parse::<Mix>().is_err());
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        let l = latency((1..=100).rev().map(f64::from).collect(), vec![3.0, 1.0, 2.0, 9.0]);
        assert_eq!((l.p50, l.p90, l.p95, l.p99, l.max), (50.0, 90.0, 95.0, 99.0, 100.0));
        assert_eq!(l.outside_p50, 2.0);
        assert_eq!(latency(vec![7.0], vec![1.0]).p50, 7.0);
    }
}
