//! Losses and optimizer against taming-transformers and torch.optim on fixed inputs (`tests/fixtures/make_training_fixtures.py`).

use std::path::Path;

use llm_cxr::model::ExpectedTensor;
use llm_cxr::model::checkpoint::Weights;
use llm_cxr::model::source::TensorSource;
use llm_cxr::train::common::checkpoint::read_counts;
use llm_cxr::train::common::{Adamw, AdamwSettings, Initial, Parameters};
use llm_cxr::train::vqgan::{Discriminator, loss, quantize};
use tch::{Device, Kind, Tensor};

const TOLERANCE: f64 = 1e-4;

struct Fixture(Weights);

impl Fixture {
    fn open() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/training/losses.safetensors");
        Self(Weights::open(&[path]).expect("the fixture can be read"))
    }

    fn get(&self, name: &str) -> Tensor {
        let shape = &self.0.info(name).expect("the fixture has this tensor").shape;
        self.0
            .tensor(name, shape, Kind::Float, Device::Cpu)
            .expect("the tensor can be read")
    }

    fn assert_near(&self, name: &str, ours: &Tensor) {
        let theirs = self.get(name);
        assert_eq!(ours.numel(), theirs.numel(), "{name}");
        let error = (ours.reshape([-1]) - theirs.reshape([-1]))
            .abs()
            .max()
            .double_value(&[]);
        assert!(error < TOLERANCE, "{name} differs by {error}");
    }
}

#[test]
fn the_quantizer_has_tamings_codes_loss_and_gradients() {
    let f = Fixture::open();
    let z = f.get("vq.z").set_requires_grad(true);
    let book = f.get("vq.book").set_requires_grad(true);
    let q = quantize(&z, &book, 0.25);
    assert_eq!(
        Vec::<i64>::try_from(&q.codes).unwrap(),
        read_counts(&f.0, "vq.codes").unwrap()
    );
    f.assert_near("vq.loss", &q.loss);
    let total = &q.loss + (&q.straight * f.get("vq.after")).sum(Kind::Float);
    let grads = Tensor::run_backward(&[total], &[&z, &book], false, false);
    f.assert_near("vq.grad_z", &grads[0]);
    f.assert_near("vq.grad_book", &grads[1]);
}

#[test]
fn the_discriminator_its_losses_and_the_adaptive_weight_are_tamings() {
    let f = Fixture::open();
    let discriminator = Discriminator::new(1, 8, 2, 0, Device::Cpu).unwrap();
    let parameters = &discriminator.parameters;
    parameters.read("disc.", parameters.flat(), &f.0).unwrap();
    let (real, last) = (f.get("gan.real"), f.get("gan.last").set_requires_grad(true));
    let fake = f
        .get("gan.hidden")
        .conv2d(&last, None::<&Tensor>, [1; 2], [1; 2], [1; 2], 1);
    let logits_real = discriminator.forward(&real, Kind::Float).unwrap();
    let logits_fake = discriminator.forward(&fake, Kind::Float).unwrap();
    f.assert_near("gan.logits_real", &logits_real);
    f.assert_near("gan.logits_fake", &logits_fake);
    f.assert_near("gan.hinge", &loss::hinge(&logits_real, &logits_fake));
    let adversarial = loss::generator(&logits_fake);
    f.assert_near("gan.generator", &adversarial);
    let reconstruction = (&real - &fake).abs().mean(Kind::Float);
    let at_last = |loss: &Tensor| Tensor::run_backward(&[loss], &[&last], true, false).swap_remove(0);
    let weight = loss::adaptive_weight(&at_last(&reconstruction), &at_last(&adversarial)) * 0.8;
    f.assert_near("gan.weight", &weight);
}

#[test]
fn six_steps_of_adamw_give_the_losses_of_torch_optim() {
    let f = Fixture::open();
    let expected = ["first", "second"].map(|name| ExpectedTensor {
        name: name.to_owned(),
        shape: f.0.info(&format!("adamw.{name}")).unwrap().shape.clone(),
    });
    let parameters = Parameters::fresh(&expected, Initial::Torch, 0, Device::Cpu).unwrap();
    parameters.read("adamw.", parameters.flat(), &f.0).unwrap();
    let settings = AdamwSettings {
        weight_decay: 0.1,
        ..AdamwSettings::default()
    };
    let mut optimizer = Adamw::new(settings, &parameters);
    let (x, y) = (f.get("adamw.x"), f.get("adamw.y"));
    let (first, second) = (parameters.leaf("first").unwrap(), parameters.leaf("second").unwrap());
    let mut losses = Vec::new();
    for _ in 0..6 {
        let drawn = x.matmul(&first.transpose(0, 1)).tanh().matmul(&second.transpose(0, 1));
        let loss = (drawn - &y).square().mean(Kind::Float);
        let gradient = parameters.gradient(&loss).unwrap();
        losses.push(loss.double_value(&[]) as f32);
        optimizer.step(&parameters, &gradient, 0.05);
    }
    f.assert_near("adamw.losses", &Tensor::from_slice(&losses));
    f.assert_near("adamw.last", &first.detach());
}
