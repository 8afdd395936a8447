//! The table for drafts of a bundle that was made without one, or from other reports.

use std::path::Path;

use super::common::{TrainError, split_share};
use super::data::{Account, DataError, Dataset, Split, Stage};
use super::language_model::{Encoder, Response};
use crate::model::bundle::{Bundle, DRAFTS, add_file, find_bundle};
use crate::model::drafts::DraftTable;
use crate::vocabulary::Input;

/// Makes the table from the reports of the split `train` of these data sets, as `stage` learns them, and puts it into the bundle. Gives what
/// was read and how many guesses the table holds.
///
/// # Errors
/// When the bundle or the data cannot be read, when they hold too few reports for a table, and when the bundle cannot be written to.
pub fn add_drafts(folder: &Path, data: &[String], stage: Stage) -> Result<(Account, usize), TrainError> {
    let folder = &find_bundle(folder);
    let bundle = Bundle::open(folder)?;
    let encoder = Encoder::new(bundle.vocabulary()?);
    let instruction = &bundle.manifest.default_instructions.report;
    let blank = vec![0u16; bundle.vqgan.codes_per_image()];
    let (mut account, mut texts) = (Account::default(), Vec::new());
    for spec in data {
        let dataset = Dataset::open(Path::new(split_share(spec).0))?;
        dataset.visit::<DataError>(&mut account, &mut |record, account| {
            let Some(report) = record.report.filter(|_| record.split == Split::Train) else {
                return Ok(());
            };
            let read = report.read(stage);
            match read.map_err(|reason| DataError::unread("report", &record.id, reason))? {
                Ok(text) => {
                    account.used("reports");
                    texts.push(encoder.example(instruction, Input::Image(0), &blank, Response::Text(&text)));
                }
                Err(reason) => account.skip(reason, || record.id),
            }
            Ok(())
        })?;
    }
    let table = DraftTable::of_texts(texts.iter().map(|text| (&text.ids[..], text.response)));
    if table.is_empty() {
        return Err(TrainError::NoData(format!(
            "these reports have too little in common for a table of drafts: {account}"
        )));
    }
    add_file(folder, DRAFTS, &|path| Ok(table.write(path)?))?;
    Ok((account, table.len()))
}
