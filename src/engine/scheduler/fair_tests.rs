//! How a job of many sequences and others share the device.

use proptest::prelude::*;

use super::tests::{Bench, RandomReply, any_sequence};
use super::*;
use crate::engine::queue::Queue;
use crate::engine::scripted::Reply;
use crate::engine::tests::{config, facts, guided, job, sampled, spec};
use crate::engine::{Caller, Rule};

/// Replies of ten tokens, a token a step: nothing is drafted.
fn bench(max_batch: usize) -> Bench {
    let config = EngineConfig {
        max_batch: Some(max_batch),
        speculation: false,
        ..config()
    };
    Bench::with(config, facts(), Reply::Tokens(vec![1]))
}

fn texts(number: usize) -> Job {
    job(vec![spec(&[7], Rule::Text, 10); number])
}

fn ended(bench: &Bench, id: JobId) -> bool {
    bench.ends[&id] == 1
}

/// Replies of the job that have begun.
fn begun(bench: &Bench, id: JobId) -> usize {
    bench.said.keys().filter(|(job, _)| *job == id).count()
}

/// Steps until `met`.
fn steps_until(bench: &mut Bench, met: impl Fn(&Bench) -> bool) -> usize {
    for steps in 0..2000 {
        if met(bench) {
            return steps;
        }
        bench.step();
    }
    panic!("it never comes");
}

#[test]
fn a_small_job_ends_long_before_a_large_one_that_came_first() {
    let mut bench = bench(4);
    let large = bench.submit(texts(40));
    bench.step();
    let small = bench.submit(texts(1));
    let steps = steps_until(&mut bench, |bench| ended(bench, small));
    // The four that run have nine tokens to go, then it is the small one's turn.
    assert_eq!(steps, 19);
    assert!(begun(&bench, large) <= 8, "{} of 40", begun(&bench, large));
    bench.finish().unwrap();
}

#[test]
fn where_one_runs_at_a_time_jobs_take_turns() {
    let mut bench = bench(1);
    let large = bench.submit(texts(5));
    bench.step();
    let small = bench.submit(texts(2));
    steps_until(&mut bench, |bench| ended(bench, small));
    assert_eq!(
        begun(&bench, large),
        3,
        "two before the first of the small one's, one before the second"
    );
    bench.finish().unwrap();
}

#[test]
fn a_large_job_that_is_alone_uses_all_places() {
    let mut bench = bench(4);
    bench.submit(texts(40));
    bench.finish().unwrap();
    assert_eq!(bench.scheduler.counters().steps, 100);
}

#[test]
fn others_join_beside_a_large_job_and_none_while_one_waits_for_its_first_place() {
    let mut bench = bench(4);
    bench.submit(texts(40));
    assert!(!bench.scheduler.room().take(&texts(1)), "it has no place yet");
    bench.step();
    let mut room = bench.scheduler.room();
    assert!(room.take(&texts(1)) && room.take(&texts(1)));
    assert!(!room.take(&texts(1)), "half of the batch is the large one's");
    bench.submit(texts(1));
    assert!(!bench.scheduler.room().take(&texts(1)));
    bench.finish().unwrap();
}

/// Jobs, by their sequences, that join from a queue.
fn joining(bench: &Bench, waiting: &[usize]) -> Vec<usize> {
    let mut queue = Queue::new(10, 10);
    for &number in waiting {
        queue
            .push(Caller::ONLY, texts(number), 1, None, Instant::now())
            .unwrap();
    }
    let mut room = bench.scheduler.room();
    let mut joined = Vec::new();
    while let Some(job) = queue.pop_if(|job, place| room.admit(job, place)) {
        joined.push(job.seats());
    }
    joined
}

#[test]
fn small_jobs_pass_a_large_one_that_has_to_wait_and_have_the_next_places() {
    let mut bench = bench(6);
    assert_eq!(joining(&bench, &[6, 1]), [6], "all places are free");
    let large = bench.submit(texts(6));
    bench.step();
    assert_eq!(
        joining(&bench, &[6, 3, 1, 1, 1]),
        [1, 1],
        "two are a third of the batch"
    );
    assert!(joining(&bench, &[2, 1]).is_empty(), "a small one is not passed");
    let small = bench.submit(texts(2));
    assert!(joining(&bench, &[6, 1]).is_empty(), "two have no place yet");
    steps_until(&mut bench, |bench| ended(bench, large));
    bench.step();
    assert_eq!(joining(&bench, &[6]), [6]);
    let next = bench.submit(texts(6));
    steps_until(&mut bench, |bench| ended(bench, small));
    assert!(!ended(&bench, next));
    bench.finish().unwrap();
}

#[test]
fn few_large_jobs_run_at_a_time() {
    let mut bench = bench(8);
    let mut joined = 0;
    for _ in 0..60 {
        while bench.scheduler.room().take(&texts(40)) {
            bench.submit(texts(40));
            joined += 1;
        }
        bench.step();
    }
    assert_eq!(joined, 4);
    bench.finish().unwrap();
}

#[test]
fn a_small_job_joins_though_as_many_large_ones_take_turns_as_may() {
    let mut bench = bench(8);
    let mut large = Vec::new();
    for _ in 0..60 {
        while bench.scheduler.room().take(&texts(40)) {
            large.push(bench.submit(texts(40)));
        }
        bench.step();
    }
    assert_eq!(large.len(), 4);
    assert!(joining(&bench, &[40]).is_empty());
    // Where each of them has a place: whoever has none yet comes first.
    steps_until(&mut bench, |bench| joining(bench, &[40, 1]) == [1]);
    assert_eq!(
        joining(&bench, &[1, 1, 1]),
        [1, 1],
        "or none; two are a third of the batch"
    );
    let small = bench.submit(texts(1));
    steps_until(&mut bench, |bench| ended(bench, small));
    assert!(large.iter().all(|&id| !ended(&bench, id)));
    bench.finish().unwrap();
}

#[test]
fn a_stream_of_small_jobs_does_not_starve_a_large_one() {
    for max_batch in [1, 4] {
        let mut bench = bench(max_batch);
        let large = bench.submit(texts(40));
        let mut small = Vec::new();
        let mut steps = 0;
        while !ended(&bench, large) {
            while bench.scheduler.room().take(&texts(1)) {
                small.push(bench.submit(texts(1)));
            }
            bench.step();
            steps += 1;
            // Alone it takes 400 steps by one, 100 by four.
            assert!(steps <= 1200 / max_batch, "it starves");
        }
        let answered = small.iter().filter(|&&id| ended(&bench, id)).count();
        assert!(answered >= 10, "only {answered} small jobs were answered meanwhile");
        bench.finish().unwrap();
    }
}

#[test]
fn a_sequence_that_does_not_fit_holds_the_line_until_it_does() {
    let mut bench = bench(4);
    // Most of the memory, then what does not fit beside it.
    bench.submit(job(vec![
        spec(&[7; 200], Rule::Text, 10),
        spec(&[8; 100], Rule::Text, 10),
    ]));
    bench.step();
    let large = bench.submit(job(vec![spec(&[7; 240], Rule::Text, 10); 2]));
    let mut small = Vec::new();
    for _ in 0..600 {
        small.push(bench.submit(texts(1)));
        bench.step();
    }
    assert!(ended(&bench, large), "small ones overtook it");
    assert!(small.iter().any(|&id| ended(&bench, id)));
    bench.finish().unwrap();
}

#[test]
fn the_prompt_of_a_small_job_is_not_behind_all_prompts_of_a_large_one() {
    let mut bench = bench(8);
    let prompts = |ids: std::ops::Range<u32>| job(ids.map(|id| spec(&[id; 40], Rule::Text, 5)).collect());
    bench.submit(job(vec![spec(&[50], Rule::Text, 100)]));
    bench.step();
    // Beside what runs a step takes 8 tokens of a prompt.
    let large = bench.submit(prompts(1..7));
    let small = bench.submit(prompts(9..10));
    let steps = steps_until(&mut bench, |bench| begun(bench, small) == 1);
    assert_eq!((steps, begun(&bench, large)), (10, 1));
    bench.finish().unwrap();
}

#[test]
fn guided_pairs_take_turns_and_stay_together() {
    let mut bench = bench(4);
    let drawings = |number: u64| {
        job((0..number)
            .map(|seed| guided(&[7; 9], &[9; 5], sampled(seed)))
            .collect())
    };
    let large = bench.submit(drawings(6));
    bench.step();
    let small = bench.submit(drawings(1));
    while !ended(&bench, small) {
        assert!(bench.step() | bench.see(), "nothing moves");
    }
    assert!(!ended(&bench, large) && begun(&bench, large) <= 5);
    bench.finish().unwrap();
    assert_eq!(bench.scheduler.kv().used(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn whoever_a_large_job_shares_the_device_with_all_say_what_they_say_alone(
        plans in prop::collection::vec(prop::collection::vec(any_sequence(), 1..12), 1..4), max_batch in 2usize..6,
    ) {
        let jobs: Vec<Job> = plans.iter().map(|plans| Job {
            images: vec![crate::engine::tests::picture(3)],
            ..job(plans.iter().map(RandomReply::spec).collect())
        }).collect();
        let hashed = || {
            let config = EngineConfig { max_batch: Some(max_batch), ..config() };
            Bench::with(config, facts(), Reply::Hashed)
        };
        let mut together = hashed();
        for asked in &jobs {
            together.submit(asked.clone());
            together.step();
        }
        prop_assert_eq!(together.finish(), Ok(()));
        prop_assert_eq!(together.scheduler.kv().used(), 0);
        let mut apart = hashed();
        for asked in &jobs {
            apart.submit(asked.clone());
            prop_assert_eq!(apart.finish(), Ok(()));
        }
        prop_assert_eq!(together.said, apart.said);
    }
}
