//! A room of its own for a program: a network namespace, and a mount namespace in which only
//! `/etc/resolv.conf` differs, and what leads out of it is hidden.
//!
//! Namespaces belong to threads and are inherited by what a thread starts. So one thread makes
//! them, starts the program and waits for it; the rest of the process stays where it was, and
//! nothing happens between fork and exec but one call. The program dies with that thread
//! (`PR_SET_PDEATHSIG`), so a killed supervisor leaves nothing running.
//!
//! The host's own name services (systemd-resolved, nscd) are hidden from the room: programs ask
//! them over unix sockets, which know nothing of namespaces, and would be told the host's view. So
//! would whoever asks the daemon itself, and more than be told: its sockets are hidden as well. Who
//! may mount can look behind all of it; a program that is root and is not trusted belongs into a
//! container.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::mpsc;
use std::thread::JoinHandle;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::{process, signals};

/// Where programs look for name servers.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Sockets of the host's name services.
const HOST_RESOLVERS: [&str; 2] = ["/run/systemd/resolve", "/run/nscd"];
const EMPTY: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);

/// Namespaces with nobody in them yet; gone when dropped, unless others hold them.
#[derive(Debug)]
pub struct Room {
    namespace: OwnedFd,
    orders: mpsc::Sender<Order>,
    started: mpsc::Receiver<io::Result<(u32, OwnedFd)>>,
    keeper: JoinHandle<io::Result<ExitStatus>>,
}

struct Order {
    command: Command,
    sight: Sight,
}

/// What a program sees of the host's files that it would not see as they are.
#[derive(Clone, Debug, Default)]
pub struct Sight {
    /// What it finds at `/etc/resolv.conf`, and then none of the host's name services either; without
    /// it the host's file shows.
    pub resolv_conf: Option<String>,
    /// Sockets that answer to nobody in the room, and folders that are empty there. What does not
    /// exist is passed over.
    pub hidden: Vec<PathBuf>,
}

/// A program in its room.
#[derive(Debug)]
pub struct Occupied {
    pid: u32,
    /// Readable once the program has ended; stands for no later process of that number.
    pidfd: AsyncFd<OwnedFd>,
    keeper: JoinHandle<io::Result<ExitStatus>>,
}

impl Room {
    /// Makes the namespaces, with loopback up.
    ///
    /// # Errors
    /// `EPERM` without CAP_SYS_ADMIN; whatever else the system says.
    pub fn new() -> io::Result<Self> {
        let (orders, orders_in) = mpsc::channel();
        let (started_out, started) = mpsc::channel();
        let (made_out, made) = mpsc::channel();
        let keeper = std::thread::Builder::new().name("room".to_owned()).spawn(move || {
            let namespace = make();
            let failed = namespace.is_err();
            let _ = made_out.send(namespace);
            if failed {
                return Err(io::ErrorKind::Other.into());
            }
            keep(&orders_in, &started_out)
        })?;
        let namespace = made.recv().map_err(|_| gone())??;
        Ok(Self { namespace, orders, started, keeper })
    }

    /// The network namespace.
    pub fn namespace(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }

    /// Starts `command` inside.
    ///
    /// # Errors
    /// A file cannot be covered, or the program not be started.
    ///
    /// # Panics
    /// Outside a tokio runtime with IO enabled.
    pub fn run(self, command: Command, sight: Sight) -> io::Result<Occupied> {
        self.orders.send(Order { command, sight }).map_err(|_| gone())?;
        let (pid, pidfd) = self.started.recv().map_err(|_| gone())??;
        // SAFETY: the descriptor is owned by the AsyncFd and closed with it, not before.
        let pidfd = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE)? };
        Ok(Occupied { pid, pidfd, keeper: self.keeper })
    }
}

impl Occupied {
    /// The program's process id.
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns when the program has ended.
    ///
    /// # Errors
    /// What the system says about waiting.
    pub async fn ended(&self) -> io::Result<()> {
        self.pidfd.readable().await.map(drop)
    }

    /// Sends a signal; no error when the program has ended.
    pub fn signal(&self, signal: i32) {
        process::signal(self.pidfd.get_ref().as_fd(), signal);
    }

    /// How the program ended. Blocks until it has.
    ///
    /// # Errors
    /// What the system says about waiting.
    pub fn status(self) -> io::Result<ExitStatus> {
        self.keeper.join().unwrap_or_else(|_| Err(gone()))
    }
}

/// Takes this thread into a network namespace and gives it a mount namespace with this sight.
/// What it starts from now on, or becomes, is inside.
///
/// # Errors
/// `EPERM` without CAP_SYS_ADMIN; whatever else the system says.
pub fn enter(namespace: BorrowedFd<'_>, sight: &Sight) -> io::Result<()> {
    setns(namespace, CloneFlags::CLONE_NEWNET)?;
    unshare(CloneFlags::CLONE_NEWNS)?;
    let nothing: Option<&str> = None;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_SLAVE, nothing)?;
    apply(sight)
}

fn apply(sight: &Sight) -> io::Result<()> {
    sight.hidden.iter().try_for_each(|path| hide(path))?;
    sight.resolv_conf.as_ref().map_or(Ok(()), |text| cover(Path::new(RESOLV_CONF), text))
}

/// Puts nothing in place of a file or a folder, in this thread's mount namespace.
fn hide(path: &Path) -> io::Result<()> {
    let nothing: Option<&str> = None;
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(found) if found.is_dir() => {
            Ok(mount(Some("sinew"), path, Some("tmpfs"), EMPTY, Some("mode=755,size=64k"))?)
        }
        Ok(_) => Ok(mount(Some("/dev/null"), path, nothing, MsFlags::MS_BIND, nothing)?),
    }
}

fn gone() -> io::Error {
    io::Error::other("the thread that keeps the namespace ended")
}

fn make() -> io::Result<OwnedFd> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)?;
    let nothing: Option<&str> = None;
    // What the host mounts later still arrives; what is mounted here stays here.
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_SLAVE, nothing)?;
    loopback_up()?;
    Ok(File::open("/proc/thread-self/ns/net")?.into())
}

/// The keeper's life: one order, one program.
fn keep(
    orders: &mpsc::Receiver<Order>,
    started: &mpsc::Sender<io::Result<(u32, OwnedFd)>>,
) -> io::Result<ExitStatus> {
    let Ok(mut order) = orders.recv() else { return Err(gone()) };
    let spawned = apply(&order.sight).and_then(|()| tied_to_us(&mut order.command).spawn());
    match spawned {
        Ok(mut child) => {
            // Until `wait` the number is the child's, ended or not.
            let pidfd = process::pidfd(child.id());
            let _ = started.send(pidfd.map(|pidfd| (child.id(), pidfd)));
            child.wait()
        }
        Err(error) => {
            let _ = started.send(Err(error));
            Err(gone())
        }
    }
}

/// The program dies with us, and signals that we catch mean to it what they always do.
fn tied_to_us(command: &mut Command) -> &mut Command {
    let us = std::process::id();
    let caught = signals::passed_on();
    let in_child = move || {
        caught.thread_unblock()?;
        // SAFETY: takes integers by value.
        if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // We may have died just before: then somebody else is the parent by now.
        if std::os::unix::process::parent_id() == us { Ok(()) } else { Err(io::ErrorKind::Other.into()) }
    };
    // SAFETY: between fork and exec it makes a few system calls and allocates nothing: errors of all
    // kinds are plain values.
    unsafe { command.pre_exec(in_child) }
}

fn loopback_up() -> io::Result<()> {
    // SAFETY: takes integers by value; the descriptor is closed by File.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was made above and is nobody else's.
    let socket: OwnedFd = unsafe { std::os::fd::FromRawFd::from_raw_fd(socket) };
    // SAFETY: ifreq is plain data, for which zero is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = (*from).cast_signed();
    }
    request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or(0);
    // SAFETY: the request is an ifreq with a name that ends in zero, as SIOCSIFFLAGS reads it.
    let done = unsafe {
        libc::ioctl(std::os::fd::AsRawFd::as_raw_fd(&socket), libc::SIOCSIFFLAGS, &raw const request)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Puts `text` in place of a file, in this thread's mount namespace.
fn cover(file: &Path, text: &str) -> io::Result<()> {
    let real = std::fs::canonicalize(file)?;
    let resolvers: Vec<PathBuf> =
        HOST_RESOLVERS.iter().map(PathBuf::from).filter(|dir| dir.is_dir()).collect();
    resolvers.iter().try_for_each(|directory| hide(directory))?;
    if resolvers.iter().any(|directory| real.starts_with(directory)) {
        // The file was a link into what is hidden now; it leads to ours instead, and stays ours
        // when the host's service replaces its own.
        if let Some(parent) = real.parent() {
            std::fs::create_dir_all(parent)?;
        }
        return std::fs::write(&real, text);
    }
    let temporary = temporary(text)?;
    let nothing: Option<&str> = None;
    let bound = mount(Some(&temporary), &real, nothing, MsFlags::MS_BIND, nothing);
    // The mount holds the file; its name is not needed any more.
    let _ = std::fs::remove_file(&temporary);
    Ok(bound?)
}

fn temporary(text: &str) -> io::Result<PathBuf> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let path = std::env::temp_dir().join(format!(".sinew-resolv-{:016x}", u64::from_le_bytes(random)));
    let mut file = File::create_new(&path)?;
    // Programs in the room may run as anybody.
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    std::io::Write::write_all(&mut file, text.as_bytes())?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    /// Rooms need root; elsewhere there is nothing to test.
    fn room() -> Option<Room> {
        match Room::new() {
            Ok(room) => Some(room),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
            Err(error) => panic!("{error}"),
        }
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    fn output(script: &str, sight: Sight) -> Option<(String, ExitStatus)> {
        let room = room()?;
        let runtime = runtime();
        let _context = runtime.enter();
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdout(File::create(&out).unwrap()).stdin(Stdio::null());
        let status = room.run(command, sight).unwrap().status().unwrap();
        Some((std::fs::read_to_string(out).unwrap(), status))
    }

    #[test]
    fn a_program_sees_only_loopback_and_the_given_resolver() {
        let before = std::fs::read(RESOLV_CONF).ok();
        let script =
            "ip -br link | cut -d' ' -f1; ping -c1 -W1 127.0.0.1 >/dev/null && echo up; cat /etc/resolv.conf";
        let resolv_conf = before.as_ref().map(|_| "nameserver 192.0.2.1\n".to_owned());
        let sight = Sight { resolv_conf, ..Sight::default() };
        let Some((out, status)) = output(script, sight) else { return };
        assert!(status.success());
        let resolver = if before.is_some() { "nameserver 192.0.2.1\n" } else { "" };
        assert_eq!(out, format!("lo\nup\n{resolver}"));
        assert_eq!(std::fs::read(RESOLV_CONF).ok(), before, "the host's file was touched");
    }

    #[test]
    fn what_is_hidden_is_hidden_from_the_room_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, socket) = (dir.path().join("folder"), dir.path().join("socket"));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("file"), "").unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let hidden = vec![folder.clone(), socket.clone(), dir.path().join("nothing")];
        let script = format!("ls -A {}; test -S {} || echo none", folder.display(), socket.display());
        let Some((out, status)) = output(&script, Sight { hidden, ..Sight::default() }) else { return };
        assert!(status.success());
        assert_eq!(out, "none\n");
        assert!(folder.join("file").exists() && std::os::unix::net::UnixStream::connect(&socket).is_ok());
        std::fs::remove_file(&socket).unwrap();
    }

    #[test]
    fn the_exit_code_comes_through() {
        let Some((_, status)) = output("exit 7", Sight::default()) else { return };
        assert_eq!(status.code(), Some(7));
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        let Some(room) = room() else { return };
        let error = room.run(Command::new("/nonexistent"), Sight::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_signal_reaches_the_program_and_its_end_is_seen() {
        runtime().block_on(async {
            // A supervisor does so; the program must not inherit it.
            let _signals = signals::Signals::catch().unwrap();
            let Some(room) = room() else { return };
            let mut command = Command::new("sleep");
            command.arg("1000");
            let occupied = room.run(command, Sight::default()).unwrap();
            occupied.signal(libc::SIGTERM);
            occupied.ended().await.unwrap();
            occupied.signal(libc::SIGTERM);
            let status = occupied.status().unwrap();
            assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGTERM));
        });
    }

    #[test]
    fn a_room_can_be_entered_by_others() {
        let Some(room) = room() else { return };
        let namespace = room.namespace();
        let inside = std::thread::scope(|scope| {
            let entered = scope.spawn(move || {
                enter(namespace, &Sight::default())?;
                std::fs::read_link("/proc/thread-self/ns/net")
            });
            entered.join().unwrap().unwrap()
        });
        assert_ne!(inside, std::fs::read_link("/proc/self/ns/net").unwrap());
    }
}
