//! A running server, from its first answer to its last.

use serde_json::{Value, json};

use super::house::*;

#[test]
fn the_server_reads_answers_and_draws_from_a_bundle_and_ends_in_order() {
    let folder = temporary();
    let image = base64(&radiograph(folder.path()));
    let server = Server::start(bundle(), &[]);

    let report = server.post(
        "/v1/report",
        &json!({"image": image, "max_tokens": 20, "include": ["token_ids", "codes"]}),
    );
    assert_eq!(report["codes"].as_array().map(Vec::len), Some(256));
    assert!(
        report["token_ids"]
            .as_array()
            .is_some_and(|ids| (1..=20).contains(&ids.len()))
    );
    assert_eq!(report["model"]["trained"], false);
    assert!(
        report["warning"].as_str().is_some_and(|w| w.contains("untrained")),
        "an untrained model says so"
    );

    let questions = ["Is there an effusion?", "Which side?"];
    let answers = server.post(
        "/v1/vqa",
        &json!({"image": image, "questions": questions, "max_tokens": 8, "include": ["probabilities"]}),
    );
    assert_eq!(answers["answers"].as_array().map(Vec::len), Some(2));
    assert!(answers["p_yes"][0].as_f64().is_some_and(|p| (0.0..=1.0).contains(&p)));

    let draw = json!({"text": "Left effusion.", "seed": 7, "include": ["codes"]});
    let (first, second) = (
        server.post("/v1/generate-image", &draw),
        server.post("/v1/generate-image", &draw),
    );
    assert_eq!(first["codes"], second["codes"], "the same seed draws the same image");
    assert_eq!(first["images"][0]["data"], second["images"][0]["data"]);
    assert_eq!(first["images"][0]["synthetic"], true);

    let manifest = std::fs::read(bundle().join("bundle.json")).expect("a manifest");
    let sum = llm_cxr::basics::sha256(&manifest);
    let info: Value = serde_json::from_slice(&server.get("/v1/info").1).expect("JSON");
    assert_eq!(
        info["model"]["manifest_sha256"], sum,
        "what is served can be told apart"
    );
    let (status, meters) = server.get("/metrics");
    let meters = String::from_utf8_lossy(&meters);
    assert_eq!(status, 200);
    assert!(meters.contains(&format!("manifest_sha256=\"{sum}\"")), "{meters}");
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn one_request_gets_the_same_tokens_alone_and_among_others() {
    let folder = temporary();
    let image = base64(&radiograph(folder.path()));
    let server = Server::start(bundle(), &["--max-batch", "8"]);
    let ask = |temperature: f64| json!({"image": image, "max_tokens": 40, "temperature": temperature, "seed": 5, "include": ["token_ids"]});
    let alone: Vec<Value> = [0.0, 1.0]
        .map(|t| server.post("/v1/report", &ask(t))["token_ids"].clone())
        .into();
    std::thread::scope(|scope| {
        let others = (0..5).map(|i| {
            let (server, image) = (&server, &image);
            scope.spawn(move || {
                let text = format!("Is there finding number {i}? ").repeat(1 + i);
                server.post(
                    "/v1/vqa",
                    &json!({"image": image, "question": text, "temperature": 1, "seed": i, "max_tokens": 60}),
                );
            })
        });
        let others: Vec<_> = others.collect();
        for _ in 0..3 {
            for (i, temperature) in [0.0, 1.0].into_iter().enumerate() {
                assert_eq!(
                    server.post("/v1/report", &ask(temperature))["token_ids"],
                    alone[i],
                    "at temperature {temperature}"
                );
            }
        }
        others.into_iter().for_each(|other| other.join().expect("answered"));
    });
}

#[test]
fn what_the_flags_say_is_what_the_server_does() {
    let folder = temporary();
    let flags = [
        "--max-image-pixels",
        "10000",
        "--dicom",
        "off",
        "--readings",
        "2",
        "--max-body-bytes",
        "64KiB",
    ];
    let server = Server::start(bundle(), &flags);
    let post = |image: &str| {
        let url = format!("{}/v1/report", server.url);
        let body = json!({"image": image, "max_tokens": 4});
        let (status, answer) = server.ask(reqwest::Client::new().post(url).json(&body));
        (status, serde_json::from_slice::<Value>(&answer).expect("JSON"))
    };
    let large = post(&base64(&radiograph(folder.path())));
    assert_eq!(
        (large.0, &large.1["error"]["code"]),
        (413, &json!("image_too_large")),
        "{}",
        large.1
    );

    let dicom = folder.path().join("image.dcm");
    std::fs::write(&dicom, [&[0; 128][..], b"DICM", &[0; 64]].concat()).expect("a file");
    let refused = post(&base64(&dicom));
    assert_eq!(refused.0, 415, "{}", refused.1);

    let long = post(&"A".repeat(65 << 10));
    assert_eq!(
        (long.0, &long.1["error"]["code"]),
        (413, &json!("body_too_large")),
        "{}",
        long.1
    );

    let small = folder.path().join("small.png");
    image::GrayImage::from_fn(90, 90, |x, y| image::Luma([(x + y) as u8]))
        .save(&small)
        .expect("a PNG");
    let read = post(&base64(&small));
    assert_eq!((read.0, &read.1["readings"]["count"]), (200, &json!(2)), "{}", read.1);
}

#[test]
fn a_healthcheck_ends_with_what_it_found() {
    let server = Server::start(bundle(), &[]);
    let check = |url: &str| run(SERVER, &["healthcheck", "--url", url]).status.code();
    assert_eq!(check(&format!("{}/livez", server.url)), Some(0));
    assert_eq!(check(&format!("{}/nowhere", server.url)), Some(1));
    let url = format!("{}/livez", server.url);
    assert_eq!(server.terminate(), Some(0));
    assert_eq!(check(&url), Some(1));
}
