//! Tests of what studies are collected, and of what is known of them.

use super::*;

#[test]
fn every_study_gets_the_image_of_another_patient() {
    let study = |number: usize| Study {
        id: number.to_string(),
        image: PathBuf::new(),
        patient: Some((number / 3).to_string()),
        report: None,
        questions: Vec::new(),
        labels: Vec::new(),
        complete: false,
        normal: false,
        truth: PathBuf::new(),
    };
    let studies = Studies {
        list: (0..30).map(study).collect(),
        found: 30,
        account: Account::default(),
    };
    assert_eq!(studies.patients()[..7], [0, 0, 0, 3, 3, 3, 6]);
    let others = studies.shuffled(1);
    assert!((0..30).all(|i| others[i] / 3 != i / 3));
    assert_ne!(others, studies.shuffled(2));
    assert_eq!(others, studies.shuffled(1));
}

#[test]
fn a_limit_is_told_beside_what_there_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.csv");
    let rows: String = (0..9).map(|n| format!("{n}.png,test,PA\n")).collect();
    std::fs::write(&path, format!("image,split,view\n{rows}x.png,test,LATERAL\n")).unwrap();
    let told = |limit| {
        let studies = Studies::collect(&path, None, SplitChoice::Test, limit, 1).unwrap();
        studies.told()
    };
    assert_eq!(
        told(4),
        "9 images in the split, 4 measured\nskipped 1: view is not frontal (first: x.png)"
    );
    assert!(told(0).starts_with("9 images in the split, 9 measured\n"));
}

#[test]
fn an_image_of_mimic_cxr_whose_view_is_not_known_is_skipped_and_a_missing_table_of_views_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write(
        "mimic-cxr-2.0.0-split.csv",
        "dicom_id,study_id,subject_id,split\na,50,10000032,test\nb,50,10000032,test\nc,50,10000032,test\n",
    );
    for image in ["a", "b", "c"] {
        write(&format!("files/p10/p10000032/s50/{image}.jpg"), "");
    }
    let studies = || Studies::collect(dir.path(), None, SplitChoice::Test, 0, 1);
    let none = studies().unwrap_err().to_string();
    assert!(
        none.contains("has no metadata table (mimic-cxr-2.0.0-metadata.csv)") && none.contains("view is unknown"),
        "{none}"
    );
    write(
        "mimic-cxr-2.0.0-metadata.csv",
        "dicom_id,ViewPosition,StudyDate,StudyTime\na,PA,21800101,1\nb,,21800101,1\nc,LATERAL,21800101,1\n",
    );
    let studies = studies().unwrap();
    assert_eq!((studies.list.len(), studies.list[0].id.as_str()), (1, "a"));
    assert_eq!(studies.account.skipped("view is unknown"), 1);
    assert_eq!(studies.account.skipped("view is not frontal"), 1);
}

/// A DICOM file of 4 × 4 pixels.
fn dicom() -> Vec<u8> {
    let pixels: Vec<u16> = (0..16).map(|n| n * 273).collect();
    crate::radiograph::dicom::sample::file("MONOCHROME2 ", None, (4, 4), &pixels)
}

#[test]
fn a_dicom_file_is_sent_as_a_png_of_what_training_sees_and_a_png_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.csv");
    std::fs::write(&path, "image,split\na.dcm,test\nb.png,test\nc.dcm,test\n").unwrap();
    std::fs::write(dir.path().join("a.dcm"), dicom()).unwrap();
    std::fs::write(dir.path().join("b.png"), "as it is").unwrap();
    std::fs::write(dir.path().join("c.dcm"), &dicom()[..200]).unwrap();
    let list = Studies::collect(&path, None, SplitChoice::Test, 0, 1).unwrap().list;
    let seen = crate::train::data::read_image(&list[0].image, 8).unwrap();
    let sent = decode_image(&list[0].file(8).unwrap(), 8).unwrap();
    assert_eq!(sent.rgb(), seen.rgb());
    assert!(sent.rgb().first() < sent.rgb().last());
    assert_eq!(list[1].file(8).unwrap().as_ref(), b"as it is");
    assert!(list[2].file(8).unwrap_err().contains("DICOM"));
}

#[test]
fn a_manifest_that_names_an_image_for_each_question_is_one_study_each() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.csv");
    let rows =
        "image,question,answer,split,labels\na.png,Q1?,Yes,test,Pneumonia\na.png,Q2?,No,test,\nb.png,Q1?,No,train,\n";
    std::fs::write(&path, rows).unwrap();
    let studies = Studies::collect(&path, None, SplitChoice::Test, 0, 1).unwrap();
    assert_eq!(studies.list.len(), 1);
    assert_eq!(studies.list[0].questions().unwrap().unwrap().len(), 2);
    assert_eq!(studies.list[0].truth(Stage::One).unwrap()[11], Some(Label::Positive));
    let none = Studies::collect(&path, None, SplitChoice::Validate, 0, 1)
        .unwrap_err()
        .to_string();
    assert!(none.contains("--split"), "{none}");
}

#[test]
fn an_image_called_normal_has_no_finding_and_may_have_devices() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.csv");
    std::fs::write(&path, "image,split,labels\na.png,test,Normal\nb.png,test,Edema=0\n").unwrap();
    let studies = Studies::collect(&path, None, SplitChoice::Test, 0, 1).unwrap();
    let [normal, other] = &studies.list[..] else {
        panic!("{} studies", studies.list.len())
    };
    assert_eq!(normal.known("No Finding"), Some(Label::Positive));
    assert_eq!(normal.known("Pneumonia"), Some(Label::Blank));
    assert_eq!(normal.known("Support Devices"), None);
    assert_eq!(other.known("Pneumonia"), None);
    // The names that training goes by are those of the phantoms and the labeler.
    assert!(is_normal(crate::phantom::NO_FINDING) && LABELS.contains(&SUPPORT_DEVICES));
}

#[test]
fn labels_of_all_rows_count_and_reports_are_what_the_stage_learns() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.csv");
    let rows = "image,split,view,labels,report\n\
                a.png,test,PA,Edema,FINDINGS: Wet. IMPRESSION: Edema.\n\
                a.png,test,PA,pneumonia=0;edema=0,\n\
                b.png,test,Frontal,,No heading.\n\
                c.png,test,LATERAL,,Sideways.\n\
                d.png,test,,,FINDINGS: IMPRESSION:\n";
    std::fs::write(&path, rows).unwrap();
    let studies = Studies::collect(&path, None, SplitChoice::Test, 0, 1).unwrap();
    let [a, b, d] = &studies.list[..] else {
        panic!("{} studies", studies.list.len())
    };
    assert_eq!(a.known("Edema"), Some(Label::Positive));
    assert_eq!(studies.account.skipped(LABELS_DIFFER), 1);
    assert_eq!(a.known("Pneumonia"), Some(Label::Negative));
    assert_eq!(a.text(Stage::Two).unwrap(), Ok(Some("Edema.".to_owned())));
    assert_eq!(b.text(Stage::Two).unwrap(), Ok(Some("No heading.".to_owned())));
    assert!(d.text(Stage::One).unwrap().unwrap_err().contains("no section"));
}

#[cfg(target_os = "linux")]
#[test]
fn what_a_report_that_the_system_does_not_read_says_is_not_taken_for_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.csv");
    std::fs::write(&path, "image,split\na.png,test\n").unwrap();
    let mut study = Studies::collect(&path, None, SplitChoice::Test, 0, 1)
        .unwrap()
        .list
        .remove(0);
    assert_eq!(study.truth(Stage::One).unwrap(), [None; 14]);
    let held = dir.path().join("held.txt");
    std::os::unix::fs::symlink("/proc/self/mem", &held).unwrap();
    study.report = Some(ReportSource::File(held));
    assert!(study.truth(Stage::One).is_err());
}
