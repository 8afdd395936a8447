//! Whether the share of readings that affirm a finding means what it says.

use serde::Serialize;

use super::super::metrics::{Calibration, calibration};
use crate::labeler::Reading;
use crate::phantom::LABELS;
use crate::service::Consensus;
use crate::train::classifier::scores::auroc;

use super::Context;

/// The share of an image's readings that affirm a finding, against the true report.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Agreement {
    /// Readings of each image.
    pub readings: usize,
    /// Findings of images, as many as there are images times observations.
    pub findings: usize,
    /// Area under the curve of shares.
    pub auroc: Option<f64>,
    /// Shares taken as probabilities.
    pub calibration: Option<Calibration>,
}

/// Of what was agreed on for each image and what is read of the true report; `None` where images were read once.
pub(super) fn agreement<'a>(
    context: &Context<'_>,
    told: impl Iterator<Item = (&'a Option<Consensus>, &'a Reading)>,
) -> Option<Agreement> {
    let (mut points, mut readings) = (Vec::new(), 0);
    for (consensus, reference) in told {
        let Some(consensus) = consensus else { continue };
        readings = readings.max(consensus.readings);
        for (finding, &label) in LABELS.iter().zip(&reference.labels) {
            let of = consensus.findings.iter().find(|one| one.finding == *finding);
            points.push((of.map_or(0.0, |one| one.share), context.present(label)));
        }
    }
    (readings > 0).then(|| Agreement {
        readings,
        findings: points.len(),
        auroc: auroc(&points),
        calibration: calibration(&points),
    })
}
