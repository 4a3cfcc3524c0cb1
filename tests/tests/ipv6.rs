//! IPv6 alone: two nodes that have nothing else, by every carrier; and a node behind NAT64 that reaches one
//! which has IPv4 alone, by its name (DNS64) and by an address that is written out (RFC 7050). And a gateway's
//! client that has IPv6.
//!
//! ```text
//!   a ── 2001:db8:1::/64 ── b
//!
//!   a ── 2001:db8:1::/64 ── nat64 ── 198.51.100.0/24 ── b      nat64: tayga, masquerade, and unbound
//!                                                              with DNS64 for `hub.lab`
//!
//!   client ── 2001:db8:7::/64 ── gw ── a          gw: a gateway, a carries what it serves
//! ```
//! tayga translates address by address, into a range of its own; the kernel's masquerade behind it makes that
//! the stateful translator of RFC 6146, with one IPv4 address for all.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sinew_tests::cli::text;
use sinew_tests::gateway::{Gateway, NETWORK};
use sinew_tests::lab::{Lab, READY, run_lab};
use sinew_tests::ns::{self, End};
use sinew_tests::process::{self, Proc};
use sinew_tests::sinewd::PORT;
use sinew_tests::tenant::{self, Workload, words};
use sinew_tests::wait;
use sinew_tests::workload::{Nginx, fetch, payload_file, ping, url};

/// Port of QUIC and WebSocket.
const WEB: u16 = 7443;
const PAGES: u16 = 8080;
const FILE: u64 = 4 << 20;
const SOON: Duration = Duration::from_secs(20);
const PREFIX: &str = "2001:db8:46::";
/// `b` over IPv4, and as its translator shows it.
const HUB: &str = "198.51.100.2";
const TRANSLATED: &str = "[2001:db8:46::c633:6402]";

/// A listener on every address of one family.
fn listen(address: &str, carrier: &str) -> String {
    format!("{carrier} = [\"{address}:{}\"]\n", port(carrier))
}

fn port(carrier: &str) -> u16 {
    if carrier == "quic" || carrier == "wss" { WEB } else { PORT }
}

fn join(lab: &Lab, (inner, near): (&str, &str), (outer, far): (&str, &str), names: [&str; 2]) -> Result<()> {
    let near = End { ns: lab.ns(inner), interface: names[0], address: near };
    let far = End { ns: lab.ns(outer), interface: names[1], address: far };
    ns::connect(near, far, 1500)
}

/// A start of both with one way from `a` to `b`: it works, and is the one that was meant. `b` has no other
/// listener, since `a` would hear of it and move there.
fn reaches(lab: &mut Lab, host: &str, via: &str, (bound, endpoint): (&str, &str)) -> Result<()> {
    for name in ["a", "b"] {
        lab.kill(name);
        lab.key(name)?;
    }
    let port = port(via);
    lab.config("a").listen = listen("[::]", "udp");
    lab.config("b").listen = listen(bound, via);
    lab.start("b")?;
    lab.wait_ready("b")?;
    let uri = format!("sinew://{}@{host}:{port}?via={via}", lab.key("b")?.node_id);
    lab.config("a").peers = vec![(uri, 0)];
    lab.start("a")?;
    let b = lab.address("b")?;
    lab.cli("a").wait_reachable(&b, READY).with_context(|| format!("{host} over {via}"))?;
    let peers = lab.cli("a").peers_up()?;
    let link = peers.first().context("no link")?;
    ensure!(text(link, "carrier") == via, "{link}");
    ensure!(text(link, "endpoint") == format!("{endpoint}:{port}"), "{link}");
    let data = ping(lab.ns("a"), &b, 5, 50)?;
    ensure!(data.received == data.sent, "{host} over {via}: {data:?}");
    Ok(())
}

#[test]
fn two_that_have_only_ipv6_link_over_every_carrier() {
    run_lab("six", |lab| {
        lab.node("a")?;
        lab.node("b")?;
        join(lab, ("a", "2001:db8:1::2/64"), ("b", "2001:db8:1::3/64"), ["wan", "wan"])?;
        for via in ["udp", "tcp", "quic", "wss"] {
            reaches(lab, "[2001:db8:1::3]", via, ("[::]", "[2001:db8:1::3]"))?;
        }
        Ok(())
    });
}

/// The programs of a translator; they end with this.
struct Nat64 {
    _translator: Proc,
    resolver: Proc,
}

fn translator(lab: &Lab, dir: &Path) -> Result<Proc> {
    let ns = lab.ns("nat64");
    let (conf, state) = (dir.join("tayga.conf"), dir.join("state"));
    std::fs::create_dir_all(&state)?;
    std::fs::write(
        &conf,
        format!(
            "tun-device nat64\nipv4-addr 192.168.255.1\nprefix {PREFIX}/96\n\
             dynamic-pool 192.168.255.0/24\ndata-dir {}\n",
            state.display()
        ),
    )?;
    let conf = conf.display().to_string();
    ns.run(&["tayga", "--config", &conf, "--mktun"])?;
    ns.ip(&["link", "set", "nat64", "up"])?;
    ns.ip(&["route", "add", "192.168.255.0/24", "dev", "nat64"])?;
    ns.ip(&["route", "add", &format!("{PREFIX}/96"), "dev", "nat64"])?;
    ns.run(&["sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"])?;
    ns.run(&[
        "nft",
        "table ip nat {\nchain out { type nat hook postrouting priority 100; oifname \"four\" masquerade; }\n}",
    ])?;
    let mut command = ns.command("tayga");
    Proc::spawn(command.args(["--config", &conf, "-d"]), &dir.join("tayga.log"))
}

fn resolver(lab: &Lab, dir: &Path) -> Result<Proc> {
    let (conf, zone) = (dir.join("unbound.conf"), dir.join("zone"));
    // The root itself, so that nobody outside is asked.
    std::fs::write(
        &zone,
        format!(
            ". 3600 IN SOA ns. root. 1 3600 600 86400 60\n. 3600 IN NS ns.\nns. 3600 IN AAAA 2001:db8:1::1\n\
             ipv4only.arpa. 60 IN A 192.0.0.170\nipv4only.arpa. 60 IN A 192.0.0.171\nhub.lab. 60 IN A {HUB}\n"
        ),
    )?;
    std::fs::write(
        &conf,
        format!(
            "server:\n interface: 2001:db8:1::1\n access-control: ::/0 allow\n do-daemonize: no\n username: \"\"\n \
             chroot: \"\"\n directory: \"{0}\"\n pidfile: \"\"\n use-syslog: no\n module-config: \"dns64 iterator\"\n \
             dns64-prefix: {PREFIX}/96\nauth-zone:\n name: \".\"\n zonefile: \"{1}\"\n for-downstream: no\n \
             for-upstream: yes\n",
            dir.display(),
            zone.display()
        ),
    )?;
    let mut command = lab.ns("nat64").command("unbound");
    Proc::spawn(command.arg("-d").arg("-c").arg(&conf), &dir.join("unbound.log"))
}

fn nat64(lab: &mut Lab) -> Result<Nat64> {
    for name in ["a", "nat64", "b"] {
        lab.node(name)?;
    }
    join(lab, ("a", "2001:db8:1::2/64"), ("nat64", "2001:db8:1::1/64"), ["wan", "six"])?;
    join(lab, ("b", &format!("{HUB}/24")), ("nat64", "198.51.100.1/24"), ["wan", "four"])?;
    lab.ns("a").ip(&["route", "add", "default", "via", "2001:db8:1::1"])?;
    let dir = lab.dir().join("nat64");
    let nat64 = Nat64 { _translator: translator(lab, &dir)?, resolver: resolver(lab, &dir)? };
    let ask = || lab.ns("a").run(&["dig", "+short", "+tries=1", "@2001:db8:1::1", "hub.lab", "AAAA"]);
    wait::until("the resolver translates", SOON, || {
        ask().is_ok_and(|said| format!("[{}]", said.trim()) == TRANSLATED)
    })
    .with_context(|| nat64.resolver.log())?;
    let resolv_conf = dir.join("resolv.conf");
    std::fs::write(&resolv_conf, "nameserver 2001:db8:1::1\n")?;
    lab.config("a").overlaid = Some((resolv_conf, "/etc/resolv.conf"));
    Ok(nat64)
}

#[test]
fn behind_nat64_a_node_reaches_one_that_has_only_ipv4_by_name_and_by_address() {
    run_lab("nat64", |lab| {
        let _nat64 = nat64(lab)?;
        let routes = lab.ns("a").ip(&["-4", "route"])?;
        ensure!(routes.trim().is_empty(), "a is to have no IPv4: {routes}");
        for (host, via) in
            [("hub.lab", "udp"), ("hub.lab", "quic"), (HUB, "tcp"), (HUB, "wss"), (HUB, "quic"), (HUB, "udp")]
        {
            reaches(lab, host, via, ("0.0.0.0", TRANSLATED))?;
        }
        // The last one still runs. IPv4 headers are shorter, so nothing but full packets shows a wrong size.
        let web = lab.dir().join("web");
        let _nginx = Nginx::start(lab.ns("b"), &web, PAGES)?;
        let hash = payload_file(&web.join("www/file"), FILE)?;
        let page = url(&lab.address("b")?, PAGES, "file");
        let got = fetch(lab.ns("a"), &page, &lab.dir().join("curl.log"), SOON)?;
        ensure!(got == (FILE, hash), "the file differs: {got:?}");
        Ok(())
    });
}

/// What the server is told of its client, and the status.
fn asked(lab: &Lab, gateway: &Gateway, url: &str) -> Result<String> {
    let mut command = lab.ns("client").command("curl");
    command.args(["-6", "-sS", "--max-time", "20", "-w", " %{http_code}", "--cacert"]);
    command.arg(&gateway.trust.chain).args(["--connect-to", "::[2001:db8:7::1]:", url]);
    process::run_ok(&mut command, SOON)
}

#[test]
fn clients_of_a_gateway_come_by_ipv6_and_are_told_apart_by_it() {
    run_lab("six-gw", |lab| {
        let gateway = Gateway::start(lab, "")?;
        for (name, address, device) in
            [("client", "2001:db8:7::2/64", "to-gw"), ("gw", "2001:db8:7::1/64", "to-client")]
        {
            lab.ns(name).ip(&["addr", "add", address, "dev", device, "nodad"])?;
        }
        let server =
            "server { listen 8080; listen [::]:8080; location / { return 200 $http_x_forwarded_for; } }";
        let nginx = tenant::nginx_with(&lab.dir().join("web"), server)?;
        let _web = Workload::start(lab, "a", NETWORK, "web", &words(&nginx))?;
        gateway.expose(lab, "web", &["--port", "8080", "--name", "app"])?;
        let closed =
            ["--port", "8080", "--name", "closed", "--service", "closed", "--deny", "2001:db8:7::/64"];
        gateway.expose(lab, "web", &closed)?;
        gateway.reaches(lab, "app.gw.test")?;
        let said = asked(lab, &gateway, "https://app.gw.test/")?;
        ensure!(said == "2001:db8:7::2 200", "{said}");
        let said = asked(lab, &gateway, "https://closed.gw.test/")?;
        ensure!(said.ends_with(" 403"), "{said}");
        let moved = asked(lab, &gateway, "http://app.gw.test/")?;
        ensure!(moved.ends_with(" 301"), "{moved}");
        Ok(())
    });
}
