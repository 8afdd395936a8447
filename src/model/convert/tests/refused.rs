//! Weights that no bundle should hold, and places that no bundle should take.

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
