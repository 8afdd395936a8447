//! Drafts and shared prefixes in the scheduler: what they save, and that they change no token.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::tests::{Bench, RandomReply, any_sequence};
use super::*;
use crate::engine::prefix_cache::PREFIX_TOKENS;
use crate::engine::scripted::{Call, Reply};
use crate::engine::tests::{GREEDY, about, config, facts, job, picture, sampled, spec};
use crate::engine::{Rule, Sampling, SequenceSpec};

/// A model that says the same few sentences again and again, as reports do, each with a word of its own.
fn formulaic() -> Reply {
    Reply::ByPrompt(Box::new(|prompt| {
        let own = prompt.iter().fold(7, |sum, id| (sum * 31 + id) % 9);
        let sentence = |n: u32| (0..6).map(move |i| 1 + (n * 5 + i) % 50);
        let sentences = [own % 3, 3, own % 2, 3, 4];
        sentences.into_iter().flat_map(sentence).chain([own, 60]).collect()
    }))
}

/// The tokens of all replies, and the counters, of jobs that join three steps apart.
fn replies(speculation: bool, reply: Reply, jobs: &[Job]) -> (BTreeMap<(JobId, usize), Vec<u32>>, Counters) {
    replies_of(facts(), speculation, reply, jobs)
}

/// The same, of a backend of which this is known.
fn replies_of(
    facts: Facts,
    speculation: bool,
    reply: Reply,
    jobs: &[Job],
) -> (BTreeMap<(JobId, usize), Vec<u32>>, Counters) {
    let config = EngineConfig {
        speculation,
        ..config()
    };
    // Prefixes are shared in the one case only, too.
    let prefix_tokens = if speculation { PREFIX_TOKENS } else { 0 };
    let facts = Facts { prefix_tokens, ..facts };
    let mut bench = Bench::with(config, facts, reply);
    for asked in jobs {
        bench.submit(asked.clone());
        for _ in 0..3 {
            bench.step();
            bench.see();
        }
    }
    bench.finish().unwrap();
    assert_eq!(bench.scheduler.kv().used(), 0);
    (bench.said, bench.scheduler.counters())
}

/// Replies about images, so that later ones draft from earlier ones.
fn reports(count: u64, seed: impl Fn(u64) -> Sampling) -> Vec<Job> {
    let report = |n: u64| Job {
        images: vec![picture(n as u8)],
        ..job(vec![SequenceSpec {
            sampling: seed(n),
            ..about(0, 40)
        }])
    };
    (0..count).map(report).collect()
}

#[test]
fn drafts_of_formulaic_replies_save_steps_and_change_no_token() {
    for seed in [(|_| GREEDY) as fn(u64) -> Sampling, sampled] {
        let jobs = reports(12, seed);
        let (with, drafted) = replies(true, formulaic(), &jobs);
        let (without, plain) = replies(false, formulaic(), &jobs);
        assert_eq!(with, without);
        let device = Facts {
            samples_on_device: true,
            ..facts()
        };
        let (sampled, counters) = replies_of(device, true, formulaic(), &jobs);
        assert_eq!(sampled, without, "sampled by the backend");
        assert_eq!(counters.accepted_tokens, drafted.accepted_tokens);
        assert_eq!((plain.drafted_tokens, plain.accepted_tokens), (0, 0));
        assert!(drafted.accepted_tokens * 5 > drafted.drafted_tokens * 2, "{drafted:?}");
        assert!(drafted.accepted_tokens * 3 > drafted.tokens_generated, "{drafted:?}");
        assert!(
            drafted.steps < plain.steps,
            "{} of {} steps",
            drafted.steps,
            plain.steps
        );
        assert_eq!(drafted.tokens_generated, plain.tokens_generated);
    }
}

#[test]
fn where_drafts_fail_sequences_stop_drafting() {
    // Every reply repeats itself for a while and then goes on otherwise.
    let fickle = || {
        Reply::ByPrompt(Box::new(|_| {
            (0..120u32)
                .map(|i| if i % 4 == 3 { 10 + i % 47 } else { 1 + i % 4 })
                .collect()
        }))
    };
    let (with, drafted) = replies(true, fickle(), &[job(vec![spec(&[7], Rule::Text, 120)])]);
    assert_eq!(
        with,
        replies(false, fickle(), &[job(vec![spec(&[7], Rule::Text, 120)])]).0
    );
    assert!(drafted.drafted_tokens > 0 && drafted.drafted_tokens < 60, "{drafted:?}");
}

#[test]
fn a_reply_whose_draft_reaches_its_limit_stays_within_its_memory() {
    // The backend refuses a segment that leaves its span.
    for max in 1..20 {
        let (said, _) = replies(
            true,
            Reply::Tokens(vec![1]),
            &[job(vec![spec(&[7, 1, 1, 1, 1], Rule::Text, max)])],
        );
        assert_eq!(said[&(0, 0)], vec![1; max]);
    }
}

#[test]
fn full_batches_leave_no_room_for_drafts() {
    let config = EngineConfig {
        max_batch: Some(12),
        idle_prefill_chunk: 64,
        ..config()
    };
    let facts = Facts {
        kv_tokens: 2048,
        ..facts()
    };
    let mut bench = Bench::with(config, facts, Reply::Tokens(vec![1]));
    bench.submit(job(vec![spec(&[7, 1, 1, 1, 1], Rule::Text, 60); 9]));
    bench.finish().unwrap();
    assert_eq!(bench.scheduler.counters().drafted_tokens, 0);
}

#[test]
fn sampled_tokens_have_the_same_distribution_with_drafts_and_without() {
    // The second token of many replies about one image: what came in earlier replies is drafted there.
    let count = |speculation: bool, offset: u64| {
        let ask = |n: u64| Job {
            images: vec![picture(1)],
            ..job(vec![SequenceSpec {
                sampling: Sampling {
                    temperature: 1.0,
                    top_p: 1.0,
                    top_k: 0,
                    seed: n + offset,
                    guidance: 1.0,
                },
                ..about(0, 3)
            }])
        };
        let jobs: Vec<Job> = (0..1500).map(ask).collect();
        let (said, counters) = replies(speculation, Reply::Hashed, &jobs);
        assert_eq!(counters.drafted_tokens > 300, speculation, "{counters:?}");
        let mut counts = BTreeMap::<u32, f64>::new();
        for id in said.values().filter_map(|reply| reply.get(1)) {
            *counts.entry(*id).or_default() += 1.0;
        }
        counts
    };
    // Other seeds: what is compared is the distribution.
    let (with, without) = (count(true, 0), count(false, 10_000));
    let (n, m) = (with.values().sum::<f64>(), without.values().sum::<f64>());
    let term = |id: u32| {
        let (a, b) = (
            with.get(&id).copied().unwrap_or(0.0),
            without.get(&id).copied().unwrap_or(0.0),
        );
        (a + b > 0.0).then(|| ((m / n).sqrt() * a - (n / m).sqrt() * b).powi(2) / (a + b))
    };
    let statistic: f64 = (0..64).filter_map(term).sum();
    // Chi-square of two samples over 64 ids: the 99.99th percentile at 63 degrees of freedom is 113.
    assert!(statistic < 113.0, "{statistic}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn any_mixture_of_requests_says_the_same_with_drafts_and_without(plans in prop::collection::vec(prop::collection::vec(any_sequence(), 1..3), 1..10)) {
        let jobs: Vec<Job> = plans.iter().map(|plans| {
            let sequences = plans.iter().map(RandomReply::spec).collect();
            Job { images: vec![picture(3)], ..job(sequences) }
        }).collect();
        for reply in [formulaic as fn() -> Reply, || Reply::Hashed] {
            let (with, drafted) = replies(true, reply(), &jobs);
            let (without, _) = replies(false, reply(), &jobs);
            let device = Facts { samples_on_device: true, ..facts() };
            let (sampled, _) = replies_of(device, true, reply(), &jobs);
            prop_assert_eq!(&sampled, &without, "sampled by the backend");
            prop_assert_eq!(with, without);
            prop_assert!(drafted.accepted_tokens <= drafted.drafted_tokens);
        }
    }
}

#[test]
fn the_prefix_of_a_prompt_is_run_once_and_copied_from_then_on() {
    let run = |prefix_tokens: usize, jobs: &[Job]| {
        let facts = Facts {
            prefix_tokens,
            ..facts()
        };
        let mut bench = Bench::with(config(), facts, Reply::Hashed);
        for asked in jobs {
            bench.submit(asked.clone());
            bench.finish().unwrap();
        }
        let run = |call: Call| match call {
            Call::Step(parts) => parts
                .iter()
                .filter(|part| part.logits == 0 || part.tokens > 1)
                .map(|part| part.position)
                .collect(),
            _ => Vec::new(),
        };
        let starts: Vec<usize> = bench.controls.calls().into_iter().flat_map(run).collect();
        (bench.said, bench.scheduler.counters().prompt_tokens, starts)
    };
    let jobs = reports(4, |_| GREEDY);
    let (shared, ran, starts) = run(PREFIX_TOKENS, &jobs);
    let (plain, ran_plain, _) = run(0, &jobs);
    assert_eq!(shared, plain);
    assert_eq!(
        ran_plain - ran,
        3 * 2,
        "all but the first skip the prefix of two tokens"
    );
    assert_eq!(starts.iter().filter(|&&at| at == 0).count(), 1);
}

#[test]
fn a_failed_step_forgets_the_prefixes_that_were_kept() {
    let with_prefixes = Facts {
        prefix_tokens: PREFIX_TOKENS,
        ..facts()
    };
    let mut bench = Bench::with(config(), with_prefixes, Reply::Hashed);
    for (number, asked) in reports(3, |_| GREEDY).into_iter().enumerate() {
        if number == 1 {
            bench
                .controls
                .fail_step(bench.controls.steps(), crate::engine::scripted::Fault::Error);
        }
        bench.submit(asked);
        bench.finish().unwrap();
    }
    // The prompt of `about`: a prefix of two tokens, the codes, two more.
    let prompt = 4 + facts().codes_per_image as u64;
    assert_eq!(
        bench.scheduler.counters().prompt_tokens,
        2 * prompt,
        "the third ran its prefix again"
    );
}

#[test]
fn running_streams_get_a_token_in_every_step_while_a_long_prompt_is_run() {
    let config = EngineConfig {
        max_batch: Some(9),
        ..config()
    };
    let facts = Facts {
        kv_tokens: 4096,
        context: 512,
        ..facts()
    };
    let mut bench = Bench::with(config.clone(), facts, Reply::Tokens(vec![1]));
    let streams: Vec<JobId> = (0..8)
        .map(|n| bench.submit(job(vec![spec(&[7, n], Rule::Text, 200)])))
        .collect();
    let said = |bench: &Bench, id: JobId| bench.said.get(&(id, 0)).map_or(0, Vec::len);
    while streams.iter().any(|&id| said(&bench, id) == 0) {
        bench.step();
    }
    let arriving = bench.submit(job(vec![spec(&[9; 340], Rule::Text, 5)]));
    let mut steps = 0;
    while said(&bench, arriving) == 0 {
        let before: Vec<usize> = streams.iter().map(|&id| said(&bench, id)).collect();
        let prompt = bench.scheduler.counters().prompt_tokens;
        bench.step();
        steps += 1;
        let prompt = bench.scheduler.counters().prompt_tokens - prompt;
        assert!(
            prompt as usize <= config.prefill_chunk.unwrap_or(128),
            "{prompt} prompt tokens in a step"
        );
        let stalled = streams
            .iter()
            .zip(before)
            .filter(|&(&id, before)| said(&bench, id) == before);
        assert_eq!(stalled.count(), 0);
    }
    assert_eq!(steps, 340_usize.div_ceil(config.prefill_chunk.unwrap_or(128)));
    bench.finish().unwrap();
}
