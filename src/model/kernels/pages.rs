//! Memory in large pages.
//!
//! Weights are gigabytes that are written once and streamed in every step. In pages of 4 KiB the system stops at each of a million of them when
//! they are first touched, and the processor's prefetch ends at each when they are read.

/// Pages of this size are asked for.
const LARGE: usize = 2 << 20;

/// An empty vector with room for `count` values, in large pages where the system gives them.
pub(super) fn roomy<T>(count: usize) -> Vec<T> {
    let mut room = Vec::with_capacity(count);
    in_large_pages(room.spare_capacity_mut());
    room
}

/// Asks for large pages for memory that was never touched, as far as one knows. It is advice: where the system gives none, or the memory was used
/// before, all else stays the same.
pub fn in_large_pages<T>(memory: &mut [T]) {
    #[cfg(target_os = "linux")]
    {
        let start = memory.as_mut_ptr().cast::<u8>();
        let skip = start.align_offset(LARGE);
        let length = size_of_val(memory).saturating_sub(skip) / LARGE * LARGE;
        if length > 0 {
            // SAFETY: whole pages inside of memory that is borrowed here; the advice changes no value.
            unsafe { libc::madvise(start.wrapping_add(skip).cast(), length, libc::MADV_HUGEPAGE) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (memory, LARGE);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_asked_for_in_large_pages_holds_what_is_put_there() {
        for count in [0, 3, LARGE / 8 + 5, 3 * LARGE / 8] {
            let mut numbers = roomy::<u64>(count);
            assert!(numbers.is_empty() && numbers.capacity() >= count);
            let room = numbers.as_ptr();
            numbers.extend((0..count as u64).map(|n| n * n));
            assert_eq!(numbers.as_ptr(), room);
            assert!(numbers.iter().zip(0u64..).all(|(&square, n)| square == n * n));
        }
    }
}
