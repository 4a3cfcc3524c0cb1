//! The daemon's side: starts the helper, asks it, and sees to its end.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{Shutdown, shutdown};
use sinew_platform::seqpacket::{AsyncSeqpacket, Received, Seqpacket};
use thiserror::Error;
use tokio::sync::Mutex;

use crate::codec::{Attach, Id, MAX_MESSAGE, Reply, Request, SocketKind, Why};
use crate::serve::Arguments;

/// How long the helper may take to undo what it did, milliseconds.
const PATIENCE_MS: u16 = 5_000;

/// Why a request was not carried out.
#[derive(Debug, Error)]
pub enum HelperError {
    /// The helper says why; nothing has changed.
    #[error("{text}")]
    Refused {
        /// For callers.
        why: Why,
        /// For people.
        text: String,
    },
    /// More addresses than a workload may have, an MTU out of range, or a bad interface name.
    #[error(
        "a workload has at most 16 addresses, 64 routes and 4 resolver addresses, an MTU of at least 1280 \
         and an interface name of 1 to 15 characters"
    )]
    Limits,
    /// There is no helper any more; only a restart of the daemon brings it back.
    #[error("the helper process has ended: restart sinewd (its log says why it ended)")]
    Ended,
    /// The connection to it failed.
    #[error("cannot talk to the helper process: {0}")]
    Io(#[from] io::Error),
}

/// A helper that was started and not asked anything yet.
#[derive(Debug)]
pub struct Connection {
    end: Seqpacket,
    process: Option<Process>,
}

/// The helper's process, which ends when this is dropped.
#[derive(Debug)]
struct Process {
    child: Child,
    /// The daemon's end of the connection once more.
    end: OwnedFd,
}

impl Connection {
    /// Starts this program once more as helper. `pins` is the folder for names of
    /// namespaces, `sockets` are where the daemon's will be, in the same folder as `pins`; the helper
    /// removes them at its end. Call it before there is any other thread, or the helper could end with the thread
    /// that started it.
    ///
    /// # Errors
    /// When there is no /proc, or no process to be had.
    pub fn spawn(pins: &Path, sockets: &[&Path]) -> io::Result<Self> {
        Self::spawn_program(Path::new("/proc/self/exe"), pins, sockets)
    }

    /// As [`Connection::spawn`], with another program file.
    ///
    /// # Errors
    /// As there.
    pub fn spawn_program(program: &Path, pins: &Path, sockets: &[&Path]) -> io::Result<Self> {
        let (end, other) = Seqpacket::pair()?;
        let child = Command::new(program)
            .arg0("sinewd-helper")
            .args(Arguments::new(pins, sockets)?.words())
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(other)))
            .stdout(Stdio::null())
            .spawn()?;
        let process = Process { child, end: end.as_fd().try_clone_to_owned()? };
        Ok(Self { end, process: Some(process) })
    }

    /// One whose other end is served by somebody else.
    pub fn over(end: Seqpacket) -> Self {
        Self { end, process: None }
    }

    /// Process id of the helper.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(|process| process.child.id())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = shutdown(self.end.as_raw_fd(), Shutdown::Write);
        // It closes its end when everything is undone.
        let mut ends = [PollFd::new(self.end.as_fd(), PollFlags::empty())];
        if poll(&mut ends, PollTimeout::from(PATIENCE_MS)).is_ok_and(|ready| ready == 0) {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// DNS sockets inside a workload's namespace.
#[derive(Debug)]
pub struct DnsSockets {
    /// What both are bound to, port 53.
    pub address: IpAddr,
    /// Takes datagrams. Non-blocking.
    pub udp: OwnedFd,
    /// Listens. Non-blocking.
    pub tcp: OwnedFd,
}

/// A workload's interface.
#[derive(Debug)]
pub struct Attached {
    /// Its device, for [`sinew_tun::TunDevice::from_fd`].
    pub tun: OwnedFd,
    /// Its index, in its namespace.
    pub ifindex: u32,
    /// Its name, in its namespace.
    pub interface: String,
    /// Sockets for each resolver address.
    pub dns: Vec<DnsSockets>,
}

/// The helper, as the daemon uses it: one question at a time.
///
/// A question whose asker has gone away is carried out all the same, its answer thrown away: what
/// was attached then is in [`Helper::list`].
pub struct Helper {
    end: AsyncSeqpacket,
    /// Number of the last request.
    last: Mutex<u32>,
    process: Option<Process>,
}

impl Helper {
    /// Takes over the connection. Dropping it waits for the helper's end.
    ///
    /// # Errors
    /// When the descriptor cannot be watched.
    ///
    /// # Panics
    /// Outside a tokio runtime with IO enabled.
    pub fn new(connection: Connection) -> io::Result<Self> {
        let Connection { end, process } = connection;
        Ok(Self { end: AsyncSeqpacket::new(end)?, last: Mutex::new(0), process })
    }

    /// Makes a namespace called `id`, with its loopback up, and keeps it until [`Helper::detach`].
    ///
    /// # Errors
    /// [`HelperError`].
    pub async fn new_namespace(&self, id: &Id) -> Result<OwnedFd, HelperError> {
        match self.ask(&Request::NewNamespace(id.clone()), None).await? {
            (Reply::Namespace, mut descriptors) if descriptors.len() == 1 => Ok(descriptors.remove(0)),
            other => Err(unexpected(other)),
        }
    }

    /// Makes the workload's interface in `namespace`, or in the one called `id`; for a virtual
    /// machine, `namespace` is where its TAP device is now, the host's if none is given.
    ///
    /// # Errors
    /// [`HelperError`]; nothing has changed then.
    pub async fn attach(
        &self,
        attach: &Attach,
        namespace: Option<BorrowedFd<'_>>,
    ) -> Result<Attached, HelperError> {
        let reply = self.ask(&Request::Attach(attach.clone()), namespace).await?;
        attached(attach, reply)
    }

    /// Takes hold again of what an earlier run of the daemon attached; addresses, routes and
    /// connections in the namespace have stayed. What is missing is made again.
    ///
    /// # Errors
    /// [`HelperError`]; [`Why::Unknown`] if there is no such namespace any more.
    pub async fn reattach(&self, attach: &Attach) -> Result<Attached, HelperError> {
        attached(attach, self.ask(&Request::Reattach(attach.clone()), None).await?)
    }

    /// Deletes the workload's interface and forgets its namespace; whatever is gone is as good.
    ///
    /// # Errors
    /// [`HelperError`].
    pub async fn detach(&self, id: &Id) -> Result<(), HelperError> {
        match self.ask(&Request::Detach(id.clone()), None).await? {
            (Reply::Done, _) => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    /// Every workload that is attached, or was by an earlier run.
    ///
    /// # Errors
    /// [`HelperError`].
    pub async fn list(&self) -> Result<Vec<Id>, HelperError> {
        let mut all: Vec<Id> = Vec::new();
        loop {
            match self.ask(&Request::List(all.last().cloned()), None).await? {
                (Reply::Ids { ids, more }, _) => {
                    let end = !more || ids.is_empty();
                    all.extend(ids);
                    if end {
                        return Ok(all);
                    }
                }
                other => return Err(unexpected(other)),
            }
        }
    }

    /// A socket inside a workload's namespace, neither bound nor connected. Non-blocking.
    ///
    /// # Errors
    /// [`HelperError`]; [`Why::Unknown`] if there is no such namespace any more.
    pub async fn socket(&self, id: &Id, kind: SocketKind) -> Result<OwnedFd, HelperError> {
        match self.ask(&Request::Socket(id.clone(), kind), None).await? {
            (Reply::Socket, mut descriptors) if descriptors.len() == 1 => Ok(descriptors.remove(0)),
            other => Err(unexpected(other)),
        }
    }

    async fn ask(
        &self,
        request: &Request,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<(Reply, Vec<OwnedFd>), HelperError> {
        let mut last = self.last.lock().await;
        *last = last.wrapping_add(1);
        let number = *last;
        let message = request.encode(number).map_err(|_| HelperError::Limits)?;
        let descriptors: Vec<_> = descriptor.into_iter().collect();
        self.end.send(&message, &descriptors).await.map_err(lost)?;
        loop {
            let mut buf = [0; MAX_MESSAGE];
            let Received { len, descriptors, truncated } = self.end.receive(&mut buf).await.map_err(lost)?;
            if len == 0 {
                return Err(HelperError::Ended);
            }
            match Reply::decode(&buf[..len]) {
                Ok((answered, reply)) if !truncated => {
                    // An older one belongs to an asker who has gone away.
                    if answered == number {
                        return Ok((reply, descriptors));
                    }
                }
                _ => return Err(io::Error::other("an answer that makes no sense").into()),
            }
        }
    }
}

impl std::fmt::Debug for Helper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Helper({:?})", self.process.as_ref().map(|process| process.child.id()))
    }
}

fn lost(error: io::Error) -> HelperError {
    match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => HelperError::Ended,
        _ => HelperError::Io(error),
    }
}

fn unexpected((reply, _): (Reply, Vec<OwnedFd>)) -> HelperError {
    match reply {
        Reply::Refused { why, text } => HelperError::Refused { why, text },
        _ => io::Error::other("an answer to another question").into(),
    }
}

fn attached(asked: &Attach, reply: (Reply, Vec<OwnedFd>)) -> Result<Attached, HelperError> {
    match reply {
        (Reply::Attached { ifindex, interface }, descriptors)
            if descriptors.len() == 1 + 2 * asked.resolver.len() =>
        {
            let mut descriptors = descriptors.into_iter();
            let tun = descriptors.next();
            let sockets = |&address: &IpAddr| {
                Some(DnsSockets { address, udp: descriptors.next()?, tcp: descriptors.next()? })
            };
            let dns: Option<Vec<_>> = asked.resolver.iter().map(sockets).collect();
            tun.zip(dns)
                .map(|(tun, dns)| Attached { tun, ifindex, interface, dns })
                .ok_or_else(|| io::Error::other("descriptors are missing").into())
        }
        other => Err(unexpected(other)),
    }
}
