//! Looks at the whole configuration before anything is opened or bound, and tells every problem at once.

use std::time::Duration;

use super::log::is_log_filter;
use super::{ApiKeys, KeyError, ServeConfig};
use crate::model::bundle::READINGS;
use crate::model::device::check_threads;

/// More than any device holds. Sums of it with smaller numbers stay numbers.
const MOST_KV_TOKENS: usize = 1 << 32;

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the configuration has {} problem(s):{}", .0.len(), .0.iter().map(|p| format!("\n  - {p}")).collect::<String>())]
pub struct ConfigError(pub Vec<String>);

impl ServeConfig {
    /// Checks everything and reads the API keys. Opens no port and no model.
    pub fn check(&self) -> Result<ApiKeys, ConfigError> {
        let mut problems = Vec::new();
        let keys = ApiKeys::new(&self.api_key_hash, self.api_keys_file.as_deref());
        self.check_who_may_call(keys.as_ref(), &mut problems);
        self.check_model(&mut problems);
        self.check_limits(&mut problems);
        if !is_log_filter(&self.log_level) {
            problems.push(format!(
                "--log-level `{}` is neither a level (off, error, warn, info, debug or trace) nor a filter of levels and targets with levels, \
                 such as warn,llm_cxr::engine=debug",
                self.log_level
            ));
        }
        match keys {
            Ok(keys) if problems.is_empty() => Ok(keys),
            _ => Err(ConfigError(problems)),
        }
    }

    /// `keys` are those that there are, or why they cannot be read.
    fn check_who_may_call(&self, keys: Result<&ApiKeys, &KeyError>, problems: &mut Vec<String>) {
        let keys_were_meant = self.api_keys_file.is_some();
        match keys {
            Err(error) => problems.push(error.to_string()),
            Ok(keys) if keys.is_empty() && keys_were_meant => problems
                .push("--api-keys-file holds no key; add one (`llm-cxr hash-key`) or leave the file out".to_owned()),
            Ok(_) => {}
        }
        let nobody_is_asked = keys.is_ok_and(ApiKeys::is_empty) && !keys_were_meant;
        if !self.listen.ip().is_loopback() && nobody_is_asked && !self.allow_anonymous {
            problems.push(format!(
                "--listen {} can be reached from other machines, and nobody is asked for a key: give --api-key-hash \
                 (`llm-cxr hash-key` prints one), or --allow-anonymous if something in front of this server checks who calls",
                self.listen
            ));
        }
        if self.ops_listen == Some(self.listen) && self.listen.port() != 0 {
            problems.push(format!(
                "--ops-listen {} is the address of --listen; give it another port",
                self.listen
            ));
        }
        if self.metrics_need_key && nobody_is_asked {
            problems.push(
                "--metrics-need-key asks for a key, and there is none: give --api-key-hash or --api-keys-file, or leave it out"
                    .to_owned(),
            );
        }
    }

    fn check_model(&self, problems: &mut Vec<String>) {
        if !self.model.folder.is_dir() {
            problems.push(format!(
                "--model {} is not a folder; `llm-cxr convert` makes a bundle from the published checkpoints",
                self.model.folder.display()
            ));
        }
        match self.kv_tokens {
            Some(..16) => problems.push("--kv-tokens is too small to hold any prompt; 16 is the least".to_owned()),
            Some(n) if n > MOST_KV_TOKENS => {
                problems.push(format!("--kv-tokens is {n}; it must be at most {MOST_KV_TOKENS}"));
            }
            _ => {}
        }
        if self.kv_memory.is_some_and(|n| n < 1 << 20) {
            problems.push("--kv-memory is too small to hold any prompt; 1MiB is the least".to_owned());
        }
    }

    fn check_limits(&self, problems: &mut Vec<String>) {
        let counts = [
            ("--max-batch", self.max_batch.unwrap_or(1), 1, 4096),
            ("--prefill-chunk", self.prefill_chunk.unwrap_or(1), 1, 1 << 20),
            (
                "--readings",
                self.readings.unwrap_or(1),
                *READINGS.start(),
                *READINGS.end(),
            ),
            ("--queue-jobs", self.queue_jobs, 1, 1 << 20),
            ("--image-workers", self.image_workers, 1, 256),
            ("--max-connections", self.max_connections, 1, 1 << 20),
        ];
        for (flag, value, least, most) in counts {
            if !(least..=most).contains(&value) {
                problems.push(format!("{flag} is {value}; it must be between {least} and {most}"));
            }
        }
        problems.extend(check_threads(self.model.threads).err());
        if !(1024..=1 << 30).contains(&self.max_body_bytes) {
            problems.push("--max-body-bytes must be between 1KiB and 1GiB".to_owned());
        }
        if self.queue_bytes < self.max_body_bytes {
            problems.push(
                "--queue-bytes must be at least --max-body-bytes, or a body of that size could never be read"
                    .to_owned(),
            );
        }
        if !(1..=1 << 32).contains(&self.max_image_pixels) {
            problems.push("--max-image-pixels must be between 1 and 4294967296".to_owned());
        }
        let times = [
            ("--header-timeout", self.header_timeout),
            ("--body-timeout", self.body_timeout),
            ("--write-timeout", self.write_timeout),
            ("--request-timeout", self.request_timeout),
        ];
        for (flag, time) in times {
            if time < Duration::from_millis(10) || time > Duration::from_secs(86_400) {
                problems.push(format!("{flag} must be between 10ms and 24h"));
            }
        }
        if self.drain_timeout > Duration::from_secs(86_400) {
            problems.push("--drain-timeout must not be longer than 24h".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ModelConfig;

    fn sound() -> ServeConfig {
        ServeConfig {
            model: ModelConfig {
                folder: std::env::temp_dir(),
                ..ModelConfig::default()
            },
            ..ServeConfig::default()
        }
    }

    fn problems(config: &ServeConfig) -> Vec<String> {
        config.check().err().map(|e| e.0).unwrap_or_default()
    }

    #[test]
    fn the_defaults_of_the_flags_are_the_defaults_of_the_struct() {
        use clap::{Args, FromArgMatches};
        let command = ServeConfig::augment_args(clap::Command::new("serve")).mut_args(|a| a.env(None::<&str>));
        let parsed = ServeConfig::from_arg_matches(&command.get_matches_from(["serve"])).expect("nothing is required");
        assert_eq!(format!("{parsed:?}"), format!("{:?}", ServeConfig::default()));
    }

    #[test]
    fn an_open_address_without_keys_is_refused_and_told_what_to_do() {
        let open = ServeConfig {
            listen: ([0, 0, 0, 0], 8080).into(),
            ..sound()
        };
        let told = problems(&open);
        assert_eq!(told.len(), 1);
        assert!(told[0].contains("--api-key-hash") && told[0].contains("--allow-anonymous"));
        assert!(
            problems(&ServeConfig {
                allow_anonymous: true,
                ..open.clone()
            })
            .is_empty()
        );
        let digest = super::super::hash_key("k").parse().expect("a hash");
        assert!(
            problems(&ServeConfig {
                api_key_hash: vec![digest],
                ..open
            })
            .is_empty()
        );
    }

    #[test]
    fn kv_memory_has_bounds_on_both_sides() {
        for (tokens, fine) in [
            (0, false),
            (15, false),
            (16, true),
            (MOST_KV_TOKENS, true),
            (MOST_KV_TOKENS + 1, false),
            (usize::MAX, false),
        ] {
            let told = problems(&ServeConfig {
                kv_tokens: Some(tokens),
                ..sound()
            });
            assert_eq!(told.is_empty(), fine, "{tokens}: {told:?}");
            assert!(told.iter().all(|problem| problem.contains("--kv-tokens")), "{told:?}");
        }
    }

    #[test]
    fn a_key_that_is_asked_for_at_the_metrics_must_exist() {
        let asking = ServeConfig {
            metrics_need_key: true,
            ..sound()
        };
        let told = problems(&asking);
        assert_eq!(told.len(), 1);
        assert!(told[0].contains("--metrics-need-key") && told[0].contains("--api-key-hash"));
        let digest = super::super::hash_key("k").parse().expect("a hash");
        let keyed = ServeConfig {
            api_key_hash: vec![digest],
            ..asking
        };
        assert_eq!(problems(&keyed), Vec::<String>::new());
    }

    #[test]
    fn probes_may_have_any_address_but_the_servers_own_and_need_no_key() {
        let told = |ops: ([u8; 4], u16)| {
            problems(&ServeConfig {
                ops_listen: Some(ops.into()),
                ..sound()
            })
        };
        assert_eq!(told(([0, 0, 0, 0], 9090)), Vec::<String>::new());
        let same = told(([127, 0, 0, 1], 8080));
        assert!(same.len() == 1 && same[0].contains("--ops-listen"), "{same:?}");
    }

    #[test]
    fn a_keys_file_without_a_key_is_refused_wherever_the_server_listens() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("keys");
        for contents in ["", "# ward 7\n\n"] {
            std::fs::write(&path, contents).expect("written");
            for address in [[0u8, 0, 0, 0], [127, 0, 0, 1]] {
                let keyless = ServeConfig {
                    listen: (address, 8080).into(),
                    api_keys_file: Some(path.clone()),
                    ..sound()
                };
                let told = problems(&keyless);
                assert_eq!(told.len(), 1, "{contents:?}, {address:?}: {told:?}");
                assert!(told[0].contains("holds no key"), "{told:?}");
            }
        }
        std::fs::write(&path, super::super::hash_key("k")).expect("written");
        let keyed = ServeConfig {
            listen: ([0, 0, 0, 0], 8080).into(),
            api_keys_file: Some(path),
            ..sound()
        };
        assert!(keyed.check().expect("a key").find("k").is_some());
    }

    #[test]
    fn a_word_that_is_no_level_is_refused_rather_than_taken_for_a_target_and_levels_are_told() {
        let told = |level: &str| {
            problems(&ServeConfig {
                log_level: level.to_owned(),
                ..sound()
            })
        };
        for level in [
            "info",
            "WARN",
            "Off",
            " debug ",
            "llm_cxr=debug",
            "info,hyper=debug",
            "warn,llm_cxr=trace,h2=off",
        ] {
            assert_eq!(told(level), Vec::<String>::new(), "{level}");
        }
        for level in [
            "warning",
            "notice",
            "fatal",
            "verbose",
            "llm_cxr",
            "",
            "warning,hyper=info",
            "hyper=debug, info",
            "llm_cxr=warning",
        ] {
            let told = told(level);
            assert_eq!(told.len(), 1, "{level}");
            assert!(told[0].contains("--log-level") && told[0].contains("error, warn, info, debug or trace"));
        }
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let wrong = ServeConfig {
            model: ModelConfig {
                folder: "no/such/folder".into(),
                ..ModelConfig::default()
            },
            listen: ([0, 0, 0, 0], 0).into(),
            max_batch: Some(0),
            max_body_bytes: 1 << 29,
            body_timeout: Duration::ZERO,
            api_keys_file: Some("no/such/file".into()),
            ..ServeConfig::default()
        };
        let told = problems(&wrong).join("\n");
        for flag in ["keys file", "--model", "--max-batch", "--queue-bytes", "--body-timeout"] {
            assert!(told.contains(flag), "{flag} is not told of in:\n{told}");
        }
    }
}
