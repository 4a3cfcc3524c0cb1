//! Sockets for clients: those of the configuration are bound while there is a right to ports below 1024, and kept;
//! those of services lie above and are opened when they are needed.
//!
//! So nothing that can be sent to this process later binds an address that its operator has not written down.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sinew_control::config::Gateway;
use sinew_gateway::{Bind, OwnBind};

use crate::network::Network;

/// Addresses of one family that publishers are told.
const FOUND: usize = 4;
/// Between attempts to have a port.
const MOMENT: Duration = Duration::from_millis(20);

/// Sockets by address.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    fixed: Mutex<BTreeMap<SocketAddr, TcpListener>>,
    /// Opened to see whether they can be had, and not taken yet.
    tcp: Mutex<BTreeMap<SocketAddr, TcpListener>>,
    udp: Mutex<BTreeMap<SocketAddr, UdpSocket>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sockets {
    /// Binds what the configuration names.
    ///
    /// # Errors
    /// An address that cannot be had, for people.
    pub(crate) fn bind(config: &Gateway) -> Result<Self, String> {
        let sockets = Self::default();
        for &address in config.https.iter().chain(&config.http) {
            let listener = OwnBind
                .tcp(address)
                .map_err(|error| format!("cannot listen at {address} for [gateway]: {error}"))?;
            lock(&sockets.fixed).insert(address, listener);
        }
        Ok(sockets)
    }

    /// Whether a port of the range can be had on this machine. It is kept until the front takes it.
    pub(crate) fn prepare(&self, address: SocketAddr, udp: bool) -> io::Result<()> {
        if udp {
            let socket = patiently(|| OwnBind.udp(address))?;
            lock(&self.udp).insert(address, socket);
        } else {
            let socket = patiently(|| OwnBind.tcp(address))?;
            lock(&self.tcp).insert(address, socket);
        }
        Ok(())
    }

    /// Lets go what was prepared and not taken.
    pub(crate) fn tidy(&self) {
        lock(&self.tcp).clear();
        lock(&self.udp).clear();
    }

    /// Lets go everything: clients that come from here on are refused, and try elsewhere.
    pub(crate) fn close(&self) {
        self.tidy();
        lock(&self.fixed).clear();
    }
}

/// The front lets a port of an ended service go on its own threads, in a moment.
fn patiently<T>(bind: impl Fn() -> io::Result<T>) -> io::Result<T> {
    for _ in 0..5 {
        match bind() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => std::thread::sleep(MOMENT),
            result => return result,
        }
    }
    bind()
}

impl Bind for Sockets {
    fn tcp(&self, address: SocketAddr) -> io::Result<TcpListener> {
        if let Some(listener) = lock(&self.fixed).get(&address) {
            return listener.try_clone();
        }
        let prepared = lock(&self.tcp).remove(&address);
        prepared.ok_or_else(|| io::Error::new(io::ErrorKind::PermissionDenied, "bound at the start only"))
    }

    fn udp(&self, address: SocketAddr) -> io::Result<UdpSocket> {
        let prepared = lock(&self.udp).remove(&address);
        prepared.ok_or_else(|| io::Error::new(io::ErrorKind::PermissionDenied, "not prepared"))
    }
}

/// Where ports of services are opened: on the addresses that the gateway listens at anyway.
pub(super) fn addresses(config: &Gateway) -> Vec<IpAddr> {
    let configured = if config.https.is_empty() { &config.http } else { &config.https };
    let mut addresses: Vec<_> = configured.iter().map(SocketAddr::ip).collect();
    if addresses.is_empty() {
        addresses = vec![IpAddr::from([0; 4]), IpAddr::from([0u16; 8])];
    }
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// Where people find it: the addresses that it listens on, and for "all" those that the host has, a way out first.
pub(super) fn public(config: &Gateway, network: &Network) -> Vec<IpAddr> {
    let mut own: Vec<_> = network.addresses.iter().collect();
    own.sort_by_key(|own| !network.is_uplink(own.ifindex, own.address.is_ipv6()));
    let mut found = Vec::new();
    for bound in addresses(config) {
        let same =
            own.iter().filter(|own| bound.is_unspecified() && own.address.is_ipv6() == bound.is_ipv6());
        let meant = same.map(|own| own.address).chain(Some(bound).filter(|bound| !bound.is_unspecified()));
        found.extend(meant.filter(|address| !address.is_loopback()).take(FOUND));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_configured_or_prepared_is_bound() {
        let at: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let sockets = Sockets::default();
        assert!(sockets.tcp(at).is_err() && sockets.udp(at).is_err());
        sockets.prepare(at, false).unwrap();
        sockets.prepare(at, true).unwrap();
        assert!(sockets.tcp(at).is_ok() && sockets.udp(at).is_ok());
        assert!(sockets.tcp(at).is_err(), "taken once");
        sockets.prepare(at, false).unwrap();
        sockets.close();
        assert!(sockets.tcp(at).is_err());
    }
}
