//! The phantoms' data set, read back as any data set is.

use std::collections::BTreeMap;

use llm_cxr::train::data::{Account, DataError, Dataset, Questions, ReportSource, Split, Stage, read_image, texts};

use crate::house::phantoms;

#[test]
fn phantoms_are_read_back_with_images_reports_questions_labels_and_splits() {
    let dataset = Dataset::open(phantoms()).expect("a data set");
    let (mut account, mut splits, mut records) = (Account::default(), BTreeMap::new(), Vec::new());
    dataset
        .visit::<DataError>(&mut account, &mut |record, _| {
            *splits.entry(record.split).or_insert(0) += 1;
            records.push(record);
            Ok(())
        })
        .expect("no leak and no odd table");
    assert_eq!(account, Account::default(), "something was skipped");
    assert_eq!(records.len(), 40);
    assert!(splits[&Split::Train] > 20, "{splits:?}");
    let (mut asked, mut selected, mut patients) = (0, 0, std::collections::BTreeSet::new());
    for record in &records {
        let image = record.image.as_deref().expect("an image");
        assert_eq!(read_image(image, 32).expect("it decodes").width(), 32);
        assert!(matches!(record.view.as_deref(), Some("PA" | "AP")));
        let Some(report @ ReportSource::File(_)) = &record.report else {
            panic!("{} has no report file", record.id);
        };
        let read = |stage| report.read(stage).expect("it is there").expect("it has both sections");
        let (first, second) = (read(Stage::One), read(Stage::Two));
        assert!(
            first.ends_with(&second) && first.len() > second.len(),
            "{first} | {second}"
        );
        let Some(questions @ Questions::File(_)) = &record.questions else {
            panic!("{} has no question file", record.id);
        };
        let questions = questions.read().expect("it is there").expect("a Python-literal list");
        assert!(questions.iter().any(|q| q.question == "Is this a PA or an AP view?"
            && q.answer.trim_end_matches('.') == record.view.as_deref().unwrap_or_default()));
        asked += questions.len();
        // Findings are present, denied, or uncertain; a normal study says so.
        assert!(!record.labels.is_empty());
        assert!(record.labels.iter().all(|(_, value)| [-1.0, 0.0, 1.0].contains(value)));
        selected += usize::from(record.selected);
        patients.insert(record.patient.clone().expect("a patient"));
    }
    assert!(asked > 5 * records.len(), "{asked} questions");
    // One frontal image of each patient's first study.
    assert_eq!(selected, patients.len());
    let mut account = Account::default();
    let words = texts(&dataset, &mut account).expect("texts");
    assert_eq!(account.count("reports"), splits[&Split::Train]);
    assert!(words.len() as u64 > account.count("reports") + account.count("lists of questions"));
}
