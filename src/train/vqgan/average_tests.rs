//! What is measured and exported is the average of the weights.

use tch::{Device, Kind, Tensor};

use super::generator::CODE_BOOK;
use super::task::{Material, VqganTask};
use super::*;
use crate::train::common::{ImageBatch, Outcome, Task};

fn averaged(out: &std::path::Path) -> VqganSettings {
    VqganSettings {
        ema: 0.999,
        ..tests::settings(out, 4)
    }
}

#[test]
fn the_code_book_that_is_made_from_data_is_that_of_the_average_too() {
    let dir = tempfile::tempdir().unwrap();
    let task = VqganTask::new(&averaged(dir.path()), Material::default(), Device::Cpu).unwrap();
    let (parameters, average) = (&task.generator.parameters, task.trainer.average().unwrap());
    let latents = Tensor::arange(160, (Kind::Float, Device::Cpu)).view([20, 8]) + 100.0;
    code_book::from_data(parameters, Some(average), &latents, (1, 3)).unwrap();
    let [own, averages] = [parameters.flat(), average].map(|flat| parameters.part(flat, CODE_BOOK).unwrap());
    assert!(own.min().double_value(&[]) >= 100.0 && own.equal(&averages));
    // In a run: what is exported after few steps are latents, not the vectors that were there before.
    let mut task = VqganTask::new(&averaged(dir.path()), Material::default(), Device::Cpu).unwrap();
    let fresh = task
        .generator
        .parameters
        .part(task.generator.parameters.flat(), CODE_BOOK);
    let fresh = fresh.unwrap().copy();
    assert_eq!(
        task.drive(|n| tests::discs(n, 32), || false).unwrap(),
        Outcome::Finished
    );
    let average = task.trainer.average().unwrap();
    let own = task
        .generator
        .parameters
        .part(task.generator.parameters.flat(), CODE_BOOK);
    let averages = task.generator.parameters.part(average, CODE_BOOK);
    let distance = |a: &Tensor, b: &Tensor| (a - b).norm().double_value(&[]);
    let (own, averages) = (own.unwrap(), averages.unwrap());
    assert!(distance(&averages, &own) < 0.1 * distance(&own, &fresh));
}

#[test]
fn findings_are_told_by_the_average_of_the_weights() {
    let dir = tempfile::tempdir().unwrap();
    let s = VqganSettings {
        findings_weight: 1.0,
        ..averaged(dir.path())
    };
    let mut task = VqganTask::new(&s, tests::material(&["left".to_owned()]), Device::Cpu).unwrap();
    let mut images = ImageBatch::default();
    for one in (0..4).map(tests::labelled) {
        images.ids.extend(one.ids);
        images.levels.extend(one.levels);
        images.labels.extend(one.labels);
    }
    task.material.validation = evaluate::pixels(&images, 32, 1);
    task.material.labelled = vec![images];
    // The weights tell of no image that a disc stands on the left, their average of every one.
    let parameters = &task.generator.parameters;
    let average = task.trainer.average().unwrap();
    tch::no_grad(|| {
        for (flat, bias) in [(parameters.flat(), -100.0), (average, 100.0)] {
            let _ = parameters.part(flat, "findings.bias").unwrap().fill_(bias);
        }
    });
    let values = task.evaluate(10).unwrap();
    for name in ["validation/findings_f1", "validation/findings_f1_codes"] {
        let (_, f1) = values.iter().find(|(told, _)| told == name).unwrap();
        assert!(*f1 > 0.0, "{name}: {f1}");
    }
}
