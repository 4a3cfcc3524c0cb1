//! The PROXY protocol, versions 1 and 2: who the client of a proxied connection is.
//!
//! Read from trusted proxies only, written to backends that are configured for it. A header that
//! says nothing of an address (`UNKNOWN`, `LOCAL`) leaves the connection's own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::ProxyVersion;

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
const V1_MAX: usize = 107;
const V2_HEADER: usize = 16;
/// The longest version 2 header that is read, bytes: addresses and a few extensions.
const V2_MAX: usize = 2048;

/// What the bytes so far amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Not yet a whole header.
    More,
    /// A header of this many bytes, and the client's and the proxy's addresses if it says so.
    Header(usize, Option<(SocketAddr, SocketAddr)>),
}

/// Bytes that are no PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a PROXY header was expected")]
pub struct NoHeader;

/// Reads a header of either version from a connection's first bytes.
///
/// # Errors
/// No header can begin like this.
pub fn read(bytes: &[u8]) -> Result<Reading, NoHeader> {
    let shown = bytes.len().min(SIGNATURE.len());
    if bytes[..shown] == SIGNATURE[..shown] && !bytes.is_empty() {
        return if bytes.len() < V2_HEADER { Ok(Reading::More) } else { read_v2(bytes) };
    }
    let shown = bytes.len().min(6);
    if bytes[..shown] != b"PROXY "[..shown] {
        return Err(NoHeader);
    }
    read_v1(bytes)
}

fn read_v1(bytes: &[u8]) -> Result<Reading, NoHeader> {
    let window = &bytes[..bytes.len().min(V1_MAX)];
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
        return if window.len() < V1_MAX { Ok(Reading::More) } else { Err(NoHeader) };
    };
    let line = std::str::from_utf8(&bytes[..end]).map_err(|_| NoHeader)?;
    let mut words = line.split(' ').skip(1);
    let family = words.next().ok_or(NoHeader)?;
    let length = end + 2;
    if family == "UNKNOWN" {
        return Ok(Reading::Header(length, None));
    }
    let mut next = || words.next().ok_or(NoHeader);
    let (from, to, from_port, to_port) = (next()?, next()?, next()?, next()?);
    if words.next().is_some() {
        return Err(NoHeader);
    }
    let from = SocketAddr::new(address_v1(family, from)?, port_v1(from_port)?);
    let to = SocketAddr::new(address_v1(family, to)?, port_v1(to_port)?);
    Ok(Reading::Header(length, Some((from, to))))
}

fn address_v1(family: &str, text: &str) -> Result<IpAddr, NoHeader> {
    match family {
        "TCP4" => text.parse::<Ipv4Addr>().map(IpAddr::V4).map_err(|_| NoHeader),
        "TCP6" => text.parse::<Ipv6Addr>().map(IpAddr::V6).map_err(|_| NoHeader),
        _ => Err(NoHeader),
    }
}

fn port_v1(text: &str) -> Result<u16, NoHeader> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if digits { text.parse().map_err(|_| NoHeader) } else { Err(NoHeader) }
}

fn read_v2(bytes: &[u8]) -> Result<Reading, NoHeader> {
    let (command, family) = (bytes[12], bytes[13]);
    let length = V2_HEADER + usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    if length > V2_MAX || command >> 4 != 2 || command & 0xf > 1 {
        return Err(NoHeader);
    }
    let Some(body) = bytes.get(V2_HEADER..length) else { return Ok(Reading::More) };
    if command & 0xf == 0 {
        return Ok(Reading::Header(length, None));
    }
    let addresses = match family >> 4 {
        1 => Some(pair::<4>(body)?),
        2 => Some(pair::<16>(body)?),
        // Unspecified, or unix sockets: nothing that is an address here.
        _ => None,
    };
    Ok(Reading::Header(length, addresses))
}

fn pair<const N: usize>(body: &[u8]) -> Result<(SocketAddr, SocketAddr), NoHeader>
where
    IpAddr: From<[u8; N]>,
{
    let (from, rest) = body.split_first_chunk::<N>().ok_or(NoHeader)?;
    let (to, rest) = rest.split_first_chunk::<N>().ok_or(NoHeader)?;
    let (ports, _) = rest.split_first_chunk::<4>().ok_or(NoHeader)?;
    let from_port = u16::from_be_bytes([ports[0], ports[1]]);
    let to_port = u16::from_be_bytes([ports[2], ports[3]]);
    Ok((SocketAddr::new((*from).into(), from_port), SocketAddr::new((*to).into(), to_port)))
}

/// The header that tells a backend of a stream from `from` to `to`.
pub fn write(version: ProxyVersion, from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let (from, to) = one_family(from, to);
    match version {
        ProxyVersion::V1 => {
            let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
            let line = format!("PROXY {family} {} {} {} {}\r\n", from.ip(), to.ip(), from.port(), to.port());
            line.into_bytes()
        }
        ProxyVersion::V2 => write_v2(from, to, STREAM),
    }
}

/// The version 2 header that goes before a datagram's own bytes.
pub fn write_datagram(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let (from, to) = one_family(from, to);
    write_v2(from, to, DATAGRAM)
}

const STREAM: u8 = 1;
const DATAGRAM: u8 = 2;

/// Both as IPv4, or both as IPv6: the header has no room for one of each.
fn one_family(from: SocketAddr, to: SocketAddr) -> (SocketAddr, SocketAddr) {
    let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let (from, to) = (plain(from), plain(to));
    if from.is_ipv4() == to.is_ipv4() {
        return (from, to);
    }
    let mapped = |address: SocketAddr| match address.ip() {
        IpAddr::V4(v4) => SocketAddr::new(v4.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    };
    (mapped(from), mapped(to))
}

fn write_v2(from: SocketAddr, to: SocketAddr, transport: u8) -> Vec<u8> {
    let mut out = SIGNATURE.to_vec();
    let (family, length) = if from.is_ipv4() { (0x10, 12u16) } else { (0x20, 36) };
    out.extend_from_slice(&[0x21, family | transport]);
    out.extend_from_slice(&length.to_be_bytes());
    for address in [from, to] {
        match address.ip() {
            IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
            IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
        }
    }
    out.extend_from_slice(&from.port().to_be_bytes());
    out.extend_from_slice(&to.port().to_be_bytes());
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn both_versions_come_back_as_they_were_written() {
        for (from, to) in [
            ("192.0.2.1:1234", "198.51.100.2:443"),
            ("[2001:db8::1]:1234", "[2001:db8::2]:443"),
            ("[::ffff:192.0.2.1]:5", "198.51.100.2:443"),
            ("192.0.2.1:5", "[2001:db8::2]:443"),
        ] {
            for version in [ProxyVersion::V1, ProxyVersion::V2] {
                let mut bytes = write(version, at(from), at(to));
                let length = bytes.len();
                for cut in 1..length {
                    assert_eq!(read(&bytes[..cut]), Ok(Reading::More), "{version:?} cut at {cut}");
                }
                bytes.extend_from_slice(b"GET /");
                let Ok(Reading::Header(read, Some((client, local)))) = read(&bytes) else {
                    panic!("{version:?} {from}")
                };
                assert_eq!(read, length);
                let canonical = |a: SocketAddr| (a.ip().to_canonical(), a.port());
                assert_eq!((canonical(client), canonical(local)), (canonical(at(from)), canonical(at(to))));
            }
        }
    }

    #[test]
    fn headers_without_an_address_leave_the_connections_own() {
        assert_eq!(read(b"PROXY UNKNOWN\r\nx"), Ok(Reading::Header(15, None)));
        assert_eq!(read(b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n"), Ok(Reading::Header(35, None)));
        let local = [&SIGNATURE[..], &[0x20, 0, 0, 0]].concat();
        assert_eq!(read(&local), Ok(Reading::Header(16, None)));
    }

    #[test]
    fn what_is_no_header_is_refused() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"PROXY TCP4 192.0.2.1 198.51.100.2 1\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.2 1 2 3\r\n",
            b"PROXY TCP4 2001:db8::1 198.51.100.2 1 2\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.2 +1 2\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.2 01 2\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.2 1 65536\r\n",
            b"PROXY SCTP 192.0.2.1 198.51.100.2 1 2\r\n",
            &[b'P'; 200],
            &[&b"PROXY UNKNOWN "[..], &[b'x'; 200]].concat(),
            &[&SIGNATURE[..], &[0x11, 0x11, 0, 12], &[0; 12]].concat(),
            &[&SIGNATURE[..], &[0x21, 0x11, 0, 4], &[0; 4]].concat(),
            &[&SIGNATURE[..], &[0x21, 0x11, 0xff, 0xff]].concat(),
        ] {
            assert_eq!(read(bytes), Err(NoHeader), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(bytes in proptest::collection::vec(any::<u8>(), 0..300), v2 in any::<bool>()) {
            let bytes = if v2 { [&SIGNATURE[..], &bytes].concat() } else { bytes };
            if let Ok(Reading::Header(length, _)) = read(&bytes) {
                prop_assert!(length <= bytes.len());
            }
        }
    }
}
