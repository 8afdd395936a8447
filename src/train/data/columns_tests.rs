//! Columns of manifests: what they may be called.

use super::tests::{read, write};
use super::*;

#[test]
fn a_report_may_stand_in_columns_of_its_two_parts_and_a_view_under_the_names_of_public_tables() {
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        "m.csv",
        "image,ViewPosition,Findings,Impression,report\n1.png,PA,Clear lungs.,Normal.,\n2.png,LATERAL,,Normal.,\n\
         3.png,,\"Findings: Dry.\",,\n4.png,,Dry.,Dry.,Whole.\n5.png,AP,,,\n",
    );
    write(
        dir.path(),
        "m.jsonl",
        "{\"image\":\"1.png\",\"findings\":\"Clear lungs.\",\"impression\":\"Normal.\",\"view_position\":\"PA\"}\n",
    );
    let told = |name: &str| {
        let (records, account) = read(&dir.path().join(name)).unwrap();
        assert_eq!(account, Account::default());
        let learned = |record: &Record, stage| {
            record
                .report
                .as_ref()
                .and_then(|report| report.read(stage).unwrap().ok())
        };
        let each = records
            .iter()
            .map(|one| (learned(one, Stage::One), learned(one, Stage::Two), one.selected));
        each.collect::<Vec<_>>()
    };
    let text = |text: &str| Some(text.to_owned());
    let first = (text("Clear lungs. Normal."), text("Normal."), true);
    assert_eq!(
        told("m.csv"),
        [
            first.clone(),
            (text("Normal."), text("Normal."), false),
            (text("Dry."), None, true),
            (text("Whole."), text("Whole."), true),
            (None, None, true),
        ]
    );
    assert_eq!(told("m.jsonl"), [first]);
}

#[test]
fn a_report_that_is_no_text_is_told() {
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        "m.jsonl",
        "{\"image\":\"1.png\",\"findings\":[\"Edema\"]}\n{\"image\":\"2.png\",\"findings\":\"Dry.\"}\n",
    );
    let (records, account) = read(&dir.path().join("m.jsonl")).unwrap();
    assert_eq!(
        [records[0].report.is_some(), records[1].report.is_some()],
        [false, true]
    );
    let told = account.to_string();
    assert!(
        told.ends_with("m.jsonl that are not read: findings (neither text nor a number)"),
        "{told}"
    );
}

#[test]
fn columns_of_chexpert_are_labels_and_an_empty_cell_says_nothing() {
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        "m.csv",
        "Path,Frontal/Lateral,No Finding,Cardiomegaly,Edema,labels\n1.png,Frontal,1.0,0.0,,Hernia=0\n2.png,Lateral,,-1.0,nan,\n\
         3.png,Frontal,,large,,\n",
    );
    write(
        dir.path(),
        "m.jsonl",
        "{\"image\":\"1.png\",\"no finding\":true,\"Cardiomegaly\":0,\"Edema\":null,\"labels\":[\"Hernia=0\"]}\n",
    );
    let named = |list: &[(&str, f32)]| -> Vec<(String, f32)> {
        list.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
    };
    let (records, account) = read(&dir.path().join("m.csv")).unwrap();
    assert_eq!(
        records[0].labels,
        named(&[("No Finding", 1.0), ("Cardiomegaly", 0.0), ("Hernia", 0.0)])
    );
    assert_eq!(records[1].labels, named(&[("Cardiomegaly", -1.0)]));
    assert_eq!((records[0].selected, records[1].selected), (true, false));
    // As in the column `labels`.
    assert_eq!((records.len(), account.skipped(labels::VALUE)), (2, 1));
    let (lines, _) = read(&dir.path().join("m.jsonl")).unwrap();
    let mut told = lines[0].labels.clone();
    told.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(
        told,
        named(&[("Cardiomegaly", 0.0), ("Hernia", 0.0), ("No Finding", 1.0)])
    );
}

#[test]
fn a_row_whose_labels_contradict_each_other_is_counted_and_not_used() {
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        "m.csv",
        "image,labels,Edema,No Finding\n1.png,Edema;edema=0,,\n2.png,Edema,0,\n3.png,Mass,,1\n4.png,Normal=0,,1\n\
         5.png,Edema;Edema=1,1,\n6.png,Support Devices;Mass=0;Nodule=-1,,1\n7.png,Mass,,0\n",
    );
    write(
        dir.path(),
        "m.jsonl",
        "{\"image\":\"1.png\",\"labels\":{\"Edema\":1,\"edema\":0}}\n{\"image\":\"2.png\",\"labels\":[\"Edema\"],\"Edema\":false}\n\
         {\"image\":\"3.png\",\"No Finding\":1,\"labels\":\"Mass\"}\n{\"image\":\"4.png\",\"labels\":[\"Normal=0\",\"No Finding\"]}\n\
         {\"image\":\"5.png\",\"labels\":[\"Edema\"],\"Edema\":1}\n{\"image\":\"6.png\",\"labels\":\"Normal;Support Devices\"}\n\
         {\"image\":\"7.png\",\"labels\":[\"Mass\",\"Normal=0\"]}\n",
    );
    for name in ["m.csv", "m.jsonl"] {
        let (records, account) = read(&dir.path().join(name)).unwrap();
        let used: Vec<&str> = records.iter().map(|one| one.id.as_str()).collect();
        assert_eq!(used, ["5.png", "6.png", "7.png"], "{name}");
        assert_eq!(account.skipped(labels::CONTRADICTION), 4, "{name}: {account}");
    }
}

#[test]
fn two_columns_for_one_field_are_an_error_that_names_both() {
    let dir = tempfile::tempdir().unwrap();
    let told = |name: &str, text: &str| {
        write(dir.path(), name, text);
        read(&dir.path().join(name)).unwrap_err().to_string()
    };
    let error = told("m.csv", "image,split,Path\n1.png,train,2.png\n");
    assert!(error.contains("two columns for `image`: image and Path"), "{error}");
    let error = told(
        "m.jsonl",
        "{\"image\":\"1.png\"}\n{\"image\":\"1.png\",\"path\":\"2.png\"}\n",
    );
    assert!(
        error.contains("line 2") && error.contains("`path`") && error.contains("keep one"),
        "{error}"
    );
}

#[test]
fn several_columns_may_name_the_view_and_a_row_in_which_they_contradict_each_other_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        "m.csv",
        "image,view,ViewPosition,Frontal/Lateral\n1.png,PA,pa,\n2.png,,LATERAL,\n3.png,AP,,Frontal\n4.png,,,\n\
         5.png,PA,LATERAL,\n6.png,PA,AP,\n7.png,,PA,Lateral\n",
    );
    write(
        dir.path(),
        "m.jsonl",
        "{\"image\":\"1.png\",\"view\":\"PA\",\"ViewPosition\":\"pa\"}\n{\"image\":\"2.png\",\"view\":null,\"ViewPosition\":\"LATERAL\"}\n\
         {\"image\":\"3.png\",\"Frontal/Lateral\":\"Frontal\",\"ViewPosition\":\"AP\"}\n{\"image\":\"4.png\",\"view\":\"\"}\n\
         {\"image\":\"5.png\",\"view\":\"PA\",\"ViewPosition\":\"LATERAL\"}\n{\"image\":\"6.png\",\"view\":\"PA\",\"view_position\":\"AP\"}\n\
         {\"image\":\"7.png\",\"ViewPosition\":\"PA\",\"Frontal/Lateral\":\"Lateral\"}\n",
    );
    for name in ["m.csv", "m.jsonl"] {
        let (records, account) = read(&dir.path().join(name)).unwrap();
        let told: Vec<_> = records
            .iter()
            .map(|one| {
                (
                    one.id.as_str(),
                    one.view.as_deref().map(str::to_uppercase),
                    one.selected,
                )
            })
            .collect();
        let view = |view: &str| Some(view.to_owned());
        assert_eq!(
            told,
            [
                ("1.png", view("PA"), true),
                ("2.png", view("LATERAL"), false),
                ("3.png", view("AP"), true),
                ("4.png", None, true),
            ],
            "{name}"
        );
        let told = account.to_string();
        assert!(
            told.contains("skipped 3: columns of the view contradict each other"),
            "{name}: {told}"
        );
    }
}
