//! `llm-cxr healthcheck`: for containers, whose images hold no curl.

use std::time::Duration;

use clap::Args;

use crate::CommandResult;
use crate::load::with_causes;

/// Ask an address: end with 0 if it answers 200, else with 1 and the reason.
#[derive(Args, Debug)]
pub struct HealthcheckArgs {
    /// Address that is asked, for at most 5 seconds
    #[arg(long, default_value = "http://127.0.0.1:8080/livez")]
    url: String,
}

pub fn run(args: HealthcheckArgs) -> CommandResult {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let asked = runtime.block_on(async {
        // The container's own address: a proxy that is set for the way out does not know it.
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(5))
            .build()?;
        Ok::<_, reqwest::Error>(client.get(&args.url).send().await?.status())
    });
    let status = asked.map_err(|error| format!("{}: {}", args.url, with_causes(&error.without_url())))?;
    if status == reqwest::StatusCode::OK {
        Ok(())
    } else {
        Err(format!("{} answered {status}", args.url).into())
    }
}
