//! Recipes: those that are kept here, and what `run` does.

use std::fs;
use std::path::Path;

use crate::house::{fail, succeed};

const SMALL: &str = r#"
[values]
images = "phantoms"

[[step]]
command = "phantom"
id = "phantoms"
studies = 12
size = 64

[[step]]
command = "tokenizer"
data = ["phantoms"]
vocabulary = 300

[[step]]
command = "vqgan"
data = ["phantoms"]
resolution = 32
ch_mult = [1, 1]
embed_dim = 8
codes = 16
batch = 2
steps = 4
disc_start = 2
disc_width = 8
disc_layers = 1
quantise_from = 1
validate_images = 2

[[step]]
command = "encode"
data = "{images}"
vqgan = "vqgan"
"#;

fn write(folder: &Path, text: &str) {
    fs::write(folder.join("small.toml"), text).expect("the recipe is written");
}

/// The codes of each record of a file of them, without the times of the images' files.
fn codes_in(path: &Path) -> Vec<Vec<u8>> {
    let bytes = fs::read(path).expect("codes");
    let (header, records) = bytes.split_at(48);
    let number = usize::from(u16::from_le_bytes([header[40], header[41]]));
    let (before, codes) = (16 + 24 + 16, 2 * number);
    let record = |record: &[u8]| record[before..before + codes].to_vec();
    records.chunks_exact(before + codes + 4).map(record).collect()
}

#[test]
fn a_recipe_is_followed_once_and_gone_on_with() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let folder = dir.path();
    write(folder, SMALL);
    let (dry, _) = succeed(folder, &["run", "small.toml", "--dry-run"]);
    assert_eq!(dry.matches("to do").count(), 4, "{dry}");
    assert!(!folder.join("runs").exists(), "a dry run did something");

    let run = ["run", "small.toml", "--device", "cpu"];
    let (_, err) = succeed(folder, &run);
    for place in [
        "step 1 of 4: phantoms (phantom)",
        "step 3 of 4: vqgan (vqgan)",
        "step 4 of 4: encode",
    ] {
        assert!(err.contains(place), "{err}");
    }
    let codes = folder.join("runs/small/encode.codes");
    let made = codes_in(&codes);
    assert_eq!(made.len(), 12);
    let (_, err) = succeed(folder, &run);
    assert_eq!(err.matches(" is done").count(), 4, "{err}");

    // What somebody removed is done again, and nothing else is.
    fs::remove_file(&codes).expect("the file is there");
    let (_, err) = succeed(folder, &run);
    assert_eq!(err.matches(" is done").count(), 3, "{err}");
    assert!(codes_in(&codes) == made, "the same images gave other codes");

    // A longer training goes on; the codes of the shorter one are not silently kept.
    let longer = [&run[..], &["--set", "vqgan.steps=6"]].concat();
    let error = fail(folder, &longer);
    assert!(
        error.contains("step 3 of 4: vqgan (vqgan): other settings (steps: 4 → 6)"),
        "{error}"
    );
    assert!(error.contains("goes on after step 4"), "{error}");
    assert!(error.contains("step `encode`") && error.contains("--redo"), "{error}");
    succeed(folder, &[&longer[..], &["--redo"]].concat());
    assert!(codes_in(&codes) != made, "the codes are those of the other VQ-GAN");
}

#[test]
fn a_slip_in_the_last_step_shows_before_the_first_is_begun() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let folder = dir.path();
    write(
        folder,
        &SMALL.replace("vqgan = \"vqgan\"", "vqgan = \"vqgan\"\nbacth = 3"),
    );
    let error = fail(folder, &["run", "small.toml"]);
    assert!(error.contains("step `encode`") && error.contains("`bacth`"), "{error}");
    write(
        folder,
        &SMALL.replace("command = \"encode\"", "command = \"encrypt\"\nid = \"encode\""),
    );
    let error = fail(folder, &["run", "small.toml"]);
    assert!(error.contains("no command `encrypt`"), "{error}");
    assert!(!folder.join("runs").exists());
    write(folder, SMALL);
    let error = fail(folder, &["run", "small.toml", "--only", "encode"]);
    assert!(error.contains("`encode` needs `phantoms`"), "{error}");
    let error = fail(folder, &["run", "small.toml", "--only", "encoded"]);
    assert!(error.contains("phantoms, tokenizer, vqgan, encode"), "{error}");
}
#[test]
fn the_recipes_of_the_repository_are_understood() {
    let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes");
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut seen = 0;
    for entry in fs::read_dir(recipes).expect("the recipes") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|e| e == "toml") {
            succeed(dir.path(), &["run", path.to_str().expect("a plain path"), "--dry-run"]);
            seen += 1;
        }
    }
    assert!(seen >= 3, "{seen} recipes");
}
