//! Labels as manifests write them, and what some of them say of the others.

use serde_json::Value;

/// Names of the label that calls an image free of findings.
const NORMAL: [&str; 2] = ["No Finding", "Normal"];

/// The label that an image without findings may have all the same.
pub const SUPPORT_DEVICES: &str = "Support Devices";

/// The 14 observations of CheXpert, as the columns of its tables are called.
const OBSERVATIONS: [&str; 14] = [
    NORMAL[0],
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    SUPPORT_DEVICES,
];

/// The observation of CheXpert that a column of a manifest is of. Case does not matter.
pub(super) fn observation(column: &str) -> Option<&'static str> {
    OBSERVATIONS.into_iter().find(|name| name.eq_ignore_ascii_case(column))
}

/// Whether a label of this name calls an image free of findings. Case does not matter.
pub fn is_normal(name: &str) -> bool {
    NORMAL.iter().any(|normal| normal.eq_ignore_ascii_case(name))
}

/// Labels that may stand beside one that calls an image free of findings: a device, and what PadChest says of a comparison.
const NO_FINDINGS: [&str; 2] = [SUPPORT_DEVICES, "unchanged"];

/// Whether two labels cannot both be right of one image: one name with two values, or an image free of findings with a finding. Case does not
/// matter, and the names for no findings are one.
pub fn contradict(one: (&str, f32), other: (&str, f32)) -> bool {
    let lower = |(name, _): (&str, f32)| name.to_lowercase();
    let normal = [is_normal(one.0), is_normal(other.0)];
    let finding = |(name, _): (&str, f32)| !NO_FINDINGS.iter().any(|other| name.eq_ignore_ascii_case(other));
    match normal {
        [true, true] => one.1 != other.1,
        [false, false] => one.1 != other.1 && lower(one) == lower(other),
        [true, false] => one.1 > 0.0 && other.1 > 0.0 && finding(other),
        [false, true] => one.1 > 0.0 && other.1 > 0.0 && finding(one),
    }
}

/// Whether one of these labels and one of those [contradict] each other.
pub fn clash(these: &[(String, f32)], those: &[(String, f32)]) -> bool {
    let with = |one: &(String, f32)| {
        let mut those = those.iter();
        those.any(|other| contradict((one.0.as_str(), one.1), (other.0.as_str(), other.1)))
    };
    these.iter().any(with)
}

/// Why a row is left out whose labels contradict each other: which of them would be learned would depend on their order.
pub(super) const CONTRADICTION: &str = "labels contradict each other (one has two values, or `No Finding` or `Normal` stands beside a finding); \
                                        keep those that are right";
/// What is counted of a row whose labels contradict those that an earlier one gives of its image.
pub const LABELS_DIFFER: &str = "labels contradict those that an earlier row has of this image, which count";

/// Why a row is left out whose labels say something that is not understood: read wrongly, they would teach the opposite.
pub(super) const VALUE: &str = "value of a label is not 1, 0, -1, true, false, yes, no, present, absent or uncertain (write `Name`, `Name=0` or `Name=-1`)";
/// Why a study of a table of labels has none: a cell that is taken for empty would say that the finding is absent.
pub(super) const TABLE_VALUE: &str = "value of a label is not 1, 0, -1, true, false, yes, no, present, absent, uncertain, empty or nan: its study has no labels";
const FORM: &str = "labels are neither names nor an object of names and values";
/// Why a row is left out whose labels are separated in another way: taken for one label, they would be one that no other image has.
pub(super) const SEPARATOR: &str =
    "labels are not separated by `;` (write `Edema;Fracture=0`, or in JSON [\"Edema\", \"Fracture=0\"])";
/// What no name of a label holds: other separators, and the brackets of lists.
const NO_NAME: [char; 6] = ['|', ',', '[', ']', '{', '}'];

/// Labels by name: 1 present, 0 absent, −1 uncertain.
pub(super) type Labels = Vec<(String, f32)>;

/// `Name;Name=0;Name=-1`; values may be words too.
pub(super) fn of_text(text: &str) -> Result<Labels, &'static str> {
    text.split(';').filter_map(|one| label(one).transpose()).collect()
}

/// The same text, a list of such, or an object of names and values.
pub(super) fn of_json(value: &Value) -> Result<Labels, &'static str> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::String(text) => of_text(text),
        Value::Array(list) => {
            let texts = list.iter().map(|one| one.as_str().ok_or(FORM));
            let labels = texts.map(|one| one.and_then(label)).filter_map(Result::transpose);
            labels.collect()
        }
        Value::Object(map) => {
            let labels = map
                .iter()
                .map(|(name, value)| Ok::<_, &'static str>(json_number(value)?.map(|number| (name.clone(), number))));
            labels.filter_map(Result::transpose).collect()
        }
        Value::Bool(_) | Value::Number(_) => Err(FORM),
    }
}

/// What a value of a label means; `None` where nothing is written.
fn json_number(value: &Value) -> Result<Option<f32>, &'static str> {
    let number = match value {
        Value::Null => return Ok(None),
        Value::String(text) if text.trim().is_empty() => return Ok(None),
        Value::String(text) => number(text),
        Value::Number(value) => number(&value.to_string()),
        Value::Bool(value) => Some(f32::from(u8::from(*value))),
        Value::Array(_) | Value::Object(_) => None,
    };
    number.map(Some).ok_or(VALUE)
}

/// The label of a column of its own, from a cell of it.
pub(super) fn of_cell(name: &str, cell: &str) -> Result<Labels, &'static str> {
    match is_blank(cell) {
        true => Ok(Vec::new()),
        false => Ok(vec![(name.to_owned(), number(cell).ok_or(VALUE)?)]),
    }
}

/// The label of a key of its own, from its value in JSON.
pub(super) fn of_key(name: &str, value: &Value) -> Result<Labels, &'static str> {
    match value {
        Value::String(text) => of_cell(name, text),
        value => Ok(json_number(value)?
            .map(|number| (name.to_owned(), number))
            .into_iter()
            .collect()),
    }
}

/// One label; `None` where nothing is written.
fn label(text: &str) -> Result<Option<(String, f32)>, &'static str> {
    let (name, value) = text.rsplit_once('=').unwrap_or((text, "1"));
    match name.trim() {
        "" => Ok(None),
        name if name.contains(NO_NAME) => Err(SEPARATOR),
        name => Ok(Some((name.to_owned(), number(value).ok_or(VALUE)?))),
    }
}

/// Whether a cell of a table of labels says nothing; some programs write `nan` for that.
pub(super) fn is_blank(cell: &str) -> bool {
    let cell = cell.trim();
    cell.is_empty() || cell.eq_ignore_ascii_case("nan")
}

/// What a value of a label means.
pub(super) fn number(text: &str) -> Option<f32> {
    match text.trim().to_lowercase().as_str() {
        "true" | "yes" | "present" => Some(1.0),
        "false" | "no" | "absent" => Some(0.0),
        "uncertain" => Some(-1.0),
        other => {
            let number: f32 = other.parse().ok()?;
            [1.0, 0.0, -1.0].into_iter().find(|known| *known == number)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn labels(list: &[(&str, f32)]) -> Result<Labels, &'static str> {
        Ok(list.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect())
    }

    #[test]
    fn a_label_is_present_absent_or_uncertain_by_number_or_word() {
        assert_eq!(
            of_text("A; B=no;C = Absent;D=-1.0;E=uncertain;F=TRUE;"),
            labels(&[("A", 1.0), ("B", 0.0), ("C", 0.0), ("D", -1.0), ("E", -1.0), ("F", 1.0)])
        );
        assert_eq!(of_json(&json!(["A", "B=0"])), labels(&[("A", 1.0), ("B", 0.0)]));
        let object = json!({"A": true, "B": false, "C": "uncertain", "D": 1.0, "E": null, "F": ""});
        assert_eq!(
            of_json(&object),
            labels(&[("A", 1.0), ("B", 0.0), ("C", -1.0), ("D", 1.0)])
        );
        assert_eq!(of_json(&Value::Null), labels(&[]));
    }

    #[test]
    fn labels_contradict_each_other_by_another_value_of_one_name_and_a_finding_where_there_is_none() {
        for (one, other) in [
            (("Edema", 1.0), ("edema", 0.0)),
            (("Edema", 1.0), ("Edema", -1.0)),
            (("Ödem", 1.0), ("ödem", 0.0)),
            (("Normal", 0.0), ("No Finding", 1.0)),
            (("no finding", 1.0), ("Mass", 1.0)),
        ] {
            assert!(contradict(one, other) && contradict(other, one), "{one:?} {other:?}");
        }
        for (one, other) in [
            (("Edema", 1.0), ("EDEMA", 1.0)),
            (("Edema", 1.0), ("Mass", 0.0)),
            (("Normal", 1.0), ("No Finding", 1.0)),
            (("No Finding", 1.0), ("Mass", 0.0)),
            (("No Finding", 1.0), ("Mass", -1.0)),
            (("No Finding", 0.0), ("Mass", 1.0)),
            (("No Finding", 1.0), ("support devices", 1.0)),
            (("normal", 1.0), ("unchanged", 1.0)),
        ] {
            assert!(!contradict(one, other) && !contradict(other, one), "{one:?} {other:?}");
        }
    }

    #[test]
    fn a_value_that_is_not_understood_is_no_presence() {
        for text in ["A=maybe", "A=2", "A=0.7", "A=", "B;A=nan"] {
            assert_eq!(of_text(text), Err(VALUE), "{text}");
        }
        assert_eq!(of_json(&json!({"A": 0.5})), Err(VALUE));
        assert_eq!(of_json(&json!({"A": ["yes"]})), Err(VALUE));
        assert_eq!(of_json(&json!([1])), Err(FORM));
        assert_eq!(of_json(&json!(true)), Err(FORM));
    }

    #[test]
    fn labels_that_are_separated_in_another_way_are_not_taken_for_one() {
        for text in [
            "Edema|Fracture",
            "Edema, Fracture",
            "['Edema', 'Fracture']",
            "[Edema]",
            "{'Edema': 1}",
            "Edema=0|Fracture=1",
            "Mass;Edema|Fracture",
        ] {
            assert_eq!(of_text(text), Err(SEPARATOR), "{text}");
        }
        assert_eq!(of_json(&json!(["Edema|Fracture"])), Err(SEPARATOR));
        assert_eq!(of_json(&json!("Edema,Fracture")), Err(SEPARATOR));
        // The name of a key is its own.
        assert_eq!(of_json(&json!({"Opacity, left": 1})), labels(&[("Opacity, left", 1.0)]));
    }
}
