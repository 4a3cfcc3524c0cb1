use std::fs;
use std::net::{TcpListener, ToSocketAddrs, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

use super::*;

/// Runs a check in a process of its own, on its only thread: what is given up does not come back.
fn apart(check: impl FnOnce()) {
    // SAFETY: the child runs on the copy of this thread alone and ends without returning; the C
    // library keeps its own locks usable across fork.
    match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => {
            assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0), "see above");
        }
        ForkResult::Child => {
            std::panic::set_hook(Box::new(tell));
            let result = catch_unwind(AssertUnwindSafe(check));
            let code = i32::from(result.is_err());
            // SAFETY: ends the process at once, which is what the copy of a test should do.
            unsafe { libc::_exit(code) }
        }
    }
}

/// Says what failed where the test's own output is not captured.
fn tell(info: &std::panic::PanicHookInfo<'_>) {
    let _ = nix::unistd::write(io::stderr(), format!("{info}\n").as_bytes());
}

fn status(key: &str) -> String {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    status.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim().to_owned()
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// What the kernel says to a call with these arguments.
fn call(number: libc::c_long, arguments: [libc::c_long; 3]) -> i32 {
    // SAFETY: the filter answers, or the kernel refuses numbers that mean nothing.
    let result = unsafe { libc::syscall(number, arguments[0], arguments[1], arguments[2]) };
    if result == -1 { io::Error::last_os_error().raw_os_error().unwrap() } else { 0 }
}

fn errno<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

#[test]
fn the_daemon_keeps_no_capability_and_every_thread_is_filtered() {
    apart(|| {
        assert_eq!(daemon(&Fence::default()).unwrap(), []);
        let check = || {
            for set in ["CapEff:", "CapPrm:", "CapInh:", "CapAmb:"] {
                assert_eq!(status(set), "0000000000000000", "{set}");
            }
            assert_eq!((status("NoNewPrivs:").as_str(), status("Seccomp:").as_str()), ("1", "2"));
            assert!(!is_root() || status("CapBnd:") == "0000000000000000");
        };
        check();
        std::thread::spawn(check).join().unwrap();
    });
}

#[test]
fn the_daemon_starts_no_program_and_touches_nothing_of_others() {
    apart(|| {
        assert_eq!(daemon(&Fence::default()).unwrap(), []);
        assert_eq!(errno(Command::new("true").status()), Some(libc::EPERM));
        for number in syscalls::refused() {
            assert_eq!(call(number, [0; 3]), libc::EPERM, "call {number}");
        }
        let parent = libc::c_long::from(nix::unistd::getppid().as_raw());
        for (what, number, arguments) in [
            ("a signal to another process", libc::SYS_tgkill, [parent, parent, 0]),
            ("limits of another process", libc::SYS_prlimit64, [parent, 0, 0]),
            ("typing", libc::SYS_ioctl, [2, libc::TIOCSTI.cast_signed(), 0]),
            ("a process", libc::SYS_clone, [libc::c_long::from(libc::SIGCHLD), 0, 0]),
            ("frames", libc::SYS_socket, [libc::AF_PACKET.into(), libc::SOCK_DGRAM.into(), 0]),
            ("kernel ciphers", libc::SYS_socket, [libc::AF_ALG.into(), libc::SOCK_SEQPACKET.into(), 0]),
        ] {
            assert_eq!(call(number, arguments), libc::EPERM, "{what}");
        }
        // What the list does not know does not exist.
        for number in [libc::SYS_clone3, 468, 1000, 0x4000_0000 + 520] {
            assert_eq!(call(number, [0; 3]), libc::ENOSYS, "call {number}");
        }
    });
}

#[test]
fn the_daemon_goes_on_with_its_work() {
    apart(|| {
        assert_eq!(daemon(&Fence::default()).unwrap(), []);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let client = std::thread::spawn(move || std::net::TcpStream::connect(to).unwrap());
        listener.accept().unwrap();
        client.join().unwrap();
        UdpSocket::bind("[::1]:0").unwrap();
        // By the C library, with whatever it loads for that.
        assert!(("localhost", 80).to_socket_addrs().unwrap().any(|addr| addr.ip().is_loopback()));
        UnixDatagram::unbound().unwrap();
        UnixStream::pair().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let resolved = runtime.block_on(tokio::net::lookup_host(("localhost", 1))).unwrap();
        assert!(resolved.count() > 0);
        runtime.block_on(async { crate::net::Net::new().unwrap().interface_addresses().await.unwrap() });
    });
}

#[test]
fn services_of_the_host_are_out_of_reach_unless_needed() {
    apart(|| {
        assert_eq!(daemon(&Fence::default()).unwrap(), []);
        assert_eq!(errno(UnixStream::connect("/run/no-such-socket")), Some(libc::EPERM));
    });
}

#[test]
fn services_of_the_host_can_be_let_in() {
    apart(|| {
        assert_eq!(daemon(&Fence { local_services: true, ..Fence::default() }).unwrap(), []);
        assert_eq!(errno(UnixStream::connect("/run/no-such-socket")), Some(libc::ENOENT));
    });
}

#[test]
fn only_named_folders_are_read_and_written() {
    apart(|| {
        let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
        for folder in &folders {
            fs::write(folder.path().join("file"), "text").unwrap();
        }
        let [read, write, other] = folders.each_ref().map(|folder| folder.path());
        let fence = Fence {
            read: vec![read.to_owned(), "/no/such/folder".into()],
            write: vec![write.to_owned()],
            local_services: false,
        };
        assert_eq!(daemon(&fence).unwrap(), []);
        assert!(fs::read(read.join("file")).is_ok() && fs::read("/etc/hosts").is_ok());
        for refused in [
            errno(fs::read(other.join("file"))),
            errno(fs::read_dir(other)),
            errno(fs::write(read.join("file"), "")),
            errno(fs::write(other.join("new"), "")),
            errno(fs::remove_file(read.join("file"))),
            errno(fs::read("/proc/1/environ")),
            errno(fs::write("/etc/sinew-no-such-file", "")),
        ] {
            assert_eq!(refused, Some(libc::EACCES));
        }
        // As a database and an editor do it.
        fs::create_dir(write.join("folder")).unwrap();
        fs::write(write.join("new"), "").unwrap();
        fs::rename(write.join("new"), write.join("folder/file")).unwrap();
        fs::File::open(write).unwrap().sync_all().unwrap();
        fs::remove_dir_all(write.join("folder")).unwrap();
    });
}

#[test]
fn the_helper_keeps_three_capabilities_and_its_calls() {
    apart(|| {
        assert_eq!(helper().unwrap(), []);
        assert_eq!((status("NoNewPrivs:").as_str(), status("Seccomp:").as_str()), ("1", "2"));
        if is_root() {
            // 10, 12 and 21 of linux/capability.h.
            for set in ["CapEff:", "CapPrm:", "CapBnd:"] {
                assert_eq!(status(set), "0000000000201400", "{set}");
            }
            assert!(crate::netns::make().is_ok());
        }
        assert!(Command::new("true").status().is_err());
        for number in [libc::SYS_ptrace, libc::SYS_bpf, libc::SYS_init_module, libc::SYS_clone3, 1000] {
            assert_eq!(call(number, [0; 3]), libc::ENOSYS, "call {number}");
        }
    });
}

#[test]
fn a_second_thread_would_keep_everything_so_nothing_is_given_up() {
    apart(|| {
        let (end, wait) = std::sync::mpsc::channel::<()>();
        let second = std::thread::spawn(move || wait.recv().is_err());
        assert!(matches!(daemon(&Fence::default()), Err(ConfineError::Threads(2))));
        assert!(matches!(helper(), Err(ConfineError::Threads(2))));
        drop(end);
        assert!(second.join().unwrap());
    });
}

#[test]
fn a_gap_is_told_with_its_remedy() {
    for gap in [Gap::Syscalls("no".to_owned()), Gap::Files("no".to_owned())] {
        assert!(gap.text().ends_with(": no") && !gap.fix().is_empty() && gap.code().starts_with("no_"));
    }
}
