//! The process that decodes DICOM files: what it may do, as the system tells it.
#![cfg(target_os = "linux")]

use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use llm_cxr::radiograph::DecodeLimits;
use llm_cxr::service::dicom;

use super::house::*;

/// What a process may do, as the system tells it.
#[derive(Debug, PartialEq)]
struct Confinement {
    /// The soft limit and the hard one of files that are open at a time, of a file's bytes, of a core's, and of seconds of computing.
    limits: [Option<(u64, u64)>; 4],
    gains_rights: bool,
    /// Whether it is deaf to SIGHUP, SIGINT and SIGTERM.
    deaf: [bool; 3],
}

/// A file of what the system tells of a process.
fn told_of(process: u32, what: &str) -> String {
    std::fs::read_to_string(format!("/proc/{process}/{what}")).expect("it runs")
}

/// The soft limit and the hard one; none where either is unlimited.
pub fn limit_of(process: u32, name: &str) -> Option<(u64, u64)> {
    let all = told_of(process, "limits");
    let rest = all.lines().find_map(|line| line.strip_prefix(name))?;
    let mut numbers = rest.split_whitespace().map(|word| word.parse::<u64>().ok());
    numbers.next().flatten().zip(numbers.next().flatten())
}

fn status_of(process: u32, name: &str) -> String {
    let all = told_of(process, "status");
    let rest = all.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    rest.expect("Linux tells it").trim().to_owned()
}

fn confinement_of(process: u32) -> Confinement {
    let ignored = u64::from_str_radix(&status_of(process, "SigIgn"), 16).expect("a mask");
    Confinement {
        limits: ["Max open files", "Max file size", "Max core file size", "Max cpu time"]
            .map(|name| limit_of(process, name)),
        gains_rights: status_of(process, "NoNewPrivs") != "1",
        deaf: [libc::SIGHUP, libc::SIGINT, libc::SIGTERM].map(|number| (ignored >> (number - 1)) & 1 == 1),
    }
}

/// A worker to be started, with small limits.
fn worker() -> Command {
    let mut command = Command::new(SERVER);
    command
        .args([
            "dicom-worker",
            "--max-pixels=1000",
            "--max-side=100",
            "--max-bytes=1000",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

#[test]
fn a_dicom_worker_closes_what_it_was_not_meant_to_get() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let (read, left_open) = (reader.as_raw_fd(), writer.as_raw_fd());
    let mut command = worker();
    // In the worker alone: other tests start processes, too.
    // SAFETY: takes numbers only.
    unsafe {
        command.pre_exec(move || match libc::fcntl(left_open, libc::F_SETFD, 0) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    let mut worker = command.spawn().expect("the binary starts");
    drop(writer);
    let mut end = libc::pollfd {
        fd: read,
        events: libc::POLLIN,
        revents: 0,
    };
    let patience = i32::try_from(PATIENCE.as_millis()).expect("a minute");
    // SAFETY: one entry, which is written before the call returns; the pipe is open.
    let ended = unsafe { libc::poll(&raw mut end, 1, patience) };
    assert!(
        ended == 1 && end.revents & libc::POLLHUP != 0,
        "it holds the pipe open: {ended}, {}",
        end.revents
    );
    assert_eq!(worker.try_wait().expect("ours"), None, "it waits for a file");
    drop(worker.stdin.take());
    assert!(worker.wait_with_output().expect("it ends").status.success());
}

#[test]
fn a_dicom_worker_is_confined_before_it_reads_and_answers_all_the_same() {
    let mut worker = worker().spawn().expect("the binary starts");
    let process = worker.id();
    let confined = Confinement {
        limits: [
            Some((0, 0)),
            Some((0, 0)),
            Some((0, 0)),
            Some((dicom::SECONDS, dicom::SECONDS + 1)),
        ],
        gains_rights: false,
        deaf: [true; 3],
    };
    let begun = Instant::now();
    loop {
        let ended = worker.try_wait().expect("ours");
        assert_eq!(ended, None, "it waits for a file");
        let seen = confinement_of(process);
        if seen == confined {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{seen:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    // What it had when it was confined, which is about what it has while it waits, and what a file of such limits may take.
    let limits = DecodeLimits {
        max_pixels: 1000,
        max_side: 100,
        max_bytes: 1000,
    };
    let (memory, hard) = limit_of(process, "Max address space").expect("memory is limited");
    let has = status_of(process, "VmSize");
    let has: u64 = has.trim_end_matches(" kB").parse().expect("a number");
    let expected = (has << 10) + dicom::room(&limits);
    assert_eq!(memory, hard);
    assert!(memory.abs_diff(expected) < 64 << 20, "{memory}, not about {expected}");
    // The server's manager tells all of the server's processes to end; a worker ends with its file.
    let pid = i32::try_from(process).expect("a process id");
    // SAFETY: our own child, which has not been waited for.
    unsafe { libc::kill(pid, libc::SIGTERM) };
    let output = worker.wait_with_output().expect("it ends");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "\"Attributes\"\n");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
