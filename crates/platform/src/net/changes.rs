//! News of links, addresses and default routes, so that paths can be tried anew the moment the underlay changes.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;

use futures_util::{Stream, StreamExt};
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::packet_route::route::RouteType;
use tokio::task::JoinHandle;

use super::interfaces::address_of;
use super::{Net, NetError};

/// One piece of news. Repetitions happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetChange {
    /// An interface came or changed.
    Link {
        /// Interface index.
        ifindex: u32,
        /// Interface name.
        name: String,
        /// It is up and has a carrier.
        running: bool,
        /// Its MTU, bytes; 0 if the kernel did not say.
        mtu: u32,
    },
    /// An interface went.
    LinkGone {
        /// Interface index.
        ifindex: u32,
        /// Interface name.
        name: String,
    },
    /// An address came or changed.
    Address {
        /// Interface index.
        ifindex: u32,
        /// The address.
        address: IpAddr,
    },
    /// An address went.
    AddressGone {
        /// Interface index.
        ifindex: u32,
        /// The address.
        address: IpAddr,
    },
    /// A default route came, changed or went.
    DefaultRoute,
    /// News were lost in a burst: read [`Net::interface_addresses`] again.
    Missed,
}

/// A stream of [`NetChange`].
pub struct Changes {
    stream: Pin<Box<dyn Stream<Item = NetChange> + Send>>,
    task: JoinHandle<()>,
}

impl Changes {
    /// The next piece of news; `None` when the kernel has ended the connection. Cancel safe.
    pub async fn next(&mut self) -> Option<NetChange> {
        self.stream.next().await
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl std::fmt::Debug for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Changes")
    }
}

impl Net {
    /// Listens for news from now on, on a connection of its own.
    ///
    /// # Errors
    /// When the process has no descriptors left.
    ///
    /// # Panics
    /// Outside a tokio runtime with IO enabled.
    pub fn changes(&self) -> Result<Changes, NetError> {
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
        ];
        let failed = |source: io::Error| NetError::Failed { action: "watch the network".to_owned(), source };
        let (connection, _, messages) = rtnetlink::new_multicast_connection(&groups).map_err(failed)?;
        let stream = messages.filter_map(|(message, _)| std::future::ready(translate(message)));
        Ok(Changes { stream: Box::pin(stream), task: tokio::spawn(connection) })
    }
}

fn translate(message: NetlinkMessage<RouteNetlinkMessage>) -> Option<NetChange> {
    let inner = match message.payload {
        NetlinkPayload::InnerMessage(inner) => inner,
        NetlinkPayload::Overrun(_) => return Some(NetChange::Missed),
        _ => return None,
    };
    match inner {
        RouteNetlinkMessage::NewLink(link) => Some(NetChange::Link {
            ifindex: link.header.index,
            name: name_in(&link),
            running: link.header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
            mtu: link.attributes.iter().find_map(mtu_in).unwrap_or(0),
        }),
        RouteNetlinkMessage::DelLink(link) => {
            Some(NetChange::LinkGone { ifindex: link.header.index, name: name_in(&link) })
        }
        RouteNetlinkMessage::NewAddress(message) => {
            let (address, _) = address_of(&message)?;
            Some(NetChange::Address { ifindex: message.header.index, address })
        }
        RouteNetlinkMessage::DelAddress(message) => {
            let (address, _) = address_of(&message)?;
            Some(NetChange::AddressGone { ifindex: message.header.index, address })
        }
        // A router's table may change all the time; only the way to everywhere else is news.
        RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route)
            if route.header.destination_prefix_length == 0 && route.header.kind == RouteType::Unicast =>
        {
            Some(NetChange::DefaultRoute)
        }
        _ => None,
    }
}

fn name_in(link: &LinkMessage) -> String {
    let name = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    });
    name.unwrap_or_default()
}

fn mtu_in(attribute: &LinkAttribute) -> Option<u32> {
    match attribute {
        LinkAttribute::Mtu(mtu) => Some(*mtu),
        _ => None,
    }
}
