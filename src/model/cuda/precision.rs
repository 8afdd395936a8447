//! Products of 32-bit floats in 32 bits, on a GPU too.

use std::ffi::c_int;

use super::CudaError;

unsafe extern "C" {
    fn llm_cxr_exact_convolutions() -> c_int;
}

/// From here on convolutions of f32 compute in f32, in this process: libtorch rounds their inputs to TF32 (10 bits of mantissa) unless it is
/// told not to, and one flipped rounding can change a code.
///
/// # Errors
/// When the open libtorch has no such switch, being another version's.
pub fn exact_convolutions() -> Result<(), CudaError> {
    // SAFETY: takes nothing; what libtorch throws ends there.
    match unsafe { llm_cxr_exact_convolutions() } {
        0 => Ok(()),
        _ => Err(CudaError::new("this libtorch cannot be told to multiply in 32 bits")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_libtorch_that_is_pinned_has_the_switch() {
        exact_convolutions().expect("found by name");
    }
}
