//! What knows nothing of any room: hexadecimal, checksums of files, locks, text in markup, command lines, lines for whoever looks on.

use std::ffi::OsStr;
use std::fmt::Display;
use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind, Read, Write as _};
use std::path::Path;

use sha2::{Digest, Sha256};

/// Bytes of a file that are read at once.
const PIECE: usize = 1 << 20;

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256 of bytes, in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// SHA-256 of a file, in hexadecimal. `progress` is told how many bytes are done.
///
/// # Errors
/// When the file cannot be read.
pub fn sha256_file(path: &Path, progress: &mut dyn FnMut(u64)) -> io::Result<String> {
    let mut hash = Sha256::new();
    hash_file(path, &mut hash, progress)?;
    Ok(hex(&hash.finalize()))
}

/// Adds the content of a file to a checksum. `progress` is told how many bytes of it are done.
///
/// # Errors
/// When the file cannot be read.
pub fn hash_file(path: &Path, hash: &mut Sha256, progress: &mut dyn FnMut(u64)) -> io::Result<()> {
    let mut file = File::open(path)?;
    let (mut buffer, mut done) = (vec![0; PIECE], 0);
    loop {
        let read = match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(reason) if reason.kind() == ErrorKind::Interrupted => continue,
            Err(reason) => return Err(reason),
        };
        hash.update(&buffer[..read]);
        done += read as u64;
        progress(done);
    }
}

/// Makes a folder that `--out` names, and those above it. Where a file is there it says so: the system says one thing or another.
///
/// # Errors
/// When it cannot be made.
pub fn make_out(folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder).map_err(|reason| match folder.is_file() {
        true => io::Error::new(reason.kind(), "is a file; --out is a folder"),
        false => reason,
    })
}

/// Holds the file at `path`, made if it is not there, until what is given back is dropped; `None` while another process holds it. The
/// system lets go of it when a process ends, however it ends.
pub fn hold(path: &Path) -> io::Result<Option<File>> {
    let file = File::create(path)?;
    Ok(lock(&file)?.then_some(file))
}

/// Holds a file that is open, until it is closed; `false` while another process holds it.
pub fn lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        // Some network file systems have no locks; there the rule cannot be kept, and work must still be possible.
        Err(TryLockError::Error(reason)) if reason.kind() == io::ErrorKind::Unsupported => Ok(true),
        Err(TryLockError::Error(reason)) => Err(reason),
    }
}

/// The command line of this process. A number may be negative: then the command says what it must be. A variable of the environment that is empty is as
/// one that is not set. Ends the process with what clap says where it is none.
pub fn command_line<C: clap::Parser>() -> C {
    let meant = |arg| without_empty_variable(with_negative_numbers(arg));
    let mut command = C::command().mut_subcommands(|command| command.mut_args(meant));
    let mut matches = command.get_matches_mut();
    C::from_arg_matches_mut(&mut matches).unwrap_or_else(|error| error.format(&mut command).exit())
}

fn with_negative_numbers(arg: clap::Arg) -> clap::Arg {
    match arg.get_action().takes_values() {
        true => arg.allow_negative_numbers(true),
        false => arg,
    }
}

/// Compose files and charts can hardly leave a variable out: they set it to nothing.
fn without_empty_variable(arg: clap::Arg) -> clap::Arg {
    let empty = |name: &OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    match arg.get_env().is_some_and(empty) {
        true => arg.env(None::<&str>),
        false => arg,
    }
}

/// What a shell reads to complete the command lines of `program`.
pub fn completions<C: clap::CommandFactory>(program: &str, shell: clap_complete::Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut C::command(), program, &mut script);
    script
}

/// Text that cannot be read as markup, neither between tags nor within a quoted attribute.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// Writes a line to standard error, if anybody reads there. `eprintln!` panics where nobody does any more (the terminal is gone, the pipe is
/// closed, the log's disk is full), which must not end a training of days.
pub fn tell(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Writes a line to standard output, if anybody reads there: for what only says where a result lies. A result itself is printed with its errors.
pub fn say(line: impl Display) {
    let _ = writeln!(io::stdout(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_checksum_is_that_of_its_bytes_and_its_progress_ends_with_its_length() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, bytes) = (folder.path().join("file"), vec![7u8; PIECE + 5]);
        std::fs::write(&path, &bytes).expect("written");
        let mut told = 0;
        assert_eq!(
            sha256_file(&path, &mut |done| told = done).expect("read"),
            sha256(&bytes)
        );
        assert_eq!(told, bytes.len() as u64);
        assert_eq!(
            sha256(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn markup_is_told_as_text() {
        assert_eq!(escaped("<a b=\"c\"> & d"), "&lt;a b=&quot;c&quot;&gt; &amp; d");
    }
}
