//! README's configuration table is what `llm-cxr serve` takes.

use clap::{CommandFactory, Parser};
use llm_cxr::config::ServeConfig;

#[derive(Parser)]
struct Serve {
    #[command(flatten)]
    _config: ServeConfig,
}

#[test]
fn the_configuration_table_lists_every_flag_with_its_variable_and_default() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).expect("README.md");
    let told: Vec<[&str; 3]> = readme
        .lines()
        .filter(|line| line.starts_with("| `--"))
        .map(|line| {
            let mut cells = line.split('|').skip(1).map(|cell| cell.trim().trim_matches('`'));
            let flag = cells.next().and_then(|flag| flag.split(' ').next()).unwrap_or_default();
            [flag, cells.next().unwrap_or_default(), cells.next().unwrap_or_default()]
        })
        .collect();
    let command = Serve::command();
    let known: Vec<[String; 3]> = command
        .get_arguments()
        .filter_map(|argument| {
            let default: Vec<_> = argument
                .get_default_values()
                .iter()
                .map(|value| value.to_string_lossy())
                .collect();
            // A switch has no default worth telling.
            let told = argument.get_action().takes_values() && !default.is_empty();
            Some([
                format!("--{}", argument.get_long()?),
                argument.get_env()?.to_string_lossy().into_owned(),
                if told { default.join(",") } else { "–".to_owned() },
            ])
        })
        .collect();
    assert!(!known.is_empty());
    assert_eq!(told, known);
}
