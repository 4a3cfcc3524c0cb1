//! The helper as a process of its own, confined as in earnest: workloads attached to it, its end
//! and the next one's start, and a daemon that has been taken over.
//!
//! ```text
//!   w1 ── sinew0 ══ this test, in place of the daemon ══ sinew0 ── w2
//! ```

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use sinew_helper::{Attach, Attached, Connection, Helper, HelperError, Id, Why};
use sinew_platform::seqpacket::Seqpacket;
use sinew_tests::lab::{Lab, run_lab};
use sinew_tests::ns::Namespace;
use sinew_tests::privileges::{descriptors, mounts, network_sockets, status};
use sinew_tests::process::{command, run_ok};
use sinew_tests::requirements::Bins;

use sinew_tun::{Tun as _, TunDevice};

const DEADLINE: Duration = Duration::from_secs(20);

/// Runs a lab whose body waits for more than one thing.
fn lab(name: &str, body: impl AsyncFnOnce(&mut Lab) -> Result<()>) {
    run_lab(name, |lab| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(body(lab))
    });
}

fn helper(lab: &Lab) -> Result<(Helper, u32)> {
    let runtime = lab.dir().join("run");
    std::fs::create_dir_all(&runtime)?;
    let connection = Connection::spawn_program(
        &Bins::get()?.sinewd,
        &runtime.join("netns"),
        &[&runtime.join("sinew.sock")],
    )?;
    let pid = connection.pid().context("it is a process")?;
    Ok((Helper::new(connection)?, pid))
}

fn id(text: &str) -> Result<Id> {
    Id::new(text).context("a good id")
}

/// Workload `n` of a network 10.20.0.0/16, fd12::/48.
fn workload(name: &str, n: u8) -> Result<Attach> {
    Ok(Attach {
        id: id(name)?,
        interface: None,
        mtu: 1400,
        addresses: vec![(format!("10.20.{n}.2").parse()?, 32), (format!("fd12:0:0:{n}::2").parse()?, 128)],
        routes: vec![("10.20.0.0".parse()?, 16), ("fd12::".parse()?, 48)],
        resolver: vec![format!("10.20.{n}.1").parse()?],
        tap: None,
    })
}

fn namespace(ns: &Namespace) -> Result<OwnedFd> {
    Ok(File::open(Path::new("/run/netns").join(ns.name()))?.into())
}

/// Carries packets between two workloads, until it is dropped.
struct Wire(tokio::task::JoinHandle<()>);

impl Wire {
    fn between(one: Attached, other: Attached) -> Result<Self> {
        // Single packets with whole checksums: what one gives the other takes.
        let one = TunDevice::from_fd(one.tun, one.ifindex, false)?;
        let other = TunDevice::from_fd(other.tun, other.ifindex, false)?;
        Ok(Self(tokio::spawn(async move {
            tokio::join!(carry(&one, &other), carry(&other, &one));
        })))
    }

    async fn cut(self) {
        self.0.abort();
        let _ = self.0.await;
    }
}

async fn carry(from: &TunDevice, to: &TunDevice) {
    let mut frame = vec![0; sinew_tun::MAX_FRAME];
    while from.readable().await.is_ok() {
        while let Ok(len) = from.try_read(&mut frame) {
            let _ = to.try_write(&frame[..len]);
        }
    }
}

/// A TCP connection from one namespace into another; both ends.
async fn connect(from: &Namespace, to: &Namespace, address: IpAddr) -> Result<(TcpStream, TcpStream)> {
    let listener = to.enter(|| TcpListener::bind((address, 7000)))??;
    let target = (address, 7000);
    let client = async || -> Result<TcpStream> {
        let socket = from.enter(|| {
            if address.is_ipv6() { tokio::net::TcpSocket::new_v6() } else { tokio::net::TcpSocket::new_v4() }
        })??;
        Ok(socket.connect(target.into()).await?.into_std()?)
    };
    // Elsewhere, because this task's thread carries the packets it waits for.
    let accepted = tokio::task::spawn_blocking(move || listener.accept());
    let (client, accepted) =
        tokio::time::timeout(DEADLINE, async { tokio::join!(client(), accepted) }).await?;
    let (client, (server, _)) = (client?, accepted??);
    client.set_nonblocking(false)?;
    Ok((client, server))
}

/// Sends a line and waits for it at the other end, while the runtime carries packets.
async fn say(from: &TcpStream, to: &TcpStream, text: &[u8]) -> Result<()> {
    let (mut from, mut to) = (from.try_clone()?, to.try_clone()?);
    let text = text.to_vec();
    let exchange = tokio::task::spawn_blocking(move || -> Result<()> {
        to.set_read_timeout(Some(DEADLINE))?;
        from.write_all(&text)?;
        let mut got = vec![0; text.len()];
        to.read_exact(&mut got)?;
        ensure!(got == text, "{got:?}");
        Ok(())
    });
    exchange.await?
}

#[test]
fn a_workload_sees_its_interface_and_keeps_it_and_its_connections_over_a_restart() {
    lab("reattach", async |lab| {
        lab.node("w1")?;
        lab.node("w2")?;
        let (first, second) = (workload("one", 1)?, workload("two", 2)?);
        let (asked, _) = helper(lab)?;
        let one = asked.attach(&first, Some(namespace(lab.ns("w1"))?.as_fd())).await?;
        let two = asked.attach(&second, Some(namespace(lab.ns("w2"))?.as_fd())).await?;
        let shown = lab.ns("w1").run(&["ip", "addr", "show", "dev", "sinew0"])?;
        ensure!(shown.contains("10.20.1.2/32") && shown.contains("fd12:0:0:1::2/128"), "{shown}");
        let shown = lab.ns("w1").run(&["ip", "route"])?;
        ensure!(shown.contains("10.20.0.0/16 dev sinew0 proto 115"), "{shown}");
        let shown = lab.ns("w1").run(&["ss", "-Hlnut"])?;
        ensure!(shown.matches("10.20.1.1:53").count() == 2, "UDP and TCP: {shown}");

        let wire = Wire::between(one, two)?;
        let mut connections = Vec::new();
        for address in ["10.20.2.2", "fd12:0:0:2::2"] {
            connections.push(connect(lab.ns("w1"), lab.ns("w2"), address.parse()?).await?);
        }
        for (client, server) in &connections {
            say(client, server, b"before").await?;
        }
        let before = [lab.ns("w1").snapshot()?, lab.ns("w2").snapshot()?];

        // The daemon and its helper are gone, devices and descriptors with them.
        wire.cut().await;
        drop(asked);
        for (client, _) in &connections {
            (&*client).write_all(b"meanwhile")?;
        }
        let (asked, _) = helper(lab)?;
        ensure!(asked.list().await? == [id("one")?, id("two")?]);
        let wire = Wire::between(asked.reattach(&first).await?, asked.reattach(&second).await?)?;
        for (client, server) in &connections {
            let mut got = [0; 9];
            server.set_nonblocking(true)?;
            wait_for(|| server.peek(&mut got).is_ok_and(|len| len == got.len())).await?;
            server.set_nonblocking(false)?;
            (&*server).read_exact(&mut got)?;
            ensure!(&got == b"meanwhile");
            say(server, client, b"after").await?;
        }
        let after = [lab.ns("w1").snapshot()?, lab.ns("w2").snapshot()?];
        let differences = (configuration(&before), configuration(&after));
        ensure!(differences.0 == differences.1, "{differences:#?}");
        wire.cut().await;

        for id in asked.list().await? {
            asked.detach(&id).await?;
        }
        let shown = lab.ns("w1").snapshot()?;
        ensure!(!shown.contains("sinew") && !shown.contains("10.20."), "left behind: {shown}");
        ensure!(!lab.dir().join("run/netns").exists());
        Ok(())
    });
}

/// What a namespace has, whatever it is called when a carrier came for the second time.
fn configuration(snapshots: &[String]) -> Vec<String> {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ").replace("UNKNOWN", "UP");
    snapshots.concat().lines().map(words).collect()
}

/// Waits for something that this task's own runtime brings about.
async fn wait_for(mut look: impl FnMut() -> bool) -> Result<()> {
    let seen = async {
        while !look() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    Ok(tokio::time::timeout(DEADLINE, seen).await?)
}

#[test]
fn a_path_that_led_to_a_namespace_once_is_refused_and_nothing_is_left() {
    lab("dead", async |lab| {
        lab.node("w1")?;
        let (asked, _) = helper(lab)?;
        // What is left of a workload's path when the workload has ended.
        let dead = lab.dir().join("dead");
        std::fs::write(&dead, "")?;
        let before = mounts()?;
        match asked.attach(&workload("gone", 1)?, Some(File::open(&dead)?.as_fd())).await {
            Err(HelperError::Refused { why: Why::NotANamespace, text }) => {
                ensure!(text.contains("has ended"), "{text}");
            }
            other => bail!("{other:?}"),
        }
        ensure!(mounts()? == before && asked.list().await?.is_empty());
        asked.detach(&id("gone")?).await?;
        Ok(())
    });
}

/// Everything that could leak, counted.
fn counted(lab: &Lab, pid: u32) -> Result<[usize; 5]> {
    let links = lab.ns("w1").run(&["ip", "-br", "link"])?.lines().count();
    let threads = status(pid, "Threads")?.parse()?;
    let own = std::fs::read_dir("/proc/self/fd")?.count();
    Ok([links, mounts()?, descriptors(pid)?.len(), threads, own])
}

#[test]
fn a_hundred_workloads_come_and_go_and_leave_nothing() {
    lab("hundred", async |lab| {
        lab.node("w1")?;
        let (asked, pid) = helper(lab)?;
        let target = namespace(lab.ns("w1"))?;
        let round = async |n: u8| -> Result<()> {
            let name = format!("w{n}");
            let attached = asked.attach(&workload(&name, 1)?, Some(target.as_fd())).await?;
            ensure!(attached.interface == "sinew0", "{}: the one before is still there", attached.interface);
            drop(attached);
            Ok(asked.detach(&id(&name)?).await?)
        };
        // The first makes what the runtime keeps for good.
        round(0).await?;
        let before = counted(lab, pid)?;
        for n in 1..=100 {
            round(n).await?;
        }
        let after = counted(lab, pid)?;
        ensure!(after == before, "links, mounts, descriptors, threads, our own: {after:?} after {before:?}");
        ensure!(network_sockets(pid)?.is_empty());
        Ok(())
    });
}

/// A helper with the raw end of the connection, as somebody has it who has taken over the daemon.
/// `before`: words of a command line that starts it.
fn raw_helper(lab: &Lab, before: &[&str]) -> Result<(Seqpacket, std::process::Child)> {
    raw_helper_below(lab.dir(), before)
}

/// As a service unit with `User=` and `AmbientCapabilities=` starts it.
const AS_A_USER: [&str; 8] = [
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
    "--inh-caps=-all,+sys_admin,+net_admin,+net_bind_service",
    "--ambient-caps=-all,+sys_admin,+net_admin,+net_bind_service",
    "--bounding-set=-all,+sys_admin,+net_admin,+net_bind_service",
    "--",
];

fn raw_helper_below(folder: &Path, before: &[&str]) -> Result<(Seqpacket, std::process::Child)> {
    let (end, other) = Seqpacket::pair()?;
    let bin = Bins::get()?.sinewd.to_string_lossy().into_owned();
    let words: Vec<_> = before.iter().copied().chain([bin.as_str()]).collect();
    let child = Command::new(words[0])
        .args(&words[1..])
        .arg("--helper")
        .arg("folder-found")
        .arg(folder.join("netns"))
        .arg(folder.join("sinew.sock"))
        .stdin(Stdio::from(OwnedFd::from(other)))
        .stderr(Stdio::piped())
        .spawn()?;
    Ok((end, child))
}

#[test]
fn a_daemon_that_was_taken_over_gets_nothing_but_the_verbs() {
    lab("hostile", async |lab| {
        let file = File::open("/dev/null")?;
        let (garbage, empty) = (vec![0xff; 4000], vec![1, 9, 0, 0, 0, 0]);
        // Noise, an unknown verb, one too long, and a good one with a descriptor that it does not take.
        let list = [1u8, 5, 1, 0, 0, 0, 0].to_vec();
        for (message, descriptor) in
            [(&garbage, false), (&empty, false), (&vec![1; 5000], false), (&list, true)]
        {
            let (end, mut child) = raw_helper(lab, &[])?;
            let descriptors: Vec<_> = descriptor.then(|| file.as_fd()).into_iter().collect();
            end.send(message, &descriptors)?;
            let answer = end.receive(&mut [0; 4096])?;
            ensure!(answer.len == 0, "an answer of {} bytes", answer.len);
            let mut said = String::new();
            child.stderr.take().context("piped")?.read_to_string(&mut said)?;
            ensure!(child.wait()?.code() == Some(1) && said.contains("makes no sense"), "{said}");
        }
        // The same with nothing wrong is answered: it is the wrongness that ends it.
        let (end, mut child) = raw_helper(lab, &[])?;
        end.send(&list, &[])?;
        ensure!(end.receive(&mut [0; 4096])?.len > 0, "no answer");
        // Names of others: an id is a name below its own folder, and nothing else.
        for name in ["../sinew.sock", "/etc/passwd", ".", "a/b", ""] {
            let (end, mut child) = raw_helper(lab, &[])?;
            let mut detach = vec![1, 4, 1, 0, 0, 0, u8::try_from(name.len())?];
            detach.extend(name.as_bytes());
            end.send(&detach, &[])?;
            ensure!(end.receive(&mut [0; 4096])?.len == 0, "{name:?} is answered");
            ensure!(child.wait()?.code() == Some(1), "{name:?}");
        }
        drop(end);
        ensure!(child.wait()?.code() == Some(0), "its end is the daemon's");
        let (asked, _) = helper(lab)?;
        ensure!(matches!(
            asked.reattach(&workload("nobody", 1)?).await,
            Err(HelperError::Refused { why: Why::Unknown, .. })
        ));
        Ok(())
    });
}

#[test]
fn a_helper_of_another_user_with_three_capabilities_is_enough() {
    lab("user", async |lab| {
        lab.node("w1")?;
        let (user, folder) = (65_534, lab.dir().join("theirs"));
        std::fs::create_dir(&folder)?;
        std::os::unix::fs::chown(&folder, Some(user), Some(user))?;
        // The device's node as udev has it; here it may be root's.
        let node = lab.dir().join("tun");
        run_ok(command("mknod").arg("--mode=0666").arg(&node).args(["c", "10", "200"]), DEADLINE)?;
        let script = format!("mount --bind {} /dev/net/tun && exec \"$@\"", node.display());
        let mut before = vec!["unshare", "--mount", "--", "sh", "-c", &script, "sh"];
        before.extend(AS_A_USER);
        let (end, mut child) = raw_helper_below(&folder, &before)?;
        let asked = Helper::new(Connection::over(end))?;
        let target = namespace(lab.ns("w1"))?;
        let attached = asked.attach(&workload("web", 1)?, Some(target.as_fd())).await?;
        ensure!(attached.dns.len() == 1);
        ensure!(status(child.id(), "Uid")?.starts_with("65534"), "{}", status(child.id(), "Uid")?);
        let shown = lab.ns("w1").run(&["ip", "addr"])?;
        ensure!(shown.contains("10.20.1.2/32"), "{shown}");
        drop(attached);
        drop(asked.reattach(&workload("web", 1)?).await?);
        drop(asked.new_namespace(&id("job")?).await?);
        for id in asked.list().await? {
            asked.detach(&id).await?;
        }
        drop(asked);
        ensure!(child.wait()?.code() == Some(0));
        Ok(())
    });
}

#[test]
fn without_the_capability_the_refusal_names_it() {
    lab("lacks", async |lab| {
        lab.node("w1")?;
        let without = ["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"];
        let (end, _child) = raw_helper(lab, &without)?;
        let asked = Helper::new(Connection::over(end))?;
        let target = namespace(lab.ns("w1"))?;
        match asked.attach(&workload("web", 1)?, Some(target.as_fd())).await {
            Err(HelperError::Refused { why: Why::NotPermitted, text }) => {
                ensure!(text.contains("CAP_SYS_ADMIN"), "{text}");
            }
            other => bail!("{other:?}"),
        }
        ensure!(asked.list().await?.is_empty() && !lab.dir().join("netns").exists());
        Ok(())
    });
}

#[test]
fn a_helper_is_not_for_people() {
    run_lab("people", |_| {
        let mut command = Command::new(&Bins::get()?.sinewd);
        command.args(["--helper", "folder-found", "/nonexistent/netns"]).stdin(Stdio::null());
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(1) && said.contains("started by sinewd"), "{said}");
        Ok(())
    });
}
