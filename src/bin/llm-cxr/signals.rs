//! Signals that end the server in order, and those that are none of its business.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that end the server.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// `None` where whoever started the server had it ignored, as `nohup` does.
    hangup: Option<Signal>,
}

impl Signals {
    /// From here on they are waited for, and end nothing by themselves. Needs a tokio runtime.
    ///
    /// # Errors
    /// The system's.
    pub fn listen() -> io::Result<Self> {
        for number in [libc::SIGUSR1, libc::SIGUSR2] {
            // Some programs are told by them to open their logs anew. Here they mean nothing, and must not end the server.
            // SAFETY: takes numbers only.
            unsafe { libc::signal(number, libc::SIG_IGN) };
        }
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: match is_ignored(libc::SIGHUP) {
                true => None,
                false => Some(signal(SignalKind::hangup())?),
            },
        })
    }

    /// The number of the next one.
    pub async fn next(&mut self) -> i32 {
        let Self {
            terminate,
            interrupt,
            hangup,
        } = self;
        let hung_up = async {
            match hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = terminate.recv() => libc::SIGTERM,
            _ = interrupt.recv() => libc::SIGINT,
            _ = hung_up => libc::SIGHUP,
        }
    }
}

fn is_ignored(number: i32) -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: nothing is set; `action` is written before the call returns, and zeroes are an action too.
    let action = unsafe {
        libc::sigaction(number, std::ptr::null(), action.as_mut_ptr());
        action.assume_init()
    };
    action.sa_sigaction == libc::SIG_IGN
}
