//! Looking into a container's network namespace, and cleaning up in it while no daemon runs.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd as _;
use std::path::Path;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use sinew_platform::net::Net;
use sinew_platform::netns;

use crate::error::{CniError, Code};

/// What the kernel has in a namespace.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Inside {
    /// Name, whether it is up, its addresses.
    interfaces: Vec<(String, bool, Vec<IpAddr>)>,
    /// Interface and destination.
    routes: Vec<(String, IpAddr, u8)>,
}

/// Opens the namespace that the runtime names.
pub(crate) fn open(path: &Path) -> Result<File, CniError> {
    let refused = |why: &str| {
        let message = format!("CNI_NETNS is {}: {why}", path.display());
        CniError::new(Code::Environment, message, "")
    };
    let file = File::open(path).map_err(|error| refused(&error.to_string()))?;
    if netns::is_network_namespace(file.as_fd()) { Ok(file) } else { Err(refused("no network namespace")) }
}

impl Inside {
    /// Looks into a namespace.
    pub(crate) fn look(namespace: &File) -> io::Result<Self> {
        netns::enter(namespace.as_fd(), || {
            let mut inside = Self::default();
            for found in getifaddrs()? {
                let up = found.flags.contains(InterfaceFlags::IFF_UP);
                let at = inside.interfaces.iter().position(|(name, ..)| *name == found.interface_name);
                let at = at.unwrap_or_else(|| {
                    inside.interfaces.push((found.interface_name.clone(), up, Vec::new()));
                    inside.interfaces.len() - 1
                });
                inside.interfaces[at].2.extend(found.address.as_ref().and_then(address));
            }
            // A namespace without IPv6 has no such file.
            inside.routes = routes4(&std::fs::read_to_string("/proc/thread-self/net/route")?);
            let six = std::fs::read_to_string("/proc/thread-self/net/ipv6_route").unwrap_or_default();
            inside.routes.extend(routes6(&six));
            Ok(inside)
        })?
    }

    /// What is missing of an interface: it as a whole, its being up, an address, a way there.
    pub(crate) fn lacks(
        &self,
        interface: &str,
        addresses: &[IpAddr],
        routes: &[(IpAddr, u8)],
    ) -> Option<String> {
        let Some((_, up, has)) = self.interfaces.iter().find(|(name, ..)| name == interface) else {
            return Some(format!("interface {interface} is not there"));
        };
        if !up {
            return Some(format!("interface {interface} is down"));
        }
        if let Some(missing) = addresses.iter().find(|address| !has.contains(address)) {
            return Some(format!("{interface} does not have {missing}"));
        }
        let goes = |&&(to, len): &&(IpAddr, u8)| {
            !self
                .routes
                .iter()
                .any(|(by, known, known_len)| by == interface && *known == to && *known_len == len)
        };
        routes.iter().find(goes).map(|(to, len)| format!("no route to {to}/{len} over {interface}"))
    }
}

fn address(storage: &nix::sys::socket::SockaddrStorage) -> Option<IpAddr> {
    let four = storage.as_sockaddr_in().map(|address| address.ip().into());
    four.or_else(|| storage.as_sockaddr_in6().map(|address| address.ip().into()))
}

/// `/proc/net/route`: interface, destination and mask as hexadecimal in the machine's byte order.
fn routes4(text: &str) -> Vec<(String, IpAddr, u8)> {
    let line = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let number = |field: &str| u32::from_str_radix(field, 16).ok().map(|number| number.to_ne_bytes());
        let to = Ipv4Addr::from(number(fields.get(1)?)?);
        let mask = u32::from_be_bytes(number(fields.get(7)?)?);
        Some(((*fields.first()?).to_owned(), to.into(), u8::try_from(mask.count_ones()).ok()?))
    };
    text.lines().skip(1).filter_map(line).collect()
}

/// `/proc/net/ipv6_route`: destination, its length, …, interface.
fn routes6(text: &str) -> Vec<(String, IpAddr, u8)> {
    let line = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let to = u128::from_str_radix(fields.first()?, 16).ok()?;
        let len = u8::from_str_radix(fields.get(1)?, 16).ok()?;
        Some(((*fields.get(9)?).to_owned(), Ipv6Addr::from(to).into(), len))
    };
    text.lines().filter_map(line).collect()
}

/// Removes interfaces by name; those that are not there count as removed.
pub(crate) fn remove(namespace: &File, names: &[String]) -> io::Result<()> {
    netns::enter(namespace.as_fd(), || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let net = Net::new().map_err(io::Error::other)?;
            for link in net.links().await.map_err(io::Error::other)? {
                if names.contains(&link.name) {
                    net.delete_link(link.ifindex).await.map_err(io::Error::other)?;
                }
            }
            Ok(())
        })
    })?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inside() -> Inside {
        let four = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
                    eth0\t0000140A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";
        let six = "fd123456789a00000000000000000000 30 00000000000000000000000000000000 00 \
                   00000000000000000000000000000000 00000400 00000001 00000000 00000001 eth0\n";
        let mut routes = routes4(four);
        routes.extend(routes6(six));
        let addresses = vec!["10.20.1.2".parse().unwrap(), "fd12:3456:789a:1::2".parse().unwrap()];
        Inside {
            interfaces: vec![("eth0".to_owned(), true, addresses), ("eth1".to_owned(), false, vec![])],
            routes,
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let (four, six) = (ip("10.20.1.2"), ip("fd12:3456:789a:1::2"));
        let ways = [(ip("10.20.0.0"), 16), (ip("fd12:3456:789a::"), 48)];
        let lacks = |name: &str, addresses: &[IpAddr], routes: &[(IpAddr, u8)]| {
            inside().lacks(name, addresses, routes)
        };
        assert_eq!(lacks("eth0", &[four, six], &ways), None);
        for (found, text) in [
            (lacks("eth2", &[], &[]), "interface eth2 is not there"),
            (lacks("eth1", &[], &[]), "interface eth1 is down"),
            (lacks("eth0", &[ip("10.20.1.3")], &[]), "eth0 does not have 10.20.1.3"),
            (lacks("eth0", &[four], &[(ip("10.20.0.0"), 17)]), "no route to 10.20.0.0/17 over eth0"),
        ] {
            assert_eq!(found.as_deref(), Some(text));
        }
    }

    #[test]
    fn this_namespace_can_be_looked_into_and_a_file_is_none() {
        let own = open(Path::new("/proc/self/ns/net")).unwrap();
        match Inside::look(&own) {
            Ok(inside) => assert_eq!(inside.lacks("lo", &["127.0.0.1".parse().unwrap()], &[]), None),
            // Entering needs root even where one is.
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
        }
        assert_eq!(open(Path::new("/proc/self/status")).unwrap_err().code, Code::Environment);
        assert_eq!(open(Path::new("/nonexistent")).unwrap_err().code, Code::Environment);
    }
}
