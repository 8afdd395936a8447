//! The scheduler driven turn by turn with the scripted backend, in one thread.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::engine::drafts::STEP_ROWS;
use crate::engine::scripted::{Fault, Reply, ScriptedBackend};
use crate::engine::tests::{GREEDY, about, config, facts, job, picture, rules, sampled, spec};
use crate::engine::{Backend, Rule, Sampling};

/// A scheduler with its backend and what became of each job.
struct Bench {
    scheduler: Scheduler,
    backend: ScriptedBackend,
    controls: crate::engine::scripted::Controls,
    now: Instant,
    next: JobId,
    /// Terminal events of each job, and whether anything came after them.
    ends: BTreeMap<JobId, usize>,
    broken: Option<String>,
    speculates: bool,
    /// Tokens of each reply.
    said: BTreeMap<(JobId, usize), Vec<u32>>,
}

impl Bench {
    fn new(facts: Facts, reply: Reply) -> Self {
        Self::with(config(), facts, reply)
    }

    fn with(config: EngineConfig, facts: Facts, reply: Reply) -> Self {
        let (backend, controls) = ScriptedBackend::new(facts.clone(), reply);
        Self {
            speculates: config.speculation,
            said: BTreeMap::new(),
            scheduler: Scheduler::new(&config, Arc::new(facts), rules()),
            backend,
            controls,
            now: Instant::now(),
            next: 0,
            ends: BTreeMap::new(),
            broken: None,
        }
    }

    fn submit(&mut self, job: Job) -> JobId {
        let id = self.next;
        self.next += 1;
        self.ends.insert(id, 0);
        self.scheduler.join(id, job, self.now);
        id
    }

    fn listen(&mut self) {
        for (id, event) in self.scheduler.take().events {
            if let Event::Token { sequence, id: token } = event {
                self.said.entry((id, sequence)).or_default().push(token);
            }
            let ends = self.ends.entry(id).or_default();
            if *ends > 0 {
                self.broken = Some(format!("job {id} heard {event:?} after its end"));
            }
            if matches!(event, Event::Done | Event::Failed(_)) {
                *ends += 1;
            }
        }
    }

    /// One token step; says whether there was one.
    fn step(&mut self) -> bool {
        self.now += Duration::from_millis(1);
        let plan = self.scheduler.plan(self.now);
        if plan.is_empty() {
            return false;
        }
        let segments = self.scheduler.segments(&plan);
        let phases = || self.scheduler.sequences.values().map(|sequence| sequence.phase);
        let prefilling = |span| phases().any(|phase| phase == Phase::Prefilling(span));
        let decoding = phases().filter(|phase| matches!(phase, Phase::Decoding(_))).count();
        let (prompts, others): (Vec<_>, Vec<_>) = segments.iter().partition(|part| prefilling(part.span));
        let chunk = if decoding > 0 {
            config().prefill_chunk
        } else {
            config().idle_prefill_chunk
        };
        if prompts.iter().map(|part| part.tokens.len()).sum::<usize>() > chunk {
            self.broken = Some("too many prompt tokens in a step".into());
        }
        if prompts.iter().any(|part| part.position % config().prefill_chunk != 0) {
            self.broken = Some("a prompt was cut where it would not be cut alone".into());
        }
        if others.len() != decoding || others.iter().any(|part| part.tokens.is_empty()) {
            self.broken = Some("not every decoding sequence runs a token".into());
        }
        let rows: usize = others.iter().map(|part| part.tokens.len()).sum();
        if rows > STEP_ROWS.max(decoding) || (!self.speculates && rows > decoding) {
            self.broken = Some("drafts take more rows than there are".into());
        }
        if plan.len() > config().max_batch || segments.len() != plan.len() {
            self.broken = Some("the batch is too large, or a segment is missing".into());
        }
        match self.backend.step(&segments) {
            Ok(logits) => {
                if let Err(why) = self.scheduler.absorb(&plan, &logits, self.now, self.now) {
                    self.scheduler.fail_step(&plan, &EngineError::Step(why));
                }
            }
            Err(error) => {
                if error.0.contains("contract") {
                    self.broken = Some(error.0.clone());
                }
                self.scheduler.fail_step(&plan, &EngineError::Step(error.0));
            }
        }
        self.listen();
        true
    }

    /// One slice of a pass; says whether there was one.
    fn see(&mut self) -> bool {
        if self.scheduler.drop_orphaned_pass() {
            self.backend.vision_cancel();
        }
        if !self.scheduler.has_vision_work() {
            return false;
        }
        let mut result = Ok(());
        if let Some(work) = self.scheduler.begin_vision(self.now) {
            result = self.backend.vision_begin(work);
        }
        match result.and_then(|()| self.backend.vision_advance()) {
            Ok(None) => {}
            Ok(Some(output)) => drop(self.scheduler.finish_vision(output, self.now)),
            Err(error) => {
                if error.0.contains("contract") {
                    self.broken = Some(error.0.clone());
                }
                self.backend.vision_cancel();
                self.scheduler.fail_vision(&EngineError::Step(error.0));
            }
        }
        self.listen();
        true
    }

    /// Runs until nothing is left; fails when nothing moves although something is left.
    fn finish(&mut self) -> Result<(), String> {
        for _ in 0..20_000 {
            let moved = self.step() | self.see();
            if self.scheduler.is_empty() {
                self.see();
                return self.broken.clone().map_or(Ok(()), Err);
            }
            if !moved {
                return Err("jobs are left and nothing can move".into());
            }
        }
        Err("the work does not come to an end".into())
    }
}

fn any_sequence() -> impl Strategy<Value = RandomReply> {
    (
        1usize..60,
        0u8..3,
        1usize..50,
        any::<bool>(),
        prop::option::of(0u64..50),
    )
        .prop_map(|(prompt, rule, max, image, seed)| RandomReply {
            prompt,
            rule,
            max,
            image,
            seed,
        })
}

/// What a random sequence is made of.
#[derive(Clone, Debug)]
struct RandomReply {
    prompt: usize,
    rule: u8,
    max: usize,
    image: bool,
    seed: Option<u64>,
}

impl RandomReply {
    fn spec(&self) -> crate::engine::SequenceSpec {
        let (rule, max) = match self.rule {
            0 => (Rule::Text, self.max),
            1 => (Rule::Image, 19),
            _ => (Rule::Free, self.max),
        };
        let prompt: Vec<u32> = (0..self.prompt as u32).map(|i| i % 60).collect();
        let base = if self.image {
            about(0, max)
        } else {
            spec(&prompt, rule, max)
        };
        let sampling: Sampling = self.seed.map_or(GREEDY, sampled);
        crate::engine::SequenceSpec {
            rule,
            max_new_tokens: max.max(if rule == Rule::Image { 19 } else { 1 }),
            sampling,
            ..base
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Submit(Vec<RandomReply>, usize),
    Step,
    See,
    Cancel(prop::sample::Index),
    FaultyStep(Fault),
    FaultyPass,
}

/// What may happen to a scheduler. (Panics are the worker's to catch.)
fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (prop::collection::vec(any_sequence(), 0..4), 0usize..3).prop_map(|(s, codes)| Op::Submit(s, codes)),
        12 => Just(Op::Step),
        6 => Just(Op::See),
        2 => any::<prop::sample::Index>().prop_map(Op::Cancel),
        1 => prop_oneof![Just(Fault::Error), Just(Fault::Nonsense)].prop_map(Op::FaultyStep),
        1 => Just(Op::FaultyPass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn nothing_leaks_nothing_starves_and_each_job_ends_once(ops in prop::collection::vec(any_op(), 1..120)) {
        let mut bench = Bench::new(facts(), Reply::Hashed);
        let mut cancelled = std::collections::BTreeSet::new();
        let mut passes = 0;
        for op in ops {
            match op {
                Op::Submit(plans, codes) => {
                    let sequences: Vec<_> = plans.iter().map(RandomReply::spec).collect();
                    let asked = Job { images: vec![picture(3)], codes: vec![vec![1; 16]; codes], ..job(sequences) };
                    bench.submit(asked);
                }
                Op::Step => drop(bench.step()),
                Op::See => drop(bench.see()),
                Op::Cancel(pick) if bench.next > 0 => {
                    let id = pick.index(bench.next as usize) as JobId;
                    if bench.ends.get(&id) == Some(&0) {
                        bench.scheduler.remove(id);
                        cancelled.insert(id);
                    }
                }
                Op::Cancel(_) => {}
                Op::FaultyStep(fault) => {
                    bench.controls.fail_step(bench.controls.steps(), fault);
                    bench.step();
                }
                Op::FaultyPass => {
                    bench.controls.fail_pass(passes, Fault::Error);
                    passes += 2;
                    bench.see();
                }
            }
            prop_assert_eq!(bench.broken.clone(), None);
            prop_assert!(bench.scheduler.kv().used() <= bench.scheduler.kv().total());
        }
        prop_assert_eq!(bench.finish(), Ok(()));
        for (id, ends) in &bench.ends {
            prop_assert_eq!(*ends, usize::from(!cancelled.contains(id)), "job {}", id);
        }
        prop_assert_eq!(bench.scheduler.kv().used(), 0);
        prop_assert!(bench.scheduler.sequences.is_empty() && !bench.scheduler.has_vision_work());
        let room = bench.scheduler.room();
        prop_assert_eq!((room.seats, room.vision), (config().max_batch, 2 * facts().vision_batch));
    }
}

#[test]
fn a_large_request_is_not_starved_by_a_stream_of_small_ones() {
    let mut bench = Bench::new(
        Facts {
            kv_tokens: 64,
            ..facts()
        },
        Reply::Tokens(vec![1]),
    );
    let small = || job(vec![spec(&[7; 8], Rule::Text, 12)]);
    bench.submit(small());
    bench.submit(small());
    bench.step();
    let large = bench.submit(job(vec![spec(&[7; 40], Rule::Text, 24)]));
    for _ in 0..60 {
        bench.submit(small());
        bench.step();
    }
    assert_eq!(bench.ends[&large], 1);
    bench.finish().unwrap();
}

#[test]
fn who_waits_for_codes_holds_up_nobody() {
    let mut bench = Bench::new(facts(), Reply::Tokens(vec![1]));
    bench.submit(Job {
        images: vec![picture(1)],
        ..job(vec![about(0, 5)])
    });
    let text = bench.submit(job(vec![spec(&[7], Rule::Text, 3)]));
    while bench.step() {}
    assert_eq!(bench.ends[&text], 1);
    bench.finish().unwrap();
}

#[test]
fn prompts_share_the_budget_of_a_step_in_order_of_arrival() {
    let mut bench = Bench::new(facts(), Reply::Tokens(vec![1]));
    for len in [20, 20, 20] {
        bench.submit(job(vec![spec(&vec![7; len], Rule::Text, 9)]));
    }
    let mut sizes = Vec::new();
    for _ in 0..3 {
        let plan = bench.scheduler.plan(bench.now);
        sizes.push(
            bench
                .scheduler
                .segments(&plan)
                .iter()
                .map(|segment| segment.tokens.len())
                .collect::<Vec<_>>(),
        );
        bench.step();
    }
    assert_eq!(sizes, vec![vec![20, 12], vec![1, 8], vec![1, 1, 8]]);
    bench.finish().unwrap();
}

#[test]
fn jobs_join_while_there_is_room_and_wait_in_the_queue_otherwise() {
    let mut bench = Bench::new(facts(), Reply::Tokens(vec![1]));
    let text = |n| job(vec![spec(&[7], Rule::Text, 5); n]);
    let seeing = Job {
        images: vec![picture(1); 8],
        ..job(vec![])
    };
    let mut room = bench.scheduler.room();
    assert!(room.take(&text(3)) && room.take(&seeing) && room.take(&text(2)));
    assert!(!room.take(&text(1)), "the batch is full");
    assert!(
        !room.take(&Job {
            codes: vec![vec![0; 16]],
            ..job(vec![])
        }),
        "two VQ-GAN batches wait"
    );
    bench.submit(text(4));
    assert!(!bench.scheduler.room().take(&text(1)));
    bench.finish().unwrap();
    assert!(bench.scheduler.room().take(&text(1)));
}

#[test]
fn logits_of_the_wrong_size_are_an_error() {
    let mut bench = Bench::new(facts(), Reply::Tokens(vec![1]));
    bench.submit(job(vec![spec(&[7], Rule::Text, 5)]));
    let plan = bench.scheduler.plan(bench.now);
    assert!(bench.scheduler.absorb(&plan, &[0.0; 95], bench.now, bench.now).is_err());
    assert!(bench.scheduler.take().events.is_empty());
}

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
    let config = EngineConfig { speculation, ..config() };
    let mut bench = Bench::with(config, facts(), reply);
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
        ..job(vec![crate::engine::SequenceSpec {
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
        assert_eq!((plain.drafted_tokens, plain.accepted_tokens), (0, 0));
        assert!(drafted.accepted_tokens * 2 > drafted.drafted_tokens, "{drafted:?}");
        assert!(drafted.accepted_tokens * 3 > drafted.tokens_generated, "{drafted:?}");
        assert!(drafted.steps < plain.steps, "{} of {} steps", drafted.steps, plain.steps);
        assert_eq!(drafted.tokens_generated, plain.tokens_generated);
    }
}

#[test]
fn where_drafts_fail_sequences_stop_drafting() {
    // Every reply repeats itself for a while and then goes on otherwise.
    let fickle = || Reply::ByPrompt(Box::new(|_| (0..120u32).map(|i| if i % 4 == 3 { 10 + i % 47 } else { 1 + i % 4 }).collect()));
    let (with, drafted) = replies(true, fickle(), &[job(vec![spec(&[7], Rule::Text, 120)])]);
    assert_eq!(with, replies(false, fickle(), &[job(vec![spec(&[7], Rule::Text, 120)])]).0);
    assert!(drafted.drafted_tokens > 0 && drafted.drafted_tokens < 60, "{drafted:?}");
}

#[test]
fn a_reply_whose_draft_reaches_its_limit_stays_within_its_memory() {
    // The backend refuses a segment that leaves its span.
    for max in 1..20 {
        let (said, _) = replies(true, Reply::Tokens(vec![1]), &[job(vec![spec(&[7, 1, 1, 1, 1], Rule::Text, max)])]);
        assert_eq!(said[&(0, 0)], vec![1; max]);
    }
}

#[test]
fn full_batches_leave_no_room_for_drafts() {
    let config = EngineConfig { max_batch: 12, ..config() };
    let mut bench = Bench::with(config, Facts { kv_tokens: 2048, ..facts() }, Reply::Tokens(vec![1]));
    bench.submit(job(vec![spec(&[7, 1, 1, 1, 1], Rule::Text, 60); 9]));
    bench.finish().unwrap();
    assert_eq!(bench.scheduler.counters().drafted_tokens, 0);
}

#[test]
fn sampled_tokens_have_the_same_distribution_with_drafts_and_without() {
    // A coin of the model: after each prompt two tokens are about as likely, and drafts favour one of them.
    let weight = |counts: &BTreeMap<u32, usize>, id: u32| *counts.get(&id).unwrap_or(&0) as f64;
    let count = |speculation: bool, offset: u64| {
        let jobs: Vec<Job> = (0..300).map(|n| job(vec![crate::engine::SequenceSpec {
            sampling: Sampling { temperature: 1.0, top_p: 1.0, top_k: 0, seed: n + offset },
            ..spec(&[5, 6, 5, 6, 5, 6, 5], Rule::Text, 12)
        }])).collect();
        let (said, counters) = replies(speculation, Reply::Hashed, &jobs);
        assert_eq!(counters.drafted_tokens > 0, speculation);
        let mut counts = BTreeMap::new();
        said.values().flatten().for_each(|id| *counts.entry(*id).or_insert(0) += 1);
        counts
    };
    // Other seeds: what is compared is the distribution.
    let (with, without) = (count(true, 0), count(false, 10_000));
    let (n, m) = (with.values().sum::<usize>() as f64, without.values().sum::<usize>() as f64);
    let statistic: f64 = (0..64).filter_map(|id| {
        let (a, b) = (weight(&with, id), weight(&without, id));
        (a + b > 0.0).then(|| ((m / n).sqrt() * a - (n / m).sqrt() * b).powi(2) / (a + b))
    }).sum();
    // Chi-square of two samples over up to 64 ids: the 99.99th percentile at 63 degrees of freedom is 113.
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
            prop_assert_eq!(with, without);
            prop_assert!(drafted.accepted_tokens <= drafted.drafted_tokens);
        }
    }
}
