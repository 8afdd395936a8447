//! Settings as a run keeps them: which may change when it is taken up again, and which name files.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::train::data::plain_path;

/// Settings that may change when a run is taken up again: they do not change what is learned up to any step. `steps` is the exception
/// where the learning rate falls towards the last step: with another number of steps, the rates of the steps still to come follow it, and
/// what is learned is not what a run of so many steps from the beginning learns.
pub const FREE: &[&str] = &[
    "steps",
    "workers",
    "cache_mib",
    "device",
    "eval_every",
    "save_every",
    "log_every",
    "validate_images",
    "samples",
    "patience",
    "name",
    "licence",
    "warning",
    "temperature",
    "guidance",
    "readings",
];

/// Settings of the commands that name files or folders to be read, some as `PATH@SHARE`.
pub const PATHS: &[&str] = &[
    "auroc_data",
    "base",
    "bundle",
    "classifier",
    "codes",
    "config",
    "data",
    "init",
    "perceptual",
    "questions",
    "text",
    "tokenizer",
    "vqgan",
];

/// Where a run lies is not what it is: its folder may be moved.
const PLACE: &str = "out";

/// What a recipe may leave unsaid and a run fills in before it keeps it.
const FILLED: &str = "quantise_from";

/// These name the shape of a VQ-GAN or where it is taken from, in which case those of [`SHAPE`] follow.
const SHAPE_FROM: &[&str] = &["config", "init"];

/// The shape of a VQ-GAN.
const SHAPE: &[&str] = &[
    "resolution",
    "channels",
    "ch",
    "ch_mult",
    "res_blocks",
    "attention",
    "codes",
    "embed_dim",
];

/// This names where the shape of a language model is taken from, in which case those of [`NEOX_SHAPE`] follow.
const NEOX_SHAPE_FROM: &str = "base";

/// The shape of a language model.
const NEOX_SHAPE: &[&str] = &["hidden", "layers", "heads", "context", "tied"];

/// In what the settings `now` are other ones than `then`, as `name: then → now`, but for what a run may be taken up again with. One path
/// written in two ways is no difference.
pub fn differences(then: &Value, now: &Value) -> Vec<String> {
    let keys = |v: &Value| -> Vec<String> { v.as_object().into_iter().flat_map(|o| o.keys().cloned()).collect() };
    let mut names = [keys(then), keys(now)].concat();
    names.sort();
    names.dedup();
    let follows = SHAPE_FROM.iter().any(|from| !now[*from].is_null());
    let based = !now[NEOX_SHAPE_FROM].is_null();
    let counts = |name: &str| match name {
        PLACE => false,
        FILLED => !then[name].is_null() && !now[name].is_null(),
        name if FREE.contains(&name) => false,
        name => !(follows && SHAPE.contains(&name) || based && NEOX_SHAPE.contains(&name)),
    };
    let differs = |name: &&String| {
        let name = name.as_str();
        counts(name) && then.get(name) != now.get(name) && !same(name, &then[name], &now[name])
    };
    let told = names.iter().filter(differs);
    told.map(|name| format!("{name}: {} → {}", then[name.as_str()], now[name.as_str()]))
        .collect()
}

/// Whether two values of a setting say the same in other words.
fn same(name: &str, then: &Value, now: &Value) -> bool {
    match (then, now) {
        (Value::String(then), Value::String(now)) => PATHS.contains(&name) && place(then) == place(now),
        (Value::Array(then), Value::Array(now)) => {
            let mut pairs = then.iter().zip(now);
            then.len() == now.len() && pairs.all(|(then, now)| then == now || same(name, then, now))
        }
        _ => false,
    }
}

/// The file or folder that a text names, and its share.
fn place(spec: &str) -> (PathBuf, f64) {
    let (path, share) = split_share(spec);
    let path = Path::new(path);
    (path.canonicalize().unwrap_or_else(|_| plain_path(path)), share)
}

/// The path and the share of `PATH` or `PATH@SHARE`; the share is 1 where none is given. What is there under the whole name is meant by it.
pub fn split_share(spec: &str) -> (&str, f64) {
    split_share_in(Path::new(""), spec)
}

/// [`split_share`] of a path that is relative to `folder`.
pub fn split_share_in<'a>(folder: &Path, spec: &'a str) -> (&'a str, f64) {
    match spec.rsplit_once('@').map(|(path, share)| (path, share.parse::<f64>())) {
        Some((path, Ok(share))) if share > 0.0 && share.is_finite() && !folder.join(spec).exists() => (path, share),
        _ => (spec, 1.0),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::train::finetune::FinetuneSettings;
    use crate::train::vqgan::VqganSettings;

    #[test]
    fn what_is_known_of_networks_by_name_is_a_setting_of_their_training() {
        let settings = serde_json::to_value(VqganSettings::default()).unwrap();
        for name in SHAPE.iter().chain(SHAPE_FROM).chain([&FILLED, &PLACE]) {
            assert!(settings.get(*name).is_some(), "{name}");
        }
        let settings = serde_json::to_value(FinetuneSettings::default()).unwrap();
        for name in NEOX_SHAPE.iter().chain([&NEOX_SHAPE_FROM]) {
            assert!(settings.get(*name).is_some(), "{name}");
        }
    }

    #[test]
    fn a_share_is_a_positive_number_behind_the_last_at_sign() {
        assert_eq!(split_share("a/b@2.5"), ("a/b", 2.5));
        assert_eq!(split_share("a@b"), ("a@b", 1.0));
        assert_eq!(split_share("a@0"), ("a@0", 1.0));
    }

    #[test]
    fn what_is_there_under_its_whole_name_has_no_share() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("set@2")).unwrap();
        assert_eq!(split_share_in(dir.path(), "set@2"), ("set@2", 1.0));
        assert_eq!(split_share_in(dir.path(), "set@2@0.5"), ("set@2", 0.5));
        assert_eq!(split_share_in(dir.path(), "set@3"), ("set", 3.0));
        let whole = dir.path().join("set@2");
        let whole = whole.to_str().unwrap();
        assert_eq!(split_share(whole), (whole, 1.0));
    }

    #[test]
    fn a_run_is_the_same_wherever_it_lies_and_however_its_data_are_written() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("data")).unwrap();
        let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
        let then = json!({"out": "fa", "data": [path("data")], "vqgan": "gone/vqgan", "rate": 0.1, "steps": 5});
        let now = json!({"out": "/elsewhere/fa/", "data": [path("./data/../data/")], "vqgan": "./gone/vqgan", "rate": 0.1, "steps": 9});
        assert_eq!(differences(&then, &now), Vec::<String>::new());
        for (key, value) in [
            ("data", json!([path("data") + "@2"])),
            ("data", json!([path("data"), "more"])),
            ("vqgan", json!("vqgan")),
            ("rate", json!(0.2)),
            ("extra", json!(1)),
        ] {
            let mut other = now.clone();
            other[key] = value;
            let told = differences(&then, &other);
            assert!(told.len() == 1 && told[0].starts_with(key), "{told:?}");
        }
    }

    #[test]
    fn a_shape_that_follows_from_a_file_and_what_a_recipe_leaves_unsaid_are_no_differences() {
        let then = json!({"init": "vqgan", "codes": 512, "quantise_from": 0, "embed_dim": 64});
        let now = json!({"init": "vqgan", "codes": 1024, "quantise_from": null, "embed_dim": 32});
        assert_eq!(differences(&then, &now), Vec::<String>::new());
        let without = |mut settings: Value| {
            settings["init"] = Value::Null;
            settings
        };
        assert_eq!(differences(&without(then), &without(now)).len(), 2);
        // Earlier versions kept what the flags say by default, whatever the base is.
        let of = |base: Value, hidden: u64| json!({"base": base, "hidden": hidden, "tied": false});
        assert_eq!(
            differences(&of(json!("b"), 256), &of(json!("b"), 64)),
            Vec::<String>::new()
        );
        assert_eq!(differences(&of(Value::Null, 256), &of(Value::Null, 64)).len(), 1);
    }
}
