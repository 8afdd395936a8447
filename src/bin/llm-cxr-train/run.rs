//! `llm-cxr-train run`: follows a recipe.

use std::path::{Path, PathBuf};

use clap::Args;
use llm_cxr::model::device::DeviceChoice;
use llm_cxr::train::common::{Outcome, Stop};
use llm_cxr::train::recipe::{Planned, Recipe, RunFolder, State, check_bundle, missing, plan, undone};

use crate::GOES_ON;
use crate::parallel::{ParallelRun, follow_in_parallel};
use crate::work::Work;

/// Do every step of a recipe in order. What is done is skipped; run again after an interruption, it goes on where it was
#[derive(Args, Debug)]
pub struct RunArgs {
    /// The recipe
    #[arg(value_name = "RECIPE.toml")]
    recipe: PathBuf,
    /// Folder of the run, to which the recipe's paths are relative; by default runs/ with the recipe's name
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Only this step
    #[arg(long, value_name = "STEP", conflicts_with = "from")]
    only: Option<String>,
    /// From this step on
    #[arg(long, value_name = "STEP")]
    from: Option<String>,
    /// Say what would be done and what would stop it, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// A setting of a step (`vqgan.steps=500`) or one of the recipe's [values] (`mimic=/data/mimic`); may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Throw away what steps left that were begun with other settings or inputs, and do them again
    #[arg(long)]
    redo: bool,
    /// This many steps at once, each in a process of its own, as soon as what they read is there; their messages go to DIR/.steps/STEP.log
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    parallel: u16,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
}

/// Does the work.
pub fn run(args: &RunArgs) -> crate::CommandResult {
    let recipe = Recipe::read(&args.recipe, &args.sets)?;
    // Every step is read before the first one is done: a slip in the last one shows at once.
    let works = recipe.steps.iter().map(Work::of).collect::<Result<Vec<_>, _>>()?;
    let mut described = Vec::new();
    for (step, work) in recipe.steps.iter().zip(&works) {
        work.check().map_err(|e| step.wrong(e.to_string()))?;
        let settings = work.settings().map_err(|e| step.wrong(e.to_string()))?;
        described.push((step.name.clone(), step.command.clone(), settings, work.goes_on()));
    }
    let stem = args.recipe.file_stem().unwrap_or("recipe".as_ref());
    let shown = args.out.clone().unwrap_or_else(|| Path::new("runs").join(stem));
    // As far as it is there already: a link to it is another way into it.
    let root = shown.canonicalize().or_else(|_| std::path::absolute(&shown))?;
    let plan = plan(&root, described);
    if let Some(bundle) = &recipe.bundle {
        let made: Vec<_> = works.iter().filter_map(Work::bundle).collect();
        check_bundle(bundle, &made, &root)?;
    }
    let chosen = match (&args.only, &args.from) {
        (Some(name), _) => recipe.find(name).map(|n| n..n + 1)?,
        (_, Some(name)) => recipe.find(name)?..works.len(),
        _ => 0..works.len(),
    };
    let folder = RunFolder::look(&root);
    // What is done may have lost what it was made from.
    let todo = chosen.clone().filter(|n| folder.state(&plan, *n) != State::Done);
    let todo: Vec<usize> = todo.collect();
    let mut lacking = undone(&plan, &chosen, &todo, &folder);
    lacking.extend(missing(&plan, todo.iter().copied(), &root));
    if args.dry_run {
        if root.is_dir() {
            // Where the recipe's paths begin, also for those that the steps wrote down.
            std::env::set_current_dir(&root).map_err(|e| format!("{}: {e}", shown.display()))?;
        }
        // A run says so when it comes to the step; with --redo it does it again.
        let stale = todo.iter().filter(|_| !args.redo);
        lacking.extend(stale.filter_map(|number| folder.stale(&plan, *number)));
        for (number, step) in plan.iter().enumerate() {
            let state = if chosen.contains(&number) {
                word(&folder.state(&plan, number))
            } else {
                "left out".into()
            };
            llm_cxr::basics::say(format_args!(
                "{:>2}  {:20} {:12} {state}",
                number + 1,
                step.name,
                step.command
            ));
        }
        for lack in &lacking {
            llm_cxr::basics::say(lack);
        }
        return match lacking.len() {
            0 => Ok(()),
            count => Err(format!("these steps cannot be done: {count} of the lines above say why").into()),
        };
    }
    if let Some(lack) = lacking.into_iter().next() {
        return Err(lack.into());
    }
    let folder = RunFolder::open(&shown)?;
    std::env::set_current_dir(folder.root()).map_err(|e| format!("{}: {e}", shown.display()))?;
    let whole = args.only.is_none();
    if args.parallel > 1 {
        let parallel = ParallelRun {
            recipe: &recipe,
            plan: &plan,
            folder: &folder,
            parallel: usize::from(args.parallel),
            redo: args.redo,
            device: args.device,
        };
        follow_in_parallel(&parallel, chosen)?;
    } else {
        for number in chosen {
            follow(&plan, number, &works[number], &folder, args)?;
        }
    }
    if let Some(bundle) = recipe.bundle.filter(|_| whole) {
        folder.publish(&bundle)?;
        let bundle = shown.join("bundle");
        llm_cxr::basics::say(format_args!(
            "{0} is ready to be served: llm-cxr serve --model {0}",
            bundle.display()
        ));
    }
    Ok(())
}

/// Does one step, unless it is done.
fn follow(plan: &[Planned], number: usize, work: &Work, folder: &RunFolder, args: &RunArgs) -> crate::CommandResult {
    let step = &plan[number];
    let place = place(plan, number);
    let state = folder.state(plan, number);
    if state == State::Done {
        llm_cxr::basics::tell(format_args!("{place} is done"));
        return Ok(());
    }
    llm_cxr::basics::tell(format_args!("{place} ({}): {}", step.command, word(&state)));
    folder.begin(plan, number, args.redo)?;
    if folder.state(plan, number) == State::Done {
        llm_cxr::basics::tell(format_args!(
            "{place} is done: what was finished with these settings is back"
        ));
        return Ok(());
    }
    let stopped = || format!("stopped in {place}; {GOES_ON}");
    match work.run(args.device) {
        Err(error) => {
            folder.take_back(plan, number)?;
            Err(format!("{place}: {error}").into())
        }
        Ok(Outcome::Stopped(_)) => Err(stopped().into()),
        Ok(Outcome::Finished) => {
            folder.finish(plan, number)?;
            // A signal that came while a step without checkpoints was at work.
            if number + 1 < plan.len() && Stop::on_signals().asked() {
                return Err(format!("stopped after {place}; {GOES_ON}").into());
            }
            Ok(())
        }
    }
}

/// How a step is called in messages.
pub fn place(plan: &[Planned], number: usize) -> String {
    format!("step {} of {}: {}", number + 1, plan.len(), plan[number].name)
}

/// A state in words.
pub fn word(state: &State) -> String {
    match state {
        State::ToDo => "to do".to_owned(),
        State::Begun => "goes on".to_owned(),
        State::Done => "done".to_owned(),
        State::OtherSettings(changes) => format!("other settings ({})", changes.join("; ")),
        State::OtherInputs(changes) => format!("other inputs ({})", changes.join("; ")),
    }
}
