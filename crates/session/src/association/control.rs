//! What an association says inside its epochs: sealed records, control segments, the adjacency.

use std::time::Duration;

use sinew_types::{DropReason, Instant};
use sinew_wire::record::{DATA_OVERHEAD, HEADER_LEN, Kind, PREFIX_LEN, Prefix, TAG_LEN};
use sinew_wire::request::Request;
use sinew_wire::segment::{MESSAGE_MAX, SegmentHeader, StreamClass};

use super::Association;
use crate::adjacency::Step;
use crate::arq::Stream;
use crate::error::SendError;
use crate::event::{Arrival, Event, Receipt, To};
use crate::shared::Core;

/// Classes in the order they are served: routing, then what somebody waits for, then bulk.
const SERVED: [StreamClass; 3] = [StreamClass::Routing, StreamClass::Requests, StreamClass::Documents];

/// An adjacency opens at most once a second in the long run, since every opening makes both sides
/// exchange their tables; a few may follow each other at once.
const ADJACENCY_PAUSE: Duration = Duration::from_secs(1);
const ADJACENCY_BURST: Duration = Duration::from_secs(3);

impl Association {
    // --- sealing ---

    /// Appends a sealed record to `buf`; `fill` appends its payload, zeros pad the record to
    /// `least` bytes. `false` and an untouched buffer if the lane refuses.
    pub(super) fn seal(
        &mut self,
        epoch: usize,
        kind: Kind,
        least: usize,
        buf: &mut Vec<u8>,
        fill: impl FnOnce(&mut Vec<u8>),
    ) -> bool {
        let start = buf.len();
        buf.resize(start + HEADER_LEN + PREFIX_LEN, 0);
        fill(buf);
        let end = (buf.len() + TAG_LEN).max(start + least);
        buf.resize(end, 0);
        let lane = &mut self.epochs[epoch].lane;
        let sealed = lane.seal(Prefix::new(kind), &mut buf[start..]).is_ok();
        if !sealed {
            buf.truncate(start);
        }
        sealed
    }

    /// Seals a record under the preferred epoch and sends it, if it may go there.
    pub(super) fn send_record(
        &mut self,
        kind: Kind,
        payload: &[u8],
        least: usize,
        to: To,
        core: &mut Core,
    ) -> bool {
        let Some(epoch) = self.preferred(core) else { return false };
        self.send_record_under(epoch, kind, payload, least, to, core)
    }

    fn send_record_under(
        &mut self,
        epoch: usize,
        kind: Kind,
        payload: &[u8],
        least: usize,
        to: To,
        core: &mut Core,
    ) -> bool {
        let len = (DATA_OVERHEAD + payload.len()).max(least);
        if let To::Path(path) = to
            && !self.paths.may_send(&path, len)
        {
            return false;
        }
        let mut bytes = Vec::with_capacity(len);
        let sealed = self.seal(epoch, kind, least, &mut bytes, |buf| buf.extend_from_slice(payload));
        if sealed {
            self.traffic.count_sent(1, bytes.len());
            core.send(Some(self.peer), to, bytes);
        }
        sealed
    }

    /// A handshake message inside the session.
    pub(crate) fn send_inside(&mut self, message: &[u8], core: &mut Core) -> bool {
        let Some(to) = self.way() else { return false };
        self.send_record(Kind::Handshake, message, 0, to, core)
    }

    /// An empty record under one epoch: proves that we have its key.
    pub(crate) fn send_keepalive(&mut self, epoch: usize, core: &mut Core) {
        if let Some(to) = self.way() {
            self.send_keepalive_to(epoch, to, core);
        }
    }

    pub(crate) fn send_keepalive_to(&mut self, epoch: usize, to: To, core: &mut Core) {
        self.send_record_under(epoch, Kind::Keepalive, &[], 0, to, core);
    }

    // --- streams ---

    /// Whether segments of a class have somewhere to go.
    fn way_of(&self, class: StreamClass) -> Option<To> {
        match class {
            // protocol A3: routing is spoken on the direct path of an open adjacency and nowhere else.
            StreamClass::Routing => self.adjacency.number().and(self.paths.current()).map(To::Path),
            _ => self.way(),
        }
    }

    /// Whether [`Association::poll_segment`] has something.
    pub(crate) fn has_segments(&self, now: Instant) -> bool {
        self.up && SERVED.iter().any(|&c| self.way_of(c).is_some() && self.stream(c).is_ready(now))
    }

    /// Appends the next control record to `buf`, sealed.
    pub(crate) fn poll_segment(&mut self, core: &mut Core, buf: &mut Vec<u8>) -> Option<To> {
        let (now, epoch) = (core.now, self.preferred(core)?);
        for class in SERVED {
            let Some(to) = self.way_of(class) else { continue };
            let adj = if class == StreamClass::Routing { self.adjacency.number()? } else { 0 };
            let mut payload = Vec::new();
            let rtt = self.rtt;
            let stream = &mut self.streams[class as usize];
            let Some(has_data) = stream.poll_segment(adj, &rtt, now, &mut payload) else { continue };
            let start = buf.len();
            if !self.seal(epoch, Kind::Control, 0, buf, |buf| buf.extend_from_slice(&payload)) {
                return None;
            }
            let len = buf.len() - start;
            if has_data {
                self.traffic.on_sent(now.as_micros(), 1, len);
            } else {
                self.traffic.count_sent(1, len);
            }
            return Some(to);
        }
        None
    }

    fn stream(&self, class: StreamClass) -> &Stream {
        &self.streams[class as usize]
    }

    pub(crate) fn send_message(&mut self, class: StreamClass, message: &[u8]) -> Result<u64, SendError> {
        if message.is_empty() || message.len() > MESSAGE_MAX {
            return Err(SendError::TooBig);
        }
        if !self.up || class == StreamClass::Routing && self.adjacency.number().is_none() {
            return Err(SendError::NoSession);
        }
        let stream = &mut self.streams[class as usize];
        if !stream.has_room(message.len()) {
            return Err(SendError::Full);
        }
        Ok(stream.push(message))
    }

    /// protocol A5: for routing, only when the window is open, so that content is made late.
    pub(crate) fn is_writable(&self, class: StreamClass) -> bool {
        match class {
            StreamClass::Routing => self.adjacency.number().is_some() && self.stream(class).is_open(),
            _ => self.up && self.stream(class).has_room(MESSAGE_MAX),
        }
    }

    pub(crate) fn acknowledge(&mut self, receipt: Receipt, now: Instant) {
        let stream = &mut self.streams[receipt.class as usize];
        if stream.id() == receipt.stream {
            stream.acknowledge(receipt.ordinal, now);
        }
    }

    /// A control record arrived.
    pub(crate) fn on_segment(
        &mut self,
        payload: &[u8],
        from: &Arrival,
        core: &mut Core,
        now: Instant,
    ) -> Result<(), DropReason> {
        let (header, chunk) = SegmentHeader::split(payload)?;
        let class = header.class;
        if let Arrival::Direct(path) = from {
            self.paths.on_used_by_peer(*path, &mut core.rng, now);
        }
        if class == StreamClass::Routing {
            // protocol A3: another number, a closed adjacency or a routed arrival is refused.
            let current = self.adjacency.number() == Some(header.adj);
            if !current || matches!(from, Arrival::Routed { .. }) {
                return Err(DropReason::WrongAdjacency);
            }
        }
        let stream = &mut self.streams[class as usize];
        let processed = stream.on_segment(&header, chunk, &mut self.rtt, now)?;
        if let Some(ordinal) = processed {
            core.event(Event::Processed { peer: self.peer, class, ordinal });
        }
        while let Some((ordinal, bytes)) = self.streams[class as usize].poll_message() {
            self.on_message(class, ordinal, bytes, core, now);
        }
        Ok(())
    }

    fn on_message(
        &mut self,
        class: StreamClass,
        ordinal: u64,
        bytes: Vec<u8>,
        core: &mut Core,
        now: Instant,
    ) {
        let request = (class == StreamClass::Requests).then(|| Request::parse(&bytes));
        let steps = match request {
            Some(Ok(Request::AdjOpen { adj })) => {
                self.told.wants_adjacency = true;
                self.wants_adjacency |= core.config.adjacency && !self.barred;
                let ready = self.may_be_adjacent() && self.is_adjacency_paid(now);
                self.adjacency.on_open(adj, ready)
            }
            Some(Ok(Request::AdjAck { adj })) => {
                let ready = self.may_be_adjacent();
                self.adjacency.on_ack(adj, ready)
            }
            Some(Ok(Request::AdjClose { adj })) => self.adjacency.on_close(adj),
            _ => {
                let stream = self.streams[class as usize].id();
                let receipt = Receipt { peer: self.peer, class, stream, ordinal };
                return core.event(Event::Message { peer: self.peer, class, bytes, receipt });
            }
        };
        self.streams[class as usize].acknowledge(ordinal, now);
        self.take_steps(steps, core);
    }

    // --- adjacency ---

    /// protocol A3: only between two that both want it, over a validated direct path. What the
    /// peer wants is asked by the proposal itself: what it said in a handshake that came over
    /// relays, when neither knew of a direct path, is no answer.
    fn may_be_adjacent(&self) -> bool {
        self.paths.current().is_some() && self.may_propose_adjacency()
    }

    /// As `may_be_adjacent`, but the path is so far known to be wide enough in one direction only: our
    /// number travels while the other direction is tried.
    fn may_propose_adjacency(&self) -> bool {
        self.up
            && self.wants_adjacency
            && !self.barred
            && (self.paths.current().is_some() || self.paths.is_half_wide())
            && self.epochs.iter().any(|epoch| epoch.mutual)
    }

    /// The last opening is long enough ago.
    fn is_adjacency_paid(&self, now: Instant) -> bool {
        self.openings_paid <= now + ADJACENCY_BURST
    }

    /// When an adjacency that waits for its turn may open.
    pub(super) fn adjacency_due(&self) -> Option<(Instant, &'static str)> {
        let waits = self.adjacency.is_waiting() && self.may_be_adjacent();
        waits.then_some((self.openings_paid - ADJACENCY_BURST, "adjacency hold-off"))
    }

    pub(super) fn settle_adjacency(&mut self, core: &mut Core, now: Instant) {
        let open = self.adjacency.number().is_some();
        let ready = self.may_be_adjacent();
        let steps = if !ready && (open || !self.may_propose_adjacency()) {
            let tell = self.way().is_some();
            self.adjacency.close(tell)
        } else if self.is_adjacency_paid(now) {
            self.adjacency.open(ready)
        } else {
            return;
        };
        self.take_steps(steps, core);
    }

    pub(super) fn take_steps(&mut self, steps: Vec<Step>, core: &mut Core) {
        let peer = self.peer;
        for step in steps {
            match step {
                Step::Send(request) => {
                    let mut message = Vec::new();
                    request.emit(&mut message);
                    self.streams[StreamClass::Requests as usize].push(&message);
                }
                Step::Down(adj) => {
                    self.reset_routing(core);
                    core.event(Event::AdjacencyDown { peer, adj });
                }
                Step::Up(adj) => {
                    self.reset_routing(core);
                    self.streams.iter_mut().for_each(Stream::widen);
                    self.openings_paid = self.openings_paid.max(core.now) + ADJACENCY_PAUSE;
                    if let Some(path) = self.paths.current() {
                        core.event(Event::AdjacencyUp { peer, adj, path });
                    }
                }
            }
        }
    }

    /// Class 0 belongs to one adjacency: nothing of it carries over.
    fn reset_routing(&mut self, core: &mut Core) {
        self.streams[StreamClass::Routing as usize] = Stream::new(StreamClass::Routing, core.next_id());
    }
}
