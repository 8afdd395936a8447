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
    let file = write_dataset(&phantom(64), 1, &folder.path().join("phantom.json"), 1, || ());
    assert!(file.is_err_and(|error| error.to_string().contains("is a file, and --out is a folder")));
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
fn yes_and_no_are_balanced_for_every_question_and_a_third_is_normal() {
    let mut told = std::collections::BTreeMap::<String, [u32; 2]>::new();
    let (total, mut normal) = (20_000, 0);
    for (truth, pairs) in questioned(total) {
        normal += u32::from(truth.is_normal());
        for pair in pairs {
            let yes = pair.answer == "Yes.";
            if yes || pair.answer == "No." {
                told.entry(pair.question).or_default()[usize::from(yes)] += 1;
            }
        }
    }
    told.retain(|_, [no, yes]| *no + *yes >= 200);
    // Fourteen topics in three wordings, nine of them on two sides (a few too rarely for this), whether all is normal, and the projection.
    assert!(told.len() >= 55, "{}", told.len());
    for (question, [no, yes]) in told {
        let share = f64::from(yes) / f64::from(no + yes);
        assert!((share - 0.5).abs() < 0.1, "{question}: {yes} yes, {no} no");
    }
    let normal = f64::from(normal) / total as f64;
    assert!((normal - 0.34).abs() < 0.02, "{normal}");
}

/// Findings of `total` studies, without their pictures, and what is asked about them.
fn questioned(total: u64) -> impl Iterator<Item = (Truth, Vec<QuestionAnswer>)> {
    (0..total).map(|index| {
        let chosen = finding::choose(&mut Random::new(3, index, Purpose::Findings));
        let truth = Truth {
            findings: chosen.findings,
            view: chosen.view,
            ..phantom_truth()
        };
        let pairs = questions::ask(&truth, &mut Random::new(3, index, Purpose::Questions));
        (truth, pairs)
    })
}

#[test]
fn a_given_side_is_asked_after_where_it_has_the_finding_and_where_the_other_or_neither_has() {
    let (mut one, mut both, mut none) = ([0_u32, 0], 0_u32, 0_u32);
    for (index, (_, pairs)) in questioned(4000).enumerate() {
        for pair in &pairs {
            let named = pair
                .question
                .strip_prefix("Is there ")
                .and_then(|q| q.split_once(" on the "));
            let Some((name, side)) = named else { continue };
            let bare = name.strip_prefix("a ").unwrap_or(name);
            let open = format!("On which side is the {bare}?");
            let told = pairs
                .iter()
                .find(|p| p.question == open)
                .map(|p| p.answer.to_lowercase());
            let yes = match told.as_deref() {
                Some("both sides.") => {
                    both += 1;
                    true
                }
                Some(answer) if !answer.starts_with("there is no ") => {
                    let same = answer.trim_end_matches('.') == side.trim_end_matches('?');
                    one[usize::from(same)] += 1;
                    same
                }
                _ => {
                    none += 1;
                    false
                }
            };
            assert_eq!(pair.answer == "Yes.", yes, "study {index}: {pair:?}, {told:?}");
        }
    }
    let (yes, no) = (one[1] + both, one[0] + none);
    assert!(
        both > 50 && none > 200 && one[0] > 200,
        "{one:?}, {both} both, {none} none"
    );
    assert!(yes.abs_diff(no) < (yes + no) / 10, "{yes} yes, {no} no");
}

#[test]
fn a_question_that_presupposes_what_is_not_there_is_told_so() {
    let mut told = std::collections::BTreeSet::new();
    let (mut there, mut missing) = (0, 0);
    for (truth, pairs) in questioned(4000) {
        for pair in pairs {
            let Some(name) = pair
                .answer
                .strip_prefix("There is no ")
                .or_else(|| pair.answer.strip_prefix("There are no "))
            else {
                there += usize::from(pair.question.starts_with("On which side"));
                continue;
            };
            missing += usize::from(pair.question.starts_with("On which side"));
            let name = name.trim_end_matches('.');
            let topic = questions::TOPICS.iter().find(|topic| topic.bare() == name);
            let topic = topic.expect("one of the topics");
            assert!(!truth.any(topic.which), "{pair:?} of {:?}", truth.findings);
            told.insert((name.to_owned(), pair.question));
        }
    }
    assert_eq!(told.len(), 28, "{told:?}");
    assert!(
        missing * 3 > there && missing < there,
        "{missing} of missing findings, {there} of others"
    );
}

#[test]
fn nobody_stands_up_with_a_tube_in_the_trachea() {
    let tube = |truth: &Truth| truth.any(|kind| matches!(kind, Kind::EndotrachealTube { .. }));
    let views: Vec<_> = questioned(4000)
        .filter(|(truth, _)| tube(truth))
        .map(|(truth, _)| truth.view)
        .collect();
    assert!(views.len() > 200 && views.iter().all(|view| *view == View::Ap));
}

#[test]
fn a_lung_behind_much_fluid_is_not_called_clear() {
    let drowned = Finding {
        kind: Kind::PleuralEffusion,
        side: Some(Side::Left),
        zone: None,
        severity: Some(Severity::Severe),
        bounds: Bounds::EMPTY,
    };
    let clear = |findings: &[Finding]| {
        (0..100).any(|index| {
            let truth = Truth {
                findings: findings.to_vec(),
                ..phantom_truth()
            };
            let (report, _) = report::write(&truth, &mut Random::new(3, index, Purpose::Report));
            ["lungs are clear", "lungs are well aerated"]
                .iter()
                .any(|words| report.to_string().contains(words))
        })
    };
    assert!(clear(&[]) && !clear(&[drowned]));
}

#[test]
fn a_report_begins_with_its_technique_and_does_not_contradict_itself() {
    let mut seen = [0_u32; 6];
    for (index, (truth, _)) in questioned(4000).enumerate() {
        let (report, _) = report::write(&truth, &mut Random::new(3, index as u64, Purpose::Report));
        let severe = |finding: &Finding| finding.severity == Some(Severity::Severe);
        let shifted = truth.findings.iter().any(|finding| match finding.kind {
            Kind::Pneumothorax | Kind::PleuralEffusion => severe(finding),
            Kind::Atelectasis { volume_loss } => volume_loss,
            _ => false,
        });
        let technique = [
            "Portable AP view",
            "Single AP radiograph",
            "PA view",
            "posteroanterior view",
        ];
        let first = report.findings.split(". ").next().unwrap_or_default();
        for (at, (holds, words)) in [
            (true, &technique[..]),
            (
                shifted,
                &[
                    "contours are normal",
                    "silhouette is within",
                    "contours are unremarkable",
                ][..],
            ),
            (
                truth.any(|kind| *kind == Kind::Edema),
                &["hilar contours are unremarkable"][..],
            ),
            (truth.any(|kind| *kind == Kind::Pneumothorax), &["well aerated"][..]),
            (truth.any(Kind::is_device), &["Normal chest", "Unremarkable"][..]),
            (
                true,
                &[
                    "is small",
                    "shows small",
                    "is extensive",
                    "shows extensive",
                    "is moderate focal",
                ][..],
            ),
        ]
        .into_iter()
        .enumerate()
        {
            let text = report.to_string();
            let wrong = words.iter().any(|words| text.contains(words));
            let wrong = if at == 0 {
                wrong && !words.iter().any(|words| first.contains(words))
            } else {
                wrong
            };
            assert!(!(holds && wrong), "study {index}: {text}");
            seen[at] += u32::from(holds);
        }
    }
    assert!(seen.iter().all(|&seen| seen > 50), "{seen:?}");
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
