//! What was measured, as sections of tables and plots.

mod images;
mod texts;

use super::metrics::{LabelTable, Scores};
use super::page::{Block, Section, Table, figure, span};
use super::tasks::{Perplexity, SizeScores};
use super::{Evaluation, html, plots};

/// The page goes from hand to hand: that it is not to be passed on freely must stand on it.
const OF_THE_DATA: &str =
    "This page holds ids, and may hold images and texts, of the data: share it only where these may be shared.";

/// The page.
pub fn page(evaluation: &Evaluation) -> String {
    let (bundle, data) = (&evaluation.bundle, &evaluation.data);
    let facts = format!(
        "Bundle {} (version {}, {} codes an image of {} pixels), {} on {}, on {} images of {}. {}. Seed {}.",
        bundle.name,
        bundle.version,
        bundle.codes_per_image,
        bundle.image_side,
        bundle.dtype,
        bundle.device,
        data.images,
        data.name,
        evaluation.program,
        evaluation.command.seed,
    );
    let untrained = "This bundle is untrained: its weights are random, and everything below is noise.";
    let mut warnings = vec![evaluation.notice];
    warnings.extend(bundle.warning.as_deref());
    if !bundle.trained {
        warnings.push(untrained);
    }
    warnings.push(OF_THE_DATA);
    if evaluation.incomplete {
        warnings.push("An error ended this evaluation early: not all that was asked for is here.");
    }
    html::page(
        &format!("How good is {}?", bundle.name),
        &facts,
        &warnings,
        &sections(evaluation),
    )
}

/// All sections, the summary first.
pub fn sections(evaluation: &Evaluation) -> Vec<Section> {
    let mut sections = vec![summary(evaluation)];
    sections.extend(evaluation.reports.as_ref().map(texts::reports));
    sections.extend(evaluation.vqa.as_ref().map(texts::vqa));
    sections.extend(evaluation.drawings.as_ref().map(images::drawings));
    sections.extend(evaluation.reconstruction.as_ref().map(images::reconstruction));
    sections.extend(evaluation.auroc.as_ref().map(texts::auroc));
    sections.extend(evaluation.perplexity.as_ref().map(perplexity));
    sections.push(account(evaluation));
    sections
}

fn section(title: &str, blocks: Vec<Block>) -> Section {
    Section {
        title: title.to_owned(),
        blocks,
    }
}

fn summary(e: &Evaluation) -> Section {
    // Without a blind run its columns would hold dashes alone.
    let blind =
        e.reports.as_ref().is_some_and(|r| r.blind.is_some()) || e.vqa.as_ref().is_some_and(|v| v.blind.is_some());
    let columns = if blind { 5 } else { 3 };
    let mut table = Table::new("", &["measure", "value", "95 % interval", "blind", "drop"][..columns]);
    let mut row = |name: &str, value: String, interval: Option<(f64, f64)>, blind: Option<f64>, drop: Option<f64>| {
        let mut cells = vec![name.to_owned(), value, span(interval), figure(blind), figure(drop)];
        cells.truncate(columns);
        table.rows.push(cells);
    };
    let mut put = |name: &str, value: Option<f64>, interval: Option<(f64, f64)>, blind: Option<f64>| {
        let drop = value.zip(blind).map(|(value, blind)| value - blind);
        row(name, figure(value), interval, blind, drop);
    };
    if let Some(r) = &e.reports {
        let (own, blind) = (&r.scores, r.blind.as_ref());
        let micro = own.labels.micro.f1;
        put(
            "reports: micro-F1 over the 14 labels",
            micro,
            own.micro_f1_interval,
            blind.and_then(|b| b.labels.micro.f1),
        );
        let findings = own.labels.micro_findings.f1;
        put(
            "reports: micro-F1, No Finding left out",
            findings,
            None,
            blind.and_then(|b| b.labels.micro_findings.f1),
        );
        put(
            "reports: side right when mentioned",
            own.sides.accuracy,
            None,
            blind.and_then(|b| b.sides.accuracy),
        );
    }
    if let Some(v) = &e.vqa {
        let (own, blind) = (&v.scores.yes_no, v.blind.as_ref().map(|b| &b.yes_no));
        let name = "questions: accuracy, yes or no (balanced)";
        put(
            name,
            own.balanced_accuracy,
            own.balanced_interval,
            blind.and_then(|b| b.balanced_accuracy),
        );
    }
    if let Some(d) = &e.drawings {
        let drawn = &d.drawn;
        put(
            "drawings: micro-F1 of the requested findings",
            drawn.labels.micro_findings.f1,
            drawn.micro_findings_interval,
            None,
        );
        let real = &d.real;
        put(
            "the same on the data's own images, for comparison",
            real.labels.micro_findings.f1,
            real.micro_findings_interval,
            None,
        );
    }
    if let Some(r) = &e.reconstruction {
        row(
            "reconstruction: PSNR",
            format!("{:.2} dB", r.all.psnr),
            None,
            None,
            None,
        );
        row("reconstruction: SSIM", format!("{:.3}", r.all.ssim), None, None, None);
    }
    if let Some(a) = &e.auroc {
        row(
            &format!("AUROC of P(yes): {}", a.question),
            figure(a.auroc),
            a.interval,
            None,
            None,
        );
    }
    let intervals = [
        e.reports
            .as_ref()
            .map(|r| (r.scores.labels.micro.f1, r.scores.micro_f1_interval)),
        e.vqa
            .as_ref()
            .map(|v| (v.scores.yes_no.balanced_accuracy, v.scores.yes_no.balanced_interval)),
        e.drawings
            .as_ref()
            .map(|d| (d.drawn.labels.micro_findings.f1, d.drawn.micro_findings_interval)),
        e.drawings
            .as_ref()
            .map(|d| (d.real.labels.micro_findings.f1, d.real.micro_findings_interval)),
        e.auroc.as_ref().map(|a| (a.auroc, a.interval)),
    ];
    let alike = intervals
        .into_iter()
        .flatten()
        .any(|(value, interval)| lacks(value, interval));
    let notes = [e.data.synthetic(), alike.then(|| ALIKE.to_owned())];
    let notes: Vec<String> = notes.into_iter().flatten().collect();
    section("Summary", vec![Block::Table(table.note(&notes.join(" ")))])
}

/// Why a figure may have no interval.
const ALIKE: &str =
    "Where a figure has no interval though it could, all its resamples were alike: too little to say how sure it is.";

/// Whether a figure has no interval because its resamples were alike.
fn lacks(value: Option<f64>, interval: Option<(f64, f64)>) -> bool {
    value.is_some() && interval.is_none()
}

fn three(scores: &Scores) -> [String; 3] {
    [figure(scores.precision), figure(scores.recall), figure(scores.f1)]
}

/// Confusion, precision, recall and F1 of each label.
fn labels(title: &str, table: &LabelTable, note: &str) -> Table {
    let columns = [
        "label",
        "hits",
        "false alarms",
        "misses",
        "rejections",
        "precision",
        "recall",
        "F1",
    ];
    let mut out = Table::new(title, &columns).note(note);
    for one in &table.labels {
        let counts = [one.hits, one.false_alarms, one.misses, one.rejections].map(|n| n.to_string());
        out.rows
            .push([vec![one.label.clone()], counts.to_vec(), three(&one.scores).to_vec()].concat());
    }
    let blank = || vec![String::new(); 4];
    let mut sum =
        |name: &str, cells: [String; 3]| out.rows.push([vec![name.to_owned()], blank(), cells.to_vec()].concat());
    sum("all (micro)", three(&table.micro));
    sum("findings (micro)", three(&table.micro_findings));
    sum("all (macro)", [String::new(), String::new(), figure(table.macro_f1)]);
    out
}

/// Findings by size; nothing where none has one.
fn sizes(title: &str, told: &str, rows: &[SizeScores]) -> Option<Block> {
    let real = rows.iter().any(|row| row.real.is_some());
    let columns = ["finding", "size", "studies", told, "seen in the data's own image"];
    let mut table = Table::new(title, &columns[..if real { 5 } else { 4 }]);
    for row in rows {
        let mut cells = vec![
            row.label.clone(),
            row.size.to_owned(),
            row.studies.to_string(),
            figure(Some(row.told)),
        ];
        cells.extend(row.real.map(|real| figure(Some(real))));
        table.rows.push(cells);
    }
    (!rows.is_empty()).then_some(Block::Table(table))
}

/// F1 of each label that occurs, beside that of another table.
fn f1_bars(title: &str, legend: &[&str], tables: &[&LabelTable]) -> Block {
    let first = tables.first().map(|t| t.labels.as_slice()).unwrap_or_default();
    let rows = first.iter().filter(|l| l.scores.f1.is_some()).map(|label| {
        let of = |table: &&LabelTable| {
            table
                .labels
                .iter()
                .find(|l| l.label == label.label)
                .and_then(|l| l.scores.f1)
        };
        (label.label.clone(), tables.iter().map(of).collect())
    });
    Block::Plot(plots::bars(title, legend, &rows.collect::<Vec<_>>()))
}

fn perplexity(p: &Perplexity) -> Section {
    let mut table = Table::new(
        "The data's reports, foretold from their images",
        &["computed in", "perplexity"],
    );
    for one in std::iter::once(&p.own).chain(&p.compared) {
        table
            .rows
            .push(vec![one.dtype.clone(), format!("{:.4}", one.perplexity)]);
    }
    let mut note = format!("{} reports, {} tokens.", p.reports, p.tokens);
    if let Some(difference) = p.difference {
        note.push_str(&format!(
            " A token's log-probability differs by {difference:.5} on average."
        ));
    }
    section("Perplexity", vec![Block::Table(table.note(&note))])
}

/// At most so many of what was left out are named here; report.json names all.
const NAMED: usize = 20;

fn account(e: &Evaluation) -> Section {
    let mut table = Table::new("", &["image", "could not be used"]).note(&e.data.account);
    table.rows = e
        .skipped
        .iter()
        .take(NAMED)
        .map(|s| vec![s.id.clone(), s.reason.clone()])
        .collect();
    if e.skipped.len() > NAMED {
        table.rows.push(vec![
            "…".to_owned(),
            format!("{} more, in report.json", e.skipped.len() - NAMED),
        ]);
    }
    if e.skipped.is_empty() {
        table.rows.push(vec!["none".to_owned(), String::new()]);
    }
    section("Left out", vec![Block::Table(table)])
}
