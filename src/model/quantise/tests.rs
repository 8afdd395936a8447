use tch::{Device, Kind};

use super::*;
use crate::model::bundle::inspect;
use crate::model::device::WeightsChoice;
use crate::model::neox::{Neox, Segment, Span};

fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo")
}

/// The demo bundle in `format`, at `folder/small`.
fn small(folder: &Path, format: Format) -> Result<Quantised, QuantiseError> {
    let options = QuantiseOptions {
        bundle: demo(),
        format,
        out: folder.join("small"),
        name: None,
        force: false,
    };
    quantise(&options, &mut |_| ())
}

/// Logits after a few tokens, as bits.
fn logits(bundle: &Path, weights: WeightsChoice, kind: Kind) -> Vec<f32> {
    let _guard = tch::no_grad_guard();
    let bundle = Bundle::open(bundle).unwrap();
    let source = bundle.neox_weights().unwrap();
    let model = Neox::load_as(&bundle.neox, &source, weights, kind, Device::Cpu).unwrap();
    let mut kv = model.kv_memory(16);
    let segment = Segment {
        span: Span { start: 0, len: 16 },
        position: 0,
        tokens: &[5, 900, 1600, 2590, 40],
        logits: 1,
    };
    floats(&model.step(&mut kv, &[segment]).unwrap())
}

#[test]
fn a_bundle_in_few_bits_computes_what_its_original_computes_when_it_is_quantised_at_load() {
    for (format, choice) in [(Format::Int8, WeightsChoice::Int8), (Format::Int4, WeightsChoice::Int4)] {
        let folder = tempfile::tempdir().unwrap();
        small(folder.path(), format).unwrap();
        let small = folder.path().join("small");
        let at_load = logits(&demo(), choice, Kind::BFloat16);
        assert_eq!(
            logits(&small, WeightsChoice::Auto, Kind::BFloat16),
            at_load,
            "{format:?}"
        );
        assert_eq!(logits(&small, choice, Kind::BFloat16), at_load, "{format:?}");
        // Widened, its weights are the same numbers; what they are multiplied with is not rounded to 8 bits then: a difference of some 1 %.
        let wide = logits(&small, WeightsChoice::Native, Kind::Float);
        let (own, length) = wide.iter().zip(&at_load).fold((0.0, 0.0), |(error, size), (a, b)| {
            (error + (a - b).powi(2), size + b.powi(2))
        });
        assert!(own > 0.0 && own < 4e-4 * length, "{format:?}: {own} of {length}");
        // In the other format they are rounded once more.
        let other = match choice {
            WeightsChoice::Int8 => WeightsChoice::Int4,
            _ => WeightsChoice::Int8,
        };
        assert!(logits(&small, other, Kind::BFloat16).iter().all(|x| x.is_finite()));
    }
}

#[test]
fn a_bundle_in_few_bits_says_what_its_original_says_of_itself_and_is_smaller() {
    let folder = tempfile::tempdir().unwrap();
    let original = inspect(&demo(), false, &mut |_| ()).unwrap();
    let made = small(folder.path(), Format::Int4).unwrap();
    assert!(made.bytes * 10 < made.bytes_before * 7, "{made}");
    let small = inspect(&folder.path().join("small"), true, &mut |_| ()).unwrap();
    let (a, b) = (&original.manifest, &small.manifest);
    assert_eq!((&a.name, &a.warning, &a.licence), (&b.name, &b.warning, &b.licence));
    assert_eq!(
        (&a.defaults, &a.default_instructions),
        (&b.defaults, &b.default_instructions)
    );
    assert!(
        b.made_from.contains(&a.version) && a.version != b.version,
        "{}",
        b.made_from
    );
    assert!(b.files.iter().any(|file| file.path == DRAFTS));
    assert_eq!(original.language_model.parameters, small.language_model.parameters);
    let types = &small.language_model.dtypes;
    assert!(types["int4"] > types["int8"] && types["BF16"] > 0, "{types:?}");
}

#[test]
fn what_is_quantised_is_not_quantised_again_and_a_damaged_bundle_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    small(folder.path(), Format::Int8).unwrap();
    let mut options = QuantiseOptions {
        bundle: folder.path().join("small"),
        format: Format::Int4,
        out: folder.path().join("again"),
        name: None,
        force: false,
    };
    let error = quantise(&options, &mut |_| ()).unwrap_err().to_string();
    assert!(error.contains("quantised already"), "{error}");
    std::fs::remove_dir_all(folder.path().join("small")).unwrap();

    let copy = folder.path().join("copy");
    std::fs::create_dir_all(copy.join("vqgan")).unwrap();
    let manifest = Bundle::open(&demo()).unwrap().manifest;
    for name in manifest
        .files
        .iter()
        .map(|file| file.path.as_str())
        .chain(["bundle.json"])
    {
        std::fs::copy(demo().join(name), copy.join(name)).unwrap();
    }
    let mut bytes = std::fs::read(copy.join(WEIGHTS)).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(copy.join(WEIGHTS), bytes).unwrap();
    options.bundle = copy;
    let error = quantise(&options, &mut |_| ()).unwrap_err().to_string();
    assert!(error.contains(WEIGHTS), "{error}");
    assert!(!options.out.exists());
}

#[test]
fn a_bundle_is_not_replaced_by_what_is_made_from_it() {
    let folder = tempfile::tempdir().unwrap();
    small(folder.path(), Format::Int8).unwrap();
    let bundle = folder.path().join("small");
    let options = QuantiseOptions {
        bundle: bundle.clone(),
        format: Format::Int4,
        out: bundle.clone(),
        name: None,
        force: true,
    };
    let error = quantise(&options, &mut |_| ()).unwrap_err().to_string();
    assert!(error.contains("would be replaced"), "{error}");
    Bundle::open(&bundle).unwrap().verify(&mut |_| ()).unwrap();
}

#[test]
fn codes_and_scales_of_another_type_or_size_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weights.safetensors");
    let refused = |codes: (Dtype, [usize; 2]), scales: (Dtype, [usize; 2])| {
        let info = |(dtype, shape): (Dtype, [usize; 2])| TensorInfo {
            dtype,
            shape: shape.to_vec(),
        };
        let tensors = [
            ("m.weight.codes".to_owned(), info(codes)),
            ("m.weight.scales".to_owned(), info(scales)),
        ];
        let mut out = SafetensorsWriter::create(&file, &tensors).unwrap();
        for (name, info) in &tensors {
            out.write(name, &vec![0; info.bytes().unwrap()]).unwrap();
        }
        out.finish().unwrap();
        let weights = Weights::open(std::slice::from_ref(&file)).unwrap();
        let tensor = weights.tensor("m.weight", &[3, 70], Kind::Float, Device::Cpu);
        tensor.err().map(|error| error.to_string())
    };
    assert_eq!(refused((Dtype::I8, [3, 70]), (Dtype::BF16, [3, 2])), None);
    assert_eq!(refused((Dtype::U8, [3, 48]), (Dtype::BF16, [3, 3])), None);
    for (codes, scales, named) in [
        ((Dtype::I16, [3, 70]), (Dtype::BF16, [3, 2]), "codes"),
        ((Dtype::I8, [3, 71]), (Dtype::BF16, [3, 2]), "codes"),
        ((Dtype::U8, [3, 70]), (Dtype::BF16, [3, 3]), "codes"),
        ((Dtype::U8, [3, 48]), (Dtype::BF16, [3, 2]), "scales"),
        ((Dtype::I8, [3, 70]), (Dtype::F16, [3, 2]), "scales"),
    ] {
        let reason = refused(codes, scales).unwrap();
        assert!(reason.contains(&format!("`m.weight.{named}`")), "{reason}");
    }
}
