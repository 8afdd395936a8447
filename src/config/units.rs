//! Sizes and times as people write them.

use std::time::Duration;

/// A value that could not be read; the text says what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnitError(pub String);

/// Splits `text` into its leading number and the unit after it.
fn number_and_unit(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit.trim()))
}

/// Reads a time: `250ms`, `30s`, `1.5m`, `2h`; a bare number is seconds.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let wrong = || UnitError(format!("`{text}` is not a time such as 250ms, 30s, 5m or 2h"));
    let (number, unit) = number_and_unit(text).ok_or_else(wrong)?;
    let seconds = match unit {
        "ms" => number / 1000.0,
        "" | "s" => number,
        "m" | "min" => number * 60.0,
        "h" => number * 3600.0,
        _ => return Err(wrong()),
    };
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}

/// Reads a size in bytes: `4096`, `512KiB`, `32MiB`, `2GiB` (powers of 1024), `10MB` (powers of 1000).
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let wrong = || UnitError(format!("`{text}` is not a size such as 4096, 512KiB, 32MiB or 2GiB"));
    let (number, unit) = number_and_unit(text).ok_or_else(wrong)?;
    let scale: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return Err(wrong()),
    };
    let bytes = number * scale as f64;
    // Above 2^53 a float no longer counts single bytes; nobody means that.
    if bytes.is_finite() && bytes < 9e15 {
        Ok(bytes.round() as u64)
    } else {
        Err(wrong())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("30"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_duration(" 1.5 m"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("2h"), Ok(Duration::from_secs(7200)));
        for wrong in ["", "s", "5 parsecs", "-1s", "1e99h", "1..2s"] {
            assert!(parse_duration(wrong).is_err(), "{wrong:?} was read");
        }
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        assert_eq!(parse_size("4096"), Ok(4096));
        assert_eq!(parse_size("512MiB"), Ok(512 << 20));
        assert_eq!(parse_size("1.5 GiB"), Ok(3 << 29));
        assert_eq!(parse_size("10mb"), Ok(10_000_000));
        for wrong in ["", "MiB", "-4", "10 boxes", "99999999999999999999"] {
            assert!(parse_size(wrong).is_err(), "{wrong:?} was read");
        }
    }
}
