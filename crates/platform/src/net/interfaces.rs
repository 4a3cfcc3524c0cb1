//! Which addresses this host has, as candidates for paths.

use std::collections::BTreeMap;
use std::net::IpAddr;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags};

use super::{Net, NetError, explain};

/// One address of one interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InterfaceAddress {
    /// Interface index; the scope of a link-local address.
    pub ifindex: u32,
    /// Interface name.
    pub name: String,
    /// The address.
    pub address: IpAddr,
    /// Length of its prefix, bits.
    pub prefix: u8,
    /// The interface is up and has a carrier.
    pub running: bool,
    /// The interface is the loopback.
    pub loopback: bool,
    /// The address may be used for new connections: not tentative, failed or deprecated.
    pub usable: bool,
    /// A privacy address (RFC 8981) that will be replaced.
    pub temporary: bool,
}

impl Net {
    /// All addresses of all interfaces, sorted.
    ///
    /// # Errors
    /// [`NetError`].
    pub async fn interface_addresses(&self) -> Result<Vec<InterfaceAddress>, NetError> {
        let mut links = BTreeMap::new();
        let mut stream = std::pin::pin!(self.handle.link().get().execute());
        while let Some(link) = stream.try_next().await.map_err(explain(|| "list interfaces".to_owned()))? {
            let name = link.attributes.iter().find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) => Some(name.clone()),
                _ => None,
            });
            links.insert(link.header.index, (name.unwrap_or_default(), link.header.flags));
        }
        let mut found = Vec::new();
        let mut stream = std::pin::pin!(self.handle.address().get().execute());
        while let Some(message) = stream.try_next().await.map_err(explain(|| "list addresses".to_owned()))? {
            // An interface that came in between has its own news coming.
            let Some((name, flags)) = links.get(&message.header.index) else { continue };
            found.extend(describe(&message, name, *flags));
        }
        found.sort();
        Ok(found)
    }
}

fn describe(message: &AddressMessage, name: &str, link: LinkFlags) -> Option<InterfaceAddress> {
    let (address, flags) = address_of(message)?;
    let unusable = AddressFlags::Tentative | AddressFlags::Dadfailed | AddressFlags::Deprecated;
    Some(InterfaceAddress {
        ifindex: message.header.index,
        name: name.to_owned(),
        address,
        prefix: message.header.prefix_len,
        running: link.contains(LinkFlags::Up | LinkFlags::LowerUp),
        loopback: link.contains(LinkFlags::Loopback),
        usable: !flags.intersects(unusable),
        // On IPv4 the same bit says "secondary", which is nothing temporary.
        temporary: address.is_ipv6() && flags.contains(AddressFlags::Secondary),
    })
}

/// The interface's own address and its flags. On point-to-point links `Address` is the far end's
/// and `Local` ours; IPv6 has `Address` alone.
pub(super) fn address_of(message: &AddressMessage) -> Option<(IpAddr, AddressFlags)> {
    let (mut address, mut local, mut flags) = (None, None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Address(ip) => address = Some(*ip),
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Flags(all) => flags = Some(*all),
            _ => {}
        }
    }
    let short = |header: AddressHeaderFlags| AddressFlags::from_bits_retain(u32::from(header.bits()));
    Some((local.or(address)?, flags.unwrap_or_else(|| short(message.header.flags))))
}
