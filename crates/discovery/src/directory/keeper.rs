//! The thread's loop: what libp2p reports, what the node orders, and what the clock asks for.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use libp2p::futures::StreamExt as _;
use libp2p::identity::Keypair;
use libp2p::kad::store::RecordStore as _;
use libp2p::kad::{self, GetRecordOk, InboundRequest, Mode, QueryId, QueryResult, Quorum, Record, RecordKey};
use libp2p::request_response::{Event as AskEvent, Message};
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, PeerId, Swarm, autonat, identify};
use sinew_directory::record::{self, Checked, Clockwork};
use sinew_directory::{Refusal, Source};
use sinew_types::{NodeId, UnixMicros};
use tokio::sync::mpsc;
use tokio::time::interval;
use tracing::{debug, info};
use zeroize::Zeroizing;

use super::behaviour::{KAD, Parts, PartsEvent, is_place, swarm};
use super::entry::{Entry, Place, multiaddr};
use super::{Command, DirectoryConfig, DirectoryError, DirectoryStatus, Serve};
use crate::Found;

/// How often what is due is looked for.
const TICK: Duration = Duration::from_secs(5);
/// Between two walks through the table: while few are known, and later.
const WALK: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(900));
/// Members known that make it later.
const ENOUGH: usize = 8;
/// Between two times that the own record is published: if it was read back, and if not.
const PUBLISH: (Duration, Duration) = (Duration::from_secs(3600), Duration::from_secs(20));
/// A member is asked for its record at most so often.
const ASK_AGAIN: Duration = Duration::from_secs(600);
/// Members whose last answer is remembered.
const ASKED_MAX: usize = 512;
/// Addresses taken from one member about itself.
const ADDRESSES: usize = 4;
/// Answers of the resolver that wait.
const QUEUE: usize = 16;
/// Tests in a row that say no, before that is believed of a node which was reached before.
const UNREACHED: u32 = 3;

/// A member, and where its name leads.
type Resolved = (PeerId, Vec<Multiaddr>);

pub(super) struct Keeper {
    swarm: Swarm<Parts>,
    found: mpsc::Sender<Found>,
    shown: Arc<Mutex<DirectoryStatus>>,
    status: DirectoryStatus,
    entries: Vec<Entry>,
    /// Where names of entries lead, as it is found out.
    resolved: (mpsc::Sender<Resolved>, mpsc::Receiver<Resolved>),
    serve: Serve,
    publish: bool,
    own: Option<Vec<u8>>,
    /// The query that reads the own record back, and what it should find.
    checking: Option<(QueryId, Vec<u8>)>,
    asked: HashMap<PeerId, Instant>,
    /// The places that queries under way look at.
    asked_for: HashMap<QueryId, RecordKey>,
    connected: HashSet<PeerId>,
    walked: Option<Instant>,
    announced: Option<Instant>,
    unreached: u32,
}

impl Keeper {
    pub(super) fn new(
        config: DirectoryConfig,
        found: mpsc::Sender<Found>,
        shown: Arc<Mutex<DirectoryStatus>>,
    ) -> Result<Self, DirectoryError> {
        let DirectoryConfig { mut seed, entries, listen, serve, publish } = config;
        let key = Keypair::ed25519_from_bytes(seed.as_mut_slice())
            .map_err(|error| DirectoryError::Start(error.to_string()))?;
        let peer_id = PeerId::from(key.public());
        let entries = entries.iter().map(|text| Entry::parse(text)).collect::<Result<Vec<_>, _>>()?;
        let mut swarm = swarm(key, serve)?;
        for addr in listen {
            swarm
                .listen_on(multiaddr(addr))
                .map_err(|error| DirectoryError::Listen(addr, error.to_string()))?;
        }
        let status = DirectoryStatus { peer_id: peer_id.to_string(), ..DirectoryStatus::default() };
        Ok(Self {
            swarm,
            found,
            shown,
            status,
            // An entry that is this node itself is for all the others.
            entries: entries.into_iter().filter(|entry| entry.peer != peer_id).collect(),
            resolved: mpsc::channel(QUEUE),
            serve,
            publish,
            own: None,
            checking: None,
            asked: HashMap::new(),
            asked_for: HashMap::new(),
            connected: HashSet::new(),
            walked: None,
            announced: None,
            unreached: 0,
        })
    }

    pub(super) async fn run(mut self, mut orders: mpsc::Receiver<Command>) {
        let mut ticks = interval(TICK);
        loop {
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_event(event),
                order = orders.recv() => match order {
                    Some(order) => self.on_order(order),
                    // The handle is gone.
                    None => return,
                },
                Some(resolved) = self.resolved.1.recv() => self.on_resolved(resolved),
                _ = ticks.tick() => self.on_tick(),
            }
            self.show();
        }
    }

    fn kad(&mut self) -> &mut kad::Behaviour<kad::store::MemoryStore> {
        &mut self.swarm.behaviour_mut().kad
    }

    fn show(&mut self) {
        let kad = &mut self.swarm.behaviour_mut().kad;
        self.status.serving = kad.mode() == Mode::Server;
        self.status.connected = self.connected.len();
        let shown = self.status.clone();
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = shown;
    }

    // --- orders ---

    fn on_order(&mut self, order: Command) {
        match order {
            Command::Publish(record) => {
                self.own = self.publish.then_some(record);
                (self.announced, self.status.published) = (None, false);
                self.announce();
            }
            Command::LookUp(node) => {
                self.read(key_of(&node));
            }
        }
    }

    fn read(&mut self, key: RecordKey) -> QueryId {
        let query = self.kad().get_record(key.clone());
        self.asked_for.insert(query, key);
        query
    }

    /// Puts the own record into the table.
    fn announce(&mut self) {
        let Some(value) = self.own.clone() else { return };
        let Ok(Checked { node, .. }) = record::check(&value, Clockwork::Lenient) else { return };
        if self.status.peers == 0 {
            return;
        }
        self.announced = Some(Instant::now());
        let record = Record::new(key_of(&node), value);
        if let Err(error) = self.kad().put_record(record, Quorum::One) {
            debug!(%error, "record not published");
        }
    }

    // --- time ---

    fn on_tick(&mut self) {
        let now = Instant::now();
        let later = |last: Option<Instant>, pause| last.is_none_or(|last| now.duration_since(last) >= pause);
        let kad = self.kad();
        let peers: usize = kad.kbuckets().map(|bucket| bucket.num_entries()).sum();
        let records = kad.store_mut().records().count();
        (self.status.peers, self.status.records) = (peers, records);
        if later(self.walked, if peers < ENOUGH { WALK.0 } else { WALK.1 }) {
            self.walked = Some(now);
            self.walk();
        }
        let pause = if self.status.published { PUBLISH.0 } else { PUBLISH.1 };
        if self.own.is_some() && later(self.announced, pause) {
            self.announce();
        }
    }

    /// Learns of members, those far away in the table included.
    fn walk(&mut self) {
        for Entry { peer, place } in self.entries.clone() {
            match place {
                Place::Address(address) => drop(self.kad().add_address(&peer, address)),
                Place::Name(name) => {
                    let answers = self.resolved.0.clone();
                    // A full queue: it is looked up again at the next walk.
                    tokio::spawn(async move { answers.try_send((peer, name.addresses().await)) });
                }
            }
        }
        // Without any member there is nothing to walk through yet.
        let _ = self.kad().bootstrap();
        self.kad().get_closest_peers(PeerId::random());
    }

    /// An entry's name leads there. The addresses that it had are dropped when they fail.
    fn on_resolved(&mut self, (peer, addresses): Resolved) {
        for address in addresses {
            self.kad().add_address(&peer, address);
        }
        let _ = self.kad().bootstrap();
    }

    // --- events ---

    fn on_event(&mut self, event: SwarmEvent<PartsEvent>) {
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, .. } => {
                self.connected.insert(peer_id);
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established: 0, .. } => {
                self.connected.remove(&peer_id);
            }
            SwarmEvent::NewListenAddr { address, .. } => info!(%address, "the directory may be asked"),
            SwarmEvent::ListenerError { error, .. } => debug!(%error, "the directory's listener"),
            SwarmEvent::Behaviour(PartsEvent::Kad(event)) => self.on_kad(event),
            SwarmEvent::Behaviour(PartsEvent::Identify(identify::Event::Received {
                peer_id, info, ..
            })) => {
                self.on_identified(peer_id, &info);
            }
            SwarmEvent::Behaviour(PartsEvent::Reach(event)) => self.on_reach(&event),
            SwarmEvent::Behaviour(PartsEvent::Ask(event)) => self.on_ask(event),
            _ => {}
        }
    }

    /// A member says what it is and where. Only one that answers gets a place in the table.
    fn on_identified(&mut self, peer: PeerId, info: &identify::Info) {
        if !info.protocols.contains(&KAD) {
            return;
        }
        for address in info.listen_addrs.iter().filter(|address| is_place(address)).take(ADDRESSES) {
            self.kad().add_address(&peer, address.clone());
        }
        self.ask(peer);
    }

    fn ask(&mut self, peer: PeerId) {
        let now = Instant::now();
        self.asked.retain(|_, last| now.duration_since(*last) < ASK_AGAIN);
        if self.asked.len() < ASKED_MAX && !self.asked.contains_key(&peer) {
            self.asked.insert(peer, now);
            self.swarm.behaviour_mut().ask.send_request(&peer, ());
        }
    }

    fn on_ask(&mut self, event: AskEvent<(), Vec<u8>>) {
        let AskEvent::Message { peer, message, .. } = event else { return };
        match message {
            Message::Request { channel, .. } => {
                let own = self.own.clone().unwrap_or_default();
                // The asker may have gone.
                let _ = self.swarm.behaviour_mut().ask.send_response(channel, own);
                // Whoever asks may be worth knowing, too.
                self.ask(peer);
            }
            Message::Response { response, .. } if !response.is_empty() => {
                match judge_of(&peer, &response, unix()) {
                    Ok(_) => self.tell(response),
                    Err(refusal) => self.status.refused.count(refusal),
                }
            }
            Message::Response { .. } => {}
        }
    }

    fn tell(&self, record: Vec<u8>) {
        // A full queue: it is found again.
        let _ = self.found.try_send(Found { record, source: Source::Directory });
    }

    fn on_reach(&mut self, event: &autonat::v2::client::Event) {
        match &event.result {
            Ok(()) => (self.unreached, self.status.reachable) = (0, Some(true)),
            Err(_) => {
                self.unreached += 1;
                // libp2p has an address tested once and, if that fails, never again: there may be no second.
                let enough = if self.status.reachable == Some(true) { UNREACHED } else { 1 };
                if self.unreached >= enough {
                    self.status.reachable = Some(false);
                }
            }
        }
        if self.serve == Serve::Auto && self.status.reachable.is_some() {
            let mode = if self.status.reachable == Some(true) { Mode::Server } else { Mode::Client };
            self.kad().set_mode(Some(mode));
        }
    }

    fn on_kad(&mut self, event: kad::Event) {
        match event {
            kad::Event::InboundRequest {
                request: InboundRequest::PutRecord { record: Some(record), .. },
            } => self.store(record),
            kad::Event::RoutingUpdated { peer, is_new_peer: true, .. } => {
                self.status.peers += 1;
                self.ask(peer);
                if !self.status.published && self.checking.is_none() {
                    self.announce();
                }
            }
            kad::Event::OutboundQueryProgressed { id, result, step, .. } => {
                self.on_answer(id, result);
                if step.last {
                    self.asked_for.remove(&id);
                }
            }
            _ => {}
        }
    }

    /// Somebody wants a record kept.
    fn store(&mut self, mut record: Record) {
        let (now, kad) = (unix(), &mut self.swarm.behaviour_mut().kad);
        let known = kad.store_mut().get(&record.key).map(|known| known.value.clone());
        match judge(record.key.as_ref(), &record.value, known.as_deref(), now) {
            Ok(expires) => {
                record.expires = Some(Instant::now() + expires);
                record.publisher = None;
                // A full store keeps what it has.
                if let Err(error) = kad.store_mut().put(record) {
                    debug!(%error, "record not kept");
                }
            }
            Err(refusal) => self.status.refused.count(refusal),
        }
    }

    fn on_answer(&mut self, id: QueryId, result: QueryResult) {
        match result {
            QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(found))) => {
                // Not the place that the answer names: it may be about anybody.
                let Some(asked) = self.asked_for.get(&id) else { return };
                let value = found.record.value;
                match record::check_at(asked.as_ref(), &value, unix()) {
                    Ok(_) => {
                        // Told by somebody else, that is.
                        let back =
                            self.checking.as_ref().is_some_and(|(query, own)| *query == id && *own == value);
                        if back && found.peer.is_some() {
                            self.status.published = true;
                        } else if !back {
                            self.tell(value);
                        }
                    }
                    Err(refusal) => self.status.refused.count(refusal),
                }
            }
            QueryResult::GetRecord(_) if self.checking.as_ref().is_some_and(|(query, _)| *query == id) => {
                self.checking = None;
            }
            // A member says that it stored a record also when it did not: it is read back.
            QueryResult::PutRecord(Ok(done)) => {
                if let Some(own) = self.own.clone() {
                    self.kad().store_mut().remove(&done.key);
                    let query = self.read(done.key);
                    self.checking = Some((query, own));
                }
            }
            QueryResult::GetClosestPeers(Ok(closest)) => {
                for peer in closest.peers.into_iter().map(|peer| peer.peer_id) {
                    self.ask(peer);
                }
            }
            _ => {}
        }
    }
}

pub(super) fn public_key(seed: &[u8; 32]) -> Result<[u8; 32], DirectoryError> {
    let mut seed = Zeroizing::new(*seed);
    let failed = |error: &dyn std::fmt::Display| DirectoryError::Start(error.to_string());
    let key = Keypair::ed25519_from_bytes(seed.as_mut_slice()).map_err(|error| failed(&error))?;
    Ok(key.public().try_into_ed25519().map_err(|error| failed(&error))?.to_bytes())
}

/// Whether a record may be kept at `key`, and for how long.
pub(super) fn judge(
    key: &[u8],
    value: &[u8],
    known: Option<&[u8]>,
    now: UnixMicros,
) -> Result<Duration, Refusal> {
    let new = record::check_at(key, value, now)?;
    let old = known.and_then(|known| record::check_at(key, known, now).ok());
    let older =
        |old: &Checked| old.record.seq > new.record.seq || old.record.seq == new.record.seq && old != &new;
    if old.as_ref().is_some_and(older) {
        return Err(Refusal::Older);
    }
    Ok(Duration::from_micros(new.record.expires.saturating_sub(now)))
}

/// Whether a record is the one of the member that sent it.
pub(super) fn judge_of(peer: &PeerId, bytes: &[u8], now: UnixMicros) -> Result<Checked, Refusal> {
    let checked = record::check(bytes, Clockwork::Strict(now))?;
    let key = checked.record.peer_key.as_ref().and_then(|key| {
        let key = libp2p::identity::ed25519::PublicKey::try_from_bytes(key).ok()?;
        Some(PeerId::from(libp2p::identity::PublicKey::from(key)))
    });
    if key == Some(*peer) { Ok(checked) } else { Err(Refusal::Misplaced) }
}

fn key_of(node: &NodeId) -> RecordKey {
    RecordKey::new(&record::key(node))
}

fn unix() -> UnixMicros {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
