//! Decoding and preprocessing equal Pillow 10.0.1, pixel for pixel.
//!
//! Fixtures come from `tests/fixtures/make_radiograph_fixtures.py`.

use std::path::{Path, PathBuf};

use llm_cxr::radiograph::{Channels, DecodeLimits, Preprocess, Raster, for_model, read};
use serde_json::Value;
use sha2::{Digest, Sha256};

const SIDES: [usize; 2] = [256, 96];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn expectations(file: &str) -> serde_json::Map<String, Value> {
    let text = std::fs::read_to_string(fixtures().join(file)).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn rgb(raster: &Raster) -> Vec<u8> {
    match raster.channels() {
        Channels::Rgb => raster.samples().to_vec(),
        Channels::Grey => raster.samples().iter().flat_map(|&grey| [grey; 3]).collect(),
    }
}

/// What differs between the file's pixels and Pillow's, if anything.
fn difference(bytes: &[u8], preprocess: Preprocess, expected: &Value) -> Option<String> {
    let raster = match read(bytes, &DecodeLimits::default(), preprocess) {
        Ok(raster) => raster,
        Err(error) => return Some(format!("refused: {error}")),
    };
    let size = serde_json::json!([raster.width(), raster.height()]);
    if size != expected["size"] {
        return Some(format!("size {size} instead of {}", expected["size"]));
    }
    if hex(&rgb(&raster)) != expected["decoded"] {
        return Some("decoded pixels".into());
    }
    let wrong = SIDES
        .into_iter()
        .find(|&side| hex(for_model(&raster, side).rgb()) != expected[side.to_string()]);
    wrong.map(|side| format!("square of {side}"))
}

#[test]
fn every_colour_mode_and_depth_equals_pillow() {
    let expected = expectations("radiograph/expected.json");
    assert!(expected.len() >= 80);
    let mut failures = Vec::new();
    for (name, by_preprocess) in &expected {
        let bytes = std::fs::read(fixtures().join("radiograph").join(name)).unwrap();
        let compat = &by_preprocess["compat"];
        let default = by_preprocess.get("default").unwrap_or(compat);
        for (preprocess, expected) in [(Preprocess::Compat, compat), (Preprocess::Default, default)] {
            failures.extend(difference(&bytes, preprocess, expected).map(|d| format!("{name} {preprocess:?}: {d}")));
        }
    }
    assert!(
        failures.is_empty(),
        "{} differences:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

#[test]
fn squares_stored_in_full_equal_pillow() {
    let mut seen = 0;
    for entry in std::fs::read_dir(fixtures().join("radiograph")).unwrap() {
        let path = entry.unwrap().path();
        let Some(image) = path.to_str().and_then(|name| name.strip_suffix(".96.rgb")) else {
            continue;
        };
        let raster = read(
            &std::fs::read(image).unwrap(),
            &DecodeLimits::default(),
            Preprocess::Compat,
        )
        .unwrap();
        let (ours, pillow) = (for_model(&raster, 96), std::fs::read(&path).unwrap());
        let first = ours.rgb().iter().zip(&pillow).position(|(a, b)| a != b);
        let place = first.map(|i| (i / 3 % 96, i / 3 / 96, i % 3));
        assert_eq!(
            (ours.rgb().len(), place),
            (pillow.len(), None),
            "{image}: (x, y, channel) of the first difference"
        );
        seen += 1;
    }
    assert!(seen >= 5);
}

/// Public radiographs that are not part of the repository: run where they lie beside it.
#[test]
fn real_radiographs_equal_pillow_where_they_are_at_hand() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/cxr");
    if !folder.is_dir() {
        return;
    }
    let mut seen = 0;
    for (name, expected) in &expectations("radiograph-shared.json") {
        let Ok(bytes) = std::fs::read(folder.join(name)) else {
            continue;
        };
        if hex(&bytes) == expected["file"] {
            assert_eq!(
                difference(&bytes, Preprocess::Compat, &expected["compat"]),
                None,
                "{name}"
            );
            seen += 1;
        }
    }
    assert!(
        seen >= 20,
        "{seen} of the files are the ones that the fixture was made of"
    );
}
