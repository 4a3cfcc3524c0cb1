//! A million datagrams of garbage at a listening port: no answer, no growth, no panic, and the
//! traffic of others goes on.
//!
//! ```text
//!   a ───── b ───── m      m knows b's port and has recorded what a and b said to each other
//! ```
//! The flood waits whenever b's socket queue is half full, so that the daemon has to look at
//! every datagram: what the kernel throws away tests nothing.

use std::net::UdpSocket;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sinew_tests::capture::Capture;
use sinew_tests::cli::{number, text};
use sinew_tests::lab::{Lab, run_lab};
use sinew_tests::sinewd::PORT;
use sinew_tests::wait;
use sinew_tests::workload::{Nginx, Transfer, payload_file, ping, url};
use sinew_types::Rng;

const FLOOD: u32 = 1_000_000;
const REPLAYED_OPENINGS: u32 = 2_000;
const HS1_LEN: usize = 200;
const MIB: u64 = 1 << 20;
/// Allocator noise and warm caches; a leak of 16 bytes a datagram would be twice this.
const GROWTH_LIMIT: u64 = 8 * MIB;
const WEB_PORT: u16 = 8080;
const DEADLINE: Duration = Duration::from_secs(120);

#[test]
fn a_million_bad_datagrams_change_nothing() {
    run_lab("flood", |lab| {
        let recorded = start(lab)?;
        let address = lab.underlay("b", "m");
        // A first round lets caches and the allocator reach their working size.
        flood(lab, &address, &recorded, FLOOD / 10, 1)?;
        let before = lab.daemon("b")?.process().rss_bytes()?;
        let dir = lab.dir().join("web");
        let _nginx = Nginx::start(lab.ns("b"), &dir, WEB_PORT)?;
        let hash = payload_file(&dir.join("www/file"), 64 * MIB)?;
        let page = url(&lab.address("b")?, WEB_PORT, "file");
        let tap = Capture::start(lab.ns("m"), "to-b", &lab.dir().join("m.pcap"))?;

        let mut transfer = Transfer::start(lab.ns("a"), &page, &lab.dir().join("curl.log"))?;
        let start = Instant::now();
        flood(lab, &address, &recorded, FLOOD, 2)?;
        eprintln!("{FLOOD} datagrams in {:.1} s", start.elapsed().as_secs_f64());
        let got = transfer.finish(DEADLINE)?;
        ensure!(got == (64 * MIB, hash), "the transfer of others suffered: {got:?}");

        let answers = tap.stop()?.count(&format!("udp.srcport == {PORT}"))?;
        ensure!(answers == 0, "{answers} answers to garbage");
        refused_for_their_own_reasons(lab)?;
        let after = lab.daemon("b")?.process().rss_bytes()?;
        ensure!(after < before + GROWTH_LIMIT, "memory grew from {before} to {after} bytes");
        let target = lab.address("b")?;
        let report = ping(lab.ns("a"), &target, 20, 20)?;
        ensure!(report.received == report.sent, "after the flood: {report:?}");
        Ok(())
    });
}

#[test]
fn recorded_openings_draw_few_and_small_answers_and_break_nothing() {
    run_lab("openings", |lab| {
        let recorded = start(lab)?;
        let openings: Vec<_> =
            recorded.iter().filter(|bytes| bytes.len() == HS1_LEN && bytes[0] == 1).cloned().collect();
        ensure!(!openings.is_empty(), "no opening was recorded");
        let address = lab.underlay("b", "m");
        let sessions = lab.cli("a").list(&["sessions"], "sessions")?.len();
        let tap = Capture::start(lab.ns("m"), "to-b", &lab.dir().join("m.pcap"))?;
        let start = Instant::now();
        send(lab, &address, REPLAYED_OPENINGS, |number| openings[number as usize % openings.len()].clone())?;
        let seconds = start.elapsed().as_secs() + 1;
        // A genuine but old opening may be answered STALE, once a second, or by a cookie
        // (protocol A2); never by more bytes than it has.
        let pcap = tap.stop()?;
        let rows = pcap.fields(&format!("udp.srcport == {PORT}"), &["udp.length"])?;
        let bytes: usize = rows.iter().filter_map(|row| row.first()?.parse::<usize>().ok()).sum();
        let sent = REPLAYED_OPENINGS as usize * HS1_LEN;
        ensure!(bytes < sent / 2, "{bytes} bytes of answers to {sent}");
        eprintln!("{} answers to {REPLAYED_OPENINGS} replayed openings in {seconds} s", rows.len());
        let report = ping(lab.ns("a"), &lab.address("b")?, 20, 20)?;
        ensure!(report.received == report.sent, "the replay hurt the session: {report:?}");
        let now = lab.cli("a").list(&["sessions"], "sessions")?.len();
        ensure!(now == sessions, "sessions went from {sessions} to {now}");
        Ok(())
    });
}

/// What was refused is counted, each kind of garbage under its own reason.
fn refused_for_their_own_reasons(lab: &Lab) -> Result<()> {
    let drops = lab.cli("b").list(&["drops"], "drops")?;
    for reason in ["malformed", "unknown_type", "unknown_index", "bad_mac1", "forged", "replayed"] {
        let counted = drops.iter().find(|drop| text(drop, "reason") == reason);
        ensure!(
            counted.and_then(|drop| number(drop, "count")) > Some(0.0),
            "no drop counted as {reason}: {drops:?}"
        );
    }
    let total: f64 = drops.iter().filter_map(|drop| number(drop, "count")).sum();
    ensure!(total >= f64::from(FLOOD), "only {total} of {FLOOD} were counted: {drops:?}");
    Ok(())
}

/// Starts a and b and records their first words.
fn start(lab: &mut Lab) -> Result<Vec<Vec<u8>>> {
    lab.line(&["a", "b", "m"])?;
    lab.peer("a", "b")?;
    lab.key("b")?;
    let tap = Capture::start(lab.ns("a"), "to-b", &lab.dir().join("ab.pcap"))?;
    lab.start("a")?;
    lab.start("b")?;
    lab.wait_mesh()?;
    ping(lab.ns("a"), &lab.address("b")?, 50, 5)?;
    let recorded = tap.stop()?.udp_payloads(&format!("udp.port == {PORT}"))?;
    ensure!(recorded.len() > 20, "only {} datagrams recorded", recorded.len());
    Ok(recorded)
}

/// Garbage of every kind, with not one genuine opening among it.
fn flood(lab: &mut Lab, address: &str, recorded: &[Vec<u8>], count: u32, seed: u8) -> Result<()> {
    let replayed: Vec<_> = recorded.iter().filter(|bytes| bytes.len() != HS1_LEN || bytes[0] != 1).collect();
    let mut rng = Rng::new([seed; 32]);
    send(lab, address, count, move |number| {
        let mut bytes = recorded[rng.u32() as usize % recorded.len()].clone();
        let at = rng.u32() as usize;
        match number % 5 {
            0 => noise(&mut rng, at % 1473),
            1 => {
                // A known type with noise behind it.
                let mut bytes = noise(&mut rng, 16 + at % 1400);
                bytes[..4].copy_from_slice(&[1 + (at % 7) as u8, 0, 0, 0]);
                bytes
            }
            2 => {
                bytes.truncate(at % bytes.len());
                bytes
            }
            3 => {
                // Beyond byte 184 an opening has its cookie, which mac1 does not cover.
                let length = bytes.len().min(184);
                bytes[at % length] ^= 1 << (at % 8);
                bytes
            }
            _ => replayed[at % replayed.len()].clone(),
        }
    })
}

fn noise(rng: &mut Rng, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    rng.fill(&mut bytes);
    bytes
}

/// Sends from m to b's port as fast as b's socket takes it.
fn send(lab: &mut Lab, address: &str, count: u32, mut make: impl FnMut(u32) -> Vec<u8> + Send) -> Result<()> {
    let pid = lab.daemon("b")?.process().pid();
    let table = format!("/proc/{pid}/net/udp");
    lab.ns("m").enter(move || -> Result<()> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect((address, PORT))?;
        for number in 0..count {
            // A port that answered "unreachable" would make this fail: the daemon is gone.
            socket.send(&make(number)).context("b's port is closed")?;
            if number.is_multiple_of(128) {
                wait::until("b's socket queue drains", DEADLINE, || {
                    queued(Path::new(&table)).is_some_and(|bytes| bytes < 100_000)
                })?;
            }
        }
        wait::until("b has read everything", DEADLINE, || queued(Path::new(&table)) == Some(0))
    })?
}

/// Bytes in the receive queue of the sockets bound to our port, from `/proc/<pid>/net/udp`.
fn queued(table: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(table).ok()?;
    let port = format!(":{PORT:04X}");
    let rows = text.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let ours = rows.filter(|row| row.get(1).is_some_and(|local| local.ends_with(&port)));
    ours.map(|row| u64::from_str_radix(row.get(4)?.split(':').nth(1)?, 16).ok()).sum()
}
