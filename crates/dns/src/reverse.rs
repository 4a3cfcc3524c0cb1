//! Reverse names: `4.3.2.1.in-addr.arpa` and the nibbles of `ip6.arpa`, whole or in part.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::zones::Prefix;

/// A name below `in-addr.arpa` or `ip6.arpa`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reverse {
    /// What the name's tail stands for.
    pub(crate) prefix: Prefix,
    /// Labels in front of it that stand for nothing: no such name.
    pub(crate) stray: bool,
}

impl Reverse {
    /// Reads the labels of a name, in lower case, first to last.
    pub(crate) fn parse(labels: &[String]) -> Option<Self> {
        match labels {
            [rest @ .., middle, last] if last == "arpa" && middle == "in-addr" => Some(v4(rest)),
            [rest @ .., middle, last] if last == "arpa" && middle == "ip6" => Some(v6(rest)),
            _ => None,
        }
    }

    /// The one address it stands for.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        let whole = self.prefix.length == if self.prefix.address.is_ipv4() { 32 } else { 128 };
        (whole && !self.stray).then_some(self.prefix.address)
    }
}

/// How many labels, from the end, the name of `range`'s zone has.
pub(crate) fn zone_labels(range: &Prefix) -> usize {
    let step = if range.address.is_ipv4() { 8 } else { 4 };
    2 + usize::from(range.length).div_ceil(step)
}

/// The name of `address`.
pub(crate) fn name_of(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(v6) => {
            let nibbles = v6.octets().into_iter().rev().flat_map(|byte| [byte & 15, byte >> 4]);
            nibbles.map(|nibble| format!("{nibble:x}.")).collect::<String>() + "ip6.arpa"
        }
    }
}

fn v4(labels: &[String]) -> Reverse {
    let mut octets = [0; 4];
    let mut known = 0;
    for (octet, label) in octets.iter_mut().zip(labels.iter().rev()) {
        match label.parse::<u8>() {
            Ok(value) if value.to_string() == *label => *octet = value,
            _ => break,
        }
        known += 1;
    }
    let prefix = Prefix { address: IpAddr::V4(Ipv4Addr::from(octets)), length: known * 8 };
    Reverse { prefix, stray: labels.len() > usize::from(known) }
}

fn v6(labels: &[String]) -> Reverse {
    let mut bits = 0_u128;
    let mut known = 0_u8;
    for label in labels.iter().rev().take(32) {
        let [digit] = label.as_bytes() else { break };
        let Some(value) = char::from(*digit).to_digit(16) else { break };
        bits |= u128::from(value) << (124 - 4 * u32::from(known));
        known += 1;
    }
    let prefix = Prefix { address: IpAddr::V6(Ipv6Addr::from_bits(bits)), length: known * 4 };
    Reverse { prefix, stray: labels.len() > usize::from(known) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str) -> Option<Reverse> {
        Reverse::parse(&name.split('.').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn a_name_made_from_an_address_is_read_as_that_address() {
        for address in [
            "10.1.2.3",
            "0.0.0.0",
            "255.254.253.252",
            "fd3f::1",
            "::",
            "fd12:3456:789a:bcde:f012:3456:789a:bcde",
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(parse(&name_of(address)).and_then(|name| name.address()), Some(address));
        }
    }

    #[test]
    fn parts_and_strays_stand_for_their_range_and_no_address() {
        let cases = [
            ("1.10.in-addr.arpa", "10.1.0.0", 16, false),
            ("in-addr.arpa", "0.0.0.0", 0, false),
            ("0-127.3.2.10.in-addr.arpa", "10.2.3.0", 24, true),
            ("x.4.3.2.10.in-addr.arpa", "10.2.3.4", 32, true),
            ("04.3.2.10.in-addr.arpa", "10.2.3.0", 24, true),
            ("f.3.d.f.ip6.arpa", "fd3f::", 16, false),
            ("g.d.f.ip6.arpa", "fd00::", 8, true),
        ];
        for (name, address, length, stray) in cases {
            let found = parse(name).unwrap();
            assert_eq!(found.prefix, Prefix { address: address.parse().unwrap(), length }, "{name}");
            assert_eq!(found.stray, stray, "{name}");
            assert_eq!(found.address(), None, "{name}");
        }
        assert_eq!(parse("example.org"), None);
        assert_eq!(parse("arpa"), None);
    }

    #[test]
    fn the_zone_of_a_range_ends_at_a_label() {
        let zone = |text: &str, length| zone_labels(&Prefix { address: text.parse().unwrap(), length });
        assert_eq!(zone("10.0.0.0", 8), 3);
        assert_eq!(zone("172.16.0.0", 12), 4);
        assert_eq!(zone("fd3f::", 16), 6);
        assert_eq!(zone("fc00::", 7), 4);
    }
}
