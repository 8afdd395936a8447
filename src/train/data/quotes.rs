//! Quotes of tables. The reader of tables takes everything from a quote that nobody closes up to the next one, or to the end of the file, for
//! one text, and says nothing: rows would be learned as a part of a report, those for testing among them.

use std::fmt;
use std::io::{self, Read};

const MARK: &[u8] = "\u{feff}".as_bytes();

/// Hands on the bytes of a comma-separated table up to a quote that is out of place; from there on reading is an error, [`Misplaced`].
///
/// A quote begins a text only where it is the first of its field; elsewhere in a field it is a letter, here as for the reader of tables.
pub(super) struct Paired<R> {
    table: R,
    state: State,
    /// Counted from 1, as the reader of tables does.
    line: u64,
    /// In which the last text in quotes begins.
    opened: u64,
    fault: Option<Misplaced>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Behind so many bytes of the mark that may stand before the first field.
    Mark(usize),
    /// Before the first byte of a field.
    Start,
    /// In a field without quotes around it.
    Bare,
    /// In a text in quotes.
    Quoted,
    /// Behind a quote in such a text: its end, or the first of two.
    Quote,
    /// Behind blanks that follow its end.
    Blank,
}

impl<R> Paired<R> {
    pub(super) fn new(table: R) -> Self {
        Self {
            table,
            state: State::Mark(0),
            line: 1,
            opened: 1,
            fault: None,
        }
    }

    /// What stands behind `byte`; `None` where it may not stand.
    fn behind(&self, byte: u8) -> Option<State> {
        Some(match (self.state, byte) {
            (State::Quoted, b'"') => State::Quote,
            (State::Quoted, _) | (State::Quote, b'"') => State::Quoted,
            (_, b',' | b'\r' | b'\n') => State::Start,
            (State::Mark(0) | State::Start, b'"') => State::Quoted,
            (State::Mark(at), _) if MARK.get(at) == Some(&byte) => match at + 1 == MARK.len() {
                true => State::Start,
                false => State::Mark(at + 1),
            },
            (State::Mark(_) | State::Start | State::Bare, _) => State::Bare,
            (State::Quote | State::Blank, b' ') => State::Blank,
            // The columns of such a table say what is wrong with it.
            (State::Quote | State::Blank, b';' | b'\t') if self.line == 1 => State::Bare,
            (State::Quote | State::Blank, _) => return None,
        })
    }

    /// How many of these bytes are in place. What is wrong with the next one is kept.
    fn follow(&mut self, bytes: &[u8]) -> usize {
        for (at, &byte) in bytes.iter().enumerate() {
            let Some(state) = self.behind(byte) else {
                self.fault = Some(Misplaced {
                    line: self.line,
                    opened: self.opened,
                    closed: true,
                });
                return at;
            };
            if matches!(self.state, State::Mark(_) | State::Start) && state == State::Quoted {
                self.opened = self.line;
            }
            self.state = state;
            self.line += u64::from(byte == b'\n');
        }
        bytes.len()
    }
}

impl<R: Read> Read for Paired<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if let Some(fault) = self.fault {
            return Err(io::Error::other(fault));
        }
        let read = self.table.read(into)?;
        if read == 0 && !into.is_empty() && self.state == State::Quoted {
            let (line, opened) = (self.opened, self.opened);
            let fault = Misplaced {
                line,
                opened,
                closed: false,
            };
            self.fault = Some(fault);
            return Err(io::Error::other(fault));
        }
        let good = self.follow(&into[..read]);
        match self.fault {
            // No byte would say that the table ends here.
            Some(fault) if good == 0 => Err(io::Error::other(fault)),
            _ => Ok(good),
        }
    }
}

/// A quote that is out of place in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Misplaced {
    /// Counted from 1.
    pub(super) line: u64,
    /// In which the text in quotes begins.
    opened: u64,
    /// Whether the text ends, and has something behind it.
    closed: bool,
}

impl Misplaced {
    /// If it is this why the table could not be read.
    pub(super) fn of(reason: &io::Error) -> Option<Self> {
        reason.get_ref()?.downcast_ref::<Self>().copied()
    }
}

impl fmt::Display for Misplaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const HOW: &str = "write quotes within a text twice (\"\")";
        let opened = match self.opened == self.line {
            true => String::new(),
            false => format!(", which is opened in line {},", self.opened),
        };
        match self.closed {
            false => write!(f, "a quote that is opened here is never closed; close it, and {HOW}"),
            true => write!(
                f,
                "a text in quotes{opened} has something behind its last quote before the next comma; {HOW}"
            ),
        }
    }
}

impl std::error::Error for Misplaced {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Gives at most so many bytes at a time.
    struct Drops<'a>(&'a [u8], usize);

    impl Read for Drops<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let most = self.1.min(into.len());
            self.0.read(&mut into[..most])
        }
    }

    /// What is handed on, and what is wrong behind it.
    fn read(table: impl Read) -> (Vec<u8>, Option<Misplaced>) {
        let (mut table, mut read, mut part) = (Paired::new(table), Vec::new(), [0; 64]);
        loop {
            match table.read(&mut part) {
                Ok(0) => return (read, None),
                Ok(more) => read.extend_from_slice(&part[..more]),
                Err(reason) => return (read, Some(Misplaced::of(&reason).unwrap())),
            }
        }
    }

    fn told(table: &str) -> Option<(u64, String)> {
        let (_, fault) = read(table.as_bytes());
        fault.map(|fault| (fault.line, fault.to_string()))
    }

    #[test]
    fn a_table_whose_quotes_pair_is_handed_on_as_it_is() {
        for table in [
            "",
            "\n",
            "a,b\n1,2\n",
            "a,b\r\n\"1, \"\"one\"\"\",\"2\n3\"\r\n",
            "\"a\",\"\"\r\"\",\"b\"",
            // A letter like others.
            "5\" tube,a \"b\"\n",
            " \"a\",b\n",
            "\"a\" ,\"b\"  \n",
            "\u{feff}\"a\",b\n",
            // Of another kind, which the names of its columns tell.
            "\"a\";\"b\"\n1;2\n",
        ] {
            assert_eq!(read(table.as_bytes()), (table.as_bytes().to_vec(), None), "{table:?}");
        }
    }

    #[test]
    fn a_quote_that_nobody_closes_is_told_with_the_line_in_which_it_opens() {
        for table in ["a\nb,\"c\nd\ne\n", "a\n\"", "a\nb,\"c\"\"\nd", "a\r\nb,\"c,d\r\n"] {
            let (line, told) = told(table).unwrap();
            assert!(
                line == 2 && told.contains("opened here is never closed"),
                "{line}: {told}"
            );
        }
    }

    #[test]
    fn what_follows_the_end_of_a_text_in_quotes_is_told_and_all_before_it_is_read() {
        let table = "a,b\n1,\"2\n3,\"4\"\n";
        let (read, fault) = read(table.as_bytes());
        assert_eq!(read, b"a,b\n1,\"2\n3,\"");
        let fault = fault.unwrap();
        assert_eq!((fault.line, fault.opened), (3, 2));
        assert!(fault.to_string().contains("opened in line 2"), "{fault}");
        for table in ["a\n\"He said \"no\"\"\n", "a\n\"b\" \"c\"\n", "a\n\"b\";c\n"] {
            let (line, told) = told(table).unwrap();
            assert!(line == 2 && told.contains("behind its last quote"), "{line}: {told}");
        }
    }

    fn rows(table: impl Read) -> Vec<csv::StringRecord> {
        let mut reader = csv::ReaderBuilder::new();
        let mut reader = reader.has_headers(false).flexible(true).from_reader(table);
        reader.records().map(Result::unwrap).collect()
    }

    proptest! {
        #[test]
        fn however_a_table_is_cut_into_parts_the_verdict_is_the_same(table in "\u{feff}?[a\"\n\r, ;é]{0,24}", most in 1usize..5) {
            let whole = read(table.as_bytes());
            prop_assert_eq!(read(Drops(table.as_bytes(), most)), whole);
        }

        #[test]
        fn every_table_that_is_written_as_it_should_be_passes(
            rows in prop::collection::vec(prop::collection::vec("[a\"\n\r,; é]{0,6}", 3), 1..6),
            quote in any::<bool>(),
        ) {
            let style = if quote { csv::QuoteStyle::Always } else { csv::QuoteStyle::Necessary };
            let mut writer = csv::WriterBuilder::new().quote_style(style).from_writer(Vec::new());
            for row in &rows {
                writer.write_record(row).unwrap();
            }
            let table = writer.into_inner().unwrap();
            prop_assert_eq!(read(&table[..]), (table.clone(), None));
        }

        #[test]
        fn a_table_that_passes_is_read_as_without_this(table in "[a\"\n\r, ]{0,24}") {
            if read(table.as_bytes()).1.is_none() {
                prop_assert_eq!(rows(Paired::new(table.as_bytes())), rows(table.as_bytes()));
            }
        }
    }
}
