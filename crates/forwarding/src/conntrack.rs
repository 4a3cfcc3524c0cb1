//! The flows that one side opened, so that the other side's replies may pass.
//!
//! A bounded slab found through a seeded hash. Entries are made by that side's packets only; here it is
//! called "us", and so it is in all tables but that of a workload's callers. Each entry has a deadline by protocol and state. A hand goes round the slab, a few entries for
//! every new flow, and takes out what has expired; if the table is full all the same, the one of the
//! next sixteen entries that would expire first makes room. No step's cost depends on the table's size.

use std::net::IpAddr;
use std::time::Duration;

use rustc_hash::{FxHashMapSeed, FxSeededState};
use sinew_types::Instant;
use sinew_wire::ip::PacketInfo;
use sinew_wire::tcp;

/// Flows kept at most.
pub(crate) const CAPACITY: usize = 65_536;
/// Entries the hand looks at for each new flow: more than one, so that it gains on the table.
const SWEEP: usize = 4;
/// Entries compared when one must make room.
const CANDIDATES: usize = 16;

/// What names a flow, from this node's point of view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FlowId {
    pub(crate) local: IpAddr,
    pub(crate) remote: IpAddr,
    pub(crate) protocol: u8,
    /// Ports; for ICMP echo the identifier and zero, for others zero.
    pub(crate) local_port: u16,
    pub(crate) remote_port: u16,
}

/// What a packet says about its flow's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// TCP SYN without ACK.
    Open,
    /// Anything in the middle.
    Data,
    /// TCP FIN.
    Finish,
    /// TCP RST.
    Reset,
}

impl Sign {
    /// What `info` says.
    pub(crate) fn of(info: &PacketInfo) -> Self {
        match info.tcp_flags.unwrap_or(tcp::ACK) {
            flags if flags & tcp::RST != 0 => Self::Reset,
            // Also with FIN, or that would be a call in disguise: some kernels take it for one.
            flags if flags & (tcp::SYN | tcp::ACK) == tcp::SYN => Self::Open,
            flags if flags & tcp::FIN != 0 => Self::Finish,
            _ => Self::Data,
        }
    }

    /// Whether it is a TCP segment that neither opens nor resets anything.
    pub(crate) fn is_mid_stream(info: &PacketInfo) -> bool {
        info.tcp_flags.is_some_and(|flags| flags & (tcp::ACK | tcp::SYN | tcp::RST) == tcp::ACK)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// We spoke, the other side has not answered.
    Asked,
    /// Both have spoken.
    Answered,
    /// One side is done.
    HalfClosed { by_us: bool },
    /// Both are, or one has reset it.
    Closed,
}

#[derive(Clone, Copy, Debug)]
struct Flow {
    id: FlowId,
    state: State,
    expires: Instant,
    /// Which rules let it be opened: their number changes when they do.
    rules: u32,
}

/// The table.
#[derive(Debug)]
pub(crate) struct Conntrack {
    index: FxHashMapSeed<FlowId, u32>,
    slab: Vec<Option<Flow>>,
    free: Vec<u32>,
    hand: usize,
    capacity: usize,
}

impl Conntrack {
    pub(crate) fn new(seed: u64, capacity: usize) -> Self {
        let index = FxHashMapSeed::with_hasher(FxSeededState::with_seed(seed as usize));
        Self { index, slab: Vec::new(), free: Vec::new(), hand: 0, capacity: capacity.max(1) }
    }

    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    /// One of our packets, if its flow is alive and was opened under these rules: keeps it alive.
    pub(crate) fn again(&mut self, id: FlowId, sign: Sign, rules: u32, now: Instant) -> bool {
        let afresh = |flow: &Flow| flow.expires <= now || (sign == Sign::Open && flow.state == State::Closed);
        let Some(flow) = self.find(&id).filter(|flow| flow.rules == rules && !afresh(flow)) else {
            return false;
        };
        flow.state = step(flow.state, sign, true);
        flow.expires = now + patience(id.protocol, flow.state);
        true
    }

    /// One of our packets, let through by these rules: makes the flow or keeps it alive.
    pub(crate) fn outbound(&mut self, id: FlowId, sign: Sign, rules: u32, now: Instant) {
        if let Some(flow) = self.find(&id) {
            // A new SYN opens a closed or expired flow afresh; so does anything on an expired one.
            let afresh = flow.expires <= now || (sign == Sign::Open && flow.state == State::Closed);
            let state = if afresh { first(sign) } else { step(flow.state, sign, true) };
            (flow.state, flow.expires) = (state, now + patience(id.protocol, state));
            flow.rules = rules;
        } else {
            self.insert(id, first(sign), rules, now);
        }
    }

    /// A packet from outside: whether it belongs to a flow of ours. Keeps the flow alive. If the flow
    /// was opened under other rules, `judge` says whether these would let it be opened.
    pub(crate) fn inbound(
        &mut self,
        id: FlowId,
        sign: Sign,
        rules: u32,
        now: Instant,
        judge: impl FnOnce() -> bool,
    ) -> bool {
        let Some(flow) = self.find(&id).filter(|flow| flow.expires > now) else { return false };
        // The other side may answer a flow of ours but not open one, not even on the same ports.
        if sign == Sign::Open && !matches!(flow.state, State::Asked) {
            return false;
        }
        if flow.rules != rules {
            if !judge() {
                flow.expires = now;
                return false;
            }
            flow.rules = rules;
        }
        let state = step(flow.state, sign, false);
        // A closed flow lives on for stragglers, but they must not keep it.
        if !(flow.state == State::Closed && state == State::Closed) {
            flow.expires = now + patience(id.protocol, state);
        }
        flow.state = state;
        true
    }

    /// Whether such a flow is alive, without touching it (for errors about it).
    pub(crate) fn contains(&self, id: &FlowId, now: Instant) -> bool {
        let flow = self.index.get(id).and_then(|&slot| self.slab.get(slot as usize)?.as_ref());
        flow.is_some_and(|flow| flow.expires > now)
    }

    fn find(&mut self, id: &FlowId) -> Option<&mut Flow> {
        let slot = *self.index.get(id)?;
        self.slab.get_mut(slot as usize)?.as_mut()
    }

    fn insert(&mut self, id: FlowId, state: State, rules: u32, now: Instant) {
        self.sweep(now);
        if self.index.len() >= self.capacity {
            self.evict();
        }
        let flow = Some(Flow { id, state, expires: now + patience(id.protocol, state), rules });
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slab[slot as usize] = flow;
                slot
            }
            None => {
                self.slab.push(flow);
                (self.slab.len() - 1) as u32
            }
        };
        self.index.insert(id, slot);
    }

    /// Moves the hand over a few entries and takes out the expired ones.
    fn sweep(&mut self, now: Instant) {
        for _ in 0..SWEEP.min(self.slab.len()) {
            let slot = self.next_slot();
            if self.slab[slot].is_some_and(|flow| flow.expires <= now) {
                self.remove(slot);
            }
        }
    }

    /// Makes room in a full table, in which every slot holds an entry.
    fn evict(&mut self) {
        let mut victim: Option<(usize, Instant)> = None;
        for _ in 0..CANDIDATES.min(self.slab.len()) {
            let slot = self.next_slot();
            let Some(flow) = self.slab[slot] else { continue };
            if victim.is_none_or(|(_, expires)| flow.expires < expires) {
                victim = Some((slot, flow.expires));
            }
        }
        if let Some((slot, _)) = victim {
            self.remove(slot);
        }
    }

    fn next_slot(&mut self) -> usize {
        let slot = self.hand % self.slab.len();
        self.hand = slot + 1;
        slot
    }

    fn remove(&mut self, slot: usize) {
        if let Some(flow) = self.slab[slot].take() {
            self.index.remove(&flow.id);
            self.free.push(slot as u32);
        }
    }
}

const fn first(sign: Sign) -> State {
    match sign {
        Sign::Open | Sign::Data => State::Asked,
        Sign::Finish => State::HalfClosed { by_us: true },
        Sign::Reset => State::Closed,
    }
}

fn step(state: State, sign: Sign, ours: bool) -> State {
    match (state, sign) {
        (_, Sign::Reset) | (State::Closed, _) => State::Closed,
        (State::HalfClosed { by_us }, Sign::Finish) if by_us != ours => State::Closed,
        (State::HalfClosed { .. }, _) => state,
        (_, Sign::Finish) => State::HalfClosed { by_us: ours },
        (State::Asked, _) if ours => State::Asked,
        (State::Asked | State::Answered, _) => State::Answered,
    }
}

/// How long a flow may be silent (RFC 5382 §5 and RFC 4787 §4.3 give the least of these).
const fn patience(protocol: u8, state: State) -> Duration {
    const TCP: u8 = 6;
    const UDP: u8 = 17;
    let seconds = match (protocol, state) {
        (TCP, State::Asked) => 240,
        (TCP, State::Answered) => 7440,
        (TCP, State::HalfClosed { .. }) => 240,
        (TCP, State::Closed) => 20,
        (UDP, State::Answered) => 300,
        (UDP, _) => 120,
        (_, State::Answered) => 300,
        (_, _) => 60,
    };
    Duration::from_secs(seconds)
}

#[cfg(test)]
mod tests;
