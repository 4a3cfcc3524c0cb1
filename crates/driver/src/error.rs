//! Why a node cannot run on this host; every line says what is missing and what to do.

use std::io;
use std::path::PathBuf;

use sinew_carrier::CarrierError;
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
    /// Addresses, routes or privileges.
    #[error(transparent)]
    Platform(#[from] sinew_platform::Error),
    /// The control socket.
    #[error("control socket {}: {source}", path.display())]
    Control {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: sinew_platform::Error,
    },
    /// The async runtime or a signal handler.
    #[error("the operating system refused what every program needs: {0}")]
    Io(#[from] io::Error),
}
