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

#[cfg(target_os = "linux")]
#[test]
fn a_file_that_cannot_be_looked_at_is_an_error_that_names_its_line_and_not_the_patient() {
    use std::os::unix::fs::PermissionsExt;

    let dir = layout("c,51,10000032,train\nb,50,10000032,train\n");
    assert_eq!(read(dir.path()).unwrap().0.len(), 2);
    let study = dir.path().join("files/p10/p10000032/s50");
    let image = study.join("b.jpg");
    // Whoever may look into every folder looks as somebody else, in a thread of its own.
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&study, fs::Permissions::from_mode(0o000)).unwrap();
    let (root, there) = (dir.path().to_owned(), image.clone());
    let looked = std::thread::spawn(move || {
        let nobody: libc::c_long = 65_534;
        // SAFETY: the call takes a number, and changes what this thread may look at and nothing else.
        unsafe { libc::syscall(libc::SYS_setfsuid, nobody) };
        let refused = fs::metadata(&there).is_err_and(|reason| !is_no_file(&reason));
        // Not where other folders are closed to others, or there is no somebody else.
        let can_tell = refused && fs::metadata(root.join(mimic::SPLITS)).is_ok() && fs::read_dir(&root).is_ok();
        can_tell.then(|| read(&root).map(|_| ()))
    });
    if let Some(read) = looked.join().unwrap() {
        let error = read.unwrap_err().to_string();
        assert!(
            error.contains("split.csv, line 3: a file of this image could not be looked at"),
            "{error}"
        );
        assert!(!error.contains("10000032"), "{error}");
    }
    fs::set_permissions(&study, fs::Permissions::from_mode(0o755)).unwrap();
    // What is known not to be there: a link to itself leads nowhere.
    fs::remove_file(&image).unwrap();
    assert_eq!(read(dir.path()).unwrap().1.skipped("image file is missing"), 1);
    std::os::unix::fs::symlink(&image, &image).unwrap();
    assert_eq!(read(dir.path()).unwrap().1.skipped("image file is missing"), 1);
}
