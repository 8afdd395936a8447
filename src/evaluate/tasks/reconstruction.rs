//! What survives the VQ-GAN: the bound of everything that the model reads or draws.

use std::sync::Arc;

use rayon::prelude::*;
use serde::Serialize;

use super::super::EvaluateError;
use super::super::page::Sample;
use super::super::studies::Study;
use super::super::torch::{Reader, Reconstructed, VqganProbe, feature_distance};
use super::drawings::{ReadScores, Rows, TOGETHER, known, read_scores, seen};
use super::sizes::{SizeScores, Sizes};
use super::{Context, picture, pixels};
use crate::phantom::{LABELS, Label};
use crate::radiograph::Pixels;

/// Likeness of images to their reconstructions.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Likeness {
    /// Images.
    pub images: usize,
    /// Mean peak signal-to-noise ratio in dB.
    pub psnr: f64,
    /// Mean structural similarity.
    pub ssim: f64,
}

/// How the classifier's decisions on one label change.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DecisionChange {
    /// The label.
    pub label: String,
    /// Images on which both readings decide alike.
    pub alike: f64,
    /// Of the images in which it was seen before, the share in which it still is.
    pub kept: Option<f64>,
    /// Images in which it was seen before.
    pub seen: usize,
}

/// What the classifier makes of reconstructions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Readings {
    /// The data's images against what is known of them; none where nothing is known.
    pub real: Option<ReadScores>,
    /// Their reconstructions.
    pub reconstructed: Option<ReadScores>,
    /// Findings by size, where the data is of phantoms: the share that the classifier still sees, and that it saw.
    pub by_size: Vec<SizeScores>,
    /// Before against after.
    pub agreement: Vec<DecisionChange>,
    /// Mean squared difference of the feature vectors: the clinical-feature distance.
    pub feature_distance: f64,
}

/// What survives.
#[derive(Clone, Debug, Serialize)]
pub struct Reconstruction {
    /// Over all images.
    #[serde(flatten)]
    pub all: Likeness,
    /// Share of the code book that is used.
    pub codes_used: f64,
    /// Perplexity of its use.
    pub code_perplexity: f64,
    /// Over the images with each label.
    pub by_label: Vec<(String, Likeness)>,
    /// With a classifier.
    pub read: Option<Readings>,
    /// For the page.
    #[serde(skip)]
    pub samples: Vec<Sample>,
}

/// Sums over the images seen so far.
#[derive(Default)]
struct Sums {
    all: Likeness,
    by_label: Vec<Likeness>,
    real: Rows,
    reconstructed: Rows,
    before_after: Vec<(Vec<f64>, Vec<f64>)>,
    features: f64,
    sizes: Sizes,
}

impl Sums {
    /// Adds a batch's likenesses.
    fn liken(&mut self, batch: &Batch<'_>, reconstructed: &[Reconstructed]) {
        for (one, truth) in reconstructed.iter().zip(&batch.truths) {
            let add = |sum: &mut Likeness| {
                sum.images += 1;
                sum.psnr += one.psnr;
                sum.ssim += one.ssim;
            };
            add(&mut self.all);
            for (sum, label) in self.by_label.iter_mut().zip(&truth.0) {
                if *label == Some(Label::Positive) {
                    add(sum);
                }
            }
        }
    }

    /// Adds what the classifier makes of a batch and of its reconstructions.
    fn read(&mut self, reader: &Reader, batch: &Batch<'_>, drawn: &[Pixels]) -> Result<(), EvaluateError> {
        let before = self.before_after.len();
        compare(reader, &batch.larges, drawn, &batch.truths, self)?;
        for (study, (real, after)) in batch.studies.iter().zip(&self.before_after[before..]) {
            if let Some(truth) = study.phantom() {
                self.sizes.add(&truth, seen(reader, after), Some(&seen(reader, real)));
            }
        }
        Ok(())
    }
}

/// Images that could be read, with what is known of them.
#[derive(Default)]
struct Batch<'a> {
    studies: Vec<&'a Study>,
    images: Vec<Arc<Pixels>>,
    /// In the classifier's size, where there is one.
    larges: Vec<Arc<Pixels>>,
    /// What is true of each, and its patient.
    truths: Vec<([Option<Label>; 14], usize)>,
    /// Why the first of those that are left out is.
    fault: Option<String>,
}

impl<'a> Batch<'a> {
    /// Reads the images of some studies in the VQ-GAN's size, and in the classifier's.
    fn of(
        context: &Context<'_>,
        studies: &'a [Study],
        patients: &[usize],
        side: usize,
        large: Option<usize>,
    ) -> Result<Self, EvaluateError> {
        let stage = context.settings.stage;
        let read: Vec<_> = studies
            .par_iter()
            .map(|study| {
                let own = pixels(study, side)?;
                let large = large.map(|side| pixels(study, side)).transpose()?;
                Ok::<_, String>((own, large, study.truth(stage)))
            })
            .collect();
        let mut batch = Self::default();
        for ((study, &patient), one) in studies.iter().zip(patients).zip(read) {
            context.progress.step();
            match one {
                Ok((own, large, truth)) => {
                    batch.images.push(own);
                    batch.larges.extend(large);
                    batch.truths.push((truth?, patient));
                    batch.studies.push(study);
                }
                Err(reason) => {
                    context.skip(study, reason.clone());
                    batch.fault.get_or_insert(reason);
                }
            }
        }
        Ok(batch)
    }
}

/// Sends every image through the VQ-GAN and back.
pub fn reconstruction(
    context: &Context<'_>,
    probe: &mut VqganProbe,
    side: usize,
    reader: Option<&Reader>,
) -> Result<Reconstruction, EvaluateError> {
    let studies = &context.studies.list;
    context.progress.begin("reconstructions", studies.len() as u64);
    let mut sums = Sums {
        by_label: vec![Likeness::default(); LABELS.len()],
        ..Sums::default()
    };
    let (mut samples, mut first) = (Vec::new(), None);
    let patients = context.studies.patients();
    for (chunk, patients) in studies.chunks(TOGETHER).zip(patients.chunks(TOGETHER)) {
        let mut batch = Batch::of(context, chunk, patients, side, reader.map(Reader::side))?;
        first = first.or(batch.fault.take());
        if batch.images.is_empty() {
            continue;
        }
        let reconstructed = probe.reconstruct(&batch.images)?;
        for ((study, image), one) in batch.studies.iter().zip(&batch.images).zip(&reconstructed) {
            if samples.len() < context.settings.samples {
                samples.push(shown(study, image, one));
            }
        }
        sums.liken(&batch, &reconstructed);
        if let Some(reader) = reader {
            let drawn: Vec<Pixels> = reconstructed.into_iter().map(|s| s.drawn).collect();
            sums.read(reader, &batch, &drawn)?;
        }
    }
    if sums.all.images == 0 {
        return Err(EvaluateError::Nothing {
            part: "reconstruction",
            count: studies.len(),
            first: first.unwrap_or_default(),
        });
    }
    let (codes_used, code_perplexity) = probe.code_book();
    let by_label = LABELS.iter().zip(&sums.by_label).filter(|(_, sum)| sum.images > 0);
    Ok(Reconstruction {
        all: mean(&sums.all),
        codes_used,
        code_perplexity,
        by_label: by_label.map(|(name, sum)| ((*name).to_owned(), mean(sum))).collect(),
        read: reader.map(|reader| readings(reader, &sums, context.settings.seed)),
        samples,
    })
}

/// An image and its reconstruction, for the page.
fn shown(study: &Study, image: &Pixels, one: &Reconstructed) -> Sample {
    Sample {
        title: format!("{}: {:.1} dB, SSIM {:.3}", study.id, one.psnr, one.ssim),
        figures: vec![
            ("image of the data".to_owned(), picture(image)),
            ("reconstruction (synthetic)".to_owned(), picture(&one.drawn)),
        ],
        texts: Vec::new(),
    }
}

/// Of sums over images.
fn mean(sum: &Likeness) -> Likeness {
    let n = sum.images.max(1) as f64;
    Likeness {
        images: sum.images,
        psnr: sum.psnr / n,
        ssim: sum.ssim / n,
    }
}

/// Reads images and their reconstructions. With what is true of each image comes its patient.
fn compare(
    reader: &Reader,
    images: &[Arc<Pixels>],
    drawn: &[Pixels],
    truths: &[([Option<Label>; 14], usize)],
    sums: &mut Sums,
) -> Result<(), EvaluateError> {
    let before = reader.see(&images.iter().map(AsRef::as_ref).collect::<Vec<_>>())?;
    let after = reader.see(&drawn.iter().collect::<Vec<_>>())?;
    sums.features += feature_distance(&before.features, &after.features)?;
    for ((before, after), (truth, patient)) in before.probabilities.into_iter().zip(after.probabilities).zip(truths) {
        let truth = known(truth, reader);
        if truth.iter().any(Option::is_some) {
            sums.real.push((before.clone(), truth.clone(), *patient));
            sums.reconstructed.push((after.clone(), truth, *patient));
        }
        sums.before_after.push((before, after));
    }
    Ok(())
}

fn readings(reader: &Reader, sums: &Sums, seed: u64) -> Readings {
    let names = reader.labels();
    let scores = |rows: &Rows| (!rows.is_empty()).then(|| read_scores(rows, &names, seed));
    let pairs = &sums.before_after;
    let agreement = names.iter().enumerate().map(|(place, name)| {
        let decided = pairs.iter().map(|(a, b)| (a[place] > 0.5, b[place] > 0.5));
        let seen = decided.clone().filter(|d| d.0).count();
        let kept = decided.clone().filter(|d| d.0 && d.1).count();
        DecisionChange {
            label: name.clone(),
            alike: decided.filter(|d| d.0 == d.1).count() as f64 / pairs.len().max(1) as f64,
            kept: (seen > 0).then(|| kept as f64 / seen as f64),
            seen,
        }
    });
    Readings {
        real: scores(&sums.real),
        reconstructed: scores(&sums.reconstructed),
        by_size: sums.sizes.scores(),
        agreement: agreement.collect(),
        feature_distance: sums.features / pairs.len().max(1) as f64,
    }
}
