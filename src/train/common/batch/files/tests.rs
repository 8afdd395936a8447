use super::*;

fn names(files: &Files) -> Vec<String> {
    let name = |e: &Entry| e.path.strip_prefix(&files.root).unwrap().to_string_lossy().into_owned();
    files.entries.iter().map(name).collect()
}

fn labels(files: &Files, at: usize) -> Vec<(&str, f32)> {
    let name = |&(number, value): &(u16, f32)| (files.names[usize::from(number)].as_str(), value);
    let mut labels: Vec<_> = files.entries[at].labels.iter().map(name).collect();
    labels.sort_by(|a, b| a.0.cmp(b.0));
    labels
}

#[test]
fn a_manifest_gives_its_splits_and_labels_and_normal_means_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let csv = dir.path().join("m.csv");
    fs::write(
        &csv,
        "file,split,labels\na.png,train,Pneumonia;bacteria\nb.png,val,NORMAL\nc.png,train,Edema=-1;No Finding=0\n",
    )
    .unwrap();
    let (train, validate) = (
        Files::open(&csv, true, Known::Labels).unwrap(),
        Files::open(&csv, false, Known::Labels).unwrap(),
    );
    assert_eq!(
        (names(&train), names(&validate)),
        (vec!["a.png".to_owned(), "c.png".to_owned()], vec!["b.png".to_owned()])
    );
    assert_eq!(train.labels(), ["Pneumonia", "bacteria", "Edema", "No Finding"]);
    assert_eq!(labels(&train, 0), [("Pneumonia", 1.0), ("bacteria", 1.0)]);
    assert_eq!(labels(&train, 1), [("No Finding", 0.0)]);
    assert!(validate.entries[0].normal && !train.entries[0].normal && !train.entries[1].normal);
}

#[test]
fn labels_that_differ_in_case_alone_are_one_within_a_data_set_and_between_them() {
    let dir = tempfile::tempdir().unwrap();
    let set = |name: &str, rows: &str| {
        let path = dir.path().join(name);
        fs::write(&path, format!("file,split,patient,labels\n{rows}")).unwrap();
        path.to_string_lossy().into_owned()
    };
    let one = set("one.csv", "a.png,train,1,Edema\nb.png,train,2,edema=0\n");
    let two = set("two.csv", "c.png,train,3,EDEMA;Mass\n");
    let files = Files::open(Path::new(&one), true, Known::Labels).unwrap();
    assert_eq!(
        (labels(&files, 0), labels(&files, 1)),
        (vec![("Edema", 1.0)], vec![("Edema", 0.0)])
    );
    let names = open_sources(&[one, two], true, Known::Labels).unwrap().labels;
    assert_eq!(names, ["EDEMA", "Mass"]);
}

#[test]
fn an_image_of_several_rows_counts_once_with_the_labels_of_all() {
    let dir = tempfile::tempdir().unwrap();
    let lines = dir.path().join("m.jsonl");
    fs::write(
        &lines,
        "{\"image\":\"a.png\",\"labels\":[\"x\"],\"report\":\"X.\"}\n{\"image\":\"b.png\"}\n{\"half\n\
         {\"image\":\"a.png\",\"labels\":[\"x\",\"y\"],\"question\":\"Y?\",\"answer\":\"Yes.\"}\n",
    )
    .unwrap();
    let files = Files::open(&lines, true, Known::Labels).unwrap();
    assert_eq!(names(&files), ["a.png", "b.png"]);
    assert_eq!(labels(&files, 0), [("x", 1.0), ("y", 1.0)]);
    assert_eq!(files.account().skipped("line is not a JSON object"), 1);
}

#[test]
fn the_mimic_layout_gives_paths_and_certain_labels() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write(
        "mimic-cxr-2.0.0-split.csv",
        "dicom_id,study_id,subject_id,split\nd1,50,10000032,train\nd2,51,10000033,validate\nd3,52,10000032,train\nd4,53,10000032,train\n",
    );
    write(
        "mimic-cxr-2.0.0-chexpert.csv",
        "subject_id,study_id,Edema,Fracture,Lung Lesion\n10000032,50,1.0,,-1.0\n",
    );
    for (study, image) in [("s50", "d1"), ("s52", "d3")] {
        write(&format!("files/p10/p10000032/{study}/{image}.jpg"), "");
    }
    let files = Files::open(dir.path(), true, Known::Labels).unwrap();
    assert_eq!(
        names(&files),
        ["files/p10/p10000032/s50/d1.jpg", "files/p10/p10000032/s52/d3.jpg"]
    );
    assert_eq!(files.labels(), ["Edema", "Fracture", "Lung Lesion"]);
    assert_eq!(labels(&files, 0), [("Edema", 1.0), ("Fracture", 0.0)]);
    // Without a row of labels nothing is known.
    assert_eq!(labels(&files, 1), []);
    assert_eq!(files.account().skipped("image file is missing"), 2);
    // The file does not decode: that is told of it, and is no end.
    let skip = files.load(0, 8).err().unwrap();
    assert_eq!(
        (skip.data.as_deref(), skip.reason),
        (Some(dir.path()), "image does not decode")
    );
    assert!(skip.to_string().starts_with("d1: "), "{skip}");
}

#[test]
fn messages_name_an_image_of_the_mimic_layout_by_its_id_and_never_its_patient_and_checksums_know_its_path() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("mimic");
    let path = "files/p10/p10000032/s50/d1.5.png";
    let rgb = (0..8 * 8 * 3).map(|i| i as u8).collect();
    let image = crate::radiograph::Pixels::new(8, 8, rgb).unwrap();
    let png = crate::radiograph::write(&image, crate::radiograph::ImageFormat::Png, &[]).unwrap();
    fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
    fs::write(root.join(path), png).unwrap();
    let table = "dicom_id,study_id,subject_id,split\nd1.5,50,10000032,train\n";
    fs::write(root.join("mimic-cxr-2.0.0-split.csv"), table).unwrap();
    let files = Files::open(&root, true, Known::Labels).unwrap();
    // An image that is learned from, as an error that lists its batch would name it.
    assert_eq!(files.load(0, 8).unwrap().id, "d1.5");
    // One that is skipped.
    fs::write(root.join(path), "no image").unwrap();
    let skip = files.load(0, 8).err().unwrap();
    assert_eq!(skip.id, "d1.5");
    assert!(!skip.to_string().contains("10000032"), "{skip}");
    // Runs from before go on: by this their data are those of then.
    assert_eq!(files.name(0).as_deref(), Some(path));
    // Elsewhere a path is what the owner of the data has written.
    let list = dir.path().join("m.csv");
    fs::write(&list, format!("image\nmimic/{path}\n")).unwrap();
    let files = Files::open(&list, true, Known::Labels).unwrap();
    assert_eq!(files.load(0, 8).err().unwrap().id, format!("mimic/{path}"));
}

#[test]
fn a_plain_folder_gives_every_image_and_keeps_each_20th_for_validation() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("sub")).unwrap();
    for n in 0..20 {
        fs::write(dir.path().join(format!("sub/{n:02}.png")), "").unwrap();
    }
    // Tables of one's own are no splits, whatever they are on.
    for name in ["notes.txt", "list.csv", "mimic-cxr-notes.csv"] {
        fs::write(dir.path().join(name), "").unwrap();
    }
    let (train, validate) = (
        Files::open(dir.path(), true, Known::Labels).unwrap(),
        Files::open(dir.path(), false, Known::Labels).unwrap(),
    );
    assert_eq!(
        (train.count(), names(&validate)),
        (Some(19), vec!["sub/19.png".to_owned()])
    );
    let missing = Files::open(&dir.path().join("none"), true, Known::Labels)
        .err()
        .unwrap();
    assert!(missing.to_string().contains("is no data set"), "{missing}");
}

#[test]
fn a_part_of_a_data_set_with_splits_is_no_plain_folder() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("mimic");
    let write = |name: &str, text: &str| {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("files/p10/p10000032/s50/d1.png", "");
    write("mimic-cxr-2.0.0-chexpert.csv", "study_id,Edema\n");
    write("split.csv", "dicom_id,study_id,subject_id,split\nd1,50,10000032,test\n");
    let told = |path: &Path| Files::open(path, true, Known::Labels).err().unwrap().to_string();
    // Its table of splits has another name.
    let misnamed = told(&root);
    assert!(
        misnamed.contains("mimic-cxr-2.0.0-split.csv (or .csv.gz)") && misnamed.contains("put it there"),
        "{misnamed}"
    );
    fs::rename(root.join("split.csv"), root.join("mimic-cxr-2.0.0-split.csv")).unwrap();
    assert!(Files::open(&root, true, Known::Labels).is_ok());
    for inside in ["files", "files/p10"] {
        let part = told(&root.join(inside));
        assert!(
            part.contains("is a part of the data set in") && part.ends_with("/mimic"),
            "{part}"
        );
    }
    let above = told(dir.path());
    assert!(
        above.contains("holds the data set in") && above.ends_with("/mimic"),
        "{above}"
    );
    // Phantoms without their tables.
    fs::remove_file(root.join("mimic-cxr-2.0.0-split.csv")).unwrap();
    fs::remove_file(root.join("mimic-cxr-2.0.0-chexpert.csv")).unwrap();
    assert!(Files::open(&root.join("files"), true, Known::Labels).is_ok());
    write("phantom.json", "{}");
    assert!(told(&root.join("files")).contains("is a part of"));
    assert!(told(&root).contains("phantom.json"));
}

#[test]
fn a_label_that_is_known_of_no_training_image_is_none_to_learn() {
    let dir = tempfile::tempdir().unwrap();
    let csv = dir.path().join("m.csv");
    let rows = "file,split,labels\na.png,train,Edema=-1;Mass=0\nb.png,val,Fracture\n";
    fs::write(&csv, rows).unwrap();
    let sources = open_sources(&[csv.to_string_lossy().into_owned()], true, Known::Labels).unwrap();
    assert_eq!(sources.labels, ["Mass"]);
}

#[test]
fn rows_of_one_image_whose_labels_contradict_each_other_are_counted_and_the_first_one_stands() {
    let dir = tempfile::tempdir().unwrap();
    let csv = dir.path().join("m.csv");
    let rows = "a.png,train,Edema\na.png,train,edema=0\nb.png,train,No Finding\nb.png,train,Mass\nc.png,train,Edema=-1\nc.png,train,Edema\n\
                d.png,train,Edema\nd.png,train,Edema;Mass=0\ne.png,test,Edema\ne.png,test,Edema=0\n";
    fs::write(&csv, format!("file,split,labels\n{rows}")).unwrap();
    let files = Files::open(&csv, true, Known::Labels).unwrap();
    assert_eq!(files.account().skipped(LABELS_DIFFER), 3);
    assert_eq!(labels(&files, 0), [("Edema", 1.0)]);
    assert_eq!(labels(&files, 1), [("No Finding", 1.0)]);
    assert!(files.entries[1].normal);
    assert_eq!(labels(&files, 2), []);
    assert_eq!(labels(&files, 3), [("Edema", 1.0), ("Mass", 0.0)]);
}
