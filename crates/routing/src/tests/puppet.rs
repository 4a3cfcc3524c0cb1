//! A bench for tests: one real router, and neighbours whose every word the test chooses.

use std::sync::Arc;
use std::time::Duration;

use sinew_types::{Class, Domain, Identity, Instant, MeshAddr, Metric, NodeId, Seqno};
use sinew_wire::routing::{FRAME_MAX, FrameBuilder, OriginRecord, RoutingFrame, RoutingMessage};

use crate::chain::{ChainKey, ChainValue};
use crate::destination::Destination;
use crate::{Config, Event, Misbehaviour, RouteChange, Router};

/// Milliseconds since 1970 at the start of a test.
pub(crate) const START_MS: u64 = 1_800_000_000_000;

/// Somebody with a key and a chain.
#[derive(Clone, Debug)]
pub(crate) struct Puppet {
    identity: Arc<Identity>,
    pub(crate) id: NodeId,
    pub(crate) addr: MeshAddr,
    pub(crate) record: OriginRecord,
    h0: ChainValue,
}

impl Puppet {
    pub(crate) fn new(name: u8) -> Self {
        Self::at(name, START_MS)
    }

    /// Key `name`, with a record of `seqno`.
    pub(crate) fn at(name: u8, seqno: u64) -> Self {
        let identity = Arc::new(Identity::from_seed([name; 32]));
        let (id, h0) = (identity.node_id(), [name ^ 0x5a; 16]);
        let (addr, seqno) = (id.address(), Seqno::new(seqno));
        let anchor = ChainKey { addr, seqno }.advance(Metric::ZERO, &h0, Metric::UNREACHABLE);
        let record = OriginRecord {
            node: *id.as_bytes(),
            seqno,
            class: Class::Router,
            landmark: false,
            landmark_power: 0,
            anchor,
            expiry_min: 60,
            locator: Vec::new(),
            signature: [0; 64],
        };
        Self { identity, id, addr, record, h0 }.signed()
    }

    /// Signs the record as it stands.
    pub(crate) fn signed(mut self) -> Self {
        self.record.signature = self.identity.sign(Domain::ORIGIN, &self.record.signed_bytes());
        self
    }

    pub(crate) fn stub(mut self) -> Self {
        self.record.class = Class::Stub;
        self.signed()
    }

    pub(crate) fn chain(&self, metric: u16) -> ChainValue {
        let key = ChainKey { addr: self.addr, seqno: self.record.seqno };
        key.advance(Metric::ZERO, &self.h0, Metric::new(metric))
    }

    pub(crate) fn origin(&self) -> RoutingMessage {
        RoutingMessage::Origin(self.record.clone())
    }

    /// A route to this origin whose metric on the wire is `metric`, proved.
    pub(crate) fn update(&self, metric: u16) -> RoutingMessage {
        self.claim(metric, self.chain(metric))
    }

    pub(crate) fn claim(&self, metric: u16, chain: ChainValue) -> RoutingMessage {
        let seqno = self.record.seqno;
        RoutingMessage::Update { origin: self.addr, seqno, metric: Metric::new(metric), chain }
    }

    pub(crate) fn retract(&self) -> RoutingMessage {
        RoutingMessage::Retract { origin: self.addr }
    }

    pub(crate) fn ask(&self, seqno: u64) -> RoutingMessage {
        RoutingMessage::SeqnoRequest { origin: self.addr, seqno: Seqno::new(seqno) }
    }
}

/// A router under test.
pub(crate) struct Bench {
    pub(crate) router: Router,
    pub(crate) now: Instant,
    pub(crate) events: Vec<Event>,
    pub(crate) changes: Vec<RouteChange>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// Key 0, and whatever `change` makes of the configuration.
    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::at(START_MS, change)
    }

    /// The same with another wall clock.
    pub(crate) fn at(unix_ms: u64, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::new(Arc::new(Identity::from_seed([0; 32])));
        change(&mut config);
        let now = Instant::from_micros(1_000);
        let router = Router::new(config, [9; 32], unix_ms * 1000, now);
        Self { router, now, events: Vec::new(), changes: Vec::new() }
    }

    /// The adjacency opens and the neighbour says who it is: floor 1, wants everything.
    pub(crate) fn up(&mut self, puppet: &Puppet, cost: u16) {
        let class = puppet.record.class;
        self.router.neighbour_up(puppet.id, Metric::new(cost), Metric::ONE, class, self.now);
        let hint = RoutingMessage::Hint { floor: 1, class, k: 4096, radius: 1023 };
        assert_eq!(self.say(puppet, &[hint]), Ok(()));
    }

    pub(crate) fn say(&mut self, from: &Puppet, messages: &[RoutingMessage]) -> Result<(), Misbehaviour> {
        let mut frame = Vec::new();
        let mut builder = FrameBuilder::new(&mut frame);
        for message in messages {
            assert!(builder.push(message), "the test's frame is too long");
        }
        let result = self.router.handle_frame(&from.id, &frame, self.now);
        self.drain();
        result
    }

    /// Everything the router has to say to `to`.
    pub(crate) fn heard(&mut self, to: &Puppet) -> Vec<RoutingMessage> {
        let mut all = Vec::new();
        loop {
            let mut frame = vec![0xaa];
            if !self.router.poll_frame(&to.id, self.now, &mut frame) {
                break;
            }
            assert!(frame.len() <= FRAME_MAX + 1 && frame[0] == 0xaa);
            all.extend(RoutingFrame::parse(&frame[1..]).map(|message| message.expect("well-formed")));
        }
        self.drain();
        all
    }

    /// What it says about `about`, apart from records, in short.
    pub(crate) fn heard_about(&mut self, to: &Puppet, about: &MeshAddr) -> Vec<String> {
        let heard = self.heard(to);
        heard.iter().filter_map(|message| brief(message, about)).collect()
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some((at, _)) = self.router.poll_timeout().filter(|&(at, _)| at <= end) {
            self.now = at.max(self.now);
            self.router.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    pub(crate) fn drain(&mut self) {
        self.changes.extend(std::iter::from_fn(|| self.router.poll_change()));
        self.events.extend(std::iter::from_fn(|| self.router.poll_event()));
    }

    pub(crate) fn doubt(&mut self, of: &Puppet, neighbours: &[NodeId], carried: Option<NodeId>) {
        self.router.doubt(&of.addr, neighbours, carried, self.now);
        self.drain();
    }

    pub(crate) fn dest(&self, of: &Puppet) -> Option<&Destination> {
        self.router.table.find(&of.addr).and_then(|key| self.router.table.get(key))
    }

    /// Next hop and metric towards `of`.
    pub(crate) fn route(&self, of: &Puppet) -> Option<(NodeId, u16)> {
        let views = self.router.routes();
        let view = views.iter().find(|view| view.node == of.id)?;
        Some((view.next_hop?, view.own?.metric.units()))
    }

    pub(crate) fn own_addr(&self) -> MeshAddr {
        self.router.me.address()
    }
}

fn brief(message: &RoutingMessage, about: &MeshAddr) -> Option<String> {
    let (origin, text) = match message {
        RoutingMessage::Update { origin, seqno, metric, .. } => {
            (origin, format!("update {} {}", seqno.value().saturating_sub(START_MS), metric.units()))
        }
        RoutingMessage::Retract { origin } => (origin, "retract".to_owned()),
        RoutingMessage::SeqnoRequest { origin, seqno } => {
            (origin, format!("ask {}", seqno.value().saturating_sub(START_MS)))
        }
        RoutingMessage::RecordRequest { origin } => (origin, "record?".to_owned()),
        RoutingMessage::RouteRequest { origin } => (origin, "again?".to_owned()),
        RoutingMessage::Hint { .. } | RoutingMessage::Origin(_) => return None,
    };
    (origin == about).then_some(text)
}
