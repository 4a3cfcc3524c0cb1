//! Interfaces as such: which there are, whose they are, and where they live.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use futures_util::TryStreamExt;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressScope, CacheInfo};
use rtnetlink::packet_route::link::{
    InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};

use super::{Change, Net, NetError, errno, explain, link, name_of};

/// What an interface is, as far as we treat it differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// The loopback.
    Loopback,
    /// A TUN device: packets.
    Tun,
    /// A TAP device: Ethernet frames.
    Tap,
    /// Packets inside of other packets: WireGuard, IPsec, GRE and their like, and PPP, which may be one.
    Tunnel,
    /// Anything else.
    Other,
}

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Interface index.
    pub ifindex: u32,
    /// Interface name.
    pub name: String,
    /// What it is.
    pub kind: LinkKind,
    /// The text its owner gave it; empty if none.
    pub alias: String,
    /// Set up by its owner; with or without a carrier.
    pub up: bool,
    /// It is part of a bridge or the like.
    pub enslaved: bool,
}

impl Net {
    /// All interfaces.
    ///
    /// # Errors
    /// [`NetError`].
    pub async fn links(&self) -> Result<Vec<Link>, NetError> {
        let mut found = Vec::new();
        let mut stream = std::pin::pin!(self.handle.link().get().execute());
        while let Some(message) = stream.try_next().await.map_err(explain(|| "list interfaces".to_owned()))? {
            found.push(describe(&message));
        }
        Ok(found)
    }

    /// Gives an interface a text to be known by (at most 255 bytes).
    ///
    /// # Errors
    /// [`NetError`].
    pub async fn set_alias(&self, ifindex: u32, alias: &str) -> Result<(), NetError> {
        let message = link(ifindex).alias(alias).build();
        let result = self.handle.link().change(message).execute().await;
        result.map_err(explain(|| format!("mark {} as ours", name_of(ifindex))))
    }

    /// Brings an interface up and leaves the rest as it is.
    ///
    /// # Errors
    /// [`NetError`].
    pub async fn set_up(&self, ifindex: u32) -> Result<(), NetError> {
        let result = self.handle.link().change(link(ifindex).up().build()).execute().await;
        result.map_err(explain(|| format!("bring up {}", name_of(ifindex))))
    }

    /// Moves an interface to another namespace; it loses its addresses and is down there.
    ///
    /// # Errors
    /// [`NetError`].
    pub async fn move_link(&self, ifindex: u32, namespace: BorrowedFd<'_>) -> Result<(), NetError> {
        let message = link(ifindex).setns_by_fd(namespace.as_raw_fd()).build();
        let result = self.handle.link().change(message).execute().await;
        result.map_err(explain(|| format!("move {} to another namespace", name_of(ifindex))))
    }

    /// Deletes an interface with its addresses and routes; one that is gone is as good.
    ///
    /// # Errors
    /// [`NetError`].
    pub async fn delete_link(&self, ifindex: u32) -> Result<(), NetError> {
        match self.handle.link().del(ifindex).execute().await {
            Err(error) if errno(&error) == libc::ENODEV => Ok(()),
            result => result.map_err(explain(|| format!("delete {}", name_of(ifindex)))),
        }
    }

    /// Adds an address for a service on this host: it answers there, and the kernel never picks it
    /// as the source of something else (RFC 6724 rule 3 for IPv6, host scope for IPv4).
    ///
    /// # Errors
    /// [`NetError`].
    pub async fn add_service_address(&self, ifindex: u32, address: IpAddr) -> Result<Change, NetError> {
        let prefix = if address.is_ipv6() { 128 } else { 32 };
        let mut request = self.handle.address().add(ifindex, address, prefix);
        let message = request.message_mut();
        if address.is_ipv6() {
            let mut times = CacheInfo::default();
            (times.ifa_preferred, times.ifa_valid) = (0, u32::MAX);
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
            message.attributes.push(AddressAttribute::CacheInfo(times));
        } else {
            message.header.scope = AddressScope::Host;
        }
        match request.execute().await {
            Err(error) if errno(&error) == libc::EEXIST => {}
            Err(error) if address.is_ipv6() && errno(&error) == libc::EACCES => {
                return Err(NetError::Ipv6Off(name_of(ifindex)));
            }
            result => result.map_err(explain(|| format!("add {address} to {}", name_of(ifindex))))?,
        }
        Ok(Change::Address { ifindex, address, prefix })
    }
}

fn describe(message: &LinkMessage) -> Link {
    let (mut name, mut alias, mut enslaved) = (String::new(), String::new(), false);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name.clone_from(text),
            LinkAttribute::IfAlias(text) => alias.clone_from(text),
            LinkAttribute::Controller(index) => enslaved = *index != 0,
            _ => {}
        }
    }
    let up = message.header.flags.contains(LinkFlags::Up);
    Link { ifindex: message.header.index, name, kind: kind_of(message), alias, up, enslaved }
}

fn kind_of(message: &LinkMessage) -> LinkKind {
    let infos = message.attributes.iter().filter_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => Some(infos),
        _ => None,
    });
    let kind = infos.flatten().find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(kind),
        _ => None,
    });
    let layer = message.header.link_layer_type;
    match kind {
        _ if message.header.flags.contains(LinkFlags::Loopback) => LinkKind::Loopback,
        Some(InfoKind::Tun) if layer == LinkLayerType::Ether => LinkKind::Tap,
        Some(InfoKind::Tun) => LinkKind::Tun,
        Some(kind) if !is_wire(kind) => LinkKind::Tunnel,
        _ if layer == LinkLayerType::Ppp => LinkKind::Tunnel,
        _ => LinkKind::Other,
    }
}

/// Whether an interface that the kernel makes itself stands for a wire, a radio or a network of the host's
/// own. Unknown ones are taken for tunnels; hardware has no such kind at all.
const fn is_wire(kind: &InfoKind) -> bool {
    matches!(
        kind,
        InfoKind::Veth
            | InfoKind::Vlan
            | InfoKind::Bond
            | InfoKind::Team
            | InfoKind::Bridge
            | InfoKind::MacVlan
            | InfoKind::IpVlan
            | InfoKind::Netkit
            | InfoKind::Dsa
            | InfoKind::VirtWifi
            | InfoKind::Wwan
            | InfoKind::RmNet
    )
}
