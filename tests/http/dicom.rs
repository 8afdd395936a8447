//! DICOM files: read in a process of their own, whichever way they come, and refused by what is wrong with them.

use axum::body::Body;
use axum::http::Request;
use llm_cxr::config::{Dicom, ServeConfig};
use llm_cxr::radiograph::{self, ImageFormat, Pixels};
use serde_json::{Value, json};

use crate::house::*;

const EXPLICIT_LITTLE: &[u8] = b"1.2.840.10008.1.2.1\0";
const JPEG_XL: &[u8] = b"1.2.840.10008.1.2.4.110\0";
const PATIENT: &[u8] = b"CANARY^PATIENT";

/// An element in explicit VR little endian (DICOM PS3.5, 7.1.2), of a VR with a length of 16 bits.
fn element((group, number): (u16, u16), vr: &str, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).expect("a short value");
    let head = [group.to_le_bytes(), number.to_le_bytes()].concat();
    [&head, vr.as_bytes(), &length.to_le_bytes(), value].concat()
}

/// A file (DICOM PS3.10) of 8-bit grey pixels, a ramp.
fn file(syntax: &[u8], (rows, columns): (u16, u16), pixels: bool) -> Vec<u8> {
    let number = |value: u16| value.to_le_bytes();
    let meta = [
        element((2, 2), "UI", b"1.2.840.10008.5.1.4.1.1.1\0"),
        element((2, 3), "UI", b"1.2.3.4\0"),
        element((2, 0x10), "UI", syntax),
        element((2, 0x12), "UI", b"1.2.3\0"),
    ]
    .concat();
    let length = u32::try_from(meta.len()).expect("a short head").to_le_bytes();
    let mut file = [
        &[0; 128][..],
        b"DICM",
        &element((2, 0), "UL", &length),
        &meta,
        &element((0x10, 0x10), "PN", PATIENT),
        &element((0x28, 2), "US", &number(1)),
        &element((0x28, 4), "CS", b"MONOCHROME2 "),
        &element((0x28, 0x10), "US", &number(rows)),
        &element((0x28, 0x11), "US", &number(columns)),
        &element((0x28, 0x100), "US", &number(8)),
        &element((0x28, 0x101), "US", &number(8)),
        &element((0x28, 0x102), "US", &number(7)),
        &element((0x28, 0x103), "US", &number(0)),
    ]
    .concat();
    if pixels {
        let ramp: Vec<u8> = (0..64 * 64).map(|i| (i % 251) as u8).collect();
        file.extend([0xe0, 0x7f, 0x10, 0, b'O', b'W', 0, 0]);
        file.extend(u32::try_from(ramp.len()).expect("a small picture").to_le_bytes());
        file.extend(ramp);
    }
    file
}

fn sound() -> Vec<u8> {
    file(EXPLICIT_LITTLE, (64, 64), true)
}

/// Where an element of group 0028 begins.
fn place(file: &[u8], number: u16) -> usize {
    let tag = [[0x28, 0], number.to_le_bytes()].concat();
    file.windows(4).position(|four| four == tag).expect("it is there")
}

async fn raw(house: &House, path: &str, kind: &str, bytes: Vec<u8>) -> Answer {
    let request = Request::post(path).header("content-type", kind);
    house.send(request.body(Body::from(bytes)).expect("a request")).await
}

#[tokio::test]
async fn a_dicom_file_is_read_whichever_way_it_comes() {
    let house = House::plain().await;
    let encoded = base64(&sound());
    let all = json!(["codes"]);
    let part = multipart(&[("image", None, &sound()), ("include", None, b"codes")]);
    let answers = [
        raw(&house, "/v1/report?include=codes", "application/dicom", sound()).await,
        house.post("/v1/report", &multipart_kind(), part).await,
        house
            .json("/v1/report", json!({"image": encoded, "include": all}))
            .await,
        house
            .json(
                "/v1/report",
                json!({"image": format!("data:application/dicom;base64,{encoded}"), "include": all}),
            )
            .await,
        // What it is counts, not what it is said to be.
        raw(&house, "/v1/report?include=codes", "image/png", sound()).await,
    ];
    let codes: Vec<Value> = answers
        .into_iter()
        .map(|answer| answer.ok().json()["codes"].clone())
        .collect();
    assert!(
        codes[0].is_array() && codes.iter().all(|one| *one == codes[0]),
        "{codes:?}"
    );
    let question = json!({"image": encoded, "question": "Is it?"});
    house.json("/v1/vqa", question).await.ok();
    let instruction = json!({"image": encoded, "instruction": "Say what you see."});
    house.json("/v1/instruct", instruction).await.ok();
}

#[tokio::test]
async fn what_a_dicom_file_says_of_its_picture_is_noted_in_words_of_ours() {
    let house = House::plain().await;
    let told = [
        element((8, 0x60), "CS", b"CT"),
        element((0x10, 0x10), "PN", PATIENT),
        element((0x18, 0x15), "CS", b"CANARY"),
        element((0x18, 0x5101), "CS", b"LL"),
    ]
    .concat();
    let mut file = sound();
    let patient = element((0x10, 0x10), "PN", PATIENT);
    let at = file.windows(patient.len()).position(|bytes| bytes == patient);
    let at = at.expect("it is there");
    drop(file.splice(at..at + patient.len(), told));
    let answer = raw(&house, "/v1/report", "application/dicom", file).await.ok();
    assert!(!answer.text().contains("CANARY"), "{}", answer.text());
    let notes = answer.json()["image_notes"].clone();
    let notes: Vec<&str> = notes
        .as_array()
        .expect("notes")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let [view, modality, part] = notes.as_slice() else {
        panic!("{notes:?}")
    };
    assert!(view.contains("lateral") && modality.contains("CT") && part.contains("not known here"));
    let plain = raw(&house, "/v1/report", "application/dicom", sound()).await.ok();
    assert!(plain.json().get("image_notes").is_none());
}

#[tokio::test]
async fn a_dicom_file_that_cannot_be_read_is_refused_by_what_is_wrong() {
    let house = House::plain().await;
    let cut = sound()[..200].to_vec();
    for (bytes, status, code) in [
        (cut, 400, "corrupt_image"),
        (file(EXPLICIT_LITTLE, (64, 64), false), 400, "unsupported_image"),
        (file(EXPLICIT_LITTLE, (65_535, 65_535), true), 413, "image_too_large"),
        (file(EXPLICIT_LITTLE, (128, 128), true), 400, "corrupt_image"),
        (file(JPEG_XL, (64, 64), true), 415, "dicom_not_supported"),
    ] {
        let answer = raw(&house, "/v1/report", "application/dicom", bytes).await;
        assert!(!answer.text().contains("CANARY"), "{}", answer.text());
        answer.refused(status, code);
    }
    raw(&house, "/v1/report", "application/dicom", sound()).await.ok();
}

#[tokio::test]
async fn a_refusal_of_a_dicom_file_names_what_is_wrong_with_it() {
    let house = House::plain().await;
    let lacking = |number: u16| {
        let mut file = sound();
        let at = place(&file, number);
        let length = 8 + usize::from(file[at + 6]);
        file.drain(at..at + length);
        file
    };
    let of_bits = |bits: u8| {
        let mut file = sound();
        let at = place(&file, 0x100);
        file[at + 8] = bits;
        file
    };
    for (bytes, status, code, named) in [
        (lacking(0x04), 400, "corrupt_image", "`PhotometricInterpretation`"),
        (lacking(0x10), 400, "corrupt_image", "`Rows`"),
        (lacking(0x101), 400, "corrupt_image", "`BitsStored`"),
        (of_bits(1), 415, "dicom_not_supported", "`BitsAllocated` 1,"),
        (of_bits(32), 415, "dicom_not_supported", "`BitsAllocated` 32,"),
        (
            file(JPEG_XL, (64, 64), true),
            415,
            "dicom_not_supported",
            "(JPEG XL Lossless)",
        ),
        (
            file(b"1.2.826.0.1.3680043\0", (64, 64), true),
            415,
            "dicom_not_supported",
            "1.2.826.0.1.3680043, which is not known",
        ),
        (sound()[132..].to_vec(), 400, "unknown_image_format", "Part 10"),
    ] {
        let answer = raw(&house, "/v1/report", "application/dicom", bytes).await;
        let text = answer.text();
        assert!(text.contains(named) && !text.contains("CANARY"), "{text}");
        answer.refused(status, code);
    }
}

#[tokio::test]
async fn a_picture_of_one_grey_level_gets_no_report() {
    let house = House::plain().await;
    let mut grey = sound();
    let pixels = grey.len() - 64 * 64;
    grey[pixels..].fill(7);
    let mut inverted = grey.clone();
    let digit = place(&inverted, 0x04) + 8 + "MONOCHROME".len();
    inverted[digit] = b'1';
    let white = Pixels::new(40, 30, vec![255; 40 * 30 * 3]).expect("the size fits");
    let white = radiograph::write(&white, ImageFormat::Png, &[]).expect("written");
    for (kind, bytes) in [
        ("application/dicom", grey),
        ("application/dicom", inverted),
        ("image/png", white),
    ] {
        let question = json!({"image": base64(&bytes), "question": "Is it?"});
        house.json("/v1/vqa", question).await.refused(400, "unsupported_image");
        let answer = raw(&house, "/v1/report", kind, bytes).await;
        assert!(answer.text().contains("one grey level"), "{}", answer.text());
        answer.refused(400, "unsupported_image");
        assert_eq!(answer.json()["error"]["param"], "image");
    }
}

#[tokio::test]
async fn a_server_that_is_set_not_to_read_dicom_says_so() {
    let house = House::ready(Plan {
        config: ServeConfig {
            dicom: Dicom::Off,
            ..Plan::default().config
        },
        ..Plan::default()
    })
    .await;
    raw(&house, "/v1/report", "application/dicom", sound())
        .await
        .refused(415, "dicom_not_supported");
}
