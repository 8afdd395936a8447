//! Keeps what is in this process's memory (images, texts, answers) to this process.

use std::io;

/// From here on the system writes no core of this process, and no other process of the same user may look into its memory: not a debugger, and
/// not a DICOM worker that a file has taken over. Processes that are started are as ever. What the meters read of `/proc/self` stays readable.
///
/// # Errors
/// The system's.
pub fn keep() -> io::Result<()> {
    let none = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the limit is read before the call returns.
    if unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // The limit is for files; a core that the system pipes to a program heeds only this.
    // SAFETY: takes numbers only.
    match unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_keeps_its_memory_leaves_no_core_and_sees_its_own_files() {
        keep().expect("any process may");
        let mut limit = libc::rlimit {
            rlim_cur: 1,
            rlim_max: 1,
        };
        // SAFETY: the limit is written before the call returns.
        let told = unsafe { libc::getrlimit(libc::RLIMIT_CORE, &raw mut limit) };
        assert_eq!((told, limit.rlim_cur, limit.rlim_max), (0, 0, 0));
        // SAFETY: takes numbers only.
        assert_eq!(unsafe { libc::prctl(libc::PR_GET_DUMPABLE, 0, 0, 0, 0) }, 0);
        for own in ["stat", "status"] {
            assert!(std::fs::read_to_string(format!("/proc/self/{own}")).is_ok(), "{own}");
        }
        assert!(std::fs::read_dir("/proc/self/fd").is_ok_and(|files| files.count() > 0));
    }
}
