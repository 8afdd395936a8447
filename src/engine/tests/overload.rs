//! What does not fit is refused at once and clearly; what is admitted is finished.

use super::*;

fn refusal(engine: &Engine, job: Job) -> EngineError {
    engine.submit(job).err().expect("a refusal")
}

#[tokio::test]
async fn overload_is_refused_at_once_while_a_step_is_under_way_and_the_admitted_finish() {
    let limits = EngineConfig {
        queue_jobs: 2,
        max_batch: Some(1),
        ..config()
    };
    let (engine, controls) = engine(limits, facts(), says(&[1]));
    engine.ready().await.unwrap();
    controls.pause();
    let mut admitted = vec![engine.submit(job(vec![spec(&[7], Rule::Text, 20)])).unwrap()];
    assert!(controls.wait_for(|calls| calls.len() == 1));
    admitted.extend((0..2).map(|_| engine.submit(job(vec![spec(&[7], Rule::Text, 20)])).unwrap()));
    // The device does not move, yet the answer comes.
    let refused = refusal(&engine, job(vec![spec(&[7], Rule::Text, 20)]));
    assert!(matches!(refused, EngineError::QueueFull { retry_after } if retry_after >= Duration::from_secs(1)));
    assert_eq!(engine.stats().jobs_refused, 1);
    controls.resume();
    for events in admitted {
        assert!(is_done(&all(events).await));
    }
}

#[tokio::test]
async fn what_waits_is_bounded_in_bytes() {
    let seeing = || Job {
        images: vec![picture(1); 10],
        ..job(vec![])
    };
    let room = seeing().bytes() * 2;
    let limits = EngineConfig {
        queue_bytes: room,
        queue_jobs: 100,
        max_batch: Some(1),
        ..config()
    };
    let (engine, controls) = engine(limits, facts(), says(&[1]));
    engine.ready().await.unwrap();
    controls.pause();
    let running = engine.submit(seeing()).unwrap();
    assert!(controls.wait_for(|calls| calls.len() == 1));
    let waiting = [engine.submit(seeing()).unwrap(), engine.submit(seeing()).unwrap()];
    assert!(matches!(refusal(&engine, seeing()), EngineError::QueueFull { .. }));
    assert_eq!(engine.stats().queued_bytes, room);
    let huge = Job {
        images: vec![picture(1); 100],
        ..job(vec![])
    };
    assert!(
        matches!(refusal(&engine, huge), EngineError::Unacceptable(_)),
        "it would never find room"
    );
    controls.resume();
    for events in waiting.into_iter().chain([running]) {
        assert!(is_done(&all(events).await));
    }
}

#[tokio::test]
async fn in_a_burst_every_request_is_either_refused_or_finished() {
    let (engine, _controls) = engine(
        EngineConfig {
            queue_jobs: 5,
            ..config()
        },
        facts(),
        Reply::Hashed,
    );
    engine.ready().await.unwrap();
    let ask = |n: u32| {
        let engine = engine.clone();
        async move {
            match engine.submit(job(vec![spec(&[n % 60], Rule::Text, 10)])) {
                Ok(events) => is_done(&all(events).await),
                Err(error) => matches!(error, EngineError::QueueFull { .. }),
            }
        }
    };
    let answers = futures::future::join_all((0..200).map(ask)).await;
    assert!(answers.into_iter().all(|fine| fine));
    let stats = engine.stats();
    assert_eq!(stats.jobs_done + stats.jobs_refused, 200);
    assert!(stats.jobs_refused > 0 && stats.jobs_done >= 5);
}

#[tokio::test]
async fn a_reply_that_can_never_fit_the_context_is_refused_with_the_numbers() {
    let (engine, _controls) = ready(says(&[1])).await;
    let refused = refusal(&engine, job(vec![spec(&[7; 200], Rule::Text, 57)]));
    assert_eq!(
        refused,
        EngineError::ContextExceeded {
            prompt: 200,
            reply: 57,
            context: 256
        }
    );
    assert!(engine.submit(job(vec![spec(&[7; 200], Rule::Text, 56)])).is_ok());
}

#[tokio::test]
async fn a_reply_that_can_never_fit_kv_memory_is_refused() {
    let (engine, _controls) = engine(
        config(),
        Facts {
            kv_tokens: 100,
            ..facts()
        },
        says(&[1]),
    );
    engine.ready().await.unwrap();
    assert!(matches!(
        refusal(&engine, job(vec![spec(&[7; 60], Rule::Text, 41)])),
        EngineError::Unacceptable(_)
    ));
    let fits = all(engine.submit(job(vec![spec(&[7; 60], Rule::Text, 40); 3])).unwrap()).await;
    assert!(is_done(&fits), "three that fit one after the other");
}

#[tokio::test]
async fn jobs_that_break_the_contract_are_refused_with_a_reason() {
    let (engine, _controls) = ready(says(&[1])).await;
    let good = || spec(&[7], Rule::Text, 5);
    let with = |sampling: Sampling| job(vec![SequenceSpec { sampling, ..good() }]);
    let bad = [
        job(vec![]),
        job(vec![spec(&[], Rule::Text, 5)]),
        job(vec![spec(&[7], Rule::Text, 0)]),
        job(vec![spec(&[96], Rule::Text, 5)]),
        job(vec![spec(&[7], Rule::Image, 18)]),
        job(vec![about(0, 5)]),
        job(vec![SequenceSpec {
            watch: vec![vec![1, 96]],
            ..good()
        }]),
        with(Sampling {
            temperature: f32::NAN,
            ..GREEDY
        }),
        with(Sampling {
            temperature: -1.0,
            ..GREEDY
        }),
        with(Sampling {
            temperature: 2.5,
            ..GREEDY
        }),
        with(Sampling { top_p: 0.0, ..GREEDY }),
        with(Sampling {
            guidance: 2.0,
            ..GREEDY
        }),
        job(vec![SequenceSpec {
            rule: Rule::Text,
            ..guided(&[7], &[8], GREEDY)
        }]),
        job(vec![SequenceSpec {
            sampling: Sampling {
                guidance: 11.0,
                ..GREEDY
            },
            ..guided(&[7], &[8], GREEDY)
        }]),
        job(vec![guided(&[7], &[], GREEDY)]),
        job(vec![guided(&[7], &[96], GREEDY)]),
        with(Sampling {
            top_p: f32::NAN,
            ..GREEDY
        }),
        Job {
            images: vec![Arc::new(Pixels::new(2, 4, vec![0; 24]).unwrap())],
            ..job(vec![])
        },
        Job {
            codes: vec![vec![0; 15]],
            ..job(vec![])
        },
        Job {
            codes: vec![vec![32; 16]],
            ..job(vec![])
        },
    ];
    for (n, job) in bad.into_iter().enumerate() {
        assert!(matches!(refusal(&engine, job), EngineError::Unacceptable(_)), "job {n}");
    }
    let late = Job {
        deadline: Some(std::time::Instant::now()),
        ..job(vec![good()])
    };
    assert_eq!(refusal(&engine, late), EngineError::DeadlineExceeded);
    assert_eq!(engine.stats().queued_jobs, 0);
}
