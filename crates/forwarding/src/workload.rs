//! What may pass between a workload and the other members of its network.
//!
//! A network's policy says who may *open* a flow to whom; replies belong to the flow. So a workload's
//! device has two tables: the flows it opened, and those that others opened to it. A packet passes if
//! its sender opened the flow before, if it is a reply, or if the policy lets its sender open one now.
//! Both ends of the network judge by this, each with tables of its own: the receiver trusts nobody.
//!
//! ```text
//!              opened by the workload   opened by others
//!   out        again, or judge anew     reply
//!   in         reply                    again, or judge anew
//! ```
//! What stands in a table was judged by rules with a number. When documents change, so does the number,
//! and the next packet of each flow has its *opening* judged again: a flow that may not be opened any
//! more ends there, in both directions.
//!
//! Fragments, extension headers and ICMP errors are treated as in [`Inbound`](crate::Inbound): what
//! cannot be walked to a transport header is closed, whatever the policy.

use std::time::Duration;

use sinew_types::Instant;
use sinew_wire::icmp::{
    IcmpHeader, V4_ECHO_REPLY, V4_ECHO_REQUEST, V4_REDIRECT, V6_ECHO_REPLY, V6_ECHO_REQUEST,
};
use sinew_wire::ip::{Fragment, PacketInfo, Version};

use crate::conntrack::{Conntrack, FlowId, Sign};
use crate::fragments::Fragments;
use crate::inbound::PICK_UP;

/// Flows kept in each of a device's two tables: 2 MB when full. A caller that the policy lets in can
/// push others out of the second, not out of the first.
const CAPACITY: usize = 16_384;
/// How long after its start a device picks up replies in mid-stream; afterwards the flow is known.
const PICK_UP_FOR: Duration = PICK_UP;

/// Which way a packet goes at a workload's device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the workload.
    Out,
    /// To it.
    In,
}

/// A flow that the policy is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Whether the workload opens it; else the other side does.
    pub by_workload: bool,
    /// Transport protocol.
    pub protocol: u8,
    /// The port that is called, where there are ports.
    pub port: Option<u16>,
}

/// The flows of one workload's device.
#[derive(Debug)]
pub struct WorkloadFlows {
    ours: Conntrack,
    theirs: Conntrack,
    fragments: Fragments,
    /// Until when a TCP segment in mid-stream counts as a reply to a flow that might have been opened.
    pick_up_until: Instant,
}

/// How a packet is named in the tables.
#[derive(Clone, Copy)]
struct Named {
    /// As a packet of whoever opened the flow, and as a reply to it: with echo they differ.
    opened: FlowId,
    reply: FlowId,
    sign: Sign,
    /// The port that the sender calls, and the one it may be called at.
    called: Option<u16>,
    own: Option<u16>,
    /// Whether it can be the first packet of a flow, and whether a reply.
    opens: bool,
    replies: bool,
    /// Whether it is a TCP segment that neither opens nor resets anything.
    mid_stream: bool,
}

impl WorkloadFlows {
    /// Without flows; `seed` is random and private to the node.
    ///
    /// After a restart nobody remembers the flows of the run before it, and a sender that waits for an
    /// acknowledgement is not called again by its peer. So for two minutes a TCP segment in mid-stream
    /// passes as a reply, if the policy lets the flow be opened that it would be a reply to.
    pub fn new(seed: u64, now: Instant) -> Self {
        Self {
            ours: Conntrack::new(seed, CAPACITY),
            theirs: Conntrack::new(seed, CAPACITY),
            fragments: Fragments::default(),
            pick_up_until: now + PICK_UP_FOR,
        }
    }

    /// How many flows are remembered: the workload's, and others' to it.
    pub fn len(&self) -> (usize, usize) {
        (self.ours.len(), self.theirs.len())
    }

    /// Whether no flow is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == (0, 0)
    }

    /// Whether the packet may pass, by flows that are known or else by `judge`, which says whether a
    /// flow may be opened under the present rules; `rules` is their number. Remembers what was opened.
    pub fn pass(
        &mut self,
        way: Way,
        packet: &[u8],
        info: &PacketInfo,
        rules: u32,
        now: Instant,
        judge: impl Fn(Opening) -> bool,
    ) -> bool {
        if info.fragment == Fragment::Later {
            return self.fragments.follows(info, now);
        }
        let Some(l4) = info.l4 else { return false };
        let open = if is_icmp_error(packet, l4, info) {
            self.is_about_a_flow(way, packet, info, now)
        } else {
            Named::of(way, packet, info).is_some_and(|named| {
                self.known(way, &named, rules, now, &judge) || self.opened(way, &named, rules, now, &judge)
            })
        };
        if open && info.fragment == Fragment::First {
            self.fragments.remember(info, now);
        }
        open
    }

    /// The tables of the flows that the sender opened, and of those that the receiver did.
    const fn tables(&mut self, way: Way) -> (&mut Conntrack, &mut Conntrack) {
        match way {
            Way::Out => (&mut self.ours, &mut self.theirs),
            Way::In => (&mut self.theirs, &mut self.ours),
        }
    }

    /// Whether the packet belongs to a flow that is known.
    fn known(
        &mut self,
        way: Way,
        named: &Named,
        rules: u32,
        now: Instant,
        judge: &impl Fn(Opening) -> bool,
    ) -> bool {
        let (senders, receivers) = self.tables(way);
        if named.opens && senders.again(named.opened, named.sign, rules, now) {
            return true;
        }
        let still = || judge(named.opening(way, false));
        named.replies && receivers.inbound(named.reply, named.sign, rules, now, still)
    }

    /// Whether the packet may open a flow, or be taken for a reply to one that was forgotten.
    fn opened(
        &mut self,
        way: Way,
        named: &Named,
        rules: u32,
        now: Instant,
        judge: &impl Fn(Opening) -> bool,
    ) -> bool {
        let forgotten = now < self.pick_up_until && named.mid_stream;
        let (senders, receivers) = self.tables(way);
        if named.opens && judge(named.opening(way, true)) {
            senders.outbound(named.opened, named.sign, rules, now);
            return true;
        }
        if forgotten && judge(named.opening(way, false)) {
            receivers.outbound(named.reply, Sign::Data, rules, now);
            // Answered from the start: were it only asked, a call from the wrong side would pass as the
            // other half of a simultaneous open.
            return receivers.inbound(named.reply, named.sign, rules, now, || true);
        }
        false
    }

    /// Whether an ICMP error quotes a packet of a flow that is known, which the error's receiver sent to
    /// the error's sender.
    fn is_about_a_flow(&mut self, way: Way, packet: &[u8], info: &PacketInfo, now: Instant) -> bool {
        let Some(quote) = packet.get(info.payload..) else { return false };
        let Ok(quoted) = PacketInfo::parse_quote(quote) else { return false };
        // A redirect is an error by its number, but only a router on the same link may send one, and a
        // network has no routers.
        let redirect = info.version == Version::V4
            && info.l4.and_then(|l4| packet.get(l4)).is_some_and(|&kind| kind == V4_REDIRECT);
        if redirect || quoted.src != info.dst || quoted.dst != info.src {
            return false;
        }
        let back = match way {
            Way::Out => Way::In,
            Way::In => Way::Out,
        };
        let Some(named) = Named::of(back, quote, &quoted) else { return false };
        let (senders, receivers) = self.tables(back);
        named.opens && senders.contains(&named.opened, now)
            || named.replies && receivers.contains(&named.reply, now)
    }
}

impl Named {
    /// `None` for ICMP that is nobody's business beyond one link: neighbour discovery, redirects.
    fn of(way: Way, packet: &[u8], info: &PacketInfo) -> Option<Self> {
        let id = |sender_port, receiver_port| {
            let (local, remote, local_port, remote_port) = match way {
                Way::Out => (info.src, info.dst, sender_port, receiver_port),
                Way::In => (info.dst, info.src, receiver_port, sender_port),
            };
            FlowId { local, remote, protocol: info.protocol, local_port, remote_port }
        };
        if info.is_icmp() {
            let header = IcmpHeader::parse(packet.get(info.l4?..)?).ok()?;
            let (opens, replies) = match (info.version, header.kind) {
                (Version::V4, V4_ECHO_REQUEST) | (Version::V6, V6_ECHO_REQUEST) => (true, false),
                (Version::V4, V4_ECHO_REPLY) | (Version::V6, V6_ECHO_REPLY) => (false, true),
                _ => return None,
            };
            // The identifier is the asker's, on both ways.
            let (opened, reply) = (id(header.echo_id(), 0), id(0, header.echo_id()));
            let (sign, mid_stream) = (Sign::Data, false);
            return Some(Self { opened, reply, sign, called: None, own: None, opens, replies, mid_stream });
        }
        let (sender_port, receiver_port) = info.ports.unwrap_or_default();
        let opened = id(sender_port, receiver_port);
        let (called, own) = (info.ports.map(|_| receiver_port), info.ports.map(|_| sender_port));
        let (sign, mid_stream) = (Sign::of(info), Sign::is_mid_stream(info));
        Some(Self { opened, reply: opened, sign, called, own, opens: true, replies: true, mid_stream })
    }

    /// What the policy is asked: may the sender of this packet open its flow, or the receiver?
    fn opening(&self, way: Way, by_sender: bool) -> Opening {
        Opening {
            by_workload: by_sender == (way == Way::Out),
            protocol: self.opened.protocol,
            port: if by_sender { self.called } else { self.own },
        }
    }
}

fn is_icmp_error(packet: &[u8], l4: usize, info: &PacketInfo) -> bool {
    let header = || packet.get(l4..).and_then(|l4| IcmpHeader::parse(l4).ok());
    info.is_icmp() && header().is_some_and(|header| header.is_error(info.version))
}

#[cfg(test)]
mod tests;
