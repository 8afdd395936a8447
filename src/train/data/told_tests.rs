//! What is odd in tables and paths is told, and what it costs.

use std::fs;

use super::tests::{mimic as layout, read, write};
use super::*;

#[test]
fn a_study_whose_labels_are_not_understood_has_none_and_is_counted_with_its_line() {
    let dir = layout("b,50,10000032,train\nc,51,10000032,train\n");
    let told = |rows: &str| {
        write(
            dir.path(),
            "mimic-cxr-2.0.0-chexpert.csv",
            &format!("subject_id,study_id,Edema,Fracture\n{rows}"),
        );
        let (records, account) = read(dir.path()).unwrap();
        let labels: Vec<_> = records.into_iter().map(|record| record.labels).collect();
        (labels, account)
    };
    let edema = vec![("Edema".to_owned(), 1.0f32)];
    // What pandas writes for an empty cell is one; words mean what they mean in a manifest.
    let (labels, account) = told("1,50,1.0,nan\n1,51,present,NaN\n");
    assert_eq!(labels, [edema.clone(), edema.clone()]);
    assert_eq!(account, Account::default());
    for odd in ["positive", "2", "0.5", "inf"] {
        let (labels, account) = told(&format!("1,50,1.0,\n1,51,{odd},0.0\n"));
        assert_eq!(labels, [edema.clone(), Vec::new()], "{odd}");
        assert_eq!(account.skipped(labels::TABLE_VALUE), 1, "{odd}");
        assert!(
            account.to_string().contains("line 3 of mimic-cxr-2.0.0-chexpert.csv"),
            "{account}"
        );
    }
}

#[test]
fn images_and_studies_that_half_copied_tables_lack_are_told() {
    let dir = layout("a,50,10000032,train\nb,50,10000032,train\nc,51,10000032,train\n");
    assert_eq!(read(dir.path()).unwrap().1, Account::default());
    let cut = |name: &str, lines: usize| {
        let text = fs::read_to_string(dir.path().join(name)).unwrap();
        let kept: Vec<&str> = text.lines().take(lines).collect();
        write(dir.path(), name, &(kept.join("\n") + "\n"));
    };
    cut("mimic-cxr-2.0.0-metadata.csv", 2);
    cut("mimic-cxr-2.0.0-chexpert.csv", 2);
    let told = read(dir.path()).unwrap().1.to_string();
    assert!(
        told.contains("2 images of the split table are not in mimic-cxr-2.0.0-metadata.csv (first: a)"),
        "{told}"
    );
    assert!(
        told.contains("studies of the split table without a row in mimic-cxr-2.0.0-chexpert.csv: 1 (first: 51)"),
        "{told}"
    );
}

#[test]
fn a_path_where_nothing_is_a_share_of_nought_and_an_empty_table_are_told_as_what_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let told = |name: &str| read(&dir.path().join(name)).unwrap_err().to_string();
    for gone in ["m.csv", "m.jsonl", "mimic", "m.csv@2"] {
        let error = told(gone);
        assert!(
            error.contains("nothing is there") && !error.contains("share"),
            "{error}"
        );
    }
    assert!(told(r"ours\m.csv").contains("not backslashes") && !told("m.csv").contains("backslashes"));
    for share in ["m.csv@0", "m.csv@-1", "m.csv@inf"] {
        assert!(told(share).contains("above 0"), "{share}");
    }
    write(dir.path(), "README.md", "words");
    assert!(told("README.md").contains("`pretrain --text` takes .txt"));
    for nothing in ["", "\n\n", ",,\n"] {
        write(dir.path(), "m.csv", nothing);
        let error = told("m.csv");
        assert!(error.contains("is empty") && !error.contains("it has"), "{error}");
    }
    let layout = layout("");
    write(layout.path(), mimic::SPLITS, "");
    assert!(read(layout.path()).unwrap_err().to_string().contains("is empty"));
}
