//! Variables that look like settings and are none.

use std::ffi::OsString;

use clap::Args as _;

use super::ServeConfig;

const OURS: &str = "LLM_CXR_";

/// Those of `names` that begin as this server's settings and are none of them: misspelt, most likely. A cluster's links to a service
/// `llm-cxr` (`LLM_CXR_SERVICE_HOST`, `LLM_CXR_PORT_8080_TCP`) are left out, and so are those that a build or
/// `deploy/compose.yaml` takes from the same shell.
pub fn unknown_variables(names: impl IntoIterator<Item = OsString>) -> Vec<String> {
    let command = ServeConfig::augment_args(clap::Command::new("serve"));
    let known: Vec<_> = command.get_arguments().filter_map(|arg| arg.get_env()).collect();
    let mut unknown: Vec<String> = names
        .into_iter()
        .filter(|name| !known.contains(&name.as_os_str()))
        .filter_map(|name| name.into_string().ok())
        .filter(|name| name.strip_prefix(OURS).is_some_and(|rest| !is_for_others(rest)))
        .collect();
    unknown.sort_unstable();
    unknown
}

/// Whether a name, without the prefix, is a cluster's link to a service, or one that a build or
/// `deploy/compose.yaml` takes from the same shell or `.env`.
fn is_for_others(rest: &str) -> bool {
    rest == "PORT"
        || ["PORT_", "SERVICE_"].iter().any(|start| rest.starts_with(start))
        || ["BUNDLE", "PUBLISH", "REVISION"].contains(&rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_variable_is_named_and_neither_settings_nor_links_of_a_cluster_are() {
        let names = [
            "LLM_CXR_MAX_BACTH",
            "LLM_CXR_LISTEN",
            "LLM_CXR_API_KEYS_FILE",
            "LLM_CXR_PORT",
            "LLM_CXR_PORT_8080_TCP_ADDR",
            "LLM_CXR_SERVICE_HOST",
            "LLM_CXR_REVISION",
            "PATH",
            "LLM_CXR_DTYP",
        ];
        assert_eq!(
            unknown_variables(names.map(OsString::from)),
            ["LLM_CXR_DTYP", "LLM_CXR_MAX_BACTH"]
        );
    }
}
