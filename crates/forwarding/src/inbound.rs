//! What may reach the local system: `[tun] inbound`.
//!
//! By default a node's mesh address is closed but for replies to its own flows and for echo requests
//! (finding 27: otherwise every node is open to the whole mesh). A list opens single services, to
//! all or to one node, and then says what besides replies may come in, echo included only if listed.
//! What a rule admits is not tracked, so nobody can fill the table by calling an open port.
//!
//! IPv6 extension headers are walked; what cannot be walked to a transport header is closed. Later
//! fragments pass for a second behind an accepted first one (as in protocol A7). ICMP errors pass if
//! they quote a packet of a flow that is open, and come from where that packet went.

use std::net::IpAddr;
use std::time::Duration;

use sinew_types::{DropReason, Instant, MeshAddr, NodeId};
use sinew_wire::icmp::{IcmpHeader, V4_ECHO_REPLY, V4_ECHO_REQUEST, V6_ECHO_REPLY, V6_ECHO_REQUEST};
use sinew_wire::ip::{Fragment, PROTO_TCP, PROTO_UDP, PacketInfo, Version};

use crate::conntrack::{CAPACITY, Conntrack, FlowId, Sign};
use crate::fragments::Fragments;

/// Flows of the mesh are judged by no rules that could change.
const UNJUDGED: u32 = 0;
/// How long after its start the filter picks up TCP flows in mid-stream.
pub(crate) const PICK_UP: Duration = Duration::from_secs(120);

/// An inclusive range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

/// What a rule opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// These TCP ports.
    Tcp(Ports),
    /// These UDP ports.
    Udp(Ports),
    /// Echo requests.
    Icmp,
}

/// One line of the list: a service, for everybody or for one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it opens.
    pub service: Service,
    /// To whom; to everybody if `None`.
    pub from: Option<NodeId>,
    addr: Option<MeshAddr>,
}

impl Rule {
    /// A rule that opens `service` to `from`, or to everybody.
    pub fn new(service: Service, from: Option<NodeId>) -> Self {
        Self { service, from, addr: from.map(|node| node.address()) }
    }

    fn admits(&self, protocol: u8, local_port: u16, remote: IpAddr) -> bool {
        let ports = match (self.service, protocol) {
            (Service::Tcp(ports), PROTO_TCP) | (Service::Udp(ports), PROTO_UDP) => ports,
            _ => return false,
        };
        (ports.first..=ports.last).contains(&local_port) && self.serves(remote)
    }

    fn serves(&self, remote: IpAddr) -> bool {
        self.addr.is_none_or(|addr| remote == IpAddr::V6(addr.to_ipv6()))
    }
}

/// `[tun] inbound`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum InboundPolicy {
    /// Replies and echo requests.
    #[default]
    Established,
    /// Everything.
    All,
    /// Replies and what these rules open.
    Rules(Vec<Rule>),
}

impl InboundPolicy {
    fn admits(&self, protocol: u8, local_port: u16, remote: IpAddr) -> bool {
        let Self::Rules(rules) = self else { return false };
        rules.iter().any(|rule| rule.admits(protocol, local_port, remote))
    }

    fn admits_echo(&self, remote: IpAddr) -> bool {
        match self {
            Self::Established | Self::All => true,
            Self::Rules(rules) => {
                rules.iter().any(|rule| rule.service == Service::Icmp && rule.serves(remote))
            }
        }
    }
}

/// The filter in front of the TUN, with its memory of flows. One for each worker.
#[derive(Debug)]
pub struct Inbound {
    policy: InboundPolicy,
    /// What this node opens besides, as long as it has a service to offer there. Few.
    services: Vec<Rule>,
    flows: Conntrack,
    fragments: Fragments,
    /// Until when TCP segments in mid-stream make their flow known.
    pick_up_until: Instant,
}

impl Inbound {
    /// A filter; `seed` is random and private to the node.
    ///
    /// A filter that starts has forgotten the flows of the run before it, and whoever downloads
    /// sends nothing unless something arrives. So for two minutes a TCP segment that opens nothing
    /// passes and makes its flow known: the local system answers one that is not of a connection
    /// with a reset, and a peer can only speak for itself.
    pub fn new(policy: InboundPolicy, seed: u64, now: Instant) -> Self {
        Self {
            pick_up_until: now + PICK_UP,
            policy,
            services: Vec::new(),
            flows: Conntrack::new(seed, CAPACITY),
            fragments: Fragments::default(),
        }
    }

    /// Changes the policy; flows that are open stay so.
    pub fn set_policy(&mut self, policy: InboundPolicy) {
        self.policy = policy;
    }

    /// Changes what is open besides the policy. What came in by a rule that is gone passes no more, in
    /// the middle of a flow too: none of it was tracked.
    pub fn set_services(&mut self, services: Vec<Rule>) {
        self.services = services;
    }

    fn admits(&self, protocol: u8, local_port: u16, remote: IpAddr) -> bool {
        self.policy.admits(protocol, local_port, remote)
            || self.services.iter().any(|rule| rule.admits(protocol, local_port, remote))
    }

    /// How many flows are remembered.
    pub fn flows(&self) -> usize {
        self.flows.len()
    }

    /// Notes a packet that the local system sends, so that its replies may come in.
    pub fn outbound(&mut self, packet: &[u8], info: &PacketInfo, now: Instant) {
        if self.policy == InboundPolicy::All {
            return;
        }
        let Some(id) = outbound_id(packet, info) else { return };
        // Replies of an open service need no flow: the rule admits the other direction as it is.
        if !self.admits(id.protocol, id.local_port, id.remote) {
            self.flows.outbound(id, Sign::of(info), UNJUDGED, now);
        }
    }

    /// Judges a packet for the local system, whose source and destination were checked.
    ///
    /// # Errors
    /// [`DropReason::InboundClosed`].
    pub fn inbound(&mut self, packet: &[u8], info: &PacketInfo, now: Instant) -> Result<(), DropReason> {
        if self.policy == InboundPolicy::All || self.open(packet, info, now) {
            Ok(())
        } else {
            Err(DropReason::InboundClosed)
        }
    }

    fn open(&mut self, packet: &[u8], info: &PacketInfo, now: Instant) -> bool {
        if info.fragment == Fragment::Later {
            return self.fragments.follows(info, now);
        }
        let Some(l4) = info.l4 else { return false };
        let open = if info.is_icmp() {
            self.icmp_open(packet, l4, info, now)
        } else {
            let (remote_port, local_port) = info.ports.unwrap_or_default();
            let by_rule = self.admits(info.protocol, local_port, info.src);
            if !by_rule && now < self.pick_up_until && Sign::is_mid_stream(info) {
                self.flows.outbound(inbound_id(info, local_port, remote_port), Sign::Data, UNJUDGED, now);
            }
            by_rule
                || self.flows.inbound(
                    inbound_id(info, local_port, remote_port),
                    Sign::of(info),
                    UNJUDGED,
                    now,
                    || true,
                )
        };
        if open && info.fragment == Fragment::First {
            self.fragments.remember(info, now);
        }
        open
    }

    fn icmp_open(&mut self, packet: &[u8], l4: usize, info: &PacketInfo, now: Instant) -> bool {
        let Some(Ok(header)) = packet.get(l4..).map(IcmpHeader::parse) else { return false };
        if header.is_error(info.version) {
            return self.quotes_open_flow(packet, info, now);
        }
        match (info.version, header.kind) {
            (Version::V4, V4_ECHO_REQUEST) | (Version::V6, V6_ECHO_REQUEST) => {
                self.policy.admits_echo(info.src)
            }
            (Version::V4, V4_ECHO_REPLY) | (Version::V6, V6_ECHO_REPLY) => {
                self.flows.inbound(inbound_id(info, header.echo_id(), 0), Sign::Data, UNJUDGED, now, || true)
            }
            // Neighbour discovery, redirects, router advertisements: nobody's business over a mesh.
            _ => false,
        }
    }

    /// Whether an ICMP error quotes a packet of ours, of an open flow, sent to where the error
    /// comes from.
    fn quotes_open_flow(&self, packet: &[u8], info: &PacketInfo, now: Instant) -> bool {
        let Some(quote) = packet.get(info.payload..) else { return false };
        let Ok(quoted) = PacketInfo::parse_quote(quote) else { return false };
        if quoted.src != info.dst || quoted.dst != info.src {
            return false;
        }
        outbound_id(quote, &quoted).is_some_and(|id| {
            self.flows.contains(&id, now) || self.admits(id.protocol, id.local_port, id.remote)
        })
    }
}

/// The flow of one of our packets, if it has one: echo replies and errors do not.
fn outbound_id(packet: &[u8], info: &PacketInfo) -> Option<FlowId> {
    let l4 = info.l4?;
    let (local_port, remote_port) = if info.is_icmp() {
        let header = IcmpHeader::parse(packet.get(l4..)?).ok()?;
        let request = matches!(
            (info.version, header.kind),
            (Version::V4, V4_ECHO_REQUEST) | (Version::V6, V6_ECHO_REQUEST)
        );
        (request.then(|| header.echo_id())?, 0)
    } else {
        info.ports.unwrap_or_default()
    };
    Some(FlowId { local: info.src, remote: info.dst, protocol: info.protocol, local_port, remote_port })
}

const fn inbound_id(info: &PacketInfo, local_port: u16, remote_port: u16) -> FlowId {
    FlowId { local: info.dst, remote: info.src, protocol: info.protocol, local_port, remote_port }
}

#[cfg(test)]
mod tests;
