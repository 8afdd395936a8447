use std::fs;
use std::path::{Path, PathBuf};

use super::*;

/// Visits data sets one after the other with one watch.
fn together(sets: &[&Path]) -> Result<(), DataError> {
    let (mut watch, mut account) = (SplitWatch::default(), Account::default());
    sets.iter().try_for_each(|set| {
        Dataset::open(set)?.visit_watched(&mut watch, &mut account, &mut |_, _| Ok::<_, DataError>(()))
    })
}

fn write(path: PathBuf, text: &str) -> PathBuf {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    path
}

/// A data set in the MIMIC-CXR-JPG layout of one image of subject 10000032.
fn mimic(root: PathBuf, split: &str) -> PathBuf {
    let rows = format!("dicom_id,study_id,subject_id,split\na,50,10000032,{split}\n");
    write(root.join(mimic::SPLITS), &rows);
    write(root.join("files/p10/p10000032/s50/a.jpg"), "");
    root
}

#[test]
fn a_subject_in_two_splits_of_two_data_sets_of_the_mimic_layout_is_an_error_that_names_both() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (
        mimic(dir.path().join("a"), "train"),
        mimic(dir.path().join("b"), "test"),
    );
    let error = together(&[&a, &b]).unwrap_err().to_string();
    for part in [
        "b/mimic-cxr-2.0.0-split.csv",
        "line 2 (split test)",
        "split train by line 2 of",
        "a/mimic-cxr-2.0.0-split.csv;",
        "are taken for the same people",
    ] {
        assert!(error.contains(part), "{error}");
    }
    assert!(!error.contains("10000032"), "{error}");
    together(&[&a, &mimic(dir.path().join("c"), "train")]).unwrap();
    // Phantoms are numbered as MIMIC-CXR's subjects are, and are other ones.
    write(b.join("phantom.json"), "{}");
    together(&[&a, &b]).unwrap();
}

#[test]
fn patients_of_manifests_are_the_same_people_within_a_folder_and_may_be_others_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let row = |name: &str, split: &str, patient: &str| {
        let file = name.replace(['/', '.'], "-");
        let rows = format!("image,split,patient\n{file}.png,{split},{patient}\n");
        write(dir.path().join(name), &rows)
    };
    let (a, b, elsewhere) = (
        row("x/a.csv", "train", "p1"),
        row("x/b.csv", "val", "p1"),
        row("y/b.csv", "val", "p1"),
    );
    let error = together(&[&a, &b]).unwrap_err().to_string();
    assert!(
        error.contains("data sets in one folder") && error.contains("x/a.csv;"),
        "{error}"
    );
    together(&[&a, &elsewhere]).unwrap();
    together(&[&a, &row("x/c.csv", "train", "p1"), &row("x/d.csv", "test", "p2")]).unwrap();
    // A list that stands beside MIMIC-CXR is of its subjects.
    let whole = mimic(dir.path().join("mimic"), "train");
    let other = mimic(dir.path().join("other"), "test");
    let list = row("mimic/list.csv", "train", "10000032");
    together(&[&whole, &list]).unwrap();
    assert!(together(&[&list, &other]).is_err());
}

#[test]
fn an_image_in_two_splits_is_an_error_by_whatever_path_it_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let whole = mimic(dir.path().join("mimic"), "train");
    let image = "../mimic/./files/p10/p10000032/s50/a.jpg";
    let list = write(dir.path().join("x/a.csv"), &format!("image,split\n{image},val\n"));
    let error = together(&[&whole, &list]).unwrap_err();
    assert!(
        matches!(
            &error,
            DataError::Leak {
                what: "image",
                elsewhere: Some(_),
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("put all of a patient's images into one"));
    write(list.clone(), &format!("image,split\n{image},train\n"));
    together(&[&whole, &list]).unwrap();
}
