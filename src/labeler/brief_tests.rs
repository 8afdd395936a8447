//! Requests in few words for what has no name of its own in them.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::brief::{DEVICES, NAMES, NORMAL};
use super::*;

/// A hundred requests made from a report, in lower case.
fn requests(report: &str) -> Vec<String> {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    (0..100).map(|_| brief(report, &mut rng).to_lowercase()).collect()
}

#[test]
fn a_device_without_a_name_of_its_own_is_asked_for_all_the_same() {
    for report in [
        "A nasogastric tube ends in the stomach. The lungs are clear. No pneumothorax.",
        "Left chest tube in place. No pleural effusion.",
        "A tracheostomy is present. The lungs are clear.",
    ] {
        let texts = requests(report);
        let device = |text: &String| read(text).labels[SUPPORT_DEVICES] == Label::Positive;
        assert!(texts.iter().all(device), "{texts:?}");
        assert!(texts.iter().any(|text| text.contains("support device")), "{texts:?}");
        assert!(!texts.iter().any(|text| text.contains("normal")), "{texts:?}");
    }
    let beside = requests("There is a left pleural effusion. A right PICC is present. A chest port is present.");
    let named = |text: &String| text.contains("support device") || text.contains("chest port");
    assert!(beside.iter().all(named), "{beside:?}");
    assert!(beside.iter().all(|text| text.contains("picc")), "{beside:?}");
    // What has a name is called by it, though the report has it in short.
    let tube = requests("An ET tube ends 3.2 cm above the carina. The lungs are clear.");
    assert!(!tube.iter().any(|text| text.contains("support device")), "{tube:?}");
    assert!(tube.iter().all(|text| text.contains("tube")), "{tube:?}");
}

#[test]
fn a_chest_is_asked_for_as_normal_only_where_the_report_calls_it_so() {
    for report in [
        "Severe emphysema. No pneumonia.",
        "Unchanged since yesterday.",
        "The examination is limited by rotation",
    ] {
        assert_ne!(read(report).labels[NO_FINDING], Label::Positive);
        let whole = report.trim_end_matches('.').to_lowercase();
        let texts = requests(report);
        assert!(
            texts.iter().all(|text| text.trim_end_matches('.') == whole),
            "{texts:?}"
        );
    }
    let normal = requests("The lungs are clear.");
    assert!(normal.iter().any(|text| text.contains("normal chest")), "{normal:?}");
}

#[test]
fn a_report_that_affirms_nothing_asks_for_a_normal_chest() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for _ in 0..50 {
        let text = brief("The lungs are clear. No pleural effusion.", &mut rng).to_lowercase();
        assert!(
            NORMAL.iter().any(|normal| text.contains(&normal.to_lowercase())),
            "{text}"
        );
    }
}

#[test]
fn every_name_that_a_request_may_have_is_read_as_what_it_names() {
    for (place, (names, _)) in NAMES.iter().enumerate() {
        for name in *names {
            assert_eq!(read(name).labels[place], Label::Positive, "{name}");
        }
    }
    for name in DEVICES.iter().flat_map(|(_, names)| *names) {
        assert_eq!(read(name).labels[SUPPORT_DEVICES], Label::Positive, "{name}");
    }
    for text in NORMAL {
        assert_eq!(read(text).labels[NO_FINDING], Label::Positive, "{text}");
    }
    for text in [
        "Healthy young man.",
        "No findings to compare.",
        "No change in findings.",
    ] {
        assert_eq!(read(text).labels[NO_FINDING], Label::Blank, "{text}");
    }
}

#[test]
fn a_fracture_that_is_no_ribs_is_not_called_one() {
    let clavicle = requests("Mildly displaced fracture of the left clavicle. The ribs are intact.");
    assert!(
        clavicle.iter().any(|text| text.contains("left fracture")),
        "{clavicle:?}"
    );
    assert!(!clavicle.iter().any(|text| text.contains("rib")), "{clavicle:?}");
    let rib = requests("Fracture of the right seventh rib.");
    assert!(rib.iter().any(|text| text.contains("rib fracture")), "{rib:?}");
}
