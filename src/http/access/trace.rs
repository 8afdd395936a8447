//! The trace that a request is part of, by the header `traceparent` of the W3C's Trace Context.

use axum::http::HeaderMap;

/// The trace's id, 32 hexadecimal digits. A header that is not valid in whole tells nothing: it could hold anything.
pub fn trace_id(headers: &HeaderMap) -> Option<&str> {
    let mut sent = headers.get_all("traceparent").iter();
    let (only, None) = (sent.next()?.to_str().ok()?, sent.next()) else {
        return None;
    };
    let mut parts = only.splitn(5, '-');
    let (version, trace) = (parts.next()?, parts.next()?);
    let (parent, flags, more) = (parts.next()?, parts.next()?, parts.next());
    let whole = [(version, 2), (trace, 32), (parent, 16), (flags, 2)]
        .iter()
        .all(|(part, digits)| part.len() == *digits && part.bytes().all(|b| b"0123456789abcdef".contains(&b)));
    // Later versions may say more behind these four.
    let known = version != "ff" && (version != "00" || more.is_none());
    let is_zero = |part: &str| part.bytes().all(|b| b == b'0');
    (whole && known && !is_zero(trace) && !is_zero(parent)).then_some(trace)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    /// The id by these headers.
    fn by(sent: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in sent {
            headers.append("traceparent", HeaderValue::from_str(value).expect("a header's value"));
        }
        trace_id(&headers).map(str::to_owned)
    }

    #[test]
    fn the_trace_of_a_valid_header_is_told() {
        for sent in [
            format!("00-{TRACE}-00f067aa0ba902b7-01"),
            format!("cc-{TRACE}-00f067aa0ba902b7-00-what-comes-later"),
        ] {
            assert_eq!(by(&[&sent]).as_deref(), Some(TRACE), "{sent}");
        }
    }

    #[test]
    fn of_a_header_that_is_not_valid_nothing_is_taken() {
        let valid = format!("00-{TRACE}-00f067aa0ba902b7-01");
        for sent in [
            String::new(),
            TRACE.to_owned(),
            format!("00-{TRACE}"),
            format!("00-{TRACE}-00f067aa0ba902b7"),
            format!("00-{TRACE}-00f067aa0ba902b7-1"),
            format!("{valid}-more"),
            format!("ff-{TRACE}-00f067aa0ba902b7-01"),
            valid.to_uppercase(),
            valid.replace("4bf9", "Doe "),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
        ] {
            assert_eq!(by(&[&sent]), None, "{sent}");
        }
        assert_eq!(by(&[]), None);
        assert_eq!(by(&[&valid, &valid]), None);
    }
}
