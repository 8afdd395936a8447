//! Phantoms held to their truth: bytes, texts, balance and pixels.

use super::*;

fn phantom(size: usize) -> Phantom {
    Phantom::new(7, size).expect("an even size")
}

#[test]
fn odd_and_extreme_sizes_are_refused() {
    for size in [0, 63, 65, 255, 4096] {
        assert!(matches!(Phantom::new(1, size), Err(PhantomError::Size(_))), "{size}");
    }
}

#[test]
fn the_same_seed_gives_the_same_files_on_any_number_of_threads() {
    let read = |jobs| {
        let folder = tempfile::tempdir().unwrap();
        let summary = write_dataset(&phantom(64), 12, folder.path(), jobs, || ()).unwrap();
        assert_eq!(summary.studies, 12);
        let mut files = std::collections::BTreeMap::new();
        let mut folders = vec![folder.path().to_owned()];
        while let Some(next) = folders.pop() {
            for entry in std::fs::read_dir(next).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(folder.path()).unwrap().to_owned();
                    files.insert(name, std::fs::read(&path).unwrap());
                }
            }
        }
        files
    };
    let one = read(1);
    assert_eq!(one.len(), 12 * 4 + 4);
    assert!(one == read(3));
}

#[test]
fn a_folder_of_another_seed_and_no_studies_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let none = write_dataset(&phantom(64), 0, folder.path(), 1, || ());
    assert!(matches!(none, Err(PhantomError::NoStudies)));
    write_dataset(&phantom(64), 1, folder.path(), 1, || ()).unwrap();
    let other = write_dataset(&Phantom::new(8, 64).unwrap(), 1, folder.path(), 1, || ());
    assert!(matches!(other, Err(PhantomError::Occupied { .. })));
}

#[test]
fn every_finding_is_reported_with_its_side_and_nothing_present_is_denied() {
    for index in 0..400 {
        let study = phantom(64).study(index);
        let text = format!("{} {}", study.report.findings, study.report.impression).to_lowercase();
        for finding in &study.truth.findings {
            let word = match finding.kind {
                Kind::Cardiomegaly { .. } => "enlarged|cardiomegaly",
                Kind::EnlargedMediastinum => "widen|enlarged",
                Kind::PleuralEffusion => "pleural effusion",
                Kind::Pneumothorax => "pneumothorax",
                Kind::Consolidation { .. } => "consolidation",
                Kind::LungOpacity => "opacity",
                Kind::Edema => "edema",
                Kind::Atelectasis { .. } => "atelectasis",
                Kind::LungLesion { .. } => "nodule|mass",
                Kind::RibFracture { .. } => "fracture",
                Kind::EndotrachealTube { .. } => "endotracheal|et tube",
                Kind::Pacemaker { .. } => "pacemaker",
                Kind::CentralLine { .. } => "line|picc",
                Kind::SternalWires { .. } => "wires",
            };
            let said = |sentence: &str| {
                word.split('|').any(|word| sentence.contains(word))
                    && finding.side.is_none_or(|side| sentence.contains(side.word()))
                    && !["no ", "not ", "without consolidation"]
                        .iter()
                        .any(|no| sentence.contains(no))
            };
            // Numbers hold points too: a sentence ends at a point with a space.
            assert!(text.split(". ").any(said), "study {index}: {finding:?} in {text}");
            let denied = text
                .split(". ")
                .filter(|s| s.starts_with("there is no ") || s.starts_with("no "));
            if !matches!(
                finding.kind,
                Kind::Cardiomegaly { .. } | Kind::EnlargedMediastinum | Kind::CentralLine { .. }
            ) {
                for sentence in denied {
                    assert!(
                        !word.split('|').any(|word| sentence.contains(word)),
                        "study {index}: {sentence}"
                    );
                }
            }
        }
        let normal = study.labels[8] == Label::Positive;
        assert_eq!(normal, study.truth.is_normal());
        assert!(!text.contains("  ") && !text.contains("{}"), "study {index}: {text}");
    }
}

#[test]
fn yes_and_no_are_balanced_for_every_topic_and_a_third_is_normal() {
    let (mut yes, mut no, mut normal) = (0.0, 0.0, 0.0);
    let total = 4000;
    for index in 0..total {
        let chosen = finding::choose(&mut Random::new(3, index, Purpose::Findings));
        let truth = Truth {
            findings: chosen.findings,
            view: chosen.view,
            ..phantom_truth()
        };
        normal += f32::from(u8::from(truth.is_normal()));
        for pair in questions::ask(&truth, &mut Random::new(3, index, Purpose::Questions)) {
            yes += f32::from(u8::from(pair.answer == "Yes."));
            no += f32::from(u8::from(pair.answer == "No."));
        }
    }
    let share = yes / (yes + no);
    assert!((share - 0.5).abs() < 0.03, "{share}");
    let normal = normal / total as f32;
    assert!((normal - 0.34).abs() < 0.04, "{normal}");
}

#[test]
fn a_question_that_names_a_side_agrees_with_the_one_that_asks_for_it() {
    let (mut yes, mut no) = (0, 0);
    for index in 0..2000 {
        let chosen = finding::choose(&mut Random::new(3, index, Purpose::Findings));
        let truth = Truth {
            findings: chosen.findings,
            view: chosen.view,
            ..phantom_truth()
        };
        let pairs = questions::ask(&truth, &mut Random::new(3, index, Purpose::Questions));
        for pair in &pairs {
            let named = pair
                .question
                .strip_prefix("Is there ")
                .and_then(|q| q.split_once(" on the "));
            let Some((name, side)) = named else { continue };
            let open = format!("On which side is {name}?");
            let told = pairs.iter().find(|p| p.question == open).expect("it is asked too");
            let same = told.answer.to_lowercase().trim_end_matches('.') == side.trim_end_matches('?');
            assert_eq!(pair.answer == "Yes.", same, "study {index}: {pair:?}, {told:?}");
            (yes, no) = (yes + usize::from(same), no + usize::from(!same));
        }
    }
    assert!(
        yes > 100 && no > 100 && yes.abs_diff(no) < (yes + no) / 10,
        "{yes} yes, {no} no"
    );
}

fn phantom_truth() -> Truth {
    Truth {
        seed: 0,
        index: 0,
        patient: 0,
        view: View::Pa,
        size: 64,
        cm_per_pixel: 0.5,
        female: false,
        age: 50,
        cardiothoracic_ratio: 0.45,
        findings: Vec::new(),
    }
}

#[test]
fn what_a_finding_changes_lies_in_its_box_on_its_side() {
    let mut seen = 0;
    for index in 0..120 {
        let (scene, _) = phantom(128).scene(index);
        let full = scene.project();
        for (place, planned) in scene.findings.iter().enumerate() {
            // What pulls the mediastinum changes the whole picture.
            let pulls = matches!(planned.finding.kind, Kind::Atelectasis { volume_loss: true })
                || (planned.finding.severity == Some(Severity::Severe)
                    && matches!(planned.finding.kind, Kind::PleuralEffusion | Kind::Pneumothorax));
            if pulls {
                continue;
            }
            let mut without = scene.clone();
            without.findings.remove(place);
            let bare = without.project();
            let (mut inside, mut outside, mut moment) = (0.0, 0.0, 0.0);
            for (at, (a, b)) in full.canvas.values.iter().zip(&bare.canvas.values).enumerate() {
                let (row, column, change) = (at / 128, at % 128, (a - b).abs());
                if full.bounds[place].contains(column, row) {
                    inside += change;
                } else {
                    outside += change;
                }
                moment += change * (column as f32 - 64.0);
            }
            let kind = planned.finding.kind;
            // A whole rib counts once where it crosses itself at the side, the two pieces of a broken one count both.
            let share = if matches!(kind, Kind::RibFracture { .. }) {
                0.8
            } else {
                0.3
            };
            assert!(inside > 0.1, "study {index}: {kind:?} does not show");
            assert!(
                outside < share * inside,
                "study {index}: {kind:?} {outside} outside, {inside} inside"
            );
            if let (Some(side), false) = (planned.finding.side, kind.is_device()) {
                assert_eq!(
                    moment > 0.0,
                    side == Side::Left,
                    "study {index}: {kind:?} on the wrong side"
                );
            }
            seen += 1;
        }
    }
    assert!(seen > 80, "{seen}");
}

/// How much a finding stands out, in grey levels: the mean change of the 60 pixels (1.5 cm² at 256 pixels) of its box that it changes
/// most, against the same patient exposed the same way without it.
fn conspicuity(scene: &render::Scene, shown: &[u8], bounds: Bounds, place: usize) -> f32 {
    let size = scene.beam.size;
    let mut without = scene.clone();
    without.findings.remove(place);
    let bare = without.expose(&without.project());
    let changes = shown.iter().zip(&bare).map(|(&a, &b)| f32::from(a) - f32::from(b));
    let (inside, outside): (Vec<_>, Vec<_>) = changes
        .enumerate()
        .partition(|&(at, _)| bounds.contains(at % size, at / size));
    // The grey curve follows the whole picture: a common shift of all that lies elsewhere is no sign of the finding.
    let mut elsewhere: Vec<f32> = outside.into_iter().map(|(_, change)| change).collect();
    elsewhere.sort_unstable_by(f32::total_cmp);
    let common = elsewhere.get(elsewhere.len() / 2).copied().unwrap_or(0.0);
    let mut most: Vec<f32> = inside.into_iter().map(|(_, change)| (change - common).abs()).collect();
    most.sort_unstable_by(|a, b| b.total_cmp(a));
    most.truncate(60);
    most.iter().sum::<f32>() / 60.0
}

#[test]
fn what_a_report_tells_stands_out_in_the_picture() {
    let phantom = phantom(256);
    let mut kinds: std::collections::BTreeMap<String, Vec<f32>> = std::collections::BTreeMap::new();
    for index in 0..240 {
        let (scene, _) = phantom.scene(index);
        let projection = scene.project();
        let shown = scene.expose(&projection);
        for (place, planned) in scene.findings.iter().enumerate() {
            let kind = format!("{:?}", planned.finding.kind);
            let name = kind.split(' ').next().unwrap_or_default().to_owned();
            let seen = conspicuity(&scene, &shown, projection.bounds[place], place);
            kinds.entry(name).or_default().push(seen);
        }
    }
    assert_eq!(kinds.len(), 14);
    for (name, mut seen) in kinds {
        seen.sort_unstable_by(f32::total_cmp);
        let (least, middle) = (seen[seen.len() / 10], seen[seen.len() / 2]);
        assert!(
            least >= 10.0 && middle >= 20.0,
            "{name}: {least} at the tenth, {middle} in the middle"
        );
    }
}
