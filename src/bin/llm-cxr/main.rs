//! `llm-cxr`: serves a model bundle, works on single images, converts checkpoints, and measures.

mod assemble;
mod bench;
mod convert;
mod dicom_worker;
mod healthcheck;
mod inspect;
mod last_words;
mod load;
mod log_writer;
mod memory_limit;
mod offline;
mod open_files;
mod output_args;
mod own_memory;
mod print;
mod quantise;
mod serve;
mod show;
mod signals;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use llm_cxr::config::{CpuKernels, LogFormat};

/// What every command returns; the error is printed as one line.
type CommandResult = Result<(), Box<dyn std::error::Error>>;

/// What `--help` shows last.
const EXAMPLES: &str = "\
Examples:
  llm-cxr serve --model models/demo --listen 127.0.0.1:8080
  llm-cxr report chest.png --model models/demo
  llm-cxr ask chest.dcm 'Is there a pleural effusion?' 'On which side?' --json
  llm-cxr draw 'Small left pleural effusion.' --seed 7 -o drawn.png
  llm-cxr encode chest.png | llm-cxr decode - -o seen.png";

/// Reads chest X-rays, answers questions about them and draws them, with one language model (LLM-CXR).
///
/// For research only; not a medical device.
#[derive(Parser, Debug)]
#[command(name = "llm-cxr", version = llm_cxr::version(), max_term_width = 110, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Bench(bench::BenchArgs),
    Convert(convert::ConvertArgs),
    #[command(alias = "quantize")]
    Quantise(quantise::QuantiseArgs),
    Inspect(inspect::InspectArgs),
    /// Serve a model bundle over HTTP.
    Serve(Box<llm_cxr::config::ServeConfig>),
    Report(offline::ReportArgs),
    Ask(offline::AskArgs),
    Draw(offline::DrawArgs),
    Encode(offline::EncodeArgs),
    Decode(offline::DecodeArgs),
    Load(load::LoadArgs),
    Healthcheck(healthcheck::HealthcheckArgs),
    #[command(hide = true)]
    DicomWorker(dicom_worker::DicomWorkerArgs),
    /// Print the API's contract (OpenAPI 3.1, YAML).
    Openapi,
    /// Read an API key from standard input and print its hash for `--api-key-hash`.
    HashKey,
    /// Print what a shell reads to complete command lines, as in `source <(llm-cxr completions bash)`.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

impl Command {
    /// Whether it has nothing left to do once it cannot print.
    fn prints(&self) -> bool {
        !matches!(
            self,
            Self::Serve(_)
                | Self::Load(_)
                | Self::Healthcheck(_)
                | Self::DicomWorker(_)
                | Self::Convert(_)
                | Self::Quantise(_)
        )
    }

    /// How it tells why it ends.
    fn log_format(&self) -> LogFormat {
        match self {
            Self::Serve(config) => config.log_format,
            _ => LogFormat::Pretty,
        }
    }

    /// The instructions that it is to be held to.
    fn cpu_kernels(&self) -> CpuKernels {
        match self {
            Self::Serve(config) => config.model.cpu_kernels,
            Self::Bench(args) => args.cpu_kernels,
            Self::Report(args) => args.reading.model.cpu_kernels,
            Self::Ask(args) => args.reading.model.cpu_kernels,
            Self::Draw(args) => args.model.cpu_kernels,
            Self::Encode(args) => args.model.cpu_kernels,
            Self::Decode(args) => args.model.cpu_kernels,
            _ => CpuKernels::Auto,
        }
    }
}

/// Lets the system end this process when whoever reads its output (`| head`) has gone. Otherwise printing fails, which Rust makes a panic.
fn end_with_the_reader() {
    // SAFETY: before any thread is started; a server and what writes files never comes here.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

/// Lets the allocator keep what was freed, up to these limits. A pass of the VQ-GAN frees and takes some megabytes dozens of times; given back
/// to the system each time, every page of them is cleared and mapped anew, a tenth of the pass.
///
/// What is kept must not grow with the machine. By itself glibc makes up to eight arenas for each core, and each keeps what uploads have left in it; tokio
/// has a thread for each core, and any of them may read an upload.
fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: settings of the allocator, before any thread is started.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 256 << 20);
        libc::mallopt(libc::M_ARENA_MAX, 4);
    }
}

fn main() -> ExitCode {
    keep_freed_memory();
    let command = llm_cxr::basics::command_line::<Cli>().command;
    if matches!(command, Command::Serve(_) | Command::Bench(_)) {
        llm_cxr::model::openmp::wait_briefly();
    }
    if command.prints() {
        end_with_the_reader();
    }
    let format = command.log_format();
    // SAFETY: before any thread is started.
    if let Err(error) = unsafe { command.cpu_kernels().hold() } {
        return failed(format, &error.to_string());
    }
    let outcome = match command {
        Command::Bench(args) => bench::run(args),
        Command::Convert(args) => convert::run(args),
        Command::Quantise(args) => quantise::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Serve(config) => serve::run(&config),
        Command::Report(args) => offline::report(args),
        Command::Ask(args) => offline::ask(args),
        Command::Draw(args) => offline::draw(args),
        Command::Encode(args) => offline::encode(args),
        Command::Decode(args) => offline::decode(args),
        Command::Load(args) => load::run(args),
        Command::Healthcheck(args) => healthcheck::run(args),
        Command::DicomWorker(args) => dicom_worker::run(&args),
        Command::Openapi => print::openapi(),
        Command::HashKey => print::hash_key(),
        Command::Completions { shell } => print::completions(shell),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(format, &error.to_string()),
    }
}

fn failed(format: LogFormat, why: &str) -> ExitCode {
    llm_cxr::basics::tell(last_words::fatal(format, why));
    ExitCode::FAILURE
}
