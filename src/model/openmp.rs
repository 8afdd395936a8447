//! How long libtorch's threads wait for each other in a loop, before they sleep.

use std::env;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Turns of that loop: some tens of microseconds. GNU's OpenMP by itself takes 300,000, some milliseconds. Where other work wants the cores too, a
/// thread then turns while the one that it waits for has no core to get on with; a training took 1.4 times as long beside one busy neighbour. On a
/// machine of its own it is as fast with this number (docs/performance-notes.md).
const TURNS: &str = "2000";

/// The variable that holds it, and the others that decide how threads wait: of LLVM's OpenMP, and of both.
const TOLD_BY: [&str; 3] = ["GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_WAIT_POLICY"];

/// Starts this program anew, in the same process, with threads that wait briefly, unless its environment says how they wait. To be called before a
/// thread is started or a file opened: OpenMP reads its variables when it is loaded, which is before `main`. Where the system refuses to start it
/// anew it goes on as it is.
pub fn wait_briefly() {
    if is_told(|name| env::var_os(name).is_some()) {
        return;
    }
    let (Ok(program), mut args) = (env::current_exe(), env::args_os()) else {
        return;
    };
    let mut anew = Command::new(program);
    if let Some(name) = args.next() {
        anew.arg0(name);
    }
    // Comes back only where it has failed.
    let _ = anew.args(args).env(TOLD_BY[0], TURNS).exec();
}

fn is_told(is_set: impl Fn(&str) -> bool) -> bool {
    TOLD_BY.into_iter().any(is_set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_says_how_threads_wait_is_obeyed_and_a_program_is_started_anew_once() {
        assert!(!is_told(|_| false));
        for name in TOLD_BY {
            assert!(is_told(|set| set == name), "{name}");
        }
    }
}
