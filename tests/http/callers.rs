//! Several API keys: the load of one is not another's.

use axum::body::Body;
use axum::http::Request;
use futures::StreamExt as _;
use futures::poll;
use llm_cxr::config::hash_key;
use llm_cxr::engine::EngineConfig;
use serde_json::json;
use tokio::sync::oneshot;

use crate::house::*;

const A: &str = "the-key-of-one-client";
const B: &str = "the-key-of-another-client";

/// A server with two keys and a queue of eight that works on one request at a time.
fn plan() -> Plan {
    let mut plan = Plan {
        engine: EngineConfig {
            queue_jobs: 8,
            max_batch: Some(1),
            ..EngineConfig::default()
        },
        ..Plan::default()
    };
    let hash = |key| hash_key(key).parse().expect("a hash");
    plan.config.api_key_hash = [A, B].map(hash).to_vec();
    plan
}

async fn post(house: &House, key: &str, path: &str, kind: &str, body: impl Into<Body>) -> Answer {
    let request = Request::post(path)
        .header("authorization", format!("Bearer {key}"))
        .header("content-type", kind)
        .body(body.into())
        .expect("a request");
    house.send(request).await
}

async fn instruct(house: &House, key: &str) -> Answer {
    let body = json!({"instruction": "Say hello."}).to_string();
    post(house, key, "/v1/instruct", "application/json", body).await
}

#[tokio::test]
async fn beside_a_key_that_floods_another_finds_room_and_is_answered_before_all_that_wait() {
    let house = House::ready(plan()).await;
    house.controls.pause();
    let mut flood: Vec<_> = (0..12).map(|_| Box::pin(instruct(&house, A))).collect();
    // Six may wait, and one may be under way.
    for _ in 0..5 {
        let (answer, index, _) = soon(futures::future::select_all(&mut flood)).await;
        drop(flood.swap_remove(index));
        answer.refused(429, "queue_full");
        let message = answer.json()["error"]["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        assert!(
            message.starts_with("This API key holds its share of the queue"),
            "{message}"
        );
    }
    let mut other = Box::pin(instruct(&house, B));
    let mut calls = house.controls.calls().len();
    let answer = loop {
        if let std::task::Poll::Ready(answer) = poll!(&mut other) {
            break answer;
        }
        // One call of the model after the other, so that it is known how far all have come when the answer is there.
        calls += 1;
        house.controls.allow(1);
        assert!(house.controls.wait_for(|all| all.len() >= calls), "it hangs");
        tokio::task::yield_now().await;
    };
    assert_eq!(answer.ok().json()["text"], REPORT);
    let stats = house.state.assistant.engine().stats();
    assert!(stats.jobs_done <= 2 && stats.queued_jobs >= 4, "{stats:?}");
    house.controls.resume();
    for answer in soon(futures::future::join_all(flood)).await {
        if answer.status != 200 {
            answer.refused(429, "queue_full");
        }
    }
}

#[tokio::test]
async fn large_bodies_of_one_key_leave_memory_for_those_of_another() {
    let mut plan = plan();
    (plan.config.max_body_bytes, plan.config.queue_bytes) = (4096, 4 * 4096);
    let house = House::ready(plan).await;
    let slow = |held: oneshot::Receiver<()>| {
        let begins = futures::stream::once(async { Ok::<_, std::io::Error>(vec![b' '; 4096]) });
        let ends = async move { held.await.map(|()| Vec::new()).map_err(std::io::Error::other) };
        Body::from_stream(begins.chain(futures::stream::once(ends)))
    };
    let (mut holds, mut sending) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let (hold, held) = oneshot::channel();
        holds.push(hold);
        sending.push(Box::pin(post(&house, A, "/v1/report", "image/png", slow(held))));
    }
    for one in &mut sending {
        assert!(poll!(one).is_pending());
    }
    let refused = instruct(&house, A).await;
    refused.refused(429, "too_many_bodies");
    assert!(refused.text().contains("This API key's requests"), "{}", refused.text());
    instruct(&house, B).await.ok();
    drop(holds);
    drop(soon(futures::future::join_all(sending)).await);
    instruct(&house, A).await.ok();
}

#[tokio::test]
async fn a_key_that_is_alone_may_fill_the_queue() {
    let mut plan = plan();
    plan.config.api_key_hash.truncate(1);
    let house = House::ready(plan).await;
    house.controls.pause();
    let mut asked: Vec<_> = (0..12).map(|_| Box::pin(instruct(&house, A))).collect();
    // Eight may wait, and one may be under way.
    for _ in 0..3 {
        let (answer, index, _) = soon(futures::future::select_all(&mut asked)).await;
        drop(asked.swap_remove(index));
        answer.refused(429, "queue_full");
        assert!(answer.text().contains("The queue is full"), "{}", answer.text());
    }
    house.controls.resume();
    let answers = soon(futures::future::join_all(asked)).await;
    assert!(answers.iter().filter(|answer| answer.status == 200).count() >= 8);
}
