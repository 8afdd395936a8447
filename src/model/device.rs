//! Where tensors live: the CPU, or a GPU whose libtorch part is opened at run time.
//!
//! The binary links the CPU half of libtorch alone. `libtorch_cuda.so`, opened globally, registers the CUDA backend with it, so one
//! binary serves both kinds of machine. A GPU that was asked for and is not there is an error, never a silent run on the CPU.

use std::ffi::CStr;
use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use tch::{Device, Kind};

use crate::model::checkpoint::Dtype;
use crate::model::cuda::exact_convolutions;
use crate::model::kernels::{Format, Kernels};

/// What the operator asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first GPU if there is one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU of this index.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            other => other
                .strip_prefix("cuda:")
                .and_then(|index| index.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| format!("`{other}` is no device: use auto, cpu, cuda or cuda:N")),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

/// Refuses a number of CPU threads that libtorch cannot run with, or that no machine has.
///
/// # Errors
/// What the number must be; a number that is not given is fine.
pub fn check_threads(threads: Option<usize>) -> Result<(), String> {
    match threads {
        Some(number) if !(1..=1024).contains(&number) => {
            Err(format!("--threads is {number}; it must be between 1 and 1024"))
        }
        _ => Ok(()),
    }
}

/// What the language model computes in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DtypeChoice {
    /// bf16 on a GPU, and for weights stored in bf16 on a CPU with vectors that our kernels know; else f32.
    #[default]
    Auto,
    /// 32-bit floats.
    F32,
    /// bfloat16.
    Bf16,
}

impl DtypeChoice {
    /// The tensor type on a device, for weights that are stored as `stored`.
    pub fn kind(self, device: Device, stored: Dtype) -> Kind {
        // No weight loses anything then, and a step reads half of what it would in f32.
        let suits_cpu = || stored == Dtype::BF16 && Kernels::best().packs();
        match self {
            Self::F32 => Kind::Float,
            Self::Bf16 => Kind::BFloat16,
            Self::Auto if device.is_cuda() || suits_cpu() => Kind::BFloat16,
            Self::Auto => Kind::Float,
        }
    }
}

/// What images are drawn in beside a language model that computes in `kind`: libtorch's convolutions in bf16 are slow on a CPU that does not
/// multiply it.
pub fn drawing_kind(kind: Kind, device: Device) -> Kind {
    match device {
        Device::Cpu if !Kernels::best().rounds_inputs() && !Kernels::tiles() => Kind::Float,
        _ => kind,
    }
}

/// How the language model's matrices are held in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightsChoice {
    /// As the bundle stores them, on a CPU; native on a GPU.
    #[default]
    Auto,
    /// In the type that the model computes in.
    Native,
    /// 8 bits, with a scale for 64 weights. On a CPU.
    Int8,
    /// 4 bits, with a scale for 32 weights; the output matrix 8 bits. On a CPU.
    Int4,
}

impl WeightsChoice {
    /// The choice on a device, for a bundle that stores its matrices in `stored`: never [`Self::Auto`].
    pub fn on(self, device: Device, stored: Option<Format>) -> Self {
        match (self, stored.filter(|_| device == Device::Cpu)) {
            (Self::Auto, Some(Format::Int8)) => Self::Int8,
            (Self::Auto, Some(Format::Int4)) => Self::Int4,
            (Self::Auto, None) => Self::Native,
            (choice, _) => choice,
        }
    }

    /// The format of the layers' matrices; `None` where they are in the type that the model computes in.
    pub fn format(self) -> Option<Format> {
        match self {
            Self::Auto | Self::Native => None,
            Self::Int8 => Some(Format::Int8),
            Self::Int4 => Some(Format::Int4),
        }
    }
}

impl fmt::Display for WeightsChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Native => "native",
            Self::Int8 => "int8",
            Self::Int4 => "int4",
        })
    }
}

/// `f32` or `bf16`.
pub fn dtype_name(kind: Kind) -> &'static str {
    if kind == Kind::BFloat16 { "bf16" } else { "f32" }
}

/// A type by name and how weights are held, as one name: `f32`, or `f32, int8 weights`.
pub fn arithmetic(dtype: &str, weights: &str) -> String {
    match weights {
        "native" => dtype.to_owned(),
        quantised => format!("{dtype}, {quantised} weights"),
    }
}

/// A device that was asked for and cannot be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DeviceError {
    /// libtorch's CUDA half cannot be opened.
    #[error(
        "device {asked} was asked for, but libtorch_cuda.so cannot be opened ({reason}); install the CUDA build of libtorch and name its folder in LD_LIBRARY_PATH, or use --device cpu"
    )]
    NoLibrary {
        /// What was asked for.
        asked: DeviceChoice,
        /// What the dynamic linker said.
        reason: String,
    },
    /// The library is there; a driver or a GPU is not.
    #[error(
        "device {asked} was asked for, but libtorch finds no usable GPU (driver missing, too old, or no device visible); check nvidia-smi, or use --device cpu"
    )]
    NoGpu {
        /// What was asked for.
        asked: DeviceChoice,
    },
    /// There are GPUs, but not this one.
    #[error("device {asked} was asked for, but there are only {count} GPUs (cuda:0 to cuda:{})", count - 1)]
    NoSuchGpu {
        /// What was asked for.
        asked: DeviceChoice,
        /// How many there are.
        count: usize,
    },
}

/// Turns a choice into a device that works.
pub fn resolve(choice: DeviceChoice) -> Result<Device, DeviceError> {
    match choice {
        DeviceChoice::Cpu => Ok(Device::Cpu),
        DeviceChoice::Auto => match cuda(choice, 0) {
            Ok(device) => Ok(device),
            Err(why) => {
                tracing::info!(reason = %why, "no GPU; running on the CPU");
                Ok(Device::Cpu)
            }
        },
        DeviceChoice::Cuda(index) => cuda(choice, index),
    }
}

/// `cpu` or `cuda:N`.
pub fn name(device: Device) -> String {
    match device {
        Device::Cuda(index) => format!("cuda:{index}"),
        _ => "cpu".to_owned(),
    }
}

/// The instruction set that our kernels use on a CPU; `None` on another device.
pub fn kernels(device: Device) -> Option<&'static str> {
    (device == Device::Cpu).then(|| Kernels::best().name())
}

fn cuda(asked: DeviceChoice, index: usize) -> Result<Device, DeviceError> {
    open_cuda()
        .clone()
        .map_err(|reason| DeviceError::NoLibrary { asked, reason })?;
    if !tch::Cuda::is_available() {
        return Err(DeviceError::NoGpu { asked });
    }
    let count = usize::try_from(tch::Cuda::device_count()).unwrap_or(0);
    if index >= count {
        return Err(DeviceError::NoSuchGpu { asked, count });
    }
    if let Err(reason) = exact_convolutions() {
        tracing::warn!(%reason, "codes of images may differ from a CPU's");
    }
    Ok(Device::Cuda(index))
}

/// Opens libtorch's CUDA half once; it stays open for good.
fn open_cuda() -> &'static Result<(), String> {
    static OPENED: OnceLock<Result<(), String>> = OnceLock::new();
    OPENED.get_or_init(|| {
        // SAFETY: a NUL-terminated name; the library's constructors register libtorch backends and are meant to be run this way.
        let handle = unsafe { libc::dlopen(c"libtorch_cuda.so".as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
        if !handle.is_null() {
            return Ok(());
        }
        // SAFETY: dlerror gives a NUL-terminated text of this thread's last failure, or null.
        let reason = unsafe {
            let text = libc::dlerror();
            if text.is_null() {
                "unknown reason".to_owned()
            } else {
                CStr::from_ptr(text).to_string_lossy().into_owned()
            }
        };
        Err(reason)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_threads_that_nothing_can_run_with_is_refused() {
        assert!(
            [None, Some(1), Some(1024)]
                .into_iter()
                .all(|n| check_threads(n).is_ok())
        );
        for number in [0, 1025] {
            let told = check_threads(Some(number)).unwrap_err();
            assert!(told.contains("between 1 and 1024"), "{told}");
        }
    }

    #[test]
    fn devices_are_read_as_they_are_written() {
        for text in ["auto", "cpu", "cuda:0", "cuda:3"] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap().to_string(), text);
        }
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(0)));
        assert!("gpu".parse::<DeviceChoice>().is_err());
        assert!("cuda:x".parse::<DeviceChoice>().is_err());
    }

    #[test]
    fn weights_are_held_as_they_are_stored_if_nobody_says_otherwise_and_the_device_can() {
        let (auto, four) = (WeightsChoice::Auto, Some(Format::Int4));
        assert_eq!(auto.on(Device::Cpu, four), WeightsChoice::Int4);
        assert_eq!(auto.on(Device::Cpu, None), WeightsChoice::Native);
        assert_eq!(auto.on(Device::Cuda(0), four), WeightsChoice::Native);
        assert_eq!(WeightsChoice::Native.on(Device::Cpu, four), WeightsChoice::Native);
        assert_eq!(WeightsChoice::Int8.on(Device::Cpu, four), WeightsChoice::Int8);
    }

    #[test]
    fn the_type_follows_what_is_stored_where_kernels_pack_it() {
        let own = match Kernels::best().packs() {
            true => Kind::BFloat16,
            false => Kind::Float,
        };
        let kind = |choice: DtypeChoice, device, stored| choice.kind(device, stored);
        assert_eq!(kind(DtypeChoice::Auto, Device::Cpu, Dtype::BF16), own);
        assert_eq!(kind(DtypeChoice::Auto, Device::Cpu, Dtype::F32), Kind::Float);
        assert_eq!(kind(DtypeChoice::Auto, Device::Cuda(0), Dtype::F16), Kind::BFloat16);
        assert_eq!(kind(DtypeChoice::F32, Device::Cuda(0), Dtype::BF16), Kind::Float);
        assert_eq!(kind(DtypeChoice::Bf16, Device::Cpu, Dtype::F32), Kind::BFloat16);
    }

    #[test]
    fn a_gpu_that_is_not_there_is_an_error_and_auto_is_the_cpu() {
        if tch::Cuda::is_available() {
            return;
        }
        let error = resolve(DeviceChoice::Cuda(99)).unwrap_err().to_string();
        assert!(error.contains("cuda:99") && error.contains("--device cpu"), "{error}");
        assert_eq!(resolve(DeviceChoice::Auto).unwrap(), Device::Cpu);
    }
}
