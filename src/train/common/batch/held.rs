//! Which texts are kept for validation where their source names no splits.

use std::collections::HashMap;

/// One of so many is kept.
const EACH: u64 = 50;

/// Decides for one text after the other. Texts of one patient stand together on one side; each of the others stands for itself.
#[derive(Debug, Default)]
pub struct Held {
    /// Patients and texts of nobody, so far.
    count: u64,
    patients: HashMap<String, bool>,
}

impl Held {
    /// Says that this patient is learned from elsewhere.
    pub fn learned(&mut self, patient: &str) {
        if !self.patients.contains_key(patient) {
            self.patients.insert(patient.to_owned(), false);
        }
    }

    /// Whether the next text, of this patient if of one, is kept for validation.
    pub fn next(&mut self, patient: Option<&str>) -> bool {
        if let Some(known) = patient.and_then(|patient| self.patients.get(patient)) {
            return *known;
        }
        self.count += 1;
        let held = self.count.is_multiple_of(EACH);
        if let Some(patient) = patient {
            self.patients.insert(patient.to_owned(), held);
        }
        held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_50th_text_is_held_and_all_texts_of_a_patient_are_or_none() {
        let mut held = Held::default();
        let kept: Vec<u64> = (0..200).filter(|_| held.next(None)).collect();
        assert_eq!(kept, [49, 99, 149, 199]);
        let mut held = Held::default();
        held.learned("p49");
        let patients: Vec<String> = (0..300).map(|n| format!("p{}", n / 3)).collect();
        let kept: Vec<&String> = patients.iter().filter(|p| held.next(Some(p))).collect();
        // The 50th of those that are not learned from elsewhere.
        assert_eq!(kept, ["p50", "p50", "p50"]);
        assert!(held.next(Some("p50")) && !held.next(Some("p49")));
    }
}
