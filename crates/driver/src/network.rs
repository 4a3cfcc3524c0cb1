//! What the host's network looks like, and the news of it: addresses, the way out, a machine that slept.
//!
//! A task of its own listens to the kernel. News come in bursts (an interface that comes up has half a
//! dozen), and most concern nobody: workloads' devices, lifetimes that are renewed. So it waits for the
//! end of a burst, looks at what counts, and tells the loop if that is different, or if an interface
//! with one of our addresses went down meanwhile. Without netlink the node goes on with what it found
//! at its start, and finds out about changes by silence.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use sinew_carrier::Datagrams as _;
use sinew_carrier::udp::UdpCarrier;
use sinew_control::api::Listener;
use sinew_node::Endpoints;
use sinew_platform::net::{Changes, InterfaceAddress, Net, NetChange, Uplink};
use sinew_platform::wake::{Wake, Wakes};
use sinew_types::{CarrierKind, MeshAddr};
use tokio::sync::mpsc;
use tracing::{debug, warn};

use crate::portmap::PortMaps;

/// News that belong together come within this.
const BURST: Duration = Duration::from_millis(20);
/// Between two looks at least, so that an interface in trouble does not keep us busy.
const SPACING: Duration = Duration::from_millis(200);
/// Before listening again when the kernel has ended the connection.
const AGAIN: Duration = Duration::from_secs(2);
/// News waiting for the loop.
const QUEUE: usize = 4;

/// The host's network, as far as paths depend on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Network {
    /// Addresses of this host that others could dial.
    pub(crate) addresses: Vec<InterfaceAddress>,
    /// The way out, over IPv4 and IPv6.
    pub(crate) uplinks: [Option<Uplink>; 2],
    /// Interfaces of other ways out, which the kernel takes when that is gone: number and name.
    pub(crate) others: [Vec<(u32, String)>; 2],
}

/// One piece of news for the loop.
#[derive(Debug)]
pub(crate) enum News {
    /// The network is another one, or has been away.
    Network(Network),
    /// The machine slept.
    Slept(Duration),
    /// The wall clock was set.
    ClockSet,
}

impl Network {
    /// What there is now.
    pub(crate) async fn now() -> Self {
        match Net::new() {
            Ok(net) => Self::read(&net).await,
            Err(error) => {
                warn!(%error, "the host's addresses are not known");
                Self::default()
            }
        }
    }

    async fn read(net: &Net) -> Self {
        let mut addresses = net.interface_addresses().await.unwrap_or_default();
        addresses.retain(|own| own.running && own.usable && !own.loopback && is_underlay(own.address));
        let uplinks = [net.uplink(false).await, net.uplink(true).await];
        let mut others = [Vec::new(), Vec::new()];
        for (ipv6, uplink) in [false, true].into_iter().zip(&uplinks) {
            if let Some(uplink) = uplink {
                others[usize::from(ipv6)] = net.other_uplinks(uplink, ipv6, &addresses).await;
            }
        }
        Self { addresses, uplinks, others }
    }

    /// Whether this interface is a way out over one family.
    pub(crate) fn is_uplink(&self, ifindex: u32, ipv6: bool) -> bool {
        let family = usize::from(ipv6);
        self.uplinks[family].is_some_and(|uplink| uplink.ifindex == ifindex)
            || self.others[family].iter().any(|(other, _)| *other == ifindex)
    }

    /// The interface that has this address.
    pub(crate) fn interface_of(&self, address: IpAddr) -> Option<&InterfaceAddress> {
        self.addresses.iter().find(|own| own.address == address)
    }

    /// The name of the interface that the kernel sends by over one family.
    pub(crate) fn uplink_name(&self, ipv6: bool) -> Option<&str> {
        let uplink = self.uplinks[usize::from(ipv6)]?;
        self.addresses.iter().find(|own| own.ifindex == uplink.ifindex).map(|own| own.name.as_str())
    }

    /// Where others may reach this node's UDP sockets, as far as its interfaces say.
    pub(crate) fn endpoints(&self, udp: &[UdpCarrier], mapped: Option<SocketAddr>) -> Endpoints {
        let mut local = Vec::new();
        for bound in udp.iter().map(UdpCarrier::local_addr) {
            for own in self.addresses.iter().filter(|own| own.address.is_ipv6() == bound.is_ipv6()) {
                if bound.ip().is_unspecified() || bound.ip() == own.address {
                    local.push((SocketAddr::new(own.address, bound.port()), own.prefix));
                }
            }
        }
        Endpoints { local, mapped: mapped.into_iter().collect() }
    }

    /// What this node listens on, with the addresses others may dial.
    pub(crate) fn listeners(
        &self,
        bound: &[(CarrierKind, SocketAddr)],
        mapped: Option<SocketAddr>,
    ) -> Vec<Listener> {
        // The port that is mapped is that of the first such socket; see `mapped_port`.
        let first = bound.iter().position(is_mappable);

        let endpoints = |addr: SocketAddr| -> Vec<String> {
            if !addr.ip().is_unspecified() {
                return vec![addr.to_string()];
            }
            let same = self.addresses.iter().filter(|own| own.address.is_ipv6() == addr.is_ipv6());
            same.map(|own| SocketAddr::new(own.address, addr.port()).to_string()).collect()
        };
        let outside = |at: usize| mapped.filter(|_| first == Some(at)).map(|outside| outside.to_string());
        let listener = |(at, &(carrier, addr)): (usize, &(CarrierKind, SocketAddr))| Listener {
            carrier: carrier.as_str().to_owned(),
            address: addr.to_string(),
            endpoints: endpoints(addr).into_iter().chain(outside(at)).collect(),
        };
        bound.iter().enumerate().map(listener).collect()
    }
}

fn is_mappable((carrier, addr): &(CarrierKind, SocketAddr)) -> bool {
    *carrier == CarrierKind::Udp && addr.is_ipv4() && !addr.ip().is_loopback()
}

/// The port that a router is asked to pass on.
pub(crate) fn mapped_port(bound: &[(CarrierKind, SocketAddr)]) -> Option<u16> {
    bound.iter().find(|at| is_mappable(at)).map(|(_, addr)| addr.port())
}

/// Whether others could dial this address: not the mesh itself, and no address that means
/// something else on every link.
fn is_underlay(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(v4) => !v4.is_link_local(),
        IpAddr::V6(v6) => !MeshAddr::contains(&v6) && !v6.is_unicast_link_local(),
    }
}

/// The loop's side of all this: the network as it is, what is heard of it, and the router's favours.
pub(crate) struct Underlay {
    pub(crate) network: Network,
    /// Where a router passes on a port to us.
    pub(crate) mapped: Option<SocketAddr>,
    pub(crate) news: mpsc::Receiver<News>,
    pub(crate) maps: PortMaps,
}

impl Underlay {
    /// Watches the network from now on, and has `port` mapped.
    pub(crate) fn watch(network: Network, port: Option<u16>) -> Self {
        let maps = PortMaps::start(port, network.uplinks[0]);
        Self { news: watch(network.clone()), network, mapped: None, maps }
    }

    /// Gives back what a router has granted.
    pub(crate) async fn end(&mut self) {
        self.maps.end().await;
    }
}

/// Watches until the loop is gone. `known` is what it starts from.
fn watch(known: Network) -> mpsc::Receiver<News> {
    let (sender, news) = mpsc::channel(QUEUE);
    tokio::spawn(watch_clock(sender.clone()));
    tokio::spawn(async move {
        let mut known = known;
        while let Ok(net) = Net::new() {
            match net.changes() {
                Ok(mut changes) => follow(&net, &mut changes, &mut known, &sender).await,
                Err(error) => debug!(%error, "no news of the network"),
            }
            if sender.is_closed() {
                return;
            }
            tokio::time::sleep(AGAIN).await;
        }
        warn!("no netlink: changes of the network are noticed by silence only");
    });
    news
}

async fn watch_clock(sender: mpsc::Sender<News>) {
    let mut wakes = match Wakes::new() {
        Ok(wakes) => wakes,
        Err(error) => return debug!(%error, "sleep is noticed by its consequences"),
    };
    while let Ok(wake) = wakes.next().await {
        let news = match wake {
            Wake::Slept(time) => News::Slept(time),
            Wake::ClockSet => News::ClockSet,
        };
        if sender.send(news).await.is_err() {
            return;
        }
    }
}

/// Follows the news until the kernel or the loop ends.
async fn follow(net: &Net, changes: &mut Changes, known: &mut Network, sender: &mpsc::Sender<News>) {
    // What happened before we listened.
    let mut away = false;
    loop {
        let found = Network::read(net).await;
        if found != *known || away {
            known.clone_from(&found);
            if sender.send(News::Network(found)).await.is_err() {
                return;
            }
        }
        let Some(first) = changes.next().await else { return };
        let read = tokio::time::Instant::now();
        away = takes_away(&first, known);
        while let Ok(next) = tokio::time::timeout(BURST, changes.next()).await {
            let Some(change) = next else { return };
            away |= takes_away(&change, known);
            if read.elapsed() > SPACING {
                break;
            }
        }
    }
}

/// Whether an interface or address that we use was gone for a moment at least.
fn takes_away(change: &NetChange, known: &Network) -> bool {
    let interfaces = || known.addresses.iter().map(|own| own.ifindex).collect::<BTreeSet<_>>();
    match change {
        NetChange::Link { ifindex, running: false, .. } | NetChange::LinkGone { ifindex, .. } => {
            interfaces().contains(ifindex)
        }
        NetChange::AddressGone { address, .. } => known.addresses.iter().any(|own| own.address == *address),
        NetChange::Missed => true,
        NetChange::Link { .. } | NetChange::Address { .. } | NetChange::DefaultRoute => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Network {
        let own = InterfaceAddress {
            ifindex: 3,
            name: "wan".into(),
            address: "192.0.2.7".parse().unwrap(),
            prefix: 24,
            running: true,
            loopback: false,
            usable: true,
            temporary: false,
        };
        Network { addresses: vec![own], ..Network::default() }
    }

    #[test]
    fn only_the_loss_of_what_we_use_counts_when_all_is_as_before() {
        let link = |ifindex, running| NetChange::Link { ifindex, name: String::new(), running, mtu: 0 };
        let gone = |text: &str| NetChange::AddressGone { ifindex: 3, address: text.parse().unwrap() };
        assert!(takes_away(&link(3, false), &known()));
        assert!(!takes_away(&link(3, true), &known()), "renewed");
        assert!(!takes_away(&link(4, false), &known()), "a workload's");
        assert!(takes_away(&gone("192.0.2.7"), &known()));
        assert!(!takes_away(&gone("192.0.2.8"), &known()));
        assert!(takes_away(&NetChange::Missed, &known()));
    }

    #[test]
    fn a_listener_everywhere_has_every_address_of_its_family() {
        let bound = [
            (CarrierKind::Tcp, "0.0.0.0:7".parse().unwrap()),
            (CarrierKind::Wss, "[::1]:8".parse().unwrap()),
        ];
        let listeners = known().listeners(&bound, None);
        assert_eq!(listeners[0].endpoints, ["192.0.2.7:7"]);
        assert_eq!(listeners[1].endpoints, ["[::1]:8"]);
        let bound = [(CarrierKind::Tcp, bound[0].1), (CarrierKind::Udp, bound[0].1)];
        let mapped = known().listeners(&bound, Some("198.51.100.1:9".parse().unwrap()));
        assert_eq!(mapped[0].endpoints, ["192.0.2.7:7"], "only UDP is mapped");
        assert_eq!(mapped[1].endpoints, ["192.0.2.7:7", "198.51.100.1:9"]);
        assert_eq!(mapped_port(&bound), Some(7));
    }

    #[test]
    fn mesh_and_link_local_addresses_are_no_underlay() {
        for (text, expected) in [
            ("fd3f::1", false),
            ("fe80::1", false),
            ("169.254.1.1", false),
            ("10.0.0.1", true),
            ("2001:db8::1", true),
        ] {
            assert_eq!(is_underlay(text.parse().unwrap()), expected, "{text}");
        }
    }
}
