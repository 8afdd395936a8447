//! What Prometheus expects to be told of any process, as Linux tells it in `/proc`. Elsewhere nothing is told.

use std::fs;
use std::sync::OnceLock;

use metrics::{Unit, describe_gauge, gauge};

const START: &str = "process_start_time_seconds";
const MEMORY: &str = "process_resident_memory_bytes";
const FILES: &str = "process_open_fds";

/// Ticks a second of the times in `/proc` (USER_HZ): the same on every architecture that this is built for.
const TICKS: f64 = 100.0;

/// Says what the meters are.
pub(super) fn describe() {
    describe_gauge!(START, Unit::Seconds, "When the process started, since 1970");
    describe_gauge!(MEMORY, Unit::Bytes, "Memory of the process that is in RAM");
    describe_gauge!(FILES, Unit::Count, "Open file descriptors of the process");
}

/// Sets the meters to what is so now.
pub(super) fn record() {
    static STARTED: OnceLock<Option<f64>> = OnceLock::new();
    let start = *STARTED.get_or_init(start);
    for (name, value) in [(START, start), (MEMORY, memory()), (FILES, open_files())] {
        if let Some(value) = value {
            gauge!(name).set(value);
        }
    }
}

fn start() -> Option<f64> {
    let own = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in parentheses; the 22nd says how long after the machine the process started.
    let (_, behind_name) = own.rsplit_once(')')?;
    let ticks: f64 = behind_name.split_whitespace().nth(22 - 3)?.parse().ok()?;
    let machine = fs::read_to_string("/proc/stat").ok()?;
    let boot = machine.lines().find_map(|line| line.strip_prefix("btime "))?;
    Some(boot.trim().parse::<f64>().ok()? + ticks / TICKS)
}

fn memory() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = resident.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0)
}

fn open_files() -> Option<f64> {
    let open = fs::read_dir("/proc/self/fd").ok()?.count();
    // One of them is open to look.
    Some(open.saturating_sub(1) as f64)
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn the_process_started_a_while_ago_and_has_memory_and_files() {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("after 1970")
            .as_secs_f64();
        let start = start().expect("Linux tells");
        // The machine's own start is told in whole seconds.
        assert!((now - 86_400.0..now + 2.0).contains(&start), "{start}, now {now}");
        assert!(memory().expect("Linux tells") > 1e6);
        let held: Vec<_> = (0..100)
            .map(|_| fs::File::open("/dev/null").expect("Linux has it"))
            .collect();
        assert!(open_files().expect("Linux tells") >= 100.0);
        drop(held);
    }
}
