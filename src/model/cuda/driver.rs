//! The functions of the CUDA driver and of its compiler (NVRTC) that are used here, by their C names.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::sync::OnceLock;

use super::CudaError;

/// `CUlaunchAttribute`, with the one value that is used.
#[repr(C, align(8))]
pub(super) struct LaunchAttribute {
    id: c_int,
    _pad: c_int,
    value: [c_int; 16],
}

impl LaunchAttribute {
    /// `CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION`: the kernel may start before the one ahead of it has ended.
    pub(super) const EARLY: Self = Self::flag(6);
    /// `CU_LAUNCH_ATTRIBUTE_COOPERATIVE`: all blocks run at the same time, or the launch is refused.
    pub(super) const AT_ONCE: Self = Self::flag(2);

    const fn flag(id: c_int) -> Self {
        Self {
            id,
            _pad: 0,
            value: [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        }
    }
}

/// `CUlaunchConfig`.
#[repr(C)]
pub(super) struct LaunchConfig {
    pub(super) grid: [c_uint; 3],
    pub(super) block: [c_uint; 3],
    pub(super) shared_bytes: c_uint,
    pub(super) stream: *mut c_void,
    pub(super) attributes: *mut LaunchAttribute,
    pub(super) attribute_count: c_uint,
}

/// `CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR` and `_MINOR`.
pub(super) const CAPABILITY: [c_int; 2] = [75, 76];
/// `CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT`.
pub(super) const PROCESSORS: c_int = 16;
/// `CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN`.
pub(super) const MOST_SHARED_BYTES: c_int = 97;
/// `CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES`.
pub(super) const DYNAMIC_SHARED_BYTES: c_int = 8;

/// Declares a table of C functions, and how it is found.
macro_rules! table {
    ($(#[$about:meta])* $name:ident { $($function:ident: $symbol:literal ($($argument:ty),*);)* }) => {
        $(#[$about])*
        pub(super) struct $name {
            $(pub(super) $function: unsafe extern "C" fn($($argument),*) -> c_int,)*
        }

        impl $name {
            fn find(library: &Library) -> Result<Self, CudaError> {
                Ok(Self {
                    $($function: {
                        let at = library.symbol($symbol)?;
                        // SAFETY: the C function of this name, declared as CUDA's headers declare it.
                        unsafe { std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($argument),*) -> c_int>(at) }
                    },)*
                })
            }
        }
    };
}

table! {
    /// Of `libcuda`.
    Driver {
        device_get: c"cuDeviceGet" (*mut c_int, c_int);
        device_attribute: c"cuDeviceGetAttribute" (*mut c_int, c_int, c_int);
        error_text: c"cuGetErrorString" (c_int, *mut *const c_char);
        load_module: c"cuModuleLoadData" (*mut *mut c_void, *const c_void);
        unload_module: c"cuModuleUnload" (*mut c_void);
        find_function: c"cuModuleGetFunction" (*mut *mut c_void, *mut c_void, *const c_char);
        set_function: c"cuFuncSetAttribute" (*mut c_void, c_int, c_int);
        launch: c"cuLaunchKernelEx" (*const LaunchConfig, *mut c_void, *mut *mut c_void, *mut *mut c_void);
    }
}

table! {
    /// Of `libnvrtc`.
    Compiler {
        version: c"nvrtcVersion" (*mut c_int, *mut c_int);
        create: c"nvrtcCreateProgram" (*mut *mut c_void, *const c_char, *const c_char, c_int, *const *const c_char, *const *const c_char);
        destroy: c"nvrtcDestroyProgram" (*mut *mut c_void);
        compile: c"nvrtcCompileProgram" (*mut c_void, c_int, *const *const c_char);
        log_size: c"nvrtcGetProgramLogSize" (*mut c_void, *mut usize);
        log: c"nvrtcGetProgramLog" (*mut c_void, *mut c_char);
        binary_size: c"nvrtcGetCUBINSize" (*mut c_void, *mut usize);
        binary: c"nvrtcGetCUBIN" (*mut c_void, *mut c_char);
    }
}

impl Driver {
    /// The driver's functions; they stay open for good.
    pub(super) fn get() -> Result<&'static Self, CudaError> {
        static FOUND: OnceLock<Result<Driver, CudaError>> = OnceLock::new();
        let found = FOUND.get_or_init(|| Self::find(&Library::open(&[c"libcuda.so.1", c"libcuda.so"])?));
        found.as_ref().map_err(Clone::clone)
    }

    /// What a function of the driver gave, as a result.
    pub(super) fn check(&self, what: &str, code: c_int) -> Result<(), CudaError> {
        if code == 0 {
            return Ok(());
        }
        let mut text: *const c_char = std::ptr::null();
        // SAFETY: the driver writes a pointer to a text of its own, or null.
        let text = unsafe {
            (self.error_text)(code, &raw mut text);
            if text.is_null() {
                c"unknown"
            } else {
                CStr::from_ptr(text)
            }
        };
        Err(CudaError(format!("{what}: {} ({code})", text.to_string_lossy())))
    }
}

impl Compiler {
    /// The compiler of the CUDA that libtorch brings; it stays open for good.
    pub(super) fn get() -> Result<&'static Self, CudaError> {
        static FOUND: OnceLock<Result<Compiler, CudaError>> = OnceLock::new();
        let open = || {
            let names = [
                c"libnvrtc.so.13",
                c"libnvrtc.so.12",
                c"libcaffe2_nvrtc.so",
                c"libnvrtc.so",
            ];
            let found = Self::find(&Library::open(&names)?)?;
            let (mut major, mut minor) = (0, 0);
            // SAFETY: two numbers to be written.
            if unsafe { (found.version)(&raw mut major, &raw mut minor) } == 0 {
                // It opens this one by name alone: ours is the search path that leads to it.
                if let Ok(name) = CString::new(format!("libnvrtc-builtins.so.{major}.{minor}")) {
                    let _ = Library::open(&[&name]);
                }
            }
            Ok(found)
        };
        FOUND.get_or_init(open).as_ref().map_err(Clone::clone)
    }
}

/// A library that is open.
struct Library(*mut c_void);

impl Library {
    /// The first of these that can be opened.
    fn open(names: &[&CStr]) -> Result<Self, CudaError> {
        for name in names {
            // SAFETY: a NUL-terminated name; CUDA's libraries are meant to be opened this way.
            let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
            if !handle.is_null() {
                return Ok(Self(handle));
            }
        }
        let name = names
            .first()
            .copied()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        Err(CudaError(format!("{name} cannot be opened")))
    }

    fn symbol(&self, name: &CStr) -> Result<*mut c_void, CudaError> {
        // SAFETY: an open library and a NUL-terminated name.
        let at = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        if at.is_null() {
            return Err(CudaError(format!("there is no {}", name.to_string_lossy())));
        }
        Ok(at)
    }
}
