//! A line of five: the ends have no link with each other, three machines relay, none can read.
//!
//! ```text
//!   a ───── b ───── c ───── d ───── e
//!  curl                           nginx
//! ```

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use sinew_tests::capture::{Capture, Pcap};
use sinew_tests::cli::{number, text};
use sinew_tests::lab::{Dial, Lab, interface, run_lab};
use sinew_tests::workload::{Nginx, PAYLOAD_MARK, fetch, payload_file, ping, url};
use sinew_types::MeshAddr;

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
const MIB: u64 = 1 << 20;
const BIG_FILE: u64 = 1 << 30;
const CAPTURED_FILE: u64 = 32 * MIB;
const PORT: u16 = 8080;

fn start(lab: &mut Lab) -> Result<()> {
    lab.line(&NAMES)?;
    lab.peer_links(Dial::First)?;
    lab.start_all()?;
    lab.wait_mesh()
}

/// Serves a file of `bytes` bytes on `e` and fetches it from `a`, with equal checksum.
fn carry_file(lab: &mut Lab, bytes: u64, deadline: Duration) -> Result<()> {
    let dir = lab.dir().join("web");
    let _nginx = Nginx::start(lab.ns("e"), &dir, PORT)?;
    let hash = payload_file(&dir.join("www/file"), bytes)?;
    let page = url(&lab.address("e")?, PORT, "file");
    let got = fetch(lab.ns("a"), &page, &lab.dir().join("curl.log"), deadline)?;
    ensure!(got == (bytes, hash), "the file differs: {got:?}");
    Ok(())
}

#[test]
fn the_ends_ping_each_other_and_trace_names_every_machine() {
    run_lab("trace", |lab| {
        start(lab)?;
        let target = lab.address("e")?;
        let report = ping(lab.ns("a"), &target, 20, 50)?;
        ensure!(report.received == report.sent, "the system's ping lost packets: {report:?}");

        let ours = lab.cli("a").run(&["ping", &target, "-c", "3"])?;
        ensure!(ours.code == Some(2), "relayed is exit code 2, not {:?}: {}", ours.code, ours.text());

        let hops = lab.cli("a").list(&["trace", &target], "hops")?;
        let keys: Vec<_> = hops.iter().map(|hop| text(hop, "node_id").to_owned()).collect();
        let expected: Vec<_> = NAMES.iter().map(|name| Ok(lab.key(name)?.node_id)).collect::<Result<_>>()?;
        ensure!(keys == expected, "trace names {keys:?}, not {expected:?}");
        for (name, hop) in NAMES.iter().zip(&hops).skip(1) {
            let rtt = number(hop, "rtt_ms").with_context(|| format!("no rtt for {name}: {hop}"))?;
            ensure!((0.0..1000.0).contains(&rtt), "{name}: {rtt} ms");
            ensure!(text(hop, "name") == *name, "{name} calls itself {hop}");
            ensure!(text(hop, "carrier") == "udp", "{name}: {hop}");
            ensure!(number(hop, "mtu").is_some_and(|mtu| mtu >= 1280.0), "{name}: {hop}");
        }
        Ok(())
    });
}

#[test]
fn a_gibibyte_crosses_three_relays_with_equal_checksum() {
    run_lab("gibibyte", |lab| {
        start(lab)?;
        carry_file(lab, BIG_FILE, Duration::from_secs(600))
    });
}

#[test]
fn no_link_shows_payload_or_mesh_addresses() {
    run_lab("tap", |lab| {
        lab.line(&NAMES)?;
        lab.peer_links(Dial::First)?;
        // The taps are there before the first handshake.
        let taps = NAMES
            .windows(2)
            .map(|pair| {
                let file = lab.dir().join(format!("{}{}.pcap", pair[0], pair[1]));
                Capture::start(lab.ns(pair[0]), &interface(pair[1]), &file)
            })
            .collect::<Result<Vec<_>>>()?;
        lab.start_all()?;
        lab.wait_mesh()?;
        let target = lab.address("e")?;
        lab.cli("a").trace_keys(&target)?;
        ping(lab.ns("a"), &target, 20, 20)?;
        carry_file(lab, CAPTURED_FILE, Duration::from_secs(120))?;
        let secrets = Secrets::of(lab)?;
        for (tap, pair) in taps.into_iter().zip(NAMES.windows(2)) {
            secrets.absent(tap, &format!("{}-{}", pair[0], pair[1]))?;
        }
        Ok(())
    });
}

/// The first packets that contain `bytes`, for the message.
fn packets_with(pcap: &Pcap, bytes: &[u8]) -> Result<String> {
    let hex: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let filter = format!("frame contains {}", hex.join(":"));
    let rows = pcap.fields(&filter, &["frame.number", "frame.protocols", "udp.length", "udp.payload"])?;
    Ok(rows.iter().take(3).map(|row| format!("{:.600}\n", row.join(" "))).collect())
}

/// Byte strings that no observer of a link may find.
struct Secrets {
    named: Vec<(String, Vec<u8>)>,
}

impl Secrets {
    fn of(lab: &mut Lab) -> Result<Self> {
        let mut named = vec![("payload".to_owned(), PAYLOAD_MARK.to_vec())];
        named.push(("request".into(), b"GET /file HTTP".to_vec()));
        for name in NAMES {
            let key = lab.key(name)?;
            let address: MeshAddr = key.address.parse().map_err(anyhow::Error::msg)?;
            // Both halves: a header that carried the address in two fields would be found too.
            let (front, back) = address.as_bytes().split_at(8);
            named.push((format!("first half of {name}'s address"), front.to_vec()));
            named.push((format!("second half of {name}'s address"), back.to_vec()));
            named.push((format!("{name}'s address as text"), key.address.into_bytes()));
            named.push((format!("{name}'s key as text"), key.node_id.into_bytes()));
        }
        Ok(Self { named })
    }

    fn absent(&self, tap: Capture, link: &str) -> Result<()> {
        let pcap = tap.stop()?;
        let size = std::fs::metadata(&pcap.path)?.len();
        ensure!(size > CAPTURED_FILE, "{link}: only {size} bytes seen, {} packets lost", pcap.dropped);
        let patterns: Vec<_> = self.named.iter().map(|(_, bytes)| bytes.as_slice()).collect();
        for ((what, bytes), count) in self.named.iter().zip(pcap.scan(&patterns)?) {
            if count > 0 {
                bail!("{link}: {what} is visible {count} times\n{}", packets_with(&pcap, bytes)?);
            }
        }
        let inner = pcap.count("ipv6.addr == fd3f::/16 || http")?;
        ensure!(inner == 0, "{link}: tshark sees {inner} packets of the mesh inside");
        Ok(())
    }
}
