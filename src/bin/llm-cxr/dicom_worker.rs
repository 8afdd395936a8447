//! `llm-cxr dicom-worker`: decodes one DICOM file for the server, which starts it; see `llm_cxr::service::dicom`.

use std::io;

use clap::Args;
use llm_cxr::radiograph::DecodeLimits;
use llm_cxr::service::dicom;

use crate::CommandResult;

/// Decodes the DICOM file on standard input, within limits, and writes its pixels to standard output. For the server's own use
#[derive(Args, Debug)]
pub struct DicomWorkerArgs {
    /// Most pixels
    #[arg(long)]
    max_pixels: u64,
    /// Most pixels on a side
    #[arg(long)]
    max_side: u32,
    /// Most bytes of the file
    #[arg(long)]
    max_bytes: usize,
}

pub fn run(args: &DicomWorkerArgs) -> CommandResult {
    let limits = DecodeLimits {
        max_bytes: args.max_bytes,
        max_pixels: args.max_pixels,
        max_side: args.max_side,
    };
    // Where memory runs out it is this process that goes, and not the server: unless both are of a control group that goes as one, as kubelet sets
    // it for containers (memory.oom.group) but for those with singleProcessOOMKill. What the system makes of it is its own affair.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    close_inherited()?;
    confine(mapped()?.saturating_add(dicom::room(&limits)))?;
    dicom::work(io::stdin().lock(), io::stdout().lock(), &limits)?;
    Ok(())
}

/// Closes all descriptors but the standard streams: what the server's libraries (CUDA's driver) opened may have come along. Not by `close_range`,
/// which Linux has since 5.9 only.
fn close_inherited() -> io::Result<()> {
    let listed = std::fs::read_dir("/proc/self/fd")?;
    // The list's own descriptor is among them, and closed by the end of this line.
    let open: Vec<i32> = listed
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for descriptor in open.into_iter().filter(|&descriptor| descriptor > libc::STDERR_FILENO) {
        // SAFETY: nothing in this process, which has one thread, has opened anything that it still uses.
        unsafe { libc::close(descriptor) };
    }
    Ok(())
}

/// Bytes of address space that this process has by now, its libraries above all.
fn mapped() -> io::Result<u64> {
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages = text.split(' ').next().and_then(|word| word.parse::<u64>().ok());
    // SAFETY: asks for a constant.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let bytes = pages.zip(u64::try_from(page).ok()).map(|(pages, page)| pages * page);
    bytes.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// From here on this process opens nothing, writes no file, leaves no core, is closed to other workers' looks, gains no rights, has bounds on memory and time, and does not
/// end when a service manager tells the server to: the server drains, and ends it.
fn confine(memory: u64) -> io::Result<()> {
    let limits = [
        (libc::RLIMIT_AS, memory, memory),
        // At the soft limit SIGXCPU ends it, which tells the server that it was the file; at the hard one SIGKILL, which could be anybody's.
        (libc::RLIMIT_CPU, dicom::SECONDS, dicom::SECONDS + 1),
        (libc::RLIMIT_NOFILE, 0, 0),
        (libc::RLIMIT_FSIZE, 0, 0),
        (libc::RLIMIT_CORE, 0, 0),
    ];
    for (which, soft, hard) in limits {
        let mut limit = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: the limit is written before the call returns.
        if unsafe { libc::getrlimit(which, &raw mut limit) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // A limit that is tighter already cannot be loosened, and needs not be.
        limit.rlim_cur = soft.min(limit.rlim_max);
        limit.rlim_max = hard.min(limit.rlim_max);
        // SAFETY: the limit is read before the call returns.
        if unsafe { libc::setrlimit(which, &raw const limit) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        // SAFETY: takes numbers only, in a process of one thread.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    for (what, value) in [(libc::PR_SET_NO_NEW_PRIVS, 1), (libc::PR_SET_DUMPABLE, 0)] {
        // SAFETY: takes numbers only.
        if unsafe { libc::prctl(what, value, 0, 0, 0) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
