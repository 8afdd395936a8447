//! The networks against the reference code's outputs (fixtures made by `tests/fixtures/make_model_fixtures.py`).

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use llm_cxr::model::checkpoint::Weights;
use llm_cxr::model::neox::{Neox, NeoxConfig, Segment, Span};
use llm_cxr::model::vqgan::{Pass, Vqgan, VqganConfig};
use llm_cxr::radiograph::{DecodeLimits, Pixels, Preprocess};
use tch::{Device, Kind, Tensor};

struct Fixture(HashMap<String, Tensor>);

impl Fixture {
    fn open(name: &str) -> Self {
        Self(Tensor::read_safetensors(path(name)).unwrap().into_iter().collect())
    }

    fn integers(&self, name: &str) -> Vec<i64> {
        Vec::try_from(self.0[name].to_kind(Kind::Int64).flatten(0, -1)).unwrap()
    }
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/model")
        .join(name)
}

const NEOX: [&str; 5] = ["parallel", "sequential", "tied", "bfloat", "odd"];

fn neox(name: &str, kind: Kind) -> (Neox, Fixture) {
    let config = NeoxConfig::from_json(&std::fs::read(path(&format!("neox-{name}.json"))).unwrap()).unwrap();
    let weights = Weights::open(&[path(&format!("neox-{name}.safetensors"))]).unwrap();
    let model = Neox::load(&config, &weights, kind, Device::Cpu).unwrap();
    (model, Fixture::open(&format!("neox-{name}.expected.safetensors")))
}

fn tokens(values: Vec<i64>) -> Vec<u32> {
    values.into_iter().map(|v| v as u32).collect()
}

#[test]
fn logits_equal_those_of_transformers_at_every_position() {
    let _guard = tch::no_grad_guard();
    for name in NEOX {
        let (model, expected) = neox(name, Kind::Float);
        let prompt = tokens(expected.integers("prompt"));
        let mut kv = model.kv_memory(64);
        let span = Span { start: 5, len: 50 };
        // Whole prompt, then chunks of uneven length, then one by one: all must give the same.
        for cut in [prompt.len(), 13, 1] {
            for (i, chunk) in prompt.chunks(cut).enumerate() {
                let last = i * cut + chunk.len() - 1;
                let segment = Segment {
                    span,
                    position: i * cut,
                    tokens: chunk,
                    logits: 1,
                };
                let logits = model.step(&mut kv, &[segment]).unwrap().squeeze();
                let reference = expected.0["logits"].get(last as i64);
                let difference = (logits - reference).abs().max().double_value(&[]);
                assert!(
                    difference < 1e-4,
                    "{name}, chunks of {cut}, position {last}: {difference}"
                );
            }
        }
    }
}

#[test]
fn greedy_tokens_equal_those_of_transformers_alone_and_beside_other_sequences() {
    let _guard = tch::no_grad_guard();
    for name in NEOX {
        let (model, expected) = neox(name, Kind::Float);
        let (prompt, greedy) = (tokens(expected.integers("prompt")), tokens(expected.integers("greedy")));
        let mut kv = model.kv_memory(256);
        let spans = [
            Span { start: 70, len: 70 },
            Span { start: 0, len: 70 },
            Span { start: 150, len: 70 },
        ];
        // Three sequences: the fixture's, and two shorter ones that join at other steps.
        let mut sequences = [prompt.clone(), prompt[3..9].to_vec(), prompt[..1].to_vec()];
        let mut done = [0, 0, 0];
        let mut generated = Vec::new();
        for step in 0..greedy.len() {
            let joined = if step < 2 {
                1
            } else if step < 5 {
                2
            } else {
                3
            };
            let segments: Vec<Segment<'_>> = (0..joined)
                .map(|s| Segment {
                    span: spans[s],
                    position: done[s],
                    tokens: &sequences[s][done[s]..],
                    logits: 1,
                })
                .collect();
            let next = tokens(Vec::try_from(model.step(&mut kv, &segments).unwrap().argmax(1, false)).unwrap());
            for (s, id) in next.into_iter().enumerate() {
                done[s] = sequences[s].len();
                sequences[s].push(id);
                if s == 0 {
                    generated.push(id);
                }
            }
        }
        assert_eq!(generated, greedy, "{name}");
    }
}

#[test]
fn logits_in_bfloat16_stay_near_those_in_float() {
    let _guard = tch::no_grad_guard();
    for name in NEOX {
        let (model, expected) = neox(name, Kind::BFloat16);
        let prompt = tokens(expected.integers("prompt"));
        let mut kv = model.kv_memory(64);
        let segment = Segment {
            span: Span { start: 0, len: 64 },
            position: 0,
            tokens: &prompt,
            logits: 1,
        };
        let logits = model.step(&mut kv, &[segment]).unwrap().squeeze();
        let reference = expected.0["logits"].get(-1);
        let error = ((logits - &reference).norm() / reference.norm()).double_value(&[]);
        assert!(error < 0.03, "{name}: relative error {error}");
    }
}

fn vqgan(name: &str, decoder: Kind) -> (Vqgan, Fixture) {
    let config = VqganConfig::from_yaml(&std::fs::read(path(&format!("vqgan-{name}.yaml"))).unwrap()).unwrap();
    let weights = Weights::open(&[path(&format!("vqgan-{name}.safetensors"))]).unwrap();
    let model = Vqgan::load(&config, &weights, decoder, Device::Cpu).unwrap();
    (model, Fixture::open(&format!("vqgan-{name}.expected.safetensors")))
}

fn finish(model: &Vqgan, mut pass: Pass) -> Pass {
    while model.advance(&mut pass) {}
    pass
}

#[test]
fn code_indices_equal_those_of_taming() {
    let _guard = tch::no_grad_guard();
    for name in ["colour", "grey"] {
        let (model, expected) = vqgan(name, Kind::Float);
        let side = model.config().resolution;
        let bytes: Vec<u8> = expected.integers("pixels").into_iter().map(|v| v as u8).collect();
        let images: Vec<Arc<Pixels>> = bytes
            .chunks(side * side * 3)
            .map(|b| Arc::new(Pixels::new(side, side, b.to_vec()).unwrap()))
            .collect();
        let codes = model.codes(finish(&model, model.begin_encode(&images))).unwrap();
        let flat: Vec<i64> = codes.iter().flatten().map(|&c| i64::from(c)).collect();
        assert_eq!(flat, expected.integers("codes"), "{name}, batch of {}", images.len());
        let alone = model.codes(finish(&model, model.begin_encode(&images[1..2]))).unwrap();
        assert_eq!(alone[0], codes[1], "{name}, alone");
    }
}

#[test]
fn drawn_pixels_equal_those_of_taming() {
    let _guard = tch::no_grad_guard();
    for name in ["colour", "grey"] {
        // Rounding to 8 bit, and the fixture's halves (no coarser than 1/8 of a level), within half a level; bfloat16 within a few.
        for (decoder, most, mean) in [(Kind::Float, 0.6, 0.3), (Kind::BFloat16, 12.0, 1.5)] {
            let (model, expected) = vqgan(name, decoder);
            let codes: Vec<Vec<u16>> = expected
                .integers("codes")
                .chunks(model.config().codes_per_image())
                .map(|c| c.iter().map(|&v| v as u16).collect())
                .collect();
            let images = model.images(finish(&model, model.begin_decode(&codes)));
            let drawn: Vec<f32> = images
                .iter()
                .flat_map(|i| i.rgb().iter().map(|&b| f32::from(b)))
                .collect();
            let reference = expected.0["drawn"].to_kind(Kind::Float).flatten(0, -1);
            let difference = (Tensor::from_slice(&drawn) - reference).abs();
            let worst = (
                difference.max().double_value(&[]),
                difference.mean(Kind::Float).double_value(&[]),
            );
            assert!(
                worst.0 < most && worst.1 < mean,
                "{name} in {decoder:?}: {worst:?} levels"
            );
        }
    }
}

#[test]
fn the_demo_gives_an_image_the_same_codes_however_its_memory_is_laid_out() {
    let _guard = tch::no_grad_guard();
    let demo = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("models/demo");
    let bundle = llm_cxr::model::bundle::Bundle::open(&demo).unwrap();
    let file = std::fs::read(demo.join("example.png")).unwrap();
    let side = bundle.vqgan.resolution;
    let image = llm_cxr::radiograph::prepare(&file, &DecodeLimits::default(), Preprocess::Default, side).unwrap();
    let images: Vec<Arc<Pixels>> = (-3..=3)
        .flat_map(|right| [-2, 0, 3].map(|down| Arc::new(image.moved(right, down))))
        .collect();
    // Planar memory as the reference has it, and channels-last with norms of our own, which the server takes unless it is told to compute in f32.
    let codes = [Kind::Float, Kind::BFloat16].map(|kind| {
        let weights = bundle.vqgan_weights().unwrap();
        let model = Vqgan::load_beside(&bundle.vqgan, &weights, kind, Device::Cpu).unwrap();
        let each = images
            .iter()
            .flat_map(|image| model.encode(std::slice::from_ref(image)).unwrap());
        each.flatten().collect::<Vec<u16>>()
    });
    let same = codes[0]
        .iter()
        .zip(&codes[1])
        .filter(|(planar, last)| planar == last)
        .count();
    assert!(same * 1000 >= codes[0].len() * 999, "{same} of {}", codes[0].len());
}
