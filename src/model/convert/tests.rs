//! The fixtures of `checkpoint` converted whole, and with everything wrong that can be.

mod refused;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::*;
use crate::model::bundle::{Bundle, Checksums, inspect};
use crate::model::checkpoint::{Dtype, TensorInfo};
use crate::vocabulary::Input;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// A folder with the pieces to convert, copied so that a test may break them.
struct Workshop {
    dir: tempfile::TempDir,
    options: ConvertOptions,
}

impl Workshop {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let llm = dir.path().join("llm");
        fs::create_dir(&llm).unwrap();
        for entry in fs::read_dir(fixture("checkpoint/llm")).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), llm.join(entry.file_name())).unwrap();
        }
        fs::copy(fixture("vocabulary/tokenizer.json"), llm.join("tokenizer.json")).unwrap();
        let copy = |from: &str, to: &str| {
            let to = dir.path().join(to);
            fs::copy(fixture(from), &to).unwrap();
            to
        };
        let options = ConvertOptions {
            vqgan_config: copy("model/vqgan-colour.yaml", "vqgan.yaml"),
            vqgan_checkpoint: copy("checkpoint/vqgan.ckpt", "vqgan.ckpt"),
            out: dir.path().join("bundle"),
            llm,
            dtype: TargetDtype::Keep,
            name: None,
            force: false,
            allow_non_finite: false,
        };
        Self { dir, options }
    }

    fn convert(&self) -> Result<Summary, ConvertError> {
        convert(&self.options, &mut |_| {})
    }

    /// What is said of the error; and that nothing was left behind.
    fn refused(&self) -> String {
        let error = self.convert().unwrap_err().to_string();
        let left = fs::read_dir(self.dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        let left: Vec<_> = left.filter(|name| name.to_string_lossy().contains("bundle")).collect();
        assert!(left.is_empty(), "{left:?} was left behind");
        error
    }

    fn edit_json(&self, name: &str, change: impl Fn(&mut Value)) {
        let path = self.options.llm.join(name);
        let mut json = fs::read(&path).map_or(json!({}), |text| serde_json::from_slice(&text).unwrap());
        change(&mut json);
        fs::write(path, json.to_string()).unwrap();
    }

    /// Writes the language model anew as one safetensors file, with tensors renamed, reshaped or left out.
    fn rewrite(&self, change: impl Fn(&str, TensorInfo) -> Option<(String, TensorInfo)>) {
        let reader = CheckpointReader::open_folder(&self.options.llm).unwrap();
        let changed = reader
            .names()
            .filter_map(|name| change(name, reader.info(name).unwrap().clone()));
        let tensors: Vec<(String, TensorInfo)> = changed.collect();
        write_zeros(&self.options.llm.join("model.safetensors"), &tensors);
    }
}

/// Writes tensors of nothing but zeros.
fn write_zeros(path: &Path, tensors: &[(String, TensorInfo)]) {
    let mut out = SafetensorsWriter::create(path, tensors).unwrap();
    for (name, info) in tensors {
        out.write(name, &vec![0; info.bytes().unwrap()]).unwrap();
    }
    out.finish().unwrap();
}

#[test]
fn an_output_matrix_under_its_name_in_memory_is_found() {
    let workshop = Workshop::new();
    workshop.rewrite(|name, info| Some((name.replace("embed_out.", "lm_head."), info)));
    workshop.convert().unwrap();
    let weights = Bundle::open(&workshop.options.out).unwrap().neox_weights().unwrap();
    assert!(weights.info("embed_out.weight").is_some() && weights.info("lm_head.weight").is_none());
}

#[test]
fn a_folder_of_pickles_becomes_a_bundle_with_the_same_values() {
    let workshop = Workshop::new();
    let summary = workshop.convert().unwrap();
    assert!(summary.warnings.is_empty());
    let bundle = Bundle::open(&workshop.options.out).unwrap();
    bundle.verify(&mut |_| {}).unwrap();
    assert_eq!(
        (bundle.manifest.name.as_str(), bundle.manifest.trained),
        ("bundle", true)
    );
    assert_eq!((bundle.manifest.codes_per_image, bundle.manifest.image_side), (256, 32));
    // It draws when asked in the words that it was tuned with.
    let asked = &bundle.manifest.default_instructions;
    assert!(
        asked
            .report
            .ends_with("radiology reports for the entered chest X-ray images.")
    );
    assert!(
        asked
            .draw
            .contains("free-text radiology reports for the chest X-ray image.")
    );

    let llm = CheckpointReader::open_folder(&workshop.options.llm).unwrap();
    let images = CheckpointReader::open_file(&workshop.options.vqgan_checkpoint).unwrap();
    for (reader, weights, expected) in [
        (&llm, bundle.neox_weights().unwrap(), bundle.neox.expected_tensors()),
        (
            &images,
            bundle.vqgan_weights().unwrap(),
            bundle.vqgan.expected_tensors(),
        ),
    ] {
        assert_eq!(
            weights.names().count(),
            expected.len(),
            "buffers and losses are left out"
        );
        for tensor in expected {
            assert_eq!(weights.info(&tensor.name), reader.info(&tensor.name));
            assert_eq!(
                weights.bytes(&tensor.name),
                Some(&*reader.read(&tensor.name).unwrap()),
                "{}",
                tensor.name
            );
        }
    }
    let vocabulary = bundle.vocabulary().unwrap();
    assert_eq!(vocabulary.prompt("Report.", Input::Image(0)).parts.len(), 3);
}

#[test]
fn a_vqgan_alone_becomes_the_folder_that_a_training_begins_with() {
    let workshop = Workshop::new();
    let out = workshop.dir.path().join("vqgan");
    let mut options = VqganOptions {
        config: workshop.options.vqgan_config.clone(),
        checkpoint: workshop.options.vqgan_checkpoint.clone(),
        out: out.clone(),
        force: false,
        allow_non_finite: false,
    };
    let summary = convert_vqgan(&options, &mut |_| {}).unwrap();
    assert_eq!((summary.codes_per_image, summary.image_side), (256, 32));
    assert!(summary.warnings.is_empty() && summary.to_string().contains("vqgan --init"));
    let config = VqganConfig::from_yaml(&fs::read(out.join("config.yaml")).unwrap()).unwrap();
    let (weights, checkpoint) = (
        CheckpointReader::open_file(&out.join("model.safetensors")).unwrap(),
        CheckpointReader::open_file(&options.checkpoint).unwrap(),
    );
    let expected = config.expected_tensors();
    assert_eq!(weights.names().count(), expected.len(), "losses are left out");
    for tensor in expected {
        let (new, old) = (weights.read(&tensor.name), checkpoint.read(&tensor.name));
        assert_eq!(new.unwrap(), old.unwrap(), "{}", tensor.name);
    }
    // What is there stays, unless it is to be replaced; and nothing is left beside it.
    let taken = convert_vqgan(&options, &mut |_| {}).unwrap_err().to_string();
    assert!(taken.contains("--force"), "{taken}");
    options.force = true;
    convert_vqgan(&options, &mut |_| {}).unwrap();
    options.checkpoint = workshop.options.vqgan_config.clone();
    convert_vqgan(&options, &mut |_| {}).unwrap_err();
    assert!(out.join("model.safetensors").is_file());
    let entries = fs::read_dir(workshop.dir.path()).unwrap();
    let mut names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(names.all(|name| !name.starts_with('.')), "something was left behind");
}

#[test]
fn inspect_says_what_the_bundle_holds() {
    let workshop = Workshop::new();
    workshop.convert().unwrap();
    let inspection = inspect(&workshop.options.out, true, &mut |_| {}).unwrap();
    assert_eq!(inspection.checksums, Checksums::Match);
    assert_eq!(inspection.language_model.dtypes.keys().collect::<Vec<_>>(), ["F16"]);
    assert_eq!(
        inspection.language_model.parameters,
        Bundle::open(&workshop.options.out).unwrap().neox.parameters() as u64
    );
    let table = inspection.to_string();
    for fact in [
        "trained                 yes",
        "codes per image",
        "256",
        "model.safetensors",
        "all files are as listed",
    ] {
        assert!(table.contains(fact), "{fact}\n{table}");
    }
}

#[test]
fn weights_are_cast_on_request() {
    let mut workshop = Workshop::new();
    for (dtype, stored) in [(TargetDtype::Bf16, Dtype::BF16), (TargetDtype::F32, Dtype::F32)] {
        workshop.options.dtype = dtype;
        workshop.options.force = true;
        workshop.convert().unwrap();
        let bundle = Bundle::open(&workshop.options.out).unwrap();
        assert_eq!(
            bundle.neox_weights().unwrap().info("embed_out.weight").unwrap().dtype,
            stored
        );
        assert_eq!(
            bundle
                .vqgan_weights()
                .unwrap()
                .info("quantize.embedding.weight")
                .unwrap()
                .dtype,
            Dtype::F32
        );
    }
}

#[test]
fn a_taken_place_is_left_alone_unless_forced() {
    let mut workshop = Workshop::new();
    fs::create_dir(&workshop.options.out).unwrap();
    workshop.convert().unwrap();
    let first = fs::read(workshop.options.out.join("bundle.json")).unwrap();
    assert!(matches!(
        workshop.convert().unwrap_err(),
        ConvertError::Bundle(BundleError::Exists(_))
    ));
    assert_eq!(fs::read(workshop.options.out.join("bundle.json")).unwrap(), first);
    workshop.options.force = true;
    workshop.options.name = Some("renamed".to_owned());
    workshop.convert().unwrap();
    let bundle = Bundle::open(&workshop.options.out).unwrap();
    assert_eq!(bundle.manifest.name, "renamed");
    let entries = fs::read_dir(workshop.dir.path()).unwrap().count();
    assert_eq!(entries, 4, "llm, yaml, ckpt and the bundle; nothing else is left");
}

#[test]
fn missing_extra_and_misshapen_tensors_are_named_with_both_shapes() {
    let workshop = Workshop::new();
    workshop.rewrite(|name, mut info| {
        match name {
            "gpt_neox.final_layer_norm.bias" => return None,
            "gpt_neox.layers.1.mlp.dense_h_to_4h.weight" => info.shape = vec![16, 32],
            "gpt_neox.layers.0.attention.dense.bias" => info.dtype = Dtype::I16,
            "embed_out.weight" => return Some(("embed_out.weights".to_owned(), info)),
            _ => {}
        }
        Some((name.to_owned(), info))
    });
    let said = workshop.refused();
    for part in [
        "llm/model.safetensors: tensor `gpt_neox.layers.1.mlp.dense_h_to_4h.weight` has shape [16, 32], but the configuration asks for [32, 16]",
        "tensor `gpt_neox.final_layer_norm.bias` of shape [16] is missing",
        "`gpt_neox.layers.0.attention.dense.bias` holds I16",
        "tensor `embed_out.weights` of shape",
        "5 problems",
    ] {
        assert!(said.contains(part), "{part}\n{said}");
    }
}

#[test]
fn names_without_the_prefix_are_explained() {
    let workshop = Workshop::new();
    workshop.rewrite(|name, info| Some((name.strip_prefix("gpt_neox.").unwrap_or(name).to_owned(), info)));
    assert!(workshop.refused().contains("GPTNeoXModel"));
    let workshop = Workshop::new();
    workshop.rewrite(|name, info| Some((format!("module.{name}"), info)));
    assert!(workshop.refused().contains("begin with `module.`"));
}

#[test]
fn a_vqgan_of_another_shape_is_refused() {
    let workshop = Workshop::new();
    let yaml = fs::read_to_string(&workshop.options.vqgan_config).unwrap();
    fs::write(
        &workshop.options.vqgan_config,
        yaml.replace("z_channels: 24", "z_channels: 32"),
    )
    .unwrap();
    let said = workshop.refused();
    assert!(
        said.contains("vqgan.ckpt: tensor `") && said.contains("asks for"),
        "{said}"
    );
}

#[test]
fn a_vocabulary_that_is_not_tokenizer_and_code_book_is_refused_with_all_three_numbers() {
    let workshop = Workshop::new();
    workshop.edit_json("config.json", |config| config["vocab_size"] = json!(1000));
    let said = workshop.refused();
    assert!(
        said.contains("config.json: vocab_size is 1000") && said.contains("64 codes"),
        "{said}"
    );
}

#[test]
fn a_tokenizer_without_control_tokens_is_refused() {
    let workshop = Workshop::new();
    workshop.edit_json("tokenizer.json", |tokenizer| {
        tokenizer["added_tokens"]
            .as_array_mut()
            .unwrap()
            .retain(|token| token["content"] != "### Response:\n");
    });
    assert!(workshop.refused().contains("### Response:"));
    fs::remove_file(workshop.options.llm.join("tokenizer.json")).unwrap();
    assert!(workshop.refused().contains("save_pretrained"));
}

#[test]
fn added_tokens_from_the_files_beside_the_tokenizer_are_taken_in() {
    let workshop = Workshop::new();
    let whole = fs::read(workshop.options.llm.join("tokenizer.json")).unwrap();
    let last = ["### Response:", "### Response:\n"];
    let mut ids = Vec::new();
    for token in serde_json::from_slice::<Value>(&whole).unwrap()["added_tokens"]
        .as_array()
        .unwrap()
    {
        if last.contains(&token["content"].as_str().unwrap()) {
            ids.push((token["content"].clone(), token["id"].as_u64().unwrap()));
        }
    }
    workshop.edit_json("tokenizer.json", |tokenizer| {
        let added = tokenizer["added_tokens"].as_array_mut().unwrap();
        added.retain(|token| !last.contains(&token["content"].as_str().unwrap()));
    });
    workshop.edit_json("added_tokens.json", |json| {
        json[ids[0].0.as_str().unwrap()] = json!(ids[0].1)
    });
    workshop.edit_json("special_tokens_map.json", |json| {
        json["additional_special_tokens"] = json!([last[0]])
    });
    workshop.edit_json("tokenizer_config.json", |json| {
        json["added_tokens_decoder"][ids[1].1.to_string()] = json!({"content": last[1], "special": true});
    });
    workshop.convert().unwrap();
    let bundle = Bundle::open(&workshop.options.out).unwrap();
    let reference = crate::vocabulary::Vocabulary::from_bytes(&whole, 64, 256).unwrap();
    let text = "### Response:\n a ### Response: b";
    let prompt = |vocabulary: &crate::vocabulary::Vocabulary| vocabulary.prompt(text, Input::Text("  x"));
    assert_eq!(prompt(&bundle.vocabulary().unwrap()), prompt(&reference));

    fs::remove_dir_all(&workshop.options.out).unwrap();
    workshop.edit_json("added_tokens.json", |json| json["### Response:"] = json!(9999));
    assert!(workshop.refused().contains("added to it, it gets"));
    workshop.edit_json("tokenizer.json", |json| {
        json["normalizer"] = json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"});
    });
    assert!(
        workshop
            .refused()
            .contains("tokenizer.json: cannot be read: it has a normalizer")
    );
}

#[test]
fn a_truncated_checkpoint_leaves_no_bundle() {
    let workshop = Workshop::new();
    let path = &workshop.options.vqgan_checkpoint;
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    assert!(workshop.refused().contains("vqgan.ckpt"));
    let mut damaged = bytes.clone();
    damaged[bytes.len() / 2] ^= 4;
    fs::write(path, damaged).unwrap();
    assert!(workshop.refused().contains("checksum"));
}

#[test]
fn a_bundle_that_was_changed_after_it_was_made_is_refused() {
    let workshop = Workshop::new();
    workshop.convert().unwrap();
    let out = &workshop.options.out;
    let path = out.join("model.safetensors");
    let bytes = fs::read(&path).unwrap();

    let mut flipped = bytes.clone();
    flipped[bytes.len() - 9] ^= 1;
    fs::write(&path, flipped).unwrap();
    let error = Bundle::open(out).unwrap().verify(&mut |_| {}).unwrap_err();
    assert!(
        matches!(&error, BundleError::Checksum { file, .. } if *file == path),
        "{error}"
    );

    fs::write(&path, &bytes[1..]).unwrap();
    assert!(matches!(Bundle::open(out).unwrap_err(), BundleError::Size { .. }));
    fs::remove_file(&path).unwrap();
    assert!(matches!(Bundle::open(out).unwrap_err(), BundleError::MissingFile(_)));

    let manifest = fs::read_to_string(out.join("bundle.json")).unwrap();
    let with = |from: &str, to: &str| {
        fs::write(out.join("bundle.json"), manifest.replace(from, to)).unwrap();
        Bundle::open(out).unwrap_err().to_string()
    };
    assert!(with("\"model.safetensors\"", "\"../model.safetensors\"").contains("outside the bundle"));
    assert!(with("\"format\": 1", "\"format\": 2").contains("format 2"));
    assert!(with("\"tokenizer.json\"", "\"other.json\"").contains("tokenizer.json"));
    fs::write(&path, &bytes).unwrap();
    assert!(with("\"image_side\": 32", "\"image_side\": 64").contains("image_side is 64"));
    assert!(matches!(
        Bundle::open(workshop.dir.path()).unwrap_err(),
        BundleError::NotABundle(_)
    ));
}
