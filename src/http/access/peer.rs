//! Who calls: the address at the other end of a connection, and, where that is a proxy that the operator trusts, whom the proxy names. For the log
//! alone: nobody is let in, or kept out, by an address.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::http::HeaderMap;

use crate::config::Cidr;

/// What proxies tell whom they speak for; each adds the address that it was called from.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// The address at the other end of a request's connection.
#[derive(Clone, Copy, Debug)]
pub(in crate::http) struct Peer(pub(in crate::http) IpAddr);

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        // A port that listens on IPv6 sees IPv4 as `::ffff:192.0.2.1`.
        Self(address.ip().to_canonical())
    }
}

/// Whom the proxies `trusted` speak for, if `peer` is one of them: the last address that was added and is none of theirs, as everything before it
/// may be made up; where all are theirs, the first. `None` if nothing was added, or what was is no address.
pub(super) fn forwarded_for(headers: &HeaderMap, peer: IpAddr, trusted: &[Cidr]) -> Option<IpAddr> {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    if !is_trusted(peer) {
        return None;
    }
    let mut nearest_to_the_client = None;
    for line in headers.get_all(FORWARDED_FOR).iter().rev() {
        // By bytes: what a client put in front need not be text, and must not hide what a proxy added behind it.
        for word in line.as_bytes().rsplit(|&byte| byte == b',') {
            let address = std::str::from_utf8(word).ok().and_then(|word| address(word.trim()))?;
            if !is_trusted(address) {
                return Some(address);
            }
            nearest_to_the_client = Some(address);
        }
    }
    nearest_to_the_client
}

/// An address as proxies write it: some add the port, or put IPv6 in brackets.
fn address(word: &str) -> Option<IpAddr> {
    let plain = word.parse::<IpAddr>().ok();
    let with_port = || word.parse::<SocketAddr>().ok().map(|address| address.ip());
    let in_brackets = || {
        let inner = word.strip_prefix('[')?.strip_suffix(']')?;
        inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
    };
    let address = plain.or_else(with_port).or_else(in_brackets)?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    /// Of a request from `peer`, through proxies of 10.0.0.0/8 and fd00::/8.
    fn told(peer: &str, lines: &[&'static str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for &line in lines {
            headers.append(FORWARDED_FOR, HeaderValue::from_static(line));
        }
        let trusted = ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse::<Cidr>().expect("a network"));
        let peer = Peer::from(SocketAddr::new(peer.parse().expect("an address"), 4711));
        forwarded_for(&headers, peer.0, &trusted).map(|address| address.to_string())
    }

    #[test]
    fn the_last_address_that_no_trusted_proxy_has_is_whom_they_speak_for() {
        let cases: [(&[&'static str], Option<&str>); 13] = [
            (&["203.0.113.9"], Some("203.0.113.9")),
            // What the client made up stands before what the proxies added.
            (&["192.0.2.1, 203.0.113.9, 10.0.0.2"], Some("203.0.113.9")),
            (&["192.0.2.1", "203.0.113.9", "10.0.0.2,10.0.0.3"], Some("203.0.113.9")),
            (&["no address, 203.0.113.9"], Some("203.0.113.9")),
            (&["203.0.113.9:50123"], Some("203.0.113.9")),
            (&["[2001:db8::9]:50123"], Some("2001:db8::9")),
            (&["[2001:db8::9], fd00::1"], Some("2001:db8::9")),
            (&["::ffff:203.0.113.9"], Some("203.0.113.9")),
            (&["10.0.0.7, 10.0.0.2"], Some("10.0.0.7")),
            (&["203.0.113.9, no address"], None),
            (&["unknown"], None),
            (&[""], None),
            (&[], None),
        ];
        for (lines, client) in cases {
            assert_eq!(told("10.0.0.1", lines).as_deref(), client, "{lines:?}");
        }
        assert_eq!(
            told("::ffff:10.0.0.1", &["203.0.113.9"]).as_deref(),
            Some("203.0.113.9")
        );
    }

    #[test]
    fn bytes_that_are_no_text_do_not_hide_what_a_proxy_added_behind_them() {
        let trusted = ["10.0.0.0/8".parse::<Cidr>().expect("a network")];
        let told = |line: &'static [u8]| {
            let mut headers = HeaderMap::new();
            headers.append(FORWARDED_FOR, HeaderValue::from_bytes(line).expect("a header"));
            forwarded_for(&headers, IpAddr::from([10, 0, 0, 1]), &trusted)
        };
        assert_eq!(told(b"\xff\xfe, 203.0.113.9"), Some(IpAddr::from([203, 0, 113, 9])));
        assert_eq!(told(b"203.0.113.9, \xff"), None);
    }

    #[test]
    fn who_is_no_trusted_proxy_speaks_for_nobody() {
        assert_eq!(told("203.0.113.1", &["192.0.2.1"]), None);
    }
}
