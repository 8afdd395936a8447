//! Networks that judge how alike two images are, beyond their pixels: our classifier, the encoder of a VQ-GAN, or any TorchScript file.

use std::path::{Path, PathBuf};

use tch::{CModule, Device, IValue, Kind, Tensor};

use super::encoder_features::EncoderFeatures;
use super::files::VqganFiles;
use crate::train::classifier::Classifier;
use crate::train::common::TrainError;

/// A fixed network that gives features of images.
pub enum FeatureNetwork {
    /// A folder left by `llm-cxr-train classifier`.
    Classifier(Box<Classifier>),
    /// A VQ-GAN's folder, of which the encoder is used.
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
        if VqganFiles::are_in(path) {
            return Ok(Self::Encoder(Box::new(EncoderFeatures::open(path, kind, device)?)));
        }
        if !path.exists() {
            return Err(TrainError::Settings(format!(
                "{} is not there: give the folder of a classifier or of a VQ-GAN, or a TorchScript file",
                path.display()
            )));
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A TorchScript file of what `network` does to an image, in a folder.
    fn script(folder: &Path, name: &str, network: fn(&Tensor) -> Tensor) -> PathBuf {
        let path = folder.join(name);
        let example = Tensor::zeros([2, 3, 8, 8], (Kind::Float, Device::Cpu));
        let traced = CModule::create_by_tracing("features", "forward", &[example], &mut |x| vec![network(&x[0])]);
        traced.unwrap().save(&path).unwrap();
        path
    }

    fn pooled(x: &Tensor) -> Tensor {
        x.avg_pool2d([2, 2], [2, 2], [0, 0], false, true, None::<i64>)
    }

    fn means(x: &Tensor) -> Tensor {
        x.mean_dim([2i64, 3].as_slice(), false, Kind::Float)
    }

    #[test]
    fn torchscript_files_give_maps_and_vectors_of_grey_images_with_gradients() {
        let dir = tempfile::tempdir().unwrap();
        let files = [
            script(dir.path(), "maps.pt", pooled),
            script(dir.path(), "means.pt", means),
        ];
        let network = FeatureNetwork::open_all(&files, Kind::Float, Device::Cpu)
            .unwrap()
            .unwrap();
        let x = Tensor::linspace(-1.0, 1.0, 64, (Kind::Float, Device::Cpu))
            .view([1, 1, 8, 8])
            .set_requires_grad(true);
        let seen = network.features(&x).unwrap();
        assert_eq!(seen.maps.len(), 1);
        assert!(seen.maps[0].allclose(&pooled(&x.repeat([1, 3, 1, 1])), 1e-6, 1e-6, false));
        let vector = seen.vector.as_ref().unwrap();
        assert!(vector.allclose(&means(&x).repeat([1, 3]), 1e-6, 1e-6, false));
        let other = tch::no_grad(|| network.features(&(&x * 0.5))).unwrap();
        let loss = seen.perceptual(&other).unwrap() + seen.clinical(&other).unwrap();
        let gradient = Tensor::run_backward(&[loss], &[&x], false, false);
        assert!(gradient[0].abs().sum(Kind::Float).double_value(&[]) > 0.0);
    }

    #[test]
    fn a_script_that_gives_no_features_and_a_file_that_is_none_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = script(dir.path(), "flat.pt", |x| x.flatten(2, 3));
        let network = FeatureNetwork::open(&path, Kind::Float, Device::Cpu).unwrap();
        let x = Tensor::zeros([1, 1, 8, 8], (Kind::Float, Device::Cpu));
        let error = network.features(&x).err().unwrap().to_string();
        assert!(error.contains("four or two dimensions"), "{error}");
        let text = dir.path().join("notes.txt");
        std::fs::write(&text, "no network").unwrap();
        let error = FeatureNetwork::open(&text, Kind::Float, Device::Cpu)
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("is neither") && !error.contains('\n'), "{error}");
        let told = |path: &Path| {
            FeatureNetwork::open(path, Kind::Float, Device::Cpu)
                .err()
                .unwrap()
                .to_string()
        };
        let nowhere = told(&dir.path().join("nothere"));
        assert!(nowhere.contains("nothere is not there: give"), "{nowhere}");
        let empty = told(dir.path());
        assert!(empty.contains("holds no classifier"), "{empty}");
    }
}
