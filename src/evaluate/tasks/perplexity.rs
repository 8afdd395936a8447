//! Perplexity of the data's reports under teacher forcing: what a cheaper arithmetic costs shows here first.

use rayon::prelude::*;
use serde::Serialize;

use super::super::EvaluateError;
use super::super::torch::{Given, TOGETHER, TeacherForced, VqganProbe};
use super::{Case, Context, pixels};
use crate::model::bundle::Bundle;
use crate::model::device::{self, DeviceChoice, DtypeChoice, WeightsChoice};
use crate::model::neox::Neox;
use crate::model::source::TensorSource;
use crate::train::language_model::{Encoder, Response};
use crate::vocabulary::Input;

/// Perplexity of the data's reports in one arithmetic.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// What the language model computed in.
    pub dtype: String,
    /// exp of the mean negative log-probability of a token.
    pub perplexity: f64,
}

/// Perplexity of the data's reports.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Perplexity {
    /// Reports.
    pub reports: usize,
    /// Their tokens, the end token included.
    pub tokens: usize,
    /// As the service runs.
    pub own: Measured,
    /// As --compare and --compare-weights ask.
    pub compared: Option<Measured>,
    /// Mean absolute difference of a token's log-probability between the two.
    pub difference: Option<f64>,
}

/// Measures every report under its image by teacher forcing; `None` where the data has none, or none fits the context.
pub fn perplexity(
    context: &Context<'_>,
    bundle: &Bundle,
    probe: &VqganProbe,
    choice: DeviceChoice,
) -> Result<Option<Perplexity>, EvaluateError> {
    let (cases, settings) = (context.cases()?, context.settings);
    let on = device::resolve(choice)?;
    let layout = Layout {
        context,
        encoder: Encoder::new(bundle.vocabulary()?),
        instruction: &bundle.manifest.default_instructions.report,
        side: bundle.manifest.image_side,
        probe,
    };
    let stored = bundle.neox_weights()?;
    let (dtype_stored, format_stored) = (Neox::stored(&stored), stored.stored_format());
    let run = |dtype: DtypeChoice, weights: WeightsChoice| -> Result<(Measured, Vec<f64>, usize), EvaluateError> {
        let (kind, weights) = (dtype.kind(on, dtype_stored), weights.on(on, format_stored));
        let mut network = TeacherForced::open(bundle, kind, weights, on)?;
        let name = device::arithmetic(device::dtype_name(kind), &weights.to_string());
        context
            .progress
            .begin(&format!("perplexity, {name}"), cases.len() as u64);
        let (mut all, mut reports) = (Vec::new(), 0);
        for some in cases.chunks(TOGETHER) {
            let given = layout.of(some, network.context())?;
            reports += given.len();
            all.extend(network.log_probabilities(&given)?.concat());
        }
        let mean = all.iter().sum::<f64>() / all.len().max(1) as f64;
        let measured = Measured {
            dtype: name,
            perplexity: (-mean).exp(),
        };
        Ok((measured, all, reports))
    };
    if cases.is_empty() {
        return Ok(None);
    }
    let (own, each, reports) = run(settings.dtype, settings.weights)?;
    if each.is_empty() {
        return Ok(None);
    }
    // What was skipped the first time is not named again.
    let skipped = context.skipped.borrow().len();
    let (dtype, weights) = (settings.compare, settings.compare_weights);
    let compared = settings
        .compares()
        .then(|| run(dtype.unwrap_or(settings.dtype), weights.unwrap_or(settings.weights)))
        .transpose()?;
    context.skipped.borrow_mut().truncate(skipped);
    let difference = compared
        .as_ref()
        .map(|(_, other, _)| each.iter().zip(other).map(|(a, b)| (a - b).abs()).sum::<f64>() / each.len() as f64);
    Ok(Some(Perplexity {
        reports,
        tokens: each.len(),
        own,
        compared: compared.map(|c| c.0),
        difference,
    }))
}

/// How studies become prompts and replies.
struct Layout<'a> {
    context: &'a Context<'a>,
    encoder: Encoder,
    instruction: &'a str,
    /// Of the images, in pixels.
    side: usize,
    probe: &'a VqganProbe,
}

impl Layout<'_> {
    /// Prompts and replies as they are trained. Those that are longer than `room` are left out.
    fn of(&self, cases: &[Case], room: usize) -> Result<Vec<Given>, EvaluateError> {
        let (context, side) = (self.context, self.side);
        let studies = context.studies;
        let study = |case: &Case| &studies.list[case.study];
        let read: Vec<_> = cases.par_iter().map(|case| pixels(study(case), side)).collect();
        let (mut images, mut used) = (Vec::new(), Vec::new());
        for (case, image) in cases.iter().zip(read) {
            context.progress.step();
            match image {
                Ok(image) => {
                    images.push(image);
                    used.push(case);
                }
                Err(reason) => context.skip(study(case), reason),
            }
        }
        if images.is_empty() {
            return Ok(Vec::new());
        }
        let mut given = Vec::new();
        for (case, codes) in used.into_iter().zip(self.probe.codes(&images)?) {
            let response = Response::Text(&case.reference);
            let example = self
                .encoder
                .example(self.instruction, Input::Image(0), &codes, response);
            let mut prompt = example.ids;
            let reply = prompt.split_off(example.response);
            if prompt.len() + reply.len() > room {
                context.skip(
                    study(case),
                    format!("perplexity: prompt and report are longer than the context of {room} tokens"),
                );
                continue;
            }
            given.push(Given { prompt, reply });
        }
        Ok(given)
    }
}
