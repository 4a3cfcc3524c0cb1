//! What `network policy trace` says, and what happens to packets: the same, at both ends.
//!
//! ```text
//!   a ───── b ───── c        network "shop"
//!           friend, other    web
//! ```
//! Packets are written onto workloads' interfaces as they are, so that no kernel's state decides what is sent;
//! captures at all three show what comes out.

use std::net::IpAddr;

use anyhow::{Result, bail, ensure};
use sinew_tests::capture::{Capture, Pcap};
use sinew_tests::cli::{number, text};
use sinew_tests::lab::{Dial, Lab, run_lab};
use sinew_tests::raw::{ACK, Injector, Packet, SYN};
use sinew_tests::tenant::{self, SOON, Workload};
use sinew_tests::wait;

const WHO: [(&str, &str, &[&str]); 3] =
    [("b", "friend", &["--group", "front"]), ("b", "other", &["--group", "back"]), ("c", "web", &[])];
const FRIEND: usize = 0;
const OTHER: usize = 1;
const WEB: usize = 2;
const SERVICES: [&str; 6] = ["tcp/80", "tcp/22", "tcp/8080", "udp/9000", "udp/22", "icmp"];
const POLICY: &str = r#"
default = "deny"
[[rule]]
from = "workload:web"
to = "workload:other"
deny = ["tcp/22"]
[[rule]]
from = "workload:web"
to = "workload:other"
allow = ["tcp", "icmp"]
[[rule]]
from = "group:front"
to = ["workload:web", "workload:other"]
allow = ["tcp/80", "udp/9000", "icmp"]
"#;

struct Party {
    injector: Injector,
    capture: Capture,
    v4: IpAddr,
    v6: IpAddr,
    _workload: Workload,
}

struct Stage {
    parties: Vec<Party>,
    sent: Vec<Sent>,
}

/// A packet that was sent, and whether it has to come out.
struct Sent {
    what: String,
    from: usize,
    to: usize,
    passes: bool,
}

fn mark(number: usize) -> Vec<u8> {
    format!("POL#{number:04}").into_bytes()
}

impl Stage {
    fn set(lab: &mut Lab) -> Result<Self> {
        lab.line(&["a", "b", "c"])?;
        lab.peer_links(Dial::Both)?;
        lab.start_all()?;
        lab.wait_mesh()?;
        tenant::network(lab, "shop", "10.20.0.0/16", "a", &["c"])?;
        // What a workload's groups are is for those to say who admit its member.
        let ticket = tenant::ticket(lab, "shop", "a", &["--group", "front", "--group", "back"])?;
        lab.cli("b").json(&["network", "join", &format!("@{}", ticket.display())])?;
        let mut parties = Vec::new();
        for (node, name, options) in WHO {
            let workload = Workload::start_with(lab, node, "shop", name, options, &["sleep", "infinity"])?;
            let netns = workload.netns(lab)?;
            let injector = Injector::open(&netns, "sinew0", "10.20.200.200".parse()?)?;
            let capture = Capture::start_in(&netns, "sinew0", &lab.dir().join(format!("{name}.pcapng")))?;
            let all = workload.addresses(lab)?;
            let [v4, v6] = &all[..] else { bail!("not two addresses: {all:?}") };
            let (v4, v6) = (v4.parse()?, v6.parse()?);
            parties.push(Party { injector, capture, v4, v6, _workload: workload });
        }
        let file = lab.dir().join("policy.toml");
        std::fs::write(&file, POLICY)?;
        lab.cli("a").json(&["network", "policy", "set", "shop", &file.display().to_string()])?;
        let stage = Self { parties, sent: Vec::new() };
        for node in ["b", "c"] {
            wait::success(&format!("the policy and all workloads are known at {node}"), SOON, || {
                for (from, to, service, code) in [
                    ("friend", "web", "tcp/80", 0),
                    ("web", "other", "tcp/8080", 0),
                    ("web", "friend", "tcp/80", 5),
                ] {
                    let said =
                        lab.cli(node).run(&["network", "policy", "trace", "shop", from, to, service])?;
                    ensure!(said.code == Some(code), "{from} to {to}, {service}: {}", said.text());
                }
                Ok(())
            })?;
        }
        Ok(stage)
    }

    fn addresses(&self, from: usize, to: usize, v6: bool) -> (IpAddr, IpAddr) {
        let of = |party: &Party| if v6 { party.v6 } else { party.v4 };
        (of(&self.parties[from]), of(&self.parties[to]))
    }

    /// Sends what `make` builds of the two addresses and the mark.
    fn send(
        &mut self,
        what: &str,
        (from, to): (usize, usize),
        passes: bool,
        v6: bool,
        make: impl FnOnce(IpAddr, IpAddr, &[u8]) -> Packet,
    ) -> Result<()> {
        let (src, dst) = self.addresses(from, to, v6);
        let packet = make(src, dst, &mark(self.sent.len()));
        self.parties[from].injector.send(&packet.bytes())?;
        let what = format!("{what}, {} to {}, {}", WHO[from].1, WHO[to].1, if v6 { "IPv6" } else { "IPv4" });
        self.sent.push(Sent { what, from, to, passes });
        Ok(())
    }

    /// Every pair and service: as `trace` says.
    fn all_pairs(&mut self, lab: &Lab) -> Result<(usize, usize)> {
        let mut counts = (0, 0);
        for (from, to) in (0..3).flat_map(|from| (0..3).map(move |to| (from, to))).filter(|(a, b)| a != b) {
            for (n, service) in SERVICES.iter().enumerate() {
                let asked = ["network", "policy", "trace", "shop", WHO[from].1, WHO[to].1, service];
                let said = lab.cli("a").run(&asked)?;
                let passes = match said.code {
                    Some(0) => true,
                    Some(5) => false,
                    _ => bail!("{asked:?}: {}", said.text()),
                };
                *(if passes { &mut counts.0 } else { &mut counts.1 }) += 1;
                let ports = (20_000 + n as u16, service.split('/').nth(1).map_or(Ok(0), str::parse)?);
                for v6 in [false, true] {
                    self.send(service, (from, to), passes, v6, |src, dst, mark| {
                        match service.split('/').next() {
                            Some("tcp") => Packet::tcp(src, dst, ports, SYN, mark),
                            Some("udp") => Packet::udp(src, dst, ports, mark),
                            _ => Packet::echo(src, dst, mark),
                        }
                    })?;
                }
            }
        }
        Ok(counts)
    }

    /// Replies, errors about flows, and what only looks like them.
    fn states(&mut self, lab: &Lab) -> Result<()> {
        for v6 in [false, true] {
            let (call, back, stray) = ((FRIEND, WEB), (WEB, FRIEND), (OTHER, WEB));
            let reply = |port| move |src, dst, mark: &[u8]| Packet::udp(src, dst, (9000, port), mark);
            self.step(lab, "a reply to nothing", back, false, v6, reply(30_000))?;
            self.step(lab, "a call", call, true, v6, |src, dst, mark| {
                Packet::udp(src, dst, (30_000, 9000), mark)
            })?;
            self.step(lab, "its reply", back, true, v6, reply(30_000))?;
            self.step(lab, "a reply to another port", back, false, v6, reply(30_001))?;
            let kind = if v6 { (1, 4) } else { (3, 3) };
            let error = |port| {
                move |src, dst, mark: &[u8]| {
                    let quote = Packet::udp(dst, src, (port, 9000), mark);
                    Packet::icmp(src, dst, kind, [0; 4], &quote.bytes())
                }
            };
            self.step(lab, "an error about the call", back, true, v6, error(30_000))?;
            self.step(lab, "an error about nothing", back, false, v6, error(30_002))?;
            self.step(lab, "somebody else's error about it", (OTHER, FRIEND), false, v6, error(30_000))?;

            let tcp = |ports, flags| move |src, dst, mark: &[u8]| Packet::tcp(src, dst, ports, flags, mark);
            self.step(lab, "an acknowledgement from who may not call", stray, false, v6, tcp((22, 80), ACK))?;
            self.step(
                lab,
                "an answer from who may not be called",
                (WEB, OTHER),
                false,
                v6,
                tcp((80, 22), SYN | ACK),
            )?;
            self.step(lab, "an answer to nothing", back, false, v6, tcp((80, 30_003), SYN | ACK))?;
            self.step(lab, "an acknowledgement of another service", back, false, v6, tcp((81, 30_003), ACK))?;
            // A young device takes this for a reply to a call that it forgot, but no call for one.
            self.step(lab, "an acknowledgement of nothing", back, true, v6, tcp((80, 22), ACK))?;
            self.step(lab, "a call in its wake", back, false, v6, tcp((80, 22), SYN))?;
        }
        Ok(())
    }

    /// As [`Stage::send`]; returns when the packet has come out, or has been refused where it was sent.
    fn step(
        &mut self,
        lab: &Lab,
        what: &str,
        ends: (usize, usize),
        passes: bool,
        v6: bool,
        make: impl FnOnce(IpAddr, IpAddr, &[u8]) -> Packet,
    ) -> Result<()> {
        let node = WHO[ends.0].0;
        let before = refused(lab, node)?;
        self.send(what, ends, passes, v6, make)?;
        if passes {
            return self.settle(ends.1);
        }
        wait::until(&format!("{node} refuses {what}"), SOON, || {
            refused(lab, node).is_ok_and(|now| now > before)
        })
    }

    /// Waits until the last packet sent has come out at `to`.
    fn settle(&self, to: usize) -> Result<()> {
        let mark = mark(self.sent.len() - 1);
        wait::until(&format!("{} comes out", self.sent[self.sent.len() - 1].what), SOON, || {
            self.parties[to].capture.holds(&mark).unwrap_or(false)
        })
    }
}

/// Waits until a machine has counted all that its workloads may not send.
fn counted(lab: &Lab, sent: &[Sent], node: &str) -> Result<()> {
    let expected = sent.iter().filter(|sent| !sent.passes && WHO[sent.from].0 == node).count();
    wait::until(&format!("{node} has refused {expected} packets"), SOON, || {
        refused(lab, node).is_ok_and(|count| count >= expected as f64)
    })
}

/// How many packets a machine has refused by policy.
fn refused(lab: &Lab, node: &str) -> Result<f64> {
    let all = lab.cli(node).list(&["drops"], "drops")?;
    let policy = all.iter().find(|entry| text(entry, "reason") == "policy");
    Ok(policy.and_then(|entry| number(entry, "count")).unwrap_or_default())
}

#[test]
fn packets_pass_or_not_as_trace_says_and_replies_belong_to_their_call() {
    run_lab("judged", |lab| {
        let mut stage = Stage::set(lab)?;
        let (allowed, denied) = stage.all_pairs(lab)?;
        ensure!(allowed >= 6 && denied >= 6, "{allowed} allowed, {denied} denied");
        stage.states(lab)?;
        // Each way ends with one that passes, so that all before it have been decided.
        for (from, to, ports) in [(FRIEND, WEB, (1, 80)), (WEB, OTHER, (1, 80)), (FRIEND, OTHER, (1, 80))] {
            stage.send("the last", (from, to), true, false, |src, dst, mark| {
                Packet::tcp(src, dst, ports, SYN, mark)
            })?;
            stage.settle(to)?;
        }
        let counted = ["b", "c"].map(|node| counted(lab, &stage.sent, node));
        let sent = stage.sent;
        let marks: Vec<_> = (0..sent.len()).map(mark).collect();
        let patterns: Vec<&[u8]> = marks.iter().map(Vec::as_slice).collect();
        let pcaps: Vec<Pcap> =
            stage.parties.into_iter().map(|party| party.capture.stop()).collect::<Result<_>>()?;
        let mut seen = Vec::new();
        for pcap in &pcaps {
            ensure!(pcap.dropped == 0, "a capture missed packets");
            seen.push(pcap.scan(&patterns)?);
        }
        for (number, Sent { what, to, passes, .. }) in sent.iter().enumerate() {
            let out = seen[*to][number] > 0;
            ensure!(out == *passes, "{what}: {}", if out { "came out" } else { "did not come out" });
        }
        counted.into_iter().collect::<Result<()>>()?;
        eprintln!("{allowed} openings allowed, {denied} denied, {} packets as foretold", sent.len());
        Ok(())
    });
}
