//! What a reply is, end to end through the thread.

use super::*;
use crate::engine::scripted::{Call, codes_of, image_of};

#[tokio::test]
async fn a_text_reply_comes_token_by_token_and_then_its_account() {
    let (engine, _controls) = ready(says(&[1, 2, 3, END])).await;
    let events = all(engine.submit(job(vec![spec(&[7, 8, 9], Rule::Text, 20)])).unwrap()).await;
    assert_eq!(tokens(&events, 0), vec![1, 2, 3, END]);
    assert!(is_done(&events));
    let summary = summary(&events, 0);
    assert_eq!(
        (summary.reason, summary.prompt_tokens, summary.completion_tokens),
        (FinishReason::Stop, 3, 4)
    );
    assert_eq!(engine.stats().kv_tokens_used, 0);
}

#[tokio::test]
async fn a_reply_that_does_not_end_is_cut_at_its_limit() {
    let (engine, _controls) = ready(says(&[1])).await;
    let events = all(engine.submit(job(vec![spec(&[7], Rule::Text, 5)])).unwrap()).await;
    assert_eq!(tokens(&events, 0), vec![1; 5]);
    assert_eq!(summary(&events, 0).reason, FinishReason::Length);
}

#[tokio::test]
async fn text_never_holds_codes_even_if_the_model_wants_them() {
    let (engine, _controls) = ready(says(&[70])).await;
    let events = all(engine.submit(job(vec![spec(&[7], Rule::Text, 30)])).unwrap()).await;
    assert!(tokens(&events, 0).iter().all(|&id| id < 64));
}

#[tokio::test]
async fn an_image_reply_is_open_codes_close_end_whatever_the_model_wants() {
    for wanted in [3, END, 70] {
        let (engine, controls) = ready(says(&[wanted])).await;
        let events = all(engine.submit(job(vec![spec(&[7], Rule::Image, 19)])).unwrap()).await;
        let ids = tokens(&events, 0);
        assert_eq!((ids.len(), ids[0], ids[17], ids[18]), (19, OPEN, CLOSE, END));
        assert!(ids[1..17].iter().all(|id| (64..96).contains(id)));
        let drawn = events.iter().find_map(|event| match event {
            Event::Drawn {
                sequence: 0,
                codes,
                pixels,
            } => Some((codes.clone(), Arc::clone(pixels))),
            _ => None,
        });
        let (codes, pixels) = drawn.unwrap();
        assert_eq!(codes, ids[1..17].iter().map(|id| (id - 64) as u16).collect::<Vec<_>>());
        assert_eq!(*pixels, image_of(&codes, 4));
        assert!(is_done(&events));
        assert_eq!(
            controls.steps(),
            17,
            "prompt, `<` and 15 codes are run; what is forced at the end is not"
        );
    }
}

#[tokio::test]
async fn a_free_reply_is_drawn_when_it_holds_exactly_an_image_of_codes() {
    let codes = |n: u32| (0..n).map(|i| 64 + i).chain([END]).collect::<Vec<_>>();
    for (reply, drawn) in [(codes(16), true), (codes(15), false), (codes(17), false)] {
        let (engine, _controls) = ready(Reply::Tokens(reply.clone())).await;
        let events = all(engine.submit(job(vec![spec(&[7], Rule::Free, 40)])).unwrap()).await;
        assert_eq!(tokens(&events, 0), reply);
        assert_eq!(events.iter().any(|event| matches!(event, Event::Drawn { .. })), drawn);
        assert!(is_done(&events));
    }
}

#[tokio::test]
async fn codes_of_a_free_reply_count_wherever_they_stand() {
    let scattered: Vec<TokenId> = (0..16).flat_map(|i| [64 + i, 3]).chain([END]).collect();
    let (engine, _controls) = ready(Reply::Tokens(scattered)).await;
    let events = all(engine.submit(job(vec![spec(&[7], Rule::Free, 40)])).unwrap()).await;
    assert!(
        events
            .iter()
            .any(|event| matches!(event, Event::Drawn { codes, .. } if *codes == (0..16).collect::<Vec<_>>()))
    );
}

#[tokio::test]
async fn an_image_is_encoded_once_for_all_the_replies_that_name_it() {
    let (engine, controls) = ready(says(&[1, END])).await;
    let images = vec![picture(10), picture(20)];
    let codes: Vec<_> = images.iter().map(|image| codes_of(image, &facts())).collect();
    let sequences = vec![about(0, 4), about(0, 4), about(1, 4)];
    let events = all(engine
        .submit(Job {
            images,
            ..job(sequences)
        })
        .unwrap())
    .await;
    assert!(is_done(&events));
    for (index, expected) in codes.iter().enumerate() {
        let encoded = |event: &&Event| matches!(event, Event::Encoded { image, .. } if *image == index);
        let list: Vec<_> = events.iter().filter(encoded).collect();
        assert!(matches!(list[..], [Event::Encoded { codes, .. }] if **codes == *expected));
    }
    assert_eq!(
        controls
            .calls()
            .iter()
            .filter(|call| matches!(call, Call::Encode(2)))
            .count(),
        1
    );
    let account = summary(&events, 0);
    assert_eq!((account.prompt_tokens, account.image_tokens), (20, 16));
}

#[tokio::test]
async fn images_and_codes_alone_are_work_too() {
    let (engine, _controls) = ready(says(&[1, END])).await;
    let codes = vec![vec![3u16; 16], vec![4u16; 16]];
    let asked = Job {
        images: vec![picture(1)],
        codes: codes.clone(),
        ..job(vec![])
    };
    let events = all(engine.submit(asked).unwrap()).await;
    assert!(is_done(&events));
    for (name, list) in codes.iter().enumerate() {
        let drawn = |event: &Event| matches!(event, Event::Drawn { sequence, pixels, .. } if *sequence == name && **pixels == image_of(list, 4));
        assert!(events.iter().any(drawn));
    }
}

#[tokio::test]
async fn watched_sets_get_probabilities_at_the_first_new_token() {
    let (engine, _controls) = ready(says(&[1, END])).await;
    for rule in [Rule::Text, Rule::Image] {
        let watched = SequenceSpec {
            watch: vec![vec![1], vec![2, 3], (0..96).collect()],
            ..spec(&[7], rule, 19)
        };
        let events = all(engine.submit(job(vec![watched])).unwrap()).await;
        let got = summary(&events, 0).first_token_probabilities;
        assert!(
            got[0] > 0.999 && got[1] < 0.001 && (got[2] - 1.0).abs() < 1e-9,
            "{got:?}"
        );
    }
}
