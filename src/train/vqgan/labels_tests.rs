//! Runs that are taken up when what is known of their images has changed.

use std::fs;
use std::path::Path;

use tch::Device;

use super::*;
use crate::radiograph::{ImageFormat, Pixels, write};
use crate::train::common::{Outcome, TrainError};

/// Writes a table of four images, of which these labels are known in turn.
fn data(folder: &Path, labels: [&str; 2]) {
    let mut rows = "image,split,labels\n".to_owned();
    for number in 0..4u8 {
        let levels = (0..32 * 32).flat_map(|at: usize| [(at % 32) as u8 * (number + 1); 3]);
        let pixels = Pixels::new(32, 32, levels.collect()).unwrap();
        let name = format!("{number}.png");
        fs::write(folder.join(&name), write(&pixels, ImageFormat::Png, &[]).unwrap()).unwrap();
        rows += &format!("{name},train,{}\n", labels[usize::from(number % 2)]);
    }
    fs::write(folder.join("data.csv"), rows).unwrap();
}

fn settings(folder: &Path, run: &str, steps: u64) -> VqganSettings {
    VqganSettings {
        data: vec![folder.join("data.csv").display().to_string()],
        findings_weight: 1.0,
        disc_weight: 0.0,
        ..tests::settings(&folder.join(run), steps)
    }
}

#[test]
fn a_reader_of_findings_does_not_go_on_with_labels_of_another_meaning() {
    let dir = tempfile::tempdir().unwrap();
    let go = |run: &str, findings_weight: f64, steps: u64| {
        let s = VqganSettings {
            findings_weight,
            ..settings(dir.path(), run, steps)
        };
        train(&s, Device::Cpu, || false)
    };
    data(dir.path(), ["Left=1", "Right=1"]);
    for (run, weight) in [("findings", 1.0), ("none", 0.0)] {
        assert_eq!(go(run, weight, 2).unwrap(), Outcome::Finished);
    }
    for other in [["Left=1", "Middle=1"], ["Left=1;Up=0", "Right=1"], ["Left=1", "Left=0"]] {
        data(dir.path(), other);
        let error = go("findings", 1.0, 4).unwrap_err();
        assert!(matches!(&error, TrainError::OtherLabels { step: 2, .. }), "{error}");
    }
    // One that learns nothing of them does.
    assert_eq!(go("none", 0.0, 4).unwrap(), Outcome::Finished);
    data(dir.path(), ["Left=1", "Right=1"]);
    assert_eq!(go("findings", 1.0, 4).unwrap(), Outcome::Finished);
}
