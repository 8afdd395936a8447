//! The engine's backend over libtorch: the one place of the engine that holds tensors.

mod memory;
mod sample;
mod warm;

use std::num::NonZero;
use std::time::{Duration, Instant};

use tch::{Device, Kind, Tensor};

pub use self::memory::bytes_on_cpu;
use super::backend::{Backend, BackendError, Facts, RowSample, Span, StepOutput, VisionOutput, VisionWork};
use super::prefix_cache::PREFIX_TOKENS;
use crate::model::bundle::Bundle;
use crate::model::device::{self, DeviceChoice, DtypeChoice, WeightsChoice};
use crate::model::drafts::DraftTable;
use crate::model::neox::{KvMemory, Neox, NeoxConfig, Segment};
use crate::model::source::TensorSource;
use crate::model::vqgan::{Pass, Vqgan};

/// KV memory when nothing is said: on a GPU, and on a CPU (where at least one whole context always fits).
const GPU_KV_BYTES: usize = 8 << 30;
const CPU_KV_BYTES: usize = 512 << 20;

/// What is noted.
const LONG: Duration = Duration::from_millis(200);

/// What is no number would be a black pixel.
const NOT_DRAWN: &str =
    "the VQ-GAN's decoder gave values that are not finite, so its weights are damaged; get or make the model again";

/// How a bundle is put on a device.
#[derive(Clone, Debug, Default)]
pub struct TorchOptions {
    /// Where.
    pub device: DeviceChoice,
    /// What the language model and the VQ-GAN's decoder compute in.
    pub dtype: DtypeChoice,
    /// How the language model's matrices are held.
    pub weights: WeightsChoice,
    /// KV memory.
    pub kv: KvBudget,
    /// Most sequences in a step, by default [`sequences`]; KV memory beyond that many whole contexts would never be used.
    pub max_batch: Option<usize>,
    /// Threads of libtorch on a CPU; `None` for one per core, within a container's quota.
    pub threads: Option<usize>,
    /// Compare every file of the bundle with its checksum; one that differs is an error, and nothing is served.
    pub verify: bool,
}

/// Size of the KV memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KvBudget {
    /// As many contexts as there are sequences in a step, within 8 GiB on a GPU and 512 MiB (or one context) on a CPU.
    #[default]
    Auto,
    /// Token positions.
    Tokens(usize),
    /// Bytes.
    Bytes(u64),
}

impl KvBudget {
    /// Token positions for a model whose positions take `per_token` bytes, perhaps too few.
    fn tokens_within(self, config: &NeoxConfig, per_token: usize, max_batch: usize, gpu: bool) -> usize {
        let context = config.max_position_embeddings;
        let most = context.saturating_mul(max_batch.max(1));
        match self {
            Self::Auto => (if gpu { GPU_KV_BYTES } else { CPU_KV_BYTES } / per_token).clamp(context, most),
            Self::Tokens(tokens) => tokens,
            Self::Bytes(bytes) => usize::try_from(bytes).unwrap_or(usize::MAX) / per_token,
        }
    }

    /// As [`Self::tokens_within`]. One whole context must fit, or the longest requests that the model takes could never run.
    fn tokens(self, config: &NeoxConfig, per_token: usize, max_batch: usize, gpu: bool) -> Result<usize, BackendError> {
        let context = config.max_position_embeddings;
        let tokens = self.tokens_within(config, per_token, max_batch, gpu);
        if tokens < context {
            return Err(BackendError(format!(
                "KV memory of {tokens} tokens does not hold one context of {context}; give it at least {} MiB (--kv-memory) or {context} \
                 tokens (--kv-tokens)",
                (context * per_token).div_ceil(1 << 20)
            )));
        }
        Ok(tokens)
    }
}

/// Loads a bundle: checks it, puts its weights on the device, sets the KV memory aside, and runs both networks once, so that the first
/// request finds them warm. Called inside the engine's thread.
pub fn load(bundle: &Bundle, options: &TorchOptions) -> Result<Box<dyn Backend>, BackendError> {
    let said = |error: &dyn std::fmt::Display| BackendError(error.to_string());
    // libtorch's own default knows nothing of a container's CPU quota.
    let cores = || std::thread::available_parallelism().ok().map(NonZero::get);
    if let Some(threads) = options.threads.or_else(cores) {
        tch::set_num_threads(i32::try_from(threads).unwrap_or(i32::MAX));
    }
    let on = device::resolve(options.device).map_err(|e| said(&e))?;
    if !options.verify {
        return put(bundle, options, on);
    }
    // Both read the same pages, one to hash and one to copy. What a damaged file made the loading say counts for less than that it is
    // damaged.
    std::thread::scope(|scope| {
        tracing::info!("verifying the bundle's checksums");
        let checked = scope.spawn(|| bundle.verify(&mut |_| ()).map_err(|e| said(&e)));
        let loaded = put(bundle, options, on);
        match checked.join() {
            Ok(checked) => checked.and(loaded),
            Err(_) => Err(BackendError("the check of the bundle's checksums broke off".to_owned())),
        }
    })
}

/// Sequences in a step where nobody says how many. On a GPU a step of 64 takes some three times as long as one of 1, on a CPU one of 16 two to three times
/// (`docs/performance.md`).
fn sequences(on: Device) -> usize {
    if on.is_cuda() { 64 } else { 16 }
}

/// Loads a bundle to `on`.
fn put(bundle: &Bundle, options: &TorchOptions, on: Device) -> Result<Box<dyn Backend>, BackendError> {
    let said = |error: &dyn std::fmt::Display| BackendError(error.to_string());
    let weights = bundle.neox_weights().map_err(|e| said(&e))?;
    let kind = options.dtype.kind(on, Neox::stored(&weights));
    let (kernels, held) = (device::kernels(on), options.weights.on(on, weights.stored_format()));
    tracing::info!(device = %device::name(on), kernels, dtype = device::dtype_name(kind), weights = %held, "loading the model");
    let per_token = KvMemory::bytes_per_token(&bundle.neox, kind);
    let max_batch = options.max_batch.unwrap_or(sequences(on));
    let kv_tokens = options.kv.tokens(&bundle.neox, per_token, max_batch, on.is_cuda())?;
    let neox = Neox::load_as(&bundle.neox, &weights, held, kind, on).map_err(|e| said(&e))?;
    let weights = bundle.vqgan_weights().map_err(|e| said(&e))?;
    let vqgan = Vqgan::load_beside(&bundle.vqgan, &weights, kind, on).map_err(|e| said(&e))?;
    // On a CPU one image at a time is fastest, and an image's codes cannot depend on its company, not even by a rounding.
    let vision_batch = if on.is_cuda() { 16 } else { 1 };
    let mut backend = TorchBackend::new(neox, vqgan, kv_tokens, vision_batch, kind, on);
    backend.facts.sequences = max_batch;
    backend.drafts = bundle.drafts().map_err(|e| said(&e))?;
    backend.warm_up()?;
    Ok(Box::new(backend))
}

/// Language model, VQ-GAN and KV memory on one device. Made and used inside the engine's thread: gradients are off there alone.
pub struct TorchBackend {
    neox: Neox,
    vqgan: Vqgan,
    kv: KvMemory,
    pass: Option<(Pass, bool)>,
    drafts: DraftTable,
    facts: Facts,
    device: Device,
    _no_grad: tch::NoGradGuard,
}

impl TorchBackend {
    /// Puts the parts together. `kv_tokens` positions of KV memory are set aside, and a few more for prefixes that prompts share; code `c` is the token `code_base + c`.
    pub fn new(neox: Neox, vqgan: Vqgan, kv_tokens: usize, vision_batch: usize, kind: Kind, on: Device) -> Self {
        let config = neox.config();
        let facts = Facts {
            vocabulary: config.vocab_size,
            context: config.max_position_embeddings,
            kv_tokens,
            prefix_tokens: PREFIX_TOKENS,
            codes_per_image: vqgan.config().codes_per_image(),
            code_base: (config.vocab_size - vqgan.config().n_embed) as u32,
            code_count: vqgan.config().n_embed,
            image_side: vqgan.config().resolution,
            cuts_freely: neox.cuts_freely(),
            prompt_rows: neox.prompt_rows(),
            sequences: sequences(on),
            vision_batch,
            samples_on_device: on.is_cuda(),
            device: device::name(on),
            dtype: device::dtype_name(kind).to_owned(),
            weights: neox.held().to_string(),
        };
        let kv = neox.kv_memory(kv_tokens + PREFIX_TOKENS);
        Self {
            neox,
            vqgan,
            kv,
            pass: None,
            drafts: DraftTable::default(),
            facts,
            device: on,
            _no_grad: tch::no_grad_guard(),
        }
    }
}

impl TorchBackend {
    /// As [`Backend::step`].
    fn run(&mut self, segments: &[Segment<'_>], samples: &[Vec<RowSample>]) -> Result<StepOutput, BackendError> {
        let Some(logits) = self.neox.step(&mut self.kv, segments) else {
            return Ok(StepOutput::default());
        };
        if samples.iter().all(Vec::is_empty) {
            let (logits, sampled) = (fetch(&logits)?, Vec::new());
            return Ok(StepOutput { logits, sampled });
        }
        // Rows of the logits to sample from, and others.
        let (mut here, mut there, mut row) = (Vec::new(), Vec::new(), 0i64);
        for (segment, asked) in segments.iter().zip(samples) {
            let rows = row..row + segment.logits as i64;
            row = rows.end;
            if asked.is_empty() { &mut there } else { &mut here }.extend(rows);
        }
        let pick = |rows: &[i64]| {
            if rows.len() as i64 == row {
                return Ok(logits.shallow_clone());
            }
            let rows = Tensor::from_slice(rows).f_to_device(self.device)?;
            logits.f_index_select(0, &rows)
        };
        let asked = samples.concat();
        let ids = sample::sample_rows(&pick(&here).map_err(torch)?, &asked).map_err(torch)?;
        let mut ids = ids.into_iter();
        Ok(StepOutput {
            sampled: samples
                .iter()
                .map(|asked| ids.by_ref().take(asked.len()).collect())
                .collect(),
            logits: match there.is_empty() {
                true => Vec::new(),
                false => fetch(&pick(&there).map_err(torch)?)?,
            },
        })
    }
}

impl Backend for TorchBackend {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn step(&mut self, segments: &[Segment<'_>], samples: &[Vec<RowSample>]) -> Result<StepOutput, BackendError> {
        let begun = Instant::now();
        let output = self.run(segments, samples);
        note_long(begun, || {
            let longest = segments.iter().map(|segment| segment.tokens.len()).max();
            format!("a step of {} sequences, the longest piece {longest:?}", segments.len())
        });
        output
    }

    fn copy(&mut self, from: Span, to: Span, len: usize) -> Result<(), BackendError> {
        self.kv.copy(from.start, to.start, len);
        Ok(())
    }

    fn vision_begin(&mut self, work: VisionWork) -> Result<(), BackendError> {
        self.pass = Some(match work {
            VisionWork::Encode(images) => (self.vqgan.begin_encode(&images), true),
            VisionWork::Decode(codes) => (self.vqgan.begin_decode(&codes), false),
        });
        Ok(())
    }

    fn vision_advance(&mut self) -> Result<Option<VisionOutput>, BackendError> {
        // Taken out first: after a panic in a layer no pass is under way.
        let Some((mut pass, encode)) = self.pass.take() else {
            return Err(BackendError("no VQ-GAN pass is under way".to_owned()));
        };
        let begun = Instant::now();
        let more = self.vqgan.advance(&mut pass);
        note_long(begun, || "a layer of the VQ-GAN".to_owned());
        if more {
            self.pass = Some((pass, encode));
            return Ok(None);
        }
        Ok(Some(match encode {
            true => VisionOutput::Codes(self.vqgan.codes(pass).map_err(|e| BackendError(e.to_string()))?),
            false if pass.is_finite() => VisionOutput::Images(self.vqgan.images(pass)),
            false => return Err(BackendError(NOT_DRAWN.to_owned())),
        }))
    }

    fn vision_cancel(&mut self) {
        self.pass = None;
    }

    fn drafts(&mut self) -> DraftTable {
        std::mem::take(&mut self.drafts)
    }

    fn health(&mut self) -> Result<(), BackendError> {
        let ones = Tensor::f_ones([16, 16], (Kind::Float, self.device)).map_err(torch)?;
        let product = ones.f_matmul(&ones).map_err(torch)?;
        match product.f_double_value(&[0, 0]).map_err(torch)? {
            16.0 => Ok(()),
            other => Err(BackendError(format!("the device computes 16 ones as {other}"))),
        }
    }
}

/// Notes what took so long that somebody may ask why: on a GPU libraries load kernels when they are first used.
fn note_long(begun: Instant, what: impl FnOnce() -> String) {
    let took = begun.elapsed();
    if took > LONG {
        tracing::debug!(ms = took.as_millis() as u64, what = what(), "took long");
    }
}

/// The values of f32 logits, row after row.
fn fetch(logits: &Tensor) -> Result<Vec<f32>, BackendError> {
    let logits = logits
        .f_to_device(Device::Cpu)
        .and_then(|l| l.f_contiguous())
        .map_err(torch)?;
    let mut out = vec![0f32; logits.numel()];
    let length = out.len();
    logits.f_copy_data(&mut out, length).map_err(torch)?;
    Ok(out)
}

/// The first line of what libtorch said: the rest is a C++ stack.
fn torch(error: tch::TchError) -> BackendError {
    BackendError(error.to_string().lines().next().unwrap_or("libtorch failed").to_owned())
}
