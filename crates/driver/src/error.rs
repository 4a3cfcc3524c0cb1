//! Why a node cannot run on this host; every line says what is missing and what to do.

use std::io;

use sinew_carrier::CarrierError;
use sinew_carrier::tls::TlsError;
use sinew_discovery::directory::DirectoryError;
use sinew_platform::confine::ConfineError;
use sinew_platform::net::NetError;
use sinew_platform::privilege::Missing;
use sinew_platform::socket::SocketError;
use sinew_store::StoreError;
use sinew_tun::TunError;

/// The host could not be set up, or was taken away.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The TUN device.
    #[error(transparent)]
    Tun(#[from] TunError),
    /// A socket of `[listen]`.
    #[error(transparent)]
    Carrier(#[from] CarrierError),
    /// The certificate of WebSocket and QUIC listeners.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Addresses and routes.
    #[error(transparent)]
    Net(#[from] NetError),
    /// Capabilities.
    #[error(transparent)]
    Privilege(#[from] Missing),
    /// The control socket.
    #[error(transparent)]
    Control(#[from] SocketError),
    /// Privileges that cannot be given up.
    #[error(transparent)]
    Confine(#[from] ConfineError),
    /// The state folder.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The name server.
    #[error("no name server can be started: {0}")]
    Names(String),
    /// The public gateway.
    #[error("the gateway cannot start: {0}")]
    Gateway(String),
    /// The endpoint for numbers.
    #[error("[metrics] listen: {0}")]
    Metrics(String),
    /// The directory.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// No random bytes.
    #[error("no random bytes from the system: {0}")]
    Random(#[from] getrandom::Error),
    /// The async runtime or a signal handler.
    #[error("the operating system refused what every program needs: {0}")]
    Io(#[from] io::Error),
}
