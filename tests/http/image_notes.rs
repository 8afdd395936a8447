//! What is unusual about an image is told with every answer about it.

use llm_cxr::radiograph::{self, ImageFormat, ImageNote, Pixels};
use serde_json::{Value, json};

use crate::house::*;

const COLOUR: &str = "The image is in colour; a radiograph is grey.";

/// A grey picture in base64, a ramp.
fn grey(width: usize, height: usize) -> String {
    let levels = (0..width * height).flat_map(|at| [(at % 251) as u8; 3]).collect();
    let pixels = Pixels::new(width, height, levels).expect("the size fits");
    base64(&radiograph::write(&pixels, ImageFormat::Png, &[]).expect("written"))
}

/// The requests of every route that takes an image.
fn about(image: &str) -> [(&'static str, Value); 4] {
    let url = format!("data:image/png;base64,{image}");
    let content = json!([{"type": "image_url", "image_url": {"url": url}}]);
    [
        ("/v1/report", json!({"image": image})),
        ("/v1/vqa", json!({"image": image, "question": "Is it?"})),
        (
            "/v1/instruct",
            json!({"image": image, "instruction": "Say what you see."}),
        ),
        (
            "/v1/chat/completions",
            json!({"model": "scripted", "messages": [{"role": "user", "content": content}]}),
        ),
    ]
}

#[tokio::test]
async fn an_image_in_colour_is_told_by_every_route_and_a_grey_one_by_none() {
    let house = House::plain().await;
    for (path, body) in about(&base64(&png(SIDE, SIDE))) {
        let answer = house.json(path, body).await.ok().json();
        assert_eq!(answer["image_notes"], json!([COLOUR]), "{path}");
    }
    for (path, body) in about(&grey(SIDE, SIDE)) {
        let answer = house.json(path, body).await.ok().json();
        assert!(answer.get("image_notes").is_none(), "{path}: {answer}");
    }
    let nothing = house.json("/v1/instruct", json!({"instruction": "Say hello."})).await;
    assert!(nothing.ok().json().get("image_notes").is_none());
}

#[tokio::test]
async fn an_image_that_is_small_or_elongated_is_told_with_its_size() {
    let house = House::plain().await;
    for (width, height, told) in [
        (8, 8, vec!["8 × 8 pixels, smaller than the 16 × 16"]),
        (100, 20, vec!["100 × 20 pixels, very elongated"]),
        (
            100,
            4,
            vec!["100 × 4 pixels, smaller", "100 × 4 pixels, very elongated"],
        ),
    ] {
        let answer = house.json("/v1/report", json!({"image": grey(width, height)})).await;
        let answer = answer.ok().json();
        let notes = answer["image_notes"].as_array().expect("notes");
        assert_eq!(notes.len(), told.len(), "{notes:?}");
        for (note, told) in notes.iter().zip(told) {
            assert!(note.as_str().is_some_and(|note| note.contains(told)), "{note}: {told}");
        }
    }
}

#[tokio::test]
async fn a_file_that_says_of_itself_that_it_is_synthetic_is_told_so_first_whoever_drew_it() {
    const SYNTHETIC: &str = "The file says of itself that it is synthetic: it shows no patient.";
    let house = House::plain().await;
    let levels = (0..SIDE * SIDE).flat_map(|at| [(at % 251) as u8; 3]).collect();
    let pixels = Pixels::new(SIDE, SIDE, levels).expect("the size fits");
    let phantom = ("synthetic", "phantom radiograph, not of a person");
    let phantom = radiograph::write(&pixels, ImageFormat::Jpeg, &[phantom]).expect("written");
    for (path, body) in about(&base64(&phantom)) {
        let answer = house.json(path, body).await.ok().json();
        assert_eq!(answer["image_notes"], json!([SYNTHETIC]), "{path}");
    }
    // What this server draws, as it comes.
    for format in ["png", "jpeg"] {
        let drawn = house
            .json("/v1/generate-image", json!({"text": "Edema.", "format": format}))
            .await
            .ok()
            .json();
        let file = &drawn["images"][0]["data"];
        let answer = house.json("/v1/report", json!({"image": file})).await.ok().json();
        assert_eq!(answer["image_notes"][0], SYNTHETIC, "{format}");
    }
    let text = house.get("/metrics").await.ok().text();
    let counted = text
        .lines()
        .find_map(|line| line.strip_prefix("llm_cxr_image_notes_total{note=\"synthetic\"} "));
    assert!(counted.is_some_and(|count| count != "0"), "{text}");
}

#[tokio::test]
async fn the_last_event_of_a_stream_tells_what_the_whole_answer_tells() {
    let house = House::plain().await;
    for (path, mut body) in about(&base64(&png(SIDE, SIDE))) {
        body["stream"] = json!(true);
        let text = house.json(path, body).await.ok().text();
        let events = events(&text);
        let json: Vec<Value> = events
            .iter()
            .filter(|(_, data)| data != "[DONE]")
            .map(|(_, data)| serde_json::from_str(data).expect("JSON"))
            .collect();
        let (last, before) = json.split_last().expect("events");
        assert_eq!(last["image_notes"], json!([COLOUR]), "{path}");
        assert!(before.iter().all(|event| event.get("image_notes").is_none()), "{path}");
    }
}

#[tokio::test]
async fn notes_are_counted_by_what_they_are_about_and_nothing_that_was_sent() {
    let house = House::plain().await;
    let body = json!({"image": base64(&png(SIDE, SIDE))});
    house.json("/v1/report", body).await.ok();
    let text = house.get("/metrics").await.ok().text();
    let count = |note: &str| -> Option<u64> {
        let name = format!("llm_cxr_image_notes_total{{note=\"{note}\"}} ");
        text.lines()
            .find_map(|line| line.strip_prefix(name.as_str())?.parse().ok())
    };
    assert!(ImageNote::NAMES.into_iter().all(|note| count(note).is_some()), "{text}");
    assert!(count("colour").is_some_and(|times| times >= 1), "{text}");
}
