//! Which files of a Hugging Face folder hold its weights.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{CheckpointError, read_whole};

/// Where the weights are.
#[derive(Debug)]
pub(super) struct Found {
    /// The files, in order of their names.
    pub(super) files: Vec<PathBuf>,
    /// What an index says of each tensor; empty without one.
    pub(super) listed: BTreeMap<String, PathBuf>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// In order of preference.
const WHOLE_OR_INDEX: [&str; 4] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];

/// Finds the weight files of a folder; all those an index names must be there.
pub(super) fn locate(dir: &Path) -> Result<Found, CheckpointError> {
    if !dir.is_dir() {
        return Err(CheckpointError::format(
            dir,
            "is not a folder; give the Hugging Face folder that holds config.json",
        ));
    }
    let Some(name) = WHOLE_OR_INDEX.into_iter().find(|name| dir.join(name).is_file()) else {
        return Err(CheckpointError::format(dir, what_is_missing(dir)));
    };
    let path = dir.join(name);
    if !name.ends_with(".json") {
        return Ok(Found {
            files: vec![path],
            listed: BTreeMap::new(),
        });
    }
    let index: Index = serde_json::from_slice(&read_whole(&path)?)
        .map_err(|e| CheckpointError::format(&path, format!("is not an index of shards: {e}")))?;
    let names: BTreeSet<&String> = index.weight_map.values().collect();
    for shard in names.iter().copied() {
        // Shards lie beside their index: a path could lead anywhere.
        if Path::new(shard).file_name().is_none_or(|name| name != shard.as_str()) {
            return Err(CheckpointError::format(
                &path,
                format!("names a shard outside its folder: {shard:?}"),
            ));
        }
        if !dir.join(shard).is_file() {
            return Err(CheckpointError::format(
                &path,
                format!("names {shard}, which is not in the folder; copy it there"),
            ));
        }
    }
    let files = names.iter().map(|shard| dir.join(shard)).collect();
    let listed = index
        .weight_map
        .into_iter()
        .map(|(tensor, shard)| (tensor, dir.join(shard)))
        .collect();
    Ok(Found { files, listed })
}

/// What is said of a folder with neither whole weights nor an index: whether there are shards that lack theirs.
fn what_is_missing(dir: &Path) -> String {
    const SHARDS: [(&str, &str, &str); 2] = [
        ("model-", ".safetensors", "model.safetensors.index.json"),
        ("pytorch_model-", ".bin", "pytorch_model.bin.index.json"),
    ];
    let entries = std::fs::read_dir(dir).into_iter().flatten();
    let names: BTreeSet<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    for (first, last, index) in SHARDS {
        let is_shard = |name: &&String| {
            let number = name.strip_prefix(first).and_then(|rest| rest.strip_suffix(last));
            number.is_some_and(|number| number.contains("-of-"))
        };
        if let Some(shard) = names.iter().find(is_shard) {
            return format!("holds {shard}, but not {index}, which says where each tensor is; copy or download it too");
        }
    }
    format!("holds no weights; expected one of {}", WHOLE_OR_INDEX.join(", "))
}
