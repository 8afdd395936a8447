//! Files that are not what they should be, weights that no bundle should hold, and places that no bundle should take.

use super::*;

#[test]
fn weights_that_are_no_numbers_are_refused_unless_they_are_allowed() {
    let mut workshop = Workshop::new();
    workshop.rewrite(|name, mut info| {
        // Zero bytes read as singles are zeros; a tensor of NaN needs its bytes set below.
        info.dtype = Dtype::F32;
        (!NeoxConfig::is_ignorable(name)).then(|| (name.to_owned(), info))
    });
    let path = workshop.options.llm.join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 4;
    bytes[last..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let refused = workshop.refused();
    assert!(
        refused.contains("has 1 values that are NaN or infinite as F32"),
        "{refused}"
    );
    assert!(refused.contains("--allow-non-finite"), "{refused}");
    workshop.options.allow_non_finite = true;
    let summary = workshop.convert().unwrap();
    assert_eq!(summary.warnings.len(), 1);
    assert!(summary.warnings[0].contains("has 1 values that are NaN or infinite"));
    assert!(summary.to_string().contains("warning: "));
}

#[test]
fn what_is_converted_and_what_no_command_has_made_is_not_replaced_even_if_forced() {
    let mut workshop = Workshop::new();
    workshop.options.force = true;
    let folder = workshop.dir.path().to_owned();
    let notes = folder.join("notes");
    fs::create_dir(&notes).unwrap();
    fs::write(notes.join("thesis.tex"), "years of work").unwrap();
    for (out, told) in [
        (folder.join("llm"), "llm lies in"),
        (folder.clone(), "llm lies in"),
        (notes.clone(), "is neither empty nor a bundle"),
    ] {
        workshop.options.out = out;
        let refused = workshop.refused();
        assert!(refused.contains(told), "{refused}");
        let options = VqganOptions {
            config: workshop.options.vqgan_config.clone(),
            checkpoint: workshop.options.vqgan_checkpoint.clone(),
            out: workshop.options.out.clone(),
            force: true,
            allow_non_finite: false,
        };
        convert_vqgan(&options, &mut |_| {}).unwrap_err();
    }
    assert!(workshop.options.llm.join("config.json").is_file() && workshop.options.vqgan_checkpoint.is_file());
    assert!(notes.join("thesis.tex").is_file());
}

#[test]
fn what_only_stands_for_a_file_is_told_as_such_whichever_file_it_is() {
    let workshop = Workshop::new();
    let (llm, options) = (&workshop.options.llm, &workshop.options);
    for file in [
        llm.join("config.json"),
        llm.join("tokenizer.json"),
        llm.join("pytorch_model.bin.index.json"),
        llm.join("pytorch_model-00001-of-00002.bin"),
        options.vqgan_config.clone(),
        options.vqgan_checkpoint.clone(),
    ] {
        let whole = fs::read(&file).unwrap();
        for (content, told) in [
            (
                "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
                "git lfs pull",
            ),
            (
                "\u{feff}<!DOCTYPE html><html><title>Virus scan warning</title></html>",
                "is a web page",
            ),
        ] {
            fs::write(&file, content).unwrap();
            let refused = workshop.refused();
            assert!(
                refused.starts_with(&format!("{}: is a ", file.display())) && refused.contains(told),
                "{refused}"
            );
        }
        fs::write(&file, whole).unwrap();
    }
    workshop.convert().unwrap();
}

#[test]
fn a_model_of_another_family_is_told_by_its_name_with_the_file() {
    let workshop = Workshop::new();
    workshop.edit_json("config.json", |config| {
        *config = json!({"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "vocab_size": 50257});
    });
    let file = workshop.options.llm.join("config.json");
    let told = format!(
        "{}: model_type: is `gpt2`; only `gpt_neox` models can be used",
        file.display()
    );
    assert_eq!(workshop.refused(), told);
}

#[test]
fn a_vqgan_inside_another_module_and_a_language_model_in_its_place_are_explained() {
    let mut workshop = Workshop::new();
    let reader = CheckpointReader::open_file(&workshop.options.vqgan_checkpoint).unwrap();
    workshop.options.vqgan_checkpoint = workshop.dir.path().join("vqgan.safetensors");
    for prefix in ["module.", "first_stage_model."] {
        let named = |name: &str| (format!("{prefix}{name}"), reader.info(name).unwrap().clone());
        let tensors: Vec<(String, TensorInfo)> = reader.names().map(named).collect();
        write_zeros(&workshop.options.vqgan_checkpoint, &tensors);
        let refused = workshop.refused();
        assert!(refused.contains(&format!("begin with `{prefix}`")), "{refused}");
    }
    workshop.options.vqgan_checkpoint = workshop.options.llm.join("pytorch_model-00001-of-00002.bin");
    let refused = workshop.refused();
    assert!(refused.contains("it holds a language model"), "{refused}");
}
