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

#[test]
fn further_devices_are_known_by_exact_phrases() {
    for device in [
        "Left basilar pleural drain.",
        "Mediastinal drains.",
        "Left IJ terminates in the upper SVC.",
        "Left IJ in SVC.",
        "R IJ CVL in place.",
        "Left-sided port terminates in the SVC.",
        "Right-sided Port.",
        "Leads are seen in the right atrium.",
        "EKG leads overlie the chest.",
        "External pacing pads overlie the chest.",
        "Post-operative wires are intact.",
        "Mitral annuloplasty ring.",
        "Mechanical mitral valve.",
        "Bioprosthetic valve.",
        "MitraClip.",
        "Watchman device.",
        "Nerve stimulator device in left chest.",
        "Left pectoral generator.",
        "Right shoulder prosthesis.",
        "Posterior spinal fusion rods.",
        "Cervical spine fixation plate.",
        "Gastric band.",
        "Ventriculoperitoneal shunt.",
        "ECMO cannula in the right atrium.",
        "Lines are unchanged.",
        "Tunneled central venous access line.",
        "Right internal jugular vascath.",
        "Permacath in right atrium.",
        "Esophageal temperature probe.",
        "Indwelling devices are stable.",
        "NG terminates in the stomach.",
    ] {
        all(&[("dev+", device)]);
    }
    all(&[
        ("dev-", "No drains."),
        ("dev-", "Right IJ has been removed."),
        ("dev-", "Right IJ line removed."),
        ("dev-", "Left-sided port-a-cath removed."),
        ("dev-", "The catheter has been removed from the right IJ."),
        ("ptx- dev+", "No pneumothorax after line placement."),
    ]);
}

#[test]
fn what_only_sounds_like_a_device_is_none() {
    all(&[
        ("", "Oxygen by nasal cannula."),
        ("", "Septal lines are unchanged."),
        ("edema+", "Kerley B lines are unchanged."),
        ("eff+", "The effusion is too small to drain."),
        ("", "An anomalous vein drains into the IVC."),
    ]);
}
