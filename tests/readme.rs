//! The table of settings in `docs/configuration.md` is what `llm-cxr serve` takes, and README's is a part of it.

use clap::{CommandFactory, Parser};
use llm_cxr::config::ServeConfig;

#[derive(Parser)]
struct Serve {
    #[command(flatten)]
    _config: ServeConfig,
}

/// The rows of a page's tables of flags.
fn rows(page: &str) -> Vec<String> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    let text = std::fs::read_to_string(path).expect(page);
    let rows = text.lines().filter(|line| line.starts_with("| `--"));
    rows.map(str::to_owned).collect()
}

#[test]
fn the_readme_has_the_settings_that_most_need_as_the_whole_table_has_them() {
    let (some, all) = (rows("README.md"), rows("docs/configuration.md"));
    assert!(!some.is_empty());
    let place = |row: &String| all.iter().position(|line| line == row);
    let places: Vec<_> = some.iter().map(|row| place(row).expect(row)).collect();
    assert!(places.is_sorted(), "their order is that of docs/configuration.md");
}

#[test]
fn the_configuration_table_lists_every_flag_with_its_variable_and_default() {
    let rows = rows("docs/configuration.md");
    let told: Vec<[&str; 3]> = rows
        .iter()
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
