//! On a CPU a request's numbers depend on itself alone, bit for bit, whoever is served beside it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use llm_cxr::engine::torch::TorchBackend;
use llm_cxr::engine::{
    BackendError, Engine, EngineConfig, Event, Events, Job, Rule, Sampling, SequenceSpec, TokenRules,
};
use llm_cxr::model::device::WeightsChoice;
use llm_cxr::model::neox::{Neox, NeoxConfig, Segment, Span};
use llm_cxr::model::source::{LoadError, TensorSource};
use llm_cxr::model::vqgan::{Vqgan, VqganConfig};
use llm_cxr::radiograph::Pixels;
use llm_cxr::vocabulary::{Prompt, PromptPart};
use tch::{Device, Kind, Tensor};

struct Fixture(HashMap<String, Tensor>);

impl TensorSource for Fixture {
    fn tensor(&self, name: &str, _: &[usize], kind: Kind, device: Device) -> Result<Tensor, LoadError> {
        let missing = || LoadError::Source(format!("no tensor {name}"));
        let tensor = self.0.get(name).ok_or_else(missing)?;
        Ok(tensor.to_kind(kind).to_device(device))
    }
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/model")
        .join(name)
}

fn fixture(name: &str) -> Fixture {
    let tensors = Tensor::read_safetensors(path(&format!("{name}.safetensors"))).unwrap();
    Fixture(tensors.into_iter().collect())
}

const HELD: [WeightsChoice; 3] = [WeightsChoice::Native, WeightsChoice::Int8, WeightsChoice::Int4];

fn neox(name: &str, weights: WeightsChoice, kind: Kind) -> Neox {
    let config = NeoxConfig::from_json(&std::fs::read(path(&format!("{name}.json"))).unwrap()).unwrap();
    Neox::load_as(&config, &fixture(name), weights, kind, Device::Cpu).unwrap()
}

fn bits(logits: &Tensor, row: i64) -> Vec<u32> {
    let row: Vec<f32> = Vec::try_from(logits.get(row)).unwrap();
    row.into_iter().map(f32::to_bits).collect()
}

/// Runs `tokens` of one sequence in pieces of these lengths and gives the bits of the logits after each.
fn alone(model: &Neox, tokens: &[u32], pieces: &[usize]) -> Vec<Vec<u32>> {
    let mut kv = model.kv_memory(96);
    let mut position = 0;
    let piece = |&len: &usize| {
        let segment = Segment {
            span: Span { start: 0, len: 96 },
            position,
            tokens: &tokens[position..position + len],
            logits: 1,
        };
        position += len;
        bits(&model.step(&mut kv, &[segment]).unwrap(), 0)
    };
    pieces.iter().map(piece).collect()
}

#[test]
fn logits_are_the_same_bits_alone_and_in_any_company() {
    let _guard = tch::no_grad_guard();
    let models = [
        ("neox-parallel", Kind::Float),
        ("neox-parallel", Kind::BFloat16),
        ("neox-sequential", Kind::Float),
        ("neox-tied", Kind::BFloat16),
    ];
    let held = |(name, kind)| HELD.map(|weights| (name, weights, kind));
    for (name, weights, kind) in models.into_iter().flat_map(held) {
        let model = neox(name, weights, kind);
        // Twenty sequences: a prompt of their own length (some long enough for libtorch's way), then one token per step.
        let count = 20;
        let steps = 6;
        let prompts: Vec<usize> = (0..count).map(|s| 1 + s * 7 % 40).collect();
        let tokens: Vec<Vec<u32>> = (0..count)
            .map(|s| (0..60).map(|i| ((s * 31 + i * 17) % 150) as u32).collect())
            .collect();
        let mut kv = model.kv_memory(96 * count);
        let mut company: Vec<Vec<Vec<u32>>> = vec![Vec::new(); count];
        // Sequence s joins at step s / 3 and leaves after its steps, so every step has another company.
        for step in 0..(count / 3 + steps) {
            let here = |s: &usize| (s / 3..s / 3 + steps).contains(&step);
            let running: Vec<usize> = (0..count).filter(here).collect();
            let segments: Vec<Segment<'_>> = running
                .iter()
                .map(|&s| {
                    let age = step - s / 3;
                    let from = if age == 0 { 0 } else { prompts[s] + age - 1 };
                    Segment {
                        span: Span { start: 96 * s, len: 96 },
                        position: from,
                        tokens: &tokens[s][from..prompts[s] + age],
                        logits: 1,
                    }
                })
                .collect();
            if let Some(logits) = model.step(&mut kv, &segments) {
                for (row, &s) in running.iter().enumerate() {
                    company[s].push(bits(&logits, row as i64));
                }
            }
        }
        for s in 0..count {
            let mut pieces = vec![1; steps];
            pieces[0] = prompts[s];
            assert_eq!(
                alone(&model, &tokens[s], &pieces),
                company[s],
                "{name} {weights} {kind:?}, sequence {s}"
            );
        }
    }
}

#[test]
fn tokens_run_together_give_the_bits_they_give_one_by_one() {
    let _guard = tch::no_grad_guard();
    let held = |kind| HELD.map(|weights| (weights, kind));
    for (weights, kind) in [Kind::Float, Kind::BFloat16].into_iter().flat_map(held) {
        let model = neox("neox-parallel", weights, kind);
        let tokens: Vec<u32> = (0..30).map(|i| i * 13 % 150).collect();
        let single = alone(&model, &tokens, &[1; 30]);
        // As a draft is verified: up to sixteen tokens in one step, with the logits after each; the next piece takes two of them back, as
        // where a draft is refused.
        for pieces in [vec![16, 14], vec![5, 16, 9], vec![3; 10]] {
            let mut kv = model.kv_memory(96);
            let mut start: usize = 0;
            for len in pieces {
                start = start.saturating_sub(2);
                let segment = Segment {
                    span: Span { start: 0, len: 96 },
                    position: start,
                    tokens: &tokens[start..start + len],
                    logits: len,
                };
                let logits = model.step(&mut kv, &[segment]).unwrap();
                for (row, expected) in single[start..start + len].iter().enumerate() {
                    assert_eq!(
                        &bits(&logits, row as i64),
                        expected,
                        "{weights} {kind:?} {len} from {start}, row {row}"
                    );
                }
                start += len;
            }
        }
    }
}

const CONFIG: EngineConfig = EngineConfig {
    queue_jobs: 64,
    queue_bytes: 1 << 20,
    max_batch: Some(12),
    // Most pieces are long enough for libtorch's way, and in company fewer of them run in a step.
    prefill_chunk: Some(24),
    idle_prefill_chunk: 60,
    vision_slice: std::time::Duration::ZERO,
    speculation: true,
    faults_before_exit: 3,
    stall_after: std::time::Duration::from_secs(600),
    give_up_after: std::time::Duration::from_secs(600),
};

async fn engine(weights: WeightsChoice, speculation: bool) -> Engine {
    let vqgan_config = VqganConfig::from_yaml(&std::fs::read(path("vqgan-colour.yaml")).unwrap()).unwrap();
    let neox_config = NeoxConfig::from_json(&std::fs::read(path("neox-parallel.json")).unwrap()).unwrap();
    let rules = TokenRules {
        code_base: (neox_config.vocab_size - vqgan_config.n_embed) as u32,
        code_count: vqgan_config.n_embed,
        codes_per_image: vqgan_config.codes_per_image(),
        open_image: 29,
        close_image: 31,
        end: 60,
        stops: vec![60],
    };
    let config = EngineConfig { speculation, ..CONFIG };
    let engine = Engine::start(config, rules, move || {
        let failed = |e: LoadError| BackendError(e.to_string());
        // An image has 256 codes: a longer context than that of the fixture, over the same weights.
        let config = NeoxConfig {
            max_position_embeddings: 320,
            ..neox_config
        };
        let model =
            Neox::load_as(&config, &fixture("neox-parallel"), weights, Kind::Float, Device::Cpu).map_err(failed)?;
        let vqgan = Vqgan::load(&vqgan_config, &fixture("vqgan-colour"), Kind::Float, Device::Cpu).map_err(failed)?;
        let backend = TorchBackend::new(model, vqgan, 12 * 320, 1, Kind::Float, Device::Cpu);
        Ok(Box::new(backend))
    });
    engine.ready().await.unwrap();
    engine
}

/// One of two images of the model's size.
fn picture(number: usize) -> Arc<Pixels> {
    let yaml = std::fs::read(path("vqgan-colour.yaml")).unwrap();
    let side = VqganConfig::from_yaml(&yaml).unwrap().resolution;
    let rgb = (0..side * side * 3).map(|i| (i * (7 + number)) as u8).collect();
    Arc::new(Pixels::new(side, side, rgb).unwrap())
}

fn job(number: usize, temperature: f32) -> Job {
    // From one token to two and a half pieces; each third is about an image, so that later ones draft from its reply.
    let seeing = number % 3 == 2;
    let length = if seeing { 4 } else { 1 + number * 11 % 60 };
    let prompt = (0..length).map(|i| ((number * 37 + i * 11) % 90) as u32);
    let mut parts = vec![PromptPart::Tokens(prompt.collect())];
    if seeing {
        parts.extend([PromptPart::Image(0), PromptPart::Tokens(vec![31, 61])]);
    }
    let images = seeing.then(|| picture(number % 2)).into_iter();
    let spec = SequenceSpec {
        prompt: Prompt {
            shared_prefix: if seeing { 4 } else { 0 },
            parts,
        },
        rule: Rule::Text,
        sampling: Sampling {
            temperature,
            top_p: 1.0,
            top_k: 0,
            seed: number as u64,
            guidance: 1.0,
        },
        max_new_tokens: 8 + number * 5 % 30,
        watch: Vec::new(),
        guide: None,
        draw: false,
    };
    Job {
        images: images.collect(),
        sequences: vec![spec],
        codes: Vec::new(),
        deadline: None,
    }
}

async fn reply(mut events: Events) -> Vec<u32> {
    let mut tokens = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            Event::Token { id, .. } => tokens.push(id),
            Event::Failed(error) => panic!("{error}"),
            _ => {}
        }
    }
    tokens
}

/// Requests one by one without drafts, then all at once with drafts and some that leave.
async fn tokens_do_not_depend_on_company(plain: &Engine, engine: &Engine, temperature: f32) {
    let mut quiet = Vec::new();
    for number in 0..24 {
        quiet.push(reply(plain.submit(job(number, temperature)).unwrap()).await);
    }
    assert!(quiet.iter().map(Vec::len).sum::<usize>() > 100);
    let mut running = Vec::new();
    for number in 0..24 {
        let events = engine.submit(job(number, temperature)).unwrap();
        if number % 5 == 4 {
            // This one leaves in mid-reply.
            let mut events = events;
            events.next().await;
            continue;
        }
        running.push((number, tokio::spawn(reply(events))));
    }
    for (number, task) in running {
        assert_eq!(
            task.await.unwrap(),
            quiet[number],
            "request {number} at temperature {temperature}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_gets_the_same_tokens_alone_and_among_requests_that_join_and_leave_with_drafts_and_without() {
    for weights in HELD {
        let (plain, drafting) = (engine(weights, false).await, engine(weights, true).await);
        for temperature in [0.0, 1.0] {
            tokens_do_not_depend_on_company(&plain, &drafting, temperature).await;
        }
        let (plain, drafting) = (plain.stats(), drafting.stats());
        assert_eq!((plain.drafted_tokens, plain.accepted_tokens), (0, 0));
        assert!(drafting.accepted_tokens > 50, "{weights} {drafting:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_that_share_a_prompt_are_those_that_their_seeds_give_alone() {
    for weights in HELD {
        let engine = engine(weights, true).await;
        let with_seed = |number: usize, seed: u64| {
            let mut one = job(number, 1.0);
            one.sequences[0].sampling.seed = seed;
            one
        };
        for number in 0..4 {
            let mut together = with_seed(number, 0);
            together.sequences = (0..6).flat_map(|seed| with_seed(number, seed).sequences).collect();
            let mut shared = vec![Vec::new(); 6];
            let mut events = engine.submit(together).unwrap();
            while let Some(event) = events.next().await {
                match event {
                    Event::Token { sequence, id } => shared[sequence].push(id),
                    Event::Failed(error) => panic!("{error}"),
                    _ => {}
                }
            }
            for (seed, tokens) in shared.into_iter().enumerate() {
                let alone = reply(engine.submit(with_seed(number, seed as u64)).unwrap()).await;
                assert_eq!(tokens, alone, "request {number} with seed {seed}, {weights}");
            }
        }
    }
}

/// How many replies each request below has: one is greedy.
const TWINS: u64 = 3;

/// A request about an image, whose prompt begins as those of all others do, with the replies of these seeds.
fn alike(number: usize, seeds: impl Iterator<Item = u64>) -> Job {
    let mut job = job(number, 1.0);
    job.sequences[0].prompt.parts[0] = PromptPart::Tokens(vec![7, 18, 40, 51]);
    let one = job.sequences.remove(0);
    let with_seed = |seed: u64| {
        let mut spec = one.clone();
        spec.sampling.seed = seed;
        spec.sampling.temperature = if seed == 0 { 0.0 } else { 1.0 };
        spec
    };
    job.sequences = seeds.map(with_seed).collect();
    job
}

/// The tokens of each reply.
async fn replies(mut events: Events) -> Vec<Vec<u32>> {
    let mut tokens = vec![Vec::new(); TWINS as usize];
    while let Some(event) = events.next().await {
        match event {
            Event::Token { sequence, id } => tokens[sequence].push(id),
            Event::Failed(error) => panic!("{error}"),
            _ => {}
        }
    }
    tokens
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drafts_known_prefixes_and_shared_prompts_together_change_no_token() {
    const NUMBERS: [usize; 3] = [2, 5, 8];
    const ROUNDS: usize = 2;
    for weights in HELD {
        // Each reply from an engine of its own: nothing is drafted, and no prefix is known.
        let mut alone = HashMap::new();
        for number in NUMBERS {
            for seed in 0..TWINS {
                let fresh = engine(weights, false).await;
                let said = reply(fresh.submit(alike(number, seed..=seed)).unwrap()).await;
                alone.insert((number, seed), said);
            }
        }
        let busy = engine(weights, true).await;
        for round in 0..ROUNDS {
            let ask = |number| {
                let events = busy.submit(alike(number, 0..TWINS)).unwrap();
                (number, tokio::spawn(replies(events)))
            };
            for (number, task) in NUMBERS.map(ask) {
                for (seed, said) in (0..TWINS).zip(task.await.unwrap()) {
                    assert_eq!(
                        said,
                        alone[&(number, seed)],
                        "{weights}, round {round}, request {number}, seed {seed}"
                    );
                }
            }
        }
        let stats = busy.stats();
        assert!(stats.accepted_tokens > 0, "{weights}: nothing was drafted, {stats:?}");
        // Four tokens before the image's 256 and two behind it; twins run the last one apart.
        let with_twins = (ROUNDS * NUMBERS.len()) as u64 * (4 + 256 + 2 + TWINS - 1);
        assert!(
            stats.prompt_tokens < with_twins,
            "{weights}: prompts were not shared, or no prefix was known, {stats:?}"
        );
    }
}
