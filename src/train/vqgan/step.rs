//! One step of the VQ-GAN, from its images to its weights.
//!
//! No weight changes before every quantity of the step has been found finite, but for the code book that is made from data.

use tch::{Device, Kind, Tensor};

use super::code_book;
use super::findings::is_reader;
use super::generator::{LAST_LAYER, Network, Quantized, of_decoder, quantize, rows};
use super::loss::{adaptive_weight, generator, hinge};
use super::task::VqganTask;
use crate::train::common::schedule::Schedule;
use crate::train::common::{Fault, ImageBatch, TrainError, clip, finite};

/// Scalars by name, for the log.
type Terms = Vec<(&'static str, Tensor)>;

/// The latents of a step's images.
struct Latents {
    /// As they were encoded, `[n, d, h, w]`.
    z: Tensor,
    /// What they are replaced by, once the run quantises.
    quantised: Option<Quantized>,
    /// What enters the decoder, as a leaf of its own: every pull on the latents meets there, and can be weighed.
    leaf: Tensor,
}

impl Latents {
    fn new(z: Tensor, network: &Network, quantises: bool, beta: f64) -> Self {
        let quantised = quantises.then(|| quantize(&z, &network.code_book, beta));
        let entering = quantised.as_ref().map_or(&z, |q| &q.straight);
        let leaf = entering.detach().set_requires_grad(true);
        Self { z, quantised, leaf }
    }

    /// What enters the decoder, with the gradients of what it was made from.
    fn entering(&self) -> &Tensor {
        self.quantised.as_ref().map_or(&self.z, |q| &q.straight)
    }
}

impl VqganTask {
    /// Does step `step` (counted from 0) and gives its quantities.
    pub(super) fn learn_from(&mut self, batch: &ImageBatch, step: u64) -> Result<Vec<(String, f64)>, Fault> {
        let config = &self.generator.config;
        let x = batch.tensor(config.resolution, config.in_channels, self.device);
        let quantises = step >= self.settings.quantises_from();
        if quantises && !self.code_book_made {
            // Before this step's graph is built: it must not see weights change.
            self.make_code_book(&x, step)?;
        }
        let network = self.generator.network(self.kind)?;
        let z = match self.settings.decoder_only {
            true => tch::no_grad(|| network.encode(&x)),
            false => network.encode(&x),
        };
        if let Some(values) = self.learn_findings(&z, batch, step)? {
            return Ok(values);
        }
        let latents = Latents::new(z, &network, quantises, self.settings.beta);
        let count = self.settings.drawn(batch.ids.len());
        let x = x.narrow(0, 0, count);
        let drawn = network.decode(&latents.leaf.narrow(0, 0, count));

        let mut values = Terms::new();
        let adversarial = self.settings.disc_weight > 0.0 && step >= self.settings.disc_start;
        let pull = self.pull(&x, &drawn, adversarial, &mut values)?;
        let gradient = self.carry_back(&latents, &drawn, &pull, batch, &mut values)?;
        let judged = match adversarial {
            true => Some(self.judge(&x, &drawn, &mut values)?),
            false => None,
        };
        let values = numbers(&values)?;
        self.learn(&gradient, step);
        if let Some(gradient) = judged {
            let rate = self.rate(step);
            self.disc_trainer
                .step(&self.discriminator.parameters, &gradient, rate, step);
        }
        self.look_after_codes(&latents, step)?;
        Ok(values)
    }

    /// Makes the code book from the latents of the images `x`. The first step that quantises may have been left out: then it is a later one.
    fn make_code_book(&mut self, x: &Tensor, step: u64) -> Result<(), TrainError> {
        self.code_book_made = true;
        let latents = tch::no_grad(|| Ok::<_, TrainError>(rows(&self.generator.network(self.kind)?.encode(x))))?;
        code_book::from_data(
            &self.generator.parameters,
            self.trainer.average(),
            &latents,
            (self.settings.seed, step),
        )
    }

    /// Does a step in which the encoder learns findings alone, from its latents `z`, and gives its quantities; `None` where `step` is none.
    fn learn_findings(
        &mut self,
        z: &Tensor,
        batch: &ImageBatch,
        step: u64,
    ) -> Result<Option<Vec<(String, f64)>>, Fault> {
        let first = self.settings.findings_first;
        let Some(reader) = self.findings.as_ref().filter(|_| step < first) else {
            return Ok(None);
        };
        let loss = reader.loss(&self.generator.parameters, z, batch, self.device)?;
        let mut gradient = self.generator.parameters.gradient(&loss)?;
        let norm = tch::no_grad(|| clip(&mut gradient, self.settings.clip));
        let values = numbers(&[("loss/findings", loss), ("gradient/norm", norm)])?;
        self.learn(&gradient, step);
        Ok(Some(values))
    }

    /// The pull of the losses on the images `drawn` in the place of `x` (both `[n, c, h, w]`), ∂loss/∂drawn: that of the reconstruction and,
    /// if the step is `adversarial`, that of the discriminator, weighed against it.
    fn pull(&self, x: &Tensor, drawn: &Tensor, adversarial: bool, values: &mut Terms) -> Result<Tensor, TrainError> {
        // The losses are taken on a leaf of their own, so that each feature network is passed back through once: by the chain rule
        // the gradient of ⟨drawn, ∂loss/∂drawn⟩ is that of the loss.
        let leaf = drawn.detach().set_requires_grad(true);
        let toward = |loss: &Tensor| {
            Ok::<_, TrainError>(Tensor::f_run_backward(&[loss], &[&leaf], false, false)?.swap_remove(0))
        };
        let (reconstruction, parts) = self.reconstruction(x, &leaf)?;
        values.extend(parts);
        let mut pull = toward(&reconstruction)?;
        if adversarial {
            let loss = generator(&self.discriminator.forward(&leaf, self.kind)?);
            let push = toward(&loss)?;
            let last = self.generator.parameters.leaf(LAST_LAYER);
            let last = last.ok_or_else(|| TrainError::Settings(format!("the decoder has no {LAST_LAYER}")))?;
            let at_last = |g: &Tensor| {
                let loss = (drawn * g).sum(Kind::Float);
                Ok::<_, TrainError>(Tensor::f_run_backward(&[loss], &[last], true, false)?.swap_remove(0))
            };
            let weight = adaptive_weight(&at_last(&pull)?, &at_last(&push)?) * self.settings.disc_weight;
            pull += push * &weight;
            values.extend([("adversary/generator", loss), ("adversary/weight", weight)]);
        }
        Ok(pull)
    }

    /// Carries the `pull` on the images `drawn` back through the decoder to the latents, where that of the findings joins it, and on through
    /// the encoder: the gradient of all weights, laid out as they are, clipped.
    fn carry_back(
        &self,
        latents: &Latents,
        drawn: &Tensor,
        pull: &Tensor,
        batch: &ImageBatch,
        values: &mut Terms,
    ) -> Result<Tensor, TrainError> {
        let (s, parameters) = (&self.settings, &self.generator.parameters);
        let mut gradient = parameters.zeros();
        let carried = (drawn * pull).sum(Kind::Float);
        let mut at_latent = parameters
            .add_gradient(&carried, of_decoder, &[&latents.leaf], &gradient)?
            .swap_remove(0);
        if let Some(reader) = &self.findings {
            let loss = reader.loss(parameters, &latents.leaf, batch, self.device)?;
            let push = parameters
                .add_gradient(&loss, is_reader, &[&latents.leaf], &gradient)?
                .swap_remove(0);
            let weight = adaptive_weight(&at_latent, &push) * s.findings_weight;
            at_latent += push * &weight;
            values.extend([("loss/findings", loss), ("findings/weight", weight)]);
        }
        if !s.decoder_only {
            let mut encoded = (latents.entering() * &at_latent).sum(Kind::Float);
            if let Some(q) = &latents.quantised {
                encoded += &q.loss * s.code_book_weight;
                values.push(("loss/code_book", q.loss.shallow_clone()));
            }
            let rest = |name: &str| !of_decoder(name) && !is_reader(name);
            parameters.add_gradient(&encoded, rest, &[], &gradient)?;
        }
        values.push(("gradient/norm", tch::no_grad(|| clip(&mut gradient, s.clip))));
        Ok(gradient)
    }

    /// The gradient of the discriminator, which has to tell the images `x` from those `drawn` in their place.
    fn judge(&self, x: &Tensor, drawn: &Tensor, values: &mut Terms) -> Result<Tensor, TrainError> {
        let real = self.discriminator.forward(x, self.kind)?;
        let fake = self.discriminator.forward(&drawn.detach(), self.kind)?;
        let loss = hinge(&real, &fake);
        let mut gradient = self.discriminator.parameters.gradient(&loss)?;
        // Never clipped, only looked at: a loss may be finite where its gradient is not.
        let norm = tch::no_grad(|| clip(&mut gradient, 0.0));
        values.extend([("adversary/discriminator", loss), ("adversary/gradient_norm", norm)]);
        Ok(gradient)
    }

    /// Counts the codes of a step and, every so many steps, replaces those that were not used by latents of this one.
    fn look_after_codes(&mut self, latents: &Latents, step: u64) -> Result<(), TrainError> {
        let Some(q) = &latents.quantised else {
            return Ok(());
        };
        self.used.count(&q.codes)?;
        let s = &self.settings;
        let since = step + 1 - s.quantises_from();
        if s.revive_every == 0 || s.decoder_only || !since.is_multiple_of(s.revive_every) {
            return Ok(());
        }
        code_book::revive(
            &self.generator.parameters,
            &mut self.trainer,
            &mut self.used,
            &rows(&latents.z).detach(),
            (s.seed, step),
        )?;
        Ok(())
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
        self.trainer.step(&self.generator.parameters, gradient, rate, step);
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
