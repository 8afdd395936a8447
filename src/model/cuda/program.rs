//! CUDA kernels compiled for the GPU at hand, when a model is loaded.

use std::ffi::{CStr, CString, c_int, c_uint, c_void};
use std::ptr::null_mut;

use super::driver::{
    CAPABILITY, Compiler, DYNAMIC_SHARED_BYTES, Driver, LaunchAttribute, LaunchConfig, MOST_SHARED_BYTES, PROCESSORS,
};
use super::{CudaError, graph};

/// Compute capability from which kernels may overlap.
const OVERLAPS: [i32; 2] = [9, 0];

/// A compiled source on one device.
pub struct Program {
    driver: &'static Driver,
    device: usize,
    module: *mut c_void,
    /// Whether a kernel may start before the one ahead of it has ended.
    overlaps: bool,
}

// SAFETY: a module may be used and unloaded by any thread that works on its device.
unsafe impl Send for Program {}
// SAFETY: as above; nothing is written to.
unsafe impl Sync for Program {}

impl Program {
    /// Compiles `source` with these macros (`NAME=VALUE`).
    ///
    /// # Errors
    /// When driver or compiler are not there, the GPU is older than `oldest` (major and minor compute capability), or the compiler refuses.
    pub fn compile(device: usize, source: &CStr, macros: &[String], oldest: [i32; 2]) -> Result<Self, CudaError> {
        let (driver, compiler) = (Driver::get()?, Compiler::get()?);
        let capability = attributes(driver, device, CAPABILITY)?;
        if capability < oldest {
            let [major, minor] = capability;
            return Err(CudaError(format!(
                "a GPU of compute capability {major}.{minor} is too old"
            )));
        }
        let mut options = vec![format!("--gpu-architecture=sm_{}{}", capability[0], capability[1])];
        options.extend(macros.iter().map(|text| format!("-D{text}")));
        let binary = compile(compiler, source, &options)?;
        // A module is loaded to the device that this thread uses.
        graph::use_device(device)?;
        let mut module = null_mut();
        // SAFETY: a whole binary; the driver copies it.
        let code = unsafe { (driver.load_module)(&raw mut module, binary.as_ptr().cast()) };
        driver.check("cuModuleLoadData", code)?;
        Ok(Self {
            driver,
            device,
            module,
            overlaps: capability >= OVERLAPS,
        })
    }

    /// The kernel of this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn kernel(&self, name: &CStr) -> Result<Kernel, CudaError> {
        let mut function = null_mut();
        // SAFETY: a loaded module and a NUL-terminated name.
        let code = unsafe { (self.driver.find_function)(&raw mut function, self.module, name.as_ptr()) };
        self.driver.check(&name.to_string_lossy(), code)?;
        Ok(Kernel(function))
    }

    /// The kernel of this name, whose blocks may have `shared_bytes` of dynamic shared memory.
    ///
    /// # Errors
    /// When there is none, or a block cannot have as much.
    pub fn kernel_with_shared(&self, name: &CStr, shared_bytes: usize) -> Result<Kernel, CudaError> {
        let kernel = self.kernel(name)?;
        let bytes = c_int::try_from(shared_bytes).unwrap_or(c_int::MAX);
        // SAFETY: a kernel of a loaded module.
        let code = unsafe { (self.driver.set_function)(kernel.0, DYNAMIC_SHARED_BYTES, bytes) };
        self.driver.check("cuFuncSetAttribute", code)?;
        Ok(kernel)
    }

    /// Launches of this program on the stream that this thread uses now.
    ///
    /// # Errors
    /// When libtorch cannot tell the stream.
    pub fn launches(&self) -> Result<Launch<'_>, CudaError> {
        Ok(Launch {
            driver: self.driver,
            stream: graph::current_stream(self.device)?,
            program: self,
        })
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: loaded once, unloaded once. What fails at the end of a process is no news.
        unsafe { (self.driver.unload_module)(self.module) };
    }
}

/// A kernel of a [`Program`], which must outlive its launches.
#[derive(Clone, Copy)]
pub struct Kernel(*mut c_void);

// SAFETY: a handle, used under the promises of `Launch::run`.
unsafe impl Send for Kernel {}
// SAFETY: as above.
unsafe impl Sync for Kernel {}

/// What a kernel is given.
#[derive(Clone, Copy)]
pub struct Argument(u64);

impl<T> From<*mut T> for Argument {
    fn from(pointer: *mut T) -> Self {
        Self(pointer as u64)
    }
}

impl From<i64> for Argument {
    /// A kernel that takes an `int` reads the lower half.
    fn from(value: i64) -> Self {
        Self(value as u64)
    }
}

/// How a kernel is launched.
#[derive(Clone, Copy, Debug)]
pub struct Grid {
    /// Blocks in one direction.
    pub blocks: usize,
    /// And in the other.
    pub parts: usize,
    /// Threads of a block.
    pub threads: usize,
    /// Dynamic shared memory of a block.
    pub shared_bytes: usize,
    /// When its blocks run.
    pub start: Start,
}

/// When a kernel's blocks run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// After the kernel ahead of it in the stream.
    After,
    /// It may start while the kernel ahead of it still runs, and waits by itself (`griddepcontrol`). GPUs before Hopper know no such thing.
    Early,
    /// After the kernel ahead, all of them at the same time: they may wait for each other.
    AtOnce,
}

/// What a GPU has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Multiprocessors.
    pub processors: usize,
    /// Shared memory that a block can have.
    pub shared_bytes: usize,
    /// Major and minor.
    pub capability: [i32; 2],
}

impl Limits {
    /// Of the GPU `device`.
    ///
    /// # Errors
    /// When there is no driver or no such device.
    pub fn of(device: usize) -> Result<Self, CudaError> {
        let driver = Driver::get()?;
        let [processors, shared_bytes] = attributes(driver, device, [PROCESSORS, MOST_SHARED_BYTES])?;
        let count = |value: i32| usize::try_from(value).unwrap_or(0);
        Ok(Self {
            processors: count(processors),
            shared_bytes: count(shared_bytes),
            capability: attributes(driver, device, CAPABILITY)?,
        })
    }
}

/// Launches kernels on one stream.
pub struct Launch<'a> {
    driver: &'static Driver,
    stream: *mut c_void,
    program: &'a Program,
}

impl Launch<'_> {
    /// Launches `kernel`.
    ///
    /// # Errors
    /// When CUDA refuses.
    ///
    /// # Safety
    /// The arguments are those the kernel takes, in order, and what they point to holds what it reads and has room for what it writes until it has run.
    pub unsafe fn run(&self, kernel: Kernel, grid: Grid, arguments: &[Argument]) -> Result<(), CudaError> {
        let mut values: Vec<u64> = arguments.iter().map(|argument| argument.0).collect();
        let mut places: Vec<*mut c_void> = values.iter_mut().map(|value| (&raw mut *value).cast()).collect();
        // SAFETY: by the caller's promise.
        unsafe { self.start(kernel, grid, &mut places) }
    }

    /// Launches `kernel`, which takes one structure of these 64-bit fields.
    ///
    /// # Errors
    /// When CUDA refuses.
    ///
    /// # Safety
    /// As [`Self::run`].
    pub unsafe fn run_with(&self, kernel: Kernel, grid: Grid, fields: &[Argument]) -> Result<(), CudaError> {
        let mut values: Vec<u64> = fields.iter().map(|argument| argument.0).collect();
        // SAFETY: by the caller's promise.
        unsafe { self.start(kernel, grid, &mut [values.as_mut_ptr().cast()]) }
    }

    /// # Safety
    /// `places` has as many pointers to arguments as the kernel takes; else as [`Self::run`].
    unsafe fn start(&self, kernel: Kernel, grid: Grid, places: &mut [*mut c_void]) -> Result<(), CudaError> {
        let number = |value: usize| c_uint::try_from(value).unwrap_or(c_uint::MAX);
        let (mut attribute, wanted) = match grid.start {
            Start::AtOnce => (LaunchAttribute::AT_ONCE, true),
            Start::Early => (LaunchAttribute::EARLY, self.program.overlaps),
            Start::After => (LaunchAttribute::EARLY, false),
        };
        let config = LaunchConfig {
            grid: [number(grid.blocks), number(grid.parts), 1],
            block: [number(grid.threads), 1, 1],
            shared_bytes: number(grid.shared_bytes),
            stream: self.stream,
            attributes: &raw mut attribute,
            attribute_count: c_uint::from(wanted),
        };
        // SAFETY: pointers to as many values as the kernel takes, by the caller's promise; the driver copies them.
        let code = unsafe { (self.driver.launch)(&raw const config, kernel.0, places.as_mut_ptr(), null_mut()) };
        self.driver.check("cuLaunchKernelEx", code)
    }
}

fn attributes<const N: usize>(driver: &Driver, device: usize, wanted: [c_int; N]) -> Result<[i32; N], CudaError> {
    let (mut handle, mut numbers) = (0, [0; N]);
    let index = c_int::try_from(device).unwrap_or(c_int::MAX);
    // SAFETY: numbers to be written.
    unsafe {
        driver.check("cuDeviceGet", (driver.device_get)(&raw mut handle, index))?;
        for (number, attribute) in numbers.iter_mut().zip(wanted) {
            let code = (driver.device_attribute)(&raw mut *number, attribute, handle);
            driver.check("cuDeviceGetAttribute", code)?;
        }
    }
    Ok(numbers)
}

/// The binary for a GPU.
fn compile(compiler: &Compiler, source: &CStr, options: &[String]) -> Result<Vec<u8>, CudaError> {
    let options: Vec<CString> = options
        .iter()
        .filter_map(|text| CString::new(text.as_str()).ok())
        .collect();
    let options: Vec<_> = options.iter().map(|text| text.as_ptr()).collect();
    let mut program = null_mut();
    let failed = |what: &str, code: c_int| match code {
        0 => Ok(()),
        code => Err(CudaError(format!("{what} failed ({code})"))),
    };
    // SAFETY: NUL-terminated texts, and buffers of the sizes that NVRTC names.
    unsafe {
        let none = std::ptr::null();
        let code = (compiler.create)(&raw mut program, source.as_ptr(), c"kernels.cu".as_ptr(), 0, none, none);
        failed("nvrtcCreateProgram", code)?;
        let code = (compiler.compile)(program, c_int::try_from(options.len()).unwrap_or(0), options.as_ptr());
        let mut size = 0;
        let made = if code == 0 {
            let code = (compiler.binary_size)(program, &raw mut size);
            let mut binary = vec![0u8; size];
            failed(
                "nvrtcGetCUBIN",
                code | (compiler.binary)(program, binary.as_mut_ptr().cast()),
            )
            .map(|()| binary)
        } else {
            (compiler.log_size)(program, &raw mut size);
            let mut log = vec![0u8; size];
            (compiler.log)(program, log.as_mut_ptr().cast());
            let log = String::from_utf8_lossy(&log).trim_end_matches('\0').trim().to_owned();
            Err(CudaError(format!("the kernels do not compile ({code}): {log}")))
        };
        (compiler.destroy)(&raw mut program);
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_compiled_is_refused_with_what_is_missing_or_wrong() {
        let error = Program::compile(0, c"no kernel", &[], [0, 0])
            .err()
            .unwrap()
            .to_string();
        let reasons = ["libcuda", "libnvrtc", "cuDeviceGet", "the kernels do not compile"];
        assert!(reasons.iter().any(|reason| error.contains(reason)), "{error}");
    }
}
