//! A departed client frees its slot within one step, wherever its job stands; a late one is answered.

use super::*;
use crate::engine::scripted::Call;

fn steps(calls: &[Call]) -> usize {
    calls.iter().filter(|call| matches!(call, Call::Step(_))).count()
}

/// All is given back, and the job is counted as cancelled.
async fn nothing_is_left(engine: &Engine) {
    engine.idle().await;
    let stats = engine.stats();
    assert_eq!(
        (
            stats.running_sequences,
            stats.running_jobs,
            stats.kv_tokens_used,
            stats.queued_jobs
        ),
        (0, 0, 0, 0)
    );
    assert_eq!((stats.jobs_cancelled, stats.jobs_failed), (1, 0));
}

#[tokio::test]
async fn a_client_that_leaves_the_queue_is_gone_before_the_next_step() {
    let (engine, controls) = engine(
        EngineConfig {
            max_batch: Some(1),
            ..config()
        },
        facts(),
        says(&[1]),
    );
    engine.ready().await.unwrap();
    controls.pause();
    let running = engine.submit(job(vec![spec(&[7], Rule::Text, 50)])).unwrap();
    assert!(controls.wait_for(|calls| steps(calls) == 1));
    let waiting = engine.submit(job(vec![spec(&[8], Rule::Text, 50)])).unwrap();
    assert_eq!(engine.stats().queued_jobs, 1);
    drop(waiting);
    controls.allow(1);
    assert!(controls.wait_for(|calls| steps(calls) == 2));
    assert_eq!(engine.stats().queued_jobs, 0);
    controls.resume();
    assert!(is_done(&all(running).await));
    nothing_is_left(&engine).await;
}

#[tokio::test]
async fn a_client_that_leaves_during_prefill_costs_no_further_step() {
    let (engine, controls) = ready(says(&[1])).await;
    controls.pause();
    let events = engine.submit(job(vec![spec(&[7; 100], Rule::Text, 50)])).unwrap();
    assert!(controls.wait_for(|calls| steps(calls) == 1));
    drop(events);
    controls.allow(1);
    nothing_is_left(&engine).await;
    assert_eq!(controls.steps(), 1);
}

#[tokio::test]
async fn a_client_that_leaves_while_decoding_costs_no_further_step() {
    let (engine, controls) = ready(says(&[1])).await;
    controls.pause();
    controls.allow(1);
    let mut events = engine
        .submit(job(vec![spec(&[7], Rule::Text, 50), spec(&[8], Rule::Text, 50)]))
        .unwrap();
    assert!(matches!(events.next().await, Some(Event::Token { .. })));
    assert!(controls.wait_for(|calls| steps(calls) == 2));
    drop(events);
    controls.allow(1);
    nothing_is_left(&engine).await;
    assert_eq!(controls.steps(), 2);
}

#[tokio::test]
async fn a_client_that_has_enough_costs_no_further_step_and_counts_as_answered() {
    let (engine, controls) = ready(says(&[1])).await;
    controls.pause();
    controls.allow(1);
    let mut events = engine.submit(job(vec![spec(&[7], Rule::Text, 50)])).unwrap();
    assert!(matches!(events.next().await, Some(Event::Token { .. })));
    assert!(controls.wait_for(|calls| steps(calls) == 2));
    events.enough();
    assert!(events.next().await.is_none());
    controls.allow(1);
    engine.idle().await;
    let stats = engine.stats();
    assert_eq!((stats.jobs_done, stats.jobs_cancelled, stats.jobs_failed), (1, 0, 0));
    assert_eq!((stats.running_jobs, stats.kv_tokens_used), (0, 0));
    assert_eq!(controls.steps(), 2);
}

#[tokio::test]
async fn a_client_that_has_enough_of_a_job_that_is_done_counts_once() {
    let (engine, _controls) = ready(says(&[1, END])).await;
    let mut events = engine.submit(job(vec![spec(&[7], Rule::Text, 50)])).unwrap();
    engine.idle().await;
    events.enough();
    drop(events);
    // Another one has been served, so the worker has looked at all who left.
    assert!(is_done(
        &all(engine.submit(job(vec![spec(&[7], Rule::Text, 50)])).unwrap()).await
    ));
    engine.idle().await;
    assert_eq!((engine.stats().jobs_done, engine.stats().jobs_cancelled), (2, 0));
}

#[tokio::test]
async fn a_client_that_leaves_during_encoding_ends_the_pass() {
    let (engine, controls) = ready(says(&[1])).await;
    controls.pause();
    controls.allow(1);
    let asked = Job {
        images: vec![picture(1)],
        ..job(vec![about(0, 10)])
    };
    let events = engine.submit(asked).unwrap();
    assert!(controls.wait_for(|calls| calls.ends_with(&[Call::Encode(1), Call::Slice])));
    drop(events);
    controls.allow(1);
    assert!(controls.wait_for(|calls| calls.ends_with(&[Call::Encode(1), Call::Slice, Call::Cancel])));
    controls.resume();
    nothing_is_left(&engine).await;
    assert_eq!(engine.stats().images_encoded, 0);
}

#[tokio::test]
async fn a_client_that_leaves_during_drawing_ends_the_pass() {
    let (engine, controls) = ready(says(&[70])).await;
    controls.pause();
    controls.allow(18);
    let events = engine.submit(job(vec![spec(&[7], Rule::Image, 19)])).unwrap();
    assert!(controls.wait_for(|calls| calls.ends_with(&[Call::Decode(1), Call::Slice])));
    assert_eq!(
        engine.stats().kv_tokens_used,
        0,
        "a reply that is being drawn holds no KV memory"
    );
    drop(events);
    controls.allow(1);
    assert!(controls.wait_for(|calls| calls.ends_with(&[Call::Slice, Call::Cancel])));
    controls.resume();
    nothing_is_left(&engine).await;
    assert_eq!(engine.stats().images_drawn, 0);
}

#[tokio::test]
async fn a_pass_goes_on_for_those_who_stay() {
    let (engine, controls) = ready(says(&[1, END])).await;
    controls.pause();
    let first = engine
        .submit(Job {
            images: vec![picture(1)],
            ..job(vec![])
        })
        .unwrap();
    assert!(controls.wait_for(|calls| calls.ends_with(&[Call::Encode(1)])));
    // These two share the next pass.
    let stays = engine
        .submit(Job {
            images: vec![picture(2)],
            ..job(vec![])
        })
        .unwrap();
    let leaves = engine
        .submit(Job {
            images: vec![picture(3)],
            ..job(vec![])
        })
        .unwrap();
    controls.allow(4);
    assert!(controls.wait_for(|calls| calls.ends_with(&[Call::Encode(2), Call::Slice])));
    drop(leaves);
    controls.resume();
    assert!(is_done(&all(first).await) && is_done(&all(stays).await));
    nothing_is_left(&engine).await;
    assert!(!controls.calls().contains(&Call::Cancel));
}

#[tokio::test]
async fn a_deadline_ends_a_running_job_with_a_typed_error() {
    // A machine that is too busy to begin the step before the deadline gets more time.
    for doubled in 0..10 {
        let (engine, controls) = ready(says(&[1])).await;
        controls.pause();
        let deadline = std::time::Instant::now() + Duration::from_millis(20u64 << doubled);
        let asked = Job {
            deadline: Some(deadline),
            ..job(vec![spec(&[7], Rule::Text, 50)])
        };
        let Ok(events) = engine.submit(asked) else { continue };
        std::thread::sleep(deadline.saturating_duration_since(std::time::Instant::now()));
        controls.resume();
        engine.idle().await;
        if controls.steps() == 0 {
            continue;
        }
        assert_eq!(controls.steps(), 1);
        assert_eq!(error(&all(events).await), Some(EngineError::DeadlineExceeded));
        assert_eq!((engine.stats().jobs_failed, engine.stats().kv_tokens_used), (1, 0));
        return;
    }
    panic!("no step began within ten seconds");
}

#[tokio::test]
async fn a_deadline_is_answered_even_while_the_device_hangs() {
    let (engine, controls) = ready(says(&[1])).await;
    controls.pause();
    let soon = || Some(std::time::Instant::now() + Duration::from_millis(200));
    let running = engine
        .submit(Job {
            deadline: soon(),
            ..job(vec![spec(&[7], Rule::Text, 50)])
        })
        .unwrap();
    let waiting = engine
        .submit(Job {
            deadline: soon(),
            ..job(vec![spec(&[7], Rule::Text, 50)])
        })
        .unwrap();
    for events in [running, waiting] {
        assert_eq!(error(&all(events).await), Some(EngineError::DeadlineExceeded));
    }
    controls.resume();
    engine.idle().await;
    let stats = engine.stats();
    // Nobody has left: both were told that it is too late.
    assert_eq!(
        (stats.jobs_failed, stats.jobs_cancelled, stats.kv_tokens_used),
        (2, 0, 0)
    );
}
