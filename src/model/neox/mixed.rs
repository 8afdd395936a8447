//! A step on a GPU that has both prompts and replies: the replies' tokens run as they do without prompts, by a recorded step, and only the prompts kernel by kernel,
//! whose pieces take launches of their own.

use tch::Tensor;

use super::fused::MOST_ROWS;
use super::kv::KvMemory;
use super::network::Neox;
use super::replay::{LONGEST_PIECE, Replays, Unrecorded};
use super::step::Segment;

impl Neox {
    /// By recorded steps, as far as there are any.
    pub(super) fn step_recorded(
        &self,
        replays: &Replays,
        kv: &mut KvMemory,
        segments: &[Segment<'_>],
    ) -> Option<Tensor> {
        in_parts(segments, LONGEST_PIECE, MOST_ROWS, |part, segments| match part {
            Part::Prompts => replays.prompts(self, kv, segments),
            Part::Replies => replays
                .step(self, kv, segments)
                .unwrap_or_else(|Unrecorded| self.pass(kv, segments)),
        })
    }
}

/// What is run by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// The long segments.
    Prompts,
    /// Some of the short ones.
    Replies,
}

/// Runs the segments of more than `longest` tokens, and the others, no more than `most` rows at a time. `run` gives the logits that its segments ask for, in their order; this
/// gives all of them, in the order of `segments`.
fn in_parts<'a>(
    segments: &[Segment<'a>],
    longest: usize,
    most: usize,
    mut run: impl FnMut(Part, &[Segment<'a>]) -> Option<Tensor>,
) -> Option<Tensor> {
    let (few, many): (Vec<usize>, Vec<usize>) =
        (0..segments.len()).partition(|&index| segments[index].tokens.len() <= longest);
    // Most steps have no prompt: nothing to part, nothing to copy.
    if many.is_empty() && segments.iter().map(|segment| segment.tokens.len()).sum::<usize>() <= most {
        return run(Part::Replies, segments);
    }
    let pick =
        |indices: &[usize]| -> Vec<Segment<'a>> { indices.iter().map(|&index| segments[index].clone()).collect() };
    // Segments in the order in which they run, and what their parts gave.
    let (mut order, mut given) = (many.clone(), Vec::new());
    if !many.is_empty() {
        given.extend(run(Part::Prompts, &pick(&many)));
    }
    for part in parts(&few, most, |&index| segments[index].tokens.len()) {
        given.extend(run(Part::Replies, &pick(part)));
        order.extend(part);
    }
    if given.len() < 2 && order.is_sorted() {
        return given.pop();
    }
    let all = match given.len() {
        0 => return None,
        1 => given.remove(0),
        _ => Tensor::cat(&given, 0),
    };
    // Where each segment's rows begin among those that were given.
    let mut begins = vec![0; segments.len()];
    let mut row = 0;
    for index in order {
        begins[index] = row;
        row += segments[index].logits as i64;
    }
    let rows: Vec<i64> = (segments.iter().zip(begins))
        .flat_map(|(segment, begin)| begin..begin + segment.logits as i64)
        .collect();
    if rows.is_sorted() {
        return Some(all);
    }
    Some(all.index_select(0, &Tensor::from_slice(&rows).to_device(all.device())))
}

/// `items` in parts whose sizes sum up to `most` or less; one that is larger is a part by itself.
fn parts<T>(items: &[T], most: usize, size: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let mut parts = Vec::new();
    let (mut begin, mut sum) = (0, 0);
    for (at, item) in items.iter().enumerate() {
        if at > begin && sum + size(item) > most {
            parts.push(&items[begin..at]);
            (begin, sum) = (at, 0);
        }
        sum += size(item);
    }
    if begin < items.len() {
        parts.push(&items[begin..]);
    }
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tch::{Device, Kind};

    use super::*;
    use crate::model::neox::{Neox, NeoxConfig, Span};
    use crate::model::source::RandomSource;

    const SHAPE: &str = r#"{"vocab_size":61,"hidden_size":32,"num_hidden_layers":2,"num_attention_heads":2,"intermediate_size":64,
        "max_position_embeddings":64}"#;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn a_step_in_parts_gives_the_logits_of_the_whole_step(pieces in prop::collection::vec((1usize..12, 0usize..3), 1..9), most in 1usize..12) {
            let _guard = tch::no_grad_guard();
            let config = NeoxConfig::from_json(SHAPE.as_bytes()).unwrap();
            let model = Neox::load(&config, &RandomSource::new(5), Kind::Float, Device::Cpu).unwrap();
            let tokens: Vec<Vec<u32>> = (pieces.iter().enumerate())
                .map(|(number, (length, _))| (0..*length as u32).map(|i| (i * 7 + number as u32 * 13) % 61).collect())
                .collect();
            let segments: Vec<Segment<'_>> = (tokens.iter().zip(&pieces).enumerate())
                .map(|(number, (tokens, (length, logits)))| Segment {
                    span: Span { start: number * 12, len: 12 },
                    position: 0,
                    tokens,
                    logits: *logits.min(length),
                })
                .collect();
            let mut kv = [0, 1].map(|_| model.kv_memory(120));
            let whole = model.pass(&mut kv[0], &segments);
            let mut seen = Vec::new();
            let parts = in_parts(&segments, 4, most, |part, segments| {
                let lengths = || segments.iter().map(|segment| segment.tokens.len());
                match part {
                    Part::Prompts => assert!(lengths().all(|length| length > 4)),
                    Part::Replies => {
                        assert!(segments.len() == 1 || lengths().sum::<usize>() <= most);
                        seen.extend(lengths());
                    }
                }
                model.pass(&mut kv[1], segments)
            });
            assert!(seen.iter().all(|length| *length <= 4));
            prop_assert_eq!(whole.is_some(), parts.is_some());
            if let (Some(whole), Some(parts)) = (whole, parts) {
                prop_assert_eq!(whole.size(), parts.size());
                prop_assert!((whole - parts).abs().max().double_value(&[]) < 1e-4);
            }
        }
    }
}
