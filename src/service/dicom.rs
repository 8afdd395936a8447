//! DICOM files of strangers: each is decoded in a process of its own, with bounds on its time and memory.
//!
//! Decoders of DICOM's transfer syntaxes are many and old. What breaks in one ends its process; the server answers that the file cannot be
//! read. The process (`llm-cxr dicom-worker`) gets the file on its standard input, gives the first frame's pixels on its standard output, and
//! ends. The next one is started beforehand, so that its start does not add to a request.
//!
//! What holds of it: it has no descriptor but its standard streams and can open none, so no file and no network; it has no environment, gains no
//! rights, and cannot look into the server's memory or another worker's. What does not: it runs as the server's user, and no filter of system calls
//! is set, so a decoder that a file has taken over could signal that user's processes, the server among them, and start others as confined as itself.

use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::ServiceError;
use crate::radiograph::{
    Channels, DecodeLimits, DicomError, DicomFacts, PixelAttribute, PixelForm, RadiographError, Raster, TransferSyntax,
    read_dicom_with_facts,
};

/// Longest first line of what a worker says.
const LINE: usize = 256;

/// Time from a file's first byte to its pixels' last one.
const PATIENCE: Duration = Duration::from_secs(20);

/// Seconds of computing that one file may take.
pub const SECONDS: u64 = 10;

/// Bytes that a pixel may take on its way, in the decoder that needs most (JPEG 2000: samples of 32 bits, then of 16 and 8).
const BYTES_PER_PIXEL: u64 = 16;

/// Memory that decoding a file within `limits` may take, in bytes: the file twice, its pixels, and what decoders need anyway.
pub fn room(limits: &DecodeLimits) -> u64 {
    let file = (limits.max_bytes as u64).saturating_mul(2);
    let pixels = limits.max_pixels.saturating_mul(BYTES_PER_PIXEL);
    file.saturating_add(pixels).saturating_add(128 << 20)
}

/// What a worker says first, as a line of JSON; pixels follow where there are some.
#[derive(Debug, Serialize, Deserialize)]
enum Told {
    /// So many rows of 8-bit samples, of one channel or three; and what else the file says of them, in words of ours.
    Pixels {
        width: u32,
        height: u32,
        colour: bool,
        #[serde(default, skip_serializing_if = "DicomFacts::is_empty")]
        facts: DicomFacts,
    },
    /// The header announces more pixels than are accepted.
    TooManyPixels {
        width: u32,
        height: u32,
    },
    /// As [`DicomError`] has them.
    Attributes,
    NoPixels,
    Lacks(PixelAttribute),
    Depth(u32),
    Syntax(TransferSyntax),
    Form(PixelForm),
    Undecodable,
}

/// The worker's side: reads one file to its end, decodes it, says what came of it.
///
/// # Errors
/// The pipes'; whoever is at their other end has gone.
pub fn work(mut input: impl Read, mut output: impl Write, limits: &DecodeLimits) -> io::Result<()> {
    let mut file = Vec::new();
    input.read_to_end(&mut file)?;
    let read = read_dicom_with_facts(&file, limits);
    let told = match &read {
        Ok((raster, facts)) => Told::Pixels {
            // As they come from a header's own numbers.
            width: raster.width() as u32,
            height: raster.height() as u32,
            colour: raster.channels() == Channels::Rgb,
            facts: *facts,
        },
        Err(DicomError::Limits(RadiographError::TooManyPixels { width, height, .. })) => Told::TooManyPixels {
            width: *width,
            height: *height,
        },
        Err(DicomError::Attributes) => Told::Attributes,
        Err(DicomError::NoPixels) => Told::NoPixels,
        Err(DicomError::Lacks(attribute)) => Told::Lacks(*attribute),
        Err(DicomError::Depth(bits)) => Told::Depth(*bits),
        Err(DicomError::Syntax(syntax)) => Told::Syntax(syntax.clone()),
        Err(DicomError::Form(form)) => Told::Form(*form),
        // By name, so that a new one is asked for here. The server has looked at the file's size before; what takes too much ends the worker.
        Err(DicomError::Limits(_) | DicomError::Pixels | DicomError::Exhausted) => Told::Undecodable,
    };
    serde_json::to_writer(&mut output, &told)?;
    output.write_all(b"\n")?;
    if let Ok((raster, _)) = &read {
        output.write_all(raster.samples())?;
    }
    output.flush()
}

/// Reads DICOM files by workers. Cheap to clone; clones share the workers.
#[derive(Clone, Debug)]
pub struct DicomReader {
    program: PathBuf,
    patience: Duration,
    /// Started, and waiting for a file.
    spare: Arc<Mutex<Option<Child>>>,
}

impl DicomReader {
    /// `program` is `llm-cxr`, whose `dicom-worker` does the work.
    pub fn new(program: PathBuf) -> Self {
        Self {
            program,
            patience: PATIENCE,
            spare: Arc::default(),
        }
    }

    /// The first frame of `file`, as a viewer first shows it, and what the file says of it that speaks against a frontal radiograph of a chest.
    ///
    /// # Errors
    /// [`ServiceError::Dicom`] for what is wrong with the file; a worker that it makes take too long or too much memory, or break, is
    /// [`DicomError::Exhausted`]. [`ServiceError::Worker`] when no worker can be started, or one ends for reasons that are not the file's.
    pub async fn read(&self, file: &[u8], limits: &DecodeLimits) -> Result<(Raster, DicomFacts), ServiceError> {
        limits.check_bytes(file.len())?;
        let waiting = self.spare.lock().unwrap_or_else(PoisonError::into_inner).take();
        let alive = waiting.and_then(|mut worker| matches!(worker.try_wait(), Ok(None)).then_some(worker));
        // Dropped, a worker is killed: when its time is up, or when whoever asked has gone.
        let mut worker = match alive {
            Some(worker) => worker,
            None => self.start(limits).map_err(|error| {
                tracing::error!(kind = ?error.kind(), "no DICOM worker can be started");
                ServiceError::Worker
            })?,
        };
        let told = tokio::time::timeout(self.patience, converse(&mut worker, file, limits)).await;
        self.keep_one_waiting(limits);
        match told {
            Ok(Ok(told)) => Ok(told?),
            Ok(Err(error)) => {
                let no_fault_of_the_file = ended_for_other_reasons(&mut worker).await;
                tracing::warn!(kind = ?error.kind(), no_fault_of_the_file, "a DICOM worker broke");
                match no_fault_of_the_file {
                    true => Err(ServiceError::Worker),
                    false => Err(DicomError::Exhausted.into()),
                }
            }
            Err(_) => {
                tracing::warn!("a DICOM worker took too long and was ended");
                Err(DicomError::Exhausted.into())
            }
        }
    }

    /// Starts a worker for the next file, unless another file's reader has.
    fn keep_one_waiting(&self, limits: &DecodeLimits) {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.is_none() {
            *spare = self.start(limits).ok();
        }
    }

    fn start(&self, limits: &DecodeLimits) -> io::Result<Child> {
        let mut command = Command::new(&self.program);
        command
            .arg("dicom-worker")
            .arg(format!("--max-pixels={}", limits.max_pixels))
            .arg(format!("--max-side={}", limits.max_side))
            .arg(format!("--max-bytes={}", limits.max_bytes))
            // Keys and the like are in the environment; a worker needs only to find its libraries.
            .env_clear()
            .envs(std::env::var_os("LD_LIBRARY_PATH").map(|path| ("LD_LIBRARY_PATH", path)))
            .current_dir("/")
            // Ctrl-C at the server's terminal is not meant for it: what runs is finished.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // What a decoder complains of may quote the file.
            .stderr(Stdio::null())
            .kill_on_drop(true);
        command.spawn()
    }
}

/// Whether a worker that has broken off ended for reasons that are not the file's: with an error of its own, which no file can make it do, or
/// by SIGKILL, which the system sends where memory runs out. Not by another signal (out of its time or memory, a crash), and not by lying.
async fn ended_for_other_reasons(worker: &mut Child) -> bool {
    let ended = tokio::time::timeout(Duration::from_secs(1), worker.wait()).await;
    let other = |code: i32| code != 0;
    matches!(ended, Ok(Ok(status)) if status.code().is_some_and(other) || status.signal() == Some(libc::SIGKILL))
}

/// Gives a worker its file and takes what it says. The outer error is a broken worker, the inner one what it says of the file.
async fn converse(
    worker: &mut Child,
    file: &[u8],
    limits: &DecodeLimits,
) -> io::Result<Result<(Raster, DicomFacts), DicomError>> {
    let (Some(mut input), Some(mut output)) = (worker.stdin.take(), worker.stdout.take()) else {
        return Err(io::ErrorKind::BrokenPipe.into());
    };
    // One that ends early says why, or its status does.
    let _ = input.write_all(file).await;
    drop(input);
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') && line.len() < LINE {
        line.push(output.read_u8().await?);
    }
    let told: Told = serde_json::from_slice(&line)?;
    let (width, height, colour, facts) = match told {
        Told::Pixels {
            width,
            height,
            colour,
            facts,
        } => (width, height, colour, facts),
        // One that says so of a picture within the limits lies.
        Told::TooManyPixels { width, height } => {
            let refusal = limits.check_size(width, height).err();
            return Ok(Err(refusal.ok_or(io::ErrorKind::InvalidData)?.into()));
        }
        Told::Attributes => return Ok(Err(DicomError::Attributes)),
        Told::NoPixels => return Ok(Err(DicomError::NoPixels)),
        Told::Lacks(attribute) => return Ok(Err(DicomError::Lacks(attribute))),
        Told::Depth(bits) => return Ok(Err(DicomError::Depth(bits))),
        Told::Syntax(syntax) => return Ok(Err(DicomError::Syntax(syntax))),
        Told::Form(form) => return Ok(Err(DicomError::Form(form))),
        Told::Undecodable => return Ok(Err(DicomError::Pixels)),
    };
    // A worker that was taken over may say anything.
    let lie = |_| io::Error::from(io::ErrorKind::InvalidData);
    limits.check_size(width, height).map_err(lie)?;
    let (width, height) = (width as usize, height as usize);
    let channels = if colour { Channels::Rgb } else { Channels::Grey };
    let length = width * height * channels.count();
    let mut samples = Vec::new();
    output.take(length as u64).read_to_end(&mut samples).await?;
    let raster = Raster::new(width, height, channels, samples).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Ok((raster, facts)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A reader whose worker is a shell script.
    fn reader(script: &str, patience: Duration) -> (tempfile::TempDir, DicomReader) {
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("worker");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("written");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("made executable");
        let reader = DicomReader {
            patience,
            ..DicomReader::new(program)
        };
        (folder, reader)
    }

    async fn told_with_facts(script: &str) -> Result<(Raster, DicomFacts), ServiceError> {
        let (_folder, reader) = reader(script, Duration::from_secs(20));
        reader.read(b"file", &DecodeLimits::default()).await
    }

    async fn told(script: &str) -> Result<Raster, ServiceError> {
        told_with_facts(script).await.map(|(raster, _)| raster)
    }

    #[tokio::test]
    async fn what_a_worker_says_is_taken() {
        let grey =
            told(r#"cat >/dev/null; echo '{"Pixels":{"width":2,"height":2,"colour":false}}'; printf 'abcd'"#).await;
        let grey = grey.expect("pixels");
        assert_eq!((grey.width(), grey.height(), grey.samples()), (2, 2, &b"abcd"[..]));
        let none = told(r#"cat >/dev/null; echo '"NoPixels"'"#).await;
        assert!(matches!(none, Err(ServiceError::Dicom(DicomError::NoPixels))));
        let lacks = told(r#"cat >/dev/null; echo '{"Lacks":"BitsStored"}'"#).await;
        let named = DicomError::Lacks(PixelAttribute::BitsStored);
        assert!(matches!(lacks, Err(ServiceError::Dicom(error)) if error == named));
        let deep = told(r#"cat >/dev/null; echo '{"Depth":32}'"#).await;
        assert!(matches!(deep, Err(ServiceError::Dicom(DicomError::Depth(32)))));
        let syntax = told(r#"cat >/dev/null; echo '{"Syntax":"1.2.840.10008.1.2.4.80"}'"#).await;
        let named = DicomError::Syntax(TransferSyntax::of("1.2.840.10008.1.2.4.80"));
        assert!(matches!(syntax, Err(ServiceError::Dicom(error)) if error == named));
        let form = told(r#"cat >/dev/null; echo '{"Form":"Colours"}'"#).await;
        assert!(matches!(
            form,
            Err(ServiceError::Dicom(DicomError::Form(PixelForm::Colours)))
        ));
        let many = told(r#"cat >/dev/null; echo '{"TooManyPixels":{"width":65535,"height":65535}}'"#).await;
        let Err(ServiceError::Dicom(DicomError::Limits(error))) = many else {
            panic!("not refused for its size")
        };
        assert!(matches!(error, RadiographError::TooManyPixels { width: 65535, .. }));
    }

    #[tokio::test]
    async fn what_a_file_says_of_its_picture_comes_with_the_pixels() {
        let telling =
            r#"{"Pixels":{"width":1,"height":1,"colour":false,"facts":{"view":"Lateral","body_part":"Hand"}}}"#;
        let (_, facts) = told_with_facts(&format!("cat >/dev/null; echo '{telling}'; printf 'a'"))
            .await
            .expect("pixels");
        let written = serde_json::to_value(facts).expect("written");
        assert_eq!(written, serde_json::json!({"view": "Lateral", "body_part": "Hand"}));
        let none =
            told_with_facts(r#"cat >/dev/null; echo '{"Pixels":{"width":1,"height":1,"colour":false}}'; printf 'a'"#);
        assert!(none.await.expect("pixels").1.is_empty());
    }

    #[tokio::test]
    #[cfg(target_os = "linux")]
    async fn a_worker_gets_no_environment_but_where_libraries_are_and_stands_at_the_root_in_a_group_of_its_own() {
        let beside = |(name, _): (std::ffi::OsString, _)| name != "LD_LIBRARY_PATH";
        assert!(std::env::vars_os().any(beside), "there is something to keep back");
        let told = told(
            r#"cat >/dev/null
            read -r process name state parent group rest </proc/$$/stat
            [ "$process" = "$group" ] && group=own
            said="$group $(pwd -P) $(tr '\0' '\n' </proc/$$/environ | cut -d= -f1 | tr '\n' ' ')"
            printf '{"Pixels":{"width":%d,"height":1,"colour":false}}\n%s' "${#said}" "$said""#,
        )
        .await
        .expect("pixels");
        let said = String::from_utf8_lossy(told.samples()).into_owned();
        let mut words = said.split_whitespace();
        assert_eq!((words.next(), words.next()), (Some("own"), Some("/")), "{said}");
        assert!(words.all(|name| name == "LD_LIBRARY_PATH"), "{said}");
    }

    #[tokio::test]
    async fn a_worker_that_a_file_breaks_or_takes_over_is_an_error_of_the_file() {
        for script in [
            "cat >/dev/null; kill -XCPU $$",
            "cat >/dev/null; kill -6 $$",
            "cat >/dev/null; echo nonsense",
            r#"cat >/dev/null; echo '{"Pixels":{"width":1,"height":1,"colour":false,"facts":{"view":"NAME"}}}'; printf 'a'"#,
            r#"cat >/dev/null; echo '{"Lacks":"PatientName"}'"#,
            "cat >/dev/null; exec cat /dev/zero",
            r#"cat >/dev/null; echo '{"Pixels":{"width":2,"height":2,"colour":false}}'; printf 'abc'"#,
            r#"cat >/dev/null; echo '{"Pixels":{"width":4294967296,"height":4294967296,"colour":true}}'; exec cat /dev/zero"#,
        ] {
            let told = told(script).await.err();
            assert!(
                matches!(told, Some(ServiceError::Dicom(DicomError::Exhausted))),
                "{script}: {told:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_worker_that_cannot_start_refuses_to_work_or_is_killed_is_no_error_of_the_file() {
        for script in ["exit 1", "cat >/dev/null; kill -9 $$"] {
            assert!(matches!(told(script).await, Err(ServiceError::Worker)), "{script}");
        }
        let missing = DicomReader::new("/no/such/program".into());
        let told = missing.read(b"file", &DecodeLimits::default()).await;
        assert!(matches!(told, Err(ServiceError::Worker)));
    }

    #[tokio::test]
    async fn a_worker_that_never_ends_is_ended() {
        let (_folder, reader) = reader("exec sleep 600", Duration::from_millis(300));
        let told = reader.read(b"file", &DecodeLimits::default()).await;
        assert!(matches!(told, Err(ServiceError::Dicom(DicomError::Exhausted))));
    }

    #[tokio::test]
    #[cfg(target_os = "linux")]
    async fn a_worker_that_a_file_holds_up_is_killed_and_the_next_file_is_read() {
        let (_folder, hasty) = reader(
            r#"test "$(cat)" = hang && exec sleep 600
            echo '{"Pixels":{"width":1,"height":1,"colour":false}}'; printf 'a'"#,
            Duration::from_millis(300),
        );
        let limits = DecodeLimits::default();
        hasty.keep_one_waiting(&limits);
        let held_up = hasty.spare.lock().expect("not poisoned").as_ref().and_then(Child::id);
        let told = hasty.read(b"hang", &limits).await;
        assert!(matches!(told, Err(ServiceError::Dicom(DicomError::Exhausted))));
        let patient = DicomReader {
            patience: Duration::from_secs(20),
            ..hasty
        };
        let (next, _) = patient.read(b"file", &limits).await.expect("pixels");
        assert_eq!(next.samples(), b"a");
        // Of a process that has ended and has not been waited for yet it is empty.
        let command = format!("/proc/{}/cmdline", held_up.expect("a worker"));
        let runs = || std::fs::read(&command).is_ok_and(|words| !words.is_empty());
        let ended = async {
            while runs() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let killed = tokio::time::timeout(Duration::from_secs(20), ended).await;
        killed.expect("it still runs");
    }

    #[tokio::test]
    async fn one_worker_waits_for_the_next_file_and_a_dead_one_is_replaced() {
        let (_folder, reader) = reader(
            r#"cat >/dev/null; echo '{"Pixels":{"width":1,"height":1,"colour":false}}'; printf 'a'"#,
            Duration::from_secs(20),
        );
        for _ in 0..2 {
            reader.read(b"file", &DecodeLimits::default()).await.expect("pixels");
            let spare = reader.spare.lock().expect("not poisoned").take();
            let mut spare = spare.expect("a worker");
            spare.kill().await.expect("killed");
            *reader.spare.lock().expect("not poisoned") = Some(spare);
        }
    }

    #[tokio::test]
    async fn a_worker_that_waits_already_is_kept() {
        let (_folder, reader) = reader("exec sleep 600", Duration::from_secs(20));
        let waiting = || {
            reader.keep_one_waiting(&DecodeLimits::default());
            let spare = reader.spare.lock().expect("not poisoned");
            spare.as_ref().and_then(Child::id)
        };
        let first = waiting();
        assert!(first.is_some());
        assert_eq!(waiting(), first);
    }

    #[test]
    fn a_worker_tells_a_file_that_is_none() {
        let mut output = Vec::new();
        work(&b"no DICOM file"[..], &mut output, &DecodeLimits::default()).expect("told");
        assert_eq!(output, b"\"Attributes\"\n");
    }
}
