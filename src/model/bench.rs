//! Speed of the language model at a given shape, on random weights: prefill, decode, and the memory bandwidth they reach. The VQ-GAN's is
//! in [`vqgan`].

pub mod vqgan;

use std::str::FromStr;
use std::time::{Duration, Instant};

use serde::Serialize;
use tch::{Device, Kind, Tensor};

use super::device::WeightsChoice;
use super::neox::{KvMemory, Neox, NeoxConfig, NeoxSizes, Segment, Span};
use super::source::{LoadError, RandomSource};

/// The shape of a GPT-NeoX: `hidden=2560,layers=32,heads=32,intermediate=10240,vocab=51305`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shape {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Layers.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of the MLP.
    pub intermediate: usize,
    /// Rows of the vocabulary.
    pub vocab: usize,
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut shape = Self {
            hidden: 0,
            layers: 0,
            heads: 0,
            intermediate: 0,
            vocab: 0,
        };
        for pair in text.split(',') {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| format!("`{pair}` is not key=value"))?;
            let value: usize = value.trim().parse().map_err(|_| format!("`{value}` is not a number"))?;
            match key.trim() {
                "hidden" => shape.hidden = value,
                "layers" => shape.layers = value,
                "heads" => shape.heads = value,
                "intermediate" => shape.intermediate = value,
                "vocab" => shape.vocab = value,
                other => {
                    return Err(format!(
                        "`{other}` is no part of a shape: hidden, layers, heads, intermediate, vocab"
                    ));
                }
            }
        }
        shape.config(1).map(|_| shape.clone()).map_err(|e| e.to_string())
    }
}

impl Shape {
    fn config(&self, context: usize) -> Result<NeoxConfig, super::ConfigError> {
        let sizes = NeoxSizes {
            vocab_size: self.vocab,
            hidden_size: self.hidden,
            num_hidden_layers: self.layers,
            num_attention_heads: self.heads,
            intermediate_size: self.intermediate,
            max_position_embeddings: context.max(1),
            tie_word_embeddings: false,
        };
        sizes.config()
    }
}

/// What to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The model's shape.
    pub shape: Shape,
    /// Compute in bfloat16 (else f32).
    pub bf16: bool,
    /// How matrices are held.
    pub weights: WeightsChoice,
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Tokens decoded after it.
    pub new: usize,
    /// Numbers of streams.
    pub batches: Vec<usize>,
    /// Prompt tokens that run beside the streams in further steps, to see how long they hold the streams up (0: none).
    pub beside: usize,
    /// Times each thing is measured; the median is given.
    pub repeat: usize,
    /// Where.
    pub device: Device,
}

/// What was measured. Medians.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The model's shape.
    pub shape: Shape,
    /// `bf16` or `f32`.
    pub dtype: String,
    /// `native`, `int8` or `int4`.
    pub weights: String,
    /// `cpu` or `cuda:N`.
    pub device: String,
    /// The instruction set of a CPU's kernels; what steps of few rows run on.
    pub kernels: Option<&'static str>,
    /// Threads of libtorch.
    pub threads: i32,
    /// Parameters.
    pub parameters: usize,
    /// Bytes of weights one decode step must read.
    pub weight_bytes: usize,
    /// Making the weights, in seconds.
    pub load_seconds: f64,
    /// A plain read of memory by all threads in the same run, GB/s; on a GPU, what a copy within its memory reads and writes.
    pub read_gb_per_s: f64,
    /// Prompt length of the prefill.
    pub prompt: usize,
    /// Prefill, tokens/s.
    pub prefill_tokens_per_s: f64,
    /// Decode, per number of streams.
    pub decode: Vec<Decode>,
    /// On a GPU: the rows for which a step was recorded.
    pub recorded_rows: Vec<usize>,
    /// On a GPU: those of them that are one kernel.
    pub one_kernel_rows: Vec<usize>,
    /// On a GPU: whether fused kernels run these steps.
    pub fused: bool,
    /// The most memory the process held, bytes (Linux).
    pub peak_memory_bytes: Option<u64>,
}

/// Decode at one number of streams.
#[derive(Clone, Debug, Serialize)]
pub struct Decode {
    /// Streams.
    pub batch: usize,
    /// One step, in milliseconds.
    pub step_ms: f64,
    /// One step that runs [`Plan::beside`] prompt tokens too, in milliseconds.
    pub beside_ms: Option<f64>,
    /// Tokens/s of all streams.
    pub tokens_per_s: f64,
    /// Weights read per second, GB/s.
    pub weights_gb_per_s: f64,
    /// That, as a share of the plain read.
    pub of_read: f64,
}

/// Runs the plan; `progress` is told what comes next.
pub fn run(plan: &Plan, progress: &dyn Fn(&str)) -> Result<Report, LoadError> {
    let _guard = tch::no_grad_guard();
    let kind = if plan.bf16 { Kind::BFloat16 } else { Kind::Float };
    let length = plan.prompt + plan.new;
    let config = plan
        .shape
        .config(length)
        .map_err(|e| LoadError::Source(e.to_string()))?;
    progress("plain memory read");
    let read = match plan.device {
        Device::Cpu => read_bandwidth(plan.repeat),
        device => copy_bandwidth(device, plan.repeat),
    };
    forget_peak_memory();
    progress("making random weights");
    let begun = Instant::now();
    let model = Neox::load_as(&config, &RandomSource::new(1), plan.weights, kind, plan.device)?;
    let load_seconds = begun.elapsed().as_secs_f64();
    let streams = plan.batches.iter().copied().max().unwrap_or(1).max(1);
    let mut kv = model.kv_memory(streams * length + plan.beside);

    let weight_bytes = model.step_bytes();

    progress("prefill");
    let prompt: Vec<u32> = (0..plan.prompt).map(|i| (i * 7919 % plan.shape.vocab) as u32).collect();
    let span = Span { start: 0, len: length };
    let prefill = median(plan.repeat, || {
        let segment = Segment {
            span,
            position: 0,
            tokens: &prompt,
            logits: 1,
        };
        timed(plan.device, || drop(model.step(&mut kv, &[segment])))
    });

    let mut decode = Vec::new();
    for &batch in &plan.batches {
        progress(&format!("decode, {batch} streams"));
        let step = decode_step(&model, &mut kv, plan, batch, None);
        let behind = Span {
            start: streams * length,
            len: plan.beside,
        };
        let beside = (plan.beside > 0).then(|| decode_step(&model, &mut kv, plan, batch, Some(behind)));
        let bandwidth = weight_bytes as f64 / step / 1e9;
        decode.push(Decode {
            batch,
            step_ms: step * 1e3,
            beside_ms: beside.map(|seconds| seconds * 1e3),
            tokens_per_s: batch as f64 / step,
            weights_gb_per_s: bandwidth,
            of_read: bandwidth / read,
        });
    }
    let recorded = model.recorded().unwrap_or_default();
    Ok(Report {
        recorded_rows: recorded.rows,
        one_kernel_rows: recorded.whole,
        fused: recorded.fused,
        shape: plan.shape.clone(),
        dtype: if plan.bf16 { "bf16" } else { "f32" }.to_owned(),
        weights: plan.weights.on(plan.device, None).to_string(),
        device: super::device::name(plan.device),
        kernels: super::device::kernels(plan.device),
        threads: tch::get_num_threads(),
        parameters: config.parameters(),
        weight_bytes,
        load_seconds,
        read_gb_per_s: read,
        prompt: plan.prompt,
        prefill_tokens_per_s: plan.prompt as f64 / prefill,
        decode,
        peak_memory_bytes: peak_memory(),
    })
}

/// Median seconds of one step at `batch` streams, each `prompt` tokens in (their keys and values are whatever the memory holds), and of a
/// piece of a prompt that fills the span `beside` in the same steps.
fn decode_step(model: &Neox, kv: &mut KvMemory, plan: &Plan, batch: usize, beside: Option<Span>) -> f64 {
    let piece = vec![0u32; beside.map_or(0, |span| span.len)];
    let length = plan.prompt + plan.new;
    let mut tokens = vec![[0u32]; batch];
    let mut position = 0;
    median(plan.new.max(1), || {
        let piece = beside.map(|span| Segment {
            span,
            position: 0,
            tokens: &piece,
            logits: 0,
        });
        let segments: Vec<Segment<'_>> = tokens
            .iter()
            .enumerate()
            .map(|(s, token)| Segment {
                span: Span {
                    start: s * length,
                    len: length,
                },
                position: plan.prompt + position,
                tokens: token,
                logits: 1,
            })
            .chain(piece)
            .collect();
        let begun = Instant::now();
        let next = model.step(kv, &segments).map(|logits| logits.argmax(1, false));
        let ids: Vec<i64> = next.and_then(|ids| Vec::try_from(ids).ok()).unwrap_or_default();
        let elapsed = begun.elapsed();
        tokens.iter_mut().zip(ids).for_each(|(token, id)| token[0] = id as u32);
        position = (position + 1) % plan.new.max(1);
        elapsed
    })
}

fn timed(device: Device, work: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    work();
    if let Device::Cuda(index) = device {
        tch::Cuda::synchronize(index as i64);
    }
    begun.elapsed()
}

/// Median seconds of `n` runs after one that does not count.
fn median(n: usize, mut run: impl FnMut() -> Duration) -> f64 {
    run();
    let mut times: Vec<f64> = (0..n.max(1)).map(|_| run().as_secs_f64()).collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// GB/s of all threads summing a buffer far larger than the caches.
fn read_bandwidth(repeat: usize) -> f64 {
    use rayon::prelude::*;
    let buffer = vec![1u64; 64 << 20];
    let seconds = median(repeat, || {
        let begun = Instant::now();
        let sum: u64 = buffer
            .par_chunks(1 << 16)
            .map(|chunk| chunk.iter().fold(0u64, |sum, &word| sum.wrapping_add(word)))
            .reduce(|| 0, u64::wrapping_add);
        std::hint::black_box(sum);
        begun.elapsed()
    });
    size_of_val(buffer.as_slice()) as f64 / seconds / 1e9
}

/// GB/s that a copy within a device's memory reads and writes, of a buffer far larger than its caches.
fn copy_bandwidth(device: Device, repeat: usize) -> f64 {
    // Not zeros, which some memories copy faster.
    let from = Tensor::randint(256, [1 << 30], (Kind::Uint8, device));
    let mut to = from.zeros_like();
    let seconds = median(repeat.max(5), || timed(device, || to.copy_(&from)));
    2.0 * from.numel() as f64 / seconds / 1e9
}

/// Starts the high-water mark anew, so that the read's buffer does not count. Where the system refuses, the mark is too high.
fn forget_peak_memory() {
    if let Err(error) = std::fs::write("/proc/self/clear_refs", "5") {
        tracing::debug!(%error, "the peak memory includes the read's buffer");
    }
}

/// The kernel's high-water mark of this process's memory, in bytes.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim()
        .trim_end_matches("kB")
        .trim()
        .parse::<u64>()
        .ok()
        .map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_is_read_from_its_text_and_a_wrong_one_is_refused() {
        let shape: Shape = "hidden=64,layers=2,heads=4,intermediate=128,vocab=100".parse().unwrap();
        assert_eq!(
            shape,
            Shape {
                hidden: 64,
                layers: 2,
                heads: 4,
                intermediate: 128,
                vocab: 100
            }
        );
        for wrong in [
            "hidden=64",
            "hidden=64,layers=2,heads=5,intermediate=128,vocab=100",
            "width=3",
            "hidden=x",
        ] {
            assert!(wrong.parse::<Shape>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_small_shape_is_measured_whole() {
        let shape: Shape = "hidden=64,layers=2,heads=4,intermediate=128,vocab=50".parse().unwrap();
        let plan = |weights| Plan {
            shape: shape.clone(),
            bf16: false,
            weights,
            prompt: 20,
            new: 3,
            batches: vec![1, 2],
            beside: 4,
            repeat: 1,
            device: Device::Cpu,
        };
        let report = run(&plan(WeightsChoice::Native), &|_| ()).unwrap();
        assert_eq!(report.decode.iter().map(|d| d.batch).collect::<Vec<_>>(), [1, 2]);
        assert!(report.prefill_tokens_per_s > 0.0);
        assert!(report.decode.iter().all(|d| d.beside_ms > Some(0.0)));
        // Every weight but the embedding.
        assert_eq!(report.weight_bytes, (report.parameters - 50 * 64) * 4);
        let eight = run(&plan(WeightsChoice::Int8), &|_| ()).unwrap();
        let four = run(&plan(WeightsChoice::Int4), &|_| ()).unwrap();
        assert!(four.weight_bytes < eight.weight_bytes && eight.weight_bytes < report.weight_bytes / 3);
    }
}
