//! The classifier as a reader of images.

use std::path::Path;

use tch::{Device, Kind, Tensor};

use crate::model::vqgan::normalised;
use crate::phantom::LABELS;
use crate::radiograph::{Channels, Pixels, Raster, for_model};
use crate::train::classifier::{Classifier, ClassifierConfig};
use crate::train::common::TrainError;

/// Reads findings and features off images.
pub struct Reader {
    network: Classifier,
    device: Device,
    /// Places of the classifier's labels that are observations of CheXpert, and these observations' places in [`LABELS`].
    places: Vec<(usize, usize)>,
}

/// What was read off a batch.
pub struct Sight {
    /// For each image the probability of each of [`Reader::labels`].
    pub probabilities: Vec<Vec<f64>>,
    /// Feature vectors, `[n, features]`.
    pub features: Tensor,
}

impl Reader {
    /// Opens a folder left by `llm-cxr-train classifier`: the network's own, or the run's with `classifier/` in it.
    pub fn open(folder: &Path, device: Device) -> Result<Self, TrainError> {
        let inner = folder.join("classifier");
        let folder = if inner.join("config.json").is_file() {
            &inner
        } else {
            folder
        };
        let network = Classifier::open(folder, Kind::Float, device)?;
        let names = &network.config().labels;
        let place = |name: &String| LABELS.iter().position(|label| label.eq_ignore_ascii_case(name));
        let places: Vec<_> = names
            .iter()
            .enumerate()
            .filter_map(|(i, name)| Some((i, place(name)?)))
            .collect();
        if places.is_empty() {
            return Err(TrainError::Settings(format!(
                "the classifier in {} tells none of the 14 CheXpert labels ({}); train one with them",
                folder.display(),
                LABELS.join(", ")
            )));
        }
        Ok(Self {
            network,
            device,
            places,
        })
    }

    /// Side of the images it takes.
    pub fn side(&self) -> usize {
        self.config().resolution
    }

    /// Length of a feature vector.
    pub fn width(&self) -> usize {
        self.config().features()
    }

    /// The observations it tells, as places in [`LABELS`].
    pub fn places(&self) -> Vec<usize> {
        self.places.iter().map(|p| p.1).collect()
    }

    /// Their names.
    pub fn labels(&self) -> Vec<String> {
        self.places.iter().map(|p| LABELS[p.1].to_owned()).collect()
    }

    fn config(&self) -> &ClassifierConfig {
        self.network.config()
    }

    /// Reads images of any size; they are fitted as those it was trained on.
    pub fn see(&self, images: &[&Pixels]) -> Result<Sight, TrainError> {
        let _guard = tch::no_grad_guard();
        let side = self.side();
        let fitted: Vec<Pixels> = images.iter().map(|image| fit(image, side)).collect();
        let bytes: Vec<u8> = fitted.iter().flat_map(|p| p.rgb().iter().copied()).collect();
        let shape = [images.len() as i64, side as i64, side as i64, 3];
        let levels = Tensor::from_slice(&bytes).f_view(shape)?.to_device(self.device);
        let x = normalised(&levels).permute([0, 3, 1, 2]);
        let seen = self.network.see(&x);
        let all = seen.logits.sigmoid().to_device(Device::Cpu).to_kind(Kind::Double);
        let rows = Vec::<Vec<f64>>::try_from(&all)?;
        let pick = |row: Vec<f64>| self.places.iter().filter_map(|p| row.get(p.0).copied()).collect();
        Ok(Sight {
            probabilities: rows.into_iter().map(pick).collect(),
            features: seen.vector.to_device(Device::Cpu),
        })
    }
}

fn fit(image: &Pixels, side: usize) -> Pixels {
    if (image.width(), image.height()) == (side, side) {
        return image.clone();
    }
    match Raster::new(image.width(), image.height(), Channels::Rgb, image.rgb().to_vec()) {
        Some(raster) => for_model(&raster, side),
        None => image.clone(),
    }
}
