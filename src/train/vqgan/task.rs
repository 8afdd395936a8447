//! A run of the VQ-GAN: what it begins with, measures, exports and saves.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;
use tch::{Device, Kind, Tensor};

use super::code_book::Use;
use super::discriminator::Discriminator;
use super::evaluate;
use super::features::FeatureNetwork;
use super::files::VqganFiles;
use super::findings::{FindingsReader, is_reader};
use super::generator::{Generator, quantize};
use super::settings::VqganSettings;
use crate::model::checkpoint::Dtype;
use crate::model::vqgan::Vqgan;
use crate::radiograph::Pixels;
use crate::train::common::checkpoint::{Restored, Snapshot, read_counts};
use crate::train::common::schedule::{Schedule, Shape};
use crate::train::common::store::{replace_tensors, write_whole};
use crate::train::common::trainer::MODEL;
use crate::train::common::{
    Base, Basis, Fault, FlatSource, ImageBatch, ImageStream, Known, Labels, LeftOut, Outcome, Plan, Skip, Task,
    TrainError, Trainer, drive, keep, open_sources, repeat_rare,
};

/// The names of the discriminator and of its optimizer in checkpoints.
const DISCRIMINATOR: [&str; 2] = ["discriminator", "disc_optimizer"];

/// What the run leaves in its folder.
pub const EXPORTED: &str = "vqgan";

pub(super) struct VqganTask {
    pub(super) settings: VqganSettings,
    pub(super) generator: Generator,
    pub(super) trainer: Trainer,
    pub(super) discriminator: Discriminator,
    pub(super) disc_trainer: Trainer,
    pub(super) used: Use,
    /// Whether the code book has been made from data.
    pub(super) code_book_made: bool,
    pub(super) features: Option<FeatureNetwork>,
    pub(super) findings: Option<FindingsReader>,
    pub(super) schedule: Schedule,
    pub(super) kind: Kind,
    pub(super) device: Device,
    pub(super) material: Material,
}

/// What is known of the data before the first step.
#[derive(Default)]
pub(super) struct Material {
    /// Names of the labels, which `--findings-weight` asks to be readable.
    pub(super) labels: Vec<String>,
    /// Images that are measured.
    pub(super) validation: Vec<Arc<Pixels>>,
    /// The same images with their labels, as many at a time as are measured at a time.
    pub(super) labelled: Vec<ImageBatch>,
    /// What of the data cannot be used.
    pub(super) left_out: LeftOut,
    /// What the images are.
    pub(super) basis: Basis,
}

/// Trains a VQ-GAN, or goes on with it; leaves `vqgan/config.yaml` and `vqgan/model.safetensors` in the run's folder.
pub fn train(settings: &VqganSettings, device: Device, stop: impl Fn() -> bool) -> Result<Outcome, TrainError> {
    let s = settings;
    s.check()?;
    let config = s.shape()?;
    let reads = s.findings_weight > 0.0;
    let known = match reads {
        true => Known::LabelsAndAnswers,
        false => Known::Labels,
    };
    let sources = open_sources(&s.data, true, known)?;
    let stream = |sources| ImageStream::new(sources, s.seed, config.resolution, config.in_channels);
    let training = stream(repeat_rare(keep(sources.images, s.cache_mib), s.repeat_rare));
    if training.is_empty() {
        return Err(TrainError::NoData(
            "the data has no training image (split `train`)".to_owned(),
        ));
    }
    let validation = stream(open_sources(&s.data, false, known)?.images).once(s.validate_images);
    let material = Material {
        basis: Basis {
            contents: reads.then(|| training.contents()),
            labels: reads.then(|| Base::labels(&s.data, &sources.labels)),
            ..Basis::of(training.checksum())
        },
        labels: sources.labels,
        validation: evaluate::pixels(&validation, config.resolution, config.in_channels),
        labelled: validation.parts(evaluate::CHUNK),
        left_out: LeftOut {
            account: sources.account,
            images: validation.skipped,
        },
    };
    let size = s.batch;
    VqganTask::new(s, material, device)?.drive(move |number| training.batch(number, size), stop)
}

impl VqganTask {
    /// Of settings that have been checked.
    pub(super) fn new(settings: &VqganSettings, material: Material, device: Device) -> Result<Self, TrainError> {
        let s = settings;
        let config = s.shape()?;
        if s.findings_weight > 0.0 && material.labels.is_empty() {
            return Err(TrainError::Settings(
                "--findings-weight needs data with labels or questions; there are none".to_owned(),
            ));
        }
        let findings = (s.findings_weight > 0.0).then(|| FindingsReader::new(Labels::new(&material.labels)));
        let beside = findings
            .as_ref()
            .map(|reader| reader.expected_tensors(config.embed_dim));
        let generator = Generator::new(&config, beside.unwrap_or_default(), s.seed, device)?;
        if let Some(folder) = &s.init {
            let weights = VqganFiles::find(folder)?.open()?;
            let p = &generator.parameters;
            p.read_those("", p.flat(), &weights, |name| !is_reader(name))?;
        }
        let discriminator = Discriminator::new(config.out_ch, s.disc_width, s.disc_layers, s.seed, device)?;
        let kind = if s.bf16 { Kind::BFloat16 } else { Kind::Float };
        let adamw = s.adamw();
        Ok(Self {
            trainer: Trainer::new(MODEL, adamw, s.ema, &generator.parameters),
            disc_trainer: Trainer::new(DISCRIMINATOR, adamw, 0.0, &discriminator.parameters),
            used: Use::new(config.n_embed),
            code_book_made: s.init.is_some() && s.findings_first == 0,
            features: FeatureNetwork::open_all(&s.perceptual, kind, device)?,
            findings,
            schedule: Schedule {
                peak: s.rate,
                warmup: s.warmup,
                steps: s.steps,
                shape: Shape::Cosine,
                floor: 0.1,
            },
            settings: s.clone(),
            generator,
            discriminator,
            kind,
            device,
            material,
        })
    }

    pub(super) fn drive(
        &mut self,
        batch: impl Fn(u64) -> ImageBatch + Send + Sync + 'static,
        stop: impl Fn() -> bool,
    ) -> Result<Outcome, TrainError> {
        let s = &self.settings;
        let plan = Plan {
            title: "vqgan".to_owned(),
            out: s.out.clone(),
            exports: EXPORTED,
            steps: s.steps,
            save_every: s.save_every,
            eval_every: s.eval_every,
            log_every: s.log_every,
            workers: s.workers,
        };
        let config = &self.generator.config;
        if s.init.is_some() || s.config.is_some() {
            crate::basics::tell(format_args!(
                "{} × {} pixels, channels {}, width {} × {:?}, {} codes of {}, as the file says",
                config.resolution,
                config.resolution,
                config.in_channels,
                config.ch,
                config.ch_mult,
                config.n_embed,
                config.embed_dim
            ));
        }
        let value = serde_json::to_value(s.filled(config)).map_err(|e| TrainError::Settings(e.to_string()))?;
        drive(self, &plan, &value, batch, stop)
    }

    /// What is measured and exported: the average of the weights, or the weights.
    fn chosen(&self) -> &Tensor {
        self.trainer.chosen(&self.generator.parameters)
    }

    fn export(&self) -> Result<(), TrainError> {
        let folder = self.settings.out.join(EXPORTED);
        std::fs::create_dir_all(&folder).map_err(|e| TrainError::io(&folder, e))?;
        write_whole(&folder.join("config.yaml"), self.generator.config.to_yaml().as_bytes())?;
        let mut tensors = self.generator.parameters.named("", self.chosen());
        tensors.retain(|(name, _)| !is_reader(name));
        replace_tensors(&folder.join("model.safetensors"), &tensors, Dtype::F32)
    }
}

impl Task for VqganTask {
    type Batch = ImageBatch;

    fn account(batch: &ImageBatch) -> (&[String], &[Skip]) {
        (&batch.ids, &batch.skipped)
    }

    fn left_out(&mut self) -> LeftOut {
        std::mem::take(&mut self.material.left_out)
    }

    fn step(&mut self, batch: &ImageBatch, step: u64) -> Result<Vec<(String, f64)>, Fault> {
        self.learn_from(batch, step)
    }

    fn evaluate(&mut self, step: u64) -> Result<Vec<(String, f64)>, TrainError> {
        let _guard = tch::no_grad_guard();
        self.export()?;
        if self.material.validation.is_empty() {
            return Ok(Vec::new());
        }
        let source = FlatSource::new(&self.generator.parameters, self.chosen());
        let network = Vqgan::load(&self.generator.config, &source, Kind::Float, self.device)?;
        let s = &self.settings;
        let folder: PathBuf = s.out.join("sheets");
        std::fs::create_dir_all(&folder).map_err(|e| TrainError::io(&folder, e))?;
        let sheet = folder.join(format!("step-{step:010}.png"));
        let mut values = Vec::new();
        if let Some(reader) = &self.findings {
            // The reader and the encoder that are exported or would be, not those that the next step goes on from.
            let (config, quantises) = (&self.generator.config, step > s.quantises_from());
            let network = self.generator.network_of(&source, self.kind)?;
            let latents = |images: &ImageBatch| {
                let z = network.encode(&images.tensor(config.resolution, config.in_channels, self.device));
                let codes = quantises.then(|| quantize(&z, &network.code_book, s.beta).straight);
                (z, codes)
            };
            values.extend(reader.measure(&source, &self.material.labelled, &latents, self.device)?);
        }
        if step <= s.findings_first {
            // The decoder has not begun: there is no reconstruction to measure.
            return Ok(values);
        }
        values.extend(evaluate::measure(
            &network,
            &self.material.validation,
            self.features.as_ref(),
            self.device,
            &sheet,
        )?);
        Ok(values)
    }

    fn unmeasured(&self) -> &'static str {
        "no image of a validation split can be used, or --validate-images is 0"
    }

    fn snapshot(&self, step: u64) -> Snapshot {
        let mut tensors = self.trainer.named(&self.generator.parameters);
        tensors.extend(self.disc_trainer.named(&self.discriminator.parameters));
        tensors.push(("code_use".to_owned(), Tensor::from_slice(&self.used.0)));
        let made = ("code_book_made".to_owned(), Value::Bool(self.code_book_made));
        let state = Value::from_iter([self.trainer.steps(), self.disc_trainer.steps(), made]);
        Snapshot { step, tensors, state }
    }

    fn basis(&self) -> Basis {
        self.material.basis.clone()
    }

    fn restore(&mut self, r: &Restored) -> Result<(), TrainError> {
        self.trainer
            .restore(&self.generator.parameters, &r.weights, &r.state, r.step)?;
        self.disc_trainer
            .restore(&self.discriminator.parameters, &r.weights, &r.state, r.step)?;
        // Checkpoints of earlier versions do not say it.
        let made = r.state["code_book_made"].as_bool();
        self.code_book_made = made.unwrap_or(self.code_book_made || r.step > self.settings.quantises_from());
        self.used.0 = read_counts(&r.weights, "code_use")?;
        if self.used.0.len() != self.generator.config.n_embed {
            return Err(TrainError::Settings(
                "the checkpoint counts another number of codes".to_owned(),
            ));
        }
        Ok(())
    }
}
