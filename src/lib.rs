//! LLM-CXR: one language model that reads chest X-rays, answers questions about them and draws them.
//!
//! The model (paper arXiv 2305.11490) is a GPT-NeoX language model whose vocabulary is extended by the codes of a VQ-GAN:
//! an X-ray is 256 (or 64, …) tokens among others, on the way in and on the way out.
//!
//! # The way of a request
//!
//! ```text
//! bytes ─ radiograph ─ VQ-GAN codes ─ prompt ids ─┐
//!                                                 ├─ admission ─ scheduler ─ step ─ events ─ text │ codes ─ VQ-GAN ─ radiograph ─ bytes
//! text ────────────────────────── prompt ids ─────┘
//! ```
//!
//! There is one way through. Report, question, drawing and chat are different prompts and different rules for what may come
//! next ([`engine::Rule`]).
//!
//! # Rooms
//!
//! | room | what lives there | may use |
//! | --- | --- | --- |
//! | [`basics`] | what knows nothing of any room: hexadecimal, checksums of files, locks, text in markup, command lines, lines for whoever looks on | – |
//! | [`vocabulary`] | the one token space: text ids, control ids, image codes; prompt layout | – |
//! | [`radiograph`] | PNG, JPEG, DICOM → pixels for the model (PNG and JPEG exactly as Pillow makes them); pixels → PNG, JPEG | – |
//! | [`model`] | GPT-NeoX, VQ-GAN, KV memory, checkpoint reading, tables for drafts, the bundle | `vocabulary`, `radiograph::Pixels`, `basics` |
//! | [`engine`] | admission queue and scheduler (no tensors), sampling, constraints, the one thread that owns the model | `vocabulary`, `radiograph::Pixels`, `model` |
//! | [`service`] | report, question, drawing, instruction: what the product does, without HTTP | `engine`, `radiograph`, `vocabulary`, `model::bundle`, `labeler`, `phantom::Label`, `phantom::LABELS` |
//! | [`http`] | routes, wire types, errors, keys, limits, the contract | `service`, `config`, `basics`; of the engine its handle, for health and drain (`engine::Engine`, `engine::EngineState`, `engine::EngineError`, `engine::whole_seconds`, `engine::describe_metrics`), and plain values (`engine::Caller`, `engine::FinishReason`, `engine::Sampling`); of images `radiograph::ImageFormat`, `radiograph::ImageNote`, `radiograph::RadiographError`, `radiograph::DicomError` |
//! | [`labeler`] | which findings a report affirms, denies or leaves open, and where; the same in few words; yes and no of an answer | `phantom::Label`, `phantom::LABELS`; its tests `phantom::Phantom`, `phantom::Kind`, `phantom::Side` |
//! | [`train`] | what makes bundles | `model`, `vocabulary`, `radiograph`, `labeler`, `basics` |
//! | [`evaluate`] | how good a bundle is: reports, answers and drawings against what is true; scores, a page | `service`, `engine`, `model`, `train`, `labeler`, `radiograph`, `vocabulary`, `phantom`, `basics` |
//! | [`phantom`] | synthetic radiographs with known findings, their reports and questions | `radiograph` |
//! | [`config`] | the one configuration struct of the server | names and ranges of settings (`radiograph::Preprocess`, `radiograph::MAX_PIXELS`, `model::device`, `model::cpu`, `model::bundle::READINGS`), `basics` |
//! | `bin/` | `llm-cxr` and `llm-cxr-train`: parse, call, print | all |
//!
//! Where a path stands, it is that item that may be used, with what is below it. Nothing points upwards. `tch` appears only in [`model`], [`train`],
//! `evaluate::torch` and `engine::torch` (the engine's worker). A test (`tests/architecture.rs`) holds these walls.

pub mod basics;
pub mod config;
pub mod engine;
pub mod evaluate;
pub mod http;
pub mod labeler;
pub mod model;
pub mod phantom;
pub mod radiograph;
pub mod service;
pub mod train;
pub mod vocabulary;

/// Shown wherever a result is shown: what these models are for, and what they are not.
pub const RESEARCH_NOTICE: &str =
    "For research only. Not a medical device; not for diagnosis or treatment. Generated text and images may be wrong.";
