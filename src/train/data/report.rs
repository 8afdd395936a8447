//! What of a report file is learned: the rules of the original.

use serde::{Deserialize, Serialize};

/// Stage of instruction tuning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum Stage {
    /// Every image; findings and impression.
    One,
    /// The PA and AP images of each patient's earliest study; the impression alone.
    Two,
}

impl TryFrom<u8> for Stage {
    type Error = String;

    fn try_from(number: u8) -> Result<Self, String> {
        match number {
            1 => Ok(Self::One),
            2 => Ok(Self::Two),
            other => Err(format!("there is no stage {other}: use 1 or 2")),
        }
    }
}

impl From<Stage> for u8 {
    fn from(stage: Stage) -> u8 {
        match stage {
            Stage::One => 1,
            Stage::Two => 2,
        }
    }
}

const FINDINGS: &str = "FINDINGS:";
const IMPRESSION: &str = "IMPRESSION:";

/// The text to learn from a report with sections; `None` if it has none that the stage can use.
///
/// Lines are joined by spaces. Stage 1 takes what follows the one `FINDINGS:`, with a single `IMPRESSION:` heading inside it left
/// out (several stay as they are); without one `FINDINGS:`, or with several, what follows the one `IMPRESSION:`. Stage 2 takes what follows the
/// one `IMPRESSION:`.
pub fn parse_report(text: &str, stage: Stage) -> Option<String> {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let text = lines.join(" ");
    let impression = || halves(&text, IMPRESSION).map(|(_, after)| after.trim().to_owned());
    let found = match (stage, halves(&text, FINDINGS)) {
        (Stage::One, Some((_, body))) => Some(match halves(body, IMPRESSION) {
            Some((findings, impression)) => format!("{} {}", findings.trim(), impression.trim()).trim().to_owned(),
            None => body.trim().to_owned(),
        }),
        _ => impression(),
    };
    found.filter(|text| !text.is_empty())
}

/// A text with its headings written as [`parse_report`] knows them, in capitals.
///
/// What has to be a heading wherever it stands in capitals is one in another case only where a heading stands: at the beginning of a line,
/// or, with a capital, behind the end of a sentence. So prose (`My impression: normal.`) stays prose.
pub(super) fn capital_headings(text: &str) -> String {
    let (mut out, mut taken) = (String::with_capacity(text.len()), 0);
    for (colon, _) in text.match_indices(':') {
        let named = text[..colon].trim_end_matches([' ', '\t']);
        let heading = [FINDINGS, IMPRESSION].into_iter().find_map(|heading| {
            let start = named.len().checked_sub(heading.len() - 1)?;
            let found = named.get(start..)?;
            found
                .eq_ignore_ascii_case(heading.trim_end_matches(':'))
                .then_some((start, heading))
        });
        let Some((start, heading)) = heading else { continue };
        if start >= taken && stands_as_heading(&text[..start], &text[start..]) {
            out.push_str(&text[taken..start]);
            out.push_str(heading);
            taken = colon + 1;
        }
    }
    out.push_str(&text[taken..]);
    out
}

/// Whether what follows on `before` is where a heading may stand.
fn stands_as_heading(before: &str, heading: &str) -> bool {
    let line = before.trim_end_matches([' ', '\t']);
    let sentence = before.ends_with(char::is_whitespace) && before.trim_end().ends_with(['.', '!', '?']);
    line.is_empty() || line.ends_with('\n') || (sentence && heading.starts_with(char::is_uppercase))
}

/// Whether a text has any heading that [`parse_report`] knows.
pub(super) fn has_sections(text: &str) -> bool {
    text.contains(FINDINGS) || text.contains(IMPRESSION)
}

/// What stands before and after `heading`, if it occurs exactly once.
fn halves<'a>(text: &'a str, heading: &str) -> Option<(&'a str, &'a str)> {
    text.split_once(heading).filter(|(_, after)| !after.contains(heading))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(text: &str) -> (Option<String>, Option<String>) {
        (parse_report(text, Stage::One), parse_report(text, Stage::Two))
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn findings_and_impression_are_joined_in_stage_1_and_the_impression_stands_alone_in_stage_2() {
        let text = " FINAL REPORT\n INDICATION: cough.\n\n FINDINGS: \n Clear lungs.\n  Normal heart.\n\n IMPRESSION:\n No change. \n";
        assert_eq!(
            both(text),
            (some("Clear lungs. Normal heart. No change."), some("No change."))
        );
    }

    #[test]
    fn a_report_with_one_section_gives_it_where_the_stage_can_use_it() {
        assert_eq!(both("IMPRESSION: Clear."), (some("Clear."), some("Clear.")));
        assert_eq!(both("FINDINGS: Clear."), (some("Clear."), None));
    }

    #[test]
    fn two_findings_fall_back_to_the_impression() {
        let text = "FINDINGS: A. FINDINGS: B. IMPRESSION: C.";
        assert_eq!(both(text), (some("C."), some("C.")));
        assert_eq!(both("FINDINGS: A. FINDINGS: B."), (None, None));
    }

    #[test]
    fn two_impressions_keep_their_headings_in_stage_1_and_are_skipped_in_stage_2() {
        let text = "FINDINGS: A. IMPRESSION: B. IMPRESSION: C.";
        assert_eq!(both(text), (some("A. IMPRESSION: B. IMPRESSION: C."), None));
        assert_eq!(both("IMPRESSION: B. IMPRESSION: C."), (None, None));
    }

    #[test]
    fn a_report_without_sections_or_with_empty_ones_is_skipped() {
        assert_eq!(both("The lungs are clear."), (None, None));
        assert_eq!(both("FINDINGS:\nIMPRESSION:\n"), (None, None));
        assert_eq!(both(""), (None, None));
    }

    #[test]
    fn headings_are_known_in_any_case_where_headings_stand_and_prose_stays_prose() {
        for (text, capital) in [
            ("Findings: A.\nImpression: B.", "FINDINGS: A.\nIMPRESSION: B."),
            ("  findings :\n A\n\timpression: B", "  FINDINGS:\n A\n\tIMPRESSION: B"),
            (
                "Comparison: 2019. Findings: A. Impression: B.",
                "Comparison: 2019. FINDINGS: A. IMPRESSION: B.",
            ),
            ("Findings: A.\r\nImpression: B.", "FINDINGS: A.\r\nIMPRESSION: B."),
        ] {
            assert_eq!(capital_headings(text), capital);
        }
        for prose in [
            "My impression: normal.",
            "Clear. The Impression: normal.",
            "Clear. impression: normal.",
            "Other Findings: none.",
            "Clear.Findings: none.",
            "The findings are: none",
            "Größefindings: none",
            "IMPRESSION: Clear.",
        ] {
            assert_eq!(capital_headings(prose), prose);
        }
    }
}
