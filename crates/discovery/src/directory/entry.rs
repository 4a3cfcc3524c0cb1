//! The members by which this node comes in, each written as an address or as a name.
//!
//! A name is looked up at every walk through the table, by the host's own resolver and off the thread's
//! loop: a member behind a changing address is found again. Which member it is says the key at the end, so
//! a resolver that lies leads to nobody.

use std::net::{IpAddr, SocketAddr};

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use sinew_types::MeshAddr;
use tracing::debug;

use super::DirectoryError;

/// Addresses of one name that are used.
const ADDRESSES: usize = 4;

/// One member that the operator knows.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) peer: PeerId,
    pub(super) place: Place,
}

/// Where it is.
#[derive(Clone, Debug)]
pub(super) enum Place {
    Address(Multiaddr),
    Name(Name),
}

/// A name with a TCP port, and whether it means the IPv6 addresses alone, or those of IPv4.
#[derive(Clone, Debug)]
pub(super) struct Name {
    host: String,
    ipv6: Option<bool>,
    port: u16,
}

impl Entry {
    pub(super) fn parse(text: &str) -> Result<Self, DirectoryError> {
        let bad = |why: &str| DirectoryError::Entry(text.to_owned(), why.to_owned());
        let mut address: Multiaddr = text.parse().map_err(|error| bad(&format!("{error}")))?;
        let Some(Protocol::P2p(peer)) = address.pop() else {
            return Err(bad("it has no peer id at its end"));
        };
        let mut parts = address.iter();
        let (host, ipv6) = match parts.next() {
            Some(Protocol::Dns(host)) => (host, None),
            Some(Protocol::Dns4(host)) => (host, Some(false)),
            Some(Protocol::Dns6(host)) => (host, Some(true)),
            _ => return Ok(Self { peer, place: Place::Address(address) }),
        };
        let Some(Protocol::Tcp(port)) = parts.next() else { return Err(bad("it has no TCP port")) };
        let host = host.into_owned();
        Ok(Self { peer, place: Place::Name(Name { host, ipv6, port }) })
    }
}

impl Name {
    /// Where it leads now; nowhere if it does not resolve.
    pub(super) async fn addresses(self) -> Vec<Multiaddr> {
        let found = match tokio::net::lookup_host((self.host.as_str(), self.port)).await {
            Ok(found) => found,
            Err(error) => {
                debug!(host = %self.host, %error, "an entry to the directory does not resolve");
                return Vec::new();
            }
        };
        let of_family = |at: &SocketAddr| self.ipv6.is_none_or(|ipv6| at.is_ipv6() == ipv6);
        // The directory is a part of the underlay: over the mesh it would rest on itself.
        let mesh = |at: &SocketAddr| matches!(at.ip(), IpAddr::V6(v6) if MeshAddr::contains(&v6));
        found.filter(|at| of_family(at) && !mesh(at)).map(multiaddr).take(ADDRESSES).collect()
    }
}

/// A TCP socket's address as libp2p writes it.
pub(super) fn multiaddr(addr: SocketAddr) -> Multiaddr {
    let ip = match addr.ip() {
        IpAddr::V4(v4) => Protocol::Ip4(v4),
        IpAddr::V6(v6) => Protocol::Ip6(v6),
    };
    Multiaddr::empty().with(ip).with(Protocol::Tcp(addr.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X";

    fn parse(text: &str) -> Result<Entry, DirectoryError> {
        Entry::parse(&format!("{text}/p2p/{PEER}"))
    }

    #[tokio::test]
    async fn an_entry_is_an_address_or_a_name_of_one_family_or_both() {
        assert!(matches!(parse("/ip4/192.0.2.1/tcp/7464").unwrap().place, Place::Address(_)));
        for (text, expected) in [
            ("/dns4/localhost/tcp/7", "/ip4/127.0.0.1/tcp/7"),
            ("/dns/127.0.0.1/tcp/7", "/ip4/127.0.0.1/tcp/7"),
        ] {
            let Place::Name(name) = parse(text).unwrap().place else { panic!("{text} is a name") };
            assert_eq!(name.addresses().await, [expected.parse().unwrap()], "{text}");
        }
        let Place::Name(six) = parse("/dns6/127.0.0.1/tcp/7").unwrap().place else { panic!("a name") };
        assert!(six.addresses().await.is_empty(), "none of that family");
        assert!(parse("/dns/keeper.example").is_err(), "no port");
        assert!(Entry::parse("/dns/keeper.example/tcp/7464").is_err(), "no key");
    }
}
