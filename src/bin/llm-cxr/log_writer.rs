//! The server's log on its way out. Whoever logs must never wait for whoever reads the log, nor end with it: lines go through a bounded queue
//! to a thread of their own, and are dropped and counted where there is no room. tracing-appender's writer does that much; it can neither put the
//! process's last words behind all other lines nor tell the log what it dropped.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use llm_cxr::config::LogFormat;
use tracing_subscriber::fmt::MakeWriter;

use crate::last_words;

/// Lines that wait for the log's reader.
pub const LINES: usize = 4096;

/// From one look to the next whether there is room for what must not be dropped.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// What is handed to the thread.
enum Parcel {
    Line(Vec<u8>),
    /// Answered once everything before it was written.
    Mark(SyncSender<()>),
}

/// Takes lines without ever waiting. Clones write the same log.
#[derive(Clone)]
pub struct LogWriter {
    parcels: SyncSender<Parcel>,
    untold: Arc<AtomicU64>,
}

impl LogWriter {
    /// Starts the thread that writes to `out`. `room` lines may wait; the thread's own lines look as `format` says, as the others.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(out: impl Write + Send + 'static, room: usize, format: LogFormat) -> io::Result<Self> {
        let (parcels, received) = sync_channel(room);
        let untold = Arc::new(AtomicU64::new(0));
        let dropped = Arc::clone(&untold);
        std::thread::Builder::new()
            .name("log".into())
            .spawn(move || write_all(out, &received, &dropped, format))?;
        Ok(Self { parcels, untold })
    }

    /// Waits until what was logged so far is written, but no longer than `patience`. Whether it is.
    pub fn flush(&self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        let (mark, written) = sync_channel(1);
        self.insist(Parcel::Mark(mark), until)
            && written
                .recv_timeout(until.saturating_duration_since(Instant::now()))
                .is_ok()
    }

    /// Writes a last line behind all others, and waits for it as [`LogWriter::flush`] does.
    pub fn end_with(&self, line: &str, patience: Duration) -> bool {
        let begun = Instant::now();
        let room = self.insist(Parcel::Line(format!("{line}\n").into_bytes()), begun + patience);
        room && self.flush(patience.saturating_sub(begun.elapsed()))
    }

    /// Hands over what must not be dropped; gives up at `until`.
    fn insist(&self, mut parcel: Parcel, until: Instant) -> bool {
        loop {
            parcel = match self.parcels.try_send(parcel) {
                Ok(()) => return true,
                Err(TrySendError::Full(parcel)) if Instant::now() < until => parcel,
                Err(_) => return false,
            };
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    fn put(&self, line: &[u8]) {
        if self.parcels.try_send(Parcel::Line(line.to_vec())).is_err() {
            self.untold.fetch_add(1, Ordering::Relaxed);
            llm_cxr::http::log_line_dropped();
        }
    }
}

/// The thread: until nobody can log any more.
fn write_all(mut out: impl Write, parcels: &Receiver<Parcel>, untold: &AtomicU64, format: LogFormat) {
    for parcel in parcels {
        match parcel {
            // Nobody is left to be told that the log cannot be written.
            Parcel::Line(line) => {
                let _ = out.write_all(&line);
            }
            Parcel::Mark(mark) => {
                let _ = mark.send(());
            }
        }
        let dropped = untold.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let note = last_words::dropped(format, dropped) + "\n";
            let _ = out.write_all(note.as_bytes());
        }
    }
}

/// One event is one call.
impl Write for &LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = &'a LogWriter;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Bounds a wait that should end by itself.
    const PATIENCE: Duration = Duration::from_secs(60);

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Kept {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().expect("not poisoned").clone()).expect("UTF-8")
        }
    }

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Says when it was called, and then waits until the test lets it go on.
    struct Stuck {
        entered: SyncSender<()>,
        gate: Receiver<()>,
        kept: Kept,
    }

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.entered.send(());
            let _ = self.gate.recv();
            self.kept.write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A writer of room for two lines that is stuck at its first; the gate opens when it is dropped.
    fn stuck(format: LogFormat) -> (LogWriter, SyncSender<()>, Kept) {
        let (entered, at_work) = sync_channel(64);
        let (gate, closed) = sync_channel(64);
        let kept = Kept::default();
        let out = Stuck {
            entered,
            gate: closed,
            kept: kept.clone(),
        };
        let log = LogWriter::start(out, 2, format).expect("a thread");
        log.put(b"first\n");
        at_work.recv_timeout(PATIENCE).expect("the thread writes");
        (log, gate, kept)
    }

    #[test]
    fn lines_come_in_order_and_the_last_one_behind_them() {
        let kept = Kept::default();
        let log = LogWriter::start(kept.clone(), 100, LogFormat::Pretty).expect("a thread");
        for number in 0..50 {
            log.put(format!("line {number}\n").as_bytes());
        }
        assert!(log.end_with("the end", PATIENCE));
        let expected: String = (0..50).map(|number| format!("line {number}\n")).collect();
        assert_eq!(kept.text(), expected + "the end\n");
    }

    #[test]
    fn a_reader_that_is_stuck_holds_nobody_up_and_what_it_missed_is_told() {
        for (format, before, behind) in [
            (LogFormat::Pretty, "", "  WARN llm_cxr::log: 3 log lines were dropped"),
            (
                LogFormat::Json,
                r#"{"timestamp":""#,
                r#"","level":"WARN","message":"log lines were dropped","lines":3,"target":"llm_cxr::log"}"#,
            ),
        ] {
            let (log, gate, kept) = stuck(format);
            for line in ["second\n", "third\n", "lost\n", "lost\n", "lost\n"] {
                log.put(line.as_bytes());
            }
            assert!(!log.flush(Duration::from_millis(20)), "nothing could be written");
            assert!(!log.end_with("no room", Duration::from_millis(20)));
            drop(gate);
            assert!(log.flush(PATIENCE));
            let text = kept.text();
            let lines: [&str; 4] = text.lines().collect::<Vec<_>>().try_into().expect("four lines");
            let [first, note, second, third] = lines;
            assert_eq!([first, second, third], ["first", "second", "third"]);
            let time = note.strip_prefix(before).and_then(|note| note.strip_suffix(behind));
            // As in `2026-01-31T07:08:09.123456Z`.
            let shape = time.map(|time| time.replace(|c: char| c.is_ascii_digit(), "0"));
            assert_eq!(shape.as_deref(), Some("0000-00-00T00:00:00.000000Z"), "{note}");
        }
    }

    #[test]
    fn a_log_that_cannot_be_written_is_no_error() {
        struct Failing;
        impl Write for Failing {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        let log = LogWriter::start(Failing, 4, LogFormat::Pretty).expect("a thread");
        for _ in 0..3 {
            log.make_writer().write_all(b"a line\n").expect("taken");
            assert!(log.flush(PATIENCE), "the thread goes on");
        }
    }
}
