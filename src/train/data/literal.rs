//! Python literals (lists, dictionaries, strings, numbers, True, False, None), parsed and never evaluated.

use std::iter::Peekable;
use std::str::Chars;

/// Deeper nesting is refused, so that a hostile file cannot exhaust the stack.
const DEEPEST: usize = 32;

/// A parsed literal.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// Any number.
    Number(f64),
    /// A string in any quotes; adjacent strings are joined.
    Text(String),
    /// A list or tuple.
    List(Vec<Literal>),
    /// A dictionary, in order.
    Dict(Vec<(Literal, Literal)>),
}

impl Literal {
    /// The value of a dictionary's string key.
    pub fn get(&self, key: &str) -> Option<&Literal> {
        match self {
            Self::Dict(items) => items.iter().rev().find(|(k, _)| k.text() == Some(key)).map(|(_, v)| v),
            _ => None,
        }
    }

    /// The text of a string.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// What is not a literal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a Python literal: {0}")]
pub struct LiteralError(&'static str);

/// Parses one literal that makes up the whole text.
pub fn parse_literal(text: &str) -> Result<Literal, LiteralError> {
    let mut parser = Parser(text.chars().peekable());
    let value = parser.value(0)?;
    match parser.next_solid() {
        None => Ok(value),
        Some(_) => Err(LiteralError("something follows the value")),
    }
}

struct Parser<'a>(Peekable<Chars<'a>>);

impl Parser<'_> {
    /// The next character that is not white space, not taken.
    fn next_solid(&mut self) -> Option<char> {
        while self.0.next_if(|c| c.is_whitespace()).is_some() {}
        self.0.peek().copied()
    }

    fn value(&mut self, depth: usize) -> Result<Literal, LiteralError> {
        if depth > DEEPEST {
            return Err(LiteralError("nested too deeply"));
        }
        match self.next_solid() {
            Some('[') => self.items(']', depth),
            Some('(') => self.items(')', depth),
            Some('{') => self.dict(depth),
            Some('\'' | '"') => self.strings(),
            Some(c) if c.is_ascii_digit() || matches!(c, '-' | '+' | '.') => self.number(),
            Some(c) if c.is_ascii_alphabetic() => self.word(),
            Some(_) => Err(LiteralError("unexpected character")),
            None => Err(LiteralError("the text ends early")),
        }
    }

    fn items(&mut self, close: char, depth: usize) -> Result<Literal, LiteralError> {
        self.0.next();
        let mut items = Vec::new();
        loop {
            if self.next_solid() == Some(close) {
                self.0.next();
                return Ok(Literal::List(items));
            }
            items.push(self.value(depth + 1)?);
            self.separator(close)?;
        }
    }

    fn dict(&mut self, depth: usize) -> Result<Literal, LiteralError> {
        self.0.next();
        let mut items = Vec::new();
        loop {
            if self.next_solid() == Some('}') {
                self.0.next();
                return Ok(Literal::Dict(items));
            }
            let key = self.value(depth + 1)?;
            if self.next_solid() != Some(':') {
                return Err(LiteralError("a dictionary's key lacks its value"));
            }
            self.0.next();
            items.push((key, self.value(depth + 1)?));
            self.separator('}')?;
        }
    }

    /// Takes a comma, or leaves the closing bracket.
    fn separator(&mut self, close: char) -> Result<(), LiteralError> {
        match self.next_solid() {
            Some(',') => {
                self.0.next();
                Ok(())
            }
            Some(c) if c == close => Ok(()),
            _ => Err(LiteralError("items are not separated by commas")),
        }
    }

    fn number(&mut self) -> Result<Literal, LiteralError> {
        let mut text = String::new();
        while let Some(c) = self
            .0
            .next_if(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '_'))
        {
            text.push(c);
        }
        let value = text.replace('_', "").parse();
        value.map(Literal::Number).map_err(|_| LiteralError("malformed number"))
    }

    fn word(&mut self) -> Result<Literal, LiteralError> {
        let mut word = String::new();
        while let Some(c) = self.0.next_if(|c| c.is_alphanumeric() || *c == '_') {
            word.push(c);
        }
        match word.as_str() {
            "None" => Ok(Literal::None),
            "True" => Ok(Literal::Bool(true)),
            "False" => Ok(Literal::Bool(false)),
            _ => Err(LiteralError(
                "a name stands where a value should; names and calls are not evaluated",
            )),
        }
    }

    fn strings(&mut self) -> Result<Literal, LiteralError> {
        let mut text = String::new();
        while let Some('\'' | '"') = self.next_solid() {
            self.string(&mut text)?;
        }
        Ok(Literal::Text(text))
    }

    fn string(&mut self, out: &mut String) -> Result<(), LiteralError> {
        const OPEN: LiteralError = LiteralError("a string is not closed");
        let quote = self.0.next().ok_or(OPEN)?;
        let mut long = false;
        if self.0.next_if_eq(&quote).is_some() {
            if self.0.next_if_eq(&quote).is_none() {
                return Ok(());
            }
            long = true;
        }
        let mut closing = 0;
        loop {
            let c = self.0.next().ok_or(OPEN)?;
            if c == quote {
                closing += 1;
                if !long || closing == 3 {
                    return Ok(());
                }
                continue;
            }
            out.extend(std::iter::repeat_n(quote, std::mem::take(&mut closing)));
            match c {
                '\\' => self.escape(out)?,
                '\n' if !long => return Err(OPEN),
                c => out.push(c),
            }
        }
    }

    fn escape(&mut self, out: &mut String) -> Result<(), LiteralError> {
        const BAD: LiteralError = LiteralError("malformed escape in a string");
        let c = self.0.next().ok_or(BAD)?;
        let digits = match c {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => 0,
        };
        if digits > 0 {
            let hex: String = self.0.by_ref().take(digits).collect();
            let code = u32::from_str_radix(&hex, 16).map_err(|_| BAD)?;
            out.push(char::from_u32(code).filter(|_| hex.len() == digits).ok_or(BAD)?);
            return Ok(());
        }
        match c {
            '\n' => {}
            'n' => out.push('\n'),
            't' => out.push('\t'),
            'r' => out.push('\r'),
            '0' => out.push('\0'),
            '\\' | '\'' | '"' => out.push(c),
            other => out.extend(['\\', other]),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(text: &str) -> Literal {
        Literal::Text(text.to_owned())
    }

    #[test]
    fn a_question_file_is_read_as_python_writes_it() {
        let file = r#"[{'question': "Is the heart 'large'?", 'answer': 'No.'},
            {"question": 'It\'s where?', "answer": "caf\u00e9\n" 'x',}, ]"#;
        let Literal::List(list) = parse_literal(file).unwrap() else {
            panic!("a list")
        };
        assert_eq!(list[0].get("question"), Some(&text("Is the heart 'large'?")));
        assert_eq!(list[1].get("question"), Some(&text("It's where?")));
        assert_eq!(list[1].get("answer"), Some(&text("café\nx")));
    }

    #[test]
    fn every_kind_of_literal_is_known() {
        let parsed = parse_literal("(None, True, False, -1.5e3, 1_000, '''a 'b' c''', '', [])").unwrap();
        let expected = vec![
            Literal::None,
            Literal::Bool(true),
            Literal::Bool(false),
            Literal::Number(-1500.0),
            Literal::Number(1000.0),
            text("a 'b' c"),
            text(""),
            Literal::List(vec![]),
        ];
        assert_eq!(parsed, Literal::List(expected));
    }

    #[test]
    fn code_is_refused_not_run() {
        for file in [
            "__import__('os').system('x')",
            "[1 + 2]",
            "open('x')",
            "[x for x in y]",
            "f'{x}'",
            "'a' * 9",
            "[1",
            "'a",
            "",
        ] {
            assert!(parse_literal(file).is_err(), "{file}");
        }
        assert!(parse_literal(&"[".repeat(100_000)).is_err());
    }

    proptest! {
        #[test]
        fn any_text_gives_a_literal_or_an_error(text in r#"[\[\]{}()'",:\\a-z0-9 \n]{0,60}"#) {
            let _ = parse_literal(&text);
        }

        #[test]
        fn a_quoted_text_comes_back(inner in "[^'\\\\\n]{0,40}") {
            prop_assert_eq!(parse_literal(&format!("'{inner}'")), Ok(Literal::Text(inner)));
        }
    }
}
