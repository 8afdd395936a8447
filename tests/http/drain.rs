//! The end of a server: in order, in time, also when something is stuck or still loading.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use llm_cxr::engine::scripted::Fault;
use llm_cxr::http::port::server::Ending;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::house::*;

async fn get(served: &Served, path: &str) -> (u16, String) {
    let answer = soon(reqwest::get(served.url(path))).await.expect("answered");
    (answer.status().as_u16(), answer.text().await.expect("a body"))
}

fn begin(served: &Served, streamed: bool) -> tokio::task::JoinHandle<(u16, String)> {
    let request = reqwest::Client::new()
        .post(served.url("/v1/instruct"))
        .header("content-type", "application/json")
        .body(format!("{{\"instruction\": \"Say hello.\", \"stream\": {streamed}}}"));
    tokio::spawn(async move {
        let answer = request.send().await.expect("answered");
        (answer.status().as_u16(), answer.text().await.unwrap_or_default())
    })
}

async fn until(met: impl Fn() -> bool) {
    soon(async {
        while !met() {
            tokio::time::sleep(Duration::from_millis(2)).await
        }
    })
    .await;
}

#[tokio::test]
async fn streams_finish_and_nothing_new_begins_after_the_signal() {
    let house = House::plain().await;
    let mut served = house.serve().await;
    house.controls.pause();
    let running: Vec<_> = (0..20).map(|_| begin(&served, true)).collect();
    until(|| house.state.life.under_way() == 20 && house.controls.steps() > 0).await;
    served.terminate();
    until(|| house.state.life.is_draining()).await;
    let (status, body) = get(&served, "/readyz").await;
    assert!(status == 503 && body.contains("shutting_down"));
    assert_eq!(get(&served, "/livez").await.0, 200);
    let late = soon(begin(&served, true)).await.expect("answered");
    assert!(late.0 == 503 && late.1.contains("shutting_down"), "{late:?}");
    let fresh = soon(reqwest::get(served.url("/livez"))).await.expect("answered");
    assert_eq!(
        fresh.headers().get("connection").map(|v| v.as_bytes()),
        Some(&b"close"[..])
    );
    house.controls.resume();
    for stream in running {
        let (status, text) = soon(stream).await.expect("answered");
        assert_eq!(status, 200);
        assert_eq!(
            events(&text).last().map(|e| e.0.clone()).as_deref(),
            Some("done"),
            "a stream was cut: {text}"
        );
    }
    assert_eq!(served.ending().await, Ending::Drained);
}

#[tokio::test]
async fn a_stuck_request_does_not_hold_the_end_back_and_is_told_why_it_ends() {
    let mut plan = Plan::default();
    plan.config.drain_timeout = Duration::from_millis(100);
    let house = House::ready(plan).await;
    let mut served = house.serve().await;
    house.controls.pause();
    let stuck = begin(&served, true);
    let whole = begin(&served, false);
    until(|| house.state.life.under_way() == 2 && house.controls.steps() > 0).await;
    served.terminate();
    assert_eq!(served.ending().await, Ending::CutOff(2));
    let (status, text) = soon(stuck).await.expect("answered");
    let last = events(&text).pop().expect("a last event");
    assert_eq!((status, last.0.as_str()), (200, "error"));
    assert!(last.1.contains("shutting_down"), "{text}");
    let (status, text) = soon(whole).await.expect("answered");
    assert!(status == 503 && text.contains("shutting_down"), "{status} {text}");
    house.controls.resume();
}

#[tokio::test]
async fn a_device_that_hangs_for_good_ends_the_server_and_its_callers_are_told() {
    let mut plan = Plan::default();
    plan.engine.give_up_after = Duration::from_millis(50);
    let house = House::ready(plan).await;
    let served = house.serve().await;
    house.controls.pause();
    let waiting = begin(&served, false);
    let Ending::EngineStopped(why) = served.ending().await else {
        panic!("the server should end with a fault");
    };
    assert!(why.contains("hangs"), "{why}");
    let (status, text) = soon(waiting).await.expect("answered");
    assert!(status == 503 && text.contains("engine_stopped"), "{status} {text}");
    house.controls.resume();
}

#[tokio::test]
async fn a_signal_while_the_model_loads_ends_the_server_at_once() {
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let house = House::open(Plan::default(), move |backend| {
        let _ = gone.recv();
        Ok(backend)
    });
    let mut served = house.serve().await;
    assert_eq!(get(&served, "/readyz").await.0, 503);
    served.terminate();
    assert_eq!(served.ending().await, Ending::Drained);
    drop(go);
}

#[tokio::test]
async fn a_dead_engine_ends_the_server_and_says_why() {
    let house = House::plain().await;
    let served = house.serve().await;
    house.controls.fail_always(Some(Fault::Panic));
    for _ in 0..10 {
        let (status, text) = soon(begin(&served, true)).await.unwrap_or((503, String::new()));
        assert!(status == 503 || text.contains("error"), "{text}");
        if served.task.is_finished() {
            break;
        }
    }
    assert!(matches!(served.ending().await, Ending::EngineStopped(_)));
}

#[tokio::test]
async fn a_body_that_is_still_coming_does_not_hold_the_end_back() {
    let house = House::plain().await;
    let mut served = house.serve().await;
    let mut slow = TcpStream::connect(served.address).await.expect("connected");
    let head = "POST /v1/report HTTP/1.1\r\nhost: a\r\ncontent-type: image/png\r\ncontent-length: 1000\r\n\r\nsome";
    slow.write_all(head.as_bytes()).await.expect("written");
    until(|| house.state.life.under_way() == 1).await;
    served.terminate();
    let mut answer = String::new();
    soon(slow.read_to_string(&mut answer)).await.expect("answered");
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.contains("shutting_down"),
        "{answer}"
    );
    assert_eq!(served.ending().await, Ending::Drained);
}

#[tokio::test]
async fn an_image_that_is_still_being_read_does_not_hold_the_end_back_and_its_client_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let (worker, begun) = (folder.path().join("worker"), folder.path().join("worker.begun"));
    std::fs::write(&worker, "#!/bin/sh\n: >\"$0.begun\"\nexec sleep 600\n").expect("written");
    std::fs::set_permissions(&worker, std::fs::Permissions::from_mode(0o755)).expect("made executable");
    let mut plan = Plan {
        dicom_worker: worker,
        ..Plan::default()
    };
    plan.config.drain_timeout = Duration::from_millis(100);
    let house = House::ready(plan).await;
    let mut served = house.serve().await;
    let request = reqwest::Client::new()
        .post(served.url("/v1/report"))
        .header("content-type", "application/dicom")
        .body([&[0; 128][..], b"DICM"].concat());
    let reading = tokio::spawn(async move {
        let answer = request.send().await.expect("answered");
        (answer.status().as_u16(), answer.text().await.unwrap_or_default())
    });
    until(|| begun.exists()).await;
    served.terminate();
    assert_eq!(served.ending().await, Ending::CutOff(1));
    let (status, text) = soon(reading).await.expect("answered");
    assert!(status == 503 && text.contains("shutting_down"), "{status} {text}");
}
