//! Who is served beside a request changes when its tokens come, never which.

use super::*;
use crate::engine::scripted::{Call, SegmentRecord};

/// Requests of every kind, each with its own seed.
fn requests() -> Vec<Job> {
    let with = |seed: u64, spec: SequenceSpec| SequenceSpec {
        sampling: sampled(seed),
        ..spec
    };
    (0..12u32)
        .map(|n| {
            let seed = u64::from(n) + 100;
            let prompt: Vec<TokenId> = (0..1 + n * 5).map(|i| (i * 7 + n) % 60).collect();
            match n % 4 {
                0 => job(vec![with(seed, spec(&prompt, Rule::Text, 40))]),
                1 if n > 4 => job(vec![
                    guided(&prompt, &prompt[..1 + n as usize], sampled(seed)),
                    with(seed + 50, spec(&prompt, Rule::Free, 30)),
                ]),
                1 => job(vec![
                    with(seed, spec(&prompt, Rule::Image, 19)),
                    with(seed + 50, spec(&prompt, Rule::Free, 30)),
                ]),
                2 => Job {
                    images: vec![picture(n as u8)],
                    ..job(vec![with(seed, about(0, 30))])
                },
                _ => job(vec![spec(&prompt, Rule::Free, 25)]),
            }
        })
        .collect()
}

#[tokio::test]
async fn the_same_request_and_seed_give_the_same_tokens_alone_or_in_any_company() {
    let (engine, _controls) = engine(
        EngineConfig {
            queue_jobs: 64,
            ..config()
        },
        facts(),
        Reply::Hashed,
    );
    engine.ready().await.unwrap();
    let mut alone = Vec::new();
    for request in requests() {
        alone.push(all(engine.submit(request).unwrap()).await);
    }
    for turn in 0..3 {
        let mut order: Vec<usize> = (0..alone.len()).collect();
        order.rotate_left(turn * 5);
        if turn == 2 {
            order.reverse();
        }
        let submitted: Vec<_> = order
            .iter()
            .map(|&n| (n, engine.submit(requests().swap_remove(n)).unwrap()))
            .collect();
        for (n, events) in submitted {
            let company = all(events).await;
            assert!(is_done(&company) && is_done(&alone[n]));
            for sequence in 0..2 {
                assert_eq!(tokens(&company, sequence), tokens(&alone[n], sequence), "request {n}");
            }
            let drawn = |events: &[Event]| -> Vec<Vec<u8>> {
                let pixels = |event: &Event| match event {
                    Event::Drawn { pixels, .. } => Some(pixels.rgb().to_vec()),
                    _ => None,
                };
                events.iter().filter_map(pixels).collect()
            };
            assert_eq!(drawn(&company), drawn(&alone[n]));
        }
    }
}

#[tokio::test]
async fn a_backend_that_samples_gives_the_tokens_that_are_sampled_from_its_logits() {
    let mut all_tokens = Vec::new();
    for samples_on_device in [false, true] {
        let (engine, _controls) = engine(
            EngineConfig {
                queue_jobs: 64,
                ..config()
            },
            Facts {
                samples_on_device,
                ..facts()
            },
            Reply::Hashed,
        );
        engine.ready().await.unwrap();
        let submitted: Vec<_> = requests().into_iter().map(|job| engine.submit(job).unwrap()).collect();
        let mut said = Vec::new();
        for events in submitted {
            let events = all(events).await;
            assert!(is_done(&events));
            said.push([tokens(&events, 0), tokens(&events, 1)]);
        }
        all_tokens.push(said);
    }
    assert_eq!(all_tokens[0], all_tokens[1]);
}

#[tokio::test]
async fn another_seed_gives_other_tokens() {
    let (engine, _controls) = ready(Reply::Hashed).await;
    let with = |seed| {
        job(vec![SequenceSpec {
            sampling: sampled(seed),
            ..spec(&[7, 8], Rule::Image, 19)
        }])
    };
    let (a, b) = (
        all(engine.submit(with(1)).unwrap()).await,
        all(engine.submit(with(2)).unwrap()).await,
    );
    assert_ne!(tokens(&a, 0), tokens(&b, 0));
}

#[tokio::test]
async fn a_long_prompt_does_not_stall_a_running_stream() {
    // With drafts the stream would be over before the prompt is.
    let config = EngineConfig {
        speculation: false,
        ..config()
    };
    let (engine, controls) = engine(config, facts(), says(&[1]));
    engine.ready().await.unwrap();
    controls.pause();
    controls.allow(2);
    let stream = engine.submit(job(vec![spec(&[7], Rule::Text, 60)])).unwrap();
    assert!(controls.wait_for(|calls| calls.len() == 3));
    let long = engine.submit(job(vec![spec(&[8; 150], Rule::Text, 10)])).unwrap();
    controls.resume();
    assert!(is_done(&all(stream).await) && is_done(&all(long).await));
    let calls = controls.calls();
    let parts = |call: &Call| match call {
        Call::Step(parts) => parts.clone(),
        _ => Vec::new(),
    };
    let prompts = |part: &&SegmentRecord| part.span.len == 160 && part.position < 150;
    let chunked: Vec<_> = calls
        .iter()
        .map(parts)
        .filter(|parts| parts.iter().any(|part| prompts(&part)))
        .collect();
    assert_eq!(chunked.len(), 150usize.div_ceil(8), "150 prompt tokens, 8 in a step");
    for parts in chunked {
        assert!(parts.iter().filter(prompts).map(|part| part.tokens).sum::<usize>() <= 8);
        assert!(
            parts.iter().any(|part| part.span.len == 61),
            "the running stream is in every step"
        );
    }
}

#[tokio::test]
async fn sequences_share_steps() {
    let config = EngineConfig {
        speculation: false,
        ..config()
    };
    let (engine, controls) = engine(config, facts(), says(&[1]));
    engine.ready().await.unwrap();
    let events = all(engine.submit(job(vec![spec(&[7], Rule::Text, 10); 4])).unwrap()).await;
    assert!(is_done(&events));
    assert_eq!(controls.steps(), 10);
}
