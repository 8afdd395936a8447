//! What libtorch is told for the whole process when a GPU is to be used.

use std::ffi::c_int;

use super::CudaError;

unsafe extern "C" {
    fn llm_cxr_exact_convolutions() -> c_int;
    fn llm_cxr_attention_of_any_length() -> c_int;
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

/// From here on libtorch's attention goes without cuDNN's, in this process. On Hopper and Blackwell it would try that first, which makes a plan for every new
/// pair of lengths of queries and keys, and that takes up to a second (pytorch's `sdp_utils.cpp`, `MHA.cpp`): every prompt of a new length would. Trainings see the
/// same lengths again and again, and are left to it.
///
/// # Errors
/// As [`exact_convolutions`].
pub fn attention_of_any_length() -> Result<(), CudaError> {
    // SAFETY: as above.
    match unsafe { llm_cxr_attention_of_any_length() } {
        0 => Ok(()),
        _ => Err(CudaError::new("this libtorch cannot be told to attend without cuDNN")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_libtorch_that_is_pinned_has_the_switches() {
        exact_convolutions().expect("found by name");
        attention_of_any_length().expect("found by name");
    }
}
