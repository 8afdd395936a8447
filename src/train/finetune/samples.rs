//! Samples of what a model in training writes and draws, for people to look at.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use super::examples::{Examples, Skill};
use super::generate::Generator;
use crate::model::vqgan::Vqgan;
use crate::radiograph::{ImageFormat, Pixels, write};
use crate::train::common::TrainError;
use crate::train::vqgan::lay_out;

/// Most tokens of a sampled report.
const REPORT_TOKENS: usize = 160;

/// Reads the first `count` images of the validation split, spread evenly, and draws their reports: `<folder>/step-….txt` holds the
/// reports as written by people and by the model, `<folder>/step-….png` pairs each image, as the VQ-GAN keeps it, with the drawn one.
pub fn write_samples(
    folder: &Path,
    step: u64,
    generator: &Generator<'_>,
    examples: &Examples,
    vqgan: &Vqgan,
    count: usize,
    seed: u64,
) -> Result<(), TrainError> {
    let all: Vec<(usize, usize)> = (examples.validation.iter().filter(|p| p.skill == Skill::Report))
        .flat_map(|pool| pool.items.iter().map(move |&item| (pool.set, item as usize)))
        .collect();
    let count = count.min(all.len());
    if count == 0 {
        return Ok(());
    }
    std::fs::create_dir_all(folder).map_err(|e| TrainError::io(folder, e))?;
    let chosen: Vec<(usize, usize)> = (0..count).map(|n| all[n * all.len() / count]).collect();
    let asked = |skill| {
        chosen
            .iter()
            .map(|&(set, item)| examples.asked(set, item, skill))
            .collect::<Vec<_>>()
    };

    let reports = generator.texts(&asked(Skill::Report), REPORT_TOKENS);
    let mut text = String::from("Text by a model in training. For research only.\n");
    for (&(set, item), written) in chosen.iter().zip(&reports) {
        let set = &examples.corpus.sets[set];
        let image = &set.images[item];
        let report = set.report(image).unwrap_or_default();
        let _ = write!(text, "\n{}\n  report: {report}\n  model:  {written}\n", set.id(image));
    }
    let path = folder.join(format!("step-{step:010}.txt"));
    std::fs::write(&path, text).map_err(|e| TrainError::io(&path, e))?;

    let drawn = generator.images(&asked(Skill::Draw), seed);
    let drawn = tch::no_grad(|| vqgan.decode(&drawn));
    let codes: Vec<Vec<u16>> = (chosen.iter())
        .map(|&(set, item)| {
            let set = &examples.corpus.sets[set];
            set.codes(&set.images[item]).to_vec()
        })
        .collect();
    let pairs: Vec<(Arc<Pixels>, Pixels)> = tch::no_grad(|| vqgan.decode(&codes))
        .into_iter()
        .map(Arc::new)
        .zip(drawn)
        .collect();
    let Some(sheet) = lay_out(&pairs) else {
        return Ok(());
    };
    let note = "LLM-CXR in training: each pair is an encoded image and one drawn from its report (synthetic)";
    let bytes = write(&sheet, ImageFormat::Png, &[("Description", note)])?;
    let path = folder.join(format!("step-{step:010}.png"));
    std::fs::write(&path, bytes).map_err(|e| TrainError::io(&path, e))
}
