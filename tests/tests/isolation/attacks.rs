//! What the spy sends: packets that lie about where they come from, where they go, or what they are.

use std::net::IpAddr;

use anyhow::{Result, bail};
use sinew_tests::raw::{ACK, DESTINATION, FIN, GRE, HOP_BY_HOP, IPIP, IPV6, Packet, ROUTING, SYN, TCP};

use self::Fate::{Dropped, FarDropped, Fellow};
use crate::{Addresses, Both};

/// A port of the fellow's that the policy denies, and one that it allows.
const DENIED: u16 = 22;
const OPEN: u16 = 80;

/// What has to become of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Counted by the spy's machine under this word, and seen nowhere.
    Dropped(&'static str),
    /// The same by the fellow's machine, whose subnet it was for.
    FarDropped(&'static str),
    /// Seen by this fellow alone, as it was sent.
    Fellow,
}
pub(crate) struct Attack {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) fate: Fate,
}

/// Attacks in the order in which they are tried.
pub(crate) struct Attacks<'a> {
    at: &'a Addresses,
    pub(crate) all: Vec<Attack>,
}

impl<'a> Attacks<'a> {
    pub(crate) fn new(at: &'a Addresses) -> Self {
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

    pub(crate) fn spoofed_sources(&mut self) -> Result<()> {
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

    pub(crate) fn destinations(&mut self) -> Result<()> {
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
    pub(crate) fn link_layer(&mut self) -> Result<()> {
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
        let quote = Packet::udp(at.fellow.0, at.spy.0, (4001, 4000), &self.mark());
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
    pub(crate) fn nested(&mut self) {
        let at = self.at;
        let (own, fellow) = (at.spy, at.fellow);
        let inner: Vec<Both> = at.bank.iter().copied().chain([(at.underlay[1], at.mesh[1])]).collect();
        for (v4, v6) in inner {
            let packet = Packet::within(own.0, fellow.0, IPIP, &self.udp(own.0, v4, 53));
            self.add("IPv4 in IPv4 to a fellow", Fellow, &packet);
            let packet = Packet::within(own.0, fellow.0, IPV6, &self.udp(own.1, v6, 53));
            self.add("IPv6 in IPv4 to a fellow", Fellow, &packet);
            let packet = Packet::within(own.1, fellow.1, IPV6, &self.udp(own.1, v6, 53));
            self.add("IPv6 in IPv6 to a fellow", Fellow, &packet);
            let gre = [&[0, 0, 8, 0][..], &self.udp(own.0, v4, 53).bytes()].concat();
            self.add("GRE to a fellow", Fellow, &Packet::new(own.0, fellow.0, GRE, &gre));
            let outer = Packet::within(own.1, v6, IPV6, &Packet::udp(own.1, fellow.1, (1, 2), &self.mark()));
            self.add("IPv6 in IPv6 to a stranger", Dropped("no_place"), &outer);
            let forged = Packet::udp(v6, fellow.1, (4000, 53), &self.mark());
            self.add("a stranger's packet in ours", Fellow, &Packet::within(own.1, fellow.1, IPV6, &forged));
        }
    }

    /// Headers in front of a call that the policy denies.
    pub(crate) fn headers(&mut self) {
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
    pub(crate) fn fragments(&mut self) {
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

    pub(crate) fn broken(&mut self) {
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

pub(crate) fn mark(number: usize) -> Vec<u8> {
    format!("SPY#{number:04}").into_bytes()
}
