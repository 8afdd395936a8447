//! The same model on a GPU as on a CPU. Where there is no GPU these tests say so and pass; with `LLM_CXR_REQUIRE_GPU` set they fail then.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use llm_cxr::model::bundle::Bundle;
use llm_cxr::model::cuda::Limits;
use llm_cxr::model::device::{DeviceChoice, resolve};
use llm_cxr::model::neox::{KvMemory, Neox, NeoxConfig, Recorded, Segment, Span};
use llm_cxr::model::source::RandomSource;
use llm_cxr::model::vqgan::Vqgan;
use llm_cxr::radiograph::Pixels;
use llm_cxr::train::data::read_image;
use tch::{Device, Kind, Tensor};

const SHAPE: &str = r#"{"vocab_size":1200,"hidden_size":256,"num_hidden_layers":3,"num_attention_heads":4,"intermediate_size":512,
    "max_position_embeddings":256}"#;

/// Positions of each sequence.
const ROOM: usize = 200;

fn gpu() -> Option<Device> {
    match resolve(DeviceChoice::Cuda(0)) {
        Ok(device) => Some(device),
        Err(why) => {
            let required = std::env::var_os("LLM_CXR_REQUIRE_GPU").is_some();
            assert!(!required, "LLM_CXR_REQUIRE_GPU is set, but {why}");
            eprintln!("not run: {why}");
            None
        }
    }
}

/// A model, and memory in which three sequences have run prompts of different lengths.
fn model(kind: Kind, device: Device) -> (Neox, KvMemory) {
    let config = NeoxConfig::from_json(SHAPE.as_bytes()).unwrap();
    let model = Neox::load(&config, &RandomSource::new(7), kind, device).unwrap();
    let mut kv = model.kv_memory(3 * ROOM);
    for sequence in 0..3 {
        let prompt: Vec<u32> = (0..30 + 20 * sequence as u32).map(|i| (i * 37 + 11) % 1200).collect();
        model.step(&mut kv, &[segment(sequence, 0, &prompt, 0)]);
    }
    (model, kv)
}

fn segment(sequence: usize, position: usize, tokens: &[u32], logits: usize) -> Segment<'_> {
    Segment {
        span: Span {
            start: sequence * ROOM,
            len: ROOM,
        },
        position,
        tokens,
        logits,
    }
}

/// Logits after one more token of each of the sequences, which stand at `positions`.
fn step(model: &Neox, kv: &mut KvMemory, positions: [usize; 3], tokens: &[[u32; 1]; 3]) -> Tensor {
    let segments: Vec<Segment<'_>> = (0..3).map(|s| segment(s, positions[s], &tokens[s], 1)).collect();
    model.step(kv, &segments).unwrap().to_device(Device::Cpu)
}

/// The likeliest tokens of three sequences, step by step.
fn greedy(device: Device) -> Vec<[u32; 3]> {
    let (model, mut kv) = model(Kind::Float, device);
    let mut tokens = [[1], [2], [3]];
    let mut said = Vec::new();
    for count in 0..60 {
        let logits = step(&model, &mut kv, [30 + count, 50 + count, 70 + count], &tokens);
        let best: Vec<i64> = Vec::try_from(logits.argmax(1, false)).unwrap();
        tokens = [0, 1, 2].map(|s| [best[s] as u32]);
        said.push([0, 1, 2].map(|s| best[s] as u32));
    }
    said
}

#[test]
fn a_gpu_says_in_f32_what_a_cpu_says() {
    let Some(device) = gpu() else { return };
    let _guard = tch::no_grad_guard();
    assert_eq!(greedy(device), greedy(Device::Cpu));
}

#[test]
fn bf16_logits_on_a_gpu_are_within_a_hundredth_of_those_on_a_cpu() {
    let Some(device) = gpu() else { return };
    let _guard = tch::no_grad_guard();
    let logits = |device| {
        let (model, mut kv) = model(Kind::BFloat16, device);
        step(&model, &mut kv, [30, 50, 70], &[[1], [2], [3]])
    };
    let (here, there) = (logits(Device::Cpu), logits(device));
    let apart = ((&there - &here).norm() / here.norm()).double_value(&[]);
    assert!(apart < 1e-2, "{apart}");
}

/// Shapes that the kernels of few rows differ for.
const SHAPES: [&str; 3] = [
    SHAPE,
    r#"{"vocab_size":1205,"hidden_size":320,"num_hidden_layers":2,"num_attention_heads":4,"intermediate_size":640,
        "max_position_embeddings":700,"use_parallel_residual":false,"hidden_act":"gelu_new"}"#,
    r#"{"vocab_size":999,"hidden_size":256,"num_hidden_layers":2,"num_attention_heads":2,"intermediate_size":1024,
        "max_position_embeddings":300,"attention_bias":false,"hidden_act":"relu","rotary_pct":1.0}"#,
];

/// Logits of steps of replies at different places, some with a draft, each step reading what those before it wrote.
fn steps(model: &Neox, replies: usize, draft: usize) -> Tensor {
    let mut kv = model.kv_memory(replies * ROOM);
    let mut positions: Vec<usize> = (0..replies).map(|reply| 20 + 5 * (reply % 20)).collect();
    for (reply, &position) in positions.iter().enumerate() {
        let prompt: Vec<u32> = (0..position as u32).map(|i| (i * 31 + reply as u32) % 900).collect();
        model.step(&mut kv, &[segment(reply, 0, &prompt, 0)]);
    }
    let mut all = Vec::new();
    for step in 0..3u32 {
        let tokens: Vec<Vec<u32>> = (0..replies as u32)
            .map(|reply| {
                let length = if reply % 3 == 1 { draft as u32 } else { 1 };
                (0..length).map(|i| (reply * 7 + step * 13 + i * 3) % 900).collect()
            })
            .collect();
        let segments: Vec<Segment<'_>> = (tokens.iter().zip(&positions).enumerate())
            .map(|(reply, (tokens, &position))| segment(reply, position, tokens, tokens.len()))
            .collect();
        all.push(model.step(&mut kv, &segments).unwrap().to_device(Device::Cpu));
        positions
            .iter_mut()
            .zip(&tokens)
            .for_each(|(position, tokens)| *position += tokens.len());
    }
    Tensor::cat(&all, 0)
}

#[test]
fn kernels_of_few_rows_give_a_cpus_logits_for_every_shape_and_number_of_rows() {
    let Some(device) = gpu() else { return };
    let _guard = tch::no_grad_guard();
    for (number, shape) in SHAPES.iter().enumerate() {
        let config = NeoxConfig::from_json(shape.as_bytes()).unwrap();
        let load = |device| Neox::load(&config, &RandomSource::new(3), Kind::BFloat16, device).unwrap();
        let (here, there) = (load(Device::Cpu), load(device));
        for (replies, draft) in [(1, 1), (2, 5), (3, 1), (5, 1), (7, 4), (25, 1), (20, 3), (40, 1)] {
            let (wanted, given) = (steps(&here, replies, draft), steps(&there, replies, draft));
            // By row: a wrong one must not hide among right ones.
            let norm = |rows: &Tensor| rows.norm_scalaropt_dim(2.0, [1], false);
            let apart = (norm(&(given - &wanted)) / norm(&wanted)).max().double_value(&[]);
            let Recorded { fused, rows, whole, .. } = there.recorded().unwrap();
            eprintln!(
                "shape {number}, {replies} replies, drafts of {draft}: {apart:.1e} apart; fused: {fused}, recorded: {rows:?}, in one launch: {whole:?}"
            );
            assert!(apart < 2e-2, "shape {number}, {replies} replies: {apart}");
            assert!(fused && !rows.is_empty(), "the kernels were not used");
            let one_launch = Limits::of(0).unwrap().capability >= [9, 0] && config.use_parallel_residual;
            let few = |rows: &&usize| one_launch && **rows <= 16;
            assert_eq!(whole, rows.iter().filter(few).copied().collect::<Vec<_>>());
        }
    }
}

#[test]
fn prompts_whole_and_in_pieces_get_a_cpus_logits_for_every_shape() {
    let Some(device) = gpu() else { return };
    let _guard = tch::no_grad_guard();
    for (number, shape) in SHAPES.iter().enumerate() {
        let config = NeoxConfig::from_json(shape.as_bytes()).unwrap();
        let logits = |device| {
            let model = Neox::load(&config, &RandomSource::new(3), Kind::BFloat16, device).unwrap();
            let mut kv = model.kv_memory(3 * ROOM);
            let tokens: Vec<u32> = (0..190).map(|i| (i * 31 + 7) % 900).collect();
            let steps = [
                vec![segment(0, 0, &tokens[..70], 3)],
                vec![segment(1, 0, &tokens[50..90], 1), segment(2, 0, &tokens[..17], 2)],
                vec![segment(0, 70, &tokens[70..], 2), segment(2, 17, &tokens[17..40], 1)],
                vec![segment(0, 190, &tokens[3..6], 3), segment(1, 40, &tokens[..1], 1)],
            ];
            let logits = steps.map(|step| model.step(&mut kv, &step).unwrap().to_device(Device::Cpu));
            let prompts = model.recorded().is_some_and(|recorded| recorded.prompts);
            assert_eq!(prompts, device != Device::Cpu, "whether kernels of our own ran");
            Tensor::cat(&logits, 0)
        };
        let (here, there) = (logits(Device::Cpu), logits(device));
        let norm = |rows: &Tensor| rows.norm_scalaropt_dim(2.0, [1], false);
        let apart = (norm(&(there - &here)) / norm(&here)).max().double_value(&[]);
        eprintln!("shape {number}, prompts: {apart:.1e} apart");
        assert!(apart < 2e-2, "shape {number}: {apart}");
    }
}

#[test]
fn replies_beside_a_prompt_get_a_cpus_logits() {
    let Some(device) = gpu() else { return };
    let _guard = tch::no_grad_guard();
    let prompt: Vec<u32> = (0..40).map(|i| (i * 29 + 5) % 1200).collect();
    let logits = |device| {
        let (model, mut kv) = model(Kind::Float, device);
        let segments = [
            segment(0, 30, &[1, 2], 2),
            segment(1, 50, &prompt, 1),
            segment(2, 70, &[3], 1),
        ];
        model.step(&mut kv, &segments).unwrap().to_device(Device::Cpu)
    };
    let (here, there) = (logits(Device::Cpu), logits(device));
    let norm = |rows: &Tensor| rows.norm_scalaropt_dim(2.0, [1], false);
    let apart = (norm(&(there - &here)) / norm(&here)).max().double_value(&[]);
    assert!(apart < 1e-4, "{apart}");
}

#[test]
fn a_recorded_step_reads_the_kv_memory_it_is_given_and_copies_there_are_as_good() {
    let Some(device) = gpu() else { return };
    let _guard = tch::no_grad_guard();
    let (model, mut first) = model(Kind::Float, device);
    let wanted = step(&model, &mut first, [30, 50, 70], &[[1], [2], [3]]);
    let mut second = model.kv_memory(3 * ROOM);
    let prompt: Vec<u32> = (0..30).map(|i| (i * 37 + 11) % 1200).collect();
    // The sequence that stands first there stands last here, and is copied to the middle.
    model.step(&mut second, &[segment(2, 0, &prompt, 0)]);
    second.copy(2 * ROOM, ROOM, prompt.len());
    let segments = [segment(1, 30, &[1], 1), segment(2, 30, &[1], 1), segment(0, 0, &[9], 1)];
    let given = model.step(&mut second, &segments).unwrap().to_device(Device::Cpu);
    for row in 0..2 {
        let apart = ((given.get(row) - wanted.get(0)).norm() / wanted.get(0).norm()).double_value(&[]);
        assert!(apart < 1e-5, "row {row}: {apart}");
    }
}

#[test]
fn images_have_the_codes_on_a_gpu_that_they_have_on_a_cpu() {
    let Some(device) = gpu() else { return };
    let _guard = tch::no_grad_guard();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo");
    let bundle = Bundle::open(&root).unwrap();
    let image = read_image(&root.join("example.png"), bundle.vqgan.resolution).unwrap();
    let images: Vec<Arc<Pixels>> = (-20..20).map(|at| Arc::new(image.moved(at % 7, at))).collect();
    let codes = |device| {
        let network = Vqgan::load(&bundle.vqgan, &bundle.vqgan_weights().unwrap(), Kind::Float, device).unwrap();
        let of_batch = |images: &[Arc<Pixels>]| network.encode(images).unwrap();
        images.chunks(16).flat_map(of_batch).flatten().collect::<Vec<u16>>()
    };
    let (here, there) = (codes(Device::Cpu), codes(device));
    let other = here.iter().zip(&there).filter(|(here, there)| here != there).count();
    eprintln!("{other} of {} codes are others", here.len());
    assert!(here.len() == there.len() && other * 1000 <= here.len());
}

#[test]
fn a_report_of_the_demo_is_the_same_on_a_gpu() {
    let Some(_) = gpu() else { return };
    let root = env!("CARGO_MANIFEST_DIR");
    let image = tempfile::Builder::new().suffix(".png").tempfile().unwrap();
    let run = |arguments: &[&str]| {
        let done = Command::new(env!("CARGO_BIN_EXE_llm-cxr"))
            .args(arguments)
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    };
    let (image, model) = (image.path().to_str().unwrap(), format!("{root}/models/demo"));
    let draw = ["draw", "--model", &model, "--device", "cpu", "--seed", "3", "-o", image];
    run(&[&draw[..], &["Large left pleural effusion."]].concat());
    let report = |device: &str| run(&["report", "--model", &model, "--device", device, "--dtype", "f32", image]);
    assert_eq!(report("cuda:0"), report("cpu"));
}
