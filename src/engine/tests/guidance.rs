//! Drawings with guidance: two prompts, one reply.

use super::*;
use crate::engine::{Backend, Segment, Span};

/// Logits after these tokens.
fn after(backend: &mut ScriptedBackend, tokens: &[TokenId]) -> Vec<f32> {
    let span = Span { start: 0, len: 256 };
    let segment = Segment {
        span,
        position: 0,
        tokens,
        logits: 1,
    };
    backend.step(&[segment], &[]).unwrap().logits
}

#[tokio::test]
async fn a_guided_drawing_takes_what_its_prompt_favours_over_the_guide() {
    let (prompt, guide): ([TokenId; 40], [TokenId; 3]) = ([7; 40], [1, 2, 3]);
    let (engine, _controls) = ready(Reply::Hashed).await;
    let events = all(engine.submit(job(vec![guided(&prompt, &guide, GREEDY)])).unwrap()).await;
    assert!(is_done(&events));
    let said = tokens(&events, 0);
    assert_eq!(said.len(), 19);
    let (mut alone, _) = ScriptedBackend::new(facts(), Reply::Hashed);
    let mut plainly = 0;
    for at in 1..17 {
        let with = |begin: &[TokenId]| [begin, &said[..at]].concat();
        let c = after(&mut alone, &with(&prompt));
        let u = after(&mut alone, &with(&guide));
        let best = |score: &dyn Fn(usize) -> f32| {
            (64..96)
                .max_by(|&a, &b| score(a).total_cmp(&score(b)).then(b.cmp(&a)))
                .unwrap() as TokenId
        };
        assert_eq!(said[at], best(&|id| u[id] + 3.0 * (c[id] - u[id])), "token {at}");
        plainly += usize::from(said[at] == best(&|id| c[id]));
    }
    assert!(plainly < 16, "guidance changed nothing");
}

#[tokio::test]
async fn pairs_wait_for_memory_and_places_together_and_all_are_drawn() {
    // Room for one pair at a time, then for a single place in the batch.
    for (kv_tokens, max_batch) in [(130, 4), (512, 1), (512, 3)] {
        let (engine, _controls) = engine(
            EngineConfig {
                max_batch: Some(max_batch),
                ..config()
            },
            Facts { kv_tokens, ..facts() },
            Reply::Hashed,
        );
        engine.ready().await.unwrap();
        let jobs = (0..4u32).map(|n| {
            let prompt = vec![n + 1; 30 + n as usize];
            let both = vec![
                guided(&prompt, &[9; 12], sampled(u64::from(n))),
                spec(&prompt, Rule::Text, 9),
            ];
            engine.submit(job(both)).unwrap()
        });
        for events in jobs.collect::<Vec<_>>() {
            let events = all(events).await;
            assert!(is_done(&events), "{events:?}");
            let drawn = events.iter().filter(|event| matches!(event, Event::Drawn { .. }));
            assert_eq!((drawn.count(), tokens(&events, 0).len()), (1, 19));
        }
        // Told a turn later.
        let free = async {
            while engine.stats().kv_tokens_used > 0 {
                tokio::task::yield_now().await
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(10), free).await;
        assert!(waited.is_ok(), "the guides' memory is not free again");
    }
}

#[tokio::test]
async fn a_pair_that_never_fits_is_refused_with_both_prompts_counted() {
    let small = Facts {
        kv_tokens: 60,
        ..facts()
    };
    let (engine, _controls) = engine(config(), small, Reply::Hashed);
    engine.ready().await.unwrap();
    let error = engine
        .submit(job(vec![guided(&[7; 20], &[8; 10], GREEDY)]))
        .err()
        .unwrap();
    assert!(error.to_string().contains("needs 68 tokens"), "{error}");
}
