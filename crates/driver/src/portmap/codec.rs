//! What is said to a router that forwards ports: PCP (RFC 6887) and its forerunner NAT-PMP (RFC 6886).
//!
//! Both are one datagram each way with fixed fields, to the same port. A router that knows only the
//! older one answers PCP with "unsupported version" in the older one's format, and the other way
//! round. Answers are a stranger's bytes: everything but the expected form is no answer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// Where such a router listens.
pub(super) const PORT: u16 = 5351;
/// Longest answer that is read (RFC 6887 §7).
pub(super) const MAX_ANSWER: usize = 1100;

const PCP: u8 = 2;
const NAT_PMP: u8 = 0;
const PCP_MAP: u8 = 1;
const PMP_ADDRESS: u8 = 0;
const PMP_MAP_UDP: u8 = 1;
const ANSWER: u8 = 0x80;
const UDP: u8 = 17;
const PCP_LEN: usize = 60;
const UNSUPPORTED_VERSION: u16 = 1;

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Pcp,
    NatPmp,
    /// See [`super::upnp`].
    Upnp,
}

impl Protocol {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Pcp => "pcp",
            Self::NatPmp => "nat-pmp",
            Self::Upnp => "upnp",
        }
    }
}

/// A mapping that is asked for, again or for the first time; with lifetime 0 it is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    /// Our address towards the router.
    pub(super) client: Ipv4Addr,
    /// Our port.
    pub(super) port: u16,
    /// What we have, or would like to have; port 0 and no address = any.
    pub(super) outside: Option<(Ipv4Addr, u16)>,
    pub(super) lifetime: Duration,
    /// Known to nobody else: it is what keeps others from changing the mapping (PCP).
    pub(super) nonce: [u8; 12],
}

/// A router's answer to a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// Granted: from outside it is at this port, for so long. The address comes with PCP only.
    Mapped { address: Option<Ipv4Addr>, port: u16, lifetime: Duration },
    /// The router's outside address (NAT-PMP).
    Address(Ipv4Addr),
    /// It does not speak this protocol.
    OtherVersion,
    /// It does, and will not (its result code).
    Refused(u16),
}

fn seconds(lifetime: Duration) -> [u8; 4] {
    u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX).to_be_bytes()
}

/// A PCP request of 60 bytes: header and MAP.
pub(super) fn pcp_map(wish: &Wish) -> Vec<u8> {
    let mut out = vec![PCP, PCP_MAP, 0, 0];
    out.extend_from_slice(&seconds(wish.lifetime));
    out.extend_from_slice(&wish.client.to_ipv6_mapped().octets());
    out.extend_from_slice(&wish.nonce);
    out.extend_from_slice(&[UDP, 0, 0, 0]);
    out.extend_from_slice(&wish.port.to_be_bytes());
    let (address, port) = wish.outside.unwrap_or((Ipv4Addr::UNSPECIFIED, 0));
    out.extend_from_slice(&port.to_be_bytes());
    out.extend_from_slice(&address.to_ipv6_mapped().octets());
    out
}

/// Asks a NAT-PMP router where it is seen outside.
pub(super) fn pmp_address() -> Vec<u8> {
    vec![NAT_PMP, PMP_ADDRESS]
}

/// Asks a NAT-PMP router for a mapping.
pub(super) fn pmp_map(wish: &Wish) -> Vec<u8> {
    let mut out = vec![NAT_PMP, PMP_MAP_UDP, 0, 0];
    out.extend_from_slice(&wish.port.to_be_bytes());
    // To give a mapping back, the outside port must be 0 (RFC 6886 §3.4).
    let outside = wish.outside.filter(|_| !wish.lifetime.is_zero()).map_or(0, |(_, port)| port);
    out.extend_from_slice(&outside.to_be_bytes());
    out.extend_from_slice(&seconds(wish.lifetime));
    out
}

/// Reads an answer to what was asked for `wish`; `None`: it is none.
pub(super) fn parse(bytes: &[u8], wish: &Wish) -> Option<Reply> {
    let (version, op) = (*bytes.first()?, *bytes.get(1)?);
    if op & ANSWER == 0 {
        return None;
    }
    match version {
        PCP => parse_pcp(bytes, wish),
        NAT_PMP => parse_pmp(bytes, op & !ANSWER, wish),
        _ => None,
    }
}

fn parse_pcp(bytes: &[u8], wish: &Wish) -> Option<Reply> {
    let result = u16::from(*bytes.get(3)?);
    if result == UNSUPPORTED_VERSION {
        return Some(Reply::OtherVersion);
    }
    if bytes.len() < PCP_LEN || bytes[1] != PCP_MAP | ANSWER {
        return None;
    }
    if bytes[24..36] != wish.nonce || bytes[36] != UDP || u16_at(bytes, 40)? != wish.port {
        return None;
    }
    if result != 0 {
        return Some(Reply::Refused(result));
    }
    let outside: [u8; 16] = bytes[44..60].try_into().ok()?;
    let address = Ipv6Addr::from(outside).to_ipv4_mapped()?;
    let lifetime = Duration::from_secs(u64::from(u32_at(bytes, 4)?));
    Some(Reply::Mapped { address: Some(address), port: u16_at(bytes, 42)?, lifetime })
}

fn parse_pmp(bytes: &[u8], op: u8, wish: &Wish) -> Option<Reply> {
    match u16_at(bytes, 2)? {
        0 => {}
        UNSUPPORTED_VERSION => return Some(Reply::OtherVersion),
        code => return Some(Reply::Refused(code)),
    }
    match op {
        PMP_ADDRESS => Some(Reply::Address(Ipv4Addr::from(u32_at(bytes, 8)?))),
        PMP_MAP_UDP if u16_at(bytes, 8)? == wish.port => {
            let lifetime = Duration::from_secs(u64::from(u32_at(bytes, 12)?));
            Some(Reply::Mapped { address: None, port: u16_at(bytes, 10)?, lifetime })
        }
        _ => None,
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Whether others can reach an address that a router says is its outside one: a router behind another
/// translator has one that means nothing there.
pub(super) fn is_public(outside: SocketAddr) -> bool {
    let IpAddr::V4(v4) = outside.ip() else { return false };
    let shared = v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64;
    let local = v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_unspecified();
    !(shared || local || v4.is_multicast() || v4.is_broadcast()) && outside.port() != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);

    fn wish() -> Wish {
        Wish {
            client: Ipv4Addr::new(192, 168, 1, 2),
            port: 7463,
            outside: None,
            lifetime: Duration::from_secs(3600),
            nonce: *b"twelve bytes",
        }
    }

    /// A PCP answer as RFC 6887 §11.1 draws it.
    fn granted(wish: &Wish) -> Vec<u8> {
        let mut answer = pcp_map(wish);
        answer[1] |= ANSWER;
        answer[4..8].copy_from_slice(&600u32.to_be_bytes());
        answer[42..44].copy_from_slice(&40_000u16.to_be_bytes());
        answer[44..60].copy_from_slice(&OUTSIDE.to_ipv6_mapped().octets());
        answer
    }

    #[test]
    fn a_pcp_request_has_the_layout_of_the_standard() {
        let request = pcp_map(&Wish { outside: Some((OUTSIDE, 9)), ..wish() });
        assert_eq!(request.len(), PCP_LEN);
        assert_eq!(request[..8], [2, 1, 0, 0, 0, 0, 0x0e, 0x10]);
        assert_eq!(request[18..24], [0xff, 0xff, 192, 168, 1, 2]);
        assert_eq!(&request[24..36], b"twelve bytes");
        assert_eq!(request[36..44], [17, 0, 0, 0, 0x1d, 0x27, 0, 9]);
        assert_eq!(request[54..], [0xff, 0xff, 198, 51, 100, 7]);
    }

    #[test]
    fn only_an_answer_to_this_very_wish_is_one() {
        let wish = wish();
        let good = granted(&wish);
        let expected =
            Reply::Mapped { address: Some(OUTSIDE), port: 40_000, lifetime: Duration::from_secs(600) };
        assert_eq!(parse(&good, &wish), Some(expected));
        for (at, why) in
            [(1, "a request"), (24, "another nonce"), (36, "another protocol"), (40, "another port")]
        {
            let mut bad = good.clone();
            bad[at] ^= ANSWER;
            assert_eq!(parse(&bad, &wish), None, "{why}");
        }
        for short in 0..PCP_LEN {
            assert_eq!(parse(&good[..short], &wish), None, "{short} bytes");
        }
    }

    #[test]
    fn refusals_and_other_versions_are_told_apart() {
        let wish = wish();
        let mut refused = granted(&wish);
        refused[3] = 2;
        assert_eq!(parse(&refused, &wish), Some(Reply::Refused(2)));
        refused[3] = 1;
        assert_eq!(parse(&refused, &wish), Some(Reply::OtherVersion));
        assert_eq!(parse(&[0, 0x80, 0, 1, 0, 0, 0, 0], &wish), Some(Reply::OtherVersion));
        assert_eq!(parse(&[0, 0x81, 0, 2, 0, 0, 0, 0], &wish), Some(Reply::Refused(2)));
    }

    #[test]
    fn nat_pmp_is_spoken_as_the_older_standard_says() {
        let wish = wish();
        assert_eq!(pmp_map(&wish), [0, 1, 0, 0, 0x1d, 0x27, 0, 0, 0, 0, 0x0e, 0x10]);
        let back = Wish { outside: Some((OUTSIDE, 9)), lifetime: Duration::ZERO, ..wish };
        assert_eq!(pmp_map(&back), [0, 1, 0, 0, 0x1d, 0x27, 0, 0, 0, 0, 0, 0]);
        let address = [0, 0x80, 0, 0, 0, 0, 0, 9, 198, 51, 100, 7];
        assert_eq!(parse(&address, &wish), Some(Reply::Address(OUTSIDE)));
        let mapped = [0, 0x81, 0, 0, 0, 0, 0, 9, 0x1d, 0x27, 0x9c, 0x40, 0, 0, 2, 0x58];
        let expected = Reply::Mapped { address: None, port: 40_000, lifetime: Duration::from_secs(600) };
        assert_eq!(parse(&mapped, &wish), Some(expected));
        let mut other = mapped;
        other[9] = 0x28;
        assert_eq!(parse(&other, &wish), None, "about another port");
    }

    #[test]
    fn an_outside_address_behind_another_translator_is_not_public() {
        for (text, public) in [
            ("198.51.100.7:7463", true),
            ("192.168.0.2:7463", false),
            ("100.64.0.2:7463", false),
            ("100.128.0.2:7463", true),
            ("0.0.0.0:7463", false),
            ("198.51.100.7:0", false),
        ] {
            assert_eq!(is_public(text.parse().unwrap()), public, "{text}");
        }
    }
}
