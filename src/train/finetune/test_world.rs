//! A toy world for tests: a random bundle, a few images with reports, questions and codes, and plain instructions.

use std::path::PathBuf;

use tch::Device;

use super::corpus::Corpus;
use super::examples::Examples;
use super::settings::FinetuneSettings;
use crate::model::bundle::Bundle;
use crate::radiograph::{ImageFormat, Pixels, write};
use crate::train::data::{Dataset, SplitWatch};
use crate::train::encode::encode;
use crate::train::init::{InitOptions, init, tests::smallest};
use crate::train::language_model::Encoder;
use crate::train::vqgan::VqganFiles;

/// A folder with a random bundle of a tiny shape, a manifest of images with its codes, and a file of plain instructions.
pub(super) struct TestWorld(tempfile::TempDir);

const ROWS: &str = "image,split,report,question,answer
0.png,train,The heart is large.,Is the heart large?,yes
0.png,train,,Is there an effusion?,no
1.png,train,The lungs are clear.,Is the heart large?,no
2.png,train,FINDINGS: A left effusion. IMPRESSION: Effusion.,,
3.png,train,A right effusion.,,
4.png,validate,No effusion.,Is there an effusion?,no
5.png,validate,The heart is normal.,,
6.png,test,No pneumothorax.,,
7.png,train,Never encoded.,,
";

impl TestWorld {
    pub(super) fn new() -> Self {
        let world = Self(tempfile::tempdir().unwrap());
        let options = InitOptions {
            context: 256,
            ..smallest(world.path("start"))
        };
        init(&options, &mut |_| {}).unwrap();
        for number in 0..7u8 {
            let rgb = (0..8 * 8 * 3).map(|i| (i as u8).wrapping_mul(number + 1)).collect();
            let png = write(&Pixels::new(8, 8, rgb).unwrap(), ImageFormat::Png, &[]).unwrap();
            std::fs::write(world.path(&format!("{number}.png")), png).unwrap();
        }
        std::fs::write(world.path("data.csv"), ROWS).unwrap();
        let line =
            |n: usize| format!("{{\"instruction\": \"Count to {n}.\", \"context\": \"\", \"response\": \"{n}\"}}\n");
        std::fs::write(world.path("text.jsonl"), (0..60).map(line).collect::<String>()).unwrap();
        let vqgan = world.vqgan();
        let origin = vqgan.origin().unwrap();
        let network = vqgan.load(Device::Cpu).unwrap();
        let data = Dataset::open(&world.path("data.csv")).unwrap();
        encode(&data, &network, &origin, &world.path("codes"), 4, &mut |_| {}).unwrap();
        world
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(super) fn vqgan(&self) -> VqganFiles {
        VqganFiles::find(&self.path("start")).unwrap()
    }

    pub(super) fn settings(&self, run: &str) -> FinetuneSettings {
        let text = |name: &str| self.path(name).to_string_lossy().into_owned();
        FinetuneSettings {
            out: self.path(run),
            data: vec![text("data.csv")],
            codes: vec![self.path("codes")],
            text: vec![text("text.jsonl")],
            vqgan: self.path("start"),
            base: Some(self.path("start")),
            steps: 6,
            batch: 4,
            pass_tokens: 400,
            warmup: 2,
            ema: 0.5,
            eval_every: 3,
            save_every: 2,
            validate: 4,
            samples: 1,
            workers: 2,
            ..FinetuneSettings::default()
        }
    }

    /// A run that is too slow to change a weight: no evaluation is better than the first, so that it ends early.
    pub(super) fn idle(&self, run: &str) -> FinetuneSettings {
        FinetuneSettings {
            rate: 1e-15,
            warmup: 0,
            ema: 0.0,
            samples: 0,
            eval_every: 1,
            patience: 2,
            steps: 40,
            ..self.settings(run)
        }
    }

    pub(super) fn examples(&self, settings: &FinetuneSettings, context: usize) -> Examples {
        let bundle = Bundle::open(&self.path("start")).unwrap();
        let (mut corpus, origin) = (Corpus::default(), self.vqgan().origin().unwrap());
        let (data, codes, stage) = (&settings.data[0], &settings.codes[0], settings.stage().unwrap());
        let mut watch = SplitWatch::default();
        corpus.add_images(data, codes, &origin, stage, &mut watch).unwrap();
        corpus.add_texts(&settings.text[0], &mut watch).unwrap();
        Examples::new(corpus, Encoder::new(bundle.vocabulary().unwrap()), settings, context).unwrap()
    }
}
