//! From a bundle to an assistant, for the server and the offline commands alike.

use llm_cxr::config::{Dicom, ImageConfig, ModelConfig, ReplyConfig, ServeConfig, Speculation};
use llm_cxr::engine::torch::{self, TorchOptions};
use llm_cxr::engine::{Engine, EngineConfig, TokenRules};
use llm_cxr::model::bundle::Bundle;
use llm_cxr::model::device::check_threads;
use llm_cxr::radiograph::{DecodeLimits, Preprocess};
use llm_cxr::service::dicom::DicomReader;
use llm_cxr::service::{Assistant, ImageDesk, Limits, ModelCard};
use llm_cxr::vocabulary::Vocabulary;
use tokio::runtime::Runtime;

/// What an assistant is made of, beside its bundle.
pub struct Recipe {
    pub engine: EngineConfig,
    pub torch: TorchOptions,
    pub decode: DecodeLimits,
    pub preprocess: Preprocess,
    pub dicom: Dicom,
    pub image_workers: usize,
    pub limits: Limits,
    /// Readings of a report, instead of the bundle's number.
    pub readings: Option<usize>,
}

/// Starts the engine, which loads the bundle in its own thread, and puts the assistant in front of it. `vocabulary` is the bundle's.
pub fn assistant(bundle: Bundle, vocabulary: Vocabulary, recipe: Recipe) -> Assistant {
    let Recipe {
        engine,
        torch,
        decode,
        preprocess,
        dicom,
        image_workers,
        limits,
        readings,
    } = recipe;
    let mut card = ModelCard::from(&bundle);
    card.readings = readings.unwrap_or(card.readings);
    let mut desk = ImageDesk::new(image_workers, decode, preprocess, card.image_side);
    if dicom == Dicom::On {
        // This very program, even where another version has taken its place on the disk since.
        desk = desk.with_dicom(DicomReader::new("/proc/self/exe".into()));
    }
    let engine = Engine::start(engine, TokenRules::of(&vocabulary), move || {
        torch::load(&bundle, &torch)
    });
    Assistant::new(engine, vocabulary, card, desk, limits)
}

/// An assistant that is ready, and the runtime it lives on.
pub struct Assembled {
    pub assistant: Assistant,
    pub runtime: Runtime,
}

/// Loads a bundle for one command.
pub fn offline(
    config: &ModelConfig,
    images: ImageConfig,
    replies: ReplyConfig,
) -> Result<Assembled, Box<dyn std::error::Error>> {
    check_threads(config.threads)?;
    let bundle = Bundle::open(&config.folder)?;
    let vocabulary = bundle.vocabulary()?;
    let limits = Limits::default();
    let torch = TorchOptions {
        device: config.device,
        dtype: config.dtype,
        weights: config.weights,
        threads: config.threads,
        max_batch: Some(limits.questions),
        verify: true,
        ..TorchOptions::default()
    };
    // The operator's own files are not hostile clients' bodies: no limit on their bytes, the usual ones on their pixels.
    let decode = DecodeLimits {
        max_bytes: usize::MAX,
        ..DecodeLimits::default()
    };
    let recipe = Recipe {
        // Prompts are cut where the server cuts them, so that both give the same bits.
        engine: EngineConfig {
            prefill_chunk: ServeConfig::default().prefill_chunk,
            speculation: replies.speculation == Speculation::On,
            ..EngineConfig::default()
        },
        torch,
        decode,
        preprocess: images.preprocess,
        dicom: Dicom::On,
        image_workers: 1,
        limits,
        readings: None,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let assistant = runtime.block_on(async {
        let assistant = assistant(bundle, vocabulary, recipe);
        assistant.engine().ready().await?;
        Ok::<_, Box<dyn std::error::Error>>(assistant)
    })?;
    Ok(Assembled { assistant, runtime })
}
