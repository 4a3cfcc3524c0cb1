//! Why there is no device, each with the remedy, since an operator reads it first of all.

use std::io;

use thiserror::Error;

/// Why a TUN device could not be opened.
#[derive(Debug, Error)]
pub enum TunError {
    /// The kernel has no TUN driver, or the container was not given its node.
    #[error(
        "/dev/net/tun is missing: run `modprobe tun`, or start the container with `--device /dev/net/tun`"
    )]
    NoDriver,
    /// The node is there, and not for this user.
    #[error("/dev/net/tun is closed to this user: `chmod 0666 /dev/net/tun`, as udev has it")]
    DriverClosed,
    /// Not allowed to make the device.
    #[error("no permission to make TUN device `{name}`: run as root or grant CAP_NET_ADMIN")]
    NoPrivilege {
        /// The name asked for.
        name: String,
    },
    /// Another program, or an interface of another kind, has the name.
    #[error(
        "interface name `{name}` is taken: stop the program that uses it, or set another `name` under [tun]"
    )]
    NameTaken {
        /// The name asked for.
        name: String,
    },
    /// Not an interface name.
    #[error("`{name}` is no interface name: 1 to 15 characters, without `/`, `:`, `%` and blanks")]
    BadName {
        /// The name asked for.
        name: String,
    },
    /// An MTU the kernel refuses.
    #[error("TUN device `{name}` refuses MTU {mtu}: {source}")]
    BadMtu {
        /// The device.
        name: String,
        /// The MTU asked for, bytes.
        mtu: u16,
        /// What the kernel said.
        source: io::Error,
    },
    /// Anything else.
    #[error("cannot {action} TUN device `{name}`: {source}")]
    Io {
        /// What was attempted.
        action: &'static str,
        /// The device.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
}
