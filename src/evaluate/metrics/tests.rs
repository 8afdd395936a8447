//! Held to what public implementations make of the same texts (tests/fixtures/make_evaluate_fixtures.py), and to hand counts.

use serde_json::Value;

use super::stem::stem;
use super::*;
use crate::phantom::NO_FINDING;
use crate::train::classifier::scores::Counts;

fn fixture() -> (Value, Vec<(String, String)>) {
    let text = include_str!("../../../tests/fixtures/evaluate/scores.json");
    let value: Value = serde_json::from_str(text).unwrap();
    let pairs = serde_json::from_value(value["pairs"].clone()).unwrap();
    (value, pairs)
}

fn near(ours: f64, theirs: &Value, what: &str) {
    let theirs = theirs.as_f64().unwrap();
    assert!((ours - theirs).abs() < 1e-9, "{what}: {ours} against {theirs}");
}

#[test]
fn bleu_agrees_with_sacrebleu() {
    let (value, pairs) = fixture();
    let ours = bleu(&pairs);
    near(ours.bleu_1, &value["bleu_1"], "BLEU-1");
    near(ours.bleu_2, &value["bleu_2"], "BLEU-2");
    near(ours.bleu_3, &value["bleu_3"], "BLEU-3");
    near(ours.bleu_4, &value["bleu_4"], "BLEU-4");
    assert_eq!(bleu(&[]).bleu_1, 0.0);
    assert_eq!(bleu(&[(String::new(), "a".to_owned())]).bleu_4, 0.0);
}

#[test]
fn rouge_l_agrees_with_rouge_score() {
    let (value, pairs) = fixture();
    near(rouge_l(&pairs), &value["rouge_l"], "ROUGE-L");
    // "a b c d" and "a c e": the common subsequence is "a c", precision 1/2, recall 2/3.
    let by_hand = rouge_l(&[("a b c d".to_owned(), "A, c: e".to_owned())]);
    assert!((by_hand - 4.0 / 7.0).abs() < 1e-12);
}

#[test]
fn meteor_agrees_with_nltk_without_synonyms() {
    let (value, pairs) = fixture();
    near(meteor(&pairs), &value["meteor"], "METEOR");
}

#[test]
fn cider_agrees_with_pycocoevalcap() {
    let (value, pairs) = fixture();
    near(cider(&pairs), &value["cider"], "CIDEr");
    assert_eq!(cider(&[]), 0.0);
}

#[test]
fn stems_are_those_of_nltk() {
    let (value, _) = fixture();
    let stems: Vec<(String, String)> = serde_json::from_value(value["stems"].clone()).unwrap();
    assert!(stems.len() > 60);
    for (word, wanted) in stems {
        assert_eq!(stem(&word), wanted, "{word}");
    }
}

#[test]
fn tokens_keep_numbers_and_words_whole() {
    let tokens = tokens_13a("A 1.2 cm well-defined nodule, (3-6 months); T4's 1,000. End.");
    let wanted = "a 1.2 cm well-defined nodule , ( 3 - 6 months ) ; t4's 1,000 . end .";
    assert_eq!(tokens.join(" "), wanted);
}

#[test]
fn a_table_of_labels_counts_what_is_known() {
    let names = ["A".to_owned(), NO_FINDING.to_owned()];
    let cases = [
        (vec![true, false], vec![Some(true), Some(false)]),
        (vec![true, true], vec![Some(false), Some(true)]),
        (vec![false, true], vec![Some(true), None]),
    ];
    let table = LabelTable::of(&names, &cases);
    // A: one hit, one false alarm, one miss; No Finding: one hit, one rejection.
    assert_eq!(table.labels[0].scores.f1, Some(0.5));
    assert_eq!((table.labels[1].hits, table.labels[1].rejections), (1, 1));
    assert_eq!(table.micro.f1, Some(2.0 * 2.0 / (2.0 * 2.0 + 1.0 + 1.0)));
    assert_eq!(table.micro_findings.f1, Some(0.5));
    assert_eq!(table.macro_f1, Some(0.75));
    assert_eq!(table.micro.precision, Some(2.0 / 3.0));
}

#[test]
fn cases_are_summed_as_often_as_they_are_drawn() {
    let counts = |hits, false_alarms, misses| Counts {
        hits,
        false_alarms,
        misses,
    };
    let counts = [counts(1, 0, 0), counts(0, 1, 2), counts(0, 0, 0)];
    assert_eq!(micro_f1(&counts, &[0, 1]), Some(2.0 / 5.0));
    assert_eq!(micro_f1(&counts, &[0, 0, 1]), Some(4.0 / 7.0));
    assert_eq!(micro_f1(&counts, &[2]), None);
}
