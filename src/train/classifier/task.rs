//! Training of the classifier: masked binary cross-entropy on every label that is known.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;
use tch::{Device, Kind, Tensor};

use super::scores::{Counts, auroc};
use super::settings::{CLIP, ClassifierSettings};
use super::{Classifier, ClassifierConfig};
use crate::model::checkpoint::Dtype;
use crate::train::common::checkpoint::{Restored, Snapshot};
use crate::train::common::schedule::{Schedule, Shape};
use crate::train::common::store::{replace_tensors, write_whole};
use crate::train::common::trainer::MODEL;
use crate::train::common::{
    Base, Basis, Fault, FlatSource, ImageBatch, ImageStream, Initial, Known, Labels, LeftOut, Outcome, Parameters,
    Plan, Skip, Task, TrainError, Trainer, clip, drive, finite, keep, open_sources, repeat_rare,
};

/// The labels that are `asked` for, or all that are `known` of a training image. One that is not would stay what chance made of it.
fn chosen(asked: &[String], known: Vec<String>) -> Result<Vec<String>, TrainError> {
    if known.is_empty() {
        return Err(TrainError::NoData(
            "no label is known of any training image: give data with labels (a column `labels` of a manifest or columns \
             as CheXpert's, or the table mimic-cxr-2.0.0-chexpert.csv, whose studies are those of the split table)"
                .to_owned(),
        ));
    }
    let asked: Vec<&str> = asked
        .iter()
        .map(|name| name.trim())
        .filter(|name| !name.is_empty())
        .collect();
    if asked.is_empty() {
        return Ok(known);
    }
    let mut seen = HashSet::new();
    for name in &asked {
        let same = |other: &String| other.to_lowercase() == name.to_lowercase();
        if !known.iter().any(same) {
            return Err(TrainError::Settings(format!(
                "--labels names `{name}`, which no training image has; known are {}",
                known.join(", ")
            )));
        }
        if !seen.insert(name.to_lowercase()) {
            return Err(TrainError::Settings(format!("--labels names `{name}` twice")));
        }
    }
    Ok(asked.into_iter().map(str::to_owned).collect())
}

/// What the run leaves in its folder.
pub const EXPORTED: &str = "classifier";

struct ClassifierTask {
    config: ClassifierConfig,
    labels: Labels,
    parameters: Parameters,
    trainer: Trainer,
    schedule: Schedule,
    kind: Kind,
    device: Device,
    validation: Vec<ImageBatch>,
    left_out: LeftOut,
    /// What the images are.
    basis: Basis,
    out: PathBuf,
}

/// Trains a classifier, or goes on with it; leaves `classifier/config.json` and `classifier/model.safetensors` in the run's folder.
pub fn train(settings: &ClassifierSettings, device: Device, stop: impl Fn() -> bool) -> Result<Outcome, TrainError> {
    let s = settings;
    s.check()?;
    let sources = open_sources(&s.data, true, Known::Labels)?;
    let stream = |sources| ImageStream::new(sources, s.seed, s.resolution, s.channels);
    let training = stream(repeat_rare(keep(sources.images, s.cache_mib), s.repeat_rare)).moved(s.shift);
    if training.is_empty() {
        return Err(TrainError::NoData(
            "the data has no training image (split `train`)".to_owned(),
        ));
    }
    let config = ClassifierConfig {
        resolution: s.resolution,
        channels: s.channels,
        stem_layers: s.stem_layers,
        growth: s.growth,
        blocks: s.blocks.clone(),
        labels: chosen(&s.labels, sources.labels)?,
    };
    config.check()?;
    let validation = stream(open_sources(&s.data, false, Known::Labels)?.images).once(s.validate_images);
    let parameters = Parameters::fresh(&config.expected_tensors(), Initial::Torch, s.seed, device)?;
    let basis = Basis {
        contents: Some(training.contents()),
        labels: Some(Base::labels(&s.data, &config.labels)),
        ..Basis::of(training.checksum())
    };
    let mut task = ClassifierTask {
        trainer: Trainer::new(MODEL, s.adamw(), s.ema, &parameters),
        parameters,
        labels: Labels::new(&config.labels),
        config,
        schedule: Schedule {
            peak: s.rate,
            warmup: (s.steps / 20).min(200),
            steps: s.steps,
            shape: Shape::Cosine,
            floor: 0.02,
        },
        kind: if s.bf16 { Kind::BFloat16 } else { Kind::Float },
        device,
        validation: validation.parts(s.batch),
        left_out: LeftOut {
            account: sources.account,
            images: validation.skipped,
        },
        basis,
        out: s.out.clone(),
    };
    let plan = Plan {
        title: "classifier".to_owned(),
        out: s.out.clone(),
        exports: EXPORTED,
        steps: s.steps,
        save_every: s.save_every,
        eval_every: s.eval_every,
        log_every: 20,
        workers: s.workers,
    };
    let value = serde_json::to_value(s).map_err(|e| TrainError::Settings(e.to_string()))?;
    let (training, size) = (Arc::new(training), s.batch);
    drive(&mut task, &plan, &value, move |n| training.batch(n, size), stop)
}

impl ClassifierTask {
    fn pixels(&self, batch: &ImageBatch) -> Tensor {
        batch.tensor(self.config.resolution, self.config.channels, self.device)
    }

    /// What a network with the weights `chosen` makes of the validation images, for each label.
    fn scored(&self, chosen: &Tensor) -> Result<Vec<Scored>, TrainError> {
        let source = FlatSource::new(&self.parameters, chosen);
        let network = Classifier::load(&self.config, &source, Kind::Float, self.device)?;
        let count = self.config.labels.len();
        let mut scored = vec![Scored::new(); count];
        for batch in self.validation.iter().filter(|b| !b.ids.is_empty()) {
            let (target, mask) = self.labels.targets(batch, self.device);
            let rows = |t: &Tensor| Vec::<f32>::try_from(t.to_device(Device::Cpu).view([-1])).map_err(TrainError::from);
            let (p, y, m) = (
                rows(&network.see(&self.pixels(batch)).logits)?,
                rows(&target)?,
                rows(&mask)?,
            );
            for (i, ((p, y), m)) in p.iter().zip(&y).zip(&m).enumerate() {
                if *m > 0.0 {
                    scored[i % count].push((f64::from(*p), *y > 0.5));
                }
            }
        }
        Ok(scored)
    }

    /// Prints how well each label is told.
    fn print(&self, step: u64, scored: &[Scored]) {
        crate::basics::tell(format_args!(
            "{:32} {:>7} {:>7} {:>9}",
            format!("step {step}"),
            "AUROC",
            "F1",
            "positives"
        ));
        for (name, scored) in self.config.labels.iter().zip(scored) {
            let show = |v: Option<f64>| v.map_or("–".to_owned(), |v| format!("{v:.3}"));
            let positives = scored.iter().filter(|s| s.1).count();
            crate::basics::tell(format_args!(
                "{name:32} {:>7} {:>7} {positives:>5}/{}",
                show(auroc(scored)),
                show(counts(scored).f1()),
                scored.len()
            ));
        }
    }

    /// Writes the network with the weights `chosen` to the run's folder.
    fn export(&self, chosen: &Tensor) -> Result<(), TrainError> {
        let folder = self.out.join(EXPORTED);
        std::fs::create_dir_all(&folder).map_err(|e| TrainError::io(&folder, e))?;
        let json = serde_json::to_string_pretty(&self.config).map_err(|e| TrainError::Settings(e.to_string()))?;
        write_whole(&folder.join("config.json"), json.as_bytes())?;
        let tensors = self.parameters.named("", chosen);
        replace_tensors(&folder.join("model.safetensors"), &tensors, Dtype::F32)
    }
}

/// For each image of which a label is known: the logit, and whether the label is there.
type Scored = Vec<(f64, bool)>;

/// The decisions on labels, at a probability of a half.
fn counts<'a>(scored: impl IntoIterator<Item = &'a (f64, bool)>) -> Counts {
    let mut counts = Counts::default();
    for &(logit, present) in scored {
        counts.add(logit > 0.0, present);
    }
    counts
}

/// The mean area under the curve of the labels that have one, and F1 over all decisions.
fn scores(scored: &[Scored]) -> Vec<(String, f64)> {
    let areas: Vec<f64> = scored.iter().filter_map(|scored| auroc(scored)).collect();
    let mean = (!areas.is_empty()).then(|| areas.iter().sum::<f64>() / areas.len() as f64);
    let micro = counts(scored.iter().flatten()).f1();
    let values = [("validation/auroc_macro", mean), ("validation/f1_micro", micro)];
    values
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
}

/// Why there is no score on these validation images.
fn why_unmeasured(validation: &[ImageBatch]) -> &'static str {
    match validation.iter().all(|batch| batch.ids.is_empty()) {
        true => "no image of a validation split can be used, or --validate-images is 0",
        false => "the images of the validation split have no finding that is known to be present, and none is told",
    }
}

impl Task for ClassifierTask {
    type Batch = ImageBatch;

    fn account(batch: &ImageBatch) -> (&[String], &[Skip]) {
        (&batch.ids, &batch.skipped)
    }

    fn left_out(&mut self) -> LeftOut {
        std::mem::take(&mut self.left_out)
    }

    fn step(&mut self, batch: &ImageBatch, step: u64) -> Result<Vec<(String, f64)>, Fault> {
        let network = Classifier::load(&self.config, &self.parameters, self.kind, self.device)?;
        let logits = network.see(&self.pixels(batch)).logits;
        let loss = self.labels.loss(&logits, batch, self.device)?;
        let mut gradient = self.parameters.gradient(&loss)?;
        let norm = tch::no_grad(|| clip(&mut gradient, CLIP));
        let values = vec![
            ("loss/cross_entropy".to_owned(), loss.double_value(&[])),
            ("gradient/norm".to_owned(), norm.double_value(&[])),
        ];
        finite(&values)?;
        let rate = self.schedule.rate(step);
        self.trainer.step(&self.parameters, &gradient, rate, step);
        Ok(values)
    }

    fn evaluate(&mut self, step: u64) -> Result<Vec<(String, f64)>, TrainError> {
        let _guard = tch::no_grad_guard();
        let chosen = self.trainer.chosen(&self.parameters);
        let scored = self.scored(chosen)?;
        if !self.validation.is_empty() {
            self.print(step, &scored);
        }
        self.export(chosen)?;
        Ok(scores(&scored))
    }

    fn unmeasured(&self) -> &'static str {
        why_unmeasured(&self.validation)
    }

    fn snapshot(&self, step: u64) -> Snapshot {
        Snapshot {
            step,
            tensors: self.trainer.named(&self.parameters),
            state: Value::from_iter([self.trainer.steps()]),
        }
    }

    fn basis(&self) -> Basis {
        self.basis.clone()
    }

    fn restore(&mut self, r: &Restored) -> Result<(), TrainError> {
        self.trainer.restore(&self.parameters, &r.weights, &r.state, r.step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_there_are_no_scores_is_told_by_whether_there_are_images() {
        let mut batch = ImageBatch::default();
        assert!(why_unmeasured(&[]).contains("no image of a validation split"));
        assert!(why_unmeasured(std::slice::from_ref(&batch)).contains("no image of a validation split"));
        batch.ids.push("a".to_owned());
        assert!(why_unmeasured(&[batch]).contains("no finding that is known to be present"));
        // As where all that is known is that nothing is there.
        assert!(scores(&[vec![(-1.0, false), (-2.0, false)]]).is_empty());
    }
}
