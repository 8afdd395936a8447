//! The labeler against statements that stand side by side: whose verb, state, denial or side it is.

use super::prose_tests::{all, place};
use super::*;

#[test]
fn an_organ_that_had_its_verb_does_not_wait_for_the_state_of_the_next() {
    all(&[
        ("med-", "Heart size is stable and the mediastinum is unremarkable."),
        (
            "card-",
            "The cardiomediastinal silhouette is stable, heart size is normal.",
        ),
        ("card+", "Mediastinum is stable and the heart is mildly enlarged."),
        (
            "card+",
            "The cardiomediastinal silhouette is stable with enlarged heart.",
        ),
        ("", "Heart size is stable and hilar contours are normal."),
        (
            "",
            "The cardiac and mediastinal silhouettes are stable, hilar contours are unremarkable.",
        ),
        ("", "The heart size is stable, with a prominent aortic knob."),
        ("", "Cardiac silhouette is stable with dilated aorta."),
        ("card+", "The heart is stable with mild enlargement."),
        ("card+", "The heart is stable and is enlarged."),
        ("card+ med+", "Heart and mediastinum are stable, and appear enlarged."),
        ("card- med-", "The heart, lungs and mediastinum are normal."),
        ("card+", "Increased heart size."),
        ("card+ eff+", "Increased heart size with an effusion."),
    ]);
}

#[test]
fn the_verb_of_the_next_statement_is_not_the_findings() {
    all(&[
        ("eff+ ptx-", "Small left pleural effusion, pneumothorax is not seen."),
        (
            "eff+ ptx-",
            "Small left pleural effusion unchanged, pneumothorax has resolved.",
        ),
        ("ate+ pna?", "Bibasilar atelectasis, pneumonia cannot be excluded."),
        ("edema+ eff?", "Mild edema, small effusions may be present."),
        ("dev+ ptx-", "Right PICC in SVC, pneumothorax is not seen."),
        ("eff- ptx- edema-", "Effusion, pneumothorax and edema are not seen."),
        ("eff-", "The effusion, small on the left, is not seen."),
        ("eff-", "A small left effusion, it is no longer visible."),
    ]);
}

#[test]
fn a_denied_sight_behind_a_comma_is_explained_by_what_is_there() {
    all(&[
        (
            "ate+ eff+",
            "The hemidiaphragms are not sharply seen, consistent with small pleural effusions and atelectasis.",
        ),
        (
            "eff+",
            "The left costophrenic angle is not sharp, compatible with a small pleural effusion.",
        ),
        (
            "eff+",
            "The hemidiaphragm is not visualized, likely reflecting effusion.",
        ),
        ("cons- pna-", "No consolidation is seen consistent with pneumonia."),
        ("cons- pna-", "Consolidation is not seen, nor pneumonia."),
        ("ptx- eff-", "A pneumothorax is not seen, no likely effusion."),
    ]);
}

#[test]
fn a_terse_statement_behind_a_denial_is_its_own() {
    all(&[
        ("ptx- eff+", "No pneumothorax, effusion unchanged."),
        ("eff- card+", "No effusion, cardiomegaly stable."),
        ("eff- edema+", "No effusion, edema improved."),
        ("ptx- ate+", "No pneumothorax, basilar atelectasis present."),
        ("ptx- frac+", "No pneumothorax despite multiple rib fractures."),
        ("eff- card+", "No effusion despite cardiomegaly."),
        ("eff- ate+", "No effusions, linear atelectasis at the left base."),
        ("ptx- eff-", "No pneumothorax or effusion, unchanged."),
        ("ptx- eff- cons-", "No effusion, pneumothorax, or stable consolidation."),
        ("ptx- eff-", "No pneumothorax, effusion resolved."),
    ]);
}

#[test]
fn a_denial_does_not_hold_of_what_it_excepts() {
    let cases = [
        ("card+", "No abnormality other than cardiomegaly."),
        ("edema+", "No acute process other than edema."),
        ("eff+", "No acute findings other than a small left effusion."),
        ("edema+", "No acute process besides mild edema."),
        ("card+", "No abnormality other than an enlarged heart."),
        ("card+", "No abnormality except an enlarged heart."),
        ("card+", "No abnormality aside from enlarged heart."),
    ];
    all(&cases);
    for (_, text) in cases {
        assert_eq!(read(text).labels[NO_FINDING], Label::Blank, "{text}");
    }
    all(&[
        ("eff+ cons-", "Other than a small effusion, there is no consolidation."),
        ("", "The heart is larger than normal."),
    ]);
}

#[test]
fn no_growth_of_a_finding_leaves_it_there_and_no_enlargement_is_a_denial() {
    all(&[
        ("ptx+", "No interval enlargement of the right pneumothorax."),
        ("les+", "No interval growth of the right upper lobe nodule."),
        ("ptx+", "No expansion of the right pneumothorax."),
        ("card- eff- ptx-", "No cardiac enlargement, effusion, or pneumothorax."),
        ("card- eff-", "No enlargement of the heart or pleural effusion."),
        ("med-", "No enlargement or widening of the mediastinum."),
    ]);
}

#[test]
fn what_seems_to_have_gone_is_gone_and_what_seems_half_gone_is_not() {
    all(&[
        ("ptx-", "Pneumothorax appears resolved."),
        ("ptx-", "The pneumothorax appears to be resolved."),
        ("eff-", "Effusion seems to have resolved."),
        ("eff-", "Interval clearance of the right pleural effusion."),
        ("eff+", "Partial clearance of the right pleural effusion."),
        ("eff+", "Effusion appears to have partially resolved."),
        ("ptx+", "The pneumothorax appears nearly resolved."),
    ]);
}

#[test]
fn a_line_of_a_list_ends_the_sentence_before_it() {
    all(&[
        ("eff- ate+", "- No pleural effusion\n- Bibasilar atelectasis"),
        ("ptx- opac+", "* No pneumothorax\n* Right basilar opacity"),
        ("ptx- opac+", "• No pneumothorax\n• Right basilar opacity"),
        ("pna- card+", "1) No pneumonia\n2) Cardiomegaly"),
        ("ptx-", "Pneumothorax:\n- none"),
        ("ptx- eff-", "No pneumothorax\nor effusion"),
        ("edema-", "No edema\n-like pattern"),
    ]);
}

#[test]
fn headings_of_a_request_may_stand_in_a_row() {
    all(&[
        ("", "INDICATION: History: chest pain // ? pneumonia"),
        (
            "pna-",
            "FINAL REPORT\n HISTORY:  Pneumonia.\n\n FINDINGS:  No evidence of pneumonia.",
        ),
        ("", "Eval for pneumonia or CHF."),
        ("edema+", "History: cough Findings: edema"),
        ("eff+", "Comparison: none\nFindings: effusion"),
    ]);
}

#[test]
fn sides_in_short_are_sides_and_those_of_vessels_are_not_the_findings() {
    for (short, right, left, text) in [
        ("eff", true, false, "Rt pleural effusion."),
        ("ptx", false, true, "Lt pneumothorax."),
        ("eff", true, true, "Bilat effusions."),
        ("eff", true, true, "B/L pleural effusions."),
        ("eff", true, true, "Effusions b/l."),
        (
            "dev",
            false,
            false,
            "Swan-Ganz catheter tip in the right pulmonary artery.",
        ),
        ("edema", true, false, "Right pulmonary edema."),
        ("opac", true, false, "Right pulmonary opacity."),
        ("les", true, false, "Right pulmonary nodule."),
        ("eff", true, false, "Loculated fluid in the right pleural space."),
        ("ptx", false, true, "Air in the left pleural space."),
        ("ate", true, false, "Collapse of the right lower lobe."),
    ] {
        assert_eq!(read(text).sides[place(short)], Sides { right, left }, "{text}");
    }
}
