//! What was said: reports, answers, P(yes).

use super::{ALIKE, f1_bars, labels, lacks, section, sizes, three};
use crate::evaluate::metrics::Calibration;
use crate::evaluate::page::{Block, Section, Table, figure, span};
use crate::evaluate::plots;
use crate::evaluate::tasks::{Agreement, Answers, PresenceScores, ReportScores, Reports, VqaScores};

pub(super) fn reports(r: &Reports) -> Section {
    let own = &r.scores;
    let note = format!(
        "{} reports; {} were cut off at the most tokens. Both texts are read by the rule-based labeler.",
        own.cases, own.cut_off
    );
    let mut blocks = vec![Block::Table(labels(
        "Generated against true reports",
        &own.labels,
        &note,
    ))];
    let mut tables = vec![&own.labels];
    tables.extend(r.blind.as_ref().map(|b| &b.labels));
    blocks.push(f1_bars(
        "F1 by label",
        &["own image", "another patient's image"][..tables.len()],
        &tables,
    ));
    let mut sides = Table::new(
        "Side, where both reports name the finding",
        &["label", "both name a side", "right", "accuracy", "side left out"],
    );
    let all = std::iter::once(("all".to_owned(), own.sides.clone())).chain(own.sides_by_label.iter().cloned());
    sides.rows = all
        .map(|(name, s)| {
            vec![
                name,
                s.mentioned.to_string(),
                s.right.to_string(),
                figure(s.accuracy),
                s.left_out.to_string(),
            ]
        })
        .collect();
    blocks.push(Block::Table(sides));
    let mut text = Table::new("Words", &["image", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "METEOR", "CIDEr"]).note(
        "BLEU as sacrebleu (13a, lower case, no smoothing, one reference), ROUGE-L as rouge-score without stemming, METEOR as nltk with exact \
         and stem matches but no synonyms, CIDEr-D as pycocoevalcap with the document frequencies of these references.",
    );
    let mut words = |name: &str, s: &ReportScores| {
        let b = s.text.bleu;
        let cells = [
            b.bleu_1,
            b.bleu_2,
            b.bleu_3,
            b.bleu_4,
            s.text.rouge_l,
            s.text.meteor,
            s.text.cider,
        ];
        text.rows.push(
            std::iter::once(name.to_owned())
                .chain(cells.map(|v| figure(Some(v))))
                .collect(),
        );
    };
    words("own image", own);
    r.blind.iter().for_each(|blind| words("another patient's image", blind));
    blocks.push(Block::Table(text));
    if let Some(blind) = &r.blind {
        let note = "Each report was written from another patient's image and held against this patient's report: what is guessed from \
                    frequency alone.";
        blocks.push(Block::Table(labels("Blind", &blind.labels, note)));
    }
    if let (Some(data), Some(labeler)) = (&r.against_data, &r.labeler) {
        let mut table = Table::new("Against the data's own labels", &["reports", "precision", "recall", "micro-F1"])
            .note(
                "The second line has true reports, read by the labeler, against the labels that came with the data: its own error, and, where these \
                 were made from another section of the report (MIMIC-CXR-JPG: the impression), what that leaves unsaid.",
            );
        for (name, scores) in [("generated reports", data), ("true reports", labeler)] {
            table
                .rows
                .push([vec![name.to_owned()], three(&scores.micro).to_vec()].concat());
        }
        blocks.push(Block::Table(table));
    }
    blocks.extend(r.agreement.as_ref().map(agreement));
    blocks.extend(sizes(
        "Findings by size, as the phantoms were made",
        "reported",
        &r.by_size,
    ));
    blocks.push(Block::Samples(r.samples.clone()));
    section("Reports", blocks)
}

fn agreement(a: &Agreement) -> Block {
    let c = a.calibration.as_ref();
    let mut table = Table::new("Agreement of readings", &["readings", "findings", "AUROC of the share", "Brier", "calibration error"])
        .note("Each image was read several times, and the report is the reading that the others agree with most. The share of the readings that affirm \
               a finding, against the true report, over all 14 observations of all images.");
    table.rows.push(vec![
        a.readings.to_string(),
        a.findings.to_string(),
        figure(a.auroc),
        figure(c.map(|c| c.brier)),
        figure(c.map(|c| c.error)),
    ]);
    Block::Table(table)
}

pub(super) fn vqa(a: &Answers) -> Section {
    let own = &a.scores.yes_no;
    let columns = [
        "image",
        "questions",
        "balanced accuracy",
        "accuracy",
        "AUROC of P(yes)",
        "Brier",
        "calibration error",
        "neither",
    ];
    let mut table = Table::new("Yes or no", &columns)
        .note("Balanced: within each topic yes and no count alike, and a topic by how often its rarer answer occurs. The calibration error is \
               the mean gap between P(yes) and the share that is yes, over ten bins.");
    let mut yes_no = |name: &str, scores: &VqaScores| {
        let s = &scores.yes_no;
        let c = s.calibration.as_ref();
        table.rows.push(vec![
            name.to_owned(),
            s.questions.to_string(),
            figure(s.balanced_accuracy),
            figure(s.accuracy),
            figure(s.auroc),
            figure(c.map(|c| c.brier)),
            figure(c.map(|c| c.error)),
            s.neither.to_string(),
        ]);
    };
    yes_no("own image", &a.scores);
    a.blind
        .iter()
        .for_each(|blind| yes_no("another patient's image", blind));
    let mut blocks = vec![Block::Table(table)];
    let mut topics = Table::new(
        "By topic",
        &[
            "topic",
            "yes",
            "no",
            "right of yes",
            "right of no",
            "balanced",
            "AUROC of P(yes)",
        ],
    );
    topics.rows = own
        .topics
        .iter()
        .map(|t| {
            let shares = [t.right_of_yes, t.right_of_no, t.balanced, t.auroc].map(figure);
            [
                vec![t.topic.clone(), t.yes.to_string(), t.no.to_string()],
                shares.to_vec(),
            ]
            .concat()
        })
        .collect();
    blocks.push(Block::Table(topics));
    blocks.extend(own.calibration.as_ref().map(reliability));
    let columns = ["kind", "questions", "exact", "F1 of words", "exact, blind"];
    let columns = &columns[..if a.blind.is_some() { 5 } else { 4 }];
    let mut kinds = Table::new("Other questions", columns)
        .note("Answers are compared in lower case, without points and articles, numbers as digits.");
    let blind = |kind| {
        a.blind
            .as_ref()
            .and_then(|b| b.kinds.iter().find(|k| k.kind == kind))
            .map(|k| k.exact)
    };
    kinds.rows = a
        .scores
        .kinds
        .iter()
        .map(|k| {
            let shares = [Some(k.exact), Some(k.word_f1), blind(k.kind)].map(figure);
            let mut cells = [vec![k.kind.name().to_owned(), k.questions.to_string()], shares.to_vec()].concat();
            cells.truncate(columns.len());
            cells
        })
        .collect();
    blocks.push(Block::Table(kinds));
    blocks.push(Block::Samples(a.samples.clone()));
    section("Questions", blocks)
}

fn reliability(c: &Calibration) -> Block {
    let points: Vec<(f64, f64)> = c
        .bins
        .iter()
        .filter(|b| b.count > 0)
        .map(|b| (b.mean, b.share))
        .collect();
    Block::Plot(plots::square(
        "Reliability of P(yes)",
        ("P(yes)", "share that is yes"),
        &points,
        true,
    ))
}

pub(super) fn auroc(a: &PresenceScores) -> Section {
    let note = format!(
        "{}: {} images with {}, {} without, {} of which it is not known.{}",
        a.data,
        a.positives,
        a.label,
        a.negatives,
        a.unknown,
        if lacks(a.auroc, a.interval) {
            format!(" {ALIKE}")
        } else {
            String::new()
        },
    );
    let c = a.calibration.as_ref();
    let table = Table::new(
        "",
        &[
            "question",
            "AUROC",
            "95 % interval",
            "accuracy at 0.5",
            "Brier",
            "calibration error",
        ],
    )
    .row([
        a.question.clone(),
        figure(a.auroc),
        span(a.interval),
        figure(a.accuracy),
        figure(c.map(|c| c.brier)),
        figure(c.map(|c| c.error)),
    ])
    .note(&note);
    let mut blocks = vec![Block::Table(table)];
    let axes = ("false-positive rate", "true-positive rate");
    blocks.push(Block::Plot(plots::square("ROC curve of P(yes)", axes, &a.curve, false)));
    blocks.extend(c.map(reliability));
    section("P(yes)", blocks)
}
