//! What was drawn: drawings and reconstructions.

use super::{f1_bars, labels, section, sizes};
use crate::evaluate::page::{Block, Section, Table, figure};
use crate::evaluate::tasks::{Drawings, ReadScores, Reconstruction};

pub(super) fn drawings(d: &Drawings) -> Section {
    let note = format!(
        "{} drawings, one from each report, sampled as the service does by default, read by the classifier at a probability of one half; \
         what the report leaves open is not scored.",
        d.cases
    );
    let mut blocks = vec![
        Block::Table(labels(
            "Drawn images against the requested findings",
            &d.drawn.labels,
            &note,
        )),
        Block::Table(labels(
            "The data's own images of the same studies, for comparison",
            &d.real.labels,
            "",
        )),
        f1_bars("F1 by label", &["drawn", "data"], &[&d.drawn.labels, &d.real.labels]),
    ];
    let mut areas = Table::new("AUROC of the classifier", &["label", "drawn", "data"]);
    let pairs = d.drawn.auroc.iter().zip(&d.real.auroc);
    areas.rows = pairs
        .map(|(drawn, real)| vec![drawn.0.clone(), figure(drawn.1), figure(real.1)])
        .collect();
    blocks.push(Block::Table(areas));
    let f = &d.frechet;
    let note = format!(
        "Of the classifier's features, {} drawn and {} of the data. The distance grows as samples get fewer, so only the last two lines, with \
         as many images each, compare.",
        f.images.0, f.images.1
    );
    let table = Table::new("Fréchet distance", &["between", "distance"])
        .row(["drawn and data".to_owned(), figure(f.drawn_real)])
        .row([
            "half of the drawn and the other half of the data".to_owned(),
            figure(f.drawn_half_real_half),
        ])
        .row(["the two halves of the data (floor)".to_owned(), figure(f.real_halves)])
        .note(&note);
    blocks.push(Block::Table(table));
    blocks.extend(sizes(
        "Findings by size, as the phantoms were made",
        "seen in the drawing",
        &d.by_size,
    ));
    blocks.push(Block::Samples(d.samples.clone()));
    section("Drawings", blocks)
}

pub(super) fn reconstruction(r: &Reconstruction) -> Section {
    let mut table = Table::new(
        "Images through the VQ-GAN and back",
        &["images", "number", "PSNR (dB)", "SSIM"],
    );
    let all = std::iter::once(("all".to_owned(), r.all.clone()))
        .chain(r.by_label.iter().map(|(n, l)| (format!("with {n}"), l.clone())));
    table.rows = all
        .map(|(name, l)| {
            vec![
                name,
                l.images.to_string(),
                format!("{:.2}", l.psnr),
                figure(Some(l.ssim)),
            ]
        })
        .collect();
    let note = format!(
        "{:.1} % of the code book is used, with a perplexity of {:.1}.",
        r.codes_used * 100.0,
        r.code_perplexity
    );
    let mut blocks = vec![Block::Table(table.note(&note))];
    if let Some(read) = &r.read {
        let mut table = Table::new(
            "What the classifier still sees",
            &[
                "label",
                "seen before",
                "still seen",
                "decided alike",
                "F1 before",
                "F1 reconstructed",
                "AUROC before",
                "AUROC reconstructed",
            ],
        );
        for a in &read.agreement {
            let of = |scores: &Option<ReadScores>| {
                let f1 = scores
                    .as_ref()
                    .and_then(|s| s.labels.labels.iter().find(|l| l.label == a.label))
                    .and_then(|l| l.scores.f1);
                let area = scores
                    .as_ref()
                    .and_then(|s| s.auroc.iter().find(|l| l.0 == a.label))
                    .and_then(|l| l.1);
                (f1, area)
            };
            let (real, after) = (of(&read.real), of(&read.reconstructed));
            let shares = [a.kept, Some(a.alike), real.0, after.0, real.1, after.1].map(figure);
            table
                .rows
                .push([vec![a.label.clone(), a.seen.to_string()], shares.to_vec()].concat());
        }
        let note = format!(
            "Mean squared difference of the classifier's features: {:.4}.",
            read.feature_distance
        );
        blocks.push(Block::Table(table.note(&note)));
        blocks.extend(sizes(
            "Findings by size, as the phantoms were made",
            "still seen",
            &read.by_size,
        ));
        if let (Some(real), Some(after)) = (&read.real, &read.reconstructed) {
            blocks.push(f1_bars(
                "F1 by label",
                &["before", "reconstructed"],
                &[&real.labels, &after.labels],
            ));
        }
    }
    blocks.push(Block::Samples(r.samples.clone()));
    section("Reconstruction", blocks)
}
