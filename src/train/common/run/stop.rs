//! SIGINT and SIGTERM ask the run to save and end; a second signal ends it at once. The run of a recipe may ask its steps, too.

use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

/// With what status a program ends that was asked to and saved, so that the same command goes on (EX_TEMPFAIL of sysexits.h): what was to be done
/// is not done.
pub const STOPPED: u8 = 75;

static ASKED: AtomicBool = AtomicBool::new(false);

/// Whether someone asked the run to end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stop(());

impl Stop {
    /// Listens to SIGINT and SIGTERM from now on.
    pub fn on_signals() -> Self {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            // SAFETY: `handler` only stores to an atomic, which a signal handler may; the struct is fully initialised. SA_RESETHAND
            // gives the second signal its usual effect.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = handler as extern "C" fn(libc::c_int) as libc::sighandler_t;
                action.sa_flags = libc::SA_RESETHAND | libc::SA_RESTART;
                libc::sigemptyset(&mut action.sa_mask);
                libc::sigaction(libc::SIGINT, &action, std::ptr::null_mut());
                libc::sigaction(libc::SIGTERM, &action, std::ptr::null_mut());
            }
        });
        Self(())
    }

    /// Asks the run to save and end, as a signal does.
    pub fn ask(self) {
        ASKED.store(true, Ordering::Relaxed);
    }

    /// `true` once someone asked.
    pub fn asked(self) -> bool {
        ASKED.load(Ordering::Relaxed)
    }
}

extern "C" fn handler(_: libc::c_int) {
    ASKED.store(true, Ordering::Relaxed);
}
