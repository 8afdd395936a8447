use std::fs;
use std::path::Path;

use super::*;

pub(super) fn read(path: &Path) -> Result<(Vec<Record>, Account), DataError> {
    let (mut records, mut account) = (Vec::new(), Account::default());
    Dataset::open(path)?.visit(&mut account, &mut |record, _| {
        records.push(record);
        Ok::<_, DataError>(())
    })?;
    Ok((records, account))
}

pub(super) fn write(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

pub(super) fn mimic(splits: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    write(
        root,
        mimic::SPLITS,
        &format!("dicom_id,study_id,subject_id,split\n{splits}"),
    );
    write(
        root,
        "mimic-cxr-2.0.0-metadata.csv",
        "dicom_id,ViewPosition,StudyDate,StudyTime\nb,PA,21800101,93000.5\na,LATERAL,21800101,93000.5\nc,AP,21800101,120000\n",
    );
    write(
        root,
        "mimic-cxr-2.0.0-chexpert.csv",
        "subject_id,study_id,Edema,Fracture\n10000032,50,1.0,\n10000032,51,-1.0,0.0\n",
    );
    for (study, id) in [("s50", "a"), ("s50", "b"), ("s51", "c")] {
        write(root, &format!("files/p10/p10000032/{study}/{id}.jpg"), "");
    }
    write(root, "reports/files/p10/p10000032/s50.txt", "IMPRESSION: Clear.");
    write(
        root,
        "vqa/p10/p10000032/s50.txt",
        "[{'question': 'Clear?', 'answer': 'yes'}]",
    );
    dir
}

#[test]
fn tables_may_be_packed_as_they_are_published() {
    let dir = mimic("c,51,10000032,train\nb,50,10000032,train\n");
    let told = |root: &Path| {
        let (records, _) = read(root).unwrap();
        records
            .into_iter()
            .map(|record| (record.id, record.view, record.labels, record.selected))
            .collect::<Vec<_>>()
    };
    let plain = told(dir.path());
    assert_eq!(plain.len(), 2);
    for name in [
        mimic::SPLITS,
        "mimic-cxr-2.0.0-metadata.csv",
        "mimic-cxr-2.0.0-chexpert.csv",
    ] {
        let path = dir.path().join(name);
        let file = fs::File::create(path.with_extension("csv.gz")).unwrap();
        let mut packed = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        std::io::Write::write_all(&mut packed, &fs::read(&path).unwrap()).unwrap();
        packed.finish().unwrap();
        fs::remove_file(&path).unwrap();
    }
    assert_eq!(told(dir.path()), plain);
    let names = Dataset::open(dir.path()).unwrap().closed_labels().unwrap();
    assert_eq!(names, ["Edema", "Fracture"]);
}

#[test]
fn the_mimic_layout_gives_sorted_images_with_views_labels_reports_and_questions() {
    let dir = mimic(
        "c,51,10000032,train\nb,50,10000032,train\na,50,10000032,train\nd,52,10000032,train\nx,52,../../etc,train\n",
    );
    let (records, account) = read(dir.path()).unwrap();
    let ids: Vec<&str> = records.iter().map(|r| r.id.as_str()).collect();
    assert_eq!(ids, ["a", "b", "c"]);
    // The earliest study at half past nine, though its time is written with five digits; a lateral view is not selected.
    assert_eq!(
        records.iter().map(|r| r.selected).collect::<Vec<_>>(),
        [false, true, false]
    );
    assert_eq!(records[0].view.as_deref(), Some("LATERAL"));
    assert_eq!(records[1].labels, [("Edema".to_owned(), 1.0)]);
    assert_eq!(
        records[2].labels,
        [("Edema".to_owned(), -1.0), ("Fracture".to_owned(), 0.0)]
    );
    assert!(records[1].report.is_some() && records[2].report.is_none());
    let questions = records[0].questions.as_ref().unwrap().read().unwrap().unwrap();
    assert_eq!(
        (questions[0].question.as_str(), questions[0].answer.as_str()),
        ("Clear?", "yes")
    );
    assert_eq!(account.skipped("image file is missing"), 1);
    assert_eq!(account.skipped("row of the split table without proper ids"), 1);
}

#[test]
fn reports_may_lie_as_the_original_has_them() {
    let dir = mimic("c,51,10000032,train\n");
    assert_eq!(read(dir.path()).unwrap().0[0].report, None);
    write(
        dir.path(),
        "mimic-cxr-reports/files/p10/p10000032/s51.txt",
        "IMPRESSION: Wet.",
    );
    let (records, _) = read(dir.path()).unwrap();
    let report = records[0].report.as_ref().unwrap().read(Stage::Two).unwrap();
    assert_eq!(report, Ok("Wet.".to_owned()));
}

#[test]
fn a_patient_in_two_splits_is_an_error_that_names_lines_and_not_the_patient() {
    let dir = mimic("a,50,10000032,train\nb,50,10000032,test\n");
    let error = read(dir.path()).unwrap_err().to_string();
    assert!(
        error.contains("line 3 (split test)") && error.contains("line 2"),
        "{error}"
    );
    assert!(!error.contains("10000032"), "{error}");

    let csv = dir.path().join("own.csv");
    fs::write(
        &csv,
        "image,report,split,patient\n1.png,Clear.,train,Jane\n2.png,Clear.,val,Jane\n",
    )
    .unwrap();
    let error = read(&csv).unwrap_err().to_string();
    assert!(
        error.contains("patient of line 3") && !error.contains("Jane"),
        "{error}"
    );
    fs::write(&csv, "image,report,split\n1.png,Clear.,train\n1.png,Clear.,val\n").unwrap();
    assert!(matches!(read(&csv), Err(DataError::Leak { what: "image", .. })));
}

#[test]
fn a_manifest_may_be_a_table_or_lines_of_json_and_its_unusable_rows_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let csv = dir.path().join("m.csv");
    fs::write(
        &csv,
        "file,report,question,answer,split,labels,other\n1.png,\"A, b.\",,,train,Edema;Fracture=0,x\n2.png,,Clear?,yes,val,,\n3.png,,Clear?,,train,,\n4.png,,,,holdout,,\n",
    )
    .unwrap();
    let (records, account) = read(&csv).unwrap();
    assert_eq!(records.len(), 2);
    assert_eq!(records[0].report, Some(ReportSource::Text("A, b.".to_owned())));
    assert_eq!(
        records[0].labels,
        [("Edema".to_owned(), 1.0), ("Fracture".to_owned(), 0.0)]
    );
    assert_eq!(records[0].image.as_deref(), Some(dir.path().join("1.png").as_path()));
    assert_eq!(records[1].split, Split::Validate);
    assert_eq!(
        account.skipped("question without answer, or answer without question"),
        1
    );
    assert_eq!(account.skipped("split is not train, validate or test"), 1);

    let lines = dir.path().join("m.jsonl");
    fs::write(
        &lines,
        "{\"image\":\"1.png\",\"report\":\"A, b.\",\"labels\":{\"Edema\":1,\"Fracture\":0}}\n{\"instruction\":\"Say hi\",\"context\":\"\",\"response\":\"hi\"}\n{\"instruction\":\"half",
    )
    .unwrap();
    let (lines, account) = read(&lines).unwrap();
    assert_eq!(lines[0].labels, records[0].labels);
    let plain = lines[1].instruction.as_ref().unwrap();
    assert_eq!((plain.context.as_deref(), plain.response.as_str()), (None, "hi"));
    assert_eq!(account.skipped("line is not a JSON object"), 1);
    assert!(account.to_string().contains("line 3"), "{account}");
}

#[test]
fn a_column_is_known_by_its_name_in_any_case_and_what_is_not_read_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let csv = dir.path().join("m.csv");
    fs::write(
        &csv,
        "\u{feff}Image_Path, Split ,Patient_ID,LABELS,Sex,\n1.png,test,p1,Edema=no,F,\n2.png,train,p2,Edema=perhaps,M,\n",
    )
    .unwrap();
    let (records, account) = read(&csv).unwrap();
    assert_eq!((records.len(), records[0].split), (1, Split::Test));
    assert_eq!(records[0].patient.as_deref(), Some("p1"));
    assert_eq!(records[0].labels, [("Edema".to_owned(), 0.0)]);
    assert_eq!(account.skipped(labels::VALUE), 1);
    assert!(
        account
            .to_string()
            .ends_with("\ncolumns of m.csv that are not read: Sex"),
        "{account}"
    );

    let lines = dir.path().join("m.jsonl");
    fs::write(
        &lines,
        "\u{feff}{\"File\":\"1.png\",\"SET\":\"val\",\"labels\":{\"Edema\":true},\"sex\":\"F\"}\r\n\n{\"file\":\"2.png\",\"image\":null}\n",
    )
    .unwrap();
    let (records, account) = read(&lines).unwrap();
    assert_eq!((records.len(), records[0].split), (2, Split::Validate));
    assert_eq!(records[0].labels, [("Edema".to_owned(), 1.0)]);
    assert!(
        account.to_string().contains("m.jsonl that are not read: sex"),
        "{account}"
    );
}

#[test]
fn a_table_saved_in_another_way_is_an_error_that_says_how_to_save_it() {
    let dir = tempfile::tempdir().unwrap();
    let told = |name: &str, text: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("UTF-8") && !error.contains('{'), "{error}");
        error
    };
    let semicolons = told("m.csv", b"\"image\";\"split\"\n1.png;train\n");
    assert!(semicolons.contains("semicolons") && semicolons.contains("comma-separated"));
    assert!(told("m.csv", b"image\treport\n1.png\tClear.\n").contains("tabs"));
    assert!(told("m.csv", b"image,report\n1.png,Clear.\n2.png,Gr\xf6\xdfe\n").contains("line 3"));
    let uneven = told("m.csv", b"image,report\n1.png,Clear, and dry.\n");
    assert!(uneven.contains("line 2") && uneven.contains("3 columns") && uneven.contains("quotes"));
    assert!(told("m.jsonl", b"{\"image\":\"1.png\"}\n{\"report\":\"Gr\xf6\xdfe\"}\n").contains("line 2"));
}

#[test]
fn a_table_with_other_columns_is_an_error_that_shows_both() {
    let dir = tempfile::tempdir().unwrap();
    let csv = dir.path().join("m.csv");
    fs::write(&csv, "picture,words\n1.png,x\n").unwrap();
    let error = read(&csv).unwrap_err().to_string();
    assert!(error.contains("`image`") && error.contains("picture, words"), "{error}");
    assert!(matches!(read(dir.path()), Err(DataError::Unknown(_))));
}

#[test]
fn a_text_with_sections_is_parsed_like_a_file_and_one_without_is_used_as_it_is() {
    let read = |text: &str, stage| ReportSource::Text(text.to_owned()).read(stage).unwrap();
    let whole = "FINDINGS: Clear lungs. IMPRESSION: Normal.";
    assert_eq!(read(whole, Stage::One).unwrap(), "Clear lungs. Normal.");
    assert_eq!(read(whole, Stage::Two).unwrap(), "Normal.");
    for stage in [Stage::One, Stage::Two] {
        assert_eq!(read("Hazy lungs.", stage).unwrap(), "Hazy lungs.");
        assert_eq!(read("My impression: hazy.", stage).unwrap(), "My impression: hazy.");
    }
    // A hospital's own reports have headings in any case.
    let own = "Comparison: 1 May. Findings: Clear lungs.\nImpression: Normal.";
    assert_eq!(read(own, Stage::One).unwrap(), "Clear lungs. Normal.");
    assert_eq!(read(own, Stage::Two).unwrap(), "Normal.");
    assert!(read("FINDINGS: Clear.", Stage::Two).is_err());
    let missing = ReportSource::File("no-such-file".into());
    assert_eq!(missing.read(Stage::One).unwrap(), Err("report cannot be read"));
}

#[test]
fn a_report_in_another_encoding_is_skipped_and_not_learned_with_wrong_letters() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s50.txt");
    fs::write(&path, b"IMPRESSION: Gr\xf6\xdfe normal.").unwrap();
    let report = ReportSource::File(path.clone());
    assert!(report.read(Stage::One).unwrap().unwrap_err().contains("not UTF-8"));
    fs::write(&path, "IMPRESSION: Größe normal.").unwrap();
    assert_eq!(report.read(Stage::One).unwrap(), Ok("Größe normal.".to_owned()));
}

#[cfg(target_os = "linux")]
#[test]
fn a_report_or_questions_that_the_system_does_not_read_are_no_reason_to_skip_them() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("s50.txt");
    fs::write(&file, "IMPRESSION: Clear.").unwrap();
    // Nothing is there, or can be.
    let names = ["s51.txt".to_owned(), "s".repeat(300), "s\0.txt".to_owned()];
    let gone = names.map(|name| dir.path().join(name)).into_iter();
    for gone in gone.chain([file.join("s52.txt"), dir.path().to_owned()]) {
        assert!(ReportSource::File(gone.clone()).read(Stage::One).unwrap().is_err());
        assert!(Questions::File(gone).read().unwrap().is_err());
    }
    // Something is there, and is not given.
    let held = dir.path().join("held.txt");
    std::os::unix::fs::symlink("/proc/self/mem", &held).unwrap();
    let reason = ReportSource::File(held.clone()).read(Stage::One).unwrap_err();
    assert!(!is_no_file(&reason) && Questions::File(held).read().is_err());
    let told = DataError::unread("report", "02aa804e", reason).to_string();
    assert!(
        told.starts_with("the report of 02aa804e could not be read: ") && told.contains("run this again"),
        "{told}"
    );
}

#[test]
fn the_words_of_a_data_set_are_those_of_its_training_split() {
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        "m.csv",
        "image,split,report,question,answer,instruction,response\n1.png,train,IMPRESSION: A.,,,,\n1.png,train,,B?,Yes.,,\n\
         2.png,val,C.,D?,No.,,\n,train,,,,E,F\n3.png,train,IMPRESSION:,,,,\n",
    );
    let mut account = Account::default();
    let words = texts(&Dataset::open(&dir.path().join("m.csv")).unwrap(), &mut account).unwrap();
    assert_eq!(words, ["A.", "B?", "Yes.", "E", "F"]);
    assert_eq!(account.skipped(MET), 0);
    assert_eq!(account.skipped("report has no section that this stage uses"), 1);
}

#[test]
fn a_report_of_several_rows_and_a_file_of_questions_are_words_once() {
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        "m.csv",
        "image,report,question,answer\n1.png,Clear.,A?,Yes.\n1.png,Clear.,B?,Yes.\n2.png,Clear.,A?,Yes.\n",
    );
    let told = |path: &Path| {
        let mut account = Account::default();
        let words = texts(&Dataset::open(path).unwrap(), &mut account).unwrap();
        (words, account.skipped(MET))
    };
    let (words, met) = told(&dir.path().join("m.csv"));
    assert_eq!(words, ["Clear.", "A?", "Yes.", "B?", "Yes.", "A?", "Yes."]);
    assert_eq!(met, 2);
    // The images a and b are of one study.
    let layout = mimic("a,50,10000032,train\nb,50,10000032,train\n");
    assert_eq!(
        told(layout.path()),
        (["Clear.", "Clear?", "yes"].map(str::to_owned).to_vec(), 1)
    );
}

#[test]
fn rows_without_a_split_beside_rows_with_one_are_told_and_a_split_that_is_no_text_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let told = |name: &str, text: &str| {
        write(dir.path(), name, text);
        let (records, account) = read(&dir.path().join(name)).unwrap();
        (records.len(), account)
    };
    let (count, account) = told("m.csv", "image,split\n1.png,\n2.png,test\n3.png, \n");
    assert_eq!(count, 3);
    assert!(
        account.to_string().contains("\n2 rows of m.csv name no split"),
        "{account}"
    );
    let lines =
        "{\"image\":\"1.png\",\"split\":\"val\"}\n{\"image\":\"2.png\"}\n{\"image\":\"3.png\",\"split\":[\"test\"]}\n";
    let (count, account) = told("m.jsonl", lines);
    assert_eq!((count, account.skipped("split is not train, validate or test")), (2, 1));
    assert!(
        account.to_string().contains("\n1 rows of m.jsonl name no split"),
        "{account}"
    );
    // Where no row has one there is nothing to tell.
    let (_, account) = told("m.csv", "image\n1.png\n");
    assert_eq!(account, Account::default());
}

#[test]
fn an_image_that_rows_spell_in_two_ways_has_one_name() {
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        "m.csv",
        "image\nimg/a.png\n./img/a.png\nimg/../img//a.png\n../a.png\n",
    );
    let (records, _) = read(&dir.path().join("m.csv")).unwrap();
    let ids: Vec<&str> = records.iter().map(|record| record.id.as_str()).collect();
    assert_eq!(ids, ["img/a.png", "img/a.png", "img/a.png", "../a.png"]);
    assert_eq!(
        records[1].image.as_deref(),
        Some(dir.path().join("img/a.png").as_path())
    );
}

#[test]
fn a_report_without_an_image_is_given_where_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "t.CSV", "text,split\nClear lungs.,train\n,train\n");
    let dataset = Dataset::open(&dir.path().join("t.CSV")).unwrap();
    let texts = |dataset: Dataset| {
        let (mut texts, mut account) = (Vec::new(), Account::default());
        let visited = dataset.visit(&mut account, &mut |record, _| {
            texts.push(record.report);
            Ok::<_, DataError>(())
        });
        visited.map(|()| (texts, account))
    };
    let missing = texts(dataset.clone()).unwrap_err().to_string();
    assert!(missing.contains("lacks the column `image`"), "{missing}");
    let (texts, account) = texts(dataset.with_bare_texts()).unwrap();
    assert_eq!(texts, [Some(ReportSource::Text("Clear lungs.".to_owned()))]);
    assert_eq!(account.skipped("neither text, report nor instruction"), 1);
}

#[test]
fn what_the_tables_of_the_mimic_layout_lack_or_hold_too_much_of_is_told() {
    let dir = mimic("b,50,10000032,train\n");
    let (_, account) = read(dir.path()).unwrap();
    let strangers = "labels are of a study that the split table does not list";
    assert_eq!(account.skipped(strangers), 1);
    assert!(!account.to_string().contains("views are unknown"), "{account}");
    fs::remove_file(dir.path().join("mimic-cxr-2.0.0-metadata.csv")).unwrap();
    let (_, account) = read(dir.path()).unwrap();
    assert!(account.to_string().contains("views are unknown"), "{account}");
}
