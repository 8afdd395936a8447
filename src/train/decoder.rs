//! Another decoder for a bundle that is there.

use std::path::{Path, PathBuf};

use super::common::store::copy_file;
use super::common::{TrainError, verify_listed};
use super::vqgan::{VqganFiles, other_codes};
use crate::model::bundle::{Bundle, BundleError, Manifest, VQGAN_WEIGHTS, add_file, find_bundle, folders};

/// Puts the decoder of `vqgan` (what `vqgan --decoder-only` leaves: its run's folder or the `vqgan/` in it) into the bundle at `folder` (or in this
/// folder of a run), whose language model goes on reading and writing the same codes.
///
/// # Errors
/// When one of them cannot be read, when a file of the bundle is damaged, when they differ in shape, encoder or code book, and when the
/// bundle cannot be written to. The bundle is then as it was.
pub fn exchange_decoder(folder: &Path, vqgan: &Path) -> Result<Manifest, TrainError> {
    let folder = &find_bundle(folder);
    let weights = fitting(folder, vqgan)?;
    put(folder, &weights)
}

/// Makes a bundle at `out` of that at `folder`, or in this folder of a run, with the decoder of `vqgan`; another that is there is exchanged for it.
///
/// # Errors
/// As [`exchange_decoder`], and when `out` is there and is no bundle. What is at `out` is then as it was.
pub fn with_decoder(folder: &Path, vqgan: &Path, out: &Path) -> Result<Manifest, TrainError> {
    let folder = &find_bundle(folder);
    let weights = fitting(folder, vqgan)?;
    let occupied = || {
        let what = format!("{} is there and is no bundle; choose another --out", out.display());
        TrainError::Settings(what)
    };
    if out.exists() && !out.join("bundle.json").is_file() {
        return Err(occupied());
    }
    let name = out.file_name().ok_or_else(occupied)?.to_string_lossy();
    let real = |path: &Path| path.canonicalize().map_err(|e| TrainError::io(path, e));
    let place = out.parent().filter(|parent| parent.is_dir()).map(real).transpose()?;
    if place.is_some_and(|place| real(folder).is_ok_and(|folder| place.starts_with(folder))) {
        let what = format!(
            "{} lies within the bundle itself; choose an --out beside it",
            out.display()
        );
        return Err(TrainError::Settings(what));
    }
    let [new, old] = ["new", "old"].map(|what| out.with_file_name(format!(".{name}.{what}")));
    let io = |(path, reason): folders::FolderError| TrainError::io(&path, reason);
    folders::remove(&new)
        .and_then(|()| folders::share(folder, &new))
        .map_err(io)?;
    let made = put(&new, &weights).and_then(|manifest| {
        folders::exchange(&new, out, &old).map_err(io)?;
        Ok(manifest)
    });
    if made.is_err() {
        // What stays costs room, nothing else.
        let _ = folders::remove(&new);
    }
    made
}

/// The weights of `vqgan`, if they write and read the codes of the bundle at `folder`.
fn fitting(folder: &Path, vqgan: &Path) -> Result<PathBuf, TrainError> {
    let bundle = Bundle::open(folder)?;
    // Damage would be a part of what is made, whose checksums are those of before. The weights that are replaced may have some.
    verify_listed(folder, |path| path != VQGAN_WEIGHTS)?;
    let files = VqganFiles::find(vqgan)?;
    let other = |what: &str| {
        TrainError::Settings(format!(
            "{what} of {} is not that of {}: its codes mean something else to this language model. Train it with `vqgan --init {0}/vqgan \
             --decoder-only`, or encode the data anew and run `finetune`",
            folder.display(),
            vqgan.display(),
        ))
    };
    if files.config != bundle.vqgan {
        return Err(other("the shape of the VQ-GAN"));
    }
    match other_codes(&bundle.vqgan, &bundle.vqgan_weights()?, &files.open()?) {
        Some(name) => Err(other(&format!("the tensor {name}"))),
        None => Ok(files.weights),
    }
}

fn put(folder: &Path, weights: &Path) -> Result<Manifest, TrainError> {
    let copy = |to: &Path| copy_file(weights, to).map_err(BundleError::folder);
    Ok(add_file(folder, VQGAN_WEIGHTS, &copy)?)
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind, Tensor};

    use super::*;
    use crate::model::checkpoint::{Dtype, Weights};
    use crate::model::source::TensorSource;
    use crate::train::common::store::write_tensors;
    use crate::train::init::{init, tests::tiny};

    /// A bundle, and its VQ-GAN with one tensor changed.
    fn bundle_and_other(changed: &str) -> (tempfile::TempDir, Bundle) {
        let dir = tempfile::tempdir().unwrap();
        let options = tiny(dir.path().join("bundle"));
        init(&options, &mut |_| ()).unwrap();
        let bundle = Bundle::open(&dir.path().join("bundle")).unwrap();
        let weights = bundle.vqgan_weights().unwrap();
        let take = |t: crate::model::ExpectedTensor| {
            let shape: Vec<usize> = t.shape.clone();
            let value = weights.tensor(&t.name, &shape, Kind::Float, Device::Cpu).unwrap();
            let value: Tensor = if t.name == changed { value + 1.0 } else { value };
            (t.name, value)
        };
        let tensors: Vec<_> = bundle.vqgan.expected_tensors().into_iter().map(take).collect();
        let other = dir.path().join("vqgan");
        std::fs::create_dir(&other).unwrap();
        std::fs::write(other.join("config.yaml"), bundle.vqgan.to_yaml()).unwrap();
        write_tensors(&other.join("model.safetensors"), &tensors, Dtype::F32).unwrap();
        (dir, bundle)
    }

    #[test]
    fn a_new_decoder_takes_the_place_of_the_old_one_and_the_bundle_stays_whole() {
        let (dir, before) = bundle_and_other("decoder.conv_out.bias");
        let manifest = exchange_decoder(&before.dir, &dir.path().join("vqgan")).unwrap();
        assert_ne!(manifest.version, before.manifest.version);
        let after = Bundle::open(&before.dir).unwrap();
        after.verify(&mut |_| ()).unwrap();
        let files = |b: &Bundle| b.manifest.files.iter().map(|f| f.path.clone()).collect::<Vec<_>>();
        assert_eq!(files(&after), files(&before));
        let bias = |folder: &Path| {
            let weights = Weights::open(&[folder.join("model.safetensors")]).unwrap();
            weights.bytes("decoder.conv_out.bias").unwrap().to_vec()
        };
        assert_eq!(bias(&after.dir.join("vqgan")), bias(&dir.path().join("vqgan")));
    }

    #[test]
    fn with_a_place_of_its_own_the_new_bundle_leaves_the_old_one_as_it_was_and_may_be_made_again() {
        let (dir, before) = bundle_and_other("decoder.conv_out.bias");
        let out = dir.path().join("drawn");
        // The folder of a run leads to the bundle in it.
        for given in [before.dir.as_path(), dir.path()] {
            let manifest = with_decoder(given, &dir.path().join("vqgan"), &out).unwrap();
            assert_ne!(manifest.version, before.manifest.version);
            Bundle::open(&out).unwrap().verify(&mut |_| ()).unwrap();
            let kept = Bundle::open(&before.dir).unwrap();
            kept.verify(&mut |_| ()).unwrap();
            assert_eq!(kept.manifest.version, before.manifest.version);
        }
        let text = with_decoder(&before.dir, &dir.path().join("vqgan"), dir.path())
            .unwrap_err()
            .to_string();
        assert!(text.contains("no bundle"), "{text}");
        let text = with_decoder(&before.dir, &dir.path().join("vqgan"), &before.dir.join("new"))
            .unwrap_err()
            .to_string();
        assert!(text.contains("within the bundle"), "{text}");
        Bundle::open(&before.dir).unwrap().verify(&mut |_| ()).unwrap();
    }

    #[test]
    fn a_bundle_of_which_something_else_is_damaged_is_refused_and_nothing_is_made_of_it() {
        let (dir, before) = bundle_and_other("decoder.conv_out.bias");
        let weights = before.dir.join("model.safetensors");
        let mut bytes = std::fs::read(&weights).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&weights, bytes).unwrap();
        let (vqgan, out) = (dir.path().join("vqgan"), dir.path().join("drawn"));
        for made in [
            with_decoder(&before.dir, &vqgan, &out),
            exchange_decoder(&before.dir, &vqgan),
        ] {
            let text = made.unwrap_err().to_string();
            assert!(text.contains("model.safetensors is damaged or was changed"), "{text}");
        }
        assert!(!out.exists());
        let after = Bundle::open(&before.dir).unwrap();
        assert_eq!(after.manifest.version, before.manifest.version);
    }

    #[test]
    fn a_bundle_is_found_in_the_folder_of_its_run() {
        let (dir, before) = bundle_and_other("decoder.conv_out.bias");
        let manifest = exchange_decoder(dir.path(), &dir.path().join("vqgan")).unwrap();
        let after = Bundle::open(&before.dir).unwrap().manifest;
        assert_eq!(after.version, manifest.version);
        assert_ne!(after.version, before.manifest.version);
    }

    #[test]
    fn a_vqgan_with_another_code_book_or_encoder_is_refused_and_the_bundle_is_as_it_was() {
        for name in ["quantize.embedding.weight", "encoder.conv_in.bias"] {
            let (dir, before) = bundle_and_other(name);
            let error = exchange_decoder(&before.dir, &dir.path().join("vqgan")).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(name) && text.contains("--decoder-only"), "{text}");
            let after = Bundle::open(&before.dir).unwrap();
            after.verify(&mut |_| ()).unwrap();
            assert_eq!(after.manifest.version, before.manifest.version);
        }
    }
}
