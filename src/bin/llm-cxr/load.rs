//! `llm-cxr load`: many clients against a running server; throughput and latency percentiles.

mod summary;

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
use crate::show::{self, bar};
use summary::{Sample, print, summarise};

/// Put a running server under load and print throughput and latency percentiles.
#[derive(Args, Debug)]
pub struct LoadArgs {
    /// Address of the server
    #[arg(long, default_value = "http://127.0.0.1:8080", value_parser = address)]
    url: String,
    /// Clients that ask at the same time
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=4096))]
    clients: u32,
    /// What they ask for: report, vqa, image, instruct; with weights as in report=3,vqa=1
    #[arg(long, default_value = "report,vqa,image")]
    mix: Mix,
    /// How long new requests are sent; those that are under way then are waited for
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    duration: Duration,
    /// How long each answer is waited for (a server gives up after as long, unless it is set otherwise)
    #[arg(long, default_value = "10m", value_parser = parse_duration)]
    timeout: Duration,
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
pub enum Kind {
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

/// What the clients saw.
struct Seen {
    samples: Vec<Sample>,
    /// What was said at the first one of each kind of error.
    first_errors: BTreeMap<String, String>,
    seconds: f64,
}

/// Why a request was not answered.
struct Failure {
    text: String,
    /// The server asks to come back later, as it does under more load than it takes.
    busy: bool,
}

/// How long the server's account of itself is waited for.
const GREETING: Duration = Duration::from_secs(30);

/// How long a client waits before it asks a busy server again: less than the server asks for, so that its queue stays full.
const BUSY: Duration = Duration::from_millis(200);

pub fn run(args: LoadArgs) -> CommandResult {
    let images = images(&args.image)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let seen = runtime.block_on(drive(&args, images))?;
    let summary = summarise(args.clients, &seen.samples, seen.first_errors, seen.seconds);
    match args.json {
        true => show::result(&serde_json::to_string_pretty(&summary)?)?,
        false => print(&summary)?,
    }
    match summary.ok {
        0 => Err("no request was answered".into()),
        _ => Ok(()),
    }
}

async fn drive(args: &LoadArgs, images: Vec<String>) -> Result<Seen, Box<dyn std::error::Error>> {
    let caller = Caller {
        // The server is measured, and no proxy that is set for the way out.
        client: reqwest::Client::builder().no_proxy().timeout(args.timeout).build()?,
        timeout: args.timeout,
        url: args.url.clone(),
        key: args.api_key.clone(),
        readings: args.readings,
        max_tokens: args.max_tokens,
        images: Arc::new(images),
    };
    caller.greet().await.map_err(|e| format!("{}: {e}", args.url))?;
    let begun = Instant::now();
    let end = begun + args.duration;
    let bar = bar(args.duration.as_secs(), "load");
    let tasks: Vec<_> = (0..args.clients as usize)
        .map(|number| tokio::spawn(client(caller.clone(), args.mix.0.clone(), number, end)))
        .collect();
    let ticker = tokio::spawn(async move {
        while Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(500)).await;
            bar.set_position(begun.elapsed().as_secs());
        }
        bar.finish_and_clear();
    });
    let (mut samples, mut first_errors) = (Vec::new(), BTreeMap::new());
    for task in tasks {
        let (own, errors) = task.await?;
        samples.extend(own);
        for (code, text) in errors {
            first_errors.entry(code).or_insert(text);
        }
    }
    ticker.abort();
    Ok(Seen {
        samples,
        first_errors,
        seconds: begun.elapsed().as_secs_f64(),
    })
}

/// One client: asks until `end`, the `number`th request of the mix first. After a failure it waits, so that a server that is not there is
/// not asked thousands of times a second.
async fn client(
    caller: Caller,
    mix: Vec<Kind>,
    number: usize,
    end: Instant,
) -> (Vec<Sample>, BTreeMap<String, String>) {
    let (mut samples, mut errors) = (Vec::new(), BTreeMap::new());
    let (mut turn, mut failures) = (number, 0);
    while Instant::now() < end {
        let (sample, failure) = caller.ask(mix[turn % mix.len()], turn).await;
        turn += 1;
        match failure {
            None => failures = 0,
            Some(failure) => {
                let wait = match failure.busy {
                    true => BUSY,
                    false => pause(failures),
                };
                failures += 1;
                errors.entry(sample.code.clone()).or_insert(failure.text);
                tokio::time::sleep(wait.min(end.saturating_duration_since(Instant::now()))).await;
            }
        }
        samples.push(sample);
    }
    (samples, errors)
}

/// How long a client waits after a failure that follows on so many others: 50 ms, each time twice as long, at most 1 s.
fn pause(before: u32) -> Duration {
    Duration::from_millis(50u64 << before.min(5)).min(Duration::from_secs(1))
}

/// An address that can be asked.
fn address(text: &str) -> Result<String, String> {
    match text.split_once("://") {
        Some(("http", host)) if !host.trim_matches('/').is_empty() => Ok(text.trim_end_matches('/').to_owned()),
        Some(("https", _)) => {
            Err("https is not spoken here: give the http:// address behind the proxy that adds TLS".to_owned())
        }
        _ => Err("an address begins with http://, as http://127.0.0.1:8080 does".to_owned()),
    }
}

/// What the server says of an error, in one line.
fn refusal(status: u16, body: &Value) -> String {
    match body["error"]["message"].as_str() {
        Some(message) => format!("{status}: {message}"),
        None if status == 200 => "the answer is no JSON object".to_owned(),
        None => format!("the answer's status is {status}"),
    }
}

/// Why there is no answer, for which so long was waited.
fn no_answer(error: &reqwest::Error, waited: Duration) -> String {
    match error.is_timeout() {
        true => format!("no answer within {} s", waited.as_secs_f64()),
        false => with_causes(error),
    }
}

/// The status of an answer and its JSON; null where it is none. One that breaks off, or does not come in time, is an error.
async fn read(answer: reqwest::Response) -> reqwest::Result<(u16, Value)> {
    let status = answer.status().as_u16();
    let body = answer.bytes().await?;
    Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
}

/// An error with its causes: the outermost one alone does not say that nobody listens.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
}

#[derive(Clone)]
struct Caller {
    client: reqwest::Client,
    /// How long the client waits for an answer.
    timeout: Duration,
    url: String,
    key: Option<String>,
    readings: Option<u32>,
    max_tokens: Option<u32>,
    images: Arc<Vec<String>>,
}

impl Caller {
    /// Asks once whether a server is there that lets this client in and is ready.
    async fn greet(&self) -> Result<(), String> {
        let request = self.client.get(format!("{}/v1/info", self.url));
        let request = self.with_key(request).timeout(GREETING);
        let asked = async { read(request.send().await?).await };
        let (status, body) = asked.await.map_err(|e| no_answer(&e, GREETING))?;
        match (status, body["state"].as_str()) {
            (200, Some("ready")) => Ok(()),
            (200, Some(state)) => Err(format!(
                "the server's state is `{state}`; begin when /readyz answers 200"
            )),
            (200, None) => Err("what answers there is not llm-cxr".to_owned()),
            (status, _) => Err(refusal(status, &body)),
        }
    }

    fn with_key(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    async fn ask(&self, kind: Kind, turn: usize) -> (Sample, Option<Failure>) {
        let begun = Instant::now();
        let mut failure = None;
        let (code, tokens, model) = match self.send(kind, turn).await {
            Ok((200, body)) if body.is_object() => {
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
                failure = Some(Failure {
                    text: refusal(status, &body),
                    busy: status == 429,
                });
                (code, 0, 0.0)
            }
            Err(error) => {
                let what = if error.is_timeout() { "timeout" } else { "connection" };
                failure = Some(Failure {
                    text: no_answer(&error, self.timeout),
                    busy: false,
                });
                (what.to_owned(), 0, 0.0)
            }
        };
        let sample = Sample {
            kind,
            code,
            seconds: begun.elapsed().as_secs_f64(),
            model_seconds: model,
            tokens,
        };
        (sample, failure)
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
        let request = self.client.post(format!("{}{path}", self.url)).json(&body);
        read(self.with_key(request).send().await?).await
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
    fn a_client_waits_longer_after_each_failure_and_never_longer_than_a_second() {
        let ms: Vec<u128> = [0, 1, 2, 3, 4, 5, 6, 4_000_000].map(|n| pause(n).as_millis()).to_vec();
        assert_eq!(ms, [50, 100, 200, 400, 800, 1000, 1000, 1000]);
    }

    #[test]
    fn an_address_that_cannot_be_asked_is_refused_with_what_it_should_be() {
        assert_eq!(
            address("http://127.0.0.1:8080/"),
            Ok("http://127.0.0.1:8080".to_owned())
        );
        for wrong in ["127.0.0.1:8080", "localhost", "http://", "ftp://x", ""] {
            assert!(address(wrong).unwrap_err().contains("http://"), "{wrong}");
        }
        assert!(address("https://x").unwrap_err().contains("behind the proxy"));
    }
}
