use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use indicatif::{ProgressBar, ProgressDrawTarget};
use serde_json::json;
use tch::Tensor;

use super::bar::take_up;
use super::checkpoint::{Checkpoints, Restored, Snapshot, read_counts};
use super::drive::{Fault, Task, drive, finite};
use super::lock::hold_folder;
use super::plan::{Outcome, Plan};
use super::skips::{LeftOut, Skip};
use crate::train::common::TrainError;

/// Learns a number from the numbers it is shown, in their order.
#[derive(Default)]
struct Sum {
    sum: i64,
    evaluated: Vec<u64>,
    /// Where an export is put; by default the run's folder.
    exports_to: Option<PathBuf>,
    /// Whether a checkpoint was there at each export.
    covered: Vec<bool>,
    /// How often an export that was there had to be brought in line.
    restated: Cell<u32>,
    /// Whether exports find no room.
    full: bool,
    /// Whether the run has ended early.
    over: bool,
    /// The step of which the measurement ends it, if there is one.
    over_at: Option<u64>,
    /// The step of which a quantity is no number, if there is one.
    no_number_at: Option<u64>,
    /// An image that cannot be measured.
    unmeasured: Option<u64>,
}

/// An image that cannot be read.
fn broken(number: u64) -> Skip {
    Skip {
        id: format!("{number}.png"),
        ..Skip::from("image does not decode")
    }
}

/// Names, what was skipped, and a number.
type Shown = (Vec<String>, Vec<Skip>, i64);

impl Task for Sum {
    type Batch = Shown;

    fn account(batch: &Shown) -> (&[String], &[Skip]) {
        (&batch.0, &batch.1)
    }

    fn left_out(&mut self) -> LeftOut {
        LeftOut {
            images: self.unmeasured.take().into_iter().map(broken).collect(),
            ..LeftOut::default()
        }
    }

    fn step(&mut self, batch: &Shown, step: u64) -> Result<Vec<(String, f64)>, Fault> {
        if self.no_number_at == Some(step) {
            finite(&[("loss/sum".to_owned(), f64::NAN)])?;
        }
        self.sum = self.sum.wrapping_mul(31).wrapping_add(batch.2 + step as i64);
        Ok(vec![("loss/sum".to_owned(), 1.0)])
    }

    fn evaluate(&mut self, step: u64) -> Result<Vec<(String, f64)>, TrainError> {
        if self.full {
            return Err(TrainError::Settings("no room for the export".to_owned()));
        }
        self.evaluated.push(step);
        self.over |= self.over_at == Some(step);
        if let Some(out) = &self.exports_to {
            self.covered.push(out.join("checkpoints").exists());
            std::fs::write(out.join("exported"), step.to_string()).map_err(|e| TrainError::io(out, e))?;
        }
        Ok(vec![("validation/sum".to_owned(), self.sum as f64)])
    }

    fn snapshot(&self, step: u64) -> Snapshot {
        Snapshot {
            step,
            tensors: vec![("sum".to_owned(), Tensor::from_slice(&[self.sum]))],
            state: json!({}),
        }
    }

    fn restore(&mut self, restored: &Restored) -> Result<(), TrainError> {
        self.sum = read_counts(&restored.weights, "sum")?[0];
        Ok(())
    }

    fn restate(&self) -> Result<(), TrainError> {
        self.restated.set(self.restated.get() + 1);
        Ok(())
    }

    fn over(&self) -> bool {
        self.over
    }
}

fn plan(out: &Path, steps: u64) -> Plan {
    Plan {
        title: "sum".to_owned(),
        out: out.to_owned(),
        exports: "exported",
        steps,
        save_every: 50,
        eval_every: 0,
        log_every: 1,
        workers: 2,
    }
}

/// Batches of which those that `broken` names hold nothing.
fn batches(broken: fn(u64) -> bool) -> impl Fn(u64) -> Shown + Send + Sync + 'static {
    move |number| match broken(number) {
        true => (Vec::new(), vec![self::broken(number)], 0),
        false => (vec![format!("{number}.png")], Vec::new(), number as i64),
    }
}

fn run(task: &mut Sum, plan: &Plan, broken: fn(u64) -> bool) -> Result<Outcome, TrainError> {
    task.exports_to.get_or_insert_with(|| plan.out.clone());
    drive(task, plan, &json!({}), batches(broken), || false)
}

#[test]
fn a_step_without_anything_that_can_be_used_is_left_out_wherever_the_run_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let broken = |number: u64| matches!(number, 0 | 3 | 4 | 11);
    let mut whole = Sum::default();
    let outcome = run(&mut whole, &plan(&dir.path().join("whole"), 12), broken);
    assert_eq!(outcome.unwrap(), Outcome::Finished);
    let log = std::fs::read_to_string(dir.path().join("whole/log.jsonl")).unwrap();
    assert!(log.contains("\"data/left_out_steps\":4"), "{log}");
    for cut in [3, 4, 5] {
        let plan = plan(&dir.path().join(cut.to_string()), 12);
        let asked = AtomicU64::new(0);
        let stop = || asked.fetch_add(1, Ordering::Relaxed) + 1 == cut;
        let first = drive(&mut Sum::default(), &plan, &json!({}), batches(broken), stop);
        assert_eq!(first.unwrap(), Outcome::Stopped(cut));
        let mut rest = Sum::default();
        run(&mut rest, &plan, broken).unwrap();
        assert_eq!(rest.sum, whole.sum, "cut after {cut}");
    }
}

#[test]
fn an_image_that_cannot_be_read_counts_once_however_often_it_comes_up_and_is_named_in_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let list = || std::fs::read_to_string(dir.path().join("skipped.jsonl")).unwrap();
    let epochs = |number: u64| (vec!["0.png".to_owned()], vec![broken(number % 2 + 1)], 0);
    let mut task = Sum {
        exports_to: Some(dir.path().to_owned()),
        unmeasured: Some(9),
        ..Sum::default()
    };
    drive(&mut task, &plan(dir.path(), 6), &json!({}), epochs, || false).unwrap();
    let named: Vec<String> = [9, 1, 2]
        .map(|number| json!({"id": format!("{number}.png"), "reason": "image does not decode", "detail": "image does not decode"}))
        .map(|line| line.to_string())
        .into();
    assert_eq!(list().lines().collect::<Vec<_>>(), named);
    let log = std::fs::read_to_string(dir.path().join("log.jsonl")).unwrap();
    assert!(
        log.contains("\"data/skipped\":3") && !log.contains("\"data/skipped\":4"),
        "{log}"
    );
    // Taken up again it knows them still.
    run(&mut Sum::default(), &plan(dir.path(), 9), |number| number == 7).unwrap();
    assert_eq!(list().lines().count(), 4);
    assert!(list().starts_with("{\"") && list().contains("7.png"), "{}", list());
}

#[test]
fn a_hundred_such_steps_in_a_row_end_the_run_and_so_does_a_run_of_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let error = run(&mut Sum::default(), &plan(&dir.path().join("a"), 500), |n| n > 10).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("the last 100 batches can be used (up to that of step 110)"),
        "{error}"
    );
    let error = run(&mut Sum::default(), &plan(&dir.path().join("b"), 3), |_| true).unwrap_err();
    assert!(matches!(error, TrainError::NoData(_)), "{error}");
}

#[test]
fn what_cannot_be_exported_is_saved_and_exported_when_the_run_is_taken_up() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(dir.path(), 6);
    let mut full = Sum {
        full: true,
        ..Sum::default()
    };
    let error = run(&mut full, &plan, |_| false).unwrap_err().to_string();
    assert!(
        error.contains("no room for the export") && error.contains("the last good checkpoint is of step 6"),
        "{error}"
    );
    for evaluated in [&[6][..], &[]] {
        let mut task = Sum::default();
        assert_eq!(run(&mut task, &plan, |_| false).unwrap(), Outcome::Finished);
        assert_eq!((task.sum, &task.evaluated[..]), (full.sum, evaluated));
    }
    let newest = Checkpoints::new(dir.path().join("checkpoints"), 2)
        .newest()
        .unwrap()
        .0
        .unwrap();
    assert_eq!((newest.step, newest.state), (6, json!({})));
}

#[test]
fn two_runs_are_not_at_work_in_one_folder() {
    let dir = tempfile::tempdir().unwrap();
    let held = hold_folder(dir.path()).unwrap();
    let error = run(&mut Sum::default(), &plan(dir.path(), 2), |_| false).unwrap_err();
    assert!(error.to_string().contains("another run is at work"), "{error}");
    drop(held);
    run(&mut Sum::default(), &plan(dir.path(), 2), |_| false).unwrap();
}

#[test]
fn fewer_steps_than_were_made_are_refused_and_the_run_is_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    run(&mut Sum::default(), &plan(dir.path(), 6), |_| false).unwrap();
    let error = run(&mut Sum::default(), &plan(dir.path(), 3), |_| false).unwrap_err();
    assert!(error.to_string().contains("6 steps already"), "{error}");
    run(&mut Sum::default(), &plan(dir.path(), 6), |_| false).unwrap();
}

#[test]
fn a_run_that_what_is_measured_ends_makes_no_step_more_and_is_saved_there() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan {
        eval_every: 2,
        ..plan(dir.path(), 9)
    };
    let newest = || {
        Checkpoints::new(dir.path().join("checkpoints"), 2)
            .newest()
            .unwrap()
            .0
            .unwrap()
    };
    let mut task = Sum {
        over_at: Some(4),
        ..Sum::default()
    };
    assert_eq!(run(&mut task, &plan, |_| false).unwrap(), Outcome::Stopped(4));
    assert_eq!((&task.evaluated[..], newest().step), (&[2, 4][..], 4));
    // The same where the measurement was owed, and is made when the run is taken up.
    let dir = tempfile::tempdir().unwrap();
    let cut = self::plan(dir.path(), 4);
    let mut full = Sum {
        full: true,
        ..Sum::default()
    };
    run(&mut full, &cut, |_| false).unwrap_err();
    let mut rest = Sum {
        over_at: Some(4),
        ..Sum::default()
    };
    let longer = self::plan(dir.path(), 9);
    assert_eq!(run(&mut rest, &longer, |_| false).unwrap(), Outcome::Finished);
    assert_eq!((&rest.evaluated[..], rest.sum), (&[4][..], full.sum));
}

#[test]
fn a_run_that_has_ended_early_is_finished_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let first = plan(dir.path(), 4);
    run(&mut Sum::default(), &first, |_| false).unwrap();
    let log = || std::fs::read(dir.path().join("log.jsonl")).unwrap();
    let before = log();
    let mut over = Sum {
        over: true,
        ..Sum::default()
    };
    let longer = plan(dir.path(), 9);
    assert_eq!(run(&mut over, &longer, |_| false).unwrap(), Outcome::Finished);
    let checkpoints = || Checkpoints::new(dir.path().join("checkpoints"), 2);
    assert_eq!((log(), checkpoints().newest().unwrap().0.unwrap().step), (before, 4));
    // Not while another run is at work there.
    let held = hold_folder(dir.path()).unwrap();
    assert!(run(&mut over, &longer, |_| false).is_err());
    drop(held);
    over.over = false;
    run(&mut over, &longer, |_| false).unwrap();
    assert_eq!(checkpoints().newest().unwrap().0.unwrap().step, 9);
}

#[test]
fn a_run_that_has_ended_and_whose_export_is_gone_exports_again_and_learns_nothing_more() {
    let dir = tempfile::tempdir().unwrap();
    let exported = dir.path().join("exported");
    let mut first = Sum::default();
    run(&mut first, &plan(dir.path(), 6), |_| false).unwrap();
    // After its last step, and after an early end.
    for (over, steps) in [(false, 6), (true, 9)] {
        std::fs::remove_file(&exported).unwrap();
        for evaluated in [&[6][..], &[]] {
            let mut task = Sum { over, ..Sum::default() };
            let outcome = run(&mut task, &plan(dir.path(), steps), |_| false).unwrap();
            assert_eq!((outcome, &task.evaluated[..]), (Outcome::Finished, evaluated));
            assert_eq!(std::fs::read_to_string(&exported).unwrap(), "6");
            assert_eq!(task.sum, first.sum);
            // What is measured again is written down once.
            let log = std::fs::read_to_string(dir.path().join("log.jsonl")).unwrap();
            assert_eq!(log.matches("validation/sum").count(), 1, "{log}");
        }
    }
    // One that is cut before its next evaluation owes nothing yet.
    let longer = plan(dir.path(), 9);
    std::fs::remove_file(&exported).unwrap();
    let mut task = Sum::default();
    run(&mut task, &longer, |_| false).unwrap();
    assert_eq!(task.evaluated, [9]);
}

#[test]
fn a_run_that_is_through_and_has_left_nothing_has_not_ended_well() {
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut task = Sum {
        exports_to: Some(elsewhere.path().to_owned()),
        ..Sum::default()
    };
    let error = run(&mut task, &plan(dir.path(), 2), |_| false).unwrap_err();
    assert!(matches!(error, TrainError::NotExported(_)), "{error}");
}

#[test]
fn another_run_is_to_begin_from_what_was_exported_only_where_something_was() {
    for (at, told) in [(1, false), (3, true)] {
        let dir = tempfile::tempdir().unwrap();
        let plan = Plan {
            eval_every: 2,
            ..plan(dir.path(), 5)
        };
        let mut task = Sum {
            no_number_at: Some(at),
            ..Sum::default()
        };
        let error = run(&mut task, &plan, |_| false).unwrap_err().to_string();
        assert!(
            error.contains("NaN at step") && error.contains("another --out"),
            "{error}"
        );
        let from = format!("finetune --base: {}", dir.path().join("exported").display());
        assert_eq!(error.contains(&from), told, "{error}");
        assert_eq!(error.contains("--base"), told, "{error}");
    }
}

#[test]
fn nothing_is_exported_before_there_is_a_checkpoint_to_go_on_from() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan {
        eval_every: 2,
        ..plan(dir.path(), 5)
    };
    let mut task = Sum {
        exports_to: Some(dir.path().to_owned()),
        ..Sum::default()
    };
    run(&mut task, &plan, |_| false).unwrap();
    assert_eq!(
        (&task.evaluated[..], &task.covered[..]),
        (&[2, 4, 5][..], &[true; 3][..])
    );
    // As if killed right after the first export: it is measured again, and the run ends as it would have.
    let whole = task.sum;
    let checkpoints = Checkpoints::new(dir.path().join("checkpoints"), 2);
    std::fs::remove_dir_all(dir.path().join("checkpoints/step-0000000005")).unwrap();
    assert_eq!(checkpoints.newest().unwrap().0.unwrap().step, 2);
    let mut rest = Sum::default();
    run(&mut rest, &plan, |_| false).unwrap();
    assert_eq!((rest.sum, &rest.evaluated[..]), (whole, &[2, 4, 5][..]));
    assert_eq!((task.restated.get(), rest.restated.get()), (0, 1));
}

#[test]
fn a_run_that_waits_for_a_batch_that_never_comes_can_be_stopped_and_goes_on_from_there() {
    let dir = tempfile::tempdir().unwrap();
    let plan = |out: &str| plan(&dir.path().join(out), 5);
    let (hold, held) = std::sync::mpsc::sync_channel::<()>(0);
    let (held, asked) = (std::sync::Mutex::new(held), Cell::new(0));
    let batch = move |number: u64| {
        if number == 3 {
            let _ = held.lock().unwrap().recv();
        }
        batches(|_| false)(number)
    };
    let stop = || asked.replace(asked.get() + 1) >= 3;
    let first = drive(&mut Sum::default(), &plan("cut"), &json!({}), batch, stop);
    // On a busy machine a batch before it may be late enough to be asked about, too.
    assert!(matches!(first.unwrap(), Outcome::Stopped(0..=3)));
    drop(hold);
    let (mut rest, mut whole) = (Sum::default(), Sum::default());
    run(&mut rest, &plan("cut"), |_| false).unwrap();
    run(&mut whole, &plan("whole"), |_| false).unwrap();
    assert_eq!(rest.sum, whole.sum);
}

#[test]
fn steps_of_an_earlier_start_do_not_count_as_made_in_no_time() {
    let bar = ProgressBar::with_draw_target(Some(1000), ProgressDrawTarget::hidden());
    take_up(&bar, 900);
    assert_eq!((bar.position(), bar.per_sec()), (900, 0.0));
}

#[test]
fn a_run_that_has_lost_its_checkpoints_is_not_begun_anew_over_what_it_exported() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(dir.path(), 5);
    let exporting = || Sum {
        exports_to: Some(dir.path().to_owned()),
        ..Sum::default()
    };
    run(&mut exporting(), &plan, |_| false).unwrap();
    let exported = || std::fs::read_to_string(dir.path().join("exported")).unwrap();
    let state = dir.path().join("checkpoints/step-0000000005/state.json");
    std::fs::write(&state, "damaged").unwrap();
    let error = run(&mut exporting(), &plan, |_| false).unwrap_err().to_string();
    assert!(
        error.contains("step 5: state.json") && error.contains("remove the"),
        "{error}"
    );
    assert_eq!((exported().as_str(), state.exists()), ("5", true));
    std::fs::remove_dir_all(dir.path().join("checkpoints")).unwrap();
    let error = run(&mut exporting(), &plan, |_| false).unwrap_err().to_string();
    assert!(error.contains("no checkpoint to go on from"), "{error}");
    // Where nothing was exported nothing is lost by beginning anew.
    std::fs::remove_file(dir.path().join("exported")).unwrap();
    run(&mut exporting(), &plan, |_| false).unwrap();
    assert_eq!(exported(), "5");
}
