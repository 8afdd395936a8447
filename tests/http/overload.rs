//! More clients than there is room for.

use axum::body::Body;
use futures::StreamExt as _;
use llm_cxr::engine::EngineConfig;
use serde_json::json;
use tokio::sync::oneshot;

use crate::house::*;

#[tokio::test]
async fn one_too_many_is_refused_at_once_and_all_others_are_answered() {
    let engine = EngineConfig {
        queue_jobs: 4,
        max_batch: Some(1),
        ..EngineConfig::default()
    };
    let house = House::ready(Plan {
        engine,
        ..Plan::default()
    })
    .await;
    house.controls.pause();
    let ask = || house.json("/v1/instruct", json!({"instruction": "Say hello."}));
    let mut asked: Vec<_> = (0..12).map(|_| Box::pin(ask())).collect();
    // While the device hangs, four wait and the engine may hold a few; whoever finds no room hears so.
    let mut refused = Vec::new();
    while refused.len() < 5 {
        let (answer, index, _) = soon(futures::future::select_all(&mut asked)).await;
        drop(asked.swap_remove(index));
        refused.push(answer);
    }
    for answer in &refused {
        answer.refused(429, "queue_full");
        assert!(
            answer
                .header("retry-after")
                .parse::<u64>()
                .is_ok_and(|seconds| seconds >= 1)
        );
    }
    assert_eq!(house.state.assistant.engine().stats().jobs_refused, 5);
    house.controls.resume();
    let (answered, late): (Vec<_>, Vec<_>) = soon(futures::future::join_all(asked))
        .await
        .into_iter()
        .partition(|answer| answer.status == 200);
    assert!(
        answered.len() >= 4,
        "only {} of those admitted were answered",
        answered.len()
    );
    assert!(answered.iter().all(|answer| answer.json()["text"] == REPORT));
    late.iter().for_each(|answer| answer.refused(429, "queue_full"));
}

/// A body of 4096 bytes that does not end before what comes with it is dropped.
fn slow() -> (oneshot::Sender<()>, Body) {
    let (hold, held) = oneshot::channel();
    let begins = futures::stream::once(async { Ok::<_, std::io::Error>(vec![b' '; 4096]) });
    let ends = async move { held.await.map(|()| Vec::new()).map_err(std::io::Error::other) };
    (hold, Body::from_stream(begins.chain(futures::stream::once(ends))))
}

#[tokio::test]
async fn bodies_together_are_bounded_in_bytes() {
    let mut plan = Plan::default();
    (plan.config.max_body_bytes, plan.config.queue_bytes) = (4096, 4096);
    let house = House::ready(plan).await;
    let (hold, slow) = slow();
    let mut first = Box::pin(house.post("/v1/report", "image/png", slow));
    assert!(futures::poll!(&mut first).is_pending());
    house
        .json("/v1/instruct", json!({"instruction": "Say hello."}))
        .await
        .refused(429, "too_many_bodies");
    drop(hold);
    drop(soon(first).await);
    house
        .json("/v1/instruct", json!({"instruction": "Say hello."}))
        .await
        .ok();
}

#[tokio::test]
async fn a_body_of_many_small_values_counts_with_the_memory_that_they_take() {
    let mut plan = Plan::default();
    (plan.config.max_body_bytes, plan.config.queue_bytes) = (4096, 2 * 4096);
    let house = House::ready(plan).await;
    let (hold, slow) = slow();
    let mut first = Box::pin(house.post("/v1/report", "image/png", slow));
    assert!(futures::poll!(&mut first).is_pending());
    // Of bytes alone there is room for three such bodies.
    let many = json!({"instruction": "Say hello.", "many": vec![0; 500]});
    let refused = house.json("/v1/instruct", many.clone()).await;
    refused.refused(429, "too_many_bodies");
    let few = json!({"instruction": "Say hello."});
    house.json("/v1/instruct", few).await.ok();
    drop(hold);
    drop(soon(first).await);
    // Whoever is alone is read, however much it takes.
    let read = house.json("/v1/instruct", many).await;
    read.refused(400, "unknown_field");
}

#[tokio::test]
async fn a_body_gives_its_share_of_the_memory_back_once_its_image_is_read() {
    let mut plan = Plan::default();
    let image = png(200, 200);
    let room = (image.len() as u64).max(4096);
    (plan.config.max_body_bytes, plan.config.queue_bytes) = (room, room);
    let house = House::ready(plan).await;
    house.controls.pause();
    let mut first = Box::pin(house.post("/v1/report", "image/png", image));
    assert!(
        futures::poll!(&mut first).is_pending(),
        "answered by a device that hangs"
    );
    // Once its image is read, while its reply waits for the device, others may send as much.
    let others = async {
        loop {
            let answer = house.post("/v1/report", "image/png", vec![b' '; 4096]).await;
            if answer.status != 429 {
                return answer;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        answer = soon(others) => answer.refused(400, "unknown_image_format"),
        _ = &mut first => panic!("answered by a device that hangs"),
    }
    house.controls.resume();
    soon(first).await.ok();
}

#[tokio::test]
async fn a_length_that_is_only_announced_takes_no_memory_from_others() {
    let mut plan = Plan::default();
    (plan.config.max_body_bytes, plan.config.queue_bytes) = (4096, 4096);
    let house = House::ready(plan).await;
    let silent = axum::body::Body::from_stream(futures::stream::pending::<Result<Vec<u8>, std::io::Error>>());
    let request = axum::http::Request::post("/v1/report")
        .header("content-type", "image/png")
        .header("content-length", "4096");
    let mut silent = Box::pin(house.send(request.body(silent).expect("a request")));
    assert!(futures::poll!(&mut silent).is_pending());
    house
        .json("/v1/instruct", json!({"instruction": "Say hello."}))
        .await
        .ok();
}

#[tokio::test]
async fn a_burst_of_images_is_worked_off_a_few_at_a_time() {
    let mut plan = Plan::default();
    plan.config.image_workers = 1;
    let house = House::ready(plan).await;
    let image = png(400, 300);
    let ask = |_| house.post("/v1/report", "image/png", image.clone());
    for answer in soon(futures::future::join_all((0..16).map(ask))).await {
        assert_eq!(answer.ok().json()["report"], REPORT);
    }
}
