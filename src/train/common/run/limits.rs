//! What the numbers of settings may be. A number that nothing holds is told here, by the flag that gives it: later it would be a loss that is none,
//! and the blame would fall on the data.

use crate::train::common::{AdamwSettings, TrainError};

/// What a number must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Above 0.
    Positive,
    /// 0 or above.
    NotNegative,
    /// From 0 to 1.
    Share,
    /// From 0 to below 1: how much of what was stays at each step.
    Decay,
}

impl Limit {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::Positive => value > 0.0 && value.is_finite(),
            Self::NotNegative => value >= 0.0 && value.is_finite(),
            Self::Share => (0.0..=1.0).contains(&value),
            Self::Decay => (0.0..1.0).contains(&value),
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Positive => "a positive number",
            Self::NotNegative => "0 or larger",
            Self::Share => "from 0 to 1",
            Self::Decay => "from 0 to below 1",
        }
    }
}

/// Refuses numbers, each with the name of its flag, that are not what they must be.
///
/// # Errors
/// [`TrainError::Settings`] of the first of them.
pub fn check(settings: &[(&str, f64, Limit)]) -> Result<(), TrainError> {
    match settings.iter().find(|(_, value, limit)| !limit.holds(*value)) {
        Some((flag, value, limit)) => Err(TrainError::Settings(format!(
            "--{flag} is {value}; it must be {}",
            limit.words()
        ))),
        None => Ok(()),
    }
}

/// What moves the weights of a training.
pub struct Movement {
    /// The optimizer's constants.
    pub adamw: AdamwSettings,
    /// Learning rate at its height.
    pub rate: f64,
    /// Largest norm of a gradient (0: no limit).
    pub clip: f64,
    /// Decay of the running average of weights (0: none).
    pub ema: f64,
}

impl Movement {
    /// Refuses what would make weights that are no numbers, or is not meant by anybody. `adam` stands before `beta1` and `beta2` in the names of
    /// their flags.
    ///
    /// # Errors
    /// [`TrainError::Settings`].
    pub fn check(&self, adam: &str) -> Result<(), TrainError> {
        let [beta1, beta2] = ["beta1", "beta2"].map(|beta| format!("{adam}{beta}"));
        check(&[
            ("rate", self.rate, Limit::Positive),
            (beta1.as_str(), self.adamw.beta1, Limit::Decay),
            (beta2.as_str(), self.adamw.beta2, Limit::Decay),
            ("eps", self.adamw.eps, Limit::Positive),
            ("weight-decay", self.adamw.weight_decay, Limit::NotNegative),
            ("clip", self.clip, Limit::NotNegative),
            ("ema", self.ema, Limit::Decay),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::classifier::ClassifierSettings;
    use crate::train::finetune::FinetuneSettings;
    use crate::train::pretrain::PretrainSettings;
    use crate::train::vqgan::VqganSettings;

    fn classifier(change: fn(&mut ClassifierSettings)) -> Result<(), TrainError> {
        let mut settings = ClassifierSettings {
            resolution: 32,
            ..ClassifierSettings::default()
        };
        change(&mut settings);
        settings.check()
    }

    fn vqgan(change: fn(&mut VqganSettings)) -> Result<(), TrainError> {
        let mut settings = VqganSettings::default();
        change(&mut settings);
        settings.check()
    }

    fn pretrain(change: fn(&mut PretrainSettings)) -> Result<(), TrainError> {
        let mut settings = PretrainSettings {
            text: vec!["a.txt".into()],
            ..PretrainSettings::default()
        };
        change(&mut settings);
        settings.check()
    }

    fn finetune(change: fn(&mut FinetuneSettings)) -> Result<(), TrainError> {
        let mut settings = FinetuneSettings {
            text: vec!["a.jsonl".to_owned()],
            tokenizer: Some("tokenizer.json".into()),
            ..FinetuneSettings::default()
        };
        change(&mut settings);
        settings.check()
    }

    #[test]
    fn numbers_that_no_training_can_go_by_are_refused_by_their_flags_in_each_of_them() {
        for usual in [classifier(|_| ()), vqgan(|_| ()), pretrain(|_| ()), finetune(|_| ())] {
            usual.unwrap();
        }
        for (refused, says) in [
            (
                classifier(|s| s.rate = 0.0),
                "--rate is 0; it must be a positive number",
            ),
            (classifier(|s| s.weight_decay = f64::NAN), "--weight-decay is NaN"),
            (classifier(|s| s.repeat_rare = f64::NAN), "--repeat-rare is NaN"),
            (classifier(|s| s.ema = 1.0), "--ema is 1; it must be from 0 to below 1"),
            (classifier(|s| s.shift = 32), "--shift is 32"),
            (vqgan(|s| s.rate = f64::INFINITY), "--rate is inf"),
            (
                vqgan(|s| s.adam_beta2 = 1.0),
                "--adam-beta2 is 1; it must be from 0 to below 1",
            ),
            (vqgan(|s| s.clip = f64::NAN), "--clip is NaN"),
            (vqgan(|s| s.clip = -1.0), "--clip is -1; it must be 0 or larger"),
            (vqgan(|s| s.perceptual_weight = f64::NAN), "--perceptual-weight is NaN"),
            (
                vqgan(|s| s.repeat_rare = 1.5),
                "--repeat-rare is 1.5; it must be from 0 to 1",
            ),
            (pretrain(|s| s.beta2 = 1.0), "--beta2 is 1"),
            (
                pretrain(|s| s.weight_decay = -1.0),
                "--weight-decay is -1; it must be 0 or larger",
            ),
            (finetune(|s| s.beta1 = -0.1), "--beta1 is -0.1"),
            (finetune(|s| s.eps = 0.0), "--eps is 0; it must be a positive number"),
            (finetune(|s| s.weight_decay = f64::NAN), "--weight-decay is NaN"),
            (finetune(|s| s.clip = -1.0), "--clip is -1"),
            (finetune(|s| s.floor = 2.0), "--floor is 2"),
            (
                finetune(|s| (s.base, s.lora_rank, s.lora_alpha) = (Some("base".into()), 2, f64::NAN)),
                "--lora-alpha is NaN",
            ),
        ] {
            let refused = refused.unwrap_err().to_string();
            assert!(refused.starts_with(says), "{refused}");
        }
        // Without adapters nothing is scaled.
        finetune(|s| s.lora_alpha = f64::NAN).unwrap();
        finetune(|s| s.draw_in_brief = 1.0).unwrap();
        classifier(|s| s.shift = 31).unwrap();
    }
}
