//! The verbs against the real kernel: a helper on a thread with namespaces of its own.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{Shutdown, shutdown};
use sinew_platform::netns;
use sinew_platform::seqpacket::Seqpacket;

use super::*;

/// Where a test runs: a network and a mount namespace of its own, a helper that serves it.
struct Ground {
    helper: Helper,
    runtime: PathBuf,
}

impl Ground {
    fn pins(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.runtime.join("netns")).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
    }
}

/// Runs `test` beside a helper, both in namespaces that end with them. Needs root.
fn beside_a_helper(test: impl AsyncFnOnce(&Ground) + Send + 'static) {
    if !nix::unistd::geteuid().is_root() || !Path::new("/dev/net/tun").exists() {
        return;
    }
    // A program that another test is just starting holds our descriptors until it runs, and so our
    // devices: one test at a time.
    static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let body = move || {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_PRIVATE | MsFlags::MS_REC, None::<&str>).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let runtime = folder.path().to_owned();
        let (one, other) = Seqpacket::pair().unwrap();
        let below = runtime.join("netns");
        let server = std::thread::spawn(move || serve(&other, &below).unwrap());
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio.block_on(async {
            let helper = Helper::new(Connection::over(one)).unwrap();
            test(&Ground { helper, runtime: runtime.clone() }).await;
        });
        assert_eq!(server.join().unwrap(), End::Gone);
    };
    std::thread::spawn(body).join().unwrap();
}

fn id(text: &str) -> Id {
    Id::new(text).unwrap()
}

fn spec(name: &str) -> Attach {
    Attach {
        id: id(name),
        interface: None,
        mtu: 1400,
        addresses: vec![("10.20.3.7".parse().unwrap(), 32), ("fd12:0:0:3::7".parse().unwrap(), 128)],
        routes: vec![("10.20.0.0".parse().unwrap(), 16), ("fd12::".parse().unwrap(), 48)],
        resolver: vec!["10.20.3.1".parse().unwrap(), "fd12:0:0:3::1".parse().unwrap()],
        tap: None,
    }
}

/// Runs `ip` in a namespace.
fn ip(namespace: &OwnedFd, arguments: &str) -> String {
    let run = || Command::new("ip").args(arguments.split(' ')).output().unwrap();
    let output = netns::enter(namespace.as_fd(), run).unwrap();
    assert!(output.status.success(), "ip {arguments}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What a namespace has of its own making; an empty one has nothing.
fn everything(namespace: &OwnedFd) -> String {
    ["-br link", "-br addr", "-4 route", "-6 route"]
        .map(|what| ip(namespace, &format!("{what} show")))
        .concat()
}

fn why(error: HelperError) -> Why {
    match error {
        HelperError::Refused { why, .. } => why,
        other => panic!("{other}"),
    }
}

#[test]
fn a_workload_gets_its_interface_and_loses_it_again() {
    beside_a_helper(async |ground| {
        let namespace = netns::make().unwrap();
        let clean = everything(&namespace);
        let attached = ground.helper.attach(&spec("web"), Some(namespace.as_fd())).await.unwrap();
        assert_eq!((attached.interface.as_str(), attached.dns.len()), ("sinew0", 2));
        assert_eq!(ground.pins(), ["web"]);
        assert_eq!(ground.helper.list().await.unwrap(), [id("web")]);

        let shown = ip(&namespace, "-d link show sinew0");
        assert!(
            shown.contains("mtu 1400") && shown.contains("UP") && shown.contains("persist on"),
            "{shown}"
        );
        let shown = ip(&namespace, "addr show");
        assert!(shown.contains("10.20.3.7/32") && shown.contains("fd12:0:0:3::7/128"), "{shown}");
        assert!(!shown.contains("tentative") && !shown.contains("fe80"), "{shown}");
        assert!(shown.contains("inet 127.0.0.1/8"), "the loopback is up: {shown}");
        assert!(ip(&namespace, "route show").contains("10.20.0.0/16 dev sinew0 proto 115"));
        assert!(ip(&namespace, "-6 route show").contains("fd12::/48 dev sinew0 proto 115"));
        // The resolver's address is never what the workload speaks from.
        assert!(ip(&namespace, "route get 10.20.3.2").contains("src 10.20.3.7"));
        assert!(ip(&namespace, "-6 route get fd12:0:0:3::2").contains("src fd12:0:0:3::7"));

        ground.helper.detach(&id("web")).await.unwrap();
        drop(attached);
        let left = everything(&namespace);
        assert_eq!(left.replace("UNKNOWN", "DOWN").matches("sinew").count(), 0, "{left}");
        assert_eq!(ip(&namespace, "-6 route show table all").matches("fd12").count(), 0);
        assert!(clean.lines().count() <= left.lines().count());
        assert!(ground.pins().is_empty() && !ground.runtime.join("netns").exists());
        ground.helper.detach(&id("web")).await.unwrap();
    });
}

#[test]
fn dns_is_answered_inside_the_namespace_on_the_sockets_that_were_handed_over() {
    beside_a_helper(async |ground| {
        let namespace = netns::make().unwrap();
        let attached = ground.helper.attach(&spec("web"), Some(namespace.as_fd())).await.unwrap();
        for sockets in attached.dns {
            let server = UdpSocket::from(sockets.udp);
            server.set_nonblocking(false).unwrap();
            let to = SocketAddr::new(sockets.address, 53);
            assert_eq!(server.local_addr().unwrap(), to);
            let ask = || {
                let any = if to.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
                let client = UdpSocket::bind(any).unwrap();
                client.send_to(b"?", to).unwrap();
                client
            };
            let client = netns::enter(namespace.as_fd(), ask).unwrap();
            let (_, from) = server.recv_from(&mut [0; 8]).unwrap();
            server.send_to(b"!", from).unwrap();
            assert_eq!(client.recv_from(&mut [0; 8]).unwrap(), (1, to));
            let listener = TcpListener::from(sockets.tcp);
            listener.set_nonblocking(false).unwrap();
            let connect = || std::net::TcpStream::connect(to).unwrap();
            let _stream = netns::enter(namespace.as_fd(), connect).unwrap();
            listener.accept().unwrap();
        }
    });
}

#[test]
fn a_namespace_can_be_made_first_and_attached_to_by_its_name() {
    beside_a_helper(async |ground| {
        let namespace = ground.helper.new_namespace(&id("job")).await.unwrap();
        assert!(ip(&namespace, "-br link show lo").contains("UP"));
        assert_eq!(why(ground.helper.new_namespace(&id("job")).await.unwrap_err()), Why::Taken);
        let attached = ground.helper.attach(&spec("job"), None).await.unwrap();
        assert!(ip(&namespace, "addr show").contains("10.20.3.7/32"));
        assert_eq!(why(ground.helper.attach(&spec("job"), None).await.unwrap_err()), Why::Taken);
        assert!(ip(&namespace, "link show").contains(&attached.interface), "it stays as it was");
        ground.helper.detach(&id("job")).await.unwrap();
    });
}

#[test]
fn two_networks_in_one_namespace_have_an_interface_each() {
    beside_a_helper(async |ground| {
        let namespace = netns::make().unwrap();
        let first = ground.helper.attach(&spec("one"), Some(namespace.as_fd())).await.unwrap();
        let other = Attach {
            addresses: vec![("10.30.1.2".parse().unwrap(), 32)],
            routes: vec![("10.30.0.0".parse().unwrap(), 16)],
            resolver: vec!["10.30.1.1".parse().unwrap()],
            ..spec("two")
        };
        let second = ground.helper.attach(&other, Some(namespace.as_fd())).await.unwrap();
        assert_eq!((first.interface.as_str(), second.interface.as_str()), ("sinew0", "sinew1"));
        ground.helper.detach(&id("one")).await.unwrap();
        let shown = ip(&namespace, "-br link show");
        assert!(!shown.contains("sinew0") && shown.contains("sinew1"), "{shown}");
        ground.helper.detach(&id("two")).await.unwrap();
    });
}

#[test]
fn what_is_attached_outlives_the_daemon_and_is_taken_hold_of_again() {
    beside_a_helper(async |ground| {
        let namespace = netns::make().unwrap();
        let attached = ground.helper.attach(&spec("web"), Some(namespace.as_fd())).await.unwrap();
        let busy = ground.helper.reattach(&spec("web")).await.unwrap_err();
        assert_eq!(why(busy), Why::Taken, "an earlier daemon holds it still");
        let before = (attached.ifindex, everything(&namespace));
        drop(attached);
        let again = ground.helper.reattach(&spec("web")).await.unwrap();
        assert_eq!((again.ifindex, everything(&namespace)), before);
        drop(again);

        // The device was deleted behind our back: it is made again.
        ip(&namespace, "link del sinew0");
        let again = ground.helper.reattach(&spec("web")).await.unwrap();
        assert_eq!(again.dns.len(), 2);
        drop(again);

        // Its addresses change with the network's plan.
        let moved = Attach { addresses: vec![("10.20.4.9".parse().unwrap(), 32)], ..spec("web") };
        let _again = ground.helper.reattach(&moved).await.unwrap();
        let shown = ip(&namespace, "addr show dev sinew0");
        assert!(shown.contains("10.20.4.9/32") && !shown.contains("10.20.3.7"), "{shown}");
        assert!(shown.contains("10.20.3.1/32"), "the resolver stays: {shown}");
    });
}

/// Something that makes one step fail, and what the refusal is.
type Obstacle = (&'static str, fn(&OwnedFd, &Path, &mut Attach), Why);

const OBSTACLES: &[Obstacle] = &[
    ("a rule", |_, _, spec| spec.routes.push(("0.0.0.0".parse().unwrap(), 0)), Why::Forbidden),
    ("the pin", |_, runtime, _| std::fs::write(runtime.join("netns"), "").unwrap(), Why::Failed),
    (
        "the name",
        |ns, _, spec| {
            ip(ns, "tuntap add mine mode tun");
            spec.interface = Some("mine".to_owned());
        },
        Why::Taken,
    ),
    (
        "a route",
        |ns, _, _| {
            ip(ns, "link set lo up");
            ip(ns, "route add 10.20.0.0/16 dev lo");
        },
        Why::Taken,
    ),
    (
        "the last route",
        |ns, _, _| {
            ip(ns, "link set lo up");
            ip(ns, "-6 route add fd12::/48 dev lo metric 1024");
        },
        Why::Taken,
    ),
    (
        "a socket",
        |ns, _, _| {
            ip(ns, "link set lo up");
            let bind = || UdpSocket::bind("0.0.0.0:53").unwrap();
            // Stays open, as if a program of the workload had it.
            std::mem::forget(netns::enter(ns.as_fd(), bind).unwrap());
        },
        Why::Failed,
    ),
];

#[test]
fn a_step_that_fails_leaves_nothing_of_those_before() {
    beside_a_helper(async |ground| {
        for (what, spoil, expected) in OBSTACLES {
            let namespace = netns::make().unwrap();
            // Every attempt brings the loopback up, which is no harm to anybody.
            ip(&namespace, "link set lo up");
            let mut attach = spec("web");
            spoil(&namespace, &ground.runtime, &mut attach);
            let before = everything(&namespace);
            let refused = ground.helper.attach(&attach, Some(namespace.as_fd())).await;
            assert_eq!(why(refused.unwrap_err()), *expected, "{what}");
            assert_eq!(everything(&namespace), before, "{what}");
            if ground.runtime.join("netns").is_file() {
                std::fs::remove_file(ground.runtime.join("netns")).unwrap();
            }
            assert_eq!(ground.pins(), [""; 0], "{what}");
            assert!(ground.helper.list().await.unwrap().is_empty());
        }
    });
}

#[test]
fn what_is_no_namespace_or_gone_is_told_apart() {
    beside_a_helper(async |ground| {
        // What is left of a path when its namespace has ended.
        let dead = tempfile::NamedTempFile::new().unwrap();
        for file in [File::open(dead.path()).unwrap(), File::open("/proc/self/ns/mnt").unwrap()] {
            let error = ground.helper.attach(&spec("web"), Some(file.as_fd())).await.unwrap_err();
            assert!(error.to_string().contains("no network namespace"), "{error}");
            assert_eq!(why(error), Why::NotANamespace);
        }
        assert_eq!(why(ground.helper.attach(&spec("web"), None).await.unwrap_err()), Why::Unknown);
        assert_eq!(why(ground.helper.reattach(&spec("web")).await.unwrap_err()), Why::Unknown);

        // A name without a namespace, as after a reboot: told, forgotten, and no obstacle.
        std::fs::create_dir(ground.runtime.join("netns")).unwrap();
        std::fs::write(ground.runtime.join("netns/web"), "").unwrap();
        assert_eq!(why(ground.helper.reattach(&spec("web")).await.unwrap_err()), Why::Unknown);
        assert!(ground.helper.list().await.unwrap().is_empty());
        let namespace = netns::make().unwrap();
        ground.helper.attach(&spec("web"), Some(namespace.as_fd())).await.unwrap();
        ground.helper.detach(&id("web")).await.unwrap();
        assert!(!ground.runtime.join("netns").exists());
    });
}

#[test]
fn an_id_that_is_in_use_is_not_given_to_another_namespace() {
    beside_a_helper(async |ground| {
        let (one, other) = (netns::make().unwrap(), netns::make().unwrap());
        let _attached = ground.helper.attach(&spec("web"), Some(one.as_fd())).await.unwrap();
        let error = ground.helper.attach(&spec("web"), Some(other.as_fd())).await.unwrap_err();
        assert_eq!(why(error), Why::Taken);
        assert!(ip(&one, "link show").contains("sinew0") && !ip(&other, "link show").contains("sinew0"));
    });
}

#[test]
fn on_the_host_itself_only_private_ranges_are_drawn_in() {
    beside_a_helper(async |ground| {
        let host = netns::own().unwrap();
        let public = Attach { routes: vec![("8.8.8.0".parse().unwrap(), 24)], ..spec("host") };
        let error = ground.helper.attach(&public, Some(host.as_fd())).await.unwrap_err();
        assert_eq!(why(error), Why::Forbidden);
        let _attached = ground.helper.attach(&spec("host"), Some(host.as_fd())).await.unwrap();
        ground.helper.detach(&id("host")).await.unwrap();
    });
}

fn mounts() -> usize {
    std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap().lines().count()
}

#[test]
fn a_hundred_attachments_leave_nothing_behind() {
    beside_a_helper(async |ground| {
        let namespace = netns::make().unwrap();
        let round = async |name: &str| {
            let attached = ground.helper.attach(&spec(name), Some(namespace.as_fd())).await.unwrap();
            drop(attached);
            ground.helper.detach(&id(name)).await.unwrap();
        };
        round("first").await;
        let before = (everything(&namespace), mounts());
        for n in 0..100 {
            round(&format!("w{n}")).await;
        }
        assert_eq!((everything(&namespace), mounts()), before);
        assert!(ground.pins().is_empty());
    });
}

#[test]
fn long_lists_come_in_parts() {
    beside_a_helper(async |ground| {
        let mut made: Vec<Id> = (0..70).map(|n| id(&format!("{n:064}"))).collect();
        for id in &made {
            ground.helper.new_namespace(id).await.unwrap();
        }
        made.sort();
        assert_eq!(ground.helper.list().await.unwrap(), made);
        for id in &made {
            ground.helper.detach(id).await.unwrap();
        }
        assert!(ground.helper.list().await.unwrap().is_empty());
    });
}

#[test]
fn a_message_that_makes_no_sense_ends_the_helper() {
    let good = codec::Request::List(None).encode(1).unwrap();
    let file = File::open("/dev/null").unwrap();
    let cut = &good[..good.len() - 1];
    let long = vec![1; codec::MAX_MESSAGE + 1];
    for (message, descriptors) in [
        (&b"garbage"[..], &[][..]),
        (cut, &[]),
        (&good, &[file.as_fd()]),
        (&long, &[]),
        (&good, &[file.as_fd(); 17]),
    ] {
        let (one, other) = Seqpacket::pair().unwrap();
        one.send(message, descriptors).unwrap();
        // Nothing follows: what went on would find the daemon gone.
        shutdown(one.as_raw_fd(), Shutdown::Write).unwrap();
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(serve(&other, folder.path()).unwrap(), End::Malformed, "{} bytes", message.len());
        drop(other);
        assert_eq!(one.receive(&mut [0; 64]).unwrap().len, 0, "there is no answer");
    }
}

#[test]
fn an_answer_whose_asker_has_gone_is_not_taken_for_another() {
    beside_a_helper(async |ground| {
        for n in 0..20 {
            let id = id(&format!("n{n}"));
            let asked = ground.helper.new_namespace(&id);
            // Given up at the first wait, with the question on its way.
            tokio::select! { biased; _ = asked => {}, () = std::future::ready(()) => {} }
        }
        let left = ground.helper.list().await.unwrap();
        for id in left {
            ground.helper.detach(&id).await.unwrap();
        }
        assert!(ground.helper.list().await.unwrap().is_empty());
    });
}

/// A TAP device of the calling thread's namespace, as a hypervisor holds it.
fn tap(name: &str) -> (impl Read + Send + 'static, impl Write + Send + 'static) {
    let mut wanted = tun::Configuration::default();
    wanted.tun_name(name).layer(tun::Layer::L2);
    tun::create(&wanted).unwrap().split()
}

/// Carries frames one way until a device is gone.
fn carry(mut from: impl Read + Send + 'static, mut to: impl Write + Send + 'static) {
    std::thread::spawn(move || {
        let mut frame = vec![0; 65_536];
        while let Ok(len) = from.read(&mut frame) {
            // A device that is down loses frames, as a cable does.
            let _ = to.write(&frame[..len]);
        }
    });
}

#[test]
fn a_virtual_machine_reaches_the_network_through_a_namespace_of_its_own() {
    beside_a_helper(async |ground| {
        // The guest: a kernel of its own would not do anything else with its network card.
        let guest = netns::make().unwrap();
        let card = netns::enter(guest.as_fd(), || tap("eth0")).unwrap();
        let host = netns::own().unwrap();
        let vnet = tap("vm0");
        carry(card.0, vnet.1);
        carry(vnet.0, card.1);
        ip(&host, "link set vm0 up");
        for command in
            ["link set eth0 up", "addr add 10.20.3.7/16 dev eth0", "addr add fd12:0:0:3::7/64 dev eth0 nodad"]
        {
            ip(&guest, command);
        }
        ip(&guest, "-6 route add fd12::/48 via fd12:0:0:3::1 dev eth0");

        let attach = Attach { tap: Some("vm0".to_owned()), ..spec("vm") };
        let attached = ground.helper.attach(&attach, None).await.unwrap();
        assert!(!ip(&host, "link show").contains("vm0"), "it was moved");
        // Its gateway answers DNS.
        let server = UdpSocket::from(attached.dns.into_iter().next().unwrap().udp);
        server.set_nonblocking(false).unwrap();
        let ask = || {
            let client = UdpSocket::bind("0.0.0.0:0").unwrap();
            client.send_to(b"?", "10.20.3.1:53").unwrap();
        };
        netns::enter(guest.as_fd(), ask).unwrap();
        server.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
        assert_eq!(server.recv_from(&mut [0; 8]).unwrap().1.ip().to_string(), "10.20.3.7");
        // What it sends to others, on its own link as it thinks, comes out of the TUN device.
        let tun = sinew_tun::TunDevice::from_fd(attached.tun, attached.ifindex, true).unwrap();
        for to in ["10.20.9.9:7", "[fd12:0:0:9::9]:7"] {
            let to: SocketAddr = to.parse().unwrap();
            let send = || {
                let any = if to.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
                UdpSocket::bind(any).unwrap().send_to(b"over there", to).unwrap();
            };
            netns::enter(guest.as_fd(), send).unwrap();
            assert!(receive(&tun, b"over there").await, "{to}");
        }
        drop(tun);
        ground.helper.detach(&id("vm")).await.unwrap();
        let shown = ip(&host, "link show vm0");
        assert!(shown.contains("UP") && !shown.contains("alias"), "it came back: {shown}");

        // A step that fails gives it back too.
        let attach = Attach { routes: vec![("10.20.3.7".parse().unwrap(), 32); 2], ..attach };
        assert_eq!(why(ground.helper.attach(&attach, None).await.unwrap_err()), Why::Taken);
        assert!(ip(&host, "link show vm0").contains("UP") && ground.pins().is_empty());
        let other = Attach { tap: Some("lo".to_owned()), ..attach };
        assert_eq!(why(ground.helper.attach(&other, None).await.unwrap_err()), Why::Forbidden);
    });
}

/// Whether a packet with this text comes out of the device before anybody loses patience.
async fn receive(tun: &sinew_tun::TunDevice, text: &[u8]) -> bool {
    use sinew_tun::Tun as _;
    let mut frame = vec![0; sinew_tun::MAX_FRAME];
    let found = async {
        loop {
            tun.readable().await.unwrap();
            while let Ok(len) = tun.try_read(&mut frame) {
                if frame[..len].windows(text.len()).any(|window| window == text) {
                    return;
                }
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), found).await.is_ok()
}
