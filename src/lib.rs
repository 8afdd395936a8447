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

/// The commit that this was built from, where the build was told (`LLM_CXR_REVISION`). No build asks git: each commit would build all anew.
pub const COMMIT: Option<&str> = match option_env!("LLM_CXR_REVISION") {
    Some(commit) if !commit.is_empty() => Some(commit),
    _ => None,
};

/// What `--version` says: the version, and behind it the commit where it is known.
pub fn version() -> &'static str {
    static VERSION: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    VERSION.get_or_init(|| version_of(env!("CARGO_PKG_VERSION"), COMMIT))
}

/// A commit's hash is cut, as git shows it; what is none stands as it was given.
fn version_of(version: &str, commit: Option<&str>) -> String {
    let Some(commit) = commit else {
        return version.to_owned();
    };
    let is_hash = commit.bytes().all(|b| b.is_ascii_hexdigit());
    let short = commit.get(..12).filter(|_| is_hash).unwrap_or(commit);
    format!("{version} ({short})")
}

/// Shown wherever a result is shown: what these models are for, and what they are not.
pub const RESEARCH_NOTICE: &str =
    "For research only. Not a medical device; not for diagnosis or treatment. Generated text and images may be wrong.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_names_its_commit_where_the_build_was_told() {
        assert_eq!(version_of("0.1.0", None), "0.1.0");
        assert_eq!(version_of("0.1.0", Some("abc1234")), "0.1.0 (abc1234)");
        let hash = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(version_of("0.1.0", Some(hash)), "0.1.0 (0123456789ab)");
        let described = "v0.1.0-3-gabc1234-dirty";
        assert_eq!(version_of("0.1.0", Some(described)), format!("0.1.0 ({described})"));
        assert!(version().starts_with(env!("CARGO_PKG_VERSION")));
    }
}
