//! Web origins, as browsers send them: `https://viewer.example.org`, `http://localhost:3000`.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use axum::http::HeaderValue;

/// An origin whose pages may call. It is written as browsers write it (RFC 6454, and the URL standard), or it would never be met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorsOrigin(HeaderValue);

/// What is no origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no web origin: that is http:// or https://, a host, and perhaps a port, with nothing behind, such as https://viewer.example.org \
     or http://localhost:3000"
)]
pub struct CorsOriginError(String);

impl CorsOrigin {
    /// As the header `Origin` has it.
    pub fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl FromStr for CorsOrigin {
    type Err = CorsOriginError;

    fn from_str(text: &str) -> Result<Self, CorsOriginError> {
        let written = as_browsers_write(&text.trim().to_ascii_lowercase());
        let header = written.and_then(|written| HeaderValue::from_str(&written).ok());
        header.map(Self).ok_or_else(|| CorsOriginError(text.to_owned()))
    }
}

/// The origin with the host as it is compared, and without the port that goes without saying.
fn as_browsers_write(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let usual_port = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    // The colons of an IPv6 address are in brackets.
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (rest, None),
    };
    let host = match host.strip_prefix('[').and_then(|address| address.strip_suffix(']')) {
        Some(address) => address_in_brackets(address.parse().ok()?),
        None if is_name(host) => host.to_owned(),
        None => return None,
    };
    let port = match port {
        None => usual_port,
        Some(port) if port.bytes().all(|digit| digit.is_ascii_digit()) => port.parse::<u16>().ok()?,
        Some(_) => return None,
    };
    Some(match port == usual_port {
        true => format!("{scheme}://{host}"),
        false => format!("{scheme}://{host}:{port}"),
    })
}

/// As the URL standard has it: where IPv4 is wrapped in IPv6, too, in hexadecimal.
fn address_in_brackets(address: Ipv6Addr) -> String {
    match (address.to_ipv4_mapped(), address.segments()) {
        (Some(_), [.., high, low]) => format!("[::ffff:{high:x}:{low:x}]"),
        (None, _) => format!("[{address}]"),
    }
}

/// Whether this is the name of a host, or an IPv4 address. A name in other letters is written in ASCII (`xn--…`) by browsers.
fn is_name(host: &str) -> bool {
    let is_label =
        |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    // A name may end in a point.
    let labels: Vec<&str> = host.strip_suffix('.').unwrap_or(host).split('.').collect();
    let is_number = |label: &&str| label.bytes().all(|digit| digit.is_ascii_digit());
    let sound = labels.iter().all(|label| is_label(label));
    // What ends in a number is an address to browsers.
    sound && (!labels.last().is_some_and(is_number) || host.parse::<Ipv4Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(text: &str) -> Option<String> {
        let origin = text.parse::<CorsOrigin>().ok()?;
        Some(origin.header().to_str().expect("ASCII").to_owned())
    }

    #[test]
    fn an_origin_is_taken_as_browsers_send_it_however_it_is_written() {
        for (text, sent) in [
            ("https://viewer.example.org", "https://viewer.example.org"),
            (" HTTPS://Viewer.Example.org ", "https://viewer.example.org"),
            ("https://viewer.example.org:443", "https://viewer.example.org"),
            ("http://viewer.example.org:80", "http://viewer.example.org"),
            ("http://viewer.example.org:443", "http://viewer.example.org:443"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://192.0.2.7:08080", "http://192.0.2.7:8080"),
            ("http://[2001:DB8:0::1]", "http://[2001:db8::1]"),
            ("https://[::1]:8443", "https://[::1]:8443"),
            ("http://[::ffff:192.0.2.7]", "http://[::ffff:c000:207]"),
            (
                "https://pacs_1.xn--bcher-kva.example.",
                "https://pacs_1.xn--bcher-kva.example.",
            ),
        ] {
            assert_eq!(written(text).as_deref(), Some(sent), "{text}");
        }
    }

    #[test]
    fn what_no_browser_sends_is_refused_with_what_an_origin_looks_like() {
        for text in [
            "",
            "*",
            "null",
            "viewer",
            "viewer.example.org",
            "https://",
            "https://:443",
            "https://*",
            "https://*.example.org",
            "http://a b",
            "https://x?y",
            "https://x#y",
            "https://x/",
            "https://x/viewer",
            "https://user@x",
            "https://x:",
            "https://x:+80",
            "https://x:65536",
            "https://x:80:80",
            "https://a..b",
            "https://1.2.3",
            "https://[::1",
            "https://[viewer]",
            "https://bücher.example",
            "ftp://x",
        ] {
            let told = text.parse::<CorsOrigin>().expect_err(text).to_string();
            assert!(told.contains("such as https://viewer.example.org"), "{told}");
        }
    }

    proptest! {
        #[test]
        fn what_is_taken_is_taken_again_as_it_is(text in "(http|HTTPS)://[a-zA-Z0-9.:\\[\\]-]{0,12}") {
            if let Some(sent) = written(&text) {
                prop_assert_eq!(written(&sent), Some(sent.clone()));
                prop_assert!(!sent.bytes().any(|b| b.is_ascii_uppercase()));
            }
        }
    }
}
