//! One record of a data set, whichever layout it comes from.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::is_no_file;
use super::literal::{Literal, parse_literal};
use super::report::{Stage, capital_headings, has_sections, parse_report};

/// Part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Split {
    /// For learning.
    Train,
    /// For choosing.
    Validate,
    /// For the final score.
    Test,
}

impl Split {
    /// Reads `train`, `validate` (`val`, `valid`, `validation`) or `test`.
    pub fn parse(text: &str) -> Option<Self> {
        match text.trim().to_ascii_lowercase().as_str() {
            "train" | "training" => Some(Self::Train),
            "val" | "valid" | "validate" | "validation" => Some(Self::Validate),
            "test" => Some(Self::Test),
            _ => None,
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Train => "train",
            Self::Validate => "validate",
            Self::Test => "test",
        })
    }
}

/// Where a report's text is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReportSource {
    /// A file with sections, to be parsed by [`super::parse_report`].
    File(PathBuf),
    /// The text itself: parsed like a file if it has sections, whatever the case of their headings, else used as it is.
    Text(String),
}

impl ReportSource {
    /// What `stage` learns of it, or a reason to skip it.
    ///
    /// # Errors
    /// When the system does not read a file that may be there.
    pub fn read(&self, stage: Stage) -> io::Result<Result<String, &'static str>> {
        let text = match self {
            Self::File(path) => match text_of(
                path,
                "report cannot be read",
                "report is not UTF-8 text; save it as UTF-8",
            )? {
                // In another encoding every letter beyond a to z would be learned as one sign.
                Ok(text) => text,
                Err(skipped) => return Ok(Err(skipped)),
            },
            Self::Text(text) => {
                let capital = capital_headings(text);
                if !has_sections(&capital) {
                    return Ok(Ok(text.clone()));
                }
                capital
            }
        };
        Ok(parse_report(&text, stage).ok_or("report has no section that this stage uses"))
    }
}

/// The text of a file; or `missing` where it is not there, and `other` where it is no UTF-8.
fn text_of(path: &Path, missing: &'static str, other: &'static str) -> io::Result<Result<String, &'static str>> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8(bytes).map_err(|_| other)),
        Err(reason) if is_no_file(&reason) => Ok(Err(missing)),
        Err(reason) => Err(reason),
    }
}

/// Whether a view as a manifest names it is frontal. What is not named is taken to be.
pub fn is_frontal(view: Option<&str>) -> bool {
    view.is_none_or(|view| {
        ["PA", "AP", "FRONTAL"]
            .iter()
            .any(|frontal| frontal.eq_ignore_ascii_case(view.trim()))
    })
}

/// What two names of one image's view say together: the same word in any case, or, of a side (`Frontal`) and a position on it (`AP`), the
/// position. `None` where they contradict each other.
pub(super) fn joint_view<'a>(one: &'a str, other: &'a str) -> Option<&'a str> {
    let side = |view: &str| view.eq_ignore_ascii_case("frontal") || view.eq_ignore_ascii_case("lateral");
    if one.eq_ignore_ascii_case(other) {
        return Some(one);
    }
    match is_frontal(Some(one)) == is_frontal(Some(other)) {
        true if side(one) => Some(other),
        true if side(other) => Some(one),
        _ => None,
    }
}

/// A question about an image, and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The question.
    pub question: String,
    /// The answer.
    pub answer: String,
}

/// Where the questions about an image are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Questions {
    /// A file that holds a Python-literal list of `{question, answer}`.
    File(PathBuf),
    /// The questions themselves.
    List(Vec<Question>),
}

impl Questions {
    /// Reads them; or gives a reason to skip them.
    ///
    /// # Errors
    /// When the system does not read a file that may be there.
    pub fn read(&self) -> io::Result<Result<Vec<Question>, &'static str>> {
        let unusable = "question file cannot be read as UTF-8 text";
        match self {
            Self::List(list) => Ok(Ok(list.clone())),
            Self::File(path) => Ok(text_of(path, unusable, unusable)?.and_then(|text| questions_in(&text))),
        }
    }
}

/// What a file of questions holds; an error is a reason to skip it.
fn questions_in(text: &str) -> Result<Vec<Question>, &'static str> {
    let list = match parse_literal(text) {
        Ok(Literal::List(list)) => list,
        _ => return Err("question file is not a Python-literal list"),
    };
    list.iter()
        .map(|item| {
            let field = |name| item.get(name).and_then(Literal::text).map(|t| t.trim().to_owned());
            match (field("question"), field("answer")) {
                (Some(question), Some(answer)) if !question.is_empty() && !answer.is_empty() => {
                    Ok(Question { question, answer })
                }
                _ => Err("question file holds an item without question or answer"),
            }
        })
        .collect()
}

/// A plain instruction without an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What to do.
    pub instruction: String,
    /// Text to do it with.
    pub context: Option<String>,
    /// What should be answered.
    pub response: String,
}

/// One image with what is known of it, or one plain instruction.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Stable name: the image's id in MIMIC-CXR-JPG, its path as written in a manifest, the line of a plain instruction.
    pub id: String,
    /// The image file.
    pub image: Option<PathBuf>,
    /// Key of the patient, where known.
    pub patient: Option<String>,
    /// Part of the data set.
    pub split: Split,
    /// View position, where known (`PA`, `AP`, `LATERAL`).
    pub view: Option<String>,
    /// Whether the second stage uses this image: a PA or AP view of the patient's earliest study that has one. Manifests, which
    /// do not order studies, leave it to who wrote them.
    pub selected: bool,
    /// The report.
    pub report: Option<ReportSource>,
    /// Questions and answers.
    pub questions: Option<Questions>,
    /// A plain instruction, for records without an image.
    pub instruction: Option<Instruction>,
    /// Labels: 1 present, 0 absent, −1 uncertain.
    pub labels: Vec<(String, f32)>,
}
