//! Beginnings and ends: loading, draining, the last handle.

use super::*;
use std::sync::mpsc;

#[tokio::test]
async fn draining_refuses_new_work_and_finishes_what_was_admitted() {
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
    let running = engine.submit(job(vec![spec(&[7], Rule::Text, 20)])).unwrap();
    let waiting = engine.submit(job(vec![spec(&[7], Rule::Text, 20)])).unwrap();
    engine.drain();
    assert_eq!(engine.state(), EngineState::Draining);
    let refused = engine.submit(job(vec![spec(&[7], Rule::Text, 20)]));
    assert_eq!(refused.err(), Some(EngineError::ShuttingDown));
    controls.resume();
    engine.idle().await;
    assert!(is_done(&all(running).await) && is_done(&all(waiting).await));
    assert_eq!(engine.health().await, Ok(()), "draining is no fault");
}

#[tokio::test]
async fn a_job_that_was_promised_room_before_the_drain_is_taken_until_jobs_are_cut_off() {
    let (engine, _controls) = ready(says(&[1])).await;
    let beside = |own| Preparing { own, all: own };
    let [first, second] = [0, 1].map(|own| engine.expect_room(Caller::ONLY, beside(own)).unwrap());
    engine.drain();
    let refused = engine.expect_room(Caller::ONLY, beside(0));
    assert_eq!(refused.err(), Some(EngineError::ShuttingDown));
    let events = engine.submit_promised(job(vec![spec(&[7], Rule::Text, 20)]), first);
    assert!(is_done(&all(events.unwrap()).await));
    engine.cut_off(EngineError::Stopped);
    let late = engine.submit_promised(job(vec![spec(&[7], Rule::Text, 20)]), second);
    assert_eq!(late.err(), Some(EngineError::Stopped));
}

#[tokio::test]
async fn who_is_cut_off_is_told_at_once_even_while_the_device_hangs() {
    let (engine, controls) = ready(says(&[1])).await;
    controls.pause();
    let running = engine.submit(job(vec![spec(&[7], Rule::Text, 20)])).unwrap();
    let waiting = engine.submit(job(vec![spec(&[7], Rule::Text, 20)])).unwrap();
    assert!(controls.wait_for(|calls| !calls.is_empty()));
    let outside = [running.wait_cut_off(), waiting.wait_cut_off()];
    engine.cut_off(EngineError::ShuttingDown);
    assert_eq!(engine.wait_cut_off().await, EngineError::ShuttingDown);
    assert_eq!(
        futures::future::join_all(outside).await,
        [EngineError::ShuttingDown, EngineError::ShuttingDown]
    );
    for events in [running, waiting] {
        assert_eq!(error(&all(events).await), Some(EngineError::ShuttingDown));
    }
    let late = engine.submit(job(vec![spec(&[7], Rule::Text, 20)]));
    assert_eq!(late.err(), Some(EngineError::ShuttingDown));
    controls.resume();
    engine.idle().await;
    assert_eq!(engine.stats().kv_tokens_used, 0, "its memory is free again");
}

#[tokio::test]
async fn an_engine_with_nothing_to_do_is_idle() {
    let (engine, _controls) = ready(says(&[1])).await;
    engine.idle().await;
}

#[tokio::test]
async fn work_is_refused_while_the_model_loads_and_draining_works_then_too() {
    let (go, wait) = mpsc::sync_channel::<()>(1);
    let (backend, _controls) = ScriptedBackend::new(facts(), says(&[1, END]));
    let engine = Engine::start(config(), rules(), move || {
        wait.recv().ok();
        Ok(Box::new(backend))
    });
    assert_eq!(engine.state(), EngineState::Loading);
    assert_eq!(engine.facts(), None);
    assert_eq!(
        engine.submit(job(vec![spec(&[7], Rule::Text, 5)])).err(),
        Some(EngineError::Loading)
    );
    assert_eq!(engine.health().await, Err(EngineError::Loading));
    engine.drain();
    assert_eq!(engine.state(), EngineState::Draining);
    engine.idle().await;
    go.send(()).unwrap();
    assert_eq!(*engine.ready().await.unwrap(), facts());
    assert_eq!(
        engine.submit(job(vec![spec(&[7], Rule::Text, 5)])).err(),
        Some(EngineError::ShuttingDown)
    );
}

#[tokio::test]
async fn a_model_that_does_not_load_is_an_error_with_its_reason() {
    let engine = Engine::start(config(), rules(), || {
        Err(BackendError("no such file: model.safetensors".into()))
    });
    let why = "no such file: model.safetensors".to_owned();
    assert_eq!(engine.ready().await.err(), Some(EngineError::Load(why.clone())));
    assert_eq!(engine.state(), EngineState::Failed(why.clone()));
    assert_eq!(engine.stopped().await, why);
    assert_eq!(
        engine.submit(job(vec![spec(&[7], Rule::Text, 5)])).err(),
        Some(EngineError::Stopped)
    );
    assert_eq!(engine.health().await, Err(EngineError::Stopped));
    engine.idle().await;
}

#[tokio::test]
async fn a_panic_while_loading_is_an_error_too() {
    let engine = Engine::start(config(), rules(), || std::panic::panic_any("scripted panic"));
    assert_eq!(
        engine.ready().await.err(),
        Some(EngineError::Load("the model panicked".into()))
    );
}

#[tokio::test]
async fn a_vocabulary_that_is_not_the_models_is_refused_at_the_start() {
    let others = [
        TokenRules {
            code_base: 63,
            ..rules()
        },
        TokenRules {
            code_count: 31,
            ..rules()
        },
        TokenRules {
            codes_per_image: 8,
            ..rules()
        },
        TokenRules { end: 70, ..rules() },
    ];
    for other in others {
        let (backend, _controls) = ScriptedBackend::new(facts(), says(&[1]));
        let engine = Engine::start(config(), other, move || Ok(Box::new(backend)));
        assert!(matches!(engine.ready().await, Err(EngineError::Load(_))));
    }
}

#[tokio::test]
async fn dropping_the_last_handle_finishes_what_was_admitted_and_ends_the_thread() {
    struct Bell(mpsc::SyncSender<()>, ScriptedBackend);
    impl Drop for Bell {
        fn drop(&mut self) {
            self.0.send(()).ok();
        }
    }
    impl Backend for Bell {
        fn facts(&self) -> &Facts {
            self.1.facts()
        }
        fn step(&mut self, segments: &[Segment<'_>], samples: &[Vec<RowSample>]) -> Result<StepOutput, BackendError> {
            self.1.step(segments, samples)
        }
        fn copy(&mut self, from: Span, to: Span, len: usize) -> Result<(), BackendError> {
            self.1.copy(from, to, len)
        }
        fn vision_begin(&mut self, work: VisionWork) -> Result<(), BackendError> {
            self.1.vision_begin(work)
        }
        fn vision_advance(&mut self) -> Result<Option<VisionOutput>, BackendError> {
            self.1.vision_advance()
        }
        fn vision_cancel(&mut self) {
            self.1.vision_cancel();
        }
        fn health(&mut self) -> Result<(), BackendError> {
            self.1.health()
        }
    }
    let (bell, rung) = mpsc::sync_channel(1);
    let (backend, controls) = ScriptedBackend::new(facts(), says(&[1]));
    let engine = Engine::start(config(), rules(), move || Ok(Box::new(Bell(bell, backend))));
    engine.ready().await.unwrap();
    controls.pause();
    let events = engine.submit(job(vec![spec(&[7], Rule::Text, 20)])).unwrap();
    drop(engine);
    controls.resume();
    assert!(is_done(&all(events).await));
    assert_eq!(
        rung.recv_timeout(Duration::from_secs(10)),
        Ok(()),
        "the model is freed in its thread"
    );
}
