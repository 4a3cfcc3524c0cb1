//! A workload that has root and raw sockets, against everybody who is not its fellow.
//!
//! ```text
//!            a ───────────── b ───────────── c
//!   shop                      spy, clerk      fellow
//!   bank     till             vault           teller          both networks are 10.20.0.0/16
//! ```
//! The spy writes frames onto its own interface as they are; captures in the namespaces of the other tenant's
//! workloads, of the machines and of the spy's fellows show what came out. Each attack carries a mark of its
//! own, and each has to be counted by the spy's machine under the one reason that stopped it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use sinew_tests::capture::{Capture, Pcap};
use sinew_tests::cli::{number, text};
use sinew_tests::lab::{Dial, Lab, run_lab};
use sinew_tests::raw::{
    ACK, DESTINATION, FIN, GRE, HOP_BY_HOP, IPIP, IPV6, Injector, Packet, ROUTING, SYN, TCP,
};
use sinew_tests::tenant::{self, SOON, Workload, words};
use sinew_tests::wait;

const RANGE: &str = "10.20.0.0/16";
/// In the range, and nobody's.
const BEYOND: &str = "10.20.200.200";
const MACHINES: [&str; 3] = ["a", "b", "c"];
/// All may be opened but these two, from anybody to the fellow.
const POLICY: &str = "default = \"allow\"\n[[rule]]\nfrom = \"any\"\nto = \"workload:fellow\"\ndeny = [\"tcp/22\", \"udp/22\"]\n";
const DENIED: u16 = 22;
const OPEN: u16 = 80;

/// IPv4 and IPv6 address of somebody.
type Both = (IpAddr, IpAddr);

/// Who is where.
struct Stage {
    fellow: Workload,
    clerk: Workload,
    spy: Workload,
    bank: Vec<Workload>,
    at: Addresses,
}

struct Addresses {
    spy: Both,
    fellow: Both,
    clerk: Both,
    bank: Vec<Both>,
    mesh: Vec<IpAddr>,
    underlay: Vec<IpAddr>,
    resolvers: Vec<IpAddr>,
}

fn both(lab: &Lab, workload: &Workload) -> Result<Both> {
    let all = workload.addresses(lab)?;
    let [v4, v6] = &all[..] else { bail!("not two addresses: {all:?}") };
    Ok((v4.parse()?, v6.parse()?))
}

/// Name servers of a workload.
fn resolvers(lab: &Lab, node: &str, name: &str) -> Result<Vec<IpAddr>> {
    let all = lab.cli(node).list(&["workload", "ls"], "workloads")?;
    let own = all.iter().find(|workload| text(workload, "name") == name).context("it is attached")?;
    let list = own.get("resolvers").and_then(serde_json::Value::as_array).context("resolvers")?;
    Ok(list.iter().filter_map(|address| address.as_str()?.parse().ok()).collect())
}

impl Stage {
    fn set(lab: &mut Lab) -> Result<Self> {
        lab.line(&MACHINES)?;
        lab.peer_links(Dial::First)?;
        lab.start_all()?;
        lab.wait_mesh()?;
        tenant::network(lab, "shop", RANGE, "a", &["b", "c"])?;
        tenant::network(lab, "bank", RANGE, "c", &["a", "b"])?;
        let idle = ["sleep", "infinity"];
        let nginx = tenant::nginx(&lab.dir().join("fellow"), "<h1>fellow</h1>\n")?;
        let fellow = Workload::start(lab, "c", "shop", "fellow", &words(&nginx))?;
        let clerk = Workload::start(lab, "b", "shop", "clerk", &idle)?;
        let spy = Workload::start(lab, "b", "shop", "spy", &idle)?;
        let bank = [("a", "till"), ("b", "vault"), ("c", "teller")];
        let bank: Vec<_> = bank
            .iter()
            .map(|(node, name)| Workload::start(lab, node, "bank", name, &idle))
            .collect::<Result<_>>()?;
        let mut at = Addresses {
            spy: both(lab, &spy)?,
            fellow: both(lab, &fellow)?,
            clerk: both(lab, &clerk)?,
            bank: bank.iter().map(|workload| both(lab, workload)).collect::<Result<_>>()?,
            mesh: MACHINES.iter().map(|name| Ok(lab.address(name)?.parse()?)).collect::<Result<_>>()?,
            underlay: vec!["10.77.0.1".parse()?, "10.77.0.2".parse()?, "10.77.1.1".parse()?],
            resolvers: resolvers(lab, "b", "vault")?,
        };
        at.resolvers.extend(resolvers(lab, "b", "spy")?);
        let file = lab.dir().join("policy.toml");
        std::fs::write(&file, POLICY)?;
        lab.cli("a").json(&["network", "policy", "set", "shop", &file.display().to_string()])?;
        wait::until("the policy is in force at the spy's machine", SOON, || {
            let asked = ["network", "policy", "trace", "shop", "spy", "fellow", "tcp/22"];
            lab.cli("b").run(&asked).is_ok_and(|said| said.code == Some(5))
        })?;
        Ok(Self { fellow, clerk, spy, bank, at })
    }

    fn injector(&self, lab: &Lab) -> Result<Injector> {
        Injector::open(&self.spy.netns(lab)?, "sinew0", BEYOND.parse()?)
    }
}

/// What has to become of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Counted by the spy's machine under this word, and seen nowhere.
    Dropped(&'static str),
    /// The same by the fellow's machine, whose subnet it was for.
    FarDropped(&'static str),
    /// Seen by this fellow alone, as it was sent.
    Fellow,
}
use Fate::{Dropped, FarDropped, Fellow};

struct Attack {
    name: String,
    bytes: Vec<u8>,
    fate: Fate,
}

/// Attacks in the order in which they are tried.
struct Attacks<'a> {
    at: &'a Addresses,
    all: Vec<Attack>,
}

impl<'a> Attacks<'a> {
    fn new(at: &'a Addresses) -> Self {
        Self { at, all: Vec::new() }
    }

    /// The mark of the next attack: found in captures wherever its packet comes out.
    fn mark(&self) -> Vec<u8> {
        mark(self.all.len())
    }

    fn add(&mut self, name: impl Into<String>, fate: Fate, packet: &Packet) {
        self.add_bytes(name, fate, packet.bytes());
    }

    fn add_bytes(&mut self, name: impl Into<String>, fate: Fate, bytes: Vec<u8>) {
        self.all.push(Attack { name: name.into(), bytes, fate });
    }

    /// A datagram with the next mark.
    fn udp(&self, src: IpAddr, dst: IpAddr, port: u16) -> Packet {
        Packet::udp(src, dst, (4000, port), &self.mark())
    }

    /// A call from the spy with the next mark.
    fn call(&self, dst: IpAddr, port: u16) -> Packet {
        Packet::tcp(self.own(dst), dst, (4000, port), SYN, &self.mark())
    }

    /// The spy's address of the same family.
    fn own(&self, dst: IpAddr) -> IpAddr {
        if dst.is_ipv4() { self.at.spy.0 } else { self.at.spy.1 }
    }

    fn spoofed_sources(&mut self) -> Result<()> {
        let at = self.at;
        let strangers = ["203.0.113.7", "2001:db8::7", "::", "ff02::1", "10.20.0.0"];
        let mut sources: Vec<IpAddr> = strangers.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
        for (v4, v6) in at.bank.iter().chain([&at.fellow, &at.clerk]) {
            sources.extend([*v4, *v6]);
        }
        sources.extend(at.mesh.iter().chain(&at.underlay).chain(&at.resolvers));
        for src in sources.into_iter().filter(|src| *src != at.spy.0) {
            for (v4, v6) in [at.fellow, at.clerk] {
                let dst = if src.is_ipv4() { v4 } else { v6 };
                let packet = self.udp(src, dst, OPEN);
                self.add(format!("{src} to {dst}"), Dropped("not_our_source"), &packet);
            }
        }
        let packet = self.udp("fe80::1".parse()?, at.fellow.1, OPEN);
        self.add("a link-local source", Dropped("not_unicast"), &packet);
        Ok(())
    }

    fn destinations(&mut self) -> Result<()> {
        let at = self.at;
        let nobody = ["8.8.8.8", "10.20.255.255", "64:ff9b::808:808", "::ffff:10.20.1.2", "fd3f::1"];
        let mut strangers: Vec<IpAddr> = nobody.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
        strangers.extend(at.bank.iter().map(|(_, v6)| *v6).chain(at.mesh.clone()).chain(at.underlay.clone()));
        strangers.extend([0, 255].map(|end| in_subnet(at.spy.0, end)));
        let nobodys = strangers.into_iter().map(|dst| (dst, Dropped("no_place")));
        // The other tenant's name server is at an address that somebody else has here.
        let servers = at.resolvers.iter().map(|dst| match *dst == in_subnet(at.fellow.0, 1) {
            true => (*dst, FarDropped("not_for_us")),
            false => (*dst, Dropped("no_place")),
        });
        for (dst, fate) in nobodys.chain(servers) {
            let call = self.udp(self.own(dst), dst, 53);
            self.add(format!("a question to {dst}"), fate, &call);
            let call = self.call(dst, 7463);
            self.add(format!("a call of {dst}"), fate, &call);
            let call = Packet::echo(self.own(dst), dst, &self.mark());
            self.add(format!("an echo request to {dst}"), fate, &call);
        }
        for group in [
            "224.0.0.1",
            "224.0.0.251",
            "255.255.255.255",
            "169.254.169.254",
            "127.0.0.1",
            "127.1.2.3",
            "0.0.0.0",
            "ff02::1",
            "ff05::2",
            "ff0e::fb",
            "fe80::1",
            "::1",
            "::",
        ] {
            let dst = group.parse()?;
            let packet = self.udp(self.own(dst), dst, 53);
            self.add(format!("to {dst}"), Dropped("not_unicast"), &packet);
        }
        Ok(())
    }

    /// Neighbour discovery, redirects and ARP: the interface has no neighbours.
    fn link_layer(&mut self) -> Result<()> {
        let at = self.at;
        let (own, fellow) = (at.spy.1, at.fellow.1);
        let IpAddr::V6(target) = at.clerk.1 else { bail!("the second address is IPv6") };
        let about = [&target.octets()[..], &[2, 1, 2, 3, 4, 5, 6, 7]].concat();
        for kind in [133, 134, 135, 136, 137, 143] {
            let load = [&about[..], &self.mark()].concat();
            let packet = Packet::icmp(own, fellow, (kind, 0), [0xa0, 0, 0, 0], &load).hop_limit(255);
            self.add(format!("ICMPv6 {kind} to a fellow"), Dropped("policy"), &packet);
            let load = [&about[..], &self.mark()].concat();
            let group = Packet::icmp(own, "ff02::1".parse()?, (kind, 0), [0; 4], &load).hop_limit(255);
            self.add(format!("ICMPv6 {kind} to all"), Dropped("not_unicast"), &group);
        }
        // About a flow that stands: an error would pass.
        let asked = self.udp(at.spy.0, at.fellow.0, 4001);
        self.add("a flow to be redirected", Fellow, &asked);
        let reply = self.udp(at.fellow.0, at.spy.0, 4000);
        let quote = Packet::udp(at.fellow.0, at.spy.0, (4001, 4000), &self.mark());
        drop(reply);
        let redirect = Packet::icmp(at.spy.0, at.fellow.0, (5, 1), [10, 20, 9, 9], &quote.bytes());
        self.add("an ICMP redirect about a flow", Dropped("policy"), &redirect);
        let quote = Packet::udp(at.fellow.0, at.spy.0, (4001, 4000), &self.mark());
        let error = Packet::icmp(at.spy.0, at.fellow.0, (3, 3), [0; 4], &quote.bytes());
        self.add("an ICMP error about a flow", Fellow, &error);
        let mut arp =
            vec![0, 1, 8, 0, 6, 4, 0, 2, 2, 1, 2, 3, 4, 5, 10, 20, 1, 2, 2, 1, 2, 3, 4, 5, 10, 20, 3, 2];
        arp.extend(self.mark());
        self.add_bytes("an ARP reply", Dropped("bad_inner"), arp.clone());
        let ethernet = [&[0xff; 6][..], &[2, 1, 2, 3, 4, 5, 8, 6], &arp, &self.mark()].concat();
        self.add_bytes("an Ethernet frame", Dropped("bad_inner"), ethernet);
        Ok(())
    }

    /// Packets within packets: what is inside concerns nobody on the way.
    fn nested(&mut self) {
        let at = self.at;
        let (own, fellow) = (at.spy, at.fellow);
        let inner: Vec<Both> = at.bank.iter().copied().chain([(at.underlay[1], at.mesh[1])]).collect();
        for (v4, v6) in inner {
            let (in4, in6) = (self.udp(own.0, v4, 53), self.udp(own.1, v6, 53));
            self.add("IPv4 in IPv4 to a fellow", Fellow, &Packet::within(own.0, fellow.0, IPIP, &in4));
            let in6_now = Packet::udp(own.1, v6, (4000, 53), &self.mark());
            self.add("IPv6 in IPv4 to a fellow", Fellow, &Packet::within(own.0, fellow.0, IPV6, &in6_now));
            let in6_now = Packet::udp(own.1, v6, (4000, 53), &self.mark());
            self.add("IPv6 in IPv6 to a fellow", Fellow, &Packet::within(own.1, fellow.1, IPV6, &in6_now));
            let gre = [&[0, 0, 8, 0][..], &Packet::udp(own.0, v4, (4000, 53), &self.mark()).bytes()].concat();
            self.add("GRE to a fellow", Fellow, &Packet::new(own.0, fellow.0, GRE, &gre));
            drop(in6);
            let outer = Packet::within(own.1, v6, IPV6, &Packet::udp(own.1, fellow.1, (1, 2), &self.mark()));
            self.add("IPv6 in IPv6 to a stranger", Dropped("no_place"), &outer);
            let forged = Packet::udp(v6, fellow.1, (4000, 53), &self.mark());
            self.add("a stranger's packet in ours", Fellow, &Packet::within(own.1, fellow.1, IPV6, &forged));
        }
    }

    /// Headers in front of a call that the policy denies.
    fn headers(&mut self) {
        let (own, fellow) = (self.at.spy, self.at.fellow);
        let bank = self.at.bank[1];
        for (port, fate) in [(DENIED, Dropped("policy")), (OPEN, Fellow)] {
            let call = self.call(fellow.0, port);
            self.add(format!("a call of {port}"), fate, &call);
            let call = self.call(fellow.0, port).options(&[7, 7, 4, 0, 0, 0, 0]);
            self.add(format!("record route, {port}"), fate, &call);
            for kind in [HOP_BY_HOP, DESTINATION] {
                let call = self.call(fellow.1, port).behind(kind, &[1, 4, 0, 0, 0, 0]);
                self.add(format!("header {kind}, {port}"), fate, &call);
            }
            let call = self.call(fellow.1, port).behind(ROUTING, &[0, 0, 0, 0, 0, 0]);
            self.add(format!("a routing header that is used up, {port}"), fate, &call);
            let padded = |call: Packet, n| (0..n).fold(call, |call, _| call.behind(DESTINATION, &[1, 4]));
            let call = padded(self.call(fellow.1, port), 8);
            self.add(format!("eight headers, {port}"), fate, &call);
            for n in [9, 40] {
                let call = padded(self.call(fellow.1, port), n);
                self.add(format!("{n} headers, {port}"), Dropped("policy"), &call);
            }
            let call = self.call(fellow.1, port).piece(9, 0, 999);
            self.add(format!("an atomic fragment, {port}"), fate, &call);
        }
        let IpAddr::V6(last) = bank.1 else { return };
        for kind in [0, 2, 4] {
            let via = [&[kind, 1, 0, 0, 0, 0][..], &last.octets()].concat();
            let call = self.call(fellow.1, OPEN).behind(ROUTING, &via);
            self.add(format!("a routing header of type {kind}"), Dropped("source_routed"), &call);
        }
        let IpAddr::V4(last) = bank.0 else { return };
        for kind in [131, 137] {
            let call = self.call(fellow.0, OPEN).options(&[&[kind, 7, 4][..], &last.octets()].concat());
            self.add(format!("IPv4 option {kind}"), Dropped("source_routed"), &call);
        }
        let call = self.call(fellow.0, OPEN).options(&[7, 40, 4, 0]);
        self.add("an option that runs out of the header", Dropped("bad_inner"), &call);
        // The devices are young: this might be a reply to a call that was forgotten, and the fellow may call.
        // It gets a reset for it; a call in its wake must not pass.
        let (own, fellow) = (own.0, fellow.0);
        let stray = |mark: &[u8], flags| Packet::tcp(own, fellow, (4000, DENIED), flags, mark);
        self.add("a stray acknowledgement", Fellow, &stray(&self.mark(), ACK));
        self.add("a call in its wake", Dropped("policy"), &stray(&self.mark(), SYN));
        self.add("a call and an end at once", Dropped("policy"), &stray(&self.mark(), SYN | FIN));
    }

    /// Pieces that would make up a call, or a datagram, that the policy denies.
    fn fragments(&mut self) {
        for (own, fellow) in [(self.at.spy.0, self.at.fellow.0), (self.at.spy.1, self.at.fellow.1)] {
            let call = |mark: &[u8], port| Packet::tcp(own, fellow, (4000, port), SYN, &mark.repeat(3));
            let udp = |mark: &[u8], port| Packet::udp(own, fellow, (4000, port), &[mark, mark].concat());
            self.add(
                "a first piece of 8 bytes",
                Dropped("bad_inner"),
                &call(&self.mark(), DENIED).piece(10, 0, 8),
            );
            self.add("its rest", Dropped("policy"), &call(&self.mark(), DENIED).piece(10, 8, 99));
            self.add(
                "a first piece of a denied call",
                Dropped("policy"),
                &call(&self.mark(), DENIED).piece(11, 0, 24),
            );
            self.add("its rest", Dropped("policy"), &call(&self.mark(), DENIED).piece(11, 24, 99));
            self.add("a later piece alone", Dropped("policy"), &udp(&self.mark(), OPEN).piece(12, 8, 99));
            self.add("a first piece of a good call", Fellow, &call(&self.mark(), OPEN).piece(13, 0, 32));
            for from in [8, 16, 24] {
                let over = call(&self.mark(), DENIED).piece(13, 8, 99).moved_to(from);
                self.add(format!("a piece over its header, at {from}"), Dropped("policy"), &over);
            }
            self.add("a piece behind it", Fellow, &call(&self.mark(), OPEN).piece(13, 32, 99));
        }
        let (own, fellow) = (self.at.spy.1, self.at.fellow.1);
        let twice = Packet::udp(own, fellow, (4000, OPEN), &self.mark()).piece(14, 0, 99).piece(15, 0, 99);
        self.add("two fragment headers", Dropped("bad_inner"), &twice);
        let chain = Packet::tcp(own, fellow, (4000, DENIED), SYN, &self.mark()).behind(DESTINATION, &[1, 4]);
        self.add("a first piece that ends before the call", Dropped("bad_inner"), &chain.piece(16, 0, 8));
        self.add("its rest", Dropped("policy"), &chain.piece(16, 8, 99));
    }

    fn broken(&mut self) {
        let (own, fellow) = (self.at.spy.0, self.at.fellow.0);
        let good = |mark: &[u8]| Packet::udp(own, fellow, (4000, OPEN), mark).bytes();
        for version in [0, 1, 5, 15] {
            let mut packet = good(&self.mark());
            packet[0] = packet[0] & 0xf | version << 4;
            self.add_bytes(format!("version {version}"), Dropped("bad_inner"), packet);
        }
        for length in [0, 19, 27, 200] {
            let mut packet = good(&self.mark());
            packet[3] = length;
            self.add_bytes(format!("a length of {length}"), Dropped("bad_inner"), packet);
        }
        let mut packet = good(&self.mark());
        packet[0] = 0x4f;
        packet.truncate(40);
        packet[3] = 40;
        self.add_bytes("a header longer than the packet", Dropped("bad_inner"), packet);
        let short = Packet::new(own, fellow, TCP, &self.mark());
        self.add("half a TCP header", Dropped("bad_inner"), &short);
    }
}

/// An address of the same subnet of 256.
fn in_subnet(address: IpAddr, last: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => [v4.octets()[0], v4.octets()[1], v4.octets()[2], last].into(),
        v6 => v6,
    }
}

fn mark(number: usize) -> Vec<u8> {
    format!("SPY#{number:04}").into_bytes()
}

fn drops(lab: &Lab, node: &str) -> Result<BTreeMap<String, u64>> {
    let all = lab.cli(node).list(&["drops"], "drops")?;
    let count = |entry| number(entry, "count").map(|count| count as u64).unwrap_or_default();
    Ok(all.iter().map(|entry| (text(entry, "reason").to_owned(), count(entry))).collect())
}

/// Sends each attack; what is to be dropped must be counted before the next goes out.
fn attack(lab: &Lab, injector: &Injector, attacks: &[Attack]) -> Result<()> {
    for attack in attacks {
        let (node, reason) = match attack.fate {
            Dropped(reason) => ("b", reason),
            FarDropped(reason) => ("c", reason),
            Fellow => {
                injector.send(&attack.bytes).with_context(|| attack.name.clone())?;
                continue;
            }
        };
        let before = drops(lab, node)?;
        injector.send(&attack.bytes).with_context(|| attack.name.clone())?;
        let count = |all: &BTreeMap<String, u64>| all.get(reason).copied().unwrap_or_default();
        let counted = wait::until("a drop", Duration::from_secs(2), || {
            drops(lab, node).is_ok_and(|now| count(&now) > count(&before))
        });
        if counted.is_err() {
            bail!("{} is not counted as {reason}: {before:?}, {:?}", attack.name, drops(lab, node)?);
        }
    }
    Ok(())
}

/// Captures by the name of the place.
struct Watch(Vec<(String, Capture)>);

impl Watch {
    fn start(lab: &Lab, stage: &Stage) -> Result<Self> {
        let mut places: Vec<(String, PathBuf, &str)> = Vec::new();
        for (number, workload) in stage.bank.iter().enumerate() {
            places.push((format!("bank{number}"), workload.netns(lab)?, "sinew0"));
        }
        for (name, workload) in [("fellow", &stage.fellow), ("clerk", &stage.clerk)] {
            places.push((name.to_owned(), workload.netns(lab)?, "sinew0"));
        }
        for machine in MACHINES {
            places.push((machine.to_owned(), lab.ns(machine).path(), "any"));
        }
        let start = |(name, netns, interface): (String, PathBuf, &str)| {
            let file = lab.dir().join(format!("{name}.pcapng"));
            Ok((name, Capture::start_in(&netns, interface, &file)?))
        };
        Ok(Self(places.into_iter().map(start).collect::<Result<_>>()?))
    }

    fn stop(self) -> Result<Vec<(String, Pcap)>> {
        self.0.into_iter().map(|(name, capture)| Ok((name, capture.stop()?))).collect()
    }
}

/// Honest packets by the same means, one for each place that is watched: were they not seen, nothing that
/// follows would mean anything.
fn controls(lab: &Lab, stage: &Stage, injector: &Injector) -> Result<Vec<(String, Vec<u8>)>> {
    let at = &stage.at;
    let mut sent = Vec::new();
    for (place, (v4, v6)) in [("fellow", at.fellow), ("clerk", at.clerk)] {
        injector.send(&Packet::udp(at.spy.0, v4, (4000, 9), b"GOODSHP4").bytes())?;
        injector.send(&Packet::udp(at.spy.1, v6, (4000, 9), b"GOODSHP6").bytes())?;
        sent.extend([b"GOODSHP4", b"GOODSHP6"].map(|mark| (place.to_owned(), mark.to_vec())));
    }
    for (number, workload) in stage.bank.iter().enumerate() {
        let bank = Injector::open(&workload.netns(lab)?, "sinew0", BEYOND.parse()?)?;
        let next = (number + 1) % stage.bank.len();
        bank.send(&Packet::udp(at.bank[number].0, at.bank[next].0, (4000, 9), b"GOODBANK").bytes())?;
        sent.push((format!("bank{next}"), b"GOODBANK".to_vec()));
    }
    for (number, machine) in MACHINES.iter().enumerate() {
        let host = Injector::open(&lab.ns(machine).path(), "sinew0", "fd3f::9".parse()?)?;
        let next = (number + 1) % MACHINES.len();
        host.send(&Packet::udp(at.mesh[number], at.mesh[next], (4000, 9), b"GOODMESH").bytes())?;
        sent.push((MACHINES[next].to_owned(), b"GOODMESH".to_vec()));
    }
    Ok(sent)
}

fn judge(pcaps: &[(String, Pcap)], attacks: &[Attack], controls: &[(String, Vec<u8>)]) -> Result<()> {
    let marks: Vec<Vec<u8>> = (0..attacks.len()).map(mark).collect();
    let patterns: Vec<&[u8]> = marks.iter().map(Vec::as_slice).collect();
    for (place, pcap) in pcaps {
        ensure!(pcap.dropped == 0, "the capture at {place} missed packets");
        let honest: Vec<&[u8]> =
            controls.iter().filter(|(at, _)| at == place).map(|(_, mark)| mark.as_slice()).collect();
        ensure!(!honest.is_empty(), "nothing shows that the capture at {place} sees anything");
        ensure!(pcap.scan(&honest)?.iter().all(|count| *count > 0), "no honest packet came to {place}");
        for (attack, count) in attacks.iter().zip(pcap.scan(&patterns)?) {
            let here = attack.fate == Fellow && place == "fellow";
            ensure!(here == (count > 0), "{} came out at {place} {count} times", attack.name);
        }
    }
    Ok(())
}

#[test]
fn raw_packets_of_a_workload_reach_nobody_but_fellows() {
    run_lab("raw", |lab| {
        let stage = Stage::set(lab)?;
        let injector = stage.injector(lab)?;
        let watch = Watch::start(lab, &stage)?;
        let sent = controls(lab, &stage, &injector)?;
        let mut attacks = Attacks::new(&stage.at);
        attacks.spoofed_sources()?;
        attacks.destinations()?;
        attacks.link_layer()?;
        attacks.nested();
        attacks.headers();
        attacks.fragments();
        attacks.broken();
        attack(lab, &injector, &attacks.all)?;
        let page = stage.spy.run(lab, &["curl", "-sS", "--fail", "--noproxy", "*", "http://fellow/"])?;
        ensure!(page == "<h1>fellow</h1>\n", "the fellow answers: {page}");
        let pcaps = watch.stop()?;
        judge(&pcaps, &attacks.all, &sent)?;
        let count = |fate: fn(Fate) -> bool| attacks.all.iter().filter(|attack| fate(attack.fate)).count();
        eprintln!(
            "{} attacks dropped, {} packets seen by the fellow alone; {:?}",
            count(|fate| fate != Fellow),
            count(|fate| fate == Fellow),
            drops(lab, "b")?
        );
        Ok(())
    });
}

/// What the spy's name server, and others', tell it about the other tenant.
fn ask(lab: &Lab, stage: &Stage) -> Result<()> {
    let dig = |args: &str| -> Result<String> {
        let argv: Vec<_> = ["dig", "+tries=1", "+timeout=1"].into_iter().chain(args.split(' ')).collect();
        Ok(stage.spy.exec(lab, &argv)?.text())
    };
    let good = dig("fellow.shop.sinew.internal AAAA")?;
    ensure!(good.contains(&stage.at.fellow.1.to_string()), "its own names: {good}");
    let mut questions = vec![
        "vault A",
        "vault.bank.sinew.internal A",
        "vault.bank.sinew.internal AAAA",
        "vault.bank.sinew.internal ANY",
        "vault.shop.sinew.internal A",
        "bank.sinew.internal ANY",
        "bank.sinew.internal AXFR",
        "_http._tcp.vault.bank.sinew.internal SRV",
        "+subnet=10.20.3.2/32 vault.bank.sinew.internal A",
    ];
    let reverse: Vec<_> = stage.at.bank.iter().map(|(_, v6)| format!("-x {v6}")).collect();
    questions.extend(reverse.iter().map(String::as_str));
    for question in questions {
        for transport in ["+notcp", "+tcp"] {
            let said = dig(&format!("{transport} {question}"))?;
            let told = said.contains("ANSWER SECTION") || said.contains("ADDITIONAL SECTION");
            let refused = said.contains("status: ") || said.contains("Transfer failed");
            ensure!(!told && refused, "{question}, {transport}: {said}");
        }
    }
    let servers = [&stage.at.resolvers[..], &stage.at.mesh, &stage.at.underlay].concat();
    let own = resolvers(lab, "b", "spy")?;
    for server in servers.iter().filter(|server| !own.contains(server)) {
        let said = dig(&format!("@{server} vault.bank.sinew.internal A"))?;
        ensure!(!said.contains("status: "), "{server} answers: {said}");
    }
    Ok(())
}

/// Root of the container kind: everything but the right to change what it sees.
const CONTAINED: [&str; 4] = [
    "setpriv",
    "--bounding-set=-sys_admin,-sys_ptrace,-sys_module,-sys_rawio,-dac_read_search",
    "--inh-caps=-all",
    "--",
];

/// Ways to the daemon that are not packets.
fn knock(lab: &mut Lab, stage: &Stage) -> Result<()> {
    let socket = lab.dir().join("b/sinew.sock").display().to_string();
    let attach = lab.dir().join("b/attach.sock").display().to_string();
    let daemon = lab.daemon("b")?.process().pid();
    let sinew = sinew_tests::requirements::Bins::get()?.sinew.display().to_string();
    let paths =
        [socket.clone(), attach, format!("/proc/{daemon}/root{socket}"), format!("/proc/1/root{socket}")];
    for path in &paths {
        let call: Vec<&str> = CONTAINED.into_iter().chain([&*sinew, "--socket", path, "status"]).collect();
        let inside = stage.spy.exec(lab, &call)?;
        ensure!(inside.code != Some(0) && !inside.stdout.contains("fd3f:"), "{path}: {}", inside.text());
    }
    let call: Vec<&str> =
        CONTAINED[1..].iter().copied().chain([&*sinew, "--socket", &socket, "status"]).collect();
    let mut outside = lab.ns("b").command(CONTAINED[0]);
    let outside = sinew_tests::process::run(outside.args(&call), SOON)?;
    ensure!(outside.code == Some(0), "the same from outside: {}", outside.text());
    let leave: Vec<&str> =
        CONTAINED.into_iter().chain(["nsenter", "--target", "1", "--net", "true"]).collect();
    ensure!(stage.spy.exec(lab, &leave)?.code != Some(0), "it can leave");

    let name = SocketAddr::from_abstract_name(format!("sinew-test-{}", std::process::id()))?;
    let listener = lab.ns("b").enter(|| UnixListener::bind_addr(&name))??;
    ensure!(lab.ns("b").enter(|| UnixStream::connect_addr(&name))?.is_ok(), "from the machine itself");
    let inside = sinew_tests::ns::enter(&stage.spy.netns(lab)?, || UnixStream::connect_addr(&name))?;
    ensure!(inside.is_err(), "abstract sockets of the machine are reached");
    drop(listener);
    Ok(())
}

#[test]
fn a_workload_is_told_nothing_of_others_by_name_servers_and_does_not_reach_the_daemon() {
    run_lab("ask", |lab| {
        let stage = Stage::set(lab)?;
        ask(lab, &stage)?;
        knock(lab, &stage)
    });
}
