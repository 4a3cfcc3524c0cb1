//! By which way this host reaches everybody else: the kernel is asked how it would send there.
//!
//! One look-up and not the whole table, which has a million routes on some hosts. The addresses
//! asked about are root servers of the DNS, which are everywhere beyond the default route; nothing
//! is sent to them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};

use super::Net;

const FAR_V4: Ipv4Addr = Ipv4Addr::new(198, 41, 0, 4);
const FAR_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0x503, 0xba3e, 0, 0, 0, 0x2, 0x30);

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

impl Net {
    /// The way out over one family; `None` where there is none.
    pub async fn uplink(&self, ipv6: bool) -> Option<Uplink> {
        let far = if ipv6 { IpAddr::V6(FAR_V6) } else { IpAddr::V4(FAR_V4) };
        let prefix = if ipv6 { 128 } else { 32 };
        let wanted = RouteMessageBuilder::<IpAddr>::new().destination_prefix(far, prefix).ok()?.build();
        let mut answers = std::pin::pin!(self.handle.route().get(wanted).execute());
        // "Unreachable" is an error of the look-up.
        describe(&answers.try_next().await.ok()??)
    }
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
