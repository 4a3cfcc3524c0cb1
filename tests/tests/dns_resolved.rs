//! The host's resolver: Debian's systemd-resolved on a bus of its own, in a namespace, with our
//! name server as the one for our domain; and a stand-in on the same kind of bus where its
//! refusals have to be played.
//!
//! ```text
//!   host namespace                                          router namespace
//!   systemd-resolved ──~sinew.internal──▶ Dns, on lo        name server for the rest
//!         └──────────────everything else, over to-router──▶ 10.77.0.2
//! ```
//!
//! The real one is used where it lies (`SINEW_RESOLVED`, the target folder where `cargo xtest`
//! unpacks it, or installed); it is never installed for a test, because that replaces the
//! machine's resolv.conf.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::net::{IpAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use sinew_dns::resolved::{HostResolver, LinkChange};
use sinew_dns::{DOMAIN_DEFAULT, Dns, Host, NetworkZone, Scope, ServerHandle, Servers, Upstream, Zones};
use sinew_tests::cli::text;
use sinew_tests::lab::{Lab, run_lab};
use sinew_tests::ns::Namespace;
use sinew_tests::process::{self, Proc};
use sinew_tests::requirements::{RESOLVED_FOLDER, workspace_root};
use sinew_tests::tenant::{self, Workload};
use sinew_tests::wait;

const DEADLINE: Duration = Duration::from_secs(20);
const SHOP: [u8; 32] = [1; 32];
const OUR_ADDRESS: &str = "10.99.0.1";

/// A shell's commands that put files of the lab over the machine's, in a mount namespace of its
/// own: the user that systemd-resolved becomes (the bus, too, has to know it), no name servers.
fn covered(dir: &Path) -> Result<String> {
    const USER: &str = "systemd-resolve:x:991:991::/:/usr/sbin/nologin\n";
    const GROUP: &str = "systemd-resolve:x:991:\n";
    let mut script = Vec::new();
    for (file, line) in [("passwd", USER), ("group", GROUP), ("resolv.conf", "")] {
        let etc = Path::new("/etc").join(file);
        let mut text = if line.is_empty() { String::new() } else { std::fs::read_to_string(&etc)? };
        if !text.contains("systemd-resolve:") {
            text.push_str(line);
        }
        std::fs::write(dir.join(file), text)?;
        script.push(format!("mount --bind {} {}", dir.join(file).display(), etc.display()));
    }
    Ok(script.join(" && "))
}

/// A message bus of the lab's own.
struct Bus {
    _daemon: Proc,
    address: String,
}

impl Bus {
    /// In a network namespace, or in this one.
    fn start(dir: &Path, ns: Option<&Namespace>) -> Result<Self> {
        let (config, socket) = (dir.join("bus.conf"), dir.join("bus"));
        let allow = [
            "own=\"*\"",
            "user=\"*\"",
            "send_destination=\"*\"",
            "receive_sender=\"*\"",
            "eavesdrop=\"false\"",
        ]
        .map(|what| format!("<allow {what}/>"))
        .concat();
        let text = format!(
            "<busconfig><type>session</type><listen>unix:path={}</listen><auth>EXTERNAL</auth><policy context=\"default\">{allow}</policy></busconfig>",
            socket.display()
        );
        std::fs::write(&config, text)?;
        let script = format!(
            "{} && exec dbus-daemon --config-file={} --nofork --nopidfile --nosyslog",
            covered(dir)?,
            config.display()
        );
        let mut command = match ns {
            Some(ns) => ns.command("unshare"),
            None => process::command("unshare"),
        };
        command.args(["--mount", "sh", "-c", &script]);
        let daemon = Proc::spawn(&mut command, &dir.join("bus.log"))?;
        wait::until("the bus listens", DEADLINE, || socket.exists())?;
        Ok(Self { _daemon: daemon, address: format!("unix:path={}", socket.display()) })
    }

    async fn connect(&self) -> Result<zbus::Connection> {
        Ok(zbus::connection::Builder::address(self.address.as_str())?.build().await?)
    }
}

fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

fn zones() -> Result<Arc<Zones>> {
    let mut shop = NetworkZone::new(SHOP, "shop", vec![])?;
    shop.add("db", Host { addresses: vec![[10, 1, 0, 1].into()], ..Host::default() })?;
    let mut zones = Zones::new(DOMAIN_DEFAULT)?;
    zones.insert(Arc::new(shop));
    Ok(Arc::new(zones))
}

/// Where systemd-resolved and its libraries lie unpacked; `/` if they are installed.
fn resolved_root() -> Option<PathBuf> {
    let named = std::env::var_os("SINEW_RESOLVED").map(PathBuf::from);
    let unpacked = workspace_root().join("target").join(RESOLVED_FOLDER);
    let mut all = named.into_iter().chain([unpacked, PathBuf::from("/")]);
    let found = all.find(|root| {
        root.join("lib/systemd/systemd-resolved").is_file()
            || root.join("usr/lib/systemd/systemd-resolved").is_file()
    });
    if found.is_none() {
        eprintln!(
            "SKIPPED: systemd-resolved is neither unpacked (`cargo xtest` does) nor installed; its stand-in is tested"
        );
    }
    found
}

/// A name server on the router with names of another domain: the same program, for somebody else.
fn stranger(lab: &Lab) -> Result<(Dns, ServerHandle)> {
    let mut other = NetworkZone::new([7; 32], "corp", vec![])?;
    other.add("www", Host { addresses: vec![[192, 0, 2, 80].into()], ..Host::default() })?;
    let mut zones = Zones::new("example")?;
    zones.insert(Arc::new(other));
    let dns = Dns::start(Upstream { servers: Servers::None, rules: vec![] }, Arc::new(zones))?;
    let router = lab.underlay("router", "host");
    let at = (router.as_str(), 53);
    let sockets =
        lab.ns("router").enter(|| -> Result<_> { Ok((UdpSocket::bind(at)?, TcpListener::bind(at)?)) });
    let (udp, tcp) = sockets??;
    let handle = dns.serve(Scope { host: false, ..Scope::host(vec![[7; 32]]) }, udp, tcp)?;
    Ok((dns, handle))
}

/// Programs of the package, run on the machine `host`.
struct Resolved {
    root: PathBuf,
    bus: String,
}

impl Resolved {
    /// A program of the package, in the host's namespace, with what it must not touch covered.
    fn command(&self, lab: &Lab, program: &str, args: &str) -> Result<Command> {
        let folders = ["lib/systemd", "usr/lib/systemd", "usr/bin"];
        let mut found = folders.iter().map(|folder| self.root.join(folder).join(program));
        let program = found.find(|path| path.is_file()).with_context(|| format!("no {program}"))?;
        let covered = covered(lab.dir())?;
        let script = format!(
            "{covered} && mount -t tmpfs tmpfs /run && mkdir /run/systemd && exec {} {args}",
            program.display()
        );
        let libraries =
            ["usr/lib/x86_64-linux-gnu/systemd", "usr/lib/aarch64-linux-gnu/systemd", "usr/lib/systemd"]
                .map(|folder| self.root.join(folder).display().to_string())
                .join(":");
        let mut command = lab.ns("host").command("sh");
        command
            .env("DBUS_SYSTEM_BUS_ADDRESS", &self.bus)
            .env("LD_LIBRARY_PATH", libraries)
            .args(["-c", &script]);
        Ok(command)
    }

    /// Starts systemd-resolved and waits until it answers on the bus.
    fn start(&self, lab: &Lab, bus: &Bus) -> Result<Proc> {
        let log = lab.dir().join("resolved.log");
        let mut daemon = Proc::spawn(&mut self.command(lab, "systemd-resolved", "")?, &log)?;
        block_on(async {
            let bus = bus.connect().await?;
            for _ in 0..1000 {
                if HostResolver::on(bus.clone()).await?.is_some() {
                    return Ok(());
                }
                ensure!(daemon.running(), "systemd-resolved ended: {}", process::read_lossy(&log));
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            bail!("systemd-resolved did not come: {}", process::read_lossy(&log))
        })?;
        Ok(daemon)
    }

    /// All that can be set, of every link.
    fn settings(&self, lab: &Lab) -> Result<String> {
        let all = ["dns", "domain", "default-route", "llmnr", "mdns", "dnssec", "dnsovertls", "nta"];
        all.iter().map(|verb| Ok(self.ctl(lab, verb)?.text())).collect()
    }

    fn ctl(&self, lab: &Lab, args: &str) -> Result<process::Output> {
        process::run(&mut self.command(lab, "resolvectl", args)?, DEADLINE)
    }
}

#[test]
fn systemd_resolved_asks_us_for_our_domain_alone_and_an_undo_leaves_nothing() {
    let Some(root) = resolved_root() else { return };
    run_lab("resolved", |lab| {
        lab.line(&["host", "router"])?;
        let bus = Bus::start(lab.dir(), None)?;
        let resolved = Resolved { root, bus: bus.address.clone() };
        let ns = lab.ns("host");
        // Ours: an interface that is up, as the node's TUN is while the daemon holds it.
        ns.ip(&["link", "add", "sinew0", "type", "veth", "peer", "name", "sinew1"])?;
        ns.ip(&["link", "set", "sinew1", "up"])?;
        ns.ip(&["addr", "add", &format!("{OUR_ADDRESS}/24"), "dev", "sinew0"])?;
        ns.ip(&["link", "set", "sinew0", "up"])?;
        let dns = ns.enter(|| Dns::start(Upstream::default(), zones()?).map_err(anyhow::Error::from))??;
        let (udp, tcp) = ns.enter(|| -> Result<_> {
            Ok((UdpSocket::bind((OUR_ADDRESS, 53))?, TcpListener::bind((OUR_ADDRESS, 53))?))
        })??;
        let ours = dns.serve(Scope::host(vec![SHOP]), udp, tcp)?;
        let (_stranger, theirs) = stranger(lab)?;
        let router = lab.underlay("router", "host");
        let mut daemon = resolved.start(lab, &bus)?;
        let log = || process::read_lossy(&lab.dir().join("resolved.log"));
        let set = resolved.ctl(lab, &format!("dns to-router {router}"))?;
        ensure!(set.code == Some(0), "{set:?}");
        ensure!(resolved.ctl(lab, "domain to-router '~.'")?.code == Some(0));
        let before = resolved.settings(lab)?;

        let index = ns.run(&["cat", "/sys/class/net/sinew0/ifindex"])?.trim().parse()?;
        let change = LinkChange::new(index, "sinew0");
        let servers: [IpAddr; 1] = [OUR_ADDRESS.parse()?];
        block_on(async {
            let host = HostResolver::on(bus.connect().await?).await?.context("it runs")?;
            Ok(host.set(&change, &servers, &[DOMAIN_DEFAULT.to_owned()]).await?)
        })?;
        let status = resolved.ctl(lab, "status sinew0 --no-pager")?.stdout;
        ensure!(
            status.contains(OUR_ADDRESS)
                && status.contains("~sinew.internal")
                && status.contains("-DefaultRoute"),
            "{status}"
        );
        let found = resolved.ctl(lab, "query --cache=no db.shop.sinew.internal")?;
        ensure!(found.stdout.contains("10.1.0.1"), "{found:?}\n{}", log());
        let ours_before = ours.status().counts.queries();
        let found = resolved.ctl(lab, "query --cache=no www.corp.example")?;
        ensure!(found.stdout.contains("192.0.2.80"), "{found:?}\n{}", log());
        ensure!(ours.status().counts.queries() == ours_before, "a stranger's name came to us");
        let theirs_before = theirs.status().counts.queries();
        let missing = resolved.ctl(lab, "query --cache=no nobody.shop.sinew.internal")?;
        ensure!(missing.code != Some(0) && missing.text().contains("not found"), "{missing:?}");
        ensure!(theirs.status().counts.queries() == theirs_before, "a name of ours went to a stranger");

        // As a start after a crash does: from the journal's bytes, with a new connection.
        let journal = change.journal();
        let undone = ns.enter(|| {
            block_on(async {
                let host = HostResolver::on(bus.connect().await?).await?.context("it runs")?;
                let change = LinkChange::from_journal(&journal).context("a journal")?;
                let first = host.undo(&change).await?;
                // Doing it twice does no harm; and what is gone is not looked for.
                host.undo(&change).await?;
                let gone = host.undo(&LinkChange::new(9999, "sinew0")).await?;
                Ok((first, gone))
            })
        })??;
        ensure!(undone == (true, false), "{undone:?}");
        let after = resolved.settings(lab)?;
        ensure!(before == after, "something is left:\n{before}\n{after}");
        ensure!(resolved.ctl(lab, "query --cache=no db.shop.sinew.internal")?.code != Some(0), "still found");
        daemon.kill();
        Ok(())
    });
}

/// The names of a running node, as programs of the machine ask for them: through systemd-resolved.
#[test]
fn a_node_has_its_machine_ask_for_its_names_and_leaves_nothing_however_it_ends() {
    let Some(root) = resolved_root() else { return };
    run_lab("resolved_node", |lab| {
        lab.line(&["host", "router"])?;
        let bus = Bus::start(lab.dir(), Some(lab.ns("host")))?;
        let resolved = Resolved { root, bus: bus.address.clone() };
        let (_stranger, theirs) = stranger(lab)?;
        let _daemon = resolved.start(lab, &bus)?;
        let router = lab.underlay("router", "host");
        ensure!(resolved.ctl(lab, &format!("dns to-router {router}"))?.code == Some(0));
        ensure!(resolved.ctl(lab, "domain to-router '~.'")?.code == Some(0));
        let before = resolved.settings(lab)?;
        let untouched = |lab: &Lab, when: &str| {
            wait::until(&format!("nothing is left {when}"), DEADLINE, || {
                resolved.settings(lab).is_ok_and(|settings| settings == before)
            })
        };

        lab.config("host").env.push(("DBUS_SYSTEM_BUS_ADDRESS".into(), bus.address.clone()));
        lab.start("host")?;
        lab.wait_ready("host")?;
        tenant::network(lab, "shop", "10.20.0.0/16", "host", &[])?;
        let db = Workload::start(lab, "host", "shop", "db", &["sleep", "infinity"])?;
        let status = lab.cli("host").json(&["dns", "status"])?;
        ensure!(text(&status, "host") == "systemd-resolved", "{status}");
        ensure!(status["health"].as_array().is_some_and(Vec::is_empty), "{status}");
        asks_through_resolved(lab, &resolved, &db, &theirs)?;
        let pid = lab.daemon("host")?.process().pid();
        let open = bus_clients(&bus, pid)?;
        ensure!(open == 0, "the daemon, which faces the network, still holds {open} connections to the bus");

        drop(db);
        ensure!(lab.stop("host")? == Some(0), "a clean end");
        untouched(lab, "after a stop")?;
        let journal = lab.dir().join("host/state/resolved.journal");
        ensure!(!journal.exists(), "the journal is left");

        lab.start("host")?;
        lab.wait_ready("host")?;
        ensure!(resolved.settings(lab)? != before && journal.exists(), "it was not set again");
        lab.kill("host");
        untouched(lab, "after kill -9")?;
        ensure!(journal.exists(), "what a killed node had changed is written down");
        lab.start("host")?;
        lab.wait_ready("host")?;
        let name = format!("{}.id.sinew.internal", lab.key("host")?.node_id);
        let found = resolved.ctl(lab, &format!("query --cache=no {name}"))?;
        ensure!(found.stdout.contains(&lab.address("host")?), "{found:?}");
        ensure!(lab.stop("host")? == Some(0), "a clean end");
        untouched(lab, "after kill -9, a start and a stop")?;
        ensure!(!journal.exists(), "the journal is left");

        // A bus of another namespace: its resolved counts other interfaces than we do.
        let elsewhere = lab.dir().join("elsewhere");
        std::fs::create_dir_all(&elsewhere)?;
        let other = Bus::start(&elsewhere, None)?;
        let stand_in = StandIn::default();
        block_on(async {
            let server = other.connect().await?;
            server.object_server().at("/org/freedesktop/resolve1", stand_in.clone()).await?;
            server.request_name("org.freedesktop.resolve1").await?;
            lab.config("host").env = vec![("DBUS_SYSTEM_BUS_ADDRESS".into(), other.address.clone())];
            lab.start("host")?;
            lab.wait_ready("host")?;
            let status = lab.cli("host").json(&["dns", "status"])?;
            ensure!(text(&status, "host") == "none", "{status}");
            let told = stand_in.told.lock().unwrap().clone();
            ensure!(told.is_empty(), "somebody else's interface was changed: {told:?}");
            Ok(())
        })
    });
}

/// Ours come from the node, by resolvectl and by the C library; others' go where they went before.
fn asks_through_resolved(lab: &Lab, resolved: &Resolved, db: &Workload, theirs: &ServerHandle) -> Result<()> {
    let addresses = db.addresses(lab)?;
    let theirs_before = theirs.status().counts.queries();
    for name in
        ["db.shop.sinew.internal".to_owned(), format!("{}.id.sinew.internal", lab.key("router")?.node_id)]
    {
        let found = resolved.ctl(lab, &format!("query --cache=no {name}"))?;
        let address = if name.starts_with("db") { addresses[0].clone() } else { lab.address("router")? };
        ensure!(found.stdout.contains(&address), "{name}: {found:?}");
    }
    let stub = lab.dir().join("stub.conf");
    std::fs::write(&stub, "nameserver 127.0.0.53\n")?;
    let script =
        format!("mount --bind {} /etc/resolv.conf && getent ahosts db.shop.sinew.internal", stub.display());
    let found = lab.ns("host").run(&["unshare", "--mount", "sh", "-c", &script])?;
    ensure!(addresses.iter().all(|address| found.contains(address)), "{addresses:?}: {found}");
    let missing = resolved.ctl(lab, "query --cache=no nobody.shop.sinew.internal")?;
    ensure!(missing.code != Some(0) && missing.text().contains("not found"), "{missing:?}");
    ensure!(theirs.status().counts.queries() == theirs_before, "a name of ours went to a stranger");
    let found = resolved.ctl(lab, "query --cache=no www.corp.example")?;
    ensure!(found.stdout.contains("192.0.2.80"), "{found:?}");
    ensure!(theirs.status().counts.queries() > theirs_before, "a stranger's name went elsewhere");
    Ok(())
}

/// Connections of a process to the bus.
fn bus_clients(bus: &Bus, pid: u32) -> Result<usize> {
    block_on(async {
        let proxy = zbus::fdo::DBusProxy::new(&bus.connect().await?).await?;
        let mut held = 0;
        for name in proxy.list_names().await? {
            let of = proxy.get_connection_unix_process_id(name.into()).await;
            held += usize::from(of.is_ok_and(|of| of == pid));
        }
        Ok(held)
    })
}

/// What the stand-in was told, and which method it refuses.
#[derive(Clone, Default)]
struct StandIn {
    told: Arc<Mutex<Vec<String>>>,
    refuse: Option<&'static str>,
}

impl StandIn {
    fn hear(&self, what: &str) -> zbus::fdo::Result<()> {
        self.told.lock().unwrap().push(what.to_owned());
        match self.refuse {
            Some(method) if what.starts_with(method) => Err(zbus::fdo::Error::AccessDenied("no".into())),
            _ => Ok(()),
        }
    }
}

/// An old release: it knows neither DNS over TLS nor the default route of a link.
#[zbus::interface(name = "org.freedesktop.resolve1.Manager")]
impl StandIn {
    #[zbus(name = "SetLinkDNS")]
    fn set_link_dns(&self, link: i32, servers: Vec<(i32, Vec<u8>)>) -> zbus::fdo::Result<()> {
        self.hear(&format!("SetLinkDNS {link} {servers:?}"))
    }
    #[zbus(name = "SetLinkDomains")]
    fn set_link_domains(&self, link: i32, domains: Vec<(String, bool)>) -> zbus::fdo::Result<()> {
        self.hear(&format!("SetLinkDomains {link} {domains:?}"))
    }
    #[zbus(name = "SetLinkLLMNR")]
    fn set_link_llmnr(&self, link: i32, mode: &str) -> zbus::fdo::Result<()> {
        self.hear(&format!("SetLinkLLMNR {link} {mode}"))
    }
    #[zbus(name = "SetLinkMulticastDNS")]
    fn set_link_mdns(&self, link: i32, mode: &str) -> zbus::fdo::Result<()> {
        self.hear(&format!("SetLinkMulticastDNS {link} {mode}"))
    }
    #[zbus(name = "SetLinkDNSSEC")]
    fn set_link_dnssec(&self, link: i32, mode: &str) -> zbus::fdo::Result<()> {
        self.hear(&format!("SetLinkDNSSEC {link} {mode}"))
    }
    #[zbus(name = "RevertLink")]
    fn revert_link(&self, link: i32) -> zbus::fdo::Result<()> {
        self.hear(&format!("RevertLink {link}"))
    }
}

#[test]
fn an_old_release_is_set_without_what_it_does_not_know_and_a_refusal_reverts_all() {
    run_lab("stand_in", |lab| {
        let bus = Bus::start(lab.dir(), None)?;
        block_on(async {
            let client = bus.connect().await?;
            ensure!(HostResolver::on(client.clone()).await?.is_none(), "nobody there, nothing to change");
            for refuse in [None, Some("SetLinkDNS "), Some("SetLinkDomains")] {
                let stand_in = StandIn { refuse, ..StandIn::default() };
                let server = bus.connect().await?;
                server.object_server().at("/org/freedesktop/resolve1", stand_in.clone()).await?;
                server.request_name("org.freedesktop.resolve1").await?;
                let host = HostResolver::on(client.clone()).await?.context("it runs")?;
                let servers: [IpAddr; 2] = [[10, 99, 0, 1].into(), "fd3f::1".parse()?];
                let result =
                    host.set(&LinkChange::new(1, "lo"), &servers, &["sinew.internal".to_owned()]).await;
                let told = stand_in.told.lock().unwrap().clone();
                ensure!(result.is_ok() == refuse.is_none(), "{refuse:?}: {result:?}");
                match refuse {
                    None => {
                        let first = told.first().context("told")?;
                        ensure!(first == "SetLinkDomains 1 [(\"sinew.internal\", true)]", "{told:?}");
                        let last = told.last().context("told")?;
                        ensure!(
                            last.starts_with("SetLinkDNS 1 [(2, [10, 99, 0, 1]), (10, [253, 63, "),
                            "{told:?}"
                        );
                        ensure!(host.undo(&LinkChange::new(1, "lo")).await?);
                        ensure!(
                            !host.undo(&LinkChange::new(2, "lo")).await?,
                            "another interface of that name"
                        );
                        let told = stand_in.told.lock().unwrap().clone();
                        ensure!(told.iter().filter(|call| *call == "RevertLink 1").count() == 1, "{told:?}");
                        ensure!(!told.contains(&"RevertLink 2".to_owned()), "{told:?}");
                    }
                    Some(method) => {
                        ensure!(told.last().is_some_and(|call| call == "RevertLink 1"), "{told:?}");
                        let text = result.err().context("refused")?.to_string();
                        ensure!(text.contains(method.trim()), "{text}");
                    }
                }
                server.release_name("org.freedesktop.resolve1").await?;
            }
            Ok(())
        })
    });
}
