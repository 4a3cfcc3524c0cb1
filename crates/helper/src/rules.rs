//! What a workload may have, whoever asks for it.
//!
//! The daemon decides who gets which address. Should it be taken over, these rules keep it from
//! turning an attachment into something else: no default route, nothing of the loopback or of the
//! mesh itself, and in the host's own namespace nothing but private ranges, so that the host's
//! traffic with the rest of the world cannot be drawn in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sinew_types::MeshAddr;

use crate::codec::{Attach, Prefix, Why};
use crate::failure::Failure;

/// Widest ranges, prefix lengths.
const WIDEST: (u8, u8) = (8, 16);

/// Refuses what no workload may have; `host`: the interface is to be in the host's own namespace.
pub(crate) fn judge(attach: &Attach, host: bool) -> Result<(), Failure> {
    let single = |ip: &IpAddr| (*ip, if ip.is_ipv6() { 128 } else { 32 });
    let resolver = attach.resolver.iter().map(single);
    let all = attach.addresses.iter().chain(&attach.routes).copied().chain(resolver);
    for (ip, len) in all {
        let fits = match ip {
            IpAddr::V4(v4) => may_have_v4(v4, len, host),
            IpAddr::V6(v6) => may_have_v6(v6, len),
        };
        if !fits {
            let text =
                format!("{ip}/{len} is not for workloads{}", if host { " on the host itself" } else { "" });
            return Err(Failure::new(Why::Forbidden, text));
        }
    }
    Ok(())
}

fn may_have_v4(ip: Ipv4Addr, len: u8, host: bool) -> bool {
    let shared = ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64;
    let wide_enough = match (ip.octets(), len) {
        // A range within each private one, not around it.
        ([172, ..], len) if host => len >= 12,
        ([192, 168, ..], len) if host => len >= 16,
        ([100, ..], len) if host => len >= 10,
        (_, len) => len >= WIDEST.0,
    };
    let special = ip.octets()[0] == 0 || ip.is_loopback() || ip.is_link_local() || ip.octets()[0] >= 224;
    wide_enough && !special && (!host || ip.is_private() || shared)
}

fn may_have_v6(ip: Ipv6Addr, len: u8) -> bool {
    len >= WIDEST.1 && ip.is_unique_local() && !MeshAddr::contains(&ip)
}

/// First address of the range that `ip` lies in.
pub(crate) fn first_of((ip, len): Prefix) -> Prefix {
    let masked = match ip {
        IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(
            v4.to_bits() & u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0),
        )),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(
            v6.to_bits() & u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0),
        )),
    };
    (masked, len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Id;

    fn verdict(prefix: &str, host: bool) -> bool {
        let (ip, len) = prefix.split_once('/').unwrap();
        let attach = Attach {
            id: Id::new("x").unwrap(),
            interface: None,
            mtu: 1400,
            addresses: Vec::new(),
            routes: vec![(ip.parse().unwrap(), len.parse().unwrap())],
            resolver: Vec::new(),
            tap: None,
        };
        judge(&attach, host).is_ok()
    }

    #[test]
    fn no_default_route_nothing_special_and_on_the_host_only_private_ranges() {
        for (prefix, in_workload, on_host) in [
            ("10.20.0.0/16", true, true),
            ("10.0.0.0/8", true, true),
            ("172.16.0.0/12", true, true),
            ("172.16.0.0/11", true, false),
            ("192.168.7.0/24", true, true),
            ("192.168.0.0/15", true, false),
            ("100.64.0.0/10", true, true),
            ("100.64.0.0/9", true, false),
            ("8.8.8.0/24", true, false),
            ("0.0.0.0/0", false, false),
            ("10.0.0.0/7", false, false),
            ("127.0.0.1/32", false, false),
            ("169.254.1.0/24", false, false),
            ("224.0.0.0/8", false, false),
            ("255.255.255.255/32", false, false),
            ("fd12:3456:789a::/48", true, true),
            ("fd00::/16", true, true),
            ("fd00::/8", false, false),
            ("::/0", false, false),
            ("::1/128", false, false),
            ("2001:db8::/48", false, false),
            ("fe80::/64", false, false),
            ("fd3f:1::/48", false, false),
        ] {
            assert_eq!(verdict(prefix, false), in_workload, "{prefix} in a workload");
            assert_eq!(verdict(prefix, true), on_host, "{prefix} on the host");
        }
    }

    #[test]
    fn a_range_begins_at_its_first_address() {
        let first = |text: &str, len| first_of((text.parse().unwrap(), len)).0.to_string();
        assert_eq!(first("10.20.3.7", 16), "10.20.0.0");
        assert_eq!(first("10.20.3.7", 32), "10.20.3.7");
        assert_eq!(first("10.20.3.7", 0), "0.0.0.0");
        assert_eq!(first("fd12:1:2:3::9", 48), "fd12:1:2::");
    }
}
