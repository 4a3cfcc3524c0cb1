//! Which interfaces are spoken on.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};

/// An interface that multicast goes over, and the families it has addresses of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Interface {
    pub(super) name: String,
    pub(super) index: u32,
    /// An address of it, for sockets that name interfaces so.
    pub(super) ipv4: Option<Ipv4Addr>,
    pub(super) ipv6: bool,
}

/// All that are up, do multicast, and are wanted.
pub(super) fn list(wanted: impl Fn(&str) -> bool) -> Vec<Interface> {
    let Ok(all) = getifaddrs() else { return Vec::new() };
    let mut found: BTreeMap<String, Interface> = BTreeMap::new();
    let fit = InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING | InterfaceFlags::IFF_MULTICAST;
    let unfit = InterfaceFlags::IFF_LOOPBACK | InterfaceFlags::IFF_POINTOPOINT;
    for one in all {
        let name = one.interface_name;
        if !one.flags.contains(fit) || one.flags.intersects(unfit) || !wanted(&name) {
            continue;
        }
        let (Some(address), Ok(index)) = (one.address, if_nametoindex(name.as_str())) else { continue };
        let empty = Interface { name: name.clone(), index, ipv4: None, ipv6: false };
        let interface = found.entry(name).or_insert(empty);
        if let Some(v4) = address.as_sockaddr_in() {
            interface.ipv4.get_or_insert(v4.ip());
        }
        interface.ipv6 |= address.as_sockaddr_in6().is_some();
    }
    found.into_values().filter(|one| one.ipv4.is_some() || one.ipv6).collect()
}

/// Whether `name` is one of `patterns`; a star at the end of one stands for anything. Without any, all but
/// those that containers and virtual machines hang on: they are this host's own, and many.
pub(super) fn is_wanted(name: &str, patterns: &[String]) -> bool {
    const OWN: [&str; 8] = ["sinew*", "docker*", "veth*", "virbr*", "br-*", "cni*", "podman*", "tailscale*"];
    let fits = |pattern: &str| match pattern.strip_suffix('*') {
        Some(front) => name.starts_with(front),
        None => name == pattern,
    };
    if patterns.is_empty() {
        return !OWN.iter().any(|pattern| fits(pattern));
    }
    patterns.iter().any(|pattern| fits(pattern))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chosen_interfaces_and_the_choice_without_one() {
        let two = ["eth0".to_owned(), "wl*".to_owned()];
        let table = [("eth0", true), ("eth1", false), ("wlan0", true), ("sinew0", false)];
        for (name, wanted) in table {
            assert_eq!(is_wanted(name, &two), wanted, "{name}");
        }
        for (name, wanted) in [("eth0", true), ("enp3s0", true), ("docker0", false), ("sinew0", false)] {
            assert_eq!(is_wanted(name, &[]), wanted, "{name}");
        }
        assert!(is_wanted("docker0", &["docker0".to_owned()]), "whoever asks for it gets it");
    }
}
