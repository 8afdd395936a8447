//! Networks that judge how alike two images are, beyond their pixels: our classifier, the encoder of a VQ-GAN, or any TorchScript file.

use std::path::{Path, PathBuf};

use tch::{CModule, Device, IValue, Kind, Tensor};

use super::encoder_features::EncoderFeatures;
use crate::train::classifier::Classifier;
use crate::train::common::TrainError;

/// A fixed network that gives features of images.
pub enum FeatureNetwork {
    /// A folder left by `llm-cxr-train classifier`.
    Classifier(Box<Classifier>),
    /// A `vqgan/` folder, of which the encoder is used.
    Encoder(Box<EncoderFeatures>),
    /// A TorchScript module: RGB images `[n, 3, h, w]` in [−1, 1] → a tensor, or a tuple or list of tensors; those with four
    /// dimensions are maps, the last one with two is the vector.
    Script(CModule),
    /// Several of these, whose maps and vectors are put together.
    Several(Vec<FeatureNetwork>),
}

/// Features of a batch.
pub struct Features {
    /// `[n, c, h, w]` each.
    pub maps: Vec<Tensor>,
    /// `[n, length]`.
    pub vector: Option<Tensor>,
}

impl FeatureNetwork {
    /// Opens each of `paths` as [`Self::open`]; `None` if there are none.
    pub fn open_all(paths: &[PathBuf], kind: Kind, device: Device) -> Result<Option<Self>, TrainError> {
        let opened = paths.iter().map(|path| Self::open(path, kind, device));
        let mut networks = opened.collect::<Result<Vec<_>, _>>()?;
        Ok(match networks.len() {
            0 | 1 => networks.pop(),
            _ => Some(Self::Several(networks)),
        })
    }

    /// Opens a classifier's folder, a VQ-GAN's, or a TorchScript file.
    pub fn open(path: &Path, kind: Kind, device: Device) -> Result<Self, TrainError> {
        if path.join("config.yaml").is_file() {
            return Ok(Self::Encoder(Box::new(EncoderFeatures::open(path, kind, device)?)));
        }
        if path.is_dir() {
            return Ok(Self::Classifier(Box::new(Classifier::open(path, kind, device)?)));
        }
        let mut module = CModule::load_on_device(path, device).map_err(|e| {
            let reason = e.to_string();
            let first = reason.lines().next().unwrap_or_default().to_owned();
            TrainError::Settings(format!(
                "{} is neither a folder of a classifier or a VQ-GAN nor a TorchScript file: {first}",
                path.display()
            ))
        })?;
        module.f_set_eval()?;
        Ok(Self::Script(module))
    }

    /// Features of images `[n, c, h, w]` in [−1, 1].
    pub fn features(&self, x: &Tensor) -> Result<Features, TrainError> {
        let module = match self {
            Self::Classifier(network) => {
                let seen = network.see(x);
                return Ok(Features {
                    maps: seen.maps,
                    vector: Some(seen.vector),
                });
            }
            Self::Encoder(network) => return Ok(network.features(x)),
            Self::Several(networks) => {
                let (mut maps, mut vectors) = (Vec::new(), Vec::new());
                for network in networks {
                    let features = network.features(x)?;
                    maps.extend(features.maps);
                    vectors.extend(features.vector);
                }
                return Ok(Features {
                    maps,
                    vector: (!vectors.is_empty()).then(|| Tensor::cat(&vectors, 1)),
                });
            }
            Self::Script(module) => module,
        };
        let rgb = match x.size().get(1) {
            Some(1) => x.repeat([1, 3, 1, 1]),
            _ => x.shallow_clone(),
        };
        let (mut maps, mut vector) = (Vec::new(), None);
        for tensor in tensors(module.forward_is(&[IValue::Tensor(rgb)])?) {
            match tensor.dim() {
                4 => maps.push(tensor.to_kind(Kind::Float)),
                2 => vector = Some(tensor.to_kind(Kind::Float)),
                _ => {}
            }
        }
        if maps.is_empty() && vector.is_none() {
            return Err(TrainError::Settings(
                "the TorchScript feature network gives no tensor of four or two dimensions".to_owned(),
            ));
        }
        Ok(Features { maps, vector })
    }
}

fn tensors(value: IValue) -> Vec<Tensor> {
    match value {
        IValue::Tensor(t) => vec![t],
        IValue::TensorList(list) => list,
        IValue::Tuple(list) | IValue::GenericList(list) => list.into_iter().flat_map(tensors).collect(),
        _ => Vec::new(),
    }
}

impl Features {
    /// Perceptual distance as LPIPS (Zhang et al. 2018) without learned weights: at each place of each map the squared distance of
    /// the channel vectors made unit length, averaged over places and images, summed over maps.
    pub fn perceptual(&self, other: &Self) -> Option<Tensor> {
        let unit = |t: &Tensor| {
            let length = (t.square().sum_dim_intlist([1i64].as_slice(), true, Kind::Float) + 1e-10).sqrt();
            t / length
        };
        let each = self.maps.iter().zip(&other.maps).map(|(a, b)| {
            let difference = unit(a) - unit(b);
            difference
                .square()
                .sum_dim_intlist([1i64].as_slice(), false, Kind::Float)
                .mean(Kind::Float)
        });
        each.reduce(|a, b| a + b)
    }

    /// The clinical-feature distance of LLM-CXR: mean squared difference of the feature vectors.
    pub fn clinical(&self, other: &Self) -> Option<Tensor> {
        let (a, b) = (self.vector.as_ref()?, other.vector.as_ref()?);
        Some((a - b).square().mean(Kind::Float))
    }
}
