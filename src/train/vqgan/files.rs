//! Where the files of a VQ-GAN are.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use tch::{Device, Kind};

use super::generator::codes_checksum;
use crate::basics::hex;
use crate::model::bundle::MANIFEST;
use crate::model::checkpoint::{CheckpointError, Weights};
use crate::model::convert::{ConvertError, vqgan_config};
use crate::model::vqgan::{Vqgan, VqganConfig};
use crate::train::common::{Base, TrainError, verify_listed};
use crate::train::encode::CodeOrigin;

const YAML: &str = "config.yaml";
const WEIGHTS: &str = "model.safetensors";
/// The folder in a bundle, or in that of a run.
const INNER: &str = "vqgan";

/// The files of a VQ-GAN.
#[derive(Clone, Debug)]
pub struct VqganFiles {
    /// Its yaml.
    pub yaml: PathBuf,
    /// Its weights.
    pub weights: PathBuf,
    /// Its shape.
    pub config: VqganConfig,
}

impl VqganFiles {
    /// Finds them in a VQ-GAN's own folder, or in the `vqgan/` of a bundle or of the run that trained it. Those of a bundle must be what its
    /// manifest lists.
    pub fn find(folder: &Path) -> Result<Self, TrainError> {
        let own = Self::folder(folder).unwrap_or_else(|| folder.to_owned());
        if let Some(bundle) = bundle_around(&own) {
            verify_listed(&bundle, |path| Path::new(path).starts_with(INNER))?;
        }
        let yaml = own.join(YAML);
        let (_, config) = vqgan_config(&yaml).map_err(|error| match error {
            ConvertError::Checkpoint(CheckpointError::Io { reason, .. }) if reason.kind() == ErrorKind::NotFound => {
                TrainError::Settings(format!(
                    "{} holds no VQ-GAN: give a bundle, the folder of a run of `vqgan`, or the folder with {YAML} and {WEIGHTS}",
                    folder.display()
                ))
            }
            error => error.into(),
        })?;
        Ok(Self {
            config,
            weights: own.join(WEIGHTS),
            yaml,
        })
    }

    /// Whether [`Self::find`] finds some.
    pub fn are_in(folder: &Path) -> bool {
        Self::folder(folder).is_some()
    }

    /// The VQ-GAN's own folder.
    fn folder(given: &Path) -> Option<PathBuf> {
        let places = [given.join(INNER), given.to_owned()];
        places.into_iter().find(|place| place.join(YAML).is_file())
    }

    /// Its weights, mapped.
    pub fn open(&self) -> Result<Weights, TrainError> {
        Ok(Weights::open(std::slice::from_ref(&self.weights))?)
    }

    /// What its codes must say that they were made by.
    pub fn origin(&self) -> Result<CodeOrigin, TrainError> {
        let (codes, count) = (self.config.codes_per_image(), self.config.n_embed);
        let vqgan = codes_checksum(&self.config, &self.open()?);
        Ok(CodeOrigin::of(vqgan, [&self.yaml, &self.weights], codes, count)?)
    }

    /// What gives its codes their meaning.
    pub fn meaning(&self) -> Result<Base, TrainError> {
        Ok(Base {
            place: self.weights.clone(),
            sha256: hex(&codes_checksum(&self.config, &self.open()?)),
        })
    }

    /// The network, in f32.
    pub fn load(&self, device: Device) -> Result<Vqgan, TrainError> {
        Ok(Vqgan::load(&self.config, &self.open()?, Kind::Float, device)?)
    }
}

/// The bundle that the VQ-GAN in the folder `own` is a part of.
fn bundle_around(own: &Path) -> Option<PathBuf> {
    let around = |own: &Path| {
        let folder = own.parent().filter(|_| own.ends_with(INNER))?;
        folder.join(MANIFEST).is_file().then(|| folder.to_owned())
    };
    // Of `.` the name does not show.
    around(own).or_else(|| around(&own.canonicalize().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::init::{init, tests::tiny};

    #[test]
    fn a_bundle_a_run_and_the_folder_itself_lead_to_the_same_files_and_another_folder_to_none() {
        let dir = tempfile::tempdir().unwrap();
        let bundle = dir.path().join("bundle");
        init(&tiny(bundle.clone()), &mut |_| {}).unwrap();
        // A run has no manifest beside it.
        let run = dir.path().join("run/vqgan");
        std::fs::create_dir_all(&run).unwrap();
        for name in [YAML, WEIGHTS] {
            std::fs::copy(bundle.join("vqgan").join(name), run.join(name)).unwrap();
        }
        let origin = |folder: &str| VqganFiles::find(&dir.path().join(folder)).unwrap().origin().unwrap();
        let found = ["bundle", "bundle/vqgan", "run", "run/vqgan"].map(origin);
        assert!(found.iter().all(|origin| *origin == found[0]));
        let none = VqganFiles::find(dir.path()).unwrap_err().to_string();
        assert!(
            none.contains("holds no VQ-GAN") && !VqganFiles::are_in(dir.path()),
            "{none}"
        );
    }

    #[test]
    fn a_vqgan_that_is_not_what_its_bundle_lists_is_refused_and_one_of_a_run_is_taken_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let bundle = dir.path().join("bundle");
        init(&tiny(bundle.clone()), &mut |_| {}).unwrap();
        let weights = bundle.join("vqgan").join(WEIGHTS);
        let mut bytes = std::fs::read(&weights).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&weights, bytes).unwrap();
        for given in [&bundle, &bundle.join("vqgan")] {
            let error = VqganFiles::find(given).unwrap_err().to_string();
            assert!(error.contains("model.safetensors is damaged or was changed"), "{error}");
        }
        std::fs::rename(bundle.join("vqgan"), dir.path().join("vqgan")).unwrap();
        VqganFiles::find(dir.path()).unwrap();
    }
}
