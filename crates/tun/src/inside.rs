//! A device made in the namespace of the calling thread, to be handed to another process.
//!
//! It is made without tokio and without an owner: as long as it is not [kept](Raw::keep) it is
//! gone with its descriptor, addresses and routes included, so that whoever sets it up and fails
//! half-way leaves nothing.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::fcntl::{OFlag, open};
use nix::net::if_::if_nametoindex;
use nix::sys::stat::Mode;

use crate::TunError;
use crate::device::{check_name, explain};

// From linux/if_tun.h.
const TUNSETIFF: libc::Ioctl = 0x4004_54ca;
const TUNSETPERSIST: libc::Ioctl = 0x4004_54cb;
const TUNGETIFF: libc::Ioctl = 0x8004_54d2;
/// For names that the kernel numbers.
const NUMBERED: &str = "sinew%d";

/// A device and the right to use it.
#[derive(Debug)]
pub struct Raw {
    fd: OwnedFd,
    name: String,
}

impl Raw {
    /// Makes a device called `name`, or `sinew0`, `sinew1`, … whichever is free.
    ///
    /// # Errors
    /// [`TunError`]; an interface that exists already, of whatever kind, is `NameTaken`.
    pub fn make(name: Option<&str>) -> Result<Self, TunError> {
        let Some(name) = name else { return open_device(NUMBERED) };
        check_name(name)?;
        // The kernel would hand out a persistent device of somebody else that nobody holds just now.
        if if_nametoindex(name).is_ok() {
            return Err(TunError::NameTaken { name: name.to_owned() });
        }
        open_device(name)
    }

    /// Takes hold again of a device that was [kept](Raw::keep) and that nobody holds.
    ///
    /// # Errors
    /// [`TunError`]; `NameTaken` while somebody holds it.
    pub fn take(name: &str) -> Result<Self, TunError> {
        check_name(name)?;
        open_device(name)
    }

    /// Its name, in its namespace.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// From now on the device outlives its descriptor, until it is deleted.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn keep(&self) -> Result<(), TunError> {
        // SAFETY: TUNSETPERSIST takes an integer by value.
        match unsafe { libc::ioctl(self.fd.as_raw_fd(), TUNSETPERSIST, 1 as libc::c_ulong) } {
            0 => Ok(()),
            _ => Err(TunError::Io {
                action: "keep",
                name: self.name.clone(),
                source: io::Error::last_os_error(),
            }),
        }
    }
}

impl AsFd for Raw {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<Raw> for OwnedFd {
    fn from(raw: Raw) -> Self {
        raw.fd
    }
}

/// With virtio headers, or without where the kernel has none (sandboxed ones).
fn open_device(name: &str) -> Result<Raw, TunError> {
    let flags = libc::IFF_TUN | libc::IFF_NO_PI;
    let result = match attach(name, flags | libc::IFF_VNET_HDR) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) && if_nametoindex(name).is_err() => {
            attach(name, flags)
        }
        result => result,
    };
    result.map_err(|error| match error.raw_os_error() {
        // The node's own permissions; a missing capability is EPERM.
        Some(libc::EACCES) => TunError::DriverClosed,
        _ => explain(name.trim_end_matches("%d"), error),
    })
}

fn attach(name: &str, flags: libc::c_int) -> io::Result<Raw> {
    let options = OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let fd = open("/dev/net/tun", options, Mode::empty())?;
    let mut request = blank();
    for (to, from) in request.ifr_name.iter_mut().zip(name.as_bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(flags).map_err(io::Error::other)?;
    // SAFETY: TUNSETIFF reads and writes one ifreq, which lives through the call.
    if unsafe { libc::ioctl(fd.as_raw_fd(), TUNSETIFF, &mut request) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Raw { fd, name: name_in(&request) })
}

/// Name of the device behind a descriptor, and whether its packets carry virtio headers. An error
/// for anything but a TUN device: `None` for a TAP.
pub(crate) fn describe(fd: RawFd) -> io::Result<Option<(String, bool)>> {
    let mut request = blank();
    // SAFETY: TUNGETIFF writes one ifreq, which lives through the call.
    if unsafe { libc::ioctl(fd, TUNGETIFF, &mut request) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: TUNGETIFF fills in the flags.
    let flags = libc::c_int::from(unsafe { request.ifr_ifru.ifru_flags });
    let is_tun = flags & libc::IFF_TUN != 0 && flags & libc::IFF_NO_PI != 0;
    Ok(is_tun.then(|| (name_in(&request), flags & libc::IFF_VNET_HDR != 0)))
}

fn blank() -> libc::ifreq {
    // SAFETY: an ifreq of zeros is valid: an empty name and a union of integers.
    unsafe { std::mem::zeroed() }
}

fn name_in(request: &libc::ifreq) -> String {
    let bytes = request.ifr_name.iter().map(|&c| c.cast_unsigned()).take_while(|&c| c != 0);
    String::from_utf8_lossy(&bytes.collect::<Vec<_>>()).into_owned()
}
