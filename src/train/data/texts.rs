//! The words of a data set, for a tokenizer.

use super::{Account, DataError, Dataset, MET, Met, Questions, Split, Stage};

/// Every report, question, answer and plain instruction of the split `train`, in the order of the data. A report that several rows or images
/// have, and the file of a study's questions, are read once. What cannot be used is counted in `account`.
///
/// # Errors
/// When the data set cannot be read, or one of its files that may be there.
pub fn texts(dataset: &Dataset, account: &mut Account) -> Result<Vec<String>, DataError> {
    let (mut texts, mut met) = (Vec::new(), Met::default());
    dataset.visit::<DataError>(account, &mut |record, account| {
        if record.split != Split::Train {
            return Ok(());
        }
        let id = record.id;
        let new = record.report.filter(|report| {
            let new = met.source(report);
            if !new {
                account.skip(MET, || id.clone());
            }
            new
        });
        let read = new.map(|report| report.read(Stage::One)).transpose();
        match read.map_err(|reason| DataError::unread("report", &id, reason))? {
            Some(Ok(text)) => {
                account.used("reports");
                texts.push(text);
            }
            Some(Err(reason)) => account.skip(reason, || id.clone()),
            None => {}
        }
        // Those of a manifest stand in rows of their own; the images of a study share a file.
        let new = record.questions.filter(|questions| match questions {
            Questions::File(path) => met.file(path),
            Questions::List(_) => true,
        });
        let read = new.map(|questions| questions.read()).transpose();
        match read.map_err(|reason| DataError::unread("questions", &id, reason))? {
            Some(Ok(list)) => {
                account.used("lists of questions");
                texts.extend(list.into_iter().flat_map(|pair| [pair.question, pair.answer]));
            }
            Some(Err(reason)) => account.skip(reason, || id.clone()),
            None => {}
        }
        if let Some(plain) = record.instruction {
            account.used("instructions");
            texts.push(plain.instruction);
            texts.extend(plain.context);
            texts.push(plain.response);
        }
        Ok(())
    })?;
    Ok(texts)
}
