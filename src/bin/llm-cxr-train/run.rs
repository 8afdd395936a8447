//! `llm-cxr-train run`: follows a recipe.

use std::path::{Path, PathBuf};

use clap::Args;
use llm_cxr::evaluate::EvaluateSettings;
use llm_cxr::model::device::DeviceChoice;
use llm_cxr::train::classifier::ClassifierSettings;
use llm_cxr::train::common::{Outcome, Stop};
use llm_cxr::train::finetune::FinetuneSettings;
use llm_cxr::train::pretrain::PretrainSettings;
use llm_cxr::train::recipe::{Planned, Recipe, RecipeError, RunFolder, State, Step, plan};
use llm_cxr::train::vqgan::VqganSettings;
use serde_json::Value;

use crate::Done;
use crate::encode::EncodeSettings;
use crate::phantom::PhantomArgs;
use crate::tokenizer::TokenizerSettings;
use crate::{classifier, encode, evaluate, finetune, phantom, pretrain, tokenizer, vqgan};

/// Do every step of a recipe in order. What is done is skipped; run again after an interruption, it goes on where it was
#[derive(Args, Debug)]
pub struct RunArgs {
    /// The recipe
    #[arg(value_name = "RECIPE.toml")]
    recipe: PathBuf,
    /// Folder of the run, to which the recipe's paths are relative; by default runs/ with the recipe's name
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Only this step
    #[arg(long, value_name = "STEP", conflicts_with = "from")]
    only: Option<String>,
    /// From this step on
    #[arg(long, value_name = "STEP")]
    from: Option<String>,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// A setting of a step (`vqgan.steps=500`) or one of the recipe's [values] (`mimic=/data/mimic`); may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Throw away what steps left that were begun with other settings or inputs, and do them again
    #[arg(long)]
    redo: bool,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
}

/// A step's command with its settings.
enum Work {
    Phantom(PhantomArgs),
    Tokenizer(TokenizerSettings),
    Classifier(ClassifierSettings),
    Vqgan(VqganSettings),
    Encode(EncodeSettings),
    Pretrain(PretrainSettings),
    Finetune(Box<FinetuneSettings>),
    Evaluate(EvaluateSettings),
}

impl Work {
    fn of(step: &Step) -> Result<Self, RecipeError> {
        let folder = step.name.as_str();
        Ok(match step.command.as_str() {
            "phantom" => Self::Phantom(step.settings(folder)?),
            "tokenizer" => Self::Tokenizer(step.settings(&format!("{folder}.json"))?),
            "classifier" => Self::Classifier(step.settings(folder)?),
            "vqgan" => Self::Vqgan(step.settings(folder)?),
            "encode" => Self::Encode(step.settings(&format!("{folder}.codes"))?),
            "pretrain" => Self::Pretrain(step.settings(folder)?),
            "finetune" => Self::Finetune(step.settings(folder)?),
            "evaluate" => Self::Evaluate(step.settings(folder)?),
            other => {
                let known = "phantom, tokenizer, classifier, vqgan, encode, pretrain, finetune, evaluate";
                return Err(step.wrong(format!("there is no command `{other}`; a step does one of {known}")));
            }
        })
    }

    fn settings(&self) -> serde_json::Result<Value> {
        match self {
            Self::Phantom(s) => serde_json::to_value(s),
            Self::Tokenizer(s) => serde_json::to_value(s),
            Self::Classifier(s) => serde_json::to_value(s),
            Self::Vqgan(s) => serde_json::to_value(s),
            Self::Encode(s) => serde_json::to_value(s),
            Self::Pretrain(s) => serde_json::to_value(s),
            Self::Finetune(s) => serde_json::to_value(s),
            Self::Evaluate(s) => serde_json::to_value(s),
        }
    }

    /// Whether the command takes up what it left before.
    fn goes_on(&self) -> bool {
        !matches!(self, Self::Tokenizer(_) | Self::Evaluate(_))
    }

    fn run(&self, device: DeviceChoice) -> Done {
        match self {
            Self::Phantom(s) => phantom::run(s),
            Self::Tokenizer(s) => tokenizer::run(s),
            Self::Classifier(s) => classifier::run(s, device),
            Self::Vqgan(s) => vqgan::run(s, device),
            Self::Encode(s) => encode::run(s, device),
            Self::Pretrain(s) => pretrain::run(s, device),
            Self::Finetune(s) => finetune::run(s, device),
            Self::Evaluate(s) => evaluate::run(s, device),
        }
    }
}

/// Does the work.
pub fn run(args: &RunArgs) -> crate::Outcome {
    let recipe = Recipe::read(&args.recipe, &args.sets)?;
    // Every step is read before the first one is done: a slip in the last one shows at once.
    let works = recipe.steps.iter().map(Work::of).collect::<Result<Vec<_>, _>>()?;
    let mut described = Vec::new();
    for (step, work) in recipe.steps.iter().zip(&works) {
        let settings = work.settings().map_err(|e| step.wrong(e.to_string()))?;
        described.push((step.name.clone(), step.command.clone(), settings, work.goes_on()));
    }
    let plan = plan(described);
    let chosen = match (&args.only, &args.from) {
        (Some(name), _) => recipe.find(name).map(|n| n..n + 1)?,
        (_, Some(name)) => recipe.find(name)?..works.len(),
        _ => 0..works.len(),
    };
    let stem = args.recipe.file_stem().unwrap_or("recipe".as_ref());
    let shown = args.out.clone().unwrap_or_else(|| Path::new("runs").join(stem));
    if args.dry_run {
        let folder = RunFolder::look(&shown);
        for (number, step) in plan.iter().enumerate() {
            let state = if chosen.contains(&number) {
                word(&folder.state(&plan, number))
            } else {
                "left out".into()
            };
            println!("{:>2}  {:20} {:12} {state}", number + 1, step.name, step.command);
        }
        return Ok(());
    }
    let folder = RunFolder::open(&shown)?;
    std::env::set_current_dir(folder.root()).map_err(|e| format!("{}: {e}", shown.display()))?;
    let whole = args.only.is_none();
    for number in chosen {
        follow(&plan, number, &works[number], &folder, args)?;
    }
    if let Some(bundle) = recipe.bundle.filter(|_| whole) {
        folder.publish(&bundle)?;
        let bundle = shown.join("bundle");
        println!("{0} is ready to be served: llm-cxr serve --model {0}", bundle.display());
    }
    Ok(())
}

/// Does one step, unless it is done.
fn follow(plan: &[Planned], number: usize, work: &Work, folder: &RunFolder, args: &RunArgs) -> crate::Outcome {
    let step = &plan[number];
    let place = format!("step {} of {}: {}", number + 1, plan.len(), step.name);
    let state = folder.state(plan, number);
    if state == State::Done {
        eprintln!("{place} is done");
        return Ok(());
    }
    eprintln!("{place} ({}): {}", step.command, word(&state));
    folder.begin(plan, number, args.redo)?;
    let stopped = || format!("stopped in {place}; the same command goes on");
    match work.run(args.device) {
        Err(error) => Err(format!("{place}: {error}").into()),
        Ok(Outcome::Stopped(_)) => Err(stopped().into()),
        Ok(Outcome::Finished) => {
            folder.finish(plan, number)?;
            // A signal that came while a step without checkpoints was at work.
            if number + 1 < plan.len() && Stop::on_signals().asked() {
                return Err(format!("stopped after {place}; the same command goes on").into());
            }
            Ok(())
        }
    }
}

fn word(state: &State) -> String {
    match state {
        State::ToDo => "to do".to_owned(),
        State::Begun => "goes on".to_owned(),
        State::Done => "done".to_owned(),
        State::OtherSettings(changes) => format!("other settings ({})", changes.join("; ")),
        State::OtherInputs(changes) => format!("other inputs ({})", changes.join("; ")),
    }
}
