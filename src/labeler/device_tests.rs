//! The labeler against removals of devices.

use super::prose_tests::all;

#[test]
fn all_of_a_list_is_removed_and_what_remains_beside_it_is_not() {
    all(&[
        (
            "dev-",
            "Interval removal of the endotracheal tube, NG tube and right chest tube.",
        ),
        ("dev-", "Removal of a left chest tube, right PICC and NG tube."),
        (
            "dev+",
            "Interval removal of the NG tube and placement of a Dobbhoff tube.",
        ),
        (
            "dev+",
            "Swan-Ganz catheter has been removed and the right IJ sheath remains.",
        ),
        ("dev+", "Interval removal of left chest tube, right PICC unchanged."),
        ("dev+", "Removal of the ET tube, and the right PICC remains."),
        (
            "dev+",
            "Interval removal of the endotracheal tube and left chest tube in place.",
        ),
        ("dev+", "Interval removal of left chest tube, new right PICC."),
        ("dev+", "Removal of the ET tube and stable right IJ line."),
        ("dev+", "Removal of the ET tube and insertion of a pigtail catheter."),
        ("dev+", "Removal of the NG tube and repositioning of the right PICC."),
    ]);
}

#[test]
fn what_was_not_found_after_a_removal_is_no_removal_undone() {
    all(&[
        ("ptx- dev-", "No pneumothorax after removal of the left chest tube."),
        (
            "ptx- dev-",
            "No pneumothorax following removal of the left chest tube and left pigtail catheter.",
        ),
        ("dev+", "No interval removal of the left chest tube."),
    ]);
}
