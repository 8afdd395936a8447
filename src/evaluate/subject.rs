//! The bundle under measurement: the service itself, in process.

use std::sync::Arc;

use futures::StreamExt;
use tokio::runtime::Runtime;

use super::{EvaluateError, EvaluateSettings};
use crate::engine::torch::{self, TorchOptions};
use crate::engine::{Engine, EngineConfig, EngineError, Facts, TokenRules};
use crate::model::bundle::Bundle;
use crate::model::device::DeviceChoice;
use crate::radiograph::Preprocess;
use crate::service::{Assistant, ImageDesk, Limits, ModelCard, Outcome, Request, ServiceError};
use crate::train::data::OWN_FILES;

/// Most sequences in a step.
const MAX_BATCH: usize = 32;

/// The service with its engine.
pub struct Subject {
    assistant: Assistant,
    runtime: Runtime,
    concurrency: usize,
    /// What the engine says of the model.
    pub facts: Arc<Facts>,
}

impl Subject {
    /// Loads the bundle, whose files are checked first.
    pub fn open(bundle: &Bundle, settings: &EvaluateSettings, device: DeviceChoice) -> Result<Self, EvaluateError> {
        let limits = Limits::default();
        // Prompts are never parted: where one is cut depends on what else runs, and the last bits of its numbers on where it is cut.
        let most = bundle.neox.max_position_embeddings.saturating_mul(MAX_BATCH);
        let config = EngineConfig {
            queue_jobs: settings.concurrency + 1,
            max_batch: Some(MAX_BATCH),
            prefill_chunk: Some(most),
            idle_prefill_chunk: most,
            ..EngineConfig::default()
        };
        let torch = TorchOptions {
            device,
            dtype: settings.dtype,
            weights: settings.weights,
            threads: settings.threads,
            max_batch: config.max_batch,
            verify: true,
            ..TorchOptions::default()
        };
        let vocabulary = bundle.vocabulary()?;
        let card = ModelCard::from(bundle);
        let desk = ImageDesk::new(2, OWN_FILES, Preprocess::Default, card.image_side);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        let runtime = runtime.map_err(|e| EvaluateError::Settings(format!("no thread could be started: {e}")))?;
        let rules = TokenRules::of(&vocabulary);
        let loaded = bundle.clone();
        let (assistant, facts) = runtime.block_on(async {
            let engine = Engine::start(config, rules, move || torch::load(&loaded, &torch));
            let facts = engine.ready().await?;
            Ok::<_, EngineError>((Assistant::new(engine, vocabulary, card, desk, limits), facts))
        })?;
        Ok(Self {
            assistant,
            runtime,
            concurrency: settings.concurrency,
            facts,
        })
    }

    /// Most questions in one request.
    pub fn questions_at_once(&self) -> usize {
        self.assistant.limits().questions
    }

    /// Puts requests to the service, some at a time, and gives each answer with the request's number to `done`, in order. A request
    /// that could not be made or answered is a sentence.
    ///
    /// # Errors
    /// When the engine has ended: nothing more will be answered.
    pub fn ask(
        &self,
        requests: impl Iterator<Item = Result<Request, String>>,
        mut done: impl FnMut(usize, Result<Outcome, String>),
    ) -> Result<(), EvaluateError> {
        self.runtime.block_on(async {
            let answers = futures::stream::iter(requests.enumerate()).map(|(number, request)| {
                let assistant = self.assistant.clone();
                async move {
                    let answer = match request {
                        Err(reason) => Ok(Err(reason)),
                        Ok(request) => answer(&assistant, request).await,
                    };
                    (number, answer)
                }
            });
            // In order, so that what is summed up is summed in the same order in every run.
            let mut answers = std::pin::pin!(answers.buffered(self.concurrency));
            while let Some((number, answer)) = answers.next().await {
                done(number, answer?);
            }
            Ok(())
        })
    }
}

async fn answer(assistant: &Assistant, request: Request) -> Result<Result<Outcome, String>, EvaluateError> {
    let outcome = match assistant.start(request).await {
        Ok(reply) => reply.finish().await,
        Err(error) => Err(error),
    };
    match outcome {
        Ok(outcome) => Ok(Ok(outcome)),
        Err(ServiceError::Engine(error @ (EngineError::Stopped | EngineError::Load(_) | EngineError::Stalled))) => {
            Err(error.into())
        }
        Err(error) => Ok(Err(error.to_string())),
    }
}
