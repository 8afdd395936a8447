//! The training step of the VQ-GAN.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;
use tch::{Device, Kind, Tensor};

use super::code_book::{self, Use};
use super::discriminator::Discriminator;
use super::evaluate;
use super::features::FeatureNetwork;
use super::findings::{FindingsReader, is_reader};
use super::generator::{Generator, LAST_LAYER, of_decoder, quantize, rows};
use super::loss::{adaptive_weight, generator, hinge};
use super::settings::VqganSettings;
use crate::model::checkpoint::Weights;
use crate::model::vqgan::Vqgan;
use crate::radiograph::Pixels;
use crate::train::common::adamw::{Adamw, AdamwSettings};
use crate::train::common::checkpoint::{Restored, Snapshot, read_counts, write_tensors, write_whole};
use crate::train::common::schedule::{Schedule, Shape};
use crate::train::common::{
    Average, Fault, FlatSource, ImageBatch, ImageStream, Known, Labels, Outcome, Plan, Task, TrainError, clip, drive,
    finite, keep, open_sources, repeat_rare,
};

/// Terms of a loss by name, for the log.
type Terms = Vec<(&'static str, Tensor)>;

pub(super) struct VqganTask {
    pub(super) settings: VqganSettings,
    pub(super) generator: Generator,
    optimizer: Adamw,
    discriminator: Discriminator,
    disc_optimizer: Adamw,
    average: Option<Average>,
    used: Use,
    /// Whether the code book has been made from data.
    code_book_made: bool,
    features: Option<FeatureNetwork>,
    findings: Option<FindingsReader>,
    schedule: Schedule,
    kind: Kind,
    device: Device,
    validation: Vec<Arc<Pixels>>,
    /// The same images with their labels, as many at a time as are measured at a time.
    labelled: Vec<ImageBatch>,
}

/// Trains a VQ-GAN, or goes on with it; leaves `vqgan/config.yaml` and `vqgan/model.safetensors` in the run's folder.
pub fn train(settings: &VqganSettings, device: Device, stop: impl Fn() -> bool) -> Result<Outcome, TrainError> {
    let known = match settings.findings_weight > 0.0 {
        true => Known::LabelsAndAnswers,
        false => Known::Labels,
    };
    let (sources, labels) = open_sources(&settings.data, true, known)?;
    let mut task = VqganTask::new(settings, &labels, device)?;
    let config = task.generator.config.clone();
    let stream = |sources| ImageStream::new(sources, settings.seed, config.resolution, config.in_channels);
    let kept = keep(sources, settings.cache_mib);
    let training = stream(repeat_rare(kept, settings.repeat_rare));
    let validation = stream(open_sources(&settings.data, false, known)?.0);
    if training.is_empty() {
        return Err(TrainError::NoData(
            "the data has no training image (split `train`)".to_owned(),
        ));
    }
    if !validation.is_empty() {
        let batch = validation.batch(0, settings.validate_images);
        task.validation = evaluate::pixels(&batch, config.resolution, config.in_channels);
        task.labelled = batch.parts(evaluate::CHUNK);
    }
    let size = settings.batch;
    task.drive(move |number| training.batch(number, size), stop)
}

impl VqganTask {
    /// `labels` are those of the data, which `--findings-weight` asks to be readable.
    pub(super) fn new(settings: &VqganSettings, labels: &[String], device: Device) -> Result<Self, TrainError> {
        let s = settings;
        s.check()?;
        let config = s.shape()?;
        if s.findings_weight > 0.0 && labels.is_empty() {
            return Err(TrainError::Settings(
                "--findings-weight needs data with labels or questions; there are none".to_owned(),
            ));
        }
        let findings = (s.findings_weight > 0.0).then(|| FindingsReader::new(Labels::new(labels)));
        let beside = findings
            .as_ref()
            .map(|reader| reader.expected_tensors(config.embed_dim));
        let generator = Generator::new(&config, beside.unwrap_or_default(), s.seed, device)?;
        if let Some(folder) = &s.init {
            let weights = Weights::open(&[folder.join("model.safetensors")])?;
            let p = &generator.parameters;
            p.read_those("", p.flat(), &weights, |name| !is_reader(name))?;
        }
        let discriminator = Discriminator::new(config.out_ch, s.disc_width, s.disc_layers, s.seed, device)?;
        let kind = if s.bf16 { Kind::BFloat16 } else { Kind::Float };
        let adamw = AdamwSettings {
            beta1: s.adam_beta1,
            beta2: s.adam_beta2,
            ..AdamwSettings::default()
        };
        Ok(Self {
            optimizer: Adamw::new(adamw, &generator.parameters),
            disc_optimizer: Adamw::new(adamw, &discriminator.parameters),
            average: Average::of(&generator.parameters, s.ema),
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
            validation: Vec::new(),
            labelled: Vec::new(),
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
            steps: s.steps,
            save_every: s.save_every,
            eval_every: s.eval_every,
            log_every: s.log_every,
            keep: 2,
            workers: s.workers,
        };
        let value = serde_json::to_value(s.filled()).map_err(|e| TrainError::Settings(e.to_string()))?;
        drive(self, &plan, &value, batch, stop)
    }

    /// What is measured and exported: the average of the weights, or the weights.
    fn chosen(&self) -> &Tensor {
        self.average
            .as_ref()
            .map_or_else(|| self.generator.parameters.flat(), Average::flat)
    }

    /// Loss of a reconstruction (a leaf of its own, `[n, c, h, w]`) without its adversary, and the parts of it.
    fn reconstruction(&self, x: &Tensor, drawn: &Tensor) -> Result<(Tensor, Terms), TrainError> {
        let s = &self.settings;
        let absolute = (x - drawn).abs().mean(Kind::Float);
        let (mut loss, mut parts) = (absolute.shallow_clone(), vec![("loss/l1", absolute)]);
        if let Some(network) = &self.features {
            let target = tch::no_grad(|| network.features(x))?;
            let seen = network.features(drawn)?;
            let terms = [
                ("loss/perceptual", s.perceptual_weight, seen.perceptual(&target)),
                ("loss/clinical", s.clinical_weight, seen.clinical(&target)),
            ];
            for (name, weight, term) in terms {
                if let Some(term) = term.filter(|_| weight != 0.0) {
                    #[allow(clippy::assign_op_pattern)] // `+=` would add in place, which autograd does not allow here.
                    {
                        loss = loss + &term * weight;
                    }
                    parts.push((name, term));
                }
            }
        }
        Ok((loss, parts))
    }

    /// Learning rate of a step.
    fn rate(&self, step: u64) -> f64 {
        let s = &self.settings;
        match step.checked_sub(s.findings_first) {
            Some(since) if s.findings_first > 0 && s.draw_rate > 0.0 => {
                let steps = s.steps.saturating_sub(s.findings_first);
                let peak = s.draw_rate;
                Schedule {
                    peak,
                    steps,
                    ..self.schedule
                }
                .rate(since)
            }
            _ => self.schedule.rate(step),
        }
    }

    /// Steps weights and their average along `gradient`.
    fn learn(&mut self, gradient: &Tensor, step: u64) {
        let rate = self.rate(step);
        self.optimizer.step(&self.generator.parameters, gradient, rate);
        if let Some(average) = &mut self.average {
            average.follow(&self.generator.parameters, step);
        }
    }

    fn export(&self) -> Result<(), TrainError> {
        let folder = self.settings.out.join("vqgan");
        std::fs::create_dir_all(&folder).map_err(|e| TrainError::io(&folder, e))?;
        write_whole(&folder.join("config.yaml"), self.generator.config.to_yaml().as_bytes())?;
        let new = folder.join("model.new");
        let mut tensors = self.generator.parameters.named("", self.chosen());
        tensors.retain(|(name, _)| !is_reader(name));
        write_tensors(&new, &tensors)?;
        std::fs::rename(&new, folder.join("model.safetensors")).map_err(|e| TrainError::io(&folder, e))
    }
}

/// Scalars as numbers, by one transfer from the device; one that is not finite is a fault.
fn numbers(values: &[(&str, Tensor)]) -> Result<Vec<(String, f64)>, Fault> {
    let row = Tensor::stack(&values.iter().map(|v| v.1.detach().view([1])).collect::<Vec<_>>(), 0);
    let numbers = Vec::<f32>::try_from(row.to_device(Device::Cpu).view([-1])).map_err(TrainError::from)?;
    let named = values.iter().zip(numbers).map(|(v, n)| (v.0.to_owned(), f64::from(n)));
    let values: Vec<(String, f64)> = named.collect();
    finite(&values)?;
    Ok(values)
}

impl Task for VqganTask {
    type Batch = ImageBatch;

    fn account(batch: &ImageBatch) -> (&[String], &[String]) {
        (&batch.ids, &batch.skipped)
    }

    fn step(&mut self, batch: &ImageBatch, step: u64) -> Result<Vec<(String, f64)>, Fault> {
        let s = self.settings.clone();
        let config = &self.generator.config;
        let x = batch.tensor(config.resolution, config.in_channels, self.device);
        let start = s.quantises_from();
        if step >= start && !self.code_book_made {
            // Before this step's graph is built: it must not see weights change. The step at `start` itself may have been left out.
            self.code_book_made = true;
            let latents = tch::no_grad(|| Ok::<_, TrainError>(rows(&self.generator.network(self.kind)?.encode(&x))))?;
            code_book::from_data(&self.generator.parameters, &latents, s.seed, step)?;
        }
        let network = self.generator.network(self.kind)?;
        let z = match s.decoder_only {
            true => tch::no_grad(|| network.encode(&x)),
            false => network.encode(&x),
        };
        if let Some(reader) = self.findings.as_ref().filter(|_| step < s.findings_first) {
            let loss = reader.loss(&self.generator.parameters, &z, batch, self.device)?;
            let mut gradient = self.generator.parameters.gradient(&[&loss])?;
            let norm = tch::no_grad(|| clip(&mut gradient, s.clip));
            let values = numbers(&[("loss/findings", loss), ("gradient/norm", norm)])?;
            self.learn(&gradient, step);
            return Ok(values);
        }
        let latents = rows(&z).detach();
        let quantised = (step >= start).then(|| quantize(&z, &network.code_book, s.beta));
        let entering = quantised.as_ref().map_or(&z, |q| &q.straight);
        // What enters the decoder is a leaf of its own: every pull on the latents meets there, and can be weighed.
        let latent = entering.detach().set_requires_grad(true);
        let count = s.drawn(batch.ids.len());
        let x = x.narrow(0, 0, count);
        let drawn = network.decode(&latent.narrow(0, 0, count));

        // The losses are taken on a leaf of their own, so that each feature network is passed back through once: by the chain rule
        // the gradient of ⟨drawn, ∂loss/∂drawn⟩ is that of the loss.
        let leaf = drawn.detach().set_requires_grad(true);
        let (reconstruction, parts) = self.reconstruction(&x, &leaf)?;
        let mut values: Vec<(&str, Tensor)> = parts;
        let toward = |loss: &Tensor| {
            Ok::<_, TrainError>(Tensor::f_run_backward(&[loss], &[&leaf], false, false)?.swap_remove(0))
        };
        let mut pull = toward(&reconstruction)?;
        let adversarial = s.disc_weight > 0.0 && step >= s.disc_start;
        if adversarial {
            let loss = generator(&self.discriminator.forward(&leaf, self.kind)?);
            let push = toward(&loss)?;
            let last = self.generator.parameters.leaf(LAST_LAYER);
            let last = last.ok_or_else(|| TrainError::Settings(format!("the decoder has no {LAST_LAYER}")))?;
            let at_last = |g: &Tensor| {
                let loss = (&drawn * g).sum(Kind::Float);
                Ok::<_, TrainError>(Tensor::f_run_backward(&[loss], &[last], true, false)?.swap_remove(0))
            };
            let weight = adaptive_weight(&at_last(&pull)?, &at_last(&push)?) * s.disc_weight;
            pull += push * &weight;
            values.extend([("adversary/generator", loss), ("adversary/weight", weight)]);
        }
        let parameters = &self.generator.parameters;
        let mut gradient = parameters.zeros();
        let carried = (&drawn * &pull).sum(Kind::Float);
        let mut at_latent = parameters
            .add_gradient(&carried, of_decoder, &[&latent], &gradient)?
            .swap_remove(0);
        if let Some(reader) = &self.findings {
            let loss = reader.loss(parameters, &latent, batch, self.device)?;
            let push = parameters
                .add_gradient(&loss, is_reader, &[&latent], &gradient)?
                .swap_remove(0);
            let weight = adaptive_weight(&at_latent, &push) * s.findings_weight;
            at_latent += push * &weight;
            values.extend([("loss/findings", loss), ("findings/weight", weight)]);
        }
        if !s.decoder_only {
            let mut encoded = (entering * &at_latent).sum(Kind::Float);
            if let Some(q) = &quantised {
                encoded += &q.loss * s.code_book_weight;
                values.push(("loss/code_book", q.loss.shallow_clone()));
            }
            let rest = |name: &str| !of_decoder(name) && !is_reader(name);
            parameters.add_gradient(&encoded, rest, &[], &gradient)?;
        }
        values.push(("gradient/norm", tch::no_grad(|| clip(&mut gradient, s.clip))));

        let mut disc_gradient = None;
        if adversarial {
            let real = self.discriminator.forward(&x, self.kind)?;
            let fake = self.discriminator.forward(&drawn.detach(), self.kind)?;
            let loss = hinge(&real, &fake);
            disc_gradient = Some(self.discriminator.parameters.gradient(&[&loss])?);
            values.push(("adversary/discriminator", loss));
        }
        let values = numbers(&values)?;
        self.learn(&gradient, step);
        let rate = self.rate(step);
        if let Some(gradient) = disc_gradient {
            self.disc_optimizer
                .step(&self.discriminator.parameters, &gradient, rate);
        }
        if let Some(q) = &quantised {
            self.used.count(&q.codes)?;
            let since = step + 1 - start;
            if s.revive_every > 0 && !s.decoder_only && since.is_multiple_of(s.revive_every) {
                let (parameters, average) = (&self.generator.parameters, self.average.as_ref().map(Average::flat));
                let place = (s.seed, step);
                code_book::revive(
                    parameters,
                    average,
                    &mut self.optimizer,
                    &mut self.used,
                    &latents,
                    place,
                )?;
            }
        }
        Ok(values)
    }

    fn evaluate(&mut self, step: u64) -> Result<Vec<(String, f64)>, TrainError> {
        let _guard = tch::no_grad_guard();
        self.export()?;
        if self.validation.is_empty() {
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
            let (generator, quantises) = (&self.generator, step > s.quantises_from());
            let (network, side) = (generator.network(self.kind)?, generator.config.resolution);
            let latents = |images: &ImageBatch| {
                let z = network.encode(&images.tensor(side, generator.config.in_channels, self.device));
                let codes = quantises.then(|| quantize(&z, &network.code_book, s.beta).straight);
                (z, codes)
            };
            values.extend(reader.measure(&generator.parameters, &self.labelled, &latents, self.device)?);
        }
        if step <= s.findings_first {
            // The decoder has not begun: there is no reconstruction to measure.
            return Ok(values);
        }
        values.extend(evaluate::measure(
            &network,
            &self.validation,
            self.features.as_ref(),
            self.device,
            &sheet,
        )?);
        Ok(values)
    }

    fn snapshot(&self, step: u64) -> Snapshot {
        let (g, d) = (&self.generator.parameters, &self.discriminator.parameters);
        let mut tensors = g.named("model.", g.flat());
        tensors.extend(self.optimizer.named("optimizer.", g));
        tensors.extend(d.named("discriminator.", d.flat()));
        tensors.extend(self.disc_optimizer.named("disc_optimizer.", d));
        if let Some(average) = &self.average {
            tensors.extend(average.named(g));
        }
        tensors.push(("code_use".to_owned(), Tensor::from_slice(&self.used.0)));
        let state = json!({
            "optimizer_steps": self.optimizer.steps(),
            "disc_optimizer_steps": self.disc_optimizer.steps(),
            "code_book_made": self.code_book_made,
        });
        Snapshot { step, tensors, state }
    }

    fn restore(&mut self, r: &Restored) -> Result<(), TrainError> {
        let (g, d) = (&self.generator.parameters, &self.discriminator.parameters);
        let steps = |key: &str| r.state[key].as_u64().unwrap_or(0);
        g.read("model.", g.flat(), &r.weights)?;
        d.read("discriminator.", d.flat(), &r.weights)?;
        self.optimizer
            .restore("optimizer.", g, &r.weights, steps("optimizer_steps"))?;
        self.disc_optimizer
            .restore("disc_optimizer.", d, &r.weights, steps("disc_optimizer_steps"))?;
        if let Some(average) = &self.average {
            average.restore(g, &r.weights)?;
        }
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
