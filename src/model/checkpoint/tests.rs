//! Against files that torch.save wrote (`tests/fixtures/make_checkpoint_fixtures.py`), whole and damaged.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::*;

#[derive(Deserialize)]
struct Expected {
    dtype: String,
    shape: Vec<usize>,
    sha256: String,
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/checkpoint")
        .join(name)
}

fn compare(file: &str, reader: &CheckpointReader) {
    let all: BTreeMap<String, BTreeMap<String, Expected>> =
        serde_json::from_slice(&std::fs::read(fixture("expected.json")).unwrap()).unwrap();
    assert!(!all[file].is_empty());
    for (name, expected) in &all[file] {
        let info = reader.info(name).unwrap_or_else(|| panic!("{file} lacks {name}"));
        assert_eq!(
            (info.dtype.name(), &info.shape),
            (&*expected.dtype, &expected.shape),
            "{file}: {name}"
        );
        let digest = format!("{:x}", Sha256::digest(reader.read(name).unwrap()));
        assert_eq!(digest, expected.sha256, "{file}: {name}");
    }
}

#[test]
fn every_type_and_view_has_the_values_torch_saved() {
    let reader = CheckpointReader::open_file(&fixture("mixed.bin")).unwrap();
    compare("mixed.bin", &reader);
    assert!(reader.info("not.plain").is_none());
    assert_eq!(
        reader.other("not.plain"),
        Some("an object of torch._utils._rebuild_sparse_tensor")
    );
    assert_eq!(reader.other("not.a.tensor"), Some("a number"));
}

#[test]
fn files_from_before_the_zip_format_are_read_too() {
    compare(
        "legacy.bin",
        &CheckpointReader::open_file(&fixture("legacy.bin")).unwrap(),
    );
}

#[test]
fn a_checkpoint_with_unknown_classes_and_a_malicious_call_gives_its_tensors_and_runs_nothing() {
    let trace = Path::new("/tmp/llm-cxr-pickle-was-run");
    let before = trace.exists();
    compare(
        "vqgan.ckpt",
        &CheckpointReader::open_file(&fixture("vqgan.ckpt")).unwrap(),
    );
    assert!(
        !before && !trace.exists(),
        "the pickle's command ran (or its trace lay there before)"
    );
}

#[test]
fn shards_are_found_through_their_index() {
    let reader = CheckpointReader::open_folder(&fixture("llm")).unwrap();
    compare("llm", &reader);
    assert!(
        reader
            .file_of("embed_out.weight")
            .unwrap()
            .ends_with("pytorch_model-00002-of-00002.bin")
    );
}

fn copy_of_llm() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixture("llm")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    dir
}

#[test]
fn safetensors_are_preferred_over_pickles() {
    let dir = copy_of_llm();
    let info = TensorInfo {
        dtype: Dtype::F32,
        shape: vec![1],
    };
    let mut writer =
        SafetensorsWriter::create(&dir.path().join("model.safetensors"), &[("only".into(), info)]).unwrap();
    writer.write("only", &[0; 4]).unwrap();
    writer.finish().unwrap();
    let reader = CheckpointReader::open_folder(dir.path()).unwrap();
    assert_eq!(reader.names().collect::<Vec<_>>(), ["only"]);
}

#[test]
fn an_index_that_does_not_fit_its_shards_is_refused() {
    let dir = copy_of_llm();
    let path = dir.path().join("pytorch_model.bin.index.json");
    let index = std::fs::read_to_string(&path).unwrap();
    let open = |index: &str| {
        std::fs::write(&path, index).unwrap();
        CheckpointReader::open_folder(dir.path())
            .err()
            .map(|e| e.to_string())
            .unwrap_or_default()
    };
    assert_eq!(open(&index), "");
    assert!(open(&index.replace("embed_out.weight", "embed_out.bias")).contains("holds no tensor `embed_out.bias`"));
    assert!(open(&index.replace("-00002-of", "-00003-of")).contains("pytorch_model-00003-of-00002.bin"));
    assert!(open(&index.replace("pytorch_model-00002", "../pytorch_model-00002")).contains("outside its folder"));
    assert!(open("[]").contains("not an index"));
    assert!(open("version https://git-lfs.github.com/spec/v1\n").contains("git lfs pull"));
}

#[test]
fn shards_without_their_index_are_told_from_no_weights_at_all() {
    for (stem, suffix, index) in [
        ("pytorch_model", "bin", Some("pytorch_model.bin.index.json")),
        ("model", "safetensors", Some("model.safetensors.index.json")),
        ("other", "bin", None),
    ] {
        let dir = tempfile::tempdir().unwrap();
        for number in 1..=2 {
            let name = format!("{stem}-0000{number}-of-00002.{suffix}");
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let said = CheckpointReader::open_folder(dir.path()).err().unwrap().to_string();
        match index {
            Some(index) => assert!(
                said.contains(&format!("{stem}-00001-of-00002.{suffix}, but not {index}")),
                "{said}"
            ),
            None => assert!(said.contains("holds no weights"), "{said}"),
        }
    }
}

/// Opens bytes as a file of torch.save and reads every tensor.
fn read_all(bytes: &[u8]) -> Result<usize, CheckpointError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file.bin");
    std::fs::write(&path, bytes).unwrap();
    let reader = CheckpointReader::open_file(&path)?;
    reader
        .names()
        .map(|name| reader.read(name).map(|values| values.len()))
        .sum()
}

#[test]
fn a_flipped_bit_in_a_tensor_is_found_by_its_checksum() {
    let mut bytes = std::fs::read(fixture("mixed.bin")).unwrap();
    let reader = CheckpointReader::open_file(&fixture("mixed.bin")).unwrap();
    let values = reader.read("view.whole").unwrap();
    let at = bytes
        .windows(values.len())
        .position(|window| window == &*values)
        .unwrap();
    bytes[at + 17] ^= 1;
    let error = read_all(&bytes).unwrap_err();
    assert!(
        matches!(&error, CheckpointError::Tensor { tensor, .. } if tensor.starts_with("view.")),
        "{error}"
    );
}

/// A file of torch.save whose first `most` entries that are not empty have 0 for a checksum in the zip directory.
fn without_checksums(mut bytes: Vec<u8>, most: usize) -> Vec<u8> {
    let entries = bytes
        .windows(4)
        .enumerate()
        .filter(|(_, window)| *window == b"PK\x01\x02");
    let at: Vec<usize> = entries
        .map(|(at, _)| at)
        .filter(|at| bytes[at + 24..at + 28] != [0u8; 4])
        .collect();
    assert!(at.len() > 3, "the zip directory was not found");
    for at in at.into_iter().take(most) {
        bytes[at + 16..at + 20].fill(0);
    }
    bytes
}

#[test]
fn a_file_that_was_saved_without_checksums_is_read_and_one_that_lacks_some_is_not() {
    let whole = std::fs::read(fixture("mixed.bin")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mixed.bin");
    std::fs::write(&path, without_checksums(whole.clone(), usize::MAX)).unwrap();
    compare("mixed.bin", &CheckpointReader::open_file(&path).unwrap());
    let error = read_all(&without_checksums(whole, 1)).unwrap_err().to_string();
    assert!(error.contains("checksum"), "{error}");
}

#[test]
fn truncated_files_are_refused() {
    for name in ["mixed.bin", "legacy.bin"] {
        let bytes = std::fs::read(fixture(name)).unwrap();
        for length in [0, 1, 40, bytes.len() / 2, bytes.len() - 1] {
            let said = read_all(&bytes[..length]).unwrap_err().to_string();
            assert!(
                name == "legacy.bin" || said.contains("download it again"),
                "{name} cut to {length} bytes: {said}"
            );
        }
    }
}

#[test]
fn files_of_other_kinds_are_refused_with_what_to_do() {
    let said = |bytes: &[u8]| read_all(bytes).unwrap_err().to_string();
    assert!(said(b"version https://git-lfs.github.com/spec/v1\n").contains("git lfs pull"));
    assert!(said(b"\n<!DOCTYPE html><html><title>Virus scan warning</title></html>").contains("web page"));
    let other = said(b"hello");
    assert!(
        other.contains("torch.save") && other.contains("download it again"),
        "{other}"
    );
    assert!(said(b"\x80\x02K\x01.").contains("not one of torch.save"));
    assert!(said(b"").contains("empty"));
    let missing = CheckpointReader::open_file(Path::new("no-such-file.bin"))
        .err()
        .unwrap();
    assert!(missing.to_string().contains("no-such-file.bin"));
}

proptest! {
    #[test]
    fn damaged_files_are_refused_or_read_but_never_panic(
        legacy in any::<bool>(), changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..6)
    ) {
        let mut bytes = std::fs::read(fixture(if legacy { "legacy.bin" } else { "mixed.bin" })).unwrap();
        for (at, byte) in changes {
            // Half of the damage where structure lies: in the first kilobytes and in the zip directory at the end.
            let length = bytes.len();
            let at = match at % 4 { 0 => at % 4096, 1 => length - 1 - at % 4096, _ => at % length };
            bytes[at.min(length - 1)] = byte;
        }
        let _ = read_all(&bytes);
    }
}
