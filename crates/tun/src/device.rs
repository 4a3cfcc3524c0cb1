//! The real device on Linux.
//!
//! The `tun` crate opens it; it can set IFF_VNET_HDR but does not ask for offloads, so
//! TUNSETOFFLOAD is done here, stepping down from UDP segmentation (Linux 6.2) over TCP
//! segmentation to nothing. Addresses, routes and "up" belong to the platform crate. Devices of
//! workloads are made elsewhere ([`crate::inside`]) and handed over.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::task::{Context, Poll};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::net::if_::if_nametoindex;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tun::AbstractDevice;

use crate::{HEADER_LEN, Offload, Tun, TunError, inside, invalid, without_header};

/// Longest interface name: IFNAMSIZ without its final zero.
const NAME_MAX: usize = 15;
/// Parts of one packet on a device without virtio header; those packets are single and small.
const PLAIN_PARTS: usize = 16;

/// A deleted device reports an error and is never readable, so both wake the reader.
const READ: Interest = Interest::READABLE.add(Interest::ERROR);

// From linux/if_tun.h. TUN_F_TSO_ECN is left out: without it the kernel itself segments the rare
// super-packet that carries CWR, and no ECN variant of a GSO type ever reaches us.
const TUN_F_CSUM: libc::c_uint = 0x01;
const TUN_F_TSO: libc::c_uint = 0x02 | 0x04;
const TUN_F_USO: libc::c_uint = 0x20 | 0x40;
const TUNSETOFFLOAD: libc::Ioctl = 0x4004_54d0;

/// What to open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunConfig {
    /// Interface name, 1 to 15 characters.
    pub name: String,
    /// Device MTU, bytes.
    pub mtu: u16,
    /// Whether to ask for virtio headers and super-packets; without, the device works one finished
    /// packet at a time.
    pub offload: bool,
}

/// Where the descriptor comes from.
enum Handle {
    /// The crate's device, lending its descriptor with a lifetime.
    Made(tun::Device),
    /// Handed over by whoever made the device.
    Given(OwnedFd),
}

impl AsRawFd for Handle {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Made(device) => device.as_raw_fd(),
            Self::Given(fd) => fd.as_raw_fd(),
        }
    }
}

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: both own this descriptor, keep it open until dropped and outlive the borrow.
        unsafe { BorrowedFd::borrow_raw(self.as_raw_fd()) }
    }
}

/// A TUN device of this host; it vanishes with its addresses and routes when dropped.
pub struct TunDevice {
    fd: AsyncFd<Handle>,
    name: String,
    ifindex: u32,
    vnet_hdr: bool,
    /// What the kernel knows, so also what it takes.
    offload: Offload,
    /// What it hands over.
    reading: Offload,
}

impl TunDevice {
    /// Makes the device, or attaches to a persistent one of that name that nobody holds.
    ///
    /// # Errors
    /// [`TunError`] with the remedy.
    ///
    /// # Panics
    /// Outside a tokio runtime with IO enabled.
    pub fn open(config: &TunConfig) -> Result<Self, TunError> {
        check_name(&config.name)?;
        let (mut device, vnet_hdr) = create_device(config)?;
        let failed = |action| {
            let name = config.name.clone();
            move |source| TunError::Io { action, name, source }
        };
        device.set_mtu(config.mtu).map_err(|error| TunError::BadMtu {
            name: config.name.clone(),
            mtu: config.mtu,
            source: error.into(),
        })?;
        device.set_nonblock().map_err(failed("configure"))?;
        let offload = if vnet_hdr { request_offload(device.as_raw_fd()) } else { Offload::None };
        let ifindex = if_nametoindex(config.name.as_str())
            .map_err(|errno| failed("find the index of")(errno.into()))?;
        let fd = watch(Handle::Made(device)).map_err(failed("watch"))?;
        tracing::debug!(name = config.name, mtu = config.mtu, offload = offload.as_str(), "TUN device open");
        Ok(Self { fd, name: config.name.clone(), ifindex, vnet_hdr, offload, reading: offload })
    }

    /// Uses a device that somebody else made, perhaps in another network namespace, where it has
    /// the index `ifindex`. `offload` as in [`TunConfig`]; a persistent device may have other
    /// offloads from a former holder, which are replaced. Needs no capability.
    ///
    /// # Errors
    /// [`TunError`]; a descriptor of anything but a TUN device is refused.
    ///
    /// # Panics
    /// Outside a tokio runtime with IO enabled.
    pub fn from_fd(fd: OwnedFd, ifindex: u32, offload: bool) -> Result<Self, TunError> {
        let failed = |name: &str, action| {
            let name = name.to_owned();
            move |source| TunError::Io { action, name, source }
        };
        let unknown = "handed over";
        let (name, vnet_hdr) = inside::describe(fd.as_raw_fd())
            .map_err(failed(unknown, "examine"))?
            .ok_or_else(|| failed(unknown, "use")(invalid("it is no TUN device")))?;
        set_nonblocking(&fd).map_err(failed(&name, "configure"))?;
        let offload = match vnet_hdr {
            true if offload => request_offload(fd.as_raw_fd()),
            true => {
                set_offload(fd.as_raw_fd(), 0);
                Offload::None
            }
            false => Offload::None,
        };
        let fd = watch(Handle::Given(fd)).map_err(failed(&name, "watch"))?;
        tracing::debug!(name, offload = offload.as_str(), "TUN device taken over");
        Ok(Self { fd, name, ifindex, vnet_hdr, offload, reading: offload })
    }

    /// What the kernel hands over unsegmented: as [`Tun::offload`], until
    /// [`TunDevice::refuse_super_packets`].
    pub fn reading(&self) -> Offload {
        self.reading
    }

    /// From now on the kernel hands over single packets only, with whole checksums. What it takes
    /// stays as it is.
    ///
    /// # Errors
    /// What the kernel says; then nothing has changed.
    pub fn refuse_super_packets(&mut self) -> io::Result<()> {
        if self.vnet_hdr && !set_offload(self.fd.as_raw_fd(), 0) {
            return Err(io::Error::last_os_error());
        }
        self.reading = Offload::None;
        Ok(())
    }

    /// As [`Tun::readable`], without a future of its own: for the one task that waits. It does not
    /// see the end of the device.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.fd.poll_read_ready(cx).map_ok(|mut ready| ready.retain_ready())
    }

    fn read_frame(&self, device: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<usize> {
        if self.vnet_hdr {
            return Ok(nix::unistd::read(device, buf)?);
        }
        let (header, body) =
            buf.split_at_mut_checked(HEADER_LEN).ok_or_else(|| invalid("buffer shorter than the header"))?;
        header.fill(0);
        Ok(HEADER_LEN + nix::unistd::read(device, body)?)
    }

    fn write_frame(&self, device: BorrowedFd<'_>, parts: &[IoSlice<'_>]) -> io::Result<()> {
        if self.vnet_hdr {
            // The kernel takes a packet whole or not at all.
            nix::sys::uio::writev(device, parts)?;
            return Ok(());
        }
        let (first, rest) = without_header(parts)?;
        let mut plain = [IoSlice::new(&[]); PLAIN_PARTS];
        if rest.len() >= PLAIN_PARTS {
            return Err(invalid("too many parts for a single packet"));
        }
        plain[0] = first;
        plain[1..=rest.len()].copy_from_slice(rest);
        nix::sys::uio::writev(device, &plain[..=rest.len()])?;
        Ok(())
    }
}

impl Tun for TunDevice {
    async fn readable(&self) -> io::Result<()> {
        self.fd.ready(READ).await?.retain_ready();
        Ok(())
    }

    fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        // One after the other: tokio's try_io takes a single interest. The second read happens only
        // once the kernel has reported an error, that is, on a deleted device.
        match self.fd.try_io(Interest::READABLE, |device| self.read_frame(device.as_fd(), buf)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.fd.try_io(Interest::ERROR, |device| self.read_frame(device.as_fd(), buf))
            }
            result => result,
        }
    }

    fn try_writev(&self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        // Not gated on readiness: a TUN write never waits, the kernel takes or refuses it.
        self.write_frame(self.fd.get_ref().as_fd(), parts)
    }

    fn offload(&self) -> Offload {
        self.offload
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn ifindex(&self) -> u32 {
        self.ifindex
    }
}

impl std::fmt::Debug for TunDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TunDevice({}, {})", self.name, self.offload.as_str())
    }
}

fn watch(handle: Handle) -> io::Result<AsyncFd<Handle>> {
    // SAFETY: the handle owns its descriptor, always returns the same one and closes it only when
    // the AsyncFd drops it.
    unsafe { AsyncFd::register_with_interest(handle, READ) }.map_err(Into::into)
}

fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    let flags = fcntl(fd, FcntlArg::F_GETFL)?;
    fcntl(fd, FcntlArg::F_SETFL(OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// The kernel's rule (`dev_valid_name`), and no `%`, by which it would number the device itself.
pub(crate) fn check_name(name: &str) -> Result<(), TunError> {
    let good = !name.is_empty()
        && name.len() <= NAME_MAX
        && name != "."
        && name != ".."
        && name.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'/' | b':' | b'%'));
    if good { Ok(()) } else { Err(TunError::BadName { name: name.to_owned() }) }
}

/// The device, and whether its packets carry virtio headers.
fn create_device(config: &TunConfig) -> Result<(tun::Device, bool), TunError> {
    match create_with(config, config.offload) {
        // Sandboxed kernels know TUN but not IFF_VNET_HDR; a taken name gives EINVAL as well.
        Err(error)
            if config.offload
                && error.raw_os_error() == Some(libc::EINVAL)
                && if_nametoindex(config.name.as_str()).is_err() =>
        {
            create_with(config, false).map(|device| (device, false))
        }
        result => result.map(|device| (device, config.offload)),
    }
    .map_err(|error| explain(&config.name, error))
}

fn create_with(config: &TunConfig, vnet_hdr: bool) -> io::Result<tun::Device> {
    let mut wanted = tun::Configuration::default();
    wanted.tun_name(&config.name).mtu(config.mtu).platform_config(|platform| {
        // Addresses and "up" are set through netlink later, without root but for CAP_NET_ADMIN.
        platform.ensure_root_privileges(false).vnet_hdr(vnet_hdr);
    });
    tun::create(&wanted).map_err(io::Error::from)
}

pub(crate) fn explain(name: &str, source: io::Error) -> TunError {
    let name = name.to_owned();
    match source.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOENT | Errno::ENODEV | Errno::ENXIO) => TunError::NoDriver,
        Some(Errno::EPERM | Errno::EACCES) => TunError::NoPrivilege { name },
        Some(Errno::EBUSY | Errno::EEXIST) => TunError::NameTaken { name },
        Some(Errno::EINVAL) if if_nametoindex(name.as_str()).is_ok() => TunError::NameTaken { name },
        _ => TunError::Io { action: "make", name, source },
    }
}

/// The best set of offloads the kernel grants.
fn request_offload(fd: RawFd) -> Offload {
    let steps = [
        (Offload::Uso, TUN_F_CSUM | TUN_F_TSO | TUN_F_USO),
        (Offload::Tso, TUN_F_CSUM | TUN_F_TSO),
        (Offload::None, 0),
    ];
    let granted = steps.into_iter().find(|&(_, flags)| set_offload(fd, flags));
    granted.map_or(Offload::None, |(offload, _)| offload)
}

/// Whether the kernel agreed.
fn set_offload(fd: RawFd, flags: libc::c_uint) -> bool {
    // SAFETY: TUNSETOFFLOAD takes an integer by value and touches no memory of ours.
    unsafe { libc::ioctl(fd, TUNSETOFFLOAD, libc::c_ulong::from(flags)) == 0 }
}
