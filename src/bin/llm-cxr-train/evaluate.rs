//! `llm-cxr-train evaluate`: measures a bundle on a data set.

use std::cell::RefCell;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use llm_cxr::evaluate::{EvaluateSettings, Progress, evaluate};
use llm_cxr::model::device::DeviceChoice;
use llm_cxr::train::common::Outcome;

/// Measure a bundle: its reports, answers, drawings and reconstructions against what is true
///
/// Prints tables; writes report.json, report.html (with images of the data: share it only where the data may be shared), and what was said
/// on each study as reports.jsonl and answers.jsonl.
#[derive(Args, Debug)]
pub struct EvaluateArgs {
    #[command(flatten)]
    pub settings: EvaluateSettings,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
}

/// A bar for each measurement, on stderr.
#[derive(Default)]
pub struct Bars(RefCell<Option<ProgressBar>>);

impl Progress for Bars {
    fn begin(&self, what: &str, steps: u64) {
        self.finish();
        let bar = ProgressBar::new(steps).with_message(what.to_owned());
        if let Ok(style) = ProgressStyle::with_template("{msg:18} {wide_bar} {pos}/{len} {eta}") {
            bar.set_style(style);
        }
        *self.0.borrow_mut() = Some(bar);
    }

    fn step(&self) {
        if let Some(bar) = &*self.0.borrow() {
            bar.inc(1);
        }
    }
}

impl Bars {
    fn finish(&self) {
        if let Some(bar) = self.0.borrow_mut().take() {
            bar.finish_and_clear();
        }
    }
}

/// Does the work.
pub fn run(settings: &EvaluateSettings, device: DeviceChoice) -> crate::Done {
    let bars = Bars::default();
    let outcome = evaluate(settings, device, &bars);
    bars.finish();
    llm_cxr::basics::say(outcome?.text().trim_end_matches('\n'));
    let out = settings.out.display();
    llm_cxr::basics::say(format_args!("\n{out}/report.json and {out}/report.html hold all of it"));
    llm_cxr::basics::say(llm_cxr::RESEARCH_NOTICE);
    Ok(Outcome::Finished)
}
