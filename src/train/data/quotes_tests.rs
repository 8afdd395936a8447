//! What a quote out of place does to a data set.

use std::fs;
use std::io::Write;

use super::tests::{mimic as layout, read, write};
use super::*;

#[test]
fn a_manifest_with_a_quote_out_of_place_is_an_error_that_names_the_line_and_no_row_becomes_part_of_a_report() {
    let dir = tempfile::tempdir().unwrap();
    let told = |rows: &str| {
        write(dir.path(), "m.csv", &format!("image,split,patient,report\n{rows}"));
        read(&dir.path().join("m.csv")).unwrap_err().to_string()
    };
    // The rest of the file would be the report of its first image.
    let error = told("1.png,train,Jane,Clear.\n2.png,train,Joe,\"Dry.\n3.png,test,Jim,Edema.\n");
    assert!(
        error.contains("m.csv, line 3: ") && error.contains("never closed") && !error.contains("Jim"),
        "{error}"
    );
    // One stray quote, and the next one that is meant.
    let error = told("1.png,train,Jane,\"Clear.\n2.png,test,Joe,\"Dry, and clear.\"\n");
    assert!(
        error.contains("m.csv, line 3: ") && error.contains("opened in line 2") && !error.contains("Joe"),
        "{error}"
    );
    let error = told("1.png,train,Jane,\"Called \"clear\" before.\"\n");
    assert!(error.contains("m.csv, line 2: ") && error.contains("twice"), "{error}");
}

#[test]
fn the_tables_of_the_mimic_layout_have_quotes_in_place_packed_or_not() {
    let dir = layout("c,51,10000032,train\nb,50,10000032,\"train\"\n");
    assert_eq!(read(dir.path()).unwrap().0.len(), 2);
    let splits = dir.path().join(mimic::SPLITS);
    let text = "dicom_id,study_id,subject_id,split\nc,51,10000032,train\nb,50,10000032,\"train\na,50,10000032,test\n";
    fs::write(&splits, text).unwrap();
    let error = read(dir.path()).unwrap_err().to_string();
    assert!(
        error.contains("split.csv, line 3: ") && error.contains("never closed"),
        "{error}"
    );
    let file = fs::File::create(splits.with_extension("csv.gz")).unwrap();
    let mut packed = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    packed.write_all(text.as_bytes()).unwrap();
    packed.finish().unwrap();
    fs::remove_file(&splits).unwrap();
    let error = read(dir.path()).unwrap_err().to_string();
    assert!(error.contains("split.csv.gz, line 3: "), "{error}");
}
