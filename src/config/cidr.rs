//! Networks, as operators write them: `10.0.0.0/8`, `fd00::/8`, or one address; those of IPv4 also as IPv6 has them (`::ffff:10.0.0.0/104`).

use std::net::IpAddr;
use std::str::FromStr;

/// A network: the addresses that begin as this one does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    network: IpAddr,
    /// Bits that count.
    prefix: u32,
}

/// What is no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither an address nor a network such as 10.0.0.0/8 or fd00::/8")]
pub struct CidrError(String);

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let wrong = || CidrError(text.to_owned());
        let (address, prefix) = match text.trim().split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text.trim(), None),
        };
        let network: IpAddr = address.parse().map_err(|_| wrong())?;
        let (_, width) = bits(network);
        let prefix = match prefix {
            Some(prefix) => prefix.parse().map_err(|_| wrong())?,
            None => width,
        };
        if prefix > width {
            return Err(wrong());
        }
        // As addresses are looked at: `::ffff:10.0.0.0/104` is 10.0.0.0/8.
        let canonical = network.to_canonical();
        Ok(match prefix.checked_sub(width - bits(canonical).1) {
            Some(prefix) => Self {
                network: canonical,
                prefix,
            },
            None => Self { network, prefix },
        })
    }
}

impl Cidr {
    /// Whether the address is in the network. One of IPv4 in the clothes of IPv6 (`::ffff:10.0.0.1`) counts as what it is.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (network, width) = bits(self.network);
        let (address, other_width) = bits(address.to_canonical());
        let differ = (network ^ address).checked_shr(width - self.prefix).unwrap_or(0);
        width == other_width && differ == 0
    }
}

/// An address as a number, and how many bits it has.
fn bits(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(address) => (u32::from(address).into(), 32),
        IpAddr::V6(address) => (address.into(), 128),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_what_begins_as_it_does_and_nothing_of_the_other_kind() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("10.1.2.3/8", "10.0.0.0", "9.255.255.255"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.6"),
            ("192.0.2.0/24", "::ffff:192.0.2.9", "::c000:209"),
            ("::ffff:192.0.2.7", "192.0.2.7", "192.0.2.6"),
            ("::ffff:10.0.0.0/104", "10.255.0.1", "11.0.0.0"),
            ("::ffff:0:0/95", "::fffe:0:1", "10.0.0.1"),
            ("0.0.0.0/0", "203.0.113.1", "2001:db8::1"),
            ("fd00::/8", "fdff::1", "fe00::1"),
            ("::/0", "2001:db8::1", "203.0.113.1"),
            ("::1", "::1", "::2"),
        ] {
            let network: Cidr = network.parse().expect("a network");
            let holds = |address: &str| network.contains(address.parse().expect("an address"));
            assert!(holds(inside) && !holds(outside), "{network:?}");
        }
    }

    #[test]
    fn what_is_no_network_is_told() {
        for text in [
            "",
            "proxy.example.org",
            "10.0.0.0/33",
            "fd00::/129",
            "10.0.0/8",
            "10.0.0.0/",
            "10.0.0.0/-1",
        ] {
            let told = text.parse::<Cidr>().expect_err("no network").to_string();
            assert!(told.contains("10.0.0.0/8"), "{told}");
        }
    }
}
