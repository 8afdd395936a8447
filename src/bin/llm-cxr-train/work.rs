//! What a step of a recipe does: one of the commands, with its settings.

use std::path::PathBuf;

use llm_cxr::evaluate::EvaluateSettings;
use llm_cxr::model::device::DeviceChoice;
use llm_cxr::train::classifier::ClassifierSettings;
use llm_cxr::train::finetune::FinetuneSettings;
use llm_cxr::train::pretrain::PretrainSettings;
use llm_cxr::train::recipe::{RecipeError, Step};
use llm_cxr::train::vqgan::VqganSettings;
use serde_json::Value;

use crate::Done;
use crate::decoder::DecoderArgs;
use crate::encode::EncodeSettings;
use crate::phantom::PhantomArgs;
use crate::tokenizer::TokenizerSettings;
use crate::{classifier, decoder, encode, evaluate, finetune, phantom, pretrain, tokenizer, vqgan};

/// A step's command with its settings.
pub enum Work {
    Phantom(PhantomArgs),
    Tokenizer(TokenizerSettings),
    Classifier(ClassifierSettings),
    Vqgan(Box<VqganSettings>),
    Encode(EncodeSettings),
    Pretrain(PretrainSettings),
    Finetune(Box<FinetuneSettings>),
    Decoder(DecoderArgs),
    Evaluate(EvaluateSettings),
}

impl Work {
    /// Reads the settings of a step.
    pub fn of(step: &Step) -> Result<Self, RecipeError> {
        let folder = step.name.as_str();
        Ok(match step.command.as_str() {
            "phantom" => Self::Phantom(step.settings(folder)?),
            "tokenizer" => Self::Tokenizer(step.settings(&format!("{folder}.json"))?),
            "classifier" => Self::Classifier(step.settings(folder)?),
            "vqgan" => Self::Vqgan(step.settings(folder)?),
            "encode" => Self::Encode(step.settings(&format!("{folder}.codes"))?),
            "pretrain" => Self::Pretrain(step.settings(folder)?),
            "finetune" => Self::Finetune(step.settings(folder)?),
            "decoder" => Self::Decoder(step.settings(folder)?),
            "evaluate" => Self::Evaluate(step.settings(folder)?),
            other => {
                let known = "phantom, tokenizer, classifier, vqgan, encode, pretrain, finetune, decoder, evaluate";
                return Err(step.wrong(format!("there is no command `{other}`; a step does one of {known}")));
            }
        })
    }

    /// Refuses settings that the command would refuse at once.
    pub fn check(&self) -> crate::CommandResult {
        match self {
            Self::Classifier(s) => s.check()?,
            Self::Vqgan(s) => s.check()?,
            Self::Pretrain(s) => s.check()?,
            Self::Finetune(s) => s.check()?,
            Self::Evaluate(s) => s.check()?,
            Self::Phantom(s) => s.check()?,
            Self::Tokenizer(_) | Self::Encode(_) | Self::Decoder(_) => {}
        }
        Ok(())
    }

    /// All settings, those that the recipe leaves to their defaults too.
    pub fn settings(&self) -> serde_json::Result<Value> {
        match self {
            Self::Phantom(s) => serde_json::to_value(s),
            Self::Tokenizer(s) => serde_json::to_value(s),
            Self::Classifier(s) => serde_json::to_value(s),
            Self::Vqgan(s) => serde_json::to_value(s),
            Self::Encode(s) => serde_json::to_value(s),
            Self::Pretrain(s) => serde_json::to_value(s),
            Self::Finetune(s) => serde_json::to_value(s),
            Self::Decoder(s) => serde_json::to_value(s),
            Self::Evaluate(s) => serde_json::to_value(s),
        }
    }

    /// Where the command leaves a bundle, if it makes one.
    pub fn bundle(&self) -> Option<PathBuf> {
        match self {
            Self::Finetune(s) => Some(s.out.join("bundle")),
            Self::Decoder(s) => Some(s.place()),
            _ => None,
        }
    }

    /// Whether the command takes up what it left before.
    pub fn goes_on(&self) -> bool {
        !matches!(self, Self::Tokenizer(_) | Self::Decoder(_) | Self::Evaluate(_))
    }

    /// Whether the command saves what it has when it is asked to stop. The others are ended; what they left is good to go on with.
    pub fn saves(&self) -> bool {
        matches!(
            self,
            Self::Classifier(_) | Self::Vqgan(_) | Self::Pretrain(_) | Self::Finetune(_)
        )
    }

    /// Does the step.
    pub fn run(&self, device: DeviceChoice) -> Done {
        match self {
            Self::Phantom(s) => phantom::run(s),
            Self::Tokenizer(s) => tokenizer::run(s),
            Self::Classifier(s) => classifier::run(s, device),
            Self::Vqgan(s) => vqgan::run(s, device),
            Self::Encode(s) => encode::run(s, device),
            Self::Pretrain(s) => pretrain::run(s, device),
            Self::Finetune(s) => finetune::run(s, device),
            Self::Decoder(s) => decoder::run(s),
            Self::Evaluate(s) => evaluate::run(s, device),
        }
    }
}
