//! The fast path: what happens to packets while nothing is new.
//!
//! A worker owns everything it changes (lanes, connection tracking, reassembly, counters) and
//! only reads the [`View`]: the FIB, the key table and the state of links as the control side
//! last published them. Whatever needs more than that (no key, no route, a handshake, a control
//! record) becomes a [`Report`]. The daemon and the simulator run these very functions.

mod deliver;
mod frag;
mod inbound;
mod lanes;
mod meters;
mod network;
mod onward;
mod outbound;
mod report;
mod tally;
mod transit;
mod tun_queue;
mod tx;
mod whole;

use core::cell::Cell;
use core::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use sinew_forwarding::offload::{Coalescer, Offloads};
use sinew_forwarding::{Answers, Cause, Fib, FlowKey, Inbound, InboundPolicy};
use sinew_overlay::Slot;
use sinew_session::{KeyTable, OpenEpoch, SessionView, Traffic};
use sinew_types::{Class, DropReason, Drops, Instant, InterfaceId, MeshAddr, PathAddr, Rng};
use sinew_wire::record::{DataHeader, Kind, Prefix};

use crate::networks::Networks;
use crate::spacing::Spacing;

pub(crate) use frag::Reassembly;
pub(crate) use lanes::Lanes;
pub(crate) use report::{Report, Reports};
pub(crate) use tun_queue::TunQueue;
pub use tx::Transmit;
pub(crate) use tx::TxQueue;

/// What the control side publishes of one link.
#[derive(Debug)]
pub(crate) struct LinkInfo {
    /// Largest datagram the path takes, in bytes.
    payload: AtomicU16,
    /// Whether data has been sent since the control side last looked.
    active: AtomicBool,
    /// A direct path that is taken although routing names another way (protocol A10.5).
    shortcut: AtomicBool,
    /// What went over this very path; the session's own counters include detours.
    pub(crate) traffic: Traffic,
}

impl LinkInfo {
    pub(crate) fn new(payload: u16) -> Self {
        Self {
            payload: AtomicU16::new(payload),
            active: AtomicBool::new(false),
            shortcut: AtomicBool::new(false),
            traffic: Traffic::default(),
        }
    }

    pub(crate) fn payload(&self) -> usize {
        usize::from(self.payload.load(Ordering::Relaxed))
    }

    pub(crate) fn set_payload(&self, payload: u16) {
        self.payload.store(payload, Ordering::Relaxed);
    }

    pub(crate) fn is_shortcut(&self) -> bool {
        self.shortcut.load(Ordering::Relaxed)
    }

    pub(crate) fn set_shortcut(&self, taken: bool) {
        self.shortcut.store(taken, Ordering::Relaxed);
    }

    /// Marks the link as carrying data; `true` if it was idle until now.
    fn wake(&self) -> bool {
        !self.active.load(Ordering::Relaxed) && !self.active.swap(true, Ordering::Relaxed)
    }

    /// The control side stops watching an idle link.
    pub(crate) fn rest(&self) {
        self.active.store(false, Ordering::Relaxed);
    }
}

/// Links by the neighbour's address.
pub(crate) type Links = FxHashMap<MeshAddr, Arc<LinkInfo>>;

/// The published state a worker reads, for one batch.
pub(crate) struct View<'a> {
    pub(crate) local: MeshAddr,
    pub(crate) class: Class,
    pub(crate) fib: &'a Fib,
    pub(crate) keys: &'a KeyTable,
    pub(crate) links: &'a Links,
    pub(crate) networks: &'a Networks,
    /// A stub's upstream for all it does not know.
    pub(crate) default_hop: Option<MeshAddr>,
    pub(crate) device_mtu: u16,
    pub(crate) now: Instant,
    pub(crate) recent: Recent<'a>,
}

/// What was looked up last: the records of a batch mostly come under one epoch, and those that go on, to one
/// neighbour.
#[derive(Default)]
pub(crate) struct Recent<'a> {
    incoming: Cell<Option<Incoming<'a>>>,
    hop: Cell<Option<Hop<'a>>>,
}

/// An epoch of ours, and its session.
#[derive(Clone, Copy)]
struct Incoming<'a> {
    epoch: &'a Arc<OpenEpoch>,
    session: Option<&'a Arc<SessionView>>,
}

/// A link that routed records go by.
#[derive(Clone, Copy)]
struct Hop<'a> {
    link: &'a Arc<SessionView>,
    to: PathAddr,
    /// Number of the adjacency.
    adj: u8,
    /// Largest datagram the link takes, bytes.
    payload: usize,
}

/// What a packet from a local device is part of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inner {
    /// The device it came from: whoever sent it gets the answers.
    pub(crate) interface: InterfaceId,
    /// Our number for its private network, which the peer knows it by; 0 for the mesh itself.
    pub(crate) network: Slot,
    /// The device's MTU.
    mtu: u16,
}

impl Inner {
    const fn prefix(self, csum_partial: bool) -> Prefix {
        let kind = if self.network == 0 { Kind::Mesh } else { Kind::Network };
        Prefix { kind, csum_partial, network: self.network }
    }
}

/// How a record for some session leaves this node.
#[derive(Clone, Copy)]
struct Egress<'a> {
    /// The session with the destination.
    session: &'a Arc<SessionView>,
    /// The session of the link it leaves by; the same one if the destination is a direct peer.
    link: &'a Arc<SessionView>,
    /// The link's far end.
    to: PathAddr,
    /// Largest datagram the link takes.
    payload: usize,
    routed: bool,
    /// The record is not of our session with `link`: another node's, or a bare body.
    transit: bool,
}

/// The least MTU of IPv6, and so the least we offer (RFC 8200 §5).
pub(crate) const MIN_INNER_MTU: u16 = 1280;

/// How long a report about a destination concerns its next packet, and how many are remembered.
const TROUBLE_LIFE: Duration = Duration::from_secs(1);
const MAX_TROUBLE: usize = 256;
/// Source of answers about IPv4 packets, which this node has no address for (RFC 7600).
const DUMMY_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);

/// One worker's own state.
pub(crate) struct Worker {
    pub(crate) drops: Drops,
    pub(crate) tx: TxQueue,
    pub(crate) tun: TunQueue,
    pub(crate) reports: Reports,
    pub(crate) meters: meters::Meters,
    tally: tally::Tally,
    lanes: Lanes,
    reassembly: Reassembly,
    local: MeshAddr,
    inbound: Inbound,
    /// Of the workloads here.
    devices: network::OwnDevices,
    /// What the node's own TUN takes.
    offloads: Offloads,
    coalescer: Coalescer,
    flow_key: FlowKey,
    answers: Answers,
    errors: Spacing,
    /// What relays lately said about the way to a destination: told to the next local sender.
    trouble: FxHashMap<MeshAddr, (Cause, Instant)>,
    frag_id: u16,
    scratch: Vec<u8>,
}

impl Worker {
    pub(crate) fn new(
        local: MeshAddr,
        policy: InboundPolicy,
        offloads: Offloads,
        rng: &mut Rng,
        now: Instant,
    ) -> Self {
        Self {
            drops: Drops::default(),
            tx: TxQueue::default(),
            tun: TunQueue::default(),
            reports: Reports::default(),
            meters: meters::Meters::default(),
            tally: tally::Tally::default(),
            lanes: Lanes::default(),
            reassembly: Reassembly::default(),
            local,
            devices: network::OwnDevices::default(),
            inbound: Inbound::new(policy, rng.u64(), now),
            offloads,
            coalescer: Coalescer::new(),
            flow_key: FlowKey::new(rng.array()),
            answers: Answers::new(local.to_ipv6(), DUMMY_V4, now),
            errors: Spacing::new(transit::ERROR_INTERVAL),
            trouble: FxHashMap::default(),
            frag_id: 0,
            scratch: Vec::with_capacity(2048),
        }
    }

    pub(crate) fn set_policy(&mut self, policy: InboundPolicy) {
        self.inbound.set_policy(policy);
    }

    pub(crate) fn set_services(&mut self, services: Vec<sinew_forwarding::Rule>) {
        self.inbound.set_services(services);
    }

    /// Drops what is kept for a closed session.
    pub(crate) fn forget(&mut self, session: &MeshAddr) {
        self.lanes.forget(session);
        self.reassembly.forget(session);
    }

    /// The session in which this worker sent the record that an error report names, if it did
    /// (protocol A4: reports about anything else are not believed).
    pub(crate) fn sent_record(&self, record: &DataHeader, now: Instant) -> Option<MeshAddr> {
        self.lanes.sender_of(record, now)
    }

    /// A relay reports that records to `dst` go no further. The report quotes a sealed record, so the
    /// packet it was about cannot be answered; the next one to the same place is.
    pub(crate) fn heard_of_trouble(&mut self, dst: MeshAddr, cause: Cause, now: Instant) {
        if self.trouble.len() >= MAX_TROUBLE {
            self.trouble.retain(|_, (_, until)| *until > now);
        }
        if self.trouble.len() < MAX_TROUBLE {
            self.trouble.insert(dst, (cause, now + TROUBLE_LIFE));
        }
    }

    /// What the sender of a packet to `dst` is to be told, once.
    fn trouble_with(&mut self, dst: &MeshAddr, now: Instant) -> Option<Cause> {
        if self.trouble.is_empty() {
            return None;
        }
        self.trouble.remove(dst).filter(|&(_, until)| now < until).map(|(cause, _)| cause)
    }

    /// Counts what was dropped.
    fn note<T>(&mut self, result: Result<T, DropReason>) -> Option<T> {
        result.inspect_err(|&reason| self.drops.count(reason)).ok()
    }
}

impl<'a> View<'a> {
    /// How to reach the session with `dst`: directly if it is a direct peer and the FIB says so
    /// or says nothing, or if the pair has a path of its own; else through the next hop.
    fn egress(&self, dst: &MeshAddr) -> Result<Egress<'a>, DropReason> {
        let route = self.fib.get(dst);
        let session = self.keys.session(dst).filter(|session| session.epoch.is_some());
        if let Some(session) = session
            && let Some(path) = session.path
            && (route.is_none_or(|entry| entry.next_hop == *dst) || self.takes_shortcut(dst))
        {
            let payload = self.payload(dst);
            return Ok(Egress { session, link: session, to: path, payload, routed: false, transit: false });
        }
        let Hop { link, to, payload, .. } = self.hop_toward(dst)?;
        let session = session.ok_or(DropReason::NoSession)?;
        Ok(Egress { session, link, to, payload, routed: true, transit: false })
    }

    /// The link toward a destination that is not reached straight.
    fn hop_toward(&self, dst: &MeshAddr) -> Result<Hop<'a>, DropReason> {
        let hop = self.fib.get(dst).map(|entry| entry.next_hop).or(self.default_hop);
        self.hop(&hop.ok_or(DropReason::NoRoute)?).ok_or(DropReason::NoRoute)
    }

    /// The link to this neighbour, if it has an adjacency: routed records travel over no other (protocol A3).
    fn hop(&self, neighbour: &MeshAddr) -> Option<Hop<'a>> {
        if let Some(hop) = self.recent.hop.get()
            && hop.link.addr == *neighbour
        {
            return Some(hop);
        }
        let link = self.keys.session(neighbour)?;
        let hop = Hop { link, to: link.path?, adj: link.adj?, payload: self.payload(neighbour) };
        self.recent.hop.set(Some(hop));
        Some(hop)
    }

    /// The epoch that records with this receiver index open under, and its session.
    fn incoming(&self, receiver: u32) -> Option<Incoming<'a>> {
        if let Some(incoming) = self.recent.incoming.get()
            && incoming.epoch.index() == receiver
        {
            return Some(incoming);
        }
        let epoch = self.keys.get(receiver)?;
        let incoming = Incoming { epoch, session: self.keys.session(epoch.addr()) };
        self.recent.incoming.set(Some(incoming));
        Some(incoming)
    }

    fn takes_shortcut(&self, dst: &MeshAddr) -> bool {
        self.links.get(dst).is_some_and(|link| link.is_shortcut())
    }

    fn payload(&self, neighbour: &MeshAddr) -> usize {
        self.links.get(neighbour).map_or(sinew_path::BASE_PAYLOAD as usize, |link| link.payload())
    }
}
