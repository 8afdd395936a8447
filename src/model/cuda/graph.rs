//! CUDA graphs: a run of many small kernels recorded once and launched as one.
//!
//! A kernel of a decode step takes the CPU longer to launch than the GPU to run.
//! `graph.cc` beside this file calls libtorch's `at::cuda::CUDAGraph`, which it finds by name in the libtorch that
//! [`crate::model::device`] has opened.

use std::ffi::{CStr, c_char, c_int, c_ulonglong, c_void};
use std::ptr::NonNull;

use super::CudaError;

#[repr(C)]
struct RawStream {
    device: [i8; 2],
    id: i64,
}

/// An `at::cuda::CUDAGraph`, opaque here.
#[repr(C)]
struct RawGraph {
    _opaque: [u8; 0],
}

unsafe extern "C" {
    fn llm_cxr_graphs_find(why: *mut c_char, room: usize) -> c_int;
    fn llm_cxr_graphs_pool(pool: *mut c_ulonglong, why: *mut c_char, room: usize) -> c_int;
    fn llm_cxr_device_use(device: c_int, why: *mut c_char, room: usize) -> c_int;
    fn llm_cxr_stream_enter(device: c_int, before: *mut RawStream, why: *mut c_char, room: usize) -> c_int;
    fn llm_cxr_stream_leave(before: *const RawStream, why: *mut c_char, room: usize) -> c_int;
    fn llm_cxr_stream_current(device: c_int, raw: *mut *mut c_void, why: *mut c_char, room: usize) -> c_int;
    fn llm_cxr_graph_begin(pool: *const c_ulonglong, why: *mut c_char, room: usize) -> *mut RawGraph;
    fn llm_cxr_graph_end(graph: *mut RawGraph, why: *mut c_char, room: usize) -> c_int;
    fn llm_cxr_graph_replay(graph: *mut RawGraph, why: *mut c_char, room: usize) -> c_int;
    fn llm_cxr_graph_free(graph: *mut RawGraph);
}

/// What the call says went wrong; it is given a buffer for that.
fn call(work: impl FnOnce(*mut c_char, usize) -> c_int) -> Result<(), CudaError> {
    let mut why = [0 as c_char; 512];
    match work(why.as_mut_ptr(), why.len()) {
        0 => Ok(()),
        _ => Err(said(&why)),
    }
}

fn said(why: &[c_char; 512]) -> CudaError {
    // SAFETY: written by snprintf, or the zeros it was made of: it ends with a NUL.
    let text = unsafe { CStr::from_ptr(why.as_ptr()) }.to_string_lossy();
    // The rest is a C++ stack.
    CudaError(text.lines().next().unwrap_or("CUDA failed").to_owned())
}

/// Records graphs on one device. They share memory, so they are replayed one after the other, never at the same time.
pub struct Recorder {
    device: usize,
    pool: [c_ulonglong; 2],
}

impl Recorder {
    /// For the device of this index.
    ///
    /// # Errors
    /// When the open libtorch has no CUDA graphs, or another version's.
    pub fn new(device: usize) -> Result<Self, CudaError> {
        find()?;
        let mut pool = [0; 2];
        // SAFETY: room for two numbers, and for the text.
        call(|why, room| unsafe { llm_cxr_graphs_pool(pool.as_mut_ptr(), why, room) })?;
        Ok(Self { device, pool })
    }

    /// Runs `work` several times as it is, on the stream that will record, so that libraries are warm; then records it. Gives the graph and what the recorded
    /// run gave: its tensors get their values when the graph is replayed, and must be kept as long as it is.
    ///
    /// # Errors
    /// When CUDA cannot record it.
    ///
    /// # Panics
    /// If `work` does; nothing is recorded any more then.
    pub fn record<T>(&self, mut work: impl FnMut() -> T) -> Result<(Graph, T), CudaError> {
        let _side = Side::enter(self.device)?;
        for _ in 0..2 {
            work();
        }
        let recording = Recording::begin(&self.pool)?;
        let given = work();
        Ok((recording.end()?, given))
    }
}

/// Looks the functions up, once.
fn find() -> Result<(), CudaError> {
    static FOUND: std::sync::OnceLock<Result<(), CudaError>> = std::sync::OnceLock::new();
    // SAFETY: room for the text; nobody else is in there, by the lock.
    let look = || call(|why, room| unsafe { llm_cxr_graphs_find(why, room) });
    FOUND.get_or_init(look).clone()
}

/// Makes `device` the one that this thread uses.
pub(super) fn use_device(device: usize) -> Result<(), CudaError> {
    find()?;
    let device = c_int::try_from(device).unwrap_or(c_int::MAX);
    // SAFETY: room for the text.
    call(|why, room| unsafe { llm_cxr_device_use(device, why, room) })
}

/// The stream that this thread launches on, as the CUDA driver knows it.
pub(super) fn current_stream(device: usize) -> Result<*mut c_void, CudaError> {
    find()?;
    let mut raw = std::ptr::null_mut();
    let device = c_int::try_from(device).unwrap_or(c_int::MAX);
    // SAFETY: a pointer to be written, and room for the text.
    call(|why, room| unsafe { llm_cxr_stream_current(device, &raw mut raw, why, room) })?;
    Ok(raw)
}

/// While it lives, this thread launches on a stream of its own.
struct Side {
    before: RawStream,
}

impl Side {
    fn enter(device: usize) -> Result<Self, CudaError> {
        let mut before = RawStream { device: [0; 2], id: 0 };
        let device = c_int::try_from(device).unwrap_or(c_int::MAX);
        // SAFETY: a stream to be written, and room for the text.
        call(|why, room| unsafe { llm_cxr_stream_enter(device, &raw mut before, why, room) })?;
        Ok(Self { before })
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        // SAFETY: the stream that `enter` was given, and room for the text.
        let left = call(|why, room| unsafe { llm_cxr_stream_leave(&raw const self.before, why, room) });
        if let Err(error) = left {
            tracing::error!(%error, "this thread's CUDA stream could not be set back");
        }
    }
}

/// A graph under way: what is launched is recorded. Dropped, it is given up.
struct Recording(Graph);

impl Recording {
    fn begin(pool: &[c_ulonglong; 2]) -> Result<Self, CudaError> {
        let mut why = [0 as c_char; 512];
        // SAFETY: two numbers, and room for the text.
        let graph = unsafe { llm_cxr_graph_begin(pool.as_ptr(), why.as_mut_ptr(), why.len()) };
        match NonNull::new(graph) {
            Some(raw) => Ok(Self(Graph { raw, recording: true })),
            None => Err(said(&why)),
        }
    }

    fn end(self) -> Result<Graph, CudaError> {
        let mut graph = self.0;
        graph.stop()?;
        Ok(graph)
    }
}

/// A recorded run.
pub struct Graph {
    raw: NonNull<RawGraph>,
    recording: bool,
}

// SAFETY: a graph is not bound to the thread that recorded it; it is used through `&mut` alone.
unsafe impl Send for Graph {}

impl Graph {
    /// Launches it on this thread's stream.
    ///
    /// # Errors
    /// When CUDA refuses.
    pub fn replay(&mut self) -> Result<(), CudaError> {
        // SAFETY: a whole graph, and room for the text.
        call(|why, room| unsafe { llm_cxr_graph_replay(self.raw.as_ptr(), why, room) })
    }

    fn stop(&mut self) -> Result<(), CudaError> {
        self.recording = false;
        // SAFETY: a graph that records, and room for the text.
        call(|why, room| unsafe { llm_cxr_graph_end(self.raw.as_ptr(), why, room) })
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        if self.recording {
            // It was given up; that it cannot be finished is no news.
            let _ = self.stop();
        }
        // SAFETY: made by `llm_cxr_graph_begin`, freed once.
        unsafe { llm_cxr_graph_free(self.raw.as_ptr()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::device::{DeviceChoice, DeviceError, resolve};

    #[test]
    fn the_functions_are_found_where_libtorch_has_its_cuda_half_and_missed_by_name_where_not() {
        let opened = !matches!(resolve(DeviceChoice::Cuda(0)), Err(DeviceError::NoLibrary { .. }));
        match find() {
            Ok(()) => assert!(opened),
            Err(error) => assert!(!opened && error.to_string().contains("CUDAGraph"), "{error}"),
        }
    }
}
