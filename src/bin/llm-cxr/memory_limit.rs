//! Whether the memory that a container gives is enough for what the server may come to use.

use std::fs;
use std::path::Path;

use llm_cxr::config::{DeviceChoice, Dicom, ServeConfig};
use llm_cxr::engine::torch::bytes_on_cpu;
use llm_cxr::model::bundle::Bundle;
use llm_cxr::radiograph::DecodeLimits;
use llm_cxr::service::dicom;

use crate::serve::torch_options;

/// Bytes of the program, of libtorch and of what threads keep, without a model.
const PROGRAM: u64 = 250 << 20;
/// Bytes that the CUDA libraries take in the host's memory.
const CUDA: u64 = 3 << 30;
/// Bytes of a DICOM worker that waits for a file.
const SPARE_WORKER: u64 = 120 << 20;
/// Bytes a pixel that PNG and JPEG take at most, as `--image-workers` says; of DICOM files [`dicom::room`] and [`HANDED_BACK`] tell.
const BYTES_PER_PIXEL: u64 = 15;
/// Bytes a pixel that a DICOM worker hands back at most: three channels.
const HANDED_BACK: u64 = 3;

/// Warns of a limit that the server may run into: the system then ends it, or in a container that Kubernetes has started all of it.
pub fn look(config: &ServeConfig, decode: &DecodeLimits, bundle: &Bundle) {
    let Some(limit) = limit() else { return };
    let needed = worst_case(config, decode, bundle);
    if limit >= needed {
        return;
    }
    let (limit_mib, needed_mib) = (limit >> 20, needed.div_ceil(1 << 20));
    tracing::warn!(
        limit_mib,
        needed_mib,
        "the memory limit of this container (or control group) is below what large images and a full queue may need; raise it, or lower \
         --max-image-pixels, --image-workers, --queue-bytes or --kv-memory (--dtype f32 takes twice the memory of bf16)"
    );
}

/// Bytes of memory that the server may come to use with its workers, about: as many of the largest images as are read at once, full budgets of
/// queue and bodies, the model and its KV memory.
fn worst_case(config: &ServeConfig, decode: &DecodeLimits, bundle: &Bundle) -> u64 {
    let plain = decode.max_pixels.saturating_mul(BYTES_PER_PIXEL);
    let (image, spare) = match config.dicom {
        Dicom::Off => (plain, 0),
        Dicom::On => {
            let back = decode.max_pixels.saturating_mul(HANDED_BACK);
            (plain.max(dicom::room(decode).saturating_add(back)), SPARE_WORKER)
        }
    };
    let images = image.saturating_mul(config.image_workers as u64);
    let waiting = config.queue_bytes.saturating_mul(2);
    let model = match config.model.device {
        // What the device holds is not the host's, and pages of the bundle's files can be given back.
        DeviceChoice::Cuda(_) => CUDA,
        // Of weights that cannot be opened nothing is known; that they cannot is told where they are loaded.
        DeviceChoice::Auto | DeviceChoice::Cpu => bytes_on_cpu(bundle, &torch_options(config)).unwrap_or(0),
    };
    let parts = [PROGRAM, spare, images, waiting, model];
    parts.into_iter().fold(0, u64::saturating_add)
}

/// The least memory limit, in bytes, of the control groups (version 2) that this process is in; `None` where there is none, or the system does not tell.
fn limit() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    least(Path::new("/sys/fs/cgroup"), own)
}

/// The least limit on the way from a group up to the root.
fn least(root: &Path, group: &str) -> Option<u64> {
    let folder = root.join(group.trim_start_matches('/'));
    let limits = folder.ancestors().filter_map(|folder| {
        // Where there is no limit this says `max`.
        let told = fs::read_to_string(folder.join("memory.max")).ok()?;
        told.trim().parse::<u64>().ok()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use llm_cxr::config::{DtypeChoice, ModelConfig, parse_size};

    use super::*;

    const HERE: &str = env!("CARGO_MANIFEST_DIR");

    #[test]
    fn the_least_limit_on_the_way_up_holds() {
        let root = tempfile::tempdir().expect("a folder");
        let inner = root.path().join("pod/container");
        fs::create_dir_all(&inner).expect("made");
        assert_eq!(least(root.path(), "/pod/container"), None);
        let set = |folder: &Path, limit: &str| fs::write(folder.join("memory.max"), limit).expect("written");
        set(&inner, "max\n");
        assert_eq!(least(root.path(), "/pod/container"), None);
        set(&root.path().join("pod"), "1073741824\n");
        assert_eq!(least(root.path(), "/pod/container"), Some(1 << 30));
        set(&inner, "2147483648\n");
        assert_eq!(least(root.path(), "/pod/container"), Some(1 << 30));
        assert_eq!(least(root.path(), "/"), None);
    }

    #[test]
    fn in_f32_weights_and_kv_memory_count_twice() {
        let bundle = Bundle::open(&Path::new(HERE).join("models/demo")).expect("the demo");
        let needed = |dtype| {
            let config = ServeConfig {
                model: ModelConfig {
                    device: DeviceChoice::Cpu,
                    dtype,
                    ..ModelConfig::default()
                },
                kv_tokens: Some(10_000),
                ..ServeConfig::default()
            };
            worst_case(&config, &DecodeLimits::default(), &bundle)
        };
        let (narrow, wide) = (needed(DtypeChoice::Bf16), needed(DtypeChoice::F32));
        let shape = &bundle.neox;
        let kv = (10_000 * 2 * shape.num_hidden_layers * shape.hidden_size * 2) as u64;
        let least = bundle.neox_bytes() + kv;
        // What prompts share of KV memory comes on top.
        assert!((least..2 * least).contains(&(wide - narrow)), "{narrow}, {wide}");
    }

    #[test]
    fn the_manifest_gives_as_much_as_the_demo_may_need() {
        let bundle = Bundle::open(&Path::new(HERE).join("models/demo")).expect("the demo");
        let needed = |config: &ServeConfig| {
            let decode = DecodeLimits {
                max_pixels: config.max_image_pixels,
                ..DecodeLimits::default()
            };
            worst_case(config, &decode, &bundle)
        };
        let usual = ServeConfig::default();
        let manifest = fs::read_to_string(Path::new(HERE).join("deploy/kubernetes/base/deployment.yaml")).expect("it");
        let given: Vec<u64> = manifest
            .lines()
            .filter_map(|line| line.trim().strip_prefix("memory: "))
            .map(|size| parse_size(&format!("{size}B")).expect("a size"))
            .collect();
        assert_eq!(given.len(), 2, "a request and a limit");
        assert!(given.iter().all(|given| *given > needed(&usual)), "{}", needed(&usual));
        let small = ServeConfig {
            max_image_pixels: 1_000_000,
            image_workers: 1,
            dicom: Dicom::Off,
            ..usual.clone()
        };
        let saved = needed(&usual) - needed(&small);
        assert!(saved > 2 << 30, "images are most of it: {saved}");
    }
}
