//! The labeler against phantoms, whose truth is known, and against radiologists' usual prose.

use super::*;
use crate::phantom::{Phantom, Side};

const STUDIES: u64 = 400;

fn seen(label: Label) -> bool {
    matches!(label, Label::Positive | Label::Uncertain)
}

#[test]
fn what_phantom_reports_say_is_recovered() {
    let phantom = Phantom::new(4711, 64).unwrap();
    let (mut both, mut either, mut agree, mut wrong) = (0, 0, 0, Vec::new());
    for index in 0..STUDIES {
        let study = phantom.study(index);
        let text = study.report.to_string();
        let reading = read(&text);
        for (place, name) in LABELS.iter().enumerate() {
            let (told, true_label) = (reading.labels[place], study.labels[place]);
            both += usize::from(seen(told) && seen(true_label));
            either += usize::from(seen(told)) + usize::from(seen(true_label));
            agree += usize::from(told == true_label);
            if told != true_label {
                wrong.push(format!("{name}: read {told:?}, is {true_label:?}: {text}"));
            }
        }
    }
    let f1 = 2.0 * both as f64 / either as f64;
    let agreement = agree as f64 / (STUDIES as usize * LABELS.len()) as f64;
    let shown = wrong.iter().take(8).cloned().collect::<Vec<_>>().join("\n");
    assert!(
        f1 >= 0.99 && agreement >= 0.99,
        "F1 {f1:.4}, agreement {agreement:.4}\n{shown}"
    );
}

#[test]
fn the_sides_of_phantom_reports_are_recovered() {
    let phantom = Phantom::new(4712, 64).unwrap();
    let (mut right, mut all, mut wrong) = (0, 0, Vec::new());
    for index in 0..STUDIES {
        let study = phantom.study(index);
        let text = study.report.to_string();
        let reading = read(&text);
        type IsKind = fn(&crate::phantom::Kind) -> bool;
        let cases: [(usize, IsKind); 7] = {
            use crate::phantom::Kind;
            [
                (0, |k| matches!(k, Kind::Atelectasis { .. })),
                (2, |k| matches!(k, Kind::Consolidation { .. })),
                (5, |k| matches!(k, Kind::RibFracture { .. })),
                (6, |k| matches!(k, Kind::LungLesion { .. })),
                (7, |k| matches!(k, Kind::LungOpacity)),
                (9, |k| matches!(k, Kind::PleuralEffusion)),
                (12, |k| matches!(k, Kind::Pneumothorax)),
            ]
        };
        for (place, which) in cases {
            let mut sides = Sides::default();
            for finding in study.truth.of(which) {
                sides.right |= finding.side == Some(Side::Right);
                sides.left |= finding.side == Some(Side::Left);
            }
            if sides.is_empty() {
                continue;
            }
            all += 1;
            right += usize::from(reading.sides[place] == sides);
            if reading.sides[place] != sides {
                wrong.push(format!(
                    "{}: read {:?}, is {sides:?}: {text}",
                    LABELS[place], reading.sides[place]
                ));
            }
        }
    }
    let share = right as f64 / all as f64;
    assert!(
        all > 200 && share >= 0.99,
        "{share:.4} of {all}\n{}",
        wrong.iter().take(6).cloned().collect::<Vec<_>>().join("\n")
    );
}

/// `+` affirmed, `-` denied, `?` doubtful; what is not named is blank (No Finding apart).
pub(super) fn check(text: &str, expected: &[(&str, char)]) {
    let reading = read(text);
    for (place, name) in LABELS.iter().enumerate().filter(|(place, _)| *place != NO_FINDING) {
        let wanted = expected
            .iter()
            .find(|(n, _)| n == name)
            .map_or(Label::Blank, |(_, sign)| match sign {
                '+' => Label::Positive,
                '-' => Label::Negative,
                _ => Label::Uncertain,
            });
        assert_eq!(reading.labels[place], wanted, "{name} in {text:?}");
    }
}

#[test]
fn usual_prose_is_read_as_a_radiologist_means_it() {
    let (ate, card, cons, edema, med, frac, lesion, opac, eff, other, pneu, ptx, dev) = (
        "Atelectasis",
        "Cardiomegaly",
        "Consolidation",
        "Edema",
        "Enlarged Cardiomediastinum",
        "Fracture",
        "Lung Lesion",
        "Lung Opacity",
        "Pleural Effusion",
        "Pleural Other",
        "Pneumonia",
        "Pneumothorax",
        "Support Devices",
    );
    check(
        "No focal consolidation, pleural effusion, or pneumothorax.",
        &[(cons, '-'), (eff, '-'), (ptx, '-')],
    );
    check(
        "There is no pneumothorax, but a small left effusion persists.",
        &[(ptx, '-'), (eff, '+')],
    );
    check(
        "No pneumothorax, small right pleural effusion.",
        &[(ptx, '-'), (eff, '+')],
    );
    check(
        "Bibasilar opacities may represent atelectasis or pneumonia.",
        &[(opac, '+'), (ate, '?'), (pneu, '?')],
    );
    check("Pneumonia cannot be excluded.", &[(pneu, '?')]);
    check("Superimposed infection is not excluded.", &[(pneu, '?')]);
    check(
        "Left basilar opacity, possibly atelectasis, although pneumonia is possible.",
        &[(opac, '+'), (ate, '?'), (pneu, '?')],
    );
    check(
        "Heart size and mediastinal contours are within normal limits.",
        &[(card, '-'), (med, '-')],
    );
    check(
        "Heart size and mediastinal contours are normal.",
        &[(card, '-'), (med, '-')],
    );
    check(
        "The cardiac silhouette is moderately enlarged and the mediastinum is unremarkable.",
        &[(card, '+'), (med, '-')],
    );
    check(
        "Enlarged heart with mild interstitial edema.",
        &[(card, '+'), (edema, '+')],
    );
    check("The heart is not enlarged.", &[(card, '-')]);
    check("Borderline cardiomegaly.", &[(card, '?')]);
    check("The right heart border is obscured by a large opacity.", &[(opac, '+')]);
    check("No change in the left pleural effusion.", &[(eff, '+')]);
    check("The effusion is not significantly changed.", &[(eff, '+')]);
    check("Previously seen pneumothorax is no longer visualized.", &[(ptx, '-')]);
    check("Pneumothorax or effusion is not seen.", &[(ptx, '-'), (eff, '-')]);
    check("The endotracheal tube has been removed.", &[(dev, '-')]);
    check("Right PICC terminates in the low SVC.", &[(dev, '+')]);
    check(
        "Dual-lead pacemaker with leads in the right atrium and right ventricle; median sternotomy wires are intact.",
        &[(dev, '+')],
    );
    check("Evaluate for pneumonia.", &[]);
    check("History of pneumonia. The lungs are clear.", &[]);
    check("Question of a subtle nodule versus nipple shadow.", &[(lesion, '?')]);
    check("Healed fractures of the left sixth and seventh ribs.", &[(frac, '+')]);
    check("No acute osseous abnormality, no displaced fracture.", &[(frac, '-')]);
    check("Loculated hydropneumothorax on the right.", &[(eff, '+'), (ptx, '+')]);
    check(
        "Pleural thickening at the left apex without effusion.",
        &[(other, '+'), (eff, '-')],
    );
    check("Findings consistent with mild pulmonary oedema.", &[(edema, '+')]);
    check("No findings compatible with congestive heart failure.", &[(edema, '-')]);
    check(
        "Consolidation in the right lower lobe compatible with pneumonia, without effusion.",
        &[(cons, '+'), (pneu, '+'), (eff, '-')],
    );
    check("No evidence of pneumonia. Small pericardial effusion.", &[(pneu, '-')]);
    check("Widened mediastinum.", &[(med, '+')]);
    check(
        "No mediastinal widening and no cardiac enlargement.",
        &[(med, '-'), (card, '-')],
    );
    check("Pneumonia?", &[(pneu, '?')]);
    check(
        "Rounded mass in the left upper lobe suspicious for carcinoma.",
        &[(lesion, '+')],
    );
}

#[test]
fn what_has_not_gone_or_changed_is_still_there() {
    for (text, name) in [
        ("The pneumothorax has not resolved.", "Pneumothorax"),
        ("The pneumothorax has not completely resolved.", "Pneumothorax"),
        ("The right pneumothorax is not increased in size.", "Pneumothorax"),
        ("Right effusion has not progressed.", "Pleural Effusion"),
        (
            "The left pleural effusion is not significantly improved.",
            "Pleural Effusion",
        ),
        ("No resolution of the consolidation.", "Consolidation"),
        ("Partial resolution of the right pneumonia.", "Pneumonia"),
        ("The ET tube has not been removed.", "Support Devices"),
        ("The ET tube should be removed.", "Support Devices"),
    ] {
        check(text, &[(name, '+')]);
        assert_eq!(read(text).labels[NO_FINDING], Label::Blank, "{text}");
    }
    check(
        "The pneumothorax has resolved with improved aeration.",
        &[("Pneumothorax", '-')],
    );
    check(
        "Interval resolution of the right pneumothorax.",
        &[("Pneumothorax", '-')],
    );
    check("Swan-Ganz catheter removed.", &[("Support Devices", '-')]);
    check(
        "The ET tube has been removed, the right IJ line is in place.",
        &[("Support Devices", '+')],
    );
}

#[test]
fn a_denial_ends_where_a_new_statement_begins() {
    let (ate, card, cons, eff, pneu, ptx) = (
        "Atelectasis",
        "Cardiomegaly",
        "Consolidation",
        "Pleural Effusion",
        "Pneumonia",
        "Pneumothorax",
    );
    check(
        "The left hemidiaphragm is not well seen due to a pleural effusion.",
        &[(eff, '+')],
    );
    check("No consolidation due to pneumonia.", &[(cons, '-'), (pneu, '-')]);
    check("No pneumothorax and bibasilar atelectasis.", &[(ptx, '-'), (ate, '+')]);
    check(
        "No pneumothorax, cardiomegaly is unchanged.",
        &[(ptx, '-'), (card, '+')],
    );
    let all = [(ptx, '-'), (eff, '-'), (cons, '-')];
    check("No pneumothorax, effusion or consolidation.", &all);
    check("No focal consolidation, pleural effusion, and pneumothorax.", &all);
    check("No pneumothorax, effusion, and consolidation is seen.", &all);
    check("No pneumothorax or effusion.", &all[..2]);
}

#[test]
fn what_nothing_suggests_is_denied_and_what_is_weighed_is_in_doubt() {
    let (ate, cons, edema, opac, pneu) = ("Atelectasis", "Consolidation", "Edema", "Lung Opacity", "Pneumonia");
    check(
        "No focal consolidation concerning for pneumonia.",
        &[(cons, '-'), (pneu, '-')],
    );
    check("There are no findings to suggest pneumonia.", &[(pneu, '-')]);
    check("Findings are not concerning for pneumonia.", &[(pneu, '-')]);
    check(
        "No change in the opacity concerning for pneumonia.",
        &[(opac, '+'), (pneu, '?')],
    );
    check(
        "Opacity not seen previously, concerning for pneumonia.",
        &[(opac, '+'), (pneu, '?')],
    );
    check(
        "Opacity with no air bronchograms suggests edema.",
        &[(opac, '+'), (edema, '?')],
    );
    for text in [
        "Pneumonia is unlikely.",
        "Doubt pneumonia.",
        "Pneumonia should be considered.",
    ] {
        check(text, &[(pneu, '?')]);
    }
    check(
        "Atelectasis vs. pneumonia at the left base.",
        &[(ate, '?'), (pneu, '?')],
    );
    check(
        "Left basilar opacity, atelectasis or pneumonia.",
        &[(opac, '+'), (ate, '?'), (pneu, '?')],
    );
    check("A nodule or mass in the left upper lobe.", &[("Lung Lesion", '+')]);
}

#[test]
fn the_size_of_the_heart_is_what_is_said_of_the_heart() {
    let (card, med) = ("Cardiomegaly", "Enlarged Cardiomediastinum");
    check("The aorta is dilated and the heart size is normal.", &[(card, '-')]);
    check("Enlarged right hilum, heart size is normal.", &[(card, '-')]);
    check("Lungs are normal and the heart is enlarged.", &[(card, '+')]);
    check(
        "Normal heart, lungs, hila, mediastinum, and pleural surfaces.",
        &[(card, '-'), (med, '-')],
    );
    check("Enlarged heart and mediastinum.", &[(card, '+'), (med, '+')]);
    check("There is no change in the enlarged cardiac silhouette.", &[(card, '+')]);
    check("Widening of the mediastinum is not seen.", &[(med, '-')]);
    check("Mediastinal widening has resolved.", &[(med, '-')]);
    check("Cardiac enlargement cannot be excluded.", &[(card, '?')]);
    check("The heart is large.", &[(card, '+')]);
    check(
        "The heart is obscured by a large effusion.",
        &[("Pleural Effusion", '+')],
    );
}

#[test]
fn a_heading_is_answered_and_a_request_states_nothing() {
    check("Pneumothorax: None.", &[("Pneumothorax", '-')]);
    check("Lines and tubes: None.", &[("Support Devices", '-')]);
    check("Pneumothorax: small, left.", &[("Pneumothorax", '+')]);
    check("Reason for exam: pneumonia.", &[]);
    check("Clinical history: ? pneumonia. Lungs clear.", &[]);
    check(
        "Reason for exam: cough\nFindings: small effusion.",
        &[("Pleural Effusion", '+')],
    );
}

#[test]
fn no_finding_needs_that_nothing_is_found_and_that_something_is_said() {
    let no_finding = |text: &str| read(text).labels[NO_FINDING];
    for text in [
        "No acute cardiopulmonary process.",
        "Lungs are clear. Heart size is normal.",
        "Endotracheal tube in place. No pneumothorax.",
        "Unremarkable chest radiograph.",
    ] {
        assert_eq!(no_finding(text), Label::Positive, "{text}");
    }
    for text in [
        "",
        "Of the of the.",
        "Small effusion. Heart size is normal.",
        "Possible pneumonia.",
    ] {
        assert_eq!(no_finding(text), Label::Blank, "{text}");
    }
}

#[test]
fn a_side_goes_with_its_finding() {
    let sides = |text: &str, name: &str| {
        let place = LABELS.iter().position(|l| *l == name).unwrap();
        let Sides { right, left } = read(text).sides[place];
        (right, left)
    };
    let text = "There is a 2 cm nodule in the right upper lobe and a left pleural effusion.";
    assert_eq!(sides(text, "Lung Lesion"), (true, false));
    assert_eq!(sides(text, "Pleural Effusion"), (false, true));
    assert_eq!(
        sides("Bilateral effusions, larger on the left.", "Pleural Effusion"),
        (true, true)
    );
    assert_eq!(
        sides("Right and left pleural effusions.", "Pleural Effusion"),
        (true, true)
    );
    assert_eq!(
        sides(
            "Left-sided pacemaker with leads in the right ventricle.",
            "Support Devices"
        ),
        (false, true)
    );
    assert_eq!(
        sides("At the left base there is linear atelectasis.", "Atelectasis"),
        (false, true)
    );
    // A side that is clear is not the finding's.
    let effusion = |text: &str| sides(text, "Pleural Effusion");
    let text = "The right lung is clear and there is a left pleural effusion.";
    assert_eq!(effusion(text), (false, true));
    assert_eq!(effusion("Left pleural effusion, none on the right."), (false, true));
    assert_eq!(effusion("Lungs are clear but for a right effusion."), (true, false));
    let consolidation = |text: &str| sides(text, "Consolidation");
    let text = "Left lower lobe consolidation with clear right lung.";
    assert_eq!(consolidation(text), (false, true));
    let text = "Consolidation in the right lung, left lung is clear.";
    assert_eq!(consolidation(text), (true, false));
    assert_eq!(sides("No right pneumothorax.", "Pneumothorax"), (false, false));
    assert_eq!(sides("Moderate cardiomegaly.", "Cardiomegaly"), (false, false));
}

#[test]
fn a_denial_reaches_back_over_a_sentence_and_not_over_words_without_end() {
    let pneumonia = LABELS.iter().position(|name| *name == "Pneumonia").unwrap();
    let said = |between: usize| read(&format!("No {}pneumonia.", "grey ".repeat(between))).labels[pneumonia];
    assert_eq!((said(0), said(60)), (Label::Negative, Label::Negative));
    assert_eq!(said(70), Label::Positive);
}
