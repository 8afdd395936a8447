//! The API keys that are let in now: those that the configuration gives, and those of a file that is read again now and then, so that a key can be
//! taken away without a restart.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use crate::config::{ApiKeys, KeyDigest, KeyError, ServeConfig};
use crate::http::metrics;

/// The keys, and where they come from. Cheap to clone; clones hold the same keys.
#[derive(Clone, Debug)]
pub struct Keyring(Arc<Ring>);

#[derive(Debug)]
struct Ring {
    now: RwLock<Arc<ApiKeys>>,
    given: Vec<KeyDigest>,
    file: Option<PathBuf>,
    /// What is wrong with the file, as the log was told.
    wrong: Mutex<Option<KeyError>>,
}

impl Keyring {
    /// Of this configuration, which gave `keys` at the start.
    pub fn new(keys: ApiKeys, config: &ServeConfig) -> Self {
        Self(Arc::new(Ring {
            now: RwLock::new(Arc::new(keys)),
            given: config.api_key_hash.clone(),
            file: config.api_keys_file.clone(),
            wrong: Mutex::new(None),
        }))
    }

    /// The keys as they are now.
    pub fn now(&self) -> Arc<ApiKeys> {
        Arc::clone(&self.0.now.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the file again, each time after so long; never, where there is none.
    pub async fn keep_fresh(self, every: Duration) {
        while self.0.file.is_some() {
            tokio::time::sleep(every).await;
            let ring = self.clone();
            // A file may hang, as on a network.
            let _ = tokio::task::spawn_blocking(move || ring.read_again()).await;
        }
    }

    /// Takes the file's keys for those of before. A file that cannot be read, is no list of keys or lists none changes nothing but the meter and
    /// the log, which is told once of each fault. May wait for the disk.
    pub fn read_again(&self) {
        let Some(file) = &self.0.file else { return };
        let old = self.now();
        let read = ApiKeys::new(&[], Some(file)).and_then(|listed| {
            let none = listed.is_empty();
            let new = listed.beside(&self.0.given);
            // An empty one may be a file that is being written: nobody takes all keys away by it. But it may have been so from the start.
            match none && new != *old {
                true => Err(KeyError::NoKeyInFile {
                    file: file.display().to_string(),
                }),
                false => Ok(new),
            }
        });
        let mut wrong = self.0.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        metrics::keys_reload_failed(read.is_err());
        match read {
            Ok(new) => {
                *wrong = None;
                if new != *old {
                    tracing::info!(
                        keys = new.count(),
                        "the API keys file has changed; its keys hold from now on"
                    );
                    *self.0.now.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
                }
            }
            Err(error) => {
                if wrong.as_ref() != Some(&error) {
                    tracing::error!(%error, "the API keys file cannot be taken; the keys of before still hold");
                    *wrong = Some(error);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::hash_key;

    /// A ring of the key `given` and those of a file.
    fn ring(file: &Path, keys: &[&str]) -> Keyring {
        write(file, keys);
        let config = ServeConfig {
            api_key_hash: vec![hash_key("given").parse().expect("a hash")],
            api_keys_file: Some(file.to_owned()),
            ..ServeConfig::default()
        };
        let keys = ApiKeys::new(&config.api_key_hash, Some(file)).expect("sound");
        Keyring::new(keys, &config)
    }

    fn write(file: &Path, keys: &[&str]) {
        let lines: String = keys.iter().map(|key| hash_key(key) + "\n").collect();
        std::fs::write(file, lines).expect("written");
    }

    fn let_in(ring: &Keyring) -> Vec<&'static str> {
        let known = ["given", "old", "new"];
        known.into_iter().filter(|key| ring.now().find(key).is_some()).collect()
    }

    #[test]
    fn a_key_that_was_taken_out_of_the_file_is_let_in_no_more_and_a_new_one_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("keys");
        let ring = ring(&file, &["old"]);
        assert_eq!(let_in(&ring), ["given", "old"]);
        write(&file, &["new"]);
        ring.clone().read_again();
        assert_eq!(let_in(&ring), ["given", "new"]);
    }

    #[test]
    fn a_file_that_is_gone_broken_or_empty_takes_no_key_away_and_a_sound_one_counts_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("keys");
        let ring = ring(&file, &["old"]);
        let wrong = || ring.0.wrong.lock().expect("not poisoned").clone();
        for contents in [None, Some("no hash\n"), Some(""), Some("# all gone\n")] {
            match contents {
                Some(text) => std::fs::write(&file, text).expect("written"),
                None => std::fs::remove_file(&file).expect("removed"),
            }
            ring.read_again();
            assert_eq!(let_in(&ring), ["given", "old"], "{contents:?}");
            assert!(wrong().is_some(), "{contents:?}");
        }
        write(&file, &["old", "new"]);
        ring.read_again();
        assert_eq!(let_in(&ring), ["given", "old", "new"]);
        assert_eq!(wrong(), None);
    }

    #[test]
    fn a_key_that_is_taken_out_is_let_in_no_more_also_where_the_file_lists_only_what_is_given_then() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("keys");
        let ring = ring(&file, &["given", "old"]);
        write(&file, &["given"]);
        ring.read_again();
        assert_eq!(let_in(&ring), ["given"]);
        assert_eq!(*ring.0.wrong.lock().expect("not poisoned"), None);
    }

    #[test]
    fn a_file_that_never_held_a_key_beside_those_that_are_given_is_no_fault() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("keys");
        let ring = ring(&file, &[]);
        ring.read_again();
        assert_eq!(let_in(&ring), ["given"]);
        assert_eq!(*ring.0.wrong.lock().expect("not poisoned"), None);
    }
}
