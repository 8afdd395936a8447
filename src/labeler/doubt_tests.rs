//! The labeler against words of doubt, of choice, and of what nothing suggests.

use super::prose_tests::all;

#[test]
fn what_is_less_likely_considered_or_a_possibility_is_in_doubt() {
    all(&[
        ("pna?", "Pneumonia less likely."),
        ("ate? pna?", "Probably atelectasis; pneumonia less likely."),
        ("ate+ pna?", "Atelectasis, less likely pneumonia."),
        ("pna?", "Pneumonia is felt to be less likely."),
        ("pna?", "Pneumonia is thought to be unlikely."),
        ("pna?", "Pneumonia is not likely."),
        ("pna?", "Pneumonia is not felt to be likely."),
        ("pna?", "Pneumonia must be considered."),
        ("pna?", "Pneumonia remains a possibility."),
        ("pna?", "Pneumonia is also a consideration."),
        ("pna?", "Pneumonia is the main consideration."),
        ("pna?", "Pneumonia is in the differential."),
        ("edema?", "Differential includes pulmonary edema, ARDS or hemorrhage."),
        (
            "ate? pna?",
            "The differential diagnosis includes atelectasis and pneumonia.",
        ),
        ("pna?", "Query pneumonia."),
        ("ptx?", "There is suggestion of a small pneumothorax at the right apex."),
        ("ptx-", "There is no suggestion of pneumothorax."),
        ("pna?", "Cannot entirely exclude pneumonia."),
        ("pna-", "No suspected pneumonia."),
        ("ptx- pna?", "No pneumothorax, suspected pneumonia."),
        ("pna?", "No change in suspected pneumonia."),
        ("ptx?", "Doubtful small pneumothorax."),
        ("ptx?", "The small pneumothorax is doubtful."),
    ]);
}

#[test]
fn of_two_causes_each_is_in_doubt() {
    all(&[
        ("pna?", "Aspiration or pneumonia."),
        ("pna-", "No aspiration or pneumonia."),
        ("ate? pna?", "Atelectasis and/or pneumonia in the left lower lobe."),
        ("ate? cons?", "Left lower lobe collapse and/or consolidation."),
        ("ate? pna?", "Favor atelectasis over pneumonia."),
        ("ate+ pna?", "This is more likely atelectasis than pneumonia."),
        (
            "les+ eff+",
            "The nodule is larger than before and there is an effusion.",
        ),
    ]);
}

#[test]
fn what_there_is_little_of_if_any_is_in_doubt() {
    all(&[
        ("eff?", "Pleural effusion, if any, is minimal."),
        ("eff?", "There is minimal if any pleural effusion."),
        ("ptx?", "Pneumothorax is minimal, if at all present."),
        (
            "ptx?",
            "Please note that small pneumothorax may not be visible on supine film.",
        ),
        ("ptx-", "Pneumothorax is not visible on supine film."),
        (
            "opac+ les?",
            "There is a rounded opacity in the left mid lung, a nodule is suspected.",
        ),
        ("les- eff-", "A nodule, a mass and an effusion are not seen."),
        ("eff+", "The effusion is small and is not seen on the lateral view."),
    ]);
}

#[test]
fn what_nothing_suggests_or_nobody_suspects_is_denied_and_what_cannot_be_judged_is_not_said() {
    all(&[
        ("pna-", "Nothing to suggest pneumonia."),
        ("pna-", "There is nothing suspicious for pneumonia."),
        ("pna-", "Pneumonia is not suspected."),
        ("pna?", "Pneumonia is suspected."),
        ("", "Assessment for pneumothorax is limited by supine positioning."),
        (
            "",
            "Follow-up radiographs are recommended to document resolution of the right lower lobe pneumonia.",
        ),
        ("", "CLINICAL HISTORY  Pneumothorax, followup."),
        (
            "pna?",
            "Clinical information was limited, and pneumonia cannot be excluded.",
        ),
        ("les+", "CT is recommended for evaluation of the nodule."),
    ]);
}

#[test]
fn what_is_probable_presumed_or_impossible_to_exclude_is_in_doubt() {
    all(&[
        (
            "pna?",
            "In the appropriate clinical setting, supervening pneumonia would have to be considered.",
        ),
        ("pna?", "Supervening pneumonia would have to be seriously considered."),
        ("pna?", "It would be impossible to exclude superimposed pneumonia."),
        ("pna?", "Superimposed pneumonia would be impossible to exclude."),
        (
            "pna?",
            "Superimposed pneumonia would be very difficult to unequivocally exclude.",
        ),
        ("pna?", "Concurrent pneumonia can't be excluded."),
        ("pna?", "Can't exclude pneumonia."),
        ("eff?", "Small effusions are probable."),
        ("eff?", "Small left pleural effusion is probably present."),
        ("eff?", "Small left effusion is presumed."),
        ("eff?", "Small left effusion suspected."),
        ("pna?", "Pneumonia appears unlikely."),
        ("pna?", "Pneumonia appears to be unlikely."),
        ("pna?", "Pneumonia is on the differential."),
        ("eff?", "Minimal, if any, left effusion."),
        ("pna+", "Pneumonia appears likely."),
        ("eff+", "The effusion is suspicious looking."),
    ]);
}

#[test]
fn a_question_in_brackets_doubts_what_they_hold() {
    all(&[
        ("opac+ pna?", "Right basilar opacity (pneumonia?)."),
        ("opac? pna?", "Right basilar opacity, pneumonia?"),
        ("opac+ pna+", "Right basilar opacity (pneumonia)."),
        ("cons- eff-", "No consolidation (see below) or effusion."),
    ]);
}

#[test]
fn what_a_denied_list_does_not_suggest_is_denied_too() {
    all(&[
        (
            "eff- ptx- cons- pna-",
            "No pleural effusion, pneumothorax, or consolidation to suggest pneumonia.",
        ),
        (
            "edema- eff- opac- pna-",
            "No edema, effusion, or opacity concerning for pneumonia.",
        ),
        (
            "edema- eff-",
            "No vascular congestion, effusion, or Kerley B lines to suggest edema.",
        ),
        ("edema- opac- pna-", "No edema or opacity to suggest pneumonia."),
        (
            "ptx- opac- pna?",
            "No pneumothorax or opacity, and suspicion of pneumonia.",
        ),
        (
            "eff- opac+ pna?",
            "No effusion, there is an opacity or infiltrate concerning for pneumonia.",
        ),
    ]);
}

#[test]
fn what_a_finding_is_may_be_presumed_though_it_is_there() {
    all(&[
        ("les+", "The nodule is presumed to be malignant."),
        ("les+", "The nodule is presumed malignant."),
        ("les+", "Presumed malignant nodule."),
        ("les-", "No presumed malignant nodule."),
        ("eff+", "The effusion is presumed to be reactive."),
        ("eff?", "The effusion is presumed to be present."),
        ("ptx?", "The pneumothorax is presumed to have resolved."),
        ("eff?", "The effusion is presumed to be absent."),
        ("eff?", "Presumed small left effusion."),
        ("opac+ ate?", "The opacity is presumed to be atelectasis."),
    ]);
}

#[test]
fn what_something_else_simulates_is_not_there() {
    all(&[
        ("ptx-", "A skin fold simulates a pneumothorax."),
        ("ptx-", "Skin fold over the right apex mimicking a pneumothorax."),
        ("ptx-", "A skin fold should not be mistaken for a pneumothorax."),
        ("les-", "The nipple shadows may simulate nodules."),
        ("ptx-", "A pneumothorax is simulated by a skin fold."),
    ]);
}
