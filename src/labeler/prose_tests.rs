//! The labeler against sentences that a radiologist chose because an earlier one misread them.

use super::tests::check;
use super::*;

/// Short names, in the order of [`LABELS`].
const SHORT: [&str; 14] = [
    "ate", "card", "cons", "edema", "med", "frac", "les", "opac", "nf", "eff", "oth", "pna", "ptx", "dev",
];

pub(super) fn place(short: &str) -> usize {
    SHORT.iter().position(|name| *name == short).expect("a short name")
}

/// Checks sentences, each after what it says: `eff+` affirmed, `eff-` denied, `eff?` doubtful, nothing where it says nothing.
pub(super) fn all(cases: &[(&str, &str)]) {
    for (said, sentence) in cases {
        let expected: Vec<(&str, char)> = said
            .split_whitespace()
            .map(|one| one.split_at(one.len() - 1))
            .map(|(short, sign)| (LABELS[place(short)], sign.chars().next().unwrap_or('?')))
            .collect();
        check(sentence, &expected);
    }
}

#[test]
fn a_denial_behind_a_verb_is_of_what_is_seen_and_not_of_how_it_is() {
    all(&[
        ("eff+", "The left effusion is not large."),
        ("eff+", "The effusion is not loculated."),
        ("frac+", "The rib fracture is not displaced."),
        ("ptx+", "The pneumothorax is not under tension."),
        ("pna+", "The right lower lobe pneumonia is not new."),
        ("edema+", "The edema is not as severe as before."),
        ("eff+", "The left effusion is not well evaluated."),
        ("eff+", "The effusion was not present previously."),
        ("opac+", "The opacity was not seen on the prior study."),
        ("opac+", "The opacity was not clearly seen on the prior exam."),
        ("opac+", "Opacity not previously seen."),
        ("ptx-", "The pneumothorax is not definitely seen."),
        ("eff-", "The pre-existing pleural effusion is not seen anymore."),
        ("eff-", "Pleural effusion does not appear to be present."),
        ("eff-", "Effusion could not be identified."),
        ("eff-", "The pleural effusion can no longer be seen."),
        ("ptx-", "The pneumothorax is no longer present."),
        ("ptx-", "The pneumothorax is no longer."),
        ("opac-", "Infiltrates not detectable."),
        ("eff-", "A pleural effusion cannot be seen."),
    ]);
}

#[test]
fn what_is_not_well_seen_is_there_and_makes_no_chest_normal() {
    let cases = [
        ("frac+", "The right rib fractures are not well visualized."),
        ("les+", "The known nodule is not well seen."),
        ("eff+", "The effusion is not adequately seen on this view."),
        ("les+", "Nodule not optimally visualized."),
    ];
    all(&cases);
    for (_, text) in cases {
        assert_eq!(read(text).labels[NO_FINDING], Label::Blank, "{text}");
    }
    all(&[("ptx-", "The pneumothorax is not clearly seen.")]);
}

#[test]
fn what_is_nearly_or_partly_gone_is_still_there() {
    all(&[
        ("edema+", "Pulmonary edema has nearly resolved."),
        ("edema+", "Near-complete resolution of pulmonary edema."),
        ("edema+", "Pulmonary edema has almost completely resolved."),
        ("edema-", "Pulmonary edema has completely resolved."),
        ("pna+", "Pneumonia has largely resolved."),
        ("pna+", "Pneumonia has mostly cleared."),
        ("ptx+", "The pneumothorax has partially resolved."),
        ("opac+", "Opacities have partially cleared."),
        ("cons+", "Some interval clearing of the consolidation."),
        ("cons-", "Interval clearing of the right lower lobe consolidation."),
    ]);
}

#[test]
fn a_denied_finding_denies_no_device() {
    all(&[
        ("ptx- dev+", "No evidence of pneumothorax after chest tube placement."),
        (
            "ptx- dev+",
            "There is no pneumothorax following right IJ line placement.",
        ),
        (
            "ptx- dev+",
            "No pneumothorax status post left subclavian line placement.",
        ),
        ("ptx- dev+", "No pneumothorax post pacemaker insertion."),
        ("ptx- dev-", "No pneumothorax after chest tube removal."),
        (
            "ptx+ dev-",
            "Following chest tube removal, there is a small apical pneumothorax.",
        ),
        (
            "ptx- dev-",
            "No pneumothorax status post removal of left-sided chest tube.",
        ),
        ("dev-", "No post-operative chest tube."),
        ("les+", "No complications after biopsy of a left upper lobe mass."),
        ("ptx- dev+", "No pneumothorax, ETT 4 cm above the carina."),
        ("ptx- dev+", "No pneumothorax, PICC in the SVC."),
        ("ptx- dev-", "No pneumothorax, pacemaker or central line."),
        ("dev-", "No support lines or tubes are present."),
    ]);
}

#[test]
fn a_nor_denies_what_stands_behind_its_verb() {
    all(&[
        (
            "ptx- eff-",
            "There is no pneumothorax, nor is there any pleural effusion.",
        ),
        (
            "edema- eff- ptx-",
            "No pleural effusion or pneumothorax is present, nor is there evidence of pulmonary edema.",
        ),
        ("ptx-", "Nor is there any pneumothorax."),
        ("ptx- eff-", "Neither is there a pneumothorax nor an effusion."),
        ("eff- ptx-", "No effusion is seen nor is there pneumothorax."),
        ("eff- ptx-", "There is no effusion nor has there been a pneumothorax."),
        ("ptx- eff+", "There is no pneumothorax, there is an effusion."),
    ]);
}

#[test]
fn what_is_said_in_a_clause_with_which_or_behind_it_is_said_of_the_finding() {
    all(&[
        ("eff-", "There was an effusion, which has resolved."),
        ("eff-", "An effusion which is no longer seen."),
        ("eff-", "The left effusion, which was small, has resolved."),
        ("ptx?", "A pneumothorax, which would be small, is not excluded."),
        (
            "eff+ ptx-",
            "Left effusion, which is unchanged, and a pneumothorax, which has resolved.",
        ),
        ("opac+", "An opacity, which is not seen on the lateral view."),
        ("eff+", "An effusion, which has nearly resolved."),
        ("eff+", "A left effusion, which was absent before."),
        ("dev-", "The chest tube, which was placed yesterday, has been removed."),
    ]);
}

#[test]
fn a_collapse_is_atelectasis_but_for_that_of_a_bone_or_beside_a_pneumothorax() {
    all(&[
        ("ate+", "Lung collapse."),
        ("ate+", "Collapse of the right lung."),
        ("ate+", "Persistent left basilar collapse."),
        ("ate+", "The left lower lobe is collapsed."),
        ("ate-", "No lobar collapse."),
        ("ate+ les+", "Right hilar mass with post obstructive collapse."),
        ("ptx+ ate+", "Right pneumothorax with collapse of the right lower lobe."),
        ("ptx+", "Large left pneumothorax with collapse of the left lung."),
        ("ptx+", "Left pneumothorax with complete left lung collapse."),
        ("ptx-", "No pneumothorax or collapsed lung markings."),
        ("", "Collapse of the T8 vertebral body."),
        ("", "Chronic vertebral body collapse."),
        ("", "Wedge deformities with mild anterior collapse at L1."),
        ("", "Osteonecrosis of the humeral head with collapse."),
        ("ate+ frac+", "Left basilar collapse and a vertebral fracture."),
    ]);
}

#[test]
fn a_granuloma_alone_is_no_lesion_and_a_calcified_nodule_is_one() {
    all(&[
        ("", "Calcified granuloma in the right upper lobe, unchanged."),
        ("les-", "No suspicious nodule or mass. Calcified granuloma."),
        ("les+", "Calcified nodule of 1.2 cm, likely a granuloma."),
    ]);
}

#[test]
fn what_is_said_of_a_tip_or_a_place_is_not_said_of_the_device() {
    all(&[
        ("dev+", "NG tube tip is not seen."),
        ("dev+", "Tip of the right internal jugular line is not well visualized."),
        ("dev+", "Nasogastric tube is not visualized below the diaphragm."),
        (
            "dev+",
            "The side port of the NG tube is not visualized below the GE junction.",
        ),
        ("dev+", "The distal end of the NG tube is not seen."),
        ("dev-", "The right-sided chest tube is not seen."),
        ("dev+", "The endotracheal tube is not in satisfactory position."),
        ("dev+", "The Swan-Ganz catheter is no longer in the pulmonary artery."),
        ("dev+", "Consider advancing the ET tube."),
        ("dev+", "ET tube removal is recommended."),
        ("dev+", "No pacemaker leads displaced."),
        ("dev- frac-", "No tube or displaced fracture."),
        ("dev-", "Left PICC has been withdrawn and is no longer seen."),
        ("dev-", "NG tube is no longer present."),
        ("dev-", "The right PICC was removed."),
    ]);
}

#[test]
fn a_word_at_once_behind_or_behind_a_heading_answers() {
    all(&[
        ("ptx-", "Pneumothorax not seen."),
        ("ptx-", "Pneumothorax excluded."),
        ("ptx-", "Pneumothorax: not seen."),
        ("ptx-", "Pneumothorax: no evidence."),
        ("eff-", "Pleural effusion: Not present."),
        ("pna?", "Pneumonia not entirely excluded."),
        ("ptx?", "Pneumothorax not safely excluded."),
        ("ptx- eff?", "Trace left effusion possible, no pneumothorax."),
        ("eff+ pna?", "Effusion, possible pneumonia."),
    ]);
}

#[test]
fn what_cannot_be_excluded_is_in_doubt() {
    all(&[
        ("pna?", "Pneumonia cannot be definitely excluded."),
        ("pna?", "Pneumonia cannot be fully excluded."),
        (
            "pna?",
            "An underlying infectious process cannot be completely excluded.",
        ),
        ("pna?", "Pneumonia is not ruled out."),
        ("pna?", "Pneumonia, however, cannot be excluded."),
        ("cons?", "Superimposed consolidation would be difficult to exclude."),
        ("eff?", "Small effusion would be hard to exclude."),
        ("pna?", "Unable to exclude pneumonia."),
        (
            "eff+ pna?",
            "Right effusion is present and an underlying pneumonia cannot be excluded.",
        ),
    ]);
}

#[test]
fn words_of_doubt_and_of_choice_before_a_finding() {
    all(&[
        (
            "ate+ opac+ pna-",
            "Retrocardiac opacity, most likely atelectasis, rather than pneumonia.",
        ),
        ("ate+ pna?", "Atelectasis is favored over pneumonia."),
        ("opac+ pna?", "Right basilar opacity is worrisome for pneumonia."),
        ("opac- pna-", "No opacity worrisome for pneumonia."),
        ("pna?", "Probable right lower lobe pneumonia."),
        ("pna?", "Presumed pneumonia."),
        ("pna?", "Suspect pneumonia."),
        ("pna?", "Question pneumonia."),
        ("les?", "Questioned nodule in left lung."),
        ("les-", "Previously questioned nodule is not seen."),
        ("pna?", "Consider pneumonia in the appropriate clinical context."),
        ("eff?", "No or trace pleural effusion."),
        ("", "Clinical correlation is recommended to exclude pneumonia."),
        ("", "Hx of pneumonia."),
    ]);
}

#[test]
fn a_state_is_of_the_organ_that_it_is_said_of() {
    all(&[
        ("card-", "The previously enlarged heart is now normal."),
        ("card+", "The previously normal heart is now enlarged."),
        ("", "The heart is bigger than normal."),
        ("", "Enlarged hilar lymph nodes, heart size stable."),
        (
            "card- med-",
            "Normal heart, lungs, hila, mediastinum, and pleural surfaces.",
        ),
        ("", "Enlarged mediastinal lymph nodes."),
        ("opac+", "Stable heart, increased interstitial markings."),
        (
            "opac+",
            "The heart and mediastinum are stable with increased opacity at the right base.",
        ),
        (
            "card+",
            "Low lung volumes accentuate the cardiac silhouette, which appears mildly enlarged.",
        ),
        ("card+", "The heart, which appears enlarged, is unchanged."),
        ("card+", "Heart size is difficult to assess but appears enlarged."),
        ("card+", "The heart is not well seen but appears enlarged."),
        ("eff+", "The heart is hidden by an effusion, which is large."),
        (
            "ptx-",
            "The heart is obscured but there is no enlarged node or pneumothorax.",
        ),
        ("card+", "Heart size is increased."),
        ("card-", "Heart size is not increased."),
        (
            "card- med-",
            "The cardiac and mediastinal silhouettes are unremarkable.",
        ),
        ("card- med-", "The cardiac, mediastinal and hilar contours are normal."),
    ]);
}

#[test]
fn abbreviations_misspellings_and_further_names_are_known() {
    all(&[
        ("ptx-", "No PTX."),
        ("pna+", "RLL PNA."),
        ("opac+", "Findings compatible with ILD."),
        ("opac+", "Pulmonary fibrosis."),
        ("opac+", "Ground-glass changes in both lungs."),
        ("eff- opac-", "No pleural effusion or pneumonic infiltrate."),
        ("opac+", "Diffuse airspace process."),
        ("les+", "Lung cancer in the right upper lobe."),
        ("les+ cons+", "Masslike consolidation in the left upper lobe."),
        (
            "edema+",
            "Kerley B lines are present, compatible with interstitial edema.",
        ),
        ("edema-", "No cardiac decompensation."),
        ("edema-", "No signs of congestion."),
        ("eff+", "Fluid in the right minor fissure."),
        ("eff+", "Loculated fluid in the right pleural space."),
        ("eff-", "No fluid in the pleural space."),
        ("oth+", "Biapical pleural-parenchymal scarring."),
        ("ptx-", "No pneumothoax."),
        ("eff+", "Bilateral pleural effussions."),
        ("cons-", "No consoldiation."),
        ("ate+", "Bibasilar atelectesis."),
        ("dev+", "Prosthetic aortic valve."),
        ("dev+", "Tunneled dialysis line."),
        ("dev+", "Chest drain on the left."),
        ("dev-", "Chest drain removed."),
        ("dev+", "Left subclavian port."),
        ("dev+", "Trach in place."),
        ("dev+", "NGT in stomach."),
        ("dev+", "CVC via right internal jugular vein, tip in SVC."),
        ("dev+", "Loop recorder."),
        ("dev+", "Dual lead cardiac device."),
        ("dev+", "TAVR valve."),
        ("ptx-", "No pneumothorx."),
        ("eff+", "Bilat pleural effusons, small."),
        ("dev+", "CABG clips."),
        ("dev+", "Left ventricular assist device."),
        ("dev+", "Dobhoff tip is in the stomach."),
        ("dev+", "Right shoulder arthroplasty is partially imaged."),
        ("dev+", "Screws and plate in the left clavicle."),
        ("dev+", "Embolization coils in the left upper quadrant."),
        ("dev+", "IVC filter is noted."),
        ("dev+", "Valvular replacement."),
    ]);
}

#[test]
fn a_lobe_by_its_initials_has_a_side_and_a_part_of_the_lung_may_stand_between_side_and_finding() {
    for (short, right, text) in [
        ("cons", true, "RLL consolidation."),
        ("cons", true, "RML consolidation."),
        ("cons", false, "LUL consolidation."),
        ("cons", false, "Lingular consolidation."),
        ("ate", false, "Platelike atelectasis in the lingula."),
        ("ptx", true, "Right apical pneumothorax and left lung base opacity."),
        ("opac", false, "Right apical pneumothorax and left lung base opacity."),
        (
            "ate",
            false,
            "Right upper lung opacity and left lower lung atelectasis.",
        ),
        (
            "opac",
            true,
            "Right upper lung opacity and left lower lung atelectasis.",
        ),
        ("eff", true, "Effusion on the right and left opacity."),
        ("opac", false, "Effusion on the right and left opacity."),
        ("les", true, "Left effusion, right middle zone pulmonary nodule."),
        ("ate", true, "Left effusion, right lower lobe partial collapse."),
        ("opac", true, "Left effusion, right-sided lung opacity."),
        ("eff", false, "Small left effusion and right lower lobe consolidation."),
        ("cons", true, "Small left effusion and right lower lobe consolidation."),
    ] {
        let sides = read(text).sides[place(short)];
        assert_eq!((sides.right, sides.left), (right, !right), "{short} in {text:?}");
    }
}

#[test]
fn no_finding_is_said_in_other_words_too_and_not_by_a_device_that_is_gone() {
    for text in ["No active disease.", "No abnormality.", "No significant abnormality."] {
        assert_eq!(read(text).labels[NO_FINDING], Label::Positive, "{text}");
    }
    for text in [
        "The right PICC was removed.",
        "Lines and tubes: none.",
        "No change in the abnormality.",
    ] {
        assert_eq!(read(text).labels[NO_FINDING], Label::Blank, "{text}");
    }
}

#[test]
fn what_else_is_wrong_withholds_no_finding_and_denied_does_not() {
    for text in [
        "Hyperinflated lungs consistent with COPD. No acute process.",
        "Emphysema without superimposed pneumonia.",
        "Moderate hiatal hernia. Lungs are clear.",
        "Lungs are clear. Possible aspiration.",
        "The left hemidiaphragm is elevated. No effusion.",
        "Calcified granuloma. No pneumothorax.",
        "Degenerative changes of the spine. Heart size is normal.",
        "Mild dextroscoliosis. Clear lungs.",
        "Bullous changes. Clear lungs.",
    ] {
        assert_eq!(read(text).labels[NO_FINDING], Label::Blank, "{text}");
    }
    for text in [
        "Lungs are clear without emphysema.",
        "No hernia. No acute process.",
        "History of COPD. No acute process.",
        "The hemidiaphragm is not elevated. No effusion.",
    ] {
        assert_eq!(read(text).labels[NO_FINDING], Label::Positive, "{text}");
    }
}
