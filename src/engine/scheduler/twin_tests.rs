//! Replies that share a prompt: what it saves, and that it changes no token.

use proptest::prelude::*;

use super::tests::Bench;
use super::*;
use crate::engine::prefix_cache::PREFIX_TOKENS;
use crate::engine::scripted::Reply;
use crate::engine::tests::{about, config, facts, guided, job, picture, sampled, spec};
use crate::engine::{Facts, Rule};

/// A reply of the same prompt with this seed: about an image, a text, or a guided drawing.
fn reply(kind: u8, seed: u64) -> SequenceSpec {
    match kind {
        0 => SequenceSpec {
            sampling: sampled(seed),
            ..about(0, 12)
        },
        1 => SequenceSpec {
            sampling: sampled(seed),
            ..spec(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], Rule::Text, 12)
        },
        _ => guided(&[1, 2, 3, 4, 5, 6, 7], &[9; 21], sampled(seed)),
    }
}

fn bench(max_batch: usize, kv_tokens: usize, cuts_freely: bool) -> Bench {
    let facts = Facts {
        prefix_tokens: PREFIX_TOKENS,
        kv_tokens,
        cuts_freely,
        ..facts()
    };
    let config = EngineConfig {
        max_batch: Some(max_batch),
        ..config()
    };
    Bench::with(config, facts, Reply::Hashed)
}

fn run(bench: &mut Bench, jobs: impl IntoIterator<Item = Vec<SequenceSpec>>) {
    for sequences in jobs {
        bench.submit(Job {
            images: vec![picture(3)],
            ..job(sequences)
        });
    }
    bench.finish().unwrap();
    assert_eq!(bench.scheduler.kv().used(), 0);
}

#[test]
fn a_prompt_that_several_replies_share_is_run_once() {
    let mut bench = bench(8, 512, true);
    run(&mut bench, [(0..8).map(|seed| reply(0, seed)).collect()]);
    // Two tokens before the image, its 16 codes, two behind; the last token of each apart.
    assert_eq!(bench.scheduler.counters().prompt_tokens, 19 + 8);
}

#[test]
fn a_guided_pair_shares_both_its_prompts() {
    let mut bench = bench(8, 512, false);
    run(&mut bench, [(0..4).map(|seed| reply(2, seed)).collect()]);
    assert_eq!(bench.scheduler.counters().prompt_tokens, (6 + 4) + (20 + 4));
}

#[test]
fn who_gets_memory_after_its_twins_have_left_runs_the_prompt_itself() {
    // A prompt of 20 and a reply of 12 at a time.
    let mut bench = bench(8, 40, true);
    run(&mut bench, [(0..3).map(|seed| reply(0, seed)).collect()]);
    // The prefix of two tokens is run once, and kept.
    assert_eq!(bench.scheduler.counters().prompt_tokens, 20 + 18 + 18);
}

proptest! {
    #[test]
    fn replies_that_share_a_prompt_say_what_each_says_alone(
        kinds in prop::collection::vec((0u8..3, 0u64..20), 1..9), max_batch in 2usize..9, kv_tokens in 90usize..400, cuts_freely in any::<bool>(),
    ) {
        let replies: Vec<_> = kinds.iter().map(|&(kind, seed)| reply(kind, seed)).collect();
        let mut together = bench(max_batch, kv_tokens, cuts_freely);
        run(&mut together, [replies.clone()]);
        let mut apart = bench(max_batch, kv_tokens, cuts_freely);
        run(&mut apart, replies.into_iter().map(|reply| vec![reply]));
        let together: Vec<_> = together.said.into_values().collect();
        let apart: Vec<_> = apart.said.into_values().collect();
        prop_assert_eq!(together, apart);
    }
}
