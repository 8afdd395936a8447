//! Steps of few rows on a GPU: recorded once for each size (CUDA graphs), then launched as one.
//!
//! Every row is a token of a running reply or of its draft. A step has some number of rows and, where libtorch's kernels run it, some longest sequence; these are
//! rounded up to a size that is recorded, and rows that are too many run over a position of the KV memory that belongs to nobody.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

use tch::{Device, Kind, Tensor};

use super::NeoxConfig;
use super::fused::{FRESH, Fused, MOST_ROWS, Way};
use super::kv::KvMemory;
use super::network::Neox;
use super::prompts::Prompts;
use super::step::{Segment, wanted};
use crate::model::cuda::{CudaError, Graph, Recorder};

/// Longest piece of a sequence in a recorded step: longer ones are prompts, which fill the GPU as they are.
pub(super) const LONGEST_PIECE: usize = FRESH;

/// Shortest keys that a step is recorded for.
const FEWEST_KEYS: usize = 128;

/// Most keys, in all rows, of a step that libtorch's kernels run: it gathers the keys and values of its rows.
const MOST_KEYS: usize = 1 << 15;

/// How far a row of a recorded step's logits may lie from that of the same step run as it is, as a share of its norm. Wrong kernels give
/// errors about as large as the row; in bf16 the step run as it is has rounding of its own, more in deep networks.
const TOLERANCE: [(Kind, f64); 2] = [(Kind::BFloat16, 1e-1), (Kind::Float, 1e-3)];

/// A size that steps are recorded for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Size {
    rows: usize,
    /// Keys of each row.
    keys: usize,
}

impl Size {
    /// The size in which `segments` run; `None` where they are better run as they are. Fused kernels read as many keys as each row has.
    fn of(segments: &[Segment<'_>], context: usize, fused: bool) -> Option<Self> {
        let rows: usize = segments.iter().map(|segment| segment.tokens.len()).sum();
        let longest = segments.iter().map(|segment| segment.tokens.len()).max()?;
        let keys = keys(segments);
        let size = Self {
            rows: rows.next_power_of_two(),
            keys: match fused {
                true => context,
                false => keys.next_power_of_two().max(FEWEST_KEYS).min(context),
            },
        };
        let few = fused || size.rows * size.keys <= MOST_KEYS;
        let fits = few && longest <= LONGEST_PIECE && size.rows <= MOST_ROWS && keys <= context;
        fits.then_some(size)
    }
}

/// Keys that the longest sequence of a step has after it.
fn keys(segments: &[Segment<'_>]) -> usize {
    let ends = segments.iter().map(|segment| segment.position + segment.tokens.len());
    ends.max().unwrap_or(0)
}

/// What kernels read of `segments`: `[3, rows]`, i64, as [`Neox::pass_rows`] takes it. Of so many rows at least; those that are too many stand at `spare`.
pub(super) fn table(segments: &[Segment<'_>], rows: usize, spare: usize) -> Tensor {
    let mut columns: Vec<[i64; 3]> = Vec::with_capacity(rows);
    for segment in segments {
        let tokens = segment.tokens.iter().zip(segment.position..);
        columns.extend(tokens.map(|(&token, position)| [i64::from(token), segment.span.start as i64, position as i64]));
    }
    columns.resize(rows.max(columns.len()), [0, spare as i64, 0]);
    Tensor::from_slice(columns.as_flattened())
        .view([-1, 3])
        .transpose(0, 1)
        .contiguous()
}

/// Kernels of our own do not look.
///
/// # Panics
/// If a segment reaches beyond the KV memory or the context, or has an id beyond the vocabulary.
fn assert_inside(config: &NeoxConfig, kv: &KvMemory, segments: &[Segment<'_>]) {
    for segment in segments {
        let end = segment.position + segment.tokens.len();
        assert!(
            segment.span.start + end <= kv.positions(),
            "a step beyond the KV memory"
        );
        assert!(end <= config.max_position_embeddings, "a step beyond the context");
        assert!(
            segment.tokens.iter().all(|&id| (id as usize) < config.vocab_size),
            "an id beyond the vocabulary"
        );
    }
}

/// What `work` gives. tch turns what libtorch refuses into a panic; here it is a reason to go another way.
pub(super) fn unless_refused<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err("libtorch refused a part of it".to_owned()))
}

/// Whether the rows of two ways to compute the same, in `kind`, lie no further apart than they may; `Err` says how far.
pub(super) fn agree(made: &Tensor, plain: &Tensor, kind: Kind) -> Result<(), String> {
    let lengths = |rows: &Tensor| rows.to_kind(Kind::Float).norm_scalaropt_dim(2.0, [1i64], false);
    let worst = (lengths(&(made - plain)) / lengths(plain)).max();
    let apart = f64::try_from(worst).map_err(|error| error.to_string())?;
    let most = TOLERANCE
        .iter()
        .find(|(of, _)| *of == kind)
        .map_or(0.0, |(_, most)| *most);
    // Not a number is no agreement either.
    match apart <= most {
        true => Ok(()),
        false => Err(format!("a row is {apart:.1e} of its norm off")),
    }
}

/// A recorded step.
struct Kept {
    graph: Graph,
    /// Read by the graph.
    input: Tensor,
    /// Written by the graph: `[rows, vocab_size]`, f32.
    logits: Tensor,
    /// Whether it is one kernel.
    whole: bool,
}

/// What has been recorded of a network's steps on a GPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Whether fused kernels run these steps, or libtorch's.
    pub fused: bool,
    /// The numbers of rows.
    pub rows: Vec<usize>,
    /// Those of them that are one launch.
    pub whole: Vec<usize>,
    /// Whether fused kernels have run prompts.
    pub prompts: bool,
}

/// The recorded steps of a network on a GPU.
pub(super) struct Replays {
    device: usize,
    kept: Mutex<Recordings>,
    prompts: Prompts,
    // After what is recorded of them.
    fused: Option<Fused>,
}

/// What is recorded reads and writes one KV memory.
struct Recordings {
    /// Its graphs share memory, which is given up with the last of them.
    recorder: Recorder,
    /// The KV memory's number; `None` before the first.
    memory: Option<u64>,
    /// `None` where a size could not be recorded, or gave other numbers.
    of_size: BTreeMap<Size, Option<Kept>>,
}

impl Recordings {
    fn new(device: usize, memory: Option<u64>) -> Result<Self, CudaError> {
        Ok(Self {
            recorder: Recorder::new(device)?,
            memory,
            of_size: BTreeMap::new(),
        })
    }
}

impl Replays {
    /// `None` where the device has no graphs; the reason goes to the log. `fused` makes the kernels that are recorded if they agree with libtorch's.
    pub(super) fn new(device: Device, fused: impl FnOnce() -> Option<Fused>) -> Option<Self> {
        let Device::Cuda(index) = device else { return None };
        match Recordings::new(index, None) {
            Ok(recordings) => Some(Self {
                device: index,
                fused: fused(),
                kept: Mutex::new(recordings),
                prompts: Prompts::default(),
            }),
            Err(error) => {
                tracing::warn!(%error, "steps are not recorded: this libtorch's CUDA graphs cannot be used");
                None
            }
        }
    }

    /// The numbers of rows that steps are recorded for, where their keys are few.
    pub(super) fn sizes() -> impl Iterator<Item = usize> {
        (0..=MOST_ROWS.ilog2()).map(|power| 1 << power)
    }

    /// What there is so far.
    pub(super) fn recorded(&self) -> Recorded {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let kept =
            || (kept.of_size.iter()).filter_map(|(size, kept)| kept.as_ref().map(|kept| (size.rows, kept.whole)));
        Recorded {
            fused: self.fused.is_some(),
            rows: kept().map(|(rows, _)| rows).collect(),
            whole: kept().filter_map(|(rows, whole)| whole.then_some(rows)).collect(),
            prompts: self.prompts.trusted(),
        }
    }

    /// Runs prompts, kernel by kernel; logits as those of [`Neox::step`].
    pub(super) fn prompts(&self, model: &Neox, kv: &mut KvMemory, segments: &[Segment<'_>]) -> Option<Tensor> {
        assert_inside(model.config(), kv, segments);
        model.pass_prompts(self.fused.as_ref(), &self.prompts, kv, segments)
    }

    /// Runs a step by its recorded size, which it records first if it is new. The logits of the rows that are wanted, `None` if there are none;
    /// `Err` where the step must be run as it is.
    pub(super) fn step(
        &self,
        model: &Neox,
        kv: &mut KvMemory,
        segments: &[Segment<'_>],
    ) -> Result<Option<Tensor>, Unrecorded> {
        let config = model.config();
        let size = Size::of(segments, config.max_position_embeddings, self.fused.is_some()).ok_or(Unrecorded)?;
        assert_inside(config, kv, segments);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let input = table(segments, size.rows, kv.spare());
        let memory = Some(kv.id());
        if kept.memory != memory {
            *kept = Recordings::new(self.device, memory).map_err(|_| Unrecorded)?;
        }
        let Recordings { recorder, of_size, .. } = &mut *kept;
        let entry = of_size.entry(size).or_insert_with(|| {
            let rows = segments.iter().map(|segment| segment.tokens.len()).sum();
            let made = self.record(recorder, model, kv, size, (rows, keys(segments)), &input);
            match &made {
                Ok(_) => tracing::debug!(rows = size.rows, keys = size.keys, "a step is recorded"),
                Err(reason) => {
                    tracing::warn!(rows = size.rows, keys = size.keys, %reason, "steps of this size run unrecorded");
                }
            }
            made.ok()
        });
        let Kept {
            graph,
            input: at,
            logits,
            ..
        } = entry.as_mut().ok_or(Unrecorded)?;
        at.copy_(&input);
        if let Err(error) = graph.replay() {
            tracing::warn!(rows = size.rows, keys = size.keys, %error, "a recorded step cannot be run; it is given up");
            *entry = None;
            return Err(Unrecorded);
        }
        let rows = wanted(segments);
        if rows.is_empty() {
            return Ok(None);
        }
        // A copy: the next step writes to the same place.
        let (first, count) = (rows[0], rows.len() as i64);
        let consecutive = rows.iter().zip(first..).all(|(&row, at)| row == at);
        Ok(Some(match consecutive {
            true => logits.narrow(0, first, count).copy(),
            false => logits.index_select(0, &Tensor::from_slice(&rows).to_device(model.device())),
        }))
    }

    /// Records a step, by the fused kernels where there are some; `at_hand` is how many rows and keys the step has that it is recorded for.
    fn record(
        &self,
        recorder: &Recorder,
        model: &Neox,
        kv: &mut KvMemory,
        size: Size,
        at_hand: (usize, usize),
        input: &Tensor,
    ) -> Result<Kept, String> {
        let input = input.to_device(model.device());
        let Some(fused) = &self.fused else {
            let pass = |kv: &mut KvMemory| Ok(model.pass_rows(kv, &input, size.keys as i64));
            return Self::checked(recorder, model, kv, at_hand, &input, pass);
        };
        let mut made = Err("there is no way to run it".to_owned());
        for way in fused.ways(size.rows) {
            made = Self::checked(recorder, model, kv, at_hand, &input, |kv| {
                fused.pass_rows(kv, &input, way)
            });
            match &mut made {
                Ok(kept) => {
                    kept.whole = way == Way::Whole;
                    break;
                }
                Err(reason) => {
                    tracing::warn!(rows = size.rows, ?way, %reason, "steps of this size do not run this way")
                }
            }
        }
        made
    }

    /// Records what `pass` does with `input`, and compares its logits with those of the same step run as it is.
    fn checked(
        recorder: &Recorder,
        model: &Neox,
        kv: &mut KvMemory,
        (rows, keys): (usize, usize),
        input: &Tensor,
        pass: impl Fn(&mut KvMemory) -> Result<Tensor, CudaError>,
    ) -> Result<Kept, String> {
        unless_refused(|| {
            let plain = model.pass_rows(kv, input, keys as i64);
            let recorded = recorder
                .record(|| pass(kv))
                .and_then(|(graph, logits)| Ok((graph, logits?)));
            let (graph, logits) = recorded.map_err(|error| error.to_string())?;
            let input = input.shallow_clone();
            let mut kept = Kept {
                graph,
                input,
                logits,
                whole: false,
            };
            kept.graph.replay().map_err(|error| error.to_string())?;
            // Of the rows that count, the worst.
            let (recorded, plain) = (kept.logits.narrow(0, 0, rows as i64), plain.narrow(0, 0, rows as i64));
            agree(&recorded, &plain, model.kind()).map(|()| kept)
        })
    }
}

/// A step that no recording serves.
#[derive(Debug)]
pub(super) struct Unrecorded;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::neox::{NeoxConfig, Span};
    use crate::model::source::RandomSource;

    const SHAPE: &str = r#"{"vocab_size":151,"hidden_size":64,"num_hidden_layers":2,"num_attention_heads":4,"intermediate_size":96,
        "max_position_embeddings":256}"#;

    fn segment(start: usize, position: usize, tokens: &[u32], logits: usize) -> Segment<'_> {
        Segment {
            span: Span { start, len: 100 },
            position,
            tokens,
            logits,
        }
    }

    #[test]
    fn a_step_in_a_larger_size_gives_the_logits_and_the_memory_of_the_step_as_it_is() {
        let _guard = tch::no_grad_guard();
        let config = NeoxConfig::from_json(SHAPE.as_bytes()).unwrap();
        let model = Neox::load(&config, &RandomSource::new(5), Kind::Float, Device::Cpu).unwrap();
        let prompt: Vec<u32> = (0..40).map(|i| i * 7 % 151).collect();
        let draft = [3, 4, 5];
        let mut logits = Vec::new();
        for padded in [false, true] {
            let mut kv = model.kv_memory(300);
            for start in [0, 100, 200] {
                model.pass(&mut kv, &[segment(start, 0, &prompt[..30 + start / 50], 0)]);
            }
            // Two replies, one of them with a draft, and one that has just begun; after them a step that reads what they wrote.
            let first = [
                segment(0, 30, &draft, 3),
                segment(100, 32, &[9], 1),
                segment(200, 34, &[8], 0),
            ];
            let second = [segment(0, 33, &[1], 1), segment(200, 35, &[2], 1)];
            for step in [&first[..], &second] {
                logits.push(if padded {
                    let size = Size::of(step, 256, false).unwrap();
                    assert_eq!((size.rows, size.keys), (if step.len() == 3 { 8 } else { 2 }, 128));
                    let input = table(step, size.rows, kv.spare());
                    let all = model.pass_rows(&mut kv, &input, size.keys as i64);
                    all.index_select(0, &Tensor::from_slice(&wanted(step)))
                } else {
                    model.pass(&mut kv, step).unwrap()
                });
            }
        }
        for (plain, padded) in logits.iter().zip(&logits[2..]) {
            assert_eq!(plain.size(), padded.size());
            assert!((plain - padded).abs().max().double_value(&[]) < 1e-4);
        }
    }

    #[test]
    fn prompts_and_steps_of_too_many_keys_run_as_they_are() {
        let tokens = [0; 20];
        let rows = |count: usize, position| vec![segment(0, position, &tokens[..1], 1); count];
        assert_eq!(Size::of(&[segment(0, 0, &tokens, 1)], 2048, false), None);
        assert_eq!(Size::of(&rows(65, 0), 2048, false), None);
        assert_eq!(Size::of(&rows(33, 600), 2048, false), None);
        assert_eq!(
            Size::of(&rows(33, 500), 2048, false),
            Some(Size { rows: 64, keys: 512 })
        );
        // Not beyond the context, whose positions alone have an angle.
        assert_eq!(
            Size::of(&rows(1, 1500), 1600, false),
            Some(Size { rows: 1, keys: 1600 })
        );
    }
}
