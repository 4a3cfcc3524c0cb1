//! A node that carries the packets of a private network and is no member of it: it sees nothing, and keeps
//! nothing.
//!
//! ```text
//!   a ───── b ───── c        network "treasury" on a and c; b relays
//!   reader          ledgerbook
//! ```

use std::net::IpAddr;

use anyhow::{Context, Result, bail, ensure};
use sinew_tests::capture::Capture;
use sinew_tests::cli::text;
use sinew_tests::lab::{Dial, Lab, interface, run_lab};
use sinew_tests::memory::{scan_files, scan_process};
use sinew_tests::privileges::children;
use sinew_tests::process::Proc;
use sinew_tests::requirements::Bins;
use sinew_tests::tenant::{self, SOON, Workload, words};
use sinew_tests::wait;
use sinew_tests::workload::{PAYLOAD_MARK, payload_file};

const NETWORK: &str = "treasury";
const SERVER: &str = "ledgerbook";
const MIB: u64 = 1 << 20;
/// The names of a network's things that are searched for, in the order of [`Secrets::patterns`].
const WORDS: [&str; 10] = [
    "payload",
    "network's name",
    "workload's name",
    "ticket",
    "network's id",
    "network's id as text",
    "IPv4 addresses in a header",
    "IPv4 address as text",
    "IPv6 address",
    "IPv6 address as text",
];

struct Secrets(Vec<Vec<u8>>);

impl Secrets {
    fn patterns(&self) -> Vec<&[u8]> {
        self.0.iter().map(Vec::as_slice).collect()
    }
}

/// RFC 4648, lower case and unpadded: how keys are written.
fn base32(text: &str) -> Result<Vec<u8>> {
    let mut bits: (u64, u32) = (0, 0);
    let mut bytes = Vec::new();
    for letter in text.bytes() {
        let value = match letter {
            b'a'..=b'z' => letter - b'a',
            b'2'..=b'7' => letter - b'2' + 26,
            other => bail!("{other:#x} in {text}"),
        };
        bits = ((bits.0 << 5 | u64::from(value)) & 0xffff, bits.1 + 5);
        if bits.1 >= 8 {
            bits.1 -= 8;
            bytes.push(u8::try_from(bits.0 >> bits.1 & 0xff)?);
        }
    }
    Ok(bytes)
}

fn secrets(lab: &Lab, reader: &Workload, server: &Workload) -> Result<Secrets> {
    let shown = lab.cli("a").json(&["network", "show", NETWORK])?;
    let id = text(&shown, "id").to_owned();
    let (from, to) = (reader.addresses(lab)?, server.addresses(lab)?);
    let octets = |address: &str| -> Result<Vec<u8>> {
        Ok(match address.parse()? {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        })
    };
    let found = vec![
        PAYLOAD_MARK.to_vec(),
        NETWORK.into(),
        SERVER.into(),
        b"sinewnet1".to_vec(),
        base32(&id)?,
        id.into_bytes(),
        [octets(&to[0])?, octets(&from[0])?].concat(),
        to[0].clone().into_bytes(),
        octets(&to[1])?,
        to[1].clone().into_bytes(),
    ];
    ensure!(found.len() == WORDS.len() && found[4].len() == 32, "{:?}", found[4]);
    Ok(Secrets(found))
}

fn nothing(place: &str, counts: &[usize]) -> Result<()> {
    for (word, count) in WORDS.iter().zip(counts) {
        ensure!(*count == 0, "{place} holds the {word}, {count} times");
    }
    Ok(())
}

/// Daemon and helper of a machine, searched.
fn processes(lab: &mut Lab, name: &str, secrets: &Secrets) -> Result<Vec<usize>> {
    let daemon = lab.daemon(name)?.process().pid();
    let mut counts = vec![0; WORDS.len()];
    for pid in children(daemon).into_iter().chain([daemon]) {
        let found = scan_process(pid, &secrets.patterns())?;
        counts.iter_mut().zip(found).for_each(|(count, more)| *count += more);
    }
    Ok(counts)
}

#[test]
fn a_relay_that_is_no_member_sees_and_keeps_nothing() {
    run_lab("blind", |lab| {
        lab.line(&["a", "b", "c"])?;
        lab.peer_links(Dial::Both)?;
        lab.start_all()?;
        lab.wait_mesh()?;
        let files = ["a", "c"].map(|end| lab.dir().join(format!("b-{end}.pcapng")));
        let mut captures = Vec::new();
        for (end, file) in ["a", "c"].iter().zip(&files) {
            captures.push(Capture::start(lab.ns("b"), &interface(end), file)?);
        }
        // From the first document on.
        tenant::network(lab, NETWORK, "10.20.0.0/16", "a", &["c"])?;
        let nginx = tenant::nginx(&lab.dir().join("pages"), "ledger\n")?;
        payload_file(&lab.dir().join("pages/www/file"), 64 * MIB)?;
        let server = Workload::start(lab, "c", NETWORK, SERVER, &words(&nginx))?;
        let reader = Workload::start(lab, "a", NETWORK, "reader", &["sleep", "infinity"])?;
        let secrets = secrets(lab, &reader, &server)?;
        let inside = Capture::start_in(&reader.netns(lab)?, "sinew0", &lab.dir().join("inside.pcapng"))?;

        // The transfer goes over IPv6.
        reader.run(lab, &["ping", "-n", "-q", "-c", "3", "-i", "0.2", &server.addresses(lab)?[0]])?;
        let got = lab.dir().join("got");
        let fetch = format!("curl -sS --fail --limit-rate 24M -o {} http://{SERVER}/file", got.display());
        let mut command = lab.ns("a").command(&Bins::get()?.sinew.to_string_lossy());
        command.arg("--socket").arg(lab.dir().join("a/sinew.sock"));
        command.args(["workload", "exec", "reader", "--", "sh", "-c", &fetch]);
        let mut transfer = Proc::spawn(&mut command, &lab.dir().join("transfer.log"))?;
        let size = || std::fs::metadata(&got).map_or(0, |meta| meta.len());
        wait::until("the transfer gets on", SOON, || size() > 8 * MIB || !transfer.running())?;
        let during = processes(lab, "b", &secrets)?;
        ensure!(transfer.running(), "it was over before the relay was searched: {}", transfer.log());
        nothing("the relay's memory, while it carries,", &during)?;
        ensure!(transfer.wait(SOON)? == Some(0), "the transfer broke: {}", transfer.log());
        ensure!(size() == 64 * MIB, "{} bytes came", size());

        nothing("the relay's memory, afterwards,", &processes(lab, "b", &secrets)?)?;
        nothing("the relay's state folder", &scan_files(&lab.dir().join("b/state"), &secrets.patterns())?)?;
        let known = lab.cli("b").list(&["network", "ls"], "networks")?;
        ensure!(known.is_empty(), "the relay knows {known:?}");
        for (capture, file) in captures.into_iter().zip(&files) {
            let pcap = capture.stop()?;
            let recorded = std::fs::metadata(file)?.len();
            ensure!(recorded > 64 * MIB, "{}: {recorded} bytes are no such transfer", file.display());
            nothing("the relay's link", &pcap.scan(&secrets.patterns())?)?;
        }
        controls(lab, inside, &secrets)
    });
}

/// Each pattern is found where it must be: in a member's memory and files, and in its workload's namespace.
fn controls(lab: &mut Lab, inside: Capture, secrets: &Secrets) -> Result<()> {
    let seen = inside.stop()?.scan(&secrets.patterns())?;
    for word in ["payload", "workload's name", "IPv4 addresses in a header"] {
        let at = WORDS.iter().position(|known| *known == word).context("a known word")?;
        ensure!(seen[at] > 0, "the {word} is not seen in the workload's namespace: {seen:?}");
    }
    let mut held = processes(lab, "a", secrets)?;
    let files = scan_files(&lab.dir().join("a/state"), &secrets.patterns())?;
    ensure!(files.iter().sum::<usize>() > 0, "a member's files hold none of it");
    held.iter_mut().zip(&files).for_each(|(count, more)| *count += more);
    eprintln!("a member holds: {:?}", WORDS.iter().zip(&held).collect::<Vec<_>>());
    for (word, count) in
        WORDS.iter().zip(&held).filter(|(word, _)| !word.contains("text") && !word.contains("IPv4"))
    {
        ensure!(*count > 0, "the search does not find the {word} where it is");
    }
    Ok(())
}
