//! Every carrier carries everything: full-size TCP both ways with equal checksums, direct and over a
//! relay that speaks another carrier on each side.
//!
//! ```text
//!   direct     a ──one carrier── b
//!   mixed      a ──wss── b ──quic── c ──tcp── d
//! ```

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sinew_tests::cli::{number, text};
use sinew_tests::lab::{Lab, run_lab};
use sinew_tests::sinewd::PORT;
use sinew_tests::wait;
use sinew_tests::workload::{Nginx, fetch, payload_file, ping, url};

const FILE: u64 = 16 << 20;
const WEB: u16 = 8080;
const DEADLINE: Duration = Duration::from_secs(120);
const SOON: Duration = Duration::from_secs(20);

/// Two nodes that can only meet by one carrier, on port 443.
fn pair(lab: &mut Lab, via: &str) -> Result<()> {
    lab.via = via.to_owned();
    lab.line(&["a", "b"])?;
    lab.config("a").listen = String::new();
    lab.config("b").listen = format!("{via} = [\"0.0.0.0:{PORT}\"]\n");
    lab.peer("a", "b")?;
    lab.key("b")?;
    lab.start_all()?;
    lab.wait_mesh()
}

/// A file from `server` to `client`, through the mesh.
fn carry(lab: &Lab, server: &str, client: &str) -> Result<()> {
    let dir = lab.dir().join(format!("web-{server}"));
    let _nginx = Nginx::start(lab.ns(server), &dir, WEB)?;
    let hash = payload_file(&dir.join("www/file"), FILE)?;
    let page = url(&lab.address(server)?, WEB, "file");
    let got = fetch(lab.ns(client), &page, &lab.dir().join("curl.log"), DEADLINE)?;
    ensure!(got == (FILE, hash), "the file differs: {got:?}");
    Ok(())
}

fn carrier_between(lab: &Lab, at: &str) -> Result<String> {
    let peers = lab.cli(at).peers_up()?;
    let peer = peers.first().context("a peer is up")?;
    Ok(text(peer, "carrier").to_owned())
}

/// The largest inner packet passes unfragmented, both ways: each end has searched for itself.
fn full_mtu(lab: &Lab) -> Result<()> {
    let mtu_at = |node: &str| {
        let peers = lab.cli(node).peers_up().ok()?;
        // QUIC finds its packet size in the first round trips.
        peers.first().and_then(|peer| number(peer, "mtu")).filter(|mtu| *mtu >= 1380.0)
    };
    let mtu_of_both = || Some(mtu_at("a")?.min(mtu_at("b")?));
    let mtu = wait::value("an MTU of 1380 or more at both ends", SOON, mtu_of_both)?;
    // IPv6 and ICMPv6 headers are 48 bytes.
    let (size, target) = ((mtu as u32 - 48).to_string(), lab.address("b")?);
    let out = lab.ns("a").run(&["ping", "-6", "-M", "do", "-s", &size, "-c", "3", "-i", "0.1", &target])?;
    ensure!(out.contains(" 3 received"), "a packet of {mtu} bytes does not pass: {out}");
    Ok(())
}

fn alone(via: &'static str) {
    run_lab(via, |lab| {
        pair(lab, via)?;
        ensure!(carrier_between(lab, "a")? == via && carrier_between(lab, "b")? == via);
        full_mtu(lab)?;
        carry(lab, "b", "a")?;
        carry(lab, "a", "b")?;
        ensure!(carrier_between(lab, "a")? == via, "still over {via}");
        Ok(())
    });
}

#[test]
fn udp_carries_full_packets_both_ways() {
    alone("udp");
}

#[test]
fn quic_carries_full_packets_both_ways() {
    alone("quic");
}

#[test]
fn tcp_carries_full_packets_both_ways() {
    alone("tcp");
}

#[test]
fn wss_carries_full_packets_both_ways() {
    alone("wss");
}

#[test]
fn each_link_of_a_way_may_have_a_carrier_of_its_own() {
    run_lab("mixed", |lab| {
        lab.line(&["a", "b", "c", "d"])?;
        for (from, to, via) in [("a", "b", "wss"), ("b", "c", "quic"), ("c", "d", "tcp")] {
            lab.via = via.to_owned();
            lab.config(to).listen = format!("{via} = [\"0.0.0.0:{PORT}\"]\n");
            lab.peer(from, to)?;
        }
        lab.key("d")?;
        lab.start_all()?;
        lab.wait_mesh()?;
        carry(lab, "d", "a")?;
        let hops = lab.cli("a").list(&["trace", &lab.address("d")?], "hops")?;
        let carriers: Vec<_> = hops.iter().skip(1).map(|hop| text(hop, "carrier")).collect();
        ensure!(carriers == ["wss", "quic", "tcp"], "{carriers:?}");
        Ok(())
    });
}

#[test]
fn a_websocket_shows_the_certificate_it_was_given_and_a_web_path() {
    run_lab("certificate", |lab| {
        lab.line(&["a", "b"])?;
        let dir = lab.dir().to_owned();
        let (chain, key) = (dir.join("chain.pem"), dir.join("tls.key"));
        lab.ns("b").run(&[
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=node.example",
            "-keyout",
            &key.display().to_string(),
            "-out",
            &chain.display().to_string(),
        ])?;
        lab.config("b").listen = format!(
            "wss = [\"0.0.0.0:{PORT}\"]\n\n[tls]\ncertificate = \"{}\"\nkey = \"{}\"\n",
            chain.display(),
            key.display()
        );
        let uri = format!("{}&path=/hidden/here", {
            lab.via = "wss".into();
            lab.uri("b", &lab.underlay("b", "a"))?
        });
        lab.key("a")?;
        lab.config("a").peers.push((uri, 0));
        lab.start_all()?;
        lab.wait_mesh()?;
        let address = lab.underlay("b", "a");
        let script = format!(
            "openssl s_client -connect {address}:{PORT} </dev/null 2>/dev/null | openssl x509 -noout -subject"
        );
        let subject = lab.ns("a").run(&["sh", "-c", &script])?;
        ensure!(subject.contains("node.example"), "{subject}");
        ensure!(ping(lab.ns("a"), &lab.address("b")?, 3, 100)?.received == 3);
        Ok(())
    });
}
