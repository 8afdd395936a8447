//! Support for tests: a backend with no tensors, whose replies are scripted and whose every call can be held, slowed or failed.
//!
//! It holds the engine to the contract of [`Backend`]: spans disjoint, positions contiguous, sizes right. A breach is an error that
//! says what was wrong, so it shows in whatever test drives it.

mod controls;

use std::collections::BTreeMap;

pub use controls::{Call, Controls, Fault, SegmentRecord};

use super::backend::samples_fit;
use super::sampler::sample_rows;
use super::{Backend, BackendError, Facts, RowSample, Segment, Span, StepOutput, TokenRules, VisionOutput, VisionWork};
use crate::radiograph::Pixels;
use crate::vocabulary::TokenId;

/// How far a scripted token stands above the others: certain at any temperature up to 2.
const FAVOUR: f32 = 60.0;

/// Facts of a small model with this vocabulary, whose images have sides of `image_side` pixels.
pub fn facts(rules: &TokenRules, image_side: usize) -> Facts {
    Facts {
        vocabulary: rules.code_base as usize + rules.code_count,
        context: 512,
        kv_tokens: 4096,
        prefix_tokens: 0,
        codes_per_image: rules.codes_per_image,
        code_base: rules.code_base,
        code_count: rules.code_count,
        image_side,
        cuts_freely: false,
        prompt_rows: 128,
        sequences: 16,
        vision_batch: 4,
        samples_on_device: false,
        device: "scripted".into(),
        dtype: "f32".into(),
        weights: "native".into(),
    }
}

/// Makes a reply of a prompt.
pub type Author = Box<dyn Fn(&[TokenId]) -> Vec<TokenId> + Send>;

/// What the scripted model wants to say.
pub enum Reply {
    /// The same tokens after every prompt, then the last of them again and again.
    Tokens(Vec<TokenId>),
    /// Tokens chosen by the prompt: all that was run before the first logits were asked for.
    ByPrompt(Author),
    /// Noise that depends on the sequence's own tokens alone, so that seeds matter and company must not.
    Hashed,
}

/// What the KV memory of one span holds.
struct Memory {
    span: Span,
    tokens: Vec<TokenId>,
    /// How many of the tokens are sure to stay; the others were run as a draft, and may be run again otherwise.
    firm: usize,
    /// The scripted reply and where it starts, from the first logits on.
    reply: Option<(usize, Vec<TokenId>)>,
}

/// The scripted model.
pub struct ScriptedBackend {
    facts: Facts,
    reply: Reply,
    controls: Controls,
    memory: BTreeMap<usize, Memory>,
    pass: Option<(VisionWork, usize, Option<Fault>)>,
    slices: usize,
}

impl ScriptedBackend {
    /// A model with these facts that replies so; VQ-GAN passes take two slices.
    pub fn new(facts: Facts, reply: Reply) -> (Self, Controls) {
        let controls = Controls::default();
        let memory = BTreeMap::new();
        (
            Self {
                facts,
                reply,
                controls: controls.clone(),
                memory,
                pass: None,
                slices: 2,
            },
            controls,
        )
    }

    /// Runs one segment; appends the rows of logits that it wants.
    fn run(&mut self, segment: &Segment<'_>, rows: &mut Vec<f32>) -> Result<(), BackendError> {
        let Segment {
            span,
            position,
            tokens,
            logits,
        } = *segment;
        let breach = |what: &str| BackendError(format!("contract broken: {what}"));
        if span.start + span.len > self.facts.kv_tokens || position + tokens.len() > span.len {
            return Err(breach("a segment leaves its span or the memory"));
        }
        if tokens.is_empty() || tokens.iter().any(|&id| id as usize >= self.facts.vocabulary) {
            return Err(breach("a segment is empty or holds an id outside the vocabulary"));
        }
        if position == 0 {
            self.memory.retain(|_, old| !overlap(old.span, span));
            self.memory.insert(
                span.start,
                Memory {
                    span,
                    tokens: Vec::new(),
                    firm: 0,
                    reply: None,
                },
            );
        }
        let memory = self
            .memory
            .get_mut(&span.start)
            .ok_or_else(|| breach("a span was never begun"))?;
        if memory.span != span || !(memory.firm..=memory.tokens.len()).contains(&position) {
            return Err(breach("positions are not contiguous or the span was overwritten"));
        }
        if logits > tokens.len() {
            return Err(breach("more rows of logits are wanted than tokens run"));
        }
        let spoilt = self.controls.spoilt();
        memory.tokens.truncate(position);
        memory.tokens.extend_from_slice(tokens);
        memory.firm = memory.tokens.len() - logits.saturating_sub(1);
        for end in memory.tokens.len() - logits + 1..=memory.tokens.len() {
            let before = &memory.tokens[..end];
            let mut row = noise(hash(before), self.facts.vocabulary);
            let reply = match &self.reply {
                Reply::Hashed => None,
                Reply::Tokens(tokens) => Some(memory.reply.get_or_insert_with(|| (end, tokens.clone()))),
                Reply::ByPrompt(choose) => Some(memory.reply.get_or_insert_with(|| (end, choose(before)))),
            };
            let wanted = reply.and_then(|(begin, ids)| ids.get(end - *begin).or(ids.last()));
            if let Some(logit) = wanted.and_then(|&id| row.get_mut(id as usize)) {
                *logit = FAVOUR;
            }
            if spoilt.is_some_and(|id| before.contains(&id)) {
                row.fill(f32::NAN);
            }
            rows.extend(row);
        }
        Ok(())
    }

    fn finish(&self, work: VisionWork) -> VisionOutput {
        match work {
            VisionWork::Encode(images) => {
                VisionOutput::Codes(images.iter().map(|image| codes_of(image, &self.facts)).collect())
            }
            VisionWork::Decode(lists) => VisionOutput::Images(
                lists
                    .iter()
                    .map(|codes| image_of(codes, self.facts.image_side))
                    .collect(),
            ),
        }
    }
}

impl Backend for ScriptedBackend {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn step(&mut self, segments: &[Segment<'_>], samples: &[Vec<RowSample>]) -> Result<StepOutput, BackendError> {
        let record = |s: &Segment<'_>| SegmentRecord {
            span: s.span,
            position: s.position,
            tokens: s.tokens.len(),
            logits: s.logits,
        };
        let fault = self.controls.enter(Call::Step(segments.iter().map(record).collect()));
        fail(fault)?;
        if segments.is_empty() {
            return Err(BackendError("contract broken: an empty step".into()));
        }
        if (1..segments.len()).any(|i| segments[..i].iter().any(|b| overlap(segments[i].span, b.span))) {
            return Err(BackendError("contract broken: spans of one step overlap".into()));
        }
        if !samples_fit(samples, segments) || (!samples.is_empty() && !self.facts.samples_on_device) {
            return Err(BackendError("contract broken: samples that nobody can take".into()));
        }
        let mut output = StepOutput::default();
        for (number, segment) in segments.iter().enumerate() {
            let mut rows = Vec::new();
            self.run(segment, &mut rows)?;
            if fault == Some(Fault::Nonsense) {
                rows.fill(f32::NAN);
            }
            let asked = samples.get(number).map_or(&[][..], Vec::as_slice);
            let sampled = sample_rows(asked, &rows, self.facts.vocabulary);
            output.sampled.push(sampled);
            output.logits.extend(rows.iter().filter(|_| asked.is_empty()));
        }
        Ok(output)
    }

    fn copy(&mut self, from: Span, to: Span, len: usize) -> Result<(), BackendError> {
        let most = self.facts.kv_tokens + self.facts.prefix_tokens;
        let source = self.memory.get(&from.start).filter(|memory| memory.span == from);
        let tokens = source.and_then(|memory| memory.tokens.get(..len)).map(<[_]>::to_vec);
        let Some(tokens) = tokens.filter(|_| len <= to.len && to.start + to.len <= most && !overlap(from, to)) else {
            return Err(BackendError(
                "contract broken: a copy of what is not there, or to where it has no room".into(),
            ));
        };
        self.memory.retain(|_, old| !overlap(old.span, to));
        self.memory.insert(
            to.start,
            Memory {
                span: to,
                firm: tokens.len(),
                tokens,
                reply: None,
            },
        );
        Ok(())
    }

    fn vision_begin(&mut self, work: VisionWork) -> Result<(), BackendError> {
        let (call, count) = match &work {
            VisionWork::Encode(images) => (Call::Encode(images.len()), images.len()),
            VisionWork::Decode(lists) => (Call::Decode(lists.len()), lists.len()),
        };
        let fault = self.controls.enter(call);
        if self.pass.is_some() || count == 0 || count > self.facts.vision_batch {
            return Err(BackendError(
                "contract broken: a pass begun within another, or of a wrong size".into(),
            ));
        }
        self.pass = Some((work, self.slices, fault));
        Ok(())
    }

    fn vision_advance(&mut self) -> Result<Option<VisionOutput>, BackendError> {
        self.controls.enter(Call::Slice);
        let Some((work, left, fault)) = self.pass.take() else {
            return Err(BackendError("contract broken: no pass is under way".into()));
        };
        fail(fault)?;
        if fault == Some(Fault::Nonsense) {
            return Ok(Some(VisionOutput::Codes(Vec::new())));
        }
        if left > 1 {
            self.pass = Some((work, left - 1, fault));
            return Ok(None);
        }
        Ok(Some(self.finish(work)))
    }

    fn vision_cancel(&mut self) {
        self.controls.enter(Call::Cancel);
        self.pass = None;
    }

    fn health(&mut self) -> Result<(), BackendError> {
        fail(self.controls.enter(Call::Health))
    }
}

fn fail(fault: Option<Fault>) -> Result<(), BackendError> {
    match fault {
        Some(Fault::Error) => Err(BackendError("scripted fault".into())),
        Some(Fault::Panic) => std::panic::panic_any("scripted panic"),
        Some(Fault::Nonsense) | None => Ok(()),
    }
}

fn overlap(a: Span, b: Span) -> bool {
    a.start < b.start + b.len && b.start < a.start + a.len
}

/// The codes the scripted encoder gives an image: a function of its pixels.
pub fn codes_of(image: &Pixels, facts: &Facts) -> Vec<u16> {
    let seed = image.rgb().iter().fold(1, |state, &byte| mix(state ^ u64::from(byte)));
    (0..facts.codes_per_image)
        .map(|i| (mix(seed ^ i as u64) % facts.code_count.max(1) as u64) as u16)
        .collect()
}

/// The image the scripted decoder makes of codes: a function of the codes.
pub fn image_of(codes: &[u16], side: usize) -> Pixels {
    let seed = codes.iter().fold(2, |state, &code| mix(state ^ u64::from(code)));
    let bytes = (0..side * side * 3).map(|i| mix(seed ^ i as u64) as u8).collect();
    Pixels::new(side, side, bytes).unwrap_or_else(|| unreachable!("the length is that of the size"))
}

fn hash(tokens: &[TokenId]) -> u64 {
    tokens.iter().fold(3, |state, &id| mix(state ^ u64::from(id)))
}

/// Logits in −4 … 4 that depend on the seed alone.
fn noise(seed: u64, len: usize) -> Vec<f32> {
    (0..len as u64)
        .map(|i| (mix(seed ^ mix(i)) >> 40) as f32 / (1u32 << 21) as f32 - 4.0)
        .collect()
}

/// The finalizer of SplitMix64: a bijection that scatters.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
