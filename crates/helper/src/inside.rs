//! The steps inside a workload's namespace.
//!
//! Everything here runs on a thread that lives in that namespace ([`sinew_platform::netns::enter`]).
//! A device of ours is known by its alias, `sinew:<id>`, so that it is found again after any
//! restart, whatever its name.
//!
//! ```text
//!   process or container           virtual machine, in a namespace of its own
//!     sinewN   addresses,            sinewN   routes of the network
//!              resolver,             tap      resolver = the guest's gateway, routes to the
//!              routes                         guest's addresses, answers ARP for the rest
//! ```

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};

use nix::net::if_::if_nametoindex;
use sinew_platform::net::{Link, LinkKind, Net, NetError};
use sinew_tun::inside::Raw;
use socket2::{Domain, Socket, Type};

use crate::codec::{Attach, Id, SocketKind, Why};
use crate::failure::Failure;
use crate::rules::first_of;

/// Where DNS is answered.
const DNS_PORT: u16 = 53;
/// Connections that wait for the DNS server.
const BACKLOG: i32 = 64;

/// A device that is set up, and the sockets beside it.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) device: Raw,
    pub(crate) ifindex: u32,
    /// UDP and TCP for each resolver address.
    pub(crate) sockets: Vec<OwnedFd>,
}

/// Whether a device that a former attachment left is to be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Former {
    /// It would be in the way.
    No,
    /// It is taken hold of, with its connections; made anew if somebody deleted it.
    Yes,
}

pub(crate) fn alias(id: &Id) -> String {
    format!("sinew:{id}")
}

pub(crate) fn tap_alias(id: &Id) -> String {
    format!("sinew:{id}:tap")
}

/// Makes the device, sets it up and binds the sockets. Until the device is kept, all of it is gone
/// when the answer is dropped.
pub(crate) fn build(attach: &Attach, former: Former) -> Result<Built, Failure> {
    with_net(async |net| {
        let links = net.links().await?;
        for lo in links.iter().filter(|link| link.kind == LinkKind::Loopback && !link.up) {
            net.set_up(lo.ifindex).await?;
        }
        let alias = alias(&attach.id);
        let known = links.iter().find(|link| link.alias == alias && link.kind == LinkKind::Tun);
        let known = known.filter(|_| former == Former::Yes);
        let device = match known {
            Some(link) => Raw::take(&link.name)?,
            None => Raw::make(attach.interface.as_deref())?,
        };
        let ifindex = if_nametoindex(device.name())
            .map_err(|errno| Failure::step(format_args!("find {}", device.name()), errno))?;
        net.set_alias(ifindex, &alias).await?;
        net.link_up(ifindex, attach.mtu).await?;
        let holder = match &attach.tap {
            Some(_) => set_up_tap(net, attach).await?,
            None => {
                set_addresses(net, attach, ifindex).await?;
                ifindex
            }
        };
        for &address in &attach.resolver {
            match attach.tap {
                Some(_) => drop(net.add_address(holder, address, host_bits(address)).await?),
                None => drop(net.add_service_address(holder, address).await?),
            }
        }
        for &range in &attach.routes {
            add_route(net, ifindex, range, known.is_some()).await?;
        }
        let sockets = attach.resolver.iter().map(|&ip| dns_sockets(ip)).collect::<Result<Vec<_>, _>>()?;
        Ok(Built { device, ifindex, sockets: sockets.into_iter().flatten().collect() })
    })
}

/// Addresses as asked for, and no others of an earlier attachment.
async fn set_addresses(net: &Net, attach: &Attach, ifindex: u32) -> Result<(), Failure> {
    for own in net.interface_addresses().await?.iter().filter(|own| own.ifindex == ifindex) {
        let wanted = attach.addresses.iter().any(|&(ip, len)| (ip, len) == (own.address, own.prefix))
            || attach.resolver.contains(&own.address);
        if !wanted {
            net.remove_address(ifindex, own.address, own.prefix).await?;
        }
    }
    for &(ip, len) in &attach.addresses {
        net.add_address(ifindex, ip, len).await?;
    }
    Ok(())
}

/// The guest's side: its gateway's addresses come on top. Returns the interface.
async fn set_up_tap(net: &Net, attach: &Attach) -> Result<u32, Failure> {
    let mark = tap_alias(&attach.id);
    let Some(tap) = net.links().await?.into_iter().find(|link| link.alias == mark) else {
        let text = format!("the TAP device of workload `{}` is gone: detach and attach it again", attach.id);
        return Err(Failure::new(Why::Unknown, text));
    };
    for (file, value) in [
        ("ipv4/ip_forward".to_owned(), "1"),
        ("ipv6/conf/all/forwarding".to_owned(), "1"),
        (format!("ipv4/conf/{}/proxy_arp", tap.name), "1"),
        // The guest waits for each answer: no random delay, which is for many that answer at once.
        (format!("ipv4/neigh/{}/proxy_delay", tap.name), "0"),
        (format!("ipv6/conf/{}/proxy_ndp", tap.name), "1"),
        (format!("ipv6/conf/{}/disable_ipv6", tap.name), "0"),
        (format!("ipv6/conf/{}/accept_ra", tap.name), "0"),
        (format!("ipv6/conf/{}/accept_dad", tap.name), "0"),
    ] {
        let path = format!("/proc/sys/net/{file}");
        std::fs::write(&path, value).map_err(|error| Failure::step(format_args!("write {path}"), error))?;
    }
    net.set_up(tap.ifindex).await?;
    for &(ip, _) in &attach.addresses {
        add_route(net, tap.ifindex, (ip, host_bits(ip)), true).await?;
    }
    Ok(tap.ifindex)
}

async fn add_route(net: &Net, ifindex: u32, range: (IpAddr, u8), may_exist: bool) -> Result<(), Failure> {
    let (first, len) = first_of(range);
    match net.add_route(ifindex, first, len).await {
        Err(NetError::RouteTaken(_)) if may_exist => Ok(()),
        Err(NetError::RouteTaken(range)) => {
            let text = format!("{range} is routed elsewhere already in the workload's namespace");
            Err(Failure::new(Why::Taken, text))
        }
        result => result.map(drop).map_err(Failure::from),
    }
}

fn host_bits(ip: IpAddr) -> u8 {
    if ip.is_ipv6() { 128 } else { 32 }
}

fn dns_sockets(ip: IpAddr) -> Result<[OwnedFd; 2], Failure> {
    let address = SocketAddr::new(ip, DNS_PORT);
    let bind = |kind: Type| -> std::io::Result<OwnedFd> {
        let socket = Socket::new(Domain::for_address(address), kind, None)?;
        socket.set_nonblocking(true)?;
        if ip.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        if kind == Type::STREAM {
            // Connections of a daemon that was killed linger.
            socket.set_reuse_address(true)?;
        }
        socket.bind(&address.into())?;
        if kind == Type::STREAM {
            socket.listen(BACKLOG)?;
        }
        Ok(socket.into())
    };
    let failed = |kind| move |error| Failure::step(format_args!("answer DNS at {address} ({kind})"), error);
    Ok([bind(Type::DGRAM).map_err(failed("UDP"))?, bind(Type::STREAM).map_err(failed("TCP"))?])
}

/// A socket of the calling thread's namespace, which it stays in wherever it is passed to.
pub(crate) fn socket(kind: SocketKind) -> Result<OwnedFd, Failure> {
    let domain = if kind.ipv6 { Domain::IPV6 } else { Domain::IPV4 };
    let make = || -> std::io::Result<OwnedFd> {
        let socket = Socket::new(domain, if kind.datagrams { Type::DGRAM } else { Type::STREAM }, None)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    make().map_err(|error| Failure::step("make a socket", error))
}

/// Moves the TAP device of a virtual machine from the calling thread's namespace to `to`, marked.
/// Returns whether it was up.
pub(crate) fn hand_over_tap(name: &str, mark: &str, to: BorrowedFd<'_>) -> Result<bool, Failure> {
    with_net(async |net| {
        let Some(tap) = net.links().await?.into_iter().find(|link| link.name == name) else {
            return Err(Failure::new(Why::Unknown, format!("there is no interface `{name}`")));
        };
        if tap.kind != LinkKind::Tap || !tap.alias.is_empty() || tap.enslaved {
            let text = format!("interface `{name}` is no TAP device, is part of a bridge, or has an owner");
            return Err(Failure::new(Why::Forbidden, text));
        }
        net.set_alias(tap.ifindex, mark).await?;
        if let Err(error) = net.move_link(tap.ifindex, to).await {
            net.set_alias(tap.ifindex, "").await?;
            return Err(error.into());
        }
        Ok(tap.up)
    })
}

/// Moves it back from the calling thread's namespace and takes the mark away; a device that is
/// gone is as good. Returns its name.
pub(crate) fn give_back_tap(mark: &str, to: BorrowedFd<'_>) -> Result<Option<String>, Failure> {
    with_net(async |net| {
        let Some(tap) = net.links().await?.into_iter().find(|link| link.alias == mark) else {
            return Ok(None);
        };
        net.set_alias(tap.ifindex, "").await?;
        net.move_link(tap.ifindex, to).await?;
        Ok(Some(tap.name))
    })
}

/// Brings an interface of the calling thread's namespace up, as it was before it was moved.
pub(crate) fn raise(name: &str) -> Result<(), Failure> {
    with_net(async |net| match net.links().await?.into_iter().find(|link| link.name == name) {
        Some(link) => Ok(net.set_up(link.ifindex).await?),
        None => Ok(()),
    })
}

/// Whether the workload has its device already.
pub(crate) fn is_attached(id: &Id) -> Result<bool, Failure> {
    let mark = alias(id);
    with_net(async |net| Ok(net.links().await?.iter().any(|link| link.alias == mark)))
}

/// Deletes every device of the workload with its addresses and routes.
pub(crate) fn demolish(id: &Id) -> Result<(), Failure> {
    let mark = alias(id);
    with_net(async |net| {
        let ours = |link: &Link| link.alias == mark && link.kind == LinkKind::Tun;
        for link in net.links().await?.into_iter().filter(ours) {
            net.delete_link(link.ifindex).await?;
        }
        Ok(())
    })
}

/// Brings up the loopback of a new namespace.
pub(crate) fn furnish() -> Result<(), Failure> {
    with_net(async |net| {
        for lo in net.links().await?.iter().filter(|link| link.kind == LinkKind::Loopback) {
            net.set_up(lo.ifindex).await?;
        }
        Ok(())
    })
}

/// A netlink connection belongs to the namespace of the thread that opens it, so each piece of
/// work has its own.
fn with_net<T>(work: impl AsyncFnOnce(&Net) -> Result<T, Failure>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(|error| Failure::step("prepare", error))?;
    runtime.block_on(async {
        let net = Net::new()?;
        work(&net).await
    })
}
