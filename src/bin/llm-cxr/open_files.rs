//! How many files and connections the system lets this process open.

/// Descriptors that the server needs besides its connections: those that are being refused, and those of `--ops-listen` (about 110 together);
/// standard streams, the model's files, the listeners, tokio, libtorch and the GPU's driver.
const BESIDE: u64 = 192;
/// Descriptors of one image's reading: the pipes of a DICOM worker, and of the next one.
const PER_IMAGE_WORKER: u64 = 4;

/// Raises the limit as far as this process may. What it is now; `None` where there is none, or the system does not tell.
pub fn raise() -> Option<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is written before the call returns.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return None;
    }
    let raised = libc::rlimit {
        rlim_cur: limit.rlim_max,
        ..limit
    };
    // SAFETY: `raised` is read before the call returns.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } == 0 {
        limit = raised;
    }
    (limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

/// How many of the connections that are `wanted` a limit of open files has room for; at least one.
pub fn connections(limit: Option<u64>, wanted: usize, image_workers: usize) -> usize {
    let Some(limit) = limit else { return wanted };
    let beside = BESIDE.saturating_add(PER_IMAGE_WORKER.saturating_mul(image_workers as u64));
    let room = usize::try_from(limit.saturating_sub(beside)).unwrap_or(usize::MAX);
    wanted.min(room.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_connections_are_let_in_as_there_are_descriptors_for() {
        assert_eq!(connections(None, 1024, 2), 1024);
        assert_eq!(connections(Some(4096), 1024, 2), 1024);
        assert_eq!(connections(Some(1024), 1024, 2), 1024 - 192 - 8);
        assert_eq!(connections(Some(1024), 100, 2), 100);
        assert_eq!(connections(Some(256), 1024, 2), 256 - 192 - 8);
        assert_eq!(connections(Some(10), 100, 2), 1, "it starts, and says so");
    }

    #[test]
    fn the_limit_is_raised_as_far_as_it_goes() {
        let first = raise();
        assert!(first.is_none_or(|limit| limit > 0));
        assert_eq!(raise(), first);
    }
}
