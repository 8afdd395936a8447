//! A tensor of noughts whose memory is taken when it is first written to.

use memmap2::MmapMut;
use tch::{Device, Kind, Tensor};

/// A tensor of noughts of this shape, and the pages it lies in, which must be dropped after it and all its views.
///
/// On a CPU they are pages that the system fills with noughts when they are first touched (libtorch's `zeros` touches all): what is never used
/// takes no memory. Where the system hands out large pages unasked, that is rounded up to 2 MiB. On other devices libtorch owns the memory.
///
/// # Panics
/// If the system has no room for it, in the words of libtorch's allocator.
pub(super) fn zeroed(shape: &[i64], kind: Kind, device: Device) -> (Tensor, Option<MmapMut>) {
    if device != Device::Cpu {
        return (Tensor::zeros(shape, (kind, device)), None);
    }
    let bytes = shape.iter().try_fold(kind.elt_size_in_bytes(), |bytes, &size| {
        bytes.checked_mul(usize::try_from(size).ok()?)
    });
    let pages = bytes.map(MmapMut::map_anon);
    let Some(Ok(mut pages)) = pages else {
        panic!("can't allocate memory for a tensor of {shape:?} {kind:?}");
    };
    // SAFETY: as many bytes as the tensor has, at the start of a page, all noughts, which are numbers of every kind. They stay where they are
    // until the caller drops them, after the tensor.
    let tensor = unsafe { Tensor::from_blob(pages.as_mut_ptr(), shape, &[], kind, device) };
    (tensor, Some(pages))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// Bytes of a mapping that lie in memory.
    fn resident(pages: &MmapMut) -> usize {
        // SAFETY: it has no conditions.
        let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap();
        let mut told = vec![0u8; pages.len().div_ceil(page)];
        // SAFETY: a whole mapping, from the start of its first page, and a byte for each of its pages.
        let result = unsafe { libc::mincore(pages.as_ptr().cast_mut().cast(), pages.len(), told.as_mut_ptr()) };
        assert_eq!(result, 0);
        told.iter().filter(|&&state| state & 1 == 1).count() * page
    }

    #[test]
    fn what_is_never_written_takes_no_memory_and_what_is_written_is_read_back() {
        let _guard = tch::no_grad_guard();
        let (tensor, pages) = zeroed(&[2, 1 << 20, 32], Kind::Float, Device::Cpu);
        let pages = pages.unwrap();
        assert_eq!(pages.len(), 256 << 20);
        assert!(resident(&pages) < 16 << 20, "{} B before", resident(&pages));
        let mut row = tensor.get(1).get(123_456);
        assert_eq!(row.abs().max().double_value(&[]), 0.0);
        let values: Vec<f32> = (0..32u8).map(f32::from).collect();
        row.copy_(&Tensor::from_slice(&values));
        let read: Vec<f32> = Vec::try_from(tensor.get(1).get(123_456)).unwrap();
        assert_eq!(read, values);
        assert!(resident(&pages) < 16 << 20, "{} B after", resident(&pages));
    }

    #[test]
    #[should_panic(expected = "can't allocate memory")]
    fn more_than_there_are_addresses_is_told_as_memory_that_ran_out() {
        let _ = zeroed(&[1 << 40, 1 << 40], Kind::Float, Device::Cpu);
    }
}
