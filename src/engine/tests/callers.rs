//! One caller's load is not another's.

use super::*;

const A: Caller = Caller::numbered(0);
const B: Caller = Caller::numbered(1);

fn asks(engine: &Engine, caller: Caller) -> Result<Events, EngineError> {
    let promise = engine.expect_room(caller, Preparing::default())?;
    engine.submit_promised(job(vec![spec(&[7], Rule::Text, 20)]), promise)
}

#[tokio::test]
async fn beside_one_who_floods_another_finds_room_and_is_next() {
    let limits = EngineConfig {
        max_batch: Some(1),
        ..config()
    };
    let (engine, controls) = engine(limits, facts(), says(&[1, 2, 3]));
    engine.ready().await.unwrap();
    controls.pause();
    let mut flood = vec![asks(&engine, A).unwrap()];
    assert!(controls.wait_for(|calls| calls.len() == 1));
    flood.extend((0..6).map(|_| asks(&engine, A).unwrap()));
    let refused = asks(&engine, A).err().expect("a refusal");
    assert!(
        matches!(refused, EngineError::ShareHeld { jobs: 6, retry_after } if retry_after >= Duration::from_secs(1)),
        "{refused}"
    );
    assert_eq!(engine.stats().jobs_refused, 1);
    let other = asks(&engine, B).unwrap();
    controls.resume();
    let mut waits = Vec::new();
    for (number, events) in flood.into_iter().chain([other]).enumerate() {
        let events = all(events).await;
        assert!(is_done(&events));
        waits.push((summary(&events, 0).timing.queue, number));
    }
    // It came last, and of those behind the first it waited least.
    assert_eq!(waits[1..].iter().min().map(|(_, number)| *number), Some(7), "{waits:?}");
}

#[tokio::test]
async fn what_is_being_prepared_counts_towards_its_callers_share() {
    let (engine, _controls) = ready(says(&[1])).await;
    let beside = |own, all| Preparing { own, all };
    assert!(engine.expect_room(A, beside(5, 5)).is_ok());
    let refused = engine.expect_room(A, beside(6, 6)).err();
    assert!(matches!(refused, Some(EngineError::ShareHeld { jobs: 6, .. })));
    assert!(engine.expect_room(B, beside(0, 7)).is_ok());
    let refused = engine.expect_room(B, beside(0, 8)).err();
    assert!(matches!(refused, Some(EngineError::QueueFull { .. })));
}

#[tokio::test]
async fn who_is_alone_may_fill_the_queue() {
    let (engine, controls) = ready(says(&[1])).await;
    let beside = Preparing { own: 7, all: 7 };
    assert!(engine.expect_room(Caller::ONLY, beside).is_ok());
    assert_eq!(controls.steps(), 0);
}
