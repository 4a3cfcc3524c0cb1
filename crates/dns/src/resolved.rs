//! The host's own resolver: systemd-resolved is told, by D-Bus, that our domain is asked of us.
//!
//! Settings hang on our own interface as routing domain (`~sinew.internal`): names of others
//! never come here, and when the interface goes, so do they. Nothing else of the host is touched;
//! where there is no resolved, nothing at all.
//!
//! Before the change its [`LinkChange::journal`] is stored, so that a start after a crash can
//! [`HostResolver::undo`] it, if the interface lives on.
//!
//! A file that leads to the bus leads there from every network namespace, and resolved goes by
//! interface numbers, which each namespace counts for itself: one that lives in another namespace
//! would change somebody else's link. So [`HostResolver::find`] looks for a bus that listens in
//! this one.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use thiserror::Error;
use zbus::address::Transport;
use zbus::address::transport::UnixSocket;
use zbus::zvariant::DynamicType;

const SERVICE: &str = "org.freedesktop.resolve1";
const PATH: &str = "/org/freedesktop/resolve1";
const MANAGER: &str = "org.freedesktop.resolve1.Manager";

/// How long one call may take. resolved answers from memory.
const CALL: Duration = Duration::from_secs(3);

const JOURNAL_VERSION: u8 = 1;

/// The unix sockets of this network namespace: protocol, flags, type, state, inode, name.
const UNIX_SOCKETS: &str = "/proc/net/unix";
/// Flags of one that listens (`__SO_ACCEPTCON`).
const LISTENS: &str = "00010000";

/// Why the host's resolver was not changed or not changed back.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ResolvedError {
    /// No bus, or it broke.
    #[error("cannot talk to the system bus: {0}")]
    Bus(#[source] zbus::Error),
    /// It said no.
    #[error("systemd-resolved refused {call}: {source}")]
    Refused {
        /// The method.
        call: &'static str,
        /// Its reason.
        source: zbus::Error,
    },
}

/// What is set on a link. Kept, and its journal stored, until it is undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkChange {
    index: u32,
    interface: String,
}

impl LinkChange {
    /// For the interface with this index and name.
    pub fn new(index: u32, interface: &str) -> Self {
        Self { index, interface: interface.to_owned() }
    }

    /// What a later start needs to undo it; to be stored before the change.
    pub fn journal(&self) -> Vec<u8> {
        [&[JOURNAL_VERSION], self.index.to_le_bytes().as_slice(), self.interface.as_bytes()].concat()
    }

    /// Reads [`Self::journal`]; `None` if it is not one.
    pub fn from_journal(bytes: &[u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first()?;
        let (index, name) = rest.split_first_chunk()?;
        if *version != JOURNAL_VERSION || name.is_empty() {
            return None;
        }
        Some(Self { index: u32::from_le_bytes(*index), interface: str::from_utf8(name).ok()?.to_owned() })
    }

    /// Whether the interface is still the same one: numbers and names are given again. One that is
    /// gone has taken its settings with it.
    pub fn is_there(&self) -> bool {
        nix::net::if_::if_nametoindex(self.interface.as_str()).is_ok_and(|index| index == self.index)
    }
}

/// A connection to systemd-resolved.
#[derive(Clone, Debug)]
pub struct HostResolver {
    bus: zbus::Connection,
}

impl HostResolver {
    /// Looks for systemd-resolved on the system bus; `None` if it does not run, or there is no bus
    /// in this network namespace.
    ///
    /// # Errors
    /// [`ResolvedError::Bus`]: the bus is there and does not answer.
    pub async fn find() -> Result<Option<Self>, ResolvedError> {
        let address = zbus::Address::system().map_err(ResolvedError::Bus)?;
        let Some(path) = path_here(&address) else { return Ok(None) };
        // Connected here, because zbus would do it on a thread that hangs as long as the bus does.
        let Ok(stream) = tokio::net::UnixStream::connect(path).await else { return Ok(None) };
        let built = zbus::connection::Builder::unix_stream(stream).method_timeout(CALL).build().await;
        Self::on(built.map_err(ResolvedError::Bus)?).await
    }

    /// Looks for it on this bus.
    ///
    /// # Errors
    /// As [`Self::find`].
    pub async fn on(bus: zbus::Connection) -> Result<Option<Self>, ResolvedError> {
        // Not activated by us: where it does not run, the host is not resolved's.
        let proxy = zbus::fdo::DBusProxy::new(&bus).await.map_err(ResolvedError::Bus)?;
        let name =
            zbus::names::BusName::try_from(SERVICE).map_err(|error| ResolvedError::Bus(error.into()))?;
        let runs = proxy.name_has_owner(name).await.map_err(|error| ResolvedError::Bus(error.into()))?;
        Ok(runs.then_some(Self { bus }))
    }

    /// Has `domains`, and nothing else, asked of `servers` by this link.
    ///
    /// # Errors
    /// [`ResolvedError`]; the link is then as it was before.
    pub async fn set(
        &self,
        change: &LinkChange,
        servers: &[IpAddr],
        domains: &[String],
    ) -> Result<(), ResolvedError> {
        let result = self.set_all(change, servers, domains).await;
        if result.is_err() {
            let _ = self.call("RevertLink", &(index(change),)).await;
        }
        result
    }

    /// Takes it back; false if the interface is no longer there, and with it the setting.
    ///
    /// # Errors
    /// [`ResolvedError`].
    pub async fn undo(&self, change: &LinkChange) -> Result<bool, ResolvedError> {
        if !change.is_there() {
            return Ok(false);
        }
        match self.call("RevertLink", &(index(change),)).await {
            Err(ResolvedError::Refused { source, .. }) if names(&source, "NoSuchLink") => Ok(false),
            result => result.map(|()| true),
        }
    }

    async fn set_all(
        &self,
        change: &LinkChange,
        servers: &[IpAddr],
        domains: &[String],
    ) -> Result<(), ResolvedError> {
        let link = index(change);
        // First what narrows: at no moment may other names come here.
        self.optional("SetLinkDefaultRoute", &(link, false)).await?;
        let routing: Vec<_> = domains.iter().map(|domain| (domain.as_str(), true)).collect();
        self.call("SetLinkDomains", &(link, routing)).await?;
        // What is set for the machine as a whole does not fit us: nobody signs our names, and we
        // speak no TLS on this machine's inside.
        self.optional("SetLinkDNSSEC", &(link, "no")).await?;
        self.optional("SetLinkDNSOverTLS", &(link, "no")).await?;
        self.optional("SetLinkLLMNR", &(link, "no")).await?;
        self.optional("SetLinkMulticastDNS", &(link, "no")).await?;
        let servers: Vec<_> = servers.iter().map(family_and_bytes).collect();
        self.call("SetLinkDNS", &(link, servers)).await
    }

    /// A call that older releases do not know.
    async fn optional<B>(&self, call: &'static str, body: &B) -> Result<(), ResolvedError>
    where
        B: serde::ser::Serialize + DynamicType + Sync,
    {
        match self.call(call, body).await {
            Err(ResolvedError::Refused { source, .. }) if names(&source, "UnknownMethod") => Ok(()),
            result => result,
        }
    }

    async fn call<B>(&self, call: &'static str, body: &B) -> Result<(), ResolvedError>
    where
        B: serde::ser::Serialize + DynamicType + Sync,
    {
        let reply = self.bus.call_method(Some(SERVICE), PATH, Some(MANAGER), call, body).await;
        reply.map(|_| ()).map_err(|source| ResolvedError::Refused { call, source })
    }
}

/// The socket of a bus at `address`, if it listens in this network namespace.
fn path_here(address: &zbus::Address) -> Option<&Path> {
    let Transport::Unix(unix) = address.transport() else { return None };
    let UnixSocket::File(path) = unix.path() else { return None };
    let sockets = std::fs::read_to_string(UNIX_SOCKETS).unwrap_or_default();
    sockets.lines().any(|line| is_listener(line, path)).then_some(path)
}

/// Whether this line of [`UNIX_SOCKETS`] is a socket that listens at `path`, under whichever name.
fn is_listener(line: &str, path: &Path) -> bool {
    let mut words = line.split_ascii_whitespace();
    let (flags, name) = (words.nth(3), words.nth(3));
    let (Some(LISTENS), Some(name)) = (flags, name) else { return false };
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    Path::new(name) == path || (real(Path::new(name)) == real(path) && real(path).is_some())
}

fn index(change: &LinkChange) -> i32 {
    i32::try_from(change.index).unwrap_or(i32::MAX)
}

/// Whether the error's D-Bus name ends with `name`.
fn names(error: &zbus::Error, name: &str) -> bool {
    matches!(error, zbus::Error::MethodError(full, ..) if full.as_str().ends_with(name))
}

fn family_and_bytes(address: &IpAddr) -> (i32, Vec<u8>) {
    match address {
        IpAddr::V4(v4) => (nix::libc::AF_INET, v4.octets().to_vec()),
        IpAddr::V6(v6) => (nix::libc::AF_INET6, v6.octets().to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_names_the_link_and_other_bytes_are_none() {
        let change = LinkChange::new(7, "sinew0");
        assert_eq!(LinkChange::from_journal(&change.journal()), Some(change));
        for bytes in
            [&b""[..], &[1, 0, 0, 0], &[1, 7, 0, 0, 0], &[2, 7, 0, 0, 0, b'x'], &[1, 7, 0, 0, 0, 0xff]]
        {
            assert_eq!(LinkChange::from_journal(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn a_bus_counts_only_where_it_listens() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("bus"), dir.path().join("link"));
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let at = |path: &Path| format!("unix:path={}", path.display()).parse::<zbus::Address>().unwrap();
        assert_eq!(path_here(&at(&path)), None, "nobody there");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(path_here(&at(&path)).is_some() && path_here(&at(&link)).is_some());
        // A connection's other end bears the listener's name, here in whichever namespace.
        let _client = std::os::unix::net::UnixStream::connect(&path).unwrap();
        let accepted = listener.accept().unwrap();
        drop(listener);
        assert_eq!(path_here(&at(&path)), None, "{accepted:?}");
        assert_eq!(path_here(&"tcp:host=127.0.0.1,port=1".parse().unwrap()), None);
    }
}
