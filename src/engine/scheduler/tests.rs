//! The scheduler driven turn by turn with the scripted backend, in one thread.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::engine::drafts::STEP_ROWS;
use crate::engine::prefix_cache::PREFIX_TOKENS;
use crate::engine::scripted::{Fault, Reply, ScriptedBackend};
use crate::engine::tests::{GREEDY, about, config, facts, guided, job, picture, rules, sampled, spec};
use crate::engine::{Backend, Rule, Sampling, Segment, StepOutput};

/// A scheduler with its backend and what became of each job.
pub(super) struct Bench {
    pub(super) scheduler: Scheduler,
    backend: ScriptedBackend,
    pub(super) controls: crate::engine::scripted::Controls,
    now: Instant,
    next: JobId,
    /// Terminal events of each job, and whether anything came after them.
    pub(super) ends: BTreeMap<JobId, usize>,
    broken: Option<String>,
    config: EngineConfig,
    /// Tokens of each reply.
    pub(super) said: BTreeMap<(JobId, usize), Vec<u32>>,
}

impl Bench {
    fn new(facts: Facts, reply: Reply) -> Self {
        Self::with(config(), facts, reply)
    }

    pub(super) fn with(config: EngineConfig, facts: Facts, reply: Reply) -> Self {
        let (backend, controls) = ScriptedBackend::new(facts.clone(), reply);
        Self {
            config: config.clone(),
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

    pub(super) fn submit(&mut self, job: Job) -> JobId {
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
    pub(super) fn step(&mut self) -> bool {
        self.now += Duration::from_millis(1);
        let plan = self.scheduler.plan(self.now);
        if plan.is_empty() {
            if !plan.copies().is_empty() {
                self.broken = Some("copies are planned that nobody makes".into());
            }
            return false;
        }
        let samples = self.scheduler.samples(&plan);
        let segments = self.scheduler.segments(&plan);
        let stages = || self.scheduler.sequences.values().map(|sequence| sequence.stage);
        let prefilling = |span| stages().any(|stage| stage == Stage::Prefilling(span));
        let decoding = stages().filter(|stage| matches!(stage, Stage::Decoding(_))).count();
        let (prompts, others): (Vec<_>, Vec<_>) = segments.iter().partition(|part| prefilling(part.span));
        let chunk = if decoding > 0 {
            self.scheduler.prefill_chunk
        } else {
            self.config.idle_prefill_chunk
        };
        if prompts.iter().map(|part| part.tokens.len()).sum::<usize>() > chunk {
            self.broken = Some("too many prompt tokens in a step".into());
        }
        // `about` has a prefix of two tokens; twins run their last one apart.
        let twin_at = |part: &Segment<'_>| {
            let mut all = self.scheduler.sequences.values();
            all.any(|one| one.span() == Some(part.span) && one.shared() == part.position)
        };
        let usual = |position| position == 2 || position % self.scheduler.prefill_chunk == 0;
        if !self.scheduler.facts.cuts_freely && prompts.iter().any(|part| !usual(part.position) && !twin_at(part)) {
            self.broken = Some("a prompt was cut where it would not be cut alone".into());
        }
        if others.len() != decoding || others.iter().any(|part| part.tokens.is_empty()) {
            self.broken = Some("not every decoding sequence runs a token".into());
        }
        let rows: usize = others.iter().map(|part| part.tokens.len()).sum();
        if rows > STEP_ROWS.max(decoding) || (!self.config.speculation && rows > decoding) {
            self.broken = Some("drafts take more rows than there are".into());
        }
        if plan.len() > self.scheduler.max_batch || segments.len() != plan.len() {
            self.broken = Some("the batch is too large, or a segment is missing".into());
        }
        let backend = &mut self.backend;
        let copied = plan
            .copies()
            .iter()
            .try_for_each(|copy| backend.copy(copy.from, copy.to, copy.len));
        match copied.and_then(|()| backend.step(&segments, &samples)) {
            Ok(output) => {
                if let Err(why) = self.scheduler.absorb(&plan, &output, self.now, self.now) {
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
    pub(super) fn see(&mut self) -> bool {
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
    pub(super) fn finish(&mut self) -> Result<(), String> {
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

pub(super) fn any_sequence() -> impl Strategy<Value = RandomReply> {
    (
        1usize..60,
        0u8..3,
        1usize..50,
        any::<bool>(),
        prop::option::of(0u64..50),
        any::<bool>(),
    )
        .prop_map(|(prompt, rule, max, image, seed, guided)| RandomReply {
            guided,
            prompt,
            rule,
            max,
            image,
            seed,
        })
}

/// What a random sequence is made of.
#[derive(Clone, Debug)]
pub(super) struct RandomReply {
    prompt: usize,
    rule: u8,
    max: usize,
    image: bool,
    seed: Option<u64>,
    /// With guidance, where an image is drawn.
    guided: bool,
}

impl RandomReply {
    pub(super) fn spec(&self) -> crate::engine::SequenceSpec {
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
        let guided = (self.guided && rule == Rule::Image).then(|| guided(&prompt, &[9; 21], sampling));
        let (guide, sampling) = guided.map_or((None, sampling), |with| (with.guide, with.sampling));
        crate::engine::SequenceSpec {
            guide,
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
    fn nothing_leaks_nothing_starves_and_each_job_ends_once(
        ops in prop::collection::vec(any_op(), 1..120), cuts_freely in any::<bool>(), spoils in any::<bool>(),
    ) {
        let with_prefixes = Facts {
            prefix_tokens: PREFIX_TOKENS,
            cuts_freely,
            ..facts()
        };
        let mut bench = Bench::new(with_prefixes, Reply::Hashed);
        if spoils {
            // Some sequences come upon a token whose logits are not finite.
            bench.controls.spoil(17);
        }
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
        prop_assert_eq!((room.seats, room.vision), (bench.scheduler.max_batch, 2 * facts().vision_batch));
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
    for len in [4, 20, 20] {
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
    assert_eq!(sizes, vec![vec![4, 8, 8], vec![1, 8], vec![1, 4]]);
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
fn drawings_join_no_more_while_as_many_wait_for_the_vqgan_as_may() {
    let facts = Facts {
        vision_batch: 1,
        ..facts()
    };
    let mut bench = Bench::new(facts, Reply::Tokens(vec![1]));
    let drawing = || job(vec![spec(&[7], Rule::Image, 19)]);
    let mut room = bench.scheduler.room();
    for _ in 0..3 {
        assert!(room.take(&drawing()));
        bench.submit(drawing());
    }
    // Token steps alone: no drawing gets its turn.
    while bench.step() {}
    assert!(!bench.scheduler.room().take(&drawing()));
    assert!(bench.scheduler.room().take(&job(vec![spec(&[7], Rule::Text, 5)])));
    bench.finish().unwrap();
    assert!(bench.scheduler.room().take(&drawing()));
}

#[test]
fn logits_of_the_wrong_size_are_an_error() {
    let mut bench = Bench::new(facts(), Reply::Tokens(vec![1]));
    bench.submit(job(vec![spec(&[7], Rule::Text, 5)]));
    let plan = bench.scheduler.plan(bench.now);
    let output = StepOutput {
        logits: vec![0.0; 95],
        sampled: Vec::new(),
    };
    assert!(bench.scheduler.absorb(&plan, &output, bench.now, bench.now).is_err());
    assert!(bench.scheduler.take().events.is_empty());
}
