//! A fault ends its batch with a typed error, or the engine with a loud one; never a silent hang.

use super::*;
use crate::engine::scripted::{Call, Fault};

#[tokio::test]
async fn a_fault_in_a_step_fails_that_batch_only() {
    for fault in [Fault::Error, Fault::Panic, Fault::Nonsense] {
        let (engine, controls) = engine(
            EngineConfig {
                max_batch: Some(2),
                ..config()
            },
            facts(),
            says(&[1, 2, END]),
        );
        engine.ready().await.unwrap();
        controls.fail_step(1, fault);
        controls.pause();
        let batch = engine
            .submit(job(vec![spec(&[7], Rule::Text, 20), spec(&[8], Rule::Text, 20)]))
            .unwrap();
        let waiting = engine.submit(job(vec![spec(&[9], Rule::Text, 20)])).unwrap();
        controls.resume();
        let failed = all(batch).await;
        assert!(matches!(error(&failed), Some(EngineError::Step(_))), "{fault:?}");
        assert_eq!(
            failed.iter().filter(|event| matches!(event, Event::Failed(_))).count(),
            1
        );
        assert!(is_done(&all(waiting).await), "{fault:?}");
        engine.idle().await;
        let stats = engine.stats();
        assert_eq!(
            (
                stats.step_faults,
                stats.jobs_failed,
                stats.jobs_done,
                stats.kv_tokens_used
            ),
            (1, 1, 1, 0)
        );
        assert_eq!(engine.state(), EngineState::Ready);
    }
}

#[tokio::test]
async fn logits_that_are_not_finite_fail_their_own_request_and_count_as_no_fault_of_the_step() {
    for samples_on_device in [false, true] {
        let facts = Facts {
            samples_on_device,
            ..facts()
        };
        let (engine, controls) = engine(config(), facts, says(&[1, 2, END]));
        engine.ready().await.unwrap();
        controls.spoil(9);
        // More often than faults in a row end the engine.
        for _ in 0..4 {
            controls.pause();
            let asked = [7, 9, 8].map(|token| engine.submit(job(vec![spec(&[token], Rule::Text, 20)])).unwrap());
            controls.resume();
            let [before, spoilt, behind] = asked;
            for good in [before, behind] {
                let events = all(good).await;
                assert!(is_done(&events), "{:?}", error(&events));
                assert_eq!(tokens(&events, 0), [1, 2, END]);
            }
            let last = error(&all(spoilt).await);
            assert!(
                matches!(&last, Some(EngineError::Step(why)) if why.contains("not finite")),
                "{last:?}"
            );
        }
        engine.idle().await;
        let stats = engine.stats();
        assert_eq!(
            (
                stats.step_faults,
                stats.jobs_failed,
                stats.jobs_done,
                stats.kv_tokens_used
            ),
            (0, 4, 8, 0)
        );
        assert_eq!(engine.state(), EngineState::Ready);
    }
}

#[tokio::test]
async fn a_fault_in_a_vision_pass_fails_its_jobs_only() {
    for fault in [Fault::Error, Fault::Panic, Fault::Nonsense] {
        let (engine, controls) = ready(says(&[1])).await;
        controls.fail_pass(0, fault);
        controls.pause();
        let text = engine.submit(job(vec![spec(&[7], Rule::Text, 20)])).unwrap();
        let seeing = engine
            .submit(Job {
                images: vec![picture(1)],
                ..job(vec![about(0, 5)])
            })
            .unwrap();
        controls.resume();
        assert!(
            matches!(error(&all(seeing).await), Some(EngineError::Step(_))),
            "{fault:?}"
        );
        assert!(is_done(&all(text).await), "{fault:?}");
        let later = engine
            .submit(Job {
                images: vec![picture(1)],
                ..job(vec![about(0, 5)])
            })
            .unwrap();
        assert!(is_done(&all(later).await), "{fault:?}");
        assert_eq!((engine.stats().step_faults, engine.stats().kv_tokens_used), (1, 0));
    }
}

#[tokio::test]
async fn faults_with_good_steps_between_do_not_end_the_engine() {
    let (engine, controls) = ready(says(&[1, END])).await;
    for _ in 0..5 {
        controls.fail_step(controls.steps(), Fault::Error);
        let failed = all(engine.submit(job(vec![spec(&[7], Rule::Text, 20)])).unwrap()).await;
        assert!(matches!(error(&failed), Some(EngineError::Step(_))));
        assert!(is_done(
            &all(engine.submit(job(vec![spec(&[7], Rule::Text, 20)])).unwrap()).await
        ));
    }
    assert_eq!((engine.stats().step_faults, engine.state()), (5, EngineState::Ready));
}

#[tokio::test]
async fn too_many_faults_in_a_row_end_the_engine_and_everybody_is_answered() {
    for fault in [Fault::Error, Fault::Panic, Fault::Nonsense] {
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
        controls.fail_always(Some(fault));
        let asked: Vec<_> = (0..6)
            .map(|_| engine.submit(job(vec![spec(&[7], Rule::Text, 20)])).unwrap())
            .collect();
        controls.resume();
        let why = engine.stopped().await;
        let last = match fault {
            Fault::Error => "scripted fault",
            Fault::Panic => "the model panicked",
            Fault::Nonsense => "the model gave logits that are not finite",
        };
        assert_eq!(why, format!("3 steps in a row failed, the last with: {last}"));
        assert!(matches!(engine.state(), EngineState::Failed(reason) if reason == why));
        for (n, events) in asked.into_iter().enumerate() {
            let last = error(&all(events).await);
            if n < 3 {
                assert!(matches!(last, Some(EngineError::Step(_))), "{last:?}");
            } else {
                assert_eq!(last, Some(EngineError::Stopped));
            }
        }
        assert_eq!(
            engine.submit(job(vec![spec(&[7], Rule::Text, 20)])).err(),
            Some(EngineError::Stopped)
        );
        assert_eq!(engine.health().await, Err(EngineError::Stopped));
        assert_eq!(engine.ready().await.err(), Some(EngineError::Stopped));
        engine.idle().await;
    }
}

#[tokio::test]
async fn too_many_vision_passes_in_a_row_that_fail_end_the_engine_as_such() {
    let (engine, controls) = ready(says(&[1])).await;
    for pass in 0..3 {
        controls.fail_pass(pass, Fault::Error);
        let asked = Job {
            images: vec![picture(1)],
            ..job(vec![])
        };
        let events = all(engine.submit(asked).unwrap()).await;
        assert!(matches!(error(&events), Some(EngineError::Step(_))), "{pass}");
    }
    let why = engine.stopped().await;
    assert_eq!(why, "3 VQ-GAN passes in a row failed, the last with: scripted fault");
}

#[tokio::test]
async fn health_goes_through_the_thread_and_the_device() {
    let (engine, controls) = ready(says(&[1])).await;
    assert_eq!(engine.health().await, Ok(()));
    assert_eq!(controls.calls(), vec![Call::Health]);
    for fault in [Fault::Error, Fault::Panic] {
        controls.fail_always(Some(fault));
        assert!(matches!(engine.health().await, Err(EngineError::Step(_))));
    }
    controls.fail_always(None);
    assert_eq!(engine.health().await, Ok(()));
}

#[tokio::test]
async fn a_step_that_hangs_for_good_is_given_up() {
    let limits = EngineConfig {
        give_up_after: Duration::from_millis(4),
        ..config()
    };
    let (engine, controls) = engine(limits, facts(), says(&[1, END]));
    engine.ready().await.unwrap();
    controls.pause();
    let _events = engine.submit(job(vec![spec(&[7], Rule::Text, 20)])).unwrap();
    assert!(engine.stopped().await.contains("hangs"));
    controls.resume();
}

#[tokio::test]
async fn a_step_that_hangs_makes_the_engine_unhealthy_until_it_returns() {
    let limits = EngineConfig {
        stall_after: Duration::ZERO,
        ..config()
    };
    let (engine, controls) = engine(limits, facts(), says(&[1, END]));
    engine.ready().await.unwrap();
    controls.pause();
    let events = engine.submit(job(vec![spec(&[7], Rule::Text, 20)])).unwrap();
    assert!(controls.wait_for(|calls| !calls.is_empty()));
    while engine.state() == EngineState::Ready {
        std::thread::yield_now();
    }
    assert_eq!(engine.state(), EngineState::Stalled);
    assert_eq!(engine.health().await, Err(EngineError::Stalled));
    assert_eq!(
        engine.submit(job(vec![spec(&[7], Rule::Text, 20)])).err(),
        Some(EngineError::Stalled)
    );
    controls.resume();
    assert!(is_done(&all(events).await));
    engine.idle().await;
    assert_eq!(engine.state(), EngineState::Ready);
}
