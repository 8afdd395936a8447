//! What is shown, whether on a terminal or as a page: sections of tables, plots and samples.

/// A table.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Above it.
    pub title: String,
    /// Heads; the first column holds names, the others figures.
    pub columns: Vec<String>,
    /// Rows, as long as the heads.
    pub rows: Vec<Vec<String>>,
    /// Below it.
    pub note: String,
}

/// A study that is shown.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Its name.
    pub title: String,
    /// Captions and PNG files.
    pub figures: Vec<(String, Vec<u8>)>,
    /// Headings and texts.
    pub texts: Vec<(String, String)>,
}

/// A piece of a section.
#[derive(Clone, Debug)]
pub enum Block {
    /// A table.
    Table(Table),
    /// A plot as SVG; on the page alone.
    Plot(String),
    /// Studies; on the page alone.
    Samples(Vec<Sample>),
}

/// One measurement.
#[derive(Clone, Debug)]
pub struct Section {
    /// Its name.
    pub title: String,
    /// What it is made of.
    pub blocks: Vec<Block>,
}

impl Table {
    /// A table without rows.
    pub fn new(title: &str, columns: &[&str]) -> Self {
        Self {
            title: title.to_owned(),
            columns: columns.iter().map(|c| (*c).to_owned()).collect(),
            ..Self::default()
        }
    }

    /// With a row.
    pub fn row(mut self, cells: impl IntoIterator<Item = String>) -> Self {
        self.rows.push(cells.into_iter().collect());
        self
    }

    /// With a note.
    pub fn note(mut self, note: &str) -> Self {
        note.clone_into(&mut self.note);
        self
    }
}

/// A share or score to three places; a dash where there is none.
pub fn figure(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |v| format!("{v:.3}"))
}

/// An interval to three places.
pub fn span(value: Option<(f64, f64)>) -> String {
    value.map_or_else(|| "–".to_owned(), |(low, high)| format!("{low:.3} … {high:.3}"))
}

/// The sections as text for a terminal; the first, the summary, comes last, where it is seen.
pub fn text(sections: &[Section]) -> String {
    let mut out = String::new();
    for section in sections.iter().skip(1).chain(sections.first()) {
        out.push_str(&format!(
            "\n{}\n{}\n",
            section.title,
            "=".repeat(section.title.chars().count())
        ));
        for block in &section.blocks {
            if let Block::Table(table) = block {
                lines(table, &mut out);
            }
        }
    }
    out
}

fn lines(table: &Table, out: &mut String) {
    let length = |text: &String| text.chars().count();
    let width = |column: usize| {
        let cells = table.rows.iter().filter_map(|row| row.get(column)).map(length);
        cells.chain(table.columns.get(column).map(length)).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..table.columns.len()).map(width).collect();
    let mut line = |cells: &[String]| {
        let padded = cells
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(at, (cell, &width))| match at {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
        let joined = padded.collect::<Vec<_>>().join("  ");
        out.push_str(joined.trim_end());
        out.push('\n');
    };
    line(&[String::new()]);
    if !table.title.is_empty() {
        line(std::slice::from_ref(&table.title));
    }
    line(&table.columns);
    table.rows.iter().for_each(|row| line(row));
    if !table.note.is_empty() {
        out.push_str(&table.note);
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_on_a_terminal() {
        let table = Table::new("Scores", &["label", "F1"])
            .row(["Edema".to_owned(), figure(Some(0.5))])
            .row(["No Finding".to_owned(), figure(None)])
            .note("n = 2");
        let section = Section {
            title: "Reports".to_owned(),
            blocks: vec![Block::Table(table)],
        };
        let shown = text(&[section]);
        assert!(
            shown.contains("label          F1\nEdema       0.500\nNo Finding      –\nn = 2\n"),
            "{shown}"
        );
    }
}
