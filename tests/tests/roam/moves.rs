//! The machine is elsewhere, or its peer is: another network, another route, another family of addresses.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use sinew_tests::cli::text;
use sinew_tests::impair::Faults;
use sinew_tests::lab::{Lab, run_lab};
use sinew_tests::sinewd::PORT;
use sinew_tests::wait;
use sinew_tests::workload::{Nginx, Transfer, payload_file, url};

use crate::beat::Beat;
use crate::{BACK, SOON, WEB, pass, start, topology, uplink};

const FILE: u64 = 10_000_000;
const RATE: &str = "300k";
/// Without any network (issue: reach).
const DEAD: Duration = Duration::from_secs(3);

/// How long a machine sleeps: longer than a link lives without a word.
const ASLEEP: Duration = Duration::from_secs(20);

/// Where `b` sees `a`.
fn seen_at(lab: &Lab) -> Result<String> {
    let peers = lab.cli("b").peers_up()?;
    Ok(peers.first().map(|peer| text(peer, "endpoint").to_owned()).unwrap_or_default())
}

/// `a` is without any network for a while, and then in another one, in the middle of a transfer; then its interface
/// flaps. Only the peer's URI and its listeners are the caller's.
fn moved_in_mid_flow(lab: &mut Lab) -> Result<()> {
    // The other network is there already; `a` has no address in it.
    lab.ns("r").ip(&["addr", "add", "10.78.2.254/24", "dev", "r-wan"])?;
    start(lab)?;
    let _nginx = Nginx::start(lab.ns("b"), &lab.dir().join("web"), WEB)?;
    let hash = payload_file(&lab.dir().join("web/www/file"), FILE)?;
    let page = url(&lab.address("b")?, WEB, "file");
    let log = lab.dir().join("curl.log");
    let mut transfer = Transfer::start_limited(lab.ns("a"), &page, &log, RATE)?;
    let mut beat = Beat::start(lab)?;
    transfer.wait_bytes(FILE / 10, SOON)?;

    let a = lab.ns("a");
    a.ip(&["link", "set", "wan", "down"])?;
    a.ip(&["addr", "flush", "dev", "wan"])?;
    pass(DEAD)?;
    a.ip(&["addr", "add", "10.78.2.2/24", "dev", "wan"])?;
    let returned = SystemTime::now();
    a.ip(&["link", "set", "wan", "up"])?;
    a.ip(&["route", "add", "default", "via", "10.78.2.254"])?;
    let back = beat.wait_after(returned, "an answer over the new network")?;
    eprintln!("another network ({}): back after {} ms", lab.via, back.as_millis());
    ensure!(back <= BACK, "only after {back:?}");
    ensure!(seen_at(lab)?.contains("10.78.2.2"), "b sees a at {}", seen_at(lab)?);

    // The flap takes the route along, and whoever manages the network brings it back.
    lab.ns("a").ip(&["link", "set", "wan", "down"])?;
    lab.ns("a").ip(&["link", "set", "wan", "up"])?;
    let returned = SystemTime::now();
    lab.ns("a").ip(&["route", "add", "default", "via", "10.78.2.254"])?;
    let back = beat.wait_after(returned, "an answer after the flap")?;
    eprintln!("flap ({}): back after {} ms", lab.via, back.as_millis());
    ensure!(back <= BACK, "only after {back:?}");

    let got = transfer.finish(Duration::from_secs(120))?;
    ensure!(got == (FILE, hash), "the file differs: {got:?}");
    Ok(())
}

#[test]
fn a_transfer_survives_a_move_to_another_network_and_a_flapping_interface() {
    run_lab("roam", |lab| {
        topology(lab)?;
        moved_in_mid_flow(lab)
    });
}

/// A stream ends with the address that it came from; what travels in it does not.
fn moved_by(carrier: &str) {
    run_lab(&format!("roam-{carrier}"), |lab| {
        topology(lab)?;
        lab.via = carrier.to_owned();
        // No other listener, since `a` would hear of it and move there.
        lab.config("b").listen = format!("{carrier} = [\"0.0.0.0:{PORT}\"]\n");
        lab.config("a").listen = format!("udp = [\"0.0.0.0:{PORT}\"]\n");
        moved_in_mid_flow(lab)?;
        let peers = lab.cli("a").peers_up()?;
        let over = peers.first().map(|peer| text(peer, "carrier").to_owned());
        ensure!(over.as_deref() == Some(carrier), "over {over:?}");
        Ok(())
    });
}

#[test]
fn a_transfer_over_tcp_survives_a_move_to_another_network() {
    moved_by("tcp");
}

#[test]
fn a_transfer_over_wss_survives_a_move_to_another_network() {
    moved_by("wss");
}

#[test]
fn a_transfer_over_quic_survives_a_move_to_another_network() {
    moved_by("quic");
}

#[test]
fn a_default_route_that_changes_alone_takes_the_link_along() {
    run_lab("route", |lab| {
        topology(lab)?;
        uplink(lab, "up2", "10.78.2")?;
        // One socket, so that the kernel alone chooses the way.
        lab.config("a").extra = "\n[reach]\nuplinks = false\n".to_owned();
        start(lab)?;
        let mut beat = Beat::start(lab)?;
        let changed = SystemTime::now();
        // Neither interface goes down; what goes by the old way arrives nowhere from now on.
        Faults::of(lab.ns("r"))?.swallow("r-wan")?;
        let default = ["route", "replace", "default", "via", "10.78.2.254", "metric", "100"];
        lab.ns("a").ip(&default)?;
        let back = beat.wait_after(changed, "an answer by the other way")?;
        eprintln!("another default route: back after {} ms", back.as_millis());
        ensure!(back <= BACK, "only after {back:?}");
        ensure!(seen_at(lab)?.contains("10.78.2.2"), "b sees a at {}", seen_at(lab)?);
        Ok(())
    });
}

/// Six addresses at all places, beside the others, and a name for both families of `b`.
fn both_families(lab: &mut Lab) -> Result<()> {
    let (a, r, b) = (lab.ns("a"), lab.ns("r"), lab.ns("b"));
    r.run(&["sysctl", "-qw", "net.ipv6.conf.all.forwarding=1"])?;
    for (ns, address, interface) in [
        (a, "2001:db8:1::2/64", "wan"),
        (r, "2001:db8:1::1/64", "r-wan"),
        (r, "2001:db8:2::1/64", "to-b"),
        (b, "2001:db8:2::2/64", "to-r"),
    ] {
        ns.ip(&["addr", "add", address, "dev", interface, "nodad"])?;
    }
    a.ip(&["route", "add", "default", "via", "2001:db8:1::1"])?;
    b.ip(&["route", "add", "default", "via", "2001:db8:2::1"])?;
    let hosts = lab.dir().join("hosts");
    std::fs::write(&hosts, format!("{} hub.lab\n2001:db8:2::2 hub.lab\n", lab.underlay("b", "r")))?;
    lab.config("a").overlaid = Some((hosts, "/etc/hosts"));
    for name in ["a", "b"] {
        lab.config(name).listen = format!("udp = [\"0.0.0.0:{PORT}\", \"[::]:{PORT}\"]\n");
    }
    let uri = lab.uri("b", "hub.lab")?;
    lab.key("a")?;
    lab.config("a").peers.push((uri, 0));
    lab.start_all()?;
    lab.wait_mesh()
}

#[test]
fn a_network_that_loses_one_family_of_addresses_goes_on_with_the_other() {
    run_lab("family", |lab| {
        topology(lab)?;
        both_families(lab)?;
        let mut beat = Beat::start(lab)?;
        let steps = [
            ("IPv6 is lost", ["-6", "addr", "del", "2001:db8:1::2/64"], "10.78.1.2"),
            ("IPv6 is back", ["-6", "addr", "add", "2001:db8:1::2/64"], "10.78.1.2"),
            ("IPv4 is lost", ["-4", "addr", "del", "10.78.1.2/24"], "2001:db8:1::2"),
        ];
        for (what, command, from) in steps {
            let changed = SystemTime::now();
            lab.ns("a").ip(&[&command[..], &["dev", "wan"]].concat())?;
            if what == "IPv6 is back" {
                lab.ns("a").ip(&["-6", "route", "replace", "default", "via", "2001:db8:1::1"])?;
                let b = lab.address("b")?;
                wait::until("a path by IPv6", SOON, || {
                    let ways = lab.cli("a").list(&["why", &b], "candidates").unwrap_or_default();
                    let works = |state: &str| state == "in_use" || state == "standby";
                    ways.iter()
                        .any(|way| text(way, "remote").contains("2001:db8:") && works(text(way, "state")))
                })?;
                continue;
            }
            beat.settle(changed, Duration::from_secs(2))?;
            let gap = beat.longest_gap(changed);
            eprintln!("{what}: {} ms of silence", gap.as_millis());
            ensure!(gap <= BACK, "{what}: {gap:?} of silence");
            ensure!(seen_at(lab)?.contains(from), "{what}: b sees a at {}", seen_at(lab)?);
        }
        Ok(())
    });
}

#[test]
fn a_machine_that_wakes_up_in_another_network_is_back_at_once() {
    run_lab("wakes", |lab| {
        topology(lab)?;
        lab.ns("r").ip(&["addr", "add", "10.78.2.254/24", "dev", "r-wan"])?;
        start(lab)?;
        let mut beat = Beat::start(lab)?;
        // Asleep: nothing of it runs, long enough for the other side to give the path up.
        lab.daemon("a")?.process().signal(Signal::SIGSTOP)?;
        let a = lab.ns("a");
        a.ip(&["addr", "flush", "dev", "wan"])?;
        a.ip(&["addr", "add", "10.78.2.2/24", "dev", "wan"])?;
        a.ip(&["route", "replace", "default", "via", "10.78.2.254"])?;
        pass(ASLEEP)?;
        let awake = SystemTime::now();
        lab.daemon("a")?.process().signal(Signal::SIGCONT)?;
        let back = beat.wait_after(awake, "an answer after the sleep")?;
        eprintln!(
            "asleep for {} s, then another network: back after {} ms",
            ASLEEP.as_secs(),
            back.as_millis()
        );
        ensure!(back <= BACK, "only after {back:?}");
        ensure!(seen_at(lab)?.contains("10.78.2.2"), "b sees a at {}", seen_at(lab)?);
        Ok(())
    });
}

#[test]
fn a_peer_that_comes_back_at_another_address_is_found_by_its_name() {
    run_lab("renamed", |lab| {
        topology(lab)?;
        let hosts = lab.dir().join("hosts");
        let old = lab.underlay("b", "r");
        std::fs::write(&hosts, format!("{old} hub.lab\n"))?;
        lab.config("a").overlaid = Some((hosts.clone(), "/etc/hosts"));
        let uri = lab.uri("b", "hub.lab")?;
        lab.key("a")?;
        lab.config("a").peers.push((uri, 0));
        lab.start_all()?;
        lab.wait_mesh()?;
        let mut beat = Beat::start(lab)?;
        // It goes without a word, and nobody but the name says where it is.
        lab.kill("b");
        let new = old.rsplit_once('.').map(|(net, _)| format!("{net}.77")).context("an address")?;
        lab.ns("b").ip(&["addr", "del", &format!("{old}/24"), "dev", "to-r"])?;
        lab.ns("b").ip(&["addr", "add", &format!("{new}/24"), "dev", "to-r"])?;
        let gateway = lab.underlay("r", "b");
        lab.ns("b").ip(&["route", "replace", "default", "via", &gateway])?;
        std::fs::write(&hosts, format!("{new} hub.lab\n"))?;
        let started = SystemTime::now();
        lab.start("b")?;
        let back = beat.wait_after(started, "an answer from the new address")?;
        eprintln!("at another address: back {} ms after its start", back.as_millis());
        let peers = lab.cli("a").peers_up()?;
        let at = peers.first().map(|peer| text(peer, "endpoint").to_owned()).unwrap_or_default();
        ensure!(at == format!("{new}:{PORT}"), "a reaches it at {at}");
        Ok(())
    });
}
