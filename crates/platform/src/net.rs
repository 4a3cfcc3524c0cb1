//! Addresses and routes of this host, over netlink.
//!
//! Whatever is added comes back as a [`Change`], which [`Net::remove`] undoes, so that a clean
//! stop leaves the host as it was. (A device that vanishes takes its addresses and routes along;
//! the undo matters for persistent ones and for a stop with the device handed on.) Routes carry a
//! protocol number of our own, for people who ask `ip route` whose they are.

use std::io;
use std::net::IpAddr;

use futures_util::TryStreamExt;
use nix::net::if_::if_indextoname;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags};
use rtnetlink::packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoKind, LinkAttribute, LinkInfo, LinkMessage,
};
use rtnetlink::packet_route::route::RouteProtocol;
use rtnetlink::{Error, Handle, LinkMessageBuilder, LinkUnspec, RouteMessageBuilder};
use thiserror::Error as ThisError;
use tokio::task::JoinHandle;

mod changes;
mod interfaces;
mod links;
mod uplink;

pub use changes::{Changes, NetChange};
pub use interfaces::InterfaceAddress;
pub use links::{Link, LinkKind};
pub use uplink::Uplink;

/// The protocol number of our routes (`ip route` shows "proto 115"); free in rtnetlink.h.
pub const ROUTE_PROTOCOL: u8 = 115;
/// Largest super-packet the TUN hands over, bytes: with what sealing adds to each segment, one
/// UDP_SEGMENT send (65,507 bytes) still takes it.
const GSO_MAX: u32 = 61_440;

/// Why the host's network was not changed or read.
#[derive(Debug, ThisError)]
pub enum NetError {
    /// Not allowed.
    #[error("no permission to {0}: run as root or grant CAP_NET_ADMIN")]
    NotPermitted(String),
    /// IPv6 is switched off for the interface.
    #[error(
        "IPv6 is switched off on {0}: `sysctl -w net.ipv6.conf.{0}.disable_ipv6=0` (and `.default.` for good)"
    )]
    Ipv6Off(String),
    /// The route is there already, and not by us.
    #[error(
        "a route for {0} exists already: another mesh daemon runs here, or it is left over (`ip route show {0}`)"
    )]
    RouteTaken(String),
    /// The interface name is held by a running program, or is not a TUN device at all.
    #[error(
        "interface `{0}` exists and is in use: stop the program that holds it, or set another `name` under [tun]"
    )]
    InterfaceInUse(String),
    /// Anything else.
    #[error("cannot {action}: {source}")]
    Failed {
        /// What was attempted.
        action: String,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Something that was added to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// An address on an interface.
    Address {
        /// The interface.
        ifindex: u32,
        /// The address.
        address: IpAddr,
        /// Length of its prefix, bits.
        prefix: u8,
    },
    /// A route to an interface.
    Route {
        /// The interface.
        ifindex: u32,
        /// First address of the destination.
        destination: IpAddr,
        /// Length of its prefix, bits.
        prefix: u8,
    },
}

/// A netlink connection to the network namespace of the thread that made it.
pub struct Net {
    handle: Handle,
    task: JoinHandle<()>,
}

impl Net {
    /// Opens the connection and starts the task that serves it.
    ///
    /// # Errors
    /// When the process has no descriptors left, or may not use netlink at all.
    ///
    /// # Panics
    /// Outside a tokio runtime with IO enabled.
    pub fn new() -> Result<Self, NetError> {
        let (connection, handle, _) = rtnetlink::new_connection()
            .map_err(|source| NetError::Failed { action: "open netlink".to_owned(), source })?;
        Ok(Self { handle, task: tokio::spawn(connection) })
    }

    /// Sets the MTU (bytes) and brings the interface up, quietly: no link-local address of its
    /// own and so no router solicitations into the mesh.
    ///
    /// # Errors
    /// [`NetError`].
    pub async fn link_up(&self, ifindex: u32, mtu: u16) -> Result<(), NetError> {
        let name = name_of(ifindex);
        // Containers often switch IPv6 off by default. It is our device; if /proc is read-only,
        // adding the address will tell.
        let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "0");
        let quiet = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
        for wish in [LinkAttribute::AfSpecUnspec(vec![quiet]), LinkAttribute::GsoMaxSize(GSO_MAX)] {
            let message = link(ifindex).append_extra_attribute(wish).build();
            if let Err(error) = self.handle.link().change(message).execute().await {
                tracing::debug!(name, %error, "the kernel lacks an interface setting");
            }
        }
        let message = link(ifindex).mtu(u32::from(mtu)).up().build();
        let result = self.handle.link().change(message).execute().await;
        result.map_err(explain(|| format!("bring up {name} with MTU {mtu}")))
    }

    /// Adds an address; one that is there already is as good.
    ///
    /// # Errors
    /// [`NetError`].
    pub async fn add_address(&self, ifindex: u32, address: IpAddr, prefix: u8) -> Result<Change, NetError> {
        let mut request = self.handle.address().add(ifindex, address, prefix);
        if address.is_ipv6() {
            // The address is bound to a key: nobody else can have it, and it has to work at once.
            request.message_mut().attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        match request.execute().await {
            Err(error) if errno(&error) == libc::EEXIST => {}
            Err(error) if address.is_ipv6() && errno(&error) == libc::EACCES => {
                return Err(NetError::Ipv6Off(name_of(ifindex)));
            }
            result => {
                result.map_err(explain(|| format!("add {address}/{prefix} to {}", name_of(ifindex))))?
            }
        }
        Ok(Change::Address { ifindex, address, prefix })
    }

    /// Adds a route to an interface; never replaces one.
    ///
    /// # Errors
    /// [`NetError::RouteTaken`] and others.
    pub async fn add_route(&self, ifindex: u32, destination: IpAddr, prefix: u8) -> Result<Change, NetError> {
        let message = route(ifindex, destination, prefix)?;
        match self.handle.route().add(message).execute().await {
            Err(error) if errno(&error) == libc::EEXIST => {
                return Err(NetError::RouteTaken(format!("{destination}/{prefix}")));
            }
            result => result.map_err(explain(|| format!("add a route for {destination}/{prefix}")))?,
        }
        Ok(Change::Route { ifindex, destination, prefix })
    }

    /// Removes an address, whoever added it; one that is gone is as good.
    ///
    /// # Errors
    /// [`NetError`].
    pub async fn remove_address(&self, ifindex: u32, address: IpAddr, prefix: u8) -> Result<(), NetError> {
        self.remove(Change::Address { ifindex, address, prefix }).await
    }

    /// Undoes a change; what is gone already is as good.
    ///
    /// # Errors
    /// [`NetError`].
    pub async fn remove(&self, change: Change) -> Result<(), NetError> {
        let result = match change {
            Change::Address { ifindex, address, prefix } => {
                let message = self.handle.address().add(ifindex, address, prefix).message_mut().clone();
                self.handle.address().del(message).execute().await
            }
            Change::Route { ifindex, destination, prefix } => {
                self.handle.route().del(route(ifindex, destination, prefix)?).execute().await
            }
        };
        match result {
            Err(error) if [libc::ESRCH, libc::EADDRNOTAVAIL, libc::ENODEV].contains(&errno(&error)) => Ok(()),
            result => result.map_err(explain(|| format!("undo {change:?}"))),
        }
    }

    /// Deletes a TUN device `name` that a killed run left behind, with its addresses and routes.
    /// Returns what was done, for the log.
    ///
    /// # Errors
    /// [`NetError::InterfaceInUse`] if somebody holds the device or it is of another kind.
    pub async fn orphans(&self, name: &str) -> Result<Vec<String>, NetError> {
        let Some(found) = self.find_link(name).await? else { return Ok(Vec::new()) };
        let is_tun = found.attributes.iter().any(|attribute| {
            matches!(attribute, LinkAttribute::LinkInfo(infos)
                if infos.iter().any(|info| matches!(info, LinkInfo::Kind(InfoKind::Tun))))
        });
        // A TUN device has a carrier as long as a process holds its descriptor, up or down.
        let held = found.attributes.iter().any(|a| matches!(a, LinkAttribute::Carrier(1)));
        if !is_tun || held {
            return Err(NetError::InterfaceInUse(name.to_owned()));
        }
        let result = self.handle.link().del(found.header.index).execute().await;
        result.map_err(explain(|| format!("delete the leftover interface {name}")))?;
        Ok(vec![format!("deleted interface {name}, left over from a run that was killed")])
    }

    async fn find_link(&self, name: &str) -> Result<Option<LinkMessage>, NetError> {
        let mut links = std::pin::pin!(self.handle.link().get().match_name(name).execute());
        match links.try_next().await {
            Err(error) if errno(&error) == libc::ENODEV => Ok(None),
            result => result.map_err(explain(|| format!("look for interface {name}"))),
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl std::fmt::Debug for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Net")
    }
}

fn link(ifindex: u32) -> LinkMessageBuilder<LinkUnspec> {
    LinkUnspec::new_with_index(ifindex)
}

fn route(
    ifindex: u32,
    destination: IpAddr,
    prefix: u8,
) -> Result<rtnetlink::packet_route::route::RouteMessage, NetError> {
    let builder = RouteMessageBuilder::<IpAddr>::new()
        .output_interface(ifindex)
        .protocol(RouteProtocol::Other(ROUTE_PROTOCOL))
        .destination_prefix(destination, prefix)
        .map_err(|error| NetError::Failed {
            action: format!("make a route for {destination}/{prefix}"),
            source: io::Error::new(io::ErrorKind::InvalidInput, error),
        })?;
    Ok(builder.build())
}

/// For messages; an interface that is gone has only its number.
fn name_of(ifindex: u32) -> String {
    match if_indextoname(ifindex) {
        Ok(name) if !name.is_empty() => name.to_string_lossy().into_owned(),
        _ => format!("interface {ifindex}"),
    }
}

/// The error number in a netlink answer; 0 if it is something else.
fn errno(error: &Error) -> i32 {
    match error {
        Error::NetlinkError(message) => message.raw_code().abs(),
        _ => 0,
    }
}

fn explain(action: impl FnOnce() -> String) -> impl FnOnce(Error) -> NetError {
    move |error| match errno(&error) {
        libc::EPERM | libc::EACCES => NetError::NotPermitted(action()),
        0 => NetError::Failed { action: action(), source: io::Error::other(error) },
        code => NetError::Failed { action: action(), source: io::Error::from_raw_os_error(code) },
    }
}

#[cfg(test)]
mod tests;
