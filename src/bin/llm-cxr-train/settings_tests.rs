//! Lists of names of settings hold nothing that no command has, and no path is left out of them.

use std::any::TypeId;
use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::CommandFactory;
use llm_cxr::evaluate::EvaluateSettings;
use llm_cxr::train::classifier::ClassifierSettings;
use llm_cxr::train::common::{FREE, PATHS};
use llm_cxr::train::finetune::FinetuneSettings;
use llm_cxr::train::pretrain::PretrainSettings;
use llm_cxr::train::recipe::{SHOWN, SPEED};
use llm_cxr::train::vqgan::VqganSettings;
use serde_json::{Value, json};

use crate::Cli;
use crate::tokenizer::TokenizerSettings;

/// Commands that are no step of a recipe.
const NO_STEPS: &[&str] = &["run", "step", "drafts", "init"];

/// Settings that name what a step writes.
const WRITTEN: &[&str] = &["out", "sheet"];

/// An argument of all commands that compute, which is no setting.
const DEVICE: &str = "device";

/// The commands that steps of a recipe do.
fn commands() -> Vec<clap::Command> {
    let all = Cli::command();
    let steps = all
        .get_subcommands()
        .filter(|command| !NO_STEPS.contains(&command.get_name()));
    steps.cloned().collect()
}

/// The names of a command's arguments.
fn arguments(command: &clap::Command) -> BTreeSet<String> {
    let names = command.get_arguments().map(|argument| argument.get_id().as_str());
    names.map(str::to_owned).collect()
}

#[test]
fn every_listed_name_is_a_setting_of_a_command() {
    let known: BTreeSet<String> = commands().iter().flat_map(arguments).collect();
    for (list, names) in [("FREE", FREE), ("PATHS", PATHS), ("SPEED", SPEED), ("SHOWN", SHOWN)] {
        for name in names {
            assert!(known.contains(*name), "{list} names {name}, which no command has");
        }
    }
    // SHOWN takes names out of FREE.
    assert!(SHOWN.iter().all(|name| FREE.contains(name)));
}

#[test]
fn every_argument_that_names_a_file_or_a_folder_is_listed_as_read_or_written() {
    for command in commands() {
        for argument in command.get_arguments() {
            let names = argument.get_value_names().unwrap_or_default();
            let said = names
                .iter()
                .any(|name| ["DIR", "FILE", "PATH"].contains(&name.as_str()));
            let path = said || argument.get_value_parser().type_id() == TypeId::of::<PathBuf>();
            let name = argument.get_id().as_str();
            assert!(
                !path || PATHS.contains(&name) || WRITTEN.contains(&name),
                "{} --{name} is a path that neither PATHS nor WRITTEN names",
                command.get_name()
            );
        }
    }
}

#[test]
fn what_a_run_keeps_of_its_settings_has_the_names_of_the_arguments() {
    let kept: [(&str, Value); 6] = [
        ("tokenizer", json!(TokenizerSettings::default())),
        ("classifier", json!(ClassifierSettings::default())),
        ("vqgan", json!(VqganSettings::default())),
        ("pretrain", json!(PretrainSettings::default())),
        ("finetune", json!(FinetuneSettings::default())),
        ("evaluate", json!(EvaluateSettings::default())),
    ];
    let commands = commands();
    for (name, settings) in kept {
        let command = commands.iter().find(|command| command.get_name() == name);
        let mut arguments = arguments(command.expect("the command"));
        arguments.remove(DEVICE);
        let fields = settings.as_object().expect("a table").keys().cloned();
        assert_eq!(fields.collect::<BTreeSet<String>>(), arguments, "{name}");
    }
}

#[test]
fn no_step_at_once_is_refused_with_what_may_be_given() {
    let parsed =
        |number: &str| Cli::command().try_get_matches_from(["llm-cxr-train", "run", "r.toml", "--parallel", number]);
    let told = parsed("0").unwrap_err().to_string();
    assert!(told.contains("1..=1024"), "{told}");
    assert!(parsed("7").is_ok());
}
