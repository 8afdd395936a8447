//! The words of a data set, for a tokenizer.

use super::{Account, DataError, Dataset, Split, Stage};

/// Every report, question, answer and plain instruction of the split `train`, in the order of the data. A study's questions are
/// read once for each of its images. What cannot be read is counted in `account`.
pub fn texts(dataset: &Dataset, account: &mut Account) -> Result<Vec<String>, DataError> {
    let mut texts = Vec::new();
    dataset.visit::<DataError>(account, &mut |record, account| {
        if record.split != Split::Train {
            return Ok(());
        }
        let id = record.id;
        if let Some(report) = record.report {
            match report.read(Stage::One) {
                Ok(text) => {
                    account.used("reports");
                    texts.push(text);
                }
                Err(reason) => account.skip(reason, || id.clone()),
            }
        }
        match record.questions.map(|questions| questions.read()) {
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
