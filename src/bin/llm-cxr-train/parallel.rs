//! Steps of a recipe beside one another, each in a process of its own: a GPU need not wait for the processor that makes its next data.
//!
//! The run keeps the record of what is done. A child is given its step on standard input, which stays open as long as the run is there: when it
//! ends, the child saves what it has and ends too.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufRead, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use llm_cxr::model::device::DeviceChoice;
use llm_cxr::train::common::{Outcome, STOPPED, Stop};
use llm_cxr::train::recipe::{Order, Planned, Recipe, RecipeError, RunFolder, State, Step};
use serde_json::Value;

use crate::run::{place, word};
use crate::work::Work;

const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What is read of a log for its last line.
const TAIL: u64 = 4096;

/// How much lower a step's priority on the processor is for each earlier one that is still to be done, and the lowest that there is.
const YIELD: usize = 5;
const LOWEST: usize = 19;

/// Do the one step of a recipe that comes on standard input, as long as that is open
#[derive(Args, Debug)]
pub struct StepArgs {
    /// Lowers the priority on the processor by so much, as nice(1) does
    #[arg(long, default_value_t = 0)]
    nice: libc::c_int,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
}

/// Does one step for the run that began this process.
pub fn step(args: &StepArgs) -> ExitCode {
    match do_step(args) {
        Ok(Outcome::Finished) => ExitCode::SUCCESS,
        Ok(Outcome::Stopped(_)) => ExitCode::from(STOPPED),
        Err(error) => {
            // In one line: the run shows the last one.
            let lines: Vec<_> = error.to_string().lines().map(|line| line.trim().to_owned()).collect();
            llm_cxr::basics::tell(lines.join("; "));
            ExitCode::FAILURE
        }
    }
}

fn do_step(args: &StepArgs) -> crate::Done {
    // SAFETY: a plain call of the system; a refusal leaves the priority as it is.
    unsafe { libc::nice(args.nice) };
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    let step: Step = serde_json::from_str(&line)?;
    let work = Work::of(&step)?;
    let stop = work.saves().then(Stop::on_signals);
    thread::spawn(move || {
        // It is open and silent until the run ends or asks.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        match stop {
            Some(stop) => stop.ask(),
            // SAFETY: `_exit` has no preconditions. The command is ended wherever it is, as by a signal; handlers would meet its threads at work.
            None => unsafe { libc::_exit(STOPPED.into()) },
        }
    });
    work.run(args.device)
}

/// A recipe under way.
pub struct ParallelRun<'a> {
    /// The recipe.
    pub recipe: &'a Recipe,
    /// Its steps with what follows from what.
    pub plan: &'a [Planned],
    /// Where.
    pub folder: &'a RunFolder,
    /// How many at once.
    pub parallel: usize,
    /// As `--redo`.
    pub redo: bool,
    /// Where they compute.
    pub device: DeviceChoice,
}

/// A step that is being done.
struct Running {
    number: usize,
    child: Child,
    since: Instant,
    log: PathBuf,
    bar: ProgressBar,
}

/// Does the steps `chosen` that are not done. When one fails, or the run is asked to stop, those under way are stopped and waited for.
pub fn follow_in_parallel(run: &ParallelRun, chosen: Range<usize>) -> crate::CommandResult {
    let stop = Stop::on_signals();
    let mut order = Order::new(run.plan, chosen.clone());
    let bars = MultiProgress::new();
    let say = |text: String| bars.suspend(|| llm_cxr::basics::tell(text));
    let mut running: Vec<Running> = Vec::new();
    let mut trouble: Option<String> = None;
    let mut undone: BTreeSet<usize> = chosen.clone().collect();
    loop {
        if stop.asked() {
            trouble.get_or_insert_with(|| format!("stopped; {}", crate::GOES_ON));
        }
        while trouble.is_none() && running.len() < run.parallel {
            let Some(number) = order.take() else { break };
            let state = run.folder.state(run.plan, number);
            if state == State::Done {
                say(format!("{} is done", place(run.plan, number)));
                order.finish(number);
                undone.remove(&number);
                continue;
            }
            say(format!(
                "{} ({}): {}",
                place(run.plan, number),
                run.plan[number].command,
                word(&state)
            ));
            match begin(run, number, undone.range(..number).count(), &bars) {
                Ok(Some(step)) => running.push(step),
                Ok(None) => {
                    say(format!(
                        "{} is done: what was finished with these settings is back",
                        place(run.plan, number)
                    ));
                    order.finish(number);
                    undone.remove(&number);
                }
                Err(error) => trouble = Some(format!("{}: {error}", place(run.plan, number))),
            }
        }
        if trouble.is_some() {
            for step in &mut running {
                // Without it the child saves and ends.
                drop(step.child.stdin.take());
            }
        }
        if running.is_empty() {
            return trouble.map_or(Ok(()), |text| Err(text.into()));
        }
        let mut left = Vec::new();
        for mut step in running {
            let ended = match step.child.try_wait() {
                Ok(None) => {
                    step.bar.set_message(progress(run, &step));
                    left.push(step);
                    continue;
                }
                Ok(Some(status)) => settle(
                    run,
                    &mut order,
                    &mut undone,
                    &step,
                    status,
                    trouble.is_some() || stop.asked(),
                ),
                Err(reason) => {
                    // It cannot be asked any more; without its input it saves and ends.
                    let _ = step.child.wait();
                    Err(format!("{}: {reason}", place(run.plan, step.number)))
                }
            };
            step.bar.finish_and_clear();
            match ended {
                Ok(text) => text.into_iter().for_each(&say),
                // The others are still at work: they are stopped and waited for as after any failure.
                Err(text) => {
                    trouble.get_or_insert(text);
                }
            }
        }
        running = left;
        thread::sleep(LOOK_EVERY);
    }
}

/// Writes down how a step has ended; gives what is to be said of it. One that was stopped because of another, or on demand (`expected`), is no
/// failure.
fn settle(
    run: &ParallelRun,
    order: &mut Order,
    undone: &mut BTreeSet<usize>,
    step: &Running,
    status: ExitStatus,
    expected: bool,
) -> Result<Option<String>, String> {
    let (name, seconds) = (place(run.plan, step.number), step.since.elapsed().as_secs());
    let failed = |error: RecipeError| format!("{name}: {error}");
    if status.success() {
        run.folder.finish(run.plan, step.number).map_err(failed)?;
        order.finish(step.number);
        undone.remove(&step.number);
        return Ok(Some(format!("{name} is done, after {seconds} s")));
    }
    if expected {
        return Ok(None);
    }
    run.folder.take_back(run.plan, step.number).map_err(failed)?;
    // Who was killed from outside has not said why.
    let said = status.code().and_then(|_| last_line(&step.log));
    let said = said.unwrap_or_else(|| format!("it ended with {status}"));
    Err(format!("{name}: {said} (its messages: {})", step.log.display()))
}

/// Begins a step, unless that puts back what is done; it leaves the processor to the `earlier` ones: they are what others wait for.
fn begin(
    run: &ParallelRun,
    number: usize,
    earlier: usize,
    bars: &MultiProgress,
) -> Result<Option<Running>, Box<dyn std::error::Error>> {
    let step = &run.plan[number];
    run.folder.begin(run.plan, number, run.redo)?;
    if run.folder.state(run.plan, number) == State::Done {
        return Ok(None);
    }
    let log = run.folder.log(step);
    let style = ProgressStyle::with_template("{spinner} {prefix}  {elapsed}  {msg}")?;
    let messages = File::create(&log).map_err(|e| format!("{}: {e}", log.display()))?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(["step", "--device", &run.device.to_string()])
        .args(["--nice", &(YIELD * earlier).min(LOWEST).to_string()])
        .stdin(Stdio::piped())
        .stdout(messages.try_clone()?)
        .stderr(messages)
        .spawn()?;
    if let Some(input) = &mut child.stdin {
        writeln!(input, "{}", serde_json::to_string(&run.recipe.steps[number])?)?;
    }
    let bar = bars.add(ProgressBar::new_spinner().with_style(style));
    bar.set_prefix(step.name.clone());
    Ok(Some(Running {
        number,
        child,
        since: Instant::now(),
        log,
        bar,
    }))
}

/// How far a training is, as its own log has it.
fn progress(run: &ParallelRun, step: &Running) -> String {
    let planned = &run.plan[step.number];
    let at = last_line(&planned.out.join("log.jsonl"))
        .and_then(|line| serde_json::from_str::<Value>(&line).ok())
        .and_then(|line| line["step"].as_u64());
    match (at, planned.settings["steps"].as_u64()) {
        (Some(at), Some(of)) => format!("{at} of {of}"),
        _ => String::new(),
    }
}

/// The last line of a file that is not empty.
fn last_line(path: &Path) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let length = fs::metadata(path).ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL))).ok()?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail).ok()?;
    let text = String::from_utf8_lossy(&tail);
    let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
    Some(line.trim().to_owned())
}
