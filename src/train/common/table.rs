//! CSV tables with a header (RFC 4180: quoted fields may hold commas, line ends and doubled quotes).

use std::collections::HashMap;
use std::path::Path;

use super::TrainError;

/// A table read whole.
pub struct Table {
    columns: HashMap<String, usize>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Reads the file; each column of `needed` must be there.
    pub fn read(path: &Path, needed: &[&str]) -> Result<Self, TrainError> {
        let bytes = std::fs::read(path).map_err(|e| TrainError::io(path, e))?;
        let mut rows = parse(&String::from_utf8_lossy(&bytes)).into_iter();
        let header = rows.next().unwrap_or_default();
        let columns: HashMap<String, usize> = header
            .iter()
            .enumerate()
            .map(|(i, name)| (name.trim_start_matches('\u{feff}').trim().to_owned(), i))
            .collect();
        if let Some(missing) = needed.iter().find(|name| !columns.contains_key(**name)) {
            return Err(TrainError::Settings(format!(
                "{} has no column `{missing}`; its columns are {}",
                path.display(),
                header.join(", ")
            )));
        }
        Ok(Self {
            columns,
            rows: rows.collect(),
        })
    }

    /// Names of the columns, in no order.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.columns.keys().map(String::as_str)
    }

    /// The rows below the header.
    pub fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.rows.iter().map(|fields| Row { table: self, fields })
    }
}

/// A row of a table.
pub struct Row<'a> {
    table: &'a Table,
    fields: &'a [String],
}

impl<'a> Row<'a> {
    /// The field of this column; empty where there is none.
    pub fn get(&self, column: &str) -> &'a str {
        let field = self.table.columns.get(column).and_then(|&i| self.fields.get(i));
        field.map_or("", |f| f.trim())
    }
}

fn parse(text: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut field) = (Vec::new(), Vec::new(), String::new());
    let (mut quoted, mut chars) = (false, text.chars().peekable());
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => field.extend(chars.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut field)),
            '\n' if !quoted => {
                row.push(std::mem::take(&mut field));
                rows.push(std::mem::take(&mut row));
            }
            '\r' if !quoted => {}
            c => field.push(c),
        }
    }
    if !field.is_empty() || !row.is_empty() {
        row.push(field);
        rows.push(row);
    }
    rows.retain(|row| row.len() > 1 || row.first().is_some_and(|f| !f.is_empty()));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_hold_commas_line_ends_and_quotes() {
        let rows = parse("a,b\r\n\"x, \"\"y\"\"\nz\",2\n\n,3");
        assert_eq!(rows, [vec!["a", "b"], vec!["x, \"y\"\nz", "2"], vec!["", "3"]]);
    }

    #[test]
    fn a_missing_column_is_named_with_those_that_are_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.csv");
        std::fs::write(&path, "file,part\na.png,train\n").unwrap();
        let error = Table::read(&path, &["file", "split"]).err().unwrap().to_string();
        assert!(error.contains("`split`") && error.contains("file, part"), "{error}");
        let table = Table::read(&path, &["file"]).unwrap();
        assert_eq!(
            table.rows().map(|r| r.get("file").to_owned()).collect::<Vec<_>>(),
            ["a.png"]
        );
    }
}
