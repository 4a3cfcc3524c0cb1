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
use sinew_dns::{DOMAIN_DEFAULT, Dns, Host, NetworkZone, Scope, Servers, Upstream, Zones};
use sinew_tests::lab::{Lab, run_lab};
use sinew_tests::process::{self, Proc};
use sinew_tests::requirements::{RESOLVED_FOLDER, workspace_root};
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
    fn start(dir: &Path) -> Result<Self> {
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
        let mut command = process::command("unshare");
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
    let all = named.into_iter().chain([unpacked, PathBuf::from("/")]);
    all.into_iter().find(|root| {
        root.join("lib/systemd/systemd-resolved").is_file()
            || root.join("usr/lib/systemd/systemd-resolved").is_file()
    })
}

struct Resolved<'a> {
    lab: &'a Lab,
    root: PathBuf,
    bus: &'a Bus,
}

impl Resolved<'_> {
    /// A program of the package, in the host's namespace, with what it must not touch covered.
    fn command(&self, program: &str, args: &str) -> Result<Command> {
        let folders = ["lib/systemd", "usr/lib/systemd", "usr/bin"];
        let mut found = folders.iter().map(|folder| self.root.join(folder).join(program));
        let program = found.find(|path| path.is_file()).with_context(|| format!("no {program}"))?;
        let covered = covered(self.lab.dir())?;
        let script = format!(
            "{covered} && mount -t tmpfs tmpfs /run && mkdir /run/systemd && exec {} {args}",
            program.display()
        );
        let libraries =
            ["usr/lib/x86_64-linux-gnu/systemd", "usr/lib/aarch64-linux-gnu/systemd", "usr/lib/systemd"]
                .map(|folder| self.root.join(folder).display().to_string())
                .join(":");
        let mut command = self.lab.ns("host").command("sh");
        command
            .env("DBUS_SYSTEM_BUS_ADDRESS", &self.bus.address)
            .env("LD_LIBRARY_PATH", libraries)
            .args(["-c", &script]);
        Ok(command)
    }

    /// All that can be set, of every link.
    fn settings(&self) -> Result<String> {
        let all = ["dns", "domain", "default-route", "llmnr", "mdns", "dnssec", "dnsovertls", "nta"];
        all.iter().map(|verb| Ok(self.ctl(verb)?.text())).collect()
    }

    fn ctl(&self, args: &str) -> Result<process::Output> {
        process::run(&mut self.command("resolvectl", args)?, DEADLINE)
    }
}

#[test]
fn systemd_resolved_asks_us_for_our_domain_alone_and_an_undo_leaves_nothing() {
    let Some(root) = resolved_root() else {
        eprintln!(
            "SKIPPED: systemd-resolved is neither unpacked (`cargo xtest` does) nor installed; its stand-in is tested"
        );
        return;
    };
    run_lab("resolved", |lab| {
        lab.line(&["host", "router"])?;
        let bus = Bus::start(lab.dir())?;
        let resolved = Resolved { lab, root, bus: &bus };
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
        // Theirs: the same program as a stranger's name server, with names of another domain.
        let mut other = NetworkZone::new([7; 32], "corp", vec![])?;
        other.add("www", Host { addresses: vec![[192, 0, 2, 80].into()], ..Host::default() })?;
        let mut other_zones = Zones::new("example")?;
        other_zones.insert(Arc::new(other));
        let stranger = Dns::start(Upstream { servers: Servers::None, rules: vec![] }, Arc::new(other_zones))?;
        let router = lab.underlay("router", "host");
        let at = (router.as_str(), 53);
        let (udp, tcp) = lab
            .ns("router")
            .enter(|| -> Result<_> { Ok((UdpSocket::bind(at)?, TcpListener::bind(at)?)) })??;
        let theirs = stranger.serve(Scope { host: false, ..Scope::host(vec![[7; 32]]) }, udp, tcp)?;

        let mut daemon =
            Proc::spawn(&mut resolved.command("systemd-resolved", "")?, &lab.dir().join("resolved.log"))?;
        let log = || process::read_lossy(&lab.dir().join("resolved.log"));
        let host = block_on(async {
            let bus = bus.connect().await?;
            for _ in 0..1000 {
                if let Some(host) = HostResolver::on(bus.clone()).await? {
                    return Ok((host, bus));
                }
                ensure!(daemon.running(), "systemd-resolved ended: {}", log());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            bail!("systemd-resolved did not come: {}", log())
        });
        drop(host?);
        let set = resolved.ctl(&format!("dns to-router {router}"))?;
        ensure!(set.code == Some(0), "{set:?}");
        ensure!(resolved.ctl("domain to-router '~.'")?.code == Some(0));
        let before = resolved.settings()?;

        let index = ns.run(&["cat", "/sys/class/net/sinew0/ifindex"])?.trim().parse()?;
        let change = LinkChange::new(index, "sinew0");
        let servers: [IpAddr; 1] = [OUR_ADDRESS.parse()?];
        block_on(async {
            let host = HostResolver::on(bus.connect().await?).await?.context("it runs")?;
            Ok(host.set(&change, &servers, &[DOMAIN_DEFAULT.to_owned()]).await?)
        })?;
        let status = resolved.ctl("status sinew0 --no-pager")?.stdout;
        ensure!(
            status.contains(OUR_ADDRESS)
                && status.contains("~sinew.internal")
                && status.contains("-DefaultRoute"),
            "{status}"
        );
        let found = resolved.ctl("query --cache=no db.shop.sinew.internal")?;
        ensure!(found.stdout.contains("10.1.0.1"), "{found:?}\n{}", log());
        let ours_before = ours.status().counts.queries();
        let found = resolved.ctl("query --cache=no www.corp.example")?;
        ensure!(found.stdout.contains("192.0.2.80"), "{found:?}\n{}", log());
        ensure!(ours.status().counts.queries() == ours_before, "a stranger's name came to us");
        let theirs_before = theirs.status().counts.queries();
        let missing = resolved.ctl("query --cache=no nobody.shop.sinew.internal")?;
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
        let after = resolved.settings()?;
        ensure!(before == after, "something is left:\n{before}\n{after}");
        ensure!(resolved.ctl("query --cache=no db.shop.sinew.internal")?.code != Some(0), "still found");
        daemon.kill();
        Ok(())
    });
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
        let bus = Bus::start(lab.dir())?;
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
