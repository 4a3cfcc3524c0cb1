//! By which way this host reaches everybody else: the kernel is asked how it would send there.
//!
//! One look-up and not the whole table, which has a million routes on some hosts. The addresses
//! asked about are root servers of the DNS, which are everywhere beyond the default route; nothing
//! is sent to them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use std::collections::BTreeMap;

use futures_util::TryStreamExt;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteFlags, RouteMessage};

use super::{InterfaceAddress, LinkKind, Net};

const FAR_V4: Ipv4Addr = Ipv4Addr::new(198, 41, 0, 4);
const FAR_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0x503, 0xba3e, 0, 0, 0, 0x2, 0x30);

/// Interfaces that are asked about at most.
const MAX_ASKED: usize = 64;

/// The way out of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// Interface index.
    pub ifindex: u32,
    /// The router, unless the link has none (point-to-point).
    pub gateway: Option<IpAddr>,
    /// The address that packets leave with.
    pub source: Option<IpAddr>,
}

/// Which entry of which table leads somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    table: u32,
    prefix: u8,
}

impl Net {
    /// Interfaces by which the host could reach everybody else if the one that it uses were not there, by
    /// number and name: those with a route of the same table and length as that of `uplink`, and another
    /// metric.
    ///
    /// A tunnel is none, and where one is the way out there are no others: whoever sends everything into a
    /// tunnel does not want to be met beside it. For the same reason the routes must be alike.
    pub async fn other_uplinks(
        &self,
        uplink: &Uplink,
        ipv6: bool,
        addresses: &[InterfaceAddress],
    ) -> Vec<(u32, String)> {
        let of_family = addresses.iter().filter(|own| own.address.is_ipv6() == ipv6 && !own.loopback);
        let named: BTreeMap<_, _> = of_family.map(|own| (own.ifindex, &own.name)).collect();
        if named.len() < 2 {
            return Vec::new();
        }
        let links = self.links().await.unwrap_or_default();
        let is_wire = |ifindex| links.iter().any(|l| l.ifindex == ifindex && l.kind == LinkKind::Other);
        let Some(used) = self.entry(ipv6, uplink.ifindex).await.filter(|_| is_wire(uplink.ifindex)) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for (ifindex, name) in named.into_iter().take(MAX_ASKED) {
            let other = ifindex != uplink.ifindex && is_wire(ifindex);
            if other && self.entry(ipv6, ifindex).await == Some(used) {
                found.push((ifindex, name.clone()));
            }
        }
        found
    }

    /// The entry by which packets that must leave by this interface would find their way.
    async fn entry(&self, ipv6: bool, ifindex: u32) -> Option<Entry> {
        let (far, prefix) = far(ipv6);
        let wanted = RouteMessageBuilder::<IpAddr>::new().destination_prefix(far, prefix).ok()?;
        let mut wanted = wanted.output_interface(ifindex).build();
        // Without this the kernel says how it would send, which it does over IPv4 even where no route leads
        // there: it takes everybody for a neighbour then.
        wanted.header.flags |= RouteFlags::FibMatch;
        let mut answers = std::pin::pin!(self.handle.route().get(wanted).execute());
        let route = answers.try_next().await.ok()??;
        let table = route.attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Table(table) => Some(*table),
            _ => None,
        });
        let table = table.unwrap_or_else(|| u32::from(route.header.table));
        Some(Entry { table, prefix: route.header.destination_prefix_length })
    }

    /// The way out over one family; `None` where there is none.
    pub async fn uplink(&self, ipv6: bool) -> Option<Uplink> {
        let (far, prefix) = far(ipv6);
        let wanted = RouteMessageBuilder::<IpAddr>::new().destination_prefix(far, prefix).ok()?.build();
        let mut answers = std::pin::pin!(self.handle.route().get(wanted).execute());
        // "Unreachable" is an error of the look-up.
        describe(&answers.try_next().await.ok()??)
    }
}

const fn far(ipv6: bool) -> (IpAddr, u8) {
    if ipv6 { (IpAddr::V6(FAR_V6), 128) } else { (IpAddr::V4(FAR_V4), 32) }
}

fn describe(route: &RouteMessage) -> Option<Uplink> {
    let (mut ifindex, mut gateway, mut source) = (None, None, None);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => ifindex = Some(*index),
            RouteAttribute::Gateway(address) => gateway = ip(address),
            RouteAttribute::PrefSource(address) => source = ip(address),
            _ => {}
        }
    }
    Some(Uplink { ifindex: ifindex?, gateway, source })
}

const fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}
